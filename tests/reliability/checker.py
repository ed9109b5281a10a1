"""Sends images with known ids into real lines while something is done to the installation, then looks what became of each.

An image counts as sent once the bus has taken it over. Of each the ledger must hold exactly one verdict, or the line's collection
holds it, or it is one dead letter: anything else is lost.
"""

import hashlib
import itertools
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field, replace
from typing import TypeVar

import msgspec
from sqlalchemy import func, select

from detectors.artifact import Provenance, pack
from detectors.errors import Unavailable
from detectors.extractors import ExtractorCache
from detectors.fitting import fit_model
from detectors.images import encode_png
from detectors.model import detector_from
from detectors.objects import ObjectStore, image_key
from detectors.registry import Registry
from detectors.store import open_store
from streams.bus import Bus, publish
from streams.buses import open_bus
from streams.ledger import Ledger
from streams.ledger_tables import VERDICTS
from streams.messages import LineImage
from streams.settings import Settings
from streams.topics import RECORDED
from tests.reliability.workers import Workers
from tests.streams.scoring_line import IMAGE_SIZE, texture

GROUPS: Mapping[str, tuple[str, ...]] = {
    "scorer": ("images",),
    "watcher": ("verdicts", "collected", "promotions"),
    "recorder": RECORDED,
}
LINES = ("tiles", "cookies", "press-4/door", "회로")
PICTURES = 40
DRAIN_LIMIT_S = 240.0
LOOK_EVERY_S = 0.5
QUIET_LOOKS = 2
Result = TypeVar("Result")
POISON = b"no image at all"


@dataclass(frozen=True)
class Tally:
    """What became of the images of one episode. `doubled`: images with more than one verdict in the ledger; `repeated`: verdicts
    that came again and were set aside; `recovery_s`: from the end of the fault until everything sent was dealt with; `unwell`: which
    workers said at their health endpoint that they were not well, at any time of the fault.
    """

    fault: str
    sent: int
    judged: int
    collected: int
    dead: int
    lost: int
    doubled: int
    repeated: int
    fault_s: float
    recovery_s: float
    unwell: frozenset[str] = frozenset()

    @property
    def kept(self) -> bool:
        """Whether nothing was lost and nothing doubled."""
        return self.lost == 0 and self.doubled == 0


@dataclass
class Plant:
    """The lines of an installation: sends images into them and tells what became of them."""

    settings: Settings
    bus: Bus
    ledger: Ledger
    kept: Mapping[str, Sequence[LineImage]]
    sent: dict[str, set[tuple[str, str]]] = field(default_factory=dict)

    @classmethod
    def build(cls, settings: Settings) -> "Plant":
        """Every line with a small model in service."""
        images = [texture(number) for number in range(12)]
        model = fit_model(
            images,
            [f"k{number}" for number in range(len(images))],
            extractor=ExtractorCache().load("efficientnet_lite0", image_size=IMAGE_SIZE),
            detector=detector_from("patchcore", bank=200, seed=0),
            false_alarm_rate=0.01,
        )
        store = open_store(settings.store)
        registry = Registry(store)
        pictures = [encode_png(texture(5000 + number)) for number in range(PICTURES)]
        kept = {line: [cls._keep(store, line, data) for data in (*pictures, POISON)] for line in LINES}
        for line in LINES:
            origin = Provenance(
                line=line, mode="trusted", cause="manual", parent=None, request_id=None, created_at=0.0, code_version="test",
                metrics={},
            )  # fmt: skip
            registry.promote(line, registry.publish(line, pack(model, origin, golden_image=images[0])))
        return cls(settings, open_bus(settings.bus), Ledger.open(settings.ledger), kept)

    @staticmethod
    def _keep(store: ObjectStore, line: str, data: bytes) -> LineImage:
        """The pixels in the store, and the message that refers to them, but for its own id and time."""
        digest = hashlib.sha256(data).hexdigest()
        key = image_key(line, digest, at=0.0, suffix="png")
        store.put(key, data)
        return LineImage(line=line, image_id="", taken_at=0.0, digest=digest, key=key, size_bytes=len(data))

    def episode(
        self, fault: str, inject: Callable[[], None], workers: Workers, *, rate: float = 12.0, poison: bool = False
    ) -> Tally:
        """Images at `rate` a second while `inject` runs, then quiet until everything is dealt with and all workers are well.

        `inject` begins when the bus has taken the first image.
        """
        with self._feeding(fault, rate=rate, poison=poison), ThreadPoolExecutor(1) as looking:
            started, over = time.monotonic(), threading.Event()
            seen = looking.submit(_unwell_until, over, workers)
            try:
                inject()
            finally:
                over.set()
            ended = time.monotonic()
        self.drain()
        recovery_s = time.monotonic() - ended - QUIET_LOOKS * LOOK_EVERY_S
        _until_well(workers)
        tally = self.tally(fault, fault_s=ended - started, recovery_s=recovery_s)
        return replace(tally, unwell=seen.result())

    def drain(self, *, within_s: float = DRAIN_LIMIT_S) -> None:
        """Wait until no group has anything left to read."""
        give_up, quiet = time.monotonic() + within_s, 0
        while quiet < QUIET_LOOKS:
            if time.monotonic() > give_up:
                raise TimeoutError(
                    f"not drained within {within_s} s: {self._lags()}; see {self.settings.home / 'logs'}"
                )
            time.sleep(LOOK_EVERY_S)
            quiet = quiet + 1 if self._lags() == dict.fromkeys(GROUPS, 0) else 0

    def _lags(self) -> dict[str, int | None]:
        lags: dict[str, int | None] = dict.fromkeys(GROUPS)
        with suppress(Unavailable):
            lags = {group: self.bus.lag(group, topics) for group, topics in GROUPS.items()}
        return lags

    @contextmanager
    def _feeding(self, fault: str, *, rate: float, poison: bool) -> Iterator[None]:
        stop, begun = threading.Event(), threading.Event()
        failed: list[BaseException] = []

        def body() -> None:
            try:
                self._feed(fault, stop, begun, rate=rate, poison=poison)
            except BaseException as error:
                failed.append(error)
                raise
            finally:
                begun.set()

        thread = threading.Thread(target=body, name="feeder")
        thread.start()
        begun.wait()
        try:
            yield
        finally:
            stop.set()
            thread.join()
        assert not failed, failed

    def _feed(self, fault: str, stop: threading.Event, begun: threading.Event, *, rate: float, poison: bool) -> None:
        """Send one image after the other, each until the bus has it; with `poison` every seventh is none. Sets `begun` at the first.

        Their pixels are in the store already: images go on coming while S3 is away.
        """
        sent = self.sent.setdefault(fault, set())
        with closing(persistently(open_bus(self.settings.bus).producer)) as producer:
            for number in itertools.count():
                if stop.wait(1 / rate):
                    return
                line = LINES[number % len(LINES)]
                which = PICTURES if poison and number % 7 == 3 else number % PICTURES
                image = msgspec.structs.replace(
                    self.kept[line][which], image_id=f"{fault}-{number}", taken_at=time.time()
                )
                publish(producer, image, source="/test/chaos", at=image.taken_at)
                persistently(producer.flush)
                sent.add((line, image.image_id))
                begun.set()

    def tally(self, fault: str, *, fault_s: float, recovery_s: float) -> Tally:
        sent = self.sent[fault]
        with self.ledger.transaction(writes=False) as connection:
            query = select(
                VERDICTS.c.line,
                VERDICTS.c.image_id,
                func.count(),
                func.sum(VERDICTS.c.redelivered + VERDICTS.c.repeats),
            ).group_by(VERDICTS.c.line, VERDICTS.c.image_id)
            found = {(row[0], row[1]): (int(row[2]), int(row[3])) for row in connection.execute(query)}
        letters = [each for each in self.ledger.dead_letters(10**6) if each.source_topic == "images"]
        dead = {
            (each.line, value.decode()) for each in letters for name, value in each.headers if name == "ce_id"
        } & sent
        collected = {
            (image.line, image.image_id) for line in LINES for image in self.ledger.pending_images(line)
        } & sent
        judged = sent & found.keys()
        return Tally(
            fault=fault,
            sent=len(sent),
            judged=len(judged),
            collected=len(collected),
            dead=len(dead),
            lost=len(sent - judged - dead - collected),
            doubled=sum(found[image][0] > 1 for image in judged) + len(judged & dead),
            repeated=sum(found[image][1] for image in judged),
            fault_s=fault_s,
            recovery_s=recovery_s,
        )


def _unwell_until(over: threading.Event, workers: Workers) -> frozenset[str]:
    """Which workers said meanwhile that they were not well."""
    seen: set[str] = set()
    while not over.wait(1.0):
        seen |= workers.unwell().keys()
    return frozenset(seen)


def _until_well(workers: Workers) -> None:
    give_up = time.monotonic() + DRAIN_LIMIT_S
    while unwell := workers.unwell():
        if time.monotonic() > give_up:
            raise TimeoutError(f"everything is dealt with, and still not well: {unwell}")
        time.sleep(LOOK_EVERY_S)


def table_of(tallies: list[Tally]) -> str:
    """The tallies as a Markdown table."""
    names = (
        "fault",
        "lasted",
        "sent",
        "judged",
        "dead letters",
        "lost",
        "doubled",
        "came again",
        "dealt with after",
        "said to be unwell",
    )
    head = f"| {' | '.join(names)} |\n{'|---' * len(names)}|"
    rows = [
        f"| {each.fault} | {each.fault_s:.0f} s | {each.sent} | {each.judged} | {each.dead} | {each.lost} | {each.doubled} "
        f"| {each.repeated} | {each.recovery_s:.0f} s | {', '.join(sorted(each.unwell)) or 'none'} |"
        for each in tallies
    ]
    return "\n".join([head, *rows])


def persistently(step: Callable[[], Result], *, within_s: float = DRAIN_LIMIT_S) -> Result:
    """What comes of a step, done again while something is away."""
    give_up = time.monotonic() + within_s
    while True:
        try:
            return step()
        except Unavailable:
            if time.monotonic() > give_up:
                raise
            time.sleep(0.5)
