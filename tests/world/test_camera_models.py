"""The page of open camera models: its class is a world, and what it says is refused is refused."""

import re
from pathlib import Path

import gymnasium as gym

import cc2env
from cc2env.testing import check_world

PAGE = (Path(__file__).parents[2] / "model" / "pretrained" / "camera_models.md").read_text(encoding="utf-8")
SNIPPETS = re.findall(r"^```python\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)


def test_the_page_s_class_keeps_the_protocol() -> None:
    names: dict[str, object] = {"__name__": "page"}
    exec(compile(SNIPPETS[-1], "camera_models.md", "exec"), names)
    world = names["ClipByClip"]()  # type: ignore[operator]
    check_world(world, other_process=False)
    env = gym.make(cc2env.ENV_ID, world=world)
    clip = env.reset(seed=3)[0]
    assert clip.shape == (80, 48, 80, 3)
    env.unwrapped.set_prompt("a lake")
    assert env.step(env.action_space.sample())[-1]["prompt"] == "a lake"
