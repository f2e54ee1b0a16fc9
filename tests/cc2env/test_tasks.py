"""Every task passes Gymnasium's checker in every world, flies in a batch as alone, and goes on from a snapshot."""

import json
import pickle
import warnings

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

import cc2env
from cc2env import tasks
from cc2env.env import CameraCtrlWorldEnv
from cc2env.torchrl_env import CameraCtrlWorldTorchRLEnv
from cc2env.vector_env import CameraCtrlWorldVectorEnv

HOME = np.eye(4, dtype=np.float32)
STILL = np.zeros((4, 6), np.float32)
FORWARD = STILL.copy()
FORWARD[:, 2] = 0.5
BACK = -FORWARD


@pytest.mark.parametrize("task", tasks.TASKS)
@pytest.mark.parametrize("kind", ["synthetic", "learned"])
def test_every_id_passes_gymnasiums_checker(task, kind, request):
    arguments = {"world": "synthetic"} if kind == "synthetic" else {"world": request.getfixturevalue("learned_folder")}
    if task == "GoalView":
        arguments["goal_clips"] = 1
    env = gym.make(cc2env.TASK_IDS[task], **arguments)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_env(env.unwrapped, skip_render_check=True)
    env.close()


def test_ids_are_the_tasks_and_their_specs_are_plain_data():
    assert list(cc2env.TASK_IDS) == list(tasks.TASKS)
    for task, env_id in cc2env.TASK_IDS.items():
        spec = gym.spec(env_id)
        assert spec.kwargs == {"task": task} and json.loads(spec.to_json())
        for section in ("Description", "Rewards", "Episode End", "Arguments"):
            assert f"## {section}" in tasks.TASKS[task].__doc__
        assert env_id in tasks.TASKS[task].__doc__ and env_id in CameraCtrlWorldEnv.__doc__
        assert f"after {spec.max_episode_steps} clips" in tasks.TASKS[task].__doc__
        for argument, field in tasks.TASKS[task].__dataclass_fields__.items():
            assert f"| `{argument}`" in tasks.TASKS[task].__doc__, argument
            assert str(field.default) in tasks.TASKS[task].__doc__


def test_arguments_of_the_task_are_arguments_of_make():
    env = gym.make("CameraCtrlWorld-LoopClosure-v0", world="synthetic", distance=3.0)
    assert env.unwrapped.task == tasks.LoopClosure(distance=3.0)
    assert gym.make("CameraCtrlWorld-HoldStill-v0", world="synthetic").spec.max_episode_steps == 16


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"task": "Sleep"}, r"task: expected one of \['Explore', .*got 'Sleep'"),
        ({"task": "Explore", "voxel": 0.0}, "voxel: expected a positive number, got 0.0"),
        ({"task": "GoalView", "goal_clips": 0}, "goal_clips: expected an integer of at least 1, got 0"),
        ({"task": "FollowPath", "path": np.zeros((3, 4, 4))}, "path: expected"),
        ({"task": "FollowPath", "path": HOME[None]}, "path: expected at least 2 poses"),
        ({"task": "LoopClosure", "distance": 0.2}, "return_distance: expected less than the distance 0.2"),
        ({"task": "HoldStill", "rotation_weight": -1.0}, "rotation_weight: expected a number of at least 0"),
        ({"collision": "bounce"}, r"collision: expected one of \['none', 'stop'\], got 'bounce'"),
    ],
)
def test_bad_arguments_name_themselves(world, arguments, message):
    with pytest.raises(ValueError, match=f"^{message}"):
        CameraCtrlWorldEnv(world, **arguments)


@pytest.mark.parametrize("environment", [CameraCtrlWorldEnv, CameraCtrlWorldVectorEnv, CameraCtrlWorldTorchRLEnv])
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"task": "Explore", "voxels": 0.5}, "'voxels': did you mean voxel[?] known: .*world, .*reach, voxel"),
        ({"voxel": 0.5}, "'voxel': known: "),
        ({"task": tasks.Explore(), "voxel": 0.5}, "'voxel': known: "),
        ({"colision": "stop"}, "'colision': did you mean collision[?]"),
    ],
)
def test_unknown_arguments_are_type_errors_as_in_python(world, environment, arguments, message):
    with pytest.raises(TypeError, match=f"got an unexpected keyword argument {message}"):
        environment(world=world, **arguments)


def test_a_task_may_be_given_as_its_class(world):
    class FindRed(tasks.Task):
        pass

    assert isinstance(CameraCtrlWorldEnv(world, task=FindRed).task, FindRed)
    assert CameraCtrlWorldEnv(world, task=tasks.Explore, voxel=0.25).task == tasks.Explore(voxel=0.25)


@pytest.mark.parametrize("task", tasks.TASKS)
def test_a_row_of_a_batch_is_the_single_episode(world, task):
    arguments = {"goal_clips": 1} if task == "GoalView" else {}
    envs = CameraCtrlWorldVectorEnv(2, world, task=task, **arguments)
    single = CameraCtrlWorldEnv(world, task=task, **arguments)
    _, infos = envs.reset(seed=[3, 4])
    _, info = single.reset(seed=4)
    moves = np.stack([FORWARD, FORWARD * 0.5])
    for _ in range(2):
        assert all(np.array_equal(infos[key][1], value) for key, value in info.items())
        _, reward, terminated, _, infos = envs.step(moves)
        _, alone, ended, _, info = single.step(moves[1])
        assert reward[1] == alone and terminated[1] == ended


@pytest.mark.parametrize("task", tasks.TASKS)
def test_a_snapshot_holds_the_progress_of_its_task(world, task, tmp_path, make):
    arguments = {"goal_clips": 1} if task == "GoalView" else {}
    env = make(world, task, **arguments)
    env.step(FORWARD)
    kept = env.snapshot()
    ahead = [env.step(action)[1:] for action in (BACK, FORWARD)]
    kept.save(tmp_path / "moment.safetensors")
    other = CameraCtrlWorldEnv(world, task=task, **arguments)
    for snapshot in (kept, type(kept).load(tmp_path / "moment.safetensors")):
        other.restore(snapshot)
        for (reward, terminated, _, info), action in zip(ahead, (BACK, FORWARD), strict=True):
            _, again, ended, _, other_info = other.step(action)
            assert again == reward and ended == terminated
            assert all(np.array_equal(other_info[key], value) for key, value in info.items())


def test_forks_play_the_same_task(world, make):
    env = make(world, "HoldStill")
    futures = env.fork(2)
    rewards_ = futures.step(np.stack([STILL, FORWARD]))[1]
    assert rewards_[0] == 0 and rewards_[1] == pytest.approx(env.step(FORWARD)[1]) == pytest.approx(-2.0)


def test_a_snapshot_of_another_task_is_refused(world, make):
    env = make(world, "Explore")
    with pytest.raises(ValueError, match=r"^snapshot: expected one of the same task"):
        env.restore(make(world, "HoldStill").snapshot())


def test_an_environment_with_a_task_pickles(world, make):
    env = make(world, "Explore")
    twin = pickle.loads(pickle.dumps(env))
    assert twin.step(FORWARD)[1] == env.step(FORWARD)[1] > 0
