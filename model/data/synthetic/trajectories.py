"""Samples camera paths through a scene: all named moves, changes of speed and stops, never through a solid."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from model.data.synthetic.free_space import clearance
from model.data.synthetic.scene import SCENE_RADIUS, Scene
from model.geometry import se3
from model.geometry.camera import intrinsics_from_fov
from model.geometry.clearance import CAMERA_MARGIN
from model.geometry.trajectory import CameraTrajectory

MAX_TRANSLATION_PER_POSE = 0.6  # metres between two latent poses (1/3 s)
MAX_ROTATION_PER_POSE = 0.2  # radians between two latent poses
HORIZONTAL_FOV = math.radians(75)
_MAX_HEIGHT = 4.0  # metres
_MAX_PITCH, _MAX_ROLL = math.radians(28), math.radians(25)
_FRAMES_PER_POSE = 4
_SECONDS = 1 / 3  # from pose to pose
_IN_VIEW = math.radians(30)
_LONG = 12  # poses; longer paths are sequences and turn back towards objects

# Base rates in the level frame of the camera's heading, per second:
# right, up, forward (m/s), yaw right, pitch up, roll clockwise (rad/s). Speeds multiply them.
_RATES: dict[str, tuple[float, float, float, float, float, float]] = {
    "still": (0, 0, 0, 0, 0, 0),
    "forward": (0, 0, 1, 0, 0, 0),
    "back": (0, 0, -1, 0, 0, 0),
    "left": (-1, 0, 0, 0, 0, 0),
    "right": (1, 0, 0, 0, 0, 0),
    "up": (0, 0.6, 0, 0, 0, 0),
    "down": (0, -0.6, 0, 0, 0, 0),
    "pan_left": (0, 0, 0, -0.35, 0, 0),
    "pan_right": (0, 0, 0, 0.35, 0, 0),
    "tilt_up": (0, 0, 0, 0, 0.18, 0),
    "tilt_down": (0, 0, 0, 0, -0.18, 0),
    "roll_left": (0, 0, 0, 0, 0, -0.2),
    "roll_right": (0, 0, 0, 0, 0, 0.2),
    "arc_left": (0, 0, 0.9, -0.3, 0, 0),
    "arc_right": (0, 0, 0.9, 0.3, 0, 0),
    "crane_up": (0, 0.5, 0.4, 0, -0.12, 0),
    "crane_down": (0, -0.5, 0.4, 0, 0.12, 0),
}
KINDS: tuple[str, ...] = (*_RATES, "orbit_left", "orbit_right", "wander", "sequence")
_FREQUENT = {"still": 0.6, "forward": 2.5, "tilt_up": 0.6, "tilt_down": 0.6, "roll_left": 0.4, "roll_right": 0.4}
_FREQUENT |= {"pan_left": 1.6, "pan_right": 1.6, "arc_left": 1.5, "arc_right": 1.5, "wander": 3.0}
PATHS = {"balanced": _FREQUENT, "forward": {"forward": 80.0}}  # weights of the moves; the others have 1


@dataclass(frozen=True)
class _Body:
    """A camera's position and angles, so that no move leaves it tilted by accident."""

    position: NDArray[np.float64]  # [3]
    yaw: float
    pitch: float
    roll: float

    def moved(self, rates: NDArray[np.float64]) -> "_Body":
        """The body at the next pose, at level-frame rates [6]; pitch and roll stop at their limits."""
        right, up, forward, yaw, pitch, roll = rates * _SECONDS
        middle = self.yaw + yaw / 2
        cosine, sine = math.cos(middle), math.sin(middle)
        step = np.array([right * cosine + forward * sine, -up, forward * cosine - right * sine])
        pitch = float(np.clip(self.pitch + pitch, -_MAX_PITCH, _MAX_PITCH))
        return _Body(
            self.position + step, self.yaw + yaw, pitch, float(np.clip(self.roll + roll, -_MAX_ROLL, _MAX_ROLL))
        )

    def pose(self) -> NDArray[np.float64]:
        """c2w [4, 4]: roll about z, then pitch about x, then yaw about y."""
        (cy, sy), (cp, sp), (cr, sr) = ((math.cos(a), math.sin(a)) for a in (self.yaw, self.pitch, self.roll))
        yaw = np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])
        pitch = np.array([[1, 0, 0], [0, cp, -sp], [0, sp, cp]])
        roll = np.array([[cr, -sr, 0], [sr, cr, 0], [0, 0, 1]])
        pose = np.eye(4)
        pose[:3, :3] = yaw @ pitch @ roll
        pose[:3, 3] = self.position
        return pose


def sample_trajectory(
    scene: Scene, seed: int, num_latents: int, paths: str = "balanced"
) -> tuple[CameraTrajectory, str]:
    """A path of `num_latents` latent poses in scene coordinates from the scene's start pose, and its kind.

    The kind is one of `KINDS`: the only move of a short path, or "sequence" where several follow each other. At any
    time, and on the geodesics between poses, the camera keeps `CAMERA_MARGIN` from every surface; successive poses
    are at most `MAX_TRANSLATION_PER_POSE` and `MAX_ROTATION_PER_POSE` apart. Intrinsics are those of `HORIZONTAL_FOV`
    at 48x80 pixels. `paths`: which moves are frequent, a name of `PATHS`.

    Raises:
        ValueError: `num_latents` is less than 1 or the seed is negative.
    """
    if num_latents < 1:
        raise ValueError(f"num_latents: expected at least 1, got {num_latents}")
    if seed < 0:
        raise ValueError(f"seed: expected a non-negative integer, got {seed}")
    rng = np.random.default_rng([0x7A7, scene.seed, seed])
    bodies = [_Body(np.array([0.0, -scene.camera_height, 0.0]), 0.0, 0.0, 0.0)]
    kinds: list[str] = []
    single = rng.random() < 0.6
    while len(bodies) < num_latents:
        missing = num_latents - len(bodies)
        steps = missing if single and missing <= _LONG else min(missing, int(rng.integers(3, 10)))
        part, kind = _segment(scene, rng, bodies[-1], steps, num_latents > _LONG, PATHS[paths])
        bodies.extend(part)
        kinds.append(kind)
    poses = torch.from_numpy(np.stack([body.pose() for body in bodies])).float()
    intrinsics = intrinsics_from_fov(HORIZONTAL_FOV, 48, 80)
    kind = kinds[0] if len(kinds) == 1 else ("sequence" if kinds else "still")
    return CameraTrajectory(poses, intrinsics.expand(num_latents, 4)), kind


def _segment(
    scene: Scene,
    rng: np.random.Generator,
    start: _Body,
    steps: int,
    keep_in_view: bool,
    frequent: Mapping[str, float],
) -> tuple[list[_Body], str]:
    """The next `steps` bodies and the name of the move.

    Tries moves until one is clear (and, if asked, ends with something in view), and turns on the spot otherwise.
    """
    names = [name for name in KINDS if name != "sequence"]
    weights = np.array([frequent.get(name, 1.0) for name in names])
    for attempt in range(24):
        kind = str(rng.choice(names, p=weights / weights.sum()))
        speed = _speeds(rng, steps) * (0.85**attempt)
        bodies = _follow(start, _rates(rng, kind, start, speed))
        if keep_in_view and attempt < 12 and min(map(abs, _bearings(scene, bodies[-1])), default=0.0) > _IN_VIEW:
            continue
        if _is_clear(scene, [start, *bodies]):
            return bodies, kind
    kind = "pan_right" if min(_bearings(scene, start), key=abs, default=1.0) > 0 else "pan_left"
    return _follow(start, np.tile(np.array(_RATES[kind], float), (steps, 1))), kind


def _bearings(scene: Scene, body: _Body) -> list[float]:
    """Angles in radians from the heading, positive to the right, of the objects that the haze does not hide."""
    found = []
    for item in scene.objects:
        x, z = item.x - body.position[0], item.z - body.position[2]
        if math.hypot(x, z) < 1.1 * scene.theme.fog_distance:
            found.append(math.remainder(math.atan2(x, z) - body.yaw, 2 * math.pi))
    return found


def _speeds(rng: np.random.Generator, steps: int) -> NDArray[np.float64]:
    """Speed factor [steps]: constant, easing in or out, changing, or with a stop in the middle."""
    peak = float(rng.uniform(0.35, 1.5))
    at = (np.arange(steps) + 0.5) / steps
    match rng.choice(("constant", "in", "out", "change", "stop"), p=(0.4, 0.15, 0.15, 0.15, 0.15)):
        case "in":
            shape = np.minimum(1.0, at * 2)
        case "out":
            shape = np.minimum(1.0, (1 - at) * 2)
        case "change":
            shape = np.where(at < rng.uniform(0.3, 0.7), 1.0, rng.uniform(0.3, 0.6))
        case "stop":
            begin = rng.uniform(0.2, 0.6)
            shape = np.where((at > begin) & (at < begin + 0.3), 0.0, 1.0)
        case _:
            shape = np.ones(steps)
    return np.asarray(peak * shape)


def _rates(rng: np.random.Generator, kind: str, start: _Body, speed: NDArray[np.float64]) -> NDArray[np.float64]:
    """Level-frame rates [steps, 6] of a move at the given speeds."""
    if kind == "wander":
        knots = rng.normal(size=(3, 6)) * np.array([0.7, 0.15, 0.9, 0.25, 0.08, 0.04])
        at = np.linspace(0, 2, len(speed))
        return np.stack([np.interp(at, np.arange(3), knots[:, axis]) for axis in range(6)], -1)
    if kind.startswith("orbit"):
        radius = float(rng.uniform(3.0, 6.0))
        sign = 1.0 if kind == "orbit_right" else -1.0
        return speed[:, None] * np.array([sign, 0, 0, -sign / radius, 0, 0])
    base = np.array(_RATES[kind])
    rates = speed[:, None] * base
    if kind != "still" and not base[4:].any() and not kind.startswith(("tilt", "roll")):
        # tilted by an earlier move: come back to level on the way
        level = -np.array([start.pitch, start.roll]) / max(len(speed) / 3, 1.0)
        rates[:, 4:] += np.clip(level, -0.15, 0.15)
    return rates


def _follow(start: _Body, rates: NDArray[np.float64]) -> list[_Body]:
    """The bodies after each step, slowed down where a step would exceed the limits per pose."""
    bodies = [start]
    for rate in rates:
        move, turn = np.linalg.norm(rate[:3]) * _SECONDS, np.abs(rate[3:]).sum() * _SECONDS
        excess = max(move / (0.98 * MAX_TRANSLATION_PER_POSE), turn / (0.98 * MAX_ROTATION_PER_POSE), 1.0)
        bodies.append(bodies[-1].moved(rate / excess))
    return bodies[1:]


def _is_clear(scene: Scene, bodies: list[_Body]) -> bool:
    poses = torch.from_numpy(np.stack([body.pose() for body in bodies]))
    fractions = torch.arange(_FRAMES_PER_POSE, dtype=poses.dtype) / _FRAMES_PER_POSE
    between = se3.interpolate(poses[:-1, None], poses[1:, None], fractions[None, :])
    points = torch.cat((between[..., :3, 3].reshape(-1, 3), poses[-1:, :3, 3])).numpy()
    inside = (np.hypot(points[:, 0], points[:, 2]) < SCENE_RADIUS) & (points[:, 1] > -_MAX_HEIGHT)
    return bool(inside.all() and (clearance(scene, points) > CAMERA_MARGIN).all())
