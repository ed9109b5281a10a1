"""The watcher's handler: verdicts in, incidents and requests for new models out.

State lives in memory, keyed by line and version. When a line is met again it is rebuilt from what was recorded: the monitor by replay of
the verdicts since the latest beginning of an epoch (`streams.epochs`) up to the image in hand (and up to `REMEMBERED` after it), the
policy from what the ledger tells of the time before. That takes at most `LONGEST_REPLAY` images and a page of them in
memory, however many the version has judged, and promises:

- a watcher that was restarted says what it would have said: the same incidents by the same identities, the same requests;
- an incident that the ledger has open is never opened a second time under another identity, even where the replay did not lead to it
  (verdicts that the recorder had not yet written, or that came in another order than they were judged);
- an incident that the replay led to and the ledger does not know is told again, under the same identity: consumers are idempotent.

A version that comes back is watched as if it were new: what it judged in an earlier service ended in the change that it was replaced for.

What came of an image is remembered by its id, so a redelivered verdict gives the same messages and moves nothing.

What is not exact: `after_images` counts images judged late after a restart only.
"""

import logging
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence, Set
from copy import deepcopy
from dataclasses import dataclass, field, replace
from itertools import islice

import msgspec

from detectors.errors import InvalidInput
from detectors.manifest import NO_CALIBRATION, DriftReference
from streams.alarms import Alarm
from streams.bus import Record
from streams.classifying import place_of as place_in_words
from streams.drift import LineMonitor
from streams.epochs import BEGINNING, Place, begins_epoch
from streams.incidents import EXPECTED, IGNORED, OPENED, Incident, ending
from streams.ledger import Ledger
from streams.ledger_rows import AWAITING
from streams.messages import (
    Collected,
    DriftIncident,
    IncidentAnswer,
    Message,
    ModelPromoted,
    RetrainRequest,
    Verdict,
    decode,
)
from streams.resuming import (
    KNOWS_NOTHING,
    History,
    Recorded,
    SinceReturn,
    in_service_since,
    is_over,
    latest_epoch,
    place_of,
    policy_at,
    unaccounted,
    watched_until,
)
from streams.retraining import (
    RETRAINING_KINDS,
    Answered,
    Event,
    Gathered,
    Judged,
    LineState,
    NewEpoch,
    NewVersion,
    RequestEnded,
    decide,
    digest_of_cause,
)
from streams.settings import LineConfig
from streams.stored_calibration import restored
from streams.worker import Effects

TOPICS = (Verdict.topic, Collected.topic, ModelPromoted.topic)
REMEMBERED = 4096
PAGE = 2048

References = Callable[[str, int], DriftReference | None]
Calibrations = Callable[[str, int], msgspec.Raw]

_log = logging.getLogger(__name__)


def recorded_in(ledger: Ledger) -> Recorded:
    """What a ledger knows of it."""

    def outcome(request_id: str) -> RequestEnded | None:
        row = ledger.request(request_id)
        if row is None or row.ended_at is None or row.state == AWAITING:
            return None
        return RequestEnded(request_id, row.state, row.ended_at)

    return Recorded(
        collected=ledger.collected,
        outcome=outcome,
        open_incidents=lambda line: ledger.incidents(line, open_only=True),
        answers=ledger.answers,
        lives=lambda line, since: ledger.lives(line, since=since),
        requests=lambda line: [row.request for row in ledger.requests(line)],
        promotions=ledger.promotions,
    )


@dataclass
class _Watch:
    """One line: the policy's state, the monitor of the current version, and what came of the latest images.

    `caught_up`: whether what the version judged before the first image in hand was lived through; `unaccounted`: open incidents that
    this did not lead to; `untold`: messages that go with the next image; `asked`: the latest request, and when the image was judged
    that led to it; `since`: when a version that was in service before came back, what it judged before is not its watch's.
    """

    state: LineState = field(default_factory=LineState)
    monitor: LineMonitor | None = None
    said: OrderedDict[str, tuple[Message, ...]] = field(default_factory=OrderedDict)
    left: int | None = None
    sequence: int = -1
    since: float = float("-inf")
    caught_up: bool = False
    unaccounted: tuple[Incident, ...] = ()
    untold: tuple[Message, ...] = ()
    asked: tuple[float, RetrainRequest] | None = None

    def remember(self, identity: str, messages: tuple[Message, ...]) -> None:
        self.said[identity] = messages
        while len(self.said) > REMEMBERED:
            self.said.popitem(last=False)

    @property
    def is_idle(self) -> bool:
        """Whether an image without an alarm leaves the policy as it is."""
        return self.state == LineState(version=self.state.version, rests_until=self.state.rests_until)

    def account(self, left: tuple[Incident, ...], told: Set[str]) -> None:
        """Settle with the ledger which incidents are open. `left`: those that it has and the replay did not lead to; `told`: which of
        the replay's it knows. The others are told again, unless the ledger has one of their kind: then they are that one.
        """
        theirs = {each.told.kind: each for each in left}
        incidents = []
        for each in self.state.incidents:
            if each.is_open and each.told.incident_id not in told:
                same = theirs.pop(each.told.kind, None)
                if same is None:
                    self.untold += (each.told,)
                else:
                    each = replace(same, quiet=each.quiet, says=each.says)
            incidents.append(each)
        self.state = replace(self.state, incidents=tuple(incidents))
        self.unaccounted = tuple(theirs.values())

    def adopt(self, verdict: Verdict, opened: Sequence[DriftIncident]) -> None:
        """Go on with what is unaccounted for once its image has gone by, or its kind alarms: no second one is opened. An incident that
        this very image opens has been accounted for.
        """
        ids, kinds = {each.incident_id for each in opened}, {each.kind for each in opened}
        left = [each for each in self.unaccounted if each.told.incident_id not in ids]
        due = [each for each in left if each.told.kind in kinds or each.told.at < verdict.judged_at]
        for each in due:
            others = tuple(it for it in self.state.incidents if it.told.kind != each.told.kind)
            if not self._has_open(each.told.kind):
                self.state = replace(self.state, incidents=(*others, each))
        self.unaccounted = tuple(each for each in left if each not in due)

    def _has_open(self, kind: str) -> bool:
        return any(each.told.kind == kind for each in self.state.open_incidents)

    def follows(self, version: int) -> bool:
        """Whether a verdict of `version` means that the line has a new model (and is not a straggler from before a
        rollback).
        """
        return version != self.left and (self.state.version is None or version > self.state.version)


class WatchHandler:
    """Watches every line of the partitions it is given. A handler for `streams.worker.Worker` over `TOPICS`.

    `references` gives the drift reference of a line's version, `calibrations` what is stored with it, `lines` the line's
    configuration, `history` the version's recorded verdicts in the order of judgement; `recorded` whatever else a restart
    needs. Late and repeated verdicts, and those of versions that have been replaced, are not watched.
    """

    def __init__(
        self,
        references: References,
        lines: Callable[[str], LineConfig],
        now: Callable[[], float],
        *,
        history: History,
        recorded: Recorded = KNOWS_NOTHING,
        calibrations: Calibrations = lambda *_: NO_CALIBRATION,
    ) -> None:
        self._references = references
        self._lines = lines
        self._now = now
        self._history = history
        self._recorded = recorded
        self._calibrations = calibrations
        self._watches: dict[str, _Watch] = {}
        self._configs: dict[str, LineConfig] = {}
        self._answers: dict[str, Sequence[IncidentAnswer]] = {}
        self._outcomes: dict[str, RequestEnded | None] = {}
        self._promotions: dict[str, Sequence[ModelPromoted]] = {}

    def handle(self, records: Sequence[Record]) -> Effects:
        """Incidents and requests that follow from `records`; raises InvalidInput for one that is no message of its
        topic.
        """
        self._configs, self._answers, self._outcomes, self._promotions = {}, {}, {}, {}
        return Effects(messages=tuple(message for record in records for message in self._take(record)))

    def monitor(self, line: str) -> LineMonitor | None:
        """The monitor of a line's current version, if it has one."""
        watch = self._watches.get(line)
        return watch.monitor if watch else None

    def state(self, line: str) -> LineState:
        """Where the policy stands with a line.

        >>> from streams.resuming import NothingJudged
        >>> handler = WatchHandler(lambda *_: None, lambda _: LineConfig(), lambda: 0.0, history=NothingJudged())
        >>> handler.state("tiles").window
        ()
        """
        return self._watches[line].state if line in self._watches else LineState()

    def _take(self, record: Record) -> tuple[Message, ...]:
        if record.topic == Verdict.topic:
            return self._verdict(decode(record.value, Verdict))
        if record.topic == Collected.topic:
            return self._collected(decode(record.value, Collected))
        if record.topic == ModelPromoted.topic:
            return self._promoted(decode(record.value, ModelPromoted))
        raise InvalidInput(f"topic {record.topic!r} is not watched; the watcher reads {', '.join(TOPICS)}")

    def _verdict(self, verdict: Verdict) -> tuple[Message, ...]:
        watch = self._watches.get(verdict.line, _Watch())
        if verdict.image_id in watch.said:
            return watch.said[verdict.image_id]
        if watch.follows(verdict.version) and not is_over(self._promoted_on(verdict.line), verdict.version):
            watch = self._switched(verdict.line, watch, NewVersion(verdict.version, verdict.judged_at))
        if self._is_watched(watch, verdict) and not watch.caught_up:
            watch = self._caught_up(watch, verdict)
        self._watches[verdict.line] = watch
        if self._is_watched(watch, verdict):
            self._judge(watch, verdict)
        if watch.untold:
            watch.remember(verdict.image_id, watch.untold + watch.said.get(verdict.image_id, ()))
            watch.untold = ()
        return watch.said.get(verdict.image_id, ())

    def _promoted(self, promoted: ModelPromoted) -> tuple[Message, ...]:
        watch = self._watches.get(promoted.line, _Watch())
        if promoted.identity in watch.said or promoted.sequence <= watch.sequence:
            return watch.said.get(promoted.identity, ())
        if promoted.version != watch.state.version:
            watch = self._switched(promoted.line, watch, NewVersion(promoted.version, promoted.at), by=(promoted,))
            self._watches[promoted.line] = watch
        watch.sequence = promoted.sequence
        watch.remember(promoted.identity, watch.untold)
        watch.untold = ()
        return watch.said[promoted.identity]

    def _collected(self, collected: Collected) -> tuple[Message, ...]:
        if collected.line not in self._watches:
            watch = _Watch()
            for each in self._recorded.collected(collected.line):
                self._gather(watch, each)
            self._watches[collected.line] = watch
        watch = self._watches[collected.line]
        self._gather(watch, collected)
        return watch.said[_collecting(collected)]

    def _switched(self, line: str, before: _Watch, event: NewVersion, *, by: tuple[ModelPromoted, ...] = ()) -> _Watch:
        """The watch of another version; what was open is closed. `by`: the promotion, which the ledger may not have yet."""
        state, news = decide(before.state, event, line=line, config=self._config(line))
        closed = {message.incident_id for message in news if isinstance(message, DriftIncident)}
        for told in self._recorded.open_incidents(line):
            if told.version != event.version and told.incident_id not in closed:
                news += (ending(told, at=event.at, reason=f"version {event.version} judges the line"),)
        return _Watch(
            state=state,
            monitor=self._new_monitor(line, event.version),
            said=before.said.copy(),
            left=before.state.version,
            sequence=before.sequence,
            since=self._service(line, event.version, by),
            untold=before.untold + news,
        )

    def _caught_up(self, before: _Watch, verdict: Verdict) -> _Watch:
        """The watch after all that its version judged before this verdict, whose line is met for the first time; and some of what came
        after it, if that is recorded: it may have been watched already, and if not, what came of it is remembered.
        """
        watch = replace(before, monitor=deepcopy(before.monitor), said=before.said.copy(), caught_up=True)
        if watch.monitor is None:
            return watch
        line, version, until = verdict.line, verdict.version, place_of(verdict)
        history = self._history_of(watch)
        begins = latest_epoch(history, line, version, until)
        if begins is not None and not _introduced(watch.monitor, history, verdict, begins):
            begins, watch.monitor = None, deepcopy(before.monitor)
        first = begins or BEGINNING
        earlier = islice(history.images_before(line, version, first), REMEMBERED if begins else 0)
        for _, image_id in reversed(list(earlier)):
            watch.remember(image_id, watch.said.get(image_id, ()))
        policy = policy_at(self._recorded, line, version, first[0], self._config(line))
        watch.state = replace(policy, rests_until=max(policy.rests_until, before.state.rests_until))
        verdicts = history.history(line, version, since=first, before=None)
        self._live_through(watch, watched_until(verdicts, until, ahead=REMEMBERED))
        opened = [each.told.at for each in watch.state.open_incidents]
        told = self._recorded.lives(line, min(opened)) if opened else ()
        known = {each.incident_id for each in told}
        coming = {each.told.incident_id for each in watch.state.incidents if each.told.at >= verdict.judged_at}
        watch.account(unaccounted(self._recorded, line, watch.state), known | coming)
        self._ask_again(watch, verdict)
        return watch

    def _ask_again(self, watch: _Watch, verdict: Verdict) -> None:
        """Tell a request that the images before this one led to and the ledger has not: its end would be waited for in vain."""
        at, asked = watch.asked or (verdict.judged_at, None)
        if asked is None or at >= verdict.judged_at or asked.request_id != watch.state.request_id:
            return
        if asked.request_id not in {each.request_id for each in self._recorded.requests(verdict.line)}:
            watch.untold += (asked,)

    def _live_through(self, watch: _Watch, verdicts: Iterable[Verdict]) -> None:
        """Recorded verdicts through monitor and policy, a page at a time."""
        coming = iter(verdicts)
        while watch.monitor and (page := list(islice(coming, PAGE))):
            raised = {each.image_id: alarms for each, alarms in watch.monitor.follow(page)}
            for each in page:
                alarms = raised.get(each.image_id, ())
                if alarms or not watch.is_idle or begins_epoch(each.image_id):
                    self._prepare(watch, each)
                    self._conclude(watch, each, alarms)
                elif each.image_id not in watch.said:
                    watch.remember(each.image_id, ())

    def _promoted_on(self, line: str) -> Sequence[ModelPromoted]:
        """The promotions of a line that are recorded, asked for once a batch."""
        if line not in self._promotions:
            self._promotions[line] = self._recorded.promotions(line)
        return self._promotions[line]

    def _service(self, line: str, version: int, by: tuple[ModelPromoted, ...]) -> float:
        """Since when a version that came back is in service. What lies in the future was before the clock was set back."""
        since = in_service_since([*self._promoted_on(line), *by], version)
        return since if since <= self._now() else float("-inf")

    def _history_of(self, watch: _Watch) -> History:
        """What the version of a watch has judged since it is in service."""
        return self._history if watch.since == float("-inf") else SinceReturn(self._history, watch.since)

    def _is_watched(self, watch: _Watch, verdict: Verdict) -> bool:
        """Whether the verdict is of the current version, made in its turn and not in a service before, and new."""
        if verdict.late or verdict.version != watch.state.version or verdict.image_id in watch.said:
            return False
        return self._is_past(watch.since, verdict.judged_at)

    def _new_monitor(self, line: str, version: int) -> LineMonitor | None:
        """A monitor of the version; None, with a warning, where its reference cannot carry one."""
        reference, config = self._references(line, version), self._config(line)
        if reference is None:
            _log.warning("line %s: version %d has no drift reference; its drift is not watched", line, version)
            return None
        try:
            return LineMonitor(
                reference,
                expected_run_length=config.expected_run_length,
                seed=config.seed,
                calibration=restored(self._calibrations(line, version), reference),
            )
        except InvalidInput as error:
            _log.warning("line %s: the drift of version %d is not watched: %s", line, version, error)
            return None

    def _judge(self, watch: _Watch, verdict: Verdict) -> None:
        """One image of the current version through the monitor and the policy; what came of it is remembered."""
        self._prepare(watch, verdict)
        alarms: tuple[Alarm, ...] = ()
        if watch.monitor:  # nothing may fail from here on: an image that comes again must not be taken in twice
            alarms = watch.monitor.update(verdict.image_id, verdict.signals)
        self._conclude(watch, verdict, alarms)

    def _prepare(self, watch: _Watch, verdict: Verdict) -> None:
        """What the policy has to know before an image; doing it twice changes nothing."""
        if begins_epoch(verdict.image_id):
            self._step(watch, verdict.line, NewEpoch(verdict.judged_at))
        self._settle(watch, verdict.line, verdict.judged_at)
        self._config(verdict.line)

    def _conclude(self, watch: _Watch, verdict: Verdict, alarms: tuple[Alarm, ...]) -> None:
        """One image with what the monitor says of it through the policy."""
        run_length = self._config(verdict.line).expected_run_length
        opened = tuple(incident(verdict, alarm, run_length=run_length) for alarm in alarms)
        watch.adopt(verdict, opened)
        changed = max((alarm.images for alarm in alarms if alarm.kind in RETRAINING_KINDS), default=0)
        event = Judged(verdict.image_key, verdict.judged_at, opened, changed)
        messages = self._step(watch, verdict.line, event)
        for request in (each for each in messages if isinstance(each, RetrainRequest)):
            watch.asked = (verdict.judged_at, request)
        if verdict.image_id not in watch.said:
            watch.remember(verdict.image_id, messages)

    def _gather(self, watch: _Watch, collected: Collected) -> None:
        if _collecting(collected) not in watch.said:
            self._settle(watch, collected.line, collected.collected_at)
            event = Gathered(collected.image.key, collected.collected_at)
            watch.remember(_collecting(collected), self._step(watch, collected.line, event))

    def _settle(self, watch: _Watch, line: str, at: float) -> None:
        """Tell the policy what people and Dagster did since: a request that ended, what was said of an incident."""
        ended = self._outcome(watch.state.request_id) if watch.state.request_id else None
        if ended and self._is_past(ended.at, at):
            self._step(watch, line, replace(ended, at=min(ended.at, at)))
        for each in watch.state.incidents:
            says = self._answer(each.told.incident_id, at)
            if says is not None and says != each.says:
                self._step(watch, line, Answered(each.told.incident_id, says, at))

    def _outcome(self, request_id: str) -> RequestEnded | None:
        """How a request ended, asked once a batch: none of its images was judged later."""
        if request_id not in self._outcomes:
            self._outcomes[request_id] = self._recorded.outcome(request_id)
        return self._outcomes[request_id]

    def _answer(self, incident_id: str, at: float) -> str | None:
        """What was said last of an incident by that time, of what matters to the policy."""
        if incident_id not in self._answers:
            self._answers[incident_id] = self._recorded.answers(incident_id)
        heard = (each for each in self._answers[incident_id] if self._is_past(each.at, at))
        says = [each.says for each in heard if each.says in (EXPECTED, IGNORED)]
        return says[-1] if says else None

    def _is_past(self, then: float, at: float) -> bool:
        """Whether something happened by the time of an image; what lies in the future was before the clock was set back."""
        return then <= at or self._now() < then

    def _step(self, watch: _Watch, line: str, event: Event) -> tuple[Message, ...]:
        watch.state, messages = decide(watch.state, event, line=line, config=self._config(line))
        return tuple(self._asked_now(message) for message in messages)

    def _asked_now(self, message: Message) -> Message:
        if isinstance(message, RetrainRequest):
            return msgspec.structs.replace(message, requested_at=self._now())
        return message

    def _config(self, line: str) -> LineConfig:
        if line not in self._configs:
            self._configs[line] = self._lines(line)
        return self._configs[line]


def incident(verdict: Verdict, alarm: Alarm, *, run_length: int | None = None) -> DriftIncident:
    """The incident that an alarm on a verdict opens; the same alarm, the same identity. `run_length`: what was promised."""
    return DriftIncident(
        line=verdict.line,
        incident_id=digest_of_cause(verdict.line, verdict.version, alarm.kind, alarm.alarm_image_id),
        kind=alarm.kind,
        state=OPENED,
        version=verdict.version,
        signal=alarm.signal,
        test=alarm.test,
        reference=alarm.reference,
        observed=alarm.observed,
        effect=alarm.effect,
        since_image_id=alarm.since_image_id,
        alarm_image_id=alarm.alarm_image_id,
        after_images=alarm.after_images,
        at=verdict.judged_at,
        before_image_id=alarm.before_image_id,
        confidence=alarm.confidence,
        evidence=alarm.evidence,
        shape=alarm.shape,
        where=alarm.where,
        place=place_in_words(alarm.where),
        run_length=run_length,
    )


def _introduced(monitor: LineMonitor, history: History, verdict: Verdict, begins: Place) -> bool:
    """Show a monitor the first images of a verdict's version, and take it to where an epoch begins; False where that lies among them."""
    line, version = verdict.line, verdict.version
    watched = (each for each in history.history(line, version, since=BEGINNING, before=begins) if not each.late)
    for seen, each in enumerate(watched, start=1):
        monitor.update(each.image_id, each.signals)
        if monitor.knows_the_line:
            monitor.pass_over(history.judged_before(line, version, begins) - seen)
            monitor.begin_anew()
            return True
    return False


def _collecting(collected: Collected) -> str:
    """The same image may be collected first and judged later: two things to remember."""
    return f"collected:{collected.identity}"
