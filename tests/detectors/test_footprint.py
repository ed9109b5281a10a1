"""What a detector takes of memory, against what Python says it took."""

import tracemalloc

import numpy as np
import pytest

from detectors.contract import DetectorState
from detectors.footprint import held_bytes
from detectors.model import DETECTORS, detector_from


@pytest.mark.parametrize("name", DETECTORS)
def test_a_loaded_detector_holds_what_was_allocated_for_it(name: str) -> None:
    patches_BHWD = np.random.default_rng(0).normal(size=(12, 8, 8, 64)).astype(np.float32)
    state = detector_from(name, bank=400, seed=0).fit(patches_BHWD).state()
    DETECTORS[name].from_state(state)  # what is imported and compiled once is no part of it
    tracemalloc.start()
    copied = DetectorState(state.parameters, {key: array.copy() for key, array in state.tensors.items()})
    detector = DETECTORS[name].from_state(copied)
    del copied
    allocated, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert held_bytes(detector) == pytest.approx(allocated, rel=0.05, abs=20_000)


def test_views_bytes_and_what_refers_to_itself_are_counted_once() -> None:
    data = bytes(1000)
    view = np.frombuffer(data, np.uint8)[10:20]
    round_trip: dict[str, object] = {"view": view, "data": data, "text": "x" * 1000}
    round_trip["again"] = round_trip
    assert held_bytes(round_trip) == 1000
