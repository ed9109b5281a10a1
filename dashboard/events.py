"""What happened on a line, in words, newest first: alarms, requests, gates, swaps, refusals, promotions."""

from collections.abc import Iterator
from dataclasses import dataclass

from dashboard.queries import Alarm, alarms, kind_in_words, swaps
from dashboard.words import figure
from streams.ledger import Ledger, RequestRow
from streams.messages import ModelAlert, ModelPromoted, RetrainRequest

REQUESTS_TOLD = 20

CAUSE_IN_WORDS = {
    "cold_start": "the line has no model yet",
    "covariate_drift": "the line has changed",
    "reviews": "people's reviews",
    "schedule": "the schedule",
    "manual": "asked for by hand",
}


@dataclass(frozen=True)
class Event:
    """Something that happened `at` (epoch seconds). `symbol` and `colour` say its kind; `words` hold foreign text."""

    at: float
    symbol: str
    colour: str
    words: str


def events(ledger: Ledger, line: str) -> list[Event]:
    """Everything worth telling of a line, newest first."""
    told = [event for alarm in alarms(ledger, line) for event in _alarm(alarm)]
    told += [_swap(serving.at, serving.version, serving.previous) for serving in swaps(ledger.servings(line))]
    told += [_alert(alert) for alert in ledger.alerts(line)]
    told += [_promotion(promotion) for promotion in ledger.promotions(line)]
    for row in ledger.requests(line)[-REQUESTS_TOLD:]:
        told += _request(ledger, row)
    return sorted(told, key=lambda event: event.at, reverse=True)


def window_in_words(request: RetrainRequest) -> str:
    """Which images a request learns from."""
    if request.image_keys:
        return f"{len(request.image_keys)} images"
    return "the latest images" if request.wanted_images is None else f"the latest {request.wanted_images} images"


def refusal_in_words(alert: ModelAlert) -> str:
    """A version the scorer would not load, which one goes on instead, and why; or one that scores no more beside the champion."""
    if alert.beside:
        return f"Version {alert.version} scores no more beside version {alert.serving}: {alert.reason}"
    stays = "the line has no model in service" if alert.serving is None else f"version {alert.serving} stays in service"
    return f"Version {alert.version} was refused, {stays}: {alert.reason}"


def standing_alert(ledger: Ledger, line: str) -> ModelAlert | None:
    """The latest refusal of a champion, unless a scorer has taken up a version since."""
    latest = max(ledger.refusals(line), key=lambda alert: alert.raised_at, default=None)
    served_at = max((serving.at for serving in ledger.servings(line)), default=float("-inf"))
    return None if latest is None or served_at > latest.raised_at else latest


def _alarm(alarm: Alarm) -> Iterator[Event]:
    incident = alarm.incident
    kind = kind_in_words(incident.kind)
    values = f"from {figure(incident.reference)} to {figure(incident.observed)}"
    moved = f"{incident.signal} moved by {incident.effect:+.1f} robust sd, {values}"
    yield Event(alarm.at, "trending_up", "orange", f"Alarm, {kind}: {moved} ({incident.test})")
    if alarm.closed_at is not None:
        yield Event(alarm.closed_at, "task_alt", "green", f"Closed ({kind}): {incident.reason}")


def _swap(at: float, version: int, previous: int | None) -> Event:
    instead = f" instead of version {previous}" if previous is not None else ", the line's first"
    return Event(at, "swap_horiz", "green", f"Version {version} judges the line{instead}")


def _alert(alert: ModelAlert) -> Event:
    return Event(alert.raised_at, "gpp_bad", "red", refusal_in_words(alert))


def _promotion(promotion: ModelPromoted) -> Event:
    why = f": {promotion.why}" if promotion.why else ""
    if promotion.rolled_back:
        back = f"Version {promotion.previous} taken back by {promotion.by}, version {promotion.version} is champion again{why}"
        return Event(promotion.at, "undo", "red", back)
    return Event(
        promotion.at, "military_tech", "blue", f"Version {promotion.version} made champion by {promotion.by}{why}"
    )


def _request(ledger: Ledger, row: RequestRow) -> Iterator[Event]:
    request = row.request
    cause = CAUSE_IN_WORDS.get(request.cause, request.cause)
    yield Event(
        request.requested_at,
        "autorenew",
        "blue",
        f"New model asked for, {request.mode}, from {window_in_words(request)} ({cause})",
    )
    if row.ended_at is None:
        if row.detail is not None:
            yield Event(request.requested_at, "hourglass_top", "blue", f"The request {row.detail}")
        return
    for gate in ledger.gates(request.request_id):
        symbol, colour = ("check", "green") if gate.passed else ("close", "red")
        yield Event(
            row.ended_at, symbol, colour, f"Gate {gate.name} {'passed' if gate.passed else 'FAILED'}: {gate.words}"
        )
    good = row.state in ("promoted", "switched_back")
    yield Event(
        row.ended_at,
        "task_alt" if good else "cancel",
        "green" if good else "red",
        f"Request ended, {row.state}: {row.detail}",
    )
