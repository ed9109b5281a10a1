"""kill -9 of the scorer amid its work, of a Dagster run, of its daemon: nothing lost, nothing doubled, the request carried out once."""

import os
import signal
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import dagster as dg
import pytest

from detectors.images import encode_png
from detectors.registry import Registry
from detectors.store import open_store
from orchestration.replay import Stage, running, settle, wait_ready, write_line
from orchestration.resources import ATTEMPT_TAG, PID_TAG
from orchestration.run_process import pid_in
from orchestration.supervise import Supervisor
from streams.camera import Camera
from streams.ledger import Ledger
from streams.settings import LineConfig, Settings
from tests.servers import kafka_bus, postgresql_database, s3_bucket
from tests.streams.scoring_line import texture

LINE = "kills"
COLD_START = 40
MORE = 60


def until(condition: Callable[[], bool], *, within_s: float = 120.0) -> None:
    deadline = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < deadline, "did not happen in time"
        time.sleep(0.05)


def send(stage: Stage, count: int, *, first: int) -> set[str]:
    camera = Camera(open_store(stage.settings.store), stage.bus.producer(), line=LINE, source="/test")
    ids = [f"part-{number}" for number in range(first, first + count)]
    for number, image_id in enumerate(ids, start=first):
        camera.send(encode_png(texture(number)), image_id=image_id, suffix="png")
    camera.flush()
    return set(ids)


def kill_first_run(home: Path) -> str:
    """Wait for a run's process, kill it, and give the run's id."""
    with dg.DagsterInstance.from_config(str(home / "dagster")) as instance:
        until(lambda: any(PID_TAG in run.tags for run in instance.get_runs()))
        (run,) = instance.get_runs()
        os.kill(pid_in(run.tags[PID_TAG]), signal.SIGKILL)
        return run.run_id


def kill_scorer_amid_work(supervisor: Supervisor, ledger: Ledger) -> None:
    judged = ledger.counts(LINE).verdicts
    until(lambda: ledger.counts(LINE).verdicts > judged)
    os.kill(supervisor.pid("score"), signal.SIGKILL)


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("real", [False, True], ids=["embedded", "kafka-s3-postgresql"])
def test_killed_parts_lose_nothing_and_repeat_nothing(
    tmp_path: Path, real: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On the embedded default, and on Kafka, an S3 server and PostgreSQL, where Dagster's runs lie too."""
    with ExitStack() as servers:
        places = {"DRIFTLINE_HOME": str(tmp_path / "home")}
        if real:
            places["DRIFTLINE_BUS"] = servers.enter_context(kafka_bus())
            places["DRIFTLINE_STORE"] = s3_bucket("versitygw")
            places["DRIFTLINE_LEDGER"] = servers.enter_context(postgresql_database())
        settings = Settings.from_environ(places)
        monkeypatch.setenv("DRIFTLINE_LEDGER", settings.ledger)  # for the instance that is opened here
        killed_parts_lose_nothing_and_repeat_nothing(settings)


def killed_parts_lose_nothing_and_repeat_nothing(settings: Settings) -> None:
    write_line(settings, LINE, LineConfig(image_size=64, bank=300, cold_start_images=COLD_START))
    told: list[str] = []
    stage = Stage.open(settings, LINE, told.append)
    with running(stage, dashboard=False) as supervisor:
        wait_ready(stage, supervisor)
        sent = send(stage, COLD_START, first=0)
        killed = kill_first_run(settings.home)
        os.kill(supervisor.pid("dagster-daemon"), signal.SIGKILL)  # before or after it noticed
        settle(stage, LINE)
        sent |= send(stage, MORE, first=COLD_START)
        kill_scorer_amid_work(supervisor, stage.ledger)
        settle(stage, LINE)
    ledger = stage.ledger
    assert {verdict.image_id for verdict in ledger.verdicts(LINE, limit=10**6)} == sent
    assert ledger.counts(LINE).doubled == 0
    assert ledger.counts(LINE).collected_pending == 0
    (row,) = ledger.requests(LINE)
    assert (row.state, row.attempt, row.version) == ("promoted", 2, 1)
    assert row.run_id != killed
    assert Registry(open_store(settings.store)).versions(LINE) == [1]
    assert len(ledger.promotions(LINE)) == 1
    with dg.DagsterInstance.from_config(str(settings.home / "dagster")) as instance:
        statuses = {run.tags[ATTEMPT_TAG]: run.status for run in instance.get_runs()}
    assert statuses == {"1": dg.DagsterRunStatus.FAILURE, "2": dg.DagsterRunStatus.SUCCESS}
    for part in ("score", "dagster-daemon"):
        assert any(f"{part} ended with status -9" in line for line in told)
