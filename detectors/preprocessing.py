"""What happens to an image before the backbone sees it, as one specification: grey, crop, tiles, mask.

Shape legend: H x W patch grid of the whole, h x w of one square, C feature dimensions; images are height x width x 3.
"""

import base64
import binascii
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image as Picture

from detectors.errors import InvalidInput
from detectors.images import Image
from detectors.manifest import Preprocessing

STRIDE_PX = 8
"""Pixels of the resized image that a patch stands for, each way."""

MOST_TILES = 1024

_BLANK = 128
"""Grey that takes the place of what a mask covers: a patch beside it sees further than itself."""

Mask = NDArray[np.bool_]


class Preparation:
    """A `Preprocessing` carried out for squares of `image_size` pixels.

    Raises InvalidInput for a specification that cannot be carried out.

    >>> Preparation(Preprocessing(tiles=(2, 3), overlap_px=32), 256).grid
    (60, 88)
    """

    def __init__(self, prepare: Preprocessing, image_size: int) -> None:
        _check(prepare, image_size)
        self._prepare = prepare
        self._size = image_size
        side = -(-image_size // STRIDE_PX)
        self._overlap = prepare.overlap_px // STRIDE_PX
        step = side - self._overlap
        self.grid = (side + (prepare.tiles[0] - 1) * step, side + (prepare.tiles[1] - 1) * step)
        self.inside = _unpacked(prepare.mask, self.grid)

    def squares(self, image: Image) -> list[Image]:
        """The squares of an image, `(image_size, image_size, 3)` each, row by row."""
        whole = self._whole(image)
        rows, columns = self._prepare.tiles
        step = self._size - self._prepare.overlap_px
        starts = [(row * step, column * step) for row in range(rows) for column in range(columns)]
        return [whole[y : y + self._size, x : x + self._size] for y, x in starts]

    def joined(self, squares_hwC: Sequence[NDArray[np.float32]]) -> NDArray[np.float32]:
        """Patches of the whole from those of its squares, `(H, W, C)`; where two overlap, each counts up to the middle.
        Patches outside the mask are 0.
        """
        side, half = len(squares_hwC[0]), self._overlap // 2
        whole_HWC = np.empty((*self.grid, squares_hwC[0].shape[2]), np.float32)
        for number, square_hwC in enumerate(squares_hwC):
            row, column = divmod(number, self._prepare.tiles[1])
            y, x = (each * (side - self._overlap) for each in (row, column))
            up, before = (half if each else 0 for each in (row, column))
            whole_HWC[y + up : y + side, x + before : x + side] = square_hwC[up:, before:]
        whole_HWC[~self.inside] = 0
        return whole_HWC

    @property
    def frame(self) -> "Frame":
        """Where the patch grid of the crop lies on one of equal patches that covers the whole image."""
        height, width = self.grid
        left, top, right, bottom = self._prepare.crop
        rows = max(height, round(height / (bottom - top)))
        columns = max(width, round(width / (right - left)))
        return Frame(rows, columns, min(round(top * rows), rows - height), min(round(left * columns), columns - width))

    def _whole(self, image: Image) -> Image:
        """The crop, resized to the squares together, blank outside the mask."""
        tiled = self._prepare.tiles != (1, 1)
        size = (self.grid[1] * STRIDE_PX, self.grid[0] * STRIDE_PX) if tiled else (self._size, self._size)
        picture = Picture.fromarray(image)
        if self._prepare.grey:
            picture = picture.convert("L").convert("RGB")
        box = _box(self._prepare, picture)
        whole: Image = np.array(picture.resize(size, Picture.Resampling.BILINEAR, box=box))
        if self._prepare.mask:
            inside_HW = self.inside.repeat(STRIDE_PX, axis=0).repeat(STRIDE_PX, axis=1)
            whole[~inside_HW[: size[1], : size[0]]] = _BLANK
        return whole


@dataclass(frozen=True)
class Frame:
    """A grid over the whole image, `rows` x `columns`, in which another starts at `top`, `left`."""

    rows: int
    columns: int
    top: int
    left: int

    def around(self, map_HW: NDArray[np.float32]) -> NDArray[np.float32]:
        """The map of a crop as one of the whole image, 0 outside the crop, `(rows, columns)`.

        >>> Frame(3, 4, 1, 2).around(np.ones((2, 1), np.float32)).sum(axis=0).tolist()
        [0.0, 0.0, 2.0, 0.0]
        """
        whole = np.zeros((self.rows, self.columns), np.float32)
        whole[self.top : self.top + map_HW.shape[0], self.left : self.left + map_HW.shape[1]] = map_HW
        return whole


def packed_mask(picture: Image, prepare: Preprocessing, image_size: int) -> str:
    """The mask of a picture drawn over the camera's image (white: counts, black: does not), for `Preprocessing.mask`.

    A patch counts where at least half of it is white. Raises InvalidInput where nothing is white.

    >>> half = np.zeros((64, 64, 3), np.uint8)
    >>> half[:, :32] = 255
    >>> Preparation(Preprocessing(mask=packed_mask(half, Preprocessing(), 64)), 64).inside.sum(axis=0).tolist()
    [8, 8, 8, 8, 0, 0, 0, 0]
    """
    rows, columns = Preparation(prepare, image_size).grid
    drawn = Picture.fromarray(picture).convert("L")
    small = drawn.resize((columns, rows), Picture.Resampling.BOX, box=_box(prepare, drawn))
    inside_HW = np.asarray(small) >= 128
    if not inside_HW.any():
        raise InvalidInput("the mask covers everything; leave the part to be inspected white")
    return base64.b64encode(np.packbits(inside_HW).tobytes()).decode()


def _box(prepare: Preprocessing, picture: Picture.Image) -> tuple[float, float, float, float]:
    """The crop in pixels."""
    left, top, right, bottom = prepare.crop
    return left * picture.width, top * picture.height, right * picture.width, bottom * picture.height


def _check(prepare: Preprocessing, image_size: int) -> None:
    left, top, right, bottom = prepare.crop
    if not (0 <= left < right <= 1 and 0 <= top < bottom <= 1):
        raise InvalidInput(f"crop {prepare.crop}; give left, top, right, bottom as shares, 0 <= left < right <= 1")
    rows, columns = prepare.tiles
    if not (rows >= 1 and columns >= 1 and rows * columns <= MOST_TILES):
        raise InvalidInput(f"{rows} x {columns} tiles; give 1 x 1 to {MOST_TILES} in total")
    even = image_size % STRIDE_PX == 0 and prepare.overlap_px % (2 * STRIDE_PX) == 0
    if prepare.tiles != (1, 1) and not (even and 0 <= prepare.overlap_px <= image_size // 2):
        raise InvalidInput(
            f"tiles of {image_size} px that overlap by {prepare.overlap_px} px; give a side that 8 divides and an "
            f"overlap of 0 to {image_size // 2} px that 16 divides"
        )


def _unpacked(mask: str, grid: tuple[int, int]) -> Mask:
    """Which patches count, `(H, W)`."""
    height, width = grid
    if not mask:
        return np.ones(grid, bool)
    try:
        bits = np.unpackbits(np.frombuffer(base64.b64decode(mask, validate=True), np.uint8))
    except binascii.Error as error:
        raise InvalidInput(f"mask {mask[:20]!r} is not base64 ({error}); make it anew") from error
    if len(bits) != -(-height * width // 8) * 8:
        raise InvalidInput(f"mask of {len(bits)} bits for a grid of {height} x {width}; make it for this image size")
    inside_HW = bits[: height * width].reshape(grid).astype(bool)
    if not inside_HW.any():
        raise InvalidInput("the mask covers everything; leave the part to be inspected white")
    return inside_HW
