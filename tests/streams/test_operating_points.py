"""Another threshold: what it would have flagged, counted from the ledger; what the reviews suggest, against trying every threshold."""

import random

from hypothesis import given
from hypothesis import strategies as st

from streams.ledger import Flags, Ledger, ScoredPart
from streams.messages import Review, ShadowVerdict
from streams.operating_points import A_MISS_COSTS, DAY_S, LEAST_REVIEWED, found, preview, suggest
from tests.streams.test_ledger import verdict

NOW = 50 * DAY_S


def part(score: float, says: str) -> ScoredPart:
    return ScoredPart(f"{says}-{score}", score, says)


def parts(defects: list[float], normals: list[float]) -> list[ScoredPart]:
    return [part(score, "defect") for score in defects] + [part(score, "normal") for score in normals]


def said(image_id: str, says: str, *, by: str = "ana", at: float = 1.0) -> Review:
    return Review(line="tiles", image_id=image_id, says=says, note="", by=by, at=at)


def shadow(image_id: str, version: int, score: float) -> ShadowVerdict:
    return ShadowVerdict(
        line="tiles", image_id=image_id, version=version, score=score, threshold=2.0, flagged=score > 2.0, champion=1,
        champion_score=1.0, champion_flagged=False, image_key=f"images/{image_id}.png", judged_at=1.0,
    )  # fmt: skip


def test_what_another_threshold_would_have_flagged_is_counted_over_the_last_day_of_the_version(ledger: Ledger) -> None:
    draw = random.Random(3)
    scores = [draw.uniform(0, 4) for _ in range(300)]
    spread = [
        verdict(f"i{n}", at=NOW - n * 600, score=s, flagged=s > 2, version=1 + n % 2) for n, s in enumerate(scores)
    ]
    ledger.record(spread)
    for threshold in (0.0, 1.5, 2.0, scores[10], 9.0):
        yesterday = [each for each in spread if each.version == 1 and each.judged_at >= NOW - DAY_S]
        seen = preview(ledger, "tiles", 1, threshold, now=NOW)
        assert (seen.judged, seen.flagged) == (len(yesterday), sum(each.flagged for each in yesterday))
        assert seen.above == sum(each.score > threshold for each in yesterday)
        assert seen.share == seen.above / seen.judged
    assert ledger.flags("tiles", 1, threshold=2.0).judged == 150
    assert ledger.flags("nowhere", 1, threshold=2.0) == Flags(0, 0, 0)


def test_a_version_that_judged_nothing_has_no_share(ledger: Ledger) -> None:
    seen = preview(ledger, "tiles", 7, 2.0, now=NOW)
    assert seen.share is None
    assert seen.words == "judged nothing over the last 24 h"


def test_reviewed_parts_count_with_what_stands_and_the_score_of_this_version(ledger: Ledger) -> None:
    ledger.record([verdict("a", score=3.0), verdict("b", score=1.0), verdict("c", score=5.0, version=2)])
    ledger.record([said("a", "normal"), said("a", "defect", by="bo"), said("b", "normal"), said("c", "defect")])
    ledger.record([verdict("d", score=0.5), said("d", "unsure"), said("gone", "defect"), shadow("c", 1, 2.5)])
    assert ledger.scored_parts("tiles", 1) == [
        ScoredPart("a", 3.0, "defect"),
        ScoredPart("b", 1.0, "normal"),
        ScoredPart("c", 2.5, "defect"),
        ScoredPart("d", 0.5, "unsure"),
    ]
    assert [part.image_id for part in ledger.scored_parts("tiles", 2)] == ["c"]
    assert str(found(ledger.scored_parts("tiles", 1), 2.7)) == (
        "finds 1 of 2 reviewed defects, flags 0 of 1 reviewed normals"
    )


def test_the_suggestion_finds_every_defect_and_flags_no_normal_where_that_can_be() -> None:
    known = parts([3.1, 3.2, 3.3, 4.0, 5.0], [1.0, 1.5, 2.0, 2.2, 2.9])
    suggestion = suggest(known, 2.1)
    assert suggestion.threshold is not None
    assert 2.9 <= suggestion.threshold < 3.1
    assert suggestion.words == (
        "3.0 finds 5 of 5 reviewed defects, flags 0 of 5 reviewed normals; "
        "2.1, in force, finds 5 of 5 reviewed defects, flags 2 of 5 reviewed normals"
    )


def test_a_lone_defect_among_the_normals_does_not_drag_the_threshold_down() -> None:
    normals = [1.0 + n / 100 for n in range(100)]
    suggestion = suggest(parts([0.5, 3.0, 3.1, 3.2, 3.3], normals), 1.5)
    assert suggestion.threshold is not None
    assert 1.99 <= suggestion.threshold < 3.0


def test_of_thresholds_that_cost_the_same_the_one_that_misses_fewest_is_suggested() -> None:
    between = [1.5 + n / 100 for n in range(A_MISS_COSTS)]
    suggestion = suggest(parts([1.0, 3.0, 3.0, 3.0, 3.0], [0.5, 0.6, *between]), 9.0)
    assert suggestion.threshold is not None
    assert 0.6 <= suggestion.threshold < 1.0, "one missed costs as much as the ten flagged"


def test_nothing_is_suggested_on_little_evidence_or_where_nothing_is_gained() -> None:
    few = suggest(parts([3.0] * (LEAST_REVIEWED - 1), [1.0] * 50), 2.0)
    assert few.threshold is None
    assert "4 are reviewed as defects and 50 as normal, 5 of each are needed" in few.words
    assert suggest([], 2.0).threshold is None
    assert suggest(parts([3.0] * 5, [1.0] * 4), 2.0).threshold is None
    unsure = [part(5.0, "unsure")] * 9
    assert suggest(parts([3.0] * 4, [1.0] * 9) + unsure, 2.0).threshold is None
    best_already = suggest(parts([3.0] * 5, [1.0] * 5), 2.0)
    assert best_already.threshold is None
    assert "finds 5 of 5 reviewed defects" in best_already.words


SCORES = st.floats(0, 100, allow_nan=False)


@given(
    st.lists(SCORES, min_size=LEAST_REVIEWED, max_size=12),
    st.lists(SCORES, min_size=LEAST_REVIEWED, max_size=12),
    SCORES,
)
def test_no_threshold_costs_less_than_the_suggested_one(
    defects: list[float], normals: list[float], in_force: float
) -> None:
    def cost(threshold: float) -> int:
        missed = sum(score <= threshold for score in defects)
        return A_MISS_COSTS * missed + sum(score > threshold for score in normals)

    suggestion = suggest(parts(defects, normals), in_force)
    lowest = min(cost(threshold) for threshold in (0.0, in_force, *defects, *normals))
    if suggestion.threshold is None:
        assert cost(in_force) == lowest or min(defects) == 0.0
    else:
        assert cost(suggestion.threshold) <= lowest < cost(in_force)
        assert suggestion.threshold >= 0
