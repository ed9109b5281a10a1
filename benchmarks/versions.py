"""Versions of a line compared offline, paired over many halves of the same tiles: what a retrain is worth after a real change of light.

Each seed halves the magnetic tiles at random, so that no tile is learnt and judged by. The champion is born blind from exposures 1 and 2
of one half (5 % bad); then the light changes to exposures 5 and 6 and models are made of a window of the same half, by the very functions
that a retrain calls. All judge the other half. Recall and flagged good parts are at each model's own threshold; intervals are 95 %, by
bootstrap over the seeds of paired differences. Needs DRIFTLINE_TEST_DATA. Twenty seeds take some 20 minutes.
"""

import argparse
import csv
import os
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from detectors.extractors import ExtractorCache
from detectors.model import Model
from detectors.store import FolderStore
from orchestration.material import Material
from orchestration.training import fit_candidate
from orchestration.training_set import choose_images
from orchestration.workbench import RememberingExtractor, Workbench
from streams.messages import RetrainRequest
from streams.settings import LineConfig

BEFORE, AFTER = ("1", "2"), ("5", "6")
FIRST_IMAGES, FIRST_BAD = 150, 0.05
WINDOW_IMAGES, WINDOW_BAD, POISONED_BAD = 60, 0.03, 0.40
OLD_IMAGES = 60
RESAMPLES = 2000


@dataclass(frozen=True)
class Tile:
    """A photograph of the set: where it lies, and what it shows."""

    key: str
    tile_id: int
    exposure: str
    bad: bool


@dataclass(frozen=True)
class Judged:
    """What a model said of unseen tiles: shares of good parts flagged and of bad parts found, before and after the change."""

    good_before: float
    found_before: float
    good_after: float
    found_after: float


def tiles(data: Path, store: FolderStore) -> list[Tile]:
    """Every photograph in the two lights, put into the store; the weak type `uneven` is left out."""
    found = []
    with (data / "magnetic_tile" / "index.csv").open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            if row["exposure"] in BEFORE + AFTER and row["type"] != "uneven":
                store.put(row["path"], (data / "magnetic_tile" / row["path"]).read_bytes())
                found.append(Tile(row["path"], int(row["tile_id"]), row["exposure"], row["label"] != "good"))
    return found


class Bench:
    """Models of windows and what they say, every image through the backbone once."""

    def __init__(self, store: FolderStore, config: LineConfig) -> None:
        self._config = config
        self._bench = Workbench(store, ExtractorCache())
        self._extractor: RememberingExtractor = self._bench.extractor(config)

    def fit(self, recent: Sequence[str], old: Sequence[str] = ()) -> Model:
        """The model that a retrain would make of the window, and of `old` images beside it."""
        request = RetrainRequest(
            line="tiles", request_id="r", cause="covariate_drift", mode="refresh" if old else "blind",
            image_keys=tuple(recent), parent_version=None, alarm_at=None, requested_at=0.0,
        )  # fmt: skip
        chosen = choose_images(request, Material(tuple(recent), old=tuple(old)), self._bench, self._extractor)
        return fit_candidate(chosen, self._bench, self._extractor, self._config)

    def judged(self, model: Model, unseen: Sequence[Tile]) -> Judged:
        """What it says of the unseen tiles in both lights."""

        def share(exposures: tuple[str, ...], bad: bool) -> float:
            keys = [each.key for each in unseen if each.exposure in exposures and each.bad == bad]
            scores = [model.score([image])[0].peak for image in self._bench.images(keys)]
            return float(np.mean(np.array(scores) > model.threshold.value))

        return Judged(share(BEFORE, False), share(BEFORE, True), share(AFTER, False), share(AFTER, True))


def drawn(
    pool: Sequence[Tile], exposures: tuple[str, ...], images: int, bad: float, rng: np.random.Generator
) -> list[str]:
    """A window of the pool: so many images, a share of them bad, in random order; each photograph at most once."""
    good, spoilt = (
        [each.key for each in pool if each.exposure in exposures and each.bad == kind] for kind in (False, True)
    )
    wrong = min(round(bad * images), len(spoilt))
    keys = [*rng.choice(spoilt, wrong, replace=False), *rng.choice(good, min(images - wrong, len(good)), replace=False)]
    return [str(key) for key in rng.permutation(keys)]


def versions(bench: Bench, known: Sequence[Tile], rng: np.random.Generator) -> Iterator[tuple[str, Model]]:
    """The champion and what retrains would put in its place."""
    champion = bench.fit(drawn(known, BEFORE, FIRST_IMAGES, FIRST_BAD, rng))
    yield "champion", champion
    window = drawn(known, AFTER, WINDOW_IMAGES, WINDOW_BAD, rng)
    yield "blind", bench.fit(window)
    still = [key for key in champion.training_keys if key not in champion.left_out]
    yield "refresh", bench.fit(window, still[:: max(1, len(still) // OLD_IMAGES)])
    yield "blind, 40 % bad", bench.fit(drawn(known, AFTER, WINDOW_IMAGES, POISONED_BAD, rng))


def interval(values: NDArray[np.float64]) -> str:
    """Mean and its 95 % interval, in per cent."""
    rng = np.random.default_rng(0)
    means = values[rng.integers(0, len(values), (RESAMPLES, len(values)))].mean(axis=1)
    low, high = np.quantile(means, [0.025, 0.975])
    return f"{100 * values.mean():.1f} ({100 * low:.1f} to {100 * high:.1f})"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--backbone", default=LineConfig().backbone)
    options = parser.parse_args()
    data = Path(os.environ["DRIFTLINE_TEST_DATA"])
    found: dict[str, list[Judged]] = {}
    with tempfile.TemporaryDirectory() as folder:
        store = FolderStore(Path(folder))
        every = tiles(data, store)
        bench = Bench(store, LineConfig(backbone=options.backbone))
        for seed in range(options.seeds):
            rng = np.random.default_rng(seed)
            ids = rng.permutation(sorted({each.tile_id for each in every}))
            mine = set(ids[: len(ids) // 2].tolist())
            known, unseen = ([each for each in every if (each.tile_id in mine) == side] for side in (True, False))
            for name, model in versions(bench, known, rng):
                found.setdefault(name, []).append(bench.judged(model, unseen))
            print(
                f"seed {seed}: {', '.join(f'{name} {rows[-1].good_after:.2f}/{rows[-1].found_after:.2f}' for name, rows in found.items())}",
                flush=True,
            )
    report(found)


def report(found: dict[str, list[Judged]]) -> None:
    """The Markdown tables: each version, and each against the champion before the change, paired."""
    print("\n| version | good flagged, old light | found, old light | good flagged, new light | found, new light |")
    print("|---|---|---|---|---|")
    columns = {
        name: np.array([[r.good_before, r.found_before, r.good_after, r.found_after] for r in rows])
        for name, rows in found.items()
    }
    for name, table in columns.items():
        print(f"| {name} | {' | '.join(interval(column) for column in table.T)} |")
    before = columns["champion"]
    print("\n| in the new light, less the champion before the change | good flagged | found |\n|---|---|---|")
    for name, table in columns.items():
        print(f"| {name} | {interval(table[:, 2] - before[:, 0])} | {interval(table[:, 3] - before[:, 1])} |")


if __name__ == "__main__":
    main()
