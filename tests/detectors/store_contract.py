"""What every object store promises, as a suite: a test class of a store derives from `StoreContract` and says where it is.

Other processes are those of `tests.detectors.rivals`.
"""

from collections.abc import Callable

import pytest

from detectors.errors import Conflict, InvalidInput, NotFound
from detectors.objects import ObjectStore
from detectors.registry import Registry
from detectors.store import open_store
from tests.detectors.artefacts import artefact
from tests.detectors.rivals import LINE, LOST, ROUNDS, SIZE, WON, Rival, outcomes

RIVALS = 4


class StoreContract:
    """The suite; `address` is a fresh store's URL or path."""

    @pytest.fixture
    def address(self) -> str:
        raise NotImplementedError

    @pytest.fixture
    def store(self, address: str) -> ObjectStore:
        return open_store(address)

    def test_what_was_put_is_got(self, store: ObjectStore) -> None:
        store.put("a/b.png", b"pixels")
        assert store.get("a/b.png") == b"pixels"
        assert store.exists("a/b.png")

    def test_an_empty_object_is_an_object(self, store: ObjectStore) -> None:
        store.put("empty", b"")
        assert store.get("empty") == b""
        assert store.exists("empty")

    def test_equal_bytes_may_be_put_again(self, store: ObjectStore) -> None:
        store.put("a", b"1")
        store.put("a", b"1")
        assert store.get("a") == b"1"

    def test_other_bytes_are_a_conflict_and_change_nothing(self, store: ObjectStore) -> None:
        store.put("a", b"1")
        with pytest.raises(Conflict, match="a is kept"):
            store.put("a", b"2")
        assert store.get("a") == b"1"

    @pytest.mark.parametrize("key", ["nothing", "folder", "folder/object/below"])
    def test_an_absent_object(self, store: ObjectStore, key: str) -> None:
        store.put("folder/object", b"1")
        assert not store.exists(key)
        assert store.read(key) is None
        with pytest.raises(NotFound, match=key):
            store.get(key)

    def test_keys_are_those_with_the_prefix_sorted(self, store: ObjectStore) -> None:
        for key in ("m/b/2", "m/b/10", "m/a", "m/bc", "n/a"):
            store.put(key, b"")
        assert store.keys("") == ["m/a", "m/b/10", "m/b/2", "m/bc", "n/a"]
        assert store.keys("m/b") == ["m/b/10", "m/b/2", "m/bc"]
        assert store.keys("m/b/") == ["m/b/10", "m/b/2"]
        assert store.keys("m/a/") == []
        assert store.keys("elsewhere/") == []

    def test_swap_creates_only_where_nothing_is(self, store: ObjectStore) -> None:
        etag = store.swap("p", b"1", expected=None)
        revision = store.read("p")
        assert revision is not None
        assert (revision.data, revision.etag) == (b"1", etag)
        with pytest.raises(Conflict):
            store.swap("p", b"2", expected=None)

    def test_swap_replaces_only_what_was_expected(self, store: ObjectStore) -> None:
        first = store.swap("p", b"1", expected=None)
        second = store.swap("p", b"2", expected=first)
        with pytest.raises(Conflict):
            store.swap("p", b"3", expected=first)
        assert store.get("p") == b"2"
        assert store.swap("p", b"3", expected=second) != second

    def test_swap_of_an_absent_object_with_an_etag_is_a_conflict(self, store: ObjectStore) -> None:
        with pytest.raises(Conflict):
            store.swap("p", b"1", expected="0" * 64)
        assert not store.exists("p")

    @pytest.mark.parametrize(
        "key", ["", "/", "/etc/passwd", "a//b", "a/", "../a", "a/../b", ".", "a/.hidden", "a\0b", "x" * 256, "\ud800"]
    )
    def test_bad_keys_are_refused_everywhere(self, store: ObjectStore, key: str) -> None:
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

    @pytest.mark.parametrize("present", [False, True])
    def test_of_racing_swaps_exactly_one_wins(self, address: str, present: bool) -> None:
        store = open_store(address)
        if present:
            store.put("before", b"before")
            store.swap("p", b"before", expected=None)
        ends = outcomes("swap", address, RIVALS)
        assert sorted(ends) == [WON] + [LOST] * (RIVALS - 1)
        assert store.get("p") == str(ends.index(WON)).encode()

    def test_a_number_counted_by_processes_and_threads_loses_nothing(self, address: str) -> None:
        assert outcomes("count", address, 3) == [WON] * 3
        assert open_store(address).get("n") == str(3 * 2 * ROUNDS).encode()

    def test_of_racing_puts_of_different_bytes_one_stands(self, address: str) -> None:
        ends = outcomes("put_other", address, RIVALS)
        assert sorted(ends) == [WON] + [LOST] * (RIVALS - 1)
        assert open_store(address).get("a/b/c") == str(ends.index(WON)).encode() * SIZE

    def test_racing_puts_of_equal_bytes_all_succeed(self, address: str) -> None:
        assert outcomes("put_equal", address, RIVALS) == [WON] * RIVALS

    @pytest.mark.parametrize("kill_after", [1, 2, 5])
    def test_a_kill_in_the_middle_of_writing_leaves_only_whole_objects(self, address: str, kill_after: int) -> None:
        victim = Rival("write", address, 0)
        assert victim.told() == "ready"
        victim.go()
        assert [victim.told() for _ in range(kill_after)] == ["wrote"] * kill_after
        victim.process.kill()
        victim.ended()
        store = open_store(address)
        assert len(store.keys("images/")) >= kill_after
        for key in store.keys(""):
            data = store.get(key)
            assert data == data[:1] * SIZE, key
        now = store.read("pointer")
        assert now is not None
        store.swap("pointer", b"the lock died with its holder", expected=now.etag)

    def test_of_racing_promotions_one_wins_and_the_others_are_told(self, address: str) -> None:
        registry = Registry(open_store(address))
        for number in range(RIVALS):
            registry.publish(LINE, artefact(LINE, content=str(number)))
        ends = outcomes("promote_first", address, RIVALS)
        assert sorted(ends) == [WON] + [LOST] * (RIVALS - 1)
        assert registry.pointers(LINE).champion == ends.index(WON) + 1
