"""How parts of the demo's line go wrong: each kind changes height, tone or outline of a part and marks where."""

import math
from collections.abc import Callable

import numpy as np
from PIL import Image as Picture
from PIL import ImageDraw
from scipy import ndimage

from streams.rendered_part import HOLE_CIRCLE_PX, HOLE_PX, HOLES, KNURL_PX, RIM_PX, SIDE_PX, Part, Plane, Textures

_OIL = np.array([0.62, 0.52, 0.38], np.float32)


def _drawn(points: list[tuple[float, float]], width_px: float) -> Plane:
    """Coverage in 0..1 of a line through points (row, column)."""
    picture = Picture.new("L", (4 * SIDE_PX, 4 * SIDE_PX))
    places = [(4 * column + 2, 4 * row + 2) for row, column in points]
    ImageDraw.Draw(picture).line(places, fill=255, width=max(1, round(4 * width_px)), joint="curve")
    return np.asarray(picture.reduce(4), np.float32) / np.float32(255)


def _scratch(part: Part, _textures: Textures, rng: np.random.Generator) -> None:
    """A long shallow scratch with a raised lip, across the face."""
    angle, radius = rng.uniform(-math.pi, math.pi), rng.uniform(58, 104)
    row, column = part.at(radius, angle)
    heading, bend = rng.uniform(-math.pi, math.pi), rng.normal(0, 0.008)
    points = [(row, column)]
    for _ in range(int(rng.integers(28, 48))):
        heading += bend
        row, column = row + 2 * math.sin(heading), column + 2 * math.cos(heading)
        points.append((row, column))
    cut = _drawn(points, rng.uniform(2.0, 2.8))
    part.height += 1.6 * ndimage.gaussian_filter(cut, 1.5) - 3.2 * cut
    part.tone += (cut * 50 * part.metal)[:, :, None]
    part.mask |= (cut * part.metal) > 0.3


def _crack(part: Part, _textures: Textures, rng: np.random.Generator) -> None:
    """A jagged crack that starts at the edge of a bolt hole and forks."""
    hole = int(rng.integers(HOLES)) * 2 * math.pi / HOLES
    outward = rng.choice([0.0, math.pi]) + rng.normal(0, 0.5)
    row, column = part.at(
        HOLE_CIRCLE_PX + (HOLE_PX - 1) * math.cos(outward), hole + (HOLE_PX - 1) * math.sin(outward) / HOLE_CIRCLE_PX
    )
    heading = hole + part.rotation + outward
    trunk = _walk(row, column, heading, 14, rng)
    fork = _walk(*trunk[7], heading + rng.choice([-0.8, 0.8]), 7, rng)
    cut = np.maximum(_drawn(trunk, 1.9), _drawn(fork, 1.2))
    part.height -= 2.5 * cut
    part.dye(cut, np.full(3, 0.22, np.float32))
    part.mask |= (cut * part.metal) > 0.3


def _walk(row: float, column: float, heading: float, steps: int, rng: np.random.Generator) -> list[tuple[float, float]]:
    points = [(row, column)]
    for turn in rng.normal(0, 0.6, steps):
        row, column = row + 3 * math.sin(heading + turn), column + 3 * math.cos(heading + turn)
        points.append((row, column))
    return points


def _dent(part: Part, _textures: Textures, rng: np.random.Generator) -> None:
    """A round dent from something that fell on the face, with a wall around it."""
    ratio = part.distance(rng.uniform(58, 108), rng.uniform(-math.pi, math.pi)) / rng.uniform(7.0, 9.5)
    part.height += np.float32(rng.uniform(14.0, 18.0)) * (
        0.25 * np.exp(-((ratio - 1.5) ** 2) * 6) - np.exp(-(ratio**2))
    )
    part.dye(0.65 * np.exp(-(ratio**2)), np.zeros(3, np.float32))
    part.mask |= (ratio < 1.5) & (part.metal > 0.5)


def _stain(part: Part, textures: Textures, rng: np.random.Generator) -> None:
    """A film of burnt oil with a ragged edge."""
    ratio = part.distance(rng.uniform(52, 105), rng.uniform(-math.pi, math.pi)) / rng.uniform(13.0, 20.0)
    depth = 1.0 - ratio + 0.28 * textures.cloud(rng)
    film = np.clip(depth * 5, 0, 1)
    part.dye(film * 0.62, _OIL)
    part.dye(np.clip(film * (1 - film) * 4, 0, 1) * 0.35, _OIL)
    part.mask |= (film * part.metal) > 0.3


def _chip(part: Part, textures: Textures, rng: np.random.Generator) -> None:
    """A piece broken off the knurled rim; the fracture is rough and bright."""
    away = part.distance(RIM_PX + 2, rng.uniform(-math.pi, math.pi)) + 1.6 * textures.cloud(rng)
    size = rng.uniform(9.0, 14.0)
    fracture = np.clip(size + 5 - away, 0, 1)
    part.height += fracture * (2.2 * textures.grain(rng) - part.height)
    part.tone += (fracture * 30)[:, :, None]
    part.metal *= np.clip(away - size + 0.5, 0, 1)
    part.mask |= (fracture > 0.3) & (part.radius < RIM_PX)


def _plugged(part: Part, textures: Textures, rng: np.random.Generator) -> None:
    """A bolt hole full of swarf."""
    away = part.distance(HOLE_CIRCLE_PX, int(rng.integers(HOLES)) * 2 * math.pi / HOLES)
    fill = np.clip(HOLE_PX + 2 - away, 0, 1) * np.clip(2.5 + textures.cloud(rng), 0, 1)
    part.hole *= 1 - fill
    part.height += fill * 2.4 * textures.grain(rng)
    part.tone += (fill * (14 * textures.grain(rng) - 22))[:, :, None]
    part.mask |= fill > 0.3


def _chatter(part: Part, _textures: Textures, rng: np.random.Generator) -> None:
    """Waves that a trembling tool left across the turned face."""
    middle = rng.uniform(-math.pi, math.pi)
    away = np.abs((part.angle - np.float32(middle) + math.pi) % (2 * math.pi) - math.pi)
    where = np.clip((rng.uniform(0.28, 0.42) - away) * 12, 0, 1) * np.clip((part.radius - 95) / 2, 0, 1)
    where *= np.clip((KNURL_PX - 2 - part.radius) / 2, 0, 1)
    part.height += 1.4 * where * np.cos(part.angle * np.float32(150) + 0.5 * part.radius)
    part.mask |= where > 0.5


DEFECTS: dict[str, Callable[[Part, Textures, np.random.Generator], None]] = {
    "scratch": _scratch,
    "crack": _crack,
    "dent": _dent,
    "stain": _stain,
    "chip": _chip,
    "plugged": _plugged,
    "chatter": _chatter,
}
"""Kinds of defect and how each is made."""
