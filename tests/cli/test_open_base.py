"""An open base is trained, in full and with adapters: what comes out flies, goes on, and is distilled."""

import dataclasses
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from hydra import compose, initialize_config_module
from omegaconf import OmegaConf

import cc2env
from model.build import DataConfig, DistillConfig, TrainConfig
from model.checkpoint import load_training_state
from model.cli import joint_training
from model.cli import train as command
from model.cli.distill import distill
from model.cli.encode import EncodeConfig, encode
from model.cli.fine_tuning import frozen_base, starting_point
from model.cli.train import train
from model.data.clips import ClipSetConfig, render_clip_set
from model.pretrained import wan
from model.pretrained.original_files import num_stored
from model.training.flow_matching_step import FlowMatchingStep
from model.training.lora import LoRAConfig
from model.world.config import read_world_config, write_world_config
from model.world.networks import read_dit, read_world
from model.world.open import memory_need
from model.world.options import WorldOptions

diffusers = pytest.importorskip("diffusers")
pytest.importorskip("ftfy")


ROOT = Path(__file__).parents[2]
SIZES = (
    "num_preview_scenes=1", "data.clips.num_latents=6", "data.clips.height=32", "data.clips.width=32",
    "data.clips.shard_size=4", "diffusion.num_new=2", "sampler.num_steps=1", "opening.num_steps=1",
    "training.fit.accumulation=2", "training.fit.sample_every=0", "training.fit.checkpoint_steps=1",
)  # fmt: skip


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("clips")
    config = ClipSetConfig(num_clips=4, num_latents=6, height=32, width=32, fps=12.0, shard_size=4)
    render_clip_set(folder, config, num_workers=1)
    return folder


def settings(experiment: str, base: Path, clips: Path, out: Path, *more: str) -> TrainConfig:
    """An experiment of the page at a size of seconds."""
    given = [
        f"experiment={experiment}", f"base={base}", f"data.folder={clips}", f"out={out}", *SIZES, "training.num_steps=3"
    ]  # fmt: skip
    with initialize_config_module(config_module="configs.train", version_base=None):
        config = OmegaConf.to_object(compose("config", [*given, *more]))
    assert isinstance(config, TrainConfig)
    shares = {0: 0.2, 1: 0.4, 2: 0.4} if experiment != "wan_phase1" else {0: 0.5, 1: 0.5}
    config.diffusion = dataclasses.replace(config.diffusion, context_shares=shares)
    return config


def distillation_settings(world: Path, clips: Path, out: Path, *more: str) -> list[str]:
    """Two steps of the debug distillation."""
    return [
        "experiment=debug", f"world={world}", f"out={out}", "data.render_into=null", f"data.folder={clips}",
        "data.clips.num_latents=6", "data.clips.height=32", "data.clips.width=32", "diffusion.num_new=2",
        "diffusion.memory_latents=0", "flights.share=0", "training.num_steps=2", "teacher.sampler_steps=null",
        "num_preview_scenes=1", "training.fit.sample_every=0", *more,
    ]  # fmt: skip


def distillation(world: Path, clips: Path, out: Path, *more: str) -> DistillConfig:
    """The same as a configuration, image to video."""
    given = distillation_settings(world, clips, out, *more)
    with initialize_config_module(config_module="configs.distill", version_base=None):
        config = OmegaConf.to_object(compose("config", given))
    assert isinstance(config, DistillConfig)
    config.diffusion = dataclasses.replace(config.diffusion, context_shares={1: 1.0})
    return config


def fly(folder: Path) -> np.ndarray:
    """The frames of one clip."""
    env = gym.make(cc2env.ENV_ID, world=str(folder))
    env.reset(seed=3, options={"prompt": "a red box"})
    frames = env.step(np.zeros(env.action_space.shape, dtype=np.float32))[0]
    env.close()
    return frames


TOGETHER = ("training.fit.shard=true", "training.fit.context_parallel=2")


def torchrun(module: str, given: list[str]) -> None:
    """A command in two processes."""
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "-m", module]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    ended = subprocess.run([*launch, *given], env=environment, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr[-3000:]


def losses(run: Path) -> list[float]:
    return [json.loads(line)["loss"] for line in (run / "curve.jsonl").read_text().splitlines()]


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return read_dit(folder).state_dict()


def test_both_phases_then_the_world_flies_and_is_distilled(
    wan_base: Path, clips: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = train(settings("wan_phase1", wan_base, clips, tmp_path / "one"))
    before, after = weights(wan_base), weights(first)
    assert all(not torch.equal(before[name], after[name]) for name in ("blocks.0.self_attention.query.weight",))
    assert after["camera_embedding.patchify.weight"].any()  # zero in the base
    # embeddings are in the data's folder now: the encoder, larger than the network, is not loaded again
    monkeypatch.setattr(joint_training, "build_text_encoder", None)
    second = train(settings("wan_phase2", first, clips, tmp_path / "two"))
    world = read_world(second)
    assert (world.height, world.width, world.context_latents) == (32, 32, 2)
    assert Path(world.text_encoder.folder) == wan_base  # the pipeline's, not copied
    assert fly(second).shape == (8, 32, 32, 3)
    diffusers.WanTransformer3DModel.from_pretrained(second / "transformer")
    config = distillation(second, clips, tmp_path / "fast")
    with pytest.raises(ValueError, match=r"^teacher, samplers: expected none"):
        distill(dataclasses.replace(config, teacher=WorldOptions(sampler_steps=2)))
    student = distill(config)
    assert read_world(student).sampler.guidance_text == 1.0 and fly(student).shape == (8, 32, 32, 3)


@pytest.mark.slow
def test_two_processes_share_windows_in_the_command(wan_base: Path, clips: Path, tmp_path: Path) -> None:
    given = {"training.num_steps": 2, "training.batch_size": 1, "training.fit.bfloat16": "false"}
    changes = [f"{name}={value}" for name, value in given.items()]
    train(settings("wan_phase1", wan_base, clips, tmp_path / "alone", *changes))
    shared = [
        "experiment=wan_phase1", f"base={wan_base}", f"data.folder={clips}", f"out={tmp_path}/together", *SIZES,
        *changes, "diffusion.context_shares={0:0.5,1:0.5}", *TOGETHER,
    ]  # fmt: skip
    torchrun("model.cli.train", shared)
    alone, together = losses(tmp_path / "alone"), losses(tmp_path / "together")
    assert len(together) == 2 and together == pytest.approx(alone, rel=1e-4)
    assert fly(tmp_path / "together/world").shape == (8, 32, 32, 3)


@pytest.mark.slow
def test_two_processes_train_adapters_and_write_them_merged(wan22_base: Path, clips: Path, tmp_path: Path) -> None:
    given = ("lora.rank=2", "training.num_steps=2", "training.batch_size=1", "training.fit.bfloat16=true")
    train(settings("wan_lora", wan22_base, clips, tmp_path / "alone", *given, "training.fit.accumulation=4"))
    shared = [
        "experiment=wan_lora", f"base={wan22_base}", f"data.folder={clips}", f"out={tmp_path}/together", *SIZES, *given,
        "+diffusion.context_shares={0:0.2,1:0.4,2:0.4,4:0,6:0}", "training.fit.shard=true",
    ]  # fmt: skip
    torchrun("model.cli.train", shared)
    # the batches of a step are the same, drawn by two processes; products in bfloat16 are summed in another order
    assert losses(tmp_path / "together") == pytest.approx(losses(tmp_path / "alone"), rel=2e-2)
    one, two = (weights(tmp_path / name / "world") for name in ("alone", "together"))
    for name, tensor in one.items():
        torch.testing.assert_close(two[name], tensor, rtol=2**-7, atol=2e-3, msg=lambda m, n=name: f"{n}: {m}")
    assert (tmp_path / "together/world/pytorch_lora_weights.safetensors").is_file()
    assert fly(tmp_path / "together/world").shape == (8, 32, 32, 3)


def test_the_papers_distillation_reads_shards(wan_base: Path, clips: Path, tmp_path: Path) -> None:
    world = train(settings("wan_phase1", wan_base, clips, tmp_path / "world", "training.num_steps=1"))
    sizes = ClipSetConfig(num_clips=4, num_latents=6, height=32, width=32, fps=12.0, shard_size=4)
    source = DataConfig(folder=str(clips), num_workers=1, clips=sizes)
    shards = encode(EncodeConfig(base=str(wan_base), data=source, out=str(tmp_path / "shards"), clips_per_file=2))
    given = [
        "experiment=wan", f"world={world}", f"out={tmp_path}/fast", f"data.shards=[{shards}]", *SIZES[:4],
        "diffusion.num_new=2", "+diffusion.context_shares={0:0.5,1:0.5,2:0,6:0,12:0}", "training.num_steps=2",
        "training.fit.accumulation=2", "training.fit.sample_every=0",
    ]  # fmt: skip
    with initialize_config_module(config_module="configs.distill", version_base=None):
        config = OmegaConf.to_object(compose("config", given))
        with pytest.raises(ValueError, match=r"^flights.share: expected 0 with data.shards"):
            OmegaConf.to_object(compose("config", [*given, "flights.share=0.5"]))
        larger = OmegaConf.to_object(compose("config", [*given, "data.clips.height=64"]))
    with pytest.raises(ValueError, match=r"^data.clips.height: expected 32, the world's, got 64"):
        distill(larger)
    assert isinstance(config, DistillConfig) and config.gradient_checkpointing == "selective"
    # a pipeline that has all its parts says where they are from where it lies
    stored = read_world_config(world)
    for part in ("text_encoder", "tokenizer"):
        shutil.copytree(wan_base / part, world / part)
    write_world_config(
        world, dataclasses.replace(stored, text_encoder=dataclasses.replace(stored.text_encoder, folder="."))
    )
    student = distill(config)
    assert Path(read_world(student).text_encoder.folder) == world
    assert read_world(student).sampler.guidance_text == 1.0 and fly(student).shape == (8, 32, 32, 3)
    assert len(losses(tmp_path / "fast/phase_1")) == 2


@pytest.mark.slow
def test_two_processes_distil_together(wan_base: Path, clips: Path, tmp_path: Path) -> None:
    world = train(settings("wan_phase1", wan_base, clips, tmp_path / "world", "training.num_steps=1"))
    distill(distillation(world, clips, tmp_path / "alone", "training.optimizer.muon=false"))
    given = distillation_settings(world, clips, tmp_path / "together", "training.optimizer.muon=false")
    torchrun("model.cli.distill", [*given, "+diffusion.context_shares={1:1.0,0:0,4:0}", *TOGETHER])
    alone, together = (losses(tmp_path / name / "phase_1") for name in ("alone", "together"))
    assert len(together) == 2 and together == pytest.approx(alone, rel=1e-4)
    students = [weights(tmp_path / name / "phase_1/world") for name in ("alone", "together")]
    for name, tensor in students[0].items():  # averaged with the teacher, and stored in bfloat16
        torch.testing.assert_close(students[1][name], tensor, rtol=2**-7, atol=1e-3)


def test_a_text_encoder_that_does_not_fit_is_named_before_it_is_read(
    wan_base: Path, clips: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(clips, tmp_path / "clips")
    shutil.rmtree(tmp_path / "clips/text", ignore_errors=True)
    monkeypatch.setattr(joint_training, "build_text_encoder", None)
    encoder = num_stored(wan_base / "text_encoder")
    monkeypatch.setattr(memory_need, "_available", lambda device: encoder * 2 - 1)
    monkeypatch.setattr(command, "check_memory", lambda *arguments: None)  # of the network, which is smaller in life
    with pytest.raises(
        ValueError, match=r"^device: expected .* GB on cpu \(text encoder .*run the command with device"
    ):
        train(settings("wan_lora", wan_base, tmp_path / "clips", tmp_path / "run"))


def test_a_run_goes_on_with_the_same_clips_only(wan_base: Path, clips: Path, tmp_path: Path) -> None:
    changed = tmp_path / "clips"
    shutil.copytree(clips, changed)
    run = ("wan_phase1", wan_base, changed, tmp_path / "run")
    train(settings(*run, "training.num_steps=1"))
    records = changed / "records_00000.json"
    records.write_text(records.read_text().replace(" a ", " another "))
    with pytest.raises(ValueError, match=r"^data.folder: expected the one that .* was trained for"):
        train(settings(*run, "training.num_steps=2"))


def test_wan_2_2_goes_the_same_way_and_diffusers_reads_both_networks(
    wan22_base: Path, clips: Path, tmp_path: Path
) -> None:
    first = train(settings("wan_phase1", wan22_base, clips, tmp_path / "one", "training.num_steps=1"))
    second = train(settings("wan_phase2", first, clips, tmp_path / "two", "training.num_steps=1"))
    given = ("training.num_steps=1", "lora.rank=2", "training.fit.bfloat16=true")
    adapted = train(settings("wan_lora", wan22_base, clips, tmp_path / "lora", *given))
    student = distill(distillation(second, clips, tmp_path / "fast"))
    for world in (second, adapted, student):
        assert fly(world).shape == (8, 32, 32, 3)
        transformer = diffusers.WanTransformer3DModel.from_pretrained(world / "transformer")
        assert transformer.config.in_channels == 48
    vae = diffusers.AutoencoderKLWan.from_pretrained(second / "vae")
    assert vae.config.z_dim == 48 and vae.config.is_residual


def test_adapters_are_resumed_exactly_and_come_out_merged_and_alone(
    wan_base: Path, clips: Path, tmp_path: Path
) -> None:
    whole = train(settings("wan_lora", wan_base, clips, tmp_path / "whole", "lora.rank=2"))
    killed = settings("wan_lora", wan_base, clips, tmp_path / "killed", "lora.rank=2")
    step = FlowMatchingStep.__call__

    def until_the_third(self: FlowMatchingStep, module: torch.nn.Module, batch: Any, generator: torch.Generator) -> Any:
        if (tmp_path / "killed/training_state.safetensors").exists() and len(seen) == 4:
            raise KeyboardInterrupt
        seen.append(1)
        return step(self, module, batch, generator)

    seen: list[int] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(FlowMatchingStep, "__call__", until_the_third)
        with pytest.raises(KeyboardInterrupt):
            train(killed)
    parts = train(killed)
    for name, tensor in weights(whole).items():
        assert torch.equal(tensor, weights(parts)[name]), name
    state = load_training_state(tmp_path / "whole/training_state.safetensors")
    kept = {name for name in state["tensors"] if name.startswith("module/")}
    assert kept and not any("base_layer" in name for name in kept)  # the base is not kept with the state
    pipeline = diffusers.WanTransformer3DModel.from_pretrained(wan_base / "transformer")
    pipeline.load_lora_adapter(str(whole / "pytorch_lora_weights.safetensors"), prefix="transformer")
    assert fly(whole).shape == (8, 32, 32, 3)


def test_adapters_of_another_base_are_refused(wan_base: Path, clips: Path, tmp_path: Path) -> None:
    config = settings("wan_lora", wan_base, clips, tmp_path / "run", "lora.rank=2", "training.num_steps=1")
    train(config)
    dit = wan.load_dit(wan_base / "transformer")
    torch.nn.init.normal_(dit.head.linear.weight)
    wan.save_dit(dit, wan_base / "transformer")
    with pytest.raises(ValueError, match=r"^base: expected the one that"):
        train(dataclasses.replace(config, training=dataclasses.replace(config.training, num_steps=2)))


def one_file(base: Path) -> Path:
    (base.parent / "wan.gguf").touch()
    return base.parent / "wan.gguf"


def adapters(base: Path) -> Path:
    (base.parent / "lora").mkdir()
    (base.parent / "lora/pytorch_lora_weights.safetensors").touch()
    return base.parent / "lora"


def half_a_checkpoint(base: Path) -> Path:
    wan.save_dit(wan.load_dit(base / "transformer"), base / "transformer", max_shard_bytes=2e4)
    sorted((base / "transformer").glob("*.safetensors"))[0].unlink()
    return base


def another_family(base: Path) -> Path:
    path = base / "transformer/config.json"
    path.write_text(path.read_text().replace("WanTransformer3DModel", "LTXVideoTransformer3DModel"))
    return base


def two_experts(base: Path) -> Path:
    shutil.copytree(base / "transformer", base / "transformer_2")
    return base


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (one_file, r"^base: expected a folder .* got quantised weights \(GGUF\)"),
        (adapters, r"^base: expected a folder .* got adapters \(LoRA"),
        (half_a_checkpoint, r"expected a file diffusion_pytorch_model-00001-of"),
        (another_family, r"_class_name WanTransformer3DModel, got LTXVideo"),
        (two_experts, r"two experts"),
        (lambda base: base / "nowhere", r"^base: expected a folder .* there is no"),
    ],
)
def test_what_is_no_base_is_named(spoil: Callable[[Path], Path], message: str, wan_base: Path, tmp_path: Path) -> None:
    config = settings("wan_phase1", spoil(wan_base), tmp_path, tmp_path / "run")
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        starting_point(config)


def test_settings_of_the_bases_own_are_refused(wan_base: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"^dit: expected none beside base"):
        starting_point(settings("wan_phase1", wan_base, tmp_path, tmp_path / "run", "dit.num_blocks=2"))
    with pytest.raises(ValueError, match=r"^lora.rank: expected 0 without base"):
        frozen_base(TrainConfig(out="", lora=LoRAConfig(rank=4)))
