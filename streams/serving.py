"""Which model judges each line now: loads the champion, proves it, swaps it in between batches.

The registry's pointer is the truth; it is looked at every half second. A new version is loaded and proved in the background while the
old one goes on judging; a version that fails its proof is refused with an alert and the old one stays.

Models in memory have a budget: beyond it those of the lines least recently used are put out, and come back from the registry with the
next image of their line. A put-out line still has its version in service; that is no swap and no news.
"""

import logging
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace

from detectors.artifact import unpack
from detectors.errors import ArtifactError, NotFound
from detectors.extractors import ExtractorCache
from detectors.footprint import held_bytes
from detectors.model import Model
from detectors.registry import OperatingPoint, Registry
from streams.messages import Message, ModelAlert, ModelServing
from streams.settings import MODEL_MEMORY_BYTES

log = logging.getLogger(__name__)

LOOK_EVERY_S = 0.5


@dataclass(frozen=True)
class Serving:
    """A model in service: its version, the fitted model, the operating point in force, and what its detector takes of memory."""

    version: int
    model: Model
    operating_point: OperatingPoint
    held_bytes: int


@dataclass
class _Line:
    """What one scorer knows of a line. `version` is in service, also while its model is put out (`current` None then)."""

    current: Serving | None = None
    version: int | None = None
    held_bytes: int = 0
    loading: tuple[int, Future[Serving]] | None = None
    refused: frozenset[int] = frozenset()
    looked_at: float = float("-inf")
    news: list[Message] = field(default_factory=list)


class ServingModels:
    """The models in service on this scorer, one a line, kept up to date with the registry.

    `budget_bytes` is for what the detectors of all lines hold (backbones are shared and not counted). It is kept but for two cases: a
    single model above it serves alone, with a warning; and a new version is loaded beside the one it replaces.
    """

    def __init__(
        self,
        registry: Registry,
        extractors: ExtractorCache,
        *,
        now: Callable[[], float],
        budget_bytes: int = MODEL_MEMORY_BYTES,
    ) -> None:
        self._registry = registry
        self._extractors = extractors
        self._now = now
        self._budget_bytes = budget_bytes
        self._lines: dict[str, _Line] = {}  # least recently used first
        self._loader = ThreadPoolExecutor(max_workers=1, thread_name_prefix="model-loader")

    @property
    def held_bytes(self) -> int:
        """What the models in memory take."""
        return sum(state.current.held_bytes for state in self._lines.values() if state.current)

    def of(self, line: str) -> Serving | None:
        """The model that judges `line` now; None where the line has none yet. May swap in a version that is ready, and waits for one
        that was put out.
        """
        state = self._lines[line] = self._lines.pop(line) if line in self._lines else _Line()  # now used most recently
        self._follow(line, state)
        if state.current is None and state.version is not None:
            self._load_now(line, state, state.version)
        return state.current

    def refresh(self) -> None:
        """Look after every line this scorer has met, also while no images come; what was put out stays out."""
        for line, state in self._lines.items():
            if state.current is not None or state.version is None:
                self._follow(line, state)

    def take_news(self) -> tuple[Message, ...]:
        """Swaps and refusals since the last call, as messages."""
        news = tuple(message for state in self._lines.values() for message in state.news)
        for state in self._lines.values():
            state.news.clear()
        return news

    def close(self) -> None:
        """Stop loading."""
        self._loader.shutdown(wait=True, cancel_futures=True)

    def _follow(self, line: str, state: _Line) -> None:
        self._take_loaded(line, state)
        since_s = self._now() - state.looked_at
        if state.current is None or not 0 <= since_s < LOOK_EVERY_S:  # below 0: the clock was set back
            self._look(line, state)

    def _look(self, line: str, state: _Line) -> None:
        state.looked_at = self._now()
        champion = self._registry.pointers(line).champion
        if champion is None or champion in state.refused:
            return
        if state.current is None:
            self._load_now(line, state, champion)
        elif champion == state.current.version:
            self._follow_operating_point(line, state, state.current)
        elif state.loading is None or state.loading[0] != champion:
            state.loading = (champion, self._loader.submit(self._load, line, champion))

    def _load_now(self, line: str, state: _Line, version: int) -> None:
        """Wait for the version: there is no other that could judge meanwhile."""
        self._make_room(line, self._expected_bytes(state))
        if state.loading is None or state.loading[0] != version:
            state.loading = (version, self._loader.submit(self._load, line, version))
        state.loading[1].exception()
        self._take_loaded(line, state)

    def _follow_operating_point(self, line: str, state: _Line, current: Serving) -> None:
        point = self._registry.operating_point(line, current.version)
        if point.revision != current.operating_point.revision:
            state.current = replace(current, operating_point=point)

    def _load(self, line: str, version: int) -> Serving:
        model, _ = unpack(self._registry.files(line, version), extractors=self._extractors)
        return Serving(version, model, self._registry.operating_point(line, version), held_bytes(model.detector))

    def _take_loaded(self, line: str, state: _Line) -> None:
        if state.loading is None or not state.loading[1].done():
            return
        (version, future), state.loading = state.loading, None
        try:
            state.current = future.result()
        except (ArtifactError, NotFound) as error:
            self._refuse(line, state, version, error)
            return
        state.held_bytes = state.current.held_bytes
        self._make_room(line, 0)
        if state.held_bytes > self._budget_bytes:
            cure = "give DRIFTLINE_MODEL_MEMORY more, or the line a smaller bank"
            told = (line, version, state.held_bytes, self._budget_bytes, cure)
            log.warning("line %s: version %d takes %d bytes, all models may take %d; %s", *told)
        if version != state.version:
            log.info("line %s: version %d in service", line, version)
            state.news.append(ModelServing(line=line, version=version, previous=state.version, at=self._now()))
        state.version = version

    def _refuse(self, line: str, state: _Line, version: int, error: Exception) -> None:
        state.refused |= {version}
        if state.version == version:  # it had been put out, and is broken since
            state.version = None
        log.error("line %s: version %d refused, %s stays: %s", line, version, state.version, error)
        alert = ModelAlert(line=line, version=version, serving=state.version, reason=str(error), raised_at=self._now())
        state.news.append(alert)

    def _expected_bytes(self, state: _Line) -> int:
        """What a model about to be loaded will take: what it took, or as much as the largest known."""
        return state.held_bytes or max((each.held_bytes for each in self._lines.values()), default=0)

    def _make_room(self, line: str, wanted_bytes: int) -> None:
        """Put out the least recently used models until `wanted_bytes` more fit; never that of `line`."""
        for other, state in self._lines.items():
            if self.held_bytes + wanted_bytes <= self._budget_bytes:
                return
            if other != line and state.current is not None:
                log.info("line %s: version %d put out of memory", other, state.current.version)
                state.current = state.loading = None
