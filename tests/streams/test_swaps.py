"""Promotions and rollbacks reach every scorer of a group while images come, and cost none of them."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from detectors.artifact import Provenance, pack
from detectors.images import encode_png
from detectors.model import Model
from detectors.registry import Registry
from detectors.store import FolderStore
from streams.bus import Record
from streams.camera import Camera
from streams.local import LocalBus
from streams.messages import ModelServing, ShadowVerdict, Verdict, decode
from streams.scoring import ScoreHandler
from streams.serving import ServingModels
from streams.worker import Worker
from tests.streams.scoring_line import texture
from tests.streams.test_serving import EXTRACTORS, fitted

WITHIN_S = 3.0
LINES = tuple(f"press-{number}" for number in range(6))


class House:
    """Lines with two versions each, on one embedded bus."""

    def __init__(self, home: Path, models: tuple[Model, ...]) -> None:
        self.store = FolderStore(home / "objects")
        self.registry = Registry(self.store)
        self.bus = LocalBus(home / "bus.sqlite")
        for line in LINES:
            for version, model in enumerate(models, start=1):
                about = Provenance(
                    line=line, mode="trusted", cause="manual", parent=None, request_id=None, created_at=float(version),
                    code_version="test", metrics={},
                )  # fmt: skip
                self.registry.publish(line, pack(model, about, golden_image=texture(1)))
            self.registry.promote(line, 1)
        self.sent: dict[str, float] = {}
        self.judged: dict[str, list[Verdict]] = {}
        self.shadows: list[ShadowVerdict] = []
        self.served: list[ModelServing] = []
        self._reader = self.bus.consumer("reader", ["verdicts", "shadows", "servings", "dead-letters"])
        self._cameras = {line: Camera(self.store, self.bus.producer(), line=line, source="/test") for line in LINES}

    @contextmanager
    def scorers(self, count: int) -> Iterator[None]:
        """So many of them in one group, each in a thread of its own."""
        stop = threading.Event()
        threads = [threading.Thread(target=self._score, args=(stop,)) for _ in range(count)]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            stop.set()
            for thread in threads:
                thread.join()

    def _score(self, stop: threading.Event) -> None:
        models = ServingModels(self.registry, EXTRACTORS, now=time.time)
        handler = ScoreHandler(self.store, models, now=time.time, shadow_share=lambda _: 1.0)
        consumer, producer = self.bus.consumer("scorer", ["images"]), self.bus.producer()
        Worker(consumer, producer, handler, source="/test/scorer", max_records=4).run(stop)
        handler.close()

    def send(self) -> None:
        """One image of every line."""
        for line, camera in self._cameras.items():
            image_id = f"{line}#{len(self.sent)}"
            camera.send(encode_png(texture(len(self.sent) % 7)), image_id=image_id, suffix="png")
            camera.flush()
            self.sent[image_id] = time.time()

    def read(self) -> None:
        records = self._reader.poll(max_records=200, timeout_s=0.05)
        for record in records:
            self._take(record)
        self._reader.commit({(each.topic, each.partition): each.offset + 1 for each in records})

    def _take(self, record: Record) -> None:
        assert record.topic != "dead-letters", record.value
        if record.topic == "verdicts":
            verdict = decode(record.value, Verdict)
            self.judged.setdefault(verdict.image_id, []).append(verdict)
        elif record.topic == "shadows":
            self.shadows.append(decode(record.value, ShadowVerdict))
        else:
            self.served.append(decode(record.value, ModelServing))

    def until_all_serve(self, version: int) -> float:
        """Send on until every line's latest image was judged by `version`; how long that took."""
        began = time.time()
        while True:
            assert time.time() - began < 30
            self.send()
            self.read()
            latest = {line: self._latest(line) for line in LINES}
            if set(latest.values()) == {version}:
                return time.time() - began

    def _latest(self, line: str) -> int | None:
        mine = [each[0] for each in self.judged.values() if each[0].line == line]
        return max(mine, key=lambda verdict: verdict.judged_at).version if mine else None


@pytest.fixture(scope="module")
def models() -> tuple[Model, ...]:
    return fitted(0), fitted(1)


def test_two_scorers_follow_a_promotion_and_a_rollback_and_lose_nothing(
    tmp_path: Path, models: tuple[Model, ...]
) -> None:
    house = House(tmp_path, models)
    with house.scorers(2):
        house.until_all_serve(1)
        for line in LINES:
            house.registry.promote(line, 2, beside=True)
        promoted_at = time.time()
        house.until_all_serve(2)
        for line in LINES:
            house.registry.rollback(line)
        back_at = time.time()
        house.until_all_serve(1)
        deadline = time.monotonic() + 30
        while house.judged.keys() != house.sent.keys():
            assert time.monotonic() < deadline, house.sent.keys() - house.judged.keys()
            house.read()
    assert all(len({each.version for each in said}) == 1 for said in house.judged.values()), "none was judged twice"
    first = {each.line: each.at for each in house.served if each.version == 2}
    again = {each.line: each.at for each in house.served if each.version == 1 and each.at > promoted_at}
    assert first.keys() == again.keys() == set(LINES)
    assert max(first.values()) - promoted_at < WITHIN_S
    assert max(again.values()) - back_at < WITHIN_S
    assert {(each.version, each.champion) for each in house.shadows} <= {(1, 2)}
