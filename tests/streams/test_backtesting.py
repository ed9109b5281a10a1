"""Backtests against a monitor that met the same verdicts one by one, over a line whose change is known."""

from collections.abc import Iterable
from itertools import islice
from pathlib import Path

import msgspec
import numpy as np
import pytest

from detectors.errors import InvalidInput
from detectors.manifest import DriftReference
from streams.backtesting import (
    AS_RECORDED,
    CONTINUED,
    MISSING,
    NEW,
    Backtest,
    RecordedIncident,
    WouldAlarm,
    compared,
    in_turn,
    runs_of,
)
from streams.drift import LineMonitor
from streams.ledger import JudgedSpan, Ledger
from streams.messages import DriftIncident, NearestNormal, Signals, Verdict
from streams.watching import incident

SIGNALS = ("peak", "bulk", "mean", "contrast", "sharpness")
RUN_LENGTHS = (500, 10_000, 200_000)
STEADY, SHIFTED = 200, 150


def row(rng: np.random.Generator, *, bulk: float = 0.0) -> dict[str, float]:
    values = np.array([5.0, 3.0, 120.0, 30.0, 9.0]) + rng.standard_normal(5) + np.array([0.0, bulk, 0.0, 0.0, 0.0])
    return dict(zip(SIGNALS, values.tolist(), strict=True))


def reference(images: int = 250) -> DriftReference:
    rng = np.random.default_rng(100)
    rows = [row(rng) for _ in range(images)]
    return msgspec.convert({name: tuple(each[name] for each in rows) for name in SIGNALS}, DriftReference)


def verdicts(first: int, images: int, *, version: int = 1, bulk: float = 0.0, late: bool = False) -> list[Verdict]:
    """One verdict a second; image ids and times are numbers."""
    rng = np.random.default_rng(first + 7)
    box = (0.0, 0.0, 0.5, 0.5)
    return [
        Verdict(
            line="tiles", image_id=f"{'late' if late else 'image'}-{at:05}", version=version, score=5.0, threshold=9.0,
            threshold_revision=1, flagged=False, signals=msgspec.convert(row(rng, bulk=bulk), Signals), taken_at=float(at),
            judged_at=float(at), latency_ms=1.0, image_key=f"images/tiles/{at}.png", late=late,
            nearest=NearestNormal(training_image_key="k", training_box=box, box=box, distance=1.0),
        )
        for at in range(first, first + images)
    ]  # fmt: skip


def the_line() -> list[Verdict]:
    """Steady, then shifted by three standard deviations; a burst of late verdicts of another light in the steady part."""
    return [*verdicts(0, STEADY), *verdicts(50, 40, bulk=9.0, late=True), *verdicts(STEADY, SHIFTED, bulk=3.0)]


def live(run_length: int, judged: Iterable[Verdict]) -> list[DriftIncident]:
    """What a monitor that meets verdicts one by one would open, each time it alarms."""
    monitor = LineMonitor(reference(), expected_run_length=run_length, seed=0)
    return [
        incident(verdict, alarm) for verdict in judged for alarm in monitor.update(verdict.image_id, verdict.signals)
    ]


def filled(path: Path, judged: Iterable[Verdict]) -> Ledger:
    ledger = Ledger.open(f"sqlite:///{path}")
    ledger.record(list(judged))
    return ledger


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[int, list[WouldAlarm]]:
    """The alarms of the line under each run length, read in one pass in small pages."""
    ledger = filled(tmp_path_factory.mktemp("ledger") / "ledger.sqlite", the_line())
    (span,) = ledger.judged_spans("tiles")
    return Backtest(reference(), run_lengths=RUN_LENGTHS, seed=0).run(ledger.judged("tiles", span, page=64))


def test_the_alarms_are_those_of_a_monitor_that_met_the_verdicts_one_by_one(found: dict[int, list[WouldAlarm]]) -> None:
    expected = live(10_000, (each for each in the_line() if not each.late))
    assert [(each.incident_id, each.image_id, each.at, each.signal, each.effect) for each in found[10_000]] == [
        (each.incident_id, each.alarm_image_id, each.at, each.signal, each.effect) for each in expected
    ]


def test_the_first_alarm_is_at_the_change(found: dict[int, list[WouldAlarm]]) -> None:
    for alarms in found.values():
        first = alarms[0]
        assert STEADY <= first.at <= STEADY + 20
        assert (first.kind, first.signal, first.version, first.mark) == ("covariate_drift", "bulk", 1, None)
        assert first.image_id == f"image-{first.after_images:05}", "late verdicts are not counted"
        assert first.since_image_id <= first.image_id
        assert [each.at for each in alarms] == sorted(each.at for each in alarms)


def test_a_longer_run_length_never_alarms_earlier(found: dict[int, list[WouldAlarm]]) -> None:
    firsts = [found[run_length][0].at for run_length in RUN_LENGTHS]
    assert firsts == sorted(firsts)


def test_late_verdicts_are_left_out() -> None:
    assert [each.image_id for each in in_turn([*verdicts(0, 1), *verdicts(0, 1, late=True)])] == ["image-00000"]


@pytest.mark.parametrize("images", [5, 0])
def test_a_reference_that_carries_no_monitor_is_refused(images: int) -> None:
    with pytest.raises(InvalidInput, match=f"{images} images"):
        Backtest(reference(images), run_lengths=(500,), seed=0)


def test_a_run_length_below_one_is_refused() -> None:
    with pytest.raises(InvalidInput, match="expected_run_length 0"):
        Backtest(reference(), run_lengths=(0,), seed=0)


def alarm(number: int, *, at: float, kind: str = "covariate_drift", version: int = 1) -> WouldAlarm:
    return WouldAlarm(
        at=at, version=version, image_id=f"i{number}", kind=kind, signal="bulk", test="page_hinkley", reference=1.0, observed=2.0,
        effect=3.0, confidence=1.0, evidence=(), shape="step", where=(), place="", since_image_id="s", before_image_id=None,
        after_images=number, incident_id=f"incident-{number}",
    )  # fmt: skip


def recorded(number: int, *, at: float, closed_at: float | None = None, version: int = 1) -> RecordedIncident:
    return RecordedIncident(
        incident_id=f"incident-{number}", version=version, kind="covariate_drift", signal="bulk",
        state="closed" if closed_at else "opened", opened_at=at, closed_at=closed_at, effect=3.0, alarm_image_id=f"i{number}",
        since_image_id="s", run_length=None, place="",
    )  # fmt: skip


def test_alarms_are_compared_with_what_was_recorded() -> None:
    alarms = [
        alarm(1, at=10.0), alarm(2, at=15.0), alarm(3, at=15.0, kind="defect_surge"), alarm(4, at=21.0), alarm(5, at=99.0),
        alarm(6, at=99.0, version=2),
    ]  # fmt: skip
    known = [recorded(1, at=10.0, closed_at=20.0), recorded(7, at=90.0), recorded(8, at=95.0, version=3)]
    marked, missed = compared(alarms, known, versions=[1, 2])
    assert [each.mark for each in marked] == [AS_RECORDED, CONTINUED, NEW, NEW, CONTINUED, NEW]
    assert [each.mark for each in missed] == [AS_RECORDED, MISSING, None], "version 3 was not run"


def test_alarms_that_find_a_change_again_are_counted() -> None:
    near = [
        alarm(10, at=1.0),
        alarm(15, at=2.0, kind="defect_surge"),
        alarm(210, at=3.0),
        alarm(411, at=4.0),
        alarm(412, at=5.0),
    ]
    assert [(each.after_images, again) for each, again in runs_of(near)] == [(10, 1), (15, 0), (411, 1)]
    own = msgspec.structs.replace(near[4], mark=AS_RECORDED)
    assert [(each.after_images, again) for each, again in runs_of([near[3], own, alarm(413, at=6.0, version=2)])] == [
        (411, 0),
        (412, 0),
        (413, 0),
    ]
    assert runs_of([]) == []


def test_an_incident_that_is_closed_tells_when() -> None:
    told = live_incident()
    assert RecordedIncident.of(5.0, told).closed_at is None
    closed = msgspec.structs.replace(told, state="closed", at=9.0)
    assert (RecordedIncident.of(5.0, closed).opened_at, RecordedIncident.of(5.0, closed).closed_at) == (5.0, 9.0)


def live_incident() -> DriftIncident:
    return DriftIncident(
        line="tiles", incident_id="i", kind="covariate_drift", state="opened", version=1, signal="bulk", test="page_hinkley",
        reference=1.0, observed=2.0, effect=2.5, since_image_id="a", alarm_image_id="b", after_images=10, at=5.0,
    )  # fmt: skip


def test_a_past_is_read_in_pages_in_the_order_of_judgement(ledger: Ledger) -> None:
    ledger.record([*verdicts(0, 5)[::-1], *verdicts(0, 5, late=True)])
    ledger.record(verdicts(3, 4, version=2))
    first, second = ledger.judged_spans("tiles")
    assert (first, second) == (JudgedSpan(1, 10, 0.0, 4.0), JudgedSpan(2, 2, 5.0, 6.0)), "the first verdict stands"
    pages = list(ledger.judged("tiles", first, page=4))
    assert [len(page) for page in pages] == [4, 4, 2]
    read = [each for page in pages for each in page]
    assert [each.judged_at for each in read] == sorted([0.0, 1.0, 2.0, 3.0, 4.0] * 2)
    bare = [msgspec.structs.replace(each, nearest=None) for each in ledger.history("tiles", 1)]
    assert [msgspec.structs.asdict(each) for each in read] == [msgspec.structs.asdict(each) for each in bare]
    assert [each.image_id for page in ledger.judged("tiles", first, since=4.0) for each in page] == [
        "image-00004",
        "late-00004",
    ]


def test_what_is_judged_while_a_past_is_read_is_left_for_the_next_time(ledger: Ledger) -> None:
    ledger.record(verdicts(0, 5))
    (span,) = ledger.judged_spans("tiles")
    pages = ledger.judged("tiles", span, page=3)
    assert len(next(iter(islice(pages, 1)))) == 3
    ledger.record(verdicts(5, 5))
    assert sum(len(page) for page in pages) == 2


def test_the_latest_images_begin_somewhere(ledger: Ledger) -> None:
    ledger.record([*verdicts(0, 5), *verdicts(5, 5, version=2)])
    assert ledger.first_of_latest("tiles", 3) == 7.0
    assert ledger.first_of_latest("tiles", 3, version=1) == 2.0
    assert ledger.first_of_latest("tiles", 11) is None
    assert [each.version for each in ledger.judged_spans("tiles", since=7.0)] == [2]
    assert ledger.judged_spans("nowhere") == []


def test_incidents_are_told_with_the_moment_they_were_opened(ledger: Ledger) -> None:
    told = live_incident()
    closed = msgspec.structs.replace(told, state="closed", at=9.0)
    ledger.record([msgspec.structs.replace(told, incident_id="j", at=7.0), told])
    ledger.record([closed])
    assert [(at, each.state) for at, each in ledger.openings("tiles")] == [(5.0, "closed"), (7.0, "opened")]


def test_an_incident_whose_end_was_recorded_first_was_opened_with_its_alarm_image(ledger: Ledger) -> None:
    told = msgspec.structs.replace(live_incident(), alarm_image_id="image-00005")
    ledger.record(verdicts(5, 1))
    ledger.record([msgspec.structs.replace(told, state="closed", at=9.0), told])
    assert [(at, each.state) for at, each in ledger.openings("tiles")] == [(5.0, "closed")]
