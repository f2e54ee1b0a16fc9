"""Makes a world of minWM's Wan 2.1 Action2V student, from the folder that the download commands of its page fill.

FOLDER/Wan21/Action2V/dmd/model.pt                  the student
FOLDER/Wan2.1-T2V-1.3B/config.json                  its base: the VAE, UMT5 and the tokenizer
FOLDER/Wan2.1-T2V-1.3B/Wan2.1_VAE.pth
FOLDER/Wan2.1-T2V-1.3B/models_t5_umt5-xxl-enc-bf16.pth
FOLDER/Wan2.1-T2V-1.3B/google/umt5-xxl/
"""

import math
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path

import torch

from model.config_file import read_yaml
from model.device import usable_device
from model.diffusion.timesteps import sampling_schedule
from model.dit.causal_dit import CausalDiT
from model.dit.video_dit import VideoDiTConfig
from model.pretrained.minwm import STUDENT, load_student, student_config
from model.pretrained.original_encoders import check_text_encoder, load_text_encoder
from model.pretrained.original_files import stored_tensors
from model.pretrained.original_vae import load_original_vae, original_vae_config
from model.text.umt5 import UMT5Encoder, load_tokenizer
from model.vae.video_vae import VideoVAE
from model.world.config import WORLD_FILE
from model.world.folder import folder_stamp, named_errors
from model.world.open.causal_world import CausalSampler, CausalWorld
from model.world.open.default_prompts import DEFAULT_PROMPTS
from model.world.open.memory_need import check_memory, decoding_bytes, num_bytes
from model.world.open.offloaded_text_encoder import OffloadedTextEncoder
from model.world.protocol import WorldSpec

KIND = "minwm"
STAGES = Path("Wan21", "Action2V")
BASE = "Wan2.1-T2V-1.3B"
_VAE, _TEXT_ENCODER, _TOKENIZER = "Wan2.1_VAE.pth", "models_t5_umt5-xxl-enc-bf16.pth", "google/umt5-xxl"
_OTHER_STAGES = {
    "bidirectional": "the teacher, which makes a whole film at once in many evaluations",
    "ar_diffusion_tf": "the teacher of chunks, which takes many evaluations",
    "causal_ode": "the student before its last stage",
    "causal_cd": "the student before its last stage",
}
_CHUNK = 4  # latent frames; the first of an episode stands for one video frame, every other for four
_STEPS, _SHIFT = 4, 5.0
_INTRINSICS = (0.5050505, 0.89786756, 0.5, 0.5)  # of all its training films
_PIXELS_OF_TOKEN = 16


@dataclass(kw_only=True)
class MinWMWorldConfig:
    """Settings of a folder, which a `world.yaml` in it may change; the defaults are those of the student's training.

    Attributes:
        kind: Says that the folder holds this model.
        height: Of a frame, pixels.
        width: Likewise.
        fps: Frames per second of the film.
        window: Latent frames that attention reaches, the chunk's own included.
        metres_per_unit: Length of the network's unit of translation. Its authors do not state it; their paths move 0.08
            units, or turn 3 degrees, from one latent frame to the next.
        default_prompts: One is drawn by the seed for an episode without prompt.

    Raises:
        ValueError: for a number out of range.
    """

    kind: str = KIND
    height: int = 480
    width: int = 832
    fps: float = 16.0
    window: int = 20
    metres_per_unit: float = 1.0
    default_prompts: list[str] = field(default_factory=lambda: list(DEFAULT_PROMPTS))

    def __post_init__(self) -> None:
        for name, unit, most in (
            ("height", _PIXELS_OF_TOKEN, 4096),
            ("width", _PIXELS_OF_TOKEN, 4096),
            ("window", _CHUNK, 1024),
        ):
            value, least = getattr(self, name), 2 * _CHUNK if name == "window" else unit
            if not least <= value <= most or value % unit:
                raise ValueError(f"{name}: expected {least} to {most}, a multiple of {unit}, got {value}")
        for name in ("fps", "metres_per_unit"):
            if not (getattr(self, name) > 0 and math.isfinite(getattr(self, name))):
                raise ValueError(f"{name}: expected a positive number, got {getattr(self, name)}")
        if not self.default_prompts:
            raise ValueError("default_prompts: expected at least one, got none")

    def spec(self) -> WorldSpec:
        """Sizes and units of the world."""
        return WorldSpec(height=self.height, width=self.width, intrinsics=_INTRINSICS, fps=self.fps)

    def sampler(self) -> CausalSampler:
        """How a chunk is made."""
        times = tuple(sampling_schedule(_STEPS, _SHIFT)[:-1].tolist())
        return CausalSampler(times=times, window=self.window, metres_per_unit=self.metres_per_unit)


@dataclass(frozen=True)
class MinWMFiles:
    """The files of a folder, which are complete and fit each other, and the shape of the network."""

    checkpoint: Path
    vae: Path
    text_encoder: Path
    tokenizer: Path
    dit: VideoDiTConfig


def load_minwm_world(folder: Path, device: str = "cpu", metres_per_unit: float | None = None) -> CausalWorld:
    """The world of a folder.

    Args:
        folder: As the page's download commands fill it; nothing is downloaded.
        device: Where clips are made and states live; the text encoder is there only while it encodes.
        metres_per_unit: See `MinWMWorldConfig`.

    Raises:
        FileNotFoundError: a file is missing.
        ValueError: a file is another model's, the device has too little memory, or an option is out of range.
    """
    target = usable_device(device)
    path = folder / WORLD_FILE
    config = read_yaml(path, MinWMWorldConfig) if path.is_file() else MinWMWorldConfig()
    if metres_per_unit is not None:
        config = replace(config, metres_per_unit=metres_per_unit)
    with named_errors(folder):
        sizes = (config.height, config.width, config.window)
        dit, vae, text_encoder = _networks(folder, target, folder_stamp(folder), sizes)
    return CausalWorld(
        dit, vae, text_encoder, config.spec(), sampler=config.sampler(), default_prompts=config.default_prompts
    )


@lru_cache(maxsize=1)
def _networks(
    folder: Path, device: torch.device, stamp: int, sizes: tuple[int, int, int]
) -> tuple[CausalDiT, VideoVAE, OffloadedTextEncoder]:
    """One copy, which worlds with other options share; the stamp is only a part of the cache's key."""
    files = check_files(folder)
    # CPUs without bfloat16 units are very slow in it
    dtype = torch.float32 if device.type == "cpu" else torch.bfloat16
    check_memory(
        device, memory_needs(files, sizes, dtype, device), f"try a smaller window in a {WORLD_FILE} of kind: {KIND}"
    )
    dit = load_student(files.checkpoint, files.dit, dtype).to(device)
    vae = load_original_vae(files.vae).requires_grad_(False).to(device)
    text_encoder = UMT5Encoder(load_tokenizer(files.tokenizer), load_text_encoder(files.text_encoder))
    return dit, vae, OffloadedTextEncoder(text_encoder, device)


def check_files(folder: Path) -> MinWMFiles:
    """The files of a folder, after a check of the names and shapes in each; no weight is read.

    Raises:
        FileNotFoundError: a file is missing.
        ValueError: a file is damaged or another model's, or the folder holds another stage of the training.
    """
    checkpoint, base = _checkpoint(folder), folder / BASE
    vae, text_encoder, tokenizer = (base / name for name in (_VAE, _TEXT_ENCODER, _TOKENIZER))
    for path in (vae, text_encoder, tokenizer):
        if not path.exists():
            raise FileNotFoundError(f"expected {path}, found none; download Wan-AI/Wan2.1-T2V-1.3B into {base}")
    dit = student_config(checkpoint, base)
    fits = {
        vae: ("latent channels", dit.in_channels, original_vae_config(vae).latent_channels),
        text_encoder: ("text channels", dit.text_dim, check_text_encoder(text_encoder)),
    }
    for path, (what, expected, got) in fits.items():
        if expected != got:
            raise ValueError(f"{path}: expected {expected} {what}, as the student's, got {got}; take the base's own")
    return MinWMFiles(checkpoint, vae, text_encoder, tokenizer, dit)


def _checkpoint(folder: Path) -> Path:
    path = folder / STAGES / STUDENT / "model.pt"
    if path.is_file():
        return path
    wanted = f"expected {path}, the student of four evaluations"
    if list(path.parent.glob("*.distcp")):
        raise ValueError(f"{wanted}, got shards of a distributed checkpoint; fetch the whole file")
    others = [f"{name} ({what})" for name, what in _OTHER_STAGES.items() if (folder / STAGES / name).is_dir()]
    if others:
        raise ValueError(f"{wanted}, got {', '.join(others)}; download {STAGES / STUDENT}")
    raise FileNotFoundError(f"{wanted}, found none; download it")


def memory_needs(
    files: MinWMFiles, sizes: tuple[int, int, int], dtype: torch.dtype, device: torch.device
) -> dict[str, int]:
    """Bytes for one episode, part by part.

    Args:
        files: Of the folder.
        sizes: Height and width of a frame in pixels, latent frames of the window.
        dtype: Of the network.
        device: Where the world runs; on a GPU the text encoder is removed before a clip is made.
    """
    height, width, window = sizes
    vae_config, config = original_vae_config(files.vae), files.dit
    with torch.device("meta"):
        dit, vae = CausalDiT(config), VideoVAE(vae_config)
        latents = torch.empty(1, config.in_channels, 1, height // 8, width // 8)
    tokens = (height // _PIXELS_OF_TOKEN) * (width // _PIXELS_OF_TOKEN)
    stored = 2 * config.num_blocks * (window - _CHUNK) * tokens * config.width * dtype.itemsize
    cache = num_bytes(vae.decode_chunk(latents)[1].values())
    own = stored * _CHUNK // (window - _CHUNK)  # the chunk's keys and values, before they are in the state
    work = max(
        transformer_activation_bytes(config, window * tokens, dtype.itemsize) + own,
        decoding_bytes(vae_config, height, width, 1, torch.float32.itemsize) - 2 * cache,
    )
    text = num_bytes(stored_tensors(files.text_encoder).values())
    needs = {"network": num_bytes(dit.parameters(), dtype), "VAE": num_bytes(vae.parameters())}
    episode = stored + cache
    if device.type == "cpu":
        return needs | {"text encoder": text, "an episode before and after a clip": 2 * episode, "work": work}
    if text > episode + work:
        return needs | {"text encoder while it reads": text, "an episode": episode}
    return needs | {"an episode before and after a clip": 2 * episode, "work": work}


def transformer_activation_bytes(config: VideoDiTConfig, num_tokens: int, itemsize: int) -> int:
    """Bytes of intermediate results of a chunk, most of them copies of the window's keys and values in one block.

    Source: counted on this network (`tests/world/minwm/test_minwm_memory.py`).

    Args:
        config: Of the network.
        num_tokens: Of the window.
        itemsize: Bytes of a weight.
    """
    return num_tokens * config.width * (16 + 4 * itemsize)
