"""How much of a picture is left after it was handed from clip to clip: as a frame, or as a latent.

Source: ours, because a model that makes clip after clip from a first picture can be given either, and each hand-over
costs something. The network is taken out: in its place stands one that holds what it is given.
"""

from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from model.data.video_io import to_float, to_uint8
from model.evaluation.video_quality import psnr, sharpness

_HELD_LATENTS = 4  # latent frames of a clip after the first


@runtime_checkable
class VideoCodec(Protocol):
    """The part of a causal VAE that a hand-over needs."""

    @property
    def temporal_stride(self) -> int: ...
    def encode(self, video: Float[Tensor, "b c f h w"]) -> Float[Tensor, "b c_z f_z h_z w_z"]: ...
    def decode(self, latents: Float[Tensor, "b c_z f_z h_z w_z"]) -> Float[Tensor, "b c f h w"]: ...


@torch.no_grad()
def measure_handovers(
    vae: VideoCodec, films: UInt8[Tensor, "b f h w 3"], num_handovers: int
) -> dict[str, list[tuple[float, float]]]:
    """What is left of the last frame of films: (PSNR in dB, sharpness / true), a mean over films, after each hand-over.

    `frame`: the last frame, rounded to 8 bits, is encoded alone and opens a clip that shows it throughout; the clip's
    last frame is handed over next. Its first entry is before any hand-over: the VAE's own loss.
    `unrounded`: the same without rounding.
    `latent`: the film's last latent opens a clip, whose first frame is what the decoder shows there; the network holds
    that frame, and the last latent of its clip is handed over next. Its first entry is after the first hand-over.
    `repeated`: instead the network repeats the latent, which therefore never changes: one entry, the clip's last frame.

    Args:
        vae: Any causal VAE.
        films: `1 + temporal_stride * k` frames each.
        num_handovers: How often.
    """
    truth = films[:, -1]

    def left(video: Float[Tensor, "b c f h w"]) -> tuple[float, float]:
        last = to_uint8(video[:, :, -1:])[:, 0]
        ratio = sharpness(last).mean() / sharpness(truth).mean()
        return float(psnr(last[:, None], truth[:, None]).mean()), float(ratio)

    def held(picture: Float[Tensor, "b c 1 h w"]) -> Float[Tensor, "b c_z f_z h_z w_z"]:
        return vae.encode(picture.expand(-1, -1, 1 + _HELD_LATENTS * vae.temporal_stride, -1, -1))

    latents = vae.encode(to_float(films))
    results: dict[str, list[tuple[float, float]]] = {}
    for name, is_rounded in (("frame", True), ("unrounded", False)):
        video = vae.decode(latents)
        results[name] = [left(video)]
        for _ in range(num_handovers):
            picture = video[:, :, -1:].clamp(-1, 1)
            video = vae.decode(held(to_float(to_uint8(picture)) if is_rounded else picture))
            results[name].append(left(video))
    last = latents[:, :, -1:]
    results["repeated"] = [left(vae.decode(last.expand(-1, -1, 1 + _HELD_LATENTS, -1, -1)))]
    results["latent"] = []
    for _ in range(num_handovers):
        picture = vae.decode(last)
        results["latent"].append(left(picture))
        last = held(picture.clamp(-1, 1))[:, :, -1:]
    return results
