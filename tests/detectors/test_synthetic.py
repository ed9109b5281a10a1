"""Drawn defects: where the mask says, as strong as asked, the same for the same seed."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from detectors.errors import InvalidInput
from detectors.images import Image
from detectors.synthetic import KINDS, draw_defect


def textured(height: int = 96, width: int = 128, mean: float = 120, spread: float = 12) -> Image:
    grey = np.random.default_rng(0).normal(mean, spread, (height, width, 1))
    return np.clip(grey, 0, 255).astype(np.uint8).repeat(3, axis=2)


def change(image: Image, drawn: Image) -> float:
    """Largest change of a pixel, in grey levels."""
    return float(np.abs(drawn.astype(float) - image).max())


@settings(max_examples=60, deadline=None)
@given(
    kind=st.sampled_from(KINDS),
    seed=st.integers(0, 10_000),
    height=st.integers(1, 200),
    width=st.integers(1, 200),
    mean=st.sampled_from([0, 60, 128, 200, 255]),
)
def test_changes_pixels_within_the_mask_only(kind: str, seed: int, height: int, width: int, mean: int) -> None:
    image = textured(height, width, mean)
    before = image.copy()
    drawn, mask = draw_defect(image, kind=kind, strength=1.0, rng=np.random.default_rng(seed))
    assert (image == before).all()
    assert drawn.shape == image.shape
    assert drawn.dtype == np.uint8
    assert mask.shape == image.shape[:2]
    assert mask.any()
    assert (drawn[~mask] == image[~mask]).all()
    assert (drawn[mask] != image[mask]).any()


@pytest.mark.parametrize("kind", KINDS)
def test_strength_grades_the_change(kind: str) -> None:
    image = textured()
    changes = [
        change(image, draw_defect(image, kind=kind, strength=strength, rng=np.random.default_rng(3))[0])
        for strength in (0.2, 0.5, 1.0)
    ]
    assert changes[0] < changes[1] < changes[2]
    assert changes[0] <= 1.5 * 12  # subtle: about the texture's own deviation
    assert changes[2] >= 2 * 12 - 1  # plain: twice that and more (the soft stain least)


@pytest.mark.parametrize("kind", KINDS)
def test_a_defect_stays_small(kind: str) -> None:
    shares = [
        draw_defect(textured(), kind=kind, strength=0.5, rng=np.random.default_rng(seed))[1].mean()
        for seed in range(20)
    ]
    assert max(shares) < 0.2


@pytest.mark.parametrize("kind", KINDS)
def test_dark_and_bright_images_show_it_too(kind: str) -> None:
    for mean in (3, 252):
        image = textured(mean=mean, spread=2)
        for seed in range(5):
            drawn, _ = draw_defect(image, kind=kind, strength=1.0, rng=np.random.default_rng(seed))
            assert change(image, drawn) >= 15


def test_the_generator_decides_and_nothing_else() -> None:
    image = textured()
    for kind in KINDS:
        first, again, other = (
            draw_defect(image, kind=kind, strength=0.8, rng=np.random.default_rng(seed))[0] for seed in (7, 7, 8)
        )
        assert (first == again).all()
        assert (first != other).any()


def test_a_larger_image_gets_the_same_defect_larger() -> None:
    for kind in KINDS:
        areas = [
            draw_defect(textured(side, side), kind=kind, strength=1.0, rng=np.random.default_rng(1))[1].mean()
            for side in (200, 400)
        ]
        assert areas[1] == pytest.approx(areas[0], rel=0.35)


def test_wrong_use_is_refused() -> None:
    image, rng = textured(), np.random.default_rng(0)
    with pytest.raises(InvalidInput, match="there are scratch"):
        draw_defect(image, kind="rust", strength=1.0, rng=rng)
    for strength in (0.0, 1.5, float("nan")):
        with pytest.raises(InvalidInput, match="strength"):
            draw_defect(image, kind="spot", strength=strength, rng=rng)
    with pytest.raises(InvalidInput, match="uint8"):
        draw_defect(image[..., 0], kind="spot", strength=1.0, rng=rng)
