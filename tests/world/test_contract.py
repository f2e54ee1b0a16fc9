"""What every world promises, for the learned one and the synthetic one alike."""

import copy
from collections.abc import Callable, Iterator

import pytest
import torch
from torch import Tensor

from model.dit.video_dit import VideoDiT
from model.geometry import se3
from model.world.camera_world import CameraWorld
from model.world.clip_sampler import SamplerConfig
from model.world.protocol import WorldModel, WorldState
from model.world.synthetic_world import SyntheticWorld


@pytest.fixture(params=["learned", "synthetic"])
def any_world(request: pytest.FixtureRequest, world: CameraWorld) -> WorldModel:
    return world if request.param == "learned" else SyntheticWorld(height=16, width=32)


def _segment(state: WorldState, scale: float = 0.05, seed: int = 0) -> Tensor:
    twists = torch.randn(len(state.seed), 4, 6, generator=torch.Generator().manual_seed(seed)) * scale
    poses, pose = [], state.c2w
    for k in range(4):
        pose = pose @ se3.exp(twists[:, k])
        poses.append(pose)
    return torch.stack(poses, dim=1)


def _fly(world: WorldModel, state: WorldState, num_clips: int, seed: int = 0) -> tuple[WorldState, Tensor]:
    clips = []
    for clip in range(num_clips):
        state, frames = world.extend(state, _segment(state, seed=seed + clip))
        clips.append(frames)
    return state, torch.cat(clips, dim=1)


def _assert_equal(a: WorldState, b: WorldState) -> None:
    assert bool((a == b).all())


def test_worlds_keep_the_protocol(any_world: WorldModel) -> None:
    assert isinstance(any_world, WorldModel)
    state, first = any_world.start([3, 4])
    spec = any_world.spec
    assert first.shape == (2, 1, spec.height, spec.width, 3)
    assert torch.equal(state.c2w, torch.eye(4).expand(2, 4, 4))
    segment = _segment(state)
    after, frames = any_world.extend(state, segment)
    assert frames.shape == (2, spec.frames_per_clip, spec.height, spec.width, 3)
    assert frames.dtype == first.dtype == torch.uint8
    assert torch.equal(after.c2w, segment[:, -1])
    assert after.step.tolist() == [1, 1] and after.seed.tolist() == [3, 4]


def test_same_seed_and_path_give_the_same_bytes(any_world: WorldModel) -> None:
    once = _fly(any_world, any_world.start([5])[0], 2)[1]
    torch.manual_seed(99)  # global randomness has no say
    again = _fly(any_world, any_world.start([5])[0], 2)[1]
    assert torch.equal(once, again)


@pytest.fixture
def double_by_default() -> Iterator[None]:
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def test_the_default_type_of_the_process_has_no_say(any_world: WorldModel, request: pytest.FixtureRequest) -> None:
    state = any_world.start([5])[0]
    segment = _segment(state)
    expected, frames = any_world.extend(state, segment)
    request.getfixturevalue("double_by_default")
    state = any_world.start([5])[0]
    assert state.c2w.dtype == state.intrinsics.dtype == torch.float32
    after, again = any_world.extend(state, segment)
    assert torch.equal(again, frames)
    _assert_equal(after, expected)
    kept, held = (dict(each.items(include_nested=True, leaves_only=True)) for each in (after.memory, expected.memory))
    assert all(kept[name].dtype == value.dtype for name, value in held.items())


def test_seed_and_path_matter(any_world: WorldModel) -> None:
    state = any_world.start([5])[0]
    base = _fly(any_world, state, 1)[1]
    assert not torch.equal(base, _fly(any_world, any_world.start([6])[0], 1)[1])
    assert not torch.equal(base, _fly(any_world, state, 1, seed=7)[1])


def test_a_row_of_a_batch_equals_the_single_run(any_world: WorldModel) -> None:
    together = _fly(any_world, any_world.start([1, 2, 3])[0], 3)[1]
    for row, seed in enumerate([1, 2, 3]):
        state = any_world.start([seed])[0]
        clips = []
        whole = any_world.start([1, 2, 3])[0]
        for clip in range(3):
            segment = _segment(whole, seed=clip)
            state, frames = any_world.extend(state, segment[[row]])
            whole = whole.clone()
            whole.c2w = segment[:, -1]
            clips.append(frames)
        # matrix kernels may differ with the batch size: one grey level
        difference = (torch.cat(clips, dim=1)[0].int() - together[row].int()).abs().max()
        assert difference <= 1


def test_a_kept_state_is_a_snapshot(any_world: WorldModel) -> None:
    snapshot = _fly(any_world, any_world.start([8])[0], 1)[0]
    expected = _fly(any_world, snapshot, 2)[1]
    _fly(any_world, snapshot, 1, seed=50)
    assert torch.equal(_fly(any_world, snapshot, 2)[1], expected)


def test_indexing_forks(any_world: WorldModel) -> None:
    state = _fly(any_world, any_world.start([8, 9])[0], 1)[0]
    forks = state[[0, 0, 1]]
    segment = _segment(state)[[0, 0, 1]]
    segment[1] = _segment(state, seed=5)[0]
    frames = any_world.extend(forks, segment)[1]
    alone = any_world.extend(state, segment[[0, 2]])[1]
    assert (frames[0].int() - alone[0].int()).abs().max() <= 1
    assert (frames[2].int() - alone[1].int()).abs().max() <= 1
    assert not torch.equal(frames[0], frames[1])


def test_one_row_starts_over_while_the_other_flies_on(any_world: WorldModel) -> None:
    flown = _fly(any_world, any_world.start([1, 2])[0], 2)[0]
    fresh = any_world.start([7])[0]
    mixed = flown.with_rows([1], fresh)
    assert mixed.step.tolist() == [2, 0] and mixed.seed.tolist() == [1, 7]
    segment = _segment(mixed)
    frames = any_world.extend(mixed, segment)[1]
    assert (frames[0].int() - any_world.extend(flown[[0]], segment[[0]])[1][0].int()).abs().max() <= 1
    assert (frames[1].int() - any_world.extend(fresh, segment[[1]])[1][0].int()).abs().max() <= 1


def test_rows_can_be_assigned_in_place_without_touching_snapshots(any_world: WorldModel) -> None:
    snapshot = any_world.start([1, 2])[0]
    kept = snapshot.clone()
    state = _fly(any_world, snapshot, 1)[0]
    state[0] = any_world.start([9])[0][0]
    assert state.seed.tolist() == [9, 2]
    _assert_equal(snapshot, kept)


@pytest.mark.parametrize("spoil", ["shape", "nan", "scale", "rows"])
def test_a_failed_extend_names_the_argument_and_leaves_the_state(any_world: WorldModel, spoil: str) -> None:
    state = _fly(any_world, any_world.start([1, 2])[0], 1)[0]
    kept, segment = state.clone(), _segment(state)
    match spoil:
        case "shape":
            segment = segment[:, :3]
        case "nan":
            segment[0, 0, 0, 3] = float("nan")
        case "scale":
            segment[1, 2, :3, :3] *= 2
        case "rows":
            segment = segment[:1]
    with pytest.raises(ValueError, match=r"^c2w: expected"):
        any_world.extend(state, segment)
    _assert_equal(state, kept)


@pytest.mark.parametrize("seeds", [[], [-1], [2**63], torch.tensor([0.5]), torch.tensor([[1]])])
def test_bad_seeds_are_refused(any_world: WorldModel, seeds: list[int] | Tensor) -> None:
    with pytest.raises(ValueError, match=r"^seeds: expected"):
        any_world.start(seeds)


@pytest.mark.parametrize(
    "intrinsics", [torch.ones(3), torch.ones(3, 4), torch.tensor([0.0, 1, 0.5, 0.5]), torch.full((4,), torch.inf)]
)
def test_bad_intrinsics_are_refused(any_world: WorldModel, intrinsics: Tensor) -> None:
    with pytest.raises(ValueError, match=r"^intrinsics: expected"):
        any_world.start([1, 2], intrinsics=intrinsics)


def test_a_state_without_batch_is_refused(any_world: WorldModel) -> None:
    state = any_world.start([1])[0]
    with pytest.raises(ValueError, match=r"^state: expected batch size \[b\]"):
        any_world.extend(state[0], _segment(state))


def test_states_of_other_worlds_are_refused(make_world: Callable[..., CameraWorld], dit: VideoDiT) -> None:
    learned, synthetic = make_world(), SyntheticWorld(height=16, width=32)
    textured = SyntheticWorld(height=16, width=32, style="textured")
    weights = copy.deepcopy(dit).requires_grad_(False)
    next(iter(weights.parameters())).mul_(1.01)
    retrained = make_world(weights)
    strangers = [(learned, synthetic), (synthetic, learned), (textured, synthetic), (retrained, learned)]
    for world, other in strangers:
        state = other.start([1])[0]
        with pytest.raises(ValueError, match=r"^state: expected one of this world"):
            world.extend(state, _segment(state))


def test_worlds_of_the_same_weights_are_one_whatever_their_sampler(make_world: Callable[..., CameraWorld]) -> None:
    state = make_world().start([1])[0]
    assert make_world(sampler=SamplerConfig(num_steps=1)).recognises(state)
