"""Estimators with known answers, and the pipeline with them as a program: `python planted_tools.py FILMS OUT [DIE_AT]`.

The planted structure from motion moves the camera to the right by what the pictures' brightness says, past points 25
units away, which the planted metric depth puts at 62.5 m. It notes each call in `calls.txt` beside OUT, and kills its
process (SIGKILL) at call DIE_AT; at every dark film, if that is -1.
"""

import os
import signal
import sys
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from model.curation.pipeline import CurationConfig, curate_films
from model.curation.poses import PosesConfig
from model.curation.publish import PublishConfig, publish
from model.curation.shots import ShotsConfig
from model.curation.steps import StepsConfig, Tools
from model.curation.tools import ToolsConfig
from model.estimators.optical_flow import DISFlow
from model.estimators.sfm import Reconstruction, ReconstructionFailed
from model.geometry import se3
from model.geometry.camera import project, unproject

SCALE, DEPTH, HEIGHT, WIDTH, FPS = 2.5, 25.0, 48, 80, 12.0
DIE_IN_THE_DARK = -1
LENS = torch.tensor([0.8, 0.8 * WIDTH / HEIGHT, 0.5, 0.5])
CONFIG = CurationConfig(
    shots=ShotsConfig(fps=FPS, height=HEIGHT, width=WIDTH, min_frames=6, max_frames=9),
    # the planted speed is the pictures' brightness, not their motion
    steps=StepsConfig(
        poses=PosesConfig(
            max_flow_distance=1000.0, min_flow_share=0.0, max_epipolar_excess=1.0, max_mean_epipolar_excess=1.0
        )
    ),
)


@dataclass(frozen=True)
class PlantedSfM:
    """Moves to the right by a hundredth of the brightness a frame; fails on dark films."""

    notes: str
    die_at: int = 0

    def __call__(self, frames: Tensor, masks: Tensor | None, intrinsics: Tensor | None) -> Reconstruction:
        """Returns the planted path."""
        with open(self.notes, "a") as notes:
            notes.write("call\n")
        if self.die_at > 0 and len(Path(self.notes).read_text().splitlines()) == self.die_at:
            os.kill(os.getpid(), signal.SIGKILL)
        speed = float(frames.float().mean()) / 100
        if speed < 0.4 and self.die_at == DIE_IN_THE_DARK:
            os.kill(os.getpid(), signal.SIGKILL)
        if speed < 0.4:
            raise ReconstructionFailed("no model: the film is dark")
        twists = torch.arange(len(frames))[:, None] * torch.tensor([speed, 0.0, 0.0, 0.0, 0.0, 0.0])
        return planted(se3.exp(twists))


def planted(c2w: Tensor) -> Reconstruction:
    """Points on a wall, seen by all frames."""
    num_points, num_frames = 60, len(c2w)
    generator = torch.Generator().manual_seed(0)
    uv = 0.3 + 0.4 * torch.rand(num_points, 2, generator=generator)
    points = unproject(uv, torch.full((num_points,), DEPTH), c2w[0], LENS)
    seen = torch.cat([project(points, pose, LENS)[0] for pose in c2w]) * torch.tensor([WIDTH, HEIGHT])
    return Reconstruction(
        registered=torch.ones(num_frames, dtype=torch.bool),
        c2w=c2w,
        intrinsics=LENS,
        points=points,
        frame_of=torch.arange(num_frames).repeat_interleave(num_points),
        point_of=torch.arange(num_points).repeat(num_frames),
        pixels=seen,
        reprojection_error=0.1,
    )


class PlantedDepth:
    """Metres of the wall."""

    def __call__(self, frames: Tensor) -> Tensor:
        return torch.full(frames.shape[:-1], SCALE * DEPTH)


@dataclass(frozen=True)
class PlantedTools:
    """Makes the tools. The flow is real, so that the camera's motion is measured."""

    notes: str = os.devnull
    die_at: int = 0

    def __call__(self, config: ToolsConfig) -> Tools:
        return Tools(flow=DISFlow("ultrafast"), sfm=PlantedSfM(self.notes, self.die_at), depth=PlantedDepth())


if __name__ == "__main__":
    films, out, *rest = sys.argv[1:]
    die_at, num_workers = int(rest[0]) if rest else 0, int(rest[1]) if len(rest) > 1 else 1
    tools = PlantedTools(str(Path(out).with_name("calls.txt")), die_at)
    curate_films(films, out, CONFIG, num_workers=num_workers, make_tools=tools)
    publish(out, PublishConfig())
