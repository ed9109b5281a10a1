"""Lines to watch: stationary ones drawn from a smoothed model of real signals, and ones that change, of real signals.

Shape legend: N real images, S columns of `tables.COLUMNS`, R images of a reference, T images of a line.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from drifts.tables import COLUMNS, FALSE_ALARM_RATE, PLAIN, Floats, Scored
from numpy.typing import NDArray
from scipy.special import ndtri
from scipy.stats import rankdata

from detectors.calibration import threshold_from_normals

CONTROL = 100
"""Images before a change."""

AFTER = 300
"""Images after it."""

ORDINARY, SURGE = 0.03, 0.25
"""Share of bad parts in ordinary times, and in a surge of defects."""

DRIFT, DEFECTS, FAULT, MIXED, NOTHING = "covariate_drift", "defect_surge", "camera_fault", "mixed", "none"

_KERNEL = 0.25
_HEAVY = 3
_QUARTILE_OF_T = 0.765  # of Student's t with 3 degrees of freedom; a normal one has 0.674
_SIGNED = ("warmth", "tint")
_MOST = {"mean": 255.0, "saturated": 1.0, "over": 1.0}


@dataclass(frozen=True)
class Line:
    """What a monitor is given, and the truth: `change` is the first image of the new state, `truth` its kind; `rates`, of a
    ramp: which share of all unseen good tiles is flagged at the exposures of each image's moment.
    """

    reference: Floats
    rows: Floats
    flags: NDArray[np.bool_]
    change: int
    truth: str = NOTHING
    rates: Floats | None = None


@dataclass(frozen=True)
class Process:
    """How the images of a stationary line follow each other.

    `memory`: autocorrelation of neighbours (AR 1); `heavy`: tails of Student's t with three degrees of freedom; `bad`:
    share of bad parts, whose signals are real ones.
    """

    memory: float = 0.0
    heavy: bool = False
    bad: float = 0.0


PROCESSES = {
    "iid": Process(),
    "AR 0.5": Process(memory=0.5),
    "AR 0.8": Process(memory=0.8),
    "heavy tails": Process(heavy=True),
    "3 % bad parts": Process(bad=ORDINARY),
}


class Marginals:
    """Each signal of real images as a smooth function of a normal variable, and how these variables hang together.

    A signal's sorted values stand at their normal scores; between them it is interpolated, beyond the outermost it goes
    on as steeply as over the outer tenth, within what the signal can be.
    """

    def __init__(self, rows_NS: Floats) -> None:
        images = len(rows_NS)
        self._known_NS = np.sort(rows_NS, axis=0)
        self._at_N = ndtri((np.arange(images) + 0.5) / images)
        self.scores_NS: Floats = ndtri((rankdata(rows_NS, axis=0) - 0.5) / images)
        tenth = max(2, images // 10)
        low, high = [0, tenth], [-1 - tenth, -1]
        self._slopes_2S = np.diff(self._known_NS[[low, high]], axis=1)[:, 0] / np.diff(self._at_N[[low, high]])
        spread_S = self.scores_NS.std(axis=0)
        moving_S = spread_S > 1e-9
        scaled_NS = self.scores_NS[:, moving_S] / spread_S[moving_S]
        correlation = 0.98 * (scaled_NS.T @ scaled_NS) / images + 0.02 * np.eye(scaled_NS.shape[1])
        self.root_SS = np.eye(rows_NS.shape[1])
        self.root_SS[np.ix_(moving_S, moving_S)] = np.linalg.cholesky(correlation)

    def values(self, scores_TS: Floats) -> Floats:
        """Signals of images from their normal scores."""
        values_TS = np.empty_like(scores_TS)
        for column, name in enumerate(COLUMNS):
            scores_T, known_N = scores_TS[:, column], self._known_NS[:, column]
            values_T = np.interp(scores_T, self._at_N, known_N)
            values_T += self._slopes_2S[0, column] * np.minimum(scores_T - self._at_N[0], 0.0)
            values_T += self._slopes_2S[1, column] * np.maximum(scores_T - self._at_N[-1], 0.0)
            least = -np.inf if name in _SIGNED else 0.0
            values_TS[:, column] = np.clip(values_T, least, _MOST.get(name, np.inf))
        return values_TS


def normal_scores(real: Marginals, process: Process, images: int, rng: np.random.Generator) -> Floats:
    """Normal scores of a stationary line: real images with a little noise where images do not remember, a vector AR(1)
    of the same correlations where they do.
    """
    noise_TS = rng.standard_normal((images, len(real.root_SS))) @ real.root_SS.T
    if process.memory:
        scores_TS = noise_TS
        for number in range(1, images):
            scores_TS[number] *= np.sqrt(1 - process.memory**2)
            scores_TS[number] += process.memory * scores_TS[number - 1]
    else:
        drawn = rng.integers(len(real.scores_NS), size=images)
        scores_TS = (real.scores_NS[drawn] + _KERNEL * noise_TS) / np.sqrt(1 + _KERNEL**2)
    if process.heavy:
        scores_TS = scores_TS * np.sqrt(_HEAVY / rng.chisquare(_HEAVY, size=(images, 1))) * 0.6745 / _QUARTILE_OF_T
    return scores_TS


def stationary(
    real: Marginals, bad_NS: Floats, process: Process, *, reference: int, images: int, rng: np.random.Generator
) -> Line:
    """A line in which nothing changes: its reference is `reference` images of the same process, as good or bad as
    chance has it (no bad parts: they are sorted out), its threshold comes from them as a model's does.
    """
    rows_TS = real.values(normal_scores(real, process, reference + images, rng))
    reference_RS, rows_TS = rows_TS[:reference], rows_TS[reference:]
    bad_T = rng.random(images) < process.bad
    rows_TS[bad_T] = bad_NS[rng.integers(len(bad_NS), size=int(bad_T.sum()))]
    peak = PLAIN.index("peak")
    threshold = threshold_from_normals(reference_RS[:, peak], false_alarm_rate=FALSE_ALARM_RATE, seed=0).value
    return Line(reference_RS, rows_TS, rows_TS[:, peak] > threshold, change=images)


def drawn(pool_NS: Floats, images: int, rng: np.random.Generator) -> Floats:
    """Real images in chance order; none comes again before all have been, as long as there are enough."""
    rounds = [rng.permutation(len(pool_NS)) for _ in range(-(-images // len(pool_NS)))]
    return pool_NS[np.concatenate(rounds)[:images]]


def spoilt(good_NS: Floats, bad_NS: Floats, share: float, images: int, rng: np.random.Generator) -> Floats:
    """Real images of which a share are bad parts."""
    rows_TS = drawn(good_NS, images, rng)
    bad_T = rng.random(images) < share
    rows_TS[bad_T] = drawn(bad_NS, int(bad_T.sum()), rng) if bad_T.any() else rows_TS[bad_T]
    return rows_TS


def changed(scored: Scored, before_TS: Floats, after_TS: Floats, truth: str) -> Line:
    """A line of a real model: `before_TS`, and from then on `after_TS`."""
    rows_TS = np.concatenate((before_TS, after_TS))
    flags_T = rows_TS[:, PLAIN.index("peak")] > scored.threshold
    return Line(scored.reference, rows_TS, flags_T, change=len(before_TS), truth=truth)


def ramp(scored: Scored, images: int, rng: np.random.Generator) -> Line:
    """From exposure 1 to 6: on the way between two exposures, images of both, the later one ever more often."""
    pools = {exposure: scored.rows(exposures=(exposure,)) for exposure in range(1, 7)}
    position_T = 1 + 5 * np.arange(images) / images
    exposure_T = np.floor(position_T + rng.random(images)).astype(int)
    after_TS = np.empty((images, len(COLUMNS)))
    for exposure, pool_NS in pools.items():
        here_T = exposure_T == exposure
        after_TS[here_T] = drawn(pool_NS, int(here_T.sum()), rng) if here_T.any() else after_TS[here_T]
    after_TS = np.concatenate((after_TS, drawn(pools[6], CONTROL, rng)))
    line = changed(scored, drawn(pools[1], CONTROL, rng), after_TS, DRIFT)
    flagged = [float((pool_NS[:, PLAIN.index("peak")] > scored.threshold).mean()) for pool_NS in pools.values()]
    positions_T = np.concatenate((np.ones(CONTROL), position_T, np.full(CONTROL, 6.0)))
    return replace(line, rates=np.interp(positions_T, list(pools), flagged))


@dataclass(frozen=True)
class Change:
    """A kind of change to try: its name, the model that watches it, the truth, and what the issue asks."""

    name: str
    model: str
    truth: str
    wanted: str
    within: int = 100


STEP, BACK, RAMP, SPIKE = "step 1+2 to 5+6", "way back 5+6 to 1+2", "ramp 1 to 6", "spike of 5 images"
SURGED, BOTH, FROZEN = "defect surge 3 % to 25 %", "step and surge", "frozen"
_TILES = "exposures 1+2"

CHANGES = (
    Change(STEP, _TILES, DRIFT, "every time, median <= 10, 95 % within 20", 20),
    Change(BACK, "exposures 5+6", DRIFT, "within 60", 60),
    *(Change(f"step {k} to {k + 1}", f"exposure {k}", DRIFT, "found", AFTER) for k in range(2, 6)),
    Change(RAMP, "exposure 1", DRIFT, "before good tiles flagged exceed 3 x the target", AFTER),
    Change(SURGED, _TILES, DEFECTS, "defect_surge in >= 95 %", AFTER),
    Change(BOTH, _TILES, MIXED, "no retraining by itself"),
    Change(SPIKE, _TILES, NOTHING, "no incident"),
    *(
        Change(name, _TILES, DRIFT, wanted)
        for name, wanted in (
            ("blur 2 px", "covariate_drift"), ("gain 0.9", "covariate_drift"), ("gain 1.1", "covariate_drift"),
            ("shift 8 px", "covariate_drift"), ("smudge", "covariate_drift, top left"),
        )
    ),
    *(
        Change(name, _TILES, FAULT, "within 5", 5)
        for name in ("heavy blur", "black", "black with noise", FROZEN, "blown out", "covered", "another part")
    ),
)  # fmt: skip


def lines(change: Change, scored: Scored, seeds: int) -> Iterator[Line]:
    """One line a seed."""
    for seed in range(seeds):
        yield _line(change, scored, np.random.default_rng([seed, CHANGES.index(change)]))


def _line(change: Change, scored: Scored, rng: np.random.Generator) -> Line:
    if change.name == RAMP:
        return ramp(scored, AFTER, rng)
    if change.name in (SURGED, BOTH):
        return _surge(change, scored, rng)
    before, after_NS = _pools(change, scored)
    before_TS = drawn(before, CONTROL, rng)
    if change.name == SPIKE:
        after_TS = np.concatenate((drawn(after_NS, 5, rng), drawn(before, AFTER, rng)))
    elif change.name == FROZEN:
        after_TS = np.repeat(drawn(before, 1, rng), AFTER, axis=0)
    else:
        after_TS = drawn(after_NS, AFTER, rng)
    return changed(scored, before_TS, after_TS, change.truth)


def _surge(change: Change, scored: Scored, rng: np.random.Generator) -> Line:
    good, bad = (scored.rows(exposures=(1, 2), good=each) for each in (True, False))
    before_TS = spoilt(good, bad, ORDINARY, CONTROL, rng)
    if change.name == BOTH:
        good, bad = (scored.rows(exposures=(5, 6), good=each) for each in (True, False))
    return changed(scored, before_TS, spoilt(good, bad, SURGE, AFTER, rng), change.truth)


def _pools(change: Change, scored: Scored) -> tuple[Floats, Floats]:
    """Real images before and after a change."""
    if change.name == BACK:
        return scored.rows(exposures=(5, 6)), scored.rows(exposures=(1, 2))
    if change.name in (STEP, SPIKE, FROZEN):
        return scored.rows(exposures=(1, 2)), scored.rows(exposures=(5, 6))
    if change.model.startswith("exposure "):
        exposure = int(change.model[-1])
        return scored.rows(exposures=(exposure,)), scored.rows(exposures=(exposure + 1,))
    after_NS = scored.rows(condition=change.name)
    if change.name == "another part":
        after_NS = np.concatenate((after_NS, scored.rows(condition=change.name, side="train")))
    return scored.rows(exposures=(1, 2)), after_NS
