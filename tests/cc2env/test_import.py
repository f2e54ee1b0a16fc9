"""Importing the package registers the environment and loads no network library; the import contracts hold."""

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
        "assert 'torch' not in sys.modules and not any(name.startswith('model.') for name in sys.modules); "
        "print(gymnasium.spec('CameraCtrlWorld-v0').entry_point)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "cc2env.env:CameraCtrlWorldEnv"


@pytest.mark.parametrize("module", ["cc2env", "cc2env.env", "agents.explore", "agents.fly.command", "model.cli.train"])
@pytest.mark.parametrize(("given", "expected"), [({}, "1000"), ({"GOMP_SPINCOUNT": "7"}, "7")])
def test_the_spinning_of_threads_is_limited_before_torch_is_loaded(module: str, given: dict[str, str], expected: str):
    code = f"""if True:
        import builtins, importlib, os, sys
        seen, load = [], builtins.__import__
        def watched(name, *rest, **more):
            if name == "torch" and "torch" not in sys.modules:
                seen.append(os.environ.get("GOMP_SPINCOUNT"))
            return load(name, *rest, **more)
        builtins.__import__ = watched
        importlib.import_module({module!r})
        import torch
        print(set(seen))
    """
    names = ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")
    environment = {name: value for name, value in os.environ.items() if name not in names} | given
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    assert done.stdout.strip() == f"{{{expected!r}}}"


def test_the_import_contracts_hold():
    command = [str(Path(sys.executable).parent / "lint-imports"), "--no-cache"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


def test_the_spec_is_plain_data():
    spec = gym.spec(cc2env.ENV_ID)
    assert spec.max_episode_steps == cc2env.MAX_EPISODE_STEPS and not spec.nondeterministic
    assert gym.envs.registration.EnvSpec.from_json(spec.to_json()) == spec


def test_wrappers_and_tasks_are_there_after_the_import_alone():
    code = "import cc2env; cc2env.wrappers.LastFrame, cc2env.tasks.Task, cc2env.viewer.Viewer"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_last_version_s_names_of_tasks_warn():
    with pytest.warns(DeprecationWarning, match="TaskState"):
        assert cc2env.tasks.Memory is cc2env.tasks.TaskState
    with pytest.warns(DeprecationWarning, match="ResetContext"):
        assert cc2env.tasks.Opening is cc2env.tasks.ResetContext
