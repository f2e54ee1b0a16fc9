"""A text encoder without weights for a closed vocabulary: each word has a fixed random sign vector."""

import difflib
import hashlib
import math
import re
import warnings
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from model.text.synonyms import EMPTY_WORDS, SILENT_WORDS, SYNONYMS

_LONGEST_PERIOD = 100.0  # In tokens: several times the longest prompt, so that no two positions look alike.


class TinyVocabularyEncoder:
    """Embeds a prompt word by word: a sign vector that depends on the word alone, plus a code of its position.

    The signs come from a hash, not from a random generator: they are the same with every library version, and a word
    keeps its vector when the vocabulary grows. The empty prompt is all zeros, and so are tokens after the last word.
    A synonym (`model.text.synonyms`) is replaced by the vocabulary words that it stands for.

    Source: ours, because a few dozen words do not need a language model.
    """

    def __init__(self, vocabulary: Sequence[str], dim: int = 64, num_tokens: int = 24) -> None:
        self.vocabulary = tuple(dict.fromkeys(_checked_word(word) for word in vocabulary))
        self.dim = dim
        self.num_tokens = num_tokens
        self._row_of = {word: row for row, word in enumerate(self.vocabulary, start=1)}  # Row 0: no word.
        self._table = torch.stack([torch.zeros(dim), *(_sign_vector(word, dim) for word in self.vocabulary)])
        self._positions = _position_codes(num_tokens, dim)
        self._warned: set[str] = set()

    def encode(self, prompts: list[str]) -> Float[Tensor, "b n d"]:
        """The embedded prompts on the CPU, entries of unit scale.

        Unknown words are left out and words beyond `num_tokens` cut off, with one warning per prompt; a prompt without
        a known word, but for articles and "and" and "with", counts as empty.
        """
        rows = torch.zeros(len(prompts), self.num_tokens, dtype=torch.long)
        for index, prompt in enumerate(prompts):
            words = self._known_words(prompt)
            rows[index, : len(words)] = torch.tensor([self._row_of[word] for word in words], dtype=torch.long)
        is_word = (rows > 0).unsqueeze(-1)
        return (self._table[rows] + self._positions * is_word) / math.sqrt(1.5)

    def null(self, num_prompts: int) -> Float[Tensor, "b n d"]:
        """All zeros: what `encode` returns for empty prompts."""
        return torch.zeros(num_prompts, self.num_tokens, self.dim)

    def _known_words(self, prompt: str) -> list[str]:
        known: list[str] = []
        unknown: list[str] = []
        for word in split_words(prompt):
            meaning = self._meaning(word)
            known += meaning
            if not meaning and word not in SILENT_WORDS and word not in unknown:
                unknown.append(word)
        faults = []
        if unknown and set(known) <= EMPTY_WORDS:
            known = []
            faults.append(f"nothing of {prompt!r} is known to this world, which goes on as without a prompt")
        elif unknown:
            faults.append(f"{', '.join(map(self._guess, unknown))} of {prompt!r} left out, unknown to this world")
        if len(known) > self.num_tokens:
            faults.append(f"expected at most {self.num_tokens} words, got {len(known)}; the rest is cut off")
        if faults and prompt not in self._warned:
            self._warned.add(prompt)
            words = f"; its words are: {' '.join(self.vocabulary)}" if unknown else ""
            warnings.warn(f"prompt: {'; '.join(faults)}{words}", UserWarning, stacklevel=4)
        return known[: self.num_tokens]

    def _meaning(self, word: str) -> list[str]:
        """The words of the vocabulary that a word stands for; none if it is unknown."""
        if word in self._row_of:
            return [word]
        meaning = SYNONYMS.get(word, ())
        return list(meaning) if all(each in self._row_of for each in meaning) else []

    def _guess(self, word: str) -> str:
        near = difflib.get_close_matches(word, self.vocabulary, n=1, cutoff=0.75)
        return f"{word!r} (did you mean {near[0]!r}?)" if near else repr(word)


def split_words(prompt: str) -> list[str]:
    """The words of a prompt in lower case, without punctuation; hyphens and apostrophes inside a word stay."""
    return re.findall(r"[^\W_]+(?:['-][^\W_]+)*", prompt.lower())


def _checked_word(word: str) -> str:
    words = split_words(word)
    if len(words) != 1:
        raise ValueError(f"vocabulary: expected single words, got {word!r}; split it into words")
    return words[0]


def _sign_vector(word: str, dim: int) -> Tensor:
    digest = hashlib.shake_256(word.encode()).digest((dim + 7) // 8)
    bits = [digest[i // 8] >> (i % 8) & 1 for i in range(dim)]
    return torch.tensor(bits, dtype=torch.float32) * 2 - 1


def _position_codes(num_tokens: int, dim: int) -> Float[Tensor, "n d"]:
    """Sines and cosines with periods from 2 pi to `_LONGEST_PERIOD` tokens."""
    slowest = 2 * math.pi / _LONGEST_PERIOD
    frequencies = slowest ** torch.linspace(0, 1, (dim + 1) // 2)
    angles = torch.arange(num_tokens).unsqueeze(1) * frequencies
    return torch.cat([angles.sin(), angles.cos()], dim=1)[:, :dim]
