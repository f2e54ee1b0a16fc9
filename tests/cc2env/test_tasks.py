"""Tasks: each id passes Gymnasium's checker in every world; rewards, ends, goals, obstacles and snapshots are right."""

import json
import pickle
import warnings

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium.utils.env_checker import check_env

import cc2env
from cc2env import rewards, tasks
from cc2env.env import CameraCtrlWorldEnv
from cc2env.geometry import CameraTrajectory, write_realestate10k
from cc2env.torchrl_env import CameraCtrlWorldTorchRLEnv
from cc2env.vector_env import CameraCtrlWorldVectorEnv
from model.geometry import se3
from model.world.synthetic_world import SyntheticWorld

HOME = np.eye(4, dtype=np.float32)
STILL = np.zeros((4, 6), np.float32)
FORWARD = STILL.copy()
FORWARD[:, 2] = 0.5
BACK = -FORWARD
DOWN = STILL.copy()
DOWN[:, 1] = 0.5


@pytest.fixture(scope="module")
def world():
    return SyntheticWorld(height=16, width=24)


def make(world, task=None, seed=0, **arguments):
    env = CameraCtrlWorldEnv(world, task=task, **arguments)
    env.reset(seed=seed)
    return env


def twists_between(poses):
    """The action that flies through poses from the first one."""
    chain = torch.from_numpy(np.stack(poses))
    return se3.log(se3.relative(chain[:-1], chain[1:])).numpy()


# every id


@pytest.mark.parametrize("task", tasks.TASKS)
@pytest.mark.parametrize("kind", ["synthetic", "learned"])
def test_gymnasiums_checker_is_content_with_every_id(task, kind, request):
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
def test_a_snapshot_holds_the_progress_of_its_task(world, task, tmp_path):
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


def test_forks_play_the_same_task(world):
    env = make(world, "HoldStill")
    futures = env.fork(2)
    rewards_ = futures.step(np.stack([STILL, FORWARD]))[1]
    assert rewards_[0] == 0 and rewards_[1] == pytest.approx(env.step(FORWARD)[1]) == pytest.approx(-2.0)


def test_a_snapshot_of_another_task_is_refused(world):
    env = make(world, "Explore")
    with pytest.raises(ValueError, match=r"^snapshot: expected one of the same task"):
        env.restore(make(world, "HoldStill").snapshot())


def test_an_environment_with_a_task_pickles(world):
    env = make(world, "Explore")
    twin = pickle.loads(pickle.dumps(env))
    assert twin.step(FORWARD)[1] == env.step(FORWARD)[1] > 0


# a user's own


def test_a_users_reward_takes_the_place_of_the_tasks(world):
    seen = []

    def height(transition: rewards.Transition) -> float:
        seen.append(transition)
        return -float(transition.c2w[-1, 1, 3])

    env = make(world, "HoldStill", reward=height)
    observation, reward, *_, info = env.step(DOWN * -0.5)
    assert reward == pytest.approx(1.0) and info["moved"] == pytest.approx(1.0)
    transition = seen[0]
    assert (transition.frames == observation).all() and (transition.start_c2w == HOME).all()
    assert (transition.c2w == info["c2w"]).all() and transition.clip_index == 1 and not transition.blocked
    assert transition.first_frame.shape == (16, 24, 3)
    made = gym.make(cc2env.ENV_ID, world="synthetic", reward=height)
    made.reset(seed=0)
    assert made.step(STILL)[1] == 0


def test_a_reward_that_is_no_number_leaves_the_episode(world):
    values = iter([float("nan"), 2.5])
    env = make(world, reward=lambda transition: next(values))
    with pytest.raises(ValueError, match=r"^reward: expected a finite number, got nan"):
        env.step(FORWARD)
    _, reward, *_, info = env.step(FORWARD)
    assert reward == 2.5 and info["clip_index"] == 1 and info["c2w"][-1, 2, 3] == pytest.approx(2.0)


@pytest.mark.parametrize("name", ["start_c2w", "c2w", "commanded_c2w", "frames", "first_frame", "intrinsics"])
def test_a_reward_that_writes_into_the_episode_is_an_error(world, name):
    def greedy(transition):
        getattr(transition, name)[...] = 0
        return 0.0

    env = make(world, reward=greedy)
    before = env.snapshot()
    with pytest.raises(ValueError, match="read-only"):
        env.step(FORWARD)
    assert (env.snapshot().to_tensordict() == before.to_tensordict()).all()


@pytest.mark.parametrize("where", ["open", "judge", "info"])
def test_a_task_that_writes_into_the_episode_is_an_error(world, where):
    class Greedy(tasks.Task):
        def open(self, opening):
            if where == "open":
                opening.first_frame[...] = 0
            return {"height": np.zeros(2)}

        def judge(self, memory, transition):
            if where == "judge":
                memory["height"][0] = 1
            return memory, 0.0, False

        def info(self, memory):
            if where == "info":
                memory["height"] += 1
            return {}

    with pytest.raises(ValueError, match="read-only"):
        make(world, Greedy()).step(FORWARD)


@pytest.mark.parametrize("earned", [float("nan"), float("inf"), None, "much"])
def test_a_task_that_earns_no_number_leaves_the_episode(world, earned):
    class Odd(tasks.Task):
        def judge(self, memory, transition):
            return memory, earned, False

    env = make(world, Odd())
    with pytest.raises(ValueError, match=r"^reward: expected a finite number, got "):
        env.step(FORWARD)
    assert env.snapshot().session.clip_index.tolist() == [0]


def test_arriving_is_paid_once(world):
    env = make(world, "GoalView", goal_clips=1, success_distance=50.0, success_angle=4.0, rotation_weight=0.0)
    assert [round(env.step(STILL)[1], 5) for _ in range(3)] == [1, 0, 0]
    env = make(world, "LoopClosure")
    steps = [env.step(action) for action in (FORWARD, BACK, STILL)]
    assert steps[1][2] and steps[2][1] == pytest.approx(0, abs=1e-5)


def test_a_users_task_plays(world):
    class Rise(tasks.Task):
        def open(self, opening):
            return {"height": np.array(0.0)}

        def judge(self, memory, transition):
            height = -float(transition.c2w[-1, 1, 3])
            return {"height": np.array(height)}, height - float(memory["height"]), height > 1.5

        def info(self, memory):
            return {"height": float(memory["height"])}

    env = make(world, Rise())
    first, second = env.step(DOWN * -0.5), env.step(DOWN * -0.5)
    assert first[1] == pytest.approx(1.0) and not first[2]
    assert second[1] == pytest.approx(1.0) and second[2] and second[4]["height"] == pytest.approx(2.0)


# the tasks, one by one


def test_explore_rewards_new_views_once(world):
    env = make(world, "Explore")
    before = env.snapshot()
    ahead = env.step(FORWARD)
    # far end of the frustum: cross-section at the reach, per metre
    camera = ahead[4]["intrinsics"]
    assert ahead[1] == pytest.approx(16 / (camera[0] * camera[1]), rel=0.1)
    assert env.step(BACK)[1] == pytest.approx(0, abs=0.2) and env.step(FORWARD)[1] == 0
    env.restore(before)
    assert env.step(STILL)[1] == 0
    turn = STILL.copy()
    turn[:, 4] = 0.2
    _, reward, terminated, _, info = env.step(turn)
    assert reward > 5 and not terminated and info["covered_volume"] > reward


def test_explore_counts_no_farther_than_its_map(world):
    env = make(world, "Explore", extent=16.0)
    earned = [env.step(FORWARD)[1] for _ in range(5)]
    assert earned[0] > 0 and earned[-1] == 0


def test_the_goal_is_reached_by_flying_its_way_and_shows_its_picture(world):
    env = make(world, "GoalView", goal_clips=1, seed=5)
    info = env.reset(seed=5)[1]
    goal, distance = info["goal_c2w"], info["goal_distance"]
    assert not info["is_success"] and distance == pytest.approx(float(rewards.pose_distance(HOME, goal)))
    assert (env.goal_image == info["goal_image"]).all()
    steps = [se3.interpolate(torch.eye(4), torch.from_numpy(goal), f / 4).numpy() for f in range(5)]
    observation, reward, terminated, _, info = env.step(twists_between(steps))
    assert terminated and info["is_success"] and reward == pytest.approx(distance + 1.0, abs=1e-4)
    # same pose, same time: the very picture, but for the rounding of the pose
    assert np.abs(observation[-1].astype(int) - info["goal_image"]).mean() < 1


def test_goals_are_drawn_by_the_seed_and_away_from_the_start(world):
    env = CameraCtrlWorldEnv(world, task="GoalView", goal_clips=1)
    goals = [env.reset(seed=seed)[1]["goal_c2w"] for seed in (0, 1, 2, 0)]
    assert (goals[0] == goals[3]).all() and (goals[0] != goals[1]).any()
    distances = [rewards.pose_distance(HOME, goal) for goal in goals]
    assert min(distances) > 0.5
    with pytest.raises(AttributeError, match=r"^goal_image: "):
        _ = make(world, "Explore").goal_image


def test_looking_ahead_for_the_goal_leaves_the_episode_alone(world):
    env, free = make(world, "GoalView", goal_clips=1), make(world)
    assert (env.step(FORWARD)[0] == free.step(FORWARD)[0]).all()


def test_a_path_that_is_followed_costs_nothing_and_ends(world):
    env = CameraCtrlWorldEnv(world, task="FollowPath", num_clips=2, collision="stop")
    info, here = env.reset(seed=1)[1], HOME
    for clip in range(2):
        action = twists_between([here, *info["reference_c2w"]])
        here = info["reference_c2w"][-1]
        _, reward, terminated, _, info = env.step(action)
        assert reward == pytest.approx(0, abs=1e-4) and terminated == (clip == 1)
    still = make(world, "FollowPath", num_clips=2, seed=1)
    assert still.step(STILL)[1] < -0.3


def test_a_given_path_starts_where_the_camera_does(world, tmp_path):
    path = np.stack([HOME] * 7)
    path[:, 2, 3] = 10 + 0.5 * np.arange(7)
    np.save(tmp_path / "path.npy", path)
    for given in (path, str(tmp_path / "path.npy")):
        env = make(world, "FollowPath", path=given)
        _, reward, terminated, *_ = env.step(FORWARD)
        assert reward == pytest.approx(0, abs=1e-5) and not terminated
        half = FORWARD.copy()
        half[2:] = 0  # the path has two more poses
        assert env.step(half)[1:3] == (pytest.approx(0, abs=1e-5), True)


def test_a_path_in_a_text_is_followed_by_its_timestamps(world, tmp_path):
    c2w = torch.eye(4).repeat(13, 1, 1)
    c2w[:, 2, 3] = 0.05 * torch.arange(13)  # 0.6 m a second at 12 rows a second
    path = CameraTrajectory(c2w, torch.ones(13, 4))
    write_realestate10k(tmp_path / "path.txt", path, timestamps=[round(1e6 * row / 12) for row in range(13)])
    expected = [0.2, 0.4, 0.6, 0.6]
    for settings in ({"path": str(tmp_path / "path.txt")}, {"path": c2w.numpy(), "fps": 12.0}):
        info = CameraCtrlWorldEnv(world, task="FollowPath", **settings).reset(seed=0)[1]
        assert info["reference_c2w"][:, 2, 3] == pytest.approx(expected, abs=1e-5)
    with pytest.raises(ValueError, match=r"^fps: expected"):
        CameraCtrlWorldEnv(world, task="FollowPath", fps=12.0)


def test_a_path_too_fast_to_follow_is_stretched_with_a_warning(world):
    path = np.stack([HOME] * 3)
    path[:, 2, 3] = np.arange(3)
    with pytest.warns(UserWarning, match="path: too fast for the action space, so it is flown 2 times as slowly"):
        info = CameraCtrlWorldEnv(world, task="FollowPath", path=path).reset(seed=0)[1]
    assert info["reference_c2w"][:, 2, 3] == pytest.approx([0.5, 1.0, 1.5, 2.0])


def test_a_loop_pays_the_way_out_the_way_back_and_the_likeness(world):
    env = make(world, "LoopClosure", distance=1.5)
    assert env.step(STILL)[1:3] == (0, False)  # being at home is not coming home
    out = env.step(FORWARD)
    # 2 m out: 1.5 are paid, and what lies beyond them is taken off, since the way back will pay it
    assert out[1] == pytest.approx(1.5 - 0.5) and out[4]["has_left"] and not out[4]["is_success"]
    back = env.step(BACK)
    similarity = back[4]["similarity"]
    assert back[2] and back[4]["is_success"] and 0 < similarity < 1
    assert back[1] == pytest.approx(2.0 + similarity, abs=1e-5)


def test_a_detour_on_a_loop_earns_nothing(world):
    """Turning away before leaving, or overshooting, makes the way back longer; it must not be paid for that."""
    turn = STILL.copy()
    turn[:, 4] = 0.19
    earned = []
    for flight in ([FORWARD, BACK], [turn, FORWARD, BACK, -turn], [FORWARD, FORWARD, BACK, BACK]):
        env = make(world, "LoopClosure", similarity_weight=0.0)
        steps = [env.step(action) for action in flight]
        assert steps[-1][2]
        earned.append(sum(step[1] for step in steps))
    assert earned == pytest.approx([3.0] * 3, abs=1e-4)


def test_holding_still_is_best_and_every_move_costs(world):
    env = make(world, "HoldStill")
    turn = STILL.copy()
    turn[:, 4] = 0.1
    assert [env.step(action)[1] for action in (STILL, FORWARD, turn)] == [
        0,
        pytest.approx(-2.0),
        pytest.approx(-0.4, abs=1e-5),
    ]


# obstacles


def test_a_camera_stops_above_the_ground_and_goes_on_from_there(world):
    env, through = make(world, collision="stop"), make(world)
    _, *_, info = env.step(DOWN)
    flown = through.step(DOWN)[4]
    assert info["blocked"] and flown["blocked"]  # reported in both, stopped in one
    assert (info["c2w"] == flown["c2w"]).all() and (flown["achieved_c2w"] == flown["c2w"]).all()
    height = world.scene(int(env.snapshot().session.state.seed[0])).camera_height
    assert info["achieved_c2w"][-1, 1, 3] == pytest.approx(height - 0.35, abs=5e-3)
    _, *_, info = env.step(DOWN * -0.5)
    assert not info["blocked"] and (info["achieved_c2w"] == info["c2w"]).all()
    assert info["c2w"][-1, 1, 3] == pytest.approx(height - 0.35 - 1.0, abs=5e-3)


def test_a_stopped_camera_still_turns(world):
    env = make(world, collision="stop")
    env.step(DOWN)
    action = DOWN.copy()
    action[:, 4] = 0.1
    info = env.step(action)[4]
    assert info["blocked"] and rewards.rotation_angle(info["achieved_c2w"][-1], HOME) == pytest.approx(0.4, abs=1e-5)


def test_where_nothing_is_in_the_way_nothing_changes(world):
    env, free = make(world, collision="stop"), make(world)
    for action in (DOWN * -0.2, STILL):
        one, other = env.step(action), free.step(action)
        assert (one[0] == other[0]).all() and not one[4]["blocked"]


def test_a_world_that_knows_no_free_space_cannot_stop_anything(flat_world):
    with pytest.raises(ValueError, match=r'^collision: expected "none", FlatWorld does not know its free space'):
        CameraCtrlWorldEnv(flat_world, collision="stop")
    info = make(flat_world).step(DOWN)[4]
    assert not info["blocked"] and (info["achieved_c2w"] == info["c2w"]).all()


@pytest.mark.slow
def test_the_shipped_world_stops_a_camera_by_what_it_sees():
    """Fails, too, when its encoder was trained anew and its depth head was not: `python -m model.cli.train_depth`."""
    env, through = (gym.make(cc2env.ENV_ID, world="tiny", sampler_steps=1, collision=how) for how in ("stop", "none"))
    env.reset(seed=1), through.reset(seed=1)
    infos = [each.step(DOWN)[4] for each in (env, through)]
    assert infos[0]["blocked"] and not infos[1]["blocked"]  # only a collision="stop" environment computes the estimate
    assert (infos[0]["c2w"] == infos[1]["c2w"]).all()
    assert 0.2 < infos[0]["achieved_c2w"][-1, 1, 3] < 1.8 < infos[1]["achieved_c2w"][-1, 1, 3]
    up = env.step(DOWN * -0.5)[4]
    assert not up["blocked"] and (up["achieved_c2w"] == up["c2w"]).all()
    futures = env.unwrapped.fork(2)
    moves = np.stack([DOWN, STILL])
    assert futures.step(moves)[4]["blocked"].tolist() == [True, False]


def test_longer_clips_are_stopped_at_the_same_place(world):
    long, short = make(world, collision="stop", poses_per_clip=8), make(world, collision="stop")
    ahead = np.concatenate([DOWN, DOWN])
    ahead[:, 1], ahead[:, 2] = 0.1, 0.4
    whole = long.step(ahead)[4]["achieved_c2w"]
    parts = np.concatenate([short.step(part)[4]["achieved_c2w"] for part in (ahead[:4], ahead[4:])])
    assert np.allclose(whole, parts, atol=1e-3)
