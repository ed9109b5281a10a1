"""What a change is: of the line, of its parts, or of both; how sure; a step or a ramp; and where in the image.

Pure functions of the images since the change, as robust scores.

Shape legend: T images since the change, S signals.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from detectors.maps import REGIONS
from streams.bootstrap import Array
from streams.calibrating import FIELDS, OF_PARTS, PEAK

COVARIATE, SURGE, FAULT = "covariate_drift", "defect_surge", "camera_fault"
STEP, RAMP = "step", "ramp"

_MEDIAN_ERROR = 1.25
_MOVED, _SLIGHTLY_MOVED = 1.0, 0.5
_BAD_TAIL, _BAD_SHARE, _BAD_SHARE_BY_CHANCE = 2.0, 0.12, 0.09
_SURE = 0.01
_FEW = 8
_STEEP = 4.0


@dataclass(frozen=True)
class Finding:
    """What the images since a change say: `kinds` (one, or both at once), how sure (0 to 1), and in words why."""

    kinds: tuple[str, ...]
    confidence: float
    evidence: tuple[str, ...]


def classify(names: tuple[str, ...], z_TS: Array, fired: str) -> Finding:
    """The kind of a change that the signal `fired` told, from robust scores `(T, S)`, not clipped.

    A change of the line moves the *median* of its signals; a surge of bad parts leaves the median where it was and
    puts more images than the line ever had far above it. Signals of the line win where both would do: peaks rise with
    bulk when the light changes.
    """
    images = len(z_TS)
    median_S = np.median(z_TS, axis=0)
    of_line = np.array([name not in OF_PARTS for name in names])
    at = int(np.argmax(np.abs(median_S) * of_line))
    moved_by, error = abs(float(median_S[at])), _MEDIAN_ERROR / np.sqrt(images)
    bad, chance = bad_parts(z_TS[:, names.index(PEAK)])
    surge = chance < _SURE and bad >= _BAD_SHARE * images
    needed = max(_SLIGHTLY_MOVED if fired not in OF_PARTS else _MOVED, 3 * error)
    moved = moved_by >= needed
    line_words = f"median of {names[at]} moved by {median_S[at]:+.1f} sd over {images} images"
    part_words = f"{bad} of {images} images far above the median of their peaks"
    sure_moved = float(stats.norm.cdf((moved_by - needed / 2) / error))
    if moved and surge:
        return Finding((COVARIATE, SURGE), min(sure_moved, 1 - chance), (line_words, part_words))
    if moved or (fired not in OF_PARTS and not surge):
        return Finding((COVARIATE,), sure_moved, (line_words,))
    words = part_words if surge else f"{fired} rose and no signal of the line moved by {needed:.1f} sd"
    return Finding((SURGE,), max(1 - chance, 1 - sure_moved), (words,))


def bad_parts(peak_z_T: Array) -> tuple[int, float]:
    """How many images lie far above the median of their peaks, and the chance of so many on a line that only drifted.

    Far is two of the spreads below the median, which bad parts do not widen (they lie above it).
    """
    median = float(np.median(peak_z_T))
    below = (median - float(np.percentile(peak_z_T, 15.87))) if len(peak_z_T) >= _FEW else 1.0
    bad = int((peak_z_T > median + _BAD_TAIL * max(1.0, below)).sum())
    return bad, float(stats.binom.sf(bad - 1, len(peak_z_T), _BAD_SHARE_BY_CHANCE))


def shape_of(z_T: Array) -> str:
    """Whether a signal rose over the images since its change (a ramp) or at once (a step).

    >>> shape_of(np.linspace(0, 3, 40)), shape_of(np.full(40, 3.0) + np.tile([-0.1, 0.1], 20))
    ('ramp', 'step')
    """
    if len(z_T) < _FEW:
        return STEP
    steepness = stats.linregress(np.arange(len(z_T)), z_T)
    steep = abs(steepness.slope) > _STEEP * max(float(steepness.stderr), 1e-9)
    return RAMP if steep and abs(steepness.slope) * len(z_T) > _MOVED else STEP


def drift_map(names: tuple[str, ...], z_TS: Array) -> tuple[float, ...]:
    """How far the bulk of each field of the image moved, in robust sd, row by row; empty where fields are not known."""
    if FIELDS[0] not in names:
        return ()
    first = names.index(FIELDS[0])
    return tuple(np.round(np.median(z_TS[:, first : first + len(FIELDS)], axis=0), 2).tolist())


def place_of(where: tuple[float, ...]) -> str:
    """The place of a change in words: fields that moved at least half as far as the one that moved most.

    >>> place_of((9.0, 8.0, 0.1, 0.0, 7.0, 6.0, 0.0, 0.3, *([0.2] * 8)))
    'top left'
    >>> place_of((2.0,) * 16)
    'everywhere'
    """
    if not where:
        return ""
    moved = np.abs(np.array(where)).reshape(REGIONS, REGIONS)
    rows, columns = np.nonzero(moved >= max(_MOVED, float(moved.max()) / 2))
    if len(rows) == 0:
        return "nowhere in particular"
    vertical, horizontal = _third(rows, ("top", "bottom")), _third(columns, ("left", "right"))
    if not vertical and not horizontal:
        return "everywhere" if len(rows) > REGIONS else "centre"
    return " ".join(filter(None, (vertical, horizontal)))


def _third(places: NDArray[np.int64], words: tuple[str, str]) -> str:
    """The half that all places lie in, or nothing."""
    if places.max() < REGIONS / 2:
        return words[0]
    return words[1] if places.min() >= REGIONS / 2 else ""
