"""The environment's README is right: every snippet runs, every table names what there is."""

import re
from pathlib import Path

import gymnasium as gym
import pytest

import cc2env
from cc2env import spaces, wrappers
from cc2env.wrappers import KEY_MAPS

README = (Path(cc2env.__file__).parent / "README.md").read_text(encoding="utf-8")
SNIPPETS = re.findall(r"^```python\n(.*?)^```", README, re.MULTILINE | re.DOTALL)


@pytest.mark.slow
def test_every_snippet_runs_after_the_ones_before_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    for number, snippet in enumerate(SNIPPETS):
        exec(compile(snippet, f"README snippet {number}", "exec"), names)
    assert len(SNIPPETS) == README.count("```python") >= 7
    assert {path.suffix for path in (tmp_path / "films").iterdir()} == {".mp4", ".gif", ".txt"}
    assert (tmp_path / "moment.safetensors").is_file()


def test_tables_name_all_ids_wrappers_and_keys_of_info_and_no_others() -> None:
    ids = set(re.findall(r"^\| `(CameraCtrlWorld-[\w-]*v\d+)` \|", README, re.MULTILINE))
    assert ids == {cc2env.ENV_ID, *cc2env.TASK_IDS.values()}
    for env_id in ids:
        assert re.search(rf"`{env_id}`.* after {gym.spec(env_id).max_episode_steps} clips \|", README), env_id
    assert set(re.findall(r"wrappers\.(\w+)\(", README)) == set(wrappers.__all__) - {"KEY_MAPS"}
    assert all(f'key_map="{version}"' in README for version in KEY_MAPS)
    listed = README.split("| key of `info` |")[1].split("\n\n")[0]
    _, info = gym.make(cc2env.ENV_ID, world="synthetic").reset(seed=0)
    assert set(re.findall(r"^\| `(\w+)` \|", listed, re.MULTILINE)) == set(info)


def test_bounds_are_those_of_the_space() -> None:
    bounds = [float(value) for value in re.findall(r"^\| \d \| .* \| ±([\d.]+) \|", README, re.MULTILINE)]
    assert bounds == pytest.approx(spaces.twist_bounds().tolist())
