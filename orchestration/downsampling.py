"""Long series as bands that can be drawn: least, median and greatest value of each span of time, in one pass."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Band:
    """A series by bins: the middle of each bin in time, and what its values were; bins without values are absent."""

    at: Array
    low: Array
    median: Array
    high: Array


class Bins:
    """Takes in a series in the order of time, and holds no more of it than one bin.

    >>> bins = Bins(0.0, 10.0, bins=2)
    >>> bins.add(np.array([0.0, 1.0, 2.0]), np.array([5.0, 1.0, 3.0]))
    >>> bins.add(np.array([3.0, 7.0, 10.0]), np.array([9.0, np.nan, 2.0]))
    >>> band = bins.band()
    >>> band.at.tolist(), band.low.tolist(), band.median.tolist(), band.high.tolist()
    ([2.5, 7.5], [1.0, 2.0], [4.0, 2.0], [9.0, 2.0])
    """

    def __init__(self, first_at: float, last_at: float, *, bins: int) -> None:
        self._first_at, self._bins = first_at, bins
        self._width = max(last_at - first_at, 1e-3) / bins
        self._bin = 0
        self._held: list[Array] = []
        self._rows: list[tuple[float, float, float, float]] = []

    def add(self, at_N: Array, values_N: Array) -> None:
        """More of the series, none of it before what came earlier. Values that are not finite are left out."""
        known_N = np.isfinite(values_N)
        at_N, values_N = at_N[known_N], values_N[known_N]
        bins_N = np.clip((at_N - self._first_at) / self._width, 0, self._bins - 1).astype(np.int64)
        edges = np.flatnonzero(np.diff(bins_N)) + 1
        for part in np.split(np.arange(len(bins_N)), edges):
            if len(part):
                self._take(int(bins_N[part[0]]), values_N[part])

    def band(self) -> Band:
        """What came so far."""
        self._close()
        return Band(*np.array(self._rows, dtype=np.float64).reshape(-1, 4).T)

    def _take(self, number: int, values: Array) -> None:
        if number != self._bin:
            self._close()
            self._bin = number
        self._held.append(values)

    def _close(self) -> None:
        if self._held:
            values = np.concatenate(self._held)
            middle = self._first_at + (self._bin + 0.5) * self._width
            self._rows.append((middle, float(values.min()), float(np.median(values)), float(values.max())))
            self._held = []
