"""`python -m model.cli.adversarial experiment=debug|tiny`: a one-step student that learns from a discriminator."""

import dataclasses
from functools import partial
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from configs.command_line import hydra_command
from model.build import TrainAdversarialConfig
from model.checkpoint import (
    component_exists,
    copy_component,
    load_component,
    load_config,
    load_meta,
    save_component,
    stored_dtype,
)
from model.cli.fine_tuning import check_size
from model.cli.joint_training import encoded_clips, held_out_scenes
from model.cli.world_saver import WorldSaver
from model.curation.training_clips import is_data_set
from model.data.clips import ClipSet
from model.distillation.adversarial import AdversarialPair, AdversarialStep
from model.distillation.discriminator import Discriminator
from model.dit.video_dit import VideoDiT, VideoDiTConfig
from model.text.encoder import TextEncoder
from model.training import distributed, run_folder
from model.training.ema import ExponentialMovingAverage
from model.training.latent_set import (
    LatentBatches,
    channel_weights,
    clips_fingerprint,
    encoder_fingerprint,
    weights_fingerprint,
)
from model.training.loop import fit
from model.training.optim import build_optimizers
from model.training.stage import StageConfig
from model.training.state import TrainState
from model.vae.video_vae import VideoVAE, VideoVAEConfig
from model.world.clip_sampler import SamplerConfig
from model.world.config import WorldConfig, read_world_config, write_world_config
from model.world.folder import world_folder
from model.world.load import DEPTH_FOLDER, build_text_encoder


def adversarial(config: TrainAdversarialConfig) -> Path:
    """Runs (or resumes) both stages; returns the folder of the generator's world."""
    device = distributed.start(config.device)
    if config.num_threads:
        torch.set_num_threads(config.num_threads)
    folder, student, world = student_of(config, device)
    teacher = teacher_of(config, student, device)
    check_samplers(folder, student, config.samplers)
    check_clips(config, world)
    run_folder.check_settings(config.out, config)
    vae = load_component(folder / "vae", VideoVAEConfig, VideoVAE).to(device).requires_grad_(False).eval()
    text_encoder = build_text_encoder(world.text_encoder, folder)
    inputs = {"vae": encoder_fingerprint(vae), "student": weights_fingerprint(student)}
    if teacher is not None:
        inputs["teacher"] = weights_fingerprint(teacher[0])
    torch.manual_seed(config.seed)  # for the discriminator's new layers
    pair = AdversarialPair(student, Discriminator(student, config.adversarial.depths).to(device))
    clips, latents = encoded_clips(config.data, vae, world)
    inputs["data.folder"] = clips_fingerprint(clips)
    with distributed.local_main_first():
        scenes = held_out_scenes(config, clips.config, world.poses_per_clip)
    weights = channel_weights(clips, vae, latents, config.adversarial.channel_weight_power)
    run_folder.keep_settings(config.out, config)
    check_cameras(clips)
    null_text = text_encoder.null(1)[0]
    step = partial(AdversarialStep, config.adversarial, world, null_text, teacher=teacher, channel_weights=weights)
    out, first, second = Path(config.out), config.discriminator, config.training
    state = discriminator_state(pair, config, inputs)
    data = batches(first, clips, latents, text_encoder, config.seed, device)
    discriminate = step(train_generator=False)
    fit(discriminate, state, data, num_steps=first.num_steps, config=first.fit, folder=out / "discriminator")
    state = generator_state(pair, config, inputs)
    vae_meta = load_meta(folder / "vae")
    saver = WorldSaver(
        out,
        state,
        world,
        vae,
        text_encoder,
        scenes,
        num_clips=len(clips),
        is_bfloat16=second.fit.uses_bfloat16(device),
        vae_meta=vae_meta,
    )
    data = batches(second, clips, latents, text_encoder, config.seed + 1, device)
    generate = step(train_generator=True)
    fit(generate, state, data, num_steps=second.num_steps, config=second.fit, folder=out / "generator", sample=saver)
    finish(config, folder, saver)
    return saver.folder


def batches(
    stage: StageConfig,
    clips: ClipSet,
    latents: Float[Tensor, "n c f h w"],
    text_encoder: TextEncoder,
    seed: int,
    device: torch.device,
) -> LatentBatches:
    """A stage's batches for this process, on its device; all clips keep their cameras."""
    return LatentBatches(
        clips,
        latents,
        text_encoder,
        batch_size=stage.batch_size,
        labelled_share=1.0,
        seed=seed,
        micro_batches=stage.fit.accumulation,
        rank=distributed.rank(),
        world_size=distributed.world_size(),
        device=device,
    )


def finish(config: TrainAdversarialConfig, folder: Path, saver: WorldSaver) -> None:
    """The main process completes the generator's world, and with `samplers` a copy of the student's; then all stop."""
    saver.finish()
    if distributed.is_main():
        if component_exists(folder / DEPTH_FOLDER):
            copy_component(folder / DEPTH_FOLDER, saver.folder / DEPTH_FOLDER)
        if config.samplers:
            samplers = Path(config.out) / "samplers"
            change_samplers(samplers, folder, config.sampler, saver.folder / "dit", config.samplers)
    distributed.stop()


def check_samplers(folder: Path, student: VideoDiT, shares: dict[str, float]) -> None:
    """Raises ValueError for samplers that cannot take a share of the student's change, before hours of training."""
    world, seen = read_world_config(folder), dict[str, str]()
    for name in shares:
        component = world.sampler_named(name).dit
        if component in seen:
            raise ValueError(f"samplers: expected networks of their own, {name!r} has that of {seen[component]!r}")
        seen[component] = name
        if load_config(folder / component, VideoDiTConfig) != student.config:
            raise ValueError(f"samplers: expected a network built as the student's, {name!r} has another; leave it out")


def change_samplers(
    folder: Path, student: Path, sampler: str | None, generator: Path, shares: dict[str, float]
) -> None:
    """Writes a copy of the student's world in which each named sampler gets its share of the generator's change.

    The generator began as one sampler's network; the change of its weights in training, times the share, is added to
    the network of each named sampler. A sampler with more evaluations has the same ancestors, so it gets sharper, too.

    Source: Ilharco et al. 2023, "Editing Models with Task Arithmetic"; that it carries over to samplers is measured in
    `model/pretrained/tiny/card.md`.
    """
    world = read_world_config(student)
    named = {world.sampler_named(name).dit: share for name, share in shares.items()}
    begin = load_component(student / world.sampler_named(sampler).dit, VideoDiTConfig, VideoDiT).state_dict()
    end = load_component(generator, VideoDiTConfig, VideoDiT).state_dict()
    others = {"dit", "vae", DEPTH_FOLDER, *(other.dit for other in world.samplers.values())} - named.keys()
    for component in sorted(others):
        if component_exists(student / component):
            copy_component(student / component, folder / component)
    for component, share in named.items():
        dit = load_component(student / component, VideoDiTConfig, VideoDiT)
        with torch.no_grad():
            for name, weight in dit.state_dict().items():
                weight += share * (end[name] - begin[name])
        meta = {**load_meta(student / component), "adversarial": {"share": share, **load_meta(generator)}}
        save_component(folder / component, dit, dit.config, meta, stored_dtype(student / component))
    write_world_config(folder, world)


def student_of(config: TrainAdversarialConfig, device: torch.device) -> tuple[Path, VideoDiT, WorldConfig]:
    """The student's folder, its network, and its world with that sampler only."""
    folder = world_folder(config.world)
    world = read_world_config(folder)
    named = world.sampler_named(config.sampler)
    world = dataclasses.replace(world, sampler=named.sampler, opening=named.opening, samplers={})
    return folder, load_component(folder / named.dit, VideoDiTConfig, VideoDiT).to(device), world


def teacher_of(
    config: TrainAdversarialConfig, student: VideoDiT, device: torch.device
) -> tuple[VideoDiT, SamplerConfig] | None:
    """The teacher's network and sampler; None without regression.

    Raises:
        ValueError: The teacher is missing, or given but not needed, or has other latents than the student.
    """
    is_needed = config.adversarial.regression_weight > 0
    if is_needed != (config.teacher is not None):
        wanted = "a world for the regression" if is_needed else "none with adversarial.regression_weight=0"
        raise ValueError(f"teacher: expected {wanted}, got {config.teacher}; change one of them")
    if config.teacher is None:
        return None
    folder = world_folder(config.teacher)
    named = read_world_config(folder).sampler_named(config.teacher_sampler)
    dit = load_component(folder / named.dit, VideoDiTConfig, VideoDiT).to(device).requires_grad_(False).eval()
    for name in ("in_channels", "text_dim"):
        own, wanted_size = getattr(dit.config, name), getattr(student.config, name)
        if own != wanted_size:
            raise ValueError(f"teacher: expected a world with {name} {wanted_size}, the student's, got {own}")
    return dit, named.sampler


def check_clips(config: TrainAdversarialConfig, world: WorldConfig) -> None:
    """Raises ValueError for settings that do not fit the world, before hours of rendering."""
    if config.num_preview_scenes < 1:
        raise ValueError(f"num_preview_scenes: expected at least 1, got {config.num_preview_scenes}")
    if is_data_set(config.data.source):  # the clips of films have a size of their own
        return
    check_size(config.data.clips, world)
    needed, given = 1 + config.adversarial.num_clips * world.poses_per_clip, config.data.clips.num_latents
    if given < needed:
        raise ValueError(
            f"data.clips.num_latents: expected {needed} for adversarial.num_clips={config.adversarial.num_clips}, "
            f"got {given}; give longer clips or fewer of them"
        )


def check_cameras(clips: ClipSet) -> None:
    """Raises ValueError if a clip has no camera path for the student to fly."""
    if not bool(clips.labelled.all()):
        missing = int((~clips.labelled).sum())
        raise ValueError(f"data: expected clips with cameras, whose paths are flown, got {missing} without; drop them")


def discriminator_state(pair: AdversarialPair, config: TrainAdversarialConfig, inputs: dict[str, str]) -> TrainState:
    """The first stage, before its first step: the generator is frozen."""
    pair.generator.requires_grad_(False)
    optimizers = build_optimizers(pair.discriminator, config.discriminator.optimizer)
    return TrainState(module=pair, optimizers=optimizers, seed=config.seed, inputs=inputs)


def generator_state(pair: AdversarialPair, config: TrainAdversarialConfig, inputs: dict[str, str]) -> TrainState:
    """The second stage, after the first: both networks, each with its own optimiser and gradient clipping."""
    pair.generator.requires_grad_(True)
    own, lr = config.discriminator.optimizer, config.discriminator_lr
    rival = own if lr is None else dataclasses.replace(own, lr=lr)
    return TrainState(
        module=pair,
        optimizers=[
            *build_optimizers(pair.generator, config.training.optimizer),
            *build_optimizers(pair.discriminator, rival),
        ],
        ema=ExponentialMovingAverage(pair, config.training.ema_decay, prefix="generator."),
        seed=config.seed + 1,
        inputs={**inputs, "discriminator": weights_fingerprint(pair.discriminator)},
        parts={"generator": pair.generator, "discriminator": pair.discriminator},
    )


def run(config: TrainAdversarialConfig) -> None:
    """Runs the command line: `python -m model.cli.adversarial --help`."""
    with run_folder.locked(config.out):
        print(f"written: {adversarial(config)}")


main = hydra_command("configs.adversarial", "config", TrainAdversarialConfig, run)


if __name__ == "__main__":
    main()
