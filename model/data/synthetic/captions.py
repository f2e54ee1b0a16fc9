"""Captions in a closed vocabulary: the theme, then what the first view shows, with count, motion and colour."""

from collections import Counter

from model.data.synthetic.motion import MOTIONS
from model.data.synthetic.scene import Scene
from model.data.synthetic.solids import OBJECT_SIZES, SCENERY_SIZES
from model.data.synthetic.themes import PALETTE, THEMES

_NUMBERS = ("two", "three", "four", "five", "six", "seven", "eight", "nine")
_MAX_GROUPS = 4
_KINDS = (*OBJECT_SIZES, *SCENERY_SIZES)
_PLURALS = {kind: "boxes" if kind == "box" else f"{kind}s" for kind in _KINDS}
_LANDSCAPE = ("under", "clouds", "road", "river", "grey")
_THEME_WORDS = {word for theme in THEMES for word in theme.phrase.split()}

VOCABULARY: tuple[str, ...] = tuple(
    sorted(
        {
            "a",
            "an",
            "and",
            "with",
            *_NUMBERS,
            *PALETTE,
            *MOTIONS,
            *_THEME_WORDS,
            *_PLURALS,
            *_PLURALS.values(),
            *_LANDSCAPE,
        }
    )
)


def caption(scene: Scene) -> str:
    """One sentence, at most 24 words, e.g. "a misty morning with a red box and a rolling yellow sphere".

    Names the objects in view at the start, moving ones and near ones first, at most four groups of equal objects. A
    landscape's road or river is the first group.
    """
    seen = sorted(scene.visible_at_start(), key=lambda item: (item.motion is None, item.distance))
    groups = Counter((item.motion.kind if item.motion else "", item.colour, item.kind) for item in seen)
    path = scene.scenery.path
    named = [f"a {path.kind}"] if path is not None else []
    named += [_phrase(*group, count) for group, count in groups.items()]
    named = named[:_MAX_GROUPS]
    sky = f"{scene.theme.phrase} under clouds" if scene.scenery.clouds else scene.theme.phrase
    if not named:
        return sky
    listed = named[0] if len(named) == 1 else ", ".join(named[:-1]) + " and " + named[-1]
    return f"{sky} with {listed}"


def _phrase(motion: str, colour: str, kind: str, count: int) -> str:
    words = f"{motion} {colour}".strip()
    if count > 1:
        return f"{_NUMBERS[count - 2]} {words} {_PLURALS[kind]}"
    return f"{'an' if words[0] in 'aeiou' else 'a'} {words} {kind}"
