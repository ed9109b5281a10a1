"""The gates as Dagster runs them: all are asked, written down and shown, and one that refuses keeps the candidate from being published."""

from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest

from detectors.images import encode_png
from detectors.registry import Registry
from detectors.store import open_store
from orchestration.assets import candidate, known_condition, published_version, training_set
from orchestration.checks import gate_checks
from orchestration.gate_list import GATE_DESCRIPTIONS
from orchestration.resources import ATTEMPT_TAG, REQUEST_TAG, Installation
from streams.ledger import Ledger
from streams.messages import RetrainRequest
from streams.settings import Settings
from tests.streams.scoring_line import texture

LINE = "press-4/door"
KEYS = tuple(f"images/test/2026/01/01/{number}.png" for number in range(24))


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    for name in ("BUS", "STORE", "LEDGER"):
        monkeypatch.delenv(f"DRIFTLINE_{name}", raising=False)
    monkeypatch.setenv("DRIFTLINE_HOME", str(tmp_path))
    (tmp_path / "driftline.toml").write_text(f'[lines."{LINE}"]\nimage_size = 64\nbank = 200\n')
    settings = Settings.from_environ({"DRIFTLINE_HOME": str(tmp_path)})
    for number, key in enumerate(KEYS):
        open_store(settings.store).put(key, encode_png(texture(number)))
    return settings


@pytest.fixture
def instance(tmp_path: Path) -> Iterator[dg.DagsterInstance]:
    (tmp_path / "dagster").mkdir()
    with dg.DagsterInstance.local_temp(str(tmp_path / "dagster")) as opened:
        yield opened


def carried_out(instance: dg.DagsterInstance, settings: Settings, cause: str) -> dg.ExecuteInProcessResult:
    """A request for a model of all images, carried out by the assets and checks in this process."""
    asked = RetrainRequest(
        line=LINE, request_id=cause, cause=cause, mode="blind", image_keys=KEYS, parent_version=None, alarm_at=None,
        requested_at=1.0,
    )  # fmt: skip
    Ledger.open(settings.ledger).record([asked])
    return dg.materialize(
        [known_condition, training_set, candidate, published_version, *gate_checks],
        resources={"installation": Installation(home=str(settings.home))},
        instance=instance,
        tags={REQUEST_TAG: cause, ATTEMPT_TAG: "1"},
        raise_on_error=False,
    )


def test_a_first_model_passes_and_the_same_once_more_is_refused_by_one_gate_in_words(
    instance: dg.DagsterInstance, settings: Settings
) -> None:
    ledger, registry = Ledger.open(settings.ledger), Registry(open_store(settings.store))
    first = carried_out(instance, settings, "cold_start")
    assert first.success
    assert registry.pointers(LINE).champion == 1
    again = carried_out(instance, settings, "manual")
    assert not again.success
    assert registry.versions(LINE) == [1]
    noted = {gate.name: gate for gate in ledger.gates("manual")}
    assert set(noted) == set(GATE_DESCRIPTIONS)
    assert [name for name, gate in noted.items() if not gate.passed] == ["differs_from_champion"]
    shown = {each.check_name: each for each in again.get_asset_check_evaluations()}
    assert set(shown) == set(GATE_DESCRIPTIONS)
    for name, gate in noted.items():
        assert shown[name].passed == gate.passed
        assert shown[name].metadata["in words"].value == gate.words
        assert shown[name].metadata["limit"].value == gate.limit
    assert shown["threshold_holds"].metadata["images"].value == 5
    held_out = shown["threshold_holds"].metadata["image keys"].value
    assert isinstance(held_out, list)
    assert set(held_out) < set(KEYS)
