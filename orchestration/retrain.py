"""One retrain as a Dagster run carries it out: the request it serves and everything its assets share.

Heavy (imports the detectors and through them torch): only the run itself imports this module, never the daemon or the web page.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property

import msgspec

from detectors.artifact import Provenance
from detectors.errors import ArtifactError, Conflict, NotFound
from detectors.manifest import FeatureSpec
from detectors.model import Extractor, Model
from detectors.registry import Registry
from orchestration.evidence import Evidence
from orchestration.gates import judge
from orchestration.gathering import Contenders, Sources, gather
from orchestration.judgement import Judgement
from orchestration.material import Material, learnt_by_champion, material_of, trusted_folder
from orchestration.second_look import Clock
from orchestration.training import Drafts, fit_candidate, load, pack_candidate
from orchestration.training_set import TrainingSet, choose_images, keep_snapshot, learnt_from, read_snapshot
from orchestration.windows import window_of
from orchestration.workbench import RememberingExtractor, Workbench
from streams.causes import REFRESH, TRUSTED
from streams.ledger import Ledger, RequestRow
from streams.ledger_rows import IN_WORK
from streams.messages import RetrainRequest
from streams.model_card import keep_card
from streams.settings import LineConfig
from streams.succession import Introduced, introduce


@dataclass(frozen=True)
class Rooms:
    """What a retrain works with; `now`: seconds since the epoch."""

    ledger: Ledger
    registry: Registry
    bench: Workbench
    code_version: str
    now: Callable[[], float] = time.time


class Retrain:
    """One attempt at one request. Every step may be repeated: a run that was killed is carried out again from the start."""

    def __init__(self, rooms: Rooms, row: RequestRow, attempt: int, config: LineConfig) -> None:
        self.request: RetrainRequest = row.request
        self.rooms = rooms
        self.config = config
        self._attempt = attempt
        self._judged_at: int | None = None
        self._drafts = Drafts(rooms.bench.store, row.request, attempt)

    @cached_property
    def extractor(self) -> RememberingExtractor:
        """The line's extractor; every image passes through it once a run."""
        return self.rooms.bench.extractor(self.config)

    def choose(self) -> TrainingSet:
        """Make and keep the training set: that of the version which an earlier attempt published, if one did."""
        chosen = self._chosen_before() or choose_images(
            self.request, self._material(), self.rooms.bench, self.extractor
        )
        self._drafts.keep_training_set(chosen)
        return chosen

    def fit(self) -> Model:
        """Fit, pack and keep the candidate, and write down what became of each image. What an earlier attempt published is not made anew: a
        request becomes one version, and that is the one to be judged.
        """
        if self._published is not None:
            files = self.rooms.registry.files(self.request.line, self._published)
            self._drafts.keep_candidate(files)
            return load(files, self._extractors)
        training_set = self._drafts.training_set()
        model = fit_candidate(training_set, self.rooms.bench, self.extractor, self.config)
        provenance = self._provenance(training_set)
        self._drafts.keep_candidate(pack_candidate(model, training_set, self.rooms.bench, provenance, self.config))
        line, request_id = self.request.line, self.request.request_id
        self.rooms.ledger.note_training_images(line, request_id, learnt_from(training_set, model.left_out))
        return model

    @cached_property
    def _published(self) -> int | None:
        """The version that an earlier attempt at the request published before it died."""
        return self.rooms.registry.version_of(self.request.line, self.request.request_id)

    def _chosen_before(self) -> TrainingSet | None:
        if self._published is None:
            return None
        snapshot = self.rooms.registry.manifest(self.request.line, self._published).snapshot
        return None if snapshot is None else read_snapshot(self.rooms.bench.store, snapshot)

    def _material(self) -> Material:
        rooms, request = self.rooms, self.request
        trusted = self.config.trusted if request.mode == TRUSTED else None
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
        sources = Sources(self.rooms.ledger, self.rooms.bench.store, Clock())
        return gather(sources, self.request, self._drafts.training_set(), self._contenders())

    def judge(self, gate: str) -> Judgement:
        """What a gate finds, written down; one that cannot be evaluated fails."""
        found = judge(gate, lambda: self.evidence)
        self.rooms.ledger.note_gate(self.request.request_id, found)
        return found

    def publish(self) -> Introduced:
        """Publish the candidate as a version, and put it into service, on trial or before a person. Each step repeats harmlessly."""
        ledger, registry, line = self.rooms.ledger, self.rooms.registry, self.request.line
        self._check_ours()
        version = registry.publish(line, self._drafts.candidate())
        keep_card(self.rooms.bench.store, registry, line, version, ledger=ledger)
        return introduce(
            ledger, registry, self.request, version, self.config, at=self.rooms.now(), judged_at=self._judged_at
        )

    def _check_ours(self) -> None:
        """Raise Conflict where the request is not in the hands of this attempt any more: it was cancelled, rejected, or begun again."""
        row = self.rooms.ledger.request(self.request.request_id)
        if row is None or row.state not in IN_WORK or row.attempt != self._attempt:
            stands = "unknown" if row is None else f"{row.state}, attempt {row.attempt}"
            raise Conflict(
                f"request {self.request.request_id} is {stands}, this was attempt {self._attempt}; nothing is published"
            )

    def _extractors(self, spec: FeatureSpec, network: bytes | None) -> Extractor:
        """The run's own extractor where the specification is the same, so that images pass through the backbone once."""
        return self.extractor if spec == self.extractor.spec else self.rooms.bench.extractors(spec, network)

    def _contenders(self) -> Contenders:
        """Candidate and champion, the champion with the threshold that is in force. One that cannot be loaded may be replaced."""
        files, registry, line = self._drafts.candidate(), self.rooms.registry, self.request.line
        contenders = Contenders(load(files, self._extractors), files)
        pointers = registry.pointers(line)
        self._judged_at, version = pointers.sequence, pointers.champion
        if version is None:
            return contenders
        try:
            champion, theirs = self.in_force(version)
        except (ArtifactError, NotFound) as error:
            return replace(contenders, without_champion=f"the champion cannot be loaded ({error})")
        return replace(contenders, champion=champion, champion_files=theirs)

    def in_force(self, version: int) -> tuple[Model, Mapping[str, bytes]]:
        """A version of the line with the threshold that is in force, and its files; raises ArtifactError or NotFound."""
        registry, line = self.rooms.registry, self.request.line
        files = registry.files(line, version)
        model = load(files, self._extractors)
        threshold = msgspec.structs.replace(model.threshold, value=registry.operating_point(line, version).threshold)
        return replace(model, threshold=threshold), files

    def _provenance(self, training_set: TrainingSet) -> Provenance:
        return Provenance(
            line=self.request.line,
            mode=self.request.mode,
            cause=self.request.cause,
            parent=self.request.parent_version,
            request_id=self.request.request_id,
            created_at=self.rooms.now(),
            code_version=self.rooms.code_version,
            snapshot=keep_snapshot(self.rooms.bench.store, training_set),
            metrics={"held_out": float(len(training_set.held_out)), "left_out": float(len(training_set.left_out))},
        )
