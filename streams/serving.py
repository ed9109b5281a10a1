"""Which model judges each line now: loads the champion, proves it, swaps it in between batches.

The registry's pointer is the truth; it is looked at every half second. A new version is loaded and proved in the background while the
old one goes on judging; a version that fails its proof is refused with an alert and the old one stays.

Models in memory have a budget: beyond it those of the lines least recently used are put out, and come back from the registry with the
next image of their line. A put-out line still has its version in service; that is no swap and no news. Challengers, which score beside a
champion, go first (`streams.challengers`); whatever is the matter with one, the champion judges on.
"""

import logging
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace

from detectors.artifact import unpack
from detectors.errors import ArtifactError, NotFound
from detectors.extractors import ExtractorCache
from detectors.footprint import held_bytes
from detectors.registry import Registry
from streams.challengers import Challengers
from streams.loaded import Serving
from streams.messages import Message, ModelAlert, ModelServing
from streams.settings import MODEL_MEMORY_BYTES

log = logging.getLogger(__name__)

LOOK_EVERY_S = 0.5


@dataclass
class _Line:
    """What one scorer knows of a line. `version` is in service, also while its model is put out (`current` None then).

    `refused` could not be loaded; `refused_beside` score no more beside the champion, and may yet be champions.
    """

    current: Serving | None = None
    version: int | None = None
    held_bytes: int = 0
    loading: tuple[int, Future[Serving]] | None = None
    refused: frozenset[int] = frozenset()
    refused_beside: frozenset[int] = frozenset()
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
        self._challengers = Challengers(self._load, registry.operating_point)

    @property
    def held_bytes(self) -> int:
        """What the models in memory take."""
        champions = sum(state.current.held_bytes for state in self._lines.values() if state.current)
        return champions + self._challengers.held_bytes

    def of(self, line: str) -> Serving | None:
        """The model that judges `line` now; None where the line has none yet. May swap in a version that is ready, and waits for one
        that was put out.
        """
        state = self._lines[line] = self._lines.pop(line) if line in self._lines else _Line()  # now used most recently
        self._follow(line, state)
        if state.current is None and state.version is not None:
            self._load_now(line, state, state.version)
        return state.current

    def challenger_of(self, line: str) -> Serving | None:
        """The model that scores beside the one that judges `line`, where there is one and it is in memory."""
        return self._challengers.of(line)

    def refuse_challenger(self, line: str, version: int, error: Exception) -> None:
        """This version cannot score the line's images: an alert says so, and it scores no more."""
        self._challengers.forget(line)
        self._refuse_beside(line, self._lines[line], version, error)

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
        self._challengers.close()

    def _follow(self, line: str, state: _Line) -> None:
        self._take_loaded(line, state)
        since_s = self._now() - state.looked_at
        if state.current is None or not 0 <= since_s < LOOK_EVERY_S:  # below 0: the clock was set back
            self._look(line, state)

    def _look(self, line: str, state: _Line) -> None:
        state.looked_at = self._now()
        pointers = self._registry.pointers(line)
        if pointers.champion is not None and pointers.champion not in state.refused:
            self._follow_champion(line, state, pointers.champion, pointers.challenger)
        self._follow_challenger(line, state, pointers.challenger)

    def _follow_champion(self, line: str, state: _Line, champion: int, challenger: int | None) -> None:
        if state.current is None:
            self._load_now(line, state, champion)
        elif champion == state.current.version:
            self._follow_operating_point(line, state, state.current)
        elif (ready := self._challengers.take(line, champion)) is not None:
            before, state.loading = state.current, None
            self._serve(line, state, ready)
            if before.version == challenger:
                self._challengers.put(line, before)
        elif state.loading is None or state.loading[0] != champion:
            state.loading = (champion, self._loader.submit(self._load, line, champion))

    def _follow_challenger(self, line: str, state: _Line, challenger: int | None) -> None:
        refused = state.refused | state.refused_beside
        serves = state.current is not None and challenger not in refused | {state.current.version}
        fault = self._challengers.follow(
            line,
            challenger if serves else None,
            free_bytes=self._budget_bytes - self.held_bytes,
            expected_bytes=state.held_bytes,
        )
        while self.held_bytes > self._budget_bytes and self._challengers.put_out():
            pass
        if fault is not None and challenger is not None:
            self._refuse_beside(line, state, challenger, fault)

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
            loaded = future.result()
        except (ArtifactError, NotFound) as error:
            self._refuse(line, state, version, error)
            return
        self._serve(line, state, loaded)

    def _serve(self, line: str, state: _Line, serving: Serving) -> None:
        """From now on this one judges the line."""
        state.current, version = serving, serving.version
        state.held_bytes = serving.held_bytes
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
        self._alert(line, state, version, error, beside=False)

    def _refuse_beside(self, line: str, state: _Line, version: int, error: Exception) -> None:
        state.refused_beside |= {version}
        log.error("line %s: version %d scores no more beside %s: %s", line, version, state.version, error)
        self._alert(line, state, version, error, beside=True)

    def _alert(self, line: str, state: _Line, version: int, error: Exception, *, beside: bool) -> None:
        reason, at = str(error) or type(error).__name__, self._now()
        state.news.append(
            ModelAlert(line=line, version=version, serving=state.version, reason=reason, raised_at=at, beside=beside)
        )

    def _expected_bytes(self, state: _Line) -> int:
        """What a model about to be loaded will take: what it took, or as much as the largest known."""
        return state.held_bytes or max((each.held_bytes for each in self._lines.values()), default=0)

    def _make_room(self, line: str, wanted_bytes: int) -> None:
        """Put out challengers, then the least recently used models, until `wanted_bytes` more fit; never the champion of `line`."""
        while self.held_bytes + wanted_bytes > self._budget_bytes and self._challengers.put_out():
            pass
        for other, state in self._lines.items():
            if self.held_bytes + wanted_bytes <= self._budget_bytes:
                return
            if other != line and state.current is not None:
                log.info("line %s: version %d put out of memory", other, state.current.version)
                state.current = state.loading = None
                self._challengers.forget(other)
