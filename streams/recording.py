"""The recorder's handler: everything that happens goes into the ledger.

It also brings collected images back to be judged once their line has a model. Both directions look after they have written (a promotion
for images that wait, a collected image for a model that is there), so whichever is recorded second sees the other.

An image that came back and was collected once more met a version that the scorer refuses: it waits until a version serves the line, or
scorer and recorder would hand it to and fro for ever.
"""

from collections.abc import Callable, Sequence

import msgspec

from streams.bus import Record
from streams.ledger import Ledger
from streams.messages import Collected, LineImage, Message, ModelPromoted, ModelServing, Redrive, decode
from streams.redriving import letter_of, put_back
from streams.topics import topic
from streams.worker import Effects

OUTBOX_BATCH = 100


class RecordHandler:
    """Writes what it is given into the ledger; a handler for `streams.worker.Worker` over every topic but `images`.

    `beside` is called between batches, with the time: for what an installation has to look after always.
    """

    def __init__(
        self, ledger: Ledger, now: Callable[[], float], *, beside: Callable[[float], None] = lambda _: None
    ) -> None:
        self._ledger = ledger
        self._now = now
        self._beside = beside
        self._unsent: tuple[int, ...] = ()

    def handle(self, records: Sequence[Record]) -> Effects:
        """Record a batch in one transaction; gives back collected images that can be judged now, and originals of dead letters that
        somebody put back.
        """
        messages = [decode(record.value, topic(record.topic).carries) for record in records]
        self._ledger.record(messages)
        back = tuple(put_back(letter_of(self._ledger, m.identity), m) for m in messages if isinstance(m, Redrive))
        return Effects(messages=tuple(image for each in messages for image in self._come_again(each)), back=back)

    def idle(self, now: float) -> Effects:
        """Between batches: publish what people's actions put into the outbox, marking it sent only once it was published."""
        self._beside(now)
        if self._unsent:
            self._ledger.mark_sent(self._unsent)
            self._unsent = ()
        waiting = self._ledger.outbox(OUTBOX_BATCH)
        self._unsent = tuple(number for number, _ in waiting)
        return Effects(messages=tuple(message for _, message in waiting))

    def _come_again(self, message: Message) -> list[LineImage]:
        if isinstance(message, ModelPromoted) or (
            isinstance(message, ModelServing) and self._was_refused(message.line)
        ):
            return [_late(image) for image in self._ledger.pending_images(message.line)]
        if isinstance(message, Collected) and not message.image.late and self._ledger.has_model(message.line):
            judged = self._ledger.verdict(message.line, message.image.image_id) is not None
            return [] if judged else [_late(message.image)]
        return []

    def _was_refused(self, line: str) -> bool:
        return bool(self._ledger.refusals(line))


def _late(image: LineImage) -> LineImage:
    return msgspec.structs.replace(image, late=True)
