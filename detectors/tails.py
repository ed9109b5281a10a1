"""The tail of patch scores: quantiles beyond what a sample holds, weighted so that images can be drawn anew.

Shape legend: B images, P patches an image, N greatest patches.
"""

import math

import numpy as np
from numpy.typing import NDArray

from detectors.contract import Maps
from detectors.maps import Scores

TAIL = 0.05
"""Share of the patches that a tail is fitted to, for rates below it."""


def greatest(patches_BP: Maps, share: float) -> tuple[Scores, NDArray[np.intp]]:
    """The greatest `share` of all patches, in descending order, and the image each is from."""
    patches_N = patches_BP.ravel()
    count = min(patches_N.size, int(share * patches_N.size) + 1)
    top_N = np.argpartition(-patches_N, count - 1)[:count]
    top_N = top_N[np.argsort(-patches_N[top_N], kind="stable")]
    return patches_N[top_N].astype(np.float64), top_N // patches_BP.shape[1]


def tail_value(values_N: Scores, weights_N: Scores, rate: float, total: int) -> float:
    """The value that a share `rate` of `total` patches exceed, of which `values_N` are the greatest, in descending
    order.
    """
    above_N = np.cumsum(weights_N) / total
    if rate >= TAIL:
        return float(values_N[min(int(np.searchsorted(above_N, rate)), len(values_N) - 1)])
    base = min(int(np.searchsorted(above_N, TAIL)), len(values_N) - 1)
    excess_N, weights_N = values_N[:base] - values_N[base], weights_N[:base] / max(weights_N[:base].sum(), 1.0)
    mean = float(weights_N @ excess_N)
    lower = float(weights_N @ (excess_N * (np.cumsum(weights_N) - weights_N / 2)))  # E[excess x chance to be exceeded]
    if mean - 2 * lower <= 0 or mean <= 0:  # all alike
        return float(values_N[base])
    shape = mean / (mean - 2 * lower) - 2
    scale = mean * (1 + shape)
    part = rate / TAIL
    further = -scale * math.log(part) if abs(shape) < 1e-6 else scale / shape * (1 - part**shape)
    return float(values_N[base] + further)
