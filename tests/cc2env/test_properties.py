"""After any sequence of calls the single, the vector and the TorchRL environment give the same results."""

import gc

import numpy as np
import pytest
import torch
from gymnasium.error import ResetNeeded
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays, scalar_dtypes
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test
from tensordict import TensorDict

from cc2env.env import CameraCtrlWorldEnv
from cc2env.torchrl_env import CameraCtrlWorldTorchRLEnv
from cc2env.vector_env import CameraCtrlWorldVectorEnv

ROWS, LIMIT, SHAPE = 3, 3, (4, 6)
QUIET = {"deadline": None, "suppress_health_check": [HealthCheck.function_scoped_fixture, HealthCheck.too_slow]}

seeds = st.integers(0, 2**40)
shares = arrays(np.float32, (ROWS, *SHAPE), elements=st.floats(-1, 1, width=32))
masks = arrays(np.bool_, ROWS).filter(np.any)


class Interfaces(RuleBasedStateMachine):
    """Flies the same rows through all three interfaces; the single environments are the measure."""

    world = None

    def __init__(self):
        super().__init__()
        self.singles = [CameraCtrlWorldEnv(self.world) for _ in range(ROWS)]
        self.vector = CameraCtrlWorldVectorEnv(ROWS, self.world, max_episode_steps=LIMIT, autoreset_mode="Disabled")
        self.native = CameraCtrlWorldTorchRLEnv(ROWS, self.world, max_episode_steps=LIMIT)
        self.bounds = self.vector.single_action_space.high
        self.moments, self.seen = [], None

    @initialize(start=st.lists(seeds, min_size=ROWS, max_size=ROWS))
    def begin(self, start):
        self.reset_all(start)

    @rule(start=st.lists(seeds, min_size=ROWS, max_size=ROWS))
    def reset_all(self, start):
        observations, _ = self.vector.reset(seed=start)
        self.native.set_seeds(start)
        td = self.native.reset()
        self.seen = [each.reset(seed=seed) for each, seed in zip(self.singles, start, strict=True)]
        self.compare(observations, td, range(ROWS))

    @rule(mask=masks, seed=st.none() | seeds)
    def reset_some(self, mask, seed):
        start = [None if seed is None else seed + row for row in range(ROWS)]
        observations, infos = self.vector.reset(seed=start, options={"reset_mask": mask})
        assert (infos["_c2w"] == mask).all()
        rows = np.flatnonzero(mask).tolist()
        if seed is not None:
            kept = self.native.snapshot()
            self.native.set_seeds(start)
            fresh = self.native.snapshot()
            self.native.restore(kept)  # only the chosen rows get new generators
            self.native.restore(fresh[rows], rows=rows)
        td = self.native.reset(TensorDict({"_reset": torch.from_numpy(mask)[:, None]}, [ROWS]))
        for row in rows:
            self.seen[row] = self.singles[row].reset(seed=start[row])
        self.compare(observations, td, rows)

    @rule(share=shares)
    def step(self, share):
        actions = share * self.bounds
        over = np.array([info["clip_index"] >= LIMIT for _, info in self.seen])
        if over.any():
            with pytest.raises(ResetNeeded, match="are over"):
                self.vector.step(actions)
            self.reset_some(over, None)
        observations, _, _, truncated, infos = self.vector.step(actions)
        td = self.native.step(TensorDict({"action": torch.from_numpy(actions)}, [ROWS]))["next"]
        self.seen = [
            (stepped[0], stepped[-1])
            for stepped in (each.step(action) for each, action in zip(self.singles, actions, strict=True))
        ]
        assert infos["seconds"].tolist() == [info["seconds"] for _, info in self.seen]
        assert (truncated == td["truncated"].flatten().numpy()).all()
        self.compare(observations, td, range(ROWS))

    @rule(share=shares, bad=st.sampled_from([np.nan, np.inf, -np.inf, 7.0]), where=st.integers(0, ROWS * 24 - 1))
    def bad_step(self, share, bad, where):
        actions = share * self.bounds
        actions.reshape(-1)[where] = bad
        assume(not any(info["clip_index"] >= LIMIT for _, info in self.seen))
        row = where // 24
        with pytest.raises(ValueError, match=r"^action: expected"):
            self.vector.step(actions)
        with pytest.raises(ValueError, match=r"^action: expected"):
            self.native.step(TensorDict({"action": torch.from_numpy(actions)}, [ROWS]))
        with pytest.raises(ValueError, match=r"^action: expected"):
            self.singles[row].step(actions[row])

    @rule(share=shares)
    def broken_step(self, share):
        """The world fails in mid-flight: every episode is where it was, random generators and all."""
        assume(not any(info["clip_index"] >= LIMIT for _, info in self.seen))
        actions, before = share * self.bounds, (self.vector.snapshot(), self.native.snapshot())
        self.world.fails = True
        try:
            for step, action in (
                (self.vector.step, actions),
                (self.native.step, TensorDict({"action": torch.from_numpy(actions)}, [ROWS])),
                *((single.step, action) for single, action in zip(self.singles, actions, strict=True)),
            ):
                with pytest.raises(RuntimeError, match="the network broke"):
                    step(action)
        finally:
            self.world.fails = False
        for env, kept in zip((self.vector, self.native), before, strict=True):
            assert env.snapshot().random_states == kept.random_states
            assert (env.snapshot().to_tensordict() == kept.to_tensordict()).all()

    @rule(bad=st.sampled_from([{"prompts": "x"}, {"image": 3}, {"prompt": 3}, {"reset_mask": np.zeros(ROWS, bool)}]))
    def bad_reset(self, bad):
        for each in (self.vector, self.singles[0]):
            with pytest.raises(ValueError, match="expected"):
                each.reset(options=bad)

    @rule()
    def snapshot(self):
        moments = (self.vector.snapshot(), self.native.snapshot(), [each.snapshot() for each in self.singles])
        self.moments.append((moments, list(self.seen)))

    @rule(which=st.integers(0, 20), crossed=st.booleans())
    def restore(self, which, crossed):
        assume(self.moments)
        (vector, native, singles), self.seen = self.moments[which % len(self.moments)]
        self.seen = list(self.seen)
        self.vector.restore(native if crossed else vector)
        self.native.restore(vector if crossed else native)
        for row, (each, single) in enumerate(zip(self.singles, singles, strict=True)):
            each.restore(native[row] if crossed else single)

    @rule(source=st.integers(0, ROWS - 1), row=st.integers(0, ROWS - 1))
    def fork_a_row(self, source, row):
        self.vector.restore(self.vector.snapshot()[source], rows=[row])
        self.native.restore(self.native.snapshot()[source], rows=[row])
        self.singles[row].restore(self.singles[source].snapshot())
        self.seen[row] = self.seen[source]

    @invariant()
    def all_are_at_one_moment(self):
        if self.seen is None:
            return
        vector, native = self.vector.snapshot(), self.native.snapshot()
        assert vector.random_states == native.random_states
        assert (vector.to_tensordict() == native.to_tensordict()).all()
        for row, single in enumerate(self.singles):
            assert single.snapshot().random_states == vector[row].random_states
            assert (single.snapshot().to_tensordict() == vector[row].to_tensordict()).all()

    def compare(self, observations, td, rows):
        for row in rows:
            observation, info = self.seen[row]
            assert (observations[row] == observation).all() and (td["pixels"][row].numpy() == observation).all()
            assert (td["c2w"][row].numpy() == info["c2w"]).all() and td["clip_index"][row] == info["clip_index"]


def test_all_interfaces_give_the_same_results(flat_world):
    class OfThisWorld(Interfaces):
        world = flat_world

    run_state_machine_as_test(OfThisWorld, settings=settings(max_examples=8, stateful_step_count=8, **QUIET))


@settings(max_examples=25, **QUIET)
@given(action=arrays(scalar_dtypes(), array_shapes(max_dims=3, max_side=6)) | arrays(np.float32, SHAPE))
def test_an_action_is_flown_or_named(flat_world, action):
    """Nothing in between: it is in the space and flown, or a ValueError leaves the episode where it was."""
    env = CameraCtrlWorldEnv(flat_world)
    env.reset(seed=0)
    before = env.snapshot().to_tensordict()
    limit = env.action_space.high
    fits = action.shape == SHAPE and np.issubdtype(action.dtype, np.floating)
    with np.errstate(over="ignore"):
        fits = fits and bool((np.abs(action.astype(np.float32)) <= limit).all())
    if fits:
        assert env.step(action)[-1]["clip_index"] == 1
        return
    with np.errstate(over="ignore"), pytest.raises(ValueError, match=r"^action: expected"):
        env.step(action)
    assert (env.snapshot().to_tensordict() == before).all()


keys = st.sampled_from(["prompt", "image", "reset_mask", "seed", ""])
values = st.none() | st.booleans() | st.integers() | st.text(max_size=4) | st.lists(st.text(max_size=3), max_size=3)
values |= arrays(np.uint8, array_shapes(max_dims=4, max_side=4))


@settings(max_examples=25, **QUIET)
@given(options=st.dictionaries(keys, values, max_size=3))
def test_options_open_an_episode_or_are_named(flat_world, options):
    for env in (CameraCtrlWorldEnv(flat_world), CameraCtrlWorldVectorEnv(2, flat_world)):
        env.reset(seed=0)
        env.step(np.zeros(env.action_space.shape, np.float32))
        before = env.snapshot().to_tensordict()
        try:
            env.reset(options=options)
        except ValueError as error:
            assert any(str(error).startswith(name) for name in ("options", "prompt", "image", "reset_mask"))
            after = env.snapshot().to_tensordict()
            assert (after["world"] == before["world"]).all()
            assert (after["episode", "clip_index"] == 1).all()
        else:
            assert env.snapshot().session.clip_index.eq(0).all()


@settings(max_examples=10, **QUIET)
@given(start=st.lists(seeds, min_size=1, max_size=4))
def test_a_seed_is_an_episode_in_every_interface(flat_world, start):
    envs, native = (kind(len(start), flat_world) for kind in (CameraCtrlWorldVectorEnv, CameraCtrlWorldTorchRLEnv))
    native.set_seeds(start)
    first, td = envs.reset(seed=start)[0], native.reset()
    for row, seed in enumerate(start):
        expected = CameraCtrlWorldEnv(flat_world).reset(seed=seed)[0]
        assert (first[row] == expected).all() and (td["pixels"][row].numpy() == expected).all()


@pytest.mark.slow
def test_five_hundred_steps_hold_no_more_than_twenty(flat_world):
    """To the tensor, through ends and resets; `tests/benchmarks/test_memory_benchmark.py` flies 2,000."""
    envs = CameraCtrlWorldVectorEnv(1, flat_world, max_episode_steps=64)
    envs.reset(seed=0)
    action, held = np.zeros((1, *SHAPE), np.float32), []
    for step in range(1, 501):
        envs.step(action)
        if step in (20, 250, 500):
            gc.collect()
            tensors = [item for item in gc.get_objects() if type(item) is torch.Tensor]
            held.append((len(tensors), sum(item.numel() for item in tensors)))
            del tensors
    assert held[0] == held[1] == held[2]
