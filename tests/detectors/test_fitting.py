"""Fits within a budget of memory, measured; what is left out for it; progress; and a rare variant that must stay normal."""

import subprocess
import sys
from collections.abc import Sequence
from typing import overload

import numpy as np
import pytest

from detectors.errors import InvalidInput
from detectors.features import FeatureExtractor, load_extractor
from detectors.fitting import FIXED_BYTES, MEMORY, fit_model
from detectors.images import Image
from detectors.model import DETECTORS, Model, detector_from

SIDE = 64


class Textures(Sequence[Image]):
    """So many images, each drawn when it is asked for."""

    def __init__(self, count: int, side: int = SIDE) -> None:
        self._count = count
        self._side = side

    def __len__(self) -> int:
        return self._count

    @overload
    def __getitem__(self, index: int) -> Image: ...
    @overload
    def __getitem__(self, index: slice) -> "Textures": ...
    def __getitem__(self, index: int | slice) -> "Image | Textures":
        if isinstance(index, slice):
            raise TypeError("one image at a time")
        rng = np.random.default_rng(index)
        waves = 30 * np.sin(np.arange(self._side) / rng.uniform(3, 9) + rng.uniform(0, 6))
        grain = rng.normal(0, 10, (self._side, self._side, 3))
        return np.clip(128 + waves[None, :, None] + grain, 0, 255).astype(np.uint8)


@pytest.fixture(scope="module")
def extractor() -> FeatureExtractor:
    return load_extractor(image_size=SIDE)


def fitted(detector: str, extractor: FeatureExtractor, count: int, memory: int | None) -> Model:
    return fit_model(
        Textures(count),
        [str(number) for number in range(count)],
        extractor=extractor,
        detector=detector_from(detector, bank=200, seed=0),
        false_alarm_rate=0.01,
        memory=memory,
    )


def room_for(images: int) -> int:
    """Bytes that hold the features of so many images, and of no more."""
    return FIXED_BYTES + (images * 8 * 8 * 176 * 4 * 3) + 1000


@pytest.mark.parametrize("detector", ["patchcore", "patchcluster"])
def test_over_the_budget_a_part_of_the_images_is_fitted_on(detector: str, extractor: FeatureExtractor) -> None:
    model = fitted(detector, extractor, 30, room_for(12))
    assert len(model.training_keys) == 12
    assert [why for why in model.left_out.values() if why == MEMORY] == [MEMORY] * 18
    assert set(model.training_keys) | set(model.left_out) == {str(number) for number in range(30)}
    assert len(model.left_out_scores()) == len(model.reference.peak) + list(model.left_out.values()).count("suspect")


def test_padim_learns_from_all_images_whatever_the_budget(extractor: FeatureExtractor) -> None:
    small = int(room_for(12) + 64 * (100**2 * 30) + 64 * 2**20)
    model = fitted("padim", extractor, 30, small)
    assert len(model.training_keys) == 30
    assert model.left_out == {}
    assert len(model.left_out_scores()) == 12
    whole = fitted("padim", extractor, 30, None)
    some = Textures(33)[32]
    assert model.score([some])[0].peak == pytest.approx(whole.score([some])[0].peak, rel=1e-3)


def test_a_budget_that_holds_too_few_images_is_refused(extractor: FeatureExtractor) -> None:
    with pytest.raises(InvalidInput, match="this fit needs at least"):
        fitted("patchcore", extractor, 30, room_for(3))


def test_work_says_how_far_it_is(extractor: FeatureExtractor) -> None:
    told: list[tuple[str, int, int]] = []
    fit_model(
        Textures(6),
        list("abcdef"),
        extractor=extractor,
        detector=detector_from(
            "patchcore", bank=50, seed=0, progress=lambda done, total: told.append(("coreset", done, total))
        ),
        false_alarm_rate=0.01,
        told=lambda *said: told.append(said),
    )
    for what, total in (("features", 6), ("coreset", 50)):
        steps = [done for name, done, of in told if name == what and of == total]
        assert steps == sorted(steps)
        assert steps[-1] == total


def test_a_rare_variant_stays_normal(extractor: FeatureExtractor) -> None:
    """One part in twenty is of another colour: it must not be flagged, and a real defect on either must."""
    images = [Textures(80)[number].copy() for number in range(80)]
    for number in range(0, 80, 20):
        images[number][..., 0] //= 3
    model = fit_model(
        images,
        [str(number) for number in range(80)],
        extractor=extractor,
        detector=detector_from("patchcore", bank=1000, seed=0),
        false_alarm_rate=0.01,
    )
    new = [Textures(200)[number].copy() for number in range(100, 106)]
    for image in new[3:]:
        image[..., 0] //= 3
    usual = model.score(new[:3])
    rare = model.score(new[3:])
    spoilt = []
    for image in new:
        image[20:40, 20:40] = 255
        spoilt += model.score([image])
    assert max(each.peak for each in rare) < 1.6 * max(each.peak for each in usual)
    assert min(each.peak for each in spoilt) > max(each.peak for each in (*usual, *rare))


MEASURED = """
import resource, sys
import numpy as np
from detectors.features import load_extractor
from detectors.fitting import fit_model
from detectors.model import detector_from
from tests.detectors.test_fitting import Textures

name, count, memory = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
extractor = load_extractor(image_size=128)
images = Textures(count, 128)
extractor.extract([images[0]])
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
fit_model(
    images, [str(number) for number in range(count)], extractor=extractor,
    detector=detector_from(name, bank=500, seed=0), false_alarm_rate=0.01, memory=memory,
)
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024)
"""


@pytest.mark.slow
@pytest.mark.parametrize("detector", sorted(DETECTORS))
def test_a_fit_stays_within_its_memory(detector: str) -> None:
    """Peak of the whole process over what it had before the fit, in a process of its own."""
    memory = 512 * 2**20
    grown = [
        int(subprocess.run([sys.executable, "-c", MEASURED, detector, str(count), str(memory)],
                           check=True, capture_output=True, text=True).stdout)
        for count in (420, 640)
    ]  # fmt: skip
    assert max(grown) <= memory
    assert grown[1] < grown[0] + 0.1 * memory
