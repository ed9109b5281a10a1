"""What is done to an installation while images come: each fault is a function that returns when it is over."""

import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from functools import partial

from detectors.registry import Registry
from detectors.store import open_store
from streams.settings import Settings
from tests.reliability.checker import LINES
from tests.reliability.clock import WorkersClock
from tests.reliability.disks import SmallDisk, full_for
from tests.reliability.proxy import Mode, Proxy
from tests.reliability.workers import Workers
from tests.servers import SERVICES, service

BROKERS = ("kafka-1", "kafka-2", "kafka-3")
LONGER_THAN_A_SESSION_S = 9.0
HOUR_S = 3600.0
ON_SMALL_DISKS = ("kafka-3", "postgresql")

Fault = Callable[[], None]


def random_deaths(workers: Workers, *, times: int, pause_s: float, rng: random.Random) -> None:
    """Kill (SIGKILL) or freeze for longer than its session any worker, at random moments."""
    for number in range(times):
        name = rng.choice(workers.names)
        if number % 2:
            workers.freeze(name, LONGER_THAN_A_SESSION_S)
        else:
            workers.signal(name, signal.SIGKILL)
        time.sleep(rng.uniform(0.2, pause_s))


def away(names: tuple[str, ...], for_s: float, gone_by: signal.Signals = signal.SIGKILL) -> None:
    """Servers that are gone for a while."""
    with service(*names, gone_by=gone_by):
        time.sleep(for_s)


def restarted(name: str) -> None:
    """A server that is ended in order and comes back at once; images come for a while after."""
    subprocess.run([sys.executable, SERVICES, "stop", name], check=True)
    subprocess.run([sys.executable, SERVICES, "start", name], check=True)
    time.sleep(5)


def failing(proxy: Proxy, mode: Mode, for_s: float) -> None:
    """A server that answers badly for a while."""
    proxy.mode = mode
    time.sleep(for_s)
    proxy.mode = "pass"


def swapped_while_scorers_come_and_go(settings: Settings, workers: Workers) -> None:
    """A second version of every line is promoted while a scorer dies and comes back: partitions move during the swap."""
    registry = Registry(open_store(settings.store))
    workers.signal("score-1", signal.SIGKILL)
    for line in LINES:
        files = registry.files(line, 1)
        registry.promote(line, registry.publish(line, files))
        time.sleep(0.5)
    workers.signal("score-2", signal.SIGKILL)
    time.sleep(8)


def clock_set_back(settings: Settings, workers: Workers, for_s: float) -> None:
    """The workers' clock is an hour slow for a while and one of them dies meanwhile; then it is put right."""
    with WorkersClock(settings.home).set_back(HOUR_S):
        workers.signal("score-1", signal.SIGKILL)
        time.sleep(for_s)


def all_faults(
    settings: Settings,
    workers: Workers,
    proxy: Proxy,
    disks: Mapping[str, SmallDisk],
    *,
    deaths: int,
    outage_s: float,
) -> dict[str, Fault]:
    """Every fault by its name, in the order in which they are tried; full disks are those of `disks`."""
    rng = random.Random(7)
    full = {f"disk full under {name}": partial(full_for, disk, name, outage_s) for name, disk in disks.items()}
    return {
        "nothing": partial(time.sleep, 10),
        f"{deaths} x kill -9 or SIGSTOP of a worker": partial(
            random_deaths, workers, times=deaths, pause_s=4.0, rng=rng
        ),
        "poison in between": partial(time.sleep, 10),
        "a broker of three killed": partial(away, BROKERS[1:2], outage_s),
        "all brokers gone": partial(away, BROKERS, outage_s),
        "S3 gone": partial(away, ("versitygw",), outage_s),
        "S3 answers 503": partial(failing, proxy, "busy", outage_s),
        "S3 answers slowly": partial(failing, proxy, "slow", outage_s),
        "PostgreSQL restarted": partial(restarted, "postgresql"),
        "PostgreSQL gone": partial(away, ("postgresql",), outage_s, signal.SIGINT),
        **full,
        "clock set back by an hour": partial(clock_set_back, settings, workers, outage_s),
        "models swapped while partitions move": partial(swapped_while_scorers_come_and_go, settings, workers),
    }
