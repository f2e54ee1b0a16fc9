"""`python -m model.cli.train_depth experiment=debug|tiny`: the depth head of a learned world; writes `OUT/depth`."""

import json
from pathlib import Path

import torch

from configs.command_line import hydra_command
from model.build import DataConfig, TrainDepthConfig
from model.checkpoint import copy_component, load_component, load_meta, save_component
from model.curation.training_clips import clip_set, is_data_set
from model.data.clips import ClipSet
from model.data.depth_maps import depth_maps
from model.device import usable_device
from model.training import run_folder
from model.training.depth_step import DepthPairs, DepthStep
from model.training.latent_set import encode_clip_set, encoder_fingerprint
from model.training.loop import fit
from model.training.stage import train_state
from model.vae.latent_depth import LatentDepth
from model.vae.video_vae import VideoVAE, VideoVAEConfig
from model.world.folder import world_folder
from model.world.load import DEPTH_FOLDER

_HELD_OUT = 50  # one clip in this many is for measuring, not for training


def train_depth(config: TrainDepthConfig) -> Path:
    """Runs (or resumes) the whole stage; returns the folder of the finished head, `out/depth`."""
    usable_device(config.device)
    if config.num_threads:
        torch.set_num_threads(config.num_threads)
    torch.manual_seed(config.seed)
    world = world_folder(config.world)
    vae = load_component(world / "vae", VideoVAEConfig, VideoVAE).to(config.device)
    vae.requires_grad_(False).eval()
    inputs = {"vae": encoder_fingerprint(vae)}
    run_folder.check_inputs(Path(config.out), inputs)
    run_folder.check_settings(config.out, config)
    clips = rendered_clips(config.data)
    trained, held_out = pairs(config, clips, vae)
    state = train_state(LatentDepth(config.depth).to(config.device), config.training, config.seed, inputs)
    step = DepthStep(noise=config.noise, near=config.near, near_weight=config.near_weight)
    num_steps = config.training.num_steps
    run_folder.keep_settings(config.out, config)
    fit(step, state, trained, num_steps=num_steps, config=config.training.fit, folder=Path(config.out))
    assert state.ema is not None
    with state.ema.applied_to(state.module) as module:
        assert isinstance(module, LatentDepth)
        meta = {
            "latents": inputs["vae"],
            "steps": state.step,
            "hours": round(state.elapsed_seconds / 3600, 2),
            "clips": config.num_clips,
            **held_out_errors(module, held_out, config.near),
        }
        save_component(Path(config.out) / DEPTH_FOLDER, module, config.depth, meta, torch.float16)
    return Path(config.out) / DEPTH_FOLDER


def rendered_clips(data: DataConfig) -> ClipSet:
    """The clips, which must be rendered ones: their depth is known.

    Raises:
        FileNotFoundError: `data.folder` holds no clips.
        ValueError: It holds films, whose depth is unknown.
    """
    if not data.is_rendered and is_data_set(data.source):
        raise ValueError(
            f"data.folder: expected a rendered clip set, whose depth is known, {data.source} holds films; render one "
            "with data.render_into=FOLDER"
        )
    return clip_set(data.source, data.clips, data.num_workers, render=data.is_rendered)


def pairs(config: TrainDepthConfig, clips: ClipSet, vae: VideoVAE) -> tuple[DepthPairs, DepthPairs]:
    """Pairs to train on, and pairs only to measure on: latents, poses and depth of the clips.

    Raises:
        ValueError: The head does not fit the VAE, or there are too few clips.
    """
    if config.depth.latent_channels != vae.config.latent_channels:
        raise ValueError(
            f"depth.latent_channels: expected {vae.config.latent_channels} like the VAE's, "
            f"got {config.depth.latent_channels}"
        )
    if config.num_clips < 2:
        raise ValueError(f"num_clips: expected at least 2, one to train on and one to measure, got {config.num_clips}")
    latents = encode_clip_set(clips, vae)[: config.num_clips]
    rows, columns = (side * config.depth.cells for side in latents.shape[-2:])
    depth = depth_maps(clips, config.num_clips, rows, columns, config.depth.max_depth)
    first = config.num_clips - max(1, config.num_clips // _HELD_OUT)

    def part(chosen: slice) -> DepthPairs:
        return DepthPairs(
            latents[chosen],
            clips.poses[: config.num_clips][chosen],
            depth[chosen],
            clips.config.intrinsics(),
            batch_size=config.training.batch_size,
            seed=config.seed,
        )

    return part(slice(first)), part(slice(first, None))


@torch.no_grad()
def held_out_errors(module: LatentDepth, held_out: DepthPairs, near: float) -> dict[str, float]:
    """Mean absolute logarithm of estimated over true depth, for all pixels and for near ones, on the held-out clips."""
    num_clips, num_frames = held_out.depth.shape[:2]
    device = next(module.parameters()).device
    rows, frames = torch.cartesian_prod(torch.arange(num_clips), torch.arange(num_frames)).unbind(1)
    errors, depths = [], []
    for row, frame in zip(rows.split(64), frames.split(64), strict=True):
        batch = held_out.pairs(row, frame)
        depth = module.eval()(*(each.to(device) for each in batch[:4])).cpu()
        errors.append((depth.log() - batch.depth.log()).abs())
        depths.append(batch.depth)
    error, is_near = torch.cat(errors), torch.cat(depths) < near
    return {"error": round(float(error.mean()), 4), "near_error": round(float(error[is_near].mean()), 4)}


def install(depth: Path, world: str) -> Path:
    """Puts a trained head into the folder of its world, where `load_world` finds it; returns where."""
    where = world_folder(world) / DEPTH_FOLDER
    copy_component(depth, where)
    return where


def run(config: TrainDepthConfig) -> None:
    """Runs the command line: `python -m model.cli.train_depth --help`."""
    with run_folder.locked(config.out):
        depth = train_depth(config)
        print(f"written: {depth} ({json.dumps(load_meta(depth))})")
        if config.install:
            print(f"written: {install(depth, config.world)}")


main = hydra_command("configs.train_depth", "config", TrainDepthConfig, run)


if __name__ == "__main__":
    main()
