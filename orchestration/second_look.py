"""Whether anything but its drift is the matter with a line, asked when that can be known.

Whether parts got worse while the light changed shows only at the watch's second look, so many images after the change; a line may ask for
a new model before. So the question waits for that look while images keep coming, and is answered by what there is where they do not.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass

from streams.classifying import SURGE
from streams.incidents import EXPECTED, IGNORED
from streams.ledger import Ledger
from streams.messages import RetrainRequest
from streams.streaks import ASKED_AGAIN

LOOK = ASKED_AGAIN[2]
"""Images of a drift at which the watch looks for a surge for the first time after a line has usually asked."""
LONGEST_WAIT_S = 120.0
SETTLE_S = 2.0
"""What the watch may need to say what it saw, and the ledger to hear of it."""
QUIET_INTERVALS, SHORTEST_QUIET_S = 5, 5.0
"""After so long without an image a line has stopped."""
_STEP_S = 0.5


@dataclass(frozen=True)
class Clock:
    """Time as a wait needs it: what it is, in seconds, and letting some pass."""

    now: Callable[[], float] = time.monotonic
    pause: Callable[[float], None] = time.sleep


@dataclass(frozen=True)
class Seen:
    """What is known at a moment: kinds of incidents open beside the drift, images judged since its change, and seconds between them."""

    found: tuple[str, ...] = ()
    judged: int = 0
    interval_s: float = 0.0


@dataclass(frozen=True)
class Looked:
    """What is open beside a line's drift in the end, how many images that stands on, and in words what was waited for."""

    found: tuple[str, ...] = ()
    judged: int = 0
    words: str = ""


def look_again(ledger: Ledger, request: RetrainRequest, clock: Clock, *, since: float) -> Looked:
    """What is open beside the drift that a request follows from, once the watch has looked for it.

    `since`: when the first image after the change was judged. Nothing is waited for where a person asked, or expects the change.
    """
    if request.incident_id is None:
        return Looked(words="no drift of the line asked for the candidate")
    if not _may_be_spoilt(ledger, request):
        return Looked(words="a person expects the change")
    return _watched(lambda: _seen(ledger, request, since), clock)


def open_beside(ledger: Ledger, request: RetrainRequest) -> tuple[str, ...]:
    """Open surges of defects, where a line asked by itself and nobody called its drift expected: only a surge shows so late that its bad
    parts may be among the images of the request; while a camera shows nothing, no line asks.
    """
    if not _may_be_spoilt(ledger, request):
        return ()
    open_kinds = {each.kind for each in ledger.incidents(request.line, open_only=True)}
    return (SURGE,) if SURGE in open_kinds else ()


def _may_be_spoilt(ledger: Ledger, request: RetrainRequest) -> bool:
    if request.incident_id is None:
        return False
    said = [each.says for each in ledger.answers(request.incident_id) if each.says in (EXPECTED, IGNORED)]
    return said[-1:] != [EXPECTED]


def _seen(ledger: Ledger, request: RetrainRequest, since: float) -> Seen:
    spans = [each for each in ledger.judged_spans(request.line, since=since) if each.version == request.parent_version]
    found = open_beside(ledger, request)
    if not spans:
        return Seen(found)
    (span,) = spans
    return Seen(found, span.images, (span.last_at - span.first_at) / max(1, span.images - 1))


def _watched(seen: Callable[[], Seen], clock: Clock) -> Looked:
    """Look until a surge shows, the watch has looked at `LOOK` images, no image comes any more, or it has taken too long."""
    began = moved_at = clock.now()
    known = first = seen()
    why = _enough(known, 0.0, 0.0)
    while why is None:
        clock.pause(_STEP_S)
        before, known, now = known, seen(), clock.now()
        if known.judged > before.judged:
            moved_at = now
        why = _enough(known, now - began, now - moved_at)
    waited = clock.now() - began
    of = f"after {waited:.0f} s of waiting ({first.judged} images then)" if waited > 0 else "at once"
    return Looked(known.found, known.judged, f"{known.judged} images judged since the change, asked {of}: {why}")


def _enough(seen: Seen, waited_s: float, quiet_s: float) -> str | None:
    """Why there is nothing to wait for any more, in words; None: go on."""
    if seen.found:
        return "a surge is open"
    if (seen.judged - LOOK) * seen.interval_s >= SETTLE_S or (seen.judged >= LOOK and quiet_s >= SETTLE_S):
        return f"the watch had looked for a surge at {LOOK} images"
    if waited_s >= LONGEST_WAIT_S:
        return f"the watch looks for a surge at {LOOK} images, which took more than {LONGEST_WAIT_S:.0f} s"
    if seen.judged < LOOK and quiet_s >= max(SHORTEST_QUIET_S, QUIET_INTERVALS * seen.interval_s):
        return f"the line stopped before the {LOOK} images at which the watch looks for a surge"
    return None
