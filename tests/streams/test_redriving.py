"""Dead letters put back: as they came or repaired, once, by somebody, whatever is killed on the way."""

import hashlib
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np
import pytest

from detectors.errors import InvalidInput, NotFound
from detectors.images import decode as decode_image
from detectors.images import encode_png
from detectors.store import FolderStore
from streams import redriving
from streams.actions import Actor, NotAllowed, redrive
from streams.arrivals import Arrivals
from streams.bus import Consumer, Headers, Record
from streams.ledger import Ledger
from streams.local import LocalBus
from streams.messages import DeadLetter, LineImage, Message, Redrive, Verdict, encode, headers_of
from streams.recording import RecordHandler
from streams.redriving import open_letters, redrive_of
from streams.topics import TOPICS
from streams.worker import Effects, Worker
from tests.servers import postgresql_database
from tests.streams.bus_contract import until
from tests.streams.test_ledger import verdict

LINE = "tiles"
ANA = Actor("ana", "engineer")
PNG = encode_png(np.full((8, 8, 3), 90, np.uint8))


class Judge:
    """A scorer without a model: what arrives and can be decoded has a verdict."""

    def __init__(self, store: FolderStore) -> None:
        self._arrivals = Arrivals(store)

    def handle(self, records: Sequence[Record]) -> Effects:
        return Effects(messages=tuple(self._judge(self._arrivals.read(record)) for record in records))

    def _judge(self, image: LineImage) -> Message:
        decode_image(self._arrivals.pixels(image))
        return msgspec.structs.replace(verdict(image.image_id), image_key=image.key, taken_at=image.taken_at)


@dataclass
class House:
    """Scorer and recorder on the embedded bus, and the ledger."""

    bus: LocalBus
    ledger: Ledger
    scorer: Worker
    consumer: Consumer
    recorder: Worker

    @classmethod
    def at(cls, home: Path, ledger: Ledger) -> "House":
        bus = LocalBus(home / "bus.sqlite", clock=lambda: 42.0)
        scorer = Worker(
            bus.consumer("scorer", ["images"]), bus.producer(), Judge(FolderStore(home / "objects")), source="/scorer"
        )
        return cls(bus, ledger, scorer, *recorder_on(bus, ledger))

    def kill_the_recorder(self) -> None:
        """It is gone with all it knew, and another one comes; nothing of it was committed meanwhile."""
        self.consumer.close()
        self.consumer, self.recorder = recorder_on(self.bus, self.ledger)

    def send(self, value: bytes, headers: Headers = (), *, key: bytes = LINE.encode()) -> None:
        with closing(self.bus.producer()) as producer:
            producer.send("images", key=key, value=value, headers=headers)

    def settle(self) -> None:
        """Work until nothing is left anywhere."""
        topics = [name for name in TOPICS if name != "images"]

        def step() -> None:
            self.scorer.step()
            self.recorder.step()

        def quiet() -> bool:
            waits = self.bus.lag("scorer", ["images"]) + self.bus.lag("recorder", topics)
            return waits == 0 and not self.ledger.outbox(1)

        step()
        until(quiet, step)

    def letters(self) -> list[DeadLetter]:
        return self.ledger.dead_letters(100)


def recorder_on(bus: LocalBus, ledger: Ledger) -> tuple[Consumer, Worker]:
    consumer = bus.consumer("recorder", [name for name in TOPICS if name != "images"])
    return consumer, Worker(consumer, bus.producer(), RecordHandler(ledger, lambda: 0.0), source="/recorder")


@pytest.fixture(params=["sqlite", "postgresql"])
def ledger(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Ledger]:
    if request.param == "sqlite":
        yield Ledger.open(f"sqlite:///{tmp_path / 'ledger.sqlite'}")
        return
    with postgresql_database() as url:
        opened = Ledger.open(url)
        yield opened
        opened.close()


@pytest.fixture
def house(tmp_path: Path, ledger: Ledger) -> House:
    return House.at(tmp_path, ledger)


def test_a_bare_image_is_put_back_repaired_and_keeps_its_identity_and_time(house: House) -> None:
    house.send(PNG[:40])
    house.settle()
    (letter,) = house.letters()
    redrive(house.ledger, ANA, (letter.identity,), repaired=PNG, at=9.0)
    house.settle()
    judged = house.ledger.verdict(LINE, letter.identity.replace("/", "-"))
    assert judged is not None
    assert judged.taken_at == 42.0
    assert house.letters() == [letter]
    (entry, *_) = house.ledger.audit()
    assert (entry.who, entry.role, entry.action, entry.line) == ("ana", "engineer", "redrive", LINE)
    assert entry.detail == f"{letter.identity} with {len(PNG)} repaired bytes"
    assert redrive_of(house.ledger, letter) == Redrive(
        line=LINE, source_topic="images", source_partition=letter.source_partition, source_offset=letter.source_offset,
        by="ana", at=9.0, repaired=PNG,
    )  # fmt: skip


def test_without_a_repair_the_original_goes_back_as_it_came(house: House) -> None:
    headers = (("ce_type", b"unknown"), ("trace", b"\xff\x00"), ("trace", b"twice"))
    house.send(b"anything", headers)
    house.settle()
    (letter,) = house.letters()
    redrive(house.ledger, ANA, (letter.identity,), at=9.0)
    house.settle()
    again, first = house.letters()
    assert (again.original, again.key, again.headers[:3]) == (b"anything", LINE.encode(), headers)
    assert dict(again.headers)["driftline-redrive-of"] == first.identity.encode()
    assert [each.identity for each in open_letters(house.ledger)] == [again.identity]


def test_an_image_that_fails_again_is_still_the_same_image(house: House) -> None:
    house.send(b"nothing")
    house.settle()
    (first,) = house.letters()
    redrive(house.ledger, ANA, (first.identity,), at=9.0)
    house.settle()
    (second,) = open_letters(house.ledger)
    redrive(house.ledger, ANA, (second.identity,), repaired=PNG, at=10.0)
    house.settle()
    assert [each.image_id for each in house.ledger.verdicts(LINE, limit=9)] == [first.identity.replace("/", "-")]


def test_our_own_claim_is_put_back_when_its_pixels_are_there_again(house: House, tmp_path: Path) -> None:
    store = FolderStore(tmp_path / "objects")
    digest = "3b9d0f2a" * 8
    image = LineImage(line=LINE, image_id="part-1", taken_at=5.0, digest=digest, key="images/a.png", size_bytes=1)
    house.send(encode(image), headers_of(image, source="/camera", at=1.0))
    house.settle()
    (letter,) = house.letters()
    store.put(image.key, PNG)
    mended = msgspec.structs.replace(image, digest=hashlib.sha256(PNG).hexdigest())
    redrive(house.ledger, ANA, (letter.identity,), repaired=encode(mended), at=9.0)
    house.settle()
    assert house.ledger.verdict(LINE, "part-1") is not None


def test_a_second_redrive_is_refused_with_who_and_when(house: House) -> None:
    house.send(b"nothing")
    house.settle()
    (letter,) = house.letters()
    redrive(house.ledger, ANA, (letter.identity,), at=0.0)
    with pytest.raises(InvalidInput, match=r"was redriven by ana at 1970-01-01T00:00:00Z; .*new dead letter"):
        redrive(house.ledger, Actor("ben", "engineer"), (letter.identity,), repaired=PNG, at=9.0)
    assert len(house.ledger.audit()) == len(house.ledger.outbox(9)) == 1


def test_of_people_who_put_it_back_at_the_same_moment_one_does(house: House) -> None:
    house.send(b"nothing")
    house.settle()
    (letter,) = house.letters()
    start = threading.Barrier(4)

    def ask(name: str) -> bool:
        start.wait(timeout=30)
        try:
            redrive(house.ledger, Actor(name, "engineer"), (letter.identity,), at=1.0)
        except InvalidInput:
            return False
        return True

    with ThreadPoolExecutor(4) as people:
        assert list(people.map(ask, ("ana", "ben", "cem", "dee"))).count(True) == 1
    assert len(house.ledger.audit()) == len(house.ledger.outbox(9)) == 1


def test_several_go_back_together_or_none(house: House) -> None:
    for value in (b"one", b"two"):
        house.send(value)
    house.settle()
    first, second = (each.identity for each in open_letters(house.ledger))
    redrive(house.ledger, ANA, (second,), at=1.0)
    with pytest.raises(InvalidInput, match=f"{second} was redriven"):
        redrive(house.ledger, ANA, (first, second), at=2.0)
    assert [each.identity for each in open_letters(house.ledger)] == [first]
    assert len(house.ledger.audit()) == 1


def test_a_command_killed_before_the_outbox_was_written_has_done_nothing(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    house.send(PNG[:40])
    house.settle()
    (letter,) = house.letters()
    with monkeypatch.context() as patched:
        patched.setattr(redriving, "put_in_outbox", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            redrive(house.ledger, ANA, (letter.identity,), repaired=PNG, at=9.0)
    assert redrive_of(house.ledger, letter) is None
    assert (house.ledger.audit(), house.ledger.outbox(9)) == ([], [])
    redrive(house.ledger, ANA, (letter.identity,), repaired=PNG, at=9.0)


@pytest.mark.parametrize("deaths", [1, 3])
def test_a_recorder_killed_between_sending_and_marking_makes_no_second_verdict(house: House, deaths: int) -> None:
    house.send(PNG[:40])
    house.settle()
    (letter,) = house.letters()
    redrive(house.ledger, ANA, (letter.identity,), repaired=PNG, at=9.0)
    for _ in range(deaths):
        house.recorder.step()
        assert house.ledger.outbox(9), "sent and not marked"
        house.kill_the_recorder()
    sent = house.bus.lag("counter", ["redrives"])
    assert sent >= deaths
    house.settle()
    counts = house.ledger.counts(LINE)
    assert (counts.verdicts, counts.doubled) == (1, 0)
    assert counts.redelivered == house.bus.lag("counter", ["redrives"]) - 1, "the others were equal"


@pytest.mark.parametrize("role", ["viewer", "reviewer"])
def test_it_takes_an_engineer(house: House, role: str) -> None:
    with pytest.raises(NotAllowed, match=role):
        redrive(house.ledger, Actor("ana", role), ("images/0/0",), at=1.0)


def letter(**fields: object) -> DeadLetter:
    """A dead letter as it lies in the ledger."""
    made = DeadLetter(
        line=LINE, source_topic="images", source_partition=0, source_offset=7, error="InvalidInput", reason="r", original=b"x",
        headers=(), key=LINE.encode(), at=1.0,
    )  # fmt: skip
    return msgspec.structs.replace(made, **fields)


def test_what_cannot_go_back_as_it_is_is_refused(ledger: Ledger) -> None:
    ledger.record([letter(cut_from_bytes=40_000_000), letter(source_offset=8, original=bytes(17_000_000))])
    with pytest.raises(InvalidInput, match=r"of the 40000000 bytes of images/0/7 only 1 are kept; .*--value"):
        redrive(ledger, ANA, ("images/0/7",), at=1.0)
    with pytest.raises(InvalidInput, match=r"17000000 bytes .* the limit is 16777216"):
        redrive(ledger, ANA, ("images/0/8",), at=1.0)
    with pytest.raises(InvalidInput, match="17000000 bytes"):
        redrive(ledger, ANA, ("images/0/7",), repaired=bytes(17_000_000), at=1.0)
    with pytest.raises(NotFound, match="images/0/9"):
        redrive(ledger, ANA, ("images/0/9",), at=1.0)
    assert ledger.audit() == []
    redrive(ledger, ANA, ("images/0/8",), repaired=b"small", at=1.0)


def test_letters_of_one_error_and_of_any_topic(ledger: Ledger) -> None:
    judged = encode(verdict("a"))
    ledger.record([letter(), letter(source_topic="verdicts", error="ImageError", original=judged)])
    assert [each.identity for each in open_letters(ledger, error="ImageError")] == ["verdicts/0/7"]
    redrive(ledger, ANA, ("verdicts/0/7",), at=1.0)
    handler = RecordHandler(ledger, lambda: 0.0)
    (message,) = handler.idle(0.0).messages
    record = Record(Redrive.topic, 0, 0, LINE.encode(), (), encode(message), 0.0)
    (original,) = handler.handle([record]).back
    assert (original.topic, original.key, original.value) == (Verdict.topic, LINE.encode(), judged)
