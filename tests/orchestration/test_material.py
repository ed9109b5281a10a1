"""What a training set may be chosen from, by mode and by what people said."""

import msgspec

from orchestration.material import DEFECT_BY_A_PERSON, MOST_OLD, material_of
from streams.messages import RetrainRequest
from streams.reviews import ReviewedPart
from tests.streams.test_ledger import verdict

WINDOW = ("images/a.png", "images/b.png", "images/c.png")
REQUEST = RetrainRequest(
    line="tiles",
    request_id="r",
    cause="manual",
    mode="blind",
    image_keys=WINDOW,
    parent_version=1,
    alarm_at=None,
    requested_at=0.0,
)
REVIEWED = [
    ReviewedPart(verdict("b"), "defect", at=1.0),
    ReviewedPart(verdict("c"), "normal", at=2.0),
    ReviewedPart(verdict("old"), "defect", at=3.0),
    ReviewedPart(verdict("elsewhere"), "normal", at=4.0),
    ReviewedPart(verdict("a"), "unsure", at=5.0),
]
LEARNT = ("images/old.png", "images/older.png")


def in_mode(mode: str) -> RetrainRequest:
    return msgspec.structs.replace(REQUEST, mode=mode)


def test_blind_is_the_window_without_what_people_called_defective() -> None:
    made = material_of(in_mode("blind"), REVIEWED, LEARNT)
    assert (made.recent, made.old, made.vouched) == (WINDOW, (), ("images/c.png",))
    assert made.left_out == {"images/b.png": DEFECT_BY_A_PERSON}


def test_refresh_takes_along_the_normals_that_are_still_valid_and_all_that_people_called_normal() -> None:
    made = material_of(in_mode("refresh"), REVIEWED, LEARNT)
    assert made.old == ("images/older.png",)
    assert made.vouched == ("images/c.png", "images/elsewhere.png")
    assert made.recent == WINDOW
    many = material_of(in_mode("refresh"), [], [f"k{number}" for number in range(3 * MOST_OLD)])
    assert len(many.old) == MOST_OLD


def test_trusted_is_what_people_called_normal_and_the_folder() -> None:
    made = material_of(in_mode("trusted"), REVIEWED, LEARNT, folder=("images/f.png",))
    assert (made.recent, made.old) == ((), ())
    assert made.vouched == ("images/f.png", "images/c.png", "images/elsewhere.png")


def test_a_word_that_came_late_counts_like_any_other_and_one_image_counts_once() -> None:
    made = material_of(in_mode("refresh"), REVIEWED, WINDOW, left_out={"images/a.png": "a fault of the camera"})
    assert made.every == ("images/b.png", "images/c.png", "images/elsewhere.png")
