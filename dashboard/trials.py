"""A version on trial, or before people: what it said beside the champion, and where the two disagree. Knows no Streamlit."""

from dataclasses import dataclass

from dashboard.words import short
from detectors.registry import Registry
from streams.actions import APPROVED
from streams.ledger import Ledger
from streams.ledger_rows import AWAITING, SHADOWING
from streams.messages import Approval, ShadowVerdict
from streams.settings import LineConfig

DISAGREEMENTS_SHOWN = 8


@dataclass(frozen=True)
class TrialCard:
    """Where the trial of `version` stands. `words`: in a sentence; `scored`, `flagged`, `champion_flagged`: images that both scored, and
    what each flagged of them; `apart`: how many they disagree on; `disagreements`: the latest of these; `approvals`: who said yes so far.
    """

    version: int
    champion: int | None
    is_waiting: bool
    words: str
    scored: int
    flagged: int
    champion_flagged: int
    apart: int
    disagreements: tuple[ShadowVerdict, ...]
    approvals: tuple[Approval, ...]


def trial_card(ledger: Ledger, registry: Registry, line: str, config: LineConfig) -> TrialCard | None:
    """The version of a line that is tried out or waits for people, if there is one; what it said beside former champions is left out."""
    rows = ledger.requests(line, states=(SHADOWING, AWAITING))
    if not rows or rows[-1].version is None:
        return None
    row, version, champion = rows[-1], rows[-1].version, registry.pointers(line).champion
    shadows = [each for each in ledger.shadows(line, version) if each.champion == champion]
    apart = [each for each in shadows if each.flagged != each.champion_flagged]
    yes = [each for each in ledger.approvals(line) if each.request_id == row.request.request_id]
    is_waiting = row.state == AWAITING
    return TrialCard(
        version=version,
        champion=champion,
        is_waiting=is_waiting,
        words=short(row.detail or "", 400)
        if is_waiting
        else f"{len(shadows)} of {config.shadow_images} images are scored",
        scored=len(shadows),
        flagged=sum(each.flagged for each in shadows),
        champion_flagged=sum(each.champion_flagged for each in shadows),
        apart=len(apart),
        disagreements=tuple(reversed(apart[-DISAGREEMENTS_SHOWN:])),
        approvals=tuple(each for each in yes if each.says == APPROVED),
    )


def disagreement_in_words(shadow: ShadowVerdict) -> str:
    """Who flags an image and who does not, and by what scores."""
    flags, spares = (shadow.version, shadow.champion) if shadow.flagged else (shadow.champion, shadow.version)
    return (
        f"version {flags} flags it, version {spares} does not; challenger {shadow.score:.3g} (limit {shadow.threshold:.3g}), "
        f"champion {shadow.champion_score:.3g}"
    )
