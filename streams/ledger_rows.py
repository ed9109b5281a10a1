"""What the ledger answers with, beside the wire types themselves."""

import math
from dataclasses import dataclass, field
from typing import Final

from streams.messages import (
    Collected,
    DeadLetter,
    DriftIncident,
    ModelAlert,
    ModelPromoted,
    RetrainRequest,
    Review,
    Verdict,
)

SHADOWING: Final = "shadowing"
AWAITING: Final = "awaiting_approval"
IN_WORK = ("open", "running")
"""States of a request that Dagster has to carry out."""
UNENDED = (*IN_WORK, SHADOWING)
"""States in which a line may have no other request."""


@dataclass(frozen=True)
class LineSummary:
    """A line at a glance. `flag_rate`: over the latest verdicts, None without any; `collected`: images waiting for a first model;
    `overdue`: of those judged, how many after the deadline the line had then; `request_waits`: what its open request waits for.
    """

    line: str
    judged: int
    overdue: int
    collected: int
    flag_rate: float | None
    images_per_min: float
    last_at: float | None
    version: int | None
    open_incident: str | None
    open_request: str | None
    alert: ModelAlert | None
    request_waits: str | None = None


@dataclass(frozen=True)
class Hour:
    """What a line judged in an hour that began at `start_at` (seconds since the epoch; hours are those of UTC); `overdue`: after the
    line's deadline.

    >>> Hour(0.0, judged=200, flagged=3).flag_rate
    0.015
    """

    start_at: float
    judged: int
    flagged: int
    overdue: int = 0

    @property
    def flag_rate(self) -> float:
        """The share that was flagged."""
        return self.flagged / self.judged


@dataclass(frozen=True)
class JudgedSpan:
    """What a version of a line has judged: how many images, and when the first and the last of them."""

    version: int
    images: int
    first_at: float
    last_at: float


@dataclass(frozen=True)
class ImageStory:
    """All that is known of one image. `promotions`: of the version that judged it; `incidents`: those that name it."""

    line: str
    image_id: str
    collected: Collected | None
    verdict: Verdict | None
    promotions: tuple[ModelPromoted, ...]
    reviews: tuple[Review, ...]
    incidents: tuple[DriftIncident, ...]
    dead_letters: tuple[DeadLetter, ...]


@dataclass(frozen=True)
class RequestRow:
    """A request and how far it is. `state`: open, running, shadowing, or its outcome; times are seconds since the epoch.

    `started_at`: since when it is running or shadowing; `ended_at` of one that awaits approval: since when.
    """

    request: RetrainRequest
    state: str
    run_id: str | None
    attempt: int
    version: int | None
    detail: str | None
    started_at: float | None
    ended_at: float | None


@dataclass(frozen=True)
class LearntFrom:
    """What became of an image in the training set of a request. `role`: fit, held_out or left_out; `version`: what came of the request."""

    image_key: str
    role: str
    why: str = ""
    request_id: str = ""
    version: int | None = None


@dataclass(frozen=True)
class Flags:
    """Of the images a version judged in a time: how many were flagged then, and how many have a score above a threshold."""

    judged: int
    flagged: int
    above: int


@dataclass(frozen=True)
class ScoredPart:
    """A reviewed part: the score a version gave it, and what stands of the reviews."""

    image_id: str
    score: float
    says: str


@dataclass(frozen=True)
class GateResult:
    """What a gate found: a number against its limit (NaN where it could not be evaluated), and both in words."""

    name: str
    passed: bool
    value: float
    limit: float
    words: str


@dataclass(frozen=True)
class Counts:
    """A line in numbers. `doubled`: images with two verdicts that disagree; `redelivered`: equal verdicts that came again; `overdue`:
    verdicts after the line's deadline, those of images that were collected before it had a model among them.
    """

    verdicts: int
    collected_pending: int
    dead_letters: int
    doubled: int
    redelivered: int
    overdue: int


@dataclass(frozen=True)
class AuditEntry:
    """Who did what when. `number`: its place in the audit, None for one that is not written down yet."""

    at: float
    who: str
    role: str
    action: str
    line: str
    detail: str
    number: int | None = field(default=None, compare=False)


@dataclass(frozen=True)
class AuditWish:
    """Which entries of the audit are asked for: of a line, a person, an action, from `since` on and before `until` (epoch seconds)."""

    line: str | None = None
    who: str | None = None
    action: str | None = None
    since: float = -math.inf
    until: float = math.inf


@dataclass(frozen=True)
class AuditNames:
    """Who acted, how, and on which lines, each in order."""

    people: tuple[str, ...]
    actions: tuple[str, ...]
    lines: tuple[str, ...]
