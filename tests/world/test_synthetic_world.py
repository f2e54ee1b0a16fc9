"""The synthetic world is the renderer seen through the protocol."""

import numpy as np
import pytest
import torch

from model.data.clips import ClipSetConfig, render_record
from model.data.synthetic.renderer import render
from model.geometry import se3
from model.geometry.trajectory import frame_poses
from model.world.synthetic_world import SyntheticWorld


def test_it_flies_through_the_very_scenes_of_the_training_set() -> None:
    record = render_record(ClipSetConfig(num_latents=9, height=16, width=32), seed=12)
    world = SyntheticWorld(height=16, width=32)
    state, first = world.start([12])
    poses = torch.from_numpy(record.poses)[None]
    state, clip_1 = world.extend(state, poses[:, 1:5])
    _, clip_2 = world.extend(state, poses[:, 5:9])
    flown = torch.cat([first, clip_1, clip_2], dim=1)[0].numpy()
    # poses relative to the first one are rounded once more: an edge may move by a sample of a pixel here and there
    difference = np.abs(flown.astype(int) - record.frames.astype(int))
    assert (difference > 1).mean() < 1e-3


def test_depth_and_motion_come_with_the_frames() -> None:
    world = SyntheticWorld(height=16, width=32)
    state, _ = world.start([3, 4])
    segment = torch.eye(4).repeat(2, 4, 1, 1)
    frames = world.extend(state, segment)[1]
    clips = [render(*view) for view in world._views(state, segment)]
    for row, clip in enumerate(clips):
        assert np.array_equal(np.asarray(clip.frames), frames[row].numpy())
        assert clip.depth.shape == clip.moving_mask.shape == (16, 16, 32)


@pytest.mark.parametrize("setting", ["prompts", "images"])
def test_a_setting_without_effect_is_refused(setting: str) -> None:
    value = {"prompts": ["a red box"], "images": torch.zeros(1, 48, 80, 3, dtype=torch.uint8)}[setting]
    with pytest.raises(ValueError, match=f"^{setting}: expected None"):
        SyntheticWorld().start([1], **{setting: value})


def test_frames_lie_on_the_geodesics_between_commanded_poses() -> None:
    segment = se3.exp(torch.randn(2, 4, 6, generator=torch.Generator().manual_seed(0)) * 0.3)
    start = torch.eye(4).repeat(2, 1, 1)
    poses = frame_poses(start, segment, frames_per_pose=4)
    assert torch.equal(poses[:, 3::4], segment)
    halfway = se3.interpolate(segment[:, 0], segment[:, 1], 0.5)
    torch.testing.assert_close(poses[:, 5], halfway)
    torch.testing.assert_close(poses[:, 1], se3.interpolate(start, segment[:, 0], 0.5))
