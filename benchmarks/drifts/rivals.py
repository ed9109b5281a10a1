"""The monitor and what it is measured against, behind one call: an image's signals in, the alarms it raises out.

No rival tells kinds of change apart: each of their alarms counts as covariate drift. Those that watch z-scores come
twice: on the image score alone, and on five signals, each watched by itself.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Protocol

import numpy as np
from drifts.lines import DRIFT
from drifts.tables import PLAIN, Floats, reference, signals
from numpy.typing import NDArray
from river import drift
from scipy.stats import ks_2samp

from streams.alarms import Alarm
from streams.calibrating import Calibration, calibrate, reference_table
from streams.classifying import place_of
from streams.drift import LineMonitor
from streams.messages import Signals

PEAK_ONLY: Sequence[int] = (PLAIN.index("peak"),)
FIVE: Sequence[int] = tuple(PLAIN.index(name) for name in ("peak", "bulk", "mean", "contrast", "sharpness"))
OURS = "Driftline"


@dataclass(frozen=True)
class Raised:
    """An alarm: what kind of change it says, and where in the image, where it says so."""

    kind: str
    where: str = ""


ALARM = Raised(DRIFT)


class Watcher(Protocol):
    """What watches a line."""

    def update(self, image: int, row_S: Floats, flagged: bool) -> Sequence[Raised]:
        """Take one image in; the alarms it raises."""


Start = Callable[[Floats, int], Watcher]
"""A watcher from a reference, `(R, S)`, and a seed."""


def raised(alarms: Sequence[Alarm]) -> Sequence[Raised]:
    """What `LineMonitor.update` returned."""
    return [Raised(alarm.kind, place_of(alarm.where)) for alarm in alarms]


@lru_cache(maxsize=16)
def _calibrated(known: bytes, shape: tuple[int, int]) -> Calibration:
    """The calibration that is stored with a version: lines under one model share it."""
    names, table_NS = reference_table(reference(np.frombuffer(known).reshape(shape)))
    return calibrate(names, table_NS, seed=0)


class Ours:
    """Driftline's monitor."""

    def __init__(self, reference_RS: Floats, seed: int, *, expected_run_length: int) -> None:
        known = _calibrated(reference_RS.tobytes(), reference_RS.shape)
        self._monitor = LineMonitor(reference(reference_RS), expected_run_length=expected_run_length, calibration=known)

    def update(self, image: int, row_S: Floats, flagged: bool) -> Sequence[Raised]:
        """Alarms of the monitor."""
        return self.take(str(image), signals(row_S), flagged)

    def take(self, image_id: str, given: Signals, flagged: bool) -> Sequence[Raised]:
        """The same, of signals as they come in a verdict."""
        return raised(self._monitor.update(image_id, given))


class Detectors:
    """Detectors of river, one a watched column, on z-scores of the reference or on the values as they are."""

    def __init__(
        self, reference_RS: Floats, seed: int, *, make: Callable[[int], Any], columns: Sequence[int], raw: bool = False
    ) -> None:
        self._columns = list(columns)
        known_RS = reference_RS[:, self._columns]
        self._centre_S, self._spread_S = (np.zeros(1), np.ones(1)) if raw else robust_moments(known_RS)
        self._detectors = [make(seed) for _ in columns]

    def update(self, image: int, row_S: Floats, flagged: bool) -> Sequence[Raised]:
        """An alarm where any detector sees drift. river's detectors start anew by themselves."""
        seen = False
        for detector, z in zip(self._detectors, (row_S[self._columns] - self._centre_S) / self._spread_S, strict=True):
            detector.update(float(z))
            seen = seen or detector.drift_detected
        return (ALARM,) if seen else ()


class Cusum:
    """Two-sided CUSUM of z-scores; after an alarm all sums start at nothing. Source: Page, Biometrika 41 (1954)."""

    def __init__(
        self, reference_RS: Floats, seed: int, *, columns: Sequence[int], slack: float = 0.5, limit: float = 5.0
    ) -> None:
        self._columns, self._slack, self._limit = list(columns), slack, limit
        self._centre_S, self._spread_S = robust_moments(reference_RS[:, self._columns])
        self._sums_2S = np.zeros((2, len(columns)))

    def update(self, image: int, row_S: Floats, flagged: bool) -> Sequence[Raised]:
        """An alarm where a sum exceeds the limit."""
        z_S = (row_S[self._columns] - self._centre_S) / self._spread_S
        self._sums_2S = np.maximum(self._sums_2S + np.stack((z_S, -z_S)) - self._slack, 0.0)
        if self._sums_2S.max() <= self._limit:
            return ()
        self._sums_2S[:] = 0.0
        return (ALARM,)


class KolmogorovSmirnov:
    """A two-sample test of the last whole window against the reference, as Evidently's data drift does it.

    Evidently takes this test for numerical columns while the reference has at most 1,000 rows, calls a column drifted
    at p < 0.05 and the data where half of the columns have (https://docs-old.evidentlyai.com/reference/data-drift-algorithm).
    Where windows begin is drawn from the seed: a change may fall anywhere in one.
    """

    def __init__(
        self, reference_RS: Floats, seed: int, *, columns: Sequence[int], window: int = 100, share: float = 0.5
    ) -> None:
        self._columns, self._share = list(columns), share
        self._reference_RS = reference_RS[:, self._columns]
        self._window_images = window
        self._left_out = int(np.random.default_rng(seed).integers(window))
        self._recent: list[Floats] = []

    def update(self, image: int, row_S: Floats, flagged: bool) -> Sequence[Raised]:
        """An alarm at the end of a window that has drifted."""
        if image < self._left_out:
            return ()
        self._recent.append(row_S[self._columns])
        if len(self._recent) < self._window_images:
            return ()
        recent_WS = np.array(self._recent)
        self._recent.clear()
        pairs = zip(self._reference_RS.T, recent_WS.T, strict=True)
        drifted = [ks_2samp(known_R, recent_W, method="asymp").pvalue < 0.05 for known_R, recent_W in pairs]
        return (ALARM,) if np.mean(drifted) >= self._share else ()


class Always:
    """Alarms on every image: the earliest there is."""

    def update(self, image: int, row_S: Floats, flagged: bool) -> Sequence[Raised]:
        """An alarm."""
        return (ALARM,)


def robust_moments(known_RS: Floats) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Median and 1.4826 x median absolute deviation of each column; where that is 0, the standard deviation or 1."""
    centre_S = np.median(known_RS, axis=0)
    spread_S = 1.4826 * np.median(np.abs(known_RS - centre_S), axis=0)
    spread_S = np.where(spread_S > 0, spread_S, known_RS.std(axis=0))
    return centre_S, np.where(spread_S > 0, spread_S, 1.0)


def watchers(expected_run_length: int) -> Mapping[str, Start]:
    """Every method by its name in the tables; ours first."""
    known_to_river: Any = drift  # untyped
    pages, windows = (lambda _: known_to_river.PageHinkley()), (lambda _: known_to_river.ADWIN())
    return {
        OURS: lambda known, seed: Ours(known, seed, expected_run_length=expected_run_length),
        "river ADWIN, raw peak": lambda known, seed: Detectors(known, seed, make=windows, columns=PEAK_ONLY, raw=True),
        "river Page-Hinkley, raw peak": lambda known, seed: Detectors(
            known, seed, make=pages, columns=PEAK_ONLY, raw=True
        ),
        KSWIN: lambda known, seed: Detectors(
            known, seed, make=lambda each: known_to_river.KSWIN(seed=each), columns=PEAK_ONLY, raw=True
        ),
        "CUSUM, z of peak": lambda known, seed: Cusum(known, seed, columns=PEAK_ONLY),
        "CUSUM, z of five": lambda known, seed: Cusum(known, seed, columns=FIVE),
        "Page-Hinkley, z of peak": lambda known, seed: Detectors(known, seed, make=pages, columns=PEAK_ONLY),
        "Page-Hinkley, z of five": lambda known, seed: Detectors(known, seed, make=pages, columns=FIVE),
        "ADWIN, z of peak": lambda known, seed: Detectors(known, seed, make=windows, columns=PEAK_ONLY),
        "ADWIN, z of five": lambda known, seed: Detectors(known, seed, make=windows, columns=FIVE),
        "KS window, peak": lambda known, seed: KolmogorovSmirnov(known, seed, columns=PEAK_ONLY),
        "KS window, five": lambda known, seed: KolmogorovSmirnov(known, seed, columns=FIVE),
        "always alarm": lambda *_: Always(),
    }


KSWIN = "river KSWIN, raw peak"
"""Costs half a millisecond an image: it sees fewer of the stationary images."""
