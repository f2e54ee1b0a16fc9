"""A viewer shows every episode, changes nothing, and who flies never waits for who watches."""

import json
import time

import gymnasium as gym
import numpy as np
import pytest
from websockets.sync.client import connect

import cc2env
from cc2env.viewer import EpisodePage, Viewer


def watch(page):
    return connect(page.address.replace("http", "ws") + "tab")


def read(socket):
    """The next message: JSON, or the numbers of a clip."""
    message = socket.recv(timeout=30)
    if isinstance(message, str):
        return json.loads(message)
    length = int.from_bytes(message[:4], "big")
    assert message[4 + length :].startswith(b"\xff\xd8")  # a JPEG
    return json.loads(message[4 : 4 + length])


@pytest.fixture
def env():
    made = Viewer(gym.make("CameraCtrlWorld-GoalView-v0", world="synthetic"))
    yield made
    made.close()


def test_it_changes_nothing(env):
    plain = gym.make("CameraCtrlWorld-GoalView-v0", world="synthetic")
    assert np.array_equal(env.reset(seed=3)[0], plain.reset(seed=3)[0])
    action = np.full((4, 6), 0.1, np.float32)
    (seen, reward, *_), (expected, expected_reward, *_) = env.step(action), plain.step(action)
    assert np.array_equal(seen, expected) and reward == expected_reward


def test_a_tab_sees_the_episode_and_the_task(env):
    with watch(env) as socket:
        assert read(socket) == {"type": "hello", "mode": "watch"}
        _, info = env.reset(seed=3)
        assert read(socket) == {"type": "opened", "fps": 12.0}
        start = read(socket)
        assert (start["clip"], start["parent"], start["frames"]) == (1, None, 1)
        assert np.allclose(start["goal"][0], info["goal_c2w"][:3].ravel(), atol=1e-3)
        *_, info = env.step(np.full((4, 6), 0.1, np.float32))
        clip = read(socket)
        assert (clip["clip"], clip["parent"], clip["frames"], clip["height"], clip["width"]) == (2, 1, 16, 48, 80)
        assert np.allclose(clip["achieved"], info["achieved_c2w"][:, :3].reshape(4, 12), atol=1e-3)


def test_a_slow_tab_gets_the_latest_clip_and_the_whole_path(env):
    action = np.full((4, 6), 0.05, np.float32)
    with watch(env) as socket:
        read(socket)
        env.reset(seed=3)
        assert [read(socket)["type"], read(socket)["clip"]] == ["opened", 1]
        env.step(action)
        assert read(socket)["clip"] == 2
        paths = [env.step(action)[-1]["achieved_c2w"] for _ in range(3)]  # not sent: clip 2 has not begun to play
        socket.send(json.dumps({"type": "playing", "clip": 2}))
        clip = read(socket)
        assert (clip["clip"], clip["parent"]) == (5, 2)
        assert np.allclose(clip["achieved"], np.concatenate(paths)[:, :3].reshape(12, 12), atol=1e-3)
        env.reset(seed=4)  # a new episode is shown at once
        assert [read(socket)["type"], read(socket)["clip"]] == ["opened", 6]


def test_who_flies_never_waits():
    """A thousand clips are shown in a second, with a tab that never answers."""
    page = EpisodePage()
    frames = np.zeros((16, 48, 80, 3), np.uint8)
    pose = np.tile(np.eye(4, dtype=np.float32), (4, 1, 1))
    info = {"c2w": pose, "achieved_c2w": pose, "intrinsics": np.ones(4, np.float32), "blocked": False, "prompt": ""}
    info["function_evaluations"] = 0
    with watch(page) as socket:
        read(socket)
        page.show(frames[:1], info, fps=12, is_start=True)
        started = time.perf_counter()
        for _ in range(1000):
            page.show(frames, info, fps=12)
        assert time.perf_counter() - started < 5  # most machines need a tenth of it
    page.close()


def test_it_needs_clips():
    with pytest.raises(ValueError, match="observations"):
        Viewer(cc2env.wrappers.LastFrame(gym.make(cc2env.ENV_ID, world="synthetic")))
