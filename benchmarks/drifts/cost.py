"""What watching costs: time of an image beside that of scoring it, and memory over many images."""

import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from drifts import tables
from drifts.rivals import Ours
from drifts.tables import Scored
from rivals.client import WEIGHTS

from detectors.features import load_extractor
from detectors.images import decode
from detectors.model import Model
from streams.messages import Signals

_RUN_LENGTH = 10_000
_FITTED = 20


def models(data: Path, weights: Path) -> Mapping[str, Model]:
    """Small models on ResNet18 and on our default backbone."""
    known = [each for each in tables.pictures(data) if each.exposure == 1 and each.good][:_FITTED]
    extractors = {
        "resnet18": load_extractor("resnet18", weights=weights / WEIGHTS, runtime="openvino"),
        "efficientnet_lite0": load_extractor(runtime="openvino"),
    }
    return {name: tables.fitted(known, extractor) for name, extractor in extractors.items()}


def times(
    scored: Scored, judges: Mapping[str, Model], data: Path, *, updates: int, scorings: int
) -> tuple[Mapping[str, Sequence[float]], Sequence[float]]:
    """Milliseconds of each scoring by each model, and of each image watched; rounds alternate."""
    known = [each for each in tables.pictures(data) if each.exposure == 1 and each.good][:scorings]
    watcher, given = _watcher(scored)
    taken: dict[str, list[float]] = {name: [] for name in judges}
    watched: list[float] = []
    for turn, picture in enumerate(known):
        image = decode(picture.path.read_bytes())
        for name, model in judges.items():
            start = time.perf_counter()
            model.score([image])
            taken[name].append(1000 * (time.perf_counter() - start))
        for place in range(turn * updates // len(known), (turn + 1) * updates // len(known)):
            start = time.perf_counter()
            watcher.take(str(place), given[place % len(given)], False)
            watched.append(1000 * (time.perf_counter() - start))
    return taken, watched


def resident(scored: Scored, images: int) -> tuple[float, float]:
    """Resident memory of this process, in MB, after a tenth of so many images and after all."""
    watcher, given = _watcher(scored)
    rng = np.random.default_rng(0)
    sizes = []
    for image in range(images):
        watcher.take(f"image-{image}", given[int(rng.integers(len(given)))], False)
        if image in (images // 10, images - 1):
            sizes.append(_resident_mb())
    return sizes[0], sizes[-1]


def _watcher(scored: Scored) -> tuple[Ours, Sequence[Signals]]:
    """Our monitor, and what it is given."""
    given = [tables.signals(row_S) for row_S in scored.rows(exposures=(1, 2))]
    return Ours(scored.reference, 0, expected_run_length=_RUN_LENGTH), given


def _resident_mb() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6
