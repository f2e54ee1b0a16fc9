"""The table: every cell from the same seeds, the same numbers after a kill, and right arithmetic."""

import json

import numpy as np
import pytest
from hydra import compose, initialize_config_module
from omegaconf import OmegaConf

from agents import evaluate as module
from agents.evaluate import AGENTS, evaluate
from agents.evaluation_table import interval, markdown, summarise
from agents.ppo import save_actor
from agents.ppo_network import ActorNetwork, NetworkConfig


def configured(*overrides):
    with initialize_config_module("configs", version_base=None):
        return OmegaConf.to_object(compose("evaluate_agents", list(overrides)))


@pytest.fixture
def settings(tmp_path):
    """Every kind of agent on two short tasks, with an untrained one for PPO."""
    save_actor(tmp_path / "trained" / "GoalView", ActorNetwork(NetworkConfig(task="GoalView")))
    return configured(
        f"out={tmp_path / 'out'}", f"ppo={tmp_path / 'trained'}", "tasks=[GoalView,Explore]", "worlds=[blank]",
        "num_seeds=2", "num_clips.GoalView=2", "num_clips.Explore=2", "progress=false",
        "budgets.GoalView.candidates=4", "budgets.GoalView.iterations=1", "budgets.Explore.candidates=2",
        "budgets.Explore.iterations=1",
    )  # fmt: skip


def episodes(folder):
    return [json.loads(line) for line in (folder / "episodes.jsonl").read_text().splitlines()]


def test_every_agent_flies_every_task_it_is_made_for(settings, blank_world):
    folder = evaluate(settings, {"blank": blank_world})
    flown = {(each["task"], each["agent"]) for each in episodes(folder)}
    everyone = {(task, agent) for task in ("GoalView", "Explore") for agent in AGENTS}
    assert flown == everyone - {("GoalView", "frontier"), ("Explore", "ppo")}
    table = json.loads((folder / "table.json").read_text())
    for each in table:
        returns = [e["return"] for e in episodes(folder) if (e["task"], e["agent"]) == (each["task"], each["agent"])]
        assert each["num_seeds"] == 2 and each["mean"] == pytest.approx(np.mean(returns))
        assert each["interval"][0] <= each["mean"] <= each["interval"][1]
    lines = (folder / "table.md").read_text().splitlines()
    assert lines[0] == "| world | task | random | scripted | frontier | planner | ppo |"
    assert lines[2].startswith("| blank | GoalView | ") and " | — | " in lines[2] and " % |" in lines[2]


def test_a_killed_evaluation_goes_on_to_the_same_table(settings, blank_world, tmp_path, monkeypatch):
    worlds = {"blank": blank_world}
    whole = evaluate(settings, worlds)
    settings.out = str(tmp_path / "torn")
    fly, calls = module._fly, []

    def killed(*arguments):
        calls.append(arguments)
        if len(calls) == 6:
            raise KeyboardInterrupt
        return fly(*arguments)

    monkeypatch.setattr(module, "_fly", killed)
    with pytest.raises(KeyboardInterrupt):
        evaluate(settings, worlds)
    with (tmp_path / "torn" / "episodes.jsonl").open("a") as file:
        file.write('{"world": "bla')  # killed while it wrote
    torn = evaluate(settings, worlds)
    assert len(calls) == 17  # sixteen episodes, one of them begun twice
    assert (torn / "table.md").read_text() == (whole / "table.md").read_text()


def test_other_settings_are_other_episodes(settings, blank_world):
    settings.tasks, settings.agents = ["GoalView"], ["random", "scripted"]
    worlds = {"blank": blank_world}
    folder = evaluate(settings, worlds)
    settings.scripts["GoalView"] = "back"
    evaluate(settings, worlds)
    assert len(episodes(folder)) == 6  # only the scripted agent flew again
    scripted = json.loads((folder / "table.json").read_text())[1]
    assert scripted["num_seeds"] == 2 and scripted["settings"]["script"] == "back" and scripted["mean"] < 0


def test_the_sampler_is_that_of_the_environment(tmp_path):
    """`fast` evaluates the network once a clip; an unknown name is refused as `gym.make` refuses it."""
    words = [f"out={tmp_path / 'out'}", "worlds=[tiny]", "tasks=[HoldStill]", "agents=[scripted]", "num_seeds=1"]
    given = configured(*words, "num_clips.HoldStill=1", "sampler.sampler=fast", "progress=false")
    [cell] = module._cells(given, {})
    assert cell.settings["sampler"] == {"sampler": "fast"}
    env = module._make(given, cell, {})
    env.reset(seed=0)
    assert env.step(np.zeros(env.action_space.shape, np.float32))[4]["function_evaluations"] == 1
    with pytest.raises(ValueError, match=r"^sampler: expected one of this world's"):
        evaluate(configured(*words, "sampler.sampler=clever"))


def test_a_world_that_was_trained_anew_is_flown_anew(settings, tmp_path, monkeypatch):
    """Same folder, other weights or another configuration; what is no part of the world changes nothing."""
    flown = []
    monkeypatch.setattr(module, "_make", lambda config, cell, worlds: None)
    monkeypatch.setattr(module, "_fly", lambda config, cell, env, seed: flown.append(seed) or _FLOWN)
    folder = tmp_path / "world"
    for name, content in (("dit/weights", b"1"), ("vae/weights", b"1")):
        (folder / name).parent.mkdir(parents=True)
        (folder / name).with_suffix(".safetensors").write_bytes(content)
    settings.tasks, settings.agents, settings.worlds, settings.num_seeds = ["GoalView"], ["random"], [str(folder)], 1
    changes = ["card.md", "dit/weights.safetensors", "vae/weights.safetensors", "world.yaml"]
    for change, expected in zip([None, None, *changes], [1, 1, 1, 2, 3, 4], strict=True):
        if change:
            (folder / change).write_text("other")
        evaluate(settings)
        assert len(flown) == expected
    settings.worlds = ["synthetic", "tiny"]
    table = json.loads((evaluate(settings) / "table.json").read_text())
    assert "weights" not in table[0]["settings"] and len(table[1]["settings"]["weights"]) == 16
    settings.worlds = [str(tmp_path / "nowhere")]
    with pytest.raises(FileNotFoundError, match=r"^world: expected .*nowhere"):
        evaluate(settings)


_FLOWN = {"return": 1.0, "clips": 1, "success": None, "seconds": 1.0}


def test_rows_stand_in_the_order_of_the_settings_whenever_they_were_flown(settings, blank_world):
    settings.agents, settings.tasks = ["random"], ["Explore"]
    evaluate(settings, {"blank": blank_world})
    settings.tasks = ["GoalView", "Explore"]
    table = json.loads((evaluate(settings, {"blank": blank_world}) / "table.json").read_text())
    assert [each["task"] for each in table] == ["GoalView", "Explore"]


def test_forks_and_poses_are_both_ways_to_plan(settings, blank_world):
    settings.tasks, settings.agents = ["GoalView"], ["planner"]
    returns = []
    for settings.imagination in ("poses", "forks"):
        evaluate(settings, {"blank": blank_world})
    for record in episodes(evaluate(settings, {"blank": blank_world})):
        returns.append(record["return"])
    assert len(returns) == 4 and returns[:2] == pytest.approx(returns[2:], abs=1e-5)


def test_intervals_cover_as_often_as_they_say():
    """Of 300 samples of 20 normal numbers about 95 % have the true mean in their interval (a bootstrap: a little less).

    The share of 300 has a standard deviation of 1.3 %."""
    rng = np.random.default_rng(0)
    hits = sum(low < 1.0 < high for low, high in (interval(rng.normal(1.0, 2.0, 20)) for _ in range(300)))
    assert 0.88 < hits / 300 < 0.98
    assert interval([3.0]) == (3.0, 3.0)


def test_a_table_of_known_numbers():
    record = {"world": "w", "task": "GoalView", "agent": "random", "clips": 2, "seconds": 1.0}
    records = [
        record | {"seed": seed, "return": value, "success": won, "settings": {"num_clips": 2}}
        for seed, (value, won) in enumerate([(1.0, True), (1.0, False)])
    ]
    summary = summarise(records)
    assert summary[0]["seconds_per_clip"] == 0.5 and summary[0]["success"] == 0.5
    assert "| w | GoalView | 1.00 [1.00, 1.00], 50 % | — |" in markdown(summary, ["random", "ppo"])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("agents=[clever]", "agents: expected some of"),
        ("tasks=[Dance]", "tasks: expected some of"),
        ("num_seeds=0", "num_seeds, worlds: expected at least one"),
        ("imagination=dreams", "imagination: expected poses or forks"),
    ],
)
def test_bad_input_is_named(tmp_path, change, message):
    with pytest.raises(ValueError, match=f"^{message}"):
        evaluate(configured(f"out={tmp_path / 'out'}", change))
    assert not (tmp_path / "out").exists()
