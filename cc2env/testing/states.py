"""The rules about states: their start, what must stay unchanged, what must continue; each yields its failures."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import torch

from cc2env.testing.basics import Rule
from cc2env.testing.flights import SEEDS, Flights, differences, levels_apart, segment, share_memory, tensors_of
from cc2env.testing.refusals import error_of, one_line, wrong_poses
from model.world.protocol import JoinsSegments
from model.world.state_io import load_state, save_state


def _identity(flights: Flights) -> Iterator[str]:
    c2w = flights.started[0].c2w.cpu()
    if not torch.equal(c2w, torch.eye(4).expand(2, 4, 4)):
        yield f"expected the identity as the pose of the first frame, got {c2w[0].tolist()}; look at c2w in start"


def _world_frame(flights: Flights) -> Iterator[str]:
    flown = [
        (flights.first[0], segment(flights.started[0], flights.spec)),
        (flights.second[0], segment(flights.first[0], flights.spec, seed=1)),
    ]
    for state, poses in flown:
        away = float((state.c2w.cpu() - poses[:, -1].cpu()).abs().max())
        if away > 1e-5:
            yield (
                f"expected the last commanded pose as the state's c2w, got one {away:.3g} away; look at c2w in extend: "
                "poses are absolute, and the world frame stays that of the first frame"
            )


def _unchanged(flights: Flights) -> Iterator[str]:
    state, where = flights.first[0].clone(), "look at extend: clone what is changed in place"
    poses = segment(state, flights.spec, seed=1)
    kept, kept_poses = state.clone(), poses.clone()
    after, _ = flights.world.extend(state, poses)
    if changed := differences(state, kept):
        yield f"expected the state that goes in to stay as it is, got another {changed}; {where}"
    if not torch.equal(poses, kept_poses):
        yield f"expected the poses that go in to stay as they are, got others; {where}"
    given = {**tensors_of(state), "the commanded poses": poses}
    if shared := sorted(
        name for name, one in given.items() if any(share_memory(one, new) for new in tensors_of(after).values())
    ):
        yield f"expected a new state that shares no memory with what went in, got it sharing {shared}; {where}"
    yield from _picture_unchanged(flights)


def _picture_unchanged(flights: Flights) -> Iterator[str]:
    if "images" not in flights.start_arguments:
        return
    picture = torch.full((1, flights.spec.height, flights.spec.width, 3), 100, dtype=torch.uint8)
    kept, where = picture.clone(), "look at start: clone the images"
    state, frame = flights.world.start([1], images=picture)
    if not torch.equal(picture, kept):
        yield f"expected the picture that goes in to stay as it is, got another; {where}"
    new = {**tensors_of(state), "the first frame": frame}
    if shared := sorted(name for name, one in new.items() if share_memory(one, picture)):
        yield f"expected a state that shares no memory with the picture, got it sharing {shared}; {where}"


def _unchanged_on_failure(flights: Flights) -> Iterator[str]:
    state = flights.first[0].clone()
    kept = state.clone()
    for poses in wrong_poses(flights).values():
        error_of(flights.world.extend, state, poses)
    if changed := differences(state, kept):
        yield (
            f"expected a refused extend to leave the state as it is, got another {changed}; look at extend: check "
            "the poses before anything is changed"
        )


def _repeats(flights: Flights) -> Iterator[str]:
    flights.second  # noqa: B018
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(99)
        again = Flights(flights.world)
        is_same = [
            torch.equal(getattr(again, name)[1], getattr(flights, name)[1]) for name in ("started", "first", "second")
        ]
    if not all(is_same):
        yield (
            "expected one seed and path to give the same frames again, got others; look at random numbers: draw them "
            "from generators seeded by (seed, step), never from global ones"
        )


def _snapshot(flights: Flights) -> Iterator[str]:
    kept, expected = flights.first[0].clone(), flights.second[1]
    flights.world.extend(kept.clone(), segment(kept, flights.spec, seed=7))  # another future
    flights.world.start([9])  # another episode
    if not torch.equal(flights.fly_on(kept)[1], expected):
        yield (
            "expected a kept state to continue the same bit for bit after other flights, got other frames; look at "
            "attributes of the world that extend writes to: all that decides the future belongs in the state"
        )


def _file(flights: Flights) -> Iterator[str]:
    where = "look at memory: it may hold finite tensors and nests of them, nothing else"
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "state.safetensors"
        try:
            save_state(path, flights.first[0])
            state = load_state(path, flights.first[0].c2w.device)
        except (ValueError, AttributeError, TypeError) as error:
            yield f"expected a state that can be saved and loaded, got {one_line(error)}; {where}"
            return
    if not torch.equal(flights.fly_on(state)[1], flights.second[1]):
        yield f"expected a state from a file to continue the same bit for bit, got other frames; {where}"


def _batch(flights: Flights) -> Iterator[str]:
    for row, seed in enumerate(SEEDS):
        state, frame = flights.world.start([seed])
        films = [(frame, flights.started[1])]
        state, frames = flights.world.extend(state, segment(flights.started[0], flights.spec)[[row]])
        films += [(frames, flights.first[1]), (flights.fly_on(state, (row,))[1], flights.second[1])]
        away = max(levels_apart(alone[0], together[row]) for alone, together in films)
        if away > 1:
            yield (
                f"expected row {row} of a batch to be the single run within 1/255, got {away}/255 away; look at what "
                "depends on the batch: its size, the place of a row, or statistics over rows"
            )


def _fork(flights: Flights) -> Iterator[str]:
    clips = flights.fly_on(flights.first[0][[1, 1, 0]], (1, 1, 0))[1]
    away = levels_apart(clips, flights.second[1][[1, 1, 0]])
    if away > 1:
        yield (
            f"expected state[[1, 1, 0]] to continue as rows 1, 1 and 0 within 1/255, got {away}/255 away; look at what "
            "is kept by seed or by the place of a row: several rows may be copies of one episode"
        )


def _joined(flights: Flights) -> Iterator[str]:
    if not (isinstance(flights.world, JoinsSegments) and flights.world.joins_segments):
        return
    paths = [segment(flights.started[0], flights.spec), segment(flights.first[0], flights.spec, seed=1)]
    state, frames = flights.world.extend(flights.started[0].clone(), torch.cat(paths, dim=1))
    apart = torch.cat([flights.first[1], flights.second[1]], dim=1)
    if frames.shape != apart.shape or levels_apart(frames, apart) > 1 or differences(state, flights.second[0]):
        yield (
            "expected a segment of two clips to equal two segments of one, since joins_segments is true, got other "
            "frames or another state; look at extend, or leave joins_segments out"
        )


STATES: dict[str, Rule] = {
    "identity": _identity,
    "world_frame": _world_frame,
    "unchanged": _unchanged,
    "unchanged_on_failure": _unchanged_on_failure,
    "repeats": _repeats,
    "snapshot": _snapshot,
    "file": _file,
    "batch": _batch,
    "fork": _fork,
    "joined": _joined,
}
