"""What a line does to its images: light, focus, position, dirt, noise, and the jitter of a sensor.

The order follows the light: the part moves (`rotate_deg`, `shift_px`), the lens (`blur_px`, `smudge`), the lamp
(`light`), the camera's curve (`gamma`), the sensor (`noise`), and last rounding to 0..255. `blank` replaces the scene
by black before all of that.
"""

import math
from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from detectors.errors import InvalidInput
from detectors.images import Image

JITTER_GAIN = 0.02
"""Standard deviation of the gain drawn for an image at `jitter = 1`."""

JITTER_SHIFT_PX = 0.5
"""Largest shift in each direction drawn for an image at `jitter = 1`, uniform: below half a pixel either way."""

JITTER_NOISE = 1.0
"""Standard deviation in grey levels (of 255) of the noise drawn for an image at `jitter = 1`."""

_LIMITS = {
    "light": (0.0, 20.0),
    "gamma": (0.05, 20.0),
    "blur_px": (0.0, 100.0),
    "noise": (0.0, 255.0),
    "shift_px": (-10_000.0, 10_000.0),
    "rotate_deg": (-360.0, 360.0),
    "smudge": (0.0, 1.0),
    "jitter": (0.0, 10.0),
}

_Floats = NDArray[np.float32]


@dataclass(frozen=True, kw_only=True)
class Perturbation:
    """What is done to an image. The defaults do nothing; a value outside its range raises InvalidInput.

    `light`: gain; `gamma`: exponent on grey in 0..1 (above 1 darkens the middle); `blur_px`: standard deviation of a
    Gaussian; `noise`: standard deviation in grey levels, drawn anew for each image; `shift_px`: to the right;
    `rotate_deg`: counter-clockwise about the centre; `smudge`: share of the image that dirt on the lens covers, from
    its top left corner; `blank`: no scene, black; `jitter`: how much gain, position below a pixel and noise vary from
    image to image (1 is a gain of 2 %, half a pixel, one grey level).

    >>> Perturbation(light=1.2).is_identity, Perturbation().is_identity
    (False, True)
    """

    light: float = 1.0
    gamma: float = 1.0
    blur_px: float = 0.0
    noise: float = 0.0
    shift_px: float = 0.0
    rotate_deg: float = 0.0
    smudge: float = 0.0
    blank: bool = False
    jitter: float = 0.0

    def __post_init__(self) -> None:
        for name, (low, high) in _LIMITS.items():
            value = getattr(self, name)
            if not low <= value <= high:
                raise InvalidInput(f"{name} = {value}; it must lie in {low:g}..{high:g}: choose a value within")

    @property
    def is_identity(self) -> bool:
        """True where an image may be sent as it is."""
        return self == Perturbation()


PERTURBATION_KEYS = tuple(field.name for field in fields(Perturbation))
"""Names of what can be set, as in a scenario's phase."""


def interpolate(start: Perturbation, end: Perturbation, share: float) -> Perturbation:
    """What lies between two perturbations, linearly in every number; `share` in 0..1. `blank` is the nearer end's.

    >>> interpolate(Perturbation(), Perturbation(light=2.0, blur_px=1.0), 0.25)
    Perturbation(light=1.25, gamma=1.0, blur_px=0.25, noise=0.0, ..., jitter=0.0)
    """
    if not 0.0 <= share <= 1.0:
        raise InvalidInput(f"share = {share}; it must lie in 0..1: 0 is the start, 1 the end")
    if share in (0.0, 1.0):
        return end if share else start
    values = {name: (1.0 - share) * getattr(start, name) + share * getattr(end, name) for name in _LIMITS}
    return Perturbation(blank=end.blank if share >= 0.5 else start.blank, **values)


def apply(image_HWC: Image, perturbation: Perturbation, *, rng: np.random.Generator) -> Image:
    """The image as this line would have taken it; same shape, uint8 RGB. The caller's array is left alone.

    `rng` feeds noise and jitter only: without them the result does not depend on it.

    >>> image = np.full((4, 4, 3), 100, np.uint8)
    >>> int(apply(image, Perturbation(light=1.5), rng=np.random.default_rng(0)).max())
    150
    """
    if image_HWC.ndim != 3 or image_HWC.dtype != np.uint8:
        raise InvalidInput(f"image of shape {image_HWC.shape}, {image_HWC.dtype}; give (height, width, channels) uint8")
    if perturbation.is_identity:
        return image_HWC.copy()
    dx, dy, gain, noise = _draw(perturbation, rng)
    scene = np.zeros(image_HWC.shape, np.float32) if perturbation.blank else image_HWC.astype(np.float32)
    scene = _moved(scene, dx, dy, perturbation.rotate_deg)
    scene = _through_lens(scene, perturbation)
    scene = _exposed(scene, gain, perturbation.gamma)
    if noise > 0.0:
        scene = scene + rng.standard_normal(scene.shape[:2], dtype=np.float32)[:, :, None] * np.float32(noise)
    return np.clip(np.rint(scene), 0, 255).astype(np.uint8)


def _draw(perturbation: Perturbation, rng: np.random.Generator) -> tuple[float, float, float, float]:
    """Shift right, shift down, gain and noise of one image."""
    jitter = perturbation.jitter
    if jitter == 0.0:
        return perturbation.shift_px, 0.0, perturbation.light, perturbation.noise
    dx, dy = rng.uniform(-JITTER_SHIFT_PX, JITTER_SHIFT_PX, 2) * jitter
    gain = perturbation.light * max(0.0, 1.0 + JITTER_GAIN * jitter * rng.standard_normal())
    return perturbation.shift_px + dx, dy, gain, math.hypot(perturbation.noise, JITTER_NOISE * jitter)


def _moved(scene: _Floats, dx: float, dy: float, rotate_deg: float) -> _Floats:
    """Rotated counter-clockwise about the centre, then shifted; cubic splines; the border repeats its mirror image."""
    if dx == 0.0 and dy == 0.0 and rotate_deg == 0.0:
        return scene
    cos, sin = math.cos(math.radians(rotate_deg)), math.sin(math.radians(rotate_deg))
    inverse = np.array([[cos, sin], [-sin, cos]])  # (row, column) of the result -> of the scene
    centre = (np.array(scene.shape[:2]) - 1) / 2
    offset = centre - inverse @ (centre + np.array([dy, dx]))
    grey = bool((scene == scene[:, :, :1]).all())
    channels = [
        ndimage.affine_transform(
            scene[:, :, channel], inverse, offset=offset, order=3, mode="reflect", output=np.float32
        )
        for channel in range(1 if grey else scene.shape[2])
    ]
    return np.stack(channels * scene.shape[2] if grey else channels, axis=2)


def _through_lens(scene: _Floats, perturbation: Perturbation) -> _Floats:
    if perturbation.blur_px > 0.0:
        scene = _blurred(scene, perturbation.blur_px)
    if perturbation.smudge > 0.0:
        mask = _corner_mask(scene.shape[:2], perturbation.smudge)[:, :, None]
        haze = 0.6 * _blurred(scene, 0.03 * min(scene.shape[:2])) + 35.0
        scene = scene * (1 - mask) + haze * mask
    return scene


def _blurred(scene: _Floats, sigma_px: float) -> _Floats:
    blurred: _Floats = ndimage.gaussian_filter(scene, (sigma_px, sigma_px, 0), mode="reflect")
    return blurred


def _corner_mask(shape: tuple[int, ...], share: float) -> _Floats:
    """1 within a quarter of an ellipse at the top left that covers `share` of the image, softly 0 outside."""
    y, x = (np.arange(side, dtype=np.float32) + 0.5 for side in shape)
    distance = np.hypot(y[:, None] / shape[0], x[None, :] / shape[1])
    radius = math.sqrt(4.0 * share / math.pi)
    mask: _Floats = np.clip((radius - distance) / (0.1 * radius) + 0.5, 0.0, 1.0).astype(np.float32)
    return mask


def _exposed(scene: _Floats, gain: float, gamma: float) -> _Floats:
    if gain != 1.0:
        scene = scene * np.float32(gain)
    if gamma != 1.0:
        scene = 255.0 * np.clip(scene / 255.0, 0.0, 1.0) ** np.float32(gamma)
    return scene
