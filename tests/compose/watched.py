"""A real Prometheus, with the rules of compose/, that asks a real worker for its figures."""

import json
import subprocess
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import yaml

from orchestration.supervise import free_port
from streams.local import LocalBus
from streams.messages import DriftIncident, Message, ModelAlert, RetrainRequest
from tests.compose.tools import COMPOSE, program
from tests.orchestration.judging import Judge, collected, judging, send, verdict
from tests.streams.bus_contract import until

EVERY = "200ms"


@dataclass(frozen=True)
class Prometheus:
    """A running Prometheus."""

    url: str

    def ask(self, path: str, **parameters: str) -> Any:
        """What its API answers; raises ValueError where it calls the question wrong."""
        try:
            with urllib.request.urlopen(f"{self.url}/api/v1/{path}?{urlencode(parameters)}", timeout=10) as response:
                return json.load(response)["data"]
        except urllib.error.HTTPError as error:
            with error:
                raise ValueError(f"{parameters}: {json.load(error)['error']}") from error

    def query(self, expression: str) -> list[float]:
        """The values of an expression's series now."""
        return [float(series["value"][1]) for series in self.ask("query", query=expression)["result"]]


@contextmanager
def watched(folder: Path) -> Iterator[Prometheus]:
    """A Prometheus that has seen a scorer judge, collect, flag, refuse and give up; skips the test where there is none."""
    command = program("prometheus", "prometheus")
    bus = LocalBus(folder / "bus.sqlite")
    with judging(bus, Judge(answers())) as scorer, _prometheus(command, folder, scorer) as prometheus:
        seen = "sum(driftline_records_committed_total)"
        until(lambda: prometheus.query(seen) == [0.0])
        for wave in (1, 2):  # rates need what came before
            send(bus, *answers(), "nobody knows this one")
            expected = wave * (len(answers()) + 1.0)
            until(lambda expected=expected: prometheus.query(seen) == [expected])  # type: ignore[misc]
        yield prometheus


def answers() -> dict[str, Message]:
    """What the scorer makes of its images, by name: at least one message of each kind that a panel shows."""
    incident = DriftIncident(
        line="tiles", incident_id="i", kind="covariate_drift", state="opened", version=1, signal="bulk", test="adwin",
        reference=0.0, observed=3.0, effect=3.0, since_image_id="a", alarm_image_id="b", after_images=10, at=0.0,
    )  # fmt: skip
    request = RetrainRequest(
        line="tiles", request_id="r", cause="covariate_drift", mode="blind", image_keys=("k",), parent_version=1,
        alarm_at=0.0, requested_at=0.0,
    )  # fmt: skip
    return {
        "normal": verdict("normal"),
        "flagged": verdict("flagged", flagged=True, latency_ms=700),
        "other": verdict("other", line="glass"),
        "late": verdict("late", late=True, latency_ms=60_000),
        "collected": collected("collected"),
        "incident": incident,
        "request": request,
        "alert": ModelAlert(line="tiles", version=2, serving=1, reason="broken", raised_at=0.0),
    }


@contextmanager
def _prometheus(command: str, folder: Path, scorer: str) -> Iterator[Prometheus]:
    """A Prometheus with compose's configuration, but faster, and with the one scorer instead of Docker's names."""
    configuration = yaml.safe_load((COMPOSE / "prometheus.yml").read_text())
    configuration["global"] = {"scrape_interval": EVERY, "scrape_timeout": EVERY, "evaluation_interval": EVERY}
    configuration["rule_files"] = [str(COMPOSE / each) for each in configuration["rule_files"]]
    target = {"targets": [scorer.removeprefix("http://")]}
    configuration["scrape_configs"] = [{"job_name": "score", "static_configs": [target]}]
    (folder / "prometheus.yml").write_text(yaml.safe_dump(configuration))
    address = f"127.0.0.1:{free_port()}"
    flags = (
        f"--config.file={folder / 'prometheus.yml'}",
        f"--storage.tsdb.path={folder / 'tsdb'}",
        f"--web.listen-address={address}",
    )
    log = folder / "prometheus.log"
    with log.open("wb") as out, subprocess.Popen((command, *flags), stdout=out, stderr=out) as process:
        try:
            prometheus = Prometheus(f"http://{address}")
            until(lambda: _ready(process, log, prometheus))
            yield prometheus
        finally:
            process.terminate()


def _ready(process: subprocess.Popen[bytes], log: Path, prometheus: Prometheus) -> bool:
    assert process.poll() is None, log.read_text()
    try:
        with urllib.request.urlopen(f"{prometheus.url}/-/ready", timeout=5) as response:
            return int(response.status) == 200
    except (urllib.error.URLError, ConnectionError):
        return False
