"""What an incident has led to: the new model that came of it, or why none did, in words."""

from collections.abc import Sequence

from dashboard.incidents import IncidentCard
from dashboard.words import short
from streams.incidents import EXPECTED, IGNORED
from streams.ledger import UNENDED, Ledger, RequestRow
from streams.retraining import RETRAINING_KINDS
from streams.settings import LineConfig

NEVER_LEARNT = {
    "defect_surge": "No new model: one that learnt from a surge would take defects for normal. Look at the flagged parts.",
    "camera_fault": "No new model: none would cure a camera. Look at camera, lamp and lens.",
}
OUTCOMES = {
    "open": "A new model was asked for and waits for its turn",
    "running": "A new model is being made",
    "shadowing": "A new model was made and scores beside the one in service",
    "promoted": "A new model was made and put into service",
    "refused": "A new model was made and refused",
    "awaiting_approval": "A new model was made and waits for a person",
    "failed": "No new model could be made",
    "cancelled": "The request for a new model was cancelled",
    "switched_back": "The line is back in a condition that an older version knows: that one serves again",
}
"""What became of a request, by its state."""


def decided(ledger: Ledger, card: IncidentCard, config: LineConfig) -> str:
    """What came of an incident in the way of a new model, or why nothing did, in a sentence or two."""
    if card.requests:
        return _outcome(card.requests)
    kind = card.incident.kind
    if kind not in RETRAINING_KINDS:
        return NEVER_LEARNT.get(kind, "No new model: incidents of this kind ask for none.")
    final = [answer for answer in card.answers if answer.says in (EXPECTED, IGNORED)]
    if final and final[-1].says == IGNORED:
        return f"No new model: {short(final[-1].by, 40)} explained it."
    if not card.is_open:
        return "It was over before a new model was asked for."
    if not config.auto and not final:
        return "It waits for a person: this line learns nothing by itself."
    return _waiting(ledger, card, config)


def _outcome(rows: Sequence[RequestRow]) -> str:
    last = rows[-1]
    words = OUTCOMES.get(last.state, f"The request for a new model ended: {short(last.state, 40)}")
    version = f" (version {last.version})" if last.version is not None else ""
    detail = f": {short(last.detail, 300).rstrip('.')}" if last.detail else ""
    learnt = f" It learns from {len(last.request.image_keys)} images since the alarm ({last.request.mode})."
    before = f" Asked for {len(rows)} times." if len(rows) > 1 else ""
    return f"{words}{version}{detail}.{learnt if last.ended_at is None else ''}{before}"


def _waiting(ledger: Ledger, card: IncidentCard, config: LineConfig) -> str:
    """Of the images a new model learns from, how many have come since the alarm; else what the line rests for."""
    incident = card.incident
    if any(row.detail is None for row in ledger.requests(incident.line, states=UNENDED)):
        return "It waits: another new model of this line is being made or tried out, one at a time."
    came = len(ledger.verdicts(incident.line, after=card.alarm_at, limit=config.retrain_images))
    if came < config.retrain_images:
        return f"It waits for images to learn from: {came} of {config.retrain_images} have come since the alarm."
    return (
        f"It has its images; the line rests up to {config.cooldown_s:.0f} s after its last new model, then one is made."
    )
