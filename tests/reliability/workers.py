"""Workers as processes that are killed and frozen on purpose, and started again whenever they die."""

import os
import signal
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from pathlib import Path

from orchestration.supervise import child_environ, free_port
from streams.settings import Settings

LOOK_EVERY_S = 0.1
DRIFTLINE = (sys.executable, "-m", "orchestration")


class Workers:
    """The named worker processes of an installation; `commands` says what runs each. Started by `start`, ended by `stop`."""

    def __init__(self, settings: Settings, commands: Mapping[str, Sequence[str]]) -> None:
        self.deaths = 0
        self._settings = settings
        self._commands = commands
        self._ports = {name: free_port() for name in commands}
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self._ending = threading.Event()
        self._keeper = threading.Thread(target=self._keep, name="keeper")

    @property
    def names(self) -> list[str]:
        """Which there are."""
        return list(self._commands)

    def unwell(self) -> dict[str, str]:
        """Which say at their health endpoint that they are not well, or do not answer, and what they say."""
        said = {name: _health(port) for name, port in self._ports.items()}
        return {name: words for name, words in said.items() if words is not None}

    def start(self) -> None:
        """Start all, and keep them running."""
        (self._settings.home / "logs").mkdir(parents=True, exist_ok=True)
        for name in self._commands:
            self._spawn(name)
        self._keeper.start()

    def signal(self, name: str, number: signal.Signals) -> None:
        """Send a signal to a worker."""
        self._processes[name].send_signal(number)

    def freeze(self, name: str, for_s: float) -> None:
        """Stop a worker as if its machine hung, and let it wake up after `for_s` seconds, if it lives."""
        process = self._processes[name]
        process.send_signal(signal.SIGSTOP)
        self._ending.wait(for_s)
        process.send_signal(signal.SIGCONT)

    def stop(self) -> None:
        """End all in order."""
        self._ending.set()
        self._keeper.join()
        for process in self._processes.values():
            process.send_signal(signal.SIGTERM)
        for process in self._processes.values():
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def _keep(self) -> None:
        while not self._ending.wait(LOOK_EVERY_S):
            for name, process in list(self._processes.items()):
                if process.poll() is not None:
                    self.deaths += 1
                    self._spawn(name)

    def _spawn(self, name: str) -> None:
        environ = child_environ(os.environ, self._settings) | {
            "PYTHONPATH": str(Path(__file__).resolve().parents[2]),
            "DRIFTLINE_HEALTH": f"127.0.0.1:{self._ports[name]}",
        }
        with (self._settings.home / "logs" / f"{name}.log").open("ab") as log:
            self._processes[name] = subprocess.Popen(
                self._commands[name],
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
                env=environ,
                start_new_session=True,
            )


def worker_commands(*, scorers: int, program: tuple[str, ...] = DRIFTLINE) -> dict[str, tuple[str, ...]]:
    """The recorder, the watcher and some scorers; `program` runs the worker that is named to it.

    >>> list(worker_commands(scorers=2))
    ['record', 'watch', 'score-1', 'score-2']
    """
    commands: dict[str, tuple[str, ...]] = {name: (*program, name) for name in ("record", "watch")}
    return commands | {f"score-{number}": (*program, "score") for number in range(1, scorers + 1)}


def _health(port: int) -> str | None:
    """What the endpoint of an unwell worker says; None from a well one."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/healthz", timeout=5):
            return None
    except OSError as error:
        return error.read().decode() if isinstance(error, urllib.error.HTTPError) else str(error)
