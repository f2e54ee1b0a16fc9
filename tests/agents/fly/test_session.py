"""A session: branches of an episode, each the same bytes however one comes to it."""

from dataclasses import replace

import gymnasium as gym
import numpy as np
import pytest

import cc2env
from agents.fly import command
from agents.fly.command import FlyConfig
from agents.fly.session import ROOT, Session, open_session
from agents.fly.settings import Settings, read_settings


@pytest.fixture
def session():
    opened = open_session(Settings(world="synthetic", seed=3))
    yield opened
    opened.close()


def test_a_session_shows_what_the_environment_shows(session):
    env = gym.make(cc2env.ENV_ID, world="synthetic")
    first, _ = env.reset(seed=3)
    assert np.array_equal(session.clips[ROOT].frames, first[:1])
    forward = np.zeros((4, 6), np.float32)
    forward[:, 2] = 0.3  # half the bound, as the key map says
    assert np.array_equal(session.fly(ROOT, "forward").frames, env.step(forward)[0])


def test_snapshots_are_held_up_to_a_size_and_the_first_frames_and_the_latest_always(session):
    size = session.clips[ROOT].snapshot.num_bytes
    assert size > session.clips[ROOT].snapshot.session.frames.nbytes

    def held(limit, *keys):
        session._most_snapshot_bytes, at = limit, ROOT
        for key in keys:
            at = session.fly(at, key).index
        return [index for index, clip in session.clips.items() if clip.snapshot is not None], at

    indices, last = held(0, "forward", "left", "back", "right")
    assert indices == [ROOT, last]
    indices, last = held(2 * size, "back", "up", "left", "up")
    assert indices == [ROOT, last - 2, last - 1, last]


def test_branches_come_back_to_the_same_bytes_when_their_snapshots_are_forgotten(session):
    session._most_snapshots = 1
    keys = ["forward", "pan_left", "forward", "left"]
    at, way = ROOT, []
    for key in keys:
        way.append(session.fly(at, key))
        at = way[-1].index
    other = session.fly(way[0].index, "back")
    assert other.parent == way[0].index and not np.array_equal(other.frames, way[1].frames)
    assert sum(clip.snapshot is not None for clip in session.clips.values()) <= 3  # of the first frame, here, and one
    again = open_session(Settings(world="synthetic", seed=3))
    at = ROOT
    for clip, key in zip(way, keys, strict=True):
        assert np.array_equal(clip.frames, again.fly(at, key).frames)
        at = clip.index
    # from where the snapshot is gone: flown again from the first frame
    onward = session.fly(way[-1].index, "up")
    assert np.array_equal(onward.frames, again.fly(at, "up").frames)
    assert [clip.key for clip in session.path(onward.index)] == ["", *keys, "up"]


def test_a_branch_that_is_there_is_not_made_again(session):
    clip = session.fly(ROOT, "left")
    assert session.fly(ROOT, "left") is clip and len(session.clips) == 2


def test_only_what_nobody_has_seen_is_dropped(session):
    seen, ahead = session.fly(ROOT, "left"), session.fly(ROOT, "right")
    seen.was_shown = True
    assert not session.drop(seen.index) and session.drop(ahead.index) and not session.drop(ahead.index)
    assert not session.drop(ROOT) and set(session.clips) == {ROOT, seen.index}
    assert session.fly(ROOT, "right").index != ahead.index


def test_what_is_wrong_changes_nothing(session):
    clip = session.fly(ROOT, "left")
    for parent, key in ((99, "left"), (True, "left"), (ROOT, "jump"), ("0", "left"), (None, "left")):
        with pytest.raises(ValueError, match="expected one of"):
            session.fly(parent, key)
    with pytest.raises(ValueError, match="image"):
        session.reset(1, {"image": "missing.png"})
    assert set(session.clips) == {ROOT, clip.index} and session.seed == 3


def test_a_full_session_says_so(session):
    clip = session.fly(ROOT, "left")
    for limit in ("_most_clips", "_most_bytes"):
        before, _ = getattr(session, limit), setattr(session, limit, 2)
        with pytest.raises(ValueError, match=r"full \(2 clips\)"):
            session.fly(clip.index, "left")
        setattr(session, limit, before)


def test_an_episode_that_is_over_can_only_be_left_by_going_back():
    session = open_session(Settings(world="synthetic", task="LoopClosure"))
    assert isinstance(session, Session)
    clip = session.fly(ROOT, "forward")
    clip.is_over = True
    with pytest.raises(ValueError, match="over"):
        session.fly(clip.index, "forward")
    session.fly(ROOT, "back")
    session.close()


def test_settings_of_a_page_are_checked():
    assert read_settings({"world": "tiny", "seed": 5, "prompt": ""}, ["tiny"], None) == Settings(seed=5)
    for wrong in (
        {"world": "/etc"},
        {"world": ["tiny"]},
        {"sampler": "worst"},
        {"task": None},
        {"seed": True},
        {"seed": 2**31},
        {"seed": "1"},
        {"prompt": 3},
        {"prompt": "x" * 501},
    ):
        with pytest.raises(ValueError, match=r"expected"):
            read_settings(wrong, ["tiny"], None)
    # the file of the first frame is never the page's to name
    assert read_settings({"image": "/etc/passwd"}, ["tiny"], None).image is None


def test_the_command_chooses_the_sampler_that_keeps_real_time(monkeypatch):
    served = []
    monkeypatch.setattr(command, "_serve", lambda config, settings, flight: served.append(settings.sampler))
    for config in (FlyConfig(), FlyConfig(world="tiny"), FlyConfig(world="synthetic"), FlyConfig(sampler="quality")):
        command.fly(config)
    assert served == ["fast", "default", "default", "quality"]
    # nor is the device
    assert read_settings({"device": "cuda"}, ["tiny"], None).device == "cpu"
    assert read_settings({"device": "cpu"}, ["tiny"], None, "cuda:1").device == "cuda:1"


def test_a_world_computes_where_the_command_says_and_the_renderer_on_the_cpu():
    settings = Settings(world="synthetic", device="nowhere")
    open_session(settings).close()
    assert not settings.has_env_of(replace(settings, device="cpu"))
    with pytest.raises(ValueError, match=r"device: expected one that torch can use here, got 'nowhere'"):
        open_session(replace(settings, world="tiny"))
