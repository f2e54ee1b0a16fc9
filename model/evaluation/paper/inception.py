"""I3D: Inception with three-dimensional convolutions, under the names of its published PyTorch weights."""

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

# widths of an Inception block's paths: 1x1; 1x1, 3x3; 1x1, 3x3; pool, 1x1
_BLOCKS = {
    "Mixed_3b": (64, 96, 128, 16, 32, 32),
    "Mixed_3c": (128, 128, 192, 32, 96, 64),
    "Mixed_4b": (192, 96, 208, 16, 48, 64),
    "Mixed_4c": (160, 112, 224, 24, 64, 64),
    "Mixed_4d": (128, 128, 256, 24, 64, 64),
    "Mixed_4e": (112, 144, 288, 32, 64, 64),
    "Mixed_4f": (256, 160, 320, 32, 128, 128),
    "Mixed_5b": (256, 160, 320, 32, 128, 128),
    "Mixed_5c": (384, 192, 384, 48, 128, 128),
}
_POOLS = {
    "Mixed_3b": ((1, 3, 3), (1, 2, 2)),
    "Mixed_4b": ((3, 3, 3), (2, 2, 2)),
    "Mixed_5b": ((2, 2, 2), (2, 2, 2)),
}  # before these blocks
_NUM_CLASSES = 400


class InceptionI3D(nn.Module):
    """The 400 Kinetics logits of a clip, `[b, 3, f, 224, 224]` with values in [-1, 1] -> `[b, 400]`, f >= 10.

    Its tensors have the names of `i3d_pretrained_400.pt`, which the FVD of VideoGPT and TATS reads.

    Source: J. Carreira, A. Zisserman, Quo vadis, action recognition?, 2017, Fig. 3; padding as TensorFlow's SAME.
    """

    def __init__(self) -> None:
        super().__init__()
        self.Conv3d_1a_7x7 = _Unit(3, 64, 7, 2)
        self.Conv3d_2b_1x1 = _Unit(64, 64)
        self.Conv3d_2c_3x3 = _Unit(64, 192, 3)
        width = 192
        for name, widths in _BLOCKS.items():
            self.add_module(name, _Block(width, widths))
            width = widths[0] + widths[2] + widths[4] + widths[5]
        self.logits = nn.ModuleDict({"conv3d": nn.Conv3d(width, _NUM_CLASSES, 1)})

    def forward(self, clip: Float[Tensor, "b 3 f h w"]) -> Float[Tensor, "b d"]:
        """Returns the logits, averaged over time."""
        x = _max_pool(self.Conv3d_1a_7x7(clip), (1, 3, 3), (1, 2, 2))
        x = self.Conv3d_2c_3x3(self.Conv3d_2b_1x1(x))
        for name in _BLOCKS:
            if name in _POOLS:
                x = _max_pool(x, *_POOLS[name])
            x = self.get_submodule(name)(x)
        x = self.logits["conv3d"](functional.avg_pool3d(x, (2, 7, 7), stride=1))
        return x.mean(dim=(2, 3, 4))


class _Unit(nn.Module):
    """Convolution, batch norm, ReLU."""

    def __init__(self, in_channels: int, out_channels: int, kernel: int = 1, stride: int = 1) -> None:
        super().__init__()
        self.conv3d = nn.Conv3d(in_channels, out_channels, kernel, stride, bias=False)
        self.bn = nn.BatchNorm3d(out_channels)

    def forward(self, x: Tensor) -> Tensor:
        padded = _same_padded(x, self.conv3d.kernel_size, self.conv3d.stride)
        return functional.relu(self.bn(self.conv3d(padded)))


class _Block(nn.Module):
    """An Inception block: four paths side by side."""

    def __init__(self, channels: int, widths: tuple[int, ...]) -> None:
        super().__init__()
        self.b0 = _Unit(channels, widths[0])
        self.b1a, self.b1b = _Unit(channels, widths[1]), _Unit(widths[1], widths[2], 3)
        self.b2a, self.b2b = _Unit(channels, widths[3]), _Unit(widths[3], widths[4], 3)
        self.b3b = _Unit(channels, widths[5])

    def forward(self, x: Tensor) -> Tensor:
        pooled = _max_pool(x, (3, 3, 3), (1, 1, 1))
        return torch.cat([self.b0(x), self.b1b(self.b1a(x)), self.b2b(self.b2a(x)), self.b3b(pooled)], dim=1)


def _max_pool(x: Tensor, kernel: tuple[int, int, int], stride: tuple[int, int, int]) -> Tensor:
    return functional.max_pool3d(_same_padded(x, kernel, stride), kernel, stride)


def _same_padded(x: Tensor, kernel: Sequence[int], stride: Sequence[int]) -> Tensor:
    """Zeros round the clip, so that the output has ceil(size / stride) values; an odd one goes to the end."""
    pads: list[int] = []
    for size, width, step in zip(x.shape[:1:-1], reversed(kernel), reversed(stride), strict=True):
        missing = max((math.ceil(size / step) - 1) * step + width - size, 0)
        pads += [missing // 2, missing - missing // 2]
    return functional.pad(x, pads)
