"""The recorder: everything into the ledger, collected images back once there is a model, the outbox onto the bus."""

from pathlib import Path

import msgspec
import pytest

from detectors.errors import InvalidInput
from streams.bus import Record
from streams.ledger import AuditEntry, Ledger
from streams.messages import Message, Review, encode
from streams.recording import RecordHandler
from tests.streams.test_ledger import collected, image, promoted, verdict


def record_of(message: Message, offset: int = 0) -> Record:
    return Record(message.topic, 0, offset, message.line.encode(), (), encode(message), 0.0)


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


def test_a_message_of_the_wrong_kind_is_refused(handler: RecordHandler) -> None:
    with pytest.raises(InvalidInput):
        handler.handle([Record("verdicts", 0, 0, b"tiles", (), b"{}", 0.0)])


def test_the_outbox_is_published_and_then_marked(ledger: Ledger, handler: RecordHandler) -> None:
    said = Review(line="tiles", image_id="a", says="normal", note="", by="ana", at=1.0)
    ledger.act(AuditEntry(1.0, "ana", "reviewer", "review", "tiles", ""), [said])
    assert handler.idle(0.0).messages == (said,)
    assert handler.idle(0.0).messages == ()
    assert ledger.outbox(9) == []
