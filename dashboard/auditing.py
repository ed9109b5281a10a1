"""Who changed what when, and what is configured now, as plain values. Nothing here knows Streamlit."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta, tzinfo

from dashboard.spreadsheet import spreadsheet
from streams.ledger import AuditEntry, AuditWish, Ledger
from streams.ledger_configuration import ACTION as CONFIGURATION
from streams.ledger_configuration import described, last_changes, noted
from streams.settings import LineConfig

ENTRIES_READ = 2000
MOST_EXPORTED = 100_000
CHANGES_READ = 10_000
COLUMNS = ("time", "time (UTC)", "person", "role", "action", "line", "detail")

ACTION_IN_WORDS = {
    "review": "reviewed an image",
    "answer": "answered an incident",
    "retrain": "asked for a new model",
    "cancel": "gave up a request",
    "promote": "put a version into service",
    "rollback": "rolled back to the version before",
    "approve": "approved a version",
    "reject": "rejected a version",
    "threshold": "set a threshold",
    "redrive": "put a message back",
    CONFIGURATION: "changed the configuration",
}


@dataclass(frozen=True)
class Setting:
    """A key of a line that differs from its default, both in JSON. `by`: the entry that changed it last, None where the audit has
    not noted this value.
    """

    line: str
    key: str
    value: str
    default: str
    by: AuditEntry | None


def action_in_words(action: str) -> str:
    """What somebody did; an action of a newer program by its name.

    >>> action_in_words("rollback"), action_in_words("sign_in")
    ('rolled back to the version before', 'sign in')
    """
    return ACTION_IN_WORDS.get(action, action.replace("_", " "))


def span_of(first: date | None, last: date | None, zone: tzinfo) -> tuple[float, float]:
    """From the beginning of a day to the end of another in the viewer's zone, in epoch seconds; without a day there is no limit.

    >>> span_of(date(1970, 1, 2), date(1970, 1, 2), UTC)
    (86400.0, 172800.0)
    """
    since = float("-inf") if first is None else _midnight(first, zone)
    return since, float("inf") if last is None or last == date.max else _midnight(last + timedelta(days=1), zone)


def exact(at: float, zone: tzinfo) -> str:
    """A moment with its date, to the second, and what its zone is ahead of UTC by; words for one that is in no calendar.

    >>> exact(0.0, UTC), exact(1e300, UTC)
    ('1970-01-01 00:00:00 +0000', 'no moment (1e+300 s)')
    """
    return _moment(at, zone, "%Y-%m-%d %H:%M:%S %z")


def exported(ledger: Ledger, wish: AuditWish, zone: tzinfo, *, most: int = MOST_EXPORTED) -> bytes:
    """The latest `most` entries that are wished for as a CSV file, newest first."""
    return spreadsheet(COLUMNS, (_row(entry, zone) for entry in _entries(ledger, wish, most)))


def settings_in_force(lines: Mapping[str, LineConfig], changes: Sequence[AuditEntry]) -> list[Setting]:
    """What each line's configuration says beside the defaults; `changes`: the audit of the configuration, newest first."""
    oldest_first = list(reversed(changes))
    known, last = noted((each.line, each.detail) for each in oldest_first), last_changes(oldest_first)
    defaults = defaults_in_words()
    return [
        Setting(
            line,
            key,
            _json(value),
            defaults[key],
            last.get((line, key)) if known.get(line, {}).get(key) == value else None,
        )
        for line in sorted(lines)
        for key, value in described(lines[line]).items()
    ]


def changes_of_configuration(ledger: Ledger) -> list[AuditEntry]:
    """The latest changes of the configuration, newest first."""
    return ledger.audit(AuditWish(action=CONFIGURATION), limit=CHANGES_READ)


def defaults_in_words() -> dict[str, str]:
    """Every key of a line with its default, as JSON says it.

    >>> defaults_in_words()["auto"]
    'true'
    """
    config = LineConfig()
    return {key: _json(getattr(config, key)) for key in LineConfig.__struct_fields__}


def _entries(ledger: Ledger, wish: AuditWish, most: int) -> Iterator[AuditEntry]:
    before = None
    while page := ledger.audit(wish, before=before, limit=min(ENTRIES_READ, most)):
        yield from page
        most, before = most - len(page), page[-1].number
        if most <= 0:
            return


def _row(entry: AuditEntry, zone: tzinfo) -> tuple[str, ...]:
    times = (_moment(entry.at, each, "%Y-%m-%dT%H:%M:%S.%f%z") for each in (zone, UTC))
    return (*times, entry.who, entry.role, action_in_words(entry.action), entry.line, entry.detail)


def _moment(at: float, zone: tzinfo, form: str) -> str:
    try:
        return datetime.fromtimestamp(at, zone).strftime(form)
    except (OverflowError, ValueError, OSError):
        return f"no moment ({at:g} s)"


def _midnight(day: date, zone: tzinfo) -> float:
    return datetime(day.year, day.month, day.day, tzinfo=zone).timestamp()


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)
