"""A champion that was changed by somebody who died before saying so."""

from pathlib import Path

import pytest

from detectors.registry import Registry
from detectors.store import FolderStore
from streams.actions import DRIFTLINE, promote
from streams.ledger import Ledger
from streams.reconciling import tell_untold
from streams.trials import rolled_back
from tests.detectors.artefacts import artefact

LINE = "press-4/문"


@pytest.fixture
def rooms(tmp_path: Path) -> tuple[Ledger, Registry]:
    """Version 2 serves in place of version 1, and everybody knows."""
    ledger, registry = Ledger.open(f"sqlite:///{tmp_path}/ledger.sqlite"), Registry(FolderStore(tmp_path / "objects"))
    for version, content in ((1, "a"), (2, "b")):
        assert registry.publish(LINE, artefact(LINE, content=content)) == version
        promote(ledger, DRIFTLINE, registry, line=LINE, version=version, why="", at=float(version))
    return ledger, registry


def test_where_everything_is_told_nothing_is(rooms: tuple[Ledger, Registry]) -> None:
    assert tell_untold(*rooms, {}, at=9.0) == ({}, [])


def test_a_rollback_that_could_not_be_told_is_told_at_the_second_look_as_one(rooms: tuple[Ledger, Registry]) -> None:
    ledger, registry = rooms
    registry.rollback(LINE)
    missing, told = tell_untold(ledger, registry, {}, at=9.0)
    assert (missing, told) == ({LINE: 3}, []), "at first it may be about to be told"
    missing, told = tell_untold(ledger, registry, missing, at=9.0)
    assert missing == {}
    assert [words.partition(" ")[0] for words in told] == [f"{LINE}@1"]
    latest = ledger.promotions(LINE)[-1]
    assert (latest.version, latest.previous, latest.sequence, latest.rolled_back) == (1, 2, 3, True)
    assert rolled_back(ledger.promotions(LINE)) == {2}
    assert "could not say so" in ledger.audit(limit=1)[0].detail
    assert tell_untold(ledger, registry, {LINE: 3}, at=9.0) == ({}, [])


def test_a_promotion_that_could_not_be_told_is_none(rooms: tuple[Ledger, Registry]) -> None:
    ledger, registry = rooms
    registry.publish(LINE, artefact(LINE, content="c"))
    registry.promote(LINE, 3)
    tell_untold(ledger, registry, {LINE: 3}, at=9.0)
    assert not ledger.promotions(LINE)[-1].rolled_back


def test_a_line_of_which_nothing_was_ever_told_is_left_alone(tmp_path: Path) -> None:
    ledger, registry = Ledger.open(f"sqlite:///{tmp_path}/ledger.sqlite"), Registry(FolderStore(tmp_path / "objects"))
    registry.publish(LINE, artefact(LINE))
    registry.promote(LINE, 1)
    assert tell_untold(ledger, registry, {LINE: 1}, at=9.0) == ({}, [])
