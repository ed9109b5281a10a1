"""What comes of a challenger's trial and of a champion's probation: pure judgement, in virtual time.

A *trial*: a new version scores a share of the line's images beside the champion before it may serve. It is judged once, when it has scored
enough. A *probation*: after a promotion that a request led to, the version replaced goes on scoring a share of the images, so that both
are known on the same ones; it is judged at every look, so its evidence has to hold whenever one looks.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from math import comb, exp, fsum, inf, log, log1p

from streams.ledger_rows import AWAITING
from streams.messages import ModelPromoted, ShadowVerdict
from streams.settings import LineConfig

TRIAL_LEVEL = 0.01
"""How often a challenger that flags no more than it may is refused all the same."""
PROBATION_LEVEL = 0.001
"""How often a champion that flags no more than the one before is taken back all the same, by either test."""
FLAG_MARGIN = 0.02
CORRECTION_MARGIN = 0.2
"""By how much more, as a share, a new champion has to flag, or to be corrected, before it is taken back."""
IDLE_S = 600.0
"""A trial goes to a person after so long without an image that the challenger scored."""
UNSHADOWED_EXPECTED = 20
"""While images come: only where so many should have been chosen for it meanwhile."""


@dataclass(frozen=True)
class Decision:
    """How a request goes on (promoted, refused, awaiting_approval, cancelled), and why."""

    outcome: str
    detail: str


@dataclass(frozen=True)
class Trial:
    """Where the trial of `version` stands.

    `shadows`: what it said beside the present `champion`, oldest first; `allowed_rate`: the share of parts it may flag; `quiet_s`: since
    the last of them, or since the trial began; `last_image_s`: since the line's last image, None where none came; `unshadowed`: images
    judged in `quiet_s`; `refused`: why the scorer does not load it; `challenger`: who scores beside the champion now;
    `was_rolled_back`: it served before and was taken back.
    """

    line: str
    version: int
    champion: int | None
    challenger: int | None
    shadows: Sequence[ShadowVerdict]
    allowed_rate: float
    quiet_s: float
    last_image_s: float | None
    unshadowed: int
    refused: str | None = None
    was_rolled_back: bool = False


def judge_trial(trial: Trial, config: LineConfig) -> Decision | None:
    """What comes of a trial now; None while it goes on."""
    if trial.version == trial.champion:
        return Decision("promoted", f"version {trial.version} is in service")
    if trial.refused is not None:
        return Decision("refused", f"the scorer cannot use version {trial.version}: {trial.refused}")
    if trial.challenger != trial.version:
        instead = "no version" if trial.challenger is None else f"version {trial.challenger}"
        return Decision("cancelled", f"{instead} scores beside the champion in place of version {trial.version}")
    if len(trial.shadows) >= config.shadow_images:
        return _judged(trial, config)
    return _idle(trial, config)


def _judged(trial: Trial, config: LineConfig) -> Decision:
    """The trial is over: what its numbers are and what the line's policy makes of them."""
    excess = excess_of(trial.shadows, allowed_rate=trial.allowed_rate)
    words = f"{in_words(trial)}; {excess or 'no more than it may'}"
    if config.promotion != "automatic" or trial.was_rolled_back:
        return Decision(AWAITING, f"{words}; {cure(trial.line, trial.version, config)}")
    return Decision("promoted" if excess is None else "refused", words)


def _idle(trial: Trial, config: LineConfig) -> Decision | None:
    if trial.quiet_s < IDLE_S:
        return None
    have = f"{len(trial.shadows)} of {config.shadow_images} images scored beside the champion"
    if trial.last_image_s is None or trial.last_image_s >= IDLE_S:
        why = f"the line has sent nothing for {IDLE_S / 60:.0f} minutes"
    elif trial.unshadowed * config.shadow_share >= UNSHADOWED_EXPECTED:
        why = (
            f"none of the last {trial.unshadowed} images: the scorer has no room for it (DRIFTLINE_MODEL_MEMORY) or no time "
            f"(start another scorer)"
        )
    else:
        return None
    return Decision(AWAITING, f"{have}, {why}; {cure(trial.line, trial.version, config)}")


def cure(line: str, version: int, config: LineConfig) -> str:
    """What a person can do about a version that waits for one."""
    people = "two people have to approve" if config.four_eyes else "a person has to approve"
    by_itself = "this line promotes nothing by itself, " if config.promotion == "never" else ""
    return f"{by_itself}{people}: driftline models approve {line}@{version}, or reject it"


def in_words(trial: Trial) -> str:
    """The numbers of a trial.

    >>> in_words(Trial("tiles", 2, 1, 2, (), 0.01, 0.0, None, 0))
    'of 0 images it flagged 0 and version 1 flagged 0'
    """
    flagged = sum(each.flagged for each in trial.shadows)
    theirs = sum(each.champion_flagged for each in trial.shadows)
    return f"of {len(trial.shadows)} images it flagged {flagged} and version {trial.champion} flagged {theirs}"


def excess_of(shadows: Sequence[ShadowVerdict], *, allowed_rate: float, level: float = TRIAL_LEVEL) -> str | None:
    """How a challenger flags significantly more than it may, in words; None where it does not.

    Either more than `allowed_rate` of the images (binomial), or more than the champion on the same ones (sign test on those where they
    disagree, McNemar exact), each one-sided.
    """
    flagged = sum(each.flagged for each in shadows)
    alone, other = disagreements(shadows)
    if (p := binomial_tail(flagged, len(shadows), allowed_rate)) < level:
        return f"more than the {allowed_rate:.1%} it may (p = {p:.2g})"
    if (p := binomial_tail(alone, alone + other, 0.5)) < level:
        return f"more than the champion on the same images: {alone} that only it flags, {other} the other way round (p = {p:.2g})"
    return None


def disagreements(shadows: Iterable[ShadowVerdict]) -> tuple[int, int]:
    """On how many images only the challenger flags, and on how many only the champion."""
    apart = [each for each in shadows if each.flagged != each.champion_flagged]
    return sum(each.flagged for each in apart), sum(each.champion_flagged for each in apart)


@dataclass(frozen=True)
class Corrections:
    """Parts that a version flagged and people judged: how many, and how many of them they called normal."""

    judged: int
    normal: int


@dataclass(frozen=True)
class Probation:
    """Where the probation of champion `version` stands.

    `shadows`: what `previous` said beside it since the promotion, but of parts that people called defects: whoever flags them is right;
    `images`: how many it has judged since; `corrected` and `corrected_before`: what people said of the parts that it and `previous`
    flagged.
    """

    version: int
    previous: int
    shadows: Sequence[ShadowVerdict]
    images: int
    corrected: Corrections
    corrected_before: Corrections


def judge_probation(probation: Probation) -> str | None:
    """Why the champion is worse than the version before, in words, for it to be taken back; None where it is not."""
    old_alone, new_alone = disagreements(probation.shadows)
    images = len(probation.shadows)
    if new_alone - old_alone > FLAG_MARGIN * images and odds_of_more(new_alone, old_alone) * PROBATION_LEVEL >= 1:
        return (
            f"of {images} images that both scored, version {probation.version} flags {new_alone} that version "
            f"{probation.previous} does not, and {old_alone} the other way round"
        )
    new, old = probation.corrected, probation.corrected_before
    if not new.judged or not old.judged:
        return None
    more = new.normal / new.judged - old.normal / old.judged
    if more > CORRECTION_MARGIN and fisher_tail(new, old) < PROBATION_LEVEL:
        return (
            f"people called {new.normal} of {new.judged} flagged parts normal, of version {probation.previous}'s "
            f"{old.normal} of {old.judged}"
        )
    return None


def rolled_back(promotions: Iterable[ModelPromoted]) -> frozenset[int]:
    """The versions of a line that were taken back and that no person has promoted since: none of them is promoted by itself.

    `promotions`: of one line, in any order.
    """
    taken: set[int] = set()
    for each in sorted(promotions, key=lambda each: each.sequence):
        taken.discard(each.version)
        if each.rolled_back and each.previous is not None:
            taken.add(each.previous)
    return frozenset(taken)


def binomial_tail(successes: int, trials: int, share: float) -> float:
    """The chance of at least so many successes.

    >>> binomial_tail(0, 50, 0.01), round(binomial_tail(4, 50, 0.01), 4)
    (1.0, 0.0016)
    """
    if not 0 < share < 1 or successes == 0:
        return float(successes == 0 or share >= 1)
    likely = (comb(trials, k) for k in range(successes, trials + 1))
    of = enumerate(likely, start=successes)
    return min(1.0, fsum(exp(log(each) + k * log(share) + (trials - k) * log1p(-share)) for k, each in of))


def odds_of_more(more: int, less: int) -> float:
    """The evidence that of two that disagree one is on the `more` side more often than not: an e-value, good whenever one looks.

    The likelihood of the counts with a share uniform on (1/2, 1), against one of 1/2. Were the share at most 1/2, the chance that it ever
    reaches 1/a is at most a (Ville's inequality), so nobody needs to say beforehand when to look.

    >>> round(odds_of_more(13, 0)), odds_of_more(0, 0)
    (1170, 1.0)
    """
    n = more + less
    below = sum(comb(n + 1, k) for k in range(more + 1))
    try:
        return float(Fraction(below, (n + 1) * comb(n, more)))
    except OverflowError:  # hundreds of disagreements, all one way
        return inf


def fisher_tail(new: Corrections, old: Corrections) -> float:
    """The chance of at least so many corrections of the new version's parts, were both corrected alike: Fisher's exact test.

    >>> round(fisher_tail(Corrections(10, 9), Corrections(10, 1)), 6)
    0.000547
    """
    normal, total = new.normal + old.normal, new.judged + old.judged
    most = min(normal, new.judged)
    tail = sum(comb(normal, k) * comb(total - normal, new.judged - k) for k in range(new.normal, most + 1))
    return float(Fraction(tail, comb(total, new.judged)))
