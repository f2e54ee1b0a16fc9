"""Networks that turn clips and frames into features, behind two protocols.

The network decides the metric's name: a Frechet distance is an FVD only with I3D's or VideoMAE's features.
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
        metric: Name of the Frechet distance of its features: fvd or frechet_lab.
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
        metric: Name of the cosine of their means: appearance_consistency or lab_consistency.
        name: Which network and weights, for the report.
    """

    metric: str
    name: str

    def __call__(self, frames: UInt8[Tensor, "f h w 3"]) -> Float[Tensor, "f d"]:
        """Returns the features of every frame."""
        ...


def build_video_network(i3d: str | None, videomae: str | None, device: str) -> VideoNetwork:
    """Returns the network whose features the Frechet distance compares: the given one, else our own.

    Raises:
        FileNotFoundError: The weights do not exist; the message says where to get them.
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
    """Returns the network that compares the looks of clips. Raises as `build_video_network`."""
    return LabImages(load_lab_network(), device) if folder is None else TransformersImages(folder, device)
