"""`python -m model.cli.train_vae experiment=debug|tiny`: renders clips, trains the VAE on them; writes `OUT/vae`."""

import dataclasses
import os
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor, nn

from configs.command_line import hydra_command
from model.build import TrainVAEConfig, require_component
from model.checkpoint import load_component, load_meta, save_component, stored_dtype
from model.curation.training_clips import clip_set, held_out_set
from model.data.clips import ClipSet
from model.data.video_io import to_float
from model.device import usable_device
from model.diffusion.timesteps import sampling_schedule
from model.dit.video_dit import VideoDiT, VideoDiTConfig
from model.training import run_folder
from model.training.decoder_step import DecoderStep, FirstClips
from model.training.latent_set import encoder_fingerprint, weights_fingerprint
from model.training.loop import Batches, StepFunction, fit
from model.training.stage import train_state
from model.training.state import TrainState
from model.training.vae_step import VAEStep, VideoWindows, latent_statistics, reconstruction_sheet
from model.vae.video_vae import VideoVAE, VideoVAEConfig
from model.world.config import read_world_config
from model.world.folder import world_folder
from model.world.load import build_text_encoder


def train_vae(config: TrainVAEConfig) -> Path:
    """Runs (or resumes) the whole stage; returns the folder of the finished VAE, `out/vae`."""
    usable_device(config.device)
    config.vae.validate()  # all this before the clips are rendered, which may take an hour
    with torch.device("meta"):
        train_state(VideoVAE(config.vae), config.training, config.seed)
    if config.install and config.generator is None:
        raise ValueError("install: expected a generator, the world whose VAE is to be replaced, got none")
    given = config
    if config.generator is not None:
        config = of_generator(config, world_folder(config.generator))
    if config.num_threads:
        torch.set_num_threads(config.num_threads)
    torch.manual_seed(config.seed)
    out = Path(config.out)
    run_folder.check_settings(out, given)
    clips, truth = render_data(config)
    windows = VideoWindows(
        clips, batch_size=config.training.batch_size, num_latents=config.window_latents, seed=config.seed
    )
    vae = initial_vae(config, windows)

    def sample(module: nn.Module, step: int) -> None:
        assert isinstance(module, VideoVAE)
        if truth is not None:
            score = reconstruction_sheet(module, truth, out / "samples" / f"step_{step:06d}.png")
            print(f"\nstep {step}: held-out reconstruction {score:.2f} dB", flush=True)

    state = train_state(vae, config.training, config.seed)
    if config.initial_vae is not None and config.freeze_encoder:
        state.inputs["vae"] = encoder_fingerprint(vae)  # its latents must not change, whatever the decoder learned
    step: StepFunction = VAEStep(
        l1_weight=config.l1_weight, kl_weight=config.kl_weight, gradient_weight=config.gradient_weight
    )
    batches: Batches = windows
    if config.generator is not None:
        decoder_step, batches = decoder_fine_tuning(config, Path(config.generator), clips)
        step, state.inputs["dit"] = decoder_step, weights_fingerprint(decoder_step.dit)
    run_folder.check_inputs(out, state.inputs)
    run_folder.keep_settings(out, given)
    sample(vae, 0)
    fit(
        step, state, batches, num_steps=config.training.num_steps, config=config.training.fit, folder=out, sample=sample
    )
    return finish(config, vae, state, windows, truth)


def of_generator(config: TrainVAEConfig, world: Path) -> TrainVAEConfig:
    """The settings to train this world's own decoder with its encoder frozen: its DiT fits no other."""
    if config.initial_vae is not None:
        raise ValueError(f"initial_vae: expected none beside generator, whose VAE it is, got {config.initial_vae}")
    return dataclasses.replace(config, generator=str(world), initial_vae=str(world / "vae"), freeze_encoder=True)


def decoder_fine_tuning(config: TrainVAEConfig, world: Path, clips: ClipSet) -> tuple[DecoderStep, FirstClips]:
    """The step and the batches of a decoder that learns from the latents of this world's DiT."""
    settings = read_world_config(world)
    dit = load_component(require_component("generator", str(world / "dit")), VideoDiTConfig, VideoDiT)
    sampler = settings.sampler
    batches = FirstClips(
        clips,
        build_text_encoder(settings.text_encoder, world),
        batch_size=config.training.batch_size,
        num_latents=1 + settings.poses_per_clip,
        seed=config.seed,
    )
    dit.requires_grad_(False).eval().to(config.device)
    return DecoderStep(dit=dit, schedule=sampling_schedule(sampler.num_steps, sampler.shift)), batches


def render_data(config: TrainVAEConfig) -> tuple[ClipSet, Float[Tensor, "b 3 f h w"] | None]:
    """The clips to train on, and held-out ones as video, if there are any."""
    data = config.data
    clips = clip_set(data.source, data.clips, data.num_workers, render=data.is_rendered)
    others = dataclasses.replace(data.clips, num_clips=config.num_held_out, first_seed=config.held_out_seed)
    held_out = held_out_set(data.source, others, data.num_workers, render=data.is_rendered)
    if held_out is None:
        return clips, None
    return clips, to_float(torch.stack([torch.from_numpy(held_out.frames(i).copy()) for i in range(len(held_out))]))


def initial_vae(config: TrainVAEConfig, windows: VideoWindows) -> VideoVAE:
    """The network before its first step: a trained one, or a new one with its linear path fitted to the first clips."""
    if config.initial_vae is not None:
        vae = load_component(require_component("initial_vae", config.initial_vae), VideoVAEConfig, VideoVAE)
    else:
        vae = VideoVAE(config.vae)
        if vae.linear_path is not None:
            vae.init_linear_path_from_pca(windows.first_clips(config.num_pca_clips))
    if config.freeze_encoder:
        vae.freeze_encoder()
    return vae.to(config.device)


def finish(
    config: TrainVAEConfig,
    vae: VideoVAE,
    state: TrainState,
    windows: VideoWindows,
    truth: Float[Tensor, "b 3 f h w"] | None,
) -> Path:
    """Measures the averaged network on held-out clips, and writes it, with its latents' statistics, to `out/vae`."""
    out = Path(config.out)
    if config.install:
        assert config.generator is not None
        check_encoder(vae, Path(config.generator), out)
    assert state.ema is not None
    with state.ema.applied_to(vae):
        if config.initial_vae is None or not config.freeze_encoder:  # else a DiT may rely on the latents as they are
            vae.set_latent_statistics(*latent_statistics(vae, windows.first_clips(config.num_pca_clips)))
        score = None if truth is None else reconstruction_sheet(vae, truth, out / "samples" / "final.png")
        meta = {
            "steps": state.step,
            "hours": round(state.elapsed_seconds / 3600, 2),
            "clips": len(windows.clips),
            **({} if score is None else {"held_out_psnr_db": round(score, 2)}),
            "cpu_count": os.cpu_count(),
        }
        save_component(out / "vae", vae, vae.config, meta)
        if config.install:
            assert config.generator is not None
            folder = Path(config.generator) / "vae"
            save_component(folder, vae, vae.config, {**load_meta(folder), "decoder": meta}, stored_dtype(folder))
    print(f"written: {out / 'vae'} ({meta})")
    return out / "vae"


def check_encoder(vae: VideoVAE, world: Path, out: Path) -> None:
    """Raises ValueError unless the VAE's encoder is the world's, whose DiT fits no other."""
    own, worlds = encoder_fingerprint(vae), encoder_fingerprint(load_component(world / "vae", VideoVAEConfig, VideoVAE))
    if own != worlds:
        raise ValueError(
            f"install: expected the encoder of {world} (fingerprint {worlds}), got another, that of {out} "
            f"(fingerprint {own}); give another out=, or remove {out / run_folder.STATE_FILE} to train anew"
        )


def run(config: TrainVAEConfig) -> None:
    """Runs the command line: `python -m model.cli.train_vae --help`."""
    with run_folder.locked(config.out):
        train_vae(config)


main = hydra_command("configs.train_vae", "config", TrainVAEConfig, run)


if __name__ == "__main__":
    main()
