"""Controlled single moves through held-out scenes, one kind at a time: does the camera do what it is told?"""

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

_METRES, _RISE, _TURN, _NOD = 0.25, 0.12, 0.10, 0.06  # per latent pose: brisk but usual in training
_RADIUS = 4.0  # metres to the point that an orbit looks at
_TRIES = 50  # scenes looked at for each one wanted
MOVES: tuple[str, ...] = (
    *("forward", "back", "left", "right", "up", "down"),
    *("pan_left", "pan_right", "tilt_up", "tilt_down", "roll_left", "roll_right"),
    *("orbit_left", "orbit_right", "compound", "still"),
)


def move(kind: str, num_poses: int) -> CameraTrajectory:
    """The path of a named move, from the identity, at its usual speed.

    Raises:
        ValueError: for a name that is none of `MOVES`.
    """
    steps = num_poses - 1
    match kind:
        case "forward" | "back":
            return primitives.dolly(_METRES * steps * (1 if kind == "forward" else -1), num_poses)
        case "left" | "right":
            return primitives.truck(_METRES * steps * (1 if kind == "right" else -1), num_poses)
        case "up" | "down":
            return primitives.pedestal(_RISE * steps * (1 if kind == "up" else -1), num_poses)
        case "pan_left" | "pan_right":
            return primitives.pan(_TURN * steps * (1 if kind == "pan_right" else -1), num_poses)
        case "tilt_up" | "tilt_down":
            return primitives.tilt(_NOD * steps * (1 if kind == "tilt_up" else -1), num_poses)
        case "roll_left" | "roll_right":
            return primitives.roll(_NOD * steps * (1 if kind == "roll_right" else -1), num_poses)
        case "orbit_left" | "orbit_right":
            angle = _METRES / _RADIUS * steps
            return primitives.orbit(angle * (1 if kind == "orbit_right" else -1), _RADIUS, num_poses)
        case "compound":
            twist = torch.tensor([0.08, -0.04, 0.2, 0.01, 0.06, 0.03])
            path = primitives.hold_still(num_poses)
            return CameraTrajectory.from_twists(torch.eye(4), twist.expand(steps, 6), path.intrinsics[0])
        case "still":
            return primitives.hold_still(num_poses)
    raise ValueError(f"kind: expected one of {', '.join(MOVES)}, got {kind!r}")


def render_moves(config: ClipSetConfig, kind: str, num_scenes: int) -> tuple[OracleScenes, list[SceneTruth]]:
    """The first `num_scenes` scenes from `config.first_seed` on in which the move touches nothing, rendered.

    Raises:
        ValueError: hardly any scene has room for the move.
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
