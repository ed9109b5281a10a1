"""The versions of a line with everything a person needs to choose between them, as plain values."""

from collections.abc import Mapping, Set
from dataclasses import dataclass, replace

from detectors.errors import ArtifactError, NotFound
from detectors.manifest import Manifest
from detectors.registry import OperatingPoint, Registry
from streams.ledger import GateResult, Ledger
from streams.lineage import DefectLearnt, affected_versions
from streams.trials import rolled_back


@dataclass(frozen=True)
class VersionCard:
    """One version. `marks`: champion, challenger, previous, rolled back; `manifest` is None where `fault` says why.

    `refused` is the reason the scorer gave for not loading it; `gates` are those of the request it came from; `affected`: images it
    learnt that stand as defects now.
    """

    number: int
    marks: tuple[str, ...]
    refused: str | None = None
    manifest: Manifest | None = None
    operating_point: OperatingPoint | None = None
    fault: str = ""
    gates: tuple[GateResult, ...] = ()
    affected: tuple[DefectLearnt, ...] = ()


@dataclass(frozen=True)
class VersionShelf:
    """The versions of a line, newest first, and what a rollback would bring back."""

    cards: tuple[VersionCard, ...]
    champion: int | None
    previous: int | None


def shelf(registry: Registry, ledger: Ledger, line: str) -> VersionShelf:
    """Everything about the versions of `line`; raises InvalidInput or Unavailable."""
    pointers = registry.pointers(line)
    refused = {alert.version: alert.reason for alert in ledger.refusals(line)}
    affected = affected_versions(ledger, registry, line)
    named = {"champion": pointers.champion, "challenger": pointers.challenger, "previous": pointers.previous}
    taken_back = rolled_back(ledger.promotions(line))
    bare = [
        VersionCard(
            number,
            _marks(number, named, taken_back),
            refused=refused.get(number),
            affected=affected.get(number, ()),
        )
        for number in reversed(registry.versions(line))
    ]
    return VersionShelf(
        tuple(_filled(card, registry, ledger, line) for card in bare), pointers.champion, pointers.previous
    )


def _marks(number: int, named: Mapping[str, int | None], taken_back: Set[int]) -> tuple[str, ...]:
    marks = tuple(mark for mark, version in named.items() if version == number)
    return (*marks, "rolled back") if number in taken_back else marks


def _filled(card: VersionCard, registry: Registry, ledger: Ledger, line: str) -> VersionCard:
    """The card with what the manifest, the operating point and the gates of its request say."""
    try:
        manifest = registry.manifest(line, card.number)
        point = registry.operating_point(line, card.number)
    except (NotFound, ArtifactError) as error:
        return replace(card, fault=str(error))
    gates = tuple(ledger.gates(manifest.request_id)) if manifest.request_id is not None else ()
    return replace(card, manifest=manifest, operating_point=point, gates=gates)
