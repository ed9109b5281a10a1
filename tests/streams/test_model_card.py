"""The model card: written once, true to manifest and ledger, readable, and no place for other people's markup."""

import math
from pathlib import Path

import msgspec
import pytest

from detectors.manifest import Preprocessing, read_manifest
from detectors.registry import Registry
from detectors.registry_keys import card_key
from detectors.store import FolderStore
from streams.ledger import GateResult, Ledger
from streams.lineage import version_story
from streams.messages import Review
from streams.model_card import card, keep_card, kept_card
from tests.detectors.artefacts import artefact
from tests.streams.test_ledger import verdict
from tests.streams.test_lineage import LINE, carried_out, key, publish


@pytest.fixture
def store(tmp_path: Path) -> FolderStore:
    return FolderStore(tmp_path / "objects")


@pytest.fixture
def registry(store: FolderStore) -> Registry:
    return Registry(store)


def test_the_card_of_a_run_tells_training_limits_figures_gates_and_lineage(
    ledger: Ledger, registry: Registry, store: FolderStore
) -> None:
    publish(registry, "folder/1.png")
    version = carried_out(ledger, registry)
    ledger.note_gate("r1", GateResult("finds_drawn_defects", True, 0.9, 0.7, "AUROC 0.90 | of *drawn* ones"))
    ledger.note_gate("r1", GateResult("recall", False, math.nan, 0.9, "no golden set"))
    where = keep_card(store, registry, LINE, version, ledger=ledger)
    assert where == card_key(LINE, version)
    written = store.get(where).decode()
    assert written.startswith(f"# {LINE}, version {version}\n")
    for told in (
        "## What it learnt from", "learnt from 2 images, 1 held out to judge it", "1 left out: suspect",
        "## Its limits", "its drift reference has only 1 images", "64 px a square", "the gates saw 1 held-out images",
        "drawn defects", "not to be evaluated: recall",
        "## Its figures", "threshold of an image 2.5, for 1 % false alarms; on unseen normals 0 % to 5 % (95 %)",
        "| latency_and_size | passed | 81 | 1000 | 81 ms an image |", "| recall | refused | none | 0.9 | no golden set |",
        r"AUROC 0.90 \| of \*drawn\* ones",
        "## Where it comes from", "Dagster run run-17, attempt 2", "after version 1 (manual)",
    ):  # fmt: skip
        assert told in written


def test_a_card_is_written_once_and_is_no_file_of_the_version(registry: Registry, store: FolderStore) -> None:
    version = publish(registry, "folder/1.png")
    where = keep_card(store, registry, LINE, version)
    before = store.get(where)
    registry.set_operating_point(LINE, version, threshold=9.0, by="ana", why="w", at=1.0)
    assert keep_card(store, registry, LINE, version) == where
    assert store.get(where) == before
    assert registry.verify(LINE, version) == []
    assert b"no gate compared it with another version" in before


def test_what_became_of_a_version_stands_under_its_card(ledger: Ledger, registry: Registry, store: FolderStore) -> None:
    publish(registry, "folder/1.png")
    version = carried_out(ledger, registry)
    keep_card(store, registry, LINE, version, ledger=ledger)
    ledger.record([verdict("a"), Review(line=LINE, image_id="a", says="defect", note="", by="ana", at=9.0)])
    told = kept_card(store, version_story(ledger, registry, LINE, version))
    written, since = told.split("## Since then")
    assert written.strip() == store.get(card_key(LINE, version)).decode().strip()
    assert "AFFECTED: 1 of its training images stand as defects now: a" in since
    assert "in service from" in since


def test_a_version_older_than_cards_gets_one_when_asked(ledger: Ledger, registry: Registry, store: FolderStore) -> None:
    version = publish(registry, key("a"))
    assert "## What it learnt from" in kept_card(store, version_story(ledger, registry, LINE, version))
    assert not store.exists(card_key(LINE, version))


def test_what_a_line_cuts_away_is_said(ledger: Ledger, registry: Registry) -> None:
    files = artefact(LINE)
    manifest = read_manifest(files["manifest.json"])
    prepare = Preprocessing(grey=True, crop=(0.0, 0.5, 1.0, 1.0), tiles=(2, 3), mask="x")
    features = msgspec.structs.replace(manifest.features, prepare=prepare)
    changed = msgspec.structs.replace(manifest, features=features, notes=("8 bits are <b>not</b> used",), mode="blind")
    version = registry.publish(LINE, files | {"manifest.json": msgspec.json.encode(changed)})
    told = card(version_story(ledger, registry, LINE, version))
    assert (
        "the image in grey, cropped to (0.0, 0.5, 1.0, 1.0), cut into 2 x 3 squares, nothing outside its mask" in told
    )
    assert r"8 bits are \<b\>not\</b\> used" in told
    assert "nobody said that they are normal" in told
