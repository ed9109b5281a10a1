"""What the embedded bus costs: appends, and end to end (append, read, commit); and that neither grows with the log.

Run: `python benchmarks/bus.py [FOLDER]` (default: a temporary folder; put it on the disk you mean to use). Each
figure is the median of several rounds in one run; the ratios compare a log of a few thousand records
with one of 100,000 more, measured in turn.
"""

import platform
import sqlite3
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, closing
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from streams.bus import Consumer, Producer
from streams.local import LocalBus

VALUE = bytes(400)
BATCH = 16
ROUND = 1000
ROUNDS = 9
LARGE = 100_000
NAMES = (
    "appends/s, each durable alone",
    "appends/s, durable in batches",
    "read + commit records/s",
    "end to end records/s",
    "polls/s that find nothing",
)
KEYS = [f"line-{number}".encode() for number in range(24)]


def append(producer: Producer, count: int, batch: int) -> None:
    """Append `count` records, a flush (durable) after each `batch`."""
    for number in range(count):
        producer.send("verdicts", key=KEYS[number % len(KEYS)], value=VALUE)
        if (number + 1) % batch == 0:
            producer.flush()
    producer.flush()


def consume(consumer: Consumer, count: int) -> None:
    """Read and commit `count` records, a commit after each poll."""
    while count > 0:
        records = consumer.poll(max_records=BATCH, timeout_s=1.0)
        consumer.commit({(record.topic, record.partition): record.offset + 1 for record in records})
        count -= len(records)


def seconds(work: Callable[[], None]) -> float:
    """How long `work` takes."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def poll_in_vain(consumer: Consumer, count: int) -> None:
    """Poll an empty rest of the log."""
    for _ in range(count):
        consumer.poll(max_records=1, timeout_s=0.0)


def one_round(producer: Producer, consumer: Consumer) -> tuple[float, ...]:
    """Operations per second of each kind in NAMES."""
    single = seconds(lambda: append(producer, ROUND // 5, 1))
    consume(consumer, ROUND // 5)
    batched = seconds(lambda: append(producer, ROUND, BATCH))
    read = seconds(lambda: consume(consumer, ROUND))
    idle = seconds(lambda: poll_in_vain(consumer, ROUND))
    return ROUND / 5 / single, ROUND / batched, ROUND / read, ROUND / (batched + read), ROUND / idle


def main(folder: Path) -> None:
    """Measure a small and a large log in turn, round by round, so that both meet the same noise."""
    with ExitStack() as stack:
        ends = []
        for name, size in (("small", 0), ("large", LARGE)):
            bus = LocalBus(folder / f"{name}.sqlite")
            producer = stack.enter_context(closing(bus.producer()))
            consumer = stack.enter_context(closing(bus.consumer("bench", ["verdicts"], session_timeout_s=60.0)))
            append(producer, size, 1000)
            consume(consumer, size)
            ends.append((producer, consumer))
        rounds = [[one_round(*both) for both in ends] for _ in range(ROUNDS)]
    report(folder, *([statistics.median(each) for each in zip(*log, strict=True)] for log in zip(*rounds, strict=True)))


def report(folder: Path, small: Sequence[float], large: Sequence[float]) -> None:
    """Print the machine and the table."""
    python, sqlite = platform.python_version(), sqlite3.sqlite_version
    print(f"{platform.machine()} {platform.system()} {platform.release()}, Python {python}, SQLite {sqlite}, {folder}")
    print(f"values of {len(VALUE)} B, batches of {BATCH}, {len(KEYS)} keys, medians of {ROUNDS} rounds")
    print(f"{'':34}{'small log':>12}{f'{LARGE:,} more':>16}{'cost ratio':>12}")
    for name, before, after in zip(NAMES, small, large, strict=True):
        print(f"{name:34}{before:12,.0f}{after:16,.0f}{before / after:12.2f}")


if __name__ == "__main__":
    if len(sys.argv) > 1:
        main(Path(sys.argv[1]))
    else:
        with tempfile.TemporaryDirectory() as scratch:
            main(Path(scratch))
