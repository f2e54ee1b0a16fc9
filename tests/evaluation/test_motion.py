"""Strength of motion where it is known; needs the optional extra `evaluation`."""

import pytest
import torch

pytest.importorskip("cv2")

from model.data.clips import ClipSetConfig
from model.data.synthetic.seeds import HELD_OUT_SEED
from model.evaluation.motion import camera_flow, measure_motion, optical_flow
from model.evaluation.oracle import render_oracle_scenes
from model.evaluation.truth import SceneTruth
from model.evaluation.world_evaluator import EvaluationConfig, WorldEvaluator
from model.geometry import primitives, se3
from model.geometry.camera import default_intrinsics
from model.world.synthetic_world import SyntheticWorld


@pytest.fixture(scope="module")
def truth() -> SceneTruth:
    return SceneTruth.of_seed(HELD_OUT_SEED, default_intrinsics(), 48, 80)


def test_flow_of_a_known_shift() -> None:
    smooth = torch.nn.functional.interpolate(torch.rand(1, 3, 12, 20), (48, 80), mode="bicubic").clamp(0, 1)
    frame = (smooth[0].movedim(0, -1) * 255).byte()
    flow = optical_flow(frame, frame.roll((1, 2), dims=(0, 1)))[8:-8, 8:-8]
    assert torch.allclose(flow.mean(dim=(0, 1)), torch.tensor([2.0, 1.0]), atol=0.2)


def test_flow_of_the_camera_is_that_of_the_geometry() -> None:
    lens = torch.tensor([0.5, 0.5, 0.5, 0.5])  # at 2 m, 16 pixels are 4 m: a step of 0.5 m to the right is 2 pixels
    c2w = primitives.truck(0.5, 2).c2w
    flow = camera_flow(torch.full((8, 16), 2.0), c2w[0], c2w[1], lens)
    assert torch.allclose(flow, torch.tensor([-2.0, 0.0]).expand(8, 16, 2), atol=1e-4)


@pytest.mark.slow
def test_neither_a_late_camera_nor_a_picture_held_counts_as_motion_of_objects() -> None:
    """Flown along their own paths; before, a held picture scored 1.9 and a late camera over frozen objects 1.0."""
    scenes = render_oracle_scenes(ClipSetConfig(num_clips=4, num_latents=3, first_seed=HELD_OUT_SEED), 4)
    truths, paths, times = scenes.truths(), scenes.frame_poses(), torch.arange(9) / 12.0
    late = torch.stack([torch.stack([se3.exp(0.7 * se3.log(pose)) for pose in path]) for path in paths])

    def ratio(path: torch.Tensor, clock: torch.Tensor) -> float:
        frames = torch.stack([truth.clip(c2w, clock).frames for truth, c2w in zip(truths, path, strict=True)])
        summary = measure_motion(truths, frames, paths, 8).summary()
        assert isinstance(summary["ratio"], float)
        return summary["ratio"]

    held = scenes.frames[:, :1].expand_as(scenes.frames).contiguous()
    assert measure_motion(truths, held, paths, 8).summary()["ratio"] == pytest.approx(0, abs=0.3)
    assert ratio(late, 0 * times) == pytest.approx(0, abs=0.3)
    assert ratio(paths, 0 * times) == pytest.approx(0, abs=0.1)
    assert ratio(late, times) == pytest.approx(1, abs=0.3)
    assert ratio(paths, times) == 1


def test_a_frozen_world_hardly_moves_and_the_true_one_moves_as_itself(truth: SceneTruth) -> None:
    poses = torch.eye(4).expand(1, 17, 4, 4)
    true = truth.clip(poses[0], torch.arange(17) / 12).frames[None]
    same = measure_motion([truth], true, poses, 16).summary()
    assert same["ratio"] == pytest.approx(1)
    frozen = measure_motion([truth], true[:, :1].expand_as(true), poses, 16).summary()
    assert frozen["ratio"] == pytest.approx(0, abs=0.02)


def test_the_section_tells_what_the_autoencoder_alone_does_to_motion() -> None:
    class Exact:
        """Loses nothing."""

        def reconstruct(self, frames: torch.Tensor) -> torch.Tensor:
            return frames

    clips = ClipSetConfig(num_clips=1, num_latents=2, first_seed=HELD_OUT_SEED)
    scenes = render_oracle_scenes(clips, 1)
    evaluator = WorldEvaluator(SyntheticWorld(), Exact(), clips, scenes, EvaluationConfig(motion=True))
    section = evaluator.motion(scenes.frames[:, :1].expand_as(scenes.frames).contiguous())
    assert section["ratio_vae"] == 1
    assert section["ratio"] != 1
