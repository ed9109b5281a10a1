"""Objects under keys: what every object store promises, whatever it stands on, and how images are named in it."""

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Protocol

from detectors.encoding import PART_LIMIT_BYTES, encode_name
from detectors.errors import InvalidInput

_DIGEST = re.compile(r"[0-9a-f]{64}")
_SUFFIX = re.compile(r"[a-z0-9]{1,8}")


@dataclass(frozen=True)
class Revision:
    """The bytes of an object as read, and the `etag` that names exactly these bytes in a `swap`."""

    data: bytes
    etag: str


class ObjectStore(Protocol):
    """Objects under keys such as `images/tiles/2026/11/23/ab12.png`.

    Every call raises InvalidInput for a key that is none, and Unavailable (wait and try again) where the store does not
    answer. What returned is durable. A crash leaves an object whole or absent.
    """

    def put(self, key: str, data: bytes) -> None:
        """Keep `data` under `key` for ever. Equal bytes there already: nothing to do; different bytes: Conflict."""

    def get(self, key: str) -> bytes:
        """The bytes under `key`; raises NotFound."""

    def exists(self, key: str) -> bool:
        """Whether there is an object under `key`."""

    def keys(self, prefix: str) -> list[str]:
        """The keys that begin with `prefix`, sorted; `""` for all."""

    def read(self, key: str) -> Revision | None:
        """The bytes under `key` with their etag, None where there are none: the first half of a `swap`."""

    def swap(self, key: str, data: bytes, *, expected: str | None) -> str:
        """Replace the object whose etag is `expected` (None: there must be none); the new etag. Else Conflict."""


def image_key(line: str, digest: str, *, at: float, suffix: str) -> str:
    """The content-addressed key of an image taken `at` (seconds since the epoch; the days are UTC's).

    `digest` is its SHA-256 in hex. `suffix` is a hint for people: one that is no plain extension becomes `bin`. Raises
    InvalidInput for a line, digest or time that is none.

    >>> image_key("press-4/door", "0" * 64, at=0.0, suffix=".PNG")  # doctest: +ELLIPSIS
    'images/press-4%2Fdoor/1970/01/01/00000...000.png'
    """
    if not _DIGEST.fullmatch(digest):
        raise InvalidInput(f"{digest[:80]!r} is no SHA-256; give its 64 lower-case hex digits")
    try:
        day = datetime.fromtimestamp(at, UTC)
    except (ValueError, OverflowError, OSError) as error:
        raise InvalidInput(f"an image cannot be taken at {at!r} s ({error}); give seconds since the epoch") from error
    extension = suffix.lower().lstrip(".")
    if not _SUFFIX.fullmatch(extension):
        extension = "bin"
    return f"images/{encode_name(line)}/{day.year:04}/{day.month:02}/{day.day:02}/{digest}.{extension}"


def check_key(key: str) -> None:
    """Raise InvalidInput for a key that is none: parts are text without NUL or a leading dot, joined by slashes."""
    try:
        parts = key.encode().split(b"/")
    except UnicodeEncodeError as error:
        raise InvalidInput(f"key {key[:200]!r} is not text: {error.reason}; write it in Unicode") from error
    for part in parts:
        if not part or part.startswith(b".") or b"\0" in part or len(part) > PART_LIMIT_BYTES:
            raise InvalidInput(
                f"key {key[:200]!r} has the part {part[:80]!r}; "
                f"parts are 1 to {PART_LIMIT_BYTES} bytes, without NUL or a leading dot"
            )
