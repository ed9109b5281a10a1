"""The configuration as the ledger has it noted: entries of the audit from which it can be read back."""

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from typing import TypeAlias

import msgspec
from sqlalchemy import Connection, insert, select

from streams.ledger_engine import lock_audit
from streams.ledger_rows import AuditEntry
from streams.ledger_tables import AUDIT
from streams.settings import LineConfig

ACTION = "configuration"
ROLE = "file"
Described: TypeAlias = Mapping[str, Mapping[str, object]]
"""By line, what its description says beside the defaults."""

_FIRST, _REMOVED = "described: ", "no longer described: "
_CHANGED = re.compile(r"([a-z_]+): ")


def described(config: LineConfig) -> dict[str, object]:
    """What a line's configuration says beside the defaults, in the values of JSON.

    >>> described(LineConfig(crop=(0.0, 0.5, 1.0, 1.0), auto=True))
    {'crop': [0.0, 0.5, 1.0, 1.0]}
    """
    defaults = _values(LineConfig())
    return {key: value for key, value in _values(config).items() if value != defaults[key]}


def note_configuration(connection: Connection, lines: Described, *, who: str, at: float) -> int:
    """Write an entry for each key of a line that is not as it was noted last, and give how many; of those who do so at once one writes."""
    lock_audit(connection)
    query = select(AUDIT.c.line, AUDIT.c.detail).where(AUDIT.c.action == ACTION).order_by(AUDIT.c.id)
    before = noted((row.line, row.detail) for row in connection.execute(query))
    rows = [
        {"at": at, "who": who, "role": ROLE, "action": ACTION, "line": line, "detail": detail}
        for line, detail in changes(before, lines)
    ]
    if rows:
        connection.execute(insert(AUDIT), rows)
    return len(rows)


def changes(before: Described, lines: Described) -> Iterator[tuple[str, str]]:
    """What is new, changed and gone, as line and detail of an audit entry.

    >>> list(changes({}, {"tiles": {"bank": 2000}}))
    [('tiles', 'described: {"bank": 2000}')]
    >>> list(changes({"tiles": {"bank": 2000}}, {"tiles": {"auto": False}}))
    [('tiles', 'auto: true -> false'), ('tiles', 'bank: 2000 -> 4000')]
    """
    for line in sorted({*before, *lines}):
        if line not in before:
            yield line, _FIRST + _json(lines[line])
        elif line not in lines:
            yield line, _REMOVED + _json(before[line])
        else:
            yield from ((line, detail) for detail in _changed(before[line], lines[line]))


def noted(entries: Iterator[tuple[str, str]]) -> Described:
    """The configuration that entries (line, detail), oldest first, come to. What is no entry of ours is passed over.

    >>> noted(iter([("tiles", 'described: {"bank": 2000}'), ("tiles", "auto: true -> false")]))
    {'tiles': {'bank': 2000, 'auto': False}}
    """
    lines: dict[str, dict[str, object]] = {}
    for line, detail in entries:
        with suppress(ValueError):
            _take(lines, line, detail)
    return lines


def last_changes(entries: Iterable[AuditEntry]) -> dict[tuple[str, str], AuditEntry]:
    """By line and key the entry, of those given oldest first, that changed it last; keys of lines that are gone are absent.

    >>> entry = AuditEntry(1.0, "ana", "file", "configuration", "tiles", "bank: 2000 -> 4000")
    >>> last_changes([entry]) == {("tiles", "bank"): entry}
    True
    """
    last: dict[tuple[str, str], AuditEntry] = {}
    for entry in entries:
        with suppress(ValueError):
            keys: dict[str, dict[str, object]] = {}
            _take(keys, entry.line, entry.detail)
            if entry.detail.startswith((_FIRST, _REMOVED)):
                last = {place: each for place, each in last.items() if place[0] != entry.line}
            last |= {(entry.line, key): entry for key in keys.get(entry.line, ())}
    return last


def _take(lines: dict[str, dict[str, object]], line: str, detail: str) -> None:
    """Let an entry change what the lines are; raises ValueError for what is no entry of ours."""
    if detail.startswith(_REMOVED):
        lines.pop(line, None)
    elif detail.startswith(_FIRST):
        lines[line] = msgspec.json.decode(detail.removeprefix(_FIRST), type=dict[str, object])
    elif (found := _CHANGED.match(detail)) is not None:
        value = _new_value(detail[found.end() :])
        lines.setdefault(line, {})[found[1]] = value


def _changed(before: Mapping[str, object], now: Mapping[str, object]) -> Iterator[str]:
    defaults = _values(LineConfig())
    for key in sorted({*before, *now} & defaults.keys()):
        old, new = before.get(key, defaults[key]), now.get(key, defaults[key])
        if old != new:
            yield f"{key}: {_json(old)} -> {_json(new)}"


def _values(config: LineConfig) -> dict[str, object]:
    values: dict[str, object] = json.loads(msgspec.json.encode(config))
    return values


def _new_value(text: str) -> object:
    """The value after the arrow; the one before it may hold an arrow too."""
    _, end = json.JSONDecoder().raw_decode(text)
    return json.loads(text[end:].removeprefix(" -> "))


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)
