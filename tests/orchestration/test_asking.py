"""Reviews and schedules ask through the ledger, once each; a request that lacks images waits, and says for what."""

import os
from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import msgspec
import pytest

from detectors.registry import Registry
from detectors.store import FolderStore
from orchestration.asking import Asked, ask
from orchestration.resources import Installation
from orchestration.sensors import requested_retrains, standing_causes
from streams.ledger import Ledger
from streams.lines_in_force import LinesInForce
from streams.messages import RetrainRequest, Review
from tests.detectors.artefacts import artefact
from tests.streams.test_ledger import verdict

LINE = "tiles"
DAY, HOUR = 86_400.0, 3600.0
MADE_AT = 1000.0
"""When the version of `artefact` was made."""


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("DRIFTLINE_LEDGER", "DRIFTLINE_BUS", "DRIFTLINE_STORE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("DRIFTLINE_HOME", str(tmp_path))
    return tmp_path


@pytest.fixture
def ledger(home: Path) -> Ledger:
    return Ledger.open(f"sqlite:///{home / 'ledger.sqlite'}")


@pytest.fixture
def registry(home: Path) -> Registry:
    opened = Registry(FolderStore(home / "objects"))
    opened.publish(LINE, artefact(LINE))
    opened.promote(LINE, 1)
    return opened


class Looks:
    """Looks at the lines at moments of virtual time, each with the cursor of the one before."""

    def __init__(self, ledger: Ledger, registry: Registry, home: Path) -> None:
        self._now = 0.0
        self._rooms = ledger, registry, LinesInForce(home, now=lambda: self._now)
        self._cursor: str | None = None

    def at(self, at: float) -> Asked:
        self._now = at
        found = ask(*self._rooms, self._cursor, at=at)
        self._cursor = found.cursor
        return found


def describe(home: Path, text: str) -> None:
    path = home / "driftline.toml"
    later = path.stat().st_mtime_ns + 1_000_000 if path.exists() else None
    path.write_text(f"[lines.{LINE}]\n{text}\n")
    if later is not None:
        os.utime(path, ns=(later, later))


def reviewed(first: int, last: int, *, at: float, says: str = "normal") -> list[Review]:
    return [
        Review(line=LINE, image_id=f"i{number}", says=says, note="", by="ana", at=at) for number in range(first, last)
    ]


def test_reviews_ask_once_and_what_they_asked_for_counts_no_more(
    ledger: Ledger, registry: Registry, home: Path
) -> None:
    describe(home, "review_images = 5")
    looks = Looks(ledger, registry, home)
    ledger.record([verdict(f"i{number}", at=float(number)) for number in range(40)])
    ledger.record(reviewed(0, 5, at=MADE_AT))  # the model was made with these
    ledger.record(
        reviewed(5, 9, at=MADE_AT + 1) + reviewed(5, 9, at=MADE_AT + 2) + reviewed(9, 12, at=MADE_AT, says="unsure")
    )
    assert looks.at(2000.0).requests == ()
    ledger.record(reviewed(12, 13, at=MADE_AT + 3, says="defect"))
    (asked,) = looks.at(2001.0).requests
    assert [row.request for row in ledger.requests(LINE)] == [asked]
    assert (asked.cause, asked.mode, asked.parent_version) == ("reviews", "refresh", 1)
    assert looks.at(2002.0).requests == ()
    ledger.end_request(asked.request_id, outcome="refused", version=None, detail="", at=2003.0)
    ledger.record(reviewed(13, 17, at=2004.0))
    assert looks.at(2005.0).requests == ()
    ledger.record(reviewed(17, 18, at=2006.0))
    assert len(looks.at(2007.0).requests) == 1
    assert [entry.who for entry in ledger.audit()] == ["driftline", "driftline"]


def test_a_schedule_asks_each_time_it_comes_due(ledger: Ledger, registry: Registry, home: Path) -> None:
    looks = Looks(ledger, registry, home)
    ledger.record([verdict("a")])
    assert looks.at(10 * HOUR).requests == ()
    describe(home, 'schedule = "0 3 * * *"')
    assert looks.at(12 * HOUR).requests == ()  # today's 03:00 was before anybody wrote it down
    for day in (1, 2):
        assert looks.at(day * DAY + 3 * HOUR - 1).requests == ()
        (asked,) = looks.at(day * DAY + 3 * HOUR + 5).requests
        assert looks.at(day * DAY + 3 * HOUR + 15).requests == ()
        ledger.end_request(asked.request_id, outcome="refused", version=None, detail="", at=day * DAY + 4 * HOUR)
        assert looks.at(day * DAY + 5 * HOUR).requests == ()
    (missed,) = looks.at(3 * DAY + 20 * HOUR).requests  # everything was down at 03:00
    assert missed.cause == "schedule"
    ledger.end_request(missed.request_id, outcome="failed", version=None, detail="", at=3 * DAY + 21 * HOUR)
    assert (
        looks.at(10 * DAY + 2 * HOUR).requests != ()
    )  # a week down: the last one is made up for, none of those before
    assert len(ledger.requests(LINE)) == 4


def test_a_line_that_has_no_model_asks_for_nothing(ledger: Ledger, registry: Registry, home: Path) -> None:
    (home / "driftline.toml").write_text('[lines.doors]\nschedule = "* * * * *"\nreview_images = 1\n')
    ledger.record([msgspec.structs.replace(each, line="doors") for each in reviewed(0, 9, at=2000.0)])
    looks = Looks(ledger, registry, home)
    looks.at(0.0)
    assert looks.at(3000.0).in_words == "nothing asks for a new model"


def test_a_line_whose_model_cannot_be_read_stops_no_other(ledger: Ledger, registry: Registry, home: Path) -> None:
    (home / "driftline.toml").write_text("[lines.tiles]\nreview_images = 1\n[lines.broken]\nreview_images = 1\n")
    registry.publish("broken", artefact("broken"))
    registry.promote("broken", 1)
    (manifest,) = (home / "objects").glob("models/broken/**/manifest.json")
    manifest.write_bytes(b"{")
    said = reviewed(0, 1, at=2000.0)
    ledger.record([verdict("i0"), *said, *(msgspec.structs.replace(each, line="broken") for each in said)])
    found = Looks(ledger, registry, home).at(3000.0)
    assert [each.line for each in found.requests] == [LINE]
    assert found.in_words.startswith("line broken: ")


def test_a_mistake_in_the_configuration_is_said_and_the_last_good_one_counts(
    ledger: Ledger, registry: Registry, home: Path
) -> None:
    describe(home, "review_images = 1")
    looks = Looks(ledger, registry, home)
    describe(home, "review_imags = 0")
    ledger.record([verdict("i0"), *reviewed(0, 1, at=2000.0)])
    found = looks.at(3000.0)
    assert len(found.requests) == 1
    assert "did you mean 'review_images'" in found.in_words


@pytest.fixture
def context(home: Path) -> Iterator[dg.SensorEvaluationContext]:
    with dg.DagsterInstance.ephemeral() as instance:
        yield dg.build_sensor_context(instance=instance, resources={"installation": Installation(home=str(home))})


def test_the_sensor_files_and_remembers_and_never_runs_anything(
    ledger: Ledger, registry: Registry, home: Path, context: dg.SensorEvaluationContext
) -> None:
    describe(home, 'review_images = 1\nschedule = "0 3 * * *"')
    ledger.record([verdict("i0"), *reviewed(0, 1, at=2000.0)])
    skipped = standing_causes(context)
    assert isinstance(skipped, dg.SkipReason)
    assert skipped.skip_message == "asked for tiles: reviews"
    assert "0 3 * * *" in (context.cursor or "")
    assert [row.state for row in ledger.requests(LINE)] == ["open"]


def launched(context: dg.SensorEvaluationContext) -> list[dg.RunRequest]:
    found = requested_retrains(context)
    assert isinstance(found, Iterator)
    return [each for each in found if isinstance(each, dg.RunRequest)]


def test_a_request_without_enough_images_is_not_run_but_waits_and_says_for_what(
    ledger: Ledger, registry: Registry, context: dg.SensorEvaluationContext
) -> None:
    asked = RetrainRequest(
        line=LINE, request_id="r", cause="schedule", mode="refresh", image_keys=(), parent_version=1, alarm_at=None,
        requested_at=9.0, wanted_images=40,
    )  # fmt: skip
    behind = msgspec.structs.replace(
        asked, line="doors", request_id="s", image_keys=("a",), parent_version=None, requested_at=10.0
    )
    ledger.record([asked, behind, *(verdict(f"i{number}", at=float(number)) for number in range(8))])
    assert [each.run_key for each in launched(context)] == ["s:1"]
    (row,) = ledger.requests(LINE)
    assert (row.state, row.detail) == ("open", "waits for 12 more images")
    assert next(each for each in ledger.lines() if each.line == LINE).request_waits == "waits for 12 more images"
    ledger.record([verdict(f"i{number}", at=float(number)) for number in range(8, 20)])
    assert "r:1" in [each.run_key for each in launched(context)]
    (row,) = ledger.requests(LINE)
    assert (row.state, row.detail) == ("open", None)


@pytest.mark.parametrize(
    ("line", "parent", "says"),
    [
        ("nobody", None, "no image and no model of a line 'nobody' is known; send some with"),
        (LINE, 9, "line 'tiles' has no version 9; ask again"),
    ],
)
def test_a_request_for_a_line_or_a_version_that_there_is_not_ends_with_the_reason(
    ledger: Ledger, registry: Registry, context: dg.SensorEvaluationContext, line: str, parent: int | None, says: str
) -> None:
    asked = RetrainRequest(
        line=line, request_id="r", cause="manual", mode="refresh", image_keys=(), parent_version=parent, alarm_at=None,
        requested_at=9.0, wanted_images=40,
    )  # fmt: skip
    ledger.record([asked])
    assert launched(context) == []
    (row,) = ledger.requests(line)
    assert row.state == "failed"
    assert (row.detail or "").startswith(says)


def test_a_line_with_a_model_and_no_image_yet_waits(
    ledger: Ledger, registry: Registry, context: dg.SensorEvaluationContext
) -> None:
    asked = RetrainRequest(
        line=LINE, request_id="r", cause="schedule", mode="refresh", image_keys=(), parent_version=1, alarm_at=None,
        requested_at=9.0, wanted_images=40,
    )  # fmt: skip
    ledger.record([asked])
    assert launched(context) == []
    assert [(row.state, row.detail) for row in ledger.requests(LINE)] == [("open", "waits for 20 more images")]
