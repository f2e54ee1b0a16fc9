"""Everyday synonyms of the words in the shipped world's captions: a caption says "sphere", people say "ball".

An encoder uses an entry only if it knows all words of the entry's meaning, so entries do nothing in other worlds.
"""

from collections.abc import Mapping

# One line for each meaning: what the captions say, and what people say instead.
_MEANINGS: Mapping[str, str] = {
    "a": "the one 1 this that some",
    "and": "plus",
    "two": "2 both",
    "three": "3",
    "four": "4",
    "five": "5",
    "six": "6",
    "seven": "7",
    "eight": "8",
    "nine": "9",
    "sphere": "ball globe orb marble bubble planet",
    "spheres": "balls globes orbs marbles bubbles planets",
    "box": "cube block crate dice",
    "boxes": "cubes blocks crates",
    "pillar": "column post pole tower obelisk",
    "pillars": "columns posts poles towers obelisks",
    "cylinder": "tube barrel drum can",
    "cylinders": "tubes barrels drums cans",
    "cone": "pyramid spike",
    "cones": "pyramids spikes",
    "dome": "hemisphere igloo mound",
    "domes": "hemispheres igloos mounds",
    "red": "crimson scarlet ruby maroon",
    "orange": "amber apricot",
    "yellow": "gold lemon",
    "green": "emerald lime olive",
    "teal": "cyan aqua",
    "blue": "azure navy cobalt",
    "purple": "magenta lilac lavender mauve",
    "white": "ivory",
    "pink": "rose rosy",
    "bouncing": "jumping hopping bouncy",
    "orbiting": "circling revolving",
    "rolling": "tumbling",
    "sliding": "gliding drifting moving",
    "spinning": "rotating turning whirling twirling",
    "desert": "dune dunes sand sandy sahara",
    "meadow": "grass grassy grassland field prairie lawn",
    "lagoon": "sea ocean lake water beach coast",
    "plain": "plains tundra steppe",
    "dawn": "sunrise daybreak",
    "dusk": "sunset evening twilight nightfall",
    "misty": "foggy hazy",
    "misty morning": "fog mist haze",
    "moonlit": "nocturnal",
    "moonlit night": "moon moonlight midnight",
    "night": "nighttime",
    "snowy": "icy frozen wintry arctic",
    "snowy plain": "snow winter ice",
}
SYNONYMS: Mapping[str, tuple[str, ...]] = {
    word: tuple(meaning.split()) for meaning, words in _MEANINGS.items() for word in words.split()
}
# Words that do not describe a scene: left out without a warning.
_SILENT = "of in on at by to from near under over behind before beside is are there"
SILENT_WORDS = frozenset(_SILENT.split())
# Known words, but a prompt of these alone describes nothing.
EMPTY_WORDS = frozenset(("a", "an", "and", "with"))
