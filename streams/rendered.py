"""The demo's line, rendered by the program: flanges on a woven belt, every one a little different, some broken.

A part is a height field lit from the upper left, so that a dent or a scratch shines and shades as one would. Pose,
tool marks, grain, tone and lamp vary from part to part by more than any defect does to the grey of a pixel: neither
mean grey nor the difference to a mean image finds the defects.
"""

import json
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from glob import escape
from itertools import cycle
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from detectors.errors import InvalidInput
from detectors.images import Image, encode_jpeg
from streams.camera import IMAGE_SUFFIXES
from streams.rendered_defects import DEFECTS
from streams.rendered_part import RIM_PX, SIDE_PX, Mask, Part, Plane, Textures, distance_px, good_part

_BELT = np.array([0.8, 0.95, 1.1], np.float32)
_LAMP = (-0.6, -0.8)
_RELIEF = 0.32


class RenderedLine:
    """A line that can be had anywhere: image `index` of seed `seed` is always the same.

    >>> line = RenderedLine(seed=7)
    >>> line.image(0).shape
    (320, 320, 3)
    >>> bool((line.image(3) == RenderedLine(seed=7).image(3)).all()), bool((line.image(3) == line.image(4)).all())
    (True, False)
    """

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._textures = Textures(np.random.default_rng([seed, 0]))

    def image(self, index: int, *, defect: str | None = None, light: float = 1.0) -> Image:
        """Part `index` as the camera sees it, uint8 RGB; `defect` is one of DEFECTS; `light` the gain of the lamp.

        Raises InvalidInput for a defect nobody knows.
        """
        return self.image_and_mask(index, defect=defect, light=light)[0]

    def image_and_mask(self, index: int, *, defect: str | None = None, light: float = 1.0) -> tuple[Image, Mask]:
        """The image, and which of its pixels the defect changed (none on a good part)."""
        if defect is not None and defect not in DEFECTS:
            raise InvalidInput(f"defect {defect!r}; there are {', '.join(DEFECTS)}")
        rng = np.random.default_rng([self._seed, 1, index])
        part = good_part(self._textures, rng)
        if defect is not None:
            DEFECTS[defect](part, self._textures, np.random.default_rng([self._seed, 2, index]))
        return _photograph(part, self._textures.grain(rng), light, rng), part.mask


def _photograph(part: Part, grain: Plane, light: float, rng: np.random.Generator) -> Image:
    slope_y, slope_x = np.gradient(ndimage.gaussian_filter(part.height, 0.5))
    shade = np.clip(1.0 + _RELIEF * (_LAMP[0] * slope_y + _LAMP[1] * slope_x), 0.3, 1.7)
    scene = _belt(part, grain, rng)
    scene += (part.tone * shade[:, :, None] - scene) * part.metal[:, :, None]
    scene += (_depth(part.hole)[:, :, None] - scene) * part.hole[:, :, None]
    lamp = light * rng.normal(1.0, 0.04)
    scene *= lamp * _uneven(rng)[:, :, None]
    scene += rng.standard_normal(scene.shape[:2], dtype=np.float32)[:, :, None] * np.float32(1.3)
    return np.clip(np.rint(scene), 0, 255).astype(np.uint8)


def _depth(hole: Plane) -> Plane:
    """Grey within the bolt holes: dark, the wall towards the lower right lit."""
    bottom = np.roll(hole, (-4, -4), (0, 1))
    depth: Plane = 21 + 50 * (1 - ndimage.uniform_filter(bottom, 3))
    return depth


def _belt(part: Part, grain: Plane, rng: np.random.Generator) -> NDArray[np.float32]:
    """The woven belt under the part, with the part's shadow."""
    y, x = (np.arange(SIDE_PX, dtype=np.float32) + np.float32(shift) for shift in rng.uniform(0, 14, 2))
    warp, weft = np.sin(x * np.float32(2 * math.pi / 7))[None, :], np.sin(y * np.float32(2 * math.pi / 7))[:, None]
    over = ((x // 7).astype(np.int32)[None, :] + (y // 7).astype(np.int32)[:, None]) & 1
    weave = 46 + 9 * np.where(over > 0, np.abs(warp), np.abs(weft)) + 2.5 * grain
    shadow = np.clip((RIM_PX + 14 - distance_px(part.centre[0] + 7, part.centre[1] + 9)) / 16, 0, 1)
    belt: NDArray[np.float32] = (weave * (1 - 0.6 * shadow))[:, :, None] * _BELT
    return belt


def _uneven(rng: np.random.Generator) -> Plane:
    """Lamp over the image: a slope of a few per cent in a random direction and darker corners."""
    slope = rng.normal(0, 0.035, 2)
    y, x = (np.linspace(-1, 1, SIDE_PX, dtype=np.float32) for _ in range(2))
    plane: Plane = (
        1
        + np.float32(slope[0]) * y[:, None]
        + np.float32(slope[1]) * x[None, :]
        - 0.06 * (x[None, :] ** 2 + y[:, None] ** 2)
    )
    return plane


@dataclass(frozen=True)
class _Act:
    """A phase of the demo. `change` is what the line does to its images, in the words of a scenario."""

    name: str
    images: int
    bad_rate: float
    settle: bool
    change: str = ""

    @property
    def bad_images(self) -> int:
        return round(self.images * self.bad_rate)


_LIGHT = "light = 1.25\ngamma = 0.9\nblur_px = 0.7\n"
_STORY = (
    _Act("bootstrap", 60, 0.05, True),
    _Act("steady", 100, 0.04, False),
    _Act("step", 100, 0.04, True, _LIGHT),
    _Act("after", 60, 0.05, False, _LIGHT),
)
DEMO_RATE = 4
FEWEST_IMAGES = 20
"""Images that a folder must hold to tell the story with it."""


def write_demo(folder: Path, *, seed: int = 7, progress: Callable[[int, int], None] | None = None) -> str:
    """Render the demo's images into `good/` and `bad/` of `folder` (320, about 30 ms each); returns its scenario.

    No image comes in two phases. Save the text in `folder`: its globs are relative to it. `progress` is told how many
    images of how many are there.
    """
    line = RenderedLine(seed)
    wanted = list(_demo_images())
    for name in ("good", "bad"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    for index, (path, defect) in enumerate(wanted):
        (folder / path).write_bytes(encode_jpeg(line.image(index, defect=defect)))
        if progress is not None:
            progress(index + 1, len(wanted))
    phases = [
        _phase_text(act, good=[f"good/{act.name}-*.jpg"], bad=[f"bad/{act.name}-*.jpg"], images=act.images)
        for act in _STORY
    ]
    return _scenario_text("demo", seed, phases)


def scenario_for_folder(folder: Path, *, seed: int = 7) -> str:
    """The same story told with the images of a folder (and the folders in it), all taken as good; returns the scenario.

    Every other image is trained on and the rest judged first, as on the rendered line. `bootstrap` is cut to the
    images there are, so that the first model meets none twice; the other phases go round again, with jitter. Raises
    InvalidInput for fewer than FEWEST_IMAGES.
    """
    found = sorted(
        path.relative_to(folder).as_posix()
        for path in folder.rglob("*")
        if path.is_file() and path.suffix.lower().lstrip(".") in IMAGE_SUFFIXES
    )
    if len(found) < FEWEST_IMAGES:
        raise InvalidInput(
            f"{folder} holds {len(found)} images; the demo needs {FEWEST_IMAGES}: give a folder with more"
        )
    halves = {"bootstrap": found[::2], "after": found[::2], "steady": found[1::2], "step": found[1::2]}
    phases = []
    for act in _STORY:
        images = min(act.images, len(halves[act.name])) if act.name == "bootstrap" else act.images
        calm = replace(act, bad_rate=0.0, change=act.change + "jitter = 0.3\n")
        phases.append(_phase_text(calm, good=[escape(path) for path in halves[act.name]], bad=[], images=images))
    return _scenario_text("demo", seed, phases, root=str(folder.absolute()))


def _demo_images() -> Iterator[tuple[str, str | None]]:
    """Relative path and defect of every image of the demo."""
    kinds = cycle(DEFECTS)
    for act in _STORY:
        for number in range(act.images - act.bad_images):
            yield f"good/{act.name}-{number:03d}.jpg", None
        for number in range(act.bad_images):
            kind = next(kinds)
            yield f"bad/{act.name}-{number:03d}-{kind}.jpg", kind


def _phase_text(act: _Act, *, good: list[str], bad: list[str], images: int) -> str:
    return (
        f'[[phase]]\nname = "{act.name}"\ngood = {_toml(good)}\nbad = {_toml(bad)}\nbad_rate = {act.bad_rate}\n'
        f"images = {images}\nsettle = {_toml(act.settle)}\n{act.change}"
    )


def _scenario_text(line: str, seed: int, phases: list[str], *, root: str | None = None) -> str:
    head = f'line = "{line}"\nseed = {seed}\nrate = {DEMO_RATE}\nstart = "blind"\n'
    return "\n".join([head + (f"root = {_toml(root)}\n" if root is not None else ""), *phases])


def _toml(value: str | list[str] | bool) -> str:
    """JSON strings, lists and booleans are TOML too; a dollar is doubled, because a scenario expands variables."""
    return json.dumps(value, ensure_ascii=False).replace("$", "$$")
