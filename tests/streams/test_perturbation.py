"""Perturbations against closed forms: what a gain, a gamma, a shift and a smudge are by definition."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from detectors.errors import InvalidInput
from detectors.images import Image
from streams.perturbation import (
    JITTER_GAIN,
    JITTER_NOISE,
    PERTURBATION_KEYS,
    Perturbation,
    apply,
    interpolate,
)


def _rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def _scene(height: int = 40, width: int = 60) -> Image:
    """A smooth colour scene, so that interpolation has nothing to lose."""
    y, x = np.mgrid[:height, :width]
    grey = 110 + 50 * np.sin(x / 9.0) * np.cos(y / 7.0)
    image: Image = np.stack([grey, grey * 0.8, grey * 0.6], axis=2).round().astype(np.uint8)
    return image


def test_identity_changes_nothing_and_copies() -> None:
    image = _scene()
    result = apply(image, Perturbation(), rng=_rng())
    np.testing.assert_array_equal(result, image)
    assert result is not image


@pytest.mark.parametrize(
    "perturbation",
    [
        Perturbation(light=2.0),
        Perturbation(shift_px=3),
        Perturbation(smudge=0.2),
        Perturbation(jitter=1),
        Perturbation(blank=True),
    ],
)
def test_leaves_the_callers_array_alone(perturbation: Perturbation) -> None:
    image = _scene()
    before = image.copy()
    apply(image, perturbation, rng=_rng())
    np.testing.assert_array_equal(image, before)


def test_light_is_a_gain_that_saturates() -> None:
    image = _scene()
    result = apply(image, Perturbation(light=2.5), rng=_rng())
    np.testing.assert_array_equal(result, np.minimum(np.rint(image * 2.5), 255))


def test_gamma_is_an_exponent_after_the_gain() -> None:
    image = _scene()
    result = apply(image, Perturbation(light=1.2, gamma=2.0), rng=_rng())
    expected = 255 * np.minimum(image * 1.2 / 255, 1.0) ** 2
    np.testing.assert_allclose(result, expected, atol=0.51)


def test_a_whole_shift_moves_pixels_to_the_right() -> None:
    image = _scene()
    result = apply(image, Perturbation(shift_px=5), rng=_rng())
    np.testing.assert_allclose(result[:, 5:].astype(int), image[:, :-5].astype(int), atol=1)


def test_a_quarter_turn_is_counter_clockwise() -> None:
    image = _scene(41, 41)
    result = apply(image, Perturbation(rotate_deg=90), rng=_rng())
    np.testing.assert_allclose(result.astype(int), np.rot90(image).astype(int), atol=1)


def test_blur_of_a_point_is_the_gaussian() -> None:
    image = np.zeros((41, 41, 3), np.uint8)
    image[20, 20] = 255
    sigma = 1.5
    result = apply(image, Perturbation(blur_px=sigma), rng=_rng())
    assert abs(int(result[20, 20, 0]) - 255 / (2 * np.pi * sigma**2)) < 1
    assert abs(int(result[20, 22, 0]) - 255 / (2 * np.pi * sigma**2) * np.exp(-2 / sigma**2)) < 1


@pytest.mark.parametrize("share", [0.05, 0.2, 0.5])
def test_smudge_covers_its_share_from_the_top_left(share: float) -> None:
    image = np.full((200, 300, 3), 200, np.uint8)
    touched = apply(image, Perturbation(smudge=share), rng=_rng())[:, :, 0] != 200
    assert abs(touched.mean() - share) < 0.15 * share
    assert touched[0, 0]
    assert not touched[-1, -1]


def test_blank_is_black_and_still_noisy() -> None:
    assert apply(_scene(), Perturbation(blank=True), rng=_rng()).max() == 0
    assert apply(_scene(), Perturbation(blank=True, noise=5.0), rng=_rng()).max() > 5


def test_noise_has_the_stated_deviation_and_is_the_same_in_every_channel() -> None:
    image = np.full((200, 200, 3), 128, np.uint8)
    result = apply(image, Perturbation(noise=4.0), rng=_rng()).astype(float)
    assert abs(result[:, :, 0].std() - 4.0) < 0.1
    np.testing.assert_array_equal(result[:, :, 0], result[:, :, 2])


def test_jitter_gives_a_new_image_each_time_and_the_same_from_the_same_seed() -> None:
    image, little = _scene(), Perturbation(jitter=0.3)
    results = [apply(image, little, rng=_rng(seed)) for seed in range(20)]
    assert len({result.tobytes() for result in results}) == 20
    np.testing.assert_array_equal(apply(image, little, rng=_rng(3)), results[3])


def test_jitter_varies_gain_and_noise_as_stated() -> None:
    image = np.full((32, 32, 3), 100, np.uint8)
    results = np.array([apply(image, Perturbation(jitter=1.0), rng=_rng(seed))[:, :, 0] for seed in range(400)], float)
    gain_sd = results.mean(axis=(1, 2)).std() / 100
    assert abs(gain_sd - JITTER_GAIN) < 0.1 * JITTER_GAIN
    # Rounding to whole grey levels adds a twelfth of a level squared.
    assert abs(results.std(axis=(1, 2)).mean() - np.hypot(JITTER_NOISE, 12**-0.5)) < 0.03


@pytest.mark.parametrize(
    ("name", "value"), [("light", -0.1), ("gamma", 0.0), ("smudge", 1.5), ("blur_px", -1.0), ("jitter", float("nan"))]
)
def test_values_out_of_range_are_refused_with_value_and_limit(name: str, value: float) -> None:
    with pytest.raises(InvalidInput, match=rf"{name} = {value}.*must lie in"):
        Perturbation(**{name: value})  # type: ignore[arg-type]


def test_other_arrays_are_refused() -> None:
    with pytest.raises(InvalidInput, match="uint8"):
        apply(np.zeros((4, 4), np.uint8), Perturbation(), rng=_rng())


@given(share=st.floats(0, 1), light=st.floats(0.1, 4), shift=st.floats(-9, 9))
@settings(max_examples=50, deadline=None)
def test_interpolation_is_linear_and_meets_its_ends(share: float, light: float, shift: float) -> None:
    start, end = Perturbation(shift_px=shift, jitter=0.2), Perturbation(light=light, blank=True)
    between = interpolate(start, end, share)
    assert between.light == pytest.approx(1 + share * (light - 1))
    assert between.shift_px == pytest.approx(shift * (1 - share))
    assert between.blank is (share >= 0.5)
    assert interpolate(start, end, 0.0) == start
    assert interpolate(start, end, 1.0) == end


def test_every_key_can_be_interpolated() -> None:
    far = Perturbation(
        light=2, gamma=2, blur_px=2, noise=2, shift_px=2, rotate_deg=2, smudge=1, blank=True, jitter=2
    )  # every field differs from its default
    half = interpolate(Perturbation(), far, 0.5)
    assert all(getattr(half, name) != getattr(Perturbation(), name) for name in PERTURBATION_KEYS)
