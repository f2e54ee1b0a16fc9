"""A network sharded over two processes trains as one process trains it whole, also after one of the two was killed."""

import json
import shutil
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from model.training import run_folder
from model.training.loop import fit
from model.training.stage import should_shard, train_state

SCRIPT = Path(__file__).with_name("sharded_run.py")
# float32 sums in another order, through five updates of AdamW
TOLERANCE = {"rtol": 1e-3, "atol": 1e-5}


@pytest.fixture(scope="module")
def run(script_module: Any) -> Any:
    return script_module(SCRIPT)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, two_processes: Any) -> Path:
    """A sharded run, one process of which was killed before step 3, and which then went on; `killed` is its copy."""
    folder = tmp_path_factory.mktemp("shares")
    (_, _), (status, _) = two_processes(SCRIPT, str(folder), "killed")
    assert status == -signal.SIGKILL
    shutil.copytree(folder / "run", folder / "killed")
    ended = two_processes(SCRIPT, str(folder), "whole")
    assert [status for status, _ in ended] == [0, 0], ended
    return folder


@pytest.fixture(scope="module")
def alone(run: Any, tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Path]:
    """The same training by this process, of the whole network."""
    folder = tmp_path_factory.mktemp("alone")
    return run.train(folder), folder


def losses(folder: Path) -> list[float]:
    return [json.loads(line)["loss"] for line in (folder / "curve.jsonl").read_text().splitlines()]


@pytest.mark.slow
def test_losses_are_those_of_one_process(folder: Path, alone: tuple[Any, Path]) -> None:
    assert len(losses(folder / "run")) == 5
    assert losses(folder / "run") == pytest.approx(losses(alone[1]), rel=1e-4)


@pytest.mark.slow
def test_the_average_is_gathered_whole(folder: Path, alone: tuple[Any, Path], run: Any) -> None:
    gathered, expected = load_file(folder / "average.safetensors"), run.average(alone[0])
    assert gathered.keys() == expected.keys()
    for name, tensor in expected.items():
        torch.testing.assert_close(gathered[name], tensor, **TOLERANCE, msg=lambda m, n=name: f"{n}: {m}")


@pytest.mark.slow
def test_a_killed_run_goes_on_with_another_number_of_processes(folder: Path, alone: tuple[Any, Path], run: Any) -> None:
    assert json.loads((folder / "killed/training_state/numbers.json").read_text())["step"] == 3
    state = run.train(folder / "killed")
    assert losses(folder / "killed") == pytest.approx(losses(alone[1]), rel=1e-4)
    assert not (folder / "killed/training_state").exists()  # the last state is whole, in one file
    for name, tensor in alone[0].tensors().items():
        torch.testing.assert_close(state.tensors()[name], tensor, **TOLERANCE, msg=lambda m, n=name: f"{n}: {m}")


@pytest.mark.slow
def test_compiled_blocks_with_selective_checkpoints_train_as_plain_ones(folder: Path, run: Any) -> None:
    run.train(folder / "exact", num_steps=2)
    assert losses(folder / "compiled") == pytest.approx(losses(folder / "exact"), rel=1e-4)


@pytest.mark.slow
def test_bfloat16_products_and_a_base_stored_in_it_change_little(folder: Path, run: Any) -> None:
    run.train(folder / "exact", num_steps=2)
    assert losses(folder / "bfloat16") == pytest.approx(losses(folder / "exact"), rel=2e-2)
    assert losses(folder / "bfloat16") != losses(folder / "exact")
    files = [next((folder / "bfloat16/training_state").glob("*.safetensors")), folder / "average_bfloat16.safetensors"]
    for file in files:  # weights, moments and average
        assert {tensor.dtype for tensor in load_file(file).values()} == {torch.float32}


@pytest.mark.slow
def test_adapters_on_a_base_in_bfloat16_train_as_in_one_process(folder: Path, run: Any) -> None:
    run.train(folder / "adapters_alone", num_steps=4, bfloat16=True, rank=2)
    assert losses(folder / "adapters") == pytest.approx(losses(folder / "adapters_alone"), rel=1e-2)
    saved = load_file(next((folder / "adapters/training_state").glob("*.safetensors")))
    assert saved and all("lora_" in name or "embedding" in name for name in saved)


@pytest.mark.slow
def test_damaged_shares_are_refused(folder: Path, run: Any, tmp_path: Path) -> None:
    shutil.copytree(folder / "run", tmp_path / "run")
    sorted((tmp_path / "run/training_state").glob("*.safetensors"))[0].unlink()
    with pytest.raises(ValueError, match=r"expected all shares of .*missing$"):
        run.train(tmp_path / "run", num_steps=6)


def test_a_run_keeps_its_batches_a_step(alone: tuple[Any, Path], run: Any, tmp_path: Path) -> None:
    shutil.copytree(alone[1], tmp_path / "run")
    settings = run.stage()
    settings.fit.accumulation = 3
    state = train_state(run.small_dit(), settings, seed=5)
    with pytest.raises(ValueError, match=r"^training.fit.accumulation: expected 4 batches a step .*, got 3; .*4 / N"):
        fit(lambda *_: None, state, run.batch_of, num_steps=9, config=settings.fit, folder=tmp_path / "run")
    assert run_folder.restore(tmp_path / "run", train_state(run.small_dit(), settings, seed=5))


def test_what_cannot_be_shared_is_named(run: Any) -> None:
    with pytest.raises(ValueError, match=r"^training.fit.shard: expected false with one process"):
        train_state(run.small_dit(), run.stage(shard=True), seed=5)
    assert not should_shard(run.small_dit(), run.stage(shard=None))
    with pytest.raises(ValueError, match=r"^reduce_every_batch: expected false"):
        settings = run.stage(reduce_every_batch=True)
        fit(lambda *_: None, train_state(run.small_dit(), settings, 5), run.batch_of, num_steps=1, config=settings.fit)
    with pytest.raises(ValueError, match=r"^compile: expected a network with blocks, got Linear"):
        settings = run.stage(compile="eager")
        linear = train_state(torch.nn.Linear(2, 2), settings, seed=5)
        fit(lambda *_: None, linear, run.batch_of, num_steps=1, config=settings.fit)
