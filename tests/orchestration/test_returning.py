"""A request whose images an older version knows: that version comes back, or is offered; in all other cases a model is made."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import msgspec
import pytest

from detectors.registry_keys import version_folder
from orchestration.assets import candidate, known_condition, published_version, training_set
from orchestration.checks import gate_checks
from orchestration.replay import write_line
from orchestration.resources import ATTEMPT_TAG, LINE_TAG, REQUEST_TAG, Installation
from orchestration.retrain import Retrain
from orchestration.returning import Looked, look_back
from orchestration.sensors import requested_retrains
from streams.actions import DRIFTLINE, rollback
from streams.ledger import RequestRow
from streams.messages import ModelPromoted, RetrainRequest
from streams.settings import LineConfig, Settings
from tests.orchestration.alternating import CONFIG, DAY, LINE, NIGHT, Alternating

DUSK = 0.92
BY_DAY, BY_NIGHT = 1, 2


@pytest.fixture(scope="module")
def grown(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The home of a line with a version by day and one by night, which serves; and images of three lights."""
    home = tmp_path_factory.mktemp("grown")
    line = Alternating(home)
    line.born(DAY)
    line.train(line.request(line.keep(50, NIGHT), name="first-night"))
    line.heard()
    line.write_down()
    return home


@pytest.fixture
def line(grown: Path, tmp_path: Path) -> Iterator[Alternating]:
    shutil.copytree(grown, tmp_path / "home")
    found = Alternating(tmp_path / "home")
    found.sent, found.clock.at = 1000, 1.1e9
    yield found
    found.models.close()


def asked(line: Alternating, light: float, *, images: int = 30, cause: str = "covariate_drift") -> RetrainRequest:
    return line.request(line.keep(images, light), cause=cause, name="asked")


def looked(line: Alternating, request: RetrainRequest, config: LineConfig = CONFIG) -> tuple[Looked, RequestRow]:
    found = look_back(line.retrain(request, config=config))
    row = line.ledger.request(request.request_id)
    assert row is not None
    return found, row


def announced(line: Alternating) -> list[ModelPromoted]:
    """What the bus is to hear of promotions since the line was grown."""
    return [message for _, message in line.ledger.outbox(100) if isinstance(message, ModelPromoted)]


def decided(line: Alternating, tmp_path: Path) -> RequestRow:
    """A request by day of which a run has kept its decision, and then died: what else it did, it did elsewhere."""
    asked(line, DAY)
    shutil.copytree(line.home, tmp_path / "elsewhere")
    elsewhere = Alternating(tmp_path / "elsewhere")
    row = line.ledger.request("asked")
    assert row is not None
    look_back(Retrain(elsewhere.rooms, row, 1, CONFIG))
    shutil.copytree(tmp_path / "elsewhere" / "objects" / "drafts", line.home / "objects" / "drafts", dirs_exist_ok=True)
    return row


def test_the_version_of_the_day_comes_back_by_day(line: Alternating) -> None:
    found, row = looked(line, asked(line, DAY))
    assert (row.state, row.version) == ("switched_back", BY_DAY)
    assert (found.outcome, found.version) == ("switched_back", BY_DAY)
    assert row.detail is not None
    assert row.detail.startswith("the line returned to the condition of version 1: pictures: ")
    assert "recall" in row.detail
    pointers = line.registry.pointers(LINE)
    assert (pointers.champion, pointers.previous) == (BY_DAY, BY_NIGHT)
    (promoted,) = announced(line)
    assert (promoted.version, promoted.sequence, promoted.request_id) == (BY_DAY, 3, "asked")
    assert promoted.why == "the line returned to the condition of version 1"


def test_a_light_that_no_version_knows_takes_a_new_model(line: Alternating) -> None:
    found, row = looked(line, asked(line, DUSK))
    assert found.outcome is None
    assert found.words["version 1"].startswith("pictures differ: ")
    assert row.state == "running"
    assert line.registry.pointers(LINE).champion == BY_NIGHT


@pytest.mark.parametrize("promotion", ["approval", "never"])
def test_where_a_person_is_to_approve_the_version_is_offered(line: Alternating, promotion: str) -> None:
    config = msgspec.convert(msgspec.structs.asdict(CONFIG) | {"promotion": promotion}, LineConfig)
    _, row = looked(line, asked(line, DAY), config)
    assert (row.state, row.version) == ("awaiting_approval", BY_DAY)
    pointers = line.registry.pointers(LINE)
    assert (pointers.champion, pointers.challenger) == (BY_NIGHT, BY_DAY)
    assert announced(line) == []


def test_only_drift_takes_a_version_back(line: Alternating) -> None:
    for cause in ("manual", "reviews", "schedule", "cold_start"):
        request = line.request(line.keep(1, DAY), cause=cause, name=cause)
        found, row = looked(line, request)
        assert found == Looked({"not looked for": f"the cause of the request is {cause}"})
        assert row.state == "running"


def test_a_version_that_was_replaced_since_it_asked_is_not_decided_for(line: Alternating) -> None:
    request = asked(line, DAY)
    line.registry.rollback(LINE)
    found, _ = looked(line, request)
    assert found == Looked({"not looked for": "version 2 asked, and 1 serves"})


def test_a_version_that_asked_in_this_very_condition_is_not_exchanged_for_the_one_that_asks_now(
    line: Alternating,
) -> None:
    """However well it seems to judge it: else two versions could replace each other for ever while the line stays as it is."""
    by_day = msgspec.structs.replace(line.request(line.keep(30, DAY), name="template"), parent_version=BY_DAY)
    line.ledger.record([msgspec.structs.replace(by_day, request_id="by-day")])
    found, row = looked(line, asked(line, DAY))
    assert found.outcome is None
    assert found.words["version 1"].endswith("it asked for another model in this very condition")
    assert row.state == "running"
    found, _ = looked(line, line.request(line.keep(30, DUSK), name="dusk"))
    assert found.words["version 1"].startswith("pictures differ: ")


def test_of_few_images_nothing_is_told(line: Alternating) -> None:
    found, _ = looked(line, asked(line, DAY, images=19))
    assert found == Looked({"not looked for": "19 images of the window can be read, 20 are needed"})


def test_a_line_that_is_set_to_look_in_another_way_does_not_go_back(line: Alternating) -> None:
    found, _ = looked(line, asked(line, DAY), msgspec.structs.replace(CONFIG, image_size=96))
    assert found.outcome is None
    assert "in another way" in found.words["version 1"]


def test_the_threshold_in_force_is_the_one_that_must_hold(line: Alternating) -> None:
    line.registry.set_operating_point(LINE, BY_DAY, threshold=1e-6, by="ana", why="test", at=1.0)
    found, _ = looked(line, asked(line, DAY))
    assert found.outcome is None
    assert "30 of 30 held-out images flagged" in found.words["version 1"]


def test_a_version_that_is_broken_or_was_rolled_back_is_none(line: Alternating) -> None:
    (line.home / "objects" / version_folder(LINE, BY_DAY) / "model.safetensors").write_bytes(b"torn")
    found, _ = looked(line, asked(line, DAY))
    assert found.outcome is None
    assert "cannot be loaded" in found.words["version 1"]
    rollback(line.ledger, DRIFTLINE, line.registry, line=LINE, why="", at=line.clock.now())
    found, _ = looked(line, line.request(line.keep(30, NIGHT), name="by-night"))
    assert found == Looked({"not looked for": "there is no other version that may be taken back"})


@pytest.mark.parametrize("promoted", [False, True], ids=["before", "after"])
def test_a_run_that_died_beside_its_promotion_is_finished_and_decides_nothing_again(
    line: Alternating, tmp_path: Path, promoted: bool
) -> None:
    row = decided(line, tmp_path)
    if promoted:
        line.registry.promote(LINE, BY_DAY)
    shutil.rmtree(line.home / "objects" / "images")
    found = look_back(Retrain(line.rooms, row, 2, CONFIG))
    assert (found.outcome, found.version) == ("switched_back", BY_DAY)
    assert line.registry.pointers(LINE).champion == BY_DAY
    assert [(each.version, each.sequence) for each in announced(line)] == [(BY_DAY, 3)]
    assert line.outcomes[-1] == ("switched_back", BY_DAY)


def test_a_run_that_died_after_it_had_told_of_its_promotion_tells_nothing_twice(line: Alternating) -> None:
    asked(line, DAY)
    row = line.ledger.request("asked")
    assert row is not None
    for attempt in (1, 2):
        look_back(Retrain(line.rooms, row, attempt, CONFIG))
    assert [each.sequence for each in announced(line)] == [3]
    assert line.registry.pointers(LINE).sequence == 3


def test_a_person_who_promotes_meanwhile_is_not_overruled(line: Alternating, tmp_path: Path) -> None:
    row = decided(line, tmp_path)
    line.registry.promote(LINE, BY_DAY)
    line.registry.rollback(LINE)
    found = look_back(Retrain(line.rooms, row, 2, CONFIG))
    assert found.outcome == "cancelled"
    assert line.registry.pointers(LINE).champion == BY_NIGHT
    ended = line.ledger.request("asked")
    assert ended is not None
    assert ended.version is None
    assert ended.detail is not None
    assert "somebody was quicker" in ended.detail


ASSETS = (known_condition, training_set, candidate, published_version, *gate_checks)


def run_of(line: Alternating, request: RetrainRequest, instance: dg.DagsterInstance) -> dg.ExecuteInProcessResult:
    tags = {REQUEST_TAG: request.request_id, ATTEMPT_TAG: "1", LINE_TAG: LINE}
    installation = Installation(home=str(line.home))
    return dg.materialize(ASSETS, resources={"installation": installation}, tags=tags, instance=instance)


def test_dagster_skips_what_a_returned_version_makes_needless_and_the_run_succeeds(
    line: Alternating, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DRIFTLINE_HOME", str(line.home))
    write_line(Settings.from_environ({"DRIFTLINE_HOME": str(line.home)}), LINE, CONFIG)
    with dg.DagsterInstance.ephemeral() as instance:
        back = run_of(line, asked(line, DAY), instance)
        assert back.success
        (event,) = back.asset_materializations_for_node("known_condition")
        assert event.asset_key == dg.AssetKey("returned_version")
        assert event.metadata["version"].value == BY_DAY
        assert "recall" in str(event.metadata["version 1"].value)
        skipped = {each.step_key for each in back.all_events if each.event_type == dg.DagsterEventType.STEP_SKIPPED}
        assert {"training_set", "candidate", "published_version"} <= skipped
        assert back.get_asset_check_evaluations() == []
        assert line.outcomes[-1] == ("switched_back", BY_DAY)
        context = dg.build_sensor_context(instance, resources={"installation": Installation(home=str(line.home))})
        assert list(requested_retrains(context) or ()) == []
        anew = run_of(line, line.request(line.keep(50, DUSK), name="dusk"), instance)
        assert anew.success
        (event,) = anew.asset_materializations_for_node("known_condition")
        assert event.asset_key == dg.AssetKey("new_condition")
        assert "pictures differ" in str(event.metadata["version 2"].value)
    assert line.outcomes[-1] == ("promoted", 3)
