"""What every world promises: `start` and `extend`, state in and state out, nothing hidden in the model.

The world frame is the camera of the first frame (its pose is the identity) and is never re-based.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int, UInt8
from tensordict import TensorClass, TensorDict
from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class WorldSpec:
    """Sizes and units of a world; what an environment needs to build its spaces.

    `intrinsics` are (fx, fy, cx, cy) divided by width and height. `evaluations_per_clip` is the number of network
    evaluations for one clip of one episode with a prompt (solver steps times guidance branches), and
    `evaluations_per_opening` that for the first frame of an episode without image. Both are 0 for a renderer.
    """

    height: int
    width: int
    intrinsics: tuple[float, float, float, float]
    fps: float = 12.0
    frames_per_clip: int = 16
    poses_per_clip: int = 4
    evaluations_per_clip: int = 0
    evaluations_per_opening: int = 0

    @property
    def frames_per_pose(self) -> int:
        """Frames between two commanded poses."""
        return self.frames_per_clip // self.poses_per_clip

    @property
    def horizontal_fov_deg(self) -> float:
        """Horizontal field of view, degrees; rounded, so that the angle that was set comes back despite float32."""
        return round(math.degrees(2 * math.atan(0.5 / self.intrinsics[0])), 4)


class WorldState(TensorClass):
    """Everything a world knows about `b` running episodes; shape of the batch: `[b]`.

    Snapshot = keep it; restore = pass it again; fork = index it (`state[[0, 0, 0]]`); reset of single
    environments = `state.with_rows(rows, other)`, or assign in place, `state[i] = other[0]`, if no other code holds it.

    Fields:
        c2w: `[b, 4, 4]` float32, current camera pose in the world frame, metres.
        intrinsics: `[b, 4]` float32, normalised fx fy cx cy.
        seed: `[b]` int64, the episode's seed; all its randomness is a function of (seed, step).
        step: `[b]` int64, clips generated so far.
        memory: what only this kind of world needs; each entry has the batch dimension first and a constant shape.
    """

    c2w: Tensor
    intrinsics: Tensor
    seed: Tensor
    step: Tensor
    memory: TensorDict

    def with_rows(self, rows: Sequence[int] | Tensor, other: "WorldState") -> "WorldState":
        """A copy whose `rows` are those of `other` (in order); neither input changes."""
        copy = self.clone()
        copy[torch.as_tensor(rows)] = other
        return copy


@runtime_checkable
class WorldModel(Protocol):
    """A generated scene that a camera can be flown through, for a batch of episodes at once."""

    @property
    def spec(self) -> WorldSpec:
        """Sizes and units."""
        ...

    def start(
        self,
        seeds: Sequence[int] | Tensor,
        prompts: Sequence[str] | None = None,
        images: Tensor | None = None,
        intrinsics: Tensor | None = None,
    ) -> tuple[WorldState, UInt8[Tensor, "b 1 h w 3"]]:
        """Open one episode per seed: its state and its first frame, seen from the identity pose.

        Args:
            seeds: `b` integers in [0, 2**63); all randomness of an episode is a function of its seed.
            prompts: One per seed.
            images: First frames, uint8 `[b, height, width, 3]`.
            intrinsics: `[4]` or `[b, 4]`, normalised; the spec's by default.

        Raises:
            ValueError: for a bad argument, or one that has no effect in this world.
        """
        ...

    def extend(self, state: WorldState, c2w: Tensor) -> tuple[WorldState, UInt8[Tensor, "b frames h w 3"]]:
        """Generate the next clip along `poses_per_clip` absolute poses: the next state and `frames_per_clip` frames.

        `state` never changes, even when this call fails, and shares no memory with the returned state.

        Args:
            state: Of `b` episodes.
            c2w: `[b, poses_per_clip, 4, 4]`, metres, in the world frame. Pose k belongs to the last of its
                `frames_per_pose` frames; the frames between poses lie on the geodesics.

        Raises:
            ValueError: for poses of a wrong shape, not finite, or not rigid.
        """
        ...


@runtime_checkable
class LimitsItsStart(Protocol):
    """A world that does not take every argument of `start`; a world without this protocol takes all three.

    Attributes:
        start_arguments: Which of `prompts`, `images` and `intrinsics` have an effect; `start` refuses the others.
    """

    start_arguments: frozenset[str]


@runtime_checkable
class RecognisesStates(Protocol):
    """A world that can distinguish its own states from those of other worlds."""

    def recognises(self, state: WorldState) -> bool:
        """Whether `extend` continues this state as the world that made it would."""
        ...


@runtime_checkable
class NamesItsPrompt(Protocol):
    """A world that chooses a prompt if it gets neither a prompt nor an image, and can say which."""

    def default_prompt(self, seed: int) -> str:
        """Returns the prompt of the episode with this noise seed."""
        ...


@runtime_checkable
class HasVocabulary(Protocol):
    """A world whose prompts may use only certain words."""

    @property
    def vocabulary(self) -> tuple[str, ...] | None:
        """All of these words, or None if any word is allowed."""
        ...


@runtime_checkable
class ChangesPrompts(Protocol):
    """A world whose prompt can change during an episode: a new prompt takes effect from the next clip on."""

    def with_prompts(self, state: WorldState, prompts: Sequence[str]) -> WorldState:
        """A copy of the state with these prompts, one for each row, for the next `extend`; `state` does not change.

        Raises:
            ValueError: for a state of another world, or anything but one text for each row.
        """
        ...


@runtime_checkable
class CountsEvaluations(Protocol):
    """A world whose number of network evaluations depends on the episode: one without a prompt may take fewer."""

    def evaluations(self, state: WorldState, *, opening: bool = False) -> Int[Tensor, " b"]:
        """Network evaluations for each row when `extend` continues this state; a tensor on the CPU.

        Args:
            state: Of `b` episodes.
            opening: Instead, count those of the `start` without images that made this state.
        """
        ...


@runtime_checkable
class JoinsSegments(Protocol):
    """A world whose `extend` also takes n times `poses_per_clip` poses, and returns what n calls would return.

    Attributes:
        joins_segments: Whether `extend` takes them.
    """

    joins_segments: bool


@runtime_checkable
class SeesDepth(Protocol):
    """A world that can tell the depth of the frames that it has just shown."""

    def clip_depth(self, state: WorldState, c2w: Tensor) -> Float[Tensor, "b n h w"]:
        """Z-depth in metres of the frames at the latest poses; infinite where nothing is near enough to measure.

        Args:
            state: Of `b` episodes.
            c2w: `[b, n, 4, 4]`, the poses in the world frame of the `n` latest latent frames, oldest first.
        """
        ...


@runtime_checkable
class RendersViews(Protocol):
    """A world that can render the moment of a state from any pose: its pictures can be the truth for other worlds."""

    def render_views(
        self, state: WorldState, c2w: Tensor
    ) -> tuple[UInt8[Tensor, "b n h w 3"], Float[Tensor, "b n h w"]]:
        """Frames and their metric z-depth, infinite where there is nothing, from poses `[b, n, 4, 4]`."""
        ...


@runtime_checkable
class KnowsFreeSpace(Protocol):
    """A world that can say where a solid camera would have to stop.

    Attributes:
        free_space_is_exact: True if it is known; False if it is estimated from the frames that were shown.
    """

    free_space_is_exact: bool

    def free_fraction(self, state: WorldState, twists: Tensor) -> Float[Tensor, "b n"]:
        """The share in [0, 1] of each move's translation that a solid camera can travel; below 1 the move is blocked.

        A move starts where the move before it ended, blocked or not, and always makes its whole rotation: its motion is
        `exp((share * v, w))`.

        Args:
            state: Of `b` episodes; the first move starts at its pose and time.
            twists: `[b, n, 6]`, metres and radians in the camera's own axes; each takes `1 / poses_per_clip` of a clip.
        """
        ...


def abilities(world: WorldModel) -> frozenset[str]:
    """What an environment can do in this world, under the environment's names.

    `prompt` and `image` (options of reset) and `horizontal_fov_deg`, unless `LimitsItsStart` leaves them out;
    `set_prompt`, if it `ChangesPrompts`; `collision`, if it `KnowsFreeSpace`; `depth`, if it `SeesDepth`.
    """
    arguments = {"prompts": "prompt", "images": "image", "intrinsics": "horizontal_fov_deg"}
    taken = world.start_arguments if isinstance(world, LimitsItsStart) else frozenset(arguments)
    parts = {"set_prompt": ChangesPrompts, "collision": KnowsFreeSpace, "depth": SeesDepth}
    return frozenset(
        [name for argument, name in arguments.items() if argument in taken]
        + [name for name, part in parts.items() if isinstance(world, part)]
    )
