"""The renderer's truth of one scene, for poses in the episode's own frame (first camera = identity)."""

from dataclasses import dataclass, replace
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float, Int, UInt8
from torch import Tensor

from model.data.synthetic.renderer import RenderedClip, render, render_frames
from model.data.synthetic.scene import Scene, sample_scene, static_scene
from model.world.protocol import RendersViews, WorldModel, WorldState

# Every motion repeats itself within seconds: samples over this span show an object at nearly all its places.
_SWEEP_SECONDS = 12.0


@runtime_checkable
class CameraTruth(Protocol):
    """What the search for a camera and the metrics must know about a scene, for poses in the episode's own frame.

    Attributes:
        seed: The scene's seed.
        intrinsics: fx, fy, cx, cy, normalised.
        height: Pixels.
        width: Pixels.
        fps: Frames a second; frame 0 is at time 0.
    """

    @property
    def seed(self) -> int: ...
    @property
    def intrinsics(self) -> Float[Tensor, "4"]: ...
    @property
    def height(self) -> int: ...
    @property
    def width(self) -> int: ...
    @property
    def fps(self) -> float: ...

    def clip(self, c2w: Float[Tensor, "f 4 4"], times: Float[Tensor, " f"]) -> RenderedClip:
        """Frames, depth and mask of moving objects."""
        ...

    def static_frames(self, c2w: Float[Tensor, "f 4 4"]) -> UInt8[Tensor, "f h w 3"]:
        """Frames of the static scene."""
        ...

    def static_depth(self, c2w: Float[Tensor, "f 4 4"]) -> Float[Tensor, "f h w"]:
        """Metric z-depth of the static scene."""
        ...

    def depth(self, c2w: Float[Tensor, "f 4 4"], times: Float[Tensor, " f"]) -> Float[Tensor, "f h w"]:
        """Metric z-depth of the whole scene."""
        ...

    def disturbed(self, c2w: Float[Tensor, "f 4 4"], times: Float[Tensor, " f"]) -> Bool[Tensor, "f h w"]:
        """Pixels that moving objects change."""
        ...

    def swept(self, c2w: Float[Tensor, "f 4 4"], num_times: int = 12) -> Bool[Tensor, "f h w"]:
        """Pixels where a moving object is seen at some moment."""
        ...


@dataclass(frozen=True)
class StillTruth:
    """The `CameraTruth` of an episode in which nothing moves, in a world that renders any view, such as a mesh.

    Attributes:
        world: The world that renders the views.
        state: The episode's state, one row.
    """

    world: RendersViews
    state: WorldState
    height: int
    width: int
    fps: float

    @classmethod
    def of_state(cls, world: WorldModel, state: WorldState) -> "StillTruth":
        """The truth of a running episode.

        Raises:
            ValueError: The world does not render views.
        """
        if not isinstance(world, RendersViews):
            raise ValueError(f"world: expected one that renders views, got {type(world).__name__}; it is no truth")
        return cls(world, state, world.spec.height, world.spec.width, world.spec.fps)

    @property
    def seed(self) -> int:
        return int(self.state.seed[0])

    @property
    def intrinsics(self) -> Float[Tensor, "4"]:
        return self.state.intrinsics[0]

    def clip(self, c2w: Float[Tensor, "f 4 4"], times: Float[Tensor, " f"]) -> RenderedClip:
        """Frames and depth from these poses, the same at all times; no pixel moves, and none is of a known object."""
        frames, depth = self.world.render_views(self.state, c2w[None])
        moving = torch.zeros(depth[0].shape, dtype=torch.bool)
        return RenderedClip(frames[0], depth[0], moving, torch.full(depth[0].shape, -1))

    def static_frames(self, c2w: Float[Tensor, "f 4 4"]) -> UInt8[Tensor, "f h w 3"]:
        """Frames from these poses."""
        return self.world.render_views(self.state, c2w[None])[0][0]

    def static_depth(self, c2w: Float[Tensor, "f 4 4"]) -> Float[Tensor, "f h w"]:
        """Metric z-depth from these poses."""
        return self.world.render_views(self.state, c2w[None])[1][0]

    def depth(self, c2w: Float[Tensor, "f 4 4"], times: Float[Tensor, " f"]) -> Float[Tensor, "f h w"]:
        """Metric z-depth, the same at all times."""
        return self.static_depth(c2w)

    def disturbed(self, c2w: Float[Tensor, "f 4 4"], times: Float[Tensor, " f"]) -> Bool[Tensor, "f h w"]:
        """No pixel."""
        return torch.zeros(len(c2w), self.height, self.width, dtype=torch.bool)

    def swept(self, c2w: Float[Tensor, "f 4 4"], num_times: int = 12) -> Bool[Tensor, "f h w"]:
        """No pixel."""
        return torch.zeros(len(c2w), self.height, self.width, dtype=torch.bool)


@dataclass(frozen=True)
class SceneTruth:
    """Pictures, depth and masks of a held-out scene from any pose at any time.

    Attributes:
        scene: As sampled.
        resting: The same scene without its moving objects.
        start: The first camera in the scene's own frame.
        intrinsics: fx, fy, cx, cy, normalised.
        height: Pixels.
        width: Pixels.
        fps: Frames a second; frame 0 is at time 0.
    """

    scene: Scene
    resting: Scene
    start: Float[Tensor, "4 4"]
    intrinsics: Float[Tensor, "4"]
    height: int
    width: int
    fps: float = 12.0

    @property
    def seed(self) -> int:
        return self.scene.seed

    @classmethod
    def of_seed(
        cls, seed: int, intrinsics: Float[Tensor, "4"], height: int, width: int, fps: float = 12.0, style: str = "soft"
    ) -> "SceneTruth":
        """The scene of a seed as `SyntheticWorld` and clip sets open it."""
        scene = sample_scene(seed, style)
        return cls(scene, static_scene(scene), scene.start_pose, intrinsics, height, width, fps)

    def clip(self, c2w: Float[Tensor, "f 4 4"], times: Float[Tensor, " f"]) -> RenderedClip:
        """Frames, depth and mask of moving objects."""
        return self._rendered(self.scene, c2w, times)

    def depth(self, c2w: Float[Tensor, "f 4 4"], times: Float[Tensor, " f"]) -> Float[Tensor, "f h w"]:
        """Metric z-depth, with moving objects; infinite in the sky."""
        return self._rendered(self.scene, c2w, times, 1).depth

    def objects(self, c2w: Float[Tensor, "f 4 4"], times: Float[Tensor, " f"]) -> Int[Tensor, "f h w"]:
        """The object of the scene that each pixel's centre sees, by its number; -1 where it sees none."""
        return self._rendered(self.scene, c2w, times, 1).objects

    def static_frames(self, c2w: Float[Tensor, "f 4 4"]) -> UInt8[Tensor, "f h w 3"]:
        """Frames without moving objects and their shadows."""
        return self._frames(self.resting, c2w, torch.zeros(len(c2w)))

    def backdrop(self, c2w: Float[Tensor, "f 4 4"]) -> UInt8[Tensor, "f h w 3"]:
        """Frames without any object and its shadow: sky, ground and light, which do not change with time."""
        return self._frames(replace(self.scene, objects=()), c2w, torch.zeros(len(c2w)))

    def static_depth(self, c2w: Float[Tensor, "f 4 4"]) -> Float[Tensor, "f h w"]:
        """Metric z-depth of the static scene."""
        return self._rendered(self.resting, c2w, torch.zeros(len(c2w)), 1).depth

    def disturbed(self, c2w: Float[Tensor, "f 4 4"], times: Float[Tensor, " f"]) -> Bool[Tensor, "f h w"]:
        """Pixels that moving objects or their shadows change, even slightly."""
        return (self._frames(self.scene, c2w, times) != self.static_frames(c2w)).any(dim=-1)

    def swept(self, c2w: Float[Tensor, "f 4 4"], num_times: int = 12) -> Bool[Tensor, "f h w"]:
        """Pixels where a moving object is seen at one of `num_times` moments, whatever its phase."""
        times = torch.arange(num_times) * (_SWEEP_SECONDS / num_times)
        poses = c2w.repeat_interleave(num_times, dim=0)
        seen = self._rendered(self.scene, poses, times.repeat(len(c2w)), 1).moving_mask
        return seen.unflatten(0, (len(c2w), num_times)).any(dim=1)

    def _rendered(self, scene: Scene, c2w: Tensor, times: Tensor, supersample: int = 2) -> RenderedClip:
        return render(scene, self.start @ c2w, self.intrinsics, times, self.height, self.width, supersample)

    def _frames(self, scene: Scene, c2w: Tensor, times: Tensor) -> UInt8[Tensor, "f h w 3"]:
        poses = self.start.to(c2w.dtype) @ c2w
        return render_frames(scene, poses, self.intrinsics, times, self.height, self.width)
