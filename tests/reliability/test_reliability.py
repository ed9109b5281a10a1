"""No image lost, none judged twice: every fault on real Kafka, S3 and PostgreSQL. `make soak` does the same for hours."""

import gc
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

from detectors.images import encode_png
from detectors.store import open_store
from streams.buses import open_bus
from streams.camera import Camera
from streams.settings import Settings
from tests.reliability.checker import LINES, Plant, Tally
from tests.reliability.clock import WorkersClock
from tests.reliability.faults import HOUR_S, clock_set_back
from tests.reliability.soak import real_installation, run
from tests.reliability.workers import Workers, worker_commands
from tests.streams.scoring_line import texture

pytestmark = [
    pytest.mark.slow,
    # kafka-python 3.0.12 does not close the socket of a connection that was refused
    pytest.mark.filterwarnings("ignore:Exception ignored in. <s:pytest.PytestUnraisableExceptionWarning"),
]


@pytest.fixture(autouse=True)
def swept() -> Iterator[None]:
    """Such sockets are found where they were left."""
    yield
    gc.collect()


@pytest.mark.timeout(900)
def test_whatever_fails_nothing_is_lost_and_nothing_doubled(tmp_path: Path) -> None:
    told: list[str] = []
    tallies = run(tmp_path, deaths=20, outage_s=12.0, tell=told.append)
    assert [each.fault for each in tallies if not each.kept] == [], "\n".join(told)
    assert all(each.sent > 0 for each in tallies)
    unwell = {each.fault: each.unwell for each in tallies}
    assert unwell["all brokers gone"] >= {"score-1", "score-2", "record"}
    assert "record" in unwell["PostgreSQL gone"]
    assert all(name == "record" for name in unwell.get("disk full under postgresql", {"record"}))
    assert {each.fault: each.dead for each in tallies if each.dead} == {"poison in between": poisoned(tallies)}


def poisoned(tallies: list[Tally]) -> int:
    """How many of the poisoned episode's images were none: every seventh, from the fourth on."""
    (sent,) = (each.sent for each in tallies if each.fault == "poison in between")
    return (sent + 3) // 7


@pytest.mark.timeout(300)
def test_a_clock_set_back_loses_nothing_on_the_embedded_default(tmp_path: Path) -> None:
    settings = Settings.from_environ({"DRIFTLINE_HOME": str(tmp_path)})
    plant = Plant.build(settings)
    workers = Workers(settings, worker_commands(scorers=2, program=WorkersClock(tmp_path).program))
    workers.start()
    try:
        plant.episode("all of them at work", partial(time.sleep, 1), workers)
        tally = plant.episode("clock set back", partial(clock_set_back, settings, workers, 12.0), workers)
    finally:
        workers.stop()
    verdicts = [verdict for line in LINES for verdict in plant.ledger.verdicts(line, limit=tally.sent)]
    assert tally.kept
    assert tally.judged == tally.sent
    assert max(each.taken_at - each.judged_at for each in verdicts) > HOUR_S / 2, "the clock was wrong"
    assert min(each.latency_ms for each in verdicts) == 0.0


@pytest.mark.timeout(300)
def test_the_checker_sees_a_worker_that_commits_before_it_has_delivered(tmp_path: Path) -> None:
    with real_installation(tmp_path) as (settings, _):
        plant = Plant.build(settings)
        careless = worker_commands(scorers=1) | {"score-1": (sys.executable, "-m", "tests.reliability.careless")}
        workers = Workers(settings, careless)

        def work_off() -> None:
            workers.start()
            plant.drain()

        tally = send_and(plant, "careless", work_off)
        workers.stop()
    assert workers.deaths >= 1
    assert tally.lost > 0
    assert not tally.kept


def send_and(plant: Plant, name: str, then: Callable[[], None]) -> Tally:
    """Send a fixed number of images of one line, do something, and tell what became of them."""
    producer = open_bus(plant.settings.bus).producer()
    camera = Camera(open_store(plant.settings.store), producer, line=LINES[0], source="/test/chaos")
    for number in range(60):
        camera.send(encode_png(texture(number)), image_id=f"{name}-{number}", suffix="png")
        plant.sent.setdefault(name, set()).add((LINES[0], f"{name}-{number}"))
    producer.close()
    then()
    return plant.tally(name, fault_s=0.0, recovery_s=0.0)
