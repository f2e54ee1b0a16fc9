"""The basic rules, on which the others rest: what `start` and `extend` return; each yields its failures."""

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from cc2env.testing.flights import SEEDS, Flights, tensors_of
from model.world.protocol import WorldSpec, WorldState

Rule = Callable[[Flights], Iterator[str]]


def _spec(flights: Flights) -> Iterator[str]:
    spec, where = flights.spec, "look at model.world.protocol.WorldSpec"
    if not isinstance(spec, WorldSpec):
        yield f"expected spec to be a WorldSpec, got {type(spec).__name__}; {where}"
        return
    sizes = {name: getattr(spec, name) for name in ("height", "width", "fps", "frames_per_clip", "poses_per_clip")}
    if wrong := {name: value for name, value in sizes.items() if not value > 0}:
        yield f"expected positive sizes, got {wrong}; {where}"
    elif spec.frames_per_clip % spec.poses_per_clip:
        yield f"expected frames_per_clip to be a multiple of poses_per_clip, got {sizes}; {where}"
    if len(spec.intrinsics) != 4 or not all(0 < value < 100 for value in spec.intrinsics):
        yield f"expected positive (fx, fy, cx, cy) divided by width and height, got {spec.intrinsics}; {where}"


def _start(flights: Flights) -> Iterator[str]:
    (state, frames), spec = flights.started, flights.spec
    where = "look at what start returns"
    yield from is_tensor("frames", frames, torch.uint8, [2, 1, spec.height, spec.width, 3], where)
    yield from _is_state(state, where)
    if not torch.allclose(state.intrinsics.cpu(), torch.tensor(spec.intrinsics).expand(2, 4)):
        yield f"expected the spec's intrinsics without others, got {state.intrinsics.tolist()}; {where}"
    if "intrinsics" in flights.start_arguments:
        lens = 0.9 * torch.tensor(spec.intrinsics)
        given = flights.world.start([1], intrinsics=lens)[0].intrinsics.cpu()
        if not torch.allclose(given, lens[None]):
            yield f"expected the given intrinsics, {lens.tolist()}, in the state, got {given.tolist()}; {where}"
    yield from _is_counted(state, 0, where)


def _extend(flights: Flights) -> Iterator[str]:
    spec, where = flights.spec, "look at what extend returns"
    for clip, (state, frames) in enumerate((flights.first, flights.second), 1):
        expected = [2, spec.frames_per_clip, spec.height, spec.width, 3]
        yield from is_tensor("frames", frames, torch.uint8, expected, where)
        yield from _is_state(state, where)
        yield from _is_counted(state, clip, where)
        if not torch.equal(state.intrinsics, flights.started[0].intrinsics):
            yield f"expected the intrinsics of the start, got {state.intrinsics.tolist()}; {where}"


def _memory(flights: Flights) -> Iterator[str]:
    layouts = [
        {name: (list(value.shape), value.dtype) for name, value in tensors_of(state).items()}
        for state in (flights.started[0], flights.first[0], flights.second[0])
    ]
    for layout in layouts[1:]:
        for name in sorted(layouts[0].keys() | layout.keys()):
            if layouts[0].get(name) != layout.get(name):
                yield (
                    f"expected state entries of constant shape and type, got {name} as {layouts[0].get(name)} after "
                    f"start and {layout.get(name)} later; look at memory: pad it to its full size in start"
                )


def _is_counted(state: WorldState, clip: int, where: str) -> Iterator[str]:
    seeds, steps = state.seed.tolist(), state.step.tolist()
    if seeds != list(SEEDS) or steps != [clip, clip]:
        yield f"expected seed {list(SEEDS)} and step {[clip] * 2} after {clip} clips, got {seeds} and {steps}; {where}"


def is_tensor(name: str, value: object, dtype: torch.dtype, shape: list[int], where: str) -> Iterator[str]:
    """Yields a failure unless the value is a tensor of this type and shape."""
    if not isinstance(value, Tensor):
        yield f"expected {name} as {dtype} of shape {shape}, got {type(value).__name__}; {where}"
    elif value.dtype != dtype or list(value.shape) != shape:
        yield f"expected {name} as {dtype} of shape {shape}, got {value.dtype} of shape {list(value.shape)}; {where}"


def _is_state(state: object, where: str) -> Iterator[str]:
    if not isinstance(state, WorldState):
        yield f"expected a WorldState, got {type(state).__name__}; {where}"
        return
    if list(state.batch_size) != [2] or list(state.memory.batch_size)[:1] != [2]:
        sizes = f"{list(state.batch_size)} and {list(state.memory.batch_size)}"
        yield f"expected a state and a memory of batch size [2], got {sizes}; {where}"
    yield from is_tensor("c2w", state.c2w, torch.float32, [2, 4, 4], where)
    yield from is_tensor("intrinsics", state.intrinsics, torch.float32, [2, 4], where)
    for name in ("seed", "step"):
        yield from is_tensor(name, getattr(state, name), torch.int64, [2], where)


BASICS: dict[str, Rule] = {"spec": _spec, "start": _start, "extend": _extend, "memory": _memory}
