"""The cost of a network: parameters, and the arithmetic of one evaluation for one clip."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from model.dit.camera_inputs import camera_inputs
from model.dit.video_dit import VideoDiT, VideoDiTConfig


@dataclass(frozen=True)
class NetworkCost:
    """Cost of a DiT; `camera_parameters`: of the camera's embedding; `gflops`: of one evaluation with the camera."""

    parameters: int
    camera_parameters: int
    gflops: float


def network_cost(config: VideoDiTConfig, height: int, width: int, num_context: int, num_new: int) -> NetworkCost:
    """The cost of a network for one clip of `height` x `width` latents, without computation or memory for tensors."""
    frames = num_context + num_new
    with torch.device("meta"):
        dit = VideoDiT(config)
        inputs = {
            "latents": torch.zeros(1, config.in_channels, frames, height, width),
            "t": torch.zeros(1, frames),
            "text": torch.zeros(1, 24, config.text_dim),
            **camera_inputs(config, torch.zeros(1, frames, 4, 4), torch.ones(1, 4), height, width, num_context),
        }
        with torch.no_grad():
            flops = count_flops(lambda: dit(**inputs, num_context=num_context))
    camera = dit.camera_embedding
    return NetworkCost(
        parameters=sum(p.numel() for p in dit.parameters()),
        camera_parameters=0 if camera is None else sum(p.numel() for p in camera.parameters()),
        gflops=flops / 1e9,
    )


def count_flops(call: Callable[[], object]) -> int:
    """Floating-point operations of the matrix products of a call (multiply-adds count two)."""
    # the counter counts attention only where it is written as matrix products
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
        call()
    return counter.get_total_flops()
