"""What people may do: each action checks the role, does it, and leaves an audit entry and its messages in one ledger transaction."""

from collections.abc import Sequence
from dataclasses import dataclass

from detectors.errors import DriftlineError, InvalidInput, NotFound
from detectors.registry import OperatingPoint, Registry, check_threshold
from streams.causes import MANUAL, Wish, check_wish
from streams.incidents import ACKNOWLEDGED, ANSWERS
from streams.ledger import AuditEntry, Ledger, RequestRow
from streams.ledger_rows import AWAITING, SHADOWING
from streams.messages import (
    Approval,
    DeadLetter,
    IncidentAnswer,
    Message,
    ModelPromoted,
    Redrive,
    RetrainRequest,
    Review,
)
from streams.operating_points import preview
from streams.redriving import letter_of, note_redrives
from streams.retraining import digest_of_cause
from streams.reviews import SAYS
from streams.settings import LineConfig
from streams.topics import check_size

ROLES = ("viewer", "reviewer", "engineer", "administrator")
LONGEST_NOTE_BYTES = 10_000
APPROVED, REJECTED = "approved", "rejected"


class NotAllowed(DriftlineError):
    """The person's role does not allow the action."""


@dataclass(frozen=True)
class Actor:
    """A person and their role (viewer, reviewer, engineer, administrator: each may do what those before it may)."""

    name: str
    role: str

    def __post_init__(self) -> None:
        if self.role not in ROLES:
            raise InvalidInput(f"role {self.role!r}; there are {', '.join(ROLES)}")


DRIFTLINE = Actor(name="driftline", role="engineer")
"""What the system does by itself, audited like what people do."""


def review(ledger: Ledger, actor: Actor, *, line: str, image_id: str, says: str, note: str, at: float) -> Review:
    """Say what an image shows; durable when this returns. A later review of the same person stands beside the earlier one."""
    _check(actor, "reviewer", "review")
    if says not in SAYS:
        raise InvalidInput(f"a review says {says!r}; it may say {', '.join(SAYS)}")
    _check_note(note)
    if ledger.verdict(line, image_id) is None:
        raise NotFound(f"line {line!r} has no judged image {image_id!r}; reload the page")
    said = Review(line=line, image_id=image_id, says=says, note=note, by=actor.name, at=at)
    _act(ledger, actor, "review", said, f"{image_id}: {says}", at)
    return said


def answer_incident(
    ledger: Ledger, actor: Actor, *, line: str, incident_id: str, says: str, note: str, at: float
) -> IncidentAnswer:
    """Say what an incident is: acknowledged (seen), expected (the line's new normal: learn it), ignored (explained, nothing to learn).

    Durable when this returns; the watcher heeds the latest of expected and ignored with the line's next image. To acknowledge takes
    a reviewer, what decides about a new model an engineer.
    """
    _check(actor, "reviewer", "answer an incident")
    if says not in ANSWERS:
        raise InvalidInput(f"an answer to an incident says {says!r}; it may say {', '.join(ANSWERS)}")
    if says != ACKNOWLEDGED:
        _check(actor, "engineer", f"call an incident {says}")
    _check_note(note)
    if ledger.incident(line, incident_id) is None:
        raise NotFound(f"line {line!r} has no incident {incident_id!r}; reload the page")
    answer = IncidentAnswer(line=line, incident_id=incident_id, says=says, note=note, by=actor.name, at=at)
    _act(ledger, actor, "answer", answer, f"{incident_id}: {says}", at)
    return answer


def request_retrain(
    ledger: Ledger, actor: Actor, registry: Registry, config: LineConfig, wish: Wish, *, line: str, at: float
) -> RetrainRequest:
    """Ask for a new model by hand; refused while the line has an open request.

    Raises NotFound for a line that nothing is known of or that has no image, InvalidInput for a wish that cannot be met.
    """
    _check(actor, "engineer", "ask for a retrain")
    _check_note(wish.why)
    check_wish(ledger, line, config, wish)
    request = RetrainRequest(
        line=line,
        request_id=digest_of_cause(MANUAL, line, actor.name, at),
        cause=MANUAL,
        mode=wish.mode,
        image_keys=(),
        parent_version=registry.pointers(line).champion,
        alarm_at=None,
        requested_at=at,
        wanted_images=wish.images,
    )
    entry = AuditEntry(at, actor.name, actor.role, "retrain", line, wish.in_words)
    ledger.act(entry, (request,), unless_requested=True)
    return request


def cancel_request(ledger: Ledger, actor: Actor, *, line: str, request_id: str, why: str, at: float) -> None:
    """Give up a request that waits and that no run has taken up: the line may be asked for again.

    Raises NotFound for no such request, InvalidInput for one that runs (its run is cancelled on Dagster's page) or has ended.
    """
    _check(actor, "engineer", "cancel a request")
    _check_note(why)
    row = ledger.request(request_id)
    if row is None or row.request.line != line:
        raise NotFound(f"line {line!r} has no request {request_id!r}; `driftline requests list` shows what there is")
    entry = AuditEntry(at, actor.name, actor.role, "cancel", line, f"{request_id}: {why}")
    if not ledger.cancel_waiting(entry, request_id):
        raise InvalidInput(
            f"request {request_id} is {row.state} by now; one that runs is cancelled with its run on Dagster's page"
        )


def promote(
    ledger: Ledger,
    actor: Actor,
    registry: Registry,
    *,
    line: str,
    version: int,
    why: str,
    at: float,
    request_id: str | None = None,
    beside: bool = False,
    expected_sequence: int | None = None,
    as_challenger: bool = False,
) -> ModelPromoted:
    """Put a version into service. The registry's pointer is the truth; the ledger and the bus hear of it after.

    `request_id`: what it was made for; `beside`, `expected_sequence` and `as_challenger` as in `Registry.promote`.
    """
    _check(actor, "engineer", "promote")
    pointers = registry.promote(
        line, version, expected_sequence=expected_sequence, as_challenger=as_challenger, beside=beside
    )
    return _promoted(ledger, actor, "promote", ModelPromoted(
        line=line, version=version, previous=pointers.previous, sequence=pointers.sequence, by=actor.name, why=why, at=at,
        request_id=request_id,
    ))  # fmt: skip


def rollback(
    ledger: Ledger,
    actor: Actor,
    registry: Registry,
    *,
    line: str,
    why: str,
    at: float,
    expected_sequence: int | None = None,
) -> ModelPromoted:
    """Back to the previous version; the one taken back is promoted again by people only."""
    _check(actor, "engineer", "roll back")
    pointers = registry.rollback(line, expected_sequence=expected_sequence)
    if pointers.champion is None:
        raise NotFound(f"line {line!r} has no version to go back to")
    return _promoted(ledger, actor, "rollback", ModelPromoted(
        line=line, version=pointers.champion, previous=pointers.previous, sequence=pointers.sequence, by=actor.name, why=why, at=at,
        rolled_back=True,
    ))  # fmt: skip


def approve(
    ledger: Ledger,
    actor: Actor,
    registry: Registry,
    *,
    line: str,
    version: int,
    why: str,
    config: LineConfig,
    at: float,
) -> Approval:
    """Agree that a version that a request made, and that waits for people, goes into service; with it, where that is agreed by enough.

    Enough is one person, or two different ones where the line wants four eyes. Raises NotFound for a version that does not wait,
    InvalidInput for a person who has agreed already.
    """
    _check(actor, "engineer", "approve a model")
    row = _in_question(ledger, line, version)
    request_id, needed = row.request.request_id, 2 if config.four_eyes else 1
    before = _approvers(ledger, row)
    if actor.name in before and len(before) < needed:
        raise InvalidInput(
            f"{actor.name} has approved {line}@{version} already; the second approval takes another person"
        )
    approval = _approval(ledger, actor, row, APPROVED, why, at)
    if len(_approvers(ledger, row)) >= needed:
        beside = config.probation_images > 0
        promote(
            ledger, actor, registry, line=line, version=version, why=why, at=at, request_id=request_id, beside=beside,
            as_challenger=True,
        )  # fmt: skip
        by = " and ".join(_approvers(ledger, row))
        ledger.end_request(request_id, outcome="promoted", version=version, detail=f"approved by {by}: {why}", at=at)
    return approval


def reject(
    ledger: Ledger, actor: Actor, registry: Registry, *, line: str, version: int, why: str, at: float
) -> Approval:
    """Refuse a version that a request made and that waits for people: it scores beside the champion no more. One person is enough."""
    _check(actor, "engineer", "reject a model")
    row = _in_question(ledger, line, version)
    approval = _approval(ledger, actor, row, REJECTED, why, at)
    registry.clear_challenger(line, version)  # first: whoever is about to promote it finds that out
    detail = f"rejected by {actor.name}: {why}"
    ledger.end_request(row.request.request_id, outcome="refused", version=version, detail=detail, at=at)
    return approval


def set_threshold(
    ledger: Ledger, actor: Actor, registry: Registry, *, line: str, version: int, threshold: float, why: str, at: float
) -> OperatingPoint:
    """Another threshold for a version: an audited revision beside it, which keeps what it would have flagged on the day before; nothing is
    retrained.
    """
    _check(actor, "engineer", "set a threshold")
    _check_note(why)
    before = registry.operating_point(line, version).threshold
    check_threshold(threshold)
    words = preview(ledger, line, version, threshold, now=at).words
    point = registry.set_operating_point(
        line, version, threshold=threshold, by=actor.name, why=why, at=at, preview=words
    )
    detail = f"version {version}, revision {point.revision}: {threshold} for {before} ({why}); {words}"
    ledger.act(AuditEntry(at, actor.name, actor.role, "threshold", line, detail), ())
    return point


def redrive(
    ledger: Ledger, actor: Actor, identities: Sequence[str], *, repaired: bytes | None = None, at: float
) -> tuple[Redrive, ...]:
    """Put the messages of dead letters back onto their topics, each once, all or none; `repaired`: with this body. The recorder
    sends them.

    Raises NotFound for no such letter, InvalidInput where one was put back before and where one cannot go back as it is.
    """
    _check(actor, "engineer", "put a message back")
    letters = [letter_of(ledger, identity) for identity in identities]
    noted = [_redriven(actor, letter, repaired, at) for letter in letters]
    note_redrives(ledger, noted)
    return tuple(back for _, back in noted)


def _redriven(actor: Actor, letter: DeadLetter, repaired: bytes | None, at: float) -> tuple[AuditEntry, Redrive]:
    if letter.cut_from_bytes is not None and repaired is None:
        raise InvalidInput(
            f"of the {letter.cut_from_bytes} bytes of {letter.identity} only {len(letter.original)} are kept; "
            f"give it a body of its own (--value FILE)"
        )
    check_size(letter.source_topic, letter.original if repaired is None else repaired)
    back = Redrive(
        line=letter.line, source_topic=letter.source_topic, source_partition=letter.source_partition,
        source_offset=letter.source_offset, by=actor.name, at=at, repaired=repaired,
    )  # fmt: skip
    detail = letter.identity if repaired is None else f"{letter.identity} with {len(repaired)} repaired bytes"
    return AuditEntry(at, actor.name, actor.role, "redrive", letter.line, detail), back


def _check(actor: Actor, least: str, what: str) -> None:
    if ROLES.index(actor.role) < ROLES.index(least):
        raise NotAllowed(f"{actor.name} is {_one(actor.role)}; to {what} takes {_one(least)}: ask an administrator")


def _one(role: str) -> str:
    """
    >>> _one("engineer"), _one("reviewer")
    ('an engineer', 'a reviewer')
    """
    return f"an {role}" if role[0] in "aeiou" else f"a {role}"


def _check_note(note: str) -> None:
    if len(note.encode()) > LONGEST_NOTE_BYTES:
        raise InvalidInput(f"a note of {len(note.encode())} bytes, the limit is {LONGEST_NOTE_BYTES}; shorten it")


def _in_question(ledger: Ledger, line: str, version: int) -> RequestRow:
    """The request whose version is tried out or waits for people."""
    rows = [row for row in ledger.requests(line, states=(SHADOWING, AWAITING)) if row.version == version]
    if not rows:
        cure = f"driftline models promote {line}@{version} puts it into service all the same"
        raise NotFound(f"{line}@{version} does not wait for anybody; {cure}")
    return rows[-1]


def _approvers(ledger: Ledger, row: RequestRow) -> list[str]:
    """Who has approved the version of a request, in that order."""
    said = ledger.approvals(row.request.line)
    mine = [each.by for each in said if each.request_id == row.request.request_id and each.says == APPROVED]
    return list(dict.fromkeys(mine))


def _approval(ledger: Ledger, actor: Actor, row: RequestRow, says: str, why: str, at: float) -> Approval:
    _check_note(why)
    if row.version is None:
        raise NotFound(f"request {row.request.request_id} has made no version; reload the page")
    approval = Approval(
        line=row.request.line, request_id=row.request.request_id, version=row.version, says=says, why=why, by=actor.name, at=at
    )  # fmt: skip
    action = "approve" if says == APPROVED else "reject"
    _act(ledger, actor, action, approval, f"version {row.version}: {why}", at)
    return approval


def _promoted(ledger: Ledger, actor: Actor, action: str, promoted: ModelPromoted) -> ModelPromoted:
    _act(
        ledger,
        actor,
        action,
        promoted,
        f"version {promoted.version} for {promoted.previous}: {promoted.why}",
        promoted.at,
    )
    return promoted


def _act(ledger: Ledger, actor: Actor, action: str, message: Message, detail: str, at: float) -> None:
    ledger.act(AuditEntry(at, actor.name, actor.role, action, message.line, detail), (message,))
