"""One retrain as a Dagster run carries it out: the request it serves and everything its assets share.

Heavy (imports the detectors and through them torch): only the run itself imports this module, never the daemon or the web page.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import msgspec

from detectors.artifact import Provenance
from detectors.errors import ArtifactError, NotFound
from detectors.images import Image
from detectors.manifest import FeatureSpec
from detectors.model import Extractor, Model
from detectors.registry import Pointers, Registry
from orchestration.gates import Evidence
from orchestration.promoting import announce
from orchestration.training import (
    Drafts,
    RememberingExtractor,
    TrainingSet,
    Workbench,
    choose_images,
    fit_candidate,
    load,
    pack_candidate,
)
from streams.bus import Bus
from streams.classifying import SURGE
from streams.incidents import EXPECTED, IGNORED
from streams.ledger import GateResult, Ledger, RequestRow
from streams.messages import RetrainRequest
from streams.settings import LineConfig


@dataclass(frozen=True)
class Rooms:
    """What a retrain works with; `now`: seconds since the epoch."""

    ledger: Ledger
    registry: Registry
    bench: Workbench
    bus: Bus
    code_version: str
    now: Callable[[], float] = time.time


class Retrain:
    """One attempt at one request. Every step may be repeated: a run that was killed is carried out again from the start."""

    def __init__(self, rooms: Rooms, row: RequestRow, attempt: int, config: LineConfig) -> None:
        self.request: RetrainRequest = row.request
        self.rooms = rooms
        self.config = config
        self._drafts = Drafts(rooms.bench.store, row.request, attempt)

    @cached_property
    def extractor(self) -> RememberingExtractor:
        """The line's extractor; every image passes through it once a run."""
        return self.rooms.bench.extractor(self.config)

    def choose(self) -> TrainingSet:
        """Make and keep the training set."""
        chosen = choose_images(self.request, self.rooms.bench, self.extractor)
        self._drafts.keep_training_set(chosen)
        return chosen

    def fit(self) -> Model:
        """Fit, pack and keep the candidate."""
        training_set = self._drafts.training_set()
        model = fit_candidate(training_set, self.rooms.bench, self.extractor, self.config)
        provenance = self._provenance(training_set)
        self._drafts.keep_candidate(pack_candidate(model, training_set, self.rooms.bench, provenance, self.config))
        return model

    @cached_property
    def evidence(self) -> Evidence:
        """What the gates judge."""
        files = self._drafts.candidate()
        return Evidence(
            candidate=load(files, self._extractors),
            champion=self.champion(),
            held_out=self._held_out(),
            files=files,
            beside=open_beside(self.rooms.ledger, self.request),
        )

    def champion(self) -> Model | None:
        """The line's champion; None where it has none, or one that cannot be loaded."""
        champion = self.rooms.registry.pointers(self.request.line).champion
        if champion is None:
            return None
        try:
            return load(self.rooms.registry.files(self.request.line, champion), self._extractors)
        except (ArtifactError, NotFound):
            return None

    def in_force(self, version: int) -> Model:
        """A version of the line as a scorer would take it up, with the threshold in force; raises ArtifactError or NotFound."""
        registry, line = self.rooms.registry, self.request.line
        model = load(registry.files(line, version), self._extractors)
        threshold = registry.operating_point(line, version).threshold
        return replace(model, threshold=msgspec.structs.replace(model.threshold, value=threshold))

    def note(self, gate: GateResult) -> None:
        """Write a gate's result down."""
        self.rooms.ledger.note_gate(self.request.request_id, gate)

    def publish(self) -> Pointers:
        """Publish the candidate as a version, make it the champion, announce it and end the request. Each step repeats harmlessly."""
        registry, line, request = self.rooms.registry, self.request.line, self.request
        version = registry.publish(line, self._drafts.candidate())
        pointers = registry.promote(line, version)
        announce(self.rooms.bus, pointers, request, why=request.cause, at=self.rooms.now())
        self.rooms.ledger.end_request(
            request.request_id, outcome="promoted", version=version, detail="all gates passed", at=self.rooms.now()
        )
        return pointers

    def _extractors(self, spec: FeatureSpec, network: bytes | None) -> Extractor:
        """The run's own extractor where the specification is the same, so that images pass through the backbone once."""
        return self.extractor if spec == self.extractor.spec else self.rooms.bench.extractors(spec, network)

    def _held_out(self) -> Sequence[Image]:
        return self.rooms.bench.images(self._drafts.training_set().held_out)

    def _provenance(self, training_set: TrainingSet) -> Provenance:
        return Provenance(
            line=self.request.line,
            mode=self.request.mode,
            cause=self.request.cause,
            parent=self.request.parent_version,
            request_id=self.request.request_id,
            created_at=self.rooms.now(),
            code_version=self.rooms.code_version,
            metrics={"held_out": float(len(training_set.held_out)), "left_out": float(len(training_set.left_out))},
        )


def open_beside(ledger: Ledger, request: RetrainRequest) -> tuple[str, ...]:
    """Open surges of defects, where a line asked by itself and nobody called its drift expected: only a surge shows so late that its bad
    parts may be among the images of the request; while a camera shows nothing, no line asks.
    """
    if request.incident_id is None:
        return ()
    said = [each.says for each in ledger.answers(request.incident_id) if each.says in (EXPECTED, IGNORED)]
    if said[-1:] == [EXPECTED]:
        return ()
    open_kinds = {each.kind for each in ledger.incidents(request.line, open_only=True)}
    return (SURGE,) if SURGE in open_kinds else ()
