"""Stored embeddings: the encoder's own, made once, and no prompt without them."""

from pathlib import Path

import numpy as np
import pytest
import torch

from model.text.encoder import TextEncoder
from model.text.stored import StoredTextEncoder, embedding_path, store_embeddings
from model.text.tiny_vocabulary import TinyVocabularyEncoder

PROMPTS = ["red box", "blue ball", "red red red blue"]


def encoder() -> TinyVocabularyEncoder:
    return TinyVocabularyEncoder(["red", "blue", "box", "ball"], dim=8, num_tokens=5)


def test_they_are_the_encoders_up_to_half_precision(tmp_path: Path) -> None:
    store_embeddings(PROMPTS, tmp_path, encoder, batch_size=2)
    stored = StoredTextEncoder(tmp_path, dim=8, num_tokens=5)
    assert isinstance(stored, TextEncoder)
    torch.testing.assert_close(stored.encode(PROMPTS), encoder().encode(PROMPTS), atol=1e-3, rtol=1e-3)
    assert torch.equal(stored.null(2), torch.zeros(2, 5, 8))


def test_what_is_there_is_not_made_again(tmp_path: Path) -> None:
    store_embeddings(PROMPTS[:2], tmp_path, encoder)
    times = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.npy")}
    store_embeddings(PROMPTS, tmp_path, encoder)
    assert len(times) == 3 and all(path.stat().st_mtime_ns == time for path, time in times.items())

    def unexpected() -> TextEncoder:
        raise AssertionError("the encoder is loaded for nothing")

    store_embeddings(PROMPTS, tmp_path, unexpected)


def test_only_the_prompts_own_tokens_are_kept(tmp_path: Path) -> None:
    store_embeddings(["red box"], tmp_path, encoder)
    assert np.load(embedding_path(tmp_path, "red box")).shape == (2, 8)


def test_other_prompts_are_refused(tmp_path: Path) -> None:
    store_embeddings(PROMPTS, tmp_path, encoder)
    with pytest.raises(ValueError, match=r"^prompt: expected one whose embedding is in .*got 'green box'"):
        StoredTextEncoder(tmp_path, 8, 5).encode(["red box", "green box"])
