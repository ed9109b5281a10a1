"""Images that have waited step aside for newer: the newest first, each judged once, on both buses; how two consumers share a scorer."""

import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from pathlib import Path

import pytest

from detectors.extractors import ExtractorCache
from detectors.images import encode_png
from streams.bus import MOST_POLLED_BYTES, Bus, Record
from streams.buses import open_bus
from streams.camera import Camera
from streams.ledger import Ledger
from streams.messages import Verdict, decode
from streams.newest_first import BACKLOG_GROUP, LOOK_S, SHARE_S, STEP_ASIDE_S, FreshFirst
from streams.scoring import ScoreHandler
from streams.serving import ServingModels
from streams.topics import BACKLOG
from streams.worker import Worker
from tests.servers import kafka_bus
from tests.streams.bus_contract import until
from tests.streams.scoring_line import LINE, ScoringLine, texture

WAITED, FRESH = 12, 5


@pytest.fixture(scope="module")
def line(tmp_path_factory: pytest.TempPathFactory) -> ScoringLine:
    made = ScoringLine.at(tmp_path_factory.mktemp("line"))
    made.publish()
    return made


@pytest.fixture(params=["sqlite", "kafka"])
def bus(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Bus]:
    if request.param == "sqlite":
        yield open_bus(f"sqlite:///{tmp_path / 'bus.sqlite'}")
        return
    with kafka_bus() as url:
        yield open_bus(url)


class Plant:
    """A line on a bus whose scorer was away: images from before and after the moment at which it comes back."""

    def __init__(self, bus: Bus, line: ScoringLine) -> None:
        self.bus, self.line = bus, line
        self.waited = self._send("waited", WAITED)
        time.sleep(0.02)
        self.back_at = time.time()
        time.sleep(0.02)
        self.fresh = self._send("fresh", FRESH)

    def _send(self, name: str, count: int) -> list[str]:
        ids = [f"{name}-{number}" for number in range(count)]
        with closing(self.bus.producer()) as producer:
            camera = Camera(self.line.store, producer, line=LINE, source="/test/camera")
            for number, image_id in enumerate(ids):
                camera.send(encode_png(texture(number)), image_id=image_id, suffix="png")
        return ids

    def scorer(self) -> Worker:
        """A scorer for which what came before `back_at` has waited."""
        models = ServingModels(self.line.registry, ExtractorCache(), now=time.time)
        now = self.back_at + STEP_ASIDE_S
        handler = ScoreHandler(self.line.store, models, now=lambda: now, newest_first=lambda line: line == LINE)
        consumer = FreshFirst(self.bus.consumer("scorer", ["images"]), self.bus.consumer(BACKLOG_GROUP, [BACKLOG]))
        return Worker(consumer, self.bus.producer(), handler, source="/test/scorer", max_records=4)

    def left(self) -> int:
        """What is not judged yet."""
        return self.bus.lag("scorer", ["images"]) + self.bus.lag(BACKLOG_GROUP, [BACKLOG])

    def verdicts(self) -> list[Verdict]:
        """All that was said so far, in its order."""
        records: list[Record] = []
        with closing(self.bus.consumer(f"reader-{time.monotonic_ns()}", ["verdicts"])) as reader:
            until(lambda: len(records) >= self.bus.lag("nobody", ["verdicts"]),
                  lambda: records.extend(reader.poll(max_records=100, timeout_s=0.2)))  # fmt: skip
        return [decode(record.value, Verdict) for record in records]


def test_the_newest_are_judged_first_and_each_image_once(bus: Bus, line: ScoringLine) -> None:
    plant = Plant(bus, line)
    scorer = plant.scorer()
    until(lambda: plant.left() == 0, scorer.step)
    said = plant.verdicts()
    assert [each.image_id for each in said] == [*plant.fresh, *plant.waited]
    assert [each.late for each in said] == [False] * FRESH + [True] * WAITED


class Killed(Exception):
    """The worker dies here."""


def test_a_death_before_the_commit_loses_nothing_and_the_ledger_has_each_once(
    bus: Bus, line: ScoringLine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plant = Plant(bus, line)
    for _ in range(2):  # the first dies over a move, the second over what it finds then
        dying = plant.scorer()
        with monkeypatch.context() as deadly:
            deadly.setattr(FreshFirst, "commit", raise_killed)
            with pytest.raises(Killed):
                dying.run(threading.Event())
    scorer = plant.scorer()
    until(lambda: plant.left() == 0, scorer.step)
    ledger = Ledger.open(f"sqlite:///{tmp_path / 'ledger.sqlite'}")
    ledger.record(plant.verdicts())
    judged = [verdict.image_id for verdict in ledger.verdicts(LINE, limit=1000)]
    assert sorted(judged) == sorted(plant.waited + plant.fresh)


def raise_killed(_consumer: FreshFirst, _offsets: object) -> None:
    raise Killed


class Scripted:
    """A consumer that always has a record, or none."""

    def __init__(self, topic: str, *, full: bool) -> None:
        self.topic, self.full = topic, full
        self.waits: list[float] = []
        self.committed: dict[tuple[str, int], int] = {}

    @property
    def owned(self) -> frozenset[tuple[str, int]]:
        return frozenset({(self.topic, 0)})

    def poll(self, *, max_records: int, timeout_s: float, max_bytes: int = MOST_POLLED_BYTES) -> Sequence[Record]:
        self.waits.append(timeout_s)
        return [Record(self.topic, 0, 0, None, (), b"", 0.0)] * self.full

    def commit(self, offsets: Mapping[tuple[str, int], int]) -> None:
        self.committed |= offsets

    def rewind(self) -> None: ...

    def close(self) -> None: ...


def polls(fresh: Scripted, waiting: Scripted, *, seconds: int) -> list[str]:
    """Which topic each of ten polls a second gave."""
    clock = [0.0]
    both = FreshFirst(fresh, waiting, monotonic=lambda: clock[0])
    given = []
    for turn in range(10 * seconds):
        clock[0] = turn / 10
        records = both.poll(max_records=4, timeout_s=0.2)
        given.append(records[0].topic if records else "")
    return given


def test_a_busy_line_leaves_the_backlog_a_batch_in_some_seconds() -> None:
    given = polls(Scripted("images", full=True), Scripted(BACKLOG, full=True), seconds=20)
    assert given.count(BACKLOG) == 20 / SHARE_S
    assert given.count("images") == 200 - 20 / SHARE_S


def test_an_idle_line_works_off_the_backlog_and_waits_for_fresh_images_between() -> None:
    fresh = Scripted("images", full=False)
    assert set(polls(fresh, Scripted(BACKLOG, full=True), seconds=20)) == {BACKLOG}
    assert sum(wait > 0 for wait in fresh.waits) >= 20 / LOOK_S - 20 / SHARE_S - 1


def test_an_empty_backlog_is_looked_at_once_a_second() -> None:
    waiting = Scripted(BACKLOG, full=False)
    polls(Scripted("images", full=False), waiting, seconds=20)
    assert len(waiting.waits) == pytest.approx(20 / LOOK_S, abs=2)


def test_each_position_is_committed_where_it_belongs() -> None:
    fresh, waiting = Scripted("images", full=True), Scripted(BACKLOG, full=True)
    FreshFirst(fresh, waiting).commit({("images", 0): 5, (BACKLOG, 0): 7})
    assert (fresh.committed, waiting.committed) == ({("images", 0): 5}, {(BACKLOG, 0): 7})
