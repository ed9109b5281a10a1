"""Nearest neighbours alone: 1,024 patches against 4,000 rows, the exact winner, beside faiss' flat index, in one thread.

On random features smoothed like patches, or on real tiles where DRIFTLINE_TEST_DATA and DRIFTLINE_TEST_WEIGHTS say where
they are. Says the floor: the arithmetic of one distance for every pair, at the speed of this machine's GEMM.
"""

import os
import time
from pathlib import Path

import faiss
import numpy as np

from detectors.contract import Patches
from detectors.coreset import greedy_k_center
from detectors.features import load_extractor
from detectors.images import decode
from detectors.neighbours import NearestNeighbours

ROWS, PATCHES, ROUNDS = 4000, 1024, 15
WEIGHTS = "resnet18_imagenet1k_v1_conv1-layer3.pth"


def real(data: Path, backbone: str, weights: Path | None) -> tuple[Patches, Patches]:
    """A bank of 4,000 rows by k-center from 40 tiles, and the patches of 10 others."""
    extractor = load_extractor(backbone, weights=weights, runtime="openvino")
    paths = sorted((data / "magnetic_tile" / "train" / "good").iterdir())[:50]
    patches = np.concatenate([extractor.extract([decode(path.read_bytes())]) for path in paths])
    points = patches.reshape(-1, patches.shape[-1])
    train, test = points[: 40 * PATCHES], points[40 * PATCHES :]
    return np.ascontiguousarray(train[greedy_k_center(train, ROWS, seed=0)]), test.reshape(10, PATCHES, -1)


def gemm_rate(dimensions: int) -> float:
    """GFLOP a second of a product of this shape."""
    a, b = np.ones((PATCHES, dimensions), np.float32), np.ones((dimensions, ROWS), np.float32)
    a @ b
    start = time.perf_counter()
    for _ in range(5):
        a @ b
    return 2e-9 * PATCHES * ROWS * dimensions * 5 / (time.perf_counter() - start)


def compare(name: str, bank: Patches, tests: Patches) -> None:
    """Alternate rounds of both; the median."""
    ours, theirs = NearestNeighbours(bank), faiss.IndexFlatL2(bank.shape[1])
    theirs.add(bank)
    for neighbours in (1, 3, 9):
        ours.search(tests[0], neighbours)  # compiles
        taken: dict[str, list[float]] = {"ours": [], "faiss": []}
        same = []
        for number in range(ROUNDS):
            queries = np.ascontiguousarray(tests[number % len(tests)])
            start = time.perf_counter()
            distances, _ = ours.search(queries, neighbours)
            middle = time.perf_counter()
            squares, _ = theirs.search(queries, neighbours)
            taken["ours"].append(middle - start)
            taken["faiss"].append(time.perf_counter() - middle)
            same.append(np.allclose(distances**2, squares, rtol=1e-3, atol=1e-3))
        ms = {each: 1000 * float(np.median(times)) for each, times in taken.items()}
        work = 2e-9 * PATCHES * ROWS * bank.shape[1]
        floor = 1000 * work / gemm_rate(bank.shape[1])
        print(
            f"{name}, {bank.shape[1]} d, k = {neighbours}: ours {ms['ours']:.1f} ms, faiss {ms['faiss']:.1f} ms, ratio "
            f"{ms['faiss'] / ms['ours']:.2f} (goal 2.5 at k = 1); {work:.2f} GFLOP take {floor:.1f} ms as one product; "
            f"the same distances: {all(same)}"
        )


def main() -> None:
    """Both backbones' features, real where there are any."""
    faiss.omp_set_num_threads(1)
    data, weights = os.environ.get("DRIFTLINE_TEST_DATA"), os.environ.get("DRIFTLINE_TEST_WEIGHTS")
    if not data or not weights:
        rng = np.random.default_rng(0)
        centres = rng.normal(size=(200, 384)).astype(np.float32)
        points = centres[rng.integers(0, 200, ROWS + 10 * PATCHES)] + 0.3 * rng.normal(size=(ROWS + 10 * PATCHES, 384))
        compare("random", points[:ROWS].astype(np.float32), points[ROWS:].astype(np.float32).reshape(10, PATCHES, 384))
        return
    compare("tiles, ResNet18", *real(Path(data), "resnet18", Path(weights) / WEIGHTS))
    compare("tiles, EfficientNet-Lite0", *real(Path(data), "efficientnet_lite0", None))


if __name__ == "__main__":
    main()
