"""`driftline drift backtest` as a user types it, over a real ledger and registry."""

import json
from collections.abc import Iterator
from contextlib import redirect_stderr, redirect_stdout
from io import BytesIO, StringIO
from pathlib import Path
from typing import Any

import msgspec
import pytest
from PIL import Image

from detectors.manifest import DriftReference, Manifest
from detectors.registry import Registry
from detectors.store import FolderStore
from orchestration.backtest import Report
from orchestration.cli import driftline
from orchestration.console import run
from orchestration.drawing import Area, Drawing, Line, Words, png, svg
from streams.ledger import Ledger
from streams.messages import DriftIncident
from tests.detectors.artefacts import artefact
from tests.streams.test_backtesting import live, live_incident, reference, the_line, verdicts
from tests.streams.test_ledger import collected

STRANGER = "stranger"


def publish(home: Path, known: DriftReference) -> None:
    """The line's next version, with this drift reference."""
    files = artefact("tiles", content=f"{len(known.bulk)}")
    manifest = msgspec.json.decode(files["manifest.json"], type=Manifest)
    files["manifest.json"] = msgspec.json.encode(msgspec.structs.replace(manifest, reference=known))
    Registry(FolderStore(home / "objects")).publish("tiles", files)


@pytest.fixture(scope="module")
def opened() -> DriftIncident:
    """What the watcher opened on the line."""
    return live(10_000, (each for each in the_line() if not each.late))[0]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory, opened: DriftIncident) -> Iterator[Path]:
    """Version 1 with a reference; version 2 with one too small; version 3 gone from the registry. An incident that was
    opened, and one that no monitor would open.
    """
    home = tmp_path_factory.mktemp("home")
    publish(home, reference())
    publish(home, reference(5))
    ledger = Ledger.open(f"sqlite:///{home / 'ledger.sqlite'}")
    stranger = msgspec.structs.replace(live_incident(), incident_id=STRANGER, at=100.0, alarm_image_id="image-00100")
    ledger.record([*the_line(), *verdicts(1000, 3, version=2), *verdicts(2000, 2, version=3), opened, stranger])
    ledger.record([msgspec.structs.replace(collected("a"), line="empty")])
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DRIFTLINE_HOME", str(home))
        yield home


def said(*arguments: str) -> str:
    """What `driftline drift backtest --line tiles` puts on standard output."""
    out, err = StringIO(), StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        status = run(driftline, ["drift", "backtest", "--line", "tiles", *arguments])
    assert status == 0, err.getvalue()
    return out.getvalue()


@pytest.fixture(scope="module")
def document(home: Path) -> Any:
    """One run under two settings, with a picture."""
    arguments = ("--expected-run-length", "10000", "--expected-run-length", "500", "--expected-run-length", "10000")
    return json.loads(said(*arguments, "--plot", str(home / "plot.html"), "--json"))


def test_the_document_tells_what_was_run_and_what_was_not(document: Any) -> None:
    assert set(document) == set(Report.__struct_fields__)
    assert (document["line"], document["images"], document["seed"], document["since"]) == ("tiles", 350, 0, None)
    first, second, third = document["versions"]
    assert (first["images"], first["late"], first["skipped"]) == (350, 40, None)
    assert (second["images"], "of 5 images" in second["skipped"]) == (0, True)
    assert (third["version"], third["skipped"]) == (3, "no drift reference")
    assert [(each["expected_run_length"], each["of_line"]) for each in document["settings"]] == [
        (10_000, True),
        (500, False),
    ]


def test_the_lines_own_setting_is_compared_with_what_was_recorded(document: Any, opened: DriftIncident) -> None:
    own, other = document["settings"]
    first, *more = own["alarms"]
    assert (first["image_id"], first["at"], first["mark"]) == (opened.alarm_image_id, opened.at, "as recorded")
    assert {each["mark"] for each in more if each["kind"] == opened.kind} <= {"continued"}, "the incident is open"
    assert other["alarms"][0]["at"] <= first["at"]
    assert {each["mark"] for each in other["alarms"]} == {None}
    assert {each["incident_id"]: each["mark"] for each in document["recorded"]} == {
        opened.incident_id: "as recorded",
        STRANGER: "missing",
    }


def test_the_picture_shows_series_lanes_and_incidents(document: Any, home: Path) -> None:
    page = (home / "plot.html").read_text()
    for words in (
        "score / threshold",
        "bulk, robust sd",
        "alarms at 10,000 (the line",
        "alarms at 500",
        "recorded incidents",
    ):
        assert words in page
    assert "version 3, not run" in page
    assert page.count("<polygon") > 4
    assert STRANGER not in page
    assert '<td class="n">missing</td>' in page


def test_people_read_tables(home: Path, opened: DriftIncident) -> None:
    text = said("--version", "1", "--plot", str(home / "plot.png"))
    assert text.startswith("tiles: 350 images of version 1, 40 judged late left out\n")
    alarms, incidents = text.split("incidents that were recorded:")
    first = alarms.splitlines()[3]
    assert first.split()[:4] == ["10000", "1", "1970-01-01", f"00:03:{opened.at - 180:02.0f}Z"]
    assert f" {opened.alarm_image_id} " in first
    assert "as recorded" in first
    times, word = first.split()[-2:]
    assert (int(times) > 8, word) == (True, "times"), "the change stayed"
    assert [line.split("sd")[1].strip() for line in incidents.splitlines()[2:]] == ["missing", "as recorded"]
    with Image.open(home / "plot.png") as picture:
        assert picture.width == 2080


def test_what_is_quiet_is_said(home: Path) -> None:
    text = said("--version", "1", "--since", "1970-01-01T00:05", "--images", "4", "--seed", "3")
    assert text.splitlines() == [
        "tiles: 4 images of version 1",
        "no alarm at a run length of 10000",
        "no incident was recorded of these versions in this time",
    ]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--line", "nobody"], "line 'nobody' is not known; known: empty, tiles"),
        (["--line", "empty"], "line 'empty' has no verdicts yet"),
        (["--line", "tiles", "--version", "9"], "no verdicts of version 9; it has of 1, 2, 3"),
        (["--line", "tiles", "--version", "3"], "version 3: no drift reference"),
        (["--line", "tiles", "--version", "2"], "drift reference of 5 images: at least 10"),
        (["--line", "tiles", "--since", "2030-01-01"], "the last verdict is of 1970-01-01 00:33:21Z"),
        (["--line", "tiles", "--since", "31.3.2026"], "--since '31.3.2026'"),
        (["--line", "tiles", "--expected-run-length", "-5"], "--expected-run-length -5: must be 1 image or more"),
    ],
)
def test_wrong_use_is_status_two_and_one_line(
    arguments: list[str], words: str, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(driftline, ["drift", "backtest", *arguments]) == 2
    error = capsys.readouterr().err
    assert words in error
    assert error.count("\n") == 1


def test_ctrl_c_ends_it(home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def interrupted(*_: object, **__: object) -> Iterator[None]:
        raise KeyboardInterrupt

    monkeypatch.setattr(Ledger, "judged_spans", interrupted)
    assert run(driftline, ["drift", "backtest", "--line", "tiles"]) == 130
    assert "interrupted" in capsys.readouterr().err


def test_a_drawing_is_the_same_in_both_formats() -> None:
    shapes: list[Line | Area | Words] = [
        Line(((0, 5), (20, 5)), "#ff0000", width=2),
        Area.box(4, 0, 8, 10, "#0000ff", "a<b"),
        Words(1, 9, "x"),
    ]
    drawn = Drawing("title", 20, 10, shapes)
    assert "<title>a&lt;b</title>" in svg(drawn)
    with Image.open(BytesIO(png(drawn))) as picture:
        assert picture.size == (40, 20)
        assert (picture.getpixel((30, 10)), picture.getpixel((12, 4))) == ((255, 0, 0), (0, 0, 255))
