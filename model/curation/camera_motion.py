"""How much the camera moves: the mean length of the flow on static pixels; clips below a limit are rejected."""

from dataclasses import dataclass

from jaxtyping import Bool, Float, UInt8
from torch import Tensor

from model.estimators.optical_flow import OpticalFlow


@dataclass(kw_only=True)
class CameraMotionConfig:
    """The paper's "empirically determined threshold".

    Attributes:
        min_speed: Shares of the width per second, so that neither size nor rate of a film matter. The default accepts a
            slow walk ahead under an open sky (0.014). Moving objects that the mask misses can lift a standing camera
            above it; that clip then fails at its poses.
        min_static: Share of the picture that must be static: from less, nothing is known about the camera.
    """

    min_speed: float = 0.012
    min_static: float = 0.2


@dataclass(frozen=True)
class CameraMotion:
    """A clip's camera motion: pixels per frame, shares of the width per second, and the share of static pixels."""

    pixels_per_frame: float
    speed: float
    static_share: float

    def rejection(self, config: CameraMotionConfig) -> str:
        """Returns why the clip is rejected, with the numbers; empty if it is kept."""
        if self.static_share < config.min_static:
            return f"static background is {self.static_share:.3f} of the picture, less than {config.min_static}"
        if self.speed < config.min_speed:
            return f"the camera moves by {self.speed:.4f} of the width a second, less than {config.min_speed}"
        return ""


def camera_motion(
    frames: UInt8[Tensor, "f h w 3"], moving: Bool[Tensor, "f h w"], fps: float, flow: OpticalFlow
) -> CameraMotion:
    """Returns the mean length of the flow between successive frames over the pixels that are not `moving`.

    Raises:
        ValueError: there are fewer than two frames.

    Source: the paper, Sec. 3.2.
    """
    if len(frames) < 2:
        raise ValueError(f"frames: expected at least 2, got {len(frames)}")
    pairs = zip(frames, frames[1:], moving, strict=False)
    means = [_static_mean(flow(first, second), mask) for first, second, mask in pairs]
    known = [mean for mean in means if mean is not None]
    pixels = sum(known) / max(len(known), 1)
    return CameraMotion(pixels, pixels * fps / frames.shape[2], float((~moving).float().mean()))


def _static_mean(flow: Float[Tensor, "h w 2"], moving: Bool[Tensor, "h w"]) -> float | None:
    lengths = flow.norm(dim=-1)[~moving]
    return float(lengths.mean()) if len(lengths) else None
