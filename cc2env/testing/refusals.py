"""The rules about refused input and the protocol's optional parts; each yields its failures."""

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

from cc2env.testing.basics import Rule, is_tensor
from cc2env.testing.flights import SEEDS, Flights, differences, levels_apart, segment
from model.world.protocol import (
    ChangesPrompts,
    CountsEvaluations,
    HasVocabulary,
    KnowsFreeSpace,
    NamesItsPrompt,
    RecognisesStates,
    RendersViews,
    SeesDepth,
    WorldModel,
)


def _refuses_poses(flights: Flights) -> Iterator[str]:
    for what, poses in wrong_poses(flights).items():
        error = error_of(flights.world.extend, flights.first[0].clone(), poses)
        yield from _is_refusal(f"poses {what}", error, "model.world.arguments.check_segment")


def _refuses_arguments(flights: Flights) -> Iterator[str]:
    world, spec = flights.world, flights.spec
    picture = torch.zeros(1, spec.height, spec.width, 3, dtype=torch.uint8)
    wrong: dict[str, dict[str, Any]] = {
        "no seed": {"seeds": []},
        "a negative seed": {"seeds": [-1]},
        "two prompts for one seed": {"seeds": [1], "prompts": ["", ""]},
        "images of floats": {"seeds": [1], "images": picture.float()},
        "images of another size": {"seeds": [1], "images": picture[:, 1:]},
        "intrinsics with a negative fx": {"seeds": [1], "intrinsics": torch.tensor([-1.0, 1.0, 0.5, 0.5])},
    }
    given = {"prompts": [""], "images": picture, "intrinsics": torch.tensor(spec.intrinsics)}
    wrong |= {
        f"{name}, which start_arguments leaves out": {"seeds": [1], name: given[name]}
        for name in sorted(given.keys() - flights.start_arguments)
    }
    for what, arguments in wrong.items():
        yield from _is_refusal(what, error_of(world.start, **arguments), "model.world.arguments")


def _recognises(flights: Flights) -> Iterator[str]:
    if isinstance(flights.world, RecognisesStates):
        for name in ("started", "first"):
            if flights.world.recognises(getattr(flights, name)[0]) is not True:
                yield f"expected recognises to be True of its own states, got False ({name}); look at recognises"


def _prompts(flights: Flights) -> Iterator[str]:
    world, state = flights.world, flights.first[0].clone()
    if isinstance(world, NamesItsPrompt) and not isinstance(world.default_prompt(SEEDS[0]), str):
        yield f"expected a text, got {world.default_prompt(SEEDS[0])!r}; look at default_prompt"
    if isinstance(world, HasVocabulary) and not isinstance(world.vocabulary, tuple | None):
        yield f"expected a tuple of words or None, got {type(world.vocabulary).__name__}; look at vocabulary"
    if isinstance(world, ChangesPrompts):
        kept = state.clone()
        changed = world.with_prompts(state, [_any_prompt(world)] * 2)
        if altered := differences(state, kept):
            yield f"expected the state that goes in to stay as it is, got another {altered}; look at with_prompts"
        flights.fly_on(changed)
        yield from _is_refusal(
            "one prompt for two rows", error_of(world.with_prompts, state, ["a"]), "model.world.arguments"
        )


def _evaluations(flights: Flights) -> Iterator[str]:
    if isinstance(flights.world, CountsEvaluations):
        for opening, state in ((True, flights.started[0]), (False, flights.first[0])):
            counts = flights.world.evaluations(state, opening=opening)
            yield from is_tensor("counts", counts, torch.int64, [2], f"look at evaluations(opening={opening})")
            if counts.device.type != "cpu" or bool((counts < 0).any()):
                yield f"expected counts of at least 0 on the CPU, got {counts}; look at evaluations(opening={opening})"


def _free_space(flights: Flights) -> Iterator[str]:
    if isinstance(flights.world, KnowsFreeSpace):
        state = flights.first[0]
        moves = 0.2 * torch.randn(2, 3, 6, generator=torch.Generator().manual_seed(0)).to(state.c2w.device)
        shares = flights.world.free_fraction(state.clone(), moves)
        if list(shares.shape) != [2, 3] or not bool(((shares >= 0) & (shares <= 1)).all()):
            yield f"expected shares in [0, 1] of shape [2, 3], got {shares.tolist()}; look at free_fraction"


def wrong_poses(flights: Flights) -> dict[str, Tensor]:
    right = segment(flights.first[0], flights.spec)
    nan, scaled, mirrored = right.clone(), right.clone(), right.clone()
    nan[0, 0, 0, 3] = torch.nan
    scaled[1, 0, :3, :3] *= 2
    mirrored[0, 0, :, 0] *= -1
    return {
        "of one row for two": right[:1],
        "of 3x4 matrices": right[..., :3, :],
        "with a NaN": nan,
        "with a scale in them": scaled,
        "that mirror": mirrored,
    }


def _is_refusal(what: str, error: Exception | None, where: str) -> Iterator[str]:
    if not isinstance(error, ValueError):
        came = "no error" if error is None else one_line(error)
        yield f"expected a ValueError for {what}, got {came}; {where} has checks to call first"


def error_of(call: Callable[..., Any], *arguments: Any, **named: Any) -> Exception | None:
    """What a call raises, or None."""
    try:
        call(*arguments, **named)
    except Exception as error:  # the rules look at whatever a world raises
        return error
    return None


def one_line(error: Exception) -> str:
    return f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}"


def _any_prompt(world: WorldModel) -> str:
    words = world.vocabulary if isinstance(world, HasVocabulary) else None
    return words[0] if words else "a lake"


def _depth(flights: Flights) -> Iterator[str]:
    if isinstance(flights.world, SeesDepth):
        poses, where = segment(flights.started[0], flights.spec), "look at clip_depth"
        expected = [2, flights.spec.poses_per_clip]
        depth = flights.world.clip_depth(flights.first[0].clone(), poses)
        if depth.ndim != 4 or list(depth.shape[:2]) != expected:
            yield f"expected a depth map for each of {expected} poses of a clip, got {list(depth.shape)}; {where}"
        elif not bool((depth > 0).all()):
            yield f"expected z-depths above 0, infinite where none is known, got {float(depth.min()):.3g}; {where}"


def _views(flights: Flights) -> Iterator[str]:
    if isinstance(flights.world, RendersViews):
        (state, clip), spec, where = flights.first, flights.spec, "look at render_views"
        frames, depth = flights.world.render_views(state.clone(), state.c2w[:, None].clone())
        yield from is_tensor("frames", frames, torch.uint8, [2, 1, spec.height, spec.width, 3], where)
        yield from is_tensor("depth", depth, torch.float32, [2, 1, spec.height, spec.width], where)
        if not bool((depth > 0).all()):
            yield f"expected z-depths above 0, infinite where there is nothing, got {float(depth.min()):.3g}; {where}"
        if (away := levels_apart(frames[:, 0], clip[:, -1])) > 1:
            yield f"expected the last frame of the clip from the state's own pose, got {away}/255 away; {where}"


REFUSALS: dict[str, Rule] = {
    "refuses_poses": _refuses_poses,
    "refuses_arguments": _refuses_arguments,
    "recognises": _recognises,
    "prompts": _prompts,
    "evaluations": _evaluations,
    "free_space": _free_space,
    "depth": _depth,
    "views": _views,
}
