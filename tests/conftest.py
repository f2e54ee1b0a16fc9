"""Shape and type annotations are checked at run time in every test: jaxtyping with beartype on our own packages."""

import os
import signal
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

os.environ.setdefault("MPLBACKEND", "Agg")
from jaxtyping import install_import_hook

import model  # noqa: F401  # before torch: several processes of tests share the cores

# Benchmarks time the code as users run it.
# PEP 484's numeric tower, as mypy reads it: an int is welcome wherever a float is.
if "--benchmark-only" not in sys.argv:
    install_import_hook(["model", "cc2env"], "beartype.beartype(conf=beartype.BeartypeConf(is_pep484_tower=True))")

import pytest
import torch

if TYPE_CHECKING:
    from model.dit.video_dit import VideoDiT
    from model.training.step_memory import PeakMemory
    from model.vae.video_vae import VideoVAE
    from model.world.config import WorldConfig

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # tests that a shell started with & inherit this
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def seeded_and_single_threaded() -> None:
    torch.manual_seed(0)
    torch.set_num_threads(1)
    torch.set_flush_denormal(False)  # training sets it for the whole process; hypothesis wants IEEE floats


@pytest.fixture(scope="session")
def peak() -> "type[PeakMemory]":
    """Counts the memory of what a network does within `with peak(network) as counted:`, as `counted.peak`."""
    from model.training.step_memory import PeakMemory

    return PeakMemory


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


@pytest.fixture(scope="session")
def umt5_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`text_encoder/` and `tokenizer/` as in a downloaded Wan pipeline, with random weights and a dozen words."""
    transformers = pytest.importorskip("transformers")
    from tokenizers import Tokenizer, models, pre_tokenizers, processors

    folder = tmp_path_factory.mktemp("umt5")
    words = ["<pad>", "</s>", "<unk>", "a", "red", "blue", "box", "ball", "&", "desert"]
    tokenizer = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", eos_token="</s>", unk_token="<unk>"
    ).save_pretrained(folder / "tokenizer")
    torch.manual_seed(0)
    config = transformers.UMT5Config(vocab_size=len(words), d_model=16, d_kv=4, d_ff=32, num_layers=2, num_heads=4)
    transformers.UMT5EncoderModel(config).save_pretrained(folder / "text_encoder")
    return folder


@pytest.fixture
def wan_base(tmp_path: Path, umt5_folder: Path) -> Path:
    """A downloaded Wan 2.1 pipeline in small, with random weights."""
    return small_pipeline(tmp_path / "base", umt5_folder, {})


@pytest.fixture
def wan22_base(tmp_path: Path, umt5_folder: Path) -> Path:
    """The same of Wan 2.2 5B: latents of more channels for 16x16 pixels."""
    vae = {"latent_channels": 48, "decoder_base_dim": 8, "patch_size": 2, "is_residual": True}
    return small_pipeline(tmp_path / "base22", umt5_folder, vae)


def small_pipeline(folder: Path, umt5_folder: Path, vae_options: dict[str, Any]) -> Path:
    """Random weights in diffusers' layout."""
    import shutil

    from model.dit.video_dit import VideoDiT, VideoDiTConfig
    from model.pretrained import wan
    from model.vae.video_vae import VideoVAE, VideoVAEConfig
    from model.world.config import TextEncoderConfig, WorldConfig, write_world_config

    vae = VideoVAE(VideoVAEConfig(base_dim=4, num_res_blocks=1, **vae_options))
    channels = {"in_channels": vae.config.latent_channels, "out_channels": vae.config.latent_channels}
    shape = VideoDiTConfig(**channels, width=24, num_heads=2, num_blocks=2, ffn_dim=32, text_dim=16, freq_dim=8)
    dit = VideoDiT(shape)
    torch.nn.init.normal_(dit.head.linear.weight, std=0.1)  # a base that has learned something
    wan.save_dit(dit, folder / "transformer")
    wan.save_vae(vae, folder / "vae")
    for part in ("text_encoder", "tokenizer"):
        shutil.copytree(umt5_folder / part, folder / part)
    write_world_config(folder, WorldConfig(text_encoder=TextEncoderConfig(kind="umt5", num_tokens=12)))
    return folder
