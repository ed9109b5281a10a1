"""Whether a worker is well: health means progress, so a process that runs and gets nowhere is not.

`Vitals` hears a worker's turns and asks how far behind its group is; `health_of` decides, from signs alone. All durations are by a clock
that nobody sets back.
"""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

import msgspec

from detectors.errors import DriftlineError
from streams.worker import Committed, Handed, Rested, Turn, Waiting

PATIENCE_S = 30.0
FRESH_S = 1.0
ANSWER_WITHIN_S = 2.0
STALE_S = 10.0


@dataclass(frozen=True)
class Signs:
    """What is seen of a worker at one moment; None is "unknown", or "never".

    `up_s`: since it began; `quiet_s`: since its last commit; `lag`: messages its group has not committed; `lag_fault`: why
    that could not be asked; `behind_s`: since the lag is above 0, for a worker that is handed nothing since it was last
    seen to fall.
    """

    up_s: float
    quiet_s: float | None = None
    lag: int | None = None
    lag_fault: str | None = None
    behind_s: float | None = None
    waiting_for: str | None = None


class Health(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Whether a worker is well and why; `records` and `dead_letters` count what it has committed since it began."""

    well: bool
    reason: str
    up_s: float
    records: int
    dead_letters: int
    since_commit_s: float | None = None
    lag: int | None = None
    waiting_for: str | None = None


def health_of(signs: Signs, *, patience_s: float = PATIENCE_S) -> tuple[bool, str]:
    """Whether a worker with these signs is well, and why.

    Not well: it waits for something that is away, the bus refuses to say how far behind it is, or there is something to do and it has
    committed nothing for `patience_s`.

    >>> health_of(Signs(up_s=600.0, quiet_s=599.0, lag=0))
    (True, 'nothing is left to do')
    >>> health_of(Signs(up_s=600.0, quiet_s=45.0, lag=7, behind_s=50.0))
    (False, '7 messages are left and nothing was committed for 45 s')
    """
    if signs.waiting_for is not None:
        return False, f"waiting: {signs.waiting_for}"
    if signs.lag_fault is not None:
        return False, f"how far behind it is cannot be asked: {signs.lag_fault}"
    if signs.quiet_s is not None and signs.quiet_s < patience_s:
        return True, f"committed {signs.quiet_s:.1f} s ago"
    if signs.up_s < patience_s:
        return True, f"began {signs.up_s:.1f} s ago"
    if signs.lag is None:
        return False, f"how far behind it is cannot be asked: no answer within {ANSWER_WITHIN_S:.0f} s"
    if signs.lag == 0:
        return True, "nothing is left to do"
    stuck_s = min(each for each in (signs.up_s, signs.quiet_s, signs.behind_s) if each is not None)
    if stuck_s < patience_s:
        return True, f"{signs.lag} messages came {stuck_s:.1f} s ago"
    return False, f"{signs.lag} messages are left and nothing was committed for {stuck_s:.0f} s"


class Vitals:
    """An observer of one worker that tells its health; `lag` asks the bus how far behind the worker's group is.

    The lag is asked when somebody looks, at most once a second, in a thread of its own: a bus that hangs holds up neither the worker nor,
    for more than two seconds, the one who looks.

    >>> vitals = Vitals(lambda: 0)
    >>> vitals.hear(Waiting("the store does not answer"))
    >>> vitals.health().reason
    'waiting: the store does not answer'
    """

    def __init__(
        self, lag: Callable[[], int], *, patience_s: float = PATIENCE_S, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._lag = LagWatch(lag, clock=clock)
        self._patience_s = patience_s
        self._clock = clock
        self._began_at = clock()
        self._committed_at: float | None = None
        self._records = self._dead_letters = 0
        self._waiting_for: str | None = None
        self._empty_handed = True

    def hear(self, turn: Turn) -> None:
        """Take note of a worker's turn; called in the worker's thread."""
        match turn:
            case Handed():
                self._empty_handed = False
            case Rested():
                self._empty_handed, self._waiting_for = True, None
            case Waiting(reason):
                self._waiting_for = reason
            case Committed(records, effects):
                self._committed_at, self._waiting_for = self._clock(), None
                self._records += records
                self._dead_letters += len(effects.dead)

    def health(self) -> Health:
        """How the worker is now; may be asked from any thread."""
        signs = self._signs()
        well, reason = health_of(signs, patience_s=self._patience_s)
        return Health(
            well=well,
            reason=reason,
            up_s=signs.up_s,
            records=self._records,
            dead_letters=self._dead_letters,
            since_commit_s=signs.quiet_s,
            lag=signs.lag,
            waiting_for=signs.waiting_for,
        )

    def _signs(self) -> Signs:
        seen = self._lag.look()
        now = self._clock()
        behind_since = seen.falling_at if self._empty_handed else seen.behind_since
        return Signs(
            up_s=now - self._began_at,
            quiet_s=None if self._committed_at is None else now - self._committed_at,
            lag=seen.lag,
            lag_fault=seen.fault,
            behind_s=None if behind_since is None else now - behind_since,
            waiting_for=self._waiting_for,
        )


@dataclass(frozen=True)
class Seen:
    """What is known of a lag: its number or why there is none, and since when it is above 0 and was last seen to fall."""

    at: float
    lag: int | None = None
    fault: str | None = None
    behind_since: float | None = None
    falling_at: float | None = None


def seen_next(before: Seen, at: float, lag: int) -> Seen:
    """What is known after one more answer.

    >>> first = seen_next(Seen(0.0), 10.0, 7)
    >>> seen_next(first, 11.0, 5)
    Seen(at=11.0, lag=5, fault=None, behind_since=10.0, falling_at=11.0)
    """
    if lag == 0:
        return Seen(at, 0)
    if before.behind_since is None:
        return Seen(at, lag, None, at, at)
    fell = before.lag is not None and lag < before.lag
    return Seen(at, lag, None, before.behind_since, at if fell else before.falling_at)


class LagWatch:
    """Asks for a lag at most once a second and never twice at a time; whoever looks waits two seconds at most."""

    def __init__(self, ask: Callable[[], int], *, clock: Callable[[], float] = time.monotonic) -> None:
        self._ask = ask
        self._clock = clock
        self._lock = threading.Lock()
        self._seen = Seen(float("-inf"))
        self._answered: threading.Event | None = None
        self._asked_at = float("-inf")

    def look(self) -> Seen:
        """What is known now; an answer older than ten seconds is none."""
        answered = self._asking()
        if answered is not None:
            answered.wait(max(0.0, ANSWER_WITHIN_S - (self._clock() - self._asked_at)))
        seen = self._seen
        if self._clock() - seen.at > STALE_S:
            return Seen(seen.at, None, None, seen.behind_since, seen.falling_at)
        return seen

    def _asking(self) -> threading.Event | None:
        """The question that is under way, asked now if the last answer is old; None if it is fresh."""
        with self._lock:
            if self._answered is not None and not self._answered.is_set():
                return self._answered
            if self._clock() - self._seen.at < FRESH_S:
                return None
            self._answered, self._asked_at = threading.Event(), self._clock()
            threading.Thread(target=self._learn, args=(self._answered,), daemon=True, name="lag").start()
            return self._answered

    def _learn(self, answered: threading.Event) -> None:
        try:
            lag = self._ask()
            self._seen = seen_next(self._seen, self._clock(), lag)
        except DriftlineError as error:
            before = self._seen
            self._seen = Seen(self._clock(), None, str(error), before.behind_since, before.falling_at)
        finally:
            answered.set()
