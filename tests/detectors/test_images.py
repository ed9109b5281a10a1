"""Decoding: every kind of file a camera may send, and every kind of rubbish."""

import os
import struct
import zlib
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image as Picture

from detectors.errors import ImageError, InvalidInput
from detectors.images import decode, decode_mask, encode_jpeg, encode_png, statistics

RGB = np.arange(6 * 8 * 3, dtype=np.uint8).reshape(6, 8, 3)


def file_of(picture: Picture.Image, format: str = "PNG", **options: object) -> bytes:
    target = BytesIO()
    picture.save(target, format, **options)
    return target.getvalue()


def png_header_only(width: int, height: int) -> bytes:
    """A PNG that claims a size and has next to no pixels: decoding it would fail, reading its header does not."""

    def chunk(name: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0" * 10)) + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize("format", ["PNG", "BMP", "TIFF"])
def test_lossless_formats_come_back_exactly(format: str) -> None:
    assert (decode(file_of(Picture.fromarray(RGB), format)) == RGB).all()


def test_webp_and_jpeg_come_back_nearly() -> None:
    smooth = np.full((32, 32, 3), (200, 90, 40), np.uint8)
    for data in (file_of(Picture.fromarray(smooth), "WEBP", lossless=True), encode_jpeg(smooth, quality=95)):
        assert np.abs(decode(data).astype(int) - smooth).max() <= 3


def test_one_pixel_decodes() -> None:
    assert decode(encode_png(np.full((1, 1, 3), 9, np.uint8))).tolist() == [[[9, 9, 9]]]


@pytest.mark.parametrize("data", [b"", b"\xff", b"hello, I am a text" * 100, b"GIF89a" + bytes(50), bytes(4096)])
def test_bytes_that_are_no_image_are_refused(data: bytes) -> None:
    with pytest.raises(ImageError, match="bytes"):
        decode(data)


@pytest.mark.parametrize("format", ["PNG", "JPEG", "BMP", "TIFF", "WEBP"])
@pytest.mark.parametrize("share", [0.02, 0.3, 0.8])
def test_truncated_files_are_refused(format: str, share: float) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)
    data = file_of(Picture.fromarray(noise), format)
    with pytest.raises(ImageError):
        decode(data[: int(len(data) * share)])


@settings(max_examples=150, deadline=None)
@given(st.sampled_from(["PNG", "JPEG", "BMP", "TIFF", "WEBP"]), st.data())
def test_a_damaged_file_is_decoded_or_refused_but_nothing_else(format: str, data: st.DataObject) -> None:
    whole = bytearray(file_of(Picture.fromarray(RGB), format))
    for _ in range(data.draw(st.integers(1, 6))):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    try:
        image = decode(bytes(whole), max_pixels=100_000)
    except ImageError:
        return
    assert image.dtype == np.uint8
    assert image.ndim == 3


def test_a_huge_image_is_refused_from_its_header() -> None:
    with pytest.raises(ImageError, match=r"12000 x 12000 pixels \(144 MP\), at most 100 MP .* crop"):
        decode(png_header_only(12_000, 12_000))


def test_the_limit_is_inclusive() -> None:
    data = encode_png(RGB)
    assert decode(data, max_pixels=48).shape == RGB.shape
    with pytest.raises(ImageError, match="6"):
        decode(data, max_pixels=47)


def test_cmyk_becomes_rgb() -> None:
    cmyk = Picture.new("CMYK", (8, 8), (0, 255, 255, 0))
    red = decode(file_of(cmyk, "TIFF"))
    assert red[0, 0].tolist() == [255, 0, 0]
    assert decode(file_of(cmyk, "JPEG")).shape == (8, 8, 3)


@pytest.mark.parametrize("format", ["PNG", "TIFF"])
def test_deep_grey_is_scaled_not_clipped(format: str) -> None:
    deep: NDArray[np.uint16] = np.array([[0, 257, 256 * 128, 65535, 128, 129]], np.uint16)
    assert decode(file_of(Picture.fromarray(deep), format))[0, :, 0].tolist() == [0, 1, 128, 255, 0, 1]


def test_big_endian_deep_tiff_is_read_in_its_own_order() -> None:
    values = [0, 257, 65535, 514]
    pixels = struct.pack(">4H", *values)
    tags = [(256, 4), (257, 1), (258, 16), (259, 1), (262, 1), (273, 8), (277, 1), (278, 1), (279, 8)]
    head = b"MM\x00*" + struct.pack(">I", 16) + pixels
    directory = struct.pack(">H", len(tags)) + b"".join(struct.pack(">HHIHH", tag, 3, 1, v, 0) for tag, v in tags)
    assert decode(head + directory + bytes(4))[0, :, 0].tolist() == [0, 1, 255, 2]


def test_twelve_bit_tiff_uses_the_whole_range() -> None:
    tags = [(256, 2), (257, 1), (258, 12), (259, 1), (262, 1), (273, 8), (277, 1), (278, 1), (279, 3)]
    head = b"II*\x00" + struct.pack("<I", 12) + bytes([0xFF, 0xF0, 0x00]) + b"\x00"
    directory = struct.pack("<H", len(tags)) + b"".join(struct.pack("<HHIHH", tag, 3, 1, v, 0) for tag, v in tags)
    assert decode(head + directory + bytes(4))[0, :, 0].tolist() == [255, 0]


def test_float_and_32_bit_grey_have_no_known_range() -> None:
    for mode in ("I", "F"):
        with pytest.raises(ImageError, match="8 or 16"):
            decode(file_of(Picture.new(mode, (4, 4), 5), "TIFF"))


def test_transparency_is_laid_on_white() -> None:
    grey_alpha = Picture.new("LA", (4, 4), (10, 0))
    grey_alpha.putpixel((1, 0), (10, 255))
    image = decode(file_of(grey_alpha))
    assert image[0, :2, 0].tolist() == [255, 10]
    half = decode(file_of(Picture.new("RGBA", (2, 2), (0, 0, 0, 51))))
    assert half[0, 0].tolist() == [204, 204, 204]


@pytest.mark.parametrize("mode", ["L", "P", "RGBA", "RGB", "1"])
@pytest.mark.parametrize("shade", [(255, 255, 255), (35, 164, 54)])
def test_a_mask_marks_the_same_however_it_is_kept(mode: str, shade: tuple[int, int, int]) -> None:
    colours = np.zeros((6, 8, 3), np.uint8)
    colours[1:3, 2:5] = shade
    drawn = Picture.fromarray(colours)
    if mode == "RGBA":
        drawn.putalpha(Picture.fromarray(np.where(colours.any(axis=2), 255, 0).astype(np.uint8)))
    else:
        drawn = drawn.quantize(2) if mode == "P" else drawn.convert(mode, dither=Picture.Dither.NONE)
    if mode == "P":
        palette = drawn.getpalette() or []
        drawn.info["transparency"] = bytes(255 if any(palette[3 * i : 3 * i + 3]) else 0 for i in range(2))
    if mode == "1":
        drawn = Picture.fromarray(colours.any(axis=2))
    np.testing.assert_array_equal(decode_mask(file_of(drawn)), colours.any(axis=2))


def test_a_mask_of_nothing_marks_nothing() -> None:
    assert not decode_mask(file_of(Picture.new("L", (5, 4)))).any()
    assert not decode_mask(file_of(Picture.new("RGBA", (5, 4)))).any()


def test_the_masks_of_real_defects_mark_the_lesser_part() -> None:
    if (data := os.environ.get("DRIFTLINE_TEST_DATA")) is None:
        pytest.skip("set DRIFTLINE_TEST_DATA to the folder of real images")
    files = sorted(Path(data).glob("*/ground_truth/*/*_mask.png"))
    shares = [float(decode_mask(file.read_bytes()).mean()) for file in files[::5]]
    assert len(shares) > 50
    assert 0 < min(shares) <= max(shares) < 0.7


def test_palette_and_bilevel_become_rgb() -> None:
    palette = Picture.fromarray(np.full((4, 4, 3), (255, 0, 0), np.uint8)).quantize(2)
    assert decode(file_of(palette))[0, 0].tolist() == [255, 0, 0]
    assert decode(file_of(Picture.new("1", (4, 4), 1)))[0, 0].tolist() == [255, 255, 255]


def test_exif_rotation_is_applied() -> None:
    exif = Picture.Exif()
    exif[0x0112] = 6
    data = file_of(Picture.fromarray(RGB), "PNG", exif=exif)
    assert (decode(data) == np.rot90(RGB, -1)).all()


def test_statistics_of_known_images() -> None:
    half = np.zeros((64, 64, 3), np.uint8)
    half[:, 32:] = 200
    found = statistics(half)
    assert found.mean == 100.0
    assert found.contrast == 100.0
    edges = np.zeros((64, 64))
    edges[:, 31], edges[:, 32] = 200.0, -200.0
    assert found.sharpness == pytest.approx(edges.std())
    assert statistics(np.full((1, 1, 3), 3, np.uint8)).sharpness == 0.0


@pytest.mark.parametrize("shape", [(300, 400), (900, 700), (2, 5)])
def test_noise_is_measured_beside_a_slope_of_light(shape: tuple[int, int]) -> None:
    rng = np.random.default_rng(0)
    slope = np.linspace(60, 180, shape[1])[None, :, None]
    grey = slope + 6.0 * rng.standard_normal((*shape, 1))
    found = statistics(np.clip(np.round(grey), 0, 255).astype(np.uint8).repeat(3, axis=2))
    assert found.noise == pytest.approx(6.0 if shape[0] > 2 else 0.0, rel=0.05)
    assert (found.warmth, found.tint, found.saturated) == (0.0, 0.0, 0.0)


def test_statistics_of_a_large_image_are_those_of_its_averages() -> None:
    small = np.random.default_rng(1).integers(0, 255, (128, 256, 1), dtype=np.uint8).repeat(3, axis=2)
    large = small.repeat(4, axis=0).repeat(4, axis=1)
    of_large, of_small = statistics(large), statistics(small)
    assert (of_large.mean, of_large.contrast, of_large.sharpness) == (
        of_small.mean,
        of_small.contrast,
        of_small.sharpness,
    )
    assert of_large.saturated == pytest.approx(of_small.saturated, abs=0.01)
    assert statistics(np.zeros((1, 5000, 3), np.uint8)).mean == 0.0


@pytest.mark.parametrize("bad", [np.zeros((4, 4), np.uint8), np.zeros((4, 4, 3)), np.zeros((0, 4, 3), np.uint8)])
def test_arrays_that_are_no_image_are_refused(bad: NDArray[np.uint8]) -> None:
    with pytest.raises(InvalidInput, match="shape"):
        statistics(bad)
    with pytest.raises(InvalidInput, match="uint8"):
        encode_png(bad)


def test_jpeg_quality_has_limits() -> None:
    with pytest.raises(InvalidInput, match="1 to 95"):
        encode_jpeg(RGB, quality=100)
