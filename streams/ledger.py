"""What happened: verdicts, incidents, requests, promotions, reviews, dead letters, and who did what.

On SQLite or PostgreSQL, many processes at once; every write is one transaction and idempotent. `Unavailable` where the database is away.
"""

import math
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar
from weakref import finalize

from sqlalchemy import Connection, Engine, Select, exc, func, insert, select, tuple_, update

from detectors.errors import InvalidInput
from streams.incidents import OPENED
from streams.ledger_audit import audit_entries, audit_names
from streams.ledger_configuration import Described, note_configuration
from streams.ledger_engine import fault, lock_requests, open_engine, refusal
from streams.ledger_hours import hours_of, judged_of
from streams.ledger_past import (
    JUDGED_PAGE,
    first_of_latest,
    images_before,
    judged_before,
    judged_spans,
    lives,
    openings,
    page_of,
)
from streams.ledger_points import flags_of, scored_parts
from streams.ledger_rows import (
    AWAITING,
    IN_WORK,
    SHADOWING,
    UNENDED,
    AuditEntry,
    AuditNames,
    AuditWish,
    Counts,
    Flags,
    GateResult,
    Hour,
    ImageStory,
    JudgedSpan,
    LearntFrom,
    LineSummary,
    RequestRow,
    ScoredPart,
)
from streams.ledger_schema import bring_up_to_date
from streams.ledger_search import FoundPage, Place, Search, search, unjudged_lines
from streams.ledger_story import story_of
from streams.ledger_summary import lines_in, pending_of, summary_of, unjudged
from streams.ledger_tables import (
    AUDIT,
    COLLECTED,
    EVENTS,
    GATES,
    INCIDENTS,
    OUTBOX,
    REPEATED,
    REQUESTS,
    VERDICTS,
)
from streams.ledger_training import (
    note_training_images,
    reviewed_parts,
    reviewed_since,
    training_images,
    training_set_of,
    versions_learnt,
)
from streams.ledger_trials import flag_share, judged_since, shadows_of
from streams.ledger_writing import insert_new, put_in_outbox, record_messages
from streams.messages import (
    Approval,
    Collected,
    DeadLetter,
    DriftIncident,
    IncidentAnswer,
    LineImage,
    Message,
    ModelAlert,
    ModelPromoted,
    ModelServing,
    RetrainRequest,
    Review,
    ShadowVerdict,
    Verdict,
    decode,
)
from streams.reviews import ReviewedPart
from streams.topics import topic

__all__ = [
    "UNENDED", "AuditEntry", "AuditNames", "AuditWish", "Counts", "Flags", "GateResult", "Hour", "ImageStory", "JudgedSpan", "LearntFrom",
    "Ledger", "LineSummary", "RequestRow", "ScoredPart",
]  # fmt: skip

OPEN = "open"
OUTCOMES = ("promoted", "refused", AWAITING, "failed", "cancelled", "switched_back")
EVERYTHING = AuditWish()
HISTORY_PAGE = 500
PLACES_PAGE = 2000

M = TypeVar("M", bound=Message)


class Ledger:
    """The ledger behind a URL. Open one per process; safe to use from several threads."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._closing = finalize(self, engine.dispose)

    @classmethod
    def open(cls, url: str) -> "Ledger":
        """The ledger at `url` (`sqlite:///path`, `postgresql+psycopg://name:password@host/database`), made where there is none, an
        older one brought to the latest revision.

        Raises InvalidInput where there can be none or a newer program made it, Unavailable where it does not answer.
        """
        ledger = cls(open_engine(url))
        try:
            bring_up_to_date(ledger._engine)
        except (exc.DatabaseError, exc.InterfaceError) as error:
            raise refusal(error, url) from error
        return ledger

    def close(self) -> None:
        """Let go of the database; a ledger that is forgotten does so by itself."""
        self._closing()

    @contextmanager
    def transaction(self, *, writes: bool = True) -> Iterator[Connection]:
        """Everything within happens, or nothing does.

        Raises Unavailable where the database is away, InvalidInput for values it cannot hold.
        """
        try:
            with self._engine.connect().execution_options(writes=writes) as connection, connection.begin():
                yield connection
        except (exc.DBAPIError, OverflowError) as error:
            meant = fault(error)
            if meant is None:
                raise
            raise meant from error

    def record(self, messages: Sequence[Message]) -> None:
        """Write messages down, all in one transaction, each idempotent by its identity."""
        with self.transaction() as connection:
            record_messages(connection, messages)

    def lines(self, *, now: float | None = None) -> list[LineSummary]:
        """Every line that anything is known of, by name. Rates are measured up to `now`, by default the line's last image."""
        with self.transaction(writes=False) as connection:
            return [summary_of(connection, name, now=now) for name in lines_in(connection)]

    def line_names(self) -> list[str]:
        """Every line that anything is known of, by name."""
        with self.transaction(writes=False) as connection:
            return lines_in(connection)

    def verdicts(self, line: str, *, after: float | None = None, limit: int) -> list[Verdict]:
        """The latest verdicts of a line, newest first, judged later than `after`."""
        query = select(VERDICTS.c.body).where(VERDICTS.c.line == line)
        if after is not None:
            query = query.where(VERDICTS.c.judged_at > after)
        return self._bodies(query.order_by(VERDICTS.c.judged_at.desc(), VERDICTS.c.image_id).limit(limit), Verdict)

    def flagged(self, line: str, *, limit: int, offset: int = 0, unreviewed_only: bool = False) -> list[Verdict]:
        """Flagged images of a line, newest first."""
        query = select(VERDICTS.c.body).where(VERDICTS.c.line == line, VERDICTS.c.flagged.is_(True))
        if unreviewed_only:
            of_image = (EVENTS.c.line == line) & (EVENTS.c.image_id == VERDICTS.c.image_id)
            query = query.where(~select(EVENTS.c.identity).where(of_image, EVENTS.c.kind == Review.topic).exists())
        query = query.order_by(VERDICTS.c.judged_at.desc(), VERDICTS.c.image_id).limit(limit).offset(offset)
        return self._bodies(query, Verdict)

    def verdict(self, line: str, image_id: str) -> Verdict | None:
        """The verdict of one image."""
        query = select(VERDICTS.c.body).where(VERDICTS.c.line == line, VERDICTS.c.image_id == image_id)
        return next(iter(self._bodies(query, Verdict)), None)

    def search(self, wanted: Search, *, before: Place | None = None, limit: int) -> FoundPage:
        """The judged images that a search finds, newest first, from before `before` (`following` of the page before) on."""
        with self.transaction(writes=False) as connection:
            return search(connection, wanted, before=before, limit=limit)

    def unjudged_lines(self, image_id: str, *, lines: Sequence[str] = ()) -> list[str]:
        """The lines (of these, or of all) that know an image of this id which was never judged: collected, or a dead letter."""
        with self.transaction(writes=False) as connection:
            return unjudged_lines(connection, lines or lines_in(connection), image_id)

    def hours(self, line: str, *, since: float = -math.inf, until: float = math.inf) -> list[Hour]:
        """What a line judged, flagged and judged too late hour by hour, oldest first; hours without a verdict are absent."""
        with self.transaction(writes=False) as connection:
            return hours_of(connection, line, since=since, until=until)

    def story(self, line: str, image_id: str) -> ImageStory:
        """All that is known of one image."""
        with self.transaction(writes=False) as connection:
            return story_of(connection, line, image_id)

    def history(
        self,
        line: str,
        version: int,
        *,
        since: tuple[float, str] = (-math.inf, ""),
        before: tuple[float, str] | None = None,
    ) -> Iterator[Verdict]:
        """What a version has judged, oldest first; read a page at a time, so that years of it need no memory. `since` (the first) and
        `before` (no more): places in this order, when judged and which image.
        """
        place = tuple_(VERDICTS.c.judged_at, VERDICTS.c.image_id)
        query = select(VERDICTS.c.body).where(VERDICTS.c.line == line, VERDICTS.c.version == version)
        if before is not None:
            query = query.where(VERDICTS.c.judged_at <= before[0], place < before)
        query = query.order_by(VERDICTS.c.judged_at, VERDICTS.c.image_id).limit(HISTORY_PAGE)
        page = self._bodies(query.where(VERDICTS.c.judged_at >= since[0], place >= since), Verdict)
        while page:
            yield from page
            at = page[-1].judged_at
            page = self._bodies(query.where(VERDICTS.c.judged_at >= at, place > (at, page[-1].image_id)), Verdict)

    def images_before(
        self, line: str, version: int, place: tuple[float, str], *, page: int = PLACES_PAGE
    ) -> Iterator[tuple[float, str]]:
        """When a version judged which images, newest first, from before `place` on; read a page at a time."""
        while True:
            with self.transaction(writes=False) as connection:
                found = images_before(connection, line, version, place, limit=page)
            if not found:
                return
            place = found[-1]
            yield from found

    def judged_before(self, line: str, version: int, place: tuple[float, str]) -> int:
        """How many images a version had judged before `place`; counted in an index, below a microsecond each."""
        with self.transaction(writes=False) as connection:
            return judged_before(connection, line, version, place)

    def lives(self, line: str, *, since: float) -> list[DriftIncident]:
        """Every state of the incidents of a line that are open, or of which something was told from `since` on, oldest first."""
        with self.transaction(writes=False) as connection:
            return lives(connection, line, since=since)

    def judged_spans(self, line: str, *, since: float = -math.inf) -> list[JudgedSpan]:
        """What each version of a line has judged from `since` on, in the order of its first verdict there."""
        with self.transaction(writes=False) as connection:
            return judged_spans(connection, line, since=since)

    def first_of_latest(self, line: str, images: int, *, version: int | None = None) -> float | None:
        """When the first of the latest `images` of a line (or of a version) was judged; None where there are fewer."""
        with self.transaction(writes=False) as connection:
            return first_of_latest(connection, line, images, version=version)

    def judged(
        self, line: str, span: JudgedSpan, *, since: float = -math.inf, page: int = JUDGED_PAGE
    ) -> Iterator[list[Verdict]]:
        """The verdicts of a span, oldest first, a page at a time; without `nearest` and `heatmap_key`, to be read fast."""
        place = (since, "")
        while True:
            with self.transaction(writes=False) as connection:
                verdicts = page_of(connection, line, span, place=place, limit=page)
            if not verdicts:
                return
            place = (verdicts[-1].judged_at, verdicts[-1].image_id)
            yield verdicts

    def openings(self, line: str) -> list[tuple[float, DriftIncident]]:
        """The incidents of a line as they stand now, each with the moment it was opened, oldest first."""
        with self.transaction(writes=False) as connection:
            return openings(connection, line)

    def collected(self, line: str) -> list[Collected]:
        """Every image ever collected from a line, oldest first."""
        query = select(COLLECTED.c.body).where(COLLECTED.c.line == line)
        return self._bodies(query.order_by(COLLECTED.c.collected_at, COLLECTED.c.image_id), Collected)

    def pending_images(self, line: str) -> list[LineImage]:
        """Images that were collected and have no verdict yet, oldest first."""
        query = select(COLLECTED.c.body).where(unjudged(line))
        query = query.order_by(COLLECTED.c.collected_at, COLLECTED.c.image_id)
        return [each.image for each in self._bodies(query, Collected)]

    def has_model(self, line: str) -> bool:
        """Whether a promotion was recorded for the line."""
        return bool(self.promotions(line))

    def incidents(self, line: str | None = None, *, open_only: bool = False) -> list[DriftIncident]:
        """Incidents as they are now, oldest first; `open_only`: those that are not closed."""
        query = select(INCIDENTS.c.body)
        if line is not None:
            query = query.where(INCIDENTS.c.line == line)
        if open_only:
            query = query.where(INCIDENTS.c.state == OPENED)
        return self._bodies(query.order_by(INCIDENTS.c.at, INCIDENTS.c.incident_id), DriftIncident)

    def incident(self, line: str, incident_id: str) -> DriftIncident | None:
        """One incident of a line as it is now."""
        query = select(INCIDENTS.c.body).where(INCIDENTS.c.incident_id == incident_id, INCIDENTS.c.line == line)
        return next(iter(self._bodies(query, DriftIncident)), None)

    def incident_states(self, line: str, incident_id: str | None = None) -> list[DriftIncident]:
        """What became of the incidents of a line step by step, or of one, oldest first; older programs kept only the latest."""
        return self._events(DriftIncident, line, subject=incident_id)

    def answers(self, incident_id: str) -> list[IncidentAnswer]:
        """What people said of an incident, oldest first."""
        line = select(INCIDENTS.c.line).where(INCIDENTS.c.incident_id == incident_id).scalar_subquery()
        query = select(EVENTS.c.body).where(EVENTS.c.kind == IncidentAnswer.topic, EVENTS.c.line == line)
        query = query.where(EVENTS.c.subject == incident_id)
        return self._bodies(query.order_by(EVENTS.c.at, EVENTS.c.identity), IncidentAnswer)

    def promotions(self, line: str) -> list[ModelPromoted]:
        """What was in service since when, oldest first."""
        return self._events(ModelPromoted, line)

    def approvals(self, line: str) -> list[Approval]:
        """What people said of versions that waited for them, oldest first."""
        return self._events(Approval, line)

    def servings(self, line: str) -> list[ModelServing]:
        """When a scorer took up a version, oldest first."""
        return self._events(ModelServing, line)

    def alerts(self, line: str) -> list[ModelAlert]:
        """Versions that a scorer refused, as champions or beside one, oldest first."""
        return self._events(ModelAlert, line)

    def refusals(self, line: str) -> list[ModelAlert]:
        """Versions that a scorer refused as champions, oldest first: one refused beside the champion may still serve."""
        return [each for each in self.alerts(line) if not each.beside]

    def reviews(self, line: str, image_id: str | None = None) -> list[Review]:
        """What people said, oldest first."""
        return self._events(Review, line, subject=image_id)

    def reviewed(self, line: str, *, versions: Sequence[int] | None = None) -> list[ReviewedPart]:
        """Every judged image of a line, or of some of its versions, that people said something of, and what stands, by the time of the
        latest word.
        """
        with self.transaction(writes=False) as connection:
            return reviewed_parts(connection, line, versions)

    def reviewed_since(self, line: str, since: float) -> int:
        """Of how many images people said something after `since`, whatever it was."""
        with self.transaction(writes=False) as connection:
            return reviewed_since(connection, line, since)

    def flags(self, line: str, version: int, *, threshold: float, since: float = -math.inf) -> Flags:
        """What a version flagged from `since` on, and what another threshold would have; counted in an index, 0.1 microseconds each."""
        with self.transaction(writes=False) as connection:
            return flags_of(connection, line, version, threshold=threshold, since=since)

    def scored_parts(self, line: str, version: int) -> list[ScoredPart]:
        """The reviewed parts that a version scored, in service or beside the champion, by image, and what stands of them."""
        with self.transaction(writes=False) as connection:
            return scored_parts(connection, line, version)

    def shadows(self, line: str, version: int, *, since: float = -math.inf) -> list[ShadowVerdict]:
        """What a version said of images beside the champion from `since` on, oldest first."""
        with self.transaction(writes=False) as connection:
            return shadows_of(connection, line, version, since=since)

    def flag_share(self, line: str, version: int, *, before: float, images: int) -> float | None:
        """The share of its latest `images` before a moment that a version flagged; None where it had judged none."""
        with self.transaction(writes=False) as connection:
            return flag_share(connection, line, version, before=before, images=images)

    def judged_since(self, line: str, version: int, since: float) -> tuple[int, float | None]:
        """How many images a version has judged after a moment, and when the last of them."""
        with self.transaction(writes=False) as connection:
            return judged_since(connection, line, version, since)

    def note_training_images(self, line: str, request_id: str, images: Iterable[LearntFrom]) -> None:
        """What became of each image of a request's training set; a repeated run's choice replaces the earlier one."""
        with self.transaction() as connection:
            note_training_images(connection, line, request_id, images)

    def training_set(self, line: str, request_id: str) -> list[LearntFrom]:
        """What became of each image of a request's training set, by key."""
        with self.transaction(writes=False) as connection:
            return training_set_of(connection, line, request_id)

    def versions_learnt(self, line: str) -> set[int]:
        """The versions of the line whose training images are noted here; older ones, and those of a folder, are not."""
        with self.transaction(writes=False) as connection:
            return versions_learnt(connection, line)

    def training_images(self, line: str, image_keys: Sequence[str]) -> list[LearntFrom]:
        """In which training sets of the line these images are, oldest first."""
        with self.transaction(writes=False) as connection:
            return training_images(connection, line, image_keys=image_keys)

    def dead_letters(self, limit: int) -> list[DeadLetter]:
        """The latest dead letters, newest first."""
        query = select(EVENTS.c.body).where(EVENTS.c.kind == DeadLetter.topic)
        return self._bodies(query.order_by(EVENTS.c.at.desc(), EVENTS.c.identity).limit(limit), DeadLetter)

    def dead_letter(self, identity: str) -> DeadLetter | None:
        """One dead letter by where it came from (`images/3/17`)."""
        query = select(EVENTS.c.body).where(EVENTS.c.kind == DeadLetter.topic, EVENTS.c.subject == identity)
        return next(iter(self._bodies(query, DeadLetter)), None)

    def counts(self, line: str) -> Counts:
        """A line in numbers."""
        again = select(func.sum(VERDICTS.c.redelivered), func.count().filter(VERDICTS.c.repeats > 0))
        dead = select(func.count()).where(EVENTS.c.kind == DeadLetter.topic, EVENTS.c.line == line)
        with self.transaction(writes=False) as connection:
            redelivered, doubled = connection.execute(again.where(VERDICTS.c.line == line, REPEATED)).one()
            letters = connection.execute(dead).scalar_one()
            pending = pending_of(connection, line)
            judged, overdue = judged_of(connection, line)
            return Counts(judged, pending, letters, doubled, redelivered or 0, overdue)

    def requests(self, line: str | None = None, *, states: Sequence[str] | None = None) -> list[RequestRow]:
        """Requests and how far they are, oldest first."""
        query = select(REQUESTS).order_by(REQUESTS.c.requested_at, REQUESTS.c.request_id)
        if line is not None:
            query = query.where(REQUESTS.c.line == line)
        if states is not None:
            query = query.where(REQUESTS.c.state.in_(states))
        with self.transaction(writes=False) as connection:
            return [_request_row(row) for row in connection.execute(query)]

    def request(self, request_id: str) -> RequestRow | None:
        """One request."""
        with self.transaction(writes=False) as connection:
            row = connection.execute(select(REQUESTS).where(REQUESTS.c.request_id == request_id)).one_or_none()
        return None if row is None else _request_row(row)

    def begin_request(self, request_id: str, *, run_id: str, attempt: int, at: float) -> bool:
        """Take a request for a run; False where it has ended or the same or a later attempt has it."""
        free = REQUESTS.c.state.in_(IN_WORK) & ((REQUESTS.c.attempt < attempt) | (REQUESTS.c.run_id == run_id))
        change = update(REQUESTS).where(REQUESTS.c.request_id == request_id, free)
        with self.transaction() as connection:
            taken = connection.execute(
                change.values(state="running", run_id=run_id, attempt=attempt, started_at=at, detail=None)
            )
            return taken.rowcount == 1

    def note_waiting(self, request_id: str, detail: str | None) -> None:
        """What a request waits for that no run has taken up yet; None: for nothing any more."""
        here = (REQUESTS.c.request_id == request_id) & (REQUESTS.c.state == OPEN)
        with self.transaction() as connection:
            connection.execute(
                update(REQUESTS).where(here, REQUESTS.c.detail.is_distinct_from(detail)).values(detail=detail)
            )

    def begin_shadow(self, request_id: str, *, version: int, detail: str, at: float) -> bool:
        """A request's version is published and scores beside the champion from now on; False where the request has come further."""
        change = update(REQUESTS).where(REQUESTS.c.request_id == request_id, REQUESTS.c.state.in_(IN_WORK))
        with self.transaction() as connection:
            begun = connection.execute(change.values(state=SHADOWING, version=version, detail=detail, started_at=at))
            return begun.rowcount == 1

    def end_request(self, request_id: str, *, outcome: str, version: int | None, detail: str, at: float) -> bool:
        """End a request; the first end stands, and False says that there was one. To await approval is none."""
        if outcome not in OUTCOMES:
            raise InvalidInput(f"outcome {outcome!r}; there are {', '.join(OUTCOMES)}")
        before = UNENDED if outcome == AWAITING else (*UNENDED, AWAITING)
        change = update(REQUESTS).where(REQUESTS.c.request_id == request_id, REQUESTS.c.state.in_(before))
        with self.transaction() as connection:
            ended = connection.execute(change.values(state=outcome, version=version, detail=detail, ended_at=at))
            return ended.rowcount == 1

    def cancel_waiting(self, entry: AuditEntry, request_id: str) -> bool:
        """An action of a person: end a request that no run has taken up; False, and nothing done, where one has or it has ended."""
        here = (REQUESTS.c.request_id == request_id) & (REQUESTS.c.state == OPEN)
        ended = {"state": "cancelled", "detail": f"cancelled by {entry.who}", "ended_at": entry.at}
        with self.transaction() as connection:
            if connection.execute(update(REQUESTS).where(here).values(**ended)).rowcount == 0:
                return False
            _write_down(connection, entry)
            return True

    def note_gate(self, request_id: str, gate: GateResult) -> None:
        """What a gate found; a repeated run's result replaces the earlier one. A value of NaN: it could not evaluate."""
        value = None if math.isnan(gate.value) else gate.value
        row = {"passed": gate.passed, "value": value, "limit_value": gate.limit, "words": gate.words}
        with self.transaction() as connection:
            if not insert_new(connection, GATES, {"request_id": request_id, "name": gate.name, **row}):
                here = (GATES.c.request_id == request_id) & (GATES.c.name == gate.name)
                connection.execute(update(GATES).where(here).values(**row))

    def gates(self, request_id: str) -> list[GateResult]:
        """What the gates found, by name."""
        query = select(GATES).where(GATES.c.request_id == request_id).order_by(GATES.c.name)
        with self.transaction(writes=False) as connection:
            rows = connection.execute(query).all()
        return [_gate_result(row) for row in rows]

    def act(self, entry: AuditEntry, messages: Sequence[Message], *, unless_requested: bool = False) -> None:
        """An action of a person: its audit entry, its record and its messages to the bus, in one transaction.

        With `unless_requested` it raises InvalidInput, and does nothing, where the line has a request that has not ended.
        """
        with self.transaction() as connection:
            if unless_requested:
                lock_requests(connection)
                _check_unrequested(connection, entry.line)
            _write_down(connection, entry)
            record_messages(connection, messages)
            put_in_outbox(connection, messages)

    def note_configuration(self, lines: Described, *, who: str, at: float) -> int:
        """Write an audit entry for each key of a line's description that is not as it was noted last; how many there were."""
        with self.transaction() as connection:
            return note_configuration(connection, lines, who=who, at=at)

    def audit(self, wish: AuditWish = EVERYTHING, *, before: int | None = None, limit: int = 100) -> list[AuditEntry]:
        """Who did what, newest first; the next page begins `before` the number of the last entry of this one."""
        with self.transaction(writes=False) as connection:
            return audit_entries(connection, wish, before=before, limit=limit)

    def audit_names(self) -> AuditNames:
        """Who acted, how, and on which lines, in the latest thousands of entries."""
        with self.transaction(writes=False) as connection:
            return audit_names(connection)

    def outbox(self, limit: int) -> list[tuple[int, Message]]:
        """Messages that have not reached the bus yet, oldest first, with their numbers."""
        query = select(OUTBOX).where(OUTBOX.c.sent.is_(False)).order_by(OUTBOX.c.id).limit(limit)
        with self.transaction(writes=False) as connection:
            rows = connection.execute(query).all()
        return [(row.id, decode(row.body, topic(row.topic).carries)) for row in rows]

    def mark_sent(self, numbers: Iterable[int]) -> None:
        """These messages of the outbox are on the bus."""
        with self.transaction() as connection:
            connection.execute(update(OUTBOX).where(OUTBOX.c.id.in_(list(numbers))).values(sent=True))

    def _events(self, kind: type[M], line: str, *, subject: str | None = None) -> list[M]:
        query = select(EVENTS.c.body).where(EVENTS.c.kind == kind.topic, EVENTS.c.line == line)
        if subject is not None:
            query = query.where(EVENTS.c.subject == subject)
        return self._bodies(query.order_by(EVENTS.c.at, EVENTS.c.identity), kind)

    def _bodies(self, query: Select[Any], kind: type[M]) -> list[M]:
        with self.transaction(writes=False) as connection:
            bodies = connection.execute(query).scalars().all()
        return [decode(body, kind) for body in bodies]


def _write_down(connection: Connection, entry: AuditEntry) -> None:
    row = {"at": entry.at, "who": entry.who, "role": entry.role, "action": entry.action}
    connection.execute(insert(AUDIT).values(**row, line=entry.line, detail=entry.detail))


def _check_unrequested(connection: Connection, line: str) -> None:
    unended = select(REQUESTS.c.request_id).where(REQUESTS.c.line == line, REQUESTS.c.state.in_(UNENDED)).limit(1)
    request_id = connection.execute(unended).scalar()
    if request_id is not None:
        raise InvalidInput(f"line {line!r} has the open request {request_id}; wait until it has ended")


def _gate_result(row: Any) -> GateResult:
    value = math.nan if row.value is None else row.value
    return GateResult(name=row.name, passed=row.passed, value=value, limit=row.limit_value, words=row.words)


def _request_row(row: Any) -> RequestRow:
    return RequestRow(
        request=decode(row.body, RetrainRequest),
        state=row.state,
        run_id=row.run_id,
        attempt=row.attempt,
        version=row.version,
        detail=row.detail,
        started_at=row.started_at,
        ended_at=row.ended_at,
    )
