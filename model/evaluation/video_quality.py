"""Quality measures of single frames: fidelity against the truth, sharpness and contrast."""

import torch
from jaxtyping import Bool, Float, UInt8
from torch import Tensor
from torch.nn import functional


def psnr(frames: UInt8[Tensor, "*b f h w 3"], truth: UInt8[Tensor, "*b f h w 3"]) -> Float[Tensor, "*b"]:
    """Peak signal-to-noise ratio in dB of each clip, from its mean squared error over all frames and pixels.

    Identical clips score 100 dB instead of infinity, so that means stay finite.
    """
    error = (frames.float() - truth.float()).div(255).square().mean(dim=(-4, -3, -2, -1))
    return -10 * torch.log10(error.clamp(min=1e-10))


def ssim_map(frames: UInt8[Tensor, "*b h w 3"], truth: UInt8[Tensor, "*b h w 3"]) -> Float[Tensor, "*b h w"]:
    """Structural similarity at every pixel, mean over the colours.

    Source: Wang et al. 2004: Gaussian window of 11 pixels and 1.5 standard deviation, K1 = 0.01, K2 = 0.03. The window
    is cut off at the border and its weights are rescaled to sum to 1.
    """
    shape = frames.shape
    x, y = (v.flatten(0, -4) if v.ndim > 3 else v[None] for v in (frames, truth))
    x, y = (v.movedim(-1, 1).flatten(0, 1)[:, None].float() / 255 for v in (x, y))
    cover = _window(torch.ones_like(x[:1]))
    mean_x, mean_y = _window(x) / cover, _window(y) / cover
    variance_x = _window(x * x) / cover - mean_x.square()
    variance_y = _window(y * y) / cover - mean_y.square()
    covariance = _window(x * y) / cover - mean_x * mean_y
    c1, c2 = 0.01**2, 0.03**2
    luminance = (2 * mean_x * mean_y + c1) / (mean_x.square() + mean_y.square() + c1)
    structure = (2 * covariance + c2) / (variance_x + variance_y + c2)
    return (luminance * structure).view(-1, 3, *shape[-3:-1]).mean(dim=1).view(shape[:-1])


def masked_psnr(
    frames: UInt8[Tensor, "*b h w 3"], truth: UInt8[Tensor, "*b h w 3"], mask: Bool[Tensor, "*b h w"]
) -> float:
    """PSNR in dB over the pixels of a mask, 100 at most; NaN where the mask is empty."""
    error = (frames.float() - truth.float()).div(255).square().mean(dim=-1)[mask]
    return float(-10 * torch.log10(error.mean().clamp(min=1e-10))) if error.numel() else float("nan")


def sharpness(frames: UInt8[Tensor, "*b h w 3"]) -> Float[Tensor, "*b"]:
    """Mean length of the brightness gradient per pixel; brightness is in [0, 1]."""
    light = brightness(frames)
    across, down = light[..., :-1, 1:] - light[..., :-1, :-1], light[..., 1:, :-1] - light[..., :-1, :-1]
    return (across.square() + down.square()).sqrt().mean(dim=(-2, -1))


def contrast(frames: UInt8[Tensor, "*b h w 3"]) -> Float[Tensor, "*b"]:
    """Standard deviation of the brightness, which is in [0, 1]."""
    return brightness(frames).std(dim=(-2, -1), correction=0)


def brightness(frames: UInt8[Tensor, "*b h w 3"]) -> Float[Tensor, "*b h w"]:
    """Rec. 601 luma in [0, 1]."""
    return (frames.float() / 255) @ torch.tensor([0.299, 0.587, 0.114])


def ratios(values: Float[Tensor, " n"], true: Float[Tensor, " n"], digits: int = 4) -> list[float | None]:
    """values / true, rounded; None where `true` is not positive or the value is NaN."""
    pairs = zip(values.tolist(), true.tolist(), strict=True)
    return [round(v / t, digits) if t > 0 and v == v else None for v, t in pairs]


def _window(values: Float[Tensor, "n 1 h w"]) -> Float[Tensor, "n 1 h w"]:
    at = torch.arange(-5, 6, dtype=values.dtype)
    kernel = torch.exp(-0.5 * (at / 1.5).square())
    kernel = kernel / kernel.sum()
    values = functional.conv2d(values, kernel.view(1, 1, 1, -1), padding=(0, 5))
    return functional.conv2d(values, kernel.view(1, 1, -1, 1), padding=(5, 0))
