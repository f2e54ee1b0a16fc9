"""MotionCtrl: the camera's twelve extrinsic numbers through a linear layer into every block."""

import torch
from einops import reduce
from jaxtyping import Float
from torch import Tensor, nn

from model.dit.camera_embed import CameraInjection


class ExtrinsicsInjection(CameraInjection):
    """[R | t] of each latent frame, the same for all its tokens, through one linear layer for each block.

    Source: Wang et al. 2024 (arXiv 2312.03641, Sec. 3.2, camera motion control module): 3x4 extrinsics are repeated
    over the picture, concatenated with the temporal transformer's features, and a linear layer maps both back to the
    width. That layer starts at the identity on the features; here that part stays the identity (the block's own layers
    follow it), and a block of full attention, which has no temporal transformer, takes the camera at its input.
    """

    num_channels = 12

    def __init__(self, width: int, patch_size: tuple[int, int, int], num_blocks: int) -> None:
        super().__init__()
        self.patch_frames = patch_size[0]
        self.weight = nn.Parameter(torch.zeros(num_blocks * width, self.num_channels))

    def forward(self, maps: Float[Tensor, "b f c_map h w"]) -> Float[Tensor, "b patch_f 1 d"]:
        """One camera token for each latent frame."""
        extrinsics = reduce(maps, "b (f pt) c h w -> b f 1 c", "mean", pt=self.patch_frames)
        return nn.functional.linear(extrinsics, self.weight)
