"""How figures, times and foreign text read on a page. What others wrote (lines, notes) is shown, never rendered."""

import re
from datetime import datetime, tzinfo

_PUNCTUATION = re.compile(r"([!\"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~])")
_REPLACED = re.compile(r":(?=[\w/+-])|[-<>=~](?=[-<>=])")
_WORD_JOINER = "\N{WORD JOINER}"
LONGEST_LABEL = 120


def plain(text: str) -> str:
    """`text` for a place where Streamlit renders markdown (labels, captions, messages): it reads as typed, on one line.

    Every ASCII punctuation mark is escaped (CommonMark 2.4); word joiners (no width) stop Streamlit replacing
    `:shortcodes:` and `->`.

    >>> plain("<b>lot</b> **7**")
    '\\\\<b\\\\>lot\\\\<\\\\/b\\\\> \\\\*\\\\*7\\\\*\\\\*'
    """
    one_line = " ".join(text.split())
    return _PUNCTUATION.sub(r"\\\1", _REPLACED.sub(lambda found: found[0] + _WORD_JOINER, one_line))


def short(text: str, limit: int = LONGEST_LABEL) -> str:
    """`text` on one line, cut in the middle where it is longer than `limit` characters.

    >>> short("abcdefghij", 7)
    'abc…hij'
    """
    one_line = " ".join(text.split())
    if len(one_line) <= limit:
        return one_line
    half = (limit - 1) // 2
    return f"{one_line[: limit - 1 - half]}…{one_line[len(one_line) - half :]}"


def share(value: float | None) -> str:
    """A share as a percentage; a dash where it is not known.

    >>> share(0.0123), share(0.5), share(None)
    ('1.2 %', '50 %', '–')
    """
    if value is None:
        return "–"
    return f"{100 * value:.1f} %" if value < 0.1 else f"{100 * value:.0f} %"


def certainty(value: float | None) -> str:
    """How sure something is; never quite.

    >>> certainty(0.93), certainty(1.0), certainty(None)
    ('93 %', 'over 99 %', '–')
    """
    return "over 99 %" if value is not None and value >= 0.995 else share(value)


def figure(value: float | None) -> str:
    """A figure with three significant digits; a dash where it is not known.

    >>> figure(1234.5), figure(0.01234), figure(None)
    ('1,234', '0.0123', '–')
    """
    if value is None:
        return "–"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def ago(seconds: float) -> str:
    """How long ago, in the largest unit that fits.

    >>> ago(4), ago(200), ago(7500), ago(200_000)
    ('4 s ago', '3 min ago', '2 h ago', '2 days ago')
    """
    passed = max(0.0, seconds)
    if passed < 90:
        return f"{passed:.0f} s ago"
    if passed < 5400:
        return f"{passed / 60:.0f} min ago"
    if passed < 129_600:
        return f"{passed / 3600:.0f} h ago"
    return f"{passed / 86_400:.0f} days ago"


def clock(at: float, zone: tzinfo, *, today: float | None = None) -> str:
    """The time of day in the viewer's zone; with the date where `today` is another day.

    >>> from datetime import UTC
    >>> clock(0.0, UTC), clock(0.0, UTC, today=100_000.0)
    ('00:00:00', '1970-01-01 00:00:00')
    """
    moment = datetime.fromtimestamp(at, zone)
    same_day = today is None or datetime.fromtimestamp(today, zone).date() == moment.date()
    return f"{moment:%H:%M:%S}" if same_day else f"{moment:%Y-%m-%d %H:%M:%S}"
