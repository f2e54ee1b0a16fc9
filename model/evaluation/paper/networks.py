"""Networks that turn clips and frames into features, behind two protocols.

The metric's name belongs to the network: a Frechet distance is an FVD only of I3D's or VideoMAE's features.
"""

from typing import Protocol, runtime_checkable

from jaxtyping import Float, UInt8
from torch import Tensor

from model.evaluation.paper.i3d import I3DVideos
from model.evaluation.paper.lab_network import LabImages, LabVideos, load_lab_network
from model.evaluation.paper.transformers_networks import TransformersImages, VideoMAEVideos


@runtime_checkable
class VideoNetwork(Protocol):
    """Features of a clip.

    Attributes:
        metric: What the Frechet distance of its features is called: fvd or frechet_lab.
        name: Which network and weights, for the report.
    """

    metric: str
    name: str

    def __call__(self, frames: UInt8[Tensor, "f h w 3"]) -> Float[Tensor, " d"]:
        """Returns the features of one clip, whatever its size and length."""
        ...


@runtime_checkable
class ImageNetwork(Protocol):
    """Features of single frames.

    Attributes:
        metric: What the cosine of their means is called: appearance_consistency or lab_consistency.
        name: Which network and weights, for the report.
    """

    metric: str
    name: str

    def __call__(self, frames: UInt8[Tensor, "f h w 3"]) -> Float[Tensor, "f d"]:
        """Returns the features of every frame."""
        ...


def build_video_network(i3d: str | None, videomae: str | None, device: str) -> VideoNetwork:
    """Returns the network whose features the Frechet distance compares: one that is given, else our own.

    Raises:
        FileNotFoundError: There are no such weights; the message says where to get them.
        ValueError: Both are given, or weights are damaged.
    """
    match i3d, videomae:
        case None, None:
            return LabVideos(load_lab_network(), device)
        case str(file), None:
            return I3DVideos(file, device)
        case None, str(folder):
            return VideoMAEVideos(folder, device)
    raise ValueError(f"i3d, videomae: expected one of them, got {i3d} and {videomae}; drop one")


def build_image_network(folder: str | None, device: str) -> ImageNetwork:
    """Returns the network that sees whether clips look alike. Raises as `build_video_network`."""
    return LabImages(load_lab_network(), device) if folder is None else TransformersImages(folder, device)
