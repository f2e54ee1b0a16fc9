"""Named camera moves, and tours made of them.

Moves, one clip each: still; forward back left right up down; pan_left pan_right tilt_up tilt_down roll_left roll_right;
orbit_left orbit_right (round the point ahead); arc_left arc_right (forward in a curve); crane_up crane_down (forward,
up or down, still looking at the scene).
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from gymnasium.spaces import Box

SPEED = 0.25  # metres for each latent pose: 0.75 m/s, an easy walk
TURN = 0.1  # radians for each latent pose: 17 degrees a second
ORBIT_RADIUS = 3.0  # metres to the point that an orbit turns about


def _orbit(angle: float, radius: float = ORBIT_RADIUS) -> tuple[float, ...]:
    """The twist that turns about the point `radius` ahead; a positive angle turns to the right."""
    return (angle * radius, 0, 0, 0, -angle, 0)


# A move is the twist (x right, y down, z forward in metres; rotation vector in radians) of each latent pose.
MOVES: dict[str, tuple[float, ...]] = {
    "still": (0, 0, 0, 0, 0, 0),
    "forward": (0, 0, SPEED, 0, 0, 0),
    "back": (0, 0, -SPEED, 0, 0, 0),
    "left": (-SPEED, 0, 0, 0, 0, 0),
    "right": (SPEED, 0, 0, 0, 0, 0),
    "up": (0, -0.5 * SPEED, 0, 0, 0, 0),
    "down": (0, 0.5 * SPEED, 0, 0, 0, 0),
    "pan_left": (0, 0, 0, 0, -TURN, 0),
    "pan_right": (0, 0, 0, 0, TURN, 0),
    "tilt_up": (0, 0, 0, 0.5 * TURN, 0, 0),
    "tilt_down": (0, 0, 0, -0.5 * TURN, 0, 0),
    "roll_left": (0, 0, 0, 0, 0, -0.5 * TURN),
    "roll_right": (0, 0, 0, 0, 0, 0.5 * TURN),
    "orbit_left": _orbit(-TURN),
    "orbit_right": _orbit(TURN),
    "arc_left": (0, 0, SPEED, 0, -0.6 * TURN, 0),
    "arc_right": (0, 0, SPEED, 0, 0.6 * TURN, 0),
    "crane_up": (0, -0.6 * SPEED, 0.5 * SPEED, -0.4 * TURN, 0, 0),
    "crane_down": (0, 0.6 * SPEED, 0.5 * SPEED, 0.4 * TURN, 0, 0),
}

TOURS: dict[str, tuple[str, ...]] = {
    "tour": ("forward", "orbit_right", "orbit_right", "back", "crane_up", "arc_left", "crane_down", "pan_right"),
    "look_around": ("pan_right",) * 8,
    "circle": ("orbit_right",) * 8,
    "walk": ("forward", "arc_right", "forward", "arc_left", "forward", "still", "pan_left", "forward"),
    "there_and_back": ("forward", "forward", "back", "back"),
}


class ScriptedPolicy:
    """Flies a script of named moves, one a clip, and begins again at its end.

    Args:
        action_space: The environment's action space.
        script: Names of tours and moves, in a sequence or in one text.
        smooth: Ease from each move to the next: speeds are averaged over neighbouring poses with weights 1 2 1. A
            repeated move stays unchanged, except for its first pose, which starts from rest.

    Raises:
        ValueError: The script is empty, or a move in it is unknown or too fast for the space.
    """

    def __init__(self, action_space: Box, script: str | Sequence[str] = "tour", smooth: bool = True) -> None:
        self.script = resolve_script(script)
        self.smooth = smooth
        self.num_poses = len(action_space.high)
        for move in self.script:
            if (np.abs(np.array(MOVES[move])) > action_space.high[0]).any():
                raise ValueError(f"script: expected moves within bounds, got {move} {MOVES[move]}; slow it down")

    def __len__(self) -> int:
        return len(self.script)

    def move_of(self, clip_index: int) -> str:
        """Returns the name of the move that is flown in a clip."""
        return self.script[clip_index % len(self.script)]

    def act(self, observation: np.ndarray, info: dict[str, Any]) -> np.ndarray:
        """Returns the twists of the current move."""
        first = info["clip_index"] * self.num_poses
        if not self.smooth:
            return np.stack([self._twist(first + pose) for pose in range(self.num_poses)]).astype(np.float32)
        speeds = np.stack([self._twist(first + pose) for pose in range(-1, self.num_poses + 1)])
        return (0.25 * speeds[:-2] + 0.5 * speeds[1:-1] + 0.25 * speeds[2:]).astype(np.float32)

    def _twist(self, pose: int) -> np.ndarray:
        """The script's twist of a pose counted from the start of the episode; before it the camera rests."""
        return np.array(MOVES["still" if pose < 0 else self.move_of(pose // self.num_poses)])


def resolve_script(script: str | Sequence[str]) -> tuple[str, ...]:
    """Returns the moves of a script: names of tours and moves, in a sequence or in one text ("forward, walk").

    Raises:
        ValueError: It is empty or a name is unknown.
    """
    names = script.replace(",", " ").split() if isinstance(script, str) else script
    moves = tuple(move for name in names for move in TOURS.get(name, (name,)))
    unknown = sorted({move for move in moves if move not in MOVES})
    if unknown or not moves:
        raise ValueError(
            f"script: expected a tour ({', '.join(TOURS)}) or moves ({', '.join(MOVES)}), got {unknown or 'nothing'}; "
            "check the spelling"
        )
    return moves
