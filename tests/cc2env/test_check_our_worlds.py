"""Every kind of world that the project has keeps the protocol, by the checker that others use."""

import pytest
import torch

from cc2env.testing import check_world
from model.dit.video_dit import VideoDiT, VideoDiTConfig
from model.pretrained import shipped_worlds, wan
from model.vae.video_vae import VideoVAE, VideoVAEConfig
from model.world.config import write_world_config
from model.world.load import load_world
from model.world.options import WorldOptions
from model.world.synthetic_world import SyntheticWorld


@pytest.mark.slow
def test_our_worlds_pass(learned_folder, random_world, tmp_path):
    dit = VideoDiT(VideoDiTConfig(width=24, num_heads=2, num_blocks=1, ffn_dim=32, text_dim=8, freq_dim=8))
    torch.nn.init.normal_(dit.get_parameter("camera_embedding.patchify.weight"))  # as if trained
    wan.save_dit(dit, tmp_path / "transformer")
    wan.save_vae(VideoVAE(VideoVAEConfig(base_dim=4, num_res_blocks=1)), tmp_path / "vae")
    write_world_config(tmp_path, random_world.config)
    for world in (SyntheticWorld(height=8, width=12), learned_folder, tmp_path):
        check_world(world)


@pytest.mark.slow
@pytest.mark.parametrize("name", shipped_worlds())
def test_the_shipped_worlds_pass(name):
    check_world(load_world(name, WorldOptions(sampler="fast")), other_process=False)
