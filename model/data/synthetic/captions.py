"""Captions in a closed vocabulary: the theme, then what the start pose sees, with count, motion and colour."""

import re
from collections import Counter
from typing import TYPE_CHECKING

from model.data.synthetic.motion import MOTIONS
from model.data.synthetic.themes import PALETTE, THEMES

if TYPE_CHECKING:
    from model.data.synthetic.scene import Scene, SceneObject

MAX_WORDS = 24
KIND_NAMES: tuple[str, ...] = ("box", "pillar", "sphere", "cylinder", "cone", "dome")
_PLURALS = {"box": "boxes"}
_NUMBERS = ("no", "a", "two", "three", "four", "five", "six", "seven", "eight", "nine")
_MAX_GROUPS = 4


def plural(kind: str) -> str:
    """The plural of an object's name."""
    return _PLURALS.get(kind, kind + "s")


def _vocabulary() -> tuple[str, ...]:
    words = {"a", "an", "and", "with", *_NUMBERS[2:], *PALETTE, *MOTIONS}
    words.update(word for theme in THEMES for word in theme.phrase.split())
    words.update(word for kind in KIND_NAMES for word in (kind, plural(kind)))
    return tuple(sorted(words))


VOCABULARY: tuple[str, ...] = _vocabulary()


def caption_words(text: str) -> list[str]:
    """The words of a caption or prompt, lower case, without punctuation."""
    return re.findall(r"[a-z]+", text.lower())


def _phrase(item: "SceneObject", count: int) -> str:
    motion = [item.motion.kind] if item.motion is not None else []
    name = item.kind if count == 1 else plural(item.kind)
    words = [*motion, item.colour, name]
    article = "an" if words[0][0] in "aeiou" else "a"
    return " ".join([article if count == 1 else _NUMBERS[count], *words])


def caption(scene: "Scene") -> str:
    """One sentence, at most `MAX_WORDS` words, e.g. "a misty morning with a red box and a rolling yellow sphere".

    Names the objects in view at the start, moving ones and near ones first, at most four groups of equal objects.
    """
    groups: dict[tuple[str, str, str], SceneObject] = {}
    counts: Counter[tuple[str, str, str]] = Counter()
    for item in sorted(scene.visible_at_start(), key=lambda item: (item.motion is None, item.distance)):
        key = (item.motion.kind if item.motion is not None else "", item.colour, item.kind)
        groups.setdefault(key, item)
        counts[key] += 1
    named = [_phrase(item, counts[key]) for key, item in list(groups.items())[:_MAX_GROUPS]]
    if not named:
        return scene.theme.phrase
    listed = named[0] if len(named) == 1 else ", ".join(named[:-1]) + " and " + named[-1]
    return f"{scene.theme.phrase} with {listed}"
