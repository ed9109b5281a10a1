"""`driftline evaluate`: a detector judged on a folder in MVTec layout."""

import time
from collections.abc import Sequence
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray
from PIL import Image as Picture

from detectors.errors import InvalidInput
from detectors.evaluation import aupr, aupro, bootstrap_interval, f1_max, image_auroc, pixel_auroc
from detectors.images import Image, decode
from detectors.model import Model
from orchestration.offline import Progress, fit_images, image_files, read_images
from streams.settings import LineConfig

SIDE_PX = 256

Mask = NDArray[np.bool_]
Map = NDArray[np.float32]


class Evaluation(msgspec.Struct, frozen=True, kw_only=True):
    """How a detector does on a folder in MVTec layout; None where a figure cannot be computed. `intervals`: 95 %, by bootstrap."""

    detector: str
    backbone: str
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
    fit_s: float
    ms_per_image: float
    images: int
    intervals: dict[str, tuple[float, float] | None]


def evaluate_folder(folder: Path, config: LineConfig, *, progress: Progress) -> Evaluation:
    """Fit on `train/good`, judge `test/*`, with pixel figures where `ground_truth` has masks."""
    train, _ = read_images(progress(image_files(folder / "train" / "good"), "read"))
    start = time.perf_counter()
    model = fit_images({str(path): image for path, image in train.items()}, config)
    fit_s = time.perf_counter() - start
    test, _ = read_images(progress(image_files(folder / "test"), "read"))
    start = time.perf_counter()
    scores = [score for image in progress(list(test.values()), "score") for score in model.score([image])]
    ms = 1000 * (time.perf_counter() - start) / len(test)
    labels = np.array([path.parent.name != "good" for path in test])
    peaks = np.array([score.peak for score in scores])
    masks = [_mask(folder, path, image) for path, image in test.items()]
    pixels = _pixel_figures(masks, [score.map_HW for score in scores])
    flagged = peaks > model.threshold.value
    return Evaluation(
        detector=config.detector,
        backbone=config.backbone,
        image_size=config.image_size,
        bank_rows=_bank_rows(model),
        image_auroc=image_auroc(labels, peaks),
        pixel_auroc=pixels[0],
        aupro=pixels[1],
        aupr=aupr(labels, peaks),
        f1_max=_first(f1_max(labels, peaks)),
        threshold=model.threshold.value,
        false_alarm_rate=_share(flagged[~labels]),
        recall=_share(flagged[labels]),
        fit_s=fit_s,
        ms_per_image=ms,
        images=len(test),
        intervals={
            "image_auroc": bootstrap_interval(image_auroc, labels, peaks, seed=config.seed),
            "aupr": bootstrap_interval(aupr, labels, peaks, seed=config.seed),
        },
    )


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
    if path.parent.name == "good":
        return np.zeros(image.shape[:2], bool)
    found = folder / "ground_truth" / path.parent.name / f"{path.stem}_mask.png"
    if not found.exists():
        return None
    mask = decode(found.read_bytes())[..., 0] > 127
    if mask.shape != image.shape[:2]:
        raise InvalidInput(f"{found} is {mask.shape}, its image {image.shape[:2]}; a mask has the size of its image")
    return mask


def _pixel_figures(masks: Sequence[Mask | None], maps: Sequence[Map]) -> tuple[float | None, float | None]:
    """Pixel AUROC and AUPRO over the images that have a mask, both brought to 256 x 256 pixels."""
    known = [(mask, each) for mask, each in zip(masks, maps, strict=True) if mask is not None]
    if not any(mask.any() for mask, _ in known):
        return None, None
    size = (SIDE_PX, SIDE_PX)
    small = np.stack(
        [np.asarray(Picture.fromarray(mask).resize(size, Picture.Resampling.NEAREST)) for mask, _ in known]
    )
    large = np.stack(
        [np.asarray(Picture.fromarray(each).resize(size, Picture.Resampling.BILINEAR)) for _, each in known]
    )
    return pixel_auroc(small, large), aupro(small, large)
