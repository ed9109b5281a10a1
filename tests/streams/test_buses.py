"""Which bus a URL names."""

from pathlib import Path

import pytest

from detectors.errors import InvalidInput
from streams.buses import open_bus
from streams.local import LocalBus


def test_a_file_is_the_embedded_bus(tmp_path: Path) -> None:
    assert isinstance(open_bus(f"sqlite:///{tmp_path}/a/bus.sqlite"), LocalBus)
    assert (tmp_path / "a" / "bus.sqlite").exists()


@pytest.mark.parametrize("url", ["redis://host", "sqlite:///", "bus.sqlite", ""])
def test_anything_else_is_refused(url: str) -> None:
    with pytest.raises(InvalidInput, match="is no bus"):
        open_bus(url)
