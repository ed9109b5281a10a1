"""The recorder: everything into the ledger, collected images back once there is a model, the outbox onto the bus."""

import hashlib
from pathlib import Path

import msgspec
import pytest

from detectors.errors import InvalidInput
from detectors.extractors import ExtractorCache
from detectors.registry import Registry
from detectors.store import FolderStore
from streams.bus import Record
from streams.ledger import AuditEntry, Ledger
from streams.messages import TYPE_PREFIX, LineImage, Message, ModelAlert, ModelServing, Review, encode
from streams.recording import RecordHandler
from streams.scoring import ScoreHandler
from streams.serving import ServingModels
from tests.detectors.artefacts import artefact
from tests.streams.test_ledger import collected, image, promoted, verdict


def record_of(message: Message, offset: int = 0) -> Record:
    kind = (("ce_type", (TYPE_PREFIX + type(message).__name__).encode()),)
    return Record(message.topic, 0, offset, message.line.encode(), kind, encode(message), 0.0)


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    return Ledger.open(f"sqlite:///{tmp_path / 'ledger.sqlite'}")


@pytest.fixture
def handler(ledger: Ledger) -> RecordHandler:
    return RecordHandler(ledger, lambda: 0.0)


def test_what_happens_is_recorded(ledger: Ledger, handler: RecordHandler) -> None:
    assert handler.handle([record_of(verdict("a")), record_of(collected("b"), 1)]).messages == ()
    assert ledger.verdict("tiles", "a") is not None
    assert [each.image_id for each in ledger.pending_images("tiles")] == ["b"]


@pytest.mark.parametrize("promotion_first", [True, False])
def test_collected_images_come_again_whichever_is_recorded_second(
    handler: RecordHandler, promotion_first: bool
) -> None:
    messages: list[Message] = [promoted(1), collected("a")]
    given = messages if promotion_first else messages[::-1]
    back = [message for each in given for message in handler.handle([record_of(each)]).messages]
    assert back == [msgspec.structs.replace(image("a"), late=True)]


def test_an_image_that_was_judged_does_not_come_again(handler: RecordHandler) -> None:
    handler.handle([record_of(collected("a")), record_of(verdict("a"))])
    assert handler.handle([record_of(promoted(1))]).messages == ()


def test_an_image_does_not_go_to_and_fro_while_its_lines_only_version_is_refused(
    handler: RecordHandler, ledger: Ledger, tmp_path: Path
) -> None:
    store = FolderStore(tmp_path / "objects")
    registry = Registry(store)
    registry.promote("tiles", registry.publish("tiles", artefact("tiles", content="no tensors")))
    models = ServingModels(registry, ExtractorCache(), now=lambda: 0.0)
    scorer = ScoreHandler(store, models, now=lambda: 1.0)
    handler.handle([record_of(promoted(1))])
    store.put(image("a").key, b"pixels")
    stored = msgspec.structs.replace(image("a"), digest=hashlib.sha256(b"pixels").hexdigest())
    to_score = [stored]
    scored: list[LineImage] = []
    for _ in range(5):
        news = [said for each in to_score for said in scorer.handle([record_of(each)]).messages]
        scored += to_score
        back = [each for said in news for each in handler.handle([record_of(said)]).messages]
        to_score = [each for each in back if isinstance(each, LineImage)]
    scorer.close()
    assert [each.late for each in scored] == [False, True], "once at first, once when it came back, never again"
    assert [(alert.version, alert.serving) for alert in ledger.alerts("tiles")] == [(1, None)]
    assert [each.image_id for each in ledger.pending_images("tiles")] == ["a"], "not lost: it waits"
    assert handler.handle([record_of(promoted(2, at=9.0))]).messages == (msgspec.structs.replace(stored, late=True),)


def test_a_promotion_delivered_again_brings_back_only_what_still_waits(handler: RecordHandler) -> None:
    handler.handle([record_of(collected("a")), record_of(collected("b"))])
    assert len(handler.handle([record_of(promoted(1))]).messages) == 2
    handler.handle([record_of(verdict("a"))])
    assert handler.handle([record_of(promoted(1))]).messages == (msgspec.structs.replace(image("b"), late=True),)


def test_an_image_that_a_refused_version_left_waits_until_a_version_serves(handler: RecordHandler) -> None:
    again = msgspec.structs.replace(collected("a"), image=msgspec.structs.replace(image("a"), late=True))
    alert = ModelAlert(line="tiles", version=1, serving=None, reason="digest", raised_at=2.0)
    handler.handle([record_of(collected("a")), record_of(promoted(1)), record_of(alert)])
    assert handler.handle([record_of(again)]).messages == (), "it must not go round for ever"
    serving = ModelServing(line="tiles", version=2, previous=None, at=3.0)
    assert handler.handle([record_of(serving)]).messages == (again.image,)


def test_a_message_of_the_wrong_kind_is_refused(handler: RecordHandler) -> None:
    with pytest.raises(InvalidInput):
        handler.handle([Record("verdicts", 0, 0, b"tiles", (), b"{}", 0.0)])


def test_the_outbox_is_published_and_then_marked(ledger: Ledger, handler: RecordHandler) -> None:
    said = Review(line="tiles", image_id="a", says="normal", note="", by="ana", at=1.0)
    ledger.act(AuditEntry(1.0, "ana", "reviewer", "review", "tiles", ""), [said])
    assert handler.idle(0.0).messages == (said,)
    assert handler.idle(0.0).messages == ()
    assert ledger.outbox(9) == []
