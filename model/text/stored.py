"""Embeddings of prompts on disk: a large text encoder embeds each prompt once, and is freed before training begins."""

import hashlib
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from tqdm import tqdm

from model.text.encoder import TextEncoder
from model.whole_file import whole_file


class StoredTextEncoder:
    """A text encoder that knows the prompts in a folder, and no others.

    One file holds one prompt's own tokens `[n d]` in float16. So several processes may add to a folder, a killed one
    can be run again to continue, and a batch reads only its own prompts.

    Args:
        folder: What `store_embeddings` wrote.
        dim: Width of a token embedding.
        num_tokens: Tokens per prompt, zeros after the prompt's own.
    """

    def __init__(self, folder: Path, dim: int, num_tokens: int) -> None:
        self.folder, self.dim, self.num_tokens = folder, dim, num_tokens

    def encode(self, prompts: list[str]) -> Float[Tensor, "b n d"]:
        """The prompts' embeddings, float32, on the CPU.

        Raises:
            ValueError: A prompt was not stored.
        """
        embeddings = torch.zeros(len(prompts), self.num_tokens, self.dim)
        for row, prompt in zip(embeddings, prompts, strict=True):
            path = embedding_path(self.folder, prompt)
            if not path.is_file():
                raise ValueError(f"prompt: expected one whose embedding is in {self.folder}, got {prompt!r}")
            tokens = torch.from_numpy(np.load(path))
            row[: len(tokens)] = tokens
        return embeddings

    def null(self, num_prompts: int) -> Float[Tensor, "b n d"]:
        """The embedding of the empty prompt, repeated."""
        return self.encode([""]).expand(num_prompts, -1, -1)


def store_embeddings(
    prompts: Iterable[str], folder: Path, load_encoder: Callable[[], TextEncoder], batch_size: int = 8
) -> None:
    """Embeds those prompts (and the empty one) that the folder lacks; loads the encoder only if one is missing."""
    missing = sorted(prompt for prompt in {"", *prompts} if not embedding_path(folder, prompt).is_file())
    if not missing:
        return
    encoder = load_encoder()
    bar = tqdm(total=len(missing), desc="embedding prompts")
    for first in range(0, len(missing), batch_size):
        batch = missing[first : first + batch_size]
        for prompt, tokens in zip(batch, encoder.encode(batch), strict=True):
            is_used = tokens.abs().amax(dim=1) > 0
            length = int(is_used.nonzero().max()) + 1 if is_used.any() else 0
            with whole_file(embedding_path(folder, prompt)) as partial:
                np.save(partial, tokens[:length].half().cpu().numpy())
            bar.update()
    bar.close()


def embedding_path(folder: Path, prompt: str) -> Path:
    """The file of a prompt: named by its digest, in one of 256 folders."""
    digest = hashlib.sha256(prompt.encode()).hexdigest()
    return folder / digest[:2] / f"{digest[2:34]}.npy"
