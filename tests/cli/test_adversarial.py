"""The adversarial command from end to end: a student in, a world out, resumed where it was left."""

import dataclasses
import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from hydra import compose, initialize_config_module
from omegaconf import OmegaConf
from safetensors.torch import load_file

from model.build import TrainAdversarialConfig
from model.checkpoint import copy_component
from model.cli.adversarial import adversarial
from model.data.synthetic.captions import VOCABULARY
from model.distillation.adversarial import AdversarialStep
from model.training.loop import TrainingDiverged
from model.world.clip_sampler import SamplerConfig
from model.world.config import NamedSamplerConfig, TextEncoderConfig, WorldConfig, read_world_config
from model.world.load import load_world
from model.world.options import WorldOptions

STUDENT = WorldConfig(
    height=16,
    width=32,
    context_latents=4,
    memory_latents=2,
    sampler=SamplerConfig(num_steps=1),
    opening=SamplerConfig(num_steps=1),
    text_encoder=TextEncoderConfig(vocabulary=list(VOCABULARY), dim=8, num_tokens=24),
)


@pytest.fixture
def world(tmp_path: Path, random_world: Any) -> Path:
    return random_world.save(tmp_path / "world", STUDENT)


def settings(world: Path, *more: str) -> TrainAdversarialConfig:
    given = [
        f"world={world}", f"teacher={world}", f"out={world.parent}/run", f"data.render_into={world.parent}/data",
        "data.clips.num_clips=4", "data.clips.shard_size=4", "data.clips.height=16", "data.clips.width=32",
        "num_preview_scenes=1", "training.num_steps=3", "training.batch_size=2", "discriminator.num_steps=2",
        "discriminator.batch_size=2",
    ]  # fmt: skip
    with initialize_config_module(config_module="configs.adversarial", version_base=None):
        config = OmegaConf.to_object(compose("config", ["experiment=debug", *given, *more]))
    assert isinstance(config, TrainAdversarialConfig)
    return config


@pytest.mark.slow
def test_a_stopped_run_ends_with_the_bytes_of_an_unbroken_one(world: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = adversarial(settings(world))
    weights = (folder / "dit/weights.safetensors").read_bytes()
    assert read_world_config(folder).sampler.num_steps == 1
    assert load_world(folder).spec.evaluations_per_clip == 1
    assert weights != (world / "dit/weights.safetensors").read_bytes()
    last = json.loads((folder.parent / "generator/curve.jsonl").read_text().splitlines()[-1])
    assert {"loss_generator", "loss_discriminator", "score_true", "score_fake", "r1", "r2", "share_right"} <= set(last)
    assert {"regression", "grad_norm_generator", "grad_norm_discriminator"} <= set(last)

    broken = settings(world, f"out={world.parent}/broken", "training.fit.checkpoint_steps=1",
                      "discriminator.fit.checkpoint_steps=1")  # fmt: skip
    call = AdversarialStep.__call__
    for calls in (2, 3):  # in the first stage, then in the second
        left = [calls]

        def stops(self: Any, *given: Any, left: list[int] = left) -> Any:
            left[0] -= 1
            if left[0] == 0:
                raise KeyboardInterrupt
            return call(self, *given)

        monkeypatch.setattr(AdversarialStep, "__call__", stops)
        with pytest.raises(KeyboardInterrupt):
            adversarial(broken)
    monkeypatch.setattr(AdversarialStep, "__call__", call)
    assert (adversarial(broken) / "dit/weights.safetensors").read_bytes() == weights


@pytest.mark.slow
def test_samplers_take_their_share_of_what_the_generator_has_learned(tmp_path: Path, random_world: Any) -> None:
    other = NamedSamplerConfig(dit="other", sampler=SamplerConfig(num_steps=4))
    same = NamedSamplerConfig(dit="same", sampler=SamplerConfig(num_steps=2))
    world = random_world.save(tmp_path / "world", dataclasses.replace(STUDENT, samplers={"other": other, "same": same}))
    for name in ("other", "same"):
        copy_component(world / "dit", world / name)
    folder = adversarial(settings(world, "+samplers.default=1", "+samplers.other=0.5"))
    joined = folder.parent / "samplers"
    folders = (world / "dit", folder / "dit", joined / "other", joined / "dit")
    before, after, half, whole = (load_file(each / "weights.safetensors") for each in folders)
    for name in before:
        middle = (before[name].float() + after[name].float()) / 2
        torch.testing.assert_close(half[name].float(), middle, rtol=2e-3, atol=1e-5)
        torch.testing.assert_close(whole[name].float(), after[name].float(), rtol=2e-3, atol=1e-5)
    assert any((half[name] != before[name]).any() for name in before)
    assert (joined / "same/weights.safetensors").read_bytes() == (world / "same/weights.safetensors").read_bytes()
    assert load_world(joined, WorldOptions(sampler="other")).spec.evaluations_per_clip == 4


@pytest.mark.slow
def test_a_training_that_diverges_says_so_and_keeps_its_state(world: Path) -> None:
    config = settings(world, "adversarial.score_limit=1e-9")
    with pytest.raises(TrainingDiverged, match=r"^adversarial.score_limit: expected scores of mean size 1e-09 or less"):
        adversarial(config)
    assert (world.parent / "run/discriminator/training_state.safetensors").exists()
    other = dataclasses.replace(config, discriminator_lr=1e-3)
    with pytest.raises(ValueError, match="discriminator_lr"):  # another run's settings
        adversarial(other)


def test_samplers_that_cannot_take_a_share_are_named_before_the_training(tmp_path: Path, random_world: Any) -> None:
    same = NamedSamplerConfig(dit="dit", sampler=SamplerConfig(num_steps=2))
    wide = NamedSamplerConfig(dit="wide", sampler=SamplerConfig(num_steps=2))
    world = random_world.save(tmp_path / "world", dataclasses.replace(STUDENT, samplers={"same": same, "wide": wide}))
    copy_component(world / "dit", world / "wide")
    config = world / "wide/config.yaml"
    config.write_text(
        re.sub(r"(?m)^rope_scale:.*\n(?:- .*\n)*", "", config.read_text()) + "rope_scale: [1.0, 0.5, 0.5]\n"
    )
    with pytest.raises(ValueError, match=r"^samplers: expected networks of their own, 'same' has that of 'default'"):
        adversarial(settings(world, "+samplers.default=1", "+samplers.same=0.5"))
    with pytest.raises(ValueError, match=r"^samplers: expected a network built as the student's, 'wide' has another"):
        adversarial(settings(world, "+samplers.wide=1"))
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("data.clips.num_latents=5", r"^data.clips.num_latents: expected 9 for adversarial.num_clips=2, got 5"),
        ("data.clips.height=32", r"^data.clips.height: expected 16, the world's, got 32"),
        ("teacher=null", r"^teacher: expected a world for the regression, got None"),
        ("adversarial.regression_weight=0", r"^teacher: expected none with adversarial.regression_weight=0, got /"),
        ("sampler=quality", r"^sampler: expected one of this world's, \['default'\], got 'quality'"),
        ("+samplers.fast=0.5", r"^sampler: expected one of this world's, \['default'\], got 'fast'"),
        ("num_preview_scenes=0", r"^num_preview_scenes: expected at least 1, got 0"),
    ],
)
def test_what_does_not_fit_is_named_before_clips_are_rendered(world: Path, change: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        adversarial(settings(world, change))
    assert not (world.parent / "data").exists()
