"""What the style `landscape` adds to a scene: trees, rocks and houses, a road or a river, clouds."""

import dataclasses
import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from model.data.synthetic.solids import START_CLEARANCE, SceneObject, are_apart, sample_object
from model.data.synthetic.themes import Theme

_CROWNS = ("green", "green", "green", "orange", "yellow")
_WATER = "a turquoise lagoon"  # in this theme the ground is water: no road, no river
_MOST_PLAIN = 2  # resting objects of plain shapes, in addition to the moving ones


@dataclass(frozen=True, kw_only=True)
class Path:
    """A road or a river: a band on the ground along a gently bent line; it has no height."""

    kind: Literal["road", "river"]
    heading: float  # radians from +z towards +x
    offset: float  # metres that the start lies to the right of the line
    width: float  # metres
    bend: float  # metres
    wavelength: float  # metres
    phase: float  # radians

    def side(self, x: NDArray[np.floating], z: NDArray[np.floating]) -> NDArray[np.floating]:
        """Metres from the middle of the band, positive to the right of the heading."""
        sine, cosine = np.float32(math.sin(self.heading)), np.float32(math.cos(self.heading))
        along, across = x * sine + z * cosine, x * cosine - z * sine
        bent = np.sin(along * np.float32(2 * math.pi / self.wavelength) + np.float32(self.phase))
        return np.asarray(across + np.float32(self.offset) - np.float32(self.bend) * bent)

    def is_clear_of(self, item: SceneObject) -> bool:
        """Whether an object stands beside it at any time."""
        middle = abs(float(self.side(np.array(item.x), np.array(item.z))))
        return middle > self.width / 2 + item.swept_radius


@dataclass(frozen=True, kw_only=True)
class Scenery:
    """What a landscape has in addition to its objects.

    Attributes:
        path: The road or river, if there is one.
        clouds: Share of the sky that they cover; 0: no clouds.
        cast_shadows: Objects cast shadows of their own shape on the ground; else shadows are soft ellipses.
    """

    path: Path | None = None
    clouds: float = 0.0
    cast_shadows: bool = False


NO_SCENERY = Scenery()


def sample_scenery(
    seed: int, theme: Theme, objects: tuple[SceneObject, ...]
) -> tuple[tuple[SceneObject, ...], Scenery]:
    """The objects of a scene's landscape, and its scenery.

    Of the resting plain objects, two stay, and those that others orbit. Then a house, trees, rocks and firs are added:
    two or three ahead, three to five around the start.
    """
    rng = np.random.default_rng([0x1A2D5, seed])
    path = None
    if theme.phrase != _WATER and rng.random() < 0.8:
        path = _sample_path(rng, _fewer(objects, most_resting=0))
    kept = _fewer(tuple(item for item in objects if path is None or item.motion or path.is_clear_of(item)), _MOST_PLAIN)
    clouds = float(rng.uniform(0.25, 0.5)) if rng.random() < 0.65 else 0.0
    placed = list(kept)
    num_ahead = int(rng.integers(2, 4))
    for index in range(num_ahead + int(rng.integers(3, 6))):
        ahead = index < num_ahead
        for _ in range(30):
            item = _sample_item(rng, is_house=index == 0 and rng.random() < 0.7)
            bearing = rng.uniform(-0.5, 0.5) if ahead else rng.uniform(0.6, 2 * np.pi - 0.6)
            nearest = START_CLEARANCE + item.radius + (1.5 if item.kind == "house" else 0.0)
            distance = max(nearest, float(rng.uniform(4.0, 12.0)))
            item = dataclasses.replace(item, x=distance * math.sin(bearing), z=distance * math.cos(bearing))
            if all(are_apart(item, other) for other in placed) and (path is None or path.is_clear_of(item)):
                placed.append(item)
                break
    return tuple(placed), Scenery(path=path, clouds=clouds, cast_shadows=True)


def _fewer(objects: tuple[SceneObject, ...], most_resting: int) -> tuple[SceneObject, ...]:
    """All moving objects, the objects that they orbit, and the first few others."""
    moving = [item for item in objects if item.motion is not None]
    centres = {(item.x, item.z) for item in moving}
    resting = [item for item in objects if item.motion is None and (item.x, item.z) not in centres]
    few = resting[:most_resting]
    return tuple(item for item in objects if (item.x, item.z) in centres or item in few)


def _sample_path(rng: np.random.Generator, objects: tuple[SceneObject, ...]) -> Path | None:
    """A band that crosses the view in front of the start, clear of the objects; None if none was found."""
    kind: Literal["road", "river"] = "road" if rng.random() < 0.5 else "river"
    for _ in range(60):
        heading = float(rng.uniform(0.15, 1.3)) * (1 if rng.random() < 0.5 else -1)
        ahead = float(rng.uniform(2.5, 8.0))  # metres from the start to where the band crosses the view's middle
        path = Path(
            kind=kind,
            heading=heading,
            offset=ahead * math.sin(heading),
            width=float(rng.uniform(0.9, 1.4) if kind == "road" else rng.uniform(1.1, 2.0)),
            bend=float(rng.uniform(0.2, 0.7)),
            wavelength=float(rng.uniform(9.0, 16.0)),
            phase=float(rng.uniform(0, 2 * np.pi)),
        )
        if all(path.is_clear_of(item) for item in objects):
            return path
    return None


def _sample_item(rng: np.random.Generator, is_house: bool) -> SceneObject:
    if is_house:
        return sample_object(rng, "house", str(rng.choice(("white", "white", "yellow", "red"))))
    kind = str(rng.choice(("tree", "fir", "rock"), p=(0.45, 0.3, 0.25)))
    colour = {"tree": str(rng.choice(_CROWNS)), "fir": "green", "rock": "grey"}[kind]
    return sample_object(rng, kind, colour)
