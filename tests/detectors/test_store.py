"""The promises of an object store, kept by the folder store, also between processes and after a crash."""

import errno
import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from detectors.errors import Conflict, DriftlineError, InvalidInput, NotFound, NotYet, Unavailable
from detectors.store import FolderStore, ObjectStore, image_key, open_store
from tests.detectors.rivals import LOST, ROUNDS, SIZE, WON, Rival, outcomes, race

DIGEST = "ab" * 32
RIVALS = 4


@pytest.fixture
def store(tmp_path: Path) -> ObjectStore:
    return FolderStore(tmp_path / "objects")


def test_what_was_put_is_got(store: ObjectStore) -> None:
    store.put("a/b.png", b"pixels")
    assert store.get("a/b.png") == b"pixels"
    assert store.exists("a/b.png")


def test_an_empty_object_is_an_object(store: ObjectStore) -> None:
    store.put("empty", b"")
    assert store.get("empty") == b""
    assert store.exists("empty")


def test_equal_bytes_may_be_put_again(store: ObjectStore) -> None:
    store.put("a", b"1")
    store.put("a", b"1")
    assert store.get("a") == b"1"


def test_other_bytes_are_a_conflict_and_change_nothing(store: ObjectStore) -> None:
    store.put("a", b"1")
    with pytest.raises(Conflict, match="a is kept"):
        store.put("a", b"2")
    assert store.get("a") == b"1"


@pytest.mark.parametrize("key", ["nothing", "folder", "folder/object/below"])
def test_an_absent_object(store: ObjectStore, key: str) -> None:
    store.put("folder/object", b"1")
    assert not store.exists(key)
    assert store.read(key) is None
    with pytest.raises(NotFound, match=key):
        store.get(key)


def test_keys_are_those_with_the_prefix_sorted(store: ObjectStore) -> None:
    for key in ("m/b/2", "m/b/10", "m/a", "m/bc", "n/a"):
        store.put(key, b"")
    assert store.keys("") == ["m/a", "m/b/10", "m/b/2", "m/bc", "n/a"]
    assert store.keys("m/b") == ["m/b/10", "m/b/2", "m/bc"]
    assert store.keys("m/b/") == ["m/b/10", "m/b/2"]
    assert store.keys("m/a/") == []
    assert store.keys("elsewhere/") == []


def test_swap_creates_only_where_nothing_is(store: ObjectStore) -> None:
    etag = store.swap("p", b"1", expected=None)
    revision = store.read("p")
    assert revision is not None
    assert (revision.data, revision.etag) == (b"1", etag)
    with pytest.raises(Conflict):
        store.swap("p", b"2", expected=None)


def test_swap_replaces_only_what_was_expected(store: ObjectStore) -> None:
    first = store.swap("p", b"1", expected=None)
    second = store.swap("p", b"2", expected=first)
    with pytest.raises(Conflict):
        store.swap("p", b"3", expected=first)
    assert store.get("p") == b"2"
    assert store.swap("p", b"3", expected=second) != second


def test_swap_of_an_absent_object_with_an_etag_is_a_conflict(store: ObjectStore) -> None:
    with pytest.raises(Conflict):
        store.swap("p", b"1", expected="0" * 64)
    assert not store.exists("p")


@pytest.mark.parametrize(
    "key", ["", "/", "/etc/passwd", "a//b", "a/", "../a", "a/../b", ".", "a/.hidden", "a\0b", "x" * 256, "\ud800"]
)
def test_bad_keys_are_refused_everywhere(store: ObjectStore, key: str) -> None:
    calls: list[Callable[[], object]] = [
        lambda: store.put(key, b""),
        lambda: store.get(key),
        lambda: store.exists(key),
        lambda: store.read(key),
        lambda: store.swap(key, b"", expected=None),
    ]
    for call in calls:
        with pytest.raises(InvalidInput, match=r"part|text"):
            call()


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


@pytest.mark.parametrize("present", [False, True])
def test_of_racing_swaps_exactly_one_wins(tmp_path: Path, present: bool) -> None:
    store = FolderStore(tmp_path)
    if present:
        store.put("before", b"before")
        store.swap("p", b"before", expected=None)
    ends = outcomes("swap", tmp_path, RIVALS)
    assert sorted(ends) == [WON] + [LOST] * (RIVALS - 1)
    assert store.get("p") == str(ends.index(WON)).encode()


def test_a_number_counted_by_processes_and_threads_loses_nothing(tmp_path: Path) -> None:
    assert outcomes("count", tmp_path, 3) == [WON] * 3
    assert FolderStore(tmp_path).get("n") == str(3 * 2 * ROUNDS).encode()


def test_of_racing_puts_of_different_bytes_one_stands(tmp_path: Path) -> None:
    ends = outcomes("put_other", tmp_path, RIVALS)
    assert sorted(ends) == [WON] + [LOST] * (RIVALS - 1)
    assert FolderStore(tmp_path).get("a/b/c") == str(ends.index(WON)).encode() * SIZE


def test_racing_puts_of_equal_bytes_all_succeed(tmp_path: Path) -> None:
    assert outcomes("put_equal", tmp_path, RIVALS) == [WON] * RIVALS


@pytest.mark.parametrize("kill_after", [1, 2, 5])
def test_a_kill_in_the_middle_of_writing_leaves_only_whole_objects(tmp_path: Path, kill_after: int) -> None:
    victim = Rival("write", tmp_path, 0)
    assert victim.told() == "ready"
    victim.go()
    assert [victim.told() for _ in range(kill_after)] == ["wrote"] * kill_after
    victim.process.kill()
    victim.ended()
    store = FolderStore(tmp_path)
    assert len(store.keys("images/")) >= kill_after
    for key in store.keys(""):
        data = store.get(key)
        assert data == data[:1] * SIZE, key
    now = store.read("pointer")
    assert now is not None
    store.swap("pointer", b"the lock died with its holder", expected=now.etag)


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
    with pytest.raises(NotYet, match="a later issue"):
        open_store("s3://bucket")
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
