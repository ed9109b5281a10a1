"""What a monitor remembers between alarms: a surge that it has not told yet, and the alarms of one change as a streak."""

from dataclasses import dataclass
from typing import ClassVar

from streams.incidents import QUIET_IMAGES

ASKED_AGAIN = (32, 64, 128, 256)
"""After so many images of a drift the monitor looks whether the parts got worse as well; then every so many as the last."""


@dataclass
class Waiting:
    """A surge that is not told yet: what was watched by the test that fired, and images since its change."""

    IMAGES: ClassVar[int] = 16

    watched: int
    images: int
    left: int = IMAGES

    def is_over(self) -> bool:
        """Whether one more image was the last to wait for."""
        self.images, self.left = self.images + 1, self.left - 1
        return self.left < 0


@dataclass
class Streak:
    """Alarms of which none comes `QUIET_IMAGES` after the one before: images since the change that the first one told, since the first
    change of the line itself, and since the latest alarm.
    """

    since_change: int
    since_drift: int | None = None
    quiet: int = 0
    to_ask: tuple[int, ...] = ()

    def age(self, images: int) -> None:
        """So many more images."""
        self.since_change, self.quiet = self.since_change + images, self.quiet + images
        if self.since_drift is not None:
            self.since_drift += images

    def drifted(self, images: int) -> None:
        """The line itself changed so many images ago."""
        if self.since_drift is None:
            self.since_drift, self.to_ask = images, tuple(each for each in ASKED_AGAIN if each > images)

    @property
    def undecided(self) -> int:
        """Images until the monitor looks again at what it has seen."""
        until_quiet = QUIET_IMAGES - self.quiet - 1
        if self.since_drift is None or not self.to_ask:
            return until_quiet
        return min(until_quiet, max(0, self.to_ask[0] - self.since_drift - 1))

    def asks(self) -> bool:
        """Whether it is time to look for a surge beside the drift, once for each number of images."""
        if self.since_drift is None or not self.to_ask or self.since_drift + 1 < self.to_ask[0]:
            return False
        self.to_ask = self.to_ask[1:] or (self.since_drift + 1 + ASKED_AGAIN[-1],)
        return True
