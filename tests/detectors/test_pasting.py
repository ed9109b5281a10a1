"""A piece of one image in another."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from detectors.errors import ImageError, InvalidInput
from detectors.pasting import paste_piece


@settings(max_examples=40, deadline=None)
@given(
    height=st.integers(3, 80), width=st.integers(3, 80), other=st.integers(3, 80), seed=st.integers(0, 10**6),
    strength=st.sampled_from([0.2, 0.5, 1.0]),
)  # fmt: skip
def test_nothing_outside_the_mask_changes_and_inside_it_goes_towards_the_donor(
    height: int, width: int, other: int, seed: int, strength: float
) -> None:
    image = np.random.default_rng(seed).integers(0, 100, (height, width, 3)).astype(np.uint8)
    donor = np.full((other, other, 3), 250, np.uint8)
    before = image.copy()
    pasted, mask = paste_piece(image, donor, strength=strength, rng=np.random.default_rng(seed))
    assert np.array_equal(image, before)
    assert pasted.dtype == np.uint8
    assert mask.any()
    assert np.array_equal(pasted[~mask], image[~mask])
    assert (pasted[mask] >= image[mask]).all()
    assert int(pasted[mask].max()) <= 250


def test_the_same_seed_pastes_the_same_piece() -> None:
    image, donor = np.zeros((40, 50, 3), np.uint8), np.full((60, 30, 3), 200, np.uint8)
    one, two = (paste_piece(image, donor, strength=1.0, rng=np.random.default_rng(5)) for _ in range(2))
    assert np.array_equal(one[0], two[0])


def test_what_is_no_image_or_no_strength_is_refused() -> None:
    image, rng = np.zeros((20, 20, 3), np.uint8), np.random.default_rng(0)
    with pytest.raises(InvalidInput, match=r"strength 1\.5; it lies above 0 and at most at 1"):
        paste_piece(image, image, strength=1.5, rng=rng)
    with pytest.raises((ImageError, InvalidInput)):
        paste_piece(image.astype(np.float32), image, strength=1.0, rng=rng)
