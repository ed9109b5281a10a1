"""What watchers say of lines: false alarms of those that stay as they are, delays and kinds of those that change."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from drifts.lines import (
    CONTROL,
    DRIFT,
    FAULT,
    MIXED,
    NOTHING,
    PROCESSES,
    Change,
    Line,
    Marginals,
    stationary,
)
from drifts.rivals import KSWIN, Raised, Start
from drifts.tables import Floats
from scipy.stats import chi2

from streams.settings import LineConfig

REFERENCES = (100, 200, 400)
KSWIN_SHARE = 10
"""KSWIN sees one stationary line in so many."""

LAST = 100
"""The last kind is the one of the last alarm within so many images of the change."""

ASKED_AFTER = LineConfig().retrain_images
LOOKED_AFTER = 128
"""Images since the change that the gate `line_is_sound` waits for (`orchestration.second_look`)."""
"""Images that a line waits for after an alarm, to learn from."""

_FLAGS_OF = 50


@dataclass(frozen=True)
class Cell:
    """Stationary lines of one sort."""

    process: str
    base: str
    reference: int


@dataclass(frozen=True)
class Quiet:
    """False alarms of one watcher on stationary lines of one length: how many on each, by sort."""

    counts: Mapping[Cell, list[int]] = field(default_factory=dict)

    def of(self, **wanted: str | int) -> list[int]:
        """Counts of the lines of some sorts."""
        cells = [cell for cell in self.counts if all(getattr(cell, name) == is_ for name, is_ in wanted.items())]
        return [count for cell in cells for count in self.counts[cell]]


def upper_limit(counts: Sequence[int], images: int) -> float:
    """Upper 95 % confidence limit (one-sided) of false alarms per image, from counts on lines of `images` each.

    Alarms of a line come in clusters: a reference that is off is off for the whole line. So the exact Poisson limit is
    taken of the count divided by its dispersion between lines (variance / mean, at least 1): quasi-Poisson.

    >>> round(10_000 * upper_limit([0] * 100, 5_000), 2), round(10_000 * upper_limit([20] + [0] * 99, 5_000), 2)
    (0.06, 1.9)
    """
    total = sum(counts)
    dispersion = max(1.0, float(np.var(counts, ddof=1) / np.mean(counts))) if total and len(counts) > 1 else 1.0
    limit = dispersion * float(chi2.ppf(0.95, 2 * (total / dispersion + 1))) / 2
    return limit / (images * len(counts))


def cells(bases: Sequence[str]) -> list[Cell]:
    """All sorts of stationary lines."""
    return [Cell(process, base, size) for process in PROCESSES for base in bases for size in REFERENCES]


def quiet(
    starts: Mapping[str, Start], real: Mapping[str, tuple[Marginals, Floats]], *, lines: int, images: int
) -> Mapping[str, Quiet]:
    """False alarms of every watcher: `lines` lines of each sort, `images` images each."""
    found = {name: Quiet({cell: [] for cell in cells(tuple(real))}) for name in starts}
    for number, cell in enumerate(cells(tuple(real))):
        marginals, bad_NS = real[cell.base]
        for seed in range(lines):
            rng = np.random.default_rng([seed, number])
            line = stationary(
                marginals, bad_NS, PROCESSES[cell.process], reference=cell.reference, images=images, rng=rng
            )
            for name, start in starts.items():
                if name == KSWIN and (number * lines + seed) % KSWIN_SHARE:
                    continue
                found[name].counts[cell].append(sum(1 for _ in alarms(start, line, seed)))
    return found


def alarms(start: Start, line: Line, seed: int) -> Iterator[tuple[int, Raised]]:
    """Every alarm with the image on which it came."""
    watcher = start(line.reference, seed)
    for image, (row_S, flagged) in enumerate(zip(line.rows, line.flags.tolist(), strict=True)):
        for alarm in watcher.update(image, row_S, flagged):
            yield image, alarm


@dataclass(frozen=True)
class Trial:
    """One watcher on one line that changes. `delay` counts images of the new state up to the alarm, infinite where
    none comes; `asks`: whether the line would ask for a new model by itself, `ASKED_AFTER` images from an alarm of covariate drift, unless
    something else was found meanwhile; `publishes`: whether a model would be published, unless something else was found by the look that
    the gate waits for; of a ramp that was found, `flagged`: share of the last 50 images flagged when the alarm came,
    `rate`: of all unseen good tiles at the exposures of that moment.
    """

    false: int
    delay: float
    first: str
    last: str
    asks: bool
    publishes: bool
    where: str
    flagged: float | None = None
    rate: float | None = None


def trial(start: Start, line: Line, seed: int) -> Trial:
    """Watch a line to its end."""
    raised = list(alarms(start, line, seed))
    after = [(image - line.change + 1, alarm) for image, alarm in raised if image >= line.change]
    soon = [alarm for delay, alarm in after if delay <= LAST]
    delay, first = after[0] if after else (np.inf, Raised(NOTHING))
    at = line.change + int(delay) if after else 0
    return Trial(
        false=len(raised) - len(after),
        delay=float(delay),
        first=first.kind,
        last=soon[-1].kind if soon else NOTHING,
        asks=_goes_on(after, 0),
        publishes=_goes_on(after, LOOKED_AFTER),
        where=first.where,
        flagged=float(line.flags[:at][-_FLAGS_OF:].mean()) if after else None,
        rate=float(line.rates[at - 1]) if after and line.rates is not None else None,
    )


def _goes_on(after: Sequence[tuple[int, Raised]], at_least: int) -> bool:
    """Whether a drift was all that was found when the line asks, and `at_least` so many images after the change."""
    drifts = [delay for delay, alarm in after if alarm.kind == DRIFT]
    others = [delay for delay, alarm in after if alarm.kind != DRIFT]
    return bool(drifts) and not any(delay <= max(drifts[0] + ASKED_AFTER, at_least) for delay in others)


@dataclass(frozen=True)
class Met:
    """All trials of one watcher on one kind of change."""

    change: Change
    trials: Sequence[Trial]

    @property
    def median(self) -> float:
        """Median delay."""
        return self.quantile(0.5)

    def quantile(self, share: float) -> float:
        """The delay within which a share of the lines is found: one of those that came."""
        delays = [each.delay for each in self.trials]
        return float(np.quantile(delays, share, method="inverted_cdf"))

    @property
    def found(self) -> float:
        """Share of lines with an alarm after the change."""
        return float(np.mean([np.isfinite(each.delay) for each in self.trials]))

    @property
    def in_time(self) -> float:
        """Share found within what the issue grants."""
        return float(np.mean([each.delay <= self.change.within for each in self.trials]))

    @property
    def right(self) -> float:
        """Share whose first alarm names the kind of the change; where nothing is to be found, without an alarm."""
        return float(np.mean([each.first == self.change.truth for each in self.trials]))

    @property
    def would_retrain(self) -> float:
        """Share of lines that would ask for a new model by themselves."""
        return float(np.mean([each.asks for each in self.trials]))

    @property
    def would_publish(self) -> float:
        """Share of lines for which a new model would be published by itself."""
        return float(np.mean([each.publishes for each in self.trials]))

    @property
    def false(self) -> int:
        """Alarms before the change."""
        return sum(each.false for each in self.trials)

    def first(self) -> Counter[str]:
        """Kinds of the first alarms."""
        return Counter(each.first for each in self.trials)

    def last(self) -> Counter[str]:
        """Kinds of the last alarms within `LAST` images."""
        return Counter(each.last for each in self.trials)

    def where(self) -> str:
        """The place that is named most often, and how often."""
        places = Counter(each.where for each in self.trials if each.where)
        return ", ".join(f"{place} ({count}/{len(self.trials)})" for place, count in places.most_common(1))

    def in_bounds(self, most: float) -> tuple[float, float]:
        """Of a ramp: share of lines found before the share of good parts flagged was above `most`: among the last images,
        and of all unseen tiles.
        """
        flagged = [each.flagged is not None and each.flagged <= most for each in self.trials]
        rates = [each.rate is not None and each.rate <= most for each in self.trials]
        return float(np.mean(flagged)), float(np.mean(rates))


def recalls(met: Sequence[Met]) -> Mapping[str, float]:
    """Share of lines of each truth that are called by their name at the first alarm."""
    rates: dict[str, list[float]] = {}
    for each in met:
        rates.setdefault(each.change.truth, []).append(each.right)
    return {truth: float(np.mean(each)) for truth, each in rates.items()}


def false_rate(met: Sequence[Met]) -> float:
    """Alarms before the change, per 10,000 images in control."""
    return 10_000 * sum(each.false for each in met) / (CONTROL * sum(len(each.trials) for each in met))


KINDS = (DRIFT, "defect_surge", FAULT, MIXED, NOTHING)
