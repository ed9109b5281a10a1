"""Two scorers against one, SQLite against Kafka, and what the bus costs of the whole: ratios measured side by side.

Run: `python benchmarks/scaling.py [--rounds N] [--images N] [--rate R] [--seconds S] [--only sqlite|kafka]`. Scorers are real
processes with small real models of four lines; store and models are the same folder on both buses, so that only the bus differs.
Kafka is the cluster that DRIFTLINE_TEST_KAFKA names; its brokers' processor time is counted where `make services` of this folder runs
them. `--rounds 1 --images 80 --seconds 5` takes a minute. The table is Markdown; each figure is the median of the rounds. What a
topic's size costs: `growth.py`.
"""

import argparse
import os
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from uuid import uuid4

import msgspec

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from growth import PATIENCE_S, Figures, buses, fresh_bus, median_of, report, until_some

from orchestration.supervise import Part, Supervisor, free_port
from orchestration.workers import SCORER_BATCH
from streams.bus import Bus, Consumer, Producer, Record, publish
from streams.buses import open_bus
from streams.health import Health
from streams.messages import Verdict, decode
from streams.settings import Settings
from streams.worker import Effects, Worker
from tests.reliability.checker import LINES, PICTURES, Plant
from tests.servers import SERVICES

WARM = 8
TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Loads:
    """How much is asked of the lines."""

    images: int
    rate: float
    seconds: float


def main() -> None:
    """Both buses in turn, round by round, so that both meet the same noise."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--images", type=int, default=2000, help="backlog that the scorers work off")
    parser.add_argument("--rate", type=float, default=12.0, help="images a second while latency is measured")
    parser.add_argument("--seconds", type=float, default=30.0)
    parser.add_argument("--only", choices=("sqlite", "kafka"))
    asked = parser.parse_args()
    loads = Loads(asked.images, asked.rate, asked.seconds)
    found: dict[str, list[Figures]] = {name: [] for name in buses(asked.only)}
    with tempfile.TemporaryDirectory() as scratch:
        plant = Plant.build(Settings.from_environ({"DRIFTLINE_HOME": scratch}))
        for number in range(asked.rounds):
            for name, columns in found.items():
                with fresh_bus(name, Path(scratch)) as url:
                    columns.append(scorers_on(on_bus(plant, url), loads))
                print(f"round {number + 1}, {name}: {columns[-1]}", file=sys.stderr, flush=True)
    report(
        {name: median_of(columns) for name, columns in found.items()},
        f"{len(LINES)} lines, backlogs of {loads.images} images, latency at {loads.rate:g} images/s, batches of {SCORER_BATCH}, "
        f"medians of {asked.rounds} rounds",
    )


def on_bus(plant: Plant, url: str) -> Plant:
    """The same lines on another bus."""
    return replace(plant, settings=replace(plant.settings, bus=url), bus=open_bus(url))


# Scorers as processes


def scorers_on(plant: Plant, loads: Loads) -> Figures:
    """One scorer, two scorers, and a worker that scores nothing, on one bus."""
    figures: Figures = {}
    with closing(plant.bus.producer()) as producer, closing(plant.bus.consumer("bench", [Verdict.topic])) as verdicts:
        for count, words in ((1, "one scorer"), (2, "two scorers")):
            figures |= {f"{name}, {words}": figure for name, figure in run(plant, producer, verdicts, count, loads)}
    figures["two against one"] = figures["images/s, two scorers"] / figures["images/s, one scorer"]
    return figures | cost_of_bus(plant.bus, loads, figures)


def run(plant: Plant, producer: Producer, verdicts: Consumer, count: int, loads: Loads) -> Iterator[tuple[str, float]]:
    """The figures of `count` scorers: a backlog worked off, then images at a modest rate."""
    with scorers(plant.settings, count) as (supervisor, ports):
        warm_up(plant, producer, ports)
        drain(plant)
        records = [health(port).records for port in ports]
        before, busy, began = spent_s(supervisor, count), machine_s(), time.perf_counter()
        name = send(plant, producer, loads.images, rate=0.0)
        judged = verdicts_of(verdicts, name, loads.images)
        drain(plant)
        done = [health(port).records - first for port, first in zip(ports, records, strict=True)]
        wall_s, cpu_s = time.perf_counter() - began, spent_s(supervisor, count) - before
        others_s = machine_s() - busy - cpu_s
        name = send(plant, producer, int(loads.rate * loads.seconds), rate=loads.rate)
        late_ms = sorted(each.latency_ms for each in verdicts_of(verdicts, name, int(loads.rate * loads.seconds)))
    yield "images/s", rate_of(judged)
    yield "cores that the scorers had", cpu_s / wall_s
    yield "cores that all others had", others_s / wall_s
    yield "share of the busier scorer", max(done) / sum(done)
    yield "scorer's processor time, ms/image", 1000 * cpu_s / loads.images
    yield "camera to verdict p50, ms", late_ms[len(late_ms) // 2]
    yield "camera to verdict p99, ms", late_ms[int(0.99 * len(late_ms))]
    yield "camera to verdict worst, ms", late_ms[-1]


@contextmanager
def scorers(settings: Settings, count: int) -> Iterator[tuple[Supervisor, list[int]]]:
    """Scorers and the ports of their health endpoints."""
    ports = [free_port() for _ in range(count)]
    command = (sys.executable, "-m", "orchestration", "score", "--health")
    parts = [Part(f"score-{number}", (*command, f"127.0.0.1:{port}")) for number, port in enumerate(ports)]
    supervisor = Supervisor(settings, parts, print)
    supervisor.start()
    try:
        yield supervisor, ports
    finally:
        supervisor.stop()


def warm_up(plant: Plant, producer: Producer, ports: Sequence[int]) -> None:
    """A few images at a time until every scorer has judged some: all have joined, and their models are loaded."""
    give_up = time.monotonic() + PATIENCE_S
    while not all(answers(port) and health(port).records >= WARM for port in ports):
        if time.monotonic() > give_up:
            raise TimeoutError(
                f"a scorer got no image within {PATIENCE_S:.0f} s: all lines lie on the other's partitions"
            )
        send(plant, producer, len(LINES), rate=0.0)
        time.sleep(0.5)


def drain(plant: Plant) -> None:
    """Wait until the scorers have committed everything."""
    give_up = time.monotonic() + PATIENCE_S
    while plant.bus.lag("scorer", ["images"]):
        if time.monotonic() > give_up:
            raise TimeoutError(f"images are left after {PATIENCE_S:.0f} s; see {plant.settings.home / 'logs'}")
        time.sleep(0.3)


def send(plant: Plant, producer: Producer, count: int, *, rate: float) -> str:
    """Images of all lines in turn, at `rate` a second or (0) all at once; what their ids begin with."""
    name = uuid4().hex
    started = time.monotonic()
    for number in range(count):
        if rate:
            time.sleep(max(0.0, started + number / rate - time.monotonic()))
        image = msgspec.structs.replace(
            plant.kept[LINES[number % len(LINES)]][number // len(LINES) % PICTURES],
            image_id=f"{name}-{number}",
            taken_at=time.time(),
        )
        publish(producer, image, source="/bench", at=image.taken_at)
        if rate:
            producer.flush()
    producer.flush()
    return name


def verdicts_of(consumer: Consumer, name: str, count: int) -> list[Verdict]:
    """The verdicts of the images whose ids begin so."""
    found: list[Verdict] = []
    give_up = time.monotonic() + PATIENCE_S
    while len(found) < count:
        if time.monotonic() > give_up:
            raise TimeoutError(f"{len(found)} of {count} verdicts after {PATIENCE_S:.0f} s")
        said = [decode(record.value, Verdict) for record in consumer.poll(max_records=200, timeout_s=1.0)]
        found += [verdict for verdict in said if verdict.image_id.startswith(name)]
    return found


def rate_of(judged: Sequence[Verdict]) -> float:
    """Images a second while every line had some waiting: from the first verdict to the last one of the line that ended first."""
    began = min(verdict.judged_at for verdict in judged)
    ended = min(max(verdict.judged_at for verdict in judged if verdict.line == line) for line in LINES)
    return sum(verdict.judged_at <= ended for verdict in judged) / (ended - began)


def answers(port: int) -> bool:
    """Whether a scorer is up."""
    try:
        health(port)
    except OSError:
        return False
    return True


def health(port: int) -> Health:
    """What a scorer says of itself."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/healthz", timeout=5) as answer:
        return msgspec.json.decode(answer.read(), type=Health)


def spent_s(supervisor: Supervisor, count: int) -> float:
    """Processor time of the scorers so far."""
    return sum(processor_s(supervisor.pid(f"score-{number}")) for number in range(count))


def machine_s() -> float:
    """Processor time of everything on this machine so far, but for idling."""
    user, nice, system, _, _, irq, softirq = (int(each) for each in Path("/proc/stat").read_text().split()[1:8])
    return (user + nice + system + irq + softirq) / TICKS


def processor_s(pid: int) -> float:
    """Processor time of a process so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


# The bus alone


class Echo:
    """A handler that has a verdict ready for every image."""

    def __init__(self, verdict: Verdict) -> None:
        self._verdict = verdict

    def handle(self, records: Sequence[Record]) -> Effects:
        """Verdicts of the usual size, in order."""
        made = [
            msgspec.structs.replace(self._verdict, line=(record.key or b"").decode(), image_id=str(record.offset))
            for record in records
        ]
        return Effects(messages=tuple(made))


def cost_of_bus(bus: Bus, loads: Loads, scored: Figures) -> Figures:
    """A worker reads, delivers and commits the same images and scores none: its times an image, and their share of a scorer's."""
    with closing(bus.consumer("bench-sample", [Verdict.topic])) as sample:
        verdict = decode(until_some(sample)[0].value, Verdict)
    consumer, producer = bus.consumer("bench-echo", ["images"]), bus.producer()
    worker = Worker(consumer, producer, Echo(verdict), source="/bench", max_records=SCORER_BATCH)
    done = 0
    while done < WARM:
        done += worker.step()
    brokers_s, cpu_s, began, done = brokers_processor_s(), time.process_time(), time.perf_counter(), 0
    while done < loads.images:
        done += worker.step()
    wall_s, cpu_s, brokers_s = (
        time.perf_counter() - began,
        time.process_time() - cpu_s,
        brokers_processor_s() - brokers_s,
    )
    consumer.close()
    producer.close()
    own_ms, brokers_ms, scorer_ms = (
        1000 * cpu_s / done,
        1000 * brokers_s / done,
        scored["scorer's processor time, ms/image, one scorer"],
    )
    return {
        "bus in the scorer's process, ms of processor/image": own_ms,
        "bus in the brokers, ms of processor/image": brokers_ms,
        "bus of the whole, % of processor time": 100 * (own_ms + brokers_ms) / (scorer_ms + brokers_ms),
        "bus, ms of waiting and working/image": 1000 * wall_s / done,
        "bus of the whole, % of time": 100 * wall_s / done * scored["images/s, one scorer"],
    }


def brokers_processor_s() -> float:
    """Processor time of the brokers that `make services` of this folder runs; 0 where it runs none."""
    return sum(processor_s(int(file.read_text())) for file in (SERVICES.parents[1] / ".services").glob("kafka-*.pid"))


if __name__ == "__main__":
    main()
