"""The paper's ablation "complex encoder": convolutions and attention over time make the camera tokens."""

from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from model.dit.attention import Attention
from model.dit.camera_embed import CameraInjection, is_given
from model.dit.embeddings import Patchify

_NUM_STAGES = 2


class EncoderInjection(CameraInjection):
    """An encoder of Plucker maps, whose tokens are added before the first `num_blocks` blocks.

    Source: the paper, Sec. 4.5 and Table 4, "a more sophisticated encoder similar to CameraCtrl ... used at the
    beginning of the DiT"; the encoder after He et al. 2024 (arXiv 2404.02101, Sec. 3.2): residual convolutions and
    attention over time in turns. Theirs halves the picture from stage to stage; a map of latents is small already.
    """

    def __init__(
        self, width: int, patch_size: tuple[int, int, int], num_heads: int, num_blocks: int = 1, eps: float = 1e-6
    ) -> None:
        super().__init__()
        hidden = width // 2
        self.convolution = nn.Conv2d(6, hidden, 3, padding=1)
        self.stages = nn.ModuleList(EncoderStage(hidden, num_heads, eps) for _ in range(_NUM_STAGES))
        self.patchify = Patchify(hidden, num_blocks * width, patch_size, bias=False)
        nn.init.zeros_(self.patchify.weight)

    def forward(self, maps: Float[Tensor, "b f c_map h w"]) -> Float[Tensor, "b patch_f patch_hw d"]:
        """Camera tokens of Plucker maps."""
        features = self.convolution(maps.flatten(0, 1)).unflatten(0, maps.shape[:2])
        for stage in self.stages:
            features = stage(features)
        return self.patchify(features.transpose(1, 2)) * is_given(maps)


class EncoderStage(nn.Module):
    """Two convolutions within each frame, then attention over the frames at each place, both residual."""

    def __init__(self, width: int, num_heads: int, eps: float) -> None:
        super().__init__()
        self.convolutions = nn.Sequential(
            nn.Conv2d(width, width, 3, padding=1), nn.SiLU(), nn.Conv2d(width, width, 3, padding=1)
        )
        self.norm = nn.LayerNorm(width, eps)
        self.attention = Attention(width, num_heads, eps)

    def forward(self, features: Float[Tensor, "b f d h w"]) -> Float[Tensor, "b f d h w"]:
        """Features of the same shape."""
        b, f, _, h, w = features.shape
        features = features + self.convolutions(features.flatten(0, 1)).unflatten(0, (b, f))
        over_time = self.norm(rearrange(features, "b f d h w -> (b h w) f d"))
        update: Tensor = self.attention(over_time, over_time)
        return features + rearrange(update, "(b h w) f d -> b f d h w", b=b, h=h, w=w)
