"""Builds the estimators that the steps use from their settings."""

import importlib.metadata
import importlib.util
from dataclasses import dataclass

from model.curation.steps import Tools
from model.estimators.metric_depth import MetricDepth, TransformersDepth
from model.estimators.motion_mask import EpipolarMotionMask, MotionMask
from model.estimators.optical_flow import DISFlow, OpticalFlow, RAFTFlow
from model.estimators.sfm import ColmapSfM, Mapper, StructureFromMotion
from model.optional_dependency import require

_PACKAGES = ("av", "scenedetect-headless", "opencv-python-headless", "pycolmap", "torch")


@dataclass(kw_only=True)
class ToolsConfig:
    """Which estimators; weights are local folders or files, nothing is downloaded.

    Attributes:
        flow: dis (OpenCV, no weights) or raft (torchvision; `raft_weights`).
        raft_weights: The file of RAFT's weights.
        mask: epipolar (no weights), or none: the whole scene counts as static.
        mapper: COLMAP's mapper: global, incremental, or either: global, then incremental where the pictures do not
            confirm the first path. In a scene that is nearly flat two paths explain the first pair of an incremental
            one equally well, and all other frames follow whichever is chosen.
        sfm_threads: COLMAP's threads in each process; with more than 1 its bits differ from run to run.
        depth: none (poses are not metric), or transformers (Depth Pro, Depth Anything metric; `depth_folder`).
        depth_folder: The depth model's folder.
        device: The networks' device.
    """

    flow: str = "dis"
    raft_weights: str | None = None
    mask: str = "epipolar"
    mapper: str = "either"
    sfm_threads: int = 1
    depth: str = "none"
    depth_folder: str | None = None
    device: str = "cpu"

    def provenance(self) -> dict[str, str]:
        """Returns a record's provenance: the estimators and the versions of their packages."""
        chosen = {"flow": self.flow, "mask": self.mask, "sfm": f"colmap {self.mapper}", "depth": self.depth}
        return {"pipeline": "model.curation"} | chosen | {"versions": _versions()}


def build_tools(config: ToolsConfig) -> Tools:
    """Returns the estimators.

    Raises:
        ValueError: a name is unknown, a package is missing, or a setting has no effect.
    """
    for module in ("av", "scenedetect", "cv2", "pycolmap"):
        if importlib.util.find_spec(module) is None:
            require(module)  # says what to install, before any film is rejected
    flow = _flow(config)
    sfm = _mappers(config)
    other = sfm[1] if len(sfm) > 1 else None
    return Tools(flow=flow, mask=_mask(config.mask, flow), sfm=sfm[0], other_sfm=other, depth=_depth(config))


def estimator_errors() -> tuple[type[Exception], ...]:
    """Returns the errors that estimators and decoders raise on unusable data; any other error is a bug."""
    return (ValueError, RuntimeError, ArithmeticError, require("cv2").error)


def _flow(config: ToolsConfig) -> OpticalFlow:
    match config.flow, config.raft_weights:
        case "dis", None:
            return DISFlow()
        case "raft", str(weights):
            return RAFTFlow(weights, device=config.device)
    raise ValueError(
        f"tools.flow: expected dis, or raft and its raft_weights, got {config.flow!r} and {config.raft_weights!r}"
    )


def _mask(name: str, flow: OpticalFlow) -> MotionMask | None:
    match name:
        case "epipolar":
            return EpipolarMotionMask(flow)
        case "none":
            return None
    raise ValueError(f"tools.mask: expected epipolar or none, got {name!r}")


def _mappers(config: ToolsConfig) -> list[StructureFromMotion]:
    mappers: list[Mapper] = ["global", "incremental"]
    if config.mapper not in (*mappers, "either"):
        raise ValueError(f"tools.mapper: expected incremental, global or either, got {config.mapper!r}")
    return [ColmapSfM(mapper=m, num_threads=config.sfm_threads) for m in mappers if config.mapper in (m, "either")]


def _depth(config: ToolsConfig) -> MetricDepth | None:
    match config.depth, config.depth_folder:
        case "none", None:
            return None
        case "transformers", str(folder):
            return TransformersDepth(folder, device=config.device)
    raise ValueError(
        "tools.depth: expected none, or transformers and the model's depth_folder, got "
        f"{config.depth!r} and {config.depth_folder!r}"
    )


def _versions() -> str:
    return " ".join(f"{package} {importlib.metadata.version(package)}" for package in _PACKAGES)
