"""Moments as people read them: UTC."""

from datetime import UTC, datetime


def utc(at: float) -> str:
    """A moment in words.

    >>> utc(1_700_000_000.25)
    '2023-11-14 22:13:20Z'
    """
    return f"{datetime.fromtimestamp(at, UTC):%Y-%m-%d %H:%M:%SZ}"
