"""The script that makes the pictures of docs/drift.md, without its model; and that the pictures the documents show are there."""

import io
import re
from importlib import import_module
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from PIL import Image as Picture

from detectors.errors import InvalidInput
from detectors.images import encode_jpeg
from streams.rendered import RenderedLine

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    return import_module("drift_pictures")


def test_pictures_lie_side_by_side(script: ModuleType) -> None:
    black, white = (encode_jpeg(np.full((script.SIDE_PX, script.SIDE_PX, 3), grey, np.uint8)) for grey in (0, 255))
    row = Picture.open(io.BytesIO(script.side_by_side([(black, "before"), (white, "after")])))
    assert row.size == (2 * script.SIDE_PX + script.GAP_PX, script.HEAD_PX + script.SIDE_PX)
    grey_W = np.asarray(row.convert("L"))[script.HEAD_PX + script.SIDE_PX // 2]
    assert grey_W[script.SIDE_PX // 2] < 10
    assert grey_W[-script.SIDE_PX // 2] > 245


def test_one_part_in_so_many_is_bad(script: ModuleType) -> None:
    line, act = RenderedLine(seed=7), script.Act("few", 4, "few bad parts", bad_every=4)
    as_good = [bool((act.image(line, number, number) == line.image(number)).all()) for number in range(4)]
    assert as_good == [True, True, False, True]


def test_a_picture_too_large_for_the_sources_is_refused(script: ModuleType, tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="40001 bytes; at most 40000"):
        script.write(tmp_path / "large.jpg", bytes(40_001))
    assert not list(tmp_path.iterdir())


def test_the_pictures_that_the_documents_show_are_there() -> None:
    for document in (ROOT / "docs").glob("*.md"):
        for link in re.findall(r"!\[[^\]]*\]\(([^)]+)\)", document.read_text()):
            assert (document.parent / link).is_file(), f"{document.name} shows {link}"
