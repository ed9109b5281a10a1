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
from streams.calibrating import FIELDS, OF_PARTS, suspicion

COVARIATE, SURGE, FAULT = "covariate_drift", "defect_surge", "camera_fault"
STEP, RAMP = "step", "ramp"

_MEDIAN_ERROR = 1.25
_MOVED, _SLIGHTLY_MOVED = 1.0, 0.5
FEWEST_FOR_PARTS = 32
LOCAL_MARGIN, MARGIN = 0.035, 0.015
_NOISE = 0.16
"""Suspicion of images: its standard deviation is 0.18 on tiles without a surge."""
_SURE = 2.0
_FEW = 8
_STEEP = 4.0


@dataclass(frozen=True)
class Finding:
    """What the images since a change say: `kinds` (one, or both at once), how sure (0 to 1), and in words why."""

    kinds: tuple[str, ...]
    confidence: float
    evidence: tuple[str, ...]


@dataclass(frozen=True)
class Measure:
    """One way to tell bad parts on a line that may have changed: the mean suspicion (0 to 1) of the images since, what is usual, and the
    limit beyond which it is no chance.
    """

    mean: float
    usual: float
    limit: float

    @classmethod
    def of(cls, z_T: Array, before_T: Array, *, usual: float, margin: float) -> "Measure":
        """From robust scores of the images since a change and before it. `usual`: by the reference, which counts as much as
        `FEWEST_FOR_PARTS` images of the line before the change.
        """
        known = usual * FEWEST_FOR_PARTS + float(suspicion(before_T).sum())
        usual = known / (FEWEST_FOR_PARTS + len(before_T))
        return cls(float(suspicion(z_T).mean()), usual, usual + margin + _NOISE / float(np.sqrt(len(z_T))))


@dataclass(frozen=True)
class Parts:
    """Whether parts got worse while the line itself may have changed: all measures must say so.

    Light that changes lifts the peaks of all parts and spreads them, so peaks alone tell nothing. A bad part stands out at one *place*
    against the rest of its own image, by the levels of the fields before the change and since (a smudge on the lens is at one place in
    all images), and its peak stands out against its bulk; a change of light seldom does all of that.
    """

    measures: tuple[Measure, ...]
    images: int

    @property
    def got_worse(self) -> bool:
        """Whether there are more bad parts than usual; few images can tell of none."""
        return self.images >= FEWEST_FOR_PARTS and all(each.mean > each.limit for each in self.measures)

    @property
    def confidence(self) -> float:
        """How sure that is, 0 to 1: by the measure that is least sure."""
        sure = min(_SURE * (each.mean - each.usual) / (each.limit - each.usual) for each in self.measures)
        return float(stats.norm.cdf(sure))

    @property
    def words(self) -> str:
        """The same for people."""
        times = min(each.mean / max(each.usual, 1e-9) for each in self.measures)
        return f"parts are {times:.1f} times as suspicious as usual"


def classify(names: tuple[str, ...], z_TS: Array, fired: str, parts: Parts) -> Finding:
    """The kind of a change that the signal `fired` told, from robust scores `(T, S)`, not clipped.

    A change of the line moves the *median* of its signals; a surge of bad parts leaves the median where it was. Signals of the line win
    where both would do: peaks rise with bulk when the light changes.
    """
    images = len(z_TS)
    median_S = np.median(z_TS, axis=0)
    of_line = np.array([name not in OF_PARTS for name in names])
    at = int(np.argmax(np.abs(median_S) * of_line))
    moved_by, error = abs(float(median_S[at])), _MEDIAN_ERROR / np.sqrt(images)
    needed = max(_SLIGHTLY_MOVED if fired not in OF_PARTS else _MOVED, 3 * error)
    moved = moved_by >= needed
    line_words = f"median of {names[at]} moved by {median_S[at]:+.1f} sd over {images} images"
    sure_moved = float(stats.norm.cdf((moved_by - needed / 2) / error))
    if moved and parts.got_worse:
        return Finding((COVARIATE, SURGE), min(sure_moved, parts.confidence), (line_words, parts.words))
    if moved or (fired not in OF_PARTS and not parts.got_worse):
        return Finding((COVARIATE,), sure_moved, (line_words,))
    still = f"no signal of the line moved by {needed:.1f} sd"
    words = (parts.words, still) if parts.got_worse else (f"{fired} rose and {still}",)
    return Finding((SURGE,), max(parts.confidence, 1 - sure_moved), words)


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
