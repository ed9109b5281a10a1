"""`driftline evaluate`: a detector judged on a folder in MVTec layout."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray
from PIL import Image as Picture

from detectors.calibration import RecallThreshold, threshold_for_recall
from detectors.errors import ImageError, InvalidInput
from detectors.evaluation import (
    Metric,
    aupr,
    aupro,
    bootstrap_interval,
    f1_max,
    image_auroc,
    pixel_auroc,
    recall_at_false_alarm_rate,
)
from detectors.images import Image, decode, decode_mask
from detectors.manifest import Threshold
from detectors.model import ImageScore, Model
from orchestration.image_files import image_files, readable
from orchestration.offline import Watcher, fit_files
from streams.settings import LineConfig

SIDE_PX = 256
GOOD = "good"

Mask = NDArray[np.bool_]
Map = NDArray[np.float32]


class Kind(msgspec.Struct, frozen=True, kw_only=True):
    """How one kind of defect is told from the good images; `recall`: at the model's own threshold."""

    images: int
    image_auroc: float | None
    recall: float | None


class Evaluation(msgspec.Struct, frozen=True, kw_only=True):
    """How a detector does on a folder in MVTec layout; None where a figure cannot be computed. `intervals`: 95 %, by
    bootstrap. `recall_at_rate`: share of defects above the score that the line's false-alarm rate of the good test
    images exceed; `false_alarm_rate` and `recall`: at the model's own threshold, which has not seen them, and likewise
    `pixel_false_alarm_rate` and `pixel_recall` (shares of pixels); `for_recall`: the threshold for the recall asked for,
    from the test images.
    """

    detector: str
    backbone: str
    runtime: str
    image_size: int
    bank_rows: int
    image_auroc: float | None
    pixel_auroc: float | None
    aupro: float | None
    aupr: float | None
    f1_max: float | None
    threshold: float
    false_alarm_rate: float | None
    recall: float | None
    recall_at_rate: float | None
    pixel_threshold: float | None
    pixel_false_alarm_rate: float | None
    pixel_recall: float | None
    for_recall: RecallThreshold | None
    kinds: dict[str, Kind]
    fit_s: float
    ms_per_image: float
    images: int
    unreadable: dict[str, str]
    notes: tuple[str, ...]
    intervals: dict[str, tuple[float, float] | None]


@dataclass(frozen=True)
class Judged:
    """A test image, its kind (the folder it lies in) and what the model says of it."""

    path: Path
    kind: str
    score: ImageScore


@dataclass(frozen=True)
class Judgement:
    """An evaluation with the images behind it, for a report."""

    evaluation: Evaluation
    threshold: Threshold
    images: tuple[Judged, ...]


def evaluate_folder(folder: Path, config: LineConfig, *, recall: float | None = None, watcher: Watcher) -> Judgement:
    """Fit on `train/good`, judge `test/*`, with pixel figures where `ground_truth` has masks, and a threshold for a
    `recall` where one is asked for.
    """
    train, unreadable = readable(watcher.progress(image_files(folder / "train" / "good"), "read"))
    start = time.perf_counter()
    model = fit_files(train, [str(path) for path in train.paths], config, told=watcher.told)
    fit_s = time.perf_counter() - start
    judged, masks, seconds, faults = _judge(model, folder, watcher)
    defects = np.array([each.score.peak for each in judged if each.kind != GOOD])
    evaluation = Evaluation(
        detector=config.detector,
        backbone=config.backbone,
        runtime=model.extractor.spec.runtime,
        image_size=config.image_size,
        bank_rows=_bank_rows(model),
        for_recall=None if recall is None else threshold_for_recall(defects, recall=recall),
        threshold=model.threshold.value,
        fit_s=fit_s,
        ms_per_image=1000 * seconds / len(judged),
        images=len(judged),
        unreadable=unreadable | faults,
        notes=model.notes,
        kinds=_kinds(judged, model.threshold.value),
        **_image_figures(judged, model.threshold.value, config),
        **_pixel_figures(masks, [each.score.map_HW for each in judged], model.pixel_threshold),
    )
    return Judgement(evaluation, model.threshold, tuple(judged))


def _judge(
    model: Model, folder: Path, watcher: Watcher
) -> tuple[list[Judged], list[Mask | None], float, dict[str, str]]:
    """The test images judged one by one, their masks, the seconds that took, and which cannot be read."""
    judged, masks, faults, seconds = [], [], {}, 0.0
    for path in watcher.progress(image_files(folder / "test"), "score"):
        try:
            image = decode(path.read_bytes())
        except (ImageError, OSError) as error:
            faults[str(path)] = str(error)
            continue
        start = time.perf_counter()
        (score,) = model.score([image])
        seconds += time.perf_counter() - start
        judged.append(Judged(path, path.parent.name, score))
        masks.append(_mask(folder, path, image))
    if not judged:
        raise InvalidInput(f"none of the images in {folder / 'test'} can be read; look at one of them")
    return judged, masks, seconds, faults


def _image_figures(judged: Sequence[Judged], threshold: float, config: LineConfig) -> dict[str, Any]:
    """The fields of an Evaluation that image scores decide."""
    labels = np.array([each.kind != GOOD for each in judged])
    peaks = np.array([each.score.peak for each in judged])
    flagged = peaks > threshold
    metrics: dict[str, Metric] = {
        "image_auroc": image_auroc,
        "aupr": aupr,
        "f1_max": lambda some, scores: _first(f1_max(some, scores)),
        "recall_at_rate": partial(recall_at_false_alarm_rate, rate=config.false_alarm_rate),
    }
    return {
        "false_alarm_rate": _share(flagged[~labels]),
        "recall": _share(flagged[labels]),
        "intervals": {
            name: bootstrap_interval(metric, labels, peaks, seed=config.seed) for name, metric in metrics.items()
        },
    } | {name: metric(labels, peaks) for name, metric in metrics.items()}


def _kinds(judged: Sequence[Judged], threshold: float) -> dict[str, Kind]:
    """Each kind of defect against all good images."""
    kinds = {}
    for kind in sorted({each.kind for each in judged} - {GOOD}):
        some = [each for each in judged if each.kind in (kind, GOOD)]
        labels = np.array([each.kind == kind for each in some])
        peaks = np.array([each.score.peak for each in some])
        kinds[kind] = Kind(
            images=int(labels.sum()),
            image_auroc=image_auroc(labels, peaks),
            recall=_share(peaks[labels] > threshold),
        )
    return kinds


def _bank_rows(model: Model) -> int:
    """Rows of the detector's memory bank, 0 for one that keeps distributions instead."""
    tensors = model.detector.state().tensors
    return next((len(tensors[name]) for name in ("bank_MD", "bank") if name in tensors), 0)


def _share(flags: Mask) -> float | None:
    return float(flags.mean()) if flags.size else None


def _first(pair: tuple[float, float] | None) -> float | None:
    return None if pair is None else pair[0]


def _mask(folder: Path, path: Path, image: Image) -> Mask | None:
    """The mask of a test image at its size; all False for a good one, None where a defect has no mask."""
    if path.parent.name == GOOD:
        return np.zeros(image.shape[:2], bool)
    found = folder / "ground_truth" / path.parent.name / f"{path.stem}_mask.png"
    if not found.exists():
        return None
    mask = decode_mask(found.read_bytes())
    if mask.shape != image.shape[:2]:
        raise InvalidInput(f"{found} is {mask.shape}, its image {image.shape[:2]}; a mask has the size of its image")
    return mask


def _pixel_figures(masks: Sequence[Mask | None], maps: Sequence[Map], threshold: Threshold | None) -> dict[str, Any]:
    """The fields of an Evaluation that pixels decide, over the images that have a mask, all brought to 256 x 256."""
    limit = None if threshold is None else threshold.value
    known = [(mask, each) for mask, each in zip(masks, maps, strict=True) if mask is not None]
    if not known:
        names = ("pixel_auroc", "aupro", "pixel_false_alarm_rate", "pixel_recall")
        return {"pixel_threshold": limit, **dict.fromkeys(names)}
    size = (SIDE_PX, SIDE_PX)
    small = np.stack(
        [np.asarray(Picture.fromarray(mask).resize(size, Picture.Resampling.NEAREST)) for mask, _ in known]
    )
    large = np.stack(
        [np.asarray(Picture.fromarray(each).resize(size, Picture.Resampling.BILINEAR)) for _, each in known]
    )
    good = np.array([not mask.any() for mask, _ in known])
    return {
        "pixel_auroc": pixel_auroc(small, large),
        "aupro": aupro(small, large),
        "pixel_threshold": limit,
        "pixel_false_alarm_rate": None if limit is None else _share(large[good] > limit),
        "pixel_recall": None if limit is None else _share(large[small] > limit),
    }
