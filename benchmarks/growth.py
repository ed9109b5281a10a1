"""What a message costs as its topic grows to a million of them: appended, read and committed, and the lag asked; on SQLite and on Kafka.

Run: `python benchmarks/growth.py [--messages N] [--rounds N] [--only sqlite|kafka]`. Kafka is the cluster that DRIFTLINE_TEST_KAFKA names.
Messages are of the size of a reference to an image, flushed one by one and read in the scorer's batches. The table is Markdown; a figure is
the median of the rounds, and the last rows are ratios: the full topic against a hundredth of it.
"""

import argparse
import os
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from uuid import uuid4

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from orchestration.workers import SCORER_BATCH
from streams.bus import Bus, Consumer, Producer, Record
from streams.buses import open_bus
from tests.servers import KAFKA, kafka_bus

PATIENCE_S = 120.0
PARTS = (100, 10, 1)
"""The topic is measured at these parts of `--messages`."""
FILL = 1000
TURNS = 100
LAG_ASKED = 9
VALUE = bytes(400)
KEYS = [f"line-{number}".encode() for number in range(24)]

Figures = dict[str, float]
"""One column of the table: a figure by the name of its row."""


def main() -> None:
    """One bus after the other."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--messages", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", choices=("sqlite", "kafka"))
    asked = parser.parse_args()
    columns = {}
    with tempfile.TemporaryDirectory() as scratch:
        for name in buses(asked.only):
            with fresh_bus(name, Path(scratch)) as url:
                columns[name] = growth_of(open_bus(url), asked.messages, asked.rounds)
    report(
        columns,
        f"values of {len(VALUE)} B, {len(KEYS)} keys, batches of {SCORER_BATCH}, medians of {asked.rounds} rounds",
    )


def buses(only: str | None) -> list[str]:
    """Which are measured: Kafka where the environment names one."""
    there = ["SQLite", *["Kafka"] * (KAFKA in os.environ)]
    return [name for name in there if only in (None, name.lower())]


@contextmanager
def fresh_bus(name: str, folder: Path) -> Iterator[str]:
    """An empty bus as a URL."""
    if name == "Kafka":
        with kafka_bus() as url:
            yield url
    else:
        yield f"sqlite:///{folder / uuid4().hex}.sqlite"


# A topic that grows


def growth_of(bus: Bus, messages: int, rounds: int) -> Figures:
    """Times of a message in a topic of a hundredth, a tenth and all of `messages`, and how many times more the last is than the first."""
    figures: Figures = {}
    sizes, filled = [messages // part for part in PARTS], 0
    with closing(bus.producer()) as producer, closing(bus.consumer("bench-end", ["images"])) as at_end:
        for size in sizes:
            append(producer, size - filled, FILL)
            follow(at_end, size - filled, FILL)
            told = median_of([timed_at(bus, producer, at_end) for _ in range(rounds)])
            filled = size + rounds * TURNS * SCORER_BATCH
            figures |= {f"{name}, topic of {size:,}": figure for name, figure in told.items()}
            print(f"{size:,}: {told}", file=sys.stderr, flush=True)
    for name in told:
        first, last = (figures[f"{name}, topic of {size:,}"] for size in (sizes[0], sizes[-1]))
        figures[f"{name}, {sizes[-1]:,} against {sizes[0]:,}"] = last / first
    return figures


def timed_at(bus: Bus, producer: Producer, at_end: Consumer) -> Figures:
    """What is done with a message: appended, read and committed at the end of the topic and by a group that begins; and the lag."""
    count = TURNS * SCORER_BATCH
    appended_s = seconds(lambda: append(producer, count, 1))
    ended_s = seconds(lambda: follow(at_end, count, SCORER_BATCH))
    with closing(bus.consumer(f"bench-{uuid4().hex}", ["images"])) as beginning:
        until_some(beginning)
        began_s = seconds(lambda: follow(beginning, count, SCORER_BATCH))
    lag_s = statistics.median(seconds(lambda: bus.lag("bench-end", ["images"])) for _ in range(LAG_ASKED))
    return {
        "append, ms": 1000 * appended_s / count,
        "read + commit at its end, ms": 1000 * ended_s / count,
        "read + commit from its start, ms": 1000 * began_s / count,
        "lag asked, ms": 1000 * lag_s,
    }


def median_of(columns: Sequence[Figures]) -> Figures:
    """Row by row."""
    return {name: statistics.median(column[name] for column in columns) for name in columns[0]}


def append(producer: Producer, count: int, batch: int) -> None:
    """Append messages, a flush after each `batch`."""
    for number in range(count):
        producer.send("images", key=KEYS[number % len(KEYS)], value=VALUE)
        if (number + 1) % batch == 0:
            producer.flush()
    producer.flush()


def follow(consumer: Consumer, count: int, batch: int) -> None:
    """Read and commit `count` messages, a commit after each poll."""
    while count > 0:
        records = consumer.poll(max_records=min(batch, count), timeout_s=1.0)
        if records:
            consumer.commit({(record.topic, record.partition): record.offset + 1 for record in records})
        count -= len(records)


def seconds(work: Callable[[], object]) -> float:
    """How long `work` takes."""
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def until_some(consumer: Consumer) -> Sequence[Record]:
    """The first records that come."""
    give_up = time.monotonic() + PATIENCE_S
    while not (records := consumer.poll(max_records=SCORER_BATCH, timeout_s=1.0)):
        if time.monotonic() > give_up:
            raise TimeoutError(f"no record within {PATIENCE_S:.0f} s")
    return records


def report(columns: Mapping[str, Figures], words: str) -> None:
    """The machine and the table."""
    print(
        f"{platform.machine()} {platform.system()} {platform.release()}, {os.cpu_count()} cores, Python {platform.python_version()}"
    )
    print(f"{words}\n")
    both = len(columns) > 1
    print(f"| | {' | '.join(columns)} |{' Kafka / SQLite |' * both}")
    print(f"|---{'|---' * (len(columns) + both)}|")
    for name in next(iter(columns.values())):
        figures = [column[name] for column in columns.values()]
        ratio = f" {figures[1] / figures[0]:.2f} |" if both and figures[0] else " |" * both
        print(f"| {name} | {' | '.join(f'{figure:.3g}' for figure in figures)} |{ratio}")


if __name__ == "__main__":
    main()
