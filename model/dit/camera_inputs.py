"""The camera inputs of a network, made in one place for training, sampling and distillation."""

import torch
from jaxtyping import Float
from torch import Tensor

from model.dit.video_dit import VideoDiTConfig
from model.geometry import se3
from model.geometry.camera import projection_matrix
from model.geometry.plucker import plucker_map


def camera_inputs(
    config: VideoDiTConfig,
    c2w: Float[Tensor, "b f 4 4"],
    intrinsics: Float[Tensor, "b 4"],
    height: int,
    width: int,
    num_context: int = 0,
) -> dict[str, Tensor]:
    """`plucker` and `projection` of `VideoDiT.forward`, each only if the network reads it.

    Args:
        config: The network's.
        c2w: Poses of context and new latents in the episode's frame.
        intrinsics: Of all frames.
        height: Rows of the latents.
        width: Columns.
        num_context: Context latents in front. If they are two or more, with `camera_reference=clip`, their poses are
            relative to the first of them, and the new poses to the first new one.
    """
    if config.camera_reference == "clip" and num_context > 1:
        parts = c2w.split([num_context, c2w.shape[1] - num_context], dim=1)
        c2w = torch.cat([se3.relative(part[:, :1], part) for part in parts], dim=1)
    inputs = {}
    if config.camera and config.camera_injection == "motionctrl":
        inputs["plucker"] = extrinsics_map(c2w, height, width)
    elif config.camera:
        inputs["plucker"] = plucker_map(c2w, intrinsics, height, width)
    if config.camera_attention:
        inputs["projection"] = projection_matrix(c2w, intrinsics)
    return inputs


def extrinsics_map(c2w: Float[Tensor, "b f 4 4"], height: int, width: int) -> Float[Tensor, "b f 12 {height} {width}"]:
    """The twelve numbers of each frame's 3x4 camera-to-world matrix, the same at every position."""
    return c2w[:, :, :3].flatten(2)[..., None, None].expand(-1, -1, -1, height, width)
