"""The promises of an object store, kept by the folder store, also between processes and after a crash."""

import errno
import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from detectors.errors import DriftlineError, InvalidInput, Unavailable
from detectors.objects import ObjectStore, image_key
from detectors.store import FolderStore, open_store
from tests.detectors.rivals import race
from tests.detectors.store_contract import StoreContract

DIGEST = "ab" * 32


class TestFolderStore(StoreContract):
    """The embedded default keeps the contract."""

    @pytest.fixture
    def address(self, tmp_path: Path) -> str:
        return str(tmp_path / "objects")


@pytest.fixture
def store(tmp_path: Path) -> ObjectStore:
    return FolderStore(tmp_path / "objects")


@given(st.text(max_size=20))
def test_no_key_leaves_the_folder(tmp_path_factory: pytest.TempPathFactory, key: str) -> None:
    root = tmp_path_factory.getbasetemp() / "keys" / "objects"
    try:
        FolderStore(root).put(key, b"1")
    except DriftlineError:
        return
    assert FolderStore(root).get(key) == b"1"
    assert (root / key).resolve().is_relative_to(root.resolve())
    (root / key).unlink()


def test_a_key_below_an_object_is_refused_in_words(store: ObjectStore) -> None:
    store.put("a", b"1")
    with pytest.raises(InvalidInput, match="one key is a folder of another"):
        store.put("a/b", b"2")
    with pytest.raises(InvalidInput, match="one key is a folder of another"):
        store.swap("a/b", b"2", expected=None)


def test_a_full_disk_is_unavailable_in_words_and_leaves_nothing(tmp_path: Path) -> None:
    store = FolderStore(tmp_path)
    ((_, words),) = race("fill", tmp_path, 1)
    assert words.startswith(f"cannot write big in {tmp_path}: {os.strerror(errno.EFBIG)}; mend its disk")
    assert not store.exists("big")
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_a_forbidden_folder_is_unavailable_in_words(tmp_path: Path) -> None:
    FolderStore(tmp_path).put("a/b", b"1")
    ((_, words),) = race("look", tmp_path, 1)
    (tmp_path / "a").chmod(stat.S_IRWXU)
    forbidden = os.strerror(errno.EACCES)
    assert words.splitlines() == [
        f"cannot {intent} in {tmp_path}: {forbidden}; mend its disk, space or permissions"
        for intent in ("read a/b", "look for a/b", "list a/")
    ]


def test_a_store_that_went_away_is_not_an_empty_one(tmp_path: Path) -> None:
    root = tmp_path / "disk"
    store = FolderStore(root)
    store.put("a", b"1")
    root.rename(tmp_path / "unplugged")
    root.mkdir()
    calls: list[Callable[[], object]] = [
        lambda: store.get("a"),
        lambda: store.exists("a"),
        lambda: store.read("a"),
        lambda: store.keys(""),
        lambda: store.put("a", b"1"),
        lambda: store.swap("a", b"1", expected=None),
    ]
    for call in calls:
        with pytest.raises(Unavailable, match="gone"):
            call()
    assert list(root.iterdir()) == []


def test_a_file_is_no_store(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(InvalidInput, match="is a file"):
        FolderStore(tmp_path / "file")


def test_open_store_reads_urls_and_paths(tmp_path: Path) -> None:
    root = tmp_path / "with space"
    open_store(root.as_uri()).put("a", b"1")
    assert open_store(str(root)).get("a") == b"1"
    assert (root / "a").read_bytes() == b"1"


def test_open_store_says_what_it_cannot_open() -> None:
    for url in ("ftp://host/path", "file://host/path", "file://"):
        with pytest.raises(InvalidInput, match="no object store"):
            open_store(url)


def test_image_keys_carry_line_day_and_digest() -> None:
    at = 1_795_478_399.9  # 2026-11-23T23:59:59.9Z: still the 23rd, wherever the machine stands
    assert image_key("press-4/door", DIGEST, at=at, suffix="jpg") == f"images/press-4%2Fdoor/2026/11/23/{DIGEST}.jpg"
    assert image_key("tiles", DIGEST, at=at + 1, suffix=".PNG") == f"images/tiles/2026/11/24/{DIGEST}.png"


@pytest.mark.parametrize("suffix", ["", "../x", "a/b", "tar.gz", "ü"])
def test_a_suffix_is_never_trusted(suffix: str) -> None:
    assert image_key("tiles", DIGEST, at=0.0, suffix=suffix) == f"images/tiles/1970/01/01/{DIGEST}.bin"


@pytest.mark.parametrize(
    ("line", "digest", "at"),
    [("../x", DIGEST, 0.0), ("tiles", "AB", 0.0), ("tiles", DIGEST, float("nan")), ("tiles", DIGEST, 1e300)],
)
def test_bad_image_keys_are_refused(line: str, digest: str, at: float) -> None:
    with pytest.raises(InvalidInput):
        image_key(line, digest, at=at, suffix="png")
