"""Single camera moves through held-out scenes, to test whether a world follows each kind of move."""

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from model.data.clips import FRAMES_PER_LATENT, ClipSetConfig
from model.data.synthetic.captions import caption
from model.data.synthetic.free_space import clearance
from model.evaluation.oracle import OracleScenes
from model.evaluation.truth import SceneTruth
from model.geometry import primitives
from model.geometry.clearance import CAMERA_MARGIN
from model.geometry.trajectory import CameraTrajectory

_RADIUS = 4.0  # metres to the point that an orbit looks at
_TRIES = 50  # most scenes that are tried for each wanted scene


def _orbit(angle: float, num_poses: int) -> CameraTrajectory:
    return primitives.orbit(angle, _RADIUS, num_poses)


# metres or radians per latent pose: fast, but usual in training
_SINGLE: dict[str, tuple[Callable[[float, int], CameraTrajectory], float]] = {
    **{"forward": (primitives.dolly, 0.25), "back": (primitives.dolly, -0.25)},
    **{"left": (primitives.truck, -0.25), "right": (primitives.truck, 0.25)},
    **{"up": (primitives.pedestal, 0.12), "down": (primitives.pedestal, -0.12)},
    **{"pan_left": (primitives.pan, -0.10), "pan_right": (primitives.pan, 0.10)},
    **{"tilt_up": (primitives.tilt, 0.06), "tilt_down": (primitives.tilt, -0.06)},
    **{"roll_left": (primitives.roll, -0.06), "roll_right": (primitives.roll, 0.06)},
    **{"orbit_left": (_orbit, -0.25 / _RADIUS), "orbit_right": (_orbit, 0.25 / _RADIUS)},
}
_COMPOUND = (0.08, -0.04, 0.2, 0.01, 0.06, 0.03)  # a twist
MOVES = (*_SINGLE, "compound", "still")


def move(kind: str, num_poses: int) -> CameraTrajectory:
    """The path of a named move, from the identity, at its usual speed.

    Raises:
        ValueError: the name is not in `MOVES`.
    """
    if kind not in MOVES:
        raise ValueError(f"kind: expected one of {', '.join(MOVES)}, got {kind!r}")
    if kind in _SINGLE:
        primitive, size = _SINGLE[kind]
        return primitive(size * (num_poses - 1), num_poses)
    path = primitives.hold_still(num_poses)
    if kind == "still":
        return path
    return CameraTrajectory.from_twists(
        torch.eye(4), torch.tensor(_COMPOUND).expand(num_poses - 1, 6), path.intrinsics[0]
    )


def render_moves(config: ClipSetConfig, kind: str, num_scenes: int) -> tuple[OracleScenes, list[SceneTruth]]:
    """The first `num_scenes` scenes from `config.first_seed` on in which the move touches nothing, rendered.

    Raises:
        ValueError: too few scenes have room for the move.
    """
    path = move(kind, config.num_latents)
    poses = path.upsample(FRAMES_PER_LATENT).c2w
    times = torch.arange(config.num_frames) / config.fps
    truths: list[SceneTruth] = []
    seed = config.first_seed
    while len(truths) < num_scenes:
        if seed - config.first_seed > _TRIES * num_scenes:
            raise ValueError(
                f"kinds: expected room for {num_scenes} moves {kind!r} of {config.num_latents} poses, found "
                f"{len(truths)} in {_TRIES * num_scenes} scenes; fly fewer clips"
            )
        truth = SceneTruth.of_seed(seed, config.intrinsics(), config.height, config.width, config.fps, config.style)
        if _is_free(truth, poses):
            truths.append(truth)
        seed += 1
    frames = [truth.clip(poses, times).frames for truth in truths]
    scenes = OracleScenes(
        frames=torch.stack(frames),
        poses=path.c2w.repeat(num_scenes, 1, 1, 1),
        intrinsics=config.intrinsics(),
        seeds=[truth.scene.seed for truth in truths],
        captions=[caption(truth.scene) for truth in truths],
        kinds=[kind] * num_scenes,
        fps=config.fps,
        style=config.style,
    )
    return scenes, truths


def _is_free(truth: SceneTruth, poses: Float[Tensor, "f 4 4"]) -> bool:
    points = (truth.start @ poses)[:, :3, 3].double().numpy()
    return bool((clearance(truth.scene, points) > CAMERA_MARGIN).all())
