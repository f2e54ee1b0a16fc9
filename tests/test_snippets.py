"""Every snippet of every page: its imports, arguments, make targets, extras and test files exist.

`python -m` lines are composed in `test_readme.py`; the pages of `cc2env` and `agents` are run beside their own tests.
"""

import ast
import inspect
import re
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium as gym
import pytest

import cc2env
from cc2env.env import CameraCtrlWorldEnv
from cc2env.options import EnvOptions
from cc2env.task_runner import make_task_config
from cc2env.tasks import task_class
from cc2env.torchrl_env import CameraCtrlWorldTorchRLEnv
from cc2env.vector_env import CameraCtrlWorldVectorEnv

ROOT = Path(__file__).parents[1]
PAGES = {
    str(path.relative_to(ROOT)): path.read_text(encoding="utf-8")
    for folder in (".", "cc2env", "agents", "model", ".github")
    for path in sorted((ROOT / folder).glob("*.md" if folder == "." else "**/*.md"))
}
PYTHON = {
    page: blocks for page, text in PAGES.items() if (blocks := re.findall(r"^```python\n(.*?)^```", text, re.M | re.S))
}
ENVIRONMENTS = (CameraCtrlWorldEnv, CameraCtrlWorldVectorEnv, CameraCtrlWorldTorchRLEnv)
# what passes arguments on to an environment, which passes them on to its options and its task
PASSES_ON: dict[Any, Any] = {gym.make: CameraCtrlWorldEnv, gym.make_vec: CameraCtrlWorldVectorEnv}
PASSES_ON |= {environment: environment for environment in ENVIRONMENTS}
OPTIONS = (EnvOptions, make_task_config, *map(task_class, cc2env.TASK_IDS))


def check_names(code: str) -> None:
    """Runs the imports of some code, and compares its calls of what they bring with the signatures."""
    tree, names = ast.parse(code), {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            exec(compile(ast.Module([node], []), "imports", "exec"), names)
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute):
            resolve(node, names)
        # torch's own functions in C have no signature
        if (
            isinstance(node, ast.Call)
            and callable(called := resolve(node.func, names))
            and not inspect.isbuiltin(called)
        ):
            check_arguments(called, [keyword.arg for keyword in node.keywords if keyword.arg])


def resolve(expression: ast.expr, names: dict[str, Any]) -> Any:
    """Returns what a dotted name stands for, None where it starts with none of the imported names."""
    if isinstance(expression, ast.Attribute):
        owner = resolve(expression.value, names)
        return None if owner is None else getattr(owner, expression.attr)
    return names.get(expression.id) if isinstance(expression, ast.Name) else None


def parameters(called: Any) -> dict[str, inspect.Parameter]:
    # a class's own constructor: TorchRL's metaclass takes anything
    return dict(inspect.signature(called.__init__ if isinstance(called, type) else called).parameters)


def check_arguments(called: Callable[..., Any], given: list[str]) -> None:
    known = parameters(called)
    is_open = any(parameter.kind is parameter.VAR_KEYWORD for parameter in known.values())
    if called in PASSES_ON:
        for taker in (PASSES_ON[called], *OPTIONS):
            known |= parameters(taker)
    if called in PASSES_ON or not is_open:
        assert set(given) <= set(known), f"{called}: {set(given) - set(known)}"


def test_the_pages_have_python() -> None:
    assert {"README.md", "cc2env/README.md", "agents/README.md"} <= set(PYTHON)
    assert sum(map(len, PYTHON.values())) == sum(page.count("```python") for page in PAGES.values()) >= 14


@pytest.mark.parametrize("page", PYTHON)
def test_imports_and_arguments_of_every_python_block_exist(page: str) -> None:
    check_names("\n".join(PYTHON[page]))  # a page's blocks follow each other


@pytest.mark.parametrize(
    "wrong",
    [
        "from cc2env import nothing",
        "from cc2env import wrappers\nwrappers.Nothing(env)",
        "from cc2env import wrappers\nwrappers.RecordEpisode(env, nothing=1)",
        'import gymnasium as gym\ngym.make("CameraCtrlWorld-v0", nothing=1)',
    ],
)
def test_the_check_of_names_notices_what_is_not_there(wrong: str) -> None:
    with pytest.raises((ImportError, AttributeError, AssertionError)):
        check_names(wrong)


def test_the_quick_start_runs() -> None:
    names: dict[str, Any] = {}
    for block in PYTHON["README.md"]:
        exec(compile(block, "README.md", "exec"), names)
    assert names["clip"].shape == (16, 48, 80, 3) and names["clip"].dtype == "uint8"


def test_targets_of_make_extras_of_pip_and_files_of_pytest_exist() -> None:
    text = "\n".join(PAGES.values())
    targets = set(re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(), re.M))
    extras = set(tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"])
    named = set(re.findall(r"(?:^|`)make (\w+)", text, re.M))
    assert {"explore", "test"} <= named <= targets, named - targets
    wanted = {extra for found in re.findall(r"pip install [^\n`]*\[([\w,]+)\]", text) for extra in found.split(",")}
    wanted |= set(re.findall(r"`\[(\w+)\]`", text))
    assert {"curation", "wan"} <= wanted <= extras, wanted - extras
    files = set(re.findall(r"pytest (tests/[\w/.]*\w)", text))
    assert files and all((ROOT / file).exists() for file in files), files
