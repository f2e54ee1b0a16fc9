"""How long a decision is: a multiple of the world's clip, and a copy of a learned world may have shorter ones."""

import shutil
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest

import cc2env
from model.world.config import read_world_config


@pytest.mark.parametrize("poses", [1, 2])
def test_a_learned_world_flies_shorter_clips(learned_folder, tmp_path, poses):
    folder = tmp_path / "short"
    shutil.copytree(learned_folder, folder)
    text = (folder / "world.yaml").read_text()
    (folder / "world.yaml").write_text(text.replace("poses_per_clip: 4", f"poses_per_clip: {poses}"))
    assert read_world_config(folder).poses_per_clip == poses
    env = gym.make(cc2env.ENV_ID, world=str(folder))
    env.reset(seed=0)
    assert env.action_space.shape == (poses, 6)
    for clip in (1, 2):
        frames, *_, info = env.step(np.full((poses, 6), 0.1, np.float32))
        assert frames.shape == (4 * poses, 16, 32, 3)
        assert info["seconds"] == pytest.approx(clip * 4 * poses / 12)


def test_the_page_says_why_and_what_else_there_is():
    page = (Path(cc2env.__file__).parent / "README.md").read_text(encoding="utf-8")
    reasons = page.split("### Why a decision is 16 frames")[1].split("\n## ")[0]
    for offer in ("LastFrame", "FrameSkip", "SingleTwist", "DiscreteActions", "poses_per_clip=8", "poses_per_clip: 2"):
        assert f"`{offer}`" in reasons


def test_a_length_that_the_world_does_not_have_says_what_to_do(learned_folder):
    with pytest.raises(ValueError, match=r"^poses_per_clip: expected a positive multiple of 4.*world\.yaml"):
        gym.make(cc2env.ENV_ID, world=learned_folder, poses_per_clip=2)
