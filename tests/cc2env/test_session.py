"""A session: rows are independent, poses compose on SE(3), failures change nothing, snapshots are exact."""

import numpy as np
import pytest
import torch

from cc2env.actions import to_poses
from cc2env.options import EnvOptions
from cc2env.session import Session
from cc2env.task_runner import make_task_config
from model.geometry import se3


def forward(metres, rows=1, poses=4):
    twists = np.zeros((rows, poses, 6), dtype=np.float32)
    twists[..., 2] = metres
    return twists


def test_frames_follow_seed_time_and_pose(flat_world):
    session = Session(flat_world)
    first = session.reset([7])
    assert first.shape == (1, 6, 10, 3) and (first == [7, 0, 100]).all()
    clip = session.step(forward(0.1))
    assert (clip[0, :, 0, 0, 0] == 7).all()
    assert clip[0, :, 0, 0, 1].tolist() == list(range(1, 17))
    assert clip[0, :, 0, 0, 2].tolist() == [105] * 4 + [110] * 4 + [115] * 4 + [120] * 4
    assert session.seconds().tolist() == pytest.approx([16 / 12])


def test_the_default_type_of_the_process_has_no_say(small_world):
    """Also before the first reset, when a snapshot of another session is restored."""
    twists, other = forward(0.1), Session(small_world, task_config=make_task_config("Explore"))
    other.reset([7])
    kept, clip = other.snapshot(), other.step(twists)
    torch.set_default_dtype(torch.float64)
    try:
        session = Session(small_world, task_config=make_task_config("Explore"))
        session.restore(kept)
        assert (session.step(twists) == clip).all()
        session.reset([7])
        assert (session.step(twists) == clip).all()
        assert session.current.episode_data["reward"] == other.current.episode_data["reward"]
    finally:
        torch.set_default_dtype(torch.float32)


def test_poses_are_the_exponentials_one_after_another():
    start = se3.exp(torch.randn(2, 6))
    twists = torch.randn(2, 4, 6) * 0.2
    poses = to_poses(start, twists)
    pose = start
    for index in range(4):
        pose = pose @ se3.exp(twists[:, index])
        assert torch.allclose(poses[:, index], pose, atol=1e-5)


def test_a_longer_clip_is_several_of_the_worlds_segments(flat_world):
    long, short = Session(flat_world, options=EnvOptions(poses_per_clip=8)), Session(flat_world)
    twists = np.random.default_rng(0).uniform(-0.1, 0.1, (1, 8, 6)).astype(np.float32)
    long.reset([3]), short.reset([3])
    whole = long.step(twists)
    parts = np.concatenate([short.step(twists[:, :4]), short.step(twists[:, 4:])], axis=1)
    assert (whole == parts).all() and long.evaluations.tolist() == [16] and long.current.clip_index.tolist() == [1]
    # float32 state between segments against one float64 chain: the last digit may differ
    assert torch.allclose(long.current.commanded[:, 4:], short.current.commanded, atol=1e-6)


@pytest.mark.parametrize("poses_per_clip", [0, -4, 3, 6])
def test_clip_lengths_that_the_world_cannot_make_are_errors(flat_world, poses_per_clip):
    with pytest.raises(ValueError, match=r"poses_per_clip: expected a positive multiple of 4"):
        Session(flat_world, options=EnvOptions(poses_per_clip=poses_per_clip))


def test_resetting_one_row_leaves_the_others_alone(flat_world):
    session = Session(flat_world, num_rows=3)
    session.reset([1, 2, 3])
    session.step(forward(0.1, rows=3))
    first = session.reset([9], rows=[1])
    assert (first[0, 0, 0] == [9, 0, 100]).all()
    assert session.current.clip_index.tolist() == [1, 0, 1]
    clip = session.step(forward(0.1, rows=3))
    assert clip[:, 0, 0, 0].tolist() == [[1, 17, 125], [9, 1, 105], [3, 17, 125]]


def test_a_failed_step_changes_nothing(flat_world):
    session = Session(flat_world)
    session.reset([1])
    session.step(forward(0.1))
    before = session.snapshot()
    flat_world.fails = True
    with pytest.raises(RuntimeError):
        session.step(forward(0.2))
    flat_world.fails = False
    after = session.snapshot()
    assert torch.equal(before.commanded, after.commanded) and torch.equal(before.state.c2w, after.state.c2w)
    assert session.step(forward(0.1))[0, 0, 0, 0].tolist() == [1, 17, 125]


def test_a_snapshot_can_be_restored_again_and_again(flat_world):
    session = Session(flat_world, num_rows=2)
    session.reset([1, 2])
    session.step(forward(0.1, rows=2))
    kept = session.snapshot()
    once = session.step(forward(0.3, rows=2))
    for _ in range(2):
        session.restore(kept)
        assert session.current.clip_index.tolist() == [1, 1]
        assert (session.step(forward(0.3, rows=2)) == once).all()


def test_a_snapshot_of_another_size_is_an_error(flat_world):
    one, two = Session(flat_world), Session(flat_world, num_rows=2)
    one.reset([1]), two.reset([1, 2])
    with pytest.raises(ValueError, match=r"snapshot: expected 2 row"):
        two.restore(one.snapshot())
