"""`python -m model.cli.plan experiment=wan_phase1 base=wan14b gpus=64`: what a training would cost, in figures."""

from dataclasses import dataclass
from pathlib import Path

import torch

from configs.command_line import hydra_command
from model.build import TrainConfig
from model.data.clips import ClipSetConfig
from model.dit.context_parallel import check_split
from model.dit.video_dit import VideoDiT, VideoDiTConfig
from model.pretrained.diffusers_folder import read_config
from model.pretrained.original_files import num_stored
from model.pretrained.wan_dit import dit_config_from_diffusers
from model.pretrained.wan_vae import config_from_diffusers
from model.training.lora import add_lora
from model.training.plan import StateMemory, mean_window, state_memory, training_memory
from model.training.precision import to_training
from model.training.step_memory import step_bytes
from model.vae.video_vae import VideoVAE, VideoVAEConfig
from model.world.networks import read_world
from model.world.open.memory_need import decoding_bytes, num_bytes

UMT5_PARAMETERS = 5_680_910_336  # of the encoder that all bases of Wan use


@dataclass(frozen=True)
class Networks:
    """The networks of a training; no VAE and no parameters of a text encoder: small ones, which are not counted."""

    dit: VideoDiTConfig
    vae: VideoVAEConfig | None = None
    text_parameters: int = 0

    @property
    def pixels(self) -> int:
        """Along a side of a latent pixel."""
        return 8 if self.vae is None else self.vae.spatial_stride


BASES = {
    "wan1.3b": Networks(VideoDiTConfig(), VideoVAEConfig(), UMT5_PARAMETERS),
    "wan14b": Networks(
        VideoDiTConfig(width=5120, num_heads=40, num_blocks=40, ffn_dim=13824), VideoVAEConfig(), UMT5_PARAMETERS
    ),
    "wan2.2-5b": Networks(
        VideoDiTConfig(in_channels=48, out_channels=48, width=3072, num_heads=24, ffn_dim=14336),
        VideoVAEConfig(latent_channels=48, base_dim=160, decoder_base_dim=256, patch_size=2, is_residual=True),
        UMT5_PARAMETERS,
    ),
}


@dataclass(kw_only=True)
class PlanConfig(TrainConfig):
    """`python -m model.cli.plan`: the settings of a training, and what it would run on.

    Attributes:
        base: `wan1.3b`, `wan14b`, `wan2.2-5b`, or a folder, of which settings and headers are read; None: the network
            of `dit`, on latents of 8x8 pixels.
        gpus: Processes that share every step's clips.
        tflops: Operations a second that a GPU reaches in training, in 10^12: its peak times the share that is reached.
        memory_gb: Of a GPU.
    """

    out: str = ""
    gpus: int = 1
    tflops: float = 400.0
    memory_gb: float = 80.0

    def __post_init__(self) -> None:
        """Raises ValueError for a number that is not positive."""
        super().__post_init__()
        for name in ("gpus", "tflops", "memory_gb"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name}: expected a positive number, got {getattr(self, name)}")


def networks(config: PlanConfig) -> Networks:
    """The networks of a training; of a folder, settings and headers are read.

    Raises:
        FileNotFoundError: A file of the base is missing.
        ValueError: The base is neither a known name nor a folder.
    """
    if config.base is None:
        return Networks(config.dit)
    if config.base in BASES:
        return BASES[config.base]
    folder = Path(config.base)
    if not (folder / "transformer").is_dir():
        raise ValueError(
            f"base: expected one of {list(BASES)} or a folder in diffusers' layout, got {config.base!r}; check the path"
        )
    dit, vae = read_config(folder / "transformer"), read_config(folder / "vae")
    text = folder / read_world(folder).text_encoder.folder / "text_encoder"
    return Networks(dit_config_from_diffusers(dit), config_from_diffusers(vae), num_stored(text))


def plan(config: PlanConfig) -> str:
    """The plan as a table in Markdown.

    Raises:
        ValueError: Height or width of the clips does not divide into the base's tokens, there is no such base, or
            `training.fit.context_parallel` does not divide what it must.
    """
    base, stage = networks(config), config.training
    shape, vae, is_bfloat16 = base.dit, 0, stage.fit.bfloat16 is not False
    text_tokens = config.text.num_tokens if config.base is None else 512
    grid = latent_grid(config.data.clips, base.pixels, shape)
    cost, longest = mean_window(shape, config.diffusion, grid, text_tokens, config.gradient_checkpointing)
    with torch.device("meta"):
        dit = VideoDiT(shape)
        dit = add_lora(dit, config.lora) if config.lora.rank else dit
        if base.vae is not None:
            vae = num_bytes(VideoVAE(base.vae).parameters())
    to_training(dit, torch.device("meta"), is_bfloat16)
    memory = state_memory(dit)
    together = stage.fit.context_parallel  # GPUs that share the tokens of a window
    tokens_a_frame = grid[0] * grid[1] // (shape.patch_size[1] * shape.patch_size[2])
    check_split(together, shape.num_heads, shape.camera_injection, tokens_a_frame)
    if config.gpus % together:
        raise ValueError(f"training.fit.context_parallel: expected a divisor of gpus={config.gpus}, got {together}")
    clips_a_step = config.gpus // together * stage.fit.accumulation * stage.batch_size
    gpu_hours = cost.training * clips_a_step * stage.num_steps / (config.tflops * 1e12) / 3600
    held = training_memory(dit, stage, config.gpus)
    shared = f", shared by {together} GPUs" if together > 1 else ""
    is_sharded = any("between processes" in name for name in held)
    dit.gradient_checkpointing = config.gradient_checkpointing
    tokens = longest.num_frames * tokens_a_frame // shape.patch_size[0]
    held[f"a step of the longest window, {tokens:,} tokens{shared}"] = (
        step_bytes(dit, longest, stage.batch_size, is_bfloat16, is_sharded) // together
    )
    held |= {"VAE, for previews": vae} if vae else {}
    needed = {"in all": sum(held.values())}
    if base.text_parameters:
        needed["before it, for captions: text encoder in bfloat16, VAE"] = 2 * base.text_parameters + vae
    if base.vae is not None:
        clips = config.data.clips
        work = decoding_bytes(base.vae, clips.height, clips.width, config.diffusion.num_new, torch.float32.itemsize)
        # the average lies in the network's own place, or in that of a whole one on the first process
        copied = 4 * memory.parameters if is_sharded else 4 * memory.trained
        state = held["weights"] + held["AdamW"] + held["average"]
        needed["at a preview, decoding included"] = state + copied + vae + work
    rows = {
        "parameters, trained": f"{memory.parameters:,}, {memory.trained:,}",
        "clips a step": f"{clips_a_step:,}",
        "steps": f"{stage.num_steps:,}",
        "tokens: of a clip (mean over the tasks), in all": (
            f"{cost.tokens:,.0f}, {cost.tokens * clips_a_step * stage.num_steps:.2e}"
        ),
        "operations a clip: evaluation, training step": (
            f"{cost.forward / 1e12:,.2f}, {cost.training / 1e12:,.2f} TFLOP"
        ),
        f"GPU-hours at {config.tflops:g} TFLOP/s each": f"{gpu_hours:,.1f}",
        f"days on {config.gpus} GPUs": f"{gpu_hours / config.gpus / 24:,.2f}",
        **{f"memory of a GPU: {name}": f"{num_bytes / 1e9:,.1f} GB" for name, num_bytes in held.items()},
        **{
            f"memory of a GPU, {name}": f"{size / 1e9:,.1f} GB of {config.memory_gb:g}" for name, size in needed.items()
        },
    }
    table = "\n".join(["| | |", "| --- | --- |", *(f"| {name} | {value} |" for name, value in rows.items())])
    most = max(needed.values()) / 1e9
    if most <= config.memory_gb:
        return table
    return f"{table}\n\nIt does not fit: {most:,.1f} GB are needed.{advice(config, memory, held)}"


def latent_grid(clips: ClipSetConfig, pixels: int, shape: VideoDiTConfig) -> tuple[int, int]:
    """Rows and columns of the latents.

    Raises:
        ValueError: They do not divide into tokens.
    """
    for name, patch in zip(("height", "width"), shape.patch_size[1:], strict=True):
        if getattr(clips, name) % (pixels * patch):
            raise ValueError(
                f"data.clips.{name}: expected a multiple of {pixels * patch}, the pixels of a token of this base, got "
                f"{getattr(clips, name)}"
            )
    return clips.height // pixels, clips.width // pixels


def advice(config: PlanConfig, memory: StateMemory, held: dict[str, int]) -> str:
    """Settings that would take less memory."""
    text = ""
    if held["weights"] == memory.weights:
        text += " Every process holds the whole network; with several, training.fit.shard=true shares it out."
    elif held["gradients"] == 4 * memory.trained:
        text += " training.fit.reduce_every_batch=true shares out the gradients, too."
    if config.gradient_checkpointing == "none":
        text += " gradient_checkpointing=full saves activations."
    if config.gpus > 1 and config.training.fit.context_parallel == 1:
        text += " training.fit.context_parallel=2 lets two GPUs share a window's activations."
    if not config.lora.rank and config.base is not None:
        text += " experiment=wan_lora trains adapters."
    return text


def run(config: PlanConfig) -> None:
    """Runs the command line: `python -m model.cli.plan --help`."""
    print(plan(config))


main = hydra_command("configs.train", "plan", PlanConfig, run)


if __name__ == "__main__":
    main()
