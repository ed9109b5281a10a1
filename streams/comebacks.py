"""Which older versions a line may come back to, by what the ledger tells of them."""

from collections.abc import Sequence

from streams.classifying import COVARIATE
from streams.ledger import Ledger, RequestRow
from streams.messages import ModelPromoted, RetrainRequest


def proven(ledger: Ledger, line: str) -> frozenset[int]:
    """Versions of a line that were in service, that no scorer refused and nobody rolled back."""
    promotions = ledger.promotions(line)
    served = {each.version for each in promotions} | {each.version for each in ledger.servings(line)}
    refused = {each.version for each in ledger.alerts(line)}
    return frozenset(served - refused - rolled_back(promotions, ledger.requests(line)))


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


def last_asked(ledger: Ledger, line: str, version: int) -> RetrainRequest | None:
    """The latest request that the drift watch of a version led to: it did not know the condition of these images."""
    asked = [row.request for row in ledger.requests(line)]
    of_version = [each for each in asked if each.parent_version == version and each.cause == COVARIATE]
    return of_version[-1] if of_version else None
