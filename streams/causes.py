"""Why a line asks for a new model when nothing has drifted: what people said of its parts, the hour, or a person's wish.

A request of one of these causes names no images: they are chosen when there are enough that show the line's present condition
(`wanted_images`). It is identified by its cause, so that whoever finds the same cause files the same request, once.
"""

import difflib
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

import msgspec

from detectors.errors import InvalidInput, NotFound
from streams.cron import last_due
from streams.ledger import UNENDED, AuditEntry, Ledger
from streams.messages import RetrainRequest
from streams.retraining import LARGEST_WINDOW, digest_of_cause
from streams.reviews import DEFECT, NORMAL, ReviewedPart
from streams.settings import LineConfig

REVIEWS, SCHEDULE, MANUAL = "reviews", "schedule", "manual"
BLIND, TRUSTED, REFRESH = "blind", "trusted", "refresh"
MODES = (BLIND, TRUSTED, REFRESH)
WANTED_IMAGES = 200
LEAST_IMAGES = 20
"""What a model needs, and so the smallest window and the fewest reviewed normal parts."""
MISSED_AFTER_S = 86_400.0
"""A schedule that came due longer ago, while nothing ran, is not made up for."""
SYSTEM, SYSTEM_ROLE = "driftline", "system"
NAMES_SHOWN = 5


@dataclass(frozen=True)
class Champion:
    """The version in service of a line, and when it was made."""

    version: int
    made_at: float


class Standing(msgspec.Struct, frozen=True):
    """The schedule of a line, and since when it stands: what came due before is none of its business."""

    schedule: str
    since: float


@dataclass(frozen=True)
class Wish:
    """What a person wants of a new model: what it learns from, the size of its window, and why."""

    mode: str = BLIND
    images: int = WANTED_IMAGES
    why: str = ""

    @property
    def in_words(self) -> str:
        """For the audit trail.

        >>> Wish("refresh", why="new lamps").in_words
        'refresh, the latest 200 images: new lamps'
        """
        return f"{self.mode}, the latest {self.images} images" + (f": {self.why}" if self.why else "")


def by_reviews(
    line: str, config: LineConfig, champion: Champion, parts: Iterable[ReviewedPart], *, answered_at: float, at: float
) -> RetrainRequest | None:
    """A refresh, where enough parts were marked normal or defect since the model was made and since reviews asked last (`answered_at`)."""
    since = heard_from(champion, answered_at)
    marked = sum(part.at > since and part.says in (NORMAL, DEFECT) for part in parts)
    if config.review_images == 0 or marked < config.review_images:
        return None
    return _refresh(line, REVIEWS, champion, since, at=at)


def heard_from(champion: Champion, answered_at: float) -> float:
    """The moment from which on reviews count: those before were there for the model, or have asked already."""
    return max(champion.made_at, answered_at)


def by_schedule(line: str, champion: Champion, standing: Standing, *, at: float) -> RetrainRequest | None:
    """A refresh, where the schedule came due within the last day and the line has got no model since."""
    due = last_due(standing.schedule, at=at)
    if due is None or due < standing.since or due <= champion.made_at or at - due >= MISSED_AFTER_S:
        return None
    return _refresh(line, SCHEDULE, champion, due, at=at)


def standing_since(
    before: Mapping[str, Standing], lines: Mapping[str, LineConfig], *, at: float
) -> dict[str, Standing]:
    """The schedules that are configured now; one that was not before stands from now on.

    >>> lines = {"tiles": LineConfig(schedule="0 3 * * *")}
    >>> standing_since({"tiles": Standing("0 3 * * *", 5.0)}, lines, at=9.0)["tiles"].since
    5.0
    >>> standing_since({"tiles": Standing("0 4 * * *", 5.0)}, lines, at=9.0)["tiles"].since
    9.0
    """
    wanted = {line: config.schedule for line, config in lines.items() if config.schedule is not None}
    known = {line: each for line, each in before.items() if wanted.get(line) == each.schedule}
    return {line: known.get(line, Standing(schedule, at)) for line, schedule in wanted.items()}


def file_request(ledger: Ledger, request: RetrainRequest, why: str) -> bool:
    """Put a request of the system's into the ledger, audited, and onto the bus; False where it was filed before or the line has an
    open one.
    """
    if ledger.request(request.request_id) is not None or ledger.requests(request.line, states=UNENDED):
        return False
    entry = AuditEntry(request.requested_at, SYSTEM, SYSTEM_ROLE, "retrain", request.line, why)
    try:
        ledger.act(entry, (request,), unless_requested=True)
    except InvalidInput:  # somebody else's came between the look and the act
        return False
    return True


def check_wish(ledger: Ledger, line: str, config: LineConfig, wish: Wish) -> None:
    """Raise NotFound for a line that nothing is known of or that has no image, InvalidInput for a wish that cannot be met."""
    if wish.mode not in MODES:
        raise InvalidInput(f"mode {wish.mode!r}; there are {', '.join(MODES)}")
    if wish.images < LEAST_IMAGES:
        raise InvalidInput(f"a window of {wish.images} images; a model needs {LEAST_IMAGES}, ask for more")
    if wish.images > LARGEST_WINDOW:
        raise InvalidInput(f"a window of {wish.images} images; {LARGEST_WINDOW} are the most, ask for fewer")
    known = ledger.line_names()
    if line not in known:
        raise NotFound(f"no line {line!r}{_names_like(line, known)}")
    if not ledger.verdicts(line, limit=1) and not ledger.pending_images(line):
        raise NotFound(f"line {line!r} has no images yet; send some with `driftline camera send FILES --line {line}`")
    if wish.mode == TRUSTED and config.trusted is None:
        _check_reviewed(ledger, line)


def _refresh(line: str, cause: str, champion: Champion, moment: float, *, at: float) -> RetrainRequest:
    """`moment`: what the cause is known by, when its reviews began to count or its schedule came due."""
    return RetrainRequest(
        line=line,
        request_id=digest_of_cause(cause, line, moment),
        cause=cause,
        mode=REFRESH,
        image_keys=(),
        parent_version=champion.version,
        alarm_at=None,
        requested_at=at,
        wanted_images=WANTED_IMAGES,
    )


def _check_reviewed(ledger: Ledger, line: str) -> None:
    normal = sum(part.says == NORMAL for part in ledger.reviewed(line))
    if normal < LEAST_IMAGES:
        raise InvalidInput(
            f"line {line!r} has {normal} parts reviewed as normal and no folder of trusted images, a trusted model needs "
            f"{LEAST_IMAGES}; review more, or name a folder (trusted = ... in driftline.toml)"
        )


def _names_like(line: str, known: Collection[str]) -> str:
    """What to type instead.

    >>> _names_like("tils", ["tiles", "doors"])
    '; did you mean tiles?'
    """
    if not known:
        return "; no line has sent an image yet"
    near = difflib.get_close_matches(line, known, n=NAMES_SHOWN)
    if near:
        return f"; did you mean {', '.join(near)}?"
    more = f" and {len(known) - NAMES_SHOWN} more" if len(known) > NAMES_SHOWN else ""
    return f"; there are {', '.join(sorted(known)[:NAMES_SHOWN])}{more}"
