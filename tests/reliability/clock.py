"""Workers on a machine whose clock is set: the time of day is shifted by as many seconds as a file says, durations go on.

`python -m tests.reliability.clock FILE WORKER` runs a worker so. It imports nothing of ours before the clock is shifted.
"""

import runpy
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


class WorkersClock:
    """The clock of the workers of an installation, right until it is set."""

    def __init__(self, home: Path) -> None:
        self._file = home / "clock"

    @property
    def program(self) -> tuple[str, ...]:
        """What runs the worker that is named to it, by this clock."""
        return sys.executable, "-m", "tests.reliability.clock", str(self._file)

    @contextmanager
    def set_back(self, by_s: float) -> Iterator[None]:
        """Within the block it is wrong; it is put right at the end."""
        self._file.write_text(str(-by_s))
        yield
        self._file.unlink()


def shift_s(file: Path) -> float:
    """What the file says; 0 where it is not there, or half written."""
    with suppress(FileNotFoundError, ValueError):
        return float(file.read_text())
    return 0.0


def main(file: Path, worker: str) -> None:
    """Shift the clock, then run the worker."""
    right = time.time
    time.time = lambda: right() + shift_s(file)
    sys.argv = ["driftline", worker]
    runpy.run_module("orchestration", run_name="__main__")


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
