"""Which images of a folder that should be all normal look like intruders.

Shape legend: B images.
"""

from collections.abc import Sequence

import numpy as np

from detectors.calibration import threshold_from_blind
from detectors.contract import Parts
from detectors.maps import Scores

EXPECTED = 0.1
"""Normal images among a clean folder's that are listed by chance, on the average."""

GREATEST_RATE = 0.01


def intruders(scores_B: Scores, keys: Sequence[str], *, seed: int, parts_B: Parts | None = None) -> dict[str, float]:
    """Images that stand out from the others: for each its left-out score as a multiple of the limit, greatest first.

    The limit is a blind threshold on the same scores, robust to the intruders themselves, that `EXPECTED` images of a
    clean folder exceed. An image is scored without the patches of its own part (`parts_B`), but with those of the
    others: many intruders of one kind vouch for each other, and take `PatchCluster`, which is made for that (`driftline
    blind`).

    Raises InvalidInput for scores that make no threshold.

    >>> scores_B = np.append(np.exp(np.random.default_rng(0).normal(0, 0.1, 60)), 3.0)
    >>> list(intruders(scores_B, [str(number) for number in range(61)], seed=0))
    ['60']
    """
    nobody = np.zeros(len(scores_B), dtype=np.bool_)
    rate = min(GREATEST_RATE, EXPECTED / max(len(scores_B), 1))
    limit = threshold_from_blind(scores_B, nobody, false_alarm_rate=rate, seed=seed, parts_B=parts_B).value
    found = [int(image) for image in np.argsort(-scores_B, kind="stable") if scores_B[image] > limit]
    return {keys[image]: float(scores_B[image] / max(limit, np.finfo(np.float64).tiny)) for image in found}
