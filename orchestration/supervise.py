"""Everything on this machine as processes: starts the parts, restarts one that dies and says so, stops them in order.

Children learn where things are from the environment alone. On Linux they are told to end when the supervisor dies, however it dies.
"""

import ctypes
import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from orchestration.dagster_instance import make_databases, write_configuration
from streams.settings import Settings

LOOPBACK = "127.0.0.1"
PORTS = (20_000, 32_000)
STOP_GRACE_S = 15.0
LOOK_EVERY_S = 0.5
MOST_BACKOFF_S = 30.0
STEADY_AFTER_S = 60.0
_PR_SET_PDEATHSIG = 1

Tell = Callable[[str], None]


@dataclass(frozen=True)
class Part:
    """A process of the installation: its name, command line, its address if it serves people, and where it tells its health."""

    name: str
    command: tuple[str, ...]
    address: str | None = None
    port: int | None = None
    health: str | None = None


@dataclass
class _Running:
    part: Part
    process: subprocess.Popen[bytes]
    started_at: float
    failures: int = 0
    restart_at: float | None = None


def free_port() -> int:
    """A port of the loopback that nobody listens on now.

    It lies below those that the kernel gives to outgoing connections: a part that is started again finds it free.
    """
    while True:
        port = random.randrange(*PORTS)
        with socket.socket() as probe, suppress(OSError):
            probe.bind((LOOPBACK, port))
            return port


def worker_parts() -> tuple[Part, ...]:
    """The three workers: scorer, watcher, recorder; each tells its health on a port of the loopback."""
    return tuple(_worker_part(name, f"{LOOPBACK}:{free_port()}") for name in ("record", "score", "watch"))


def _worker_part(name: str, health: str) -> Part:
    command = (sys.executable, "-m", "orchestration", name, "--health", health)
    return Part(name, command, health=f"http://{health}/healthz")


def dagster_parts(settings: Settings, *, web: bool) -> tuple[Part, ...]:
    """Dagster's code server, daemon and (with `web`) page; writes the instance's configuration under `home`/dagster."""
    folder = write_configuration(settings)
    code_port, web_port = free_port(), free_port()
    (folder / "workspace.yaml").write_text(
        f"load_from:\n  - grpc_server:\n      host: {LOOPBACK}\n      port: {code_port}\n      location_name: driftline\n"
    )
    workspace = ("-w", str(folder / "workspace.yaml"))
    dagster = (sys.executable, "-m", "dagster")
    code = (*dagster, "api", "grpc", "-m", "orchestration.definitions", "-h", LOOPBACK, "-p", str(code_port))
    daemon = (sys.executable, "-m", "dagster._daemon", "run", *workspace)
    page = (sys.executable, "-m", "dagster_webserver", "-h", LOOPBACK, "-p", str(web_port), *workspace)
    parts = [
        Part("dagster-code", code, port=code_port),
        Part("dagster-daemon", daemon),
    ]
    if web:
        parts.append(Part("dagster-page", page, address=f"http://{LOOPBACK}:{web_port}", port=web_port))
    return tuple(parts)


def dashboard_part() -> Part:
    """The dashboard, on loopback only."""
    port = free_port()
    app = Path(__file__).resolve().parents[1] / "dashboard" / "app.py"
    command = (
        sys.executable,
        "-m",
        "streamlit",
        "run",
        str(app),
        "--server.address",
        LOOPBACK,
        "--server.port",
        str(port),
    )
    flags = (
        "--server.headless",
        "true",
        "--browser.gatherUsageStats",
        "false",
        "--server.fileWatcherType",
        "none",
        "--client.toolbarMode",
        "minimal",
    )
    return Part("dashboard", (*command, *flags), address=f"http://{LOOPBACK}:{port}", port=port)


@dataclass
class Supervisor:
    """Runs parts until told to stop. `tell` hears one line about everything that matters."""

    settings: Settings
    parts: Sequence[Part]
    tell: Tell
    _running: dict[str, _Running] = field(default_factory=dict)

    def start(self) -> None:
        """Start every part; their output goes to `home`/logs. Dagster's come last, once its databases are there."""
        (self.settings.home / "logs").mkdir(parents=True, exist_ok=True)
        dagster = [part for part in self.parts if part.name.startswith("dagster")]
        for part in self.parts:
            if part not in dagster:
                self._start(part)
        if dagster:
            make_databases(self.settings, child_environ(os.environ, self.settings))
        for part in dagster:
            self._start(part)

    def watch(self, stop: threading.Event) -> None:
        """Restart what dies, with growing pauses, until `stop` is set."""
        while not stop.wait(LOOK_EVERY_S):
            self.look()

    def look(self) -> None:
        """Restart what has died since the last look and is due."""
        for running in self._running.values():
            status = running.process.poll()
            if status is None:
                continue
            if running.restart_at is None:
                self._note_death(running, status)
            elif time.monotonic() >= running.restart_at:
                running.process, running.started_at = self._spawn(running.part), time.monotonic()
                running.restart_at = None

    def pid(self, name: str) -> int:
        """The process id of a part now."""
        return self._running[name].process.pid

    def wait_ready(self, *, timeout_s: float) -> bool:
        """Wait until every part that serves an address accepts connections; False if one does not in time.

        Somebody else must `watch` meanwhile, so that a part that dies while it starts is started again.
        """
        deadline = time.monotonic() + timeout_s
        ports = [part.port for part in self.parts if part.port is not None]
        while ports and time.monotonic() < deadline:
            ports = [port for port in ports if not _accepts(port)]
            time.sleep(0.1)
        return not ports

    def stop(self) -> None:
        """Ask every part to end, the last started first; kill what has not ended after a grace period."""
        for running in reversed(self._running.values()):
            if running.process.poll() is None:
                running.process.send_signal(signal.SIGTERM)
        deadline = time.monotonic() + STOP_GRACE_S
        for running in self._running.values():
            try:
                running.process.wait(max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                self.tell(f"{running.part.name} did not stop within {STOP_GRACE_S:.0f} s and was killed")
                running.process.kill()
                running.process.wait()
            _end_children(running.process.pid)

    def _start(self, part: Part) -> None:
        self._running[part.name] = _Running(part, self._spawn(part), time.monotonic())

    def _note_death(self, running: _Running, status: int) -> None:
        steady = time.monotonic() - running.started_at > STEADY_AFTER_S
        running.failures = 1 if steady else running.failures + 1
        pause = 0.0 if running.failures == 1 else min(MOST_BACKOFF_S, 2.0 ** (running.failures - 2))
        running.restart_at = time.monotonic() + pause
        log = self.settings.home / "logs" / f"{running.part.name}.log"
        self.tell(f"{running.part.name} ended with status {status}; started again in {pause:.0f} s (its log: {log})")

    def _spawn(self, part: Part) -> subprocess.Popen[bytes]:
        with (self.settings.home / "logs" / f"{part.name}.log").open("ab") as log:
            return subprocess.Popen(
                part.command,
                stdout=log,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                env=child_environ(os.environ, self.settings),
                preexec_fn=_end_with_parent if sys.platform == "linux" else None,
                start_new_session=True,
            )


def child_environ(environ: Mapping[str, str], settings: Settings) -> dict[str, str]:
    """The environment of a part: ours, these settings, Dagster's home, and one thread each.

    Many processes share the cores: two that each run two threads wait for one another at every layer of the network and spend ten times the
    work on it (measured under load: 0.6 s of processor time an image against 0.04 s).
    """
    return {
        **environ,
        **settings.environ(),
        "DAGSTER_HOME": str(settings.home / "dagster"),
        "DAGSTER_DISABLE_TELEMETRY": "yes",
        "OMP_NUM_THREADS": environ.get("OMP_NUM_THREADS", "1"),
        "OMP_WAIT_POLICY": "PASSIVE",
        "PYTHONUNBUFFERED": "1",
    }


def _end_children(leader: int) -> None:
    """End what a part that has ended left behind (a run of Dagster's code server, say): each part leads a process group."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(leader, signal.SIGKILL)


def _accepts(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(0.5)
        return probe.connect_ex((LOOPBACK, port)) == 0


def _end_with_parent() -> None:
    """In the child, before it starts: ask the kernel for SIGTERM when the parent dies."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
