"""The recorder keeps every frame and the pose of each; pictures show what they should."""

import os

import gymnasium as gym
import imageio_ffmpeg
import numpy as np
import pytest
import torch
from PIL import Image

import cc2env
from cc2env.env import CameraCtrlWorldEnv
from cc2env.files import whole_file
from cc2env.geometry import CameraTrajectory, read_realestate10k
from cc2env.pictures import load_picture
from cc2env.recording import write_film
from cc2env.rendering import contact_sheet, trajectory_picture
from cc2env.wrappers import RecordEpisode, record_episode


def read_film(path):
    reader = imageio_ffmpeg.read_frames(str(path))
    width, height = next(reader)["size"]
    return np.stack([np.frombuffer(frame, np.uint8).reshape(height, width, 3) for frame in reader])


def fly(env, num_clips, seed=0):
    frames = [env.reset(seed=seed)[0][:1]]
    env.action_space.seed(seed)
    for _ in range(num_clips):
        frames.append(env.step(env.action_space.sample() * 0.2)[0])
    return np.concatenate(frames)


@pytest.mark.parametrize(
    ("world", "size"),
    [("synthetic", (48, 80)), ("tiny", (48, 80)), pytest.param("small", (96, 160), marks=pytest.mark.slow)],
)
def test_every_frame_comes_back_from_the_film(world, size, tmp_path):
    env = RecordEpisode(gym.make(cc2env.ENV_ID, world=world), tmp_path)
    frames = fly(env, 2)
    env.close()
    film = read_film(tmp_path / "episode-0000.mp4")
    assert film.shape == frames.shape == (33, *size, 3)
    assert np.abs(film.astype(int) - frames).mean() < 4  # H.264 with half-resolution colours
    each_to_each = np.abs(film[:, None].astype(int) - frames[None]).mean(axis=(2, 3, 4))
    assert (each_to_each.argmin(axis=1) == np.arange(33)).mean() > 0.9  # in order
    assert sum(frame_duration(tmp_path / "episode-0000.gif")) == pytest.approx(33 * 1000 / 12, rel=0.05)
    suffixes = {"mp4", "gif", "txt"} | ({"json"} if world != "synthetic" else set())  # the renderer has no prompts
    assert {file.name for file in tmp_path.iterdir()} == {f"episode-0000.{s}" for s in suffixes}


def frame_duration(path):
    with Image.open(path) as gif:
        for index in range(gif.n_frames):
            gif.seek(index)
            yield gif.info["duration"]


def test_every_frame_has_its_pose(flat_world, tmp_path):
    env = RecordEpisode(CameraCtrlWorldEnv(flat_world), tmp_path, formats=[".mp4"])
    env.reset(seed=0)
    action = np.zeros((4, 6), np.float32)
    action[:, 2], action[:, 4] = 0.4, 0.1
    env.step(action)
    env.step(action)
    expected = CameraTrajectory.from_twists(torch.eye(4), torch.from_numpy(action[0] / 4).expand(32, 6), torch.ones(4))
    assert torch.allclose(env.frame_trajectory().c2w, expected.c2w, atol=1e-5)
    env.close()
    written = read_realestate10k(tmp_path / "episode-0000.txt")
    assert torch.allclose(written.trajectory.c2w, expected.c2w, atol=1e-5)
    assert written.timestamps[:3] == (0, 83333, 166667) and len(written.timestamps) == 33
    assert torch.allclose(written.trajectory.intrinsics[0], torch.tensor(flat_world.spec.intrinsics))


def test_an_episode_is_written_at_its_end_at_reset_and_at_close(flat_world, tmp_path):
    env = RecordEpisode(gym.wrappers.TimeLimit(CameraCtrlWorldEnv(flat_world), 2), tmp_path, formats=[], prefix="e")
    names = lambda: sorted(file.name for file in tmp_path.iterdir())  # noqa: E731
    fly(env, 1)
    assert names() == []
    fly(env, 2)
    assert names() == ["e-0000.txt", "e-0001.txt"]
    env.reset()
    env.reset()
    fly(env, 1)
    env.close()
    env.close()
    assert names() == ["e-0000.txt", "e-0001.txt", "e-0004.txt"]


def test_only_every_nth_episode_is_recorded(flat_world, tmp_path):
    env = RecordEpisode(CameraCtrlWorldEnv(flat_world), tmp_path, formats=[], every=2)
    for _ in range(4):
        fly(env, 1)
    env.close()
    assert sorted(file.name for file in tmp_path.iterdir()) == ["episode-0000.txt", "episode-0002.txt"]


def names(folder):
    return sorted(file.name for file in folder.iterdir())


def test_a_prefix_may_have_dots(flat_world, tmp_path):
    env = RecordEpisode(CameraCtrlWorldEnv(flat_world), tmp_path, prefix="lr0.1", formats=[".gif"])
    for _ in range(2):
        fly(env, 1)
    env.close()
    assert names(tmp_path) == [f"lr0.1-{n:04d}{suffix}" for n in (0, 1) for suffix in (".gif", ".txt")]


@pytest.mark.parametrize("prefix", ["../x", "a/../../x", "/tmp/x", "link/x", "a\0b"])
def test_a_prefix_stays_in_its_folder(flat_world, tmp_path, prefix):
    folder = tmp_path / "films"
    folder.mkdir()
    (folder / "link").symlink_to(tmp_path)
    with pytest.raises(ValueError, match=r"^prefix: expected the beginning of a name inside"):
        RecordEpisode(CameraCtrlWorldEnv(flat_world), folder, prefix=prefix)
    assert names(tmp_path) == ["films"]


def test_a_prefix_may_name_a_folder_inside(flat_world, tmp_path):
    env = RecordEpisode(CameraCtrlWorldEnv(flat_world), tmp_path, prefix="day/one", formats=[])
    fly(env, 1)
    env.close()
    assert names(tmp_path / "day") == ["one-0000.txt"]


def test_earlier_recordings_are_kept(flat_world, tmp_path):
    (tmp_path / "episode-0003.gif").write_text("not mine")
    (tmp_path / "episode-extra-0009.txt").write_text("of another prefix")
    for _ in range(2):
        env = RecordEpisode(CameraCtrlWorldEnv(flat_world), tmp_path, formats=[], every=2)
        for _ in range(3):
            fly(env, 1)
        env.close()
    assert env.episode == 2
    assert [name[8:12] for name in names(tmp_path)] == ["0003", "0004", "0006", "0007", "0009", "extr"]


def test_recorders_share_a_folder(flat_world, tmp_path):
    envs = [RecordEpisode(CameraCtrlWorldEnv(flat_world), tmp_path, formats=[]) for _ in range(2)]
    for _ in range(2):
        for clips, env in enumerate(envs, 1):
            fly(env, clips)
    for env in envs:
        env.close()
    lengths = [len(read_realestate10k(path).timestamps) for path in sorted(tmp_path.iterdir())]
    assert names(tmp_path) == [f"episode-000{n}.txt" for n in range(4)] and lengths == [17, 33, 17, 33]


@pytest.mark.parametrize("same_number", [False, True])
def test_a_clip_from_elsewhere_ends_the_recording(flat_world, tmp_path, same_number):
    """Whether the snapshot is of an earlier clip, or of as many clips along another way."""
    env = RecordEpisode(CameraCtrlWorldEnv(flat_world), tmp_path, formats=[])
    action = np.full((4, 6), 0.1, np.float32)
    env.reset(seed=0)
    other = env.unwrapped.snapshot()
    if same_number:
        env.unwrapped.step(-action)
        other, start = env.unwrapped.snapshot(), other
        env.unwrapped.restore(start)
    env.step(action)
    env.unwrapped.restore(env.unwrapped.snapshot())  # leads nowhere else
    expected = env.step(action)[4]["c2w"]
    env.unwrapped.restore(other)
    for _ in range(3):  # until it has come to the number that would have been next
        env.step(-action)
    with pytest.raises(ValueError, match=r"^frame_trajectory: expected a recorded episode"):
        env.frame_trajectory()
    written = read_realestate10k(tmp_path / "episode-0000.txt").trajectory.c2w
    assert len(written) == 33 and np.allclose(written[20::4], expected, atol=1e-6)
    fly(env, 1)
    env.close()
    assert names(tmp_path) == ["episode-0000.txt", "episode-0001.txt"]


def test_a_write_that_fails_leaves_nothing_behind(flat_world, tmp_path, monkeypatch):
    def full(path, *_):
        path.write_text("half")
        raise OSError(28, "No space left on device")

    env = RecordEpisode(CameraCtrlWorldEnv(flat_world), tmp_path, formats=[".gif"])
    fly(env, 2)
    with monkeypatch.context() as patched, pytest.raises(OSError, match="No space left"):
        patched.setattr(record_episode, "write_film", full)
        env.reset(seed=1)
    assert names(tmp_path) == []
    env.step(np.zeros((4, 6), np.float32))  # an episode whose reset failed is not recorded
    fly(env, 1)
    env.close()
    assert names(tmp_path) == ["episode-0001.gif", "episode-0001.txt"]
    assert len(read_realestate10k(tmp_path / "episode-0001.txt").timestamps) == 17


def test_a_failed_step_is_not_in_the_film(flat_world, tmp_path):
    env = RecordEpisode(CameraCtrlWorldEnv(flat_world), tmp_path, formats=[])
    fly(env, 1)
    with pytest.raises(ValueError):
        env.step(np.full((4, 6), np.nan))
    env.step(np.zeros((4, 6), np.float32))
    assert len(env.frame_trajectory()) == 33


def test_what_cannot_be_recorded_is_an_error(flat_world, tmp_path):
    env = CameraCtrlWorldEnv(flat_world)
    with pytest.raises(ValueError, match=r"^env: expected observations uint8 \(frames"):
        RecordEpisode(gym.wrappers.FlattenObservation(env), tmp_path)
    with pytest.raises(ValueError, match=r"^formats: .*avi"):
        RecordEpisode(env, tmp_path, formats=[".avi"])
    for name in ("every", "scale"):
        with pytest.raises(ValueError, match=rf"^{name}: expected an integer of at least 1, got 0"):
            RecordEpisode(env, tmp_path, **{name: 0})


def test_the_wrapper_is_named_in_the_spec(tmp_path):
    env = RecordEpisode(gym.make(cc2env.ENV_ID, world="synthetic"), tmp_path, formats=[])
    twin = gym.make(env.spec)
    assert isinstance(twin, RecordEpisode) and twin.formats == ()


@pytest.mark.parametrize("size", [(48, 80), (49, 81)])
def test_films_of_any_size_keep_all_frames(tmp_path, size):
    frames = np.random.default_rng(0).integers(0, 255, (5, *size, 3), dtype=np.uint8)
    assert read_film(write_film(tmp_path / "film.mp4", frames, 12)).shape == frames.shape
    assert read_film(write_film(tmp_path / "large.mp4", frames, 12, scale=2)).shape[1:3] == (size[0] * 2, size[1] * 2)


def test_a_film_that_fails_leaves_the_old_one(tmp_path):
    path = tmp_path / "film.mp4"
    path.write_text("old")
    with pytest.raises(RuntimeError), whole_file(path) as partial:
        partial.write_text("half")
        raise RuntimeError
    assert path.read_text() == "old" and list(tmp_path.iterdir()) == [path]
    for name, frames, scale in (("film.avi", 2, 1), ("film.mp4", 0, 1), ("film.mp4", 2, 0)):
        with pytest.raises(ValueError, match=r"^(path|frames|scale): expected"):
            write_film(tmp_path / name, np.zeros((frames, 6, 10, 3), np.uint8), 12, scale)


def test_a_contact_sheet_shows_each_clip_in_its_row():
    clips = [np.full((16, 48, 80, 3), value, np.uint8) for value in (60, 120, 240)]
    sheet = np.asarray(contact_sheet(clips, ["a", "b", "c"], columns=4))
    rows = [np.asarray(sheet[int(sheet.shape[0] * (i + 0.6) / 3), 50]) for i in range(3)]
    assert [row.tolist() for row in rows] == [[60] * 3, [120] * 3, [240] * 3]
    with pytest.raises(ValueError, match=r"^labels: expected 3"):
        contact_sheet(clips, ["a"])
    with pytest.raises(ValueError, match=r"^clips: expected at least one"):
        contact_sheet([])


def test_a_plan_can_be_drawn_of_any_path():
    still = np.tile(np.eye(4, dtype=np.float32), (2, 1, 1))
    far = still.copy()
    far[1, :3, 3] = (40, -3, 10)
    for c2w in (still, far, still[:1]):
        picture = np.asarray(trajectory_picture(c2w, np.array([0.65, 1.09, 0.5, 0.5], np.float32)))
        assert picture.shape[2] == 3 and picture.std() > 5


# first frames


@pytest.mark.parametrize("suffix", [".png", ".tif", ".pgm"])
def test_sixteen_bits_of_grey_become_eight(tmp_path, suffix):
    ramp = np.linspace(0, 65535, 96).reshape(8, 12).astype(np.uint16)
    Image.fromarray(ramp).save(tmp_path / f"grey{suffix}")
    expected = np.round(ramp / 257)[..., None].repeat(3, axis=2)
    assert (load_picture(tmp_path / f"grey{suffix}", 8, 12) == expected).all()


@pytest.mark.parametrize("dtype", [np.float32, np.int32])
def test_thirty_two_bits_are_refused(tmp_path, dtype):
    Image.fromarray(np.ones((8, 12), dtype)).save(tmp_path / "deep.tif")
    with pytest.raises(ValueError, match=r"^image: expected 8 or 16 bits .*deep.tif .*; save it as 8-bit PNG or JPEG"):
        load_picture(tmp_path / "deep.tif", 8, 12)


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_what_is_transparent_is_white(tmp_path, mode):
    pixels = np.zeros((8, 12, 4), np.uint8)
    pixels[:, 6:, 3] = 255
    Image.fromarray(pixels).convert(mode).save(tmp_path / "alpha.png")
    loaded = load_picture(tmp_path / "alpha.png", 8, 12)
    assert (loaded[:, :6] == 255).all() and (loaded[:, 6:] == 0).all()


def test_no_pipe_device_or_folder_is_read_as_a_picture(tmp_path):
    os.mkfifo(tmp_path / "pipe.png")  # nobody writes: opening it would wait for ever
    (tmp_path / "loop.png").symlink_to(tmp_path / "loop.png")
    for path in (tmp_path / "pipe.png", tmp_path / "loop.png", tmp_path, "/dev/zero", "a\0.png", "x" * 5000):
        with pytest.raises(ValueError, match=r"^image: expected a picture file, got "):
            load_picture(path, 8, 12)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("side", [12_000, 30_000])
def test_a_picture_that_would_fill_the_memory_is_not_decoded(tmp_path, side):
    Image.new("1", (side, side)).save(tmp_path / "bomb.png")
    with pytest.raises(ValueError, match=r"^image: expected a readable picture file, got .*bomb.png"):
        load_picture(tmp_path / "bomb.png", 8, 12)
