"""Defects drawn into images at graded strength, for the gates: do the models find what was not there before?

A defect changes grey in proportion to the image's own range (2nd to 98th percentile), so that `strength` means the same
on dark and on bright images: 1.0 is plainly visible, 0.2 subtle.
"""

from collections.abc import Callable
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from detectors.errors import InvalidInput
from detectors.images import Image, require_image

Mask = NDArray[np.bool_]
Plane = NDArray[np.float32]

LEAST_RANGE = 40.0


def draw_defect(image: Image, *, kind: str, strength: float, rng: np.random.Generator) -> tuple[Image, Mask]:
    """A copy of the image with one defect, and where it is (`mask_HW`). Strength in (0, 1]; nothing outside the mask
    changes.

    Raises InvalidInput for an array that is no uint8 RGB image, a kind nobody knows, or a strength outside its range.

    >>> plain = np.full((64, 64, 3), 120, np.uint8)
    >>> drawn, mask = draw_defect(plain, kind="spot", strength=1.0, rng=np.random.default_rng(0))
    >>> bool(mask.any()), bool((drawn[~mask] == 120).all())
    (True, True)
    """
    require_image(image)
    if kind not in _SHAPES:
        raise InvalidInput(f"defect kind {kind!r}; there are {', '.join(KINDS)}")
    if not 0 < strength <= 1:
        raise InvalidInput(f"strength {strength}; it lies above 0 and at most at 1")
    cover = _SHAPES[kind](image.shape[:2], rng)
    mask = cover > 0.05
    change = _amount(image, mask, rng) * strength * np.where(mask, cover, 0.0)
    drawn = np.clip(np.round(image.astype(np.float32) + change[..., None]), 0, 255).astype(np.uint8)
    return drawn, mask


def _amount(image: Image, mask: Mask, rng: np.random.Generator) -> float:
    """Grey levels at full strength: a good part of the image's range, away from the end of the scale that is near."""
    grey = image.astype(np.float32).mean(2)
    low, high = np.percentile(grey, [2, 98])
    span = max(LEAST_RANGE, 0.7 * float(high - low))
    here = float(grey[mask].mean()) if mask.any() else float(grey.mean())
    darker = here > 128 if abs(here - 128) > 60 else bool(rng.random() < 0.5)
    return -span if darker else span


def _scratch(shape: tuple[int, int], rng: np.random.Generator) -> Plane:
    """A long thin straight line."""
    side = min(shape)
    length, angle = rng.uniform(0.25, 0.5) * side, rng.uniform(0, np.pi)
    return _stroke(shape, rng, np.array([[0.0, 0.0], [length * np.cos(angle), length * np.sin(angle)]]), 0.006 * side)


def _crack(shape: tuple[int, int], rng: np.random.Generator) -> Plane:
    """A line that changes direction at every step."""
    side = min(shape)
    steps, angle = 7, rng.uniform(0, 2 * np.pi)
    angles = angle + np.cumsum(rng.normal(0, 0.6, steps))
    moves = np.stack([np.cos(angles), np.sin(angles)], 1) * rng.uniform(0.03, 0.07, (steps, 1)) * side
    return _stroke(shape, rng, np.concatenate([np.zeros((1, 2)), np.cumsum(moves, 0)]), 0.007 * side)


def _spot(shape: tuple[int, int], rng: np.random.Generator) -> Plane:
    """A round hole or inclusion."""
    return _blob(shape, rng, radius=rng.uniform(0.02, 0.045), softness=0.15, waviness=0.0)


def _stain(shape: tuple[int, int], rng: np.random.Generator) -> Plane:
    """A large, soft, irregular patch."""
    return 0.6 * _blob(shape, rng, radius=rng.uniform(0.07, 0.12), softness=0.5, waviness=0.3)


def _chip(shape: tuple[int, int], rng: np.random.Generator) -> Plane:
    """An irregular piece broken out, sharp at its edge."""
    return _blob(shape, rng, radius=rng.uniform(0.03, 0.06), softness=0.1, waviness=0.4)


def _stroke(shape: tuple[int, int], rng: np.random.Generator, points: NDArray[np.float64], width: float) -> Plane:
    """A polyline around a random place, `width` px to either side, its edge softened over a pixel."""
    moved = points - points.mean(0) + _place(shape, rng)
    reach = max(width, 0.8) + 0.5
    window = _window(shape, moved.min(0) - reach, moved.max(0) + reach)
    rows, columns = np.mgrid[window]
    at = np.stack([rows, columns], -1).astype(np.float64)
    distance = np.min([_to_segment(at, a, b) for a, b in pairwise(moved)], axis=0)
    return _pasted(shape, window, np.clip(reach - distance, 0, 1))


def _to_segment(at: NDArray[np.float64], start: NDArray[np.float64], end: NDArray[np.float64]) -> NDArray[np.float64]:
    along = end - start
    share = np.clip(((at - start) @ along) / max(float(along @ along), 1e-9), 0, 1)
    distance: NDArray[np.float64] = np.linalg.norm(at - start - share[..., None] * along, axis=-1)
    return distance


def _blob(
    shape: tuple[int, int], rng: np.random.Generator, *, radius: float, softness: float, waviness: float
) -> Plane:
    """A closed shape around a random place; `radius` in shares of the shorter side, its outline waves by `waviness`."""
    centre = _place(shape, rng)
    radius_px = max(radius * min(shape), 1.5)
    window = _window(shape, centre - 4 * radius_px - 3, centre + 4 * radius_px + 3)
    rows, columns = np.mgrid[window]
    dy, dx = rows - centre[0], (columns - centre[1]) * rng.uniform(0.7, 1.4)
    angle = np.arctan2(dy, dx)
    outline = np.ones_like(angle)
    for order in range(1, 6):
        outline += waviness * rng.normal(0, 0.5) / order * np.cos(order * angle + rng.uniform(0, 2 * np.pi))
    edge = radius_px * np.clip(outline, 0.4, 2.5)
    cover = np.clip((edge - np.hypot(dy, dx)) / np.maximum(softness * edge, 0.7), 0, 1)
    return _pasted(shape, window, ndimage.gaussian_filter(cover, 0.6))


def _place(shape: tuple[int, int], rng: np.random.Generator) -> NDArray[np.float64]:
    """A place well inside the image, (row, column)."""
    place: NDArray[np.float64] = rng.uniform(0.2, 0.8, 2) * (np.asarray(shape) - 1)
    return place


def _window(shape: tuple[int, int], low: NDArray[np.float64], high: NDArray[np.float64]) -> tuple[slice, slice]:
    """The part of the image from `low` to `high` (row, column): a defect on a large image costs no more than its own
    size.
    """
    rows, columns = (
        slice(max(0, int(np.floor(a))), min(side, int(np.ceil(b)) + 1))
        for a, b, side in zip(low, high, shape, strict=True)
    )
    return rows, columns


def _pasted(shape: tuple[int, int], window: tuple[slice, slice], cover: NDArray[np.float64]) -> Plane:
    plane = np.zeros(shape, np.float32)
    plane[window] = cover
    return plane


_SHAPES: dict[str, Callable[[tuple[int, int], np.random.Generator], Plane]] = {
    "scratch": _scratch,
    "spot": _spot,
    "crack": _crack,
    "stain": _stain,
    "chip": _chip,
}

KINDS = tuple(_SHAPES)
"""What can be drawn."""
