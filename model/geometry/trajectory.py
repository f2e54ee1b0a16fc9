"""A camera's path: poses and intrinsics, and operations on paths. Conventions: `model.geometry`."""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from model.geometry import se3


@dataclass(frozen=True, eq=False)
class CameraTrajectory:
    """Poses of one camera, one per latent frame unless said otherwise.

    Attributes:
        c2w: Camera-to-world matrices, metres.
        intrinsics: (fx, fy, cx, cy) of every pose, normalised.

    Raises:
        ValueError: A shape is wrong or there is no pose. Values are checked where they enter (`se3.check_poses`).
    """

    c2w: Float[Tensor, "f 4 4"]
    intrinsics: Float[Tensor, "f 4"]

    def __post_init__(self) -> None:
        if self.c2w.ndim != 3 or self.c2w.shape[1:] != (4, 4) or not len(self.c2w):
            raise ValueError(f"c2w: expected shape [f, 4, 4] with f >= 1, got {list(self.c2w.shape)}")
        if self.intrinsics.shape != (len(self.c2w), 4):
            raise ValueError(
                f"intrinsics: expected shape [{len(self.c2w)}, 4], one row for each pose, "
                f"got {list(self.intrinsics.shape)}"
            )

    @classmethod
    def from_twists(
        cls,
        start: Float[Tensor, "4 4"],
        twists: Float[Tensor, "g 6"],
        intrinsics: Float[Tensor, "4"] | Float[Tensor, "f 4"],
    ) -> "CameraTrajectory":
        """Returns the path that begins at start and moves by each twist in turn: g + 1 poses.

        Composed in float64, so that rounding does not add up along the path.
        """
        poses = [start.double()]
        for motion in se3.exp(twists.double()):
            poses.append(poses[-1] @ motion)
        return cls(torch.stack(poses).to(start.dtype), intrinsics.expand(len(poses), 4))

    def __len__(self) -> int:
        return len(self.c2w)

    def __getitem__(self, index: slice) -> "CameraTrajectory":
        """Returns the path of a slice of the poses."""
        return CameraTrajectory(self.c2w[index], self.intrinsics[index])

    def to(self, dtype: torch.dtype) -> "CameraTrajectory":
        """Returns the same path in another precision."""
        return CameraTrajectory(self.c2w.to(dtype), self.intrinsics.to(dtype))

    def scaled(self, scale: float) -> "CameraTrajectory":
        """Returns the path with its translations multiplied: from a unit of `scale` metres to metres."""
        c2w = self.c2w.clone()
        c2w[:, :3, 3] *= scale
        return CameraTrajectory(c2w, self.intrinsics)

    def rebase(self) -> "CameraTrajectory":
        """Returns the path in the frame of its first pose, which becomes the identity."""
        return CameraTrajectory(se3.relative(self.c2w[0], self.c2w), self.intrinsics)

    def resample(self, num_poses: int) -> "CameraTrajectory":
        """Returns num_poses poses evenly spaced in index, on the geodesics between the old ones; both ends are kept.

        A single pose is repeated: the camera stands still.

        Raises:
            ValueError: num_poses is less than 1.
        """
        if num_poses < 1:
            raise ValueError(f"num_poses: expected at least 1, got {num_poses}")
        # Whole numbers first: a pose that falls on an old one equals it bit for bit.
        steps = max(num_poses - 1, 1)
        position = torch.arange(num_poses, device=self.c2w.device) * (len(self) - 1)
        return self._at(position // steps, (position % steps).to(self.c2w.dtype) / steps)

    def in_time(self, seconds: Float[Tensor, " f"], seconds_per_pose: float) -> "CameraTrajectory":
        """Returns a pose for each seconds_per_pose of time, on the geodesics between the old ones.

        Both ends are kept: a shorter last step covers the remaining time. An old pose is kept as it is if a new one
        comes within a thousandth of the way to the next, since timestamps are rounded.

        Args:
            seconds: When each old pose was taken, increasing.
            seconds_per_pose: Of the result.

        Raises:
            ValueError: seconds do not increase, there is not one for each pose, or seconds_per_pose is not positive.
        """
        if len(seconds) != len(self) or (seconds.diff() <= 0).any() or not seconds_per_pose > 0:
            raise ValueError(
                f"seconds: expected {len(self)} that increase and seconds_per_pose > 0, got {seconds.tolist()[:4]} and "
                f"{seconds_per_pose}"
            )
        elapsed = (seconds - seconds[0]).double()
        num_steps = math.ceil(float(elapsed[-1]) / seconds_per_pose - 1e-3)
        wanted = (torch.arange(num_steps + 1, dtype=torch.float64) * seconds_per_pose).clamp(max=float(elapsed[-1]))
        if num_steps:
            wanted[-1] = elapsed[-1]
        index = (torch.searchsorted(elapsed, wanted, right=True) - 1).clamp(0, max(len(self) - 2, 0))
        after = (index + 1).clamp(max=len(self) - 1)
        position = index + (wanted - elapsed[index]) / (elapsed[after] - elapsed[index]).clamp(min=1e-12)
        nearest = position.round()
        position = torch.where((position - nearest).abs() < 1e-3, nearest, position)
        whole = position.floor().long()
        return self._at(whole, (position - whole).to(self.c2w.dtype))

    def upsample(self, frames_per_pose: int = 4) -> "CameraTrajectory":
        """Returns the (f - 1) * frames_per_pose + 1 poses of all frames; every frames_per_pose-th is an old one.

        Source: ours, because a latent frame k covers frames 4k-3..4k and has the pose of frame 4k.
        """
        return self.resample((len(self) - 1) * frames_per_pose + 1)

    def twists(self) -> Float[Tensor, "g 6"]:
        """Returns the f - 1 twists that lead from each pose to the next, in the camera's own axes."""
        return se3.log(se3.relative(self.c2w[:-1], self.c2w[1:]))

    def path_length(self) -> float:
        """Returns the sum of the distances between successive camera centres, in metres."""
        return float(self.c2w[:, :3, 3].diff(dim=0).norm(dim=-1).sum())

    def _at(self, index: Int[Tensor, " n"], fraction: Float[Tensor, " n"]) -> "CameraTrajectory":
        after = (index + 1).clamp(max=len(self) - 1)
        c2w = se3.interpolate(self.c2w[index], self.c2w[after], fraction)
        intrinsics = torch.lerp(self.intrinsics[index], self.intrinsics[after], fraction[:, None])
        return CameraTrajectory(c2w, intrinsics)


def frame_poses(
    c2w: Float[Tensor, "b 4 4"], segment: Float[Tensor, "b poses 4 4"], frames_per_pose: int
) -> Float[Tensor, "b frames 4 4"]:
    """Poses of every frame of a segment that follows `c2w`, on the geodesics between the commanded ones."""
    before = torch.cat([c2w[:, None], segment[:, :-1]], dim=1)
    fractions = torch.arange(1, frames_per_pose + 1, dtype=c2w.dtype) / frames_per_pose
    poses = se3.interpolate(before[:, :, None], segment[:, :, None], fractions[None, None])
    poses[:, :, -1] = segment
    return poses.flatten(1, 2)
