"""The scorer's handler: an image in, a verdict out, or `Collected` where the line has no model yet.

Bytes that cannot be scored raise InvalidInput: the worker makes a dead letter of them and nothing else waits.
"""

import hashlib
from collections.abc import Callable, Sequence

from detectors.encoding import encode_name
from detectors.images import Image, decode, encode_jpeg
from detectors.model import ImageScore, heatmap
from detectors.objects import ObjectStore
from streams.arrivals import Arrivals
from streams.bus import Record
from streams.messages import Collected, LineImage, Message, NearestNormal, Signals, Verdict
from streams.serving import Serving, ServingModels
from streams.worker import Effects


class ScoreHandler:
    """Scores the images of every line this scorer is given, each with its line's current model."""

    def __init__(self, store: ObjectStore, models: ServingModels, *, now: Callable[[], float]) -> None:
        self._store = store
        self._arrivals = Arrivals(store)
        self._models = models
        self._now = now

    def handle(self, records: Sequence[Record]) -> Effects:
        """Verdicts (or `Collected`) of a batch, in its order; raises InvalidInput for a record that can never be scored."""
        images = [self._arrivals.read(record) for record in records]
        by_line = sorted(
            range(len(images)), key=lambda place: images[place].line
        )  # a model put out comes back once a batch
        judged = {place: self._judge(images[place]) for place in by_line}
        return Effects(messages=(*self._models.take_news(), *(judged[place] for place in range(len(images)))))

    def idle(self, now: float) -> Effects:
        """Between batches: pick up new versions."""
        self._models.refresh()
        return Effects(messages=self._models.take_news())

    def close(self) -> None:
        """Stop loading models."""
        self._models.close()

    def _judge(self, image: LineImage) -> Message:
        data = self._arrivals.pixels(image)
        serving = self._models.of(image.line)
        if serving is None:
            return Collected(line=image.line, image=image, collected_at=self._now())
        pixels = decode(data)
        (score,) = serving.model.score([pixels])
        flagged = score.peak > serving.operating_point.threshold
        judged_at = self._now()
        return Verdict(
            line=image.line,
            image_id=image.image_id,
            version=serving.version,
            score=score.peak,
            threshold=serving.operating_point.threshold,
            threshold_revision=serving.operating_point.revision,
            flagged=flagged,
            signals=_signals(score),
            taken_at=image.taken_at,
            judged_at=judged_at,
            latency_ms=1000 * max(0.0, judged_at - image.taken_at),
            image_key=image.key,
            heatmap_key=self._keep_heatmap(image, serving, pixels, score) if flagged else None,
            nearest=_nearest_normal(serving, score),
            late=image.late,
        )

    def _keep_heatmap(self, image: LineImage, serving: Serving, pixels: Image, score: ImageScore) -> str:
        name = hashlib.sha256(
            f"{image.image_id}@{serving.version}#{serving.operating_point.revision}".encode()
        ).hexdigest()
        key = f"heatmaps/{encode_name(image.line)}/{serving.version}/{name}.jpg"
        if not self._store.exists(key):
            self._store.put(key, encode_jpeg(heatmap(pixels, score.map_HW, serving.operating_point.threshold)))
        return key


def _signals(score: ImageScore) -> Signals:
    statistics = score.statistics
    return Signals(
        peak=score.peak,
        bulk=score.bulk,
        mean=statistics.mean,
        contrast=statistics.contrast,
        sharpness=statistics.sharpness,
    )


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
