"""Causal convolution over time, and the explicit cache with which a video passes through it chunk by chunk."""

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

Cache = dict[str, Tensor]


def memory_format_of(x: Float[Tensor, "b c f h w"]) -> torch.memory_format:
    """`channels_last_3d` if `x` is stored with the channels innermost, else `contiguous_format`."""
    is_channels_last = x.is_contiguous(memory_format=torch.channels_last_3d) and not x.is_contiguous()
    return torch.channels_last_3d if is_channels_last else torch.contiguous_format


class Stream:
    """One pass of a chunk through a causal network, with the cached frames of its layers in the order of their calls.

    A layer calls `extend` to put its cached frames before its input. Before the first chunk they are zero, so their
    shapes never change. The network itself keeps nothing: `Stream(None)` starts a video, `Stream(previous.memory())`
    continues it.
    """

    def __init__(self, cache: Cache | None = None) -> None:
        self.at_start = cache is None
        self._before: Cache = cache or {}
        self._after: Cache = {}

    def extend(self, x: Float[Tensor, "b c f h w"], num_frames: int) -> Float[Tensor, "b c f_extended h w"]:
        """`x` with the `num_frames` cached frames before it; the last ones of the result are cached next.

        Raises:
            ValueError: the cache comes from another network or another size of video.
        """
        if num_frames == 0:
            return x
        key = f"memory_{len(self._after):02d}"
        expected = (x.shape[0], x.shape[1], num_frames, *x.shape[3:])
        if self.at_start:
            memory = x.new_zeros(expected)
        elif key not in self._before or self._before[key].shape != expected:
            got = tuple(self._before[key].shape) if key in self._before else None
            raise ValueError(
                f"cache: expected '{key}' of shape {expected}, got {got}; "
                "pass what the previous chunk of the same video returned"
            )
        else:
            memory = self._before[key].to(x.dtype)
        extended = torch.cat([memory.contiguous(memory_format=memory_format_of(x)), x], dim=2)
        last = extended[:, :, -num_frames:]
        # a view would keep the whole input of every layer until the pass ends: two thirds of a decoder's memory
        self._after[key] = last if torch.is_grad_enabled() else last.contiguous()
        return extended

    def memory(self) -> Cache:
        """What the next chunk needs: tensors with the batch first, independent of this chunk's activations."""
        return {key: value.contiguous() for key, value in self._after.items()}


class CausalConv3d(nn.Conv3d):
    """3D convolution that sees the current and earlier frames only; space is padded with zeros to keep its size."""

    def __init__(self, in_dim: int, out_dim: int, temporal_kernel: int = 3, spatial_kernel: int = 3) -> None:
        super().__init__(
            in_dim,
            out_dim,
            kernel_size=(temporal_kernel, spatial_kernel, spatial_kernel),
            padding=(0, spatial_kernel // 2, spatial_kernel // 2),
        )

    def forward(self, x: Float[Tensor, "b c f h w"], stream: Stream) -> Float[Tensor, "b c_out f h w"]:  # type: ignore[override]
        """Same number of frames out as in."""
        return self.convolve(stream.extend(x, self.kernel_size[0] - 1))

    def convolve(self, extended: Float[Tensor, "b c f_extended h w"]) -> Float[Tensor, "b c_out f h w"]:
        """Convolves frames that already follow their past frames; returns `temporal_kernel - 1` fewer."""
        if len(extended) == 1 and not extended.is_cuda:
            return self._convolve_2d(extended)
        return F.conv3d(extended, self.weight, self.bias, padding=self.padding)

    def _convolve_2d(self, extended: Tensor) -> Tensor:
        """The same convolution in 2D, with the frames as a batch and the temporal kernel among the channels.

        For a batch of one, PyTorch's 3D convolution on the CPU takes a path several times slower.
        """
        kernel = self.kernel_size[0]
        num_frames = extended.shape[2] - kernel + 1
        frames = rearrange(extended, "1 c f h w -> f c h w")
        # in the memory order of the weight, which then only needs a view of another shape
        stacked = torch.stack([frames[i : i + num_frames] for i in range(kernel)], dim=2).flatten(1, 2)
        y = F.conv2d(stacked, self.weight.flatten(1, 2), self.bias, padding=self.padding[1:])
        return rearrange(y, "f c h w -> 1 c f h w")
