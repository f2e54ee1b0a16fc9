"""Latents of a clip set: an encoding that was stopped goes on, and gives the very same file."""

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from model.data.clips import ClipSetConfig, render_clip_set
from model.training.latent_set import channel_weights, encode_clip_set
from model.vae import video_vae


def test_an_encoding_that_was_stopped_goes_on(
    random_world: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clips = render_clip_set(tmp_path, ClipSetConfig(num_clips=5, num_latents=2, height=16, width=32), 1)
    vae = random_world.vae
    whole = encode_clip_set(clips, vae, batch_size=2)
    (file,) = tmp_path.glob("latents_*")
    content = file.read_bytes()
    file.unlink()
    encode, encoded = type(vae).encode, []

    def stopped_at_the_third(self: Any, video: Tensor) -> Tensor:
        encoded.append(len(video))
        if len(encoded) == 3:
            raise KeyboardInterrupt
        return encode(self, video)

    monkeypatch.setattr(type(vae), "encode", stopped_at_the_third)
    with pytest.raises(KeyboardInterrupt):
        encode_clip_set(clips, vae, batch_size=2)
    assert not file.exists()
    assert torch.equal(encode_clip_set(clips, vae, batch_size=2), whole)
    assert encoded == [2, 2, 1, 1]  # the first two batches were kept
    assert [path.name for path in tmp_path.glob("latents_*")] == [file.name] and file.read_bytes() == content


def test_clips_too_large_for_a_batch_are_encoded_one_by_one(
    random_world: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clips = render_clip_set(tmp_path, ClipSetConfig(num_clips=3, num_latents=2, height=16, width=32), 1)
    vae, encoded = random_world.vae, []
    together = encode_clip_set(clips, vae)
    next(tmp_path.glob("latents_*")).unlink()
    monkeypatch.setattr(video_vae, "MOST_ELEMENTS", vae.config.elements_a_latent(16, 32))
    encode = type(vae).encode
    monkeypatch.setattr(type(vae), "encode", lambda self, video: encoded.append(len(video)) or encode(self, video))
    torch.testing.assert_close(encode_clip_set(clips, vae), together, atol=1e-3, rtol=1e-3)
    assert encoded == [1, 1, 1]


def test_channels_are_weighed_by_what_they_do_in_pixels_and_measured_once(
    random_world: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clips = render_clip_set(tmp_path, ClipSetConfig(num_clips=2, num_latents=2, height=16, width=32), 1)
    vae = copy.deepcopy(random_world.vae)
    with torch.no_grad():
        vae.from_latents.weight[:, 1] = 0  # a channel that the decoder does not read
    latents = encode_clip_set(clips, vae)
    weights = channel_weights(clips, vae, latents, 1.0)
    assert weights[1] == 0 and (weights[[0, 2, 3]] > 0).all()
    assert float(weights.mean()) == pytest.approx(1)
    monkeypatch.setattr(type(vae), "decode", None)
    assert torch.equal(channel_weights(clips, vae, latents, 1.0), weights)
    assert torch.equal(channel_weights(clips, vae, latents, 0.0), torch.ones(4))
