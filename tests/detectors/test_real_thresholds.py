"""On real images, the rate that a threshold obtains on normal images it has not seen is the rate it states."""

import os
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import binom

from detectors.features import load_extractor
from detectors.fitting import fit_model
from detectors.images import Image, decode
from detectors.manifest import Threshold
from detectors.model import Model, detector_from

DATA = os.environ.get("DRIFTLINE_TEST_DATA", "")
RATE = 0.05
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not DATA, reason="real images are missing: set DRIFTLINE_TEST_DATA to their folder"),
]


def images(folder: Path) -> list[Image]:
    return [decode(path.read_bytes()) for path in sorted(folder.iterdir())]


def fitted(detector: str, train: list[Image]) -> Model:
    return fit_model(
        train,
        [str(number) for number in range(len(train))],
        extractor=load_extractor(runtime="openvino"),
        detector=detector_from(detector, bank=2000, seed=0),
        false_alarm_rate=RATE,
    )


def plausible(flagged: int, of: int, stated: Threshold) -> bool:
    """Whether a rate within the stated interval gives so many, with at least 2.5 chances in 100 on either side."""
    few = binom.cdf(flagged, of, stated.low) > 0.025
    many = binom.sf(flagged - 1, of, stated.high) > 0.025
    return bool(many and (few or flagged >= of * stated.low))


@pytest.mark.parametrize("detector", ["patchcore", "padim", "dfkde", "patchcluster"])
@pytest.mark.parametrize("name", ["cookie", "magnetic_tile"])
def test_unseen_normal_images_are_flagged_at_the_stated_rate(name: str, detector: str) -> None:
    folder = Path(DATA) / name
    train = images(folder / "train" / "good")
    if detector == "patchcluster":  # one in twenty is bad, and nobody says so
        kind = "anomaly" if name == "cookie" else "blowhole"
        train += images(folder / "test" / kind)[: len(train) // 20]
    model = fitted(detector, train)
    test = images(folder / "test" / "good")
    peaks = np.array([each.peak for each in model.score(test)])
    flagged = int((peaks > model.threshold.value).sum())
    assert plausible(flagged, len(test), model.threshold), f"{flagged} of {len(test)}, {model.threshold}"
