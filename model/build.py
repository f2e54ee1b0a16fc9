"""The configuration schemas of all commands, and the plain code that builds what they name."""

import math
from dataclasses import dataclass, field
from pathlib import Path

from omegaconf import MISSING

from model.data.clips import ClipSetConfig
from model.data.synthetic.seeds import HELD_OUT_SEED, PREVIEW_SEED
from model.distillation.adversarial import AdversarialConfig
from model.distillation.flights import FlightsConfig
from model.dit.gradient_checkpointing import check_gradient_checkpointing
from model.dit.video_dit import VideoDiTConfig
from model.evaluation.world_evaluator import EvaluationConfig
from model.training.flow_matching_step import FlowMatchingConfig
from model.training.lora import LoRAConfig
from model.training.optim import OptimizerConfig
from model.training.stage import StageConfig, adamw_stage
from model.training.windows import WindowConfig
from model.vae.latent_depth import LatentDepthConfig
from model.vae.video_vae import VideoVAEConfig
from model.world.clip_sampler import SamplerConfig
from model.world.options import WorldOptions


@dataclass(kw_only=True)
class DataConfig:
    """Which clips are trained on: those in a folder, or rendered ones.

    Attributes:
        folder: A data set of films or a clip set that was rendered before; it is only read.
        render_into: Without `folder`: clips are rendered into this folder; those that are already there are kept.
        num_workers: Processes that render or decode.
        clips: Size, rate, length and number of the clips.
        shards: Without both: folders or addresses of shards of `model.cli.encode`, whose latents are streamed.
        weights: How often a step takes its clips from each of `shards`; none: in proportion to their numbers of clips.
        held_out: Beside `shards`: a data set of `model.cli.curate`, whose held-out clips are previewed; None: no clips.
        mirror: The DiT also learns from every clip's mirror image.
        scale_spread: The unit of length of the paths is drawn for each scene, between 1 / this and this metres; 1:
            metres. The paper's Table 3, "without scale calibration".

    Raises:
        ValueError: The spread is less than 1, or a setting has no effect because of another one.
    """

    folder: str | None = None
    render_into: str | None = None
    shards: list[str] = field(default_factory=list)
    weights: list[float] = field(default_factory=list)
    held_out: str | None = None
    num_workers: int = 2
    clips: ClipSetConfig = field(default_factory=ClipSetConfig)
    mirror: bool = False
    scale_spread: float = 1.0

    def __post_init__(self) -> None:
        if not 1 <= self.scale_spread < math.inf:
            raise ValueError(f"data.scale_spread: expected 1 or more, got {self.scale_spread}; 1 leaves metres")
        if self.weights and not self.shards:
            raise ValueError(f"data.weights: expected none without data.shards, got {self.weights}")
        if self.held_out is not None and not self.shards:
            raise ValueError(
                f"data.held_out: expected none without data.shards, got {self.held_out}; a data.folder has its own"
            )
        if self.shards and (self.folder or self.render_into or self.mirror or self.scale_spread != 1):
            raise ValueError(
                "data.shards: expected no data.folder, data.render_into, data.mirror or data.scale_spread beside them; "
                "they hold latents that are ready"
            )
        rendered = ClipSetConfig()
        for name in ("moving_objects", "paths"):
            if self.folder is not None and getattr(self.clips, name) != getattr(rendered, name):
                raise ValueError(
                    f"data.clips.{name}: expected the default, it has no effect on clips that are read from "
                    f"data.folder={self.folder}, got {getattr(self.clips, name)!r}"
                )

    @property
    def source(self) -> Path:
        """The folder of the clips.

        Raises:
            ValueError: none is named.
        """
        source = self.folder if self.folder is not None else self.render_into
        if source is None:
            raise ValueError(
                "data.folder: expected a data set of films or a rendered clip set, got none; name one, or render clips "
                "with data.render_into=FOLDER"
            )
        return Path(source)

    @property
    def is_rendered(self) -> bool:
        """Whether missing clips are rendered: only if `folder` is not given."""
        return self.folder is None


@dataclass(kw_only=True)
class RunConfig:
    """Settings of every training command: its folder, its seed, where it runs, and its clips."""

    out: str = MISSING
    seed: int = 0
    device: str = "cpu"
    num_threads: int = 0  # 0: torch's default
    data: DataConfig = field(default_factory=DataConfig)


@dataclass(kw_only=True)
class TrainVAEConfig(RunConfig):
    """`python -m model.cli.train_vae`."""

    # continue from this VAE, whose own shape replaces `vae`; with freeze_encoder its latents do not change
    initial_vae: str | None = None
    window_latents: int = 5
    # latents stay those of the initial linear path, so a DiT can train on them while the decoder still learns
    freeze_encoder: bool = False
    # a world whose decoder is trained on what its DiT generates, encoder frozen; `install` writes it into that world
    generator: str | None = None
    install: bool = False
    num_pca_clips: int = 256
    num_held_out: int = 32
    held_out_seed: int = PREVIEW_SEED
    l1_weight: float = 1.0
    kl_weight: float = 1e-6
    gradient_weight: float = 0.0
    vae: VideoVAEConfig = field(default_factory=VideoVAEConfig)
    training: StageConfig = field(default_factory=adamw_stage)


@dataclass(kw_only=True)
class TextConfig:
    """The tiny vocabulary encoder: width and number of its tokens."""

    dim: int = 64
    num_tokens: int = 24


@dataclass(kw_only=True)
class TrainConfig(RunConfig):
    """`python -m model.cli.train`: joint training of the DiT on the latents of `vae` (a component folder).

    Attributes:
        vae: The VAE's folder.
        base: A downloaded Wan pipeline, or a world that was trained from one, instead of `vae`, `dit` and `text`.
        initial_dit: Weights to start from, instead of random ones.
        initial_world: `tiny` or a world's folder, instead of both: training continues from it (fine-tuning), with its
            own VAE, network and vocabulary, at the height and width of the clips, and with its own `sampler` and
            `opening` unless others are given.
        initial_sampler: The sampler of that world whose network is trained; None: its default.
        lora: Train adapters instead of all parameters.
        gradient_checkpointing: full: blocks are recomputed in the backward pass; selective: all of them but the
            attention.
    """

    vae: str | None = None
    base: str | None = None
    initial_dit: str | None = None
    initial_world: str | None = None
    initial_sampler: str | None = None
    dit: VideoDiTConfig = field(default_factory=VideoDiTConfig)
    text: TextConfig = field(default_factory=TextConfig)
    diffusion: FlowMatchingConfig = field(default_factory=FlowMatchingConfig)
    sampler: SamplerConfig = field(default_factory=SamplerConfig)
    opening: SamplerConfig = field(default_factory=SamplerConfig)
    num_preview_scenes: int = 16
    lora: LoRAConfig = field(default_factory=LoRAConfig)
    gradient_checkpointing: str = "none"
    training: StageConfig = field(default_factory=StageConfig)

    def __post_init__(self) -> None:
        check_gradient_checkpointing(self.gradient_checkpointing)


@dataclass(kw_only=True)
class PhasesOfSamplers:
    """For each sampler of `out`/world, the phase whose student it is (0: the teacher); no default: no such world."""

    quality: int | None = None
    default: int | None = None
    fast: int | None = None


@dataclass(kw_only=True)
class DistillConfig(RunConfig):
    """`python -m model.cli.distill`: a world that needs fewer network evaluations, from one that needs many.

    Attributes:
        world: The world whose sampler is the teacher.
        teacher: Which of its samplers, and how it samples; by default as the world's `default`.
        gradient_checkpointing: Of the student, as in `train`.
    """

    world: str = MISSING
    teacher: WorldOptions = field(default_factory=WorldOptions)
    # each phase halves the steps of clips and openings, down to `least_*`; the first also distils the guidance
    phases: int = 1
    samplers: PhasesOfSamplers = field(default_factory=PhasesOfSamplers)
    least_steps: int = 1
    least_opening_steps: int = 1
    # the student with distilled guidance is averaged with its teacher, whose share this is: less guidance
    teacher_weight: float = 0.0
    # the same for samplers of `out`/world: of which the first phase's teacher gets this share of the weights
    teacher_weights: dict[str, float] = field(default_factory=dict)
    diffusion: WindowConfig = field(default_factory=WindowConfig)
    flights: FlightsConfig = field(default_factory=FlightsConfig)
    num_preview_scenes: int = 16
    gradient_checkpointing: str = "none"
    training: StageConfig = field(default_factory=StageConfig)

    def __post_init__(self) -> None:
        check_gradient_checkpointing(self.gradient_checkpointing)
        if self.data.shards and self.flights.share:
            raise ValueError(
                f"flights.share: expected 0 with data.shards, got {self.flights.share}; flights start from clips of a "
                "data.folder"
            )


def discriminator_stage() -> StageConfig:
    optimizer = OptimizerConfig(muon=False, lr=3e-4, betas=[0.9, 0.95])
    return StageConfig(num_steps=80, batch_size=8, optimizer=optimizer)


def generator_stage() -> StageConfig:
    optimizer = OptimizerConfig(muon=False, lr=3e-5, betas=[0.5, 0.95])
    return StageConfig(num_steps=220, batch_size=8, ema_decay=0.98, optimizer=optimizer)


@dataclass(kw_only=True)
class TrainAdversarialConfig(RunConfig):
    """`python -m model.cli.adversarial`: a student learns to look real to a discriminator.

    Attributes:
        world: The student, a distilled world.
        sampler: Which of that world's samplers; None: its default.
        teacher: The world whose clips are the targets of the regression; none with `adversarial.regression_weight=0`.
        teacher_sampler: Which of that world's samplers; None: its default.
        discriminator: The first stage, in which the generator does not change. It has no `ema_decay`.
        discriminator_lr: The discriminator's learning rate in the second stage; None: as in the first.
        training: The second stage, which trains both networks; the optimiser is the generator's.
        samplers: For samplers of the student's world: the share of the generator's change that each gets in the world
            `out`/samplers. Without any, no such world is written.
    """

    world: str = MISSING
    sampler: str | None = None
    teacher: str | None = None
    teacher_sampler: str | None = None
    adversarial: AdversarialConfig = field(default_factory=AdversarialConfig)
    discriminator: StageConfig = field(default_factory=discriminator_stage)
    discriminator_lr: float | None = None
    num_preview_scenes: int = 16
    training: StageConfig = field(default_factory=generator_stage)
    samplers: dict[str, float] = field(default_factory=dict)


@dataclass(kw_only=True)
class TrainDepthConfig(RunConfig):
    """`python -m model.cli.train_depth`: the depth head of a learned world, trained on the renderer's depth."""

    world: str = MISSING
    install: bool = False
    num_clips: int = 64  # of the clip set; the last two in a hundred (at least one) are held out
    depth: LatentDepthConfig = field(default_factory=LatentDepthConfig)
    noise: float = 0.3
    near: float = 4.0
    near_weight: float = 3.0
    training: StageConfig = field(default_factory=adamw_stage)


@dataclass(kw_only=True)
class BlockedConfig:
    """`python -m model.cli.evaluate blocked`."""

    world: str = "tiny"
    num_scenes: int = 64
    num_clips: int = 1
    out: str = "runs/evaluate/blocked.json"
    first_seed: int = HELD_OUT_SEED
    batch_size: int = 16
    device: str = "cpu"


@dataclass(kw_only=True)
class OracleConfig(WorldOptions, EvaluationConfig):
    """`python -m model.cli.evaluate oracle`.

    Attributes:
        captions: The world gets each scene's caption in addition to the first frame, in all measurements.
        style: Style of the held-out scenes, and of the world `synthetic`; None: soft.
        truth: A world whose episodes are the truth: it renders any view, and nothing in it moves, like `mesh`; None:
            held-out scenes of our renderer.
    """

    world: str = "tiny"
    truth: str | None = None
    num_scenes: int = 64
    num_clips: int = 1
    out: str = "runs/evaluate/oracle.json"
    first_seed: int = HELD_OUT_SEED
    captions: bool = False


@dataclass(kw_only=True)
class SamplerRowConfig(WorldOptions):
    """One row of `evaluate distillation`: a world, and how it samples."""

    world: str = "tiny"


@dataclass(kw_only=True)
class SamplerTableConfig(EvaluationConfig):
    """`python -m model.cli.evaluate distillation`.

    Attributes:
        rows: The samplers that are compared, by name; speeds are relative to the first.
        timing_rounds: Clips over which each row is timed.
    """

    rows: dict[str, SamplerRowConfig] = field(default_factory=dict)
    num_scenes: int = 16
    num_clips: int = 12
    out: str = "runs/evaluate/distillation.json"
    first_seed: int = HELD_OUT_SEED
    timing_rounds: int = 5


def require_component(argument: str, folder: str) -> Path:
    """The folder of a trained component.

    Raises:
        FileNotFoundError: if it holds no weights.
    """
    path = Path(folder)
    if not (path / "weights.safetensors").exists():
        raise FileNotFoundError(
            f"{argument}: expected a component folder with weights.safetensors, got {folder}; train it first"
        )
    return path
