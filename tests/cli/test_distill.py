"""The distillation's command from end to end: a world in, faster worlds out, resumed where it was left."""

import copy
import dataclasses
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from hydra import compose, initialize_config_module
from omegaconf import OmegaConf

import cc2env
from model.build import DistillConfig
from model.cli.distill import distill, plan_worlds
from model.cli.world_saver import averaged
from model.data.synthetic.captions import VOCABULARY
from model.tensor_file import load_tensors
from model.world.clip_sampler import SamplerConfig
from model.world.config import TextEncoderConfig, WorldConfig, read_world_config
from model.world.load import load_world
from model.world.options import WorldOptions

TEACHER = WorldConfig(
    height=16,
    width=32,
    context_latents=4,
    memory_latents=2,
    sampler=SamplerConfig(num_steps=4, shift=3.0),
    opening=SamplerConfig(num_steps=6, shift=3.0, guidance_text=3.0, guidance_camera=2.0),
    text_encoder=TextEncoderConfig(vocabulary=list(VOCABULARY), dim=8, num_tokens=24),
)


@pytest.fixture
def world(tmp_path: Path, random_world: Any) -> Path:
    return random_world.save(tmp_path / "world", TEACHER)


def settings(world: Path, *more: str) -> DistillConfig:
    given = [
        f"world={world}", f"out={world.parent}/run", f"data.render_into={world.parent}/data", "data.clips.num_clips=4",
        "data.clips.shard_size=4", "data.clips.height=16", "data.clips.width=32", "phases=2", "num_preview_scenes=1",
        "training.num_steps=3", "training.batch_size=2",
    ]  # fmt: skip
    with initialize_config_module(config_module="configs.distill", version_base=None):
        config = OmegaConf.to_object(compose("config", ["experiment=debug", *given, *more]))
    assert isinstance(config, DistillConfig)
    return config


@pytest.mark.slow
def test_two_phases_leave_a_world_of_a_quarter_of_the_steps_that_flies(world: Path) -> None:
    flights = ("flights.share=0.5", "flights.num_flights=3", "flights.num_clips=2", "flights.batch_size=2")
    config = settings(
        world, *flights, "samplers.quality=0", "samplers.default=1", "samplers.fast=2", "+teacher_weights={fast:0.25}"
    )
    joined = distill(config)
    folder = world.parent / "run/phase_2/world"
    assert (folder.parent / "flights.safetensors").exists()
    evaluations = [load_world(joined, WorldOptions(sampler=s)).spec.evaluations_per_clip for s in ("quality", "fast")]
    assert joined == world.parent / "run/world" and evaluations == [4, 1]
    first, last = read_world_config(folder.parents[1] / "phase_1/world"), read_world_config(folder)
    assert (first.sampler.num_steps, last.sampler.num_steps) == (2, 1)
    assert (first.opening.num_steps, last.opening.num_steps) == (3, 3)  # three steps have no whole half
    for sampler in (first.sampler, first.opening, last.opening):
        assert sampler.shift == 3 and sampler.guidance_text == sampler.guidance_camera == 1
    parts = [
        joined / "fast",
        joined / "quality",
        joined.parent / "phase_2/world/dit",
        joined.parent / "phase_1/world/dit",
    ]
    fast, teacher, student, default = (load_tensors(part / "weights.safetensors")[0] for part in parts)
    for name, weight in fast.items():
        between = torch.lerp(student[name].float(), teacher[name].float(), 0.25)
        torch.testing.assert_close(weight.float(), between, rtol=2e-3, atol=1e-4)
    assert all(torch.equal(w, default[name]) for name, w in load_tensors(joined / "dit/weights.safetensors")[0].items())
    env = gym.make(cc2env.ENV_ID, world=str(folder))
    env.reset(seed=0, options={"prompt": "red"})
    observation, *_ = env.step(np.zeros((4, 6), np.float32))
    assert observation in env.observation_space
    # from its end, nothing is left to do and the weights are the same
    before = (folder / "dit/weights.safetensors").read_bytes()
    assert distill(config) == joined and (folder / "dit/weights.safetensors").read_bytes() == before


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            "data.clips.num_latents=5",
            r"^context_shares, num_new: expected windows of at most 5 latent.*\{0:0.2,1:0.4,4:0\} .*memory_latents=0",
        ),
        ("data.clips.height=32", r"^data.clips.height: expected 16, the world's, got 32"),
        ("diffusion.labelled_share=7", r"^labelled_share: expected a number in \[0, 1\], got 7"),
    ],
)
def test_what_does_not_fit_is_named_before_clips_are_rendered(world: Path, change: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        distill(settings(world, change))
    assert not (world.parent / "data").exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("phases=0", r"^phases: expected at least 1, got 0"),
        ("phases=4", r"^phases: expected fewer, phase 3 has nothing to do: clips already take 1 steps"),
        ("samplers.default=3", r"^samplers.default: expected a phase, 0 to 2, got 3"),
        ("samplers.fast=1", r"^samplers.default: expected a phase beside the others', got none"),
        ("+teacher_weights={fast:0.5}", r"^teacher_weights: expected for samplers that have a phase .* got fast: 0.5"),
        ("teacher_weight=1", r"^teacher_weight: expected 0 or more and less than 1, got 1"),
        ("least_steps=0", r"^least_steps: expected at least 1, got 0"),
        ("diffusion.num_new=3", r"^diffusion.num_new: expected 4, as the world continues its clips, got 3"),
        ("diffusion.memory_latents=1", r"^diffusion.memory_latents: expected 2, as the world .* got 1"),
    ],
)
def test_what_cannot_be_distilled_is_named_at_once(tmp_path: Path, change: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        plan_worlds(settings(tmp_path / "world", change), TEACHER)


def test_a_phase_that_only_takes_the_guidance_in_is_worth_having(tmp_path: Path) -> None:
    config = settings(tmp_path / "world", "phases=1", "least_steps=4", "least_opening_steps=6")
    _, after = plan_worlds(config, TEACHER)
    assert after.sampler == TEACHER.sampler and after.opening.num_steps == 6 and after.opening.guidance_text == 1


def test_students_learn_from_contexts_as_noisy_as_the_teachers(tmp_path: Path) -> None:
    noisy = dataclasses.replace(TEACHER, sampler=dataclasses.replace(TEACHER.sampler, context_noise=0.3))
    worlds = plan_worlds(settings(tmp_path / "world", "diffusion.context_noise=0.4"), noisy)
    assert {world.sampler.context_noise for world in worlds} == {0.3}
    with pytest.raises(ValueError, match=r"^diffusion.context_noise: expected at least 0.3, .* got 0.2"):
        plan_worlds(settings(tmp_path / "world", "diffusion.context_noise=0.2"), noisy)


def test_only_the_steps_of_euler_are_distilled(tmp_path: Path) -> None:
    heun = WorldConfig(memory_latents=2, sampler=SamplerConfig(solver="heun"))
    with pytest.raises(ValueError, match=r"^world: expected the solver 'euler', got 'heun'"):
        plan_worlds(settings(tmp_path / "world"), heun)


def test_an_average_lies_between_student_and_teacher(random_world: Any) -> None:
    student, teacher = copy.deepcopy(random_world.dit), random_world.dit
    for weights in student.parameters():
        weights.data.add_(4.0)
    kept = copy.deepcopy(student.state_dict())
    average = averaged(student, teacher, 0.25)
    for name, weights in average.state_dict().items():
        torch.testing.assert_close(weights, teacher.state_dict()[name] + 3)
        assert torch.equal(student.state_dict()[name], kept[name])
