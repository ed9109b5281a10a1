"""Where a change of a line is, drawn over an image of it: a coarse grid, blue where it moved nearer to normal, red where further away."""

from collections.abc import Sequence

from PIL import Image as Picture
from PIL import ImageDraw, ImageFont

from dashboard.pictures import LARGE_PX, Box, jpeg_of, small_picture
from detectors.errors import DriftlineError
from detectors.maps import REGIONS
from detectors.objects import ObjectStore
from detectors.registry import Registry

NEARER, FURTHER = (33, 102, 172), (178, 24, 43)
"""The ends of the diverging scale (ColorBrewer RdBu, readable for the colour-blind)."""
LEAST_LIMIT_SD = 3.0
NAMED_FROM_SD = 1.0
_OPACITY = 0.62
_GRID = (255, 255, 255, 110)

DriftMap = tuple[float, ...]
"""How far each of REGIONS x REGIONS fields moved, in robust standard deviations, row by row."""


def limit_of(where: DriftMap) -> float:
    """The shift that has the full colour: the largest of the map, and no less than LEAST_LIMIT_SD.

    >>> limit_of((0.5, -4.0)), limit_of((0.1,))
    (4.0, 3.0)
    """
    return max(LEAST_LIMIT_SD, *(abs(moved) for moved in where))


def with_drift_map(
    store: ObjectStore, key: str, where: DriftMap, crop: Box = (0.0, 0.0, 1.0, 1.0), *, side_px: int = LARGE_PX
) -> bytes:
    """The picture `key` as a JPEG with the map over its `crop` (left, top, right, bottom in shares), which is what the
    model looks at; numbers in fields that moved. Raises as `pictures.thumbnail`.
    """
    picture = small_picture(store, key, side_px).convert("RGBA")
    veil = Picture.new("RGBA", picture.size, (0, 0, 0, 0))
    draw = ImageDraw.Draw(veil)
    for moved, field in zip(where, _fields(picture.size, crop), strict=True):
        draw.rectangle(field, fill=colour_of(moved, limit_of(where)), outline=_GRID, width=1)
        if abs(moved) >= NAMED_FROM_SD:
            _name(draw, field, f"{moved:+.1f}")
    return jpeg_of(Picture.alpha_composite(picture, veil).convert("RGB"))


def looked_at(registry: Registry, line: str, version: int) -> Box:
    """Where in an image a version looks, in shares of it: the whole image where its manifest cannot be read."""
    try:
        return registry.manifest(line, version).features.prepare.crop
    except DriftlineError:
        return (0.0, 0.0, 1.0, 1.0)


def colour_of(moved: float, limit: float) -> tuple[int, int, int, int]:
    """Red, green, blue and opacity of a field: the further it moved, the less of the image shows through.

    >>> colour_of(-3.0, 3.0)[:3] == NEARER, colour_of(0.0, 3.0)[3]
    (True, 0)
    """
    strength = min(1.0, abs(moved) / limit)
    return (*(FURTHER if moved > 0 else NEARER), round(255 * _OPACITY * strength))


def _fields(size: tuple[int, int], crop: Sequence[float]) -> list[Box]:
    """The corners of the fields in pixels, row by row."""
    left, top, right, bottom = (share * side for share, side in zip(crop, (*size, *size), strict=True))
    wide, high = (right - left) / REGIONS, (bottom - top) / REGIONS
    return [
        (
            left + column * wide,
            top + row * high,
            left + column * wide + max(wide - 1, 0),
            top + row * high + max(high - 1, 0),
        )
        for row in range(REGIONS)
        for column in range(REGIONS)
    ]


def _name(draw: ImageDraw.ImageDraw, field: Box, words: str) -> None:
    """A number in the middle of a field, white with a dark rim: readable on any image."""
    middle = ((field[0] + field[2]) / 2, (field[1] + field[3]) / 2)
    font = ImageFont.load_default(size=max(9.0, (field[2] - field[0]) / 5))
    draw.text(middle, words, fill="white", font=font, anchor="mm", stroke_width=2, stroke_fill=(20, 20, 20, 230))
