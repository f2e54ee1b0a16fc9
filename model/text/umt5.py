"""Adapter round the UMT5 encoder of Wan, and its loader from a local folder of diffusers' layout."""

import html
import importlib
import re
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from model.device import multiplies_bfloat16
from model.fingerprint import fingerprint


class UMT5Encoder:
    """Embeds prompts as Wan's pipelines do: cleaned text, UMT5, zeros after the prompt's own tokens."""

    def __init__(self, tokenizer: Any, model: Any, num_tokens: int = 512) -> None:
        """Takes transformers' tokenizer and `UMT5EncoderModel`.

        Args:
            tokenizer: The encoder's.
            model: The encoder; embeddings are on its device.
            num_tokens: Tokens per prompt; Wan uses 512. Longer prompts are cut off.
        """
        self._tokenizer, self._model = tokenizer, model.requires_grad_(False).eval()
        self._fix_text = _required("ftfy").fix_text
        self.num_tokens = num_tokens
        self.dim = int(model.config.d_model)
        self._null: Tensor | None = None

    @property
    def model(self) -> torch.nn.Module:
        """The network."""
        network: torch.nn.Module = self._model
        return network

    @torch.no_grad()
    def encode(self, prompts: list[str]) -> Float[Tensor, "b n d"]:
        """The embedded prompts, float32, on the encoder's device."""
        tokens = self._tokenizer(
            [self._clean(prompt) for prompt in prompts],
            padding="max_length",
            max_length=self.num_tokens,
            truncation=True,
            return_attention_mask=True,
            return_tensors="pt",
        ).to(self._model.device)
        hidden = self._model(tokens.input_ids, tokens.attention_mask).last_hidden_state
        return (hidden * tokens.attention_mask.unsqueeze(-1)).float()

    def null(self, num_prompts: int) -> Float[Tensor, "b n d"]:
        """The embedding of the empty prompt, repeated."""
        if self._null is None:
            self._null = self.encode([""])
        return self._null.expand(num_prompts, -1, -1)

    def _clean(self, prompt: str) -> str:
        # Twice unescaped, as Wan's training text was.
        text = html.unescape(html.unescape(self._fix_text(prompt)))
        return re.sub(r"\s+", " ", text).strip()


def load_umt5(
    folder: str | Path,
    num_tokens: int = 512,
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
) -> UMT5Encoder:
    """Loads the encoder from a folder.

    Args:
        folder: Has `text_encoder/` and `tokenizer/`; nothing is downloaded.
        num_tokens: Tokens per prompt.
        device: Device of the encoder and of the embeddings.
        dtype: Of the encoder's weights; embeddings are always float32.

    Raises:
        ImportError: an extra package is missing.
        FileNotFoundError: the folder lacks `text_encoder/` or `tokenizer/`.
    """
    for part in ("text_encoder", "tokenizer"):
        if not (Path(folder) / part).is_dir():
            raise FileNotFoundError(
                f"{folder}: expected text_encoder/ and tokenizer/ as in diffusers' Wan pipelines, got no {part}/; "
                "download the whole pipeline folder"
            )
    _required("ftfy")
    model = _required("transformers").UMT5EncoderModel.from_pretrained(
        Path(folder) / "text_encoder", local_files_only=True, torch_dtype=dtype
    )
    return UMT5Encoder(load_tokenizer(Path(folder) / "tokenizer"), model.to(device), num_tokens)


def umt5_dtype(device: torch.device) -> torch.dtype:
    """The type of the encoder's weights on a device: bfloat16, as Wan's own code has it, where products of it are fast.

    That takes 11 GB; in float32, which other devices get, the encoder takes 23.
    """
    return torch.bfloat16 if multiplies_bfloat16(device) else torch.float32


def load_tokenizer(folder: Path) -> Any:
    """Loads transformers' tokenizer from a folder; nothing is downloaded."""
    return _required("transformers").AutoTokenizer.from_pretrained(folder, local_files_only=True)


def _required(package: str) -> Any:
    try:
        return importlib.import_module(package)
    except ImportError as error:
        message = f"UMT5Encoder needs {error.name}; install the extra: pip install 'cameractrlworld[wan]'"
        raise ImportError(message, name=error.name) from error


def umt5_fingerprint(folder: Path) -> str:
    """Twelve digits that identify an encoder by its settings, tokenizer, and weight files' names and sizes."""
    texts = sorted(path for part in ("text_encoder", "tokenizer") for path in (folder / part).glob("*.json"))
    weights = [f"{path.name} {path.stat().st_size}" for path in sorted((folder / "text_encoder").glob("*.safetensors"))]
    return fingerprint(*texts, *weights)[:12]
