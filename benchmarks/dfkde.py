"""DFKDE scoring beside one `sklearn.neighbors.KernelDensity` per position, on the same components of the same features.

Features are random: the time of either does not depend on their values. Prints the ratio of milliseconds an image.
"""

import platform
import time

import numpy as np
from sklearn.neighbors import KernelDensity

from detectors.dfkde import DFKDE

GRID, DIMENSIONS, TESTED, ROUNDS = 32, 100, 3, 3


def main() -> None:
    """Alternate rounds of the two, at 30 and 200 training images."""
    print(f"{platform.processor() or platform.machine()}, one thread, {GRID} x {GRID} patches, {DIMENSIONS} dimensions")
    rng = np.random.default_rng(0)
    for images in (30, 200):
        train_BHWD = rng.normal(size=(images, GRID, GRID, DIMENSIONS)).astype(np.float32)
        test_BHWD = rng.normal(size=(TESTED, GRID, GRID, DIMENSIONS)).astype(np.float32)
        ours = DFKDE(dimensions=DIMENSIONS).fit(train_BHWD)
        ours.anomaly_maps(test_BHWD[:1])  # compiles
        theirs = [
            KernelDensity(bandwidth="scott").fit(train_BHWD[:, row, column])
            for row in range(GRID)
            for column in range(GRID)
        ]
        taken = {"ours": 0.0, "scikit-learn": 0.0}
        for _ in range(ROUNDS):
            for patches_HWD in test_BHWD:
                start = time.perf_counter()
                ours.anomaly_maps(patches_HWD[None])
                middle = time.perf_counter()
                for density, patch_D in zip(theirs, patches_HWD.reshape(-1, DIMENSIONS), strict=True):
                    density.score_samples(patch_D[None])
                taken["ours"] += middle - start
                taken["scikit-learn"] += time.perf_counter() - middle
        ms = {name: 1000 * seconds / ROUNDS / TESTED for name, seconds in taken.items()}
        print(
            f"{images} images: ours {ms['ours']:.1f} ms an image, scikit-learn {ms['scikit-learn']:.0f} ms, "
            f"ratio {ms['scikit-learn'] / ms['ours']:.0f} (goal 20)"
        )


if __name__ == "__main__":
    main()
