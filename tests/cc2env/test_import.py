"""Importing the package registers the environment and loads no network library; the arrows of the house hold."""

import os
import subprocess
import sys
from pathlib import Path

import gymnasium as gym
import pytest

import cc2env

ROOT = Path(__file__).resolve().parents[2]


def test_import_registers_without_torch():
    code = (
        "import sys, gymnasium, cc2env; "
        "assert 'torch' not in sys.modules and 'model' not in sys.modules; "
        "print(gymnasium.spec('CameraCtrlWorld-v0').entry_point)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "cc2env.env:CameraCtrlWorldEnv"


def test_the_spec_is_plain_data():
    spec = gym.spec(cc2env.ENV_ID)
    assert spec.max_episode_steps == cc2env.MAX_EPISODE_STEPS and not spec.nondeterministic
    assert gym.envs.registration.EnvSpec.from_json(spec.to_json()) == spec


def test_wrappers_and_tasks_are_there_after_the_import_alone():
    code = "import cc2env; cc2env.wrappers.LastFrame, cc2env.tasks.Task"
    subprocess.run([sys.executable, "-c", code], check=True)


def run_in(folder, *arguments):
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run([sys.executable, *arguments], cwd=folder, env=environment, capture_output=True, text=True)


@pytest.mark.parametrize("program", ["import cc2env", "import model; import cc2env", "import cc2env.wrappers"])
@pytest.mark.parametrize("file", ["model.py", "model/__init__.py"])
def test_a_file_of_the_users_that_hides_ours_is_named(tmp_path, file, program):
    (tmp_path / file).parent.mkdir(exist_ok=True)
    (tmp_path / file).write_text("x = 1")
    done = run_in(tmp_path, "-c", program)
    last = done.stderr.strip().splitlines()[-1]
    expected = f"ImportError: cc2env: expected its own package 'model' in {ROOT / 'model'}, but {tmp_path / file} is"
    assert last.startswith(expected)


@pytest.mark.parametrize("file", ["agents.py", "configs.py", "agents/__init__.py"])
def test_names_that_the_environment_needs_not_are_the_users(tmp_path, file):
    (tmp_path / file).parent.mkdir(exist_ok=True)
    (tmp_path / file).write_text("mine = 1")
    name = file.split("/")[0].removesuffix(".py")
    code = f"import cc2env, gymnasium, {name}; print({name}.mine)"
    done = run_in(tmp_path, "-c", code)
    assert done.stdout == "1\n", done.stderr


@pytest.mark.parametrize("command", ["agents.explore", "model.cli.train"])
def test_commands_name_a_file_that_hides_their_settings(tmp_path, command):
    (tmp_path / "configs.py").write_text("")
    done = run_in(tmp_path, "-m", command, "--help")
    last = done.stderr.strip().splitlines()[-1]
    assert "ImportError" in last and f"but {tmp_path / 'configs.py'} is in the way; rename that one" in last
