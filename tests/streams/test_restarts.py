"""Restarts of the watcher anywhere in a line's life: as if it had never been away, in bounded time. Virtual time, a real ledger."""

from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path

import msgspec
import numpy as np
import pytest

from streams import epochs, resuming
from streams.epochs import BEGINNING, Place, begins_epoch
from streams.ledger import Ledger
from streams.messages import (
    DriftIncident,
    IncidentAnswer,
    Message,
    RetrainRequest,
    Signals,
    Verdict,
)
from streams.resuming import NothingJudged, place_of
from streams.settings import LineConfig
from streams.stored_calibration import calibrated
from streams.watching import REMEMBERED, WatchHandler, recorded_in
from tests.streams.test_watching import identities, promoted, reference, row, take

CONFIG = LineConfig(retrain_images=20, cooldown_s=60.0)
KEPT = msgspec.Raw(msgspec.json.encode(calibrated(reference(), seed=CONFIG.seed)))
EPOCH = 400


def verdict(at: int, signals: dict[str, float], *, version: int = 1) -> Verdict:
    """One a second; ids and times are numbers."""
    return Verdict(
        line="tiles", image_id=f"tiles-{at}", version=version, score=5.0, threshold=9.0, threshold_revision=1, flagged=False,
        signals=msgspec.convert(signals, Signals), taken_at=float(at), judged_at=float(at), latency_ms=1.0,
        image_key=f"images/tiles/{at}.png",
    )  # fmt: skip


def life(seed: int = 0) -> list[Verdict]:
    """Quiet, drift that goes again, quiet, a surge, quiet, a camera that goes dark, quiet, drift that stays."""
    rng = np.random.default_rng(seed)
    seen: list[Verdict] = []

    def pass_by(images: int, *, bulk: float = 0.0, bad: float = 0.0, dark: bool = False) -> None:
        for _ in range(images):
            signals = row(rng, bulk=bulk, peak=8.0 * (rng.random() < bad))
            seen.append(verdict(len(seen), signals | ({"mean": 0.5, "contrast": rng.random() / 10} if dark else {})))

    pass_by(260)
    pass_by(130, bulk=3.0)
    pass_by(420)
    pass_by(120, bad=0.4)
    pass_by(300)
    pass_by(10, dark=True)
    pass_by(330)
    pass_by(230, bulk=3.0)
    return seen


LIFE = life()


@pytest.fixture(autouse=True)
def short_epochs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(epochs, "EPOCH", EPOCH)


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    return Ledger.open(f"sqlite:///{tmp_path / 'ledger.sqlite'}")


@pytest.fixture(scope="module")
def once(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """What is said to that life by a watcher that never restarts."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(epochs, "EPOCH", EPOCH)
        return identities(live(Ledger.open(f"sqlite:///{tmp_path_factory.mktemp('once') / 'ledger.sqlite'}"), LIFE))


def watcher_of(ledger: Ledger, *, config: LineConfig = CONFIG) -> WatchHandler:
    return WatchHandler(
        reference,
        lambda _: config,
        lambda: 1e9,
        history=ledger,
        recorded=recorded_in(ledger),
        calibrations=lambda *_: KEPT,
    )


def what_is(watcher: WatchHandler) -> object:
    """State of policy and monitor; numbers rounded, since many images at once are added up in another order."""
    monitor = watcher.monitor("tiles")
    state = msgspec.to_builtins(watcher.state("tiles"))
    for incident in state["incidents"]:
        incident["told"] |= {
            "effect": round(incident["told"]["effect"], 6),
            "observed": round(incident["told"]["observed"], 6),
        }
        incident["largest"] = round(incident["largest"], 6)
    assert monitor
    return state, monitor.state


def live(ledger: Ledger, coming: Sequence[Message], *, every: int | None = None) -> list[Message]:
    """What is said to messages one by one, acted upon at once; the watcher restarts before each `every`-th of them."""
    watcher, said, unwritten = watcher_of(ledger), list[Message](), list[Message]()
    for number, each in enumerate(coming):
        if every is not None and number % every == 0:
            ledger.record(unwritten)
            watcher, unwritten = watcher_of(ledger), []
        news = take(watcher, [each])
        unwritten.append(each)
        said += news
        act(ledger, each, news)
    return said


def act(ledger: Ledger, image: Message, said: Sequence[Message]) -> None:
    """What is said is written down; requests are refused after a while, and people answer incidents."""
    if not said:
        return
    ledger.record(said)
    at = image.judged_at if isinstance(image, Verdict) else 0.0
    for each in said:
        if isinstance(each, RetrainRequest):
            ledger.end_request(each.request_id, outcome="refused", version=None, detail="recall", at=at + 15.5)
        if isinstance(each, DriftIncident) and each.sequence == 0:
            ledger.record([answer(each, "ignored", at=at + 31), answer(each, "expected", at=at + 60)])


def answer(told: DriftIncident, says: str, *, at: float) -> IncidentAnswer:
    return IncidentAnswer(line="tiles", incident_id=told.incident_id, says=says, note="", by="ana", at=at)


def test_the_life_that_is_lived_here_has_everything_in_it(ledger: Ledger) -> None:
    said = live(ledger, LIFE)
    states = {(each.kind, each.state) for each in said if isinstance(each, DriftIncident)}
    assert {kind for kind, _ in states} == {"covariate_drift", "defect_surge", "camera_fault"}
    assert {"opened", "closed"} <= {state for _, state in states}
    assert sum(isinstance(each, RetrainRequest) for each in said) > 1
    assert sum(begins_epoch(each.image_id) for each in LIFE) > 3


def test_after_a_restart_at_any_image_a_watch_is_what_it_would_have_been(ledger: Ledger) -> None:
    """Including requests that end and answers that are given in between."""
    whole, written = watcher_of(ledger), 0
    for at, each in enumerate(LIFE):
        said = take(whole, [each])
        if at % 23 == 0 or begins_epoch(each.image_id) or said:
            ledger.record(LIFE[written:at])
            late, written = watcher_of(ledger), at
            assert identities(take(late, [each])) == identities(said), at
            assert what_is(late) == what_is(whole), at
        act(ledger, each, said)


@pytest.mark.parametrize("every", [11, 97])
def test_a_watcher_that_restarts_all_the_time_says_what_one_says_that_never_does(
    ledger: Ledger, once: list[str], every: int
) -> None:
    assert identities(live(ledger, LIFE, every=every)) == once


def test_a_batch_that_was_not_committed_says_the_same_again_although_the_recorder_has_it(ledger: Ledger) -> None:
    whole = watcher_of(ledger)
    said: list[Message] = []
    for start in range(0, len(LIFE), 64):
        batch = LIFE[start : start + 64]
        news = take(whole, batch)
        ledger.record([*batch, *news])
        said += news
        if news:
            again = take(watcher_of(ledger), batch)
            assert {*identities(again)} <= {*identities(said)}, "nothing is told under another identity"
    opened = [each for each in ledger.incident_states("tiles") if each.state == "opened"]
    assert len(opened) == len({each.incident_id for each in opened}) > 2


def test_late_repeated_and_swapped_verdicts_change_nothing(ledger: Ledger, once: list[str]) -> None:
    rng = np.random.default_rng(5)
    coming: list[Verdict] = []
    for at in range(0, len(LIFE), 2):
        pair = LIFE[at : at + 2]
        coming += pair[::-1] if at in (40, 700, 1100) else pair
        if at % 10 == 0:
            coming.append(LIFE[int(rng.integers(at + 1))])
            stray = verdict(100_000 + at, row(rng, bulk=9.0))
            coming.append(msgspec.structs.replace(stray, late=True, judged_at=float(at) + 1.5))
    assert sorted({*identities(live(ledger, coming, every=41))}) == sorted(once)


def test_no_second_incident_where_the_recorder_had_not_written_every_verdict(ledger: Ledger) -> None:
    """The replay does not lead to the alarm that was told; the change goes on under its name."""
    drift = LIFE[:300]
    said = take(watcher_of(ledger), drift)
    (opened,) = [each for each in said if isinstance(each, DriftIncident)]
    ledger.record([*drift[:255], opened])
    more = take(watcher_of(ledger), LIFE[300:390])
    assert {each.incident_id for each in more if isinstance(each, DriftIncident)} <= {opened.incident_id}
    assert "opened" not in [each.state for each in more if isinstance(each, DriftIncident)]
    watcher = watcher_of(ledger)
    take(watcher, LIFE[300:320])
    assert [each.told.incident_id for each in watcher.state("tiles").open_incidents] == [opened.incident_id]


def test_an_incident_that_never_reached_the_ledger_is_told_again_under_its_name(ledger: Ledger) -> None:
    said = take(watcher_of(ledger), LIFE[:300])
    (opened,) = [each for each in said if isinstance(each, DriftIncident)]
    ledger.record(LIFE[:300])
    again = take(watcher_of(ledger), LIFE[300:301])
    assert identities(again)[:1] == [opened.identity]


def test_a_version_that_came_back_is_watched_as_before_the_restart(ledger: Ledger) -> None:
    """What it had alarmed in its first time is over."""
    back = promoted(1, sequence=3, at=399.5, previous=2)
    first: list[Message] = [
        promoted(1, sequence=1, at=-1.0),
        *LIFE[:300],
        promoted(2, sequence=2, at=299.5, previous=1),
    ]
    second: list[Message] = [*(msgspec.structs.replace(each, version=2) for each in LIFE[300:390]), back]
    whole = watcher_of(ledger)
    for each in first + second:
        ledger.record([each, *take(whole, [each])])
    for at, each in enumerate(LIFE[400:520]):
        said = take(whole, [each])
        if at % 17 == 5:
            late = watcher_of(ledger)
            assert identities(take(late, [each])) == identities(said)
            assert what_is(late) == what_is(whole), at
        ledger.record([each, *said])


class Endless(NothingJudged):
    """A history of so many verdicts, made as they are asked for; it counts what was asked."""

    def __init__(self, images: int) -> None:
        rng = np.random.default_rng(0)
        self._signals = [row(rng) for _ in range(997)]
        self.images, self.told, self.named = images, 0, 0

    def at(self, number: int) -> Verdict:
        return verdict(number, self._signals[number % 997])

    def history(self, line: str, version: int, *, since: Place, before: Place | None) -> Iterator[Verdict]:
        first = 0 if since == BEGINNING else int(since[0])
        for number in range(first, self.images if before is None else int(before[0])):
            self.told += 1
            yield self.at(number)

    def images_before(self, line: str, version: int, place: Place) -> Iterator[Place]:
        for number in range(int(place[0]) - 1, -1, -1):
            self.named += 1
            yield place_of(self.at(number))

    def judged_before(self, line: str, version: int, place: Place) -> int:
        return int(place[0])

    def verdict(self, line: str, image_id: str) -> Verdict:
        return self.at(int(image_id.removeprefix("tiles-")))


@pytest.mark.parametrize("images", [30_000, 10_000_000])
def test_a_restart_lives_through_one_epoch_however_long_the_history(
    images: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(epochs, "EPOCH", 5_000)
    past = Endless(images)
    watcher = WatchHandler(reference, lambda _: CONFIG, lambda: 1e9, history=past, calibrations=lambda *_: KEPT)
    assert take(watcher, [past.at(images)]) == []
    since = next(back for back in range(1, images) if begins_epoch(f"tiles-{images - back}"))
    assert past.named == since + REMEMBERED
    assert past.told == 100 + since
    monitor = watcher.monitor("tiles")
    assert monitor
    assert monitor.state.judged == images + 1


def test_an_epoch_without_an_end_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(epochs, "EPOCH", 10**12)
    monkeypatch.setattr(resuming, "LONGEST_REPLAY", 3_000)
    past = Endless(300_000)
    watcher = WatchHandler(reference, lambda _: CONFIG, lambda: 1e9, history=past, calibrations=lambda *_: KEPT)
    take(watcher, [past.at(300_000)])
    assert (past.named, past.told) == (3_000 + REMEMBERED, 3_100)


def test_memory_of_a_replay_is_that_of_a_page() -> None:
    """Verdicts are asked for as they are needed."""
    past = Endless(1_000_000)
    assert len(list(islice(past.history("tiles", 1, since=BEGINNING, before=None), 5))) == past.told == 5
