"""Pictures for a page: small JPEGs made on the server from what lies in the object store.

One that is gone is words, not a traceback.
"""

import io
from collections.abc import Callable
from dataclasses import dataclass

from PIL import Image as Picture
from PIL import ImageDraw, ImageOps

from detectors.errors import InvalidInput, NotFound, Unavailable
from detectors.images import decode
from detectors.objects import ObjectStore

THUMBNAIL_PX = 320
LARGE_PX = 720
CROP_PX = 240
MAX_PIXELS = 80_000_000
_FRAME = (234, 88, 12)
_CONTEXT = 0.5

Box = tuple[float, float, float, float]


@dataclass(frozen=True)
class Shown:
    """A picture as JPEG bytes, or `words` saying why there is none."""

    jpeg: bytes | None
    words: str = ""


def thumbnail(store: ObjectStore, key: str, *, side_px: int = THUMBNAIL_PX) -> bytes:
    """The picture `key` as a JPEG, its longer side at most `side_px`; raises NotFound, ImageError or Unavailable."""
    return jpeg_of(small_picture(store, key, side_px))


def thumbnail_of(data: bytes, *, side_px: int = THUMBNAIL_PX) -> bytes:
    """The bytes of an image file as a JPEG, its longer side at most `side_px`; raises ImageError."""
    picture = Picture.fromarray(decode(data, max_pixels=MAX_PIXELS))
    picture.thumbnail((side_px, side_px), Picture.Resampling.LANCZOS)
    return jpeg_of(picture)


def framed(store: ObjectStore, key: str, box: Box | None, *, side_px: int = LARGE_PX) -> bytes:
    """The picture `key` with a frame around `box` (left, top, right, bottom in shares of it); raises as `thumbnail`."""
    small = small_picture(store, key, side_px)
    return jpeg_of(small if box is None else _with_frame(small, box))


def crop(store: ObjectStore, key: str, box: Box, *, side_px: int = CROP_PX) -> bytes:
    """What lies in `box` and a little around it, enlarged to `side_px`, the box framed; raises as `thumbnail`."""
    picture = _read(store, key)
    around, inside = _surroundings(box)
    width, height = picture.size
    part = picture.crop(
        (round(around[0] * width), round(around[1] * height), round(around[2] * width), round(around[3] * height))
    )
    return jpeg_of(_with_frame(ImageOps.contain(part, (side_px, side_px), Picture.Resampling.BICUBIC), inside))


def small_picture(store: ObjectStore, key: str, side_px: int) -> Picture.Image:
    """The picture `key`, its longer side at most `side_px`; never larger than it was: pixels are not invented where a
    person is to judge them. Raises as `thumbnail`.
    """
    small = _read(store, key)
    small.thumbnail((side_px, side_px), Picture.Resampling.LANCZOS)
    return small


def jpeg_of(picture: Picture.Image) -> bytes:
    """A picture as the bytes of a JPEG."""
    out = io.BytesIO()
    picture.save(out, "JPEG", quality=88)
    return out.getvalue()


def shown(make: Callable[[], bytes]) -> Shown:
    """The picture that `make` gives, or why there is none."""
    try:
        return Shown(make())
    except NotFound:
        return Shown(None, "This picture is no longer in the object store.")
    except InvalidInput as error:
        return Shown(None, f"This picture cannot be read: {error}")
    except Unavailable as error:
        return Shown(None, f"The object store does not answer: {error}")


def _read(store: ObjectStore, key: str) -> Picture.Image:
    return Picture.fromarray(decode(store.get(key), max_pixels=MAX_PIXELS))


def _with_frame(picture: Picture.Image, box: Box) -> Picture.Image:
    width, height = picture.size
    drawn = picture.copy()
    corners = (box[0] * (width - 1), box[1] * (height - 1), box[2] * (width - 1), box[3] * (height - 1))
    ImageDraw.Draw(drawn).rectangle(corners, outline=_FRAME, width=max(2, max(width, height) // 200))
    return drawn


def _surroundings(box: Box) -> tuple[Box, Box]:
    """`box` grown by half of itself on each side within the picture, and where `box` then lies in that.

    >>> _surroundings((0.4, 0.4, 0.6, 0.6))[0]
    (0.3..., 0.3..., 0.7, 0.7)
    """
    wide, high = _CONTEXT * (box[2] - box[0]), _CONTEXT * (box[3] - box[1])
    around = (max(0.0, box[0] - wide), max(0.0, box[1] - high), min(1.0, box[2] + wide), min(1.0, box[3] + high))
    span_x, span_y = around[2] - around[0] or 1.0, around[3] - around[1] or 1.0
    inside = (
        (box[0] - around[0]) / span_x,
        (box[1] - around[1]) / span_y,
        (box[2] - around[0]) / span_x,
        (box[3] - around[1]) / span_y,
    )
    return around, inside
