"""The configuration of the lines for what runs on: taken up when the file changes, and never lost to a mistake in it.

A process that starts while the file holds a mistake goes by the last good one too: whoever reads a good one keeps a copy beside it.
"""

import os
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from threading import Lock

from detectors.errors import InvalidInput
from streams.settings import LineConfig, line_config, lines_file, parse_lines, read_lines

Signature = tuple[int, int, int] | None


def copy_of(home: Path) -> Path:
    """Where the last good configuration is kept."""
    return home / "driftline.last-good.toml"


class LinesInForce:
    """The lines of `driftline.toml` under `home`, read again whenever it changes; while it holds a mistake, the last good one counts.

    `tell` hears of each mistake once, and when it is mended. Raises InvalidInput at first where no good one was ever read. Safe to use
    from several threads.

    >>> LinesInForce(Path("/nowhere")).of("tiles").bank
    4000
    """

    def __init__(self, home: Path, tell: Callable[[str], None] = lambda _: None) -> None:
        self._path, self._copy, self._tell = lines_file(home), copy_of(home), tell
        self._lock = Lock()
        self._fault: str | None = None
        self._seen = _signature(self._path)
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

    def _first(self) -> Mapping[str, LineConfig]:
        try:
            return self._good()
        except InvalidInput as error:
            content = read_lines(self._copy)
            if content is None:
                raise
            lines = parse_lines(content, self._copy)
            self._note(error)
            return lines

    def _look(self) -> None:
        with self._lock:
            found = _signature(self._path)
            if found == self._seen:
                return
            self._seen = found
            try:
                self._lines = self._good()
            except InvalidInput as error:
                self._note(error)
                return
            if self._fault is not None:
                self._tell(f"{self._path} is mended and counts again")
            self._fault = None

    def _good(self) -> Mapping[str, LineConfig]:
        """What the file describes now; it is the last good one from here on."""
        content = read_lines(self._path) or b""
        lines = parse_lines(content, self._path)
        with suppress(OSError):  # a folder that may only be read, as the dashboard's may be, keeps no copy
            self._keep(content)
        return lines

    def _keep(self, content: bytes) -> None:
        kept = self._copy.read_bytes() if self._copy.exists() else b""
        if content != kept:
            unfinished = self._copy.with_suffix(f".{os.getpid()}")
            unfinished.write_bytes(content)
            unfinished.replace(self._copy)

    def _note(self, error: InvalidInput) -> None:
        self._fault = f"{error}; until it is mended, the last good configuration stays in force"
        self._tell(self._fault)


def _signature(path: Path) -> Signature:
    """What changes when a file is written anew; None where there is none."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino
