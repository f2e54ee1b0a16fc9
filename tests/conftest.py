"""Shape and type annotations are checked at run time in every test: jaxtyping with beartype on our own packages."""

import os
import signal
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

os.environ.setdefault("MPLBACKEND", "Agg")

from jaxtyping import install_import_hook

# Benchmarks time the code as users run it.
# PEP 484's numeric tower, as mypy reads it: an int is welcome wherever a float is.
if "--benchmark-only" not in sys.argv:
    install_import_hook(["model", "cc2env"], "beartype.beartype(conf=beartype.BeartypeConf(is_pep484_tower=True))")

import pytest
import torch

if TYPE_CHECKING:
    from model.dit.video_dit import VideoDiT
    from model.vae.video_vae import VideoVAE
    from model.world.config import WorldConfig

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # tests that a shell started with & inherit this
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def seeded_and_single_threaded() -> None:
    torch.manual_seed(0)
    torch.set_num_threads(1)
    torch.set_flush_denormal(False)  # training sets it for the whole process; hypothesis wants IEEE floats


@dataclass(frozen=True)
class RandomWorld:
    """A learned world of a few thousand random weights: what it is made of, and how to write it into a folder."""

    dit: "VideoDiT"
    vae: "VideoVAE"
    config: "WorldConfig"

    def save(self, folder: Path, config: "WorldConfig | None" = None) -> Path:
        """Writes the world, with another configuration if one is given, and returns the folder."""
        from model.world.load import save_world

        config = config or self.config
        save_world(folder, self.dit, self.vae, config, meta={"steps": 0}, dtype=None)
        return folder


@pytest.fixture(scope="session")
def random_world() -> RandomWorld:
    from model.dit.video_dit import VideoDiT, VideoDiTConfig
    from model.vae.video_vae import VideoVAE, VideoVAEConfig
    from model.world.clip_sampler import SamplerConfig
    from model.world.config import TextEncoderConfig, WorldConfig

    sizes = {"in_channels": 4, "out_channels": 4, "width": 24, "num_heads": 2, "num_blocks": 1}
    dit = VideoDiT(VideoDiTConfig(**sizes, ffn_dim=32, text_dim=8, freq_dim=8))
    vae = VideoVAE(VideoVAEConfig(latent_channels=4, base_dim=4, num_res_blocks=1, dim_mult=[1, 1, 1, 1]))
    for network, std in ((dit, 0.2), (vae, 0.15)):
        generator = torch.Generator().manual_seed(1)
        for parameter in network.parameters():
            # zero-initialised layers too: an identity network would hide mistakes
            torch.nn.init.normal_(parameter, std=std, generator=generator)
        network.requires_grad_(False).eval()
    config = WorldConfig(
        height=16,
        width=32,
        sampler=SamplerConfig(num_steps=2, guidance_text=2.0, guidance_camera=3.0),
        text_encoder=TextEncoderConfig(vocabulary=["red", "blue", "box", "dome"], dim=8, num_tokens=4),
        default_prompts=["red box", "blue dome", "blue box"],
    )
    return RandomWorld(dit, vae, config)
