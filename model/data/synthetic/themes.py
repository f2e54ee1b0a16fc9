"""Colours and light of every theme, and the palette of the objects.

Colours are display values in [0, 1]; light is added and mixed in that space, because only the look matters here.
"""

from dataclasses import dataclass
from typing import Literal, get_args

RGB = tuple[float, float, float]
Style = Literal["soft", "textured", "landscape"]
STYLES: tuple[Style, ...] = get_args(Style)

PALETTE: dict[str, RGB] = {
    "red": (0.85, 0.27, 0.24),
    "orange": (0.93, 0.55, 0.22),
    "yellow": (0.95, 0.80, 0.32),
    "green": (0.35, 0.65, 0.38),
    "teal": (0.20, 0.62, 0.64),
    "blue": (0.28, 0.45, 0.82),
    "purple": (0.56, 0.38, 0.72),
    "white": (0.93, 0.91, 0.87),
}
# materials of things that are not painted in a palette colour; captions name only "grey"
MATERIALS: dict[str, RGB] = {
    "grey": (0.56, 0.55, 0.54),
    "wood": (0.42, 0.30, 0.22),
    "slate": (0.36, 0.30, 0.32),
    "glass": (0.98, 0.86, 0.55),
}


def known_style(name: str) -> Style:
    """The style with this name.

    Raises:
        ValueError: no style has this name.
    """
    for style in STYLES:
        if style == name:
            return style
    raise ValueError(f"style: expected one of {STYLES}, got {name!r}")


@dataclass(frozen=True, kw_only=True)
class Theme:
    """One coherent look: a sky, a light, a fog and a ground."""

    phrase: str  # how captions name it
    zenith: RGB
    horizon: RGB  # also the colour of the fog
    halo: RGB  # added round the sun
    halo_sharpness: float
    disc: RGB  # added inside the sun's or moon's disc
    disc_radius: float  # radians
    sun_elevation: float  # radians above the horizon
    sun_light: RGB
    ambient: RGB
    ground: RGB
    ground_accent: RGB  # colour of the soft patches
    patch_size: float  # metres, typical wavelength
    gloss: float  # share of the mirrored sky in the ground's colour
    fog_distance: float  # metres; transmittance is exp(-(distance / fog_distance)^2)
    veil: float  # share of haze in front of even the nearest object
    hills: RGB
    hill_height: float  # tangent of the elevation
    colours: tuple[str, ...]  # names in PALETTE that suit it


# fmt: off
THEMES: tuple[Theme, ...] = (
    Theme(
        phrase="a pink dawn", colours=("red", "orange", "teal", "blue", "purple", "white"),
        zenith=(0.50, 0.56, 0.78), horizon=(0.97, 0.78, 0.72), hills=(0.66, 0.56, 0.68), hill_height=0.10,
        halo=(0.06, 0.08, -0.06), halo_sharpness=6.0, disc=(0.25, 0.18, 0.10), disc_radius=0.06,
        sun_elevation=0.20, sun_light=(0.50, 0.38, 0.30), ambient=(0.62, 0.58, 0.64), fog_distance=15.0, veil=0.08,
        ground=(0.62, 0.50, 0.52), ground_accent=(0.76, 0.62, 0.58), patch_size=4.0, gloss=0.15,
    ),
    Theme(
        phrase="a green meadow", colours=("red", "orange", "yellow", "blue", "purple", "white"),
        zenith=(0.30, 0.56, 0.88), horizon=(0.80, 0.90, 0.96), hills=(0.50, 0.70, 0.68), hill_height=0.12,
        halo=(0.08, 0.06, 0.02), halo_sharpness=5.0, disc=(0.15, 0.12, 0.06), disc_radius=0.06,
        sun_elevation=0.85, sun_light=(0.46, 0.44, 0.38), ambient=(0.62, 0.64, 0.66), fog_distance=16.0, veil=0.12,
        ground=(0.44, 0.65, 0.36), ground_accent=(0.61, 0.77, 0.43), patch_size=4.0, gloss=0.0,
    ),
    Theme(
        phrase="a violet dusk", colours=("red", "orange", "yellow", "teal", "blue", "white"),
        zenith=(0.20, 0.19, 0.42), horizon=(0.80, 0.46, 0.48), hills=(0.36, 0.24, 0.42), hill_height=0.12,
        halo=(0.22, 0.22, -0.06), halo_sharpness=5.0, disc=(0.20, 0.28, 0.20), disc_radius=0.07,
        sun_elevation=0.12, sun_light=(0.56, 0.36, 0.28), ambient=(0.52, 0.44, 0.56), fog_distance=15.0, veil=0.06,
        ground=(0.33, 0.25, 0.38), ground_accent=(0.45, 0.33, 0.43), patch_size=4.5, gloss=0.30,
    ),
    Theme(
        phrase="a golden desert", colours=("red", "green", "teal", "blue", "purple", "white"),
        zenith=(0.42, 0.62, 0.80), horizon=(0.96, 0.86, 0.70), hills=(0.82, 0.64, 0.46), hill_height=0.13,
        halo=(0.05, 0.06, 0.06), halo_sharpness=5.0, disc=(0.15, 0.15, 0.15), disc_radius=0.06,
        sun_elevation=0.26, sun_light=(0.48, 0.42, 0.32), ambient=(0.62, 0.58, 0.54), fog_distance=16.0, veil=0.14,
        ground=(0.80, 0.62, 0.40), ground_accent=(0.90, 0.74, 0.50), patch_size=5.0, gloss=0.0,
    ),
    Theme(
        phrase="a misty morning", colours=("red", "orange", "yellow", "green", "blue", "purple"),
        zenith=(0.70, 0.76, 0.79), horizon=(0.83, 0.86, 0.86), hills=(0.74, 0.78, 0.80), hill_height=0.12,
        halo=(0.10, 0.09, 0.05), halo_sharpness=8.0, disc=(0.07, 0.06, 0.04), disc_radius=0.07,
        sun_elevation=0.24, sun_light=(0.32, 0.31, 0.28), ambient=(0.66, 0.67, 0.67), fog_distance=10.0, veil=0.08,
        ground=(0.52, 0.58, 0.54), ground_accent=(0.62, 0.67, 0.61), patch_size=4.0, gloss=0.10,
    ),
    Theme(
        phrase="a snowy plain", colours=("red", "orange", "yellow", "green", "teal", "blue"),
        zenith=(0.56, 0.70, 0.88), horizon=(0.90, 0.93, 0.97), hills=(0.74, 0.81, 0.90), hill_height=0.15,
        halo=(0.08, 0.06, 0.02), halo_sharpness=8.0, disc=(0.10, 0.08, 0.04), disc_radius=0.06,
        sun_elevation=0.24, sun_light=(0.38, 0.35, 0.31), ambient=(0.68, 0.71, 0.78), fog_distance=14.0, veil=0.16,
        ground=(0.80, 0.86, 0.93), ground_accent=(0.94, 0.96, 0.98), patch_size=4.0, gloss=0.0,
    ),
    Theme(
        phrase="a moonlit night", colours=("red", "orange", "yellow", "green", "teal", "white"),
        zenith=(0.04, 0.06, 0.15), horizon=(0.17, 0.23, 0.38), hills=(0.08, 0.12, 0.22), hill_height=0.12,
        halo=(0.14, 0.17, 0.20), halo_sharpness=9.0, disc=(0.60, 0.56, 0.45), disc_radius=0.075,
        sun_elevation=0.26, sun_light=(0.40, 0.43, 0.50), ambient=(0.32, 0.36, 0.47), fog_distance=16.0, veil=0.00,
        ground=(0.10, 0.15, 0.23), ground_accent=(0.17, 0.23, 0.32), patch_size=4.5, gloss=0.40,
    ),
    Theme(
        phrase="a turquoise lagoon", colours=("red", "orange", "yellow", "purple", "white"),
        zenith=(0.26, 0.60, 0.84), horizon=(0.86, 0.95, 0.93), hills=(0.42, 0.68, 0.66), hill_height=0.09,
        halo=(0.08, 0.03, -0.06), halo_sharpness=6.0, disc=(0.12, 0.10, 0.06), disc_radius=0.06,
        sun_elevation=0.26, sun_light=(0.42, 0.38, 0.32), ambient=(0.64, 0.66, 0.66), fog_distance=15.0, veil=0.14,
        ground=(0.20, 0.60, 0.65), ground_accent=(0.40, 0.78, 0.75), patch_size=3.5, gloss=0.30,
    ),
)
# fmt: on
