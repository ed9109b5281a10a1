"""Moments as people type and read them: UTC."""

from datetime import UTC, datetime

from detectors.errors import InvalidInput
from streams.moments import utc

__all__ = ["moment_of", "utc"]


def moment_of(text: str, *, option: str) -> float:
    """Seconds since the epoch of a date, or a date and time (UTC unless it says another zone); raises InvalidInput for others.

    >>> moment_of("2023-11-14T22:13:20", option="--since"), moment_of("2023-11-14 23:13:20+01:00", option="--since")
    (1700000000.0, 1700000000.0)
    """
    try:
        moment = datetime.fromisoformat(text)
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError) as error:
        raise InvalidInput(
            f"{option} {text!r}: {error}; write a date such as 2026-03-31, or 2026-03-31T14:05 (UTC), or with a zone +02:00"
        ) from error
