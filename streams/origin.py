"""Where a message first lay in the log: what a message that was put back (redriven, or set aside) says of itself in two headers.

A bare image has its place in the log as its identity. Put back it lies elsewhere; with these headers it stays the image that
it was, so that no redelivery and no second redrive can make a second verdict of it.
"""

import re
from dataclasses import dataclass

from detectors.errors import InvalidInput
from streams.bus import Headers, Record

REDRIVE_OF = "driftline-redrive-of"
FIRST_APPENDED_AT = "driftline-first-appended-at"

_PLACE = re.compile(r"([a-z-]{1,50})/([0-9]{1,9})/([0-9]{1,18})")
_TIME = re.compile(r"[0-9]{1,12}(\.[0-9]{1,9})?")


@dataclass(frozen=True)
class Origin:
    """A message's first place in the log, and when it came there (seconds since the epoch)."""

    topic: str
    partition: int
    offset: int
    appended_at: float

    @property
    def image_id(self) -> str:
        """The identity of an image that brought none of its own.

        >>> Origin("images", 3, 17, 0.0).image_id
        'images-3-17'
        """
        return f"{self.topic}-{self.partition}-{self.offset}"

    def headers(self) -> Headers:
        """What tells `origin_of` of this place.

        >>> Origin("images", 3, 17, 1.5).headers()
        (('driftline-redrive-of', b'images/3/17'), ('driftline-first-appended-at', b'1.500000'))
        """
        place = f"{self.topic}/{self.partition}/{self.offset}"
        return (REDRIVE_OF, place.encode()), (FIRST_APPENDED_AT, f"{self.appended_at:.6f}".encode())


def placed(headers: Headers, place: Origin) -> Headers:
    """The headers with a first place in the log: that which they tell, else this one."""
    told = {REDRIVE_OF, FIRST_APPENDED_AT} & {name for name, _ in headers}
    return headers if told else (*headers, *place.headers())


def origin_of(record: Record) -> Origin:
    """Where the record first lay: where it lies, unless it was put back. Raises InvalidInput for headers that name no place.

    >>> back = Record("images", 3, 99, b"tiles", Origin("images", 3, 17, 1.5).headers(), b"", 60.0)
    >>> origin_of(back)
    Origin(topic='images', partition=3, offset=17, appended_at=1.5)
    """
    names = {name for name, _ in record.headers}
    if not names & {REDRIVE_OF, FIRST_APPENDED_AT}:
        return Origin(record.topic, record.partition, record.offset, record.appended_at)
    place = _PLACE.fullmatch(record.header(REDRIVE_OF) or "")
    time = _TIME.fullmatch(record.header(FIRST_APPENDED_AT) or "")
    if place is None or time is None:
        raise InvalidInput(
            f"headers {REDRIVE_OF} {record.header(REDRIVE_OF)!r:.80} and {FIRST_APPENDED_AT} "
            f"{record.header(FIRST_APPENDED_AT)!r:.80}; they are written by `driftline dead-letters redrive`, as "
            f"topic/partition/offset and seconds: leave them out"
        )
    return Origin(place[1], int(place[2]), int(place[3]), float(time[0]))
