"""What a worker tells over HTTP: health with its reason, figures that count what was committed, and wrong addresses refused."""

import os
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
import pytest
from prometheus_client.parser import text_string_to_metric_families

from detectors.errors import InvalidInput
from orchestration.health_server import observed, serving
from orchestration.supervise import free_port, worker_parts
from streams.health import Health
from streams.local import LocalBus
from streams.messages import Message
from tests.orchestration.judging import Judge, collected, judging, send, verdict
from tests.streams.bus_contract import until

Sample = tuple[str, frozenset[tuple[str, str]]]


def asked(url: str) -> tuple[int, bytes]:
    """Status and body."""
    try:
        with urllib.request.urlopen(url, timeout=10) as response:
            return response.status, response.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read()


def health(url: str) -> tuple[int, Health]:
    """What /healthz says."""
    status, body = asked(f"{url}/healthz")
    return status, msgspec.json.decode(body, type=Health)


def samples(url: str) -> dict[Sample, float]:
    """What /metrics says, without the process's own."""
    _, body = asked(f"{url}/metrics")
    families = text_string_to_metric_families(body.decode())
    found = (sample for family in families for sample in family.samples if sample.name.startswith("driftline_"))
    return {(sample.name, frozenset(sample.labels.items())): sample.value for sample in found}


def of(name: str, **labels: str) -> Sample:
    """A sample of the scorer's."""
    return name, frozenset({"worker": "scorer", **labels}.items())


@pytest.fixture
def bus(tmp_path: Path) -> LocalBus:
    return LocalBus(tmp_path / "bus.sqlite")


def test_health_follows_what_the_worker_goes_through(bus: LocalBus) -> None:
    judge = Judge({"a": verdict("a"), "b": verdict("b")})
    with judging(bus, judge) as url:
        status, found = health(url)
        assert (status, found.well, found.records) == (200, True, 0)
        judge.away = True
        send(bus, "a")
        until(lambda: health(url)[0] == 503)
        assert health(url)[1].reason == "waiting: the store does not answer; start it"
        assert samples(url)[of("driftline_well")] == 0
        assert samples(url)[of("driftline_waiting")] == 1
        judge.away = False
        until(lambda: health(url)[0] == 200)
        assert samples(url)[of("driftline_well")] == 1
        assert health(url)[1].records == 1


def test_figures_count_what_was_committed(bus: LocalBus) -> None:
    answers: dict[str, Message] = {
        "a": verdict("a"),
        "b": msgspec.structs.replace(verdict("b", flagged=True, latency_ms=1200), overdue=True),
        "c": verdict("c", line="glass"),
        "d": verdict("d", latency_ms=90_000, late=True),
        "e": collected("e"),
    }
    with judging(bus, Judge(answers)) as url:
        before = samples(url)
        assert before[of("driftline_records_committed_total")] == before[of("driftline_dead_letters_total")] == 0
        assert of("driftline_seconds_since_commit") not in before
        send(bus, *answers, "unknown")
        until(lambda: samples(url)[of("driftline_records_committed_total")] == 6)
        until(lambda: samples(url)[of("driftline_lag")] == 0)
        found = samples(url)
    assert found[of("driftline_dead_letters_total")] == 1
    assert found[of("driftline_messages_total", type="Verdict", line="tiles")] == 3
    assert found[of("driftline_messages_total", type="Verdict", line="glass")] == 1
    assert found[of("driftline_messages_total", type="Collected", line="tiles")] == 1
    assert found[of("driftline_flagged_total", line="tiles")] == 1
    assert found[of("driftline_flagged_total", line="glass")] == 0
    assert found[of("driftline_overdue_total", line="tiles")] == 1
    assert found[of("driftline_overdue_total", line="glass")] == 0
    latency = "driftline_verdict_latency_seconds"
    assert found[of(f"{latency}_sum", line="tiles", late="no")] == pytest.approx(1.28)
    assert found[of(f"{latency}_bucket", line="tiles", late="no", le="0.1")] == 1
    assert found[of(f"{latency}_bucket", line="tiles", late="no", le="1.5")] == 2
    assert found[of(f"{latency}_sum", line="tiles", late="yes")] == 90
    assert found[of("driftline_batch_seconds_count")] >= 2
    assert 0 <= found[of("driftline_seconds_since_commit")] < 60


def test_other_paths_are_answered_with_what_there_is(bus: LocalBus) -> None:
    with judging(bus, Judge({})) as url:
        assert asked(f"{url}/") == (404, b"here are /healthz and /metrics\n")


def test_a_client_that_says_nothing_holds_up_no_other(bus: LocalBus) -> None:
    with judging(bus, Judge({})) as url:
        host, port = url.removeprefix("http://").split(":")
        with socket.create_connection((host, int(port))):
            assert health(url)[0] == 200


def test_without_an_address_nothing_is_observed() -> None:
    with observed("scorer", None, lambda: 0) as observers:
        assert observers == ()


@pytest.mark.parametrize("address", ["9100", ":9100", "host:", "host:http", "127.0.0.1:99999", "256.1.1.1:9100"])
def test_an_address_that_is_none_is_refused(address: str) -> None:
    with pytest.raises(InvalidInput, match=r"127\.0\.0\.1:9100|choose another"), serving(lambda _, __: [], address):
        pass


def test_an_address_in_use_is_refused() -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        address = f"127.0.0.1:{other.getsockname()[1]}"
        with pytest.raises(InvalidInput, match=f"nobody can listen on {address}"), serving(lambda _, __: [], address):
            pass


@contextmanager
def recorder(home: Path, *arguments: str, **environ: str) -> Iterator[subprocess.Popen[bytes]]:
    """`driftline record` as a process on an installation of its own."""
    command = (sys.executable, "-m", "orchestration", "record", *arguments)
    known = {**os.environ, "DRIFTLINE_HOME": str(home), **environ}
    with subprocess.Popen(command, env=known, stderr=subprocess.PIPE) as process:
        try:
            yield process
        finally:
            process.terminate()


def answers(url: str) -> bool:
    """Whether anybody answers."""
    try:
        return health(url)[0] == 200
    except urllib.error.URLError:
        return False


def test_the_command_tells_its_health_where_option_or_environment_say(tmp_path: Path) -> None:
    chosen, usual = f"127.0.0.1:{free_port()}", f"127.0.0.1:{free_port()}"
    with recorder(tmp_path, "--health", chosen, DRIFTLINE_HEALTH=usual) as process:
        until(lambda: answers(f"http://{chosen}"))
        assert not answers(f"http://{usual}")
    assert process.returncode == 0
    with recorder(tmp_path, DRIFTLINE_HEALTH=usual) as process:
        until(lambda: answers(f"http://{usual}"))
    assert process.returncode == 0


def test_the_command_refuses_an_address_in_one_line(tmp_path: Path) -> None:
    with recorder(tmp_path, "--health", "9100") as process:
        assert process.wait(60) == 2
        assert process.stderr is not None
        assert process.stderr.read() == b"driftline: '9100' is no HOST:PORT; write 127.0.0.1:9100, for instance\n"


def test_every_worker_of_an_installation_has_an_address_of_its_own() -> None:
    parts = worker_parts()
    assert len({part.health for part in parts}) == 3
    for part in parts:
        assert part.health == f"http://{part.command[part.command.index('--health') + 1]}/healthz"
