"""The audit read back: filters, pages by number, names, and what was changed last by whom; dead letters by place."""

import msgspec
import pytest

from detectors.errors import NotFound
from streams.actions import Actor, redrive
from streams.ledger import AuditEntry, AuditNames, AuditWish, Ledger
from streams.ledger_configuration import last_changes
from streams.messages import DeadLetter
from streams.redriving import count_letters, latest_letters, letter_at
from tests.streams.test_ledger import LETTER


def entry(at: float, who: str = "ana", action: str = "review", line: str = "tiles", detail: str = "") -> AuditEntry:
    return AuditEntry(at, who, "engineer", action, line, detail)


def filled(ledger: Ledger, *entries: AuditEntry) -> list[AuditEntry]:
    """The entries written down, newest first."""
    for each in entries:
        ledger.act(each, ())
    return list(reversed(entries))


def letter(offset: int, *, at: float, error: str = "ImageError") -> DeadLetter:
    return msgspec.structs.replace(LETTER, source_offset=offset, at=at, error=error)


def test_pages_follow_each_other_without_a_gap_while_entries_are_added(ledger: Ledger) -> None:
    written = filled(ledger, *(entry(float(number)) for number in range(5)))
    first = ledger.audit(limit=2)
    filled(ledger, entry(9.0))
    second = ledger.audit(before=first[-1].number, limit=2)
    last = ledger.audit(before=second[-1].number, limit=2)
    assert [*first, *second, *last] == written
    assert ledger.audit(before=last[-1].number) == []


def test_each_filter_lets_through_what_it_names(ledger: Ledger) -> None:
    tiles, other, by_bo, promoted = filled(
        ledger, entry(4.0, action="promote"), entry(3.0, who="bo"), entry(2.0, line="다리/1"), entry(1.0)
    )
    wishes = {
        AuditWish(line="다리/1"): [other],
        AuditWish(who="bo"): [by_bo],
        AuditWish(action="promote"): [promoted],
        AuditWish(since=2.0, until=4.0): [other, by_bo],
        AuditWish(line="tiles", who="ana", until=4.0): [tiles],
        AuditWish(who="' OR 1=1 --"): [],
        AuditWish(): [tiles, other, by_bo, promoted],
    }
    assert {wish: ledger.audit(wish) for wish in wishes} == wishes
    assert ledger.audit(AuditWish(who="ana"), limit=1) == [tiles]


def test_names_are_those_of_the_entries(ledger: Ledger) -> None:
    assert ledger.audit_names() == AuditNames((), (), ())
    filled(ledger, entry(1.0, who="bo"), entry(2.0, action="promote"), entry(3.0, line="a"))
    assert ledger.audit_names() == AuditNames(("ana", "bo"), ("promote", "review"), ("a", "tiles"))


def test_who_changed_a_key_last() -> None:
    first = entry(1.0, detail='described: {"bank": 2000, "auto": false}')
    later = entry(2.0, who="bo", detail="bank: 2000 -> 3000")
    gone, again = entry(3.0, detail="no longer described: {}"), entry(4.0, detail='described: {"bank": 9}')
    elsewhere = entry(0.5, line="other", detail='described: {"seed": 1}')
    known = last_changes([elsewhere, first, later])
    assert known == {("other", "seed"): elsewhere, ("tiles", "auto"): first, ("tiles", "bank"): later}
    assert last_changes([first, later, gone]) == {}
    assert last_changes([first, gone, again]) == {("tiles", "bank"): again}
    assert last_changes([first, entry(2.0, detail="described: {no json"), entry(2.0, detail="")]) == last_changes(
        [first]
    )


def test_the_latest_letters_and_what_became_of_them(ledger: Ledger) -> None:
    ledger.record([letter(number, at=float(number)) for number in range(4)])
    (back,) = redrive(ledger, Actor("ana", "engineer"), ["images/3/2"], at=9.0)
    found = latest_letters(ledger, 3)
    assert [(each.identity, each.at, each.back) for each in found] == [
        ("images/3/3", 3.0, None),
        ("images/3/2", 2.0, back),
        ("images/3/1", 1.0, None),
    ]
    assert count_letters(ledger) == 4
    assert letter_at(ledger, found[0].line, "images/3/3") == letter(3, at=3.0)
    with pytest.raises(NotFound, match="no dead letter 'images/3/9'"):
        letter_at(ledger, "tiles", "images/3/9")
