"""The procedural world behind the same protocol: exact pose, depth and motion, no weights; an oracle, and fast."""

import math
from collections.abc import Sequence
from functools import lru_cache

import torch
from jaxtyping import Float, UInt8
from tensordict import TensorDict
from torch import Tensor

from model.data.synthetic.free_space import free_fraction
from model.data.synthetic.renderer import render, render_frames
from model.data.synthetic.scene import Scene, sample_scene
from model.data.synthetic.themes import Style
from model.fingerprint import fingerprint_number
from model.geometry import se3
from model.geometry.camera import intrinsics_from_fov
from model.geometry.clearance import CAMERA_MARGIN
from model.geometry.trajectory import frame_poses
from model.world.arguments import check_intrinsics, check_seeds, check_segment
from model.world.protocol import WorldSpec, WorldState

View = tuple[Scene, Tensor, Tensor, Tensor, int, int]
"""The renderer's arguments: scene, cameras, lens, seconds, height, width."""


@lru_cache(maxsize=64)
def _scene(seed: int, style: Style) -> Scene:
    return sample_scene(seed, style)  # pure: the cache saves time and holds no state of an episode


class SyntheticWorld:
    """A `WorldModel` that ray-casts the moving scene of each seed.

    A state's memory holds `start_c2w` `[b, 4, 4]`, the first camera in the scene's own frame, and `fingerprint` `[b]`,
    of style, size and frame rate. The same (seed, camera path) always gives the same bytes; it takes no prompt.
    """

    free_space_is_exact = True
    joins_segments = True
    start_arguments = frozenset({"intrinsics"})

    def __init__(
        self,
        *,
        height: int = 48,
        width: int = 80,
        horizontal_fov_deg: float = 75.0,
        fps: float = 12.0,
        style: Style = "soft",
    ) -> None:
        intrinsics = intrinsics_from_fov(math.radians(horizontal_fov_deg), height, width)
        fx, fy, cx, cy = intrinsics.tolist()
        self._spec = WorldSpec(height=height, width=width, intrinsics=(fx, fy, cx, cy), fps=fps)
        self._style = style
        self._fingerprint = fingerprint_number(repr(("synthetic", style, height, width, float(fps))).encode())

    @property
    def spec(self) -> WorldSpec:
        return self._spec

    def scene(self, seed: int) -> Scene:
        """The procedural scene of a seed, in its own frame."""
        return _scene(seed, self._style)

    def start(
        self,
        seeds: Sequence[int] | Tensor,
        prompts: Sequence[str] | None = None,
        images: Tensor | None = None,
        intrinsics: Tensor | None = None,
    ) -> tuple[WorldState, UInt8[Tensor, "b 1 h w 3"]]:
        """See `WorldModel.start`; a prompt or an image would have no effect and raises."""
        for name, value in (("prompts", prompts), ("images", images)):
            if value is not None:
                raise ValueError(
                    f"{name}: expected None, the synthetic world is made from its seed alone; choose another world"
                )
        values = check_seeds(seeds)
        batch = len(values)
        starts = torch.stack([self.scene(seed).start_pose for seed in values])
        state = WorldState(
            c2w=torch.eye(4, dtype=torch.float32).repeat(batch, 1, 1),
            intrinsics=check_intrinsics(intrinsics, self._spec, batch),
            seed=torch.tensor(values),
            step=torch.zeros(batch, dtype=torch.int64),
            memory=TensorDict(
                {"start_c2w": starts, "fingerprint": torch.full((batch,), self._fingerprint)},
                batch_size=[batch],
            ),
            batch_size=[batch],
        )
        now = torch.zeros(1, dtype=torch.float32)
        frames = [render_frames(*self._view(state, row, state.c2w[row : row + 1], now)) for row in range(batch)]
        return state, torch.stack(frames)

    def extend(self, state: WorldState, c2w: Tensor) -> tuple[WorldState, UInt8[Tensor, "b frames h w 3"]]:
        clips = [render_frames(*view) for view in self._views(state, c2w)]
        extended = state.clone()
        extended.c2w = c2w[:, -1].to(torch.float32).clone()
        extended.step = state.step + c2w.shape[1] // self._spec.poses_per_clip
        return extended, torch.stack(clips)

    def _views(self, state: WorldState, c2w: Tensor) -> list[View]:
        """The renderer's arguments for the next clip, one tuple a row."""
        if not self.recognises(state):
            raise ValueError("state: expected one of this world, got another world's; start an episode here")
        c2w = check_segment(state, c2w, self._spec, joins=True)
        poses = frame_poses(state.c2w, c2w, self._spec.frames_per_pose)
        first = state.step * self._spec.frames_per_clip + 1
        seconds = (first[:, None] + torch.arange(poses.shape[1])) / self._spec.fps
        return [self._view(state, row, poses[row], seconds[row]) for row in range(len(poses))]

    def recognises(self, state: WorldState) -> bool:
        memory = state.memory
        if set(memory.keys()) != {"start_c2w", "fingerprint"}:
            return False
        is_placed = memory["start_c2w"].shape[-2:] == (4, 4) and memory["start_c2w"].dtype == torch.float32
        return is_placed and bool((memory["fingerprint"] == self._fingerprint).all())

    def free_fraction(self, state: WorldState, twists: Tensor) -> Float[Tensor, "b n"]:
        """See `KnowsFreeSpace.free_fraction`: exact; a camera keeps `CAMERA_MARGIN` metres from every surface."""
        seconds = self._spec.frames_per_pose / self._spec.fps
        shares = torch.ones(twists.shape[:2])
        for row, moves in enumerate(twists.double()):
            scene, pose = self.scene(int(state.seed[row])), state.memory["start_c2w"][row] @ state.c2w[row]
            pose, start = pose.double(), float(state.step[row] * self._spec.frames_per_clip / self._spec.fps)
            for index, (move, motion) in enumerate(zip(moves, se3.exp(moves), strict=True)):
                share = free_fraction(scene, pose, move, start + index * seconds, seconds, CAMERA_MARGIN)
                if share < 1:
                    motion = se3.exp(torch.cat([share * move[:3], move[3:]]))
                    shares[row, index] = share
                pose = pose @ motion
        return shares

    def clip_depth(self, state: WorldState, c2w: Tensor) -> Float[Tensor, "b n h w"]:
        """See `SeesDepth.clip_depth`: exact at the centre of each pixel, also on moving objects."""
        poses_ago = torch.arange(c2w.shape[1] - 1, -1, -1, dtype=torch.float32)
        seconds = (state.step[:, None] * self._spec.frames_per_clip - poses_ago * self._spec.frames_per_pose).clamp(
            min=0
        )
        views = [self._view(state, row, c2w[row], seconds[row] / self._spec.fps) for row in range(len(c2w))]
        return torch.stack([render(*view, supersample=1).depth for view in views])

    def _view(self, state: WorldState, row: int, c2w: Tensor, seconds: Tensor) -> View:
        scene = self.scene(int(state.seed[row]))
        scene_c2w = state.memory["start_c2w"][row] @ c2w
        return scene, scene_c2w, state.intrinsics[row], seconds, self._spec.height, self._spec.width
