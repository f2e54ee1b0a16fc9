"""With collision="stop" a camera stops before surfaces, still turns, and flies on from there."""

import gymnasium as gym
import numpy as np
import pytest

import cc2env
from cc2env import rewards
from cc2env.env import CameraCtrlWorldEnv

HOME = np.eye(4, dtype=np.float32)
STILL = np.zeros((4, 6), np.float32)
DOWN = STILL.copy()
DOWN[:, 1] = 0.5


def test_a_camera_stops_above_the_ground_and_goes_on_from_there(world, make):
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


def test_a_stopped_camera_still_turns(world, make):
    env = make(world, collision="stop")
    env.step(DOWN)
    action = DOWN.copy()
    action[:, 4] = 0.1
    info = env.step(action)[4]
    assert info["blocked"] and rewards.rotation_angle(info["achieved_c2w"][-1], HOME) == pytest.approx(0.4, abs=1e-5)


def test_where_nothing_is_in_the_way_nothing_changes(world, make):
    env, free = make(world, collision="stop"), make(world)
    for action in (DOWN * -0.2, STILL):
        one, other = env.step(action), free.step(action)
        assert (one[0] == other[0]).all() and not one[4]["blocked"]


def test_a_world_that_knows_no_free_space_cannot_stop_anything(flat_world, make):
    with pytest.raises(ValueError, match=r'^collision: expected "none", FlatWorld does not know its free space'):
        CameraCtrlWorldEnv(flat_world, collision="stop")
    info = make(flat_world).step(DOWN)[4]
    assert not info["blocked"] and (info["achieved_c2w"] == info["c2w"]).all()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["tiny", "small"])
def test_a_shipped_world_stops_a_camera_by_what_it_sees(name):
    """Fails, too, when its encoder was trained anew and its depth head was not: `python -m model.cli.train_depth`."""
    env, through = (gym.make(cc2env.ENV_ID, world=name, sampler_steps=1, collision=how) for how in ("stop", "none"))
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


def test_longer_clips_are_stopped_at_the_same_place(world, make):
    long, short = make(world, collision="stop", poses_per_clip=8), make(world, collision="stop")
    ahead = np.concatenate([DOWN, DOWN])
    ahead[:, 1], ahead[:, 2] = 0.1, 0.4
    whole = long.step(ahead)[4]["achieved_c2w"]
    parts = np.concatenate([short.step(part)[4]["achieved_c2w"] for part in (ahead[:4], ahead[4:])])
    assert np.allclose(whole, parts, atol=1e-3)
