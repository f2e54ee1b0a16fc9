"""Processes that share the tokens of a window compute what one process computes."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from model.dit.context_parallel import TokenSplit, check_split
from model.dit.video_dit import VideoDiT
from model.training.loop import FitConfig, fit
from model.training.stage import check_context_parallel, train_state

SCRIPT = Path(__file__).with_name("split_run.py")
NETWORKS = ("first", "every", "motionctrl", "cameractrl", "in attention")


@pytest.fixture(scope="module")
def run(script_module: Any) -> Any:
    return script_module(SCRIPT)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, two_processes: Any) -> Path:
    """What two processes leave that share each window."""
    folder = tmp_path_factory.mktemp("split")
    ended = two_processes(SCRIPT, str(folder), "2")
    assert [status for status, _ in ended] == [0, 0], ended
    return folder


def losses(folder: Path) -> list[float]:
    return [json.loads(line)["loss"] for line in (folder / "curve.jsonl").read_text().splitlines()]


@pytest.mark.slow
@pytest.mark.parametrize("network", NETWORKS)
def test_velocity_and_gradients_are_those_of_one_process(network: str, folder: Path, run: Any) -> None:
    together, (alone, _) = load_file(folder / f"{network}.safetensors"), run.computed(network)
    assert together.keys() == alone.keys() and run.NETWORKS.keys() == set(NETWORKS)
    for name, tensor in alone.items():
        torch.testing.assert_close(together[name], tensor, rtol=1e-3, atol=1e-5, msg=lambda m, n=name: f"{n}: {m}")


@pytest.mark.slow
@pytest.mark.parametrize("checkpointing", ["selective", "full"])
def test_checkpointing_changes_nothing(checkpointing: str, folder: Path) -> None:
    plain, again = (load_file(folder / f"{name}.safetensors") for name in ("first", checkpointing))
    for name, tensor in plain.items():
        torch.testing.assert_close(again[name], tensor, rtol=1e-4, atol=1e-6, msg=lambda m, n=name: f"{n}: {m}")


@pytest.mark.slow
def test_each_process_keeps_half_of_the_activations(folder: Path, run: Any) -> None:
    kept = json.loads((folder / "kept.json").read_text())
    # the text's, and of attention a second copy of the result, are not halved: little in a network of Wan's width
    assert kept["first"] == pytest.approx(run.computed("first")[1] / 2, rel=0.1)


@pytest.mark.slow
def test_a_training_has_the_losses_of_one_process(folder: Path, run: Any, tmp_path: Path) -> None:
    sharded = run.sharded_run()
    state = sharded.train(tmp_path)
    assert losses(folder / "run") == pytest.approx(losses(tmp_path), rel=1e-4)
    assert losses(folder / "compiled") == pytest.approx(losses(tmp_path)[:2], rel=1e-4)
    assert losses(folder / "bfloat16") == pytest.approx(losses(tmp_path)[:2], rel=2e-2)
    gathered = load_file(folder / "average.safetensors")
    for name, tensor in sharded.average(state).items():
        torch.testing.assert_close(gathered[name], tensor, rtol=1e-3, atol=1e-5, msg=lambda m, n=name: f"{n}: {m}")


@pytest.mark.slow
def test_two_groups_of_two_processes_train_as_one_process(tmp_path: Path, run: Any, two_processes: Any) -> None:
    ended = two_processes(SCRIPT, str(tmp_path), "2", num_processes=4)
    assert [status for status, _ in ended] == [0, 0, 0, 0], ended
    run.sharded_run().train(tmp_path / "alone")
    assert losses(tmp_path / "run") == pytest.approx(losses(tmp_path / "alone"), rel=1e-4)


def test_what_does_not_divide_is_refused(run: Any) -> None:
    with pytest.raises(ValueError, match=r"^context_parallel: expected a divisor of the 15 tokens of a frame, got 2"):
        TokenSplit("group", 0, 2).own(torch.zeros(1, 4, 15, 8), 2)
    for heads, tokens in ((3, 16), (4, 15)):
        with pytest.raises(ValueError, match=rf"^training.fit.context_parallel: .* {heads} heads .* {tokens} tokens"):
            check_split(2, heads, "first", tokens)
    with pytest.raises(ValueError, match=r"^training.fit.context_parallel: expected 1 for dit.camera_injection=ac3d"):
        check_split(2, 4, "ac3d", 16)
    with pytest.raises(ValueError, match=r"^training.fit.context_parallel: .* 4 heads"):
        VideoDiT(run.SHAPE).split_tokens(TokenSplit("group", 0, 3))


def test_a_stage_that_cannot_share_windows_refuses_it(run: Any) -> None:
    sharded = run.sharded_run()
    stage = sharded.stage()
    stage.fit.context_parallel = 2
    with pytest.raises(ValueError, match=r"^training.fit.context_parallel: expected 1 for a network that every"):
        check_context_parallel(sharded.small_dit(), stage)
    with pytest.raises(ValueError, match=r"^context_parallel: expected 1, this stage does not split windows, got 2"):
        fit(
            lambda *_: None, train_state(sharded.small_dit(), stage, 5), sharded.batch_of, num_steps=1, config=stage.fit
        )
    with pytest.raises(ValueError, match=r"^context_parallel: expected at least 1"):
        FitConfig(context_parallel=0).validate()
