"""`driftline retrain` and `driftline requests`: asked for by hand, seen, given up."""

import json
from pathlib import Path
from typing import Any

import pytest

from orchestration.cli import driftline
from orchestration.console import run
from streams.ledger import Ledger
from streams.messages import Review
from tests.streams.test_ledger import verdict


@pytest.fixture
def ledger(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Ledger:
    monkeypatch.setenv("DRIFTLINE_HOME", str(tmp_path))
    for name in ("DRIFTLINE_LEDGER", "DRIFTLINE_BUS", "DRIFTLINE_STORE"):
        monkeypatch.delenv(name, raising=False)
    opened = Ledger.open(f"sqlite:///{tmp_path / 'ledger.sqlite'}")
    opened.record([verdict(f"i{number}", at=float(number)) for number in range(15)])
    return opened


def answer(capsys: pytest.CaptureFixture[str], *arguments: str) -> Any:
    assert run(driftline, [*arguments, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def said(capsys: pytest.CaptureFixture[str], *arguments: str, status: int = 0) -> str:
    assert run(driftline, list(arguments)) == status
    out, err = capsys.readouterr()
    return out + err


def test_asked_listed_and_given_up(ledger: Ledger, capsys: pytest.CaptureFixture[str]) -> None:
    asked = answer(capsys, "retrain", "--line", "tiles", "--mode", "refresh", "--images", "50", "--why", "new lamps")
    assert (asked["images"], asked["waits"]) == (15, "waits for 5 more images")
    (row,) = ledger.requests("tiles")
    assert (row.request.cause, row.request.mode, row.request.wanted_images) == ("manual", "refresh", 50)
    ledger.note_waiting(asked["request_id"], asked["waits"])
    (listed,) = answer(capsys, "requests", "list")["requests"]
    assert (listed["state"], listed["detail"]) == ("open", "waits for 5 more images")
    assert "manual  refresh  open: waits for 5 more images" in said(capsys, "requests", "list", "--line", "tiles")
    assert "has the open request" in said(capsys, "retrain", "--line", "tiles", status=2)
    assert "cancelled" in said(capsys, "requests", "cancel", asked["request_id"], "--why", "stopped")
    assert "is cancelled by now" in said(capsys, "requests", "cancel", asked["request_id"], "--why", "again", status=2)
    assert "filed for tiles over 15 images; it waits" in said(capsys, "retrain", "--line", "tiles")
    assert [entry.detail for entry in ledger.audit()][1:] == [
        f"{asked['request_id']}: stopped", "refresh, the latest 50 images: new lamps",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["retrain", "--line", "tils"], "no line 'tils'; did you mean tiles?"),
        (["retrain", "--line", "tiles", "--mode", "trusted"], "has 0 parts reviewed as normal and no folder"),
        (["retrain", "--line", "tiles", "--images", "19"], "19"),
        (["retrain", "--line", "tiles", "--images", "401"], "401 is not in the range 20<=x<=400"),
        (["requests", "cancel", "nothing", "--why", "x"], "no request 'nothing'"),
    ],
)
def test_what_makes_no_sense_is_refused(
    ledger: Ledger, capsys: pytest.CaptureFixture[str], arguments: list[str], words: str
) -> None:
    assert words in said(capsys, *arguments, status=2)
    assert ledger.requests() == []


def test_twenty_parts_reviewed_as_normal_are_enough_for_a_trusted_model(
    ledger: Ledger, capsys: pytest.CaptureFixture[str]
) -> None:
    ledger.record([verdict(f"i{number}", at=float(number)) for number in range(15, 20)])
    ledger.record(
        [Review(line="tiles", image_id=f"i{number}", says="normal", note="", by="ana", at=30.0) for number in range(20)]
    )
    assert answer(capsys, "retrain", "--line", "tiles", "--mode", "trusted")["waits"] is None


def test_doctor_says_what_is_wrong_with_the_configuration_and_what_stays_in_force(
    ledger: Ledger, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "driftline.toml").write_text("[lines.tiles]\nbank = 2000\n")
    said(capsys, "doctor")
    (tmp_path / "driftline.toml").write_text('[lines.tiles]\nschedule = "every night"\n')
    told = said(capsys, "doctor", status=1)
    assert "WRONG configuration" in told
    assert "line 'tiles': schedule 'every night' is no cron expression: 2 fields" in told
    assert "the last good configuration stays in force" in told
