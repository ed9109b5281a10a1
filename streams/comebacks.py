"""Which older versions a line may come back to, by what the ledger tells of them."""

from collections.abc import Sequence

from streams.ledger import Ledger, RequestRow
from streams.messages import ModelPromoted, RetrainRequest

SETTLED_IMAGES = 20
"""A version that came back and judged fewer before its line changed did not serve it well."""


def proven(ledger: Ledger, request: RetrainRequest) -> frozenset[int]:
    """Versions that were in service and may be taken back for a request of the line: no scorer refused them, nobody rolled them back,
    and the line has not just gone through them (`passed_through`).
    """
    line, promotions = request.line, ledger.promotions(request.line)
    served = {each.version for each in promotions} | {each.version for each in ledger.servings(line)}
    refused = {each.version for each in ledger.alerts(line)}
    return frozenset(
        served - refused - rolled_back(promotions, ledger.requests(line)) - passed_through(ledger, request)
    )


def rolled_back(promotions: Sequence[ModelPromoted], requests: Sequence[RequestRow]) -> frozenset[int]:
    """Versions that somebody replaced by an older one, and did not promote again since.

    A request that took an older version back did not roll anything back: the version it replaced served another condition.
    """
    outcome = {row.request.request_id: row.version for row in requests}
    back: set[int] = set()
    for each in sorted(promotions, key=lambda promotion: promotion.sequence):
        back.discard(each.version)
        on_request = each.request_id is not None and outcome.get(each.request_id) == each.version
        if each.previous is not None and each.version < each.previous and not on_request:
            back.add(each.previous)
    return frozenset(back)


def passed_through(ledger: Ledger, request: RetrainRequest) -> frozenset[int]:
    """The versions that a line has left one after another without settling with any: to take one of them back would only go on like that.

    A version that came back on request and saw its line change within `SETTLED_IMAGES` did not know the condition after all, nor did the
    one it replaced, which had asked. So without a change of the line between, each version is tried once, and then a model is made.
    """
    asked = {row.request.request_id: row.request for row in ledger.requests(request.line)}
    promotions = sorted(ledger.promotions(request.line), key=lambda promotion: promotion.sequence)
    left: set[int] = set()
    while promotions:
        latest = promotions.pop()
        came_back = any(latest.version in (each.version, each.previous) for each in promotions)
        if not came_back or latest.previous is None or latest.request_id not in asked:
            break
        if _judged_before_change(ledger, latest, request) >= SETTLED_IMAGES:
            break
        left.add(latest.previous)
        request = asked[latest.request_id]
    return frozenset(left)


def _judged_before_change(ledger: Ledger, promotion: ModelPromoted, request: RetrainRequest) -> int:
    """Images that a version judged from its promotion to the change that led to a request."""
    line, version = promotion.line, promotion.version
    incident = None if request.incident_id is None else ledger.incident(line, request.incident_id)
    if incident is None:
        return SETTLED_IMAGES
    first = ledger.verdict(line, incident.since_image_id)
    change = (incident.at, "") if first is None else (first.judged_at, first.image_id)
    earlier = ledger.judged_before(line, version, (promotion.at, ""))
    return ledger.judged_before(line, version, change) - earlier
