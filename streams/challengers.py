"""The challengers of one scorer's lines: loaded in the background where there is room for them, the first to be put out, never waited
for.
"""

import logging
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, replace

from detectors.errors import ArtifactError, NotFound, Unavailable
from detectors.registry import OperatingPoint
from streams.loaded import Serving

log = logging.getLogger(__name__)


@dataclass
class _Challenger:
    """`held_bytes`: what it takes, once it is known; `is_told`: whether the log says that there is no room for it."""

    version: int
    loaded: Serving | None = None
    loading: Future[Serving] | None = None
    held_bytes: int | None = None
    is_told: bool = False


class Challengers:
    """At most one a line. `load` fetches and proves a version of a line, `point` tells the operating point in force.

    >>> Challengers(lambda line, version: 1 / 0, lambda line, version: 1 / 0).of("tiles") is None
    True
    """

    def __init__(self, load: Callable[[str, int], Serving], point: Callable[[str, int], OperatingPoint]) -> None:
        self._load = load
        self._point = point
        self._lines: dict[str, _Challenger] = {}  # least recently used first
        self._loader = ThreadPoolExecutor(max_workers=1, thread_name_prefix="challenger-loader")

    @property
    def held_bytes(self) -> int:
        """What those in memory take."""
        return sum(each.loaded.held_bytes for each in self._lines.values() if each.loaded)

    def of(self, line: str) -> Serving | None:
        """The line's challenger, if it is in memory."""
        if line not in self._lines:
            return None
        known = self._lines[line] = self._lines.pop(line)  # now used most recently
        return known.loaded

    def follow(self, line: str, version: int | None, *, free_bytes: int, expected_bytes: int) -> Exception | None:
        """Look after a line whose challenger is `version`; where it turned out not to be loadable: why, else None.

        It is loaded only where `free_bytes` are enough for what it takes, as far as that is known, or `expected_bytes`. A store that is
        away is asked again at the next look.
        """
        known = self._lines.get(line)
        if version is None:
            self.forget(line)
            return None
        if known is None or known.version != version:
            known = self._lines[line] = _Challenger(version)
        if known.loaded is not None:
            self._follow_operating_point(line, known, known.loaded)
        elif known.loading is not None:
            return self._take(line, known, known.loading)
        elif (known.held_bytes or expected_bytes) <= free_bytes:
            known.loading = self._loader.submit(self._load, line, version)
        elif not known.is_told:
            known.is_told = True
            cure = "give DRIFTLINE_MODEL_MEMORY more"
            log.warning("line %s: no room for challenger %d, %d bytes are free; %s", line, version, free_bytes, cure)
        return None

    def put(self, line: str, challenger: Serving) -> None:
        """One that is in memory already."""
        self._lines[line] = _Challenger(challenger.version, challenger, held_bytes=challenger.held_bytes)

    def take(self, line: str, version: int) -> Serving | None:
        """`version` as far as it is in memory as the line's challenger, which it no longer is."""
        known = self._lines.get(line)
        if known is None or known.version != version or known.loaded is None:
            return None
        self.forget(line)
        return known.loaded

    def put_out(self) -> bool:
        """Put out the one least recently used; whether there was one."""
        for line, known in self._lines.items():
            if known.loaded is not None:
                log.info("line %s: challenger %d put out of memory", line, known.version)
                known.loaded = None
                return True
        return False

    def forget(self, line: str) -> None:
        """The line has no challenger."""
        self._lines.pop(line, None)

    def close(self) -> None:
        """Stop loading."""
        self._loader.shutdown(wait=True, cancel_futures=True)

    def _take(self, line: str, known: _Challenger, loading: Future[Serving]) -> Exception | None:
        if not loading.done():
            return None
        known.loading = None
        fault = loading.exception()
        if isinstance(fault, Unavailable):
            log.info("line %s: challenger %d cannot be loaded yet: %s", line, known.version, fault)
            return None
        if isinstance(fault, Exception):
            self.forget(line)
            return fault
        known.loaded = loading.result()
        known.held_bytes = known.loaded.held_bytes
        log.info("line %s: version %d scores beside the champion", line, known.version)
        return None

    def _follow_operating_point(self, line: str, known: _Challenger, loaded: Serving) -> None:
        with suppress(ArtifactError, NotFound, Unavailable):  # what is in memory scores on as it is
            point = self._point(line, loaded.version)
            if point.revision != loaded.operating_point.revision:
                known.loaded = replace(loaded, operating_point=point)
