"""The watcher's handler over real records, monitors and a real ledger: incidents, requests, redelivery, restart."""

from collections.abc import Iterable, Sequence
from pathlib import Path

import msgspec
import numpy as np
import pytest

from detectors.errors import InvalidInput, Unavailable
from detectors.manifest import DriftReference
from streams.bus import Record
from streams.epochs import Place
from streams.ledger import Ledger
from streams.messages import (
    Collected,
    DriftIncident,
    IncidentAnswer,
    LineImage,
    Message,
    ModelPromoted,
    RetrainRequest,
    Signals,
    Verdict,
    encode,
)
from streams.resuming import History, NothingJudged, Recorded
from streams.settings import LineConfig
from streams.stored_calibration import calibrated
from streams.watching import TOPICS, WatchHandler, recorded_in

CONFIG = LineConfig(retrain_images=20, cold_start_images=10, cooldown_s=60.0)
NOW = 5_000.0
SIGNALS = ("peak", "bulk", "mean", "contrast", "sharpness")


def row(rng: np.random.Generator, *, bulk: float = 0.0, peak: float = 0.0) -> dict[str, float]:
    values = np.array([5.0, 3.0, 120.0, 30.0, 9.0]) + rng.standard_normal(5) + np.array([peak, bulk, 0, 0, 0])
    return dict(zip(SIGNALS, values.tolist(), strict=True))


def reference(_line: str = "tiles", version: int = 1) -> DriftReference:
    rng = np.random.default_rng(100 + version)
    rows = [row(rng) for _ in range(60)]
    return msgspec.convert({name: tuple(each[name] for each in rows) for name in SIGNALS}, DriftReference)


def verdicts(first: int, images: int, *, line: str = "tiles", version: int = 1, bulk: float = 0.0) -> list[Message]:
    """One verdict a second; image ids and times are numbers."""
    rng = np.random.default_rng(first + 7)
    return [
        Verdict(
            line=line, image_id=f"{line}-{at}", version=version, score=5.0, threshold=9.0, threshold_revision=1,
            flagged=False,
            signals=msgspec.convert(row(rng, bulk=bulk), Signals), taken_at=float(at), judged_at=float(at), latency_ms=1.0,
            image_key=f"images/{line}/{at}.png",
        )
        for at in range(first, first + images)
    ]  # fmt: skip


def collected(first: int, images: int, *, line: str = "tiles") -> list[Message]:
    return [
        Collected(
            line=line, collected_at=float(at),
            image=LineImage(
                line=line, image_id=f"{line}-{at}", taken_at=float(at), digest="00", key=f"images/{at}", size_bytes=1
            ),
        )
        for at in range(first, first + images)
    ]  # fmt: skip


def promoted(version: int, *, sequence: int, at: float, previous: int | None = None) -> ModelPromoted:
    return ModelPromoted(
        line="tiles", version=version, previous=previous, sequence=sequence, by="driftline", why="gates passed", at=at
    )


def records(messages: Iterable[Message], *, first: int = 0) -> list[Record]:
    return [
        Record(each.topic, 0, first + n, each.line.encode(), (), encode(each), 0.0) for n, each in enumerate(messages)
    ]


NOTHING = NothingJudged()


def handler(history: History = NOTHING, *, config: LineConfig = CONFIG) -> WatchHandler:
    return WatchHandler(reference, lambda _: config, lambda: NOW, history=history)


def after_restart(ledger: Ledger, *, config: LineConfig = CONFIG) -> WatchHandler:
    return WatchHandler(reference, lambda _: config, lambda: NOW, history=ledger, recorded=recorded_in(ledger))


def answer(told: Message, says: str, *, at: float) -> IncidentAnswer:
    assert isinstance(told, DriftIncident)
    return IncidentAnswer(line="tiles", incident_id=told.incident_id, says=says, note="", by="ana", at=at)


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    return Ledger.open(f"sqlite:///{tmp_path / 'ledger.sqlite'}")


def take(watcher: WatchHandler, messages: Sequence[Message], *, batch: int = 64) -> list[Message]:
    """What a watcher says to messages that come in batches."""
    said: list[Message] = []
    for start in range(0, len(messages), batch):
        said += watcher.handle(records(messages[start : start + batch])).messages
    return said


def identities(messages: Iterable[Message]) -> list[str]:
    return [message.identity for message in messages]


STEADY = verdicts(0, 100)
STEP = verdicts(100, 60, bulk=3.0)


def test_a_step_opens_an_incident_and_asks_for_a_model_of_images_from_the_alarm_on() -> None:
    watcher = handler()
    assert take(watcher, STEADY) == []
    opened, request = take(watcher, STEP)
    assert isinstance(opened, DriftIncident)
    assert (opened.kind, opened.state, opened.signal, opened.version) == ("covariate_drift", "opened", "bulk", 1)
    assert 100 <= opened.after_images <= 115
    assert opened.alarm_image_id == f"tiles-{opened.after_images}"
    assert opened.at == float(opened.after_images)
    assert opened.since_image_id == "tiles-100"
    assert (opened.before_image_id, opened.shape, opened.place, opened.run_length) == ("tiles-99", "step", "", 10_000)
    assert opened.confidence is not None
    assert 0.5 < opened.confidence <= 1.0
    assert "bulk" in opened.evidence[0]
    assert isinstance(request, RetrainRequest)
    last = int(request.image_keys[-1].removeprefix("images/tiles/").removesuffix(".png"))
    assert opened.after_images + 19 <= last <= opened.after_images + 30, "when it alarms again"
    assert request.image_keys == tuple(f"images/tiles/{at}.png" for at in range(last - 19, last + 1))
    assert (request.incident_id, request.alarm_at, request.requested_at) == (opened.incident_id, opened.at, NOW)


def test_redelivery_says_the_same_and_moves_nothing() -> None:
    watcher = handler()
    take(watcher, STEADY)
    said = take(watcher, STEP)
    monitor = watcher.monitor("tiles")
    assert monitor
    before, state = monitor.state, watcher.state("tiles")
    assert take(watcher, STEP) == said
    assert take(watcher, STEP, batch=1) == said
    assert (monitor.state, watcher.state("tiles")) == (before, state)


def test_batches_make_no_difference() -> None:
    one, two = handler(), handler()
    assert take(one, STEADY + STEP, batch=1) == take(two, STEADY + STEP, batch=1000)


def test_after_a_restart_the_same_records_say_the_same(ledger: Ledger) -> None:
    whole = handler()
    said = take(whole, STEADY + STEP)
    ledger.record(STEADY + STEP[:5])
    late = after_restart(ledger)
    assert identities(take(late, STEP)) == identities(said)
    assert late.state("tiles") == whole.state("tiles")
    one, two = late.monitor("tiles"), whole.monitor("tiles")
    assert one
    assert two
    assert one.state == two.state


def test_a_recorder_that_is_ahead_is_no_matter(ledger: Ledger) -> None:
    said = take(handler(), STEADY + STEP)
    ledger.record(STEADY + STEP)
    late = after_restart(ledger)
    assert identities(take(late, STEP)) == identities(said)
    monitor = late.monitor("tiles")
    assert monitor
    assert monitor.state.judged == 160


def test_late_and_old_and_repeated_verdicts_are_not_watched() -> None:
    watcher = handler()
    take(watcher, STEADY)
    monitor = watcher.monitor("tiles")
    assert monitor
    before = monitor.state
    late = [Verdict(**{**{f: getattr(each, f) for f in each.__struct_fields__}, "late": True}) for each in STEP]
    assert take(watcher, [*late, *verdicts(900, 60, version=0, bulk=3.0), *STEADY]) == []
    assert monitor.state == before


def test_a_new_version_closes_the_incident_and_starts_afresh() -> None:
    for news in (verdicts(200, 1, version=2), [promoted(2, sequence=2, at=200.0, previous=1)]):
        watcher = handler()
        opened, _ = take(watcher, STEADY + STEP)
        (closed,) = take(watcher, news)
        assert isinstance(closed, DriftIncident)
        assert isinstance(opened, DriftIncident)
        assert (closed.incident_id, closed.state, closed.at) == (opened.incident_id, "closed", 200.0)
        assert watcher.state("tiles").version == 2
        assert watcher.state("tiles").request_id is None
        monitor = watcher.monitor("tiles")
        assert monitor
        assert monitor.state.judged == len([each for each in news if isinstance(each, Verdict)])
        assert take(watcher, news) == [closed], "redelivered"


def test_an_incident_of_the_old_version_is_closed_although_the_watcher_restarted_between(ledger: Ledger) -> None:
    said = take(handler(), STEADY + STEP)
    ledger.record(STEADY + STEP + said)
    (closed,) = take(after_restart(ledger), verdicts(200, 1, version=2))
    assert isinstance(closed, DriftIncident)
    assert isinstance(said[0], DriftIncident)
    assert (closed.incident_id, closed.state) == (said[0].incident_id, "closed")


def test_what_an_older_program_or_a_later_state_left_open_is_closed_by_the_next_count(ledger: Ledger) -> None:
    opened = old_incident("was-opened")
    grown = msgspec.structs.replace(old_incident("was-growing"), state="growing", sequence=3)
    ended = msgspec.structs.replace(old_incident("was-closed"), state="closed")
    ledger.record([opened, grown, ended])
    news = verdicts(200, 1, version=2)
    said = take(after_restart(ledger), news)
    assert identities(said) == ["was-opened:closed:1", "was-growing:closed:4"]
    assert take(after_restart(ledger), news) == said, "the recorder has not been quick enough"
    ledger.record(said)
    assert take(after_restart(ledger), news) == []
    assert ledger.incidents("tiles", open_only=True) == []


def old_incident(name: str) -> DriftIncident:
    return DriftIncident(
        line="tiles", incident_id=name, kind="covariate_drift", state="opened", version=1, signal="bulk", test="page_hinkley",
        reference=1.0, observed=2.0, effect=2.5, since_image_id="a", alarm_image_id="b", after_images=10, at=float(len(name)),
    )  # fmt: skip


def test_a_silent_day_alone_alarms_nothing() -> None:
    watcher = handler()
    assert take(watcher, STEADY) == []
    day_s = 86_400
    assert take(watcher, verdicts(100 + day_s, 60)) == []
    assert watcher.state("tiles").incidents == ()
    said = take(watcher, verdicts(160 + 2 * day_s, 10, bulk=3.0))
    assert [message.state for message in said if isinstance(message, DriftIncident)] == ["opened"]


def test_a_line_whose_parts_got_worse_as_well_asks_for_nothing() -> None:
    watcher = handler(config=LineConfig(retrain_images=60))
    worse = [with_bad_part(each) if n % 3 == 0 else each for n, each in enumerate(verdicts(100, 150, bulk=3.0))]
    said = take(watcher, STEADY + worse)
    assert {message.kind for message in said if isinstance(message, DriftIncident)} == {
        "covariate_drift",
        "defect_surge",
    }
    assert not [message for message in said if isinstance(message, RetrainRequest)]


def with_bad_part(message: Message) -> Message:
    assert isinstance(message, Verdict)
    signals = msgspec.structs.replace(message.signals, peak=message.signals.peak + 12.0)
    return msgspec.structs.replace(message, signals=signals, flagged=True)


def test_an_answer_is_heard_when_it_was_given_also_after_a_restart(ledger: Ledger) -> None:
    by_hand = LineConfig(retrain_images=20, auto=False)
    whole = after_restart(ledger, config=by_hand)
    said = take(whole, STEADY + STEP)
    assert [type(message) for message in said] == [DriftIncident]
    ledger.record(
        [*STEADY, *STEP, *said, answer(said[0], "acknowledged", at=161.0), answer(said[0], "expected", at=170.0)]
    )
    ledger.record([answer(said[0], "ignored", at=190.0)])
    more = verdicts(160, 60, bulk=3.0)
    (request,) = take(whole, more)
    assert isinstance(request, RetrainRequest)
    assert request.image_keys[-1] == "images/tiles/170.png"
    assert watcher_says(whole) == ["ignored"]
    ledger.record(more)
    again = after_restart(ledger, config=by_hand)
    assert identities(take(again, more)) == [request.identity]
    assert again.state("tiles") == whole.state("tiles")


def watcher_says(watcher: WatchHandler) -> list[str | None]:
    return [each.says for each in watcher.state("tiles").open_incidents]


def test_a_ledger_that_cannot_tell_answers_holds_an_image_up_and_takes_it_in_once() -> None:
    away = [False]

    def answers(_incident_id: str) -> Sequence[IncidentAnswer]:
        if away[0]:
            raise Unavailable("the ledger does not answer")
        return ()

    watcher = WatchHandler(
        reference, lambda _: CONFIG, lambda: NOW, history=NOTHING, recorded=Recorded(answers=answers)
    )
    take(watcher, STEADY + STEP[:30])
    monitor = watcher.monitor("tiles")
    assert monitor
    away[0] = True
    with pytest.raises(Unavailable):
        take(watcher, STEP[30:])
    away[0] = False
    take(watcher, STEP[30:])
    assert monitor.state.judged == len(STEADY + STEP)


def test_a_rollback_goes_back_to_the_older_version_and_ignores_stragglers() -> None:
    watcher = handler()
    take(watcher, [promoted(1, sequence=1, at=0.0), *STEADY, promoted(2, sequence=2, at=150.0, previous=1)])
    assert watcher.state("tiles").version == 2
    take(watcher, [promoted(1, sequence=3, at=160.0, previous=2), *verdicts(170, 3, version=2), *verdicts(173, 5)])
    assert watcher.state("tiles").version == 1
    take(watcher, [promoted(2, sequence=2, at=150.0, previous=1)])
    assert watcher.state("tiles").version == 1, "an old promotion that comes again"


def test_after_a_model_was_taken_back_the_drift_that_it_was_made_for_is_noticed_again(ledger: Ledger) -> None:
    watcher = after_restart(ledger)
    said = take(watcher, [promoted(1, sequence=1, at=0.0), *STEADY, *STEP])
    ledger.record([*STEADY, *STEP, *said])
    (first,) = [each for each in said if isinstance(each, RetrainRequest)]
    ledger.end_request(first.request_id, outcome="promoted", version=2, detail="", at=200.0)
    back = msgspec.structs.replace(promoted(1, sequence=3, at=230.0, previous=2), rolled_back=True)
    news = [promoted(2, sequence=2, at=200.0, previous=1), *verdicts(201, 20, version=2), back]
    said = take(watcher, news)
    assert [each.state for each in said if isinstance(each, DriftIncident)] == ["closed"]
    ledger.record([*news, *said])
    for watching in (watcher, after_restart(ledger)):
        stragglers = [*verdicts(231, 5, version=2), *verdicts(240, 5, bulk=3.0), *verdicts(245, 5, version=2)]
        said = take(watching, [*stragglers, *verdicts(250, 300, bulk=3.0)])
        assert watching.state("tiles").version == 1
        (second,) = [each for each in said if isinstance(each, RetrainRequest)]
        assert second.parent_version == 1
        assert second.request_id != first.request_id


def test_an_ended_request_is_heard_of_and_comes_again_after_a_rest(ledger: Ledger) -> None:
    watcher = after_restart(ledger)
    said = take(watcher, STEADY + STEP)
    ledger.record(said)
    (first,) = [each for each in said if isinstance(each, RetrainRequest)]
    assert take(watcher, verdicts(160, 40, bulk=3.0)) == []
    ledger.end_request(first.request_id, outcome="refused", version=None, detail="recall", at=200.0)
    (second,) = take(watcher, verdicts(200, 90, bulk=3.0))
    assert isinstance(second, RetrainRequest)
    assert second.request_id != first.request_id
    assert "images/tiles/260.png" in second.image_keys[-12:], "after the rest, when it alarms again"
    assert len(second.image_keys) == 20


def test_the_end_of_a_request_is_heard_of_although_the_clock_was_set_back_since(ledger: Ledger) -> None:
    watcher = after_restart(ledger)
    said = take(watcher, STEADY + STEP)
    ledger.record(said)
    (first,) = [each for each in said if isinstance(each, RetrainRequest)]
    ended_at = NOW + 3600.0
    ledger.end_request(first.request_id, outcome="refused", version=None, detail="recall", at=ended_at)
    (second,) = take(watcher, verdicts(200, 90, bulk=3.0))
    assert isinstance(second, RetrainRequest)
    assert second.request_id != first.request_id
    assert "images/tiles/260.png" in second.image_keys[-12:], "after the rest, from when it was heard of"


def test_a_cold_start_asks_once_also_after_a_restart(ledger: Ledger) -> None:
    images = collected(0, 15)
    (request,) = take(handler(), images)
    assert isinstance(request, RetrainRequest)
    assert (request.cause, request.image_keys) == ("cold_start", tuple(f"images/{n}" for n in range(10)))
    ledger.record(images[:6])
    late = after_restart(ledger)
    (again,) = take(late, images[6:])
    assert isinstance(again, RetrainRequest)
    assert (again.identity, again.image_keys) == (request.identity, request.image_keys)


def test_collected_images_of_a_line_with_a_model_ask_for_nothing() -> None:
    watcher = handler()
    take(watcher, STEADY)
    assert take(watcher, collected(500, 30)) == []


def test_lines_do_not_mix() -> None:
    watcher = handler()
    pairs = zip(STEADY + STEP, verdicts(0, 160, line="doors"), strict=True)
    said = take(watcher, [message for pair in pairs for message in pair])
    assert {message.line for message in said} == {"tiles"}
    assert identities(said) == identities(take(handler(), STEADY + STEP))


@pytest.mark.parametrize("kept", ["whole", "broken"])
def test_a_stored_calibration_changes_no_alarm(kept: str, caplog: pytest.LogCaptureFixture) -> None:
    stored = calibrated(reference(), seed=CONFIG.seed)
    raw = msgspec.Raw(msgspec.json.encode(stored)[: None if kept == "whole" else 40])
    watcher = WatchHandler(reference, lambda _: CONFIG, lambda: NOW, history=NOTHING, calibrations=lambda *_: raw)
    assert identities(take(watcher, STEADY + STEP)) == identities(take(handler(), STEADY + STEP)) != []
    assert ("calibrated anew" in caplog.text) == (kept == "broken")


@pytest.mark.parametrize("images", [None, 5])
def test_a_version_that_cannot_be_watched_is_said_and_stops_nothing(
    images: int | None, caplog: pytest.LogCaptureFixture
) -> None:
    whole = reference()
    short = DriftReference(**{name: getattr(whole, name)[:images] for name in SIGNALS}) if images else None
    watcher = WatchHandler(lambda *_: short, lambda _: CONFIG, lambda: NOW, history=NOTHING)
    assert take(watcher, STEADY + STEP) == []
    assert len(caplog.records) == 1
    assert "not watched" in caplog.text


def test_what_is_no_message_is_refused_and_the_rest_of_its_batch_is_not_lost() -> None:
    watcher = handler()
    take(watcher, STEADY)
    batch = records(STEP)
    broken = Record("verdicts", 0, 999, b"tiles", (), b'{"line": 1}', 0.0)
    with pytest.raises(InvalidInput, match="Verdict"):
        watcher.handle([*batch, broken])
    singles = [message for each in batch for message in watcher.handle([each]).messages]
    assert identities(singles) == identities(take(handler(), STEADY + STEP))
    with pytest.raises(InvalidInput, match="is not watched"):
        watcher.handle([Record("images", 0, 0, b"tiles", (), b"", 0.0)])


def test_a_ledger_that_is_away_changes_nothing() -> None:
    away = [True]

    class Away(NothingJudged):
        def history(self, line: str, version: int, *, since: Place, before: Place | None) -> Iterable[Verdict]:
            if away.pop():
                raise Unavailable("the ledger does not answer")
            return ()

    watcher = handler(Away())
    with pytest.raises(Unavailable):
        take(watcher, STEADY)
    assert watcher.state("tiles").version is None
    away.append(False)
    assert identities(take(watcher, STEADY + STEP)) == identities(take(handler(), STEADY + STEP))


def test_the_topics_are_those_it_takes() -> None:
    assert TOPICS == ("verdicts", "collected", "promotions")
