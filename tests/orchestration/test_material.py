"""What a training set may be chosen from, by mode and by what people said."""

import pytest

from orchestration.material import DEFECT_BY_A_PERSON, MOST_OLD, material_of
from orchestration.windows import Window
from streams.reviews import ReviewedPart
from tests.streams.test_ledger import verdict

WINDOW = Window(("images/a.png", "images/b.png", "images/c.png"))
REVIEWED = [
    ReviewedPart(verdict("b"), "defect", at=1.0),
    ReviewedPart(verdict("c"), "normal", at=2.0),
    ReviewedPart(verdict("old"), "defect", at=3.0),
    ReviewedPart(verdict("elsewhere"), "normal", at=4.0),
    ReviewedPart(verdict("a"), "unsure", at=5.0),
]
LEARNT = ("images/old.png", "images/older.png")


def test_blind_is_the_window_without_what_people_called_defective() -> None:
    made = material_of("blind", WINDOW, REVIEWED, LEARNT)
    assert (made.recent, made.old, made.vouched) == (WINDOW.keys, (), ("images/c.png",))
    assert made.left_out == {"images/b.png": DEFECT_BY_A_PERSON}


def test_refresh_takes_along_the_normals_that_are_still_valid_and_all_that_people_called_normal() -> None:
    made = material_of("refresh", WINDOW, REVIEWED, LEARNT)
    assert made.old == ("images/older.png",)
    assert made.vouched == ("images/c.png", "images/elsewhere.png")
    assert made.recent == WINDOW.keys
    many = material_of("refresh", WINDOW, [], [f"k{number}" for number in range(3 * MOST_OLD)])
    assert len(many.old) == MOST_OLD


def test_trusted_is_what_people_called_normal_and_the_folder() -> None:
    made = material_of("trusted", WINDOW, REVIEWED, LEARNT, folder=("images/f.png",))
    assert (made.recent, made.old) == ((), ())
    assert made.vouched == ("images/f.png", "images/c.png", "images/elsewhere.png")


def test_a_word_that_came_late_counts_like_any_other_and_one_image_counts_once() -> None:
    window = Window(WINDOW.keys[1:], {"images/a.png": "a fault of the camera"})
    made = material_of("refresh", window, REVIEWED, WINDOW.keys)
    assert made.every == ("images/b.png", "images/c.png", "images/elsewhere.png")


@pytest.mark.parametrize("mode", ["refresh", "trusted"])
def test_what_people_called_normal_is_learnt_though_it_was_judged_during_a_surge(mode: str) -> None:
    surge = "judged during the defect_surge s1"
    window = Window(("images/z.png",), dict.fromkeys(("images/a.png", "images/b.png", "images/c.png"), surge))
    made = material_of(mode, window, REVIEWED, ())
    assert "images/c.png" in made.every
    assert made.left_out == {"images/a.png": surge, "images/b.png": DEFECT_BY_A_PERSON}
    assert "images/a.png" not in made.every


def test_blind_passes_over_a_surge_whatever_people_said() -> None:
    window = Window(("images/z.png",), {"images/c.png": "judged during the defect_surge s1"})
    made = material_of("blind", window, REVIEWED, ())
    assert (made.every, made.left_out) == (window.keys, window.left_out)
