"""Models in service within a budget of memory: put out, brought back, and no image lost, reordered or judged otherwise for it."""

import time
import weakref
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from detectors.artifact import Extractors, Provenance, pack, unpack
from detectors.encoding import encode_name
from detectors.extractors import ExtractorCache
from detectors.fitting import fit_model
from detectors.footprint import held_bytes
from detectors.images import encode_png
from detectors.manifest import Manifest
from detectors.model import Model, detector_from
from detectors.registry import Registry
from detectors.store import FolderStore
from streams import serving
from streams.bus import Record
from streams.messages import Message, ModelAlert, ModelServing, Verdict
from streams.scoring import ScoreHandler
from streams.serving import ServingModels
from tests.streams.scoring_line import texture

LINES = tuple(f"press-{number}/door" for number in range(50))
EXTRACTORS = ExtractorCache()


def fitted(seed: int) -> Model:
    """A small model."""
    return fit_model(
        [texture(100 * seed + number) for number in range(6)],
        [f"k{number}" for number in range(6)],
        extractor=EXTRACTORS.load("efficientnet_lite0", image_size=64),
        detector=detector_from("patchcore", bank=100, seed=seed),
        false_alarm_rate=0.01,
    )


@pytest.fixture(scope="module")
def models() -> tuple[Model, ...]:
    return fitted(0), fitted(1)


class CountingRegistry(Registry):
    """A registry that notes which artefacts were fetched."""

    def __init__(self, store: FolderStore) -> None:
        super().__init__(store)
        self.fetched: list[tuple[str, int]] = []

    def files(self, line: str, version: int) -> dict[str, bytes]:
        self.fetched.append((line, version))
        return super().files(line, version)


class Scorer:
    """A scorer of a few lines, without a bus."""

    def __init__(self, home: Path, *, budget_bytes: int) -> None:
        self.home = home
        self.store = FolderStore(home / "objects")
        self.registry = CountingRegistry(self.store)
        self.clock = 0.0
        self.models = ServingModels(self.registry, EXTRACTORS, now=self._tick, budget_bytes=budget_bytes)
        self.handler = ScoreHandler(self.store, self.models, now=self._tick)

    def _tick(self) -> float:
        self.clock += 0.01
        return self.clock

    def publish(self, line: str, model: Model, *, created_at: float = 1.0) -> int:
        """A new champion of the line."""
        about = Provenance(
            line=line, mode="trusted", cause="manual", parent=None, request_id=None, created_at=created_at, code_version="test",
            metrics={},
        )  # fmt: skip
        version = self.registry.publish(line, pack(model, about, golden_image=texture(1)))
        self.registry.promote(line, version)
        return version

    def judge(self, *images: tuple[str, int]) -> list[Message]:
        """What the scorer says of a batch of (line, texture)."""
        return list(self.handler.handle([self.record(line, seed) for line, seed in images]).messages)

    def record(self, line: str, seed: int, *, taken_at: str = "1970-01-01T00:00:00Z") -> Record:
        """A texture as it comes from somebody else's camera."""
        headers = (("ce_id", f"{line}#{seed}".encode()), ("ce_time", taken_at.encode()))
        return Record("images", 0, seed, line.encode(), headers, encode_png(texture(seed)), 0.0)


def verdicts(said: list[Message]) -> list[Verdict]:
    return [message for message in said if isinstance(message, Verdict)]


@pytest.fixture
def size(models: tuple[Model, ...], tmp_path: Path) -> int:
    """What one model takes once it is loaded."""
    scorer = Scorer(tmp_path / "one", budget_bytes=1 << 40)
    scorer.publish("one", models[0])
    scorer.judge(("one", 1))
    scorer.handler.close()
    return scorer.models.held_bytes


@pytest.fixture
def scorer(models: tuple[Model, ...], size: int, tmp_path: Path) -> Iterator[Scorer]:
    """A scorer of lines a, b and c with room for two models and a half."""
    made = Scorer(tmp_path / "three", budget_bytes=size * 5 // 2)
    for line in "abc":
        made.publish(line, models[0])
    yield made
    made.handler.close()


class Alive:
    """Every detector that was loaded and is still in memory, measured whenever another one has come."""

    def __init__(self) -> None:
        self.most_bytes = 0
        self._detectors: list[weakref.ref[object]] = []

    def unpack(self, files: Mapping[str, bytes], *, extractors: Extractors) -> tuple[Model, Manifest]:
        loaded = unpack(files, extractors=extractors)
        self._detectors.append(weakref.ref(loaded[0].detector))
        held = held_bytes([detector for each in self._detectors if (detector := each()) is not None])
        self.most_bytes = max(self.most_bytes, held)
        return loaded


def test_fifty_lines_on_one_scorer_stay_within_the_budget(
    models: tuple[Model, ...], size: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    budget = size * 7 // 2
    small = Scorer(tmp_path / "fifty", budget_bytes=budget)
    for line in LINES:
        small.publish(line, models[0])
    images = [(line, 7000 + index) for index, line in enumerate(LINES + LINES[:10])]
    alive, said = Alive(), list[Verdict]()
    with monkeypatch.context() as patched:
        patched.setattr(serving, "unpack", alive.unpack)
        for start in range(0, len(images), 4):
            said += verdicts(small.judge(*images[start : start + 4]))
    assert 3 * size <= alive.most_bytes <= budget
    assert [(each.line, each.image_id) for each in said] == [(line, f"{line}#{seed}") for line, seed in images]
    usual = models[0].score([texture(seed) for _, seed in images])
    assert [each.score for each in said] == [each.peak for each in usual], "bit for bit"
    small.handler.close()


def test_a_threshold_that_is_set_is_in_force_within_three_seconds_and_named_by_its_revision(scorer: Scorer) -> None:
    before = verdicts(scorer.judge(("a", 1)))[0]
    scorer.registry.set_operating_point("a", 1, threshold=before.score / 2, by="ana", why="scrap", at=1.0)
    judged: list[Verdict] = []
    until = scorer.clock + 3
    while scorer.clock < until:
        scorer.clock += 0.5
        judged += verdicts(scorer.judge(("a", 1), ("b", 1)))
    assert len(judged) == 2 * len({each.judged_at for each in judged if each.line == "a"}), "none is lost"
    latest = {each.line: each for each in judged}
    assert (latest["a"].threshold, latest["a"].threshold_revision, latest["a"].flagged) == (before.score / 2, 2, True)
    assert latest["b"].threshold_revision == 1
    assert {each.version for each in judged} == {1}, "nothing was trained"
    assert scorer.registry.fetched.count(("a", 1)) == 1, "nor loaded again"


def test_the_least_recently_used_model_is_put_out_and_comes_back_without_news(scorer: Scorer) -> None:
    first = scorer.judge(("a", 1), ("b", 2))
    assert [each.line for each in first if isinstance(each, ModelServing)] == ["a", "b"]
    scorer.judge(("a", 3))
    scorer.judge(("c", 4))
    assert [line for line, _ in scorer.registry.fetched] == ["a", "b", "c"]
    scorer.judge(("a", 5))
    assert len(scorer.registry.fetched) == 3, "a was used after b: b was put out"
    (back,) = scorer.judge(("b", 2))
    assert isinstance(back, Verdict), "no news: its version was in service all the time"
    assert back.score == verdicts(first)[1].score
    assert scorer.registry.fetched[-1] == ("b", 1)


def test_a_batch_fetches_each_model_once_and_keeps_its_order(scorer: Scorer) -> None:
    images = [(line, 10 * turn + number) for turn in range(3) for number, line in enumerate("abc")]
    said = verdicts(scorer.judge(*images))
    assert [each.image_id for each in said] == [f"{line}#{seed}" for line, seed in images]
    assert sorted(scorer.registry.fetched) == [("a", 1), ("b", 1), ("c", 1)]


def test_looking_around_brings_nothing_back(scorer: Scorer) -> None:
    scorer.judge(("a", 1), ("b", 2), ("c", 3))
    for _ in range(100):
        scorer.handler.idle(0.0)
    assert len(scorer.registry.fetched) == 3


def test_a_line_put_out_meets_its_new_champion_with_its_next_image(scorer: Scorer, models: tuple[Model, ...]) -> None:
    scorer.judge(("a", 1), ("b", 2), ("c", 3))
    scorer.publish("a", models[1], created_at=2.0)
    swap, judged = scorer.judge(("a", 1))
    assert isinstance(swap, ModelServing)
    assert (swap.version, swap.previous) == (2, 1)
    assert isinstance(judged, Verdict)
    assert judged.version == 2


def test_a_clock_that_is_set_back_hides_no_new_champion(scorer: Scorer, models: tuple[Model, ...]) -> None:
    scorer.clock = 3600.0
    scorer.judge(("a", 1))
    scorer.publish("a", models[1], created_at=2.0)
    scorer.clock = 0.0
    deadline = time.monotonic() + 30
    while max(verdict.version for verdict in verdicts(scorer.judge(("a", 1)))) < 2:
        assert time.monotonic() < deadline


def test_a_line_put_out_keeps_its_version_where_the_new_champion_is_broken(
    scorer: Scorer, models: tuple[Model, ...]
) -> None:
    scorer.judge(("a", 1), ("b", 2), ("c", 3))
    scorer.publish("a", models[1], created_at=2.0)
    (tensors_of(scorer, "a", 2)).unlink()
    alert, judged = scorer.judge(("a", 1))
    assert isinstance(alert, ModelAlert)
    assert (alert.version, alert.serving) == (2, 1)
    assert isinstance(judged, Verdict)
    assert judged.version == 1


def test_a_version_that_broke_while_it_was_out_is_refused_and_its_images_are_kept(scorer: Scorer) -> None:
    scorer.judge(("a", 1), ("b", 2), ("c", 3))
    tensors_of(scorer, "a", 1).unlink()
    alert, kept = scorer.judge(("a", 4))
    assert isinstance(alert, ModelAlert)
    assert (alert.version, alert.serving) == (1, None)
    assert kept.topic == "collected"
    assert len(verdicts(scorer.judge(("b", 5), ("c", 6)))) == 2


def test_a_line_without_a_model_puts_nothing_out(scorer: Scorer) -> None:
    scorer.judge(("a", 1), ("b", 2))
    for seed in range(3):
        scorer.judge(("nobody", seed))
    scorer.judge(("a", 3), ("b", 4))
    assert len(scorer.registry.fetched) == 2


def test_a_model_above_the_budget_serves_alone_with_a_warning(
    models: tuple[Model, ...], size: int, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    scorer = Scorer(tmp_path / "tight", budget_bytes=size // 2)
    for line in "ab":
        scorer.publish(line, models[0])
    assert [each.line for each in verdicts(scorer.judge(("a", 1), ("b", 2), ("a", 3)))] == ["a", "b", "a"]
    assert scorer.models.held_bytes == size
    assert f"takes {size} bytes, all models may take {size // 2}; give DRIFTLINE_MODEL_MEMORY more" in caplog.text
    scorer.handler.close()


def tensors_of(scorer: Scorer, line: str, version: int) -> Path:
    return scorer.home / "objects" / "models" / encode_name(line) / "versions" / str(version) / "model.safetensors"


@pytest.mark.parametrize(
    ("deadline_ms", "overdue"), [(None, [False, False]), (1e9, [False, False]), (20.0, [False, True])]
)
def test_a_verdict_after_the_lines_deadline_is_marked_and_told_and_never_dropped(
    scorer: Scorer, deadline_ms: float | None, overdue: list[bool], caplog: pytest.LogCaptureFixture
) -> None:
    def deadline_of(line: str) -> float | None:
        return deadline_ms if line == "a" else None

    handler = ScoreHandler(scorer.store, scorer.models, now=lambda: 100.0, deadline_ms=deadline_of)
    taken = ("1970-01-01T00:01:39.99Z", "1970-01-01T00:01:39.97Z")  # 10 and 30 ms before
    records = [scorer.record(line, seed, taken_at=at) for line in "ab" for seed, at in enumerate(taken)]
    said = verdicts(list(handler.handle(records).messages))
    assert [each.overdue for each in said] == [*overdue, False, False]
    assert [each.late for each in said] == [False] * 4
    assert [round(each.latency_ms) for each in said] == [10, 30, 10, 30]
    assert ("1 of 4 verdicts after their line's deadline, the latest 30 ms (line a)" in caplog.text) == any(overdue)
