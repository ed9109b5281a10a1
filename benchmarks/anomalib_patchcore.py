"""Ours beside anomalib 2.7, in one run: coreset, PatchCore and PaDiM from decoding to score and map, and their AUROC.

anomalib runs in a virtual environment of its own that this script makes (`.bench/anomalib`), as its bare torch models,
with one thread like ours. Rounds alternate, so that a machine that slows down slows both. Needs the real images and
weights: DRIFTLINE_TEST_DATA, DRIFTLINE_TEST_WEIGHTS. `--coreset-images 318` is the whole set of tiles (ten minutes of
anomalib's time); `--only` runs one part.
"""

import argparse
import os
import platform
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image as Picture
from rivals.client import BANK, WEIGHTS, Rival, anomalib, give_bank
from sklearn.metrics import roc_auc_score

from detectors.coreset import greedy_k_center
from detectors.features import FeatureExtractor, load_extractor
from detectors.fitting import fit_model
from detectors.images import decode
from detectors.model import Model, detector_from
from detectors.quantised import faithful

ROUNDS = 2


def coreset(rival: Rival, extractor: FeatureExtractor, images: list[Path]) -> None:
    """One per cent of the patches of the tiles: seconds, and the cover radius of what was picked."""
    patches = np.concatenate([extractor.extract([decode(path.read_bytes())]) for path in images])
    points_ND = patches.reshape(-1, patches.shape[-1])
    rows = len(points_ND) // 100
    with tempfile.TemporaryDirectory() as folder:
        file = f"{folder}/points.npy"
        np.save(file, points_ND)
        start = time.perf_counter()
        ours_M = greedy_k_center(points_ND, rows, seed=0)
        ours = time.perf_counter() - start
        theirs = rival.ask("coreset", file=file, rows=rows)["seconds"]
        theirs_M = np.load(file + ".picked.npy")
    radii = [cover_radius(points_ND, points_ND[picked]) for picked in (ours_M, theirs_M)]
    print(
        f"coreset of {len(points_ND)} x {points_ND.shape[1]} to {rows}: ours {ours:.1f} s (cover radius {radii[0]:.3f}), "
        f"anomalib {theirs:.1f} s ({radii[1]:.3f}), ratio {theirs / ours:.1f} (goal 20)"
    )


def cover_radius(points_ND: np.ndarray, bank_MD: np.ndarray) -> float:
    """Greatest distance of a point to its nearest bank row."""
    squares = np.einsum("md,md->m", bank_MD, bank_MD)
    worst = 0.0
    for start in range(0, len(points_ND), 4096):
        part = points_ND[start : start + 4096]
        nearest = (squares - 2 * part @ bank_MD.T).min(axis=1) + np.einsum("nd,nd->n", part, part)
        worst = max(worst, float(nearest.max()))
    return worst**0.5


def ours_score(model: Model, path: Path) -> tuple[float, float]:
    """Seconds from the file to score and a map of 256 x 256, and the score."""
    start = time.perf_counter()
    (score,) = model.score([decode(path.read_bytes())])
    Picture.fromarray(score.map_HW).resize((256, 256), Picture.Resampling.BILINEAR)
    return time.perf_counter() - start, score.peak


def compare(rival: Rival, kind: str, models: dict[str, Model], folder: Path, goals: dict[str, float]) -> None:
    """Milliseconds an image and image AUROC of our models beside anomalib's, on the test images of a folder."""
    tested = sorted((folder / "test").rglob("*.jpg")) + sorted((folder / "test").rglob("*.png"))
    tested = [path for path in tested if path.parent.name != "uneven"][:: max(1, len(tested) // 60)]
    labels = [path.parent.name != "good" for path in tested]
    taken: dict[str, list[float]] = {name: [] for name in (*models, "anomalib")}
    scores: dict[str, dict[Path, float]] = {name: {} for name in taken}
    for _ in range(ROUNDS):
        for path in tested:
            answer = rival.ask("score", path=str(path))
            taken["anomalib"].append(answer["seconds"])
            scores["anomalib"][path] = answer["score"]
            for name, model in models.items():
                seconds, scores[name][path] = ours_score(model, path)
                taken[name].append(seconds)
    usual = {name: 1000 * float(np.median(each)) for name, each in taken.items()}
    for name, ms in usual.items():
        auroc = roc_auc_score(labels, [scores[name][path] for path in tested])
        beside = f", ratio {usual['anomalib'] / ms:.2f} (goal {goals[name]:.0f})" if name in goals else ""
        print(f"{kind}, {folder.name}: {name} {ms:.1f} ms an image, image AUROC {auroc:.3f}{beside}")


def ours(kind: str, extractor: FeatureExtractor, train: list[Path]) -> Model:
    """Our model of the same images."""
    return fit_model(
        [decode(path.read_bytes()) for path in train],
        [str(path) for path in train],
        extractor=extractor,
        detector=detector_from(kind, bank=BANK, seed=0),
        false_alarm_rate=0.01,
    )


def main() -> None:
    """Every comparison, one after the other."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--coreset-images", type=int, default=60)
    options.add_argument("--only", choices=("coreset", "patchcore", "padim"))
    asked = options.parse_args()
    data, weights = os.environ.get("DRIFTLINE_TEST_DATA"), os.environ.get("DRIFTLINE_TEST_WEIGHTS")
    if not data or not weights:
        print("left out: set DRIFTLINE_TEST_DATA and DRIFTLINE_TEST_WEIGHTS to the folders of real images and weights")
        return
    resnet = Path(weights) / WEIGHTS
    print(f"{platform.machine()}, {os.cpu_count()} processors, one thread each")
    with anomalib() as rival:
        if asked.only in (None, "coreset"):
            tiles = sorted((Path(data) / "magnetic_tile" / "train" / "good").iterdir())[: asked.coreset_images]
            coreset(rival, load_extractor("resnet18", weights=resnet), tiles)
        folder = Path(data) / "cookie"
        train = sorted((folder / "train" / "good").iterdir())
        if asked.only in (None, "patchcore"):
            rival.ask("fit", kind="patchcore", paths=[str(path) for path in train], weights=str(resnet))
            give_bank(rival)
            models = {
                f"ours, {name}": ours("patchcore", each, train) for name, each in extractors(resnet, train).items()
            }
            goals = {name: 4.0 if "ResNet18" in name else 8.0 for name in models}
            compare(rival, f"patchcore, bank {BANK}", models, folder, goals)
        if asked.only in (None, "padim"):
            rival.ask("fit", kind="padim", paths=[str(path) for path in train], weights=str(resnet))
            models = {
                f"ours, {name}": ours("padim", each, train)
                for name, each in extractors(resnet, train).items()
                if "ResNet18" in name
            }
            compare(rival, "padim, 100 dimensions", models, folder, dict.fromkeys(models, 2.0))


def extractors(resnet: Path, train: list[Path]) -> dict[str, FeatureExtractor]:
    """Both backbones under every runtime; 8 bits where they rank alike."""
    made = {}
    images = [decode(path.read_bytes()) for path in train]
    for name, backbone, weights in (
        ("ResNet18", "resnet18", resnet),
        ("EfficientNet-Lite0", "efficientnet_lite0", None),
    ):
        made[f"{name} torch"] = load_extractor(backbone, weights=weights)
        full = made[f"{name} OpenVINO"] = load_extractor(backbone, weights=weights, runtime="openvino")
        chosen, note = faithful(full, images)
        print(f"{name}: {note}")
        if isinstance(chosen, FeatureExtractor) and chosen is not full:
            made[f"{name} OpenVINO 8 bits"] = chosen
    return made


if __name__ == "__main__":
    main()
