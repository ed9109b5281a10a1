"""`driftline dead-letters`: what people see of dead letters and how they put them back."""

import getpass
import json
from pathlib import Path
from typing import Any

import msgspec
import pytest

from orchestration.cli import driftline
from orchestration.console import run
from streams.ledger import Ledger
from streams.messages import DeadLetter, Redrive

LETTER = DeadLetter(
    line="tiles", source_topic="images", source_partition=3, source_offset=17, error="ImageError", reason="no image",
    original=b"\xff\xd8", headers=(("ce_id", b"part-1"),), key=b"tiles", at=1.0,
)  # fmt: skip
CUT = msgspec.structs.replace(LETTER, source_offset=18, error="InvalidInput", cut_from_bytes=40_000_000)


@pytest.fixture
def ledger(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Ledger:
    monkeypatch.setenv("DRIFTLINE_HOME", str(tmp_path))
    for name in ("DRIFTLINE_LEDGER", "DRIFTLINE_BUS", "DRIFTLINE_STORE"):
        monkeypatch.delenv(name, raising=False)
    opened = Ledger.open(f"sqlite:///{tmp_path / 'ledger.sqlite'}")
    opened.record([LETTER, CUT])
    return opened


def answer(capsys: pytest.CaptureFixture[str], *arguments: str, status: int = 0) -> Any:
    """The JSON of `driftline dead-letters ARGUMENTS`."""
    assert run(driftline, ["dead-letters", *arguments, "--json"]) == status
    return json.loads(capsys.readouterr().out)


def test_list_and_show_say_whether_a_letter_is_open(ledger: Ledger, capsys: pytest.CaptureFixture[str]) -> None:
    assert {row["state"] for row in answer(capsys, "list")["dead_letters"]} == {"open"}
    assert answer(capsys, "redrive", "images/3/17") == {"redriven": ["images/3/17"], "kept": {}}
    states = {row["id"]: row["state"] for row in answer(capsys, "list")["dead_letters"]}
    assert states == {"images/3/17": "redriven", "images/3/18": "open"}
    shown = answer(capsys, "show", "images/3/17")
    assert (shown["state"], shown["redriven_by"], shown["error"]) == ("redriven", getpass.getuser(), "ImageError")
    assert shown["original"] == "/9g="
    assert run(driftline, ["dead-letters", "show", "images/3/18"]) == 0
    said = capsys.readouterr().out
    assert "bytes: 40000000" in said
    assert "state: open" in said


def test_a_repaired_body_comes_from_a_file(ledger: Ledger, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "mended.jpg").write_bytes(b"mended")
    answer(capsys, "redrive", "images/3/18", "--value", str(tmp_path / "mended.jpg"))
    ((_, message),) = ledger.outbox(9)
    assert isinstance(message, Redrive)
    assert (message.identity, message.repaired, message.by) == ("images/3/18", b"mended", getpass.getuser())


def test_all_go_back_but_those_that_cannot(ledger: Ledger, capsys: pytest.CaptureFixture[str]) -> None:
    said = answer(capsys, "redrive", "--all", status=1)
    assert said["redriven"] == ["images/3/17"]
    assert "40000000" in said["kept"]["images/3/18"]
    assert answer(capsys, "redrive", "--all", "--error", "ImageError") == {"redriven": [], "kept": {}}


def test_putting_back_twice_is_refused(ledger: Ledger, capsys: pytest.CaptureFixture[str]) -> None:
    answer(capsys, "redrive", "images/3/17", "images/3/17")
    assert run(driftline, ["dead-letters", "redrive", "images/3/17"]) == 2
    assert f"was redriven by {getpass.getuser()} at" in capsys.readouterr().err
    assert len(ledger.outbox(9)) == 1
