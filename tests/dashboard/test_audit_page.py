"""The audit page as Streamlit runs it, over a real installation in a folder."""

from datetime import date
from pathlib import Path

import msgspec
import numpy as np
import pytest
from streamlit.testing.v1 import AppTest

from detectors.images import encode_png
from streams import actions
from streams.ledger import AuditEntry
from streams.ledger_configuration import described
from streams.messages import DeadLetter
from streams.redriving import latest_letters
from streams.settings import LineConfig
from tests.dashboard import installation as given
from tests.dashboard.installation import LINE, Installation
from tests.dashboard.test_pages import MARKUP, opened, words

PAGE = "pages/audit.py"
SECTIONS = {"changes": "Who did what", "configuration": "Configuration", "letters": "Dead letters"}


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Installation:
    made = given.installation(tmp_path)
    for name, value in made.environ.items():
        monkeypatch.setenv(name, value)
    return made


def section(name: str) -> AppTest:
    app = opened(PAGE)
    app.session_state["section"] = SECTIONS[name]
    app.run()
    assert not app.exception, [error.value for error in app.exception]
    return app


def column(app: AppTest, name: str) -> list[str]:
    """A column of the first table, as it reads."""
    table = app.table[0].value
    (found,) = [each for each in table.columns if str(each).startswith(name)]
    return [str(cell).replace("\\", "").replace("\u2060", "") for cell in table[found]]


def act(here: Installation, detail: str, *, who: str = "ana", action: str = "promote", at: float = 1.0) -> None:
    here.ledger.act(AuditEntry(at, who, "engineer", action, LINE, detail), ())


def letter(number: int, original: bytes = b"no picture", **changed: object) -> DeadLetter:
    made = DeadLetter(
        line=LINE, source_topic="images", source_partition=3, source_offset=number, error="ImageError", reason="truncated",
        original=original, headers=(("ce_id", b"<i>"),), key=b"tiles", at=float(number),
    )  # fmt: skip
    return msgspec.structs.replace(made, **changed)


def unfold(app: AppTest, identity: str) -> AppTest:
    app.session_state[f"letter {LINE} {identity}"] = True
    app.run()
    assert not app.exception, [error.value for error in app.exception]
    return app


def test_an_empty_installation_says_what_it_will_hold(here: Installation) -> None:
    assert "Nobody has done anything yet" in words(section("changes"))
    assert "Every line runs with the defaults" in words(section("configuration"))
    assert "No dead letter" in words(section("letters"))


class TestChanges:
    def test_newest_first_in_words_never_rendered(self, here: Installation) -> None:
        act(here, "version 2 for 1: better")
        act(here, MARKUP, who="<b>bo</b>", action="rollback", at=86_400.0)
        app = opened(PAGE)
        assert column(app, "did what") == ["rolled back to the version before", "put a version into service"]
        assert column(app, "when") == ["1970-01-02 00:00:00 +0000", "1970-01-01 00:00:01 +0000"]
        assert column(app, "detail") == [MARKUP, "version 2 for 1: better"]
        cells = app.table[0].value.to_numpy().ravel()
        assert not any("<b>" in str(cell) or "**7**" in str(cell) for cell in cells)

    def test_pages_and_back(self, here: Installation) -> None:
        for number in range(120):
            act(here, f"n{number}")
        app = opened(PAGE)
        shown = [column(app, "detail")]
        for key in ("older", "older", "newer"):
            app.button(key=key).click().run()
            shown.append(column(app, "detail"))
        assert [(each[0], each[-1]) for each in shown] == [
            ("n119", "n70"),
            ("n69", "n20"),
            ("n19", "n0"),
            ("n69", "n20"),
        ]

    def test_a_filter_begins_at_the_newest_again_and_one_that_finds_nothing_says_so(self, here: Installation) -> None:
        for number in range(120):
            act(here, f"n{number}", who="bo" if number % 2 else "ana")
        app = opened(PAGE)
        app.button(key="older").click().run()
        app.selectbox(key="audit Person").select("bo").run()
        assert column(app, "detail")[:2] == ["n119", "n117"]
        app.date_input(key="days").set_value([date(2020, 1, 1), date(2020, 1, 2)]).run()
        assert not app.exception
        assert "Nobody did anything like that" in words(app)


class TestConfiguration:
    def test_what_differs_by_whom_and_how_to_change_it(self, here: Installation, tmp_path: Path) -> None:
        config = LineConfig(bank=2000)
        (tmp_path / "driftline.toml").write_text(f'[lines."{LINE}"]\nbank = 2000\n')
        here.ledger.note_configuration({LINE: described(config)}, who="ana", at=60.0)
        app = section("configuration")
        assert [column(app, name) for name in ("line", "key", "in force", "default", "changed")] == [
            [LINE], ["bank"], ["2000"], ["4000"], ["ana, 1970-01-01 00:01:00 +0000"],
        ]  # fmt: skip
        assert str(tmp_path / "driftline.toml") in words(app)

    def test_with_a_mistake_the_last_good_one_is_shown(self, here: Installation, tmp_path: Path) -> None:
        described_at = tmp_path / "driftline.toml"
        described_at.write_text(f'[lines."{LINE}"]\nbank = 2000\n')
        opened(PAGE)
        described_at.write_text(f'[lines."{LINE}"]\nbnk = 3000\n')
        app = section("configuration")
        assert "did you mean 'bank'" in words(app).replace("\\", "")
        assert "the last good configuration" in words(app)
        assert column(app, "in force") == ["2000"]
        assert column(app, "changed") == ["not noted yet: the recorder does, seconds after a change"]


class TestLetters:
    def test_what_it_was_and_why_as_it_is(self, here: Installation) -> None:
        here.ledger.record([letter(1, MARKUP.encode(), reason=MARKUP, error="<b>E</b>")])
        app = unfold(section("letters"), "images/3/1")
        assert "From topic images, partition 3, offset 1; set aside at 1970-01-01 00:00:01 +0000." in words(app)
        assert [each.value for each in app.code] == [MARKUP, "ce_id: <i>"]
        assert "<b>" not in app.expander[0].label + app.subheader[0].value

    def test_an_image_is_shown_and_one_that_is_none_is_words(self, here: Installation) -> None:
        here.ledger.record([letter(1, encode_png(np.full((8, 8, 3), 90, np.uint8))), letter(2, b"\xff\xd8\xff\x00")])
        app = unfold(section("letters"), "images/3/1")
        assert len(app.get("image") or app.get("imgs")) == 1
        app = unfold(app, "images/3/2")
        assert "This picture cannot be read" in words(app)
        assert "ff d8 ff 00" in words(app)

    def test_one_is_put_back_and_the_page_says_so(self, here: Installation) -> None:
        here.ledger.record([letter(1)])
        app = unfold(section("letters"), "images/3/1")
        app.button(key=f"put back {LINE} images/3/1").click().run()
        assert "1 message goes back as soon as the recorder runs" in words(app)
        (place,) = latest_letters(here.ledger, 9)
        assert place.back is not None
        assert "0 open" in words(app)
        assert f"Put back by {place.back.by}" in words(unfold(app, "images/3/1"))

    def test_exactly_the_letters_on_the_page_go_back(self, here: Installation) -> None:
        cut = letter(3, cut_from_bytes=30_000_000)
        here.ledger.record([letter(1), letter(2), cut, letter(4, error="InvalidInput")])
        app = section("letters")
        here.ledger.record([letter(5)])
        app.button(key="put back ImageError 3 images/3/3").click().run()
        assert not app.exception
        said = words(app).replace("\\", "")
        assert "2 messages go back" in said
        assert "images/3/3 stays: of the 30000000 bytes" in said
        back = {place.identity: place.back is not None for place in latest_letters(here.ledger, 9)}
        assert back == {
            "images/3/5": False, "images/3/4": False, "images/3/3": False, "images/3/2": True, "images/3/1": True,
        }  # fmt: skip

    def test_a_reviewer_is_refused_in_words(self, here: Installation, monkeypatch: pytest.MonkeyPatch) -> None:
        here.ledger.record([letter(1)])
        monkeypatch.setattr("dashboard.sources.person", lambda: actions.Actor("rev", "reviewer"))
        app = unfold(section("letters"), "images/3/1")
        app.button(key=f"put back {LINE} images/3/1").click().run()
        assert "Nothing was put back: rev is a reviewer" in words(app).replace("\\", "")
        assert here.ledger.audit() == []

    def test_older_ones_and_a_time_that_is_none(self, here: Installation) -> None:
        here.ledger.record([letter(number) for number in range(51)])
        here.ledger.record([letter(51, at=1e300)])
        app = section("letters")
        assert len(app.expander) == 50
        assert "no moment" in app.expander[0].label
        assert "The latest 50 of 52 dead letters" in words(app)
        app.button(key="older letters").click().run()
        assert len(app.expander) == 52
