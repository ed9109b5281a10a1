"""Trials as Dagster's sensors and the commands carry them out, over a real installation and a real Dagster instance."""

from pathlib import Path

import dagster as dg
import pytest

from detectors.registry import Registry
from detectors.store import open_store
from orchestration.cli import driftline
from orchestration.console import run
from orchestration.definitions import defs
from orchestration.resources import Installation
from orchestration.sensors import requested_retrains
from orchestration.trials import versions_on_probation, versions_on_trial
from streams.actions import Actor, promote
from streams.ledger import Ledger
from streams.messages import RetrainRequest
from streams.settings import Settings, load_lines
from tests.detectors.artefacts import artefact
from tests.streams.test_succession import House

LINE = "tiles"
TOML = '[lines.tiles]\nshadow_images = 20\nshadow_share = 1.0\npromotion = "{promotion}"\nprobation_images = 40\n'


@pytest.fixture
def house(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> House:
    """An installation whose version 2 scores beside version 1."""
    monkeypatch.setenv("DRIFTLINE_HOME", str(tmp_path))
    for name in ("DRIFTLINE_BUS", "DRIFTLINE_STORE", "DRIFTLINE_LEDGER"):
        monkeypatch.delenv(name, raising=False)
    settings = Settings.from_environ({"DRIFTLINE_HOME": str(tmp_path)})
    made = House(Ledger.open(settings.ledger), Registry(open_store(settings.store)))
    configure(tmp_path, made, promotion="automatic")
    made.registry.publish(LINE, artefact(LINE))
    promote(made.ledger, Actor("ana", "engineer"), made.registry, line=LINE, version=1, why="the first", at=1.0)
    made.make()
    return made


def configure(home: Path, house: House, *, promotion: str) -> None:
    (home / "driftline.toml").write_text(TOML.format(promotion=promotion))
    house.config = load_lines(home)[LINE]


def tick(sensor: dg.SensorDefinition, home: Path, instance: dg.DagsterInstance) -> str:
    """What the sensor says at one look."""
    resources = {"installation": Installation(home=str(home))}
    with dg.build_sensor_context(instance=instance, resources=resources, definitions=defs) as context:
        return sensor.evaluate_tick(context).skip_message or ""


@pytest.fixture
def instance() -> dg.DagsterInstance:
    return dg.DagsterInstance.ephemeral()


def test_a_trial_ends_and_a_bad_promotion_is_taken_back_by_the_sensors(
    house: House, tmp_path: Path, instance: dg.DagsterInstance
) -> None:
    house.run(20)
    assert "tiles@2 promoted" in tick(versions_on_trial, tmp_path, instance)
    assert house.points() == (2, 1, 1)
    assert tick(versions_on_trial, tmp_path, instance) == "no trial has come to an end"
    house.now = house.ledger.promotions(LINE)[-1].at
    house.run(20, flagged=True)
    assert "tiles@2 rolled back to 1" in tick(versions_on_probation, tmp_path, instance)
    assert house.points() == (1, None, 2)
    assert tick(versions_on_probation, tmp_path, instance) == "no champion is worse than the version before it"


def test_a_request_on_trial_needs_no_run(house: House, tmp_path: Path, instance: dg.DagsterInstance) -> None:
    with dg.build_sensor_context(
        instance=instance, resources={"installation": Installation(home=str(tmp_path))}, definitions=defs
    ) as context:
        assert requested_retrains.evaluate_tick(context).run_requests == []
    house.ledger.record([request("r9")])
    with dg.build_sensor_context(
        instance=instance, resources={"installation": Installation(home=str(tmp_path))}, definitions=defs
    ) as context:
        (launched,) = requested_retrains.evaluate_tick(context).run_requests or ()
    assert launched.run_key == "r9:1"


def request(request_id: str) -> RetrainRequest:
    return RetrainRequest(
        line="doors", request_id=request_id, cause="manual", mode="blind", image_keys=("k",), parent_version=None, alarm_at=None,
        requested_at=1.0,
    )  # fmt: skip


def test_the_location_runs_the_three_sensors_by_itself() -> None:
    sensors = {each.name: each for each in defs.get_repository_def().sensor_defs}
    assert set(sensors) >= {"requested_retrains", "versions_on_trial", "versions_on_probation"}
    assert all(each.default_status == dg.DefaultSensorStatus.RUNNING for each in sensors.values())


def test_a_person_approves_or_rejects_by_command(
    house: House, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(driftline, ["models", "reject", "tiles@challenger", "--why", "misses scratches"]) == 0
    assert "tiles@2 rejected, version 1 stays in service" in capsys.readouterr().out
    assert house.points() == (1, None, None)
    configure(tmp_path, house, promotion="approval")
    house.make("r2")
    assert run(driftline, ["models", "approve", "tiles@3", "--why", "better", "--json"]) == 0
    assert '"champion": 3' in capsys.readouterr().out.replace('":3', '": 3')
    assert house.points() == (3, 1, 1)
    assert [row.state for row in house.ledger.requests(LINE)] == ["refused", "promoted"]
    assert run(driftline, ["models", "approve", "tiles@1", "--why", "again"]) == 2
    assert "tiles@1 does not wait for anybody; driftline models promote tiles@1" in capsys.readouterr().err
