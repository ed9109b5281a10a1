"""The scorer's handler: an image in, a verdict out, or `Collected` where the line has no model yet.

Bytes that cannot be scored raise InvalidInput: the worker makes a dead letter of them and nothing else waits.
"""

import hashlib
import logging
from collections.abc import Callable, Sequence

from detectors.encoding import encode_name
from detectors.images import Image, decode, encode_jpeg
from detectors.model import ImageScore, heatmap
from detectors.objects import ObjectStore
from streams.arrivals import Arrivals
from streams.bus import Record
from streams.messages import Collected, LineImage, Message, NearestNormal, Signals, Verdict
from streams.newest_first import aside
from streams.serving import Serving, ServingModels
from streams.topics import BACKLOG
from streams.worker import Effects, Original

log = logging.getLogger(__name__)


class ScoreHandler:
    """Scores the images of every line this scorer is given, each with its line's current model.

    `deadline_ms` gives the deadline of a line, None where it has none: a verdict that comes later is marked and counted in the log,
    and sent like any other. `newest_first`: whether a line's images that have waited step aside for newer ones.
    """

    def __init__(
        self,
        store: ObjectStore,
        models: ServingModels,
        *,
        now: Callable[[], float],
        deadline_ms: Callable[[str], float | None] = lambda _: None,
        newest_first: Callable[[str], bool] = lambda _: False,
    ) -> None:
        self._store = store
        self._arrivals = Arrivals(store)
        self._models = models
        self._now = now
        self._deadline_ms = deadline_ms
        self._newest_first = newest_first

    def handle(self, records: Sequence[Record]) -> Effects:
        """Verdicts (or `Collected`) of a batch, in its order, and what steps aside; raises InvalidInput for a record that can never be
        scored.
        """
        moved = {place: self._aside(record) for place, record in enumerate(records)}
        records = [record for place, record in enumerate(records) if moved[place] is None]
        images = [self._arrivals.read(record) for record in records]
        # Line by line, so that a model that was put out comes back once in a batch.
        by_line = sorted(range(len(images)), key=lambda place: images[place].line)
        judged = {place: self._judge(images[place], late=records[place].topic == BACKLOG) for place in by_line}
        messages = [judged[place] for place in range(len(images))]
        _tell_overdue(messages)
        back = tuple(each for each in moved.values() if each is not None)
        return Effects(messages=(*self._models.take_news(), *messages), back=back)

    def idle(self, now: float) -> Effects:
        """Between batches: pick up new versions."""
        self._models.refresh()
        return Effects(messages=self._models.take_news())

    def close(self) -> None:
        """Stop loading models."""
        self._models.close()

    def _aside(self, record: Record) -> Original | None:
        """Where to the record steps aside; None where it is judged in its turn."""
        line = (record.key or b"").decode(errors="replace")
        return aside(record, self._now()) if self._newest_first(line) else None

    def _judge(self, image: LineImage, *, late: bool) -> Message:
        data = self._arrivals.pixels(image)
        serving = self._models.of(image.line)
        if serving is None:
            return Collected(line=image.line, image=image, collected_at=self._now())
        pixels = decode(data)
        (score,) = serving.model.score([pixels])
        flagged = score.peak > serving.operating_point.threshold
        judged_at = self._now()
        latency_ms = 1000 * max(0.0, judged_at - image.taken_at)
        deadline_ms = self._deadline_ms(image.line)
        return Verdict(
            line=image.line,
            image_id=image.image_id,
            version=serving.version,
            score=score.peak,
            threshold=serving.operating_point.threshold,
            threshold_revision=serving.operating_point.revision,
            flagged=flagged,
            signals=signals_of(score),
            taken_at=image.taken_at,
            judged_at=judged_at,
            latency_ms=latency_ms,
            image_key=image.key,
            heatmap_key=self._keep_heatmap(image, serving, pixels, score) if flagged else None,
            nearest=_nearest_normal(serving, score),
            late=image.late or late,
            overdue=deadline_ms is not None and latency_ms > deadline_ms,
        )

    def _keep_heatmap(self, image: LineImage, serving: Serving, pixels: Image, score: ImageScore) -> str:
        name = hashlib.sha256(
            f"{image.image_id}@{serving.version}#{serving.operating_point.revision}".encode()
        ).hexdigest()
        key = f"heatmaps/{encode_name(image.line)}/{serving.version}/{name}.jpg"
        if not self._store.exists(key):
            self._store.put(key, encode_jpeg(heatmap(pixels, score.map_HW, serving.operating_point.threshold)))
        return key


def _tell_overdue(messages: Sequence[Message]) -> None:
    verdicts = [message for message in messages if isinstance(message, Verdict)]
    overdue = [verdict for verdict in verdicts if verdict.overdue]
    if overdue:
        worst = max(overdue, key=lambda verdict: verdict.latency_ms)
        log.warning(
            "%d of %d verdicts after their line's deadline, the latest %.0f ms (line %s)",
            len(overdue), len(verdicts), worst.latency_ms, worst.line,
        )  # fmt: skip


def signals_of(score: ImageScore) -> Signals:
    """What a verdict says of an image, from its score."""
    statistics = score.statistics
    return Signals(
        peak=score.peak,
        bulk=score.bulk,
        mean=statistics.mean,
        contrast=statistics.contrast,
        sharpness=statistics.sharpness,
        warmth=_short(statistics.warmth),
        tint=_short(statistics.tint),
        saturated=_short(statistics.saturated),
        noise=_short(statistics.noise),
        over=score.over if score.over is None else _short(score.over),
        regions=tuple(_short(each) for each in score.regions),
    )


def _short(value: float) -> float:
    """Six digits: there are many of them in each verdict, and each is kept for years."""
    return float(f"{value:.6g}")


def _nearest_normal(serving: Serving, score: ImageScore) -> NearestNormal | None:
    if score.nearest is None:
        return None
    rows, columns = score.map_HW.shape
    return NearestNormal(
        training_image_key=serving.model.training_keys[score.nearest.image],
        training_box=_box(score.nearest.row, score.nearest.column, rows, columns),
        box=_box(*score.worst, rows, columns),
        distance=score.nearest.distance,
    )


def _box(row: int, column: int, rows: int, columns: int) -> tuple[float, float, float, float]:
    """A neighbourhood of five patches around a patch, (left, top, right, bottom) in shares of the image."""
    return (
        max(0.0, (column - 2) / columns),
        max(0.0, (row - 2) / rows),
        min(1.0, (column + 3) / columns),
        min(1.0, (row + 3) / rows),
    )
