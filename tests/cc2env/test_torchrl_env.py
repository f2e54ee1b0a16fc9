"""The TorchRL environment keeps its library's rules, and its rows are the single environments with the same seeds."""

import pickle

import numpy as np
import pytest
import torch
from tensordict import TensorDict
from torchrl.collectors import Collector, MultiSyncCollector
from torchrl.envs import Compose, ParallelEnv, RewardSum, StepCounter, ToTensorImage, TransformedEnv, check_env_specs
from torchrl.record import VideoRecorder
from torchrl.record.loggers.common import Logger

from cc2env.env import CameraCtrlWorldEnv
from cc2env.snapshot import EnvSnapshot
from cc2env.tasks import Task
from cc2env.torchrl_env import CameraCtrlWorldTorchRLEnv
from cc2env.vector_env import CameraCtrlWorldVectorEnv


@pytest.fixture
def env(flat_world):
    return CameraCtrlWorldTorchRLEnv(3, flat_world, max_episode_steps=2)


def sampled(env, count):
    torch.manual_seed(1)
    return [env.full_action_spec.rand()["action"] for _ in range(count)]


def fly(env, td, actions):
    """The clips along the actions; resets rows that are over as collectors do."""
    clips = []
    for action in actions:
        stepped, td = env.step_and_maybe_reset(td.set("action", action.clone()))
        clips.append(stepped["next", "pixels"].clone())
    return torch.stack(clips)


def test_specs_hold_every_observation(env):
    check_env_specs(env, break_when_any_done="both")
    rollout = env.rollout(4, break_when_any_done=False)
    assert rollout["clip_index"][0].flatten().tolist() == [0, 1, 0, 1]
    assert rollout["next", "truncated"][0].flatten().tolist() == [False, True, False, True]
    assert rollout["pixels"].dtype == torch.uint8 and rollout["pixels"].shape == (3, 4, 16, 6, 10, 3)


@pytest.mark.parametrize("value", ["find the red ball", None, {"a": 1}, [[1], [1, 2]]])
def test_the_info_of_a_task_must_be_numbers(flat_world, value):
    class ReportsValue(Task):
        def info(self, memory):
            return {"reported": value}

    with pytest.raises(ValueError, match=r"^info\['reported'\]: expected a number or an array of numbers, got "):
        CameraCtrlWorldTorchRLEnv(2, flat_world, task=ReportsValue())


@pytest.mark.parametrize(("world", "tolerance"), [("flat_world", 0), ("learned_folder", 1)])
def test_rows_are_single_environments(request, world, tolerance):
    """Also when the episodes before were cut: each row draws from a generator of its own."""
    world = request.getfixturevalue(world)
    env = CameraCtrlWorldTorchRLEnv(2, world, max_episode_steps=2)
    env.set_seed(7)
    first = env.reset()
    actions = sampled(env, 3)
    clips = fly(env, first, actions)
    for row in range(2):
        single = CameraCtrlWorldEnv(world)
        opening, info = single.reset(seed=7 + row)
        assert (first["pixels"][row].numpy() == opening).all() or tolerance
        assert (first["intrinsics"][row].numpy() == info["intrinsics"]).all()
        for index, action in enumerate(actions):
            if index == 2:
                single.reset()
            observation = single.step(action[row].numpy())[0]
            assert np.abs(observation.astype(int) - clips[index, row].numpy()).max() <= tolerance


def test_seeds_are_given_to_each_row(env):
    env.set_seeds([4, 9, 4])
    first = env.reset()["pixels"]
    assert (first[0] == first[2]).all() and (first[0] != first[1]).any()
    with pytest.raises(ValueError, match=r"^seeds: expected one for each of 3 rows, got 1"):
        env.set_seeds([1])


def test_a_partial_reset_leaves_the_other_rows_in_flight(flat_world):
    env, untroubled = (CameraCtrlWorldTorchRLEnv(3, flat_world, max_episode_steps=5) for _ in range(2))
    actions = sampled(env, 2)
    for each in (env, untroubled):
        each.set_seed(0)
        td = each.step(each.reset().set("action", actions[0]))["next"]
    mask = torch.tensor([[False], [True], [False]])
    td = env.reset(td.clone().set("_reset", mask))
    assert td["clip_index"].flatten().tolist() == [1, 0, 1] and td["done"].sum() == 0
    after = env.step(td.set("action", actions[1]))["next"]
    expected = untroubled.step(td.set("action", actions[1]))["next"]
    assert (after["pixels"][[0, 2]] == expected["pixels"][[0, 2]]).all()
    assert after["clip_index"].flatten().tolist() == [2, 1, 2]


@pytest.mark.parametrize("world", ["flat_world", "learned_folder"])
def test_snapshots_are_exact_in_every_way_to_restore_them(request, world):
    env = CameraCtrlWorldTorchRLEnv(2, request.getfixturevalue(world), max_episode_steps=3)
    actions = sampled(env, 4)
    env.set_seed(0)
    td = env.step(env.reset().set("action", actions[0]))["next"]
    kept = env.snapshot()
    ahead = fly(env, td.exclude("reward"), actions[1:])
    assert (fly(env, env.restore(kept), actions[1:]) == ahead).all()
    as_tensors = TensorDict({"snapshot": kept.to_tensordict()}, env.batch_size)
    td = env.reset(as_tensors, set_state=True).exclude("snapshot")
    assert (fly(env, td, actions[1:]) == ahead).all()
    turned = TensorDict({"snapshot": EnvSnapshot.from_tensordict(as_tensors["snapshot"])[[1, 0]].to_tensordict()}, [2])
    td = env.reset(turned, set_state=True).exclude("snapshot")
    swapped = fly(env, td, [action[[1, 0]] for action in actions[1:]])
    assert (swapped[:, [1, 0]].int() - ahead.int()).abs().max() <= 1
    with pytest.raises(ValueError, match=r"^snapshot: expected this entry to set the state"):
        env.reset(TensorDict({}, [2]), set_state=True)


def test_snapshots_go_between_the_interfaces(flat_world):
    env, vector = CameraCtrlWorldTorchRLEnv(2, flat_world), CameraCtrlWorldVectorEnv(2, flat_world)
    env.set_seed(3)
    actions = sampled(env, 2)
    env.step(env.reset().set("action", actions[0]))
    vector.restore(env.snapshot())
    flown = env.step(env.restore(vector.snapshot()).set("action", actions[1]))["next", "pixels"]
    assert (vector.step(actions[1].numpy())[0] == flown.numpy()).all()


def test_an_episode_forks_into_a_batch_of_futures(env):
    env.set_seed(0)
    action = sampled(env, 1)[0]
    env.step(env.reset().set("action", action))
    moment = env.snapshot()
    futures = env.fork(4, row=1)
    assert futures.batch_size == (4,) and futures.snapshot().session.prompts == ("",) * 4
    plans = sampled(futures, 3)
    looked = fly(futures, futures.restore(moment[1].fork(4)), plans)
    assert not futures.snapshot().session.clip_index.ne(4).any()  # they never end
    for plan in range(4):
        td = env.restore(moment)
        actions = [plans[0][[plan]].expand(3, -1, -1)]
        assert (fly(env, td, actions)[0, 1] == looked[0, plan]).all()


def test_a_failed_step_leaves_everything_as_it_was(flat_world):
    env, untroubled = (CameraCtrlWorldTorchRLEnv(2, flat_world) for _ in range(2))
    action = sampled(env, 1)[0]
    for each in (env, untroubled):
        each.set_seed(0)
        td = each.reset()
    flat_world.fails = True
    with pytest.raises(RuntimeError, match="the network broke"):
        env.step(td.set("action", action))
    flat_world.fails = False
    bad = action.clone()
    bad[1, 0, 0] = torch.nan
    with pytest.raises(ValueError, match=r"^action: expected finite numbers, got nan at \(1, 0, 0\)"):
        env.step(td.clone().set("action", bad))
    same = env.step(td.clone().set("action", action)) == untroubled.step(td.clone().set("action", action))
    assert same.all()


def test_nothing_works_before_reset(env):
    with pytest.raises(RuntimeError, match=r"^snapshot: expected running episodes"):
        env.snapshot()
    with pytest.raises(RuntimeError, match=r"^step: expected running episodes"):
        env.rand_step(TensorDict({}, [3]))


def test_prompts_and_pictures_open_every_episode(flat_world):
    picture = np.full((6, 10, 3), 77, np.uint8)
    env = CameraCtrlWorldTorchRLEnv(2, flat_world, prompt=["dusk", "dawn"], image=picture)
    td = env.reset()
    assert flat_world.started_with["prompts"] == ["dusk", "dawn"]
    assert (flat_world.started_with["images"] == 77).all()
    env.reset(td.set("_reset", torch.tensor([[False], [True]])))
    assert flat_world.started_with["prompts"] == ["dawn"] and flat_world.started_with["images"].shape[0] == 1
    with pytest.raises(ValueError, match=r"^prompt: expected a string or 2 of them"):
        CameraCtrlWorldTorchRLEnv(2, flat_world, prompt=["dusk"])


def test_pickles_go_on_where_they_were(learned_folder):
    env = CameraCtrlWorldTorchRLEnv(2, learned_folder)
    td, action = env.reset(), sampled(env, 1)[0]
    copy = pickle.loads(pickle.dumps(env))
    assert (env.step(td.set("action", action)) == copy.step(td.clone().set("action", action))).all()


def test_collectors_fly_it(env):
    collector = Collector(env, frames_per_batch=12, total_frames=24)
    batches = list(collector)
    collector.shutdown()
    assert [batch.shape for batch in batches] == [(3, 4), (3, 4)]
    assert torch.cat([batch["clip_index"] for batch in batches], 1)[0].flatten().tolist() == [0, 1] * 4


@pytest.mark.slow
def test_collectors_in_other_processes_fly_it(learned_folder):
    def make():
        torch.set_num_threads(1)
        return CameraCtrlWorldTorchRLEnv(2, learned_folder, max_episode_steps=2)

    collector = MultiSyncCollector([make], frames_per_batch=4, total_frames=8)
    try:
        clips = [batch["next", "clip_index"].flatten().tolist() for batch in collector]
    finally:
        collector.shutdown()
    assert clips == [[1, 2, 1, 2]] * 2


class _Films(Logger):
    """Keeps the films that it gets to log."""

    def __init__(self):
        self.films = []
        super().__init__("films", log_dir="")

    def _create_experiment(self):
        return None

    def log_scalar(self, name, value, step=None): ...

    def log_hparams(self, cfg): ...

    def log_histogram(self, name, data, **_): ...

    def log_video(self, name, video, step=None, **_):
        self.films.append(video)

    def __repr__(self):
        return "films"


def test_transforms_and_the_video_recorder_take_its_clips(flat_world):
    env = CameraCtrlWorldTorchRLEnv(2, flat_world, max_episode_steps=2)
    films = _Films()
    transforms = [
        VideoRecorder(films, tag="clip", make_grid=False, skip=1),
        StepCounter(),
        RewardSum(),
        ToTensorImage(),
    ]
    transformed = TransformedEnv(env, Compose(*transforms))
    rollout = transformed.rollout(2)
    assert rollout["pixels"].shape == (2, 2, 16, 3, 6, 10) and rollout["pixels"].dtype == torch.float32
    assert rollout["next", "episode_reward"].shape == (2, 2, 1)
    transformed.transform.dump()
    assert films.films[0].shape[-3:] == (3, 6, 10)


def test_parallel_workers_fly_the_same_episodes(learned_folder):
    def make():
        torch.set_num_threads(1)
        return CameraCtrlWorldTorchRLEnv(2, learned_folder, max_episode_steps=2)

    apart = ParallelEnv(2, make, mp_start_method="fork")
    try:
        apart.set_seed(0)
        check = apart.rollout(3, break_when_any_done=False)
        assert check.shape == (2, 2, 3) and check["next", "truncated"].sum() == 4
        together = make()
        together.set_seed(0)  # the seed of the first worker
        opening = together.reset()["pixels"]
        clip = together.step(together.reset().set("action", check["action"][0, :, 0]))
        assert clip["next", "pixels"].shape == check["next", "pixels"][0, :, 0].shape
        assert (opening.int() - check["pixels"][0, :, 0].int()).abs().max() <= 1
    finally:
        apart.close()


@pytest.mark.parametrize("task", ["Explore", "GoalView", "FollowPath", "LoopClosure", "HoldStill"])
def test_tasks_are_those_of_the_single_environment(flat_world, task):
    env = CameraCtrlWorldTorchRLEnv(2, flat_world, task=task, max_episode_steps=3)
    check_env_specs(env)
    env.set_seed(4)
    td = env.reset()
    actions = sampled(env, 2)
    single = CameraCtrlWorldEnv(flat_world, task=task)
    single.reset(seed=5)
    for action in actions:
        td = env.step(td.set("action", action))["next"]
        _, reward, terminated, _, info = single.step(action[1].numpy())
        assert td["reward"][1].item() == pytest.approx(reward, abs=1e-6)
        assert td["terminated"][1].item() == terminated
        shared = set(info) & set(td.keys())
        assert {"achieved_c2w", "blocked", "c2w"} < shared and len(shared) > 5
        for key in shared:
            assert np.allclose(td[key][1].numpy(), info[key])
