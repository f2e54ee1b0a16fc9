"""The loop resumes bit for bit after SIGKILL, saves when it is stopped, loses nothing to NaN, and shows the average."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from model.training import run_folder
from model.training.curve import truncate
from model.training.ema import ExponentialMovingAverage
from model.training.loop import FitConfig, TrainingDiverged, fit, to_device
from model.training.optim import OptimizerConfig, ScheduleConfig, build_optimizers
from model.training.state import TrainState, generator_for

ROOT = Path(__file__).resolve().parents[2]
NUM_STEPS = 14


class Net(nn.Module):
    """A hidden matrix for Muon, a head for AdamW, and dropout, which draws from the global generator."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.blocks = nn.ModuleList([nn.Linear(5, 5)])
        self.dropout = nn.Dropout(0.2)
        self.head = nn.Linear(5, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.dropout(torch.tanh(self.blocks[0](x))))


def new_state() -> TrainState:
    module = Net()
    optimizers = build_optimizers(module, OptimizerConfig(lr=1e-2))
    return TrainState(module=module, optimizers=optimizers, ema=ExponentialMovingAverage(module), seed=11)


def noisy_step(module: nn.Module, batch: Tensor, generator: torch.Generator) -> tuple[Tensor, dict[str, Any]]:
    noise = torch.randn(batch.shape, generator=generator)
    return (module(batch + 0.1 * noise) - batch.sum(1, keepdim=True)).square().mean(), {}


def batches(step: int, micro: int) -> Tensor:
    return torch.randn(4, 5, generator=generator_for(torch.device("cpu"), 7, step, micro))


def config(**changes: Any) -> FitConfig:
    settings = {"accumulation": 2, "checkpoint_steps": 3, "progress": False, "schedule": ScheduleConfig(warmup_steps=4)}
    return FitConfig(**{**settings, **changes})


def run(folder: Path | None, state: TrainState | None = None, source: Any = batches, **changes: Any) -> TrainState:
    state = state or new_state()
    return fit(noisy_step, state, source, num_steps=NUM_STEPS, config=config(**changes), folder=folder)


def curve(folder: Path) -> list[dict[str, float]]:
    lines = [json.loads(line) for line in (folder / "curve.jsonl").read_text().splitlines()]
    return [{name: value for name, value in line.items() if name != "hours"} for line in lines]


def assert_same(a: TrainState, b: TrainState) -> None:
    mine, others = a.tensors(), b.tensors()
    assert mine.keys() == others.keys()
    for name, tensor in mine.items():
        assert torch.equal(tensor, others[name]), name


def run_until_signal(number: int, step_of_signal: int, folder: Path) -> None:
    """What the killed process executes: this test's own training, which signals itself while it fetches data."""

    def source(step: int, micro: int) -> Tensor:
        if (step, micro) == (step_of_signal, 1):
            os.kill(os.getpid(), number)
        return batches(step, micro)

    torch.set_num_threads(1)
    run(folder, source=source)


def in_another_process(number: int, step_of_signal: int, folder: Path) -> int:
    arguments = [str(number), str(step_of_signal), str(folder)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    return subprocess.run([sys.executable, __file__, *arguments], env=environment, timeout=500).returncode


def test_after_sigkill_the_same_losses_follow_bit_for_bit(tmp_path: Path) -> None:
    assert in_another_process(signal.SIGKILL, 10, tmp_path / "killed") == -signal.SIGKILL
    assert len(curve(tmp_path / "killed")) == 10  # one line more than the checkpoint of step 9
    with (tmp_path / "killed" / "curve.jsonl").open("a") as stream:
        stream.write('{"step": 11, "lo')  # torn in the middle of a write
    resumed = run(tmp_path / "killed")
    whole = run(tmp_path / "whole")
    assert curve(tmp_path / "killed") == curve(tmp_path / "whole")
    assert [line["step"] for line in curve(tmp_path / "killed")] == list(range(1, NUM_STEPS + 1))
    assert_same(resumed, whole)


def test_sigterm_finishes_the_step_saves_and_leaves(tmp_path: Path) -> None:
    def source(step: int, micro: int) -> Tensor:
        if (step, micro) == (4, 0):
            os.kill(os.getpid(), signal.SIGTERM)
        return batches(step, micro)

    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(SystemExit) as stopped:
        run(tmp_path, source=source, checkpoint_steps=None)
    assert stopped.value.code == 128 + signal.SIGTERM
    assert signal.getsignal(signal.SIGTERM) == before
    saved = new_state()
    assert run_folder.restore(tmp_path, saved) and saved.step == 5
    assert_same(run(tmp_path), run(None))


def test_control_c_saves_too_and_is_still_a_keyboard_interrupt(tmp_path: Path) -> None:
    def source(step: int, micro: int) -> Tensor:
        if (step, micro) == (2, 0):
            os.kill(os.getpid(), signal.SIGINT)
        return batches(step, micro)

    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, source=source, checkpoint_steps=None)
    saved = new_state()
    assert run_folder.restore(tmp_path, saved) and saved.step == 3


def test_a_finished_run_does_nothing_more(tmp_path: Path) -> None:
    first = run(tmp_path)
    again = run(tmp_path)
    assert again.step == NUM_STEPS
    assert_same(first, again)
    assert len(curve(tmp_path)) == NUM_STEPS


def test_hours_add_up_over_resumes(tmp_path: Path) -> None:
    fit(noisy_step, new_state(), batches, num_steps=4, config=config(), folder=tmp_path)
    resumed = new_state()
    assert run_folder.restore(tmp_path, resumed)
    earlier = resumed.elapsed_seconds
    assert earlier > 0
    assert run(tmp_path).elapsed_seconds > earlier


def poisoned(step: int, micro: int) -> Tensor:
    return batches(step, micro) * (float("nan") if step == 7 else 1.0)


def test_nan_stops_with_the_step_named_and_nothing_lost(tmp_path: Path) -> None:
    with pytest.raises(TrainingDiverged, match="step 7: expected a finite loss"):
        run(tmp_path, source=poisoned, checkpoint_steps=None)
    saved = new_state()
    assert run_folder.restore(tmp_path, saved) and saved.step == 7
    assert all(bool(torch.isfinite(tensor).all()) for tensor in saved.tensors().values())
    assert_same(run(tmp_path), run(None))  # with good data it continues as if nothing had happened


def test_nan_may_be_skipped_and_is_counted(tmp_path: Path) -> None:
    state = run(tmp_path, source=poisoned, max_skipped_steps=1)
    assert (state.step, state.skipped_steps) == (NUM_STEPS, 1)
    assert all(bool(torch.isfinite(tensor).all()) for tensor in state.tensors().values())
    assert curve(tmp_path)[7]["loss"] is None


def test_samples_come_from_the_average_in_eval_mode_and_change_nothing() -> None:
    seen = []

    def sample(module: nn.Module, step: int) -> None:
        assert state.ema is not None and not module.training
        same = all(torch.equal(p, state.ema.parameters[n]) for n, p in module.named_parameters())
        seen.append((step, same))
        torch.rand(1)  # a sample may draw from the global generator

    state = new_state()
    settings = config(sample_every=5)
    fit(noisy_step, state, batches, num_steps=NUM_STEPS, config=settings, sample=sample)
    assert seen == [(5, True), (10, True)]
    assert_same(state, run(None))


def test_loss_falls_on_a_toy() -> None:
    losses: list[float] = []

    def step(module: nn.Module, batch: Tensor, generator: torch.Generator) -> tuple[Tensor, dict[str, Any]]:
        loss = (module(batch) - batch.sum(1, keepdim=True).clamp(-1, 1)).square().mean()
        losses.append(loss.item())
        return loss, {}

    settings = config(accumulation=1, schedule=ScheduleConfig(warmup_steps=5))
    fit(step, new_state(), lambda step, micro: batches(0, 0), num_steps=150, config=settings)
    assert losses[-1] < 0.2 * losses[0]


def test_gradients_are_clipped_to_the_norm(tmp_path: Path) -> None:
    def step(module: nn.Module, batch: Tensor, generator: torch.Generator) -> tuple[Tensor, dict[str, Any]]:
        return 1e4 * module(batch).square().mean(), {}

    module = nn.Linear(5, 1)
    state = TrainState(module=module, optimizers=[torch.optim.SGD(module.parameters(), lr=1.0)])
    before = torch.cat([p.detach().flatten().clone() for p in module.parameters()])
    settings = config(accumulation=1, max_grad_norm=0.5, schedule=ScheduleConfig(warmup_steps=0, cosine=False))
    fit(step, state, batches, num_steps=1, config=settings, folder=tmp_path)
    after = torch.cat([p.detach().flatten() for p in module.parameters()])
    assert (after - before).norm().item() == pytest.approx(0.5, rel=1e-4)
    assert curve(tmp_path)[0]["grad_norm"] > 100  # the norm before clipping


def test_another_seed_or_model_is_refused(tmp_path: Path) -> None:
    run(tmp_path)
    other_seed = new_state()
    other_seed.seed = 12
    with pytest.raises(ValueError, match="seed: expected the checkpoint's 11, got 12"):
        run(tmp_path, other_seed)
    module = nn.Linear(2, 2)
    with pytest.raises(ValueError, match="checkpoint: expected this model's tensors"):
        optimizers = build_optimizers(module, OptimizerConfig(muon=False))
        run(tmp_path, TrainState(module=module, optimizers=optimizers, seed=11))


def test_a_state_is_refused_to_other_inputs_and_one_that_names_none_goes_on(tmp_path: Path) -> None:
    def given(**inputs: str) -> TrainState:
        state = new_state()
        state.inputs = inputs
        return state

    run(tmp_path / "old")  # as checkpoints were before they named their inputs
    assert run(tmp_path / "old", given(vae="a")).step == NUM_STEPS
    run(tmp_path / "new", given(vae="a"))
    with pytest.raises(
        ValueError, match=r"vae: expected the one .* \(fingerprint a\), got .* \(fingerprint b\); .*another out="
    ):
        run(tmp_path / "new", given(vae="b", dit="c"))
    run_folder.check_inputs(tmp_path / "new", {"vae": "a"})
    with pytest.raises(ValueError, match="vae: expected"):
        run_folder.check_inputs(tmp_path / "new", {"vae": "b"})


def test_settings_without_effect_are_refused() -> None:
    with pytest.raises(ValueError, match="sample_every: expected"):
        run(None, sample_every=5)
    with pytest.raises(ValueError, match="tensorboard: expected a folder"):
        run(None, tensorboard=True)


@pytest.mark.parametrize("name", ["accumulation", "checkpoint_steps", "checkpoint_minutes", "sample_every"])
def test_settings_out_of_range_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match=f"{name}: expected"):
        run(None, **{name: -1})
    if name in ("accumulation", "checkpoint_steps"):
        with pytest.raises(ValueError, match=f"{name}: expected at least 1"):
            run(None, **{name: 0})


@pytest.mark.parametrize("never", [None, 0])
def test_no_samples_may_be_said_in_two_ways(never: int | None) -> None:
    def sample(module: nn.Module, step: int) -> None:
        raise AssertionError("not expected to be called")

    fit(noisy_step, new_state(), batches, num_steps=2, config=config(sample_every=never), sample=sample)


class NoFloat64(TorchFunctionMode):
    """A device that has no float64, such as Apple's GPUs."""

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        assert all(value is not torch.float64 for value in (*args, *(kwargs or {}).values())), function
        return function(*args, **(kwargs or {}))


def test_an_update_needs_no_float64() -> None:
    with NoFloat64():
        run(None)


def test_curve_is_cut_to_the_step(tmp_path: Path) -> None:
    path = tmp_path / "curve.jsonl"
    path.write_text("".join(f'{{"step": {step}}}\n' for step in range(1, 8)) + '{"step"')
    truncate(path, 5)
    assert [json.loads(line)["step"] for line in path.read_text().splitlines()] == [1, 2, 3, 4, 5]


def test_generators_differ_in_every_part_of_their_key() -> None:
    keys = [(0, 0, 0, 0), (1, 0, 0, 0), (0, 1, 0, 0), (0, 0, 1, 0), (0, 0, 0, 1), (1, 1, 0, 0)]
    draws = {float(torch.rand((), generator=generator_for(torch.device("cpu"), *key))) for key in keys}
    assert len(draws) == len(keys)


def test_batches_of_any_nesting_keep_their_kind_on_the_device() -> None:
    nested = {"pair": (torch.ones(1), [torch.zeros(2)]), "name": "clip"}
    moved = to_device(nested, torch.device("meta"))
    assert moved["pair"][0].is_meta and moved["pair"][1][0].is_meta and moved["name"] == "clip"


def test_tensorboard_that_is_not_installed_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)  # as if: importing it fails
    with pytest.raises(ValueError, match=r"tensorboard: expected the package .* cameractrlworld\[tensorboard\]"):
        run(tmp_path, tensorboard=True)


def test_tensorboard_gets_the_curve(tmp_path: Path) -> None:
    run(tmp_path, tensorboard=True)
    assert list((tmp_path / "tensorboard").iterdir())


if __name__ == "__main__":
    run_until_signal(int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]))
