"""A part of the demo's line before anybody photographs it: a turned and knurled flange, as a height field with a tone.

Lengths are in pixels of the 320 x 320 image; heights too. Arrays: H x W, C colour channels.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

SIDE_PX = 320
RIM_PX = 140.0
KNURL_PX = 124.0
GROOVE_PX = 117.0
HOLE_CIRCLE_PX = 76.0
HOLE_PX = 12.0
HUB_PX = 50.0
BORE_PX = 25.0
HOLES = 6

_METAL = np.array([0.985, 1.0, 1.01], np.float32)

Plane = NDArray[np.float32]
Mask = NDArray[np.bool_]


@dataclass
class Part:
    """A part being made. Defects change `height`, `tone` (H x W x C), `metal` and `hole`; `mask` says where.

    `metal` and `hole` are coverages in 0..1: of the disc without its bore, of the bolt holes.
    """

    radius: Plane
    angle: Plane
    centre: tuple[float, float]
    rotation: float
    height: Plane
    tone: NDArray[np.float32]
    metal: Plane
    hole: Plane
    mask: Mask

    def at(self, radius: float, angle: float) -> tuple[float, float]:
        """Row and column of a place on the part."""
        turned = angle + self.rotation
        return self.centre[0] + radius * math.sin(turned), self.centre[1] + radius * math.cos(turned)

    def distance(self, radius: float, angle: float) -> Plane:
        """Distance of every pixel to a place on the part."""
        row, column = self.at(radius, angle)
        return distance_px(row, column)

    def dye(self, alpha: Plane, colour: NDArray[np.float32]) -> None:
        """Multiply the tone by `colour` where `alpha` is 1."""
        self.tone *= 1 - alpha[:, :, None] * (1 - colour)


class Textures:
    """The textures of a line, made once: tool marks, the grain of the casting, slow clouds of tone."""

    def __init__(self, rng: np.random.Generator) -> None:
        self.tool_marks = _texture(rng, (512, 1024), (0.7, 14.0))
        self._grain = _texture(rng, (640, 640), (1.1, 1.1))
        self._cloud = _texture(rng, (640, 640), (9.0, 9.0))

    def grain(self, rng: np.random.Generator) -> Plane:
        """A piece of casting grain as large as the image, from a random place; unit variance."""
        return _cut(self._grain, rng)

    def cloud(self, rng: np.random.Generator) -> Plane:
        """A piece of slow variation as large as the image, from a random place; unit variance."""
        return _cut(self._cloud, rng)


def good_part(textures: Textures, rng: np.random.Generator) -> Part:
    """A good part: where it lies and how it turned out."""
    centre = (SIDE_PX / 2 + rng.uniform(-4, 4), SIDE_PX / 2 + rng.uniform(-4, 4))
    rotation = rng.uniform(-math.pi, math.pi)
    y, x = (np.arange(SIDE_PX, dtype=np.float32) - np.float32(c) for c in centre)
    radius = np.hypot(x[None, :], y[:, None])
    angle = np.arctan2(y[:, None], x[None, :]) - np.float32(rotation)
    turned = np.clip((HUB_PX + 1 - radius) / 2, 0, 1) + np.clip((radius - 95) / 2, 0, 1)
    marks, grain = _marks(textures.tool_marks, radius, angle, rng), textures.grain(rng)
    tone = _tone(angle + np.float32(rotation), turned, marks, rng) + 3.0 * textures.cloud(rng)
    hole_distance = _hole_distance(radius, angle)
    return Part(
        radius=radius,
        angle=angle,
        centre=centre,
        rotation=rotation,
        height=grain * (1 - turned) * 0.5 + marks * turned * 0.25 + _relief(radius, angle, hole_distance),
        tone=tone[:, :, None] * _METAL,
        metal=np.clip(RIM_PX + 0.5 - radius, 0, 1) * np.clip(radius + 0.5 - BORE_PX, 0, 1),
        hole=np.clip(0.5 - hole_distance, 0, 1),
        mask=np.zeros(radius.shape, bool),
    )


def _tone(angle: Plane, turned: Plane, marks: Plane, rng: np.random.Generator) -> Plane:
    """Grey of the metal: darker where cast; where turned, tool marks and the two bright fans of the lamp on them."""
    fans = turned * 0.13 * np.cos(2 * (angle - np.float32(0.7 + rng.normal(0, 0.1))))
    tone = 128 + 24 * turned + 4.5 * marks * turned
    shaded: Plane = tone * (1 + fans)
    return shaded


def _marks(tool_marks: Plane, radius: Plane, angle: Plane, rng: np.random.Generator) -> Plane:
    """Marks of the tool around the axis: long along the turn, fine across it."""
    rows = (radius * 1.5).astype(np.int32) + rng.integers(0, 512)
    columns = (angle * np.float32(1024 / (2 * math.pi))).astype(np.int32) + rng.integers(0, 1024)
    marks: Plane = tool_marks[rows % 512, columns % 1024]
    return marks


def _cut(texture: Plane, rng: np.random.Generator) -> Plane:
    row, column = rng.integers(0, np.array(texture.shape) - SIDE_PX)
    return texture[row : row + SIDE_PX, column : column + SIDE_PX]


def _texture(rng: np.random.Generator, shape: tuple[int, int], sigma: tuple[float, float]) -> Plane:
    """Smooth random texture that tiles, zero mean, unit variance."""
    noise = ndimage.gaussian_filter(rng.standard_normal(shape), sigma, mode="wrap")
    texture: Plane = ((noise - noise.mean()) / noise.std()).astype(np.float32)
    return texture


def distance_px(row: float, column: float) -> Plane:
    """Distance of every pixel to a place in the image."""
    y, x = np.ogrid[:SIDE_PX, :SIDE_PX]
    return np.hypot((y - row).astype(np.float32), (x - column).astype(np.float32))


def _hole_distance(radius: Plane, angle: Plane) -> Plane:
    """Signed distance to the edge of the nearest bolt hole, negative within."""
    period = np.float32(2 * math.pi / HOLES)
    folded = angle - period * np.rint(angle / period)
    distance: Plane = np.hypot(radius * np.cos(folded) - HOLE_CIRCLE_PX, radius * np.sin(folded)) - np.float32(HOLE_PX)
    return distance


def _relief(radius: Plane, angle: Plane, hole_distance: Plane) -> Plane:
    """Height of a perfect part: hub, graduation, groove, knurl, chamfers."""
    hub = 3.0 * np.clip((HUB_PX - radius) / 4, 0, 1)
    step = 2.0 * np.clip((radius - 92) / 3, 0, 1)
    groove = -3.0 * np.exp(-(((radius - GROOVE_PX) / 1.8) ** 2))
    turns, twist = angle * np.float32(96), (radius - RIM_PX) * np.float32(0.75)
    knurl = 0.9 * (np.cos(turns + twist) + np.cos(turns - twist)) * np.clip((radius - KNURL_PX) / 2, 0, 1)
    chamfer = -2.5 * np.clip((3.0 - hole_distance) / 3, 0, 1) - 3.0 * np.clip((BORE_PX + 4 - radius) / 4, 0, 1)
    bevel = -4.0 * np.clip((radius - RIM_PX + 3) / 3, 0, 1)
    height: Plane = hub + step + groove + knurl + chamfer + bevel + _graduation(radius, angle)
    return height


def _graduation(radius: Plane, angle: Plane) -> Plane:
    """Engraved ticks, 90 around, every fifth longer."""
    period = 2 * math.pi / 90
    number = np.rint(angle / np.float32(period))
    across = (angle - number * np.float32(period)) * radius
    inner = np.where(number.astype(np.int32) % 5 == 0, np.float32(99), np.float32(104))
    along = np.clip(radius - inner, 0, 1) * np.clip(111 - radius, 0, 1)
    ticks: Plane = -1.6 * np.exp(-((across / 1.0) ** 2)) * along
    return ticks
