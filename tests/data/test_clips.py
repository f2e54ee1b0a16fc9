"""Clip sets: rendered once, the same whoever renders them, resumed where a killed run stopped."""

import dataclasses
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from model.build import DataConfig
from model.cli.joint_training import with_random_units
from model.data.clips import ClipSet, ClipSetConfig, MirroredClipSet, open_clip_set, render_clip_set, render_record
from model.data.synthetic.captions import caption
from model.data.synthetic.scene import sample_scene, static_scene
from model.data.synthetic.trajectories import sample_trajectory
from model.geometry import se3
from model.geometry.camera import project

CONFIG = ClipSetConfig(num_clips=3, num_latents=2, height=16, width=24, shard_size=2)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("clips")
    render_clip_set(folder, CONFIG, num_workers=1)
    return folder


def test_a_shard_holds_what_its_scene_renders(folder: Path) -> None:
    clips = ClipSet(folder)
    record = render_record(CONFIG, CONFIG.first_seed + 2)
    assert len(clips) == 3
    assert np.array_equal(clips.frames(2), record.frames)
    assert np.array_equal(clips.poses[2].numpy(), record.poses)
    assert (clips.captions[2], clips.kinds[2], clips.seeds[2]) == (record.caption, record.kind, record.seed)
    assert record.frames.shape == (5, 16, 24, 3)


def test_poses_start_at_the_identity_and_are_rigid(folder: Path) -> None:
    poses = ClipSet(folder).poses
    assert torch.allclose(poses[:, 0], torch.eye(4).expand(3, 4, 4), atol=1e-6)
    se3.check_poses("poses", poses)


def test_a_mirror_image_shows_the_mirrored_world_through_the_mirrored_camera(folder: Path) -> None:
    clips, both = ClipSet(folder), MirroredClipSet(folder)
    assert len(both) == len(both.poses) == len(both.labelled) == 6 and both.captions[:3] == both.captions[3:]
    assert np.array_equal(both.frames(1), clips.frames(1))
    assert np.array_equal(both.frames(4)[:, :, 0], clips.frames(1)[:, :, -1])
    points = torch.randn(20, 1, 3) + torch.tensor([0.0, 0.0, 5.0])
    seen, depth = project(points, clips.poses[1], torch.tensor([0.6, 1.0, 0.45, 0.5]))
    mirrored, same_depth = project(
        points * torch.tensor([-1.0, 1, 1]), both.poses[4], torch.tensor([0.6, 1.0, 0.55, 0.5])
    )
    torch.testing.assert_close(mirrored[..., 0], 1 - seen[..., 0])
    torch.testing.assert_close((mirrored[..., 1], same_depth), (seen[..., 1], depth))
    torch.testing.assert_close(both.intrinsics[4, 2], 1 - both.intrinsics[1, 2])
    se3.check_poses("poses", both.poses)


def test_an_unfinished_shard_is_rendered_again_and_finished_ones_are_kept(folder: Path) -> None:
    before = (folder / "frames_00000.npy").stat().st_mtime_ns
    (folder / "records_00001.json").unlink()
    (folder / "frames_00001.npy").write_bytes(b"torn")
    clips = render_clip_set(folder, CONFIG, num_workers=1)
    assert (folder / "frames_00000.npy").stat().st_mtime_ns == before
    assert clips.frames(2).shape == (5, 16, 24, 3)


def test_another_configuration_is_refused(folder: Path) -> None:
    other = ClipSetConfig(num_clips=3, num_latents=2, height=24, width=24, shard_size=2)
    with pytest.raises(ValueError, match="expected a clip set of"):
        render_clip_set(folder, other, num_workers=1)


def stamps(folder: Path) -> dict[str, int]:
    return {path.name: path.stat().st_mtime_ns for path in folder.iterdir()}


def test_fewer_clips_than_a_set_holds_are_its_first_and_leave_it_as_it_is(folder: Path) -> None:
    before, whole = stamps(folder), ClipSet(folder)
    for number in (1, 2, 3):
        clips = render_clip_set(folder, dataclasses.replace(CONFIG, num_clips=number), num_workers=1)
        assert len(clips) == clips.config.num_clips == len(clips.poses) == len(clips.intrinsics) == number
        assert len(clips.kinds) == len(clips.seeds) == len(clips.labelled) == number
        assert len([clips.frames(row) for row in range(number)]) == number
        assert clips.name == str(number) and clips.captions == whole.captions[:number]
    both = MirroredClipSet(folder, 2)
    assert len(both) == 4 and both.name == "2_mirrored" and both.captions == 2 * whole.captions[:2]
    assert np.array_equal(both.frames(2), whole.frames(0)[:, :, ::-1])
    assert stamps(folder) == before and len(ClipSet(folder)) == 3
    with pytest.raises(ValueError, match=r"^num_clips: expected 1 to 3, .*, got 4"):
        ClipSet(folder, 4)
    with pytest.raises(ValueError, match=r"^data.clips.num_clips: expected at least 1, got 0"):
        render_clip_set(folder, dataclasses.replace(CONFIG, num_clips=0))


def test_a_set_grows_whole_shards_are_kept_and_the_last_one_is_filled(folder: Path, tmp_path: Path) -> None:
    grown = shutil.copytree(folder, tmp_path / "grown")
    before = stamps(grown)
    clips = render_clip_set(grown, dataclasses.replace(CONFIG, num_clips=5), num_workers=1)
    assert clips.seeds == [CONFIG.first_seed + i for i in range(5)]
    assert np.array_equal(clips.frames(3), render_record(CONFIG, CONFIG.first_seed + 3).frames)
    after = stamps(grown)
    assert {name for name in before if before[name] == after[name]} == {
        "frames_00000.npy", "poses_00000.npy", "records_00000.json"
    }  # fmt: skip
    assert len(ClipSet(grown)) == 5


def test_a_folder_without_clips_says_so(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="expected a clip set"):
        ClipSet(tmp_path)


def test_a_clip_set_that_is_read_is_opened_as_it_is_and_not_rendered_further(tmp_path: Path) -> None:
    render_clip_set(tmp_path, CONFIG, num_workers=1)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    for number in (CONFIG.num_clips - 1, CONFIG.num_clips, CONFIG.num_clips + 5):
        clips = open_clip_set(tmp_path, dataclasses.replace(CONFIG, num_clips=number))
        assert len(clips) == min(number, CONFIG.num_clips)
    with pytest.raises(ValueError, match=rf"^data.clips.fps: expected {CONFIG.fps}, that of the clips in .*, got 7"):
        open_clip_set(tmp_path, dataclasses.replace(CONFIG, fps=7.0))
    assert {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()} == before
    (tmp_path / "records_00000.json").unlink()
    with pytest.raises(FileNotFoundError, match=r"its part 0 is missing; finish rendering with .*render_into="):
        open_clip_set(tmp_path, CONFIG)


def test_without_moving_objects_the_scene_and_its_path_stay() -> None:
    config = ClipSetConfig(num_latents=9, height=16, width=24)
    for seed in range(3):
        moving, still = (
            render_record(dataclasses.replace(config, moving_objects=each), seed) for each in (True, False)
        )
        assert np.array_equal(moving.poses, still.poses) and not np.array_equal(moving.frames, still.frames)
        scene = static_scene(sample_scene(seed))
        assert still.caption == caption(scene) and all(item.motion is None for item in scene.objects)


def test_paths_that_are_mostly_forward_are() -> None:
    shares = {}
    for paths in ("balanced", "forward"):
        kinds = [sample_trajectory(sample_scene(seed), seed, 2, paths)[1] for seed in range(40)]
        shares[paths] = kinds.count("forward") / len(kinds)
    assert shares["forward"] > 0.6 > 0.3 > shares["balanced"]
    with pytest.raises(ValueError, match=r"^data.clips.paths: expected one of .*, got 'back'"):
        ClipSetConfig(paths="back")


def test_a_set_that_was_rendered_before_there_were_these_settings_goes_on(folder: Path, tmp_path: Path) -> None:
    old = shutil.copytree(folder, tmp_path / "old")
    held = json.loads((old / "clip_set.json").read_text())
    (old / "clip_set.json").write_text(
        json.dumps({k: v for k, v in held.items() if k not in ("moving_objects", "paths")})
    )
    assert len(render_clip_set(old, CONFIG, num_workers=1)) == 3


def test_units_are_drawn_for_each_scene() -> None:
    poses = torch.eye(4).repeat(3, 2, 1, 1)
    poses[:, 1, :3, 3] = torch.tensor([0.3, -0.4, 1.2])  # 1.3 metres
    scaled = with_random_units(poses, [5, 6, 5], 4.0)
    assert torch.equal(scaled[..., :3, :3], poses[..., :3, :3])
    assert torch.equal(with_random_units(poses, [5, 6, 5], 1), poses)
    factors = scaled[:, 1, :3, 3].norm(dim=-1) / 1.3
    torch.testing.assert_close(scaled[..., :3, 3], poses[..., :3, 3] * factors[:, None, None])
    assert factors[0] == factors[2] != factors[1]
    many = with_random_units(poses[:1].expand(400, -1, -1, -1), range(400), 4.0)[:, 1, :3, 3].norm(dim=-1)
    logs = (many / 1.3).log2()
    assert -2 <= logs.min() < -1.8 and 1.8 < logs.max() <= 2 and abs(logs.mean()) < 0.2


def test_settings_of_rendered_clips_have_no_effect_on_clips_that_are_read() -> None:
    for change in ({"moving_objects": False}, {"paths": "forward"}):
        with pytest.raises(ValueError, match=r"^data.clips.*no effect on clips that are read"):
            DataConfig(folder="films", clips=ClipSetConfig(**change))
    with pytest.raises(ValueError, match=r"^data.scale_spread: expected 1 or more"):
        DataConfig(scale_spread=0.5)
