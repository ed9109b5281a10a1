"""The audit trail as rows and as a file, the configuration in force, dead letters in words: plain functions over a real ledger."""

import csv
import io
from datetime import UTC, date
from pathlib import Path
from zoneinfo import ZoneInfo

import numpy as np
import pytest

from dashboard.auditing import (
    changes_of_configuration,
    defaults_in_words,
    exact,
    exported,
    settings_in_force,
    span_of,
)
from dashboard.letters import PutBack, grouped, letter_view, put_back, what_it_was, with_fate
from detectors.errors import ImageError
from detectors.images import encode_png
from streams.actions import Actor, NotAllowed, redrive
from streams.ledger import AuditEntry, AuditWish, Ledger
from streams.ledger_configuration import described
from streams.messages import DeadLetter
from streams.settings import LineConfig

SEOUL = ZoneInfo("Asia/Seoul")
ANA = Actor("ana", "engineer")


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    return Ledger.open(f"sqlite:///{tmp_path / 'ledger.sqlite'}")


def letter(number: int, original: bytes = b"no picture", *, cut_from: int | None = None) -> DeadLetter:
    return DeadLetter(
        line="tiles", source_topic="images", source_partition=3, source_offset=number, error="ImageError", reason="none",
        original=original, headers=(("ce_id", b"a\x00b"),), key=b"tiles", at=float(number), cut_from_bytes=cut_from,
    )  # fmt: skip


class TestTrail:
    def test_a_day_is_that_of_the_viewer(self) -> None:
        since, until = span_of(date(2026, 1, 2), date(2026, 1, 2), SEOUL)
        assert exact(since, UTC) == "2026-01-01 15:00:00 +0000"
        assert until - since == 86_400
        assert span_of(None, None, SEOUL) == (float("-inf"), float("inf"))
        assert span_of(date.min.replace(year=1900), date.max, UTC)[1] == float("inf")

    def test_the_night_the_clocks_change_is_an_hour_longer(self) -> None:
        since, until = span_of(date(2026, 10, 25), date(2026, 10, 25), ZoneInfo("Europe/Berlin"))
        assert until - since == 25 * 3600

    def test_a_file_has_whole_details_exact_times_and_no_formula(self, ledger: Ledger) -> None:
        notes = ["=HYPERLINK(1)", "+1", "-1", "@a", "\t=1", 'a "b",\nc', "뮤", "x" * 5000]
        for at, note in enumerate(notes):
            ledger.act(AuditEntry(at + 0.25, "=ana", "engineer", "promote", "tiles", note), ())
        data = exported(ledger, AuditWish(), SEOUL)
        header, *rows = list(csv.reader(io.StringIO(data.decode("utf-8-sig"), newline="")))
        assert header == ["time", "time (UTC)", "person", "role", "action", "line", "detail"]
        assert [row[-1] for row in reversed(rows)] == [f"'{note}" for note in notes[:5]] + notes[5:]
        assert rows[-1][:5] == [
            "1970-01-01T09:00:00.250000+0900", "1970-01-01T00:00:00.250000+0000", "'=ana", "engineer", "put a version into service",
        ]  # fmt: skip

    def test_a_file_ends_where_it_must_and_keeps_to_the_filters(
        self, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("dashboard.auditing.ENTRIES_READ", 2)
        for at in range(7):
            ledger.act(AuditEntry(float(at), "ana" if at % 2 else "bo", "engineer", "promote", "tiles", f"n{at}"), ())
        everything, latest, of_bo = (
            exported(ledger, AuditWish(), UTC),
            exported(ledger, AuditWish(), UTC, most=3),
            exported(ledger, AuditWish(who="bo"), UTC),
        )
        named = [[line.rsplit(b",")[-1] for line in data.splitlines()[1:]] for data in (everything, latest, of_bo)]
        assert named == [
            [b"n6", b"n5", b"n4", b"n3", b"n2", b"n1", b"n0"], [b"n6", b"n5", b"n4"], [b"n6", b"n4", b"n2", b"n0"],
        ]  # fmt: skip


class TestConfiguration:
    def test_what_differs_by_whom_and_what_the_audit_has_not_noted(self, ledger: Ledger) -> None:
        first, second = (
            LineConfig(bank=2000, crop=(0.0, 0.5, 1.0, 1.0)),
            LineConfig(bank=3000, crop=(0.0, 0.5, 1.0, 1.0)),
        )
        ledger.note_configuration({"tiles": described(first)}, who="ana", at=1.0)
        ledger.note_configuration({"tiles": described(second)}, who="bo", at=2.0)
        lines = {"tiles": second, "doors": LineConfig(auto=False), "plain": LineConfig()}
        found = settings_in_force(lines, changes_of_configuration(ledger))
        assert [(each.line, each.key, each.value, each.default) for each in found] == [
            ("doors", "auto", "false", "true"),
            ("tiles", "crop", "[0.0, 0.5, 1.0, 1.0]", "[0.0, 0.0, 1.0, 1.0]"),
            ("tiles", "bank", "3000", "4000"),
        ]
        assert [each.by and (each.by.who, each.by.at) for each in found] == [None, ("ana", 1.0), ("bo", 2.0)]
        (edited, *_) = settings_in_force({"tiles": LineConfig(bank=9)}, changes_of_configuration(ledger))
        assert edited.by is None, "somebody changed it since, and nobody has said who"

    def test_every_key_has_its_default(self) -> None:
        assert list(defaults_in_words()) == list(LineConfig.__struct_fields__)


class TestLetters:
    @pytest.mark.parametrize(
        ("original", "is_text", "beginning"),
        [
            (b"<b>no</b> **picture**", True, "<b>no</b> **picture**"),
            ("뮤".encode() * 4000, True, "뮤" * 1500),
            (b"a\r\n\tb\xe2\x80\xae", True, "a\n\tb·"),
            (b"\xff\xd8\xff\x00", False, "ff d8 ff 00"),
            (b"GIF\x00", False, "47 49 46 00"),
            (b"", True, ""),
        ],
    )
    def test_what_it_was(self, original: bytes, is_text: bool, beginning: str) -> None:
        view = letter_view(letter(1, original))
        assert (view.is_text, view.beginning) == (is_text, beginning)
        assert view.headers == ("ce_id: a·b",)

    def test_one_that_was_cut_says_of_how_much(self) -> None:
        view = letter_view(letter(1, b"abc", cut_from=30_000_000))
        assert what_it_was(view) == "The original: text of 30,000,000 bytes, of which the first 3 are kept."
        assert what_it_was(letter_view(letter(1, b""))) == "The original: an empty message."

    def test_a_picture_is_a_small_one(self) -> None:
        from dashboard.pictures import thumbnail_of

        assert thumbnail_of(encode_png(np.full((900, 700, 3), 90, np.uint8))).startswith(b"\xff\xd8\xff")
        with pytest.raises(ImageError):
            thumbnail_of(b"\xff\xd8\xff\x00")

    def test_groups_begin_with_the_newest_and_know_what_is_open(self, ledger: Ledger) -> None:
        ledger.record([letter(1), letter(2)])
        (back,) = redrive(ledger, ANA, ["images/3/1"], at=9.0)
        (group,) = grouped([letter_view(letter(2)), with_fate(letter_view(letter(1)), back)])
        assert [each.identity for each in group.letters] == ["images/3/2", "images/3/1"]
        assert [each.identity for each in group.open] == ["images/3/2"]

    def test_what_cannot_go_back_stays_and_does_not_keep_the_others(self, ledger: Ledger) -> None:
        ledger.record([letter(1), letter(2, cut_from=30_000_000), letter(3)])
        redrive(ledger, ANA, ["images/3/3"], at=9.0)
        done = put_back(ledger, ANA, ["images/3/1", "images/3/2", "images/3/3", "images/3/4"], at=10.0)
        assert done.back == ("images/3/1",)
        assert done.words.startswith("1 message goes back as soon as the recorder runs")
        for why in ("images/3/2 stays: of the 30000000 bytes", "redriven by ana", "no dead letter 'images/3/4'"):
            assert why in done.words
        assert [each.action for each in ledger.audit()] == ["redrive", "redrive"]

    def test_a_reviewer_may_not(self, ledger: Ledger) -> None:
        ledger.record([letter(1)])
        with pytest.raises(NotAllowed, match="takes an engineer"):
            put_back(ledger, Actor("rev", "reviewer"), ["images/3/1"], at=1.0)
        assert ledger.audit() == []

    def test_many_that_stay_are_counted(self) -> None:
        said = PutBack((), {str(number): "why" for number in range(8)}, "disk is full").words
        assert "3 others stay too" in said
        assert "try again: disk is full" in said
        assert "goes back" not in said
