"""What a person fills in becomes a search; what it finds becomes a table or an archive."""

import csv
import io
import zipfile
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import msgspec
import pytest

from dashboard.exporting import archive_of, kind_of, table_of
from dashboard.searching import Fields, all_matches, asked
from detectors.errors import InvalidInput
from streams import ledger_search
from streams.ledger_search import FoundImage, Search
from tests.dashboard import installation as given
from tests.dashboard.installation import LINE, Installation

KOREAN = "프레스-4/문"
NASTY = '=HYPERLINK("http://x";"../../etc/passwd")'


@pytest.fixture
def here(tmp_path: Path) -> Installation:
    return given.installation(tmp_path)


def found(number: int, *, line: str = LINE, score: float = 1.0, says: str | None = None, name: str = "") -> FoundImage:
    made = given.verdict(line, number, at=1000.0 + number, score=score)
    return FoundImage(msgspec.structs.replace(made, image_id=name or made.image_id), says)


def stored(here: Installation, images: Sequence[FoundImage]) -> None:
    for image in images:
        here.store.put(image.verdict.image_key, f"pixels of {image.verdict.image_key}".encode())


class TestAsked:
    def test_nothing_filled_in_asks_for_everything(self) -> None:
        assert asked((), Fields(), UTC) == Search()
        assert Fields(image_id="  ", whole=True).empty
        assert not Fields(says="nothing yet").empty

    def test_times_are_the_viewers(self) -> None:
        nine = datetime(2026, 7, 1, 9)
        wanted = asked((LINE,), Fields(since=nine, until=nine.replace(hour=10)), ZoneInfo("Asia/Seoul"))
        assert wanted.since == datetime(2026, 7, 1, 0, tzinfo=UTC).timestamp()
        assert wanted.until - wanted.since == 3600

    def test_the_words_of_the_pickers(self) -> None:
        fields = Fields(image_id=" part ", whole=True, flagged="not flagged", says="nothing yet", lowest=0.0, version=3)
        wanted = Search(image_id="part", whole=True, flagged=False, says="none", lowest=0.0, version=3)
        assert asked((), fields, UTC) == wanted

    @pytest.mark.parametrize(
        ("fields", "words"),
        [
            (Fields(since=datetime(2026, 1, 2), until=datetime(2026, 1, 1)), "ends before it begins"),
            (Fields(lowest=float("nan")), "nan is no score"),
            (Fields(highest=float("inf")), "inf is no score"),
            (Fields(lowest=2.0, highest=1.0), "give the lower one first"),
            (Fields(image_id="x" * 10_240), "10,240 characters"),
        ],
    )
    def test_mistakes_are_words(self, fields: Fields, words: str) -> None:
        with pytest.raises(InvalidInput, match=words):
            asked((), fields, UTC)


class TestAllMatches:
    def test_up_to_a_limit(self, here: Installation) -> None:
        here.ledger.record([given.verdict(LINE, number, at=float(number)) for number in range(50)])
        some, everything, exactly = (all_matches(here.ledger, Search(), limit=limit) for limit in (20, 1000, 50))
        assert [each.verdict.image_id for each in some.images] == [f"part-{number}" for number in range(49, 29, -1)]
        assert some.cut
        assert (len(everything.images), everything.cut) == (50, False)
        assert (len(exactly.images), exactly.cut) == (50, False)

    def test_it_goes_on_where_a_page_found_nothing(self, here: Installation, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(ledger_search, "INDEXED", 3)
        at = 3600.0
        here.ledger.record(
            [given.verdict(LINE, number, at=at * number, score=float(number == 2)) for number in range(40)]
        )
        matches = all_matches(here.ledger, Search(lowest=0.5), limit=20)
        assert [each.verdict.image_id for each in matches.images] == ["part-2"]
        assert not matches.cut

    def test_it_does_not_look_for_ever_and_says_how_far(
        self, here: Installation, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(ledger_search, "INDEXED", 1)
        monkeypatch.setattr("dashboard.searching.STEPS_EXPORTED", 4)
        here.ledger.record([given.verdict(LINE, number, at=3600.0 * number) for number in range(40)])
        matches = all_matches(here.ledger, Search(lowest=5.0), limit=20)
        assert (matches.images, matches.cut, matches.looked_back_to) == ((), True, 3600.0 * 35)


class TestTable:
    def test_a_row_an_image(self) -> None:
        (row,) = read(table_of([found(1, score=-2.5, says="defect", line=KOREAN)]))
        assert (row["line"], row["image_id"], row["review"]) == (KOREAN, "part-1", "defect")
        assert row["judged_at"] == "1970-01-01T00:16:41.000+00:00"
        assert (row["score"], row["flagged"], row["version"]) == ("-2.5", "no", "1"), "a figure stays one"

    @pytest.mark.parametrize("sign", "=+-@\t\r")
    def test_nothing_becomes_a_formula(self, sign: str) -> None:
        (row,) = read(table_of([found(1, name=f"{sign}1+1")]))
        assert row["image_id"] == f"'{sign}1+1"

    @pytest.mark.parametrize("name", ['a,"b"\nc', "<b>", "\ud800", "한글"])
    def test_any_text_fits_into_a_cell(self, name: str) -> None:
        rows = read(table_of([found(1, name=name), found(2)]))
        assert [row["image_id"] for row in rows] == [name.replace("\ud800", "?"), "part-2"]

    def test_times_that_no_calendar_has(self) -> None:
        made = FoundImage(msgspec.structs.replace(found(1).verdict, taken_at=1e300), None)
        assert read(table_of([made]))[0]["taken_at"] == "1e+300"


class TestArchive:
    def test_a_folder_for_each_kind(self, here: Installation) -> None:
        images = [
            found(1, says="normal", score=3.0),
            found(2),
            found(3, says="defect"),
            found(4, says="unsure"),
            found(5, score=3.0),
        ]
        stored(here, images)
        made = archive_of(here.store, images)
        with zipfile.ZipFile(io.BytesIO(made.data)) as archive:
            assert archive.namelist() == [
                "test/good/0000-part-1.png",
                "test/good/0001-part-2.png",
                "test/defect/0002-part-3.png",
                "test/unsure/0003-part-4.png",
                "test/flagged/0004-part-5.png",
                "images.csv",
                "README.txt",
            ]
            assert archive.read("test/defect/0002-part-3.png") == b"pixels of images/3.png"
            assert [row["file"] for row in read(archive.read("images.csv"))] == archive.namelist()[:5]
            assert b"No mask is known" in archive.read("README.txt")
        assert (made.images, made.missing, made.full) == (5, (), False)
        assert [kind_of(image) for image in images] == ["good", "good", "defect", "unsure", "flagged"]

    def test_lines_have_a_folder_each_and_names_are_safe(self, here: Installation) -> None:
        images = [found(1, name=NASTY), found(2, line=KOREAN, name="한글/" + "x" * 500), found(3, name="..")]
        stored(here, images)
        with zipfile.ZipFile(io.BytesIO(archive_of(here.store, images).data)) as archive:
            names = archive.namelist()[:3]
        assert names[0] == "press-4%2Fdoor/test/good/0000-_HYPERLINK_http_x_.._.._etc_passwd_.png"
        assert names[1] == f"프레스-4%2F문/test/good/0001-한글_{'x' * 57}.png"
        assert names[2] == "press-4%2Fdoor/test/good/0002-.png"

    def test_missing_pixels_are_named(self, here: Installation) -> None:
        nowhere = FoundImage(msgspec.structs.replace(found(9).verdict, image_key="../../etc/passwd"), None)
        images = [found(1), found(2, name="gone\nin the night"), nowhere]
        stored(here, images[:1])
        made = archive_of(here.store, images)
        assert (made.images, made.missing) == (1, ("gone\nin the night", "part-9"))
        with zipfile.ZipFile(io.BytesIO(made.data)) as archive:
            readme = archive.read("README.txt").decode()
        assert "The pixels of 2 images are no longer in the object store:\ngone in the night\npart-9\n" in readme

    def test_it_has_a_limit_in_bytes(self, here: Installation) -> None:
        images = [found(number) for number in range(4)]
        stored(here, images)
        made = archive_of(here.store, images, bytes_limit=50)
        assert (made.images, made.full) == (2, True)
        with zipfile.ZipFile(io.BytesIO(made.data)) as archive:
            assert b"There were more" in archive.read("README.txt")


def read(table: bytes) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(table.decode("utf-8-sig"), newline="")))
