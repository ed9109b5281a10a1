"""The watched signals as people read them: names and units in words, what one was on an image, and how far it moved."""

import re
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from dashboard.words import figure, share, short
from detectors.manifest import DriftReference
from detectors.maps import REGIONS
from streams.calibrating import FIELDS, NUMBERS, SUSPICION, Scale, floors, signal_table
from streams.messages import Verdict

FLAGGED = "flagged"
"""What incidents of versions before 0.6 tell of surges by; since then it is how suspicious images are."""
NAMES = {
    "peak": "the worst place of the parts",
    "bulk": "distance of whole images from normal",
    "mean": "brightness",
    "contrast": "contrast",
    "sharpness": "sharpness",
    "warmth": "colour (warm or cold)",
    "tint": "colour (tint)",
    "saturated": "black or blown-out pixels",
    "noise": "noise",
    "over": "area above the pixel threshold",
    FLAGGED: "flagged images",
    SUSPICION: "suspicious images",
}
_SHARES = frozenset({"saturated", "over", FLAGGED, SUSPICION})
_GREYS = frozenset({"mean", "contrast", "sharpness", "warmth", "tint", "noise"})
_FIELD = re.compile(r"bulk@r(\d+)c(\d+)")


def name_of(signal: str) -> str:
    """A signal in words.

    >>> name_of("mean"), name_of("bulk@r1c2")
    ('brightness', 'distance from normal in row 1, column 2 of the image')
    """
    field = _FIELD.fullmatch(signal)
    if field is not None:
        return f"distance from normal in row {field[1]}, column {field[2]} of the image"
    return NAMES.get(signal, short(signal, 40))


def unit_of(signal: str) -> str:
    """The unit of a signal's values.

    >>> unit_of("mean"), unit_of("flagged"), unit_of("bulk")
    ('grey levels', 'share', 'distance')
    """
    return "grey levels" if signal in _GREYS else "share" if signal in _SHARES else "distance"


def quantity(signal: str, value: float) -> str:
    """A value of a signal in its units.

    >>> quantity("mean", 117.6), quantity("flagged", 0.05)
    ('118', '5.0 %')
    """
    return share(value) if signal in _SHARES else figure(value)


def value_of(verdict: Verdict, signal: str) -> float | None:
    """What a signal was on an image; None where its verdict does not say."""
    if signal == FLAGGED:
        return float(verdict.flagged)
    if signal in FIELDS:
        regions = verdict.signals.regions
        return regions[FIELDS.index(signal)] if len(regions) == REGIONS**2 else None
    value: float | None = getattr(verdict.signals, signal) if signal in NUMBERS else None
    return value


def robust_z(values: Sequence[float], reference: DriftReference, signal: str) -> NDArray[np.float64] | None:
    """Values in robust standard deviations from the reference, as the drift watch has them; None where it lacks the signal.

    >>> reference = DriftReference(peak=(1.0, 2.0), bulk=(1.0, 3.0), mean=(), contrast=(), sharpness=())
    >>> robust_z([2.0], reference, "bulk"), robust_z([2.0], reference, "mean")
    (array([0.]), None)
    """
    columns = dict(zip(*signal_table(reference), strict=True))
    if not columns.get(signal):
        return None
    scale = Scale.of(np.asarray(columns[signal], dtype=np.float64), floors((signal,))[0])
    return scale.standard(np.asarray(values, dtype=np.float64))
