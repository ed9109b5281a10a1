"""`driftline drift backtest`: what is recorded of a line under other drift settings, beside the incidents that were recorded."""

import math
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import msgspec
import numpy as np

from detectors.errors import InvalidInput, NotFound
from detectors.manifest import DriftReference
from orchestration.downsampling import Band, Bins
from orchestration.moments import utc
from streams.backtesting import Backtest, RecordedIncident, WouldAlarm, compared, in_turn
from streams.calibrating import Scale
from streams.ledger import JudgedSpan, Ledger
from streams.messages import Verdict
from streams.settings import LineConfig
from streams.watching import References

Told = Callable[[str, int, int], None]
"""Hears what is being done, how much of it is done, and of how much."""

MOST_BINS, FEWEST_BINS, IMAGES_A_BIN = 800, 20, 5


@dataclass(frozen=True)
class Asked:
    """What is to be run: nothing given means all versions, the line's own run length and seed, all images."""

    line: str
    run_lengths: tuple[int, ...] = ()
    version: int | None = None
    since: float | None = None
    images: int | None = None
    seed: int | None = None


class VersionRun(msgspec.Struct, frozen=True, kw_only=True):
    """A version's part: `images` went through the monitors, `late` were left out; `skipped` says why none went."""

    version: int
    images: int
    late: int
    first_at: float
    last_at: float
    skipped: str | None = None


class Setting(msgspec.Struct, frozen=True, kw_only=True):
    """One expected run length; `of_line`: it is the line's own, and its alarms are compared with what was recorded."""

    expected_run_length: int
    of_line: bool
    notes: tuple[str, ...]
    alarms: tuple[WouldAlarm, ...]


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """The answer of the command (docs/backtest.md)."""

    line: str
    images: int
    since: float | None
    seed: int
    versions: tuple[VersionRun, ...]
    settings: tuple[Setting, ...]
    recorded: tuple[RecordedIncident, ...]


@dataclass(frozen=True)
class Trace:
    """What a plot shows of a version: scores over their thresholds, and bulk in robust sd of its reference."""

    version: int
    score: Band
    bulk: Band


class _Tracing:
    """Gathers the trace of a version page by page."""

    def __init__(self, reference: DriftReference, within: tuple[float, float], bins: int) -> None:
        self._scale = Scale.of(np.array(reference.bulk))
        self._score, self._bulk = Bins(*within, bins=bins), Bins(*within, bins=bins)

    def take(self, page: Sequence[Verdict]) -> None:
        at_N = np.array([each.judged_at for each in page])
        score_N = np.array([each.score for each in page])
        threshold_N = np.array([each.threshold for each in page])
        self._score.add(at_N, np.divide(score_N, threshold_N, out=np.full(len(page), np.nan), where=threshold_N > 0))
        self._bulk.add(at_N, self._scale.standard(np.array([each.signals.bulk for each in page])))

    def trace(self, version: int) -> Trace:
        return Trace(version, self._score.band(), self._bulk.band())


class _Run:
    """One run of the command over a ledger."""

    def __init__(self, ledger: Ledger, references: References, config: LineConfig, asked: Asked, told: Told) -> None:
        self._ledger, self._references, self._asked, self._told = ledger, references, asked, told
        self._own = config.expected_run_length
        self._lengths = tuple(dict.fromkeys(asked.run_lengths)) or (self._own,)
        self._seed = config.seed if asked.seed is None else asked.seed
        self._since, self._spans = _selected(ledger, asked)
        self._total, self._done = sum(each.images for each in self._spans), 0
        self._versions: list[VersionRun] = []
        self._late: Counter[int] = Counter()
        self._alarms: dict[int, list[WouldAlarm]] = {length: [] for length in self._lengths}
        self._notes: dict[int, list[str]] = {length: [] for length in self._lengths}
        self.traces: list[Trace] = []

    def run(self, *, traced: bool) -> Report:
        """Every version, in the order of their first verdicts."""
        for span in self._spans:
            self._tell(0)
            self._run_version(span, traced)
        if all(each.skipped for each in self._versions):
            raise InvalidInput(
                f"line {self._asked.line!r}: "
                + "; ".join(f"version {each.version}: {each.skipped}" for each in self._versions)
                + "; there is nothing to compare verdicts with: train the line again, newer versions bring a drift reference"
            )
        return self._report()

    def _run_version(self, span: JudgedSpan, traced: bool) -> None:
        reference = self._references(self._asked.line, span.version)
        if reference is None:
            self._skip(span, "no drift reference")
            return
        try:
            backtest = Backtest(reference, run_lengths=self._lengths, seed=self._seed)
        except InvalidInput as error:
            self._skip(span, str(error))
            return
        tracing = _Tracing(reference, _within(self._spans), _bins(self._total)) if traced else None
        for length, alarms in backtest.run(self._pages(span, tracing)).items():
            self._alarms[length] += alarms
            self._notes[length] += [f"version {span.version}: {each}" for each in backtest.monitors[length].notes]
        self._versions.append(_version_run(span, late=self._late[span.version]))
        if tracing is not None:
            self.traces.append(tracing.trace(span.version))

    def _pages(self, span: JudgedSpan, tracing: _Tracing | None) -> Iterator[list[Verdict]]:
        for page in self._ledger.judged(self._asked.line, span, since=self._since):
            yield page
            self._late[span.version] += sum(each.late for each in page)
            if tracing is not None:
                tracing.take(in_turn(page))
            self._tell(len(page))

    def _skip(self, span: JudgedSpan, why: str) -> None:
        self._versions.append(_version_run(span, skipped=why))
        self._tell(span.images)

    def _tell(self, images: int) -> None:
        self._done += images
        self._told(f"verdicts of {self._asked.line}", self._done, self._total)

    def _report(self) -> Report:
        recorded = self._recorded()
        settings = []
        for length in self._lengths:
            alarms = sorted(self._alarms[length], key=lambda each: each.at)
            if length == self._own:
                run = [each.version for each in self._versions if each.skipped is None]
                alarms, recorded = compared(alarms, recorded, versions=run)
            notes = tuple(self._notes[length])
            of_line = length == self._own
            settings.append(Setting(expected_run_length=length, of_line=of_line, notes=notes, alarms=tuple(alarms)))
        shown = [each for each in recorded if each.opened_at >= self._since]
        return Report(
            line=self._asked.line,
            images=sum(each.images for each in self._versions),
            since=None if math.isinf(self._since) else self._since,
            seed=self._seed,
            versions=tuple(self._versions),
            settings=tuple(settings),
            recorded=tuple(shown),
        )

    def _recorded(self) -> list[RecordedIncident]:
        """Incidents of the versions asked for, but those opened after what was read."""
        ends = {span.version: span.last_at for span in self._spans}
        openings = [RecordedIncident.of(at, told) for at, told in self._ledger.openings(self._asked.line)]
        return [each for each in openings if each.opened_at <= ends.get(each.version, -math.inf)]


def backtest(
    ledger: Ledger, references: References, config: LineConfig, asked: Asked, *, told: Told, traced: bool = False
) -> tuple[Report, list[Trace]]:
    """Run what is recorded of a line through monitors of other settings; with the traces of its versions if `traced`.

    Raises NotFound for a line or version without verdicts, InvalidInput for a moment after the last of them, for a run
    length below 1, and where no version has a drift reference to compare with.
    """
    for length in asked.run_lengths:
        if length < 1:
            raise InvalidInput(
                f"--expected-run-length {length}: must be 1 image or more; the line's own is {config.expected_run_length}"
            )
    run = _Run(ledger, references, config, asked, told)
    return run.run(traced=traced), run.traces


def _selected(ledger: Ledger, asked: Asked) -> tuple[float, list[JudgedSpan]]:
    """From when on, and what each version judged from then on."""
    known = _known(ledger, asked)
    since = -math.inf if asked.since is None else asked.since
    if asked.images is not None:
        first = ledger.first_of_latest(asked.line, asked.images, version=asked.version)
        since = since if first is None else max(since, first)
    if math.isinf(since):
        return since, known
    spans = [
        each
        for each in ledger.judged_spans(asked.line, since=since)
        if asked.version is None or each.version == asked.version
    ]
    if not spans:
        last = max(each.last_at for each in known)
        raise InvalidInput(f"--since {utc(since)}: the last verdict is of {utc(last)}; give an earlier moment")
    return since, spans


def _known(ledger: Ledger, asked: Asked) -> list[JudgedSpan]:
    spans = ledger.judged_spans(asked.line)
    if not spans:
        names = ledger.line_names()
        if asked.line in names:
            raise NotFound(
                f"line {asked.line!r} has no verdicts yet; wait until `driftline score` has judged its images"
            )
        known = (
            f"known: {', '.join(names)}"
            if names
            else "none is; send images with `driftline camera send FILES --line L`"
        )
        raise NotFound(f"line {asked.line!r} is not known; {known}")
    if asked.version is None:
        return spans
    found = [each for each in spans if each.version == asked.version]
    if not found:
        judged = ", ".join(str(each) for each in sorted(span.version for span in spans))
        raise NotFound(f"line {asked.line!r} has no verdicts of version {asked.version}; it has of {judged}: name one")
    return found


def _version_run(span: JudgedSpan, *, late: int = 0, skipped: str | None = None) -> VersionRun:
    return VersionRun(
        version=span.version,
        images=0 if skipped else span.images - late,
        late=late,
        first_at=span.first_at,
        last_at=span.last_at,
        skipped=skipped,
    )


def _within(spans: Sequence[JudgedSpan]) -> tuple[float, float]:
    return min(each.first_at for each in spans), max(each.last_at for each in spans)


def _bins(images: int) -> int:
    return min(MOST_BINS, max(FEWEST_BINS, images // IMAGES_A_BIN))
