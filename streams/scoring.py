"""The scorer's handler: an image in, a verdict out, or `Collected` where the line has no model yet.

Bytes that cannot be scored raise InvalidInput: the worker makes a dead letter of them and nothing else waits.
"""

import logging
from collections.abc import Callable, Sequence

from detectors.images import decode
from detectors.model import ImageScore
from detectors.objects import ObjectStore
from streams.arrivals import Arrivals
from streams.bus import Record
from streams.heatmaps import keep_heatmap
from streams.loaded import Serving
from streams.messages import Collected, LineImage, Message, NearestNormal, Signals, Verdict
from streams.newest_first import aside
from streams.serving import ServingModels
from streams.shadowing import Seen, Shadows, is_behind, is_chosen
from streams.topics import BACKLOG
from streams.worker import Effects, Original

log = logging.getLogger(__name__)


class ScoreHandler:
    """Scores the images of every line this scorer is given, each with its line's current model.

    `deadline_ms` gives the deadline of a line, None where it has none: a verdict that comes later is marked and counted in the log,
    and sent like any other. `newest_first`: whether a line's images that have waited step aside for newer ones. `shadow_share`: which
    share of a line's live images its challenger scores too, where the batch is smaller than `full_batch`.
    """

    def __init__(
        self,
        store: ObjectStore,
        models: ServingModels,
        *,
        now: Callable[[], float],
        deadline_ms: Callable[[str], float | None] = lambda _: None,
        newest_first: Callable[[str], bool] = lambda _: False,
        shadow_share: Callable[[str], float] = lambda _: 0.0,
        full_batch: int = 4,
    ) -> None:
        self._store = store
        self._arrivals = Arrivals(store)
        self._models = models
        self._now = now
        self._deadline_ms = deadline_ms
        self._newest_first = newest_first
        self._shadow_share = shadow_share
        self._full_batch = full_batch
        self._shadows = Shadows(store, models, now=now)

    def handle(self, records: Sequence[Record]) -> Effects:
        """Verdicts (or `Collected`) of a batch, in its order, and what steps aside; raises InvalidInput for a record that can never be
        scored.
        """
        behind = is_behind(records, full=self._full_batch, now=self._now())
        moved = {place: self._aside(record) for place, record in enumerate(records)}
        records = [record for place, record in enumerate(records) if moved[place] is None]
        images = [self._arrivals.read(record) for record in records]
        # Line by line, so that a model that was put out comes back once in a batch.
        by_line = sorted(range(len(images)), key=lambda place: images[place].line)
        chosen: list[Seen] = []
        judged = {
            place: self._judge(images[place], late=records[place].topic == BACKLOG, chosen=chosen) for place in by_line
        }
        messages = [judged[place] for place in range(len(images))]
        self._shadows.wait(() if behind else chosen)
        _tell_overdue(messages)
        back = tuple(each for each in moved.values() if each is not None)
        return Effects(messages=(*self._models.take_news(), *messages), back=back)

    def idle(self, now: float) -> Effects:
        """Between batches: what the challengers say, and new versions."""
        shadows = self._shadows.score()
        self._models.refresh()
        return Effects(messages=(*self._models.take_news(), *shadows))

    def close(self) -> None:
        """Stop loading models, and scoring with challengers."""
        self._shadows.close()
        self._models.close()

    def _aside(self, record: Record) -> Original | None:
        """Where to the record steps aside; None where it is judged in its turn."""
        line = (record.key or b"").decode(errors="replace")
        return aside(record, self._now()) if self._newest_first(line) else None

    def _judge(self, image: LineImage, *, late: bool, chosen: list[Seen]) -> Message:
        """What is said of an image; what its line's challenger may score as well goes into `chosen`."""
        data = self._arrivals.pixels(image)
        serving = self._models.of(image.line)
        if serving is None:
            return Collected(line=image.line, image=image, collected_at=self._now())
        pixels = decode(data)
        patches_1HWD = serving.model.patches(pixels)
        score = serving.model.score_patches(pixels, patches_1HWD)
        flagged = score.peak > serving.operating_point.threshold
        judged_at = self._now()
        latency_ms = 1000 * max(0.0, judged_at - image.taken_at)
        deadline_ms = self._deadline_ms(image.line)
        verdict = Verdict(
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
            heatmap_key=keep_heatmap(self._store, image, serving, pixels, score) if flagged else None,
            nearest=_nearest_normal(serving, score),
            late=image.late or late,
            overdue=deadline_ms is not None and latency_ms > deadline_ms,
        )
        if not verdict.late and self._is_shadowed(image):
            chosen.append(Seen(image, pixels, verdict, serving, patches_1HWD))
        return verdict

    def _is_shadowed(self, image: LineImage) -> bool:
        challenger = self._models.challenger_of(image.line)
        return challenger is not None and is_chosen(image.image_id, self._shadow_share(image.line))


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
