"""The pages are right: every command, setting, preset, file and count that they name is there."""

import importlib
import importlib.util
import inspect
import re
import shlex
import sys
from pathlib import Path

import gymnasium as gym
import pytest
from gymnasium.utils.play import play
from stable_baselines3.common.env_util import make_vec_env

import cc2env
from cc2env import spaces, wrappers
from cc2env.env import CameraCtrlWorldEnv
from cc2env.options import EnvOptions
from cc2env.task_runner import make_task_config
from cc2env.torchrl_env import CameraCtrlWorldTorchRLEnv
from cc2env.vector_env import CameraCtrlWorldVectorEnv
from model.world.config import WorldConfig, read_world_config
from model.world.load import load_world
from model.world.options import WorldOptions

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
PAGES = {
    str(path.relative_to(ROOT)): path.read_text(encoding="utf-8")
    for folder in (".", "cc2env", "agents", "model", ".github")
    for path in sorted((ROOT / folder).glob("*.md" if folder == "." else "**/*.md"))
}
# the training page names commands by their verb alone
SHORT = re.compile(r"(?<!`)`((?:train_vae|train|distill|curate import|oracle) [^`]*=[^`]*)`(?!`)")
CODE = re.compile(r"^```(?:bash|sh)\n(.*?)^```|(`{1,2})([^`]*python -m [^`]*)\2", re.MULTILINE | re.DOTALL)


def commands_of(page: str) -> set[str]:
    """Every `python -m model... ` or `agents...` of a page, also by its verb alone; comments and "..." left out."""
    prose = re.sub(r"^```.*?^```", "", page, flags=re.MULTILINE | re.DOTALL)
    short = {" ".join(command.split()) for command in SHORT.findall(prose)}
    commands = {f"python -m model.cli.{'evaluate ' * command.startswith('oracle')}{command}" for command in short}
    for block, _, inline in CODE.findall(page):
        lines = block.replace("\\\n", " ").splitlines() if block else [inline.replace("\n", " ")]
        found = [re.search(r"python -m (?:model|agents)\.[^#]*", line) for line in lines]
        commands |= {match[0].replace(" ...", "").strip() for match in found if match}
    return commands


COMMANDS = sorted({command for page in PAGES.values() for command in commands_of(page)})


def compose(command: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> str:
    """What Hydra makes of a command, without running it; settings that do not exist end it with an error."""
    _, _, module, *words = shlex.split(command)
    words = [re.sub(r"=N$", "=1", word) for word in words if word != "--help"]  # N stands for a number
    monkeypatch.setattr(sys, "argv", [module, *words, "--cfg", "job"])
    capsys.readouterr()
    importlib.import_module(module).main()
    return capsys.readouterr().out


def test_the_pages_have_commands() -> None:
    assert len(PAGES) >= 6 and len(COMMANDS) >= 40
    assert {command.split()[2] for command in COMMANDS} == {
        *(f"model.cli.{verb}" for verb in ("train_vae", "train", "distill", "adversarial", "train_depth")),
        *(f"model.cli.{verb}" for verb in ("evaluate", "curate", "train_lab_network", "plan", "encode", "tables")),
        *(f"agents.{verb}" for verb in ("explore", "fly", "gallery", "reconstruct", "evaluate", "train_ppo")),
    }


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_and_its_settings_exist(
    command: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert compose(command, monkeypatch, capsys).count(":") > 3


def test_the_check_of_commands_notices_what_is_not_there(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for wrong in ("agents.explore env=fastest", "model.cli.train nothing=1", "model.cli.evaluate oracle nothing=1"):
        with pytest.raises(SystemExit) as exit_info:
            compose(f"python -m {wrong}", monkeypatch, capsys)
        assert exit_info.value.code not in (0, None)


def test_presets_named_in_help_are_the_files(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for preset in (ROOT / "configs/env").glob("*.yaml"):
        text = compose(f"python -m agents.explore env={preset.stem}", monkeypatch, capsys)
        assert "sampler_steps" in text
        assert re.search(rf"env=default .*\b{preset.stem}\b", (ROOT / "configs/explore.yaml").read_text())


def test_links_and_modules_exist() -> None:
    for name, page in PAGES.items():
        for link in re.findall(r"\]\(([^)#\s]+)[^)]*\)", page):
            assert link.startswith("http") or ((ROOT / name).parent / link).exists(), (name, link)
        for module in set(re.findall(r"`((?:model|agents|cc2env)(?:\.(?!py\b)[a-z_]\w*)+)", page)):
            found = module
            while found and not _exists(found):
                found = found.rpartition(".")[0]
            rest = module.removeprefix(found).split(".")[1:]
            assert found and (not rest or hasattr(importlib.import_module(found), rest[0])), (name, module)


def _exists(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:
        return False


def test_settings_in_the_text_exist(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Every `name=value` in code is an argument of the package, or a setting of a command."""
    known = set()
    for called in (
        CameraCtrlWorldEnv,
        CameraCtrlWorldVectorEnv,
        CameraCtrlWorldTorchRLEnv,
        CameraCtrlWorldEnv.reset,
        CameraCtrlWorldTorchRLEnv.reset,
        gym.make,
        gym.make_vec,
        make_vec_env,
        play,
        EnvOptions,
        make_task_config,
        load_world,
        *(getattr(wrappers, name) for name in wrappers.__all__ if name != "KEY_MAPS"),
    ):
        known |= set(inspect.signature(called).parameters)
    plain = {re.sub(r" (--help|[\w.]+=.*)", "", command) for command in COMMANDS}
    settings = [compose(command, monkeypatch, capsys) for command in sorted(plain)]
    known |= set(re.findall(r"^ *(\w+):", "\n".join(settings), re.MULTILINE))
    known |= {"env", "agent", "task", "experiment", "table", "budget"}  # groups of presets
    # of the shell, and of RealEstate10K texts
    known |= {"OMP_NUM_THREADS", "OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "SMALL", "unit"}
    named = {
        setting
        for name in PAGES
        if not name.startswith(".github")
        for code in re.findall(r"(?<!`)`([^`\n]+)`(?!`)", PAGES[name])
        for setting in re.findall(r"(?<![\w.])(?:[a-z_]+\.)*(\w+)=(?!=)", code)
    }
    assert len(named) > 15 and named <= known, named - known


def test_the_table_of_the_environment() -> None:
    table = README.split("## The environment in one table")[1].split("\n## ")[0]
    env = CameraCtrlWorldEnv("tiny")
    info = env.reset(seed=0)[1]
    assert re.search(r"`Box\(4, 6\)`", table) and env.action_space.shape == (4, 6)
    assert re.search(r"`Box\(16, 48, 80, 3\)`", table) and env.observation_space.shape == (16, 48, 80, 3)
    bounds = [float(number) for number in re.findall(r"±([\d.]+)", table)]
    assert bounds == pytest.approx([spaces.twist_bounds()[0], spaces.twist_bounds()[3]])
    row = re.search(r"^\| `info` \|(.*)\|$", table, re.MULTILINE)
    assert row and set(re.findall(r"`(\w+)`", row[1])) == set(info)
    assert set(re.findall(r"`(?:CameraCtrlWorld)?(-\w+-v0)`", table)) == {
        cc2env.TASK_IDS[task].removeprefix("CameraCtrlWorld") for task in cc2env.TASK_IDS
    }
    config = shipped()
    latest = config.context_latents - config.memory_latents
    assert (config.memory_capacity, latest, config.memory_latents) == (64, 2, 6)
    assert "64 latent frames; each clip is generated from the two latest and the six that" in table


def test_counts_of_the_shipped_world() -> None:
    spec, config = load_world("tiny").spec, shipped()
    assert f"{config.sampler.num_steps} evaluations of the network" in README
    assert f"{config.sampler.num_steps} (default)" in PAGES["model/world/README.md"]
    for page in ("cc2env/README.md", "model/pretrained/tiny/card.md"):
        for name in ("quality", "default", "fast"):
            row = next(line for line in PAGES[page].splitlines() if line.startswith(f'| `"{name}"`'))
            spec = load_world("tiny", WorldOptions(sampler=name)).spec
            assert f"| {spec.evaluations_per_clip}, {spec.evaluations_per_opening} |" in row
    environment, spec = PAGES["cc2env/README.md"], load_world("tiny").spec
    assert f"for its first frame: {spec.evaluations_per_opening} in the shipped world" in environment


def test_the_words_of_prompts_are_those_of_the_shipped_world() -> None:
    vocabulary = load_world("tiny").vocabulary
    page = PAGES["cc2env/README.md"]
    listed = page.split("`env.unwrapped.vocabulary`): ")[1].split(". Everyday")[0].replace("and its eight places", "")
    assert sorted(set(re.findall(r"[a-z]+", listed))) == sorted(vocabulary)
    assert f"knows {len(vocabulary)} words" in README and f"knows {len(vocabulary)} words" in page
    for command in ("explore", "gallery"):
        help_text = (ROOT / f"configs/{command}.yaml").read_text(encoding="utf-8")
        listed = help_text.split("ball, cube):")[1].split("violet dusk")[0] + "violet dusk"
        assert sorted(set(re.findall(r"[a-z]+", listed))) == sorted(vocabulary), command


def test_the_tree_names_every_room_and_command() -> None:
    tree = PAGES[".github/CONTRIBUTING.md"].split("## Where the code is")[1].split("```")[1]
    rooms = set(re.findall(r"^ *(\w+)/", tree, re.MULTILINE))
    packages = {path.name for path in (ROOT / "model").iterdir() if (path / "__init__.py").is_file()}
    assert rooms == packages | {"agents", "cc2env", "configs", "model", "tests"} | ({"cli", "data"} & rooms)
    verbs = re.search(r"^ *cli/ +(.*)$", tree, re.MULTILINE)
    is_main = re.compile(r"^(def main\(|main = )", re.MULTILINE)
    mains = {path.stem for path in (ROOT / "model/cli").glob("*.py") if is_main.search(path.read_text())}
    assert verbs and set(verbs[1].split(", ")) == mains


def shipped() -> WorldConfig:
    return read_world_config(ROOT / "model/pretrained/tiny")
