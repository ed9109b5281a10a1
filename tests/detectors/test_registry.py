"""Versions, pointers and operating points of the registry: immutable, atomic, exact under races and crashes."""

import hashlib
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from detectors.errors import ArtifactError, Conflict, DriftlineError, InvalidInput, NotFound
from detectors.objects import Revision
from detectors.registry import OperatingPoint, Pointers, Registry
from detectors.store import FolderStore
from tests.detectors.artefacts import artefact
from tests.detectors.rivals import LINE, LOST, WON, Rival, outcomes, race

MODELS = "models/press-4%2Fdoor"
RIVALS = 3


@pytest.fixture
def store(tmp_path: Path) -> FolderStore:
    return FolderStore(tmp_path)


@pytest.fixture
def registry(store: FolderStore) -> Registry:
    return Registry(store)


def publish(registry: Registry, count: int, line: str = LINE) -> list[int]:
    return [registry.publish(line, artefact(line, content=f"fit {number}")) for number in range(count)]


class Killed(BaseException):
    """The process died here."""


class DyingStore(FolderStore):
    """A folder store whose process dies before its `steps`-th write."""

    def __init__(self, root: Path, steps: int) -> None:
        super().__init__(root)
        self.steps = steps

    def _step(self) -> None:
        self.steps -= 1
        if self.steps < 0:
            raise Killed

    def put(self, key: str, data: bytes) -> None:
        self._step()
        super().put(key, data)

    def swap(self, key: str, data: bytes, *, expected: str | None) -> str:
        self._step()
        return super().swap(key, data, expected=expected)


def test_an_empty_registry(registry: Registry) -> None:
    assert registry.lines() == []
    assert registry.versions(LINE) == []
    assert registry.pointers(LINE) == Pointers(champion=None, challenger=None, previous=None, sequence=0)


def test_what_was_published_comes_back(registry: Registry) -> None:
    files = artefact(LINE)
    assert registry.publish(LINE, files) == 1
    assert registry.files(LINE, 1) == files
    assert registry.manifest(LINE, 1).line == LINE
    assert registry.verify(LINE, 1) == []


def test_versions_count_up_within_each_line(registry: Registry) -> None:
    assert publish(registry, 11) == list(range(1, 12))
    assert publish(registry, 1, line="tiles") == [1]
    assert registry.versions(LINE) == list(range(1, 12))
    assert registry.lines() == [LINE, "tiles"]


def test_the_layout_is_the_documented_one(registry: Registry, store: FolderStore) -> None:
    registry.publish(LINE, artefact(LINE, request_id="r1"))
    registry.promote(LINE, 1)
    registry.set_operating_point(LINE, 1, threshold=3.0, by="ana", why="w", at=0.0)
    request = hashlib.sha256(b"r1").hexdigest()
    assert store.keys("") == [
        f"{MODELS}/operating-points/1/2.json",
        f"{MODELS}/pointers.json",
        f"{MODELS}/requests/{request}.json",
        f"{MODELS}/versions/1/claim.json",
        f"{MODELS}/versions/1/golden.png",
        f"{MODELS}/versions/1/manifest.json",
        f"{MODELS}/versions/1/model.safetensors",
    ]


def test_a_request_published_again_is_the_same_version(registry: Registry) -> None:
    publish(registry, 1)
    assert registry.publish(LINE, artefact(LINE, content="a", request_id="r1")) == 2
    assert registry.publish(LINE, artefact(LINE, content="b", request_id="r1")) == 2
    assert registry.versions(LINE) == [1, 2]
    assert registry.files(LINE, 2)["model.safetensors"] == b"a"
    assert registry.publish(LINE, artefact(LINE, content="b", request_id="r2")) == 3


@pytest.mark.parametrize("steps", range(6))
def test_killed_at_any_write_a_request_becomes_one_version(tmp_path: Path, steps: int) -> None:
    """Five writes: claim, two files, the request's record, the manifest. The second run's fit came out differently."""
    first = artefact(LINE, content="first", request_id="r1")
    try:
        Registry(DyingStore(tmp_path, steps)).publish(LINE, first)
        died = False
    except Killed:
        died = True
    assert died == (steps < 5)
    registry = Registry(FolderStore(tmp_path))
    assert registry.versions(LINE) == ([] if died else [1])
    version = registry.publish(LINE, artefact(LINE, content="second", request_id="r1"))
    assert registry.versions(LINE) == [version]
    assert registry.verify(LINE, version) == []
    decided_before_the_kill = steps >= 4
    assert registry.files(LINE, version)["model.safetensors"] == (b"first" if decided_before_the_kill else b"second")


@pytest.mark.parametrize("steps", range(4))
def test_a_version_is_complete_or_not_there(tmp_path: Path, steps: int) -> None:
    with pytest.raises(Killed):
        Registry(DyingStore(tmp_path, steps)).publish(LINE, artefact(LINE))
    registry = Registry(FolderStore(tmp_path))
    assert registry.lines() == []
    calls: list[Callable[[], object]] = [
        lambda: registry.manifest(LINE, 1),
        lambda: registry.files(LINE, 1),
        lambda: registry.verify(LINE, 1),
        lambda: registry.promote(LINE, 1),
        lambda: registry.set_challenger(LINE, 1),
        lambda: registry.operating_point(LINE, 1),
        lambda: registry.resolve(f"{LINE}@1"),
    ]
    for call in calls:
        with pytest.raises(NotFound, match="no version press-4/door@1; there are none"):
            call()


def test_racing_publishers_get_numbers_of_their_own(tmp_path: Path) -> None:
    ends = race("publish", tmp_path, RIVALS)
    assert sorted(ends) == [(WON, str(number)) for number in range(1, RIVALS + 1)]
    registry = Registry(FolderStore(tmp_path))
    for number, (_, version) in enumerate(ends):
        assert registry.files(LINE, int(version))["model.safetensors"] == str(number).encode()


def test_racing_runs_of_one_request_make_one_version(tmp_path: Path) -> None:
    ends = race("publish_request", tmp_path, RIVALS)
    ((status, version),) = set(ends)
    assert status == WON
    registry = Registry(FolderStore(tmp_path))
    assert registry.versions(LINE) == [int(version)]
    assert registry.verify(LINE, int(version)) == []


def without(files: dict[str, bytes], name: str) -> dict[str, bytes]:
    return {each: data for each, data in files.items() if each != name}


@pytest.mark.parametrize(
    ("files", "error", "words"),
    [
        (without(artefact(LINE), "manifest.json"), InvalidInput, "without manifest.json"),
        (without(artefact(LINE), "golden.png"), ArtifactError, "golden.png is missing"),
        (artefact(LINE) | {"extra": b""}, ArtifactError, "extra is not in the manifest"),
        (artefact(LINE) | {"golden.png": b"other"}, ArtifactError, "golden.png has SHA-256"),
        (artefact("tiles"), ArtifactError, "of line 'tiles'"),
        (artefact(LINE) | {"manifest.json": b"{}"}, ArtifactError, "manifest.json cannot be read"),
        (artefact(LINE) | {"../x": b""}, InvalidInput, "'../x'"),
        (artefact(LINE) | {"claim.json": b""}, InvalidInput, "'claim.json'"),
    ],
)
def test_a_bad_artefact_is_refused_before_anything_is_written(
    registry: Registry, store: FolderStore, files: dict[str, bytes], error: type[DriftlineError], words: str
) -> None:
    with pytest.raises(error, match=words):
        registry.publish(LINE, files)
    assert store.keys("") == []


def test_tampered_files_are_refused_and_said(registry: Registry, tmp_path: Path) -> None:
    publish(registry, 1)
    folder = tmp_path / MODELS / "versions" / "1"
    (folder / "model.safetensors").write_bytes(b"tampered")
    (folder / "golden.png").unlink()
    problems = registry.verify(LINE, 1)
    assert len(problems) == 2
    assert problems[0] == "golden.png is missing"
    assert problems[1].startswith("model.safetensors has SHA-256")
    with pytest.raises(ArtifactError, match=r"press-4/door@1: golden.png is missing; model"):
        registry.files(LINE, 1)


def test_a_stray_file_is_said_but_does_not_stop_the_line(registry: Registry, tmp_path: Path) -> None:
    publish(registry, 1)
    (tmp_path / MODELS / "versions" / "1" / "note.txt").write_bytes(b"")
    assert registry.verify(LINE, 1) == ["note.txt is not in the manifest"]
    assert set(registry.files(LINE, 1)) == {"manifest.json", "model.safetensors", "golden.png"}


def test_a_manifest_that_names_files_elsewhere_is_refused(registry: Registry, tmp_path: Path) -> None:
    publish(registry, 1)
    manifest = registry.manifest(LINE, 1)
    evil = msgspec.structs.replace(manifest, files=manifest.files | {"../../pointers.json": "00"})
    (tmp_path / MODELS / "versions" / "1" / "manifest.json").write_bytes(msgspec.json.encode(evil))
    with pytest.raises(ArtifactError, match=r"pointers.json is missing"):
        registry.files(LINE, 1)


def test_promotion_moves_champion_to_previous(registry: Registry) -> None:
    publish(registry, 3)
    assert registry.promote(LINE, 1) == Pointers(champion=1, sequence=1)
    assert registry.promote(LINE, 3) == Pointers(champion=3, previous=1, sequence=2)
    assert registry.pointers(LINE) == Pointers(champion=3, previous=1, sequence=2)


def test_promoting_the_champion_changes_nothing(registry: Registry) -> None:
    publish(registry, 2)
    registry.promote(LINE, 1)
    now = registry.promote(LINE, 2)
    assert registry.promote(LINE, 2) == now
    assert registry.promote(LINE, 2, expected_sequence=1) == now


def test_an_expected_sequence_that_passed_is_a_conflict(registry: Registry) -> None:
    publish(registry, 2)
    now = registry.promote(LINE, 1)
    with pytest.raises(Conflict, match=r"sequence 1 .champion 1., expected 0"):
        registry.promote(LINE, 2, expected_sequence=0)
    with pytest.raises(Conflict):
        registry.rollback(LINE, expected_sequence=0)
    assert registry.pointers(LINE) == now


def test_rollback_exchanges_champion_and_previous(registry: Registry) -> None:
    publish(registry, 2)
    registry.promote(LINE, 1)
    registry.promote(LINE, 2)
    assert registry.rollback(LINE) == Pointers(champion=1, previous=2, sequence=3)
    assert registry.rollback(LINE) == Pointers(champion=2, previous=1, sequence=4)


def test_without_a_previous_there_is_no_rollback(registry: Registry) -> None:
    publish(registry, 1)
    registry.promote(LINE, 1)
    with pytest.raises(NotFound, match="no previous version"):
        registry.rollback(LINE)
    assert registry.pointers(LINE) == Pointers(champion=1, sequence=1)


def test_the_challenger_stands_beside_the_champion(registry: Registry) -> None:
    publish(registry, 2)
    registry.promote(LINE, 1)
    assert registry.set_challenger(LINE, 2) == Pointers(champion=1, challenger=2, sequence=1)
    with pytest.raises(InvalidInput, match="is the champion"):
        registry.set_challenger(LINE, 1)
    assert registry.promote(LINE, 2) == Pointers(champion=2, previous=1, sequence=2)
    registry.set_challenger(LINE, 1)
    assert registry.set_challenger(LINE, None).challenger is None


def test_racing_promotions_lose_none(tmp_path: Path) -> None:
    registry = Registry(FolderStore(tmp_path))
    publish(registry, RIVALS)
    assert outcomes("promote", tmp_path, RIVALS) == [WON] * RIVALS
    now = registry.pointers(LINE)
    assert now.sequence == RIVALS
    assert {now.champion, now.previous} <= set(range(1, RIVALS + 1))
    assert now.champion != now.previous


def test_of_racing_promotions_from_one_sequence_one_wins(tmp_path: Path) -> None:
    registry = Registry(FolderStore(tmp_path))
    publish(registry, RIVALS)
    ends = outcomes("promote_first", tmp_path, RIVALS)
    assert sorted(ends) == [WON] + [LOST] * (RIVALS - 1)
    assert registry.pointers(LINE) == Pointers(champion=ends.index(WON) + 1, sequence=1)


def test_promotions_rollbacks_and_challengers_race_and_the_pointers_are_always_whole(tmp_path: Path) -> None:
    registry = Registry(FolderStore(tmp_path))
    publish(registry, 3)
    registry.promote(LINE, 1)
    registry.promote(LINE, 2)
    rivals = [Rival("change_pointers", tmp_path, number) for number in range(RIVALS)]
    assert [rival.told() for rival in rivals] == ["ready"] * RIVALS
    for rival in rivals:
        rival.go()
    sequence = 0
    while any(rival.process.poll() is None for rival in rivals):
        now = registry.pointers(LINE)
        assert now.champion is not None, "a line with a model is never without one"
        assert now.champion not in (now.challenger, now.previous)
        assert {now.champion, now.previous} | {now.challenger} <= {1, 2, 3, None}
        assert now.sequence >= sequence
        sequence = now.sequence
    assert [rival.ended()[0] for rival in rivals] == [WON] * RIVALS
    assert registry.pointers(LINE).sequence > RIVALS


def test_what_was_champion_may_go_on_scoring_beside_its_successor(registry: Registry) -> None:
    publish(registry, 4)
    registry.promote(LINE, 1, beside=True)
    assert registry.pointers(LINE) == Pointers(champion=1, sequence=1), "there was none before it"
    assert registry.promote(LINE, 2, beside=True) == Pointers(champion=2, challenger=1, previous=1, sequence=2)
    assert registry.promote(LINE, 2) == registry.pointers(LINE), "a promotion that is repeated changes nothing"
    assert registry.rollback(LINE) == Pointers(champion=1, previous=2, sequence=3)
    registry.promote(LINE, 2, beside=True)
    assert registry.promote(LINE, 3).challenger is None, "it was there to be compared with 2"
    registry.set_challenger(LINE, 4)
    assert registry.promote(LINE, 1).challenger == 4


def test_a_challenger_is_cleared_unless_another_took_its_place(registry: Registry) -> None:
    publish(registry, 3)
    registry.promote(LINE, 1)
    registry.set_challenger(LINE, 2)
    assert registry.clear_challenger(LINE, 3).challenger == 2
    assert registry.clear_challenger(LINE, 2).challenger is None


def test_a_change_lost_to_another_one_is_decided_anew(tmp_path: Path) -> None:
    class Overtaken(FolderStore):
        """Somebody promotes version 2 between the first read of the pointers and the write."""

        overtake = True

        def read(self, key: str) -> Revision | None:
            revision = super().read(key)
            if key.endswith("pointers.json") and self.overtake:
                self.overtake = False
                Registry(FolderStore(tmp_path)).promote(LINE, 2)
            return revision

    store = Overtaken(tmp_path)
    publish(Registry(store), 3)
    assert Registry(store).promote(LINE, 3) == Pointers(champion=3, previous=2, sequence=2)


def test_references_are_resolved(registry: Registry) -> None:
    publish(registry, 3)
    registry.promote(LINE, 1)
    registry.promote(LINE, 3)
    registry.set_challenger(LINE, 2)
    assert registry.resolve(f"{LINE}@2") == (LINE, 2)
    assert registry.resolve(f"{LINE}@champion") == (LINE, 3)
    assert registry.resolve(f"{LINE}@previous") == (LINE, 1)
    assert registry.resolve(f"{LINE}@challenger") == (LINE, 2)


@pytest.mark.parametrize(
    ("reference", "error"),
    [
        (LINE, InvalidInput),
        ("", InvalidInput),
        (f"{LINE}@", InvalidInput),
        (f"{LINE}@best", InvalidInput),
        (f"{LINE}@-1", InvalidInput),
        (f"{LINE}@٣", InvalidInput),
        (f"{LINE}@{'9' * 5000}", InvalidInput),
        ("../x@1", InvalidInput),
        ("@champion", InvalidInput),
        (f"{LINE}@9", NotFound),
        (f"{LINE}@champion", NotFound),
        ("nobody@1", NotFound),
    ],
)
def test_references_to_nothing(registry: Registry, reference: str, error: type[DriftlineError]) -> None:
    publish(registry, 1)
    with pytest.raises(error):
        registry.resolve(reference)


def test_the_first_operating_point_is_the_fits_own(registry: Registry) -> None:
    publish(registry, 1)
    point = registry.operating_point(LINE, 1)
    assert (point.threshold, point.revision, point.at) == (2.5, 1, 1000.0)


def test_operating_points_are_revisions_of_their_version(registry: Registry) -> None:
    publish(registry, 2)
    files = registry.files(LINE, 1)
    for number in range(2, 13):
        point = registry.set_operating_point(LINE, 1, threshold=float(number), by="ana", why="w", at=5.0)
        assert point == OperatingPoint(threshold=float(number), revision=number, by="ana", why="w", at=5.0)
    assert registry.operating_point(LINE, 1) == point
    assert registry.operating_point(LINE, 2).revision == 1
    assert registry.files(LINE, 1) == files


def test_every_threshold_a_version_has_had_stays_readable_oldest_first(registry: Registry) -> None:
    publish(registry, 1)
    calibrated = registry.operating_point(LINE, 1)
    for number in range(2, 13):
        registry.set_operating_point(
            LINE, 1, threshold=float(number), by="ana", why="w", at=5.0, preview="would have flagged 1"
        )
    history = registry.operating_points(LINE, 1)
    assert [point.revision for point in history] == list(range(1, 13))
    assert history[0] == calibrated
    assert history[-1] == registry.operating_point(LINE, 1)
    assert {point.preview for point in history[1:]} == {"would have flagged 1"}
    with pytest.raises(NotFound):
        registry.operating_points(LINE, 2)


@pytest.mark.parametrize("threshold", [float("nan"), float("inf"), -1.0])
def test_a_threshold_no_score_can_meet_is_refused(registry: Registry, threshold: float) -> None:
    publish(registry, 1)
    with pytest.raises(InvalidInput, match="threshold"):
        registry.set_operating_point(LINE, 1, threshold=threshold, by="ana", why="w", at=0.0)


def test_racing_operating_points_are_never_lost_in_silence(tmp_path: Path) -> None:
    """Each is a revision of its own, or its setter was told of the conflict."""
    registry = Registry(FolderStore(tmp_path))
    publish(registry, 1)
    ends = outcomes("set_point", tmp_path, RIVALS)
    assert set(ends) <= {WON, LOST}
    assert registry.operating_point(LINE, 1).revision == 1 + ends.count(WON)


def test_an_operating_point_set_meanwhile_is_a_conflict(tmp_path: Path) -> None:
    class Overtaken(FolderStore):
        """Somebody sets a threshold between the look at the revisions and the write."""

        def swap(self, key: str, data: bytes, *, expected: str | None) -> str:
            Registry(FolderStore(tmp_path)).set_operating_point(LINE, 1, threshold=7.0, by="bo", why="w", at=0.0)
            return super().swap(key, data, expected=expected)

    publish(Registry(FolderStore(tmp_path)), 1)
    with pytest.raises(Conflict):
        Registry(Overtaken(tmp_path)).set_operating_point(LINE, 1, threshold=8.0, by="ana", why="w", at=0.0)
    assert Registry(FolderStore(tmp_path)).operating_point(LINE, 1).threshold == 7.0


def test_pointers_that_cannot_be_read_are_said(registry: Registry, tmp_path: Path) -> None:
    publish(registry, 1)
    registry.promote(LINE, 1)
    (tmp_path / MODELS / "pointers.json").write_bytes(b'{"champion": "one"}')
    with pytest.raises(ArtifactError, match="pointers of press-4/door cannot be read"):
        registry.pointers(LINE)


def test_the_registry_is_light(tmp_path: Path) -> None:
    """Importing it loads neither torch nor numpy: the daemon and the web page import it too."""
    code = "import sys, detectors.registry; sys.exit('torch' in sys.modules or 'numpy' in sys.modules)"
    root = Path(__file__).parents[2]
    assert subprocess.run([sys.executable, "-c", code], cwd=root, check=False).returncode == 0
