"""The watcher's handler: verdicts in, incidents and requests for new models out.

State lives in memory, keyed by line and version, and is rebuilt by replaying what was recorded when a line is met
again. What came of an image is remembered by its id, so a redelivered verdict gives the same messages and moves
nothing.
"""

import logging
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace

import msgspec

from detectors.errors import InvalidInput
from detectors.manifest import NO_CALIBRATION, DriftReference
from streams.alarms import Alarm
from streams.bus import Record
from streams.classifying import place_of
from streams.drift import LineMonitor
from streams.incidents import EXPECTED, IGNORED, OPENED, ending
from streams.ledger import Ledger
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
from streams.retraining import (
    Answered,
    Event,
    Gathered,
    Judged,
    LineState,
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
AWAITING = "awaiting_approval"

References = Callable[[str, int], DriftReference | None]
Calibrations = Callable[[str, int], msgspec.Raw]
History = Callable[[str, int], Iterable[Verdict]]

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Recorded:
    """What else the watcher asks of the ledger; the defaults know nothing.

    `collected`: images collected from a line, oldest first. `outcome`: how a request ended, None while it is under
    way. `open_incidents`: those of a line. `answers`: what people said of an incident, oldest first (all of it, so that
    a replay hears each answer when it was given).
    """

    collected: Callable[[str], Iterable[Collected]] = lambda _: ()
    outcome: Callable[[str], RequestEnded | None] = lambda _: None
    open_incidents: Callable[[str], Iterable[DriftIncident]] = lambda _: ()
    answers: Callable[[str], Sequence[IncidentAnswer]] = lambda _: ()


def recorded_in(ledger: Ledger) -> Recorded:
    """What a ledger knows of it: collected images, ended requests, open incidents, people's answers."""

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
    )


@dataclass
class _Watch:
    """One line: the policy's state, the monitor of the current version, and what came of the latest images."""

    state: LineState = field(default_factory=LineState)
    monitor: LineMonitor | None = None
    said: OrderedDict[str, tuple[Message, ...]] = field(default_factory=OrderedDict)
    left: int | None = None
    sequence: int = -1

    def remember(self, identity: str, messages: tuple[Message, ...]) -> None:
        self.said[identity] = messages
        while len(self.said) > REMEMBERED:
            self.said.popitem(last=False)

    def follows(self, version: int) -> bool:
        """Whether a verdict of `version` means that the line has a new model (and is not a straggler from before a
        rollback).
        """
        return self.state.version is None or (version > self.state.version and version != self.left)


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
        recorded: Recorded = Recorded(),
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

    def handle(self, records: Sequence[Record]) -> Effects:
        """Incidents and requests that follow from `records`; raises InvalidInput for one that is no message of its
        topic.
        """
        self._configs, self._answers = {}, {}
        return Effects(messages=tuple(message for record in records for message in self._take(record)))

    def monitor(self, line: str) -> LineMonitor | None:
        """The monitor of a line's current version, if it has one."""
        watch = self._watches.get(line)
        return watch.monitor if watch else None

    def state(self, line: str) -> LineState:
        """Where the policy stands with a line.

        >>> handler = WatchHandler(lambda *_: None, lambda _: LineConfig(), lambda: 0.0, history=lambda *_: ())
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
        news: tuple[Message, ...] = ()
        if watch.follows(verdict.version):
            watch, news = self._switch(verdict.line, watch, NewVersion(verdict.version, verdict.judged_at))
        if _watched(watch, verdict):
            self._judge(watch, verdict)
        if news:
            watch.remember(verdict.image_id, news + watch.said.get(verdict.image_id, ()))
        return watch.said.get(verdict.image_id, ())

    def _promoted(self, promoted: ModelPromoted) -> tuple[Message, ...]:
        watch = self._watches.get(promoted.line, _Watch())
        if promoted.identity in watch.said or promoted.sequence <= watch.sequence:
            return watch.said.get(promoted.identity, ())
        news: tuple[Message, ...] = ()
        if promoted.version != watch.state.version:
            watch, news = self._switch(promoted.line, watch, NewVersion(promoted.version, promoted.at))
        watch.sequence = promoted.sequence
        watch.remember(promoted.identity, news)
        return news

    def _collected(self, collected: Collected) -> tuple[Message, ...]:
        if collected.line not in self._watches:
            watch = _Watch()
            for each in self._recorded.collected(collected.line):
                self._gather(watch, each)
            self._watches[collected.line] = watch
        watch = self._watches[collected.line]
        self._gather(watch, collected)
        return watch.said[_collecting(collected)]

    def _switch(self, line: str, before: _Watch, event: NewVersion) -> tuple[_Watch, tuple[Message, ...]]:
        """Watch another version: close what was open, and live through what is recorded of it. Nothing changes if
        this raises.
        """
        state, news = decide(before.state, event, line=line, config=self._config(line))
        left = before.state.version
        watch = _Watch(state, self._new_monitor(line, event.version), before.said.copy(), left, before.sequence)
        closed = {message.incident_id for message in news if isinstance(message, DriftIncident)}
        for told in self._recorded.open_incidents(line):
            if told.version != event.version and told.incident_id not in closed:
                news += (ending(told, at=event.at, reason=f"version {event.version} judges the line"),)
        for verdict in self._history(line, event.version):
            if verdict.image_id not in watch.said and _watched(watch, verdict):
                self._judge(watch, verdict)
        self._watches[line] = watch
        return watch, news

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
        self._settle(watch, verdict.line, verdict.judged_at)
        run_length = self._config(verdict.line).expected_run_length
        alarms: tuple[Alarm, ...] = ()
        if watch.monitor:  # nothing may fail from here on: an image that comes again must not be taken in twice
            alarms = watch.monitor.update(verdict.image_id, verdict.signals)
        opened = tuple(incident(verdict, alarm, run_length=run_length) for alarm in alarms)
        event = Judged(verdict.image_key, verdict.judged_at, opened)
        watch.remember(verdict.image_id, self._step(watch, verdict.line, event))

    def _gather(self, watch: _Watch, collected: Collected) -> None:
        if _collecting(collected) not in watch.said:
            self._settle(watch, collected.line, collected.collected_at)
            event = Gathered(collected.image.key, collected.collected_at)
            watch.remember(_collecting(collected), self._step(watch, collected.line, event))

    def _settle(self, watch: _Watch, line: str, at: float) -> None:
        """Tell the policy what people and Dagster did since: a request that ended, what was said of an incident."""
        ended = self._recorded.outcome(watch.state.request_id) if watch.state.request_id else None
        if ended and self._is_past(ended.at, at):
            self._step(watch, line, replace(ended, at=min(ended.at, at)))
        for each in watch.state.incidents:
            says = self._answer(each.told.incident_id, at)
            if says is not None and says != each.says:
                self._step(watch, line, Answered(each.told.incident_id, says, at))

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
        place=place_of(alarm.where),
        run_length=run_length,
    )


def _watched(watch: _Watch, verdict: Verdict) -> bool:
    """Whether the verdict is of the current version, made in its turn, and new."""
    return not verdict.late and verdict.version == watch.state.version and verdict.image_id not in watch.said


def _collecting(collected: Collected) -> str:
    """The same image may be collected first and judged later: two things to remember."""
    return f"collected:{collected.identity}"
