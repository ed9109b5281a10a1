"""A retrain as Dagster carries it out, and what its page, the commands and the model card then tell: the same."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from detectors.images import encode_png
from detectors.registry import Registry
from detectors.registry_keys import card_key
from detectors.store import open_store
from orchestration.cli import driftline
from orchestration.console import run
from orchestration.definitions import defs
from orchestration.resources import ATTEMPT_TAG, LINE_TAG, REQUEST_TAG, Installation
from streams.ledger import Ledger
from streams.messages import RetrainRequest, Review
from streams.settings import Settings
from tests.streams.scoring_line import texture
from tests.streams.test_ledger import verdict

LINE = "tiles"
WINDOW = tuple(f"images/{number}.png" for number in range(26))


@dataclass(frozen=True)
class Retrained:
    """An installation after one retrain: its metadata on Dagster's page."""

    settings: Settings
    run_id: str
    metadata: dict[str, Any]


@pytest.fixture(scope="module")
def retrained(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Retrained]:
    home = tmp_path_factory.mktemp("home")
    (home / "driftline.toml").write_text(f"[lines.{LINE}]\nimage_size = 64\nbank = 200\n")
    with pytest.MonkeyPatch.context() as environ:
        environ.setenv("DRIFTLINE_HOME", str(home))
        settings = Settings.from_environ({"DRIFTLINE_HOME": str(home)})
        asked(settings)
        tags = {REQUEST_TAG: "r1", ATTEMPT_TAG: "1", LINE_TAG: LINE}
        with dg.DagsterInstance.ephemeral() as instance:
            done = defs.resolve_job_def("retrain").execute_in_process(
                tags=tags, instance=instance, resources={"installation": Installation(home=str(home))}
            )
            (event,) = done.asset_materializations_for_node("published_version")
        yield Retrained(settings, done.run_id, {name: each.value for name, each in event.metadata.items()})


def asked(settings: Settings) -> None:
    """Images of the line, verdicts on them, and a request over them."""
    store, ledger = open_store(settings.store), Ledger.open(settings.ledger)
    for number, key in enumerate(WINDOW):
        store.put(key, encode_png(texture(number)))
    ledger.record([verdict(str(number)) for number in range(len(WINDOW))])
    ledger.record([
        RetrainRequest(
            line=LINE, request_id="r1", cause="manual", mode="blind", image_keys=WINDOW, parent_version=None, alarm_at=None,
            requested_at=1.0,
        )
    ])  # fmt: skip


def said(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert run(driftline, list(arguments)) == 0
    return capsys.readouterr().out


def told(capsys: pytest.CaptureFixture[str], *arguments: str) -> Any:
    return json.loads(said(capsys, *arguments, "--json"))


@pytest.fixture(autouse=True)
def at_home(retrained: Retrained, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DRIFTLINE_HOME", str(retrained.settings.home))


def test_dagsters_page_and_the_command_tell_the_same(retrained: Retrained, capsys: pytest.CaptureFixture[str]) -> None:
    shown = [line.strip() for line in said(capsys, "models", "show", f"{LINE}@1").splitlines()]
    page = [line.removeprefix("- ") for line in retrained.metadata["lineage"].splitlines()]
    assert f"Dagster run {retrained.run_id}, attempt 1" in page
    assert any(line.startswith("gate threshold_holds passed") for line in page)
    assert [line for line in page if line not in shown] == [], "the promotion reaches the ledger after the run"
    assert retrained.metadata["model card"] == card_key(LINE, 1)


def test_the_run_writes_the_card_and_the_command_prints_it(
    retrained: Retrained, capsys: pytest.CaptureFixture[str]
) -> None:
    store = open_store(retrained.settings.store)
    written = store.get(card_key(LINE, 1)).decode()
    printed = said(capsys, "models", "show", f"{LINE}@1", "--card")
    assert printed.startswith(written.rstrip())
    assert "| threshold_holds | passed |" in printed
    assert f"Dagster run {retrained.run_id}" in written
    assert "chosen from a window of 26 images" in written
    assert Registry(store).verify(LINE, 1) == []


def test_show_tells_machines_everything(retrained: Retrained, capsys: pytest.CaptureFixture[str]) -> None:
    shown = told(capsys, "models", "show", f"{LINE}@1")
    assert shown["request"]["run_id"] == retrained.run_id
    assert shown["marks"] == ["champion"]
    assert {gate["name"] for gate in shown["gates"]} >= {"threshold_holds", "reference_holds"}
    assert len(shown["training"]) == len(WINDOW)
    assert [point["revision"] for point in shown["operating_points"]] == [1]
    assert shown["manifest"]["line"] == LINE


def test_an_image_leads_to_the_model_that_learnt_it_and_a_defect_marks_the_model(
    retrained: Retrained, capsys: pytest.CaptureFixture[str]
) -> None:
    manifest = Registry(open_store(retrained.settings.store)).manifest(LINE, 1)
    learnt = next(key for key in manifest.training_keys if key not in manifest.left_out)
    image_id = Path(learnt).stem
    assert told(capsys, "models", "list")["lines"][0]["affected"] == {}
    assert "learnt by version 1" in said(capsys, "lineage", "--line", LINE, image_id)
    review = Review(line=LINE, image_id=image_id, says="defect", note="crack", by="ana", at=2.0)
    Ledger.open(retrained.settings.ledger).record([review])
    found = told(capsys, "lineage", "--line", LINE, image_id)
    assert [row["version"] for row in found["learnt_by"]] == [1]
    assert found["judged_by"]["request"]["run_id"] == retrained.run_id
    assert told(capsys, "models", "list")["lines"][0]["affected"] == {"1": 1}
    assert "1 (1 images)" in said(capsys, "models", "list")
    assert f"stand as defects now: {image_id}" in said(capsys, "models", "show", f"{LINE}@1")


def test_an_image_nobody_knows_is_wrong_use(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(driftline, ["lineage", "--line", LINE, "gone"]) == 2
    assert "knows no image 'gone'" in capsys.readouterr().err


def test_a_threshold_is_tried_set_and_read_again(retrained: Retrained, capsys: pytest.CaptureFixture[str]) -> None:
    before = told(capsys, "models", "threshold", f"{LINE}@champion")
    assert before["suggestion"]["threshold"] is None
    tried = told(capsys, "models", "threshold", f"{LINE}@1", "--try", "0.5")
    assert (tried["preview"]["threshold"], tried["threshold"]) == (0.5, before["threshold"])
    words = said(capsys, "models", "threshold", f"{LINE}@1", "0.5", "--why", "more scrap")
    assert "threshold 0.5, revision 2" in words
    after = told(capsys, "models", "threshold", f"{LINE}@1")
    assert [point["why"] for point in after["history"]][-1] == "more scrap"
    assert after["threshold"] == 0.5
    (entry, *_) = Ledger.open(retrained.settings.ledger).audit()
    assert entry.action == "threshold"
    assert run(driftline, ["models", "threshold", f"{LINE}@1", "nan"]) == 2
    assert "give a number of at least 0" in capsys.readouterr().err
    assert run(driftline, ["models", "threshold", f"{LINE}@1", "1", "--try", "2"]) == 2
