"""Blind ranking: how well it ranks at 0 to 45 % bad beside fixed K and a one-class fit, and how fast beside brute force.

Needs the real images: DRIFTLINE_TEST_DATA. `--table` ranks batches of both sets (minutes), `--speed` times one batch of
240 tiles against the paper's definition: every patch against all patches of all other images.
"""

import argparse
import os
import time
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score

from detectors.blind import mean_distances
from detectors.contract import Patches
from detectors.duplicates import same_parts
from detectors.features import load_extractor
from detectors.images import decode
from detectors.maps import image_scores
from detectors.patchcluster import PatchCluster
from detectors.patchcore import PatchCore

SHARES = (0.0, 0.05, 0.15, 0.3, 0.45)
SEEDS = (0, 1, 2)
SETS = {"cookie": 40, "magnetic_tile": 80}
"""Images of a batch."""


def features(paths: list[Path]) -> Patches:
    """Patch features of the default backbone."""
    extractor = load_extractor(runtime="openvino")
    return np.concatenate([extractor.extract([decode(path.read_bytes())]) for path in paths])


def files(data: Path, name: str) -> tuple[list[Path], list[Path]]:
    """Good and bad images of a set."""
    good = sorted((data / name).glob("*/good/*"))
    bad = sorted(each for each in (data / name / "test").glob("*/*") if each.parent.name not in ("good", "uneven"))
    return good, bad


def brute(patches_BHWD: Patches, counts: tuple[int, ...], rows: int | None, seed: int) -> NDArray[np.float64]:
    """Image scores by the paper's definition for each K, `(K, B)`; of a random part of the patches where `rows` says so."""
    images, height, width, dimensions = patches_BHWD.shape
    points_BPD = patches_BHWD.reshape(images, height * width, dimensions)
    cells = np.arange(images * height * width)
    if rows is not None:
        cells = np.sort(np.random.default_rng(seed).choice(cells, rows, replace=False))
    owners_M = cells // (height * width)
    means_KBP = mean_distances(
        points_BPD, points_BPD.reshape(-1, dimensions)[cells], np.arange(images), owners_M, counts
    )
    return np.stack([image_scores(means_BP.reshape(images, height, width)) for means_BP in means_KBP])


def one_class(patches_BHWD: Patches, bad_B: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Scores of a PatchCore that was given the good images alone: those left out part by part, the bad ones as they are."""
    good_BHWD = patches_BHWD[~bad_B]
    detector = PatchCore(bank=4000, seed=0).fit(good_BHWD, same_parts(good_BHWD))
    scores_B = np.empty(len(bad_B))
    scores_B[~bad_B] = image_scores(detector.left_out_maps())
    scores_B[bad_B] = image_scores(detector.anomaly_maps(patches_BHWD[bad_B]))
    return scores_B


def table(data: Path) -> None:
    """Image AUROC of each way of ranking, averaged over seeds, and its worst batch."""
    all_of: dict[str, list[float]] = {}
    for name, size in SETS.items():
        good, bad = files(data, name)
        known = features(good + bad)
        for share in SHARES:
            found: dict[str, list[float]] = {}
            flagged = []
            for seed in SEEDS:
                rng = np.random.default_rng(seed)
                spoilt = round(size * share)
                chosen = np.r_[
                    rng.choice(len(good), size - spoilt, replace=False),
                    len(good) + rng.choice(len(bad), spoilt, replace=False),
                ]
                bad_B = np.arange(size) >= size - spoilt
                patches = known[chosen]
                detector = PatchCluster(seed=seed).fit(patches, same_parts(patches))
                flagged.append(float(detector.suspects()[~bad_B].mean()))
                if spoilt == 0:
                    continue
                fixed_3, fixed_100 = brute(patches, (3, 100), 20_000, seed)
                scores = {
                    "automatic": detector.ranking(), "K = 3": fixed_3, "K = 100": fixed_100,
                    "one-class": one_class(patches, bad_B),
                }  # fmt: skip
                for way, scores_B in scores.items():
                    found.setdefault(way, []).append(float(roc_auc_score(bad_B, scores_B)))
            for way, aurocs in found.items():
                all_of.setdefault(way, []).extend(aurocs)
            said = ", ".join(f"{way} {np.mean(aurocs):.3f} (worst {min(aurocs):.3f})" for way, aurocs in found.items())
            print(
                f"{name}, {size} images, {share:.0%} bad: {said or 'nothing to rank'}; good images suspected: {np.mean(flagged):.1%}",
                flush=True,
            )
    print(
        "over all: "
        + ", ".join(f"{way} mean {np.mean(each):.3f}, worst {min(each):.3f}" for way, each in all_of.items())
    )


def speed(data: Path, size: int) -> None:
    """Our fit, from features to ranking and bank, beside one brute-force ranking of the same features by the same K."""
    good, bad = files(data, "magnetic_tile")
    spoilt = round(0.15 * size)
    rng = np.random.default_rng(0)
    chosen = [good[i] for i in rng.choice(len(good), size - spoilt, replace=False)]
    chosen += [bad[i] for i in rng.choice(len(bad), spoilt, replace=False)]
    patches = features(chosen)
    bad_B = np.arange(size) >= size - spoilt
    PatchCluster(seed=0).fit(patches[:10])  # compiles
    start = time.perf_counter()
    detector = PatchCluster(seed=0).fit(patches, same_parts(patches))
    ours = time.perf_counter() - start
    start = time.perf_counter()
    (scores_B,) = brute(patches, (int(detector.state().parameters["neighbours"]),), None, 0)
    theirs = time.perf_counter() - start
    print(
        f"{size} images at 256 px: ours {ours:.1f} s, AUROC {roc_auc_score(bad_B, detector.ranking()):.3f}; brute force "
        f"{theirs:.1f} s, AUROC {roc_auc_score(bad_B, scores_B):.3f}; ratio {theirs / ours:.1f} (goal 8)"
    )


def main() -> None:
    """Both, or the one that is asked for."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--table", action="store_true")
    options.add_argument("--speed", action="store_true")
    options.add_argument("--images", type=int, default=240)
    asked = options.parse_args()
    if not (root := os.environ.get("DRIFTLINE_TEST_DATA")):
        print("left out: set DRIFTLINE_TEST_DATA to the folder of real images")
        return
    if asked.speed or not asked.table:
        speed(Path(root), asked.images)
    if asked.table or not asked.speed:
        table(Path(root))


if __name__ == "__main__":
    main()
