"""The closed-vocabulary encoder: fixed vectors, word order, null prompt, warnings."""

import warnings

import pytest
import torch

from model.text.encoder import TextEncoder
from model.text.synonyms import SYNONYMS
from model.text.tiny_vocabulary import TinyVocabularyEncoder, split_words
from model.world.load import load_world

SHIPPED = load_world("tiny").vocabulary
VOCABULARY = ["a", "red", "blue", "box", "ball", "and", "slow-moving", "desert"]


def encoder() -> TinyVocabularyEncoder:
    return TinyVocabularyEncoder(VOCABULARY, dim=32, num_tokens=6)


def test_it_is_a_text_encoder_of_the_promised_shape() -> None:
    assert isinstance(encoder(), TextEncoder)
    embedded = encoder().encode(["a red box", "desert", ""])
    assert embedded.shape == (3, 6, 32) and embedded.dtype == torch.float32


def test_the_empty_prompt_is_null_is_zero() -> None:
    assert torch.equal(encoder().encode(["", " ,.! "]), encoder().null(2))
    assert not encoder().null(2).any()


def test_tokens_after_the_prompt_are_zero_and_words_have_unit_scale() -> None:
    (embedded,) = encoder().encode(["a red box"])
    assert not embedded[3:].any()
    # A sign (square 1) plus sine and cosine (mean square 1/2), divided by sqrt(1.5); the cross term is random.
    assert embedded[:3].square().mean().item() == pytest.approx(1, abs=0.3)


def test_case_and_punctuation_do_not_matter_but_order_does() -> None:
    plain, dressed, reversed_ = encoder().encode(["red box blue ball", "Red box; BLUE ball!", "blue box red ball"])
    assert torch.equal(plain, dressed)
    assert not torch.allclose(plain, reversed_)
    assert torch.equal(plain[1], reversed_[1])  # The same word at the same place.


def test_different_words_are_nearly_orthogonal() -> None:
    words = [f"w{i}" for i in range(100)]
    embedder = TinyVocabularyEncoder(words, dim=64, num_tokens=1)
    vectors = torch.nn.functional.normalize(embedder.encode(words)[:, 0] - embedder._positions[0] / 1.5**0.5, dim=1)
    off_diagonal = (vectors @ vectors.T - torch.eye(100)).abs()
    # Products of random signs have standard deviation 1 / sqrt(64) = 0.125; five of them.
    assert off_diagonal.max() < 0.625


def test_a_words_vector_depends_on_the_word_alone() -> None:
    grown = TinyVocabularyEncoder(["zebra", *reversed(VOCABULARY)], dim=32, num_tokens=6)
    assert torch.equal(grown.encode(["a red box"]), encoder().encode(["a red box"]))


def test_vectors_are_the_same_for_ever() -> None:
    """Shipped weights rely on these very signs."""
    # SHAKE-256 of "red" begins with the bytes 48 4d 38 62; lowest bit first.
    bits = [byte >> i & 1 for byte in bytes.fromhex("484d3862") for i in range(8)]
    signs = encoder()._table[VOCABULARY.index("red") + 1]
    assert signs.tolist() == [2 * bit - 1 for bit in bits]


def test_unknown_words_are_dropped_with_one_warning_a_prompt_that_has_the_known_ones() -> None:
    embedder = encoder()
    with pytest.warns(UserWarning) as caught:
        embedded = embedder.encode(["a dessert and a red unicorn, unicorn castle"])
    (message,) = (str(each.message) for each in caught)
    assert "'dessert' (did you mean 'desert'?), 'unicorn', 'castle' of" in message
    assert message.endswith("its words are: a red blue box ball and slow-moving desert")
    assert torch.equal(embedded, embedder.encode(["a and a red"]))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        embedder.encode(["a dessert and a red unicorn, unicorn castle"])


@pytest.mark.parametrize("prompt", ["unicorns dancing wildly", "a unicorn and an elephant", "the unicorn in the rain"])
def test_a_prompt_of_which_nothing_is_known_counts_as_none_and_says_so_once(prompt: str) -> None:
    with pytest.warns(UserWarning, match=f"^prompt: nothing of '{prompt}' is known") as caught:
        embedded = encoder().encode([prompt])
    assert len(caught) == 1 and torch.equal(embedded, encoder().null(1))


def test_synonyms_lead_to_known_words_and_only_where_these_are_known() -> None:
    shipped = TinyVocabularyEncoder(SHIPPED)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for said, meant in (
            ("snow", "snowy plain"),
            ("a sunset with the ball", "a dusk with a sphere"),
            ("dunes and 2 cubes", "desert and two boxes"),
            ("A GOLD column in the fog", "a yellow pillar a misty morning"),
        ):
            assert torch.equal(shipped.encode([said]), shipped.encode([meant])), said
    assert set(SYNONYMS).isdisjoint(SHIPPED)  # a word of the world's own means itself
    assert {word for meaning in SYNONYMS.values() for word in meaning} <= set(SHIPPED)
    with pytest.warns(UserWarning, match="'cubes'"):  # this world has no "boxes"
        encoder().encode(["red cubes"])
    assert torch.equal(encoder().encode(["red cube ball"]), encoder().encode(["red box ball"]))


def test_words_beyond_the_last_token_are_cut_off_with_a_warning() -> None:
    with pytest.warns(UserWarning, match="expected at most 6 words, got 8"):
        long = encoder().encode(["a red box and a blue ball and"])
    assert torch.equal(long, encoder().encode(["a red box and a blue"]))


def test_prompts_do_not_influence_each_other() -> None:
    prompts = ["a red box", "desert", "", "slow-moving ball"]
    together = encoder().encode(prompts)
    for row, prompt in enumerate(prompts):
        assert torch.equal(together[row], encoder().encode([prompt])[0])
    assert encoder().encode([]).shape == (0, 6, 32)


def test_words_are_split_at_spaces_and_punctuation_but_not_at_hyphens() -> None:
    assert split_words("A slow-moving, RED ball's path -- (dusk)") == [
        "a",
        "slow-moving",
        "red",
        "ball's",
        "path",
        "dusk",
    ]


def test_vocabulary_entries_must_be_single_words() -> None:
    with pytest.raises(ValueError, match="vocabulary: expected single words, got 'red box'"):
        TinyVocabularyEncoder(["red box"])
    assert TinyVocabularyEncoder(["Red", "red"]).vocabulary == ("red",)


def test_an_odd_width_works() -> None:
    assert TinyVocabularyEncoder(VOCABULARY, dim=7, num_tokens=3).encode(["red"]).shape == (1, 3, 7)
