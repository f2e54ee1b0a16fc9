"""PPO learns, goes on bit for bit after a kill, and flies in Gymnasium as it was trained in TorchRL."""

import json
from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest
import torch
from hydra import compose, initialize_config_module
from omegaconf import OmegaConf
from safetensors.torch import load_file

from agents import ppo_learner
from agents.ppo import PPOPolicy, load_actor, save_actor
from agents.ppo_network import ActorNetwork, PolicyInputs, build_actor
from agents.ppo_settings import TASK_ENTRIES, NetworkConfig, TrainPPOConfig
from agents.random import RandomPolicy
from agents.rollout import rollout
from agents.train_ppo import train
from cc2env.env import CameraCtrlWorldEnv
from cc2env.torchrl_env import CameraCtrlWorldTorchRLEnv

FILES = {"actor.safetensors", "actor.json", "state.safetensors", "settings.json", "curve.jsonl"}


def settings(folder, **changes):
    small = {"task": "GoalView", "num_envs": 4, "max_episode_steps": 3, "num_epochs": 2, "minibatch": 6}
    return TrainPPOConfig(out=str(folder), num_iterations=3, progress=False, **small | changes)


def curve(folder):
    return [json.loads(line) for line in (folder / "curve.jsonl").read_text().splitlines()]


@pytest.mark.slow
def test_it_learns_to_hold_still(tmp_path, blank_world):
    config = settings(tmp_path, task="HoldStill", num_envs=8, max_episode_steps=8, num_epochs=6, gamma=0.5)
    config.num_iterations, config.minibatch, config.reward_scale = 12, 32, 0.3
    returns = [record["return"] for record in curve(train(config, blank_world))]
    assert np.mean(returns[-2:]) > 0.7 * np.mean(returns[:2])  # both negative: at least a third less motion


def test_a_killed_run_goes_on_bit_for_bit(tmp_path, blank_world, monkeypatch):
    whole, torn = tmp_path / "whole", tmp_path / "torn"
    train(settings(whole), blank_world)
    iterate, calls = ppo_learner.Learner.iterate, []

    def killed(learner):
        calls.append(learner)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return iterate(learner)

    monkeypatch.setattr(ppo_learner.Learner, "iterate", killed)
    with pytest.raises(KeyboardInterrupt):
        train(settings(torn), blank_world)
    with (torn / "curve.jsonl").open("a") as file:  # as if it was killed between curve and state
        file.write('{"iteration": 2, "return": 0.0}\n')
    train(settings(torn), blank_world)
    for name in ("state.safetensors", "actor.safetensors"):
        a, b = load_file(whole / name), load_file(torn / name)
        assert a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)
    assert [r["return"] for r in curve(torn)] == [r["return"] for r in curve(whole)]
    assert {file.name for file in torn.iterdir()} == FILES


def test_a_finished_run_is_left_alone_and_one_of_other_settings_is_refused(tmp_path, blank_world):
    train(settings(tmp_path), blank_world)
    before = (tmp_path / "state.safetensors").read_bytes()
    train(settings(tmp_path), blank_world)
    assert (tmp_path / "state.safetensors").read_bytes() == before and len(curve(tmp_path)) == 3
    with pytest.raises(ValueError, match=r"^out: expected the settings .* got gamma was .*, is .*; name another"):
        train(settings(tmp_path, gamma=0.5), blank_world)


@pytest.mark.parametrize("task", TASK_ENTRIES)
def test_it_flies_as_it_was_trained(tmp_path, blank_world, task):
    """From TorchRL's entries and from Gymnasium's info come the same numbers and so the same action."""
    torch.manual_seed(1)
    network = NetworkConfig(task=task)
    actor = ActorNetwork(network)
    for parameter in actor.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    save_actor(tmp_path, actor)
    actor = load_actor(tmp_path)
    envs, env = CameraCtrlWorldTorchRLEnv(2, blank_world, task=task), CameraCtrlWorldEnv(blank_world, task=task)
    envs.set_seeds([5, 6])
    td = envs.reset()
    observation, info = env.reset(seed=6)
    policy = PPOPolicy(env.action_space, tmp_path)
    fly = build_actor(actor, torch.from_numpy(env.action_space.high))
    for _ in range(2):
        action = policy.act(observation, info)
        td = fly(PolicyInputs(network)._call(td))
        assert env.action_space.contains(action)
        assert np.allclose(td["action"][1].detach().numpy(), action, atol=1e-5)
        assert (policy.act(observation, info) == action).all()
        observation, _, _, _, info = env.step(action)
        td["action"][1] = torch.from_numpy(action)
        td = envs.step(td)["next"].exclude("reward")


def test_the_environment_with_glance_keeps_torchrls_rules(blank_world):
    from torchrl.envs import TransformedEnv, check_env_specs

    check_env_specs(
        TransformedEnv(
            CameraCtrlWorldTorchRLEnv(2, blank_world, task="FollowPath"), PolicyInputs(NetworkConfig(task="FollowPath"))
        )
    )


def test_bad_input_is_named(tmp_path, blank_world):
    for change, message in (
        ({"task": "Dance"}, "task: expected one of"),
        ({"num_envs": 0}, "num_envs: expected an integer"),
        ({"minibatch": 1}, "minibatch: expected an integer of at least 2, got 1"),
        ({"max_episode_steps": 0}, "max_episode_steps: expected None or an integer of at least 1, got 0"),
        ({"max_episode_steps": 1, "num_envs": 1}, "num_envs, max_episode_steps: expected at least 2 clips"),
        ({"gamma": 1.5}, "gamma: expected a number"),
        ({"learning_rate": 0.0}, "learning_rate: expected a positive"),
    ):
        with pytest.raises(ValueError, match=f"^{message}"):
            train(settings(tmp_path / "none", **change), blank_world)
    assert not (tmp_path / "none").exists()
    space = CameraCtrlWorldEnv(blank_world).action_space
    with pytest.raises(FileNotFoundError, match=r"expected a folder with actor\.json"):
        PPOPolicy(space, tmp_path)
    save_actor(tmp_path, ActorNetwork(NetworkConfig(task="GoalView")))
    with pytest.raises(ValueError, match=r"^info: expected \['goal_c2w'\], an entry of the task GoalView"):
        env = CameraCtrlWorldEnv(blank_world)
        PPOPolicy(space, tmp_path).act(*env.reset(seed=0))
    (tmp_path / "actor.safetensors").write_bytes(b"nonsense")
    with pytest.raises(ValueError, match="expected an agent's weights and settings"):
        PPOPolicy(space, tmp_path)


@pytest.mark.parametrize("task", TASK_ENTRIES)
def test_every_task_has_settings_on_the_command_line(task):
    with initialize_config_module("configs", version_base=None):
        config = OmegaConf.to_object(compose("train_ppo", [f"task={task}"]))
    assert config.task == task and 0 < config.gamma < 1 and config.reward_scale > 0


def shipped():
    return sorted(path.parent for path in Path(str(files("agents").joinpath("pretrained"))).glob("*/actor.json"))


def test_what_is_shipped_is_small_and_has_a_card():
    folder = shipped()[0].parent
    assert {"Explore", "GoalView"} <= {each.name for each in shipped()}
    assert sum(path.stat().st_size for path in folder.rglob("*")) < 500_000
    assert all(f"| {each.name} |" in (folder / "card.md").read_text() for each in shipped())
    assert {path.suffix for path in folder.rglob("*") if path.is_file()} == {".safetensors", ".json", ".md"}


@pytest.mark.parametrize("task", ["Explore", "GoalView"])
def test_a_shipped_agent_does_better_than_chance(blank_world, task):
    """Also in a world without pictures, which it was not trained in."""
    env = CameraCtrlWorldEnv(blank_world, task=task)

    def earned(policy_of):
        return [sum(rollout(env, policy_of(s), 8, seed=s, show_progress=False).rewards) for s in (10_000, 10_001)]

    trained = PPOPolicy(env.action_space, task)
    assert np.mean(earned(lambda _: trained)) > np.mean(earned(lambda seed: RandomPolicy(env.action_space, seed)))
