"""A scorer that judges as the test says, on a real bus, with its health served over HTTP."""

import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager

from detectors.errors import Unavailable
from orchestration.health_server import observed
from orchestration.supervise import free_port
from streams.bus import Record
from streams.local import LocalBus
from streams.messages import Collected, LineImage, Message, Signals, Verdict
from streams.worker import Effects, Worker


def verdict(
    image_id: str, *, line: str = "tiles", flagged: bool = False, latency_ms: float = 80.0, late: bool = False
) -> Verdict:
    """A verdict."""
    signals = Signals(peak=1.0, bulk=1.0, mean=1.0, contrast=1.0, sharpness=1.0)
    return Verdict(
        line=line, image_id=image_id, version=1, score=1.0, threshold=2.0, threshold_revision=1, flagged=flagged,
        signals=signals, taken_at=0.0, judged_at=0.0, latency_ms=latency_ms, image_key="k", late=late,
    )  # fmt: skip


def collected(image_id: str) -> Collected:
    """An image that met no model."""
    image = LineImage(line="tiles", image_id=image_id, taken_at=0.0, digest="d", key="k", size_bytes=1)
    return Collected(line="tiles", image=image, collected_at=0.0)


class Judge:
    """Answers each record as the test says; a name it does not know is a dead letter, `away` raises Unavailable."""

    def __init__(self, answers: Mapping[str, Message]) -> None:
        self.answers = answers
        self.away = False

    def handle(self, records: Sequence[Record]) -> Effects:
        if self.away:
            raise Unavailable("the store does not answer; start it")
        return Effects(messages=tuple(self.answers[record.value.decode()] for record in records))


@contextmanager
def judging(bus: LocalBus, judge: Judge) -> Iterator[str]:
    """The address of a scorer that runs in a thread on a real bus."""
    address = f"127.0.0.1:{free_port()}"
    stop = threading.Event()
    with observed("scorer", address, lambda: bus.lag("scorer", ["images"])) as observers:
        worker = Worker(
            bus.consumer("scorer", ["images"]),
            bus.producer(),
            judge,
            source="/test",
            max_records=5,
            observers=observers,
        )
        thread = threading.Thread(target=worker.run, args=(stop,))
        thread.start()
        try:
            yield f"http://{address}"
        finally:
            stop.set()
            thread.join()


def send(bus: LocalBus, *names: str) -> None:
    """Images that the judge knows by name."""
    with closing(bus.producer()) as producer:
        for name in names:
            producer.send("images", key=b"tiles", value=name.encode())
