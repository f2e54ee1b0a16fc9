"""Frames a second of the renderer on one core, and how much of the look 16 principal components explain."""

import math
import time

import pytest
import torch
from pytest_benchmark.fixture import BenchmarkFixture

from model.data.synthetic.renderer import render, render_frames
from model.data.synthetic.scene import sample_scene
from model.data.synthetic.trajectories import sample_trajectory
from model.geometry.camera import intrinsics_from_fov


# processor time: what one core can do, also while other programs run beside it
@pytest.mark.benchmark(timer=time.process_time)
@pytest.mark.parametrize(
    ("style", "height", "width", "ground_truth"),
    [("soft", 48, 80, False), ("soft", 48, 80, True), ("textured", 240, 320, False)],
)
def test_rendering(benchmark: BenchmarkFixture, style: str, height: int, width: int, ground_truth: bool) -> None:
    lens = intrinsics_from_fov(math.radians(75), height, width)
    scenes = [sample_scene(seed, style) for seed in range(8 if height < 100 else 1)]
    paths = [sample_trajectory(scene, scene.seed, 4)[0].upsample(4).c2w for scene in scenes]
    times = torch.arange(len(paths[0])) / 12

    def run() -> None:
        for scene, c2w in zip(scenes, paths, strict=True):
            if ground_truth:
                render(scene, c2w, lens, times, height, width)
            else:
                render_frames(scene, c2w, lens, times, height, width)

    benchmark(run)
    frames_per_second = len(scenes) * len(times) / benchmark.stats.stats.min
    benchmark.extra_info["frames_per_second"] = round(frames_per_second, 1)
    if height < 100:
        assert frames_per_second >= 100
