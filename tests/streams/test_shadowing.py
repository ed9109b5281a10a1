"""A challenger beside the champion: what it says, what it costs, and that nothing of it reaches the champion."""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from detectors.contract import Patches
from detectors.errors import Unavailable
from detectors.features import FeatureExtractor
from detectors.images import Image
from detectors.model import Model
from streams.messages import Message, ModelAlert, ModelServing, ShadowVerdict
from streams.scoring import ScoreHandler
from streams.shadowing import is_chosen
from tests.streams.scoring_line import texture
from tests.streams.test_serving import Scorer, fitted, tensors_of, verdicts

IMAGES = range(7000, 7003)


@pytest.fixture(scope="module")
def models() -> tuple[Model, ...]:
    return fitted(0), fitted(1)


class Shadowed:
    """A scorer of line a with version 1 in service, whose clock stands between the steps of the test."""

    def __init__(
        self, home: Path, models: tuple[Model, ...], *, budget_bytes: int = 1 << 40, share: float = 1.0
    ) -> None:
        self.inner = Scorer(home, budget_bytes=budget_bytes)
        self.inner.publish("a", models[0])
        self.handler = ScoreHandler(
            self.inner.store, self.inner.models, now=lambda: self.inner.clock, shadow_share=lambda _: share
        )
        self.registry = self.inner.registry

    def publish_beside(self, model: Model, *, line: str = "a") -> int:
        """A new challenger of the line."""
        before = self.registry.pointers(line).champion
        version = self.inner.publish(line, model, created_at=2.0)
        if before is not None:
            self.registry.promote(line, before)
        self.registry.set_challenger(line, version)
        return version

    def judge(self, *seeds: int, line: str = "a", waited_s: float = 0.0) -> list[Message]:
        """A batch, and what follows from it between batches."""
        at = self.inner.clock - waited_s
        records = [replace(self.inner.record(line, seed), appended_at=at) for seed in seeds]
        return [*self.handler.handle(records).messages, *self.idle()]

    def idle(self) -> list[Message]:
        """Between batches, a second later."""
        self.inner.clock += 1.0
        return list(self.handler.idle(0.0).messages)

    def until(self, done: Callable[[list[Message]], bool]) -> list[Message]:
        """Idle until it is so, given what was said meanwhile."""
        said: list[Message] = []
        deadline = time.monotonic() + 30
        while not done(said):
            assert time.monotonic() < deadline
            said += self.idle()
        return said

    def is_loaded(self, _: object) -> bool:
        return self.inner.models.challenger_of("a") is not None


def shadows(said: list[Message]) -> list[ShadowVerdict]:
    return [message for message in said if isinstance(message, ShadowVerdict)]


def alerts(said: list[Message]) -> list[ModelAlert]:
    return [message for message in said if isinstance(message, ModelAlert)]


@pytest.fixture
def scorer(tmp_path: Path, models: tuple[Model, ...]) -> Iterator[Shadowed]:
    """Version 1 judges, version 2 is the challenger, both in memory."""
    made = Shadowed(tmp_path / "one", models)
    made.judge(1)
    made.publish_beside(models[1])
    made.until(made.is_loaded)
    yield made
    made.handler.close()


class CountedPasses:
    """Images through the backbone."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.images = 0
        extract = FeatureExtractor.extract

        def counted(extractor: FeatureExtractor, images: Sequence[Image]) -> Patches:
            self.images += len(images)
            return extract(extractor, images)

        monkeypatch.setattr(FeatureExtractor, "extract", counted)


def test_the_challenger_says_what_it_says_alone_and_the_champion_what_it_said_before(
    scorer: Shadowed, models: tuple[Model, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    passes = CountedPasses(monkeypatch)
    said = scorer.judge(*IMAGES)
    assert passes.images == len(IMAGES), "equal specifications: one pass through the backbone for both"
    images = [texture(seed) for seed in IMAGES]
    assert [each.score for each in verdicts(said)] == [each.peak for each in models[0].score(images)], "bit for bit"
    assert [each.score for each in shadows(said)] == [each.peak for each in models[1].score(images)], "bit for bit"
    assert said == [*verdicts(said), *shadows(said)], "the champion's verdicts have gone before"
    for verdict, shadow in zip(verdicts(said), shadows(said), strict=True):
        assert (verdict.image_id, verdict.version) == (shadow.image_id, 1)
        assert (shadow.version, shadow.champion) == (2, 1)
        assert (shadow.champion_score, shadow.champion_flagged) == (verdict.score, verdict.flagged)
        assert shadow.flagged == (shadow.score > shadow.threshold)


def test_a_challenger_with_other_features_scores_with_its_own(tmp_path: Path, models: tuple[Model, ...]) -> None:
    from detectors.fitting import fit_model
    from detectors.model import detector_from
    from tests.streams.test_serving import EXTRACTORS

    other = fit_model(
        [texture(number) for number in range(6)], [str(number) for number in range(6)],
        extractor=EXTRACTORS.load("efficientnet_lite0", image_size=96), detector=detector_from("patchcore", bank=100, seed=0),
        false_alarm_rate=0.01,
    )  # fmt: skip
    scorer = Shadowed(tmp_path, models)
    scorer.judge(1)
    scorer.publish_beside(other)
    scorer.until(scorer.is_loaded)
    said = scorer.judge(*IMAGES)
    assert [each.score for each in shadows(said)] == [each.peak for each in other.score([texture(s) for s in IMAGES])]
    scorer.handler.close()


def test_the_heatmap_is_kept_where_the_two_disagree_and_nowhere_else(scorer: Shadowed) -> None:
    point = scorer.registry.operating_point("a", 2).threshold
    scores = sorted(each.score for each in shadows(scorer.judge(*IMAGES)))
    (champion,) = {each.champion_flagged for each in shadows(scorer.judge(*IMAGES))}
    assert scores[0] < scores[1]
    between = (scores[0] + scores[1]) / 2
    scorer.registry.set_operating_point("a", 2, threshold=between, by="ana", why="test", at=1.0)
    scorer.idle()
    said = shadows(scorer.judge(*IMAGES))
    assert {each.threshold for each in said} == {between} != {point}
    for each in said:
        assert (each.heatmap_key is not None) == (each.flagged != champion)
        assert each.heatmap_key is None or scorer.inner.store.exists(each.heatmap_key)


def test_the_share_is_of_the_images_and_the_same_ones_every_time(tmp_path: Path, models: tuple[Model, ...]) -> None:
    scorer = Shadowed(tmp_path, models, share=0.5)
    scorer.judge(1)
    scorer.publish_beside(models[1])
    scorer.until(scorer.is_loaded)
    seen = [each.image_id for seed in range(20) for each in shadows(scorer.judge(seed))]
    assert seen == [f"a#{seed}" for seed in range(20) if is_chosen(f"a#{seed}", 0.5)]
    assert 4 < len(seen) < 16
    scorer.handler.close()


def test_a_scorer_that_is_behind_shadows_nothing(scorer: Shadowed) -> None:
    assert len(shadows(scorer.judge(1, 2, 3))) == 3
    assert shadows(scorer.judge(1, 2, 3, 4)) == [], "a full batch: more is waiting"
    assert shadows(scorer.judge(1, waited_s=60.0)) == []
    assert len(shadows(scorer.judge(1, waited_s=1.0))) == 1


def test_a_broken_challenger_is_told_once_and_the_champion_judges_on(
    scorer: Shadowed, models: tuple[Model, ...]
) -> None:
    scorer.publish_beside(fitted(2))
    tensors_of(scorer.inner, "a", 3).unlink()
    told = alerts(scorer.until(lambda said: bool(alerts(said))))
    for _ in range(5):
        told += alerts(scorer.judge(*IMAGES))
    (alert,) = told
    assert (alert.version, alert.serving, alert.beside) == (3, 1, True)
    said = scorer.judge(*IMAGES)
    assert {each.version for each in verdicts(said)} == {1}
    assert shadows(said) == []


def test_a_challenger_that_fails_on_an_image_is_told_once_and_the_champion_judges_on(
    scorer: Shadowed, monkeypatch: pytest.MonkeyPatch
) -> None:
    champion = scorer.inner.models.of("a")
    assert champion is not None
    score = Model.score_patches

    def failing(model: Model, image: Image, patches: Patches) -> object:
        if model is not champion.model:
            raise RuntimeError("out of luck")
        return score(model, image, patches)

    monkeypatch.setattr(Model, "score_patches", failing)
    said = [*scorer.judge(*IMAGES), *scorer.judge(*IMAGES), *scorer.idle()]
    (alert,) = alerts(said)
    assert (alert.version, alert.reason, alert.beside) == (2, "out of luck", True)
    assert len(verdicts(said)) == 2 * len(IMAGES)


def test_an_old_champion_that_fails_on_an_image_beside_its_successor_serves_again_after_a_rollback(
    scorer: Shadowed, monkeypatch: pytest.MonkeyPatch
) -> None:
    scorer.registry.promote("a", 2, beside=True)
    scorer.inner.clock += 1.0
    scorer.judge(1)
    promoted, score = scorer.inner.models.of("a"), Model.score_patches
    assert promoted is not None
    assert promoted.version == 2

    def failing(model: Model, image: Image, patches: Patches) -> object:
        if model is not promoted.model:
            raise MemoryError
        return score(model, image, patches)

    monkeypatch.setattr(Model, "score_patches", failing)
    (alert,) = alerts([*scorer.judge(1), *scorer.judge(1)])
    assert (alert.version, alert.serving, alert.reason, alert.beside) == (1, 2, "MemoryError", True)
    monkeypatch.undo()
    scorer.registry.rollback("a")
    said = scorer.until(lambda said: any(isinstance(each, ModelServing) for each in said))
    assert [(each.version, each.previous) for each in said if isinstance(each, ModelServing)] == [(1, 2)]
    assert [each.version for each in verdicts(scorer.judge(1))] == [1]
    assert alerts(said) == []


def test_a_challenger_deleted_while_it_scores_disturbs_nobody(scorer: Shadowed) -> None:
    for path in tensors_of(scorer.inner, "a", 2).parent.iterdir():
        path.unlink()
    for _ in range(3):
        said = scorer.judge(*IMAGES)
        assert (len(verdicts(said)), len(shadows(said)), alerts(said)) == (3, 3, [])


def test_challengers_are_the_first_to_be_put_out(tmp_path: Path, models: tuple[Model, ...], size: int) -> None:
    scorer = Shadowed(tmp_path, models, budget_bytes=size * 5 // 2)
    scorer.judge(1)
    scorer.publish_beside(models[1])
    scorer.until(scorer.is_loaded)
    assert len(shadows(scorer.judge(1))) == 1
    scorer.inner.publish("b", models[0])
    said = [*scorer.judge(2, line="b"), *scorer.judge(1)]
    assert [each.line for each in verdicts(said)] == ["b", "a"]
    assert shadows(said) == []
    assert scorer.registry.fetched == [("a", 1), ("a", 2), ("b", 1)], "the champion of a stayed in memory"
    for _ in range(5):
        assert shadows(scorer.judge(1)) == [], "and the challenger does not come back while there is no room"
    assert len(scorer.registry.fetched) == 3
    assert scorer.inner.models.held_bytes <= size * 5 // 2
    scorer.handler.close()


@pytest.fixture(scope="module")
def size(models: tuple[Model, ...], tmp_path_factory: pytest.TempPathFactory) -> int:
    """What one model takes."""
    scorer = Shadowed(tmp_path_factory.mktemp("size"), models)
    scorer.judge(1)
    scorer.handler.close()
    return scorer.inner.models.held_bytes


def test_a_challenger_that_is_promoted_serves_at_once_and_the_old_champion_scores_beside_it(scorer: Shadowed) -> None:
    scorer.registry.promote("a", 2, beside=True)
    scorer.inner.clock += 1.0
    swap, *judged, shadow = scorer.judge(1)
    assert isinstance(swap, ModelServing)
    assert (swap.version, swap.previous) == (2, 1)
    assert [each.version for each in verdicts(judged)] == [2]
    assert isinstance(shadow, ShadowVerdict)
    assert (shadow.version, shadow.champion) == (1, 2)
    scorer.registry.rollback("a")
    scorer.inner.clock += 1.0
    said = scorer.judge(1)
    assert [each.version for each in verdicts(said)] == [1]
    assert shadows(said) == []
    assert scorer.registry.fetched == [("a", 1), ("a", 2)], "nothing was loaded again"


def test_a_store_that_is_away_for_the_heatmap_costs_the_shadow_alone(
    scorer: Shadowed, monkeypatch: pytest.MonkeyPatch
) -> None:
    scorer.registry.set_operating_point("a", 2, threshold=0.0001, by="ana", why="flags all", at=1.0)
    scorer.idle()
    put = scorer.inner.store.put

    def away(key: str, data: bytes) -> None:
        if key.startswith("heatmaps/") and "/2/" in key:
            raise Unavailable("the store does not answer")
        put(key, data)

    monkeypatch.setattr(scorer.inner.store, "put", away)
    said = scorer.judge(*IMAGES)
    assert (len(verdicts(said)), shadows(said), alerts(said)) == (3, [], [])
    monkeypatch.undo()
    assert len(shadows(scorer.judge(*IMAGES))) == 3
