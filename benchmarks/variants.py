"""What moves PatchCore's image AUROC on a real set, and what is chance: seeds, neighbours, smoothing, one bank a layer.

Prints one line a seed and a number of neighbours, image AUROC at each smoothing, and at the end the interval that
resampling whole parts leaves (`tile_id` of `magnetic_tile`; elsewhere each image is a part). Needs DRIFTLINE_TEST_DATA
and DRIFTLINE_TEST_WEIGHTS; `magnetic_tile` takes 3 GB and ten minutes a seed.
"""

import argparse
import csv
import os
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from quality import tested
from rivals.client import BANK, WEIGHTS

from detectors.backbones import BACKBONES
from detectors.contract import DetectorState, Maps, Patches
from detectors.evaluation import image_auroc
from detectors.features import load_extractor
from detectors.images import decode
from detectors.maps import image_scores
from detectors.patchcore import PatchCore

NEIGHBOURS = (1, 3, 9)
SIGMAS = (0.0, 0.5, 1.0, 1.5)
RESAMPLED = 1000


def features(folder: Path, backbone: str, layers: tuple[str, ...], weights: Path) -> tuple[Patches, Patches]:
    """Patches of the good training images and of the test images."""
    file = weights / WEIGHTS if backbone == "resnet18" else None
    extractor = load_extractor(backbone, weights=file, layers=layers)
    train, test = sorted((folder / "train" / "good").iterdir()), tested(folder)
    return (
        np.concatenate([extractor.extract([decode(path.read_bytes())]) for path in train]),
        np.concatenate([extractor.extract([decode(path.read_bytes())]) for path in test]),
    )


def maps_of(train: Patches, test: Patches, seed: int) -> dict[int, Maps]:
    """Maps of the test images by number of neighbours, all from one bank."""
    state = PatchCore(bank=BANK, seed=seed).fit(train).state()
    found = {}
    for count in NEIGHBOURS:
        parameters = {**state.parameters, "neighbours": count}
        found[count] = PatchCore.from_state(DetectorState(parameters, state.tensors)).anomaly_maps(test)
    return found


def part_of(folder: Path, paths: list[Path]) -> NDArray[np.int64]:
    """Which part each image shows."""
    index = folder / "index.csv"
    if not index.exists():
        return np.arange(len(paths))
    with index.open() as lines:
        tiles = {row["path"]: f"{row['type']} {row['tile_id']}" for row in csv.DictReader(lines)}
    return np.unique([tiles[str(path.relative_to(folder))] for path in paths], return_inverse=True)[1]


def interval(
    bad_B: NDArray[np.bool_], scores_B: NDArray[np.float64], parts_B: NDArray[np.int64]
) -> tuple[float, float]:
    """95 % interval of the image AUROC, good and bad parts resampled."""
    rng = np.random.default_rng(0)
    images = [np.flatnonzero(parts_B == part) for part in range(parts_B.max() + 1)]
    kinds = [[each for each in images if bad_B[each[0]] == bad] for bad in (False, True)]
    found = []
    for _ in range(RESAMPLED):
        drawn = [each[chosen] for each in kinds for chosen in rng.integers(len(each), size=len(each))]
        chosen_R = np.concatenate(drawn)
        found.append(image_auroc(bad_B[chosen_R], scores_B[chosen_R]) or 0.0)
    low, high = np.quantile(found, [0.025, 0.975])
    return float(low), float(high)


def said(name: str, bad_B: NDArray[np.bool_], maps: Maps) -> None:
    """One line."""
    figures = [f"{image_auroc(bad_B, image_scores(maps, sigma=sigma)):.3f}" for sigma in SIGMAS]
    print(f"{name}: {' / '.join(figures)} (sigma {' / '.join(map(str, SIGMAS))})", flush=True)


def main() -> None:
    """Every seed on one set and one backbone."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--set", default="magnetic_tile")
    options.add_argument("--backbone", default="resnet18")
    options.add_argument("--seeds", default="0,1,2,3")
    asked = options.parse_args()
    data, weights = os.environ.get("DRIFTLINE_TEST_DATA"), os.environ.get("DRIFTLINE_TEST_WEIGHTS")
    if not data or not weights:
        print("left out: set DRIFTLINE_TEST_DATA and DRIFTLINE_TEST_WEIGHTS to the folders of real images and weights")
        return
    folder = Path(data) / asked.set
    paths = tested(folder)
    bad_B = np.array([path.parent.name != "good" for path in paths])
    layers = BACKBONES[asked.backbone].default_layers
    squares: dict[tuple[int, int], Maps] = {}
    for used in (layers, *((layer,) for layer in layers)):
        train, test = features(folder, asked.backbone, used, Path(weights))
        for seed in map(int, asked.seeds.split(",")):
            for count, maps in maps_of(train, test, seed).items():
                said(f"{asked.set}, {asked.backbone} {'+'.join(used)}, seed {seed}, k = {count}", bad_B, maps)
                if used == layers and count == 1 and seed == 0:
                    low, high = interval(bad_B, image_scores(maps), part_of(folder, paths))
                    print(f"  at the default smoothing, parts resampled: {low:.3f} to {high:.3f}", flush=True)
                if used != layers:
                    squares[seed, count] = squares.get((seed, count), np.float32(0)) + maps**2
    for (seed, count), each in squares.items():
        said(f"{asked.set}, {asked.backbone} one bank a layer, seed {seed}, k = {count}", bad_B, np.sqrt(each))


if __name__ == "__main__":
    main()
