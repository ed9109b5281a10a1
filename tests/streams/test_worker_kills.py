"""A worker that is killed at any step of its loop, and another that finishes: nothing is lost.

`python -m tests.streams.test_worker_kills URL STEP` is the victim: a worker on the real bus whose consumer, producer,
handler and sink kill their own process (SIGKILL: no cleaning up) the third time it comes to STEP.
"""

import os
import signal
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from pathlib import Path

import pytest

from streams.bus import MOST_POLLED_BYTES, Bus, Consumer, Headers, Producer, Record, publish
from streams.buses import open_bus
from streams.messages import Collected, LineImage, decode
from streams.worker import Effects, Worker
from tests.servers import kafka_bus
from tests.streams.bus_contract import ROOT, drain, until

STEPS = ("poll", "handle", "sink", "send", "flush", "before commit", "commit")
IMAGES = 40
BATCH = 5
FATAL_VISIT = 3


class Trap:
    """Kills this process when it comes to `step` for the third time."""

    def __init__(self, step: str) -> None:
        self._step = step
        self._visits = 0

    def pass_by(self, step: str) -> None:
        if step == self._step:
            self._visits += 1
            if self._visits == FATAL_VISIT:
                os.kill(os.getpid(), signal.SIGKILL)


class TrappedConsumer:
    """A consumer with a trap after poll, before and after commit."""

    def __init__(self, consumer: Consumer, trap: Trap) -> None:
        self._consumer = consumer
        self._trap = trap

    @property
    def owned(self) -> frozenset[tuple[str, int]]:
        return self._consumer.owned

    def poll(self, *, max_records: int, timeout_s: float, max_bytes: int = MOST_POLLED_BYTES) -> Sequence[Record]:
        records = self._consumer.poll(max_records=max_records, timeout_s=timeout_s, max_bytes=max_bytes)
        if records:
            self._trap.pass_by("poll")
        return records

    def commit(self, offsets: Mapping[tuple[str, int], int]) -> None:
        self._trap.pass_by("before commit")
        self._consumer.commit(offsets)
        self._trap.pass_by("commit")

    def rewind(self) -> None:
        self._consumer.rewind()

    def close(self) -> None:
        self._consumer.close()


class TrappedProducer:
    """A producer with a trap after send and after flush."""

    def __init__(self, producer: Producer, trap: Trap) -> None:
        self._producer = producer
        self._trap = trap

    def send(self, topic: str, *, key: bytes | None, value: bytes, headers: Headers = ()) -> None:
        self._producer.send(topic, key=key, value=value, headers=headers)
        self._trap.pass_by("send")

    def flush(self) -> None:
        self._producer.flush()
        self._trap.pass_by("flush")

    def close(self) -> None:
        self._producer.close()


class Collector:
    """A handler (and its own sink) that collects images, with a trap after each."""

    def __init__(self, trap: Trap) -> None:
        self._trap = trap

    def handle(self, records: Sequence[Record]) -> Effects:
        images = [decode(record.value, LineImage) for record in records]
        self._trap.pass_by("handle")
        return Effects(tuple(Collected(line=image.line, image=image, collected_at=0.0) for image in images))

    def flush(self) -> None:
        self._trap.pass_by("sink")


def worker_of(bus: Bus, step: str) -> Worker:
    """The worker under test, trapped at `step`."""
    trap = Trap(step)
    consumer = TrappedConsumer(bus.consumer("collectors", ["images"]), trap)
    producer = TrappedProducer(bus.producer(), trap)
    collector = Collector(trap)
    return Worker(consumer, producer, collector, source="/test", sinks=[collector], max_records=BATCH)


def image(number: int) -> LineImage:
    """An image of one of three lines."""
    name = f"{number:03}"
    return LineImage(line=f"line-{number % 3}", image_id=name, taken_at=0.0, digest=name, key=name, size_bytes=1)


def victim(url: str, step: str) -> int:
    """Run the worker in a process of its own until its trap kills it; the exit status."""
    command = [sys.executable, "-m", "tests.streams.test_worker_kills", url, step]
    return subprocess.run(command, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)}, timeout=60).returncode


def finish(bus: Bus) -> None:
    """Another worker works off the rest."""
    stop = threading.Event()
    thread = threading.Thread(target=worker_of(bus, "never").run, args=[stop])
    thread.start()
    try:
        until(lambda: bus.lag("collectors", ["images"]) == 0)
    finally:
        stop.set()
        thread.join()


@pytest.fixture(params=["embedded", "kafka"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """A fresh bus of each kind."""
    if request.param == "embedded":
        yield f"sqlite:///{tmp_path / 'bus.sqlite'}"
        return
    with kafka_bus() as made:
        yield f"{made}&session_timeout_s=1"


@pytest.mark.parametrize("step", STEPS)
def test_a_worker_killed_at_a_step_loses_nothing(url: str, step: str) -> None:
    bus = open_bus(url)
    with closing(bus.producer()) as producer:
        for number in range(IMAGES):
            publish(producer, image(number), source="/camera", at=0.0)
    assert victim(url, step) == -signal.SIGKILL
    assert 0 < bus.lag("collectors", ["images"]) < IMAGES or step == "send"
    finish(bus)
    with closing(bus.consumer("look", ["collected"])) as consumer:
        records = drain(consumer, bus.lag("look", ["collected"]))
    times = Counter(record.header("ce_id") for record in records)
    assert set(times) == {image(number).image_id for number in range(IMAGES)}
    twice = sum(times.values()) - len(times)
    assert twice == (BATCH if step in ("flush", "before commit") else 0)
    assert max(times.values()) <= 2


if __name__ == "__main__":
    worker_of(open_bus(sys.argv[1]), sys.argv[2]).run(threading.Event())
