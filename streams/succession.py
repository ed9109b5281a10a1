"""From a version that has passed its gates to a champion that has proved itself, or was taken back: the effects beneath `streams.trials`.

The registry's pointers are the truth. Every step repeats harmlessly: what was begun and not written down is found at the next look.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass

from detectors.errors import ArtifactError, Conflict, DriftlineError, NotFound, Unavailable
from detectors.registry import Pointers, Registry
from streams.actions import DRIFTLINE, promote, rollback
from streams.ledger import Ledger, RequestRow
from streams.ledger_rows import AWAITING, SHADOWING, UNENDED
from streams.messages import ModelPromoted, RetrainRequest
from streams.reviews import DEFECT, NORMAL, ReviewedPart
from streams.settings import LineConfig
from streams.trials import Corrections, Decision, Probation, Trial, cure, judge_probation, judge_trial, rolled_back

USUAL_IMAGES = 500
"""The images before the alarm from which it is known how many parts of a line are flagged while it is in order."""


@dataclass(frozen=True)
class Introduced:
    """What became of a version once it was published: the state of its request, and the line's pointers."""

    version: int
    state: str
    pointers: Pointers


def introduce(
    ledger: Ledger,
    registry: Registry,
    request: RetrainRequest,
    version: int,
    config: LineConfig,
    *,
    at: float,
    judged_at: int | None = None,
) -> Introduced:
    """Put the published version of a request into service, beside the champion, or before a person, as the line is configured.

    The first version of a line has nobody to be compared with: it serves, or waits for a person. `judged_at`: the sequence of the line
    whose champion the gates compared it with; where somebody changed that since, a person decides.
    """
    pointers = registry.pointers(request.line)
    untried = pointers.champion is None or config.shadow_images == 0
    if version in rolled_back(ledger.promotions(request.line)):
        end(ledger, registry, request, version, Decision("refused", f"version {version} was rolled back"), at=at)
        return Introduced(version, _state(ledger, request), registry.pointers(request.line))
    replace_waiting(ledger, request, version, at=at)
    if pointers.champion == version or (config.promotion == "automatic" and untried):
        try:
            serve(
                ledger, registry, request, version, config, why=request.cause, detail="all gates passed", at=at,
                expected_sequence=judged_at,
            )  # fmt: skip
        except Conflict as error:
            put_before_a_person(ledger, registry, request, version, config, f"the champion changed ({error})", at=at)
    elif untried:
        put_before_a_person(ledger, registry, request, version, config, "all gates passed", at=at)
    else:
        registry.set_challenger(request.line, version)
        detail = f"all gates passed; scores beside version {pointers.champion}"
        ledger.begin_shadow(request.request_id, version=version, detail=detail, at=at)
    return Introduced(version, _state(ledger, request), registry.pointers(request.line))


def put_before_a_person(
    ledger: Ledger,
    registry: Registry,
    request: RetrainRequest,
    version: int,
    config: LineConfig,
    why: str,
    *,
    at: float,
) -> None:
    """The version of a request waits for a person as the line's challenger; `why` comes before what the person can do."""
    registry.set_challenger(request.line, version)
    detail = f"{why}; {cure(request.line, version, config)}"
    ledger.end_request(request.request_id, outcome=AWAITING, version=version, detail=detail, at=at)


def serve(
    ledger: Ledger,
    registry: Registry,
    request: RetrainRequest,
    version: int,
    config: LineConfig,
    *,
    why: str,
    detail: str,
    at: float,
    expected_sequence: int | None = None,
    as_challenger: bool = False,
    outcome: str = "promoted",
) -> None:
    """Promote the version of a request, the one before it beside it for its probation, and end the request; raises Conflict as
    `Registry.promote` does.
    """
    pointers, told = registry.pointers(request.line), ledger.promotions(request.line)
    if pointers.champion != version or pointers.sequence not in {each.sequence for each in told}:
        promote(
            ledger, DRIFTLINE, registry, line=request.line, version=version, why=why, at=at, request_id=request.request_id,
            beside=config.probation_images > 0, expected_sequence=expected_sequence, as_challenger=as_challenger,
        )  # fmt: skip
    ledger.end_request(request.request_id, outcome=outcome, version=version, detail=detail, at=at)


def end(
    ledger: Ledger, registry: Registry, request: RetrainRequest, version: int, decision: Decision, *, at: float
) -> None:
    """End a request as decided; a version that is refused no longer scores beside the champion."""
    if decision.outcome in ("refused", "cancelled"):
        registry.clear_challenger(request.line, version)
    ledger.end_request(request.request_id, outcome=decision.outcome, version=version, detail=decision.detail, at=at)


def replace_waiting(ledger: Ledger, newer: RetrainRequest, version: int, *, at: float) -> None:
    """A version that waits for a person waits no more once a newer request has made one."""
    for row in ledger.requests(newer.line, states=(AWAITING,)):
        if row.request.request_id != newer.request_id:
            ledger.end_request(
                row.request.request_id, outcome="cancelled", version=row.version, detail=_replaced_by(version), at=at
            )


def look_at_trials(ledger: Ledger, registry: Registry, config: Callable[[str], LineConfig], *, now: float) -> list[str]:
    """Decide about every version that is tried out, as far as it can be decided now; what was decided, in words."""
    done: list[str] = []
    for row in ledger.requests(states=(SHADOWING, AWAITING)):
        with _said(done, row.request.line):
            decision = None if row.version is None else _look_at(ledger, registry, row, row.version, config, now=now)
            if decision is not None:
                done.append(f"{row.request.line}@{row.version} {decision.outcome}: {decision.detail}")
    return done


def look_at_probations(
    ledger: Ledger, registry: Registry, config: Callable[[str], LineConfig], *, now: float
) -> list[str]:
    """Take back every champion that is worse than the one before it; end the probations that are over. What was done, in words."""
    done: list[str] = []
    for line in ledger.line_names():
        with _said(done, line):
            pointers = registry.pointers(line)
            if pointers.challenger is not None:
                done += _look_at_champion(ledger, registry, line, pointers, config, now=now)
    return done


@contextmanager
def _said(done: list[str], line: str) -> Iterator[None]:
    """What is the matter with one line is said, and keeps nobody from looking at the others; Unavailable is no matter of one line."""
    try:
        yield
    except Unavailable:
        raise
    except DriftlineError as error:
        done.append(f"{line}: {error}")


def _look_at(
    ledger: Ledger,
    registry: Registry,
    row: RequestRow,
    version: int,
    config: Callable[[str], LineConfig],
    *,
    now: float,
) -> Decision | None:
    line, pointers = row.request.line, registry.pointers(row.request.line)
    if row.state == AWAITING:
        decision = _waits_no_more(ledger, row, version, pointers)
    else:
        decision = judge_trial(_trial(ledger, registry, row, version, pointers, now=now), config(line))
    if decision is None:
        return None
    if decision.outcome != "promoted":
        end(ledger, registry, row.request, version, decision, at=now)
        return decision
    with suppress(Conflict):  # somebody promoted another meanwhile: the next look sees it
        serve(
            ledger, registry, row.request, version, config(line), why=f"{row.request.cause}: {decision.detail}",
            detail=decision.detail, at=now, expected_sequence=pointers.sequence, as_challenger=True,
        )  # fmt: skip
        return decision
    return None


def _waits_no_more(ledger: Ledger, row: RequestRow, version: int, pointers: Pointers) -> Decision | None:
    """Whether a version waits for a person in vain: one promoted it without a word to the request, or a newer one was made since."""
    if pointers.champion == version:
        return Decision("promoted", "put into service by hand")
    newer = [
        each.version
        for each in ledger.requests(row.request.line, states=(SHADOWING, AWAITING, "promoted", "switched_back"))
        if each.version is not None and each.request.requested_at > row.request.requested_at
    ]
    return Decision("cancelled", _replaced_by(newer[-1])) if newer else None


def _replaced_by(version: int) -> str:
    return f"replaced by version {version} before anybody approved it"


def _trial(
    ledger: Ledger, registry: Registry, row: RequestRow, version: int, pointers: Pointers, *, now: float
) -> Trial:
    line, champion = row.request.line, pointers.champion
    shadows = [each for each in ledger.shadows(line, version) if each.champion == champion]
    began_at = row.started_at if row.started_at is not None else row.request.requested_at
    since = max(shadows[-1].judged_at, began_at) if shadows else began_at
    unshadowed, last_at = (0, None) if champion is None else ledger.judged_since(line, champion, since)
    last_at = last_at if last_at is not None else (shadows[-1].judged_at if shadows else None)
    refusals = [each.reason for each in ledger.alerts(line) if each.version == version]
    return Trial(
        line=line,
        version=version,
        champion=champion,
        challenger=pointers.challenger,
        shadows=shadows,
        allowed_rate=_allowed_rate(ledger, registry, row, version),
        quiet_s=now - since,
        last_image_s=None if last_at is None else now - last_at,
        unshadowed=unshadowed,
        refused=refusals[-1] if refusals else None,
        was_rolled_back=version in rolled_back(ledger.promotions(line)),
    )


def _allowed_rate(ledger: Ledger, registry: Registry, row: RequestRow, version: int) -> float:
    """The share of parts a version may flag: what its threshold was calibrated for, or, on a line that makes more bad parts than that, what
    the version before it flagged while the line was in order.
    """
    request = row.request
    try:
        stated = registry.manifest(request.line, version).threshold.high
    except (NotFound, ArtifactError):  # it is gone: the scorer tells
        return 0.0
    if request.parent_version is None:
        return stated
    before = request.requested_at if request.alarm_at is None else request.alarm_at
    usual = ledger.flag_share(request.line, request.parent_version, before=before, images=USUAL_IMAGES)
    return max(stated, usual or 0.0)


def _look_at_champion(
    ledger: Ledger,
    registry: Registry,
    line: str,
    pointers: Pointers,
    config: Callable[[str], LineConfig],
    *,
    now: float,
) -> list[str]:
    """What was done about a line's champion, or about a challenger that is left over from a trial."""
    if any(row.version == pointers.challenger for row in ledger.requests(line, states=(*UNENDED, AWAITING))):
        return []
    promotion = next((each for each in ledger.promotions(line) if each.sequence == pointers.sequence), None)
    if pointers.challenger != pointers.previous:
        return _cleared(ledger, registry, line, pointers.challenger or 0)
    if promotion is None or promotion.request_id is None:
        return []
    probation = _probation(ledger, promotion, pointers)
    why = judge_probation(probation)
    if why is not None:
        with suppress(Conflict):  # a person was faster
            rollback(ledger, DRIFTLINE, registry, line=line, why=why, at=now, expected_sequence=pointers.sequence)
            return [f"{line}@{probation.version} rolled back to {probation.previous}: {why}"]
    elif probation.images >= config(line).probation_images:
        registry.clear_challenger(line, probation.previous)
        return [_passed(line, probation, config(line))]
    return []


def _passed(line: str, probation: Probation, config: LineConfig) -> str:
    """That a probation is over, and what that is worth: a version that was hardly compared has proved little."""
    compared, due = len(probation.shadows), config.shadow_share * probation.images
    words = f"{compared} of {probation.images} images compared with version {probation.previous}"
    if compared < due / 2:
        return f"{line}@{probation.version}: its probation is over, but only {words}; were the scorers behind, or short of memory?"
    return f"{line}@{probation.version} has passed its probation, {words}"


def _cleared(ledger: Ledger, registry: Registry, line: str, challenger: int) -> list[str]:
    """A challenger whose request has ended scores no more: whoever ended it died before saying so."""
    request_id = registry.manifest(line, challenger).request_id
    row = None if request_id is None else ledger.request(request_id)
    if row is None or row.ended_at is None:
        return []
    registry.clear_challenger(line, challenger)
    return [f"{line}@{challenger} scores beside the champion no more: its request has ended, {row.state}"]


def _probation(ledger: Ledger, promotion: ModelPromoted, pointers: Pointers) -> Probation:
    line, version, previous = promotion.line, promotion.version, pointers.previous or 0
    shadows = ledger.shadows(line, previous, since=promotion.at)
    images, _ = ledger.judged_since(line, version, promotion.at)
    reviewed = ledger.reviewed(line, versions=(version, previous))
    defects = {part.verdict.image_id for part in reviewed if part.says == DEFECT}
    return Probation(
        version=version,
        previous=previous,
        shadows=[each for each in shadows if each.champion == version and each.image_id not in defects],
        images=images,
        corrected=_corrections(reviewed, version, since=promotion.at),
        corrected_before=_corrections(reviewed, previous),
    )


def _corrections(reviewed: list[ReviewedPart], version: int, *, since: float = float("-inf")) -> Corrections:
    """What people said of the parts that a version flagged from a moment on."""
    said = [
        part.says
        for part in reviewed
        if part.verdict.version == version and part.verdict.flagged and part.verdict.judged_at >= since
    ]
    return Corrections(judged=said.count(NORMAL) + said.count(DEFECT), normal=said.count(NORMAL))


def _state(ledger: Ledger, request: RetrainRequest) -> str:
    row = ledger.request(request.request_id)
    return "unknown" if row is None else row.state
