"""The report of a replay: what was sent against what the ledger says became of it. The fields are a contract (see the README)."""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import msgspec
import numpy as np

from detectors.evaluation import image_auroc
from detectors.registry import Registry
from streams.ledger import Ledger, RequestRow
from streams.messages import DriftIncident, Verdict
from streams.trials import rolled_back


class ModelOnPhase(msgspec.Struct, frozen=True, kw_only=True):
    """How one version judged the images of a phase."""

    good: int
    flagged_good: int
    bad: int
    flagged_bad: int
    image_auroc: float | None


class IncidentInPhase(msgspec.Struct, frozen=True, kw_only=True):
    """An incident opened in a phase, `after_images` of its images."""

    kind: str
    signal: str
    after_images: int


class PhaseReport(msgspec.Struct, frozen=True, kw_only=True):
    """What happened in one phase."""

    name: str
    sent: int
    good: int
    bad: int
    by_model: dict[str, ModelOnPhase]
    incidents: tuple[IncidentInPhase, ...]


class VersionReport(msgspec.Struct, frozen=True, kw_only=True):
    """A version made during the replay, and how long it took to get into service. `rolled_back`: it was taken back since."""

    version: int
    detector: str
    mode: str
    cause: str
    training_images: int
    gates: str
    alarm_to_request_s: float | None
    request_to_serving_s: float | None
    rolled_back: bool


class RequestReport(msgspec.Struct, frozen=True, kw_only=True):
    """A request and how it ended."""

    cause: str
    outcome: str
    detail: str


class LatencyReport(msgspec.Struct, frozen=True, kw_only=True):
    """Camera to verdict, in ms, of images judged live (not those collected before the first model); `max`: the worst of them."""

    p50: float | None
    p99: float | None
    max: float | None


class ReplayReport(msgspec.Struct, frozen=True, kw_only=True):
    """The whole run. `lost`: sent and at the end neither judged, collected nor a dead letter; `longest_gap_s`: between two live verdicts
    of one phase; `redelivered`: verdicts that came again and changed nothing; `overdue`: live verdicts after the line's deadline.
    """

    scenario: str
    line: str
    seed: int
    sent: int
    verdicts: int
    collected: int
    dead_letters: int
    lost: int
    doubled: int
    redelivered: int
    phases: tuple[PhaseReport, ...]
    versions: tuple[VersionReport, ...]
    requests: tuple[RequestReport, ...]
    latency_ms: LatencyReport
    images_per_s: float | None
    longest_gap_s: float | None
    overdue: int


@dataclass(frozen=True)
class SentImage:
    """An image that the bus accepted."""

    image_id: str
    phase: str
    bad: bool
    sent_at: float


@dataclass(frozen=True)
class Run:
    """What the driver of a replay knows: the scenario and what it sent, phase by phase in order."""

    scenario: str
    line: str
    seed: int
    phases: tuple[str, ...]
    sent: tuple[SentImage, ...]


def report_of(run: Run, ledger: Ledger, registry: Registry) -> ReplayReport:
    """The report of a finished run."""
    verdicts = {verdict.image_id: verdict for verdict in ledger.verdicts(run.line, limit=10**9)}
    pending = {image.image_id for image in ledger.pending_images(run.line)}
    dead = _dead_image_ids(ledger)
    sent = {image.image_id for image in run.sent}
    counts = ledger.counts(run.line)
    incidents = _openings(ledger, run.line)
    live = sorted(
        (verdicts[i.image_id] for i in run.sent if _is_live(verdicts, i)), key=lambda verdict: verdict.judged_at
    )
    return ReplayReport(
        scenario=run.scenario,
        line=run.line,
        seed=run.seed,
        sent=len(run.sent),
        verdicts=len(verdicts),
        collected=len(pending),
        dead_letters=len((dead & sent) - verdicts.keys()),
        lost=len(sent - verdicts.keys() - pending - dead),
        doubled=counts.doubled,
        redelivered=counts.redelivered,
        phases=tuple(_phase(name, run.sent, verdicts, incidents) for name in run.phases),
        versions=tuple(_version(run.line, number, ledger, registry) for number in registry.versions(run.line)),
        requests=tuple(_request(row) for row in ledger.requests(run.line)),
        latency_ms=_latency(live),
        images_per_s=_rate(live),
        longest_gap_s=_longest_gap(run, live),
        overdue=sum(verdict.overdue for verdict in live),
    )


def _openings(ledger: Ledger, line: str) -> list[DriftIncident]:
    """Each incident as it was opened, oldest first: what became of it is no incident of its own."""
    incidents = ledger.incidents(line)
    openings: dict[str, DriftIncident] = {}
    for state in sorted((*ledger.incident_states(line), *incidents), key=lambda each: each.sequence):
        openings.setdefault(state.incident_id, state)
    return [openings[each.incident_id] for each in incidents]


def _is_live(verdicts: Mapping[str, Verdict], image: SentImage) -> bool:
    return image.image_id in verdicts and not verdicts[image.image_id].late


def _dead_image_ids(ledger: Ledger) -> set[str]:
    """Ids of images that ended as dead letters, from the headers they came with."""
    letters = [letter for letter in ledger.dead_letters(10**9) if letter.source_topic == "images"]
    return {value.decode(errors="replace") for letter in letters for name, value in letter.headers if name == "ce_id"}


def _phase(
    name: str, sent: Sequence[SentImage], verdicts: Mapping[str, Verdict], incidents: Sequence[DriftIncident]
) -> PhaseReport:
    images = [image for image in sent if image.phase == name]
    place = {image.image_id: index for index, image in enumerate(images)}
    judged = {image: verdicts[image.image_id] for image in images if image.image_id in verdicts}
    versions = sorted({verdict.version for verdict in judged.values()})
    return PhaseReport(
        name=name,
        sent=len(images),
        good=sum(not image.bad for image in images),
        bad=sum(image.bad for image in images),
        by_model={str(v): _model([(i.bad, j) for i, j in judged.items() if j.version == v]) for v in versions},
        incidents=tuple(
            IncidentInPhase(kind=each.kind, signal=each.signal, after_images=place[each.alarm_image_id] + 1)
            for each in incidents
            if each.alarm_image_id in place
        ),
    )


def _model(judged: Sequence[tuple[bool, Verdict]]) -> ModelOnPhase:
    bad = [verdict for is_bad, verdict in judged if is_bad]
    good = [verdict for is_bad, verdict in judged if not is_bad]
    labels = np.array([is_bad for is_bad, _ in judged])
    scores = np.array([verdict.score for _, verdict in judged])
    return ModelOnPhase(
        good=len(good),
        flagged_good=sum(verdict.flagged for verdict in good),
        bad=len(bad),
        flagged_bad=sum(verdict.flagged for verdict in bad),
        image_auroc=image_auroc(labels, scores),
    )


def _version(line: str, number: int, ledger: Ledger, registry: Registry) -> VersionReport:
    manifest = registry.manifest(line, number)
    row = ledger.request(manifest.request_id) if manifest.request_id else None
    gates = ledger.gates(manifest.request_id) if manifest.request_id else []
    serving_at = min((serving.at for serving in ledger.servings(line) if serving.version == number), default=None)
    request = row.request if row else None
    return VersionReport(
        version=number,
        detector=manifest.detector,
        mode=manifest.mode,
        cause=manifest.cause,
        training_images=len(manifest.training_keys),
        gates="passed" if gates and all(gate.passed for gate in gates) else "not evaluated" if not gates else "failed",
        alarm_to_request_s=request.requested_at - request.alarm_at
        if request and request.alarm_at is not None
        else None,
        request_to_serving_s=serving_at - request.requested_at if request and serving_at is not None else None,
        rolled_back=number in rolled_back(ledger.promotions(line)),
    )


def _request(row: RequestRow) -> RequestReport:
    return RequestReport(cause=row.request.cause, outcome=row.state, detail=row.detail or "")


def _latency(live: Sequence[Verdict]) -> LatencyReport:
    if not live:
        return LatencyReport(p50=None, p99=None, max=None)
    p50, p99, most = np.percentile([verdict.latency_ms for verdict in live], [50, 99, 100])
    return LatencyReport(p50=float(p50), p99=float(p99), max=float(most))


def _rate(live: Sequence[Verdict]) -> float | None:
    if len(live) < 2 or live[-1].judged_at == live[0].judged_at:
        return None
    return (len(live) - 1) / (live[-1].judged_at - live[0].judged_at)


def _longest_gap(run: Run, live: Sequence[Verdict]) -> float | None:
    """The longest time between two live verdicts of one phase, in which the camera sends at a steady rate."""
    phase = {image.image_id: image.phase for image in run.sent}
    pairs = [(a, b) for a, b in itertools.pairwise(live) if phase[a.image_id] == phase[b.image_id]]
    return max((after.judged_at - before.judged_at for before, after in pairs), default=None)
