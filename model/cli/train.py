"""`python -m model.cli.train experiment=debug|tiny`: joint training of the DiT; writes a world folder, `OUT/world`."""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from configs.command_line import hydra_command
from model.build import TrainConfig
from model.cli.fine_tuning import frozen_base, parent_of, starting_dit, starting_point, starting_vae
from model.cli.joint_training import (
    check_tokens,
    check_windows,
    encoded_clips,
    held_out_scenes,
    latent_batches,
    sharded_data,
    training_text_encoder,
)
from model.cli.world_saver import WorldSaver
from model.data.clips import ClipSetConfig
from model.device import usable_device
from model.dit.video_dit import VideoDiT, VideoDiTConfig
from model.evaluation.oracle import OracleScenes
from model.text.encoder import TextEncoder
from model.text.stored import StoredTextEncoder
from model.text.tiny_vocabulary import split_words
from model.training import distributed, run_folder
from model.training.flow_matching_step import FlowMatchingStep
from model.training.latent_set import clips_fingerprint, encoder_fingerprint
from model.training.latent_shards import shards_fingerprint
from model.training.loop import Batches, fit
from model.training.lora import add_lora
from model.training.plan import training_memory
from model.training.precision import to_training
from model.training.sharding import share_windows
from model.training.stage import check_context_parallel, train_state
from model.vae.video_vae import VideoVAE, VideoVAEConfig
from model.world.config import TextEncoderConfig, WorldConfig
from model.world.load import assemble_world
from model.world.open.memory_need import check_memory


def train(config: TrainConfig) -> Path:
    """Runs (or resumes) the whole stage; returns the world folder, which is rewritten at every sample too."""
    device = distributed.start(config.device)
    if config.num_threads:
        torch.set_num_threads(config.num_threads)
    torch.manual_seed(config.seed)
    given = config
    config, initial = starting_point(config)
    vae, vae_meta = starting_vae(config)
    vae.requires_grad_(False).eval().to(device)
    check_settings(config, vae, initial)
    inputs = {"vae": encoder_fingerprint(vae), **frozen_base(config)}
    if config.data.shards:
        inputs["data.shards"] = shards_fingerprint(config.data.shards)
    run_folder.check_inputs(Path(config.out), inputs)
    run_folder.check_settings(config.out, given)
    data = training_data(config, vae, initial, device)
    inputs |= data.inputs
    state = train_state(starting_dit(config), config.training, config.seed, inputs, device)
    if config.training.fit.context_parallel > 1:
        share_windows(state.module, device, config.training.fit.context_parallel)
    sample = WorldSaver(
        Path(config.out),
        state,
        data.world,
        vae,
        data.text_encoder,
        data.scenes,
        num_clips=data.num_clips,
        is_bfloat16=config.training.fit.uses_bfloat16(device),
        vae_meta=vae_meta,
        parent=parent_of(given),
    )
    run_folder.keep_settings(config.out, given)
    fit(
        FlowMatchingStep(
            config.diffusion,
            data.text_encoder.null(1)[0],
            channel_weights=data.channel_weights,
            dit=config.dit,
        ),
        state,
        data.batches,
        num_steps=config.training.num_steps,
        config=config.training.fit,
        folder=Path(config.out),
        sample=sample,
    )
    sample.finish()
    distributed.stop()
    return sample.folder


@dataclass(frozen=True)
class TrainingData:
    """The data of a training, what they say about the world, and what a run that goes on must find again (`inputs`)."""

    batches: Batches
    channel_weights: Tensor
    world: WorldConfig
    text_encoder: TextEncoder
    scenes: OracleScenes | None
    num_clips: int
    inputs: dict[str, str] = field(default_factory=dict)


def training_data(config: TrainConfig, vae: VideoVAE, initial: WorldConfig, device: torch.device) -> TrainingData:
    """Clips that are encoded here, or shards that were encoded before, whose held-out scenes `data.held_out` has."""
    if config.data.shards:
        data = sharded_data(config, config.base, config.dit, vae, initial.text_encoder, device)
        world = world_config(config, initial, data.clips, data.batches.indices[0].captions)
        weights = torch.ones(vae.config.latent_channels)
        return TrainingData(data.batches, weights, world, data.text_encoder, data.scenes, len(data.batches))
    goes_on = config.initial_world is not None or config.base is not None
    clips, latents = encoded_clips(config.data, vae, initial if goes_on else None)
    world = world_config(config, initial, clips.config, clips.captions)
    with distributed.local_main_first():  # held-out films are decoded once
        scenes = held_out_scenes(config, clips.config, config.diffusion.num_new)
    prompts = [*clips.captions, *(scenes.captions if scenes else [])]
    text_encoder = training_text_encoder(world.text_encoder, prompts, config.data.source, config.device)
    batches, weights = latent_batches(config, clips, latents, vae, text_encoder)
    inputs = {"data.folder": clips_fingerprint(clips)}
    return TrainingData(batches, weights, world, text_encoder, scenes, len(clips), inputs)


def check_settings(config: TrainConfig, vae: VideoVAE, initial: WorldConfig) -> None:
    """Builds all that takes settings, without clips and weights: a bad one is reported before hours of rendering.

    Raises:
        ValueError: A setting is out of range, or two do not fit each other.
    """
    check_channels(config.dit, vae.config)
    if config.num_preview_scenes < 1:
        raise ValueError(f"num_preview_scenes: expected at least 1, got {config.num_preview_scenes}")
    world = world_config(config, initial, config.data.clips)
    text = world.text_encoder
    text_encoder = StoredTextEncoder(Path(config.out), text.dim, text.num_tokens)  # never asked for a prompt
    check_windows(config.diffusion, config.data.clips)
    with torch.device("meta"):
        dit = VideoDiT(config.dit)
        dit = add_lora(dit, config.lora) if config.lora.rank else dit
    train_state(dit, config.training, config.seed)
    check_context_parallel(dit, config.training)
    size = (config.data.clips.height, config.data.clips.width)
    check_tokens(config.training.fit.context_parallel, config.dit, vae, *size)
    advice = "train adapters (lora.rank=32), or torchrun with training.fit.shard=true; cc2-plan says what a step takes"
    device = usable_device(config.device)
    to_training(dit, torch.device("meta"), config.training.fit.uses_bfloat16(device))
    check_memory(device, training_memory(dit, config.training, distributed.world_size()), advice)
    assemble_world(dit, vae, text_encoder, world)


def check_channels(dit: VideoDiTConfig, vae: VideoVAEConfig) -> None:
    """Raises ValueError unless the DiT takes and predicts the VAE's latents."""
    wanted = vae.latent_channels
    for name in ("in_channels", "out_channels"):
        if getattr(dit, name) != wanted:
            raise ValueError(
                f"dit.{name}: expected {wanted}, as many as the VAE's latents have, got {getattr(dit, name)}; "
                f"give dit.in_channels={wanted} dit.out_channels={wanted}"
            )


def world_config(
    config: TrainConfig, initial: WorldConfig, clips: ClipSetConfig, captions: Sequence[str] = ()
) -> WorldConfig:
    """The settings of the trained world; captions of its own data are its default prompts.

    A world that goes on learning keeps a longer context than the steps have: clips of one's own are often short.
    """
    context, memory = config.diffusion.longest_context, config.diffusion.memory_latents
    if config.initial_world is not None and initial.context_latents > context:
        context, memory = initial.context_latents, initial.memory_latents
    return dataclasses.replace(
        initial,
        height=clips.height,
        width=clips.width,
        fps=clips.fps,
        horizontal_fov_deg=clips.horizontal_fov_deg,
        poses_per_clip=config.diffusion.num_new,
        # at least 1, the opening: a world that only learned text-to-video continues it, too, as well as it can
        context_latents=max(1, context),
        memory_latents=memory,
        sampler=config.sampler,
        opening=config.opening,
        text_encoder=dataclasses.replace(
            initial.text_encoder,
            vocabulary=vocabulary(initial.text_encoder, captions),
            dim=config.text.dim,
            num_tokens=config.text.num_tokens,
        ),
        default_prompts=sorted(set(captions[:256])),
    )


def vocabulary(encoder: TextEncoderConfig, captions: Sequence[str]) -> list[str]:
    """The words that are known, and those of the clips' own captions; none for an encoder that reads any text."""
    if encoder.kind != "tiny_vocabulary":
        return []
    words = {word for caption in captions for word in split_words(caption)}
    return list(dict.fromkeys([*encoder.vocabulary, *sorted(words)]))


def run(config: TrainConfig) -> None:
    """Runs the command line: `python -m model.cli.train --help`."""
    with run_folder.locked(config.out):
        print(f"written: {train(config)}")


main = hydra_command("configs.train", "config", TrainConfig, run)


if __name__ == "__main__":
    main()
