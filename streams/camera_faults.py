"""Images that show no part at all: black, blown out, covered, blurred beyond use. No new model would cure them.

The limits come from the line's own reference, so that a dark line is not taken for a covered lens.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from streams.bootstrap import Array
from streams.calibrating import BULK, CONTRAST, MEAN, OVER, SATURATED, SHARPNESS

BLACK_LEVEL, WHITE_LEVEL = 4.0, 251.0
FLAT, BLURRED, FOREIGN = 0.25, 0.12, 3.0
SATURATED_MORE = 0.5
STRANGE, FLATTER, MORE_BLURRED = 0.75, 2.0, 2.0
"""Where so large a share of the patches lies over the pixel threshold, twice those limits will do: nothing of the part is seen."""

BLACK, BLOWN, COVERED, BLUR, OTHER = "black", "blown out", "covered", "blurred beyond use", "another part"


@dataclass(frozen=True)
class Usable:
    """What an image must have to show a part: limits by signal, None where the reference does not know one.

    >>> Usable.of(("mean", "contrast"), np.array([[100.0, 20.0], [110.0, 22.0]])).fault(np.array([0.5, 0.1]))
    'black'
    """

    names: tuple[str, ...]
    low: dict[str, float]
    high: dict[str, float]

    @classmethod
    def of(cls, names: tuple[str, ...], reference_NS: Array) -> "Usable":
        """Limits from a reference: a fraction of what its lower images have, or a multiple of its upper ones."""
        lower, upper = (dict(zip(names, np.percentile(reference_NS, share, axis=0), strict=True)) for share in (5, 95))
        low = {
            name: float(share * lower[name])
            for name, share in ((CONTRAST, FLAT), (SHARPNESS, BLURRED))
            if name in lower
        }
        high = {BULK: float(FOREIGN * upper[BULK])} if BULK in upper else {}
        if OVER in upper:
            high[OVER] = max(STRANGE, float(1 + upper[OVER]) / 2)
        if SATURATED in upper:
            high[SATURATED] = float(upper[SATURATED] + SATURATED_MORE)
        if MEAN in lower:
            low[MEAN] = min(BLACK_LEVEL, float(lower[MEAN]) / 2)
            high[MEAN] = max(WHITE_LEVEL, float(255 + upper[MEAN]) / 2)
        return cls(names, low, high)

    def shows(self, raw_TS: Array) -> NDArray[np.bool_]:
        """Which of many images may show a part, `(T,)`."""
        low_S = [self.low.get(name, -np.inf) for name in self.names]
        high_S = [self.high.get(name, np.inf) for name in self.names]
        return np.asarray(((raw_TS >= low_S) & (raw_TS <= high_S)).all(axis=1))

    def fault(self, raw_S: Array) -> str | None:
        """What is wrong with an image that shows no part; None for one that may."""
        value = dict(zip(self.names, raw_S.tolist(), strict=True))
        below = {name for name, limit in self.low.items() if value[name] < limit}
        above = {name for name, limit in self.high.items() if value[name] > limit}
        if MEAN in below:
            return BLACK
        if MEAN in above or SATURATED in above:
            return BLOWN
        strange = OVER in above
        if CONTRAST in below or (strange and self._is_low(value, CONTRAST, FLATTER)):
            return COVERED
        if SHARPNESS in below or (strange and self._is_low(value, SHARPNESS, MORE_BLURRED)):
            return BLUR
        return OTHER if strange or BULK in above else None

    def _is_low(self, value: dict[str, float], name: str, times: float) -> bool:
        return name in self.low and value[name] < times * self.low[name]
