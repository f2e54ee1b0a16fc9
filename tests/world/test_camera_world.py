"""The learned world: context, poses, conditions and noise reach the network as the paper says."""

import gc
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from model.data.video_io import to_float, to_uint8
from model.dit.video_dit import VideoDiT
from model.geometry import se3
from model.geometry.plucker import plucker_map
from model.vae.video_vae import VideoVAE
from model.world.camera_world import CameraWorld
from model.world.clip_sampler import SamplerConfig
from model.world.config import WorldConfig
from model.world.noise import episode_noise, noise_seed

_PLAIN = SamplerConfig(num_steps=1)


class RecordingDiT(VideoDiT):
    """Velocity `x - 1`: one Euler step from t = 1 ends at 1 everywhere. Keeps what it was given."""

    def embed_camera(self, plucker: Tensor) -> Tensor:
        self.plucker = plucker
        return super().embed_camera(plucker)

    def forward(self, latents: Tensor, t: Tensor, *args: object, **conditions: object) -> Tensor:
        self.latents, self.t, self.context_mask = latents, t, conditions["context_mask"]
        return latents[:, :, int(str(conditions["num_context"])) :] - 1


@pytest.fixture
def recorder(dit: VideoDiT) -> RecordingDiT:
    return RecordingDiT(dit.config).requires_grad_(False)


def _path(num_poses: int) -> Tensor:
    twists = torch.randn(num_poses, 6, generator=torch.Generator().manual_seed(2)) * 0.2
    return se3.exp(twists)[None]


def test_context_is_clean_marked_and_at_time_zero(
    recorder: RecordingDiT, make_world: Callable[..., CameraWorld]
) -> None:
    world = make_world(recorder, sampler=_PLAIN)
    state, _ = world.start([1])
    assert recorder.context_mask is not None and recorder.context_mask.tolist() == [[False]]
    state, _ = world.extend(state, _path(4))
    assert recorder.t.tolist() == [[0.0, 1, 1, 1, 1]]
    assert recorder.context_mask.tolist() == [[True, False, False, False, False]]
    torch.testing.assert_close(recorder.latents[:, :, 0], torch.ones(1, 4, 2, 4))
    assert torch.equal(recorder.latents[:, :, 1:], episode_noise(torch.tensor([1]), torch.tensor([1]), (4, 4, 2, 4)))
    torch.testing.assert_close(state.memory["window", "latents"], torch.ones(1, 4, 5, 2, 4))


def test_the_window_slides(recorder: RecordingDiT, make_world: Callable[..., CameraWorld]) -> None:
    world = make_world(recorder, sampler=_PLAIN, context_latents=5)
    state, _ = world.start([1])
    path = _path(12)
    counts = []
    for clip in range(3):
        state, _ = world.extend(state, path[:, 4 * clip : 4 * clip + 4])
        counts.append(int(recorder.context_mask.sum()))
    assert counts == [1, 5, 5]
    assert torch.equal(state.memory["window", "c2w"], path[:, -5:])


@pytest.mark.parametrize("context_latents", [1, 3, 8])
def test_the_window_never_holds_more_than_its_capacity(
    recorder: RecordingDiT, make_world: Callable[..., CameraWorld], context_latents: int
) -> None:
    world = make_world(recorder, sampler=_PLAIN, context_latents=context_latents)
    state, _ = world.start([1])
    for clip in range(3):
        state, _ = world.extend(state, _path(12)[:, 4 * clip : 4 * clip + 4])
        assert int(recorder.context_mask.sum()) == min(context_latents, 1 + 4 * clip)


def test_poses_are_never_rebased(recorder: RecordingDiT, make_world: Callable[..., CameraWorld]) -> None:
    """The network sees the Plucker maps of the whole path about its first frame, however the path is cut."""
    world = make_world(recorder, sampler=_PLAIN, context_latents=5)
    path = _path(8)
    state, _ = world.start([1])
    state, _ = world.extend(state, path[:, :4])
    first = recorder.plucker
    world.extend(state, path[:, 4:])
    whole = plucker_map(torch.cat([torch.eye(4)[None, None], path], dim=1), state.intrinsics, 2, 4)
    assert torch.equal(first, whole[:, :5])
    # context = latents 0..4, new = 5..8: together the one map of the whole path
    assert torch.equal(recorder.plucker, whole)


def test_first_frame_is_the_image_through_the_vae(world: CameraWorld, vae: VideoVAE) -> None:
    images = torch.randint(0, 256, (2, 16, 32, 3), dtype=torch.uint8)
    _, first = world.start([1, 2], images=images)
    expected = to_uint8(vae.decode(vae.encode(to_float(images[:, None]))))
    assert (first.int() - expected.int()).abs().max() <= 1


def test_an_episode_is_one_video_without_seams(
    recorder: RecordingDiT, vae: VideoVAE, make_world: Callable[..., CameraWorld]
) -> None:
    """Clips decoded one after the other equal the whole latent video decoded at once."""
    world = make_world(recorder, sampler=_PLAIN)
    state, first = world.start([1])
    state, clip_1 = world.extend(state, _path(8)[:, :4])
    _, clip_2 = world.extend(state, _path(8)[:, 4:])
    whole = to_uint8(vae.decode(torch.ones(1, 4, 9, 2, 4)))
    assert (torch.cat([first, clip_1, clip_2], dim=1).int() - whole.int()).abs().max() <= 1


def test_prompts_matter_and_the_seed_draws_missing_ones(world: CameraWorld) -> None:
    _, red = world.start([1], prompts=["red box"])
    _, blue = world.start([1], prompts=["blue dome"])
    assert not torch.equal(red, blue)
    prompts = {seed: world.default_prompt(seed) for seed in range(20)}
    assert set(prompts.values()) == {"red box", "blue dome", "blue box"}
    assert torch.equal(world.start([4])[1], world.start([4], prompts=[prompts[4]])[1])


def test_guidance_steps_and_solver_matter(make_world: Callable[..., CameraWorld], world: CameraWorld) -> None:
    state = world.start([1], prompts=["red box"])[0]
    base = world.extend(state, _path(4))[1]
    for sampler in (
        SamplerConfig(num_steps=3, guidance_text=2.0, guidance_camera=3.0),
        SamplerConfig(num_steps=2, solver="heun", guidance_text=2.0, guidance_camera=3.0),
        SamplerConfig(num_steps=2, shift=4.0, guidance_text=2.0, guidance_camera=3.0),
        SamplerConfig(num_steps=2, guidance_text=1.0, guidance_camera=3.0),
        SamplerConfig(num_steps=2, guidance_text=2.0, guidance_camera=1.0),
    ):
        assert not torch.equal(make_world(sampler=sampler).extend(state, _path(4))[1], base)


@pytest.mark.parametrize(
    ("sampler", "evaluations"),
    [
        (SamplerConfig(num_steps=8), 8),
        (SamplerConfig(num_steps=8, guidance_text=2.0, guidance_camera=2.0), 16),
        (SamplerConfig(num_steps=8, guidance_text=1.0, guidance_camera=2.0), 16),
        (SamplerConfig(num_steps=32, guidance_text=7.5, guidance_camera=8.0), 96),
        (SamplerConfig(num_steps=8, solver="heun"), 15),
    ],
)
def test_evaluations_are_those_that_happen(
    dit: VideoDiT, make_world: Callable[..., CameraWorld], sampler: SamplerConfig, evaluations: int
) -> None:
    world = make_world(sampler=sampler, opening=_PLAIN)
    state = world.start([1], prompts=["red box"])[0]
    samples = []
    handle = dit.register_forward_pre_hook(lambda module, arguments: samples.append(len(arguments[0])))
    world.extend(state, _path(4))
    handle.remove()
    assert sum(samples) == world.spec.evaluations_per_clip == evaluations


def test_conditions_are_embedded_once_a_clip(dit: VideoDiT, make_world: Callable[..., CameraWorld]) -> None:
    calls = {"text": 0, "camera": 0}

    def count(name: str) -> Callable[..., None]:
        def hook(*_: object) -> None:
            calls[name] += 1

        return hook

    world = make_world(sampler=SamplerConfig(num_steps=5, guidance_text=2.0, guidance_camera=3.0))
    state = world.start([1])[0]
    assert dit.camera_embedding is not None
    handles = [
        dit.text_projection.register_forward_hook(count("text")),
        dit.camera_embedding.register_forward_hook(count("camera")),
    ]
    world.extend(state, _path(4))
    for handle in handles:
        handle.remove()
    assert calls == {"text": 1, "camera": 1}


def test_states_are_ordinary_tensors(world: CameraWorld) -> None:
    state, frames = world.extend(world.start([1])[0], _path(4))
    assert not frames.is_inference()
    assert not any(leaf.is_inference() for leaf in state.values(include_nested=True, leaves_only=True))


def test_long_episodes_do_not_grow(world: CameraWorld) -> None:
    """Bytes of all tensors alive are the same after the third clip and after the twelfth."""

    def bytes_alive() -> int:
        gc.collect()
        tensors = [thing for thing in gc.get_objects() if issubclass(type(thing), Tensor)]
        return sum(tensor.nbytes for tensor in tensors)

    state = world.start([1])[0]
    sizes = []
    for _ in range(12):
        state, _ = world.extend(state, _path(4))
        sizes.append(bytes_alive() if len(sizes) in (2, 11) else 0)
    assert sizes[2] == sizes[11]


def test_noise_is_standard_normal_and_differs_between_neighbours() -> None:
    assert len({noise_seed(seed, step) for seed in range(50) for step in range(50)}) == 2500
    noise = episode_noise(torch.arange(20), torch.zeros(20, dtype=torch.int64), (1000,))
    assert noise.mean().abs() < 0.03 and (noise.std() - 1).abs() < 0.03
    # 20 pairs of neighbours with 1000 numbers each: correlations of independent noise stay below 5 / sqrt(1000)
    assert torch.corrcoef(noise).fill_diagonal_(0).abs().max() < 0.16


@pytest.mark.parametrize(
    ("argument", "value"),
    [
        ("prompts", ["red box"]),
        ("prompts", "red box"),
        ("images", torch.zeros(2, 16, 32, 3)),
        ("images", torch.zeros(1, 16, 32, 3, dtype=torch.uint8)),
        ("images", torch.zeros(2, 32, 16, 3, dtype=torch.uint8)),
    ],
)
def test_bad_conditions_are_refused(world: CameraWorld, argument: str, value: list[str] | Tensor) -> None:
    with pytest.raises(ValueError, match=f"^{argument}: expected"):
        world.start([1, 2], **{argument: value})


@pytest.mark.parametrize(
    ("settings", "name"),
    [
        ({"num_steps": 0}, "sampler_steps"),
        ({"solver": "rk4"}, "solver"),
        ({"shift": 0.0}, "shift"),
        ({"guidance_text": float("nan")}, "guidance_text"),
        ({"guidance_camera": float("inf")}, "guidance_camera"),
    ],
)
def test_bad_sampler_settings_are_refused(settings: dict[str, float], name: str) -> None:
    with pytest.raises(ValueError, match=f"^{name}: expected"):
        SamplerConfig(**settings)


def test_a_context_that_is_noised_says_so_and_its_noise_is_the_seeds(
    recorder: RecordingDiT, make_world: Callable[..., CameraWorld]
) -> None:
    world = make_world(recorder, sampler=SamplerConfig(num_steps=1, context_noise=0.25))
    state, _ = world.start([1, 2])
    state, _ = world.extend(state, _path(4).expand(2, -1, -1, -1))
    assert recorder.t[:, 0].tolist() == [0, 0]  # the first frame alone is no clip of its own
    clean = state.memory["window", "latents"]
    world.extend(state, _path(4).expand(2, -1, -1, -1))
    assert recorder.t.tolist() == [[0.25] * 5 + [1] * 4] * 2
    noise = (recorder.latents[:, :, :5] - 0.75 * clean) / 0.25
    assert noise.std() == pytest.approx(1, abs=0.1) and not torch.equal(noise[0], noise[1])
    alone = state[1:]
    world.extend(alone, _path(4))
    torch.testing.assert_close((recorder.latents[:, :, :5] - 0.75 * clean[1:]) / 0.25, noise[1:])
    with pytest.raises(ValueError, match="context_noise: expected a number in"):
        SamplerConfig(context_noise=1.0)
    with pytest.raises(ValueError, match=r"opening\.context_noise: expected 0"):
        WorldConfig(opening=SamplerConfig(context_noise=0.1))
