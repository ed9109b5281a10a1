"""Which model judges each line now: loads the champion, proves it, swaps it in between batches.

The registry's pointer is the truth; it is looked at every half second. A new version is loaded and proved in the background while the
old one goes on judging; a version that fails its proof is refused with an alert and the old one stays.
"""

import logging
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field

from detectors.artifact import unpack
from detectors.errors import ArtifactError, NotFound
from detectors.extractors import ExtractorCache
from detectors.model import Model
from detectors.registry import OperatingPoint, Registry
from streams.messages import Message, ModelAlert, ModelServing

log = logging.getLogger(__name__)

LOOK_EVERY_S = 0.5


@dataclass(frozen=True)
class Serving:
    """A model in service: its version, the fitted model and the operating point in force."""

    version: int
    model: Model
    operating_point: OperatingPoint


@dataclass
class _Line:
    """What one scorer knows of a line."""

    current: Serving | None = None
    loading: tuple[int, Future[Serving]] | None = None
    refused: frozenset[int] = frozenset()
    looked_at: float = float("-inf")
    news: list[Message] = field(default_factory=list)


class ServingModels:
    """The models in service on this scorer, one a line, kept up to date with the registry."""

    def __init__(self, registry: Registry, extractors: ExtractorCache, *, now: Callable[[], float]) -> None:
        self._registry = registry
        self._extractors = extractors
        self._now = now
        self._lines: dict[str, _Line] = {}
        self._loader = ThreadPoolExecutor(max_workers=1, thread_name_prefix="model-loader")

    def of(self, line: str) -> Serving | None:
        """The model that judges `line` now; None where the line has none yet. May swap in a version that is ready."""
        state = self._lines.setdefault(line, _Line())
        self._take_loaded(line, state)
        if state.current is None or self._now() - state.looked_at >= LOOK_EVERY_S:
            self._look(line, state)
        return state.current

    def refresh(self) -> None:
        """Look after every line this scorer has met, also while no images come."""
        for line in self._lines:
            self.of(line)

    def take_news(self) -> tuple[Message, ...]:
        """Swaps and refusals since the last call, as messages."""
        news = tuple(message for state in self._lines.values() for message in state.news)
        for state in self._lines.values():
            state.news.clear()
        return news

    def close(self) -> None:
        """Stop loading."""
        self._loader.shutdown(wait=True, cancel_futures=True)

    def _look(self, line: str, state: _Line) -> None:
        state.looked_at = self._now()
        champion = self._registry.pointers(line).champion
        if champion is None or champion in state.refused:
            return
        if state.current is not None and champion == state.current.version:
            self._follow_operating_point(line, state, state.current)
        elif state.loading is None or state.loading[0] != champion:
            state.loading = (champion, self._loader.submit(self._load, line, champion))
            if state.current is None:
                state.loading[1].exception()
                self._take_loaded(line, state)

    def _follow_operating_point(self, line: str, state: _Line, current: Serving) -> None:
        point = self._registry.operating_point(line, current.version)
        if point.revision != current.operating_point.revision:
            state.current = Serving(current.version, current.model, point)

    def _load(self, line: str, version: int) -> Serving:
        model, _ = unpack(self._registry.files(line, version), extractors=self._extractors)
        return Serving(version, model, self._registry.operating_point(line, version))

    def _take_loaded(self, line: str, state: _Line) -> None:
        if state.loading is None or not state.loading[1].done():
            return
        (version, future), state.loading = state.loading, None
        previous = state.current.version if state.current else None
        try:
            state.current = future.result()
        except (ArtifactError, NotFound) as error:
            log.error("line %s: version %d refused, %s stays: %s", line, version, previous, error)
            state.refused |= {version}
            alert = ModelAlert(line=line, version=version, serving=previous, reason=str(error), raised_at=self._now())
            state.news.append(alert)
            return
        log.info("line %s: version %d in service", line, version)
        state.news.append(ModelServing(line=line, version=version, previous=previous, at=self._now()))
