"""The UMT5 adapter on a tiny random encoder and tokenizer: diffusers' own pipeline is the oracle."""

import sys
from pathlib import Path

import pytest
import torch

from model.text import umt5
from model.text.encoder import TextEncoder
from model.text.umt5 import UMT5Encoder, load_umt5
from model.world.config import TextEncoderConfig
from model.world.load import build_text_encoder
from model.world.open.offloaded_text_encoder import OffloadedTextEncoder

transformers = pytest.importorskip("transformers")
pytest.importorskip("ftfy")

PROMPTS = ["a red  box &amp; a blue ball", "desert", ""]


@pytest.fixture(scope="module")
def encoder(umt5_folder: Path) -> UMT5Encoder:
    return load_umt5(umt5_folder, num_tokens=12)


def test_it_is_a_text_encoder(encoder: UMT5Encoder) -> None:
    assert isinstance(encoder, TextEncoder)
    assert (encoder.dim, encoder.num_tokens) == (16, 12)
    assert encoder.encode(PROMPTS).shape == (3, 12, 16)


def test_embeddings_are_those_of_the_diffusers_pipeline(encoder: UMT5Encoder, umt5_folder: Path) -> None:
    wan = pytest.importorskip("diffusers.pipelines.wan.pipeline_wan")
    oracle = wan.WanPipeline.__new__(wan.WanPipeline)  # The pipeline needs no other part to embed a prompt.
    oracle.__dict__.update(
        tokenizer=transformers.AutoTokenizer.from_pretrained(umt5_folder / "tokenizer"),
        text_encoder=transformers.UMT5EncoderModel.from_pretrained(umt5_folder / "text_encoder").eval(),
    )
    with torch.no_grad():
        expected = oracle._get_t5_prompt_embeds(PROMPTS, max_sequence_length=12, device="cpu")
    torch.testing.assert_close(encoder.encode(PROMPTS), expected)


def test_half_the_memory_gives_nearly_the_same_embeddings(
    encoder: UMT5Encoder, umt5_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kinds = {}
    for is_fast in (False, True):
        monkeypatch.setattr(umt5, "multiplies_bfloat16", lambda device, is_fast=is_fast: is_fast)
        kinds[is_fast] = build_text_encoder(
            TextEncoderConfig(kind="umt5", num_tokens=12, folder=str(umt5_folder)), umt5_folder
        )
    assert {str(weights.dtype) for weights in kinds[True].model.parameters()} == {"torch.bfloat16"}
    exact, rounded = (kinds[is_fast].encode(PROMPTS) for is_fast in (False, True))
    assert torch.equal(exact, encoder.encode(PROMPTS)) and rounded.dtype == torch.float32
    assert 0 < (rounded - exact).norm() / exact.norm() < 0.02


def test_offloaded_it_embeds_the_same_and_the_empty_prompt_once(encoder: UMT5Encoder, umt5_folder: Path) -> None:
    own = load_umt5(umt5_folder, num_tokens=12)
    offloaded = OffloadedTextEncoder(own, torch.device("cpu"))
    assert isinstance(offloaded, TextEncoder)
    assert torch.equal(offloaded.encode(PROMPTS), encoder.encode(PROMPTS))
    expected = encoder.null(2)
    assert torch.equal(offloaded.null(2), expected)
    for weights in own.model.parameters():
        weights.zero_()
    assert torch.equal(offloaded.null(2), expected)


def test_tokens_after_the_prompt_are_zero(encoder: UMT5Encoder) -> None:
    embedded = encoder.encode(PROMPTS)
    used = (embedded != 0).any(-1).sum(1).tolist()
    assert used == [8, 2, 1]  # The words and the end token.


def test_null_is_the_empty_prompt(encoder: UMT5Encoder) -> None:
    torch.testing.assert_close(encoder.null(2), encoder.encode(["", ""]))


def test_long_prompts_are_cut_off(encoder: UMT5Encoder) -> None:
    assert encoder.encode(["red box " * 50]).shape == (1, 12, 16)


def test_a_folder_without_its_parts_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="got no text_encoder/"):
        load_umt5(tmp_path)


def test_a_missing_package_names_the_extra(umt5_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ftfy", None)
    with pytest.raises(ImportError, match=r"pip install 'cameractrlworld\[wan\]'"):
        load_umt5(umt5_folder)
