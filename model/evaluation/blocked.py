"""Compares a world's own estimate of `blocked`, whether a move would hit an obstacle, with the renderer's truth."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor
from tqdm import tqdm

from model.geometry import se3
from model.world.free_space import SolidCameraWorld
from model.world.protocol import KnowsFreeSpace, WorldState
from model.world.synthetic_world import SyntheticWorld

_METRES, _TURN = 0.5, 0.1  # a move's metres and radians per latent pose; the bounds are 0.6 m and 0.2 rad
_AXES = {"right": (0, 1), "left": (0, -1), "down": (1, 1), "up": (1, -1), "forward": (2, 1), "back": (2, -1)}
_IN_VIEW = math.radians(35)


@dataclass(frozen=True)
class BlockedResult:
    """The judged moves and the answers, one for each scene and probe [n].

    Attributes:
        probe: Name of the move.
        truth: Whether it leads into an obstacle.
        generated: The world's own answer in the scene that it generated.
        given: Its answer if it is shown the true clip: the depth head alone, without the generator's mistakes.
    """

    probe: np.ndarray
    truth: Bool[np.ndarray, " n"]
    generated: Bool[np.ndarray, " n"]
    given: Bool[np.ndarray, " n"]


def evaluate_blocked(
    world: SolidCameraWorld, seeds: Sequence[int], num_clips: int = 1, batch_size: int = 16
) -> BlockedResult:
    """Flies a world towards the nearest object of every scene, from its true first frame; there it judges moves.

    The renderer chooses both the flight and the moves: the world only gets poses that a true camera can have.

    Source: ours, because only a renderer knows the true obstacles of a generated scene.

    Args:
        world: A learned world with a depth head.
        seeds: The scenes' seeds.
        num_clips: Clips of flight before the judgements.
        batch_size: Scenes flown at once.
    """
    spec = world.spec
    truth = SyntheticWorld(
        height=spec.height, width=spec.width, horizontal_fov_deg=spec.horizontal_fov_deg, fps=spec.fps
    )
    rows: dict[str, list[object]] = {name: [] for name in BlockedResult.__dataclass_fields__}
    for first in tqdm(range(0, len(seeds), batch_size), desc="blocked", unit="batch"):
        chosen = list(seeds[first : first + batch_size])
        exact, generated, given = final_states(truth, world, chosen, num_clips)
        for row, seed in enumerate(chosen):
            for name, moves in probes(spec.poses_per_clip, seed).items():
                rows["probe"].append(name.split()[0])
                rows["truth"].append(is_blocked(truth, exact[[row]], moves))
                rows["generated"].append(is_blocked(world, generated[[row]], moves))
                rows["given"].append(is_blocked(world, given[[row]], moves))
    return BlockedResult(**{name: np.array(values) for name, values in rows.items()})


def final_states(
    truth: SyntheticWorld, world: SolidCameraWorld, seeds: Sequence[int], num_clips: int
) -> tuple[WorldState, WorldState, WorldState]:
    """The states at the end of the flights: the renderer's, the world's own, and as if it had shown the truth."""
    exact, frames = truth.start(seeds)
    generated, _ = world.start(seeds, images=frames[:, 0], intrinsics=exact.intrinsics)
    films, poses = [frames], [exact.c2w[:, None]]
    for _ in range(num_clips):
        segment = approach(truth, exact)
        exact, frames = truth.extend(exact, segment)
        generated, _ = world.extend(generated, segment)
        films.append(frames)
        poses.append(segment)
    return exact, generated, world.with_seen(generated, torch.cat(films, dim=1), torch.cat(poses, dim=1))


def approach(truth: SyntheticWorld, state: WorldState) -> Float[Tensor, "b p 4 4"]:
    """One clip towards the nearest object in view, as far as a solid camera can go; straight ahead if none is seen."""
    num_poses = truth.spec.poses_per_clip
    twists = torch.zeros(len(state.c2w), num_poses, 6)
    twists[..., 2] = _METRES
    for row in range(len(twists)):
        towards = se3.inverse(state.memory["start_c2w"][row] @ state.c2w[row])
        places = [towards[:3, :3] @ torch.tensor([o.x, -o.height / 2, o.z]) + towards[:3, 3]
                  for o in truth.scene(int(state.seed[row])).objects]  # fmt: skip
        bearings = [(float(place.norm()), math.atan2(place[0], place[2])) for place in places]
        seen = [each for each in bearings if abs(each[1]) < _IN_VIEW]
        if seen:
            twists[row, :, 4] = min(seen)[1] / num_poses
    shares = truth.free_fraction(state, twists)
    twists[..., :3] *= shares[..., None]
    poses, pose = [], state.c2w.double()
    for motion in se3.exp(twists.double()).unbind(1):
        pose = pose @ motion
        poses.append(pose)
    return torch.stack(poses, dim=1).float()


def probes(num_poses: int, seed: int, num_flights: int = 6) -> dict[str, Float[Tensor, "p 6"]]:
    """Judged moves of one clip: straight along every axis, and turning flights that go mostly forward."""
    moves: dict[str, Float[Tensor, "p 6"]] = {}
    for name, (axis, sign) in _AXES.items():
        moves[name] = torch.zeros(num_poses, 6)
        moves[name][:, axis] = sign * _METRES
    rng = np.random.default_rng([seed, 0xB10C])
    for index in range(num_flights):
        low, high = [-0.15, -0.05, 0.2, -0.02, -_TURN, 0.0], [0.15, 0.05, 0.6, 0.02, _TURN, 0.0]
        moves[f"flight {index}"] = torch.from_numpy(rng.uniform(low, high).astype(np.float32)).repeat(num_poses, 1)
    return moves


def is_blocked(world: KnowsFreeSpace, state: WorldState, moves: Float[Tensor, "p 6"]) -> bool:
    """Whether the moves, one after another from the state's pose, lead into an obstacle."""
    return bool((world.free_fraction(state, moves[None]) < 1).any())


def blocked_table(result: BlockedResult) -> str:
    """Markdown: for groups of moves, how many are blocked in truth, and precision and recall of the answers."""
    lines = [
        "| moves | asked | blocked in truth | precision | recall | precision, true clip | recall, true clip |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    groups = {name: result.probe == name for name in ("flight", *_AXES)}
    into_view = groups["flight"] | groups["forward"]
    groups = {"all": np.ones(len(result.probe), bool), "into the view (flight, forward)": into_view, **groups}
    for name, chosen in groups.items():
        truth = result.truth[chosen]
        if not len(truth):
            continue
        answers = (result.generated[chosen], result.given[chosen])
        cells = [_share(value) for answer in answers for value in precision_and_recall(truth, answer)]
        lines.append(f"| {name} | {len(truth)} | {_share(float(truth.mean()))} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def precision_and_recall(truth: Bool[np.ndarray, " n"], answer: Bool[np.ndarray, " n"]) -> tuple[float, float]:
    """Share of `blocked` answers that are right, share of blocked moves that are found; NaN where there are none."""
    hits, said, true = (float(each.sum()) for each in (truth & answer, answer, truth))
    return hits / said if said else math.nan, hits / true if true else math.nan


def _share(value: float) -> str:
    return "-" if math.isnan(value) else f"{100 * value:.0f} %"
