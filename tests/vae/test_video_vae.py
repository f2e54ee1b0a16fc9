"""The autoencoder is causal, streams without a seam in both directions, and keeps its shapes."""

from typing import Any

import pytest
import torch
from torch import Tensor

from model.vae import video_vae
from model.vae.video_vae import VideoVAE, VideoVAEConfig

WAN_LIKE = VideoVAEConfig(latent_channels=4, base_dim=8, num_res_blocks=1)
TINY_LIKE = VideoVAEConfig(
    latent_channels=6,
    base_dim=8,
    decoder_base_dim=12,
    dim_mult=[1, 2, 3],
    num_res_blocks=1,
    decoder_num_res_blocks=1,
    temporal_downsample=[True, True],
    spatial_downsample=[True, False],
    temporal_kernels=[1, 2, 3],
    patch_size=4,
    linear_path=True,
    latents_mean=[0.1] * 6,
    latents_std=[1.5] * 6,
)
WAN_22_LIKE = VideoVAEConfig(
    latent_channels=4, base_dim=8, dim_mult=[1, 2, 2], num_res_blocks=1, temporal_downsample=[True, True],
    spatial_downsample=[True, True], patch_size=2, is_residual=True,
)  # fmt: skip
CONFIGS = pytest.mark.parametrize("config", [WAN_LIKE, WAN_22_LIKE, TINY_LIKE], ids=["wan", "wan 2.2", "tiny"])


def build(config: VideoVAEConfig) -> VideoVAE:
    """Weights from a fixed seed, with no layer at zero, so that every path counts."""
    torch.manual_seed(0)
    vae = VideoVAE(config).eval()
    for parameter in vae.parameters():
        fan_in = parameter[0].numel() if parameter.ndim > 1 else 100
        torch.nn.init.normal_(parameter, std=fan_in**-0.5)
    for buffer in vae.buffers():
        torch.nn.init.normal_(buffer, std=0.1)
    return vae.requires_grad_(False)


def video(batch: int, frames: int) -> Tensor:
    return torch.rand(batch, 3, frames, 16, 24, generator=torch.Generator().manual_seed(1)) * 2 - 1


@CONFIGS
def test_shapes_are_four_times_less_in_time_and_eight_in_space(config: VideoVAEConfig) -> None:
    vae = build(config)
    latents = vae.encode(video(2, 9))
    assert (vae.temporal_stride, vae.spatial_stride) == (4, 8)
    assert latents.shape == (2, config.latent_channels, 3, 2, 3)
    assert vae.decode(latents).shape == (2, 3, 9, 16, 24)


@CONFIGS
@pytest.mark.parametrize("ends", [[1, 5, 9], [5, 9], [1, 9], [9]])
def test_encoding_chunk_by_chunk_equals_encoding_the_whole(config: VideoVAEConfig, ends: list[int]) -> None:
    vae, film = build(config), video(2, 9)
    cache, chunks = None, []
    for start, end in zip([0, *ends], ends, strict=False):
        latents, cache = vae.encode_chunk(film[:, :, start:end], cache)
        chunks.append(latents)
    torch.testing.assert_close(torch.cat(chunks, dim=2), vae.encode(film), rtol=1e-4, atol=1e-5)


@CONFIGS
@pytest.mark.parametrize("batch", [1, 2])
@pytest.mark.parametrize("ends", [[1, 2, 3, 4, 5], [1, 5], [2, 5], [3, 4, 5], [5]])
def test_decoding_chunk_by_chunk_equals_decoding_the_whole(config: VideoVAEConfig, batch: int, ends: list[int]) -> None:
    vae = build(config)
    latents = torch.randn(batch, config.latent_channels, 5, 2, 3, generator=torch.Generator().manual_seed(2))
    cache, chunks = None, []
    for start, end in zip([0, *ends], ends, strict=False):
        frames, cache = vae.decode_chunk(latents[:, :, start:end], cache)
        assert frames.shape[2] == 4 * (end - start) - (3 if start == 0 else 0)
        chunks.append(frames)
    torch.testing.assert_close(torch.cat(chunks, dim=2), vae.decode(latents), rtol=1e-4, atol=1e-5)


@CONFIGS
@pytest.mark.parametrize("at_once", [1, 2])
def test_large_videos_pass_in_pieces_and_come_out_as_a_whole(
    config: VideoVAEConfig, at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    vae, film = build(config), video(2, 17)
    latents = vae.encode(film)
    frames, (later, cache) = vae.decode(latents), vae.encode_chunk(film[:, :, :9])
    monkeypatch.setattr(video_vae, "MOST_ELEMENTS", at_once * 2 * vae.config.elements_a_latent(16, 24))
    torch.testing.assert_close(vae.encode(film), latents, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(vae.decode(latents), frames, rtol=1e-4, atol=1e-5)
    pieces, same = vae.encode_chunk(film[:, :, :9])
    torch.testing.assert_close(pieces, later, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(same, cache, rtol=1e-4, atol=1e-5)
    later, _ = vae.encode_chunk(film[:, :, 9:], same)
    torch.testing.assert_close(torch.cat([pieces, later], dim=2), latents, rtol=1e-4, atol=1e-5)


@torch.inference_mode()
def test_the_memory_of_a_large_video_does_not_grow_with_its_length(peak: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    vae = build(WAN_LIKE)

    def peaks(num_latents: int) -> tuple[int, int]:
        film = torch.zeros(1, 3, 4 * num_latents - 3, 32, 32)
        with peak(vae) as encoding:
            latents = vae.encode(film)
        with peak(vae) as decoding:
            vae.decode(latents)
        return encoding.peak - film.nbytes, decoding.peak - 2 * film.nbytes  # what comes out is there as pieces, too

    whole = peaks(24)
    monkeypatch.setattr(video_vae, "MOST_ELEMENTS", 2 * vae.config.elements_a_latent(32, 32))
    short, long = peaks(6), peaks(24)
    for name, at_six, at_many, in_one in zip(("encoding", "decoding"), short, long, whole, strict=True):
        assert at_many < 1.15 * at_six, name
        assert at_many < 0.3 * in_one, name


@CONFIGS
@pytest.mark.parametrize("changed", [0, 1, 4, 5, 8])
def test_changing_a_frame_leaves_earlier_latents_alone(config: VideoVAEConfig, changed: int) -> None:
    vae, frames = build(config), video(2, 9)
    before = vae.encode(frames)
    frames[:, :, changed] *= -1
    same = (vae.encode(frames) == before).flatten(3).all(dim=3).all(dim=1).all(dim=0)
    latent = -(-changed // 4)
    assert same[:latent].all() and not same[latent]


@CONFIGS
@pytest.mark.parametrize("changed", [0, 1, 2])
def test_changing_a_latent_leaves_earlier_frames_alone(config: VideoVAEConfig, changed: int) -> None:
    vae = build(config)
    latents = torch.randn(2, config.latent_channels, 3, 2, 3, generator=torch.Generator().manual_seed(2))
    before = vae.decode(latents)
    latents[:, :, changed] += 1
    same = (vae.decode(latents) == before).flatten(3).all(dim=3).all(dim=1).all(dim=0)
    first = 0 if changed == 0 else 4 * changed - 3
    assert same[:first].all() and not same[first:].any()


@CONFIGS
def test_caches_keep_their_shapes_have_the_batch_first_and_never_change_in_place(config: VideoVAEConfig) -> None:
    vae = build(config)
    pieces = vae.encode(video(3, 13)).split([1, 1, 2], 2)
    _, first = vae.decode_chunk(pieces[0], None)
    kept = {name: value.clone() for name, value in first.items()}
    _, second = vae.decode_chunk(pieces[1], first)
    _, third = vae.decode_chunk(pieces[2], second)
    shapes = [{name: value.shape for name, value in cache.items()} for cache in (first, second, third)]
    assert shapes[0] == shapes[1] == shapes[2]
    assert all(value.shape[0] == 3 for value in first.values())
    assert all(torch.equal(value, kept[name]) for name, value in first.items())


@CONFIGS
def test_rows_of_a_cache_can_be_exchanged_between_videos(config: VideoVAEConfig) -> None:
    vae = build(config)
    latents = torch.randn(2, config.latent_channels, 3, 2, 3, generator=torch.Generator().manual_seed(2))
    whole = vae.decode(latents)
    _, cache = vae.decode_chunk(latents[:, :, :2])
    swapped = {name: value.flip(0) for name, value in cache.items()}
    frames, _ = vae.decode_chunk(latents[:, :, 2:].flip(0), swapped)
    torch.testing.assert_close(frames.flip(0), whole[:, :, 5:], rtol=1e-4, atol=1e-5)


@CONFIGS
def test_a_row_of_a_batch_equals_the_single_video(config: VideoVAEConfig) -> None:
    vae = build(config)
    latents = torch.randn(3, config.latent_channels, 3, 2, 3, generator=torch.Generator().manual_seed(2))
    torch.testing.assert_close(vae.decode(latents)[1:2], vae.decode(latents[1:2]), rtol=1e-4, atol=1e-5)


def test_encode_normalises_by_the_statistics_and_decode_undoes_it() -> None:
    vae = build(VideoVAEConfig(latent_channels=4, base_dim=8, num_res_blocks=1))
    frames = video(2, 9)
    mean, _ = vae.posterior(frames)
    before = vae.decode(vae.encode(frames))
    vae.set_latent_statistics(mean.mean(dim=(0, 2, 3, 4)), mean.std(dim=(0, 2, 3, 4)))
    latents = vae.encode(frames)
    torch.testing.assert_close(latents.mean(dim=(0, 2, 3, 4)), torch.zeros(4), rtol=0, atol=1e-5)
    torch.testing.assert_close(latents.std(dim=(0, 2, 3, 4)), torch.ones(4), rtol=1e-5, atol=0)
    torch.testing.assert_close(vae.decode(latents), before, rtol=1e-3, atol=1e-4)


def test_forward_is_a_function_of_its_generator_and_reaches_every_parameter() -> None:
    vae = build(TINY_LIKE).requires_grad_(True)
    runs = [vae(video(1, 9), torch.Generator().manual_seed(seed)) for seed in (0, 0, 1)]
    assert torch.equal(runs[0][0], runs[1][0]) and not torch.equal(runs[0][0], runs[2][0])
    reconstruction, mean, logvar = runs[0]
    (reconstruction.square().mean() + mean.mean() + logvar.mean()).backward()
    assert all(parameter.grad is not None and parameter.grad.any() for parameter in vae.parameters())


@pytest.mark.parametrize("shape", [(1, 3, 8, 16, 24), (1, 3, 9, 12, 24), (1, 1, 9, 16, 24), (1, 3, 0, 16, 24)])
def test_a_video_that_does_not_fit_is_refused_by_name(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="video: expected"):
        build(WAN_LIKE).encode(torch.zeros(shape))


def test_a_cache_of_another_batch_is_refused_by_name() -> None:
    vae = build(WAN_LIKE)
    _, cache = vae.decode_chunk(torch.zeros(2, 4, 1, 2, 3))
    with pytest.raises(ValueError, match="cache: expected"):
        vae.decode_chunk(torch.zeros(1, 4, 1, 2, 3), cache)
    with pytest.raises(ValueError, match="cache: expected"):
        vae.decode_chunk(torch.zeros(2, 4, 1, 2, 3), {})


@pytest.mark.parametrize(
    ("field", "values"),
    [
        ("temporal_downsample", [True]),
        ("spatial_downsample", [True]),
        ("temporal_kernels", [3]),
        ("latents_std", [1.0]),
    ],
)
def test_lists_that_do_not_fit_together_are_refused_by_name(field: str, values: list[float]) -> None:
    with pytest.raises(ValueError, match=field):
        VideoVAE(VideoVAEConfig(base_dim=8, **{field: values}))


def test_statistics_that_cannot_normalise_are_refused() -> None:
    with pytest.raises(ValueError, match="std: expected"):
        build(WAN_LIKE).set_latent_statistics(torch.zeros(4), torch.tensor([1.0, 0.0, 1.0, 1.0]))
