"""The page of the agents is right: its Python runs, its commands, files and links exist."""

import importlib.util
import re
from pathlib import Path

import numpy as np
import pytest

ROOM = Path(__file__).parents[2] / "agents"
PAGE = (ROOM / "README.md").read_text()


@pytest.mark.slow
def test_the_snippets_run_one_after_another():
    snippets = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    assert len(snippets) == 4
    names = {}
    for snippet in snippets:
        exec(compile(snippet, "agents/README.md", "exec"), names)
    first_start, second_start = names["episode"].c2w[0], names["episode"].c2w[-1]
    assert np.allclose(first_start, second_start, atol=1e-5)  # the last policy came home


def test_the_planning_snippet_is_short():
    planning = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)[0]
    body = planning[planning.index("env = ") :].strip().splitlines()
    assert len(body) <= 10


def test_commands_and_links_exist():
    for module in set(re.findall(r"python -m (agents\.\w+)", PAGE)):
        assert importlib.util.find_spec(module)
    for link in re.findall(r"\]\(([^)#]+)", PAGE):
        assert (ROOM / link).exists(), link
