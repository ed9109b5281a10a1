"""Promotions that the registry knows and the ledger does not: whoever moved the pointer died before saying so.

The pointer is the truth. Between it and its record lie milliseconds, so only what is still missing at the next look is told.
"""

from collections.abc import Mapping

from detectors.registry import Pointers, Registry
from streams.actions import DRIFTLINE
from streams.ledger import AuditEntry, Ledger
from streams.messages import ModelPromoted

FOUND = "found in the registry: whoever changed the champion could not say so"


def tell_untold(
    ledger: Ledger, registry: Registry, missing: Mapping[str, int], *, at: float
) -> tuple[dict[str, int], list[str]]:
    """Tell the promotions that were missing at the last look (`missing`: sequence by line) and still are.

    What is missing now for the first time, for the next look; and what was told, in words. A line of which nothing was ever told is
    left alone: its first version was put there by hand.
    """
    still: dict[str, int] = {}
    told: list[str] = []
    for line in ledger.line_names():
        pointers, promotions = registry.pointers(line), ledger.promotions(line)
        if not promotions or pointers.sequence in {each.sequence for each in promotions}:
            continue
        if missing.get(line) != pointers.sequence:
            still[line] = pointers.sequence
            continue
        found = _promotion(line, pointers, max(promotions, key=lambda each: each.sequence), at=at)
        detail = f"version {found.version} for {found.previous}: {found.why}"
        ledger.act(AuditEntry(at, DRIFTLINE.name, DRIFTLINE.role, "promote", line, detail), (found,))
        told.append(f"{line}@{found.version} {found.why}")
    return still, told


def _promotion(line: str, pointers: Pointers, latest: ModelPromoted, *, at: float) -> ModelPromoted:
    """The promotion as its pointers tell it; back to the version before the latest one is a rollback."""
    back = (pointers.champion, pointers.previous) == (latest.previous, latest.version)
    return ModelPromoted(
        line=line, version=pointers.champion or 0, previous=pointers.previous, sequence=pointers.sequence, by=DRIFTLINE.name,
        why=FOUND, at=at, rolled_back=back,
    )  # fmt: skip
