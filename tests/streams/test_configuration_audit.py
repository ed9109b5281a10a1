"""Every change of `driftline.toml` is in the audit once: who, when, which key from what to what; also across restarts."""

import getpass
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.configuration_audit import ConfigurationAudit
from streams.ledger import Ledger
from streams.ledger_configuration import ACTION, ROLE, Described, changes, noted
from streams.lines_in_force import SETTLED_S, LinesInForce
from streams.recording import RecordHandler
from tests.streams.together import together

HOUR_S = 3600.0


class House:
    """A configuration file, the recorder that looks after it, and a clock."""

    def __init__(self, home: Path, ledger: Ledger) -> None:
        self.home, self.ledger = home, ledger
        self.now = 1000 * HOUR_S
        self.restart()

    def restart(self) -> None:
        self.handler = RecordHandler(
            self.ledger, lambda: self.now, beside=ConfigurationAudit(self.home, self.ledger).look
        )

    def write(self, text: str) -> None:
        """The file says this from now on."""
        path = self.home / "driftline.toml"
        path.write_text(text)
        os.utime(path, (self.now, self.now))

    def pass_s(self, seconds: float, *, step_s: float = 0.5) -> None:
        for _ in range(int(seconds / step_s)):
            self.now += step_s
            self.handler.idle(self.now)

    def entries(self) -> list[tuple[str, str]]:
        """Line and detail of what was noted, oldest first."""
        return [(entry.line, entry.detail) for entry in reversed(self.ledger.audit()) if entry.action == ACTION]


@pytest.fixture
def house(tmp_path: Path, ledger: Ledger) -> House:
    (tmp_path / "home").mkdir()
    return House(tmp_path / "home", ledger)


def test_a_file_met_first_has_an_entry_a_line_and_each_change_one_a_key(house: House) -> None:
    house.write("[lines.tiles]\nshadow_images = 20\n[lines.door]\n")
    house.pass_s(5)
    assert house.entries() == [("door", "described: {}"), ("tiles", 'described: {"shadow_images": 20}')]
    changed_at = house.now
    house.write('[lines.tiles]\nshadow_images = 50\npromotion = "approval"\ntrusted = "/srv/a -> b"\n[lines.door]\n')
    house.pass_s(5)
    assert house.entries()[2:] == [
        ("tiles", 'promotion: "automatic" -> "approval"'),
        ("tiles", "shadow_images: 20 -> 50"),
        ("tiles", 'trusted: null -> "/srv/a -> b"'),
    ]
    (latest, *_) = house.ledger.audit()
    assert (latest.who, latest.role, latest.at) == (getpass.getuser(), ROLE, changed_at)


def test_nothing_is_noted_twice_after_restarts_nor_by_several(house: House) -> None:
    house.write("[lines.tiles]\nbank = 2000\ncrop = [0.0, 0.5, 1.0, 1.0]\n")
    house.pass_s(5)
    house.write("[lines.tiles]\nbank = 3000\ncrop = [0.0, 0.5, 1.0, 1.0]\n")
    for _ in range(3):
        house.restart()
        house.pass_s(5)
    assert [detail for _, detail in house.entries()][1:] == ["bank: 2000 -> 3000"]


def test_recorders_that_look_at_once_note_a_change_once(house: House, url: str) -> None:
    house.write("[lines.tiles]\nbank = 2000\n")
    script = (
        "audit = ConfigurationAudit(Path(sys.argv[2]), Ledger.open(sys.argv[1]))\n"
        "for now in (0.0, 10.0): audit.look(now)"
    )
    imports = "from pathlib import Path; from streams.ledger import Ledger; from streams.configuration_audit import ConfigurationAudit"
    together(imports, script, [(url, str(house.home))] * 2)
    assert house.entries() == [("tiles", 'described: {"bank": 2000}')]


def test_a_change_while_nobody_looked_is_noted_at_the_next_start(house: House) -> None:
    house.write("[lines.tiles]\nbank = 2000\n")
    house.pass_s(5)
    house.write("[lines.tiles]\nbank = 2000\nauto = false\n[lines.door]\nbank = 10\n")
    house.now += HOUR_S
    house.restart()
    house.pass_s(5)
    assert house.entries()[1:] == [("door", 'described: {"bank": 10}'), ("tiles", "auto: true -> false")]


def test_a_line_or_a_file_that_is_taken_away_is_noted_and_may_come_back(house: House) -> None:
    house.write("[lines.tiles]\nbank = 2000\n[lines.door]\n")
    house.pass_s(5)
    house.write("[lines.tiles]\nbank = 2000\n")
    house.pass_s(5)
    (house.home / "driftline.toml").unlink()
    house.pass_s(5)
    house.write("[lines.tiles]\nbank = 2000\n")
    house.pass_s(5)
    assert house.entries()[2:] == [
        ("door", "no longer described: {}"),
        ("tiles", 'no longer described: {"bank": 2000}'),
        ("tiles", 'described: {"bank": 2000}'),
    ]


def test_a_file_that_is_being_saved_is_waited_for(house: House) -> None:
    house.write("[lines.tiles]\nbank = 2000\n")
    house.pass_s(5)
    (house.home / "driftline.toml").unlink()
    house.pass_s(SETTLED_S - 1)
    house.write("[lines.tiles]\nbank = 2")
    house.pass_s(SETTLED_S - 1)
    house.write("[lines.tiles]\nbank = 2001\n")
    house.pass_s(5)
    assert [detail for _, detail in house.entries()][1:] == ["bank: 2000 -> 2001"]


def test_a_file_with_a_mistake_changes_nothing_and_is_said_once(house: House, caplog: pytest.LogCaptureFixture) -> None:
    house.write("[lines.tiles]\nbank = 2000\n")
    house.pass_s(5)
    house.write("[lines.tiles]\nbnak = 2000\n")
    house.pass_s(20)
    assert len(house.entries()) == 1
    assert sum("did you mean 'bank'" in record.message for record in caplog.records) == 1
    house.write("[lines.tiles]\nbank = 2000\n")
    house.pass_s(5)
    assert len(house.entries()) == 1


def test_a_file_that_is_lost_is_noted_only_once_it_is_given_up(house: House) -> None:
    house.write("[lines.tiles]\nbank = 2000\n")
    LinesInForce(house.home)  # keeps the last good one
    house.pass_s(5)
    house.write("")
    house.pass_s(5)
    (house.home / "driftline.toml").unlink()
    house.pass_s(5)
    assert len(house.entries()) == 1
    (house.home / "driftline.last-good.toml").unlink()
    house.pass_s(5)
    assert house.entries()[1:] == [("tiles", 'no longer described: {"bank": 2000}')]


def test_an_installation_without_a_file_notes_nothing(house: House) -> None:
    house.pass_s(5)
    assert house.entries() == []


VALUES = st.one_of(st.integers(-5, 5), st.booleans(), st.none(), st.text('a">-: ', max_size=8))
LINES: st.SearchStrategy[Described] = st.dictionaries(
    st.sampled_from(["tiles", "press-4/door"]),
    st.dictionaries(st.sampled_from(["trusted", "schedule", "bank", "crop"]), VALUES, max_size=3),
)


@given(st.lists(LINES, max_size=5))
def test_whatever_was_noted_can_be_read_back(states: list[Described]) -> None:
    entries: list[tuple[str, str]] = []
    for state in states:
        entries += changes(noted(iter(entries)), state)
        assert list(changes(noted(iter(entries)), state)) == []
    others = [("tiles", each) for each in ("by hand", "", "described: {", "described: [1]", "bank: 1 ->", "bank: x")]
    assert noted(iter([*entries, *others])) == noted(iter(entries))
