"""Defects pasted into images at graded strength: a piece of another image where it does not belong, as a foreign body or a torn surface
would lie. Source: CutPaste (Li et al., CVPR 2021), *different from it* in that the piece may come from another image, is mixed
in by `strength`, and has an irregular outline.
"""

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from detectors.errors import InvalidInput
from detectors.images import Image, require_image

Mask = NDArray[np.bool_]

SMALLEST, LARGEST = 0.06, 0.18
"""A side of a piece, as a share of the image's shorter one."""


def paste_piece(image: Image, donor: Image, *, strength: float, rng: np.random.Generator) -> tuple[Image, Mask]:
    """A copy of the image with a turned piece of `donor` in it, and where it is (`mask_HW`). Strength in (0, 1]: how much of it is the
    piece; nothing outside the mask changes.

    Raises InvalidInput for arrays that are no uint8 RGB images, and for a strength outside its range.

    >>> plain, other = np.full((64, 64, 3), 120, np.uint8), np.full((64, 64, 3), 40, np.uint8)
    >>> pasted, mask = paste_piece(plain, other, strength=0.5, rng=np.random.default_rng(0))
    >>> bool(mask.any()), bool((pasted[~mask] == 120).all()), int(pasted[mask].min())
    (True, True, 80)
    """
    require_image(image)
    require_image(donor)
    if not 0 < strength <= 1:
        raise InvalidInput(f"strength {strength}; it lies above 0 and at most at 1")
    side = min(*image.shape[:2], *donor.shape[:2])
    height, width = (max(3, round(share * side)) for share in rng.uniform(SMALLEST, LARGEST, 2))
    piece_hwC = _piece(donor, min(height, side), min(width, side), rng)
    cover_hw = _outline(piece_hwC.shape[0], piece_hwC.shape[1], rng)
    top, left = _corner(image, piece_hwC, rng)
    rows, columns = slice(top, top + piece_hwC.shape[0]), slice(left, left + piece_hwC.shape[1])
    mixed = image.astype(np.float32)
    share = (strength * cover_hw)[..., None]
    mixed[rows, columns] += share * (piece_hwC.astype(np.float32) - mixed[rows, columns])
    mask = np.zeros(image.shape[:2], dtype=np.bool_)
    mask[rows, columns] = cover_hw > 0
    return np.clip(np.round(mixed), 0, 255).astype(np.uint8), mask


def _piece(donor: Image, height: int, width: int, rng: np.random.Generator) -> Image:
    """A rectangle from anywhere in the donor, turned by a quarter, a half or three quarters: texture shows that it is out of place."""
    top, left = (
        int(rng.integers(0, side - size + 1)) for side, size in zip(donor.shape, (height, width), strict=False)
    )
    return np.rot90(donor[top : top + height, left : left + width], int(rng.integers(1, 4)))


def _corner(image: Image, piece: Image, rng: np.random.Generator) -> tuple[int, int]:
    """Where the piece goes: well inside the image where it fits there."""
    rows, columns = (image.shape[axis] - piece.shape[axis] for axis in (0, 1))
    return int(rng.uniform(0.2, 0.8) * rows), int(rng.uniform(0.2, 0.8) * columns)


def _outline(height: int, width: int, rng: np.random.Generator) -> NDArray[np.float32]:
    """Coverage of the rectangle, (height, width): an ellipse that waves, soft over a pixel; its middle is always covered."""
    rows, columns = np.mgrid[0:height, 0:width]
    y, x = (rows - (height - 1) / 2) / (height / 2), (columns - (width - 1) / 2) / (width / 2)
    angle, reach = np.arctan2(y, x), np.full((height, width), 0.85)
    for order in (2, 3, 5):
        reach += rng.normal(0, 0.12) * np.cos(order * angle + rng.uniform(0, 2 * np.pi))
    inside = np.hypot(y, x) < np.clip(reach, 0.5, 1.0)
    cover: NDArray[np.float32] = ndimage.uniform_filter(inside.astype(np.float32), 2)
    return cover
