"""`python -m model.cli.distill experiment=debug|tiny|wan`: progressive distillation, from a world to faster worlds."""

import dataclasses
from itertools import pairwise
from pathlib import Path

import torch

from configs.command_line import hydra_command
from model.build import DistillConfig, PhasesOfSamplers
from model.checkpoint import component_exists, copy_component, load_component, load_meta, save_component, stored_dtype
from model.cli.fine_tuning import check_size
from model.cli.joint_training import (
    check_tokens,
    check_windows,
    encoded_clips,
    held_out_scenes,
    latent_batches,
    sharded_data,
    training_text_encoder,
)
from model.cli.world_saver import WorldSaver, averaged
from model.curation.training_clips import is_data_set
from model.distillation.flights import MixedBatches, flights_of
from model.distillation.progressive import ProgressiveStep, StepPlan
from model.dit.video_dit import VideoDiT, VideoDiTConfig
from model.training import distributed, run_folder
from model.training.latent_set import LatentBatches, clips_fingerprint, encoder_fingerprint, weights_fingerprint
from model.training.latent_shards import ShardedLatentBatches, shards_fingerprint
from model.training.loop import Batches, fit
from model.training.precision import to_training
from model.training.sharding import is_sharded, shard, share_windows
from model.training.stage import check_context_parallel, train_state
from model.training.state import TrainState
from model.training.windows import WindowSampler
from model.world.clip_sampler import SamplerConfig
from model.world.config import DEFAULT_SAMPLER, WorldConfig
from model.world.folder import world_folder
from model.world.load import DEPTH_FOLDER, copy_world, join_worlds, sampled_config
from model.world.networks import is_wan, read_dit, read_vae, read_world
from model.world.options import WorldOptions


def distill(config: DistillConfig) -> Path:
    """Runs (or resumes) all phases; returns the folder of the last one's world, or of the world of several samplers."""
    device = distributed.start(config.device)
    folder = world_folder(config.world)
    teacher = sampled_config(with_text_encoder_of(folder, read_world(folder)), config.teacher)
    worlds = plan_worlds(config, teacher)
    if is_wan(folder) and (config.teacher != WorldOptions() or config.samplers != PhasesOfSamplers()):
        raise ValueError(
            "teacher, samplers: expected none for a world in diffusers' layout, which holds one network; set the "
            "teacher's steps and weights in its world.yaml"
        )
    if config.num_threads:
        torch.set_num_threads(config.num_threads)
    torch.manual_seed(config.seed)
    run_folder.check_settings(config.out, config)
    phases = Phases(config, folder, teacher, device)
    run_folder.keep_settings(config.out, config)
    if config.teacher != WorldOptions():
        with distributed.local_main_first():
            folder = copy_world(Path(config.out) / "teacher", folder, config.teacher)
    folders = [folder]
    for number, (before, after) in enumerate(pairwise(worlds), start=1):
        folders.append(phases.run(number, folders[-1], before, after))
    joined = Path(config.out) / "world"
    phase_of = {name: phase for name, phase in vars(config.samplers).items() if phase is not None}
    if phase_of and distributed.is_main():
        join_worlds(joined, {name: folders[phase] for name, phase in phase_of.items()})
        for name, weight in config.teacher_weights.items():
            average_with_teacher(joined / ("dit" if name == DEFAULT_SAMPLER else name), folders[0], weight)
    distributed.stop()
    return joined if phase_of else folders[-1]


class Phases:
    """What all phases share: clips, their latents, the VAE and the text encoder of the world in `folder`."""

    def __init__(self, config: DistillConfig, folder: Path, world: WorldConfig, device: torch.device) -> None:
        self.config, self.device = config, device
        self.vae = read_vae(folder).to(device)
        self.vae.requires_grad_(False).eval()
        self.vae_meta, self.depth = {} if is_wan(folder) else load_meta(folder / "vae"), folder / DEPTH_FOLDER
        # a bad setting is reported before hours of rendering
        check_windows(config.diffusion, config.data.clips)
        teacher = read_dit(folder, dtype=None)
        check_context_parallel(teacher, config.training)
        check_tokens(config.training.fit.context_parallel, teacher.config, self.vae, world.height, world.width)
        self.weights = torch.ones(self.vae.config.latent_channels)
        if config.data.shards:
            check_size(config.data.clips, world)
            base = str(folder) if is_wan(folder) else None
            data = sharded_data(config, base, teacher.config, self.vae, world.text_encoder, device)
            self.batches: ShardedLatentBatches | LatentBatches = data.batches
            self.scenes, self.text_encoder, self.num_clips = data.scenes, data.text_encoder, len(data.batches)
            self.inputs = {"data.shards": shards_fingerprint(config.data.shards)}
            return
        if not is_data_set(config.data.source):  # the clips of films have a size of their own
            check_size(config.data.clips, world)
        clips, latents = encoded_clips(config.data, self.vae, world)
        with distributed.local_main_first():
            self.scenes = held_out_scenes(config, clips.config, config.diffusion.num_new)
        self.num_clips, self.inputs = len(clips), {"data.folder": clips_fingerprint(clips)}
        prompts = [*clips.captions, *(self.scenes.captions if self.scenes else [])]
        self.text_encoder = training_text_encoder(world.text_encoder, prompts, config.data.source, config.device)
        self.batches, self.weights = latent_batches(config, clips, latents, self.vae, self.text_encoder)

    def run(self, number: int, folder: Path, before: WorldConfig, after: WorldConfig) -> Path:
        """Trains a student of the world in `folder`, from `before` to `after`; returns the folder of its world."""
        config, run = self.config, Path(self.config.out) / f"phase_{number}"
        teacher, student = read_dit(folder, dtype=None), read_dit(folder, dtype=None)
        inputs = {"vae": encoder_fingerprint(self.vae), "teacher": weights_fingerprint(teacher)}
        inputs |= self.inputs
        run_folder.check_inputs(run, inputs)
        student.gradient_checkpointing = config.gradient_checkpointing
        state = train_state(student, config.training, config.seed, inputs, self.device)
        teacher.requires_grad_(False).eval()
        batches: Batches = self.batches
        if config.flights.share:
            is_bfloat16 = config.training.fit.uses_bfloat16(self.device)
            batches = self.with_flights(to_training(teacher, self.device, is_bfloat16), before, run)
        self.spread(teacher, state)
        windows = WindowSampler(config.diffusion, self.text_encoder.null(1)[0], teacher.config)
        clips, opening = step_plan(before.sampler, after.sampler), step_plan(before.opening, after.opening)
        is_first = is_guided(clips) or is_guided(opening)  # phase to distil guidance
        saver = WorldSaver(
            run,
            state,
            after,
            self.vae,
            self.text_encoder,
            self.scenes,
            num_clips=self.num_clips,
            is_bfloat16=config.training.fit.uses_bfloat16(self.device),
            vae_meta=self.vae_meta,
            teacher=(folder, config.teacher_weight) if config.teacher_weight and is_first else None,
        )
        print(f"phase {number}: clips in {describe(clips)}, openings in {describe(opening)}", flush=True)
        fit(
            ProgressiveStep(windows, teacher, clips, opening, self.weights),
            state,
            batches,
            num_steps=config.training.num_steps,
            config=config.training.fit,
            folder=run,
            sample=saver,
        )
        saver.finish()
        if distributed.is_main() and component_exists(self.depth):
            copy_component(self.depth, saver.folder / DEPTH_FOLDER)
        distributed.barrier()
        return saver.folder

    def spread(self, teacher: VideoDiT, state: TrainState) -> None:
        """Brings the teacher to where the student is: to the device, or in shares to all processes."""
        fit, is_bfloat16 = self.config.training.fit, self.config.training.fit.uses_bfloat16(self.device)
        if not is_sharded(state.module):
            to_training(teacher, self.device, is_bfloat16)
            return
        shard(teacher, self.device, is_bfloat16)
        if fit.context_parallel > 1:
            for network in (teacher, state.module):
                share_windows(network, self.device, fit.context_parallel)

    def with_flights(self, teacher: VideoDiT, world: WorldConfig, run: Path) -> MixedBatches:
        """The clips, mixed with flights of the teacher as it samples in `world`."""
        config, null_text = self.config, self.text_encoder.null(1)[0]
        assert isinstance(self.batches, LatentBatches)  # `DistillConfig` refuses flights from shards
        is_bfloat16 = config.training.fit.uses_bfloat16(self.device)  # as the student learns
        with distributed.local_main_first(), torch.autocast(self.device.type, torch.bfloat16, is_bfloat16):
            flights = flights_of(
                teacher, self.batches, null_text, world, config.flights, run / "flights.safetensors", config.seed
            )
        return MixedBatches(self.batches, flights, config.flights.share, config.seed)


def with_text_encoder_of(folder: Path, world: WorldConfig) -> WorldConfig:
    """The world's settings with the whole path of a text encoder that has a folder: students lie elsewhere."""
    text = world.text_encoder
    if text.kind != "umt5":
        return world
    return dataclasses.replace(
        world, text_encoder=dataclasses.replace(text, folder=str((folder / text.folder).resolve()))
    )


def average_with_teacher(component: Path, teacher: Path, weight: float) -> None:
    """Moves the network in a component's folder this far along the line to that of the world in `teacher`."""
    student = load_component(component, VideoDiTConfig, VideoDiT)
    network, meta = averaged(student, read_dit(teacher), weight), {**load_meta(component), "teacher_weight": weight}
    save_component(component, network, network.config, meta, stored_dtype(component))


def plan_worlds(config: DistillConfig, world: WorldConfig) -> list[WorldConfig]:
    """The teacher's settings, and those of the student of every phase.

    Raises:
        ValueError: A setting is out of range, does not fit the world, or leaves a phase nothing to do.
    """
    for name in ("phases", "least_steps", "least_opening_steps", "num_preview_scenes"):
        if getattr(config, name) < 1:
            raise ValueError(f"{name}: expected at least 1, got {getattr(config, name)}")
    if not 0 <= config.teacher_weight < 1:
        raise ValueError(f"teacher_weight: expected 0 or more and less than 1, got {config.teacher_weight}")
    for name, phase in vars(config.samplers).items():
        if phase is not None and not 0 <= phase <= config.phases:
            raise ValueError(f"samplers.{name}: expected a phase, 0 to {config.phases}, got {phase}; 0 is the teacher")
    for name, weight in config.teacher_weights.items():
        if vars(config.samplers).get(name) is None or not 0 <= weight < 1:
            raise ValueError(
                f"teacher_weights: expected for samplers that have a phase 0 or more and less than 1, got {name}: "
                f"{weight}; set samplers.{name}"
            )
    if any(phase is not None for phase in vars(config.samplers).values()) and config.samplers.default is None:
        raise ValueError("samplers.default: expected a phase beside the others', got none; name it")
    for name, wanted in (("num_new", world.poses_per_clip), ("memory_latents", world.memory_latents)):
        if getattr(config.diffusion, name) != wanted:
            raise ValueError(
                f"diffusion.{name}: expected {wanted}, as the world continues its clips, got "
                f"{getattr(config.diffusion, name)}"
            )
    if config.diffusion.context_noise < world.sampler.context_noise:
        raise ValueError(
            f"diffusion.context_noise: expected at least {world.sampler.context_noise}, the noise of the teacher's "
            f"contexts, got {config.diffusion.context_noise}"
        )
    worlds = [world]
    for phase in range(1, config.phases + 1):
        before = worlds[-1]
        after = dataclasses.replace(
            before,
            sampler=fewer_steps(before.sampler, config.least_steps),
            opening=fewer_steps(before.opening, config.least_opening_steps),
        )
        if after == before:
            raise ValueError(
                f"phases: expected fewer, phase {phase} has nothing to do: clips already take "
                f"{before.sampler.num_steps} steps and openings {before.opening.num_steps}, without guidance"
            )
        worlds.append(after)
    return worlds


def fewer_steps(sampler: SamplerConfig, least: int) -> SamplerConfig:
    """Half the steps if that is a whole number and not below `least`, and no guidance.

    Raises:
        ValueError: The solver is not Euler's, the only one whose steps can be distilled.
    """
    if sampler.solver != "euler":
        raise ValueError(f"world: expected the solver 'euler', got {sampler.solver!r}; set it in its world.yaml")
    half, left_over = divmod(sampler.num_steps, 2)
    num_steps = sampler.num_steps if left_over or half < least else half
    return dataclasses.replace(sampler, num_steps=num_steps, guidance_text=1.0, guidance_camera=1.0)


def step_plan(teacher: SamplerConfig, student: SamplerConfig) -> StepPlan:
    """The plan of one phase for one sampler."""
    return StepPlan(
        teacher_steps=teacher.num_steps,
        student_steps=student.num_steps,
        shift=teacher.shift,
        guidance_text=teacher.guidance_text,
        guidance_camera=teacher.guidance_camera,
    )


def describe(plan: StepPlan) -> str:
    """A plan in words."""
    return f"{plan.student_steps} steps for {plan.teacher_steps}{' guided ones' if is_guided(plan) else ''}"


def is_guided(plan: StepPlan) -> bool:
    """Whether the teacher uses guidance."""
    return plan.guidance_text != 1 or plan.guidance_camera != 1


def run(config: DistillConfig) -> None:
    """Runs the command line: `python -m model.cli.distill --help`."""
    with run_folder.locked(config.out):
        print(f"written: {distill(config)}")


main = hydra_command("configs.distill", "config", DistillConfig, run)


if __name__ == "__main__":
    main()
