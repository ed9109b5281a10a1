"""The supervisor with small real processes: started, restarted, stopped in order."""

import os
import signal
import socket
import sys
import time
from collections.abc import Callable
from pathlib import Path

from orchestration.supervise import LOOPBACK, PORTS, Part, Supervisor, child_environ, free_port
from streams.settings import Settings

SLEEPER = "import time; time.sleep(600)"


def settings(home: Path) -> Settings:
    return Settings.from_environ({"DRIFTLINE_HOME": str(home)})


def part(name: str, code: str) -> Part:
    return Part(name, (sys.executable, "-c", code))


def until(condition: Callable[[], bool], within_s: float = 20.0) -> None:
    deadline = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < deadline, "did not happen in time"
        time.sleep(0.02)


def test_a_part_that_dies_is_started_again_and_said(tmp_path: Path) -> None:
    told: list[str] = []
    supervisor = Supervisor(settings(tmp_path), [part("sleeper", SLEEPER)], told.append)
    supervisor.start()
    try:
        first = supervisor.pid("sleeper")
        os.kill(first, signal.SIGKILL)

        def back() -> bool:
            supervisor.look()
            return supervisor.pid("sleeper") != first

        until(back)
        assert any("sleeper ended with status -9" in line for line in told)
    finally:
        supervisor.stop()


def test_stopping_ends_every_part(tmp_path: Path) -> None:
    supervisor = Supervisor(settings(tmp_path), [part("one", SLEEPER), part("two", SLEEPER)], lambda _: None)
    supervisor.start()
    pids = [supervisor.pid("one"), supervisor.pid("two")]
    supervisor.stop()
    assert not [
        pid for pid in pids if Path(f"/proc/{pid}/cmdline").exists() and Path(f"/proc/{pid}/cmdline").read_bytes()
    ]


def test_output_of_a_part_is_kept(tmp_path: Path) -> None:
    supervisor = Supervisor(settings(tmp_path), [part("talker", "print('hello from the part')")], lambda _: None)
    supervisor.start()
    log = tmp_path / "logs" / "talker.log"
    until(lambda: b"hello from the part" in log.read_bytes())
    supervisor.stop()


def test_children_learn_where_things_are_from_their_environment(tmp_path: Path) -> None:
    environ = child_environ({"PATH": "/bin"}, settings(tmp_path))
    assert Settings.from_environ(environ) == settings(tmp_path)
    assert environ["DAGSTER_HOME"] == str(tmp_path / "dagster")
    assert environ["PATH"] == "/bin"


def test_free_ports_are_none_that_outgoing_connections_take() -> None:
    port = free_port()
    assert PORTS[0] <= port < PORTS[1] <= 32_768
    with socket.socket() as door:
        door.bind((LOOPBACK, port))
