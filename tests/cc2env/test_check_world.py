"""The checker passes worlds that keep the protocol, and for every rule finds the world that breaks it alone."""

import os
import sys
import threading

import cloudpickle
import pytest
import torch
from tensordict import TensorDict

from cc2env.testing import WorldCheckError, check_world
from cc2env.testing.basics import BASICS
from cc2env.testing.refusals import REFUSALS
from cc2env.testing.states import STATES
from model.world.arguments import check_images, check_intrinsics, check_prompts, check_seeds, check_segment
from model.world.protocol import WorldSpec, WorldState


class Shades:
    """A world that keeps the protocol: grey frames whose level is a function of pose, seed, clip and what was flown."""

    joins_segments = True
    free_space_is_exact = False
    vocabulary = ("a", "lake")

    def __init__(self):
        self.spec = WorldSpec(height=4, width=6, intrinsics=(0.65, 1.09, 0.5, 0.5), evaluations_per_clip=1)

    def start(self, seeds, prompts=None, images=None, intrinsics=None):
        values = check_seeds(seeds)
        batch = len(values)
        check_prompts(prompts, batch)
        check_images(images, self.spec, batch)
        state = WorldState(
            c2w=torch.eye(4).repeat(batch, 1, 1),
            intrinsics=check_intrinsics(intrinsics, self.spec, batch),
            seed=torch.tensor(values),
            step=torch.zeros(batch, dtype=torch.int64),
            memory=TensorDict(self.memory(batch), batch_size=[batch]),
            batch_size=[batch],
        )
        return state, self.frames(state, state.c2w[:, None])

    def memory(self, batch):
        return {"flown": torch.zeros(batch)}

    def extend(self, state, c2w):
        c2w = self.checked(state, c2w)
        after = state.clone()
        after.c2w, after.step = c2w[:, -1].clone(), state.step + c2w.shape[1] // 4
        after.memory["flown"] = state.memory["flown"] + c2w[:, 3::4, :3, 3].sum(dim=(1, 2))
        return after, self.frames(state, c2w.repeat_interleave(4, dim=1))

    def checked(self, state, c2w):
        return check_segment(state, c2w, self.spec, joins=True)

    def frames(self, state, c2w):
        moved = 400 * c2w[..., :3, :].sum(dim=(2, 3))
        shade = moved + 7 * state.seed[:, None] + self.trait(state)[:, None]
        return (shade.round().long() % 256).to(torch.uint8)[..., None, None, None].expand(-1, -1, 4, 6, 3).clone()

    def trait(self, state):
        return torch.zeros(len(state.seed))

    def recognises(self, state):
        return "flown" in state.memory

    def default_prompt(self, seed):
        return "a lake"

    def with_prompts(self, state, prompts):
        check_prompts(prompts, len(state.seed))
        return state.clone()

    def evaluations(self, state, *, opening=False):
        return torch.ones(len(state.seed), dtype=torch.int64)

    def free_fraction(self, state, twists):
        return torch.ones(twists.shape[:2])


class OddClip(Shades):
    def __init__(self):
        super().__init__()
        self.spec = WorldSpec(height=4, width=6, intrinsics=(0.65, 1.09, 0.5, 0.5), frames_per_clip=15)


class StartsInFloats(Shades):
    def start(self, *arguments, **named):
        state, frames = super().start(*arguments, **named)
        return state, frames / 255


class IgnoresItsLens(Shades):
    def start(self, seeds, prompts=None, images=None, intrinsics=None):
        check_intrinsics(intrinsics, self.spec, len(seeds))
        return super().start(seeds, prompts, images)


class KeepsThePicture(Shades):
    def start(self, seeds, prompts=None, images=None, intrinsics=None):
        state, frames = super().start(seeds, prompts, images, intrinsics)
        if images is not None:
            state.memory["picture"] = images
        return state, frames


class PaintsOverThePicture(Shades):
    def start(self, seeds, prompts=None, images=None, intrinsics=None):
        started = super().start(seeds, prompts, images, intrinsics)
        if images is not None:
            images += 1
        return started


class CountsNoClips(Shades):
    def extend(self, state, c2w):
        after, frames = super().extend(state, c2w)
        after.step = state.step.clone()
        return after, frames


class Grows(Shades):
    def extend(self, state, c2w):
        after, frames = super().extend(state, c2w)
        after.memory["flown"] = torch.cat([after.memory["flown"].reshape(len(c2w), -1)] * 2, dim=1)
        return after, frames


class StartsAside(Shades):
    def start(self, *arguments, **named):
        state, frames = super().start(*arguments, **named)
        state.c2w[:, 0, 3] = 1.0
        return state, frames


class BeginsAnew(Shades):
    """Every clip re-bases the world frame."""

    joins_segments = False

    def extend(self, state, c2w):
        after, frames = super().extend(state, c2w)
        after.c2w = torch.eye(4).repeat(len(c2w), 1, 1)
        return after, frames


class WritesIntoTheState(Shades):
    def extend(self, state, c2w):
        after, frames = super().extend(state, c2w)
        state.memory["flown"] += 1
        return after, frames


class SharesMemory(Shades):
    def extend(self, state, c2w):
        after, frames = super().extend(state, c2w)
        after.intrinsics = state.intrinsics
        return after, frames


class CountsBeforeItChecks(Shades):
    def checked(self, state, c2w):
        state.step += 1
        try:
            return super().checked(state, c2w)
        finally:
            if c2w.isfinite().all():
                state.step -= 1


class DrawsGlobally(Shades):
    def trait(self, state):
        return torch.full((len(state.seed),), float(torch.initial_seed() % 251))


class Remembers(Shades):
    """What it showed last is kept in the world instead of the state."""

    last = 0.0

    def start(self, *arguments, **named):
        self.last = 0.0
        return super().start(*arguments, **named)

    def extend(self, state, c2w):
        after, frames = super().extend(state, c2w)
        if float(state.step[0]) > 0 and self.last < 0.5:
            frames = 255 - frames
        self.last = float(len(c2w) >= 1)
        return after, frames


class KeepsNaN(Shades):
    def memory(self, batch):
        return {**super().memory(batch), "depth": torch.full((batch, 3), torch.nan)}


class LooksAtItsNeighbours(Shades):
    def trait(self, state):
        return torch.full((len(state.seed),), 50.0 * (len(state.seed) == 1))


class KeepsBySeed(Shades):
    """Two rows of one seed are taken for one episode."""

    def trait(self, state):
        seeds = state.seed.tolist()
        return torch.tensor([50.0 * (seeds.index(seed) != row) for row, seed in enumerate(seeds)])


class JoinsBadly(Shades):
    def extend(self, state, c2w):
        after, frames = super().extend(state, c2w)
        return after, frames if c2w.shape[1] == 4 else frames.flip(1)


class TakesOneRowForAll(Shades):
    def checked(self, state, c2w):
        return super().checked(state, c2w.expand(len(state.seed), *c2w.shape[1:]))


class TakesNaN(Shades):
    def checked(self, state, c2w):
        return super().checked(state, c2w.nan_to_num())


class TakesScale(Shades):
    def checked(self, state, c2w):
        if c2w.shape[-2:] == (4, 4) and len(c2w) == len(state.seed) and bool(c2w.isfinite().all()):
            return c2w
        return super().checked(state, c2w)


class FailsInItsOwnWords(Shades):
    def checked(self, state, c2w):
        if c2w.shape[-2:] != (4, 4):
            raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")
        return super().checked(state, c2w)


class TakesAnySeed(Shades):
    def start(self, seeds, *arguments, **named):
        return super().start([abs(seed) for seed in seeds], *arguments, **named)


class KnowsNothing(Shades):
    def recognises(self, state):
        return bool((state.step == 0).all())


class ForgetsToClone(Shades):
    def with_prompts(self, state, prompts):
        changed = super().with_prompts(state, prompts)
        state.memory["flown"] += 1
        return changed


class KnowsNoDepth(Shades):
    def clip_depth(self, state, c2w):
        return torch.zeros(*c2w.shape[:2], 4, 6)


class LooksTheOtherWay(Shades):
    def render_views(self, state, c2w):
        frames = self.frames(state, c2w + 1.0)
        return frames, torch.ones(frames.shape[:-1])


class KnowsItsProcess(Shades):
    def trait(self, state):
        return torch.full((len(state.seed),), float(os.getpid() % 251))


class HoldsALock(Shades):
    def __init__(self):
        super().__init__()
        self.lock = threading.Lock()


def broken(name, **parts):
    return type(name, (Shades,), parts)


IgnoresPrompts = broken("IgnoresPrompts", start_arguments=frozenset({"images", "intrinsics"}))
NamesANumber = broken("NamesANumber", default_prompt=lambda self, seed: seed)
CountsInFloats = broken("CountsInFloats", evaluations=lambda self, state, *, opening=False: torch.ones(len(state.seed)))
FreeInMetres = broken("FreeInMetres", free_fraction=lambda self, state, twists: torch.full(twists.shape[:2], 2.5))

BROKEN = [
    ("spec", OddClip, "frames_per_clip to be a multiple of poses_per_clip"),
    ("start", StartsInFloats, r"frames as torch.uint8 of shape \[2, 1, 4, 6, 3\], got torch.float32"),
    ("start", IgnoresItsLens, "the given intrinsics"),
    ("extend", CountsNoClips, r"step \[1, 1\] after 1 clips, got \[3, 4\] and \[0, 0\]"),
    ("memory", Grows, r"got memory.flown as \(\[2\], torch.float32\) after start and \(\[2, 2\]"),
    ("identity", StartsAside, "the identity as the pose of the first frame"),
    ("world_frame", BeginsAnew, "the last commanded pose as the state's c2w"),
    ("unchanged", WritesIntoTheState, r"got another \['memory.flown'\]; look at extend"),
    ("unchanged", SharesMemory, r"got it sharing \['intrinsics'\]"),
    ("unchanged", KeepsThePicture, r"shares no memory with the picture, got it sharing \['memory.picture'\]"),
    ("unchanged", PaintsOverThePicture, "the picture that goes in to stay as it is"),
    ("unchanged_on_failure", CountsBeforeItChecks, r"got another \['step'\]"),
    ("repeats", DrawsGlobally, "one seed and path to give the same frames again"),
    ("snapshot", Remembers, "a kept state to continue the same"),
    ("file", KeepsNaN, "got NaN in depth"),
    ("batch", LooksAtItsNeighbours, "got 50/255 away"),
    ("fork", KeepsBySeed, "got 50/255 away"),
    ("joined", JoinsBadly, "a segment of two clips to equal two segments of one"),
    ("refuses_poses", TakesOneRowForAll, "a ValueError for poses of one row for two, got no error"),
    ("refuses_poses", TakesNaN, "a ValueError for poses with a NaN, got no error"),
    ("refuses_poses", TakesScale, "a ValueError for poses with a scale in them, got no error"),
    ("refuses_poses", FailsInItsOwnWords, "got RuntimeError: mat1 and mat2"),
    ("refuses_arguments", TakesAnySeed, "a ValueError for a negative seed, got no error"),
    ("refuses_arguments", IgnoresPrompts, "a ValueError for prompts, which start_arguments leaves out"),
    ("recognises", KnowsNothing, r"got False \(first\)"),
    ("prompts", ForgetsToClone, "look at with_prompts"),
    ("prompts", NamesANumber, "expected a text, got 3"),
    ("evaluations", CountsInFloats, r"look at evaluations\(opening=True\)"),
    ("free_space", FreeInMetres, r"shares in \[0, 1\]"),
    ("depth", KnowsNoDepth, "z-depths above 0, infinite where none is known, got 0"),
    ("views", LooksTheOtherWay, "the last frame of the clip from the state's own pose"),
]


@pytest.mark.parametrize(("rule", "world", "sentence"), BROKEN, ids=[world.__name__ for _, world, _ in BROKEN])
def test_a_broken_world_fails_by_its_rule_alone(rule, world, sentence):
    with pytest.raises(WorldCheckError, match=sentence) as caught:
        check_world(world(), other_process=False)
    assert list(caught.value.failures) == [rule]
    assert ("\n" not in str(caught.value) and "; look at" in str(caught.value)) or "has checks" in str(caught.value)


def test_every_rule_has_its_broken_world():
    assert {rule for rule, *_ in BROKEN} == {*BASICS, *STATES, *REFUSALS}


def test_a_world_that_keeps_the_protocol_passes():
    check_world(Shades(), other_process=False)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("world", "sentence"), [(KnowsItsProcess, "look at hash"), (HoldsALock, "a world that pickles")]
)
def test_another_process_must_give_the_same(world, sentence):
    cloudpickle.register_pickle_by_value(sys.modules[__name__])  # no other process can import a test
    with pytest.raises(WorldCheckError, match=f"^other_process: expected .*{sentence}"):
        check_world(world())
