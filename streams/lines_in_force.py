"""The configuration of the lines for what runs on: taken up when the file changes, and never lost to a mistake in it.

A process that starts while the file holds a mistake goes by the last good one too: whoever reads a good one keeps a copy beside it.

A changed file counts once it has stood for two seconds: editors write it in pieces, or take it away first. Half a file is a mistake, or
empty, or waited out; only one that was cut between two tables and stays so cannot be told apart from an edit.
"""

import os
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from threading import Lock

from detectors.errors import InvalidInput
from streams.settings import (
    LineConfig,
    described_in,
    last_good_file,
    line_config,
    lines_file,
    parse_lines,
    read_lines,
)

SETTLED_S = 2.0
"""A file is taken as it is once it has not changed for so long."""

Signature = tuple[int, int, int, bool] | None


class LinesInForce:
    """The lines of `driftline.toml` under `home`, read again whenever it changes; while it holds a mistake, the last good one counts.

    `tell` hears of each mistake once, at once, and when it is mended. At first the file is read as it is; where it differs from the last
    good one and is younger than SETTLED_S, that is waited for (`sleep`). Raises InvalidInput at first where no good one was ever read.
    Safe to use from several threads.

    >>> LinesInForce(Path("/nowhere")).of("tiles").bank
    4000
    """

    def __init__(
        self,
        home: Path,
        tell: Callable[[str], None] = lambda _: None,
        *,
        now: Callable[[], float] = time.time,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._home, self._tell, self._now = home, tell, now
        self._path, self._copy = lines_file(home), last_good_file(home)
        self._lock = Lock()
        self._fault: str | None = None
        self._wait_for_writer(sleep)
        self._seen, self._since, self._is_done = signature(home), now(), True
        self._lines = self._first()

    @property
    def lines(self) -> Mapping[str, LineConfig]:
        """The lines that are described."""
        self._look()
        return self._lines

    @property
    def fault(self) -> str | None:
        """What is wrong with the file now, and what counts instead; None where nothing is."""
        self._look()
        return self._fault

    def of(self, line: str) -> LineConfig:
        """The configuration of a line, the defaults for one nobody described."""
        return line_config(self.lines, line)

    def _wait_for_writer(self, sleep: Callable[[float], None]) -> None:
        """Let whoever writes the file at this moment come to an end; where there was none before, there is nothing to lose."""
        with suppress(OSError, InvalidInput):
            young_s = self._now() - self._path.stat().st_mtime
            kept = read_lines(self._copy)
            if kept and 0 <= young_s < SETTLED_S and read_lines(self._path) != kept:
                sleep(SETTLED_S - young_s)

    def _first(self) -> Mapping[str, LineConfig]:
        try:
            content, lines = self._good()
        except InvalidInput as error:
            kept = read_lines(self._copy)
            if kept is None:
                raise
            lines = parse_lines(kept, self._copy)
            self._note(error)
            return lines
        self._keep(content)
        return lines

    def _look(self) -> None:
        with self._lock:
            found = signature(self._home)
            if found != self._seen:
                self._seen, self._since, self._is_done = found, self._now(), False
                self._take(is_settled=False)
            elif (
                not self._is_done and not 0 <= self._now() - self._since < SETTLED_S
            ):  # below 0: the clock was set back
                self._take(is_settled=True)

    def _take(self, *, is_settled: bool) -> None:
        """Note a mistake at once; go by what is good once it is settled."""
        try:
            content, lines = self._good()
        except InvalidInput as error:
            self._is_done = True
            self._note(error)
            return
        if not is_settled or signature(self._home) != self._seen:  # it changed while it was read
            return
        self._lines, self._is_done = lines, True
        self._keep(content)
        if self._fault is not None:
            self._tell(f"{self._path} is mended and counts again")
        self._fault = None

    def _good(self) -> tuple[bytes, Mapping[str, LineConfig]]:
        content = described_in(self._home)
        return content, parse_lines(content, self._path)

    def _keep(self, content: bytes) -> None:
        """It is the last good one from here on. A folder that may only be read, as the dashboard's may be, keeps no copy."""
        with suppress(OSError):
            kept = self._copy.read_bytes() if self._copy.exists() else b""
            if content != kept:
                unfinished = self._copy.with_suffix(f".{os.getpid()}")
                unfinished.write_bytes(content)
                unfinished.replace(self._copy)

    def _note(self, error: InvalidInput) -> None:
        self._fault = f"{error}; until it is mended, the last good configuration stays in force"
        self._tell(self._fault)


def signature(home: Path) -> Signature:
    """What changes when the file of an installation is written anew, or a missing one is given up with the copy of it."""
    has_copy = last_good_file(home).exists()
    try:
        found = lines_file(home).stat()
    except OSError:
        return (0, 0, 0, True) if has_copy else None
    return found.st_mtime_ns, found.st_size, found.st_ino, has_copy and found.st_size == 0
