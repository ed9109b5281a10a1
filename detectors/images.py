"""Bytes of an image file <-> pixels, the same way everywhere: a scorer and a training must never see different pixels.

Array legend: H x W pixels, C = 3 colours (red, green, blue).
"""

import struct
import zlib
from dataclasses import dataclass
from io import BytesIO

import numpy as np
from numpy.typing import NDArray
from PIL import (
    BmpImagePlugin,
    ImageFile,
    ImageOps,
    JpegImagePlugin,
    PngImagePlugin,
    TiffImagePlugin,
    WebPImagePlugin,
)
from PIL import Image as Picture
from scipy import ndimage

from detectors.errors import ImageError, InvalidInput

Image = NDArray[np.uint8]
"""An image as `image_HWC`: uint8, red, green, blue."""

MAX_PIXELS = 100_000_000
STATISTICS_SIDE_PX = 256
BLACK, WHITE = 2, 253
"""A pixel with a colour below or above is saturated (lossy files ring around 0 and 255)."""

_FORMATS: tuple[tuple[bytes, type[ImageFile.ImageFile]], ...] = (
    (b"\xff\xd8\xff", JpegImagePlugin.JpegImageFile),
    (b"\x89PNG\r\n\x1a\n", PngImagePlugin.PngImageFile),
    (b"BM", BmpImagePlugin.BmpImageFile),
    (b"II*\x00", TiffImagePlugin.TiffImageFile),
    (b"MM\x00*", TiffImagePlugin.TiffImageFile),
    (b"RIFF", WebPImagePlugin.WebPImageFile),
)
_FAILURES = (
    OSError,
    SyntaxError,
    ValueError,
    TypeError,
    LookupError,
    EOFError,
    ArithmeticError,
    AttributeError,
    RuntimeError,
    struct.error,
    zlib.error,
    Picture.DecompressionBombError,
    Warning,  # where warnings are errors
)
_DEEP_GREY = frozenset({"I;16", "I;16B", "I;16L", "I;16N"})
_BITS_PER_SAMPLE = 258


def decode(data: bytes, *, max_pixels: int = MAX_PIXELS, behind: str = "white") -> Image:
    """The pixels of a JPEG, PNG, BMP, TIFF or WebP file as uint8 RGB `image_HWC`.

    EXIF rotation is applied; 16-bit grey is scaled by 1/257 (12-bit TIFF by 255/4095), not clipped; palette and CMYK
    become RGB; pixels with transparency are laid on white (or what is `behind`), as a viewer shows them. Of several frames the first
    counts.

    Raises ImageError for bytes that can never be decoded (empty, truncated, no image, a pixel format whose range is
    unknown) and, from the header and before decoding, for more than `max_pixels`.

    >>> decode(encode_png(np.full((2, 3, 3), 7, np.uint8))).shape
    (2, 3, 3)
    >>> decode(b"hello")
    Traceback (most recent call last):
        ...
    detectors.errors.ImageError: 5 bytes that are no JPEG, PNG, BMP, TIFF or WebP file; send one of these formats
    """
    if not data:
        raise ImageError("an image of zero bytes; send it again, complete")
    reader = next((reader for magic, reader in _FORMATS if data.startswith(magic)), None)
    if reader is None:
        raise ImageError(f"{len(data)} bytes that are no JPEG, PNG, BMP, TIFF or WebP file; send one of these formats")
    try:
        # The readers themselves rather than Image.open: it warns through process-wide state about sizes judged here.
        picture = reader(BytesIO(data))
        _check_size(picture, max_pixels)
        return _rgb(picture, behind)
    except ImageError:
        raise
    except _FAILURES as error:
        reason = str(error) or type(error).__name__
        raise ImageError(
            f"image of {len(data)} bytes cannot be decoded ({reason}); it is truncated or broken: send it again"
        ) from error


def decode_mask(data: bytes) -> NDArray[np.bool_]:
    """Where a mask marks a defect, `(H, W)`: what is at least half as bright, in any colour, as its brightest pixel.

    Masks come white on black, coloured on black and coloured on nothing; transparency marks nothing. Raises what
    `decode` does.

    >>> decode_mask(encode_png(np.array([[[0, 0, 0], [35, 164, 54]]], np.uint8))).tolist()
    [[False, True]]
    """
    bright_HW = decode(data, behind="black").max(axis=2)
    marked_HW: NDArray[np.bool_] = bright_HW > bright_HW.max() / 2
    return marked_HW


@dataclass(frozen=True)
class ImageStatistics:
    """What is watched of an image's pixels, in values of 0 to 255, on a copy of at most 256 pixels a side.

    `contrast` is the standard deviation of grey, `sharpness` that of its Laplacian; `warmth`: how much more red than blue
    there is on the average; `tint`: how much more green than the mean of both; `saturated`: share of pixels at either end
    of the range; `noise`: standard deviation of the sensor's noise, by Immerkaer's estimate. Colours and saturation are of
    every so manieth pixel of the original, noise is of its centre.
    """

    mean: float
    contrast: float
    sharpness: float
    warmth: float = 0.0
    tint: float = 0.0
    saturated: float = 0.0
    noise: float = 0.0


def statistics(image: Image) -> ImageStatistics:
    """Brightness, contrast, sharpness, colour balance, saturation and noise of an image, whatever its size.

    Grey is ITU-R 601 luma; large images are averaged down first, so that cameras of any resolution are told by the same
    scale.

    >>> shown = statistics(np.full((40, 50, 3), (255, 128, 128), np.uint8))
    >>> round(shown.mean), shown.contrast, shown.warmth, shown.tint, shown.saturated, shown.noise
    (166, 0.0, 127.0, -63.5, 1.0, 0.0)
    """
    require_image(image)
    step = -(-max(image.shape) // STATISTICS_SIDE_PX)
    colours = [np.ascontiguousarray(image[::step, ::step, colour]) for colour in range(3)]
    red, green, blue = (float(each.mean()) for each in colours)
    brightest_HW = np.maximum(np.maximum(colours[0], colours[1]), colours[2])
    darkest_HW = np.minimum(np.minimum(colours[0], colours[1]), colours[2])
    grey = Picture.fromarray(image).convert("L")
    picture = grey.convert("F")
    share = STATISTICS_SIDE_PX / max(picture.size)
    if share < 1:
        width, height = (max(1, round(side * share)) for side in picture.size)
        picture = picture.resize((width, height), Picture.Resampling.BOX)
    grey_HW = np.asarray(picture, np.float64)
    edges_HW = ndimage.laplace(grey_HW, mode="nearest")
    return ImageStatistics(
        mean=float(grey_HW.mean()),
        contrast=float(grey_HW.std()),
        sharpness=float(edges_HW.std()),
        warmth=red - blue,
        tint=green - (red + blue) / 2,
        saturated=float(((brightest_HW >= WHITE) | (darkest_HW <= BLACK)).mean()),
        noise=_noise(np.asarray(grey)),
    )


def _noise(grey_HW: NDArray[np.uint8]) -> float:
    """Standard deviation of the noise of an image, from the mean size of a difference of two Laplacians over its centre.

    Source: Immerkaer, Fast noise variance estimation, Computer Vision and Image Understanding 64 (1996), equation 4.
    """
    top, left = (max(0, (side - STATISTICS_SIDE_PX) // 2) for side in grey_HW.shape)
    centre_HW = grey_HW[top : top + STATISTICS_SIDE_PX, left : left + STATISTICS_SIDE_PX].astype(np.float32)
    for axis in (0, 1):
        if centre_HW.shape[axis] < 3:
            return 0.0
        centre_HW = np.diff(centre_HW, n=2, axis=axis)
    return float(np.sqrt(np.pi / 2) / 6 * np.abs(centre_HW).mean())


def encode_png(image: Image) -> bytes:
    """The image as a PNG file, without loss.

    >>> encode_png(np.zeros((1, 1, 3), np.uint8))[1:4]
    b'PNG'
    """
    return _encode(image, "PNG", compress_level=3)


def encode_jpeg(image: Image, *, quality: int = 90) -> bytes:
    """The image as a JPEG file, with `quality` of 1 to 95.

    >>> encode_jpeg(np.zeros((1, 1, 3), np.uint8))[:3]
    b'\\xff\\xd8\\xff'
    """
    if not 1 <= quality <= 95:
        raise InvalidInput(f"quality {quality}; JPEG takes 1 to 95")
    return _encode(image, "JPEG", quality=quality)


def require_image(image: Image) -> None:
    """Raise InvalidInput for an array that is not a non-empty uint8 `image_HWC` of three colours."""
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or image.size == 0:
        raise InvalidInput(
            f"an image of shape {image.shape} and type {image.dtype}; uint8 (height, width, 3) is needed"
        )


def _encode(image: Image, name: str, **options: int) -> bytes:
    require_image(image)
    target = BytesIO()
    Picture.fromarray(image).save(target, name, **options)
    return target.getvalue()


def _check_size(picture: Picture.Image, max_pixels: int) -> None:
    width, height = picture.size
    if width * height > max_pixels:
        raise ImageError(
            f"an image of {width} x {height} pixels ({width * height / 1e6:.0f} MP), "
            f"at most {max_pixels / 1e6:.0f} MP are decoded; crop it or make it smaller in the camera"
        )


def _rgb(picture: Picture.Image, behind: str) -> Image:
    deep_max = _deep_grey_max(picture)
    ImageOps.exif_transpose(picture, in_place=True)
    if picture.mode in _DEEP_GREY:
        grey_HW = _scaled(np.asarray(picture), deep_max)
        return np.repeat(grey_HW[:, :, None], 3, axis=2)
    if picture.mode in {"I", "F"}:
        raise ImageError(f"pixels of mode {picture.mode} have no known range; save them with 8 or 16 unsigned bits")
    if picture.has_transparency_data:
        seen = picture.convert("RGBA")
        picture = Picture.alpha_composite(Picture.new("RGBA", seen.size, behind), seen)
    return np.array(picture if picture.mode == "RGB" else picture.convert("RGB"))


def _deep_grey_max(picture: Picture.Image) -> int:
    if isinstance(picture, TiffImagePlugin.TiffImageFile) and picture.tag_v2.get(_BITS_PER_SAMPLE) == (12,):
        return 4095
    return 65535


def _scaled(grey_HW: NDArray[np.generic], largest: int) -> NDArray[np.uint8]:
    wide_HW = grey_HW.astype(np.uint32)
    return np.minimum((wide_HW * 255 + largest // 2) // largest, 255).astype(np.uint8)
