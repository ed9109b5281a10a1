"""Which images a request without any learns from: the latest of the line that show its present condition.

The window ends with the latest judged image and begins at the earliest with the estimated start of the line's latest covariate drift. What
was judged while the camera was at fault or defects surged is passed over. Where too few images are left, the request waits.
"""

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from detectors.registry import Registry
from orchestration.moments import utc
from streams.causes import LEAST_IMAGES, TRUSTED, WANTED_IMAGES
from streams.incidents import CLOSED
from streams.ledger import Ledger
from streams.messages import DriftIncident, RetrainRequest
from streams.retraining import RETRAINING_KINDS

Openings = Sequence[tuple[float, DriftIncident]]
"""Incidents, each with the moment it was opened, oldest first."""

LOOK_BACK = 5
"""So many times the images wanted are looked at, at most, to find that many outside of a fault or a surge."""


@dataclass(frozen=True)
class Seen:
    """A judged image: the object key of its pixels, and when it was judged."""

    key: str
    at: float


@dataclass(frozen=True)
class Trouble:
    """From when until when images of the line are not to be learnt from, and the incident that says so."""

    since: float
    until: float
    incident: DriftIncident

    @property
    def in_words(self) -> str:
        """Why an image was left out."""
        return f"judged during the {self.incident.kind} {self.incident.incident_id}"


@dataclass(frozen=True)
class Window:
    """Object keys of the images to learn from, oldest first, and of those between them that were left out, with the reason.

    `changed_at`: the estimated start of the change behind which it begins; None where the line has not changed. `lacks`: how many
    images are still to come before a model can be made of it.
    """

    keys: tuple[str, ...]
    left_out: dict[str, str] = field(default_factory=dict)
    changed_at: float | None = None
    lacks: int = 0

    @property
    def waits(self) -> str | None:
        """What a request for this window waits for, in words; None where it need not."""
        if self.lacks == 0:
            return None
        images = "image" if self.lacks == 1 else "images"
        since = "" if self.changed_at is None else f" since the change at {utc(self.changed_at)}"
        reasons = Counter(self.left_out.values())
        without = f"; left out: {', '.join(f'{count} {why}' for why, count in reasons.items())}" if reasons else ""
        return f"waits for {self.lacks} more {images}{since}{without}"


def window_of(ledger: Ledger, request: RetrainRequest) -> Window:
    """The window of a request as it is now: the images it names, else the line's latest ones that show its present condition.

    A request for a trusted model waits for none: it learns from what people said and from a folder.
    """
    if request.image_keys:
        return Window(request.image_keys)
    wanted = request.wanted_images or WANTED_IMAGES
    openings = ledger.openings(request.line)
    changed_at = _changed_at(ledger, openings)
    seen = _latest(ledger, request.line, changed_at, wanted)
    found = cut(seen, _troubles(ledger, openings), wanted=wanted)
    lacks = 0 if request.mode == TRUSTED else max(0, LEAST_IMAGES - len(found.keys))
    return Window(found.keys, found.left_out, changed_at, lacks)


def unknown_in(ledger: Ledger, registry: Registry, request: RetrainRequest) -> str | None:
    """What a request names that there is not, a line or a version, with the cure; None where there is all of it."""
    line, parent = request.line, request.parent_version
    if parent is not None and parent not in registry.versions(line):
        return f"line {line!r} has no version {parent}; ask again, the request then follows on the version in service"
    if request.image_keys or parent is not None or ledger.verdicts(line, limit=1) or ledger.pending_images(line):
        return None
    return (
        f"no image and no model of a line {line!r} is known; send some with `driftline camera send FILES --line {line}`"
    )


def cut(newest_first: Iterable[Seen], troubles: Sequence[Trouble], *, wanted: int) -> Window:
    """The latest `wanted` images outside of every trouble, oldest first; what lies between them is left out.

    >>> [cut([Seen("b", 2.0), Seen("a", 1.0)], [], wanted=wanted).keys for wanted in (1, 2, 3)]
    [('b',), ('a', 'b'), ('a', 'b')]
    """
    keys: list[str] = []
    left_out: dict[str, str] = {}
    for each in newest_first:
        if len(keys) == wanted:
            break
        trouble = next((it for it in troubles if it.since <= each.at <= it.until), None)
        if trouble is None:
            keys.append(each.key)
        else:
            left_out[each.key] = trouble.in_words
    return Window(tuple(reversed(keys)), dict(reversed(left_out.items())))


def _latest(ledger: Ledger, line: str, changed_at: float | None, wanted: int) -> Iterator[Seen]:
    """What the line judged since it changed, newest first; where it never judged anything, what it collected."""
    after = None if changed_at is None else math.nextafter(changed_at, -math.inf)
    verdicts = ledger.verdicts(line, after=after, limit=LOOK_BACK * wanted)
    if verdicts or changed_at is not None:
        return (Seen(each.image_key, each.judged_at) for each in verdicts)
    return (Seen(each.key, each.taken_at) for each in reversed(ledger.pending_images(line)))


def _changed_at(ledger: Ledger, openings: Openings) -> float | None:
    """The estimated start of the latest covariate drift, whichever version noticed it."""
    drifts = [(at, each) for at, each in openings if each.kind in RETRAINING_KINDS]
    if not drifts:
        return None
    at, latest = drifts[-1]
    return _begun(ledger, latest, at)


def _troubles(ledger: Ledger, openings: Openings) -> list[Trouble]:
    """When a camera was at fault or defects surged: from the first image of it to the end, its interruptions included."""
    return [
        Trouble(_begun(ledger, each, at), each.at if each.state == CLOSED else math.inf, each)
        for at, each in openings
        if each.kind not in RETRAINING_KINDS
    ]


def _begun(ledger: Ledger, incident: DriftIncident, alarm_at: float) -> float:
    """When the first image after the change was judged; where the ledger does not have it, when the alarm came."""
    first = ledger.verdict(incident.line, incident.since_image_id)
    return alarm_at if first is None else first.judged_at
