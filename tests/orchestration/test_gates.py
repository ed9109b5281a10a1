"""Each gate passes a sound candidate and refuses one made worse on purpose, on a small real model."""

import re
from collections.abc import Callable
from dataclasses import replace

import msgspec
import numpy as np
import pytest

from detectors.extractors import ExtractorCache
from detectors.fitting import fit_model
from detectors.model import Model, detector_from
from orchestration.checks import GATE_DESCRIPTIONS
from orchestration.gates import (
    GATES,
    Evidence,
    drawn_defects,
    finds_drawn_defects,
    latency_and_size,
    line_is_sound,
    reference_holds,
    threshold_holds,
)
from streams.ledger import GateResult
from tests.streams.scoring_line import IMAGE_SIZE, texture

HELD_OUT = [texture(900 + number) for number in range(8)]


def fitted(first: int, *, detector: str = "patchcluster") -> Model:
    return fit_model(
        [texture(first + number) for number in range(24)],
        [f"k{number}" for number in range(24)],
        extractor=ExtractorCache().load("efficientnet_lite0", image_size=IMAGE_SIZE),
        detector=detector_from(detector, bank=400, seed=0),
        false_alarm_rate=0.01,
    )


@pytest.fixture(scope="module")
def sound() -> Evidence:
    return Evidence(
        candidate=fitted(0), champion=fitted(100), held_out=HELD_OUT, files={"model.safetensors": b"0" * 1000}
    )


@pytest.mark.parametrize("gate", GATES)
def test_a_sound_candidate_passes(sound: Evidence, gate: Callable[[Evidence], GateResult]) -> None:
    result = gate(sound)
    assert result.passed, result.words
    assert result.name in GATE_DESCRIPTIONS


def test_a_threshold_that_flags_everything_is_refused(sound: Evidence) -> None:
    lower = msgspec.structs.replace(sound.candidate.threshold, value=1e-6)
    result = threshold_holds(replace(sound, candidate=replace(sound.candidate, threshold=lower)))
    assert not result.passed
    assert "8 of 8" in result.words


def test_a_reference_of_another_light_is_refused(sound: Evidence) -> None:
    bulk = tuple(10 * value for value in sound.candidate.reference.bulk)
    elsewhere = msgspec.structs.replace(sound.candidate.reference, bulk=bulk)
    assert not reference_holds(replace(sound, candidate=replace(sound.candidate, reference=elsewhere))).passed


def test_a_candidate_made_while_defects_surged_is_refused(sound: Evidence) -> None:
    result = line_is_sound(replace(sound, beside=("defect_surge",)))
    assert not result.passed
    assert "defect_surge is open" in result.words


def test_an_artefact_too_large_is_refused(sound: Evidence) -> None:
    assert not latency_and_size(replace(sound, files={"model.safetensors": bytes(65 * 2**20)})).passed


class Blind:
    """An extractor that sees the same in every image: what a dead camera channel or a broken backbone amounts to."""

    def __init__(self, model: Model) -> None:
        self.spec = model.extractor.spec
        self.grid = model.extractor.grid
        self._patches = model.extractor.extract([HELD_OUT[0]])

    def extract(self, images: list[np.ndarray]) -> np.ndarray:
        return np.repeat(self._patches, len(images), axis=0)


def test_a_model_that_does_not_see_defects_is_refused(sound: Evidence) -> None:
    blind = replace(sound.candidate, extractor=Blind(sound.candidate))  # type: ignore[arg-type]
    result = finds_drawn_defects(replace(sound, candidate=blind, champion=None))
    assert not result.passed
    assert result.value == pytest.approx(0.5)


def test_a_candidate_that_learnt_the_defects_finds_less_than_the_champion_and_is_refused(sound: Evidence) -> None:
    taught = [image for image, _ in drawn_defects(HELD_OUT)]
    spoilt = fit_model(
        taught,
        [f"d{number}" for number in range(len(taught))],
        extractor=sound.candidate.extractor,
        detector=detector_from("patchcore", bank=3000, seed=0),
        false_alarm_rate=0.01,
    )
    result = finds_drawn_defects(replace(sound, candidate=spoilt))
    assert not result.passed
    found = re.search(r"recall ([+-][0-9.]+) against the champion .*, ([+-][0-9.]+) allowed", result.words)
    assert found is not None, result.words
    assert float(found[1]) < float(found[2])


def test_drawn_defects_are_the_same_for_everybody() -> None:
    for (one, one_mask), (two, two_mask) in zip(drawn_defects(HELD_OUT), drawn_defects(HELD_OUT), strict=True):
        assert np.array_equal(one, two)
        assert np.array_equal(one_mask, two_mask)
        assert one_mask.any()
