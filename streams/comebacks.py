"""Which older versions a line may come back to, by what the ledger tells of them."""

from streams.classifying import COVARIATE
from streams.ledger import Ledger
from streams.messages import RetrainRequest
from streams.trials import rolled_back


def proven(ledger: Ledger, line: str) -> frozenset[int]:
    """Versions of a line that were in service, that no scorer refused as champions and nobody rolled back."""
    promotions = ledger.promotions(line)
    served = {each.version for each in promotions} | {each.version for each in ledger.servings(line)}
    refused = {each.version for each in ledger.refusals(line)}
    return frozenset(served - refused - rolled_back(promotions))


def last_asked(ledger: Ledger, line: str, version: int) -> RetrainRequest | None:
    """The latest request that the drift watch of a version led to: it did not know the condition of these images."""
    asked = [row.request for row in ledger.requests(line)]
    of_version = [each for each in asked if each.parent_version == version and each.cause == COVARIATE]
    return of_version[-1] if of_version else None
