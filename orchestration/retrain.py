"""One retrain as a Dagster run carries it out: the request it serves and everything its assets share.

Heavy (imports the detectors and through them torch): only the run itself imports this module, never the daemon or the web page.
"""

import time
from dataclasses import dataclass, replace
from functools import cached_property

import msgspec

from detectors.artifact import Provenance
from detectors.errors import ArtifactError, NotFound
from detectors.manifest import FeatureSpec
from detectors.model import Extractor, Model
from detectors.registry import Pointers, Registry
from orchestration.evidence import Evidence
from orchestration.gates import judge
from orchestration.gathering import Contenders, Sources, gather
from orchestration.judgement import Judgement
from orchestration.material import Material, learnt_by_champion, material_of, trusted_folder
from orchestration.second_look import Clock
from orchestration.training import Drafts, fit_candidate, load, pack_candidate
from orchestration.training_set import TrainingSet, choose_images, keep_snapshot, learnt_from
from orchestration.windows import window_of
from orchestration.workbench import RememberingExtractor, Workbench
from streams.bus import Bus, publish
from streams.causes import REFRESH, TRUSTED
from streams.ledger import Ledger, RequestRow
from streams.messages import ModelPromoted, RetrainRequest
from streams.model_card import keep_card
from streams.settings import LineConfig

SOURCE = "/driftline/orchestration"


@dataclass(frozen=True)
class Rooms:
    """What a retrain works with."""

    ledger: Ledger
    registry: Registry
    bench: Workbench
    bus: Bus
    code_version: str


class Retrain:
    """One attempt at one request. Every step may be repeated: a run that was killed is carried out again from the start."""

    def __init__(self, rooms: Rooms, row: RequestRow, attempt: int, config: LineConfig) -> None:
        self.request: RetrainRequest = row.request
        self._rooms = rooms
        self._config = config
        self._drafts = Drafts(rooms.bench.store, row.request, attempt)

    @cached_property
    def extractor(self) -> RememberingExtractor:
        """The line's extractor; every image passes through it once a run."""
        return self._rooms.bench.extractor(self._config)

    def choose(self) -> TrainingSet:
        """Make and keep the training set."""
        chosen = choose_images(self.request, self._material(), self._rooms.bench, self.extractor)
        self._drafts.keep_training_set(chosen)
        return chosen

    def fit(self) -> Model:
        """Fit, pack and keep the candidate, and write down what became of each image."""
        training_set = self._drafts.training_set()
        model = fit_candidate(training_set, self._rooms.bench, self.extractor, self._config)
        provenance = self._provenance(training_set)
        self._drafts.keep_candidate(pack_candidate(model, training_set, self._rooms.bench, provenance, self._config))
        line, request_id = self.request.line, self.request.request_id
        self._rooms.ledger.note_training_images(line, request_id, learnt_from(training_set, model.left_out))
        return model

    def _material(self) -> Material:
        rooms, request = self._rooms, self.request
        trusted = self._config.trusted if request.mode == TRUSTED else None
        return material_of(
            request.mode,
            window_of(rooms.ledger, request),
            rooms.ledger.reviewed(request.line),
            learnt_by_champion(rooms.registry, request.line) if request.mode == REFRESH else (),
            folder=trusted_folder(rooms.bench.store, request.line, trusted),
        )

    @cached_property
    def evidence(self) -> Evidence:
        """What the gates judge."""
        sources = Sources(self._rooms.ledger, self._rooms.bench.store, Clock())
        return gather(sources, self.request, self._drafts.training_set(), self._contenders())

    def judge(self, gate: str) -> Judgement:
        """What a gate finds, written down; one that cannot be evaluated fails."""
        found = judge(gate, lambda: self.evidence)
        self._rooms.ledger.note_gate(self.request.request_id, found)
        return found

    def publish(self) -> Pointers:
        """Publish the candidate as a version, make it the champion, announce it and end the request. Each step repeats harmlessly."""
        registry, line, request = self._rooms.registry, self.request.line, self.request
        version = registry.publish(line, self._drafts.candidate())
        keep_card(self._rooms.bench.store, registry, line, version, ledger=self._rooms.ledger)
        pointers = registry.promote(line, version)
        promoted = ModelPromoted(
            line=line,
            version=version,
            previous=pointers.previous,
            sequence=pointers.sequence,
            by="driftline",
            why=request.cause,
            at=time.time(),
            request_id=request.request_id,
        )
        producer = self._rooms.bus.producer()
        publish(producer, promoted, source=SOURCE, at=promoted.at)
        producer.close()
        self._rooms.ledger.end_request(
            request.request_id, outcome="promoted", version=version, detail="all gates passed", at=time.time()
        )
        return pointers

    def _extractors(self, spec: FeatureSpec, network: bytes | None) -> Extractor:
        """The run's own extractor where the specification is the same, so that images pass through the backbone once."""
        return self.extractor if spec == self.extractor.spec else self._rooms.bench.extractors(spec, network)

    def _contenders(self) -> Contenders:
        """Candidate and champion, the champion with the threshold that is in force. One that cannot be loaded may be replaced."""
        files, registry, line = self._drafts.candidate(), self._rooms.registry, self.request.line
        contenders = Contenders(load(files, self._extractors), files)
        version = registry.pointers(line).champion
        if version is None:
            return contenders
        try:
            theirs = registry.files(line, version)
            champion = load(theirs, self._extractors)
            in_force = registry.operating_point(line, version).threshold
        except (ArtifactError, NotFound) as error:
            return replace(contenders, without_champion=f"the champion cannot be loaded ({error})")
        threshold = msgspec.structs.replace(champion.threshold, value=in_force)
        return replace(contenders, champion=replace(champion, threshold=threshold), champion_files=theirs)

    def _provenance(self, training_set: TrainingSet) -> Provenance:
        return Provenance(
            line=self.request.line,
            mode=self.request.mode,
            cause=self.request.cause,
            parent=self.request.parent_version,
            request_id=self.request.request_id,
            created_at=time.time(),
            code_version=self._rooms.code_version,
            snapshot=keep_snapshot(self._rooms.bench.store, training_set),
            metrics={"held_out": float(len(training_set.held_out)), "left_out": float(len(training_set.left_out))},
        )
