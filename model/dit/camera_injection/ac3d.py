"""AC3D: a narrow side branch over the first third of the blocks, active at high noise only."""

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn

from model.dit.attention import Attention
from model.dit.blocks import FeedForward
from model.dit.camera_embed import CameraInjection, is_given
from model.dit.embeddings import Patchify

LEAST_TIME = 0.6  # the camera is used, and trained, only from noise down to this time
_MEAN, _STD = 0.8, 0.075
_HEAD_DIM = 32


class SideBranch(CameraInjection):
    """Camera tokens of their own width run beside the first third of the blocks and are added to the video's.

    Each of its blocks reads the video's tokens and the branch's, attends over all, and adds its result to the video's
    tokens through a linear layer that starts at zero.

    Source: Bahmani et al. 2024 (arXiv 2411.18673): 8 of 32 blocks, width 128 in place of 4096; camera conditioning in
    the first 40 % of the sampling, trained at times of a normal distribution (.8, .075) cut to [.6, 1]. Here the width
    is an eighth (the shipped network is narrow already), the branch gets no timestep, and the base is trained, too,
    while theirs is frozen.
    """

    least_time = LEAST_TIME

    def __init__(self, width: int, patch_size: tuple[int, int, int], num_blocks: int, eps: float = 1e-6) -> None:
        super().__init__()
        narrow = _HEAD_DIM * math.ceil(width / 8 / _HEAD_DIM)
        self.patchify = Patchify(6, narrow, patch_size, bias=False)
        nn.init.xavier_uniform_(self.patchify.weight.flatten(1))
        self.blocks = nn.ModuleList(SideBlock(width, narrow, eps) for _ in range(math.ceil(num_blocks / 3)))

    def initialise(self) -> None:
        for block in self.blocks:
            nn.init.zeros_(block.to_video.weight)  # type: ignore[union-attr, arg-type]

    def forward(self, maps: Float[Tensor, "b f c_map h w"]) -> Float[Tensor, "b patch_f patch_hw d"]:
        """The branch's first tokens; their last channel is 0 for the null camera, otherwise 1."""
        tokens = self.patchify(maps.transpose(1, 2))
        return torch.cat([tokens, is_given(maps).to(tokens).expand(*tokens.shape[:-1], 1)], dim=-1)

    def at_time(self, tokens: Float[Tensor, "b f n d"], t: Float[Tensor, "b f_t"]) -> Float[Tensor, "b f n d"]:
        is_noisy = t.amax(dim=1) >= self.least_time - 1e-6
        return tokens * is_noisy[:, None, None, None]

    def inject(
        self, block: int, x: Float[Tensor, "b f n d"], tokens: Float[Tensor, "b f n c"]
    ) -> tuple[Float[Tensor, "b f n d"], Float[Tensor, "b f n c"]]:
        if block >= len(self.blocks):
            return x, tokens
        given = tokens[..., -1:]
        update, branch = self.blocks[block](x, tokens[..., :-1])
        return x + update * given, torch.cat([branch, given], dim=-1)


class SideBlock(nn.Module):
    """Self-attention and feed-forward of the branch, both residual."""

    def __init__(self, width: int, narrow: int, eps: float) -> None:
        super().__init__()
        self.from_video = nn.Linear(width, narrow)
        self.attention_norm, self.feed_forward_norm = nn.LayerNorm(narrow, eps), nn.LayerNorm(narrow, eps)
        self.attention = Attention(narrow, narrow // _HEAD_DIM, eps)
        self.feed_forward = FeedForward(narrow, 4 * narrow)
        self.to_video = nn.Linear(narrow, width, bias=False)

    def forward(
        self, x: Float[Tensor, "b f n d"], branch: Float[Tensor, "b f n c"]
    ) -> tuple[Float[Tensor, "b f n d"], Float[Tensor, "b f n c"]]:
        """What is added to the video's tokens, and the branch's tokens after this block."""
        branch = branch + self.from_video(x)
        y = self.attention_norm(branch).flatten(1, 2)
        branch = branch + self.attention(y, y).view_as(branch)
        branch = branch + self.feed_forward(self.feed_forward_norm(branch))
        return self.to_video(branch), branch


def sample_camera_times(num: int, generator: torch.Generator) -> Float[Tensor, " num"]:
    """Training times of clips with a camera: a normal distribution, cut to [`LEAST_TIME`, 1]."""
    low, high = (torch.special.ndtr(torch.tensor((end - _MEAN) / _STD, dtype=torch.float64)) for end in (LEAST_TIME, 1))
    u = torch.rand(num, generator=generator, device=generator.device, dtype=torch.float64)
    quantile = low.to(u) + (high - low).to(u) * u
    return (_MEAN + _STD * torch.special.ndtri(quantile)).clamp(LEAST_TIME, 1).float()
