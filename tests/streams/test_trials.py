"""Judgement of trials and probations: the mathematics against scipy and simulation, the policy case by case in virtual time."""

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from scipy.integrate import quad
from scipy.stats import binom, fisher_exact

from streams.messages import ModelPromoted, ShadowVerdict
from streams.settings import LineConfig
from streams.trials import (
    IDLE_S,
    PROBATION_LEVEL,
    Corrections,
    Probation,
    Trial,
    binomial_tail,
    excess_of,
    fisher_tail,
    judge_probation,
    judge_trial,
    odds_of_more,
    rolled_back,
)

CONFIG = LineConfig(shadow_images=50)


def beside(challenger: int, champion: int, both: int = 0, neither: int = 0) -> list[ShadowVerdict]:
    """Shadow verdicts: so many that only one of them flags, that both flag, that neither does."""
    flags = (
        [(True, False)] * challenger + [(False, True)] * champion + [(True, True)] * both + [(False, False)] * neither
    )
    return [
        ShadowVerdict(
            line="tiles", image_id=f"part-{number}", version=2, score=1.0, threshold=1.0, flagged=mine, champion=1,
            champion_score=1.0, champion_flagged=theirs, image_key=f"k{number}", judged_at=float(number),
        )
        for number, (mine, theirs) in enumerate(flags)
    ]  # fmt: skip


def trial(shadows: Sequence[ShadowVerdict]) -> Trial:
    return Trial(
        line="tiles", version=2, champion=1, challenger=2, shadows=shadows, allowed_rate=0.03, quiet_s=1.0, last_image_s=1.0,
        unshadowed=3,
    )  # fmt: skip


@pytest.mark.parametrize(("trials", "share"), [(1, 0.5), (50, 0.01), (50, 0.3), (400, 0.02)])
def test_the_binomial_tail_is_scipys(trials: int, share: float) -> None:
    for successes in range(0, trials + 1, max(1, trials // 20)):
        assert binomial_tail(successes, trials, share) == pytest.approx(
            binom.sf(successes - 1, trials, share), rel=1e-9
        )


@pytest.mark.parametrize(("share", "tail"), [(0.0, 0.0), (-1.0, 0.0), (1.0, 1.0), (2.0, 1.0)])
def test_the_binomial_tail_of_what_is_certain(share: float, tail: float) -> None:
    assert (binomial_tail(0, 5, share), binomial_tail(1, 5, share)) == (1.0, tail)


@pytest.mark.parametrize(("new", "old"), [((10, 9), (10, 1)), ((3, 0), (50, 20)), ((40, 40), (7, 0)), ((1, 1), (1, 1))])
def test_the_test_of_corrections_is_scipys(new: tuple[int, int], old: tuple[int, int]) -> None:
    table = [[new[1], new[0] - new[1]], [old[1], old[0] - old[1]]]
    assert fisher_tail(Corrections(*new), Corrections(*old)) == pytest.approx(
        fisher_exact(table, alternative="greater").pvalue
    )


@pytest.mark.parametrize(("more", "less"), [(0, 0), (13, 0), (0, 13), (5, 3), (20, 5)])
def test_the_odds_are_the_integral_that_defines_them(more: int, less: int) -> None:
    integral, _ = quad(lambda p: 2 * p**more * (1 - p) ** less, 0.5, 1.0)
    assert odds_of_more(more, less) == pytest.approx(integral * 2 ** (more + less))


def test_who_looks_after_every_image_takes_back_no_more_than_was_promised() -> None:
    """4,000 probations of 120 disagreements each between versions that are alike."""
    rng = np.random.default_rng(1)
    more = rng.integers(0, 2, (4000, 120)).cumsum(axis=1)
    odds = np.array([[odds_of_more(k, n - k) for k in range(n + 1)] + [0.0] * (120 - n) for n in range(121)])
    ever = (odds[np.arange(1, 121), more] * PROBATION_LEVEL >= 1).any(axis=1)
    assert ever.mean() <= PROBATION_LEVEL + 3 * np.sqrt(PROBATION_LEVEL / 4000)


@pytest.mark.parametrize(
    ("shadows", "outcome", "words"),
    [
        (beside(0, 0, neither=50), "promoted", "of 50 images it flagged 0 and version 1 flagged 0; no more than it may"),
        (beside(0, 48, both=2), "promoted", "it flagged 2 and version 1 flagged 50"),
        (beside(0, 0, both=50), "refused", "more than the 3.0% it may"),
        (beside(12, 0, neither=38), "refused", "more than the 3.0% it may"),
        (beside(6, 44), "refused", "more than the 3.0% it may"),
    ],
    ids=["nothing to flag", "the line has drifted", "both flag everything", "it flags more", "it flags a share of its own"],
)  # fmt: skip
def test_a_trial_with_enough_images_is_decided(shadows: list[ShadowVerdict], outcome: str, words: str) -> None:
    decision = judge_trial(trial(shadows), CONFIG)
    assert decision is not None
    assert decision.outcome == outcome
    assert words in decision.detail


def test_a_line_that_makes_bad_parts_may_go_on_making_them_but_not_seem_to_make_more() -> None:
    assert excess_of(beside(1, 1, both=10, neither=88), allowed_rate=0.12) is None
    more = excess_of(beside(9, 0, both=6, neither=85), allowed_rate=0.12)
    assert more == "more than the champion on the same images: 9 that only it flags, 0 the other way round (p = 0.002)"


@pytest.mark.parametrize("promotion", ["approval", "never"])
def test_a_line_that_asks_people_gets_the_numbers_before_them(promotion: str) -> None:
    config = LineConfig(shadow_images=50, promotion=promotion, four_eyes=promotion == "approval")  # type: ignore[arg-type]
    for shadows, words in (
        (beside(0, 0, neither=50), "no more than it may"),
        (beside(12, 0, neither=38), "more than the 3.0%"),
    ):
        decision = judge_trial(trial(shadows), config)
        assert decision is not None
        assert decision.outcome == "awaiting_approval"
        assert words in decision.detail
        assert "driftline models approve tiles@2" in decision.detail
        assert ("promotes nothing by itself" in decision.detail) == (promotion == "never")
        assert ("two people" in decision.detail) == config.four_eyes


def test_a_trial_goes_on_until_it_has_its_images() -> None:
    assert judge_trial(trial(beside(0, 0, neither=49)), CONFIG) is None
    assert judge_trial(trial(beside(40, 0)), CONFIG) is None


def test_a_line_that_has_stopped_is_not_waited_for() -> None:
    begun = replace(trial(beside(0, 0, neither=7)), quiet_s=IDLE_S - 1, last_image_s=IDLE_S - 1)
    assert judge_trial(begun, CONFIG) is None
    decision = judge_trial(replace(begun, quiet_s=IDLE_S, last_image_s=None), CONFIG)
    assert decision is not None
    assert decision.outcome == "awaiting_approval"
    assert "7 of 50 images" in decision.detail
    assert "nothing for 10 minutes" in decision.detail


def test_images_that_come_and_are_not_scored_are_said_to_be() -> None:
    slow = replace(trial([]), quiet_s=IDLE_S, last_image_s=30.0, unshadowed=20)
    assert judge_trial(slow, CONFIG) is None, "an image in half a minute, a quarter of them chosen: none may be chance"
    decision = judge_trial(replace(slow, unshadowed=80), CONFIG)
    assert decision is not None
    assert decision.outcome == "awaiting_approval"
    assert "none of the last 80 images" in decision.detail
    assert "DRIFTLINE_MODEL_MEMORY" in decision.detail


@pytest.mark.parametrize(
    ("change", "outcome", "words"),
    [
        ({"champion": 2}, "promoted", "in service"),
        ({"refused": "digest differs"}, "refused", "digest differs"),
        ({"challenger": 3}, "cancelled", "version 3 scores beside the champion in place of version 2"),
        ({"challenger": None}, "cancelled", "no version scores"),
    ],
)
def test_a_trial_that_somebody_decided_is_over(change: dict[str, object], outcome: str, words: str) -> None:
    decision = judge_trial(replace(trial([]), **change), CONFIG)  # type: ignore[arg-type]
    assert decision is not None
    assert decision.outcome == outcome
    assert words in decision.detail


def test_a_version_that_was_rolled_back_is_not_promoted_by_itself() -> None:
    decision = judge_trial(replace(trial(beside(0, 0, neither=50)), was_rolled_back=True), CONFIG)
    assert decision is not None
    assert decision.outcome == "awaiting_approval"


NOBODY = Corrections(0, 0)


def on_probation(shadows: Sequence[ShadowVerdict], new: Corrections = NOBODY, old: Corrections = NOBODY) -> str | None:
    """The shadow is of the version before: the champion flags `beside`'s second number alone."""
    return judge_probation(Probation(2, 1, shadows, images=200, corrected=new, corrected_before=old))


@pytest.mark.parametrize(
    "shadows",
    [
        beside(0, 0, both=50),
        beside(50, 0),
        beside(10, 12, neither=28),
        beside(0, 12, neither=38),
        beside(0, 13, neither=900),
        [],
    ],
    ids=["a surge", "a drift behind it", "as many either way", "too few to tell", "below the margin", "no images"],
)
def test_a_champion_that_is_no_worse_stays(shadows: list[ShadowVerdict]) -> None:
    assert on_probation(shadows) is None


def test_a_champion_that_flags_more_on_the_same_images_is_taken_back() -> None:
    why = on_probation(beside(1, 17, neither=32))
    assert why == (
        "of 50 images that both scored, version 2 flags 17 that version 1 does not, and 1 the other way round"
    )


@pytest.mark.parametrize(
    ("new", "old", "back"),
    [
        ((30, 28), (30, 3), True),
        ((30, 28), (30, 27), False),
        ((400, 180), (400, 130), False),
        ((3, 3), (30, 3), False),
        ((30, 30), (0, 0), False),
    ],
    ids=["corrected far more", "as before", "below the margin", "too few to tell", "nobody looked before"],
)
def test_what_people_say_of_its_flags_counts(new: tuple[int, int], old: tuple[int, int], back: bool) -> None:
    why = on_probation([], Corrections(*new), Corrections(*old))
    assert (why is not None) == back
    assert why is None or why == "people called 28 of 30 flagged parts normal, of version 1's 3 of 30"


def promoted(version: int, previous: int | None, sequence: int, *, back: bool = False) -> ModelPromoted:
    return ModelPromoted(
        line="tiles", version=version, previous=previous, sequence=sequence, by="ana", why="", at=1.0, rolled_back=back
    )


def test_a_version_is_rolled_back_until_somebody_promotes_it_again() -> None:
    life = [promoted(1, None, 1), promoted(2, 1, 2), promoted(1, 2, 3, back=True)]
    assert rolled_back(life[:2]) == frozenset()
    assert rolled_back(reversed(life)) == {2}
    assert rolled_back([*life, promoted(3, 1, 4)]) == {2}
    assert rolled_back([*life, promoted(2, 1, 4)]) == frozenset()


def test_a_probation_that_nobody_looked_at_for_long_is_still_judged() -> None:
    assert odds_of_more(2000, 0) == math.inf
