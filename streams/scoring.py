"""The scorer's handler: an image in, a verdict out, or `Collected` where the line has no model yet.

Bytes that cannot be scored raise InvalidInput: the worker makes a dead letter of them and nothing else waits.
"""

import hashlib
from collections.abc import Callable, Sequence

from detectors.encoding import check_line_name, encode_name
from detectors.errors import InvalidInput, NotFound
from detectors.images import Image, decode, encode_jpeg
from detectors.model import ImageScore, heatmap
from detectors.objects import ObjectStore, image_key
from streams.bus import Record
from streams.messages import (
    TYPE_PREFIX,
    Collected,
    LineImage,
    Message,
    NearestNormal,
    Signals,
    Verdict,
)
from streams.messages import (
    decode as decode_message,
)
from streams.serving import Serving, ServingModels
from streams.worker import Effects

_SUFFIX_OF_MAGIC = {b"\xff\xd8\xff": "jpg", b"\x89PNG": "png", b"II*\x00": "tif", b"MM\x00*": "tif", b"BM": "bmp"}


class ScoreHandler:
    """Scores the images of every line this scorer is given, each with its line's current model."""

    def __init__(self, store: ObjectStore, models: ServingModels, *, now: Callable[[], float]) -> None:
        self._store = store
        self._models = models
        self._now = now

    def handle(self, records: Sequence[Record]) -> Effects:
        """Verdicts (or `Collected`) of a batch, in its order; raises InvalidInput for a record that can never be scored."""
        messages = [self._judge(self._line_image(record)) for record in records]
        return Effects(messages=(*self._models.take_news(), *messages))

    def idle(self, now: float) -> Effects:
        """Between batches: pick up new versions."""
        self._models.refresh()
        return Effects(messages=self._models.take_news())

    def close(self) -> None:
        """Stop loading models."""
        self._models.close()

    def _judge(self, image: LineImage) -> Message:
        serving = self._models.of(image.line)
        if serving is None:
            return Collected(line=image.line, image=image, collected_at=self._now())
        pixels = decode(self._fetch(image))
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

    def _fetch(self, image: LineImage) -> bytes:
        try:
            data = self._store.get(image.key)
        except NotFound as error:
            raise InvalidInput(
                f"the pixels of {image.image_id!r} are not in the store: {error}; send it again"
            ) from error
        digest = hashlib.sha256(data).hexdigest()
        if digest != image.digest:
            raise InvalidInput(
                f"{image.key}: digest {digest[:12]}, the message says {image.digest[:12]}; send it again"
            )
        return data

    def _keep_heatmap(self, image: LineImage, serving: Serving, pixels: Image, score: ImageScore) -> str:
        name = hashlib.sha256(
            f"{image.image_id}@{serving.version}#{serving.operating_point.revision}".encode()
        ).hexdigest()
        key = f"heatmaps/{encode_name(image.line)}/{serving.version}/{name}.jpg"
        if not self._store.exists(key):
            self._store.put(key, encode_jpeg(heatmap(pixels, score.map_HW, serving.operating_point.threshold)))
        return key

    def _line_image(self, record: Record) -> LineImage:
        if record.header("ce_type") == TYPE_PREFIX + LineImage.__name__:
            image = decode_message(record.value, LineImage)
            check_line_name(image.line)
            return image
        if record.header("ce_type") is not None:
            raise InvalidInput(
                f"{record.header('ce_type')!r} on the images topic; send driftline.LineImage or the bare image"
            )
        return self._check_in(record)

    def _check_in(self, record: Record) -> LineImage:
        """A bare image from a camera that knows nothing of us: its id is its place in the log, its time that of the log."""
        suffix = next((s for magic, s in _SUFFIX_OF_MAGIC.items() if record.value.startswith(magic)), None)
        if suffix is None:
            raise InvalidInput(
                "neither a driftline.LineImage nor the bytes of a JPEG, PNG, TIFF or BMP image; check the sender"
            )
        line = _line_of_key(record.key)
        digest = hashlib.sha256(record.value).hexdigest()
        key = image_key(line, digest, at=record.appended_at, suffix=suffix)
        self._store.put(key, record.value)
        return LineImage(
            line=line,
            image_id=f"{record.topic}-{record.partition}-{record.offset}",
            taken_at=record.appended_at,
            digest=digest,
            key=key,
            size_bytes=len(record.value),
        )


def _line_of_key(key: bytes | None) -> str:
    try:
        line = (key or b"").decode()
    except UnicodeDecodeError as error:
        raise InvalidInput(f"message key {key!r} is no UTF-8; use the name of the line as the key") from error
    check_line_name(line)
    return line


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
