"""Two processes of half a batch train as one process of the whole batch, also when stopped and continued."""

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from model.training import distributed

SCRIPT = Path(__file__).with_name("two_processes.py")


@pytest.fixture(scope="module")
def toy(script_module: Any) -> Any:
    return script_module(SCRIPT)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, two_processes: Any) -> Path:
    """What two processes over gloo leave."""
    folder = tmp_path_factory.mktemp("run")
    ended = two_processes(SCRIPT, str(folder))
    assert [status for status, _ in ended] == [0, 0], ended
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["plain", "continued"])
def test_two_processes_train_as_one_with_the_whole_batch(kind: str, toy: Any, folder: Path) -> None:
    alone = toy.train().tensors()
    together = load_file(folder / f"{kind}.safetensors")
    assert together.keys() == alone.keys()
    for name, tensor in alone.items():
        # float32 sums in another order, through five updates; AdamW's division magnifies the tiniest gradients
        torch.testing.assert_close(together[name], tensor, rtol=1e-3, atol=1e-5, msg=lambda m, n=name: f"{n}: {m}")


@pytest.mark.slow
def test_only_one_process_writes_the_curve(folder: Path) -> None:
    assert len((folder / "curve.jsonl").read_text().splitlines()) == 5


@pytest.mark.slow
def test_the_main_process_prepares_and_the_others_wait_for_it(folder: Path) -> None:
    assert [path.name for path in folder.glob("made_by_*")] == ["made_by_0"]


@pytest.mark.slow
def test_a_preview_may_take_longer_than_processes_wait_for_each_other(two_processes: Any) -> None:
    ended = two_processes(SCRIPT.with_name("patient_run.py"))
    assert [status for status, _ in ended] == [0, 0], ended


def test_accumulated_micro_batches_equal_the_large_batch(toy: Any) -> None:
    whole, parts = toy.train(), toy.train(accumulation=4)
    for name, tensor in whole.tensors().items():
        torch.testing.assert_close(parts.tensors()[name], tensor, rtol=1e-3, atol=1e-5)


def test_alone_every_function_is_a_no_op(toy: Any) -> None:
    module: torch.nn.Module = toy.Toy()
    values: Tensor = torch.arange(3.0)
    assert distributed.wrap(module) is module
    assert (distributed.rank(), distributed.world_size(), distributed.is_main()) == (0, 1, True)
    assert distributed.all_reduce_mean(values) is values
    assert distributed.broadcast_int(4, torch.device("cpu")) == 4
    assert distributed.start("cpu") == torch.device("cpu")
