"""How well each detector tells defects from good parts, beside anomalib's PatchCore with equal weights, size and bank.

Both sets whole (`magnetic_tile` without `uneven`), ResNet18 and our default backbone; prints one line a model and the
ratio of errors (1 - image AUROC). Needs DRIFTLINE_TEST_DATA and DRIFTLINE_TEST_WEIGHTS; takes half an hour.
"""

import argparse
import os
import tempfile
import time
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image as Picture
from rivals.client import BANK, WEIGHTS, Rival, anomalib, give_bank

from detectors.evaluation import aupro, image_auroc, pixel_auroc
from detectors.features import load_extractor
from detectors.fitting import fit_model
from detectors.images import decode, decode_mask
from detectors.model import Model, detector_from

SETS = ("cookie", "magnetic_tile")
DETECTORS = ("patchcore", "padim", "dfkde", "patchcluster")
SIDE = (256, 256)

Maps = NDArray[np.float32]


def tested(folder: Path) -> list[Path]:
    """The test images."""
    return sorted(path for path in (folder / "test").glob("*/*") if path.parent.name != "uneven")


def mask(folder: Path, path: Path) -> NDArray[np.bool_] | None:
    """Where the defect is, at 256 x 256; None where nobody said."""
    if path.parent.name == "good":
        return np.zeros(SIDE, np.bool_)
    file = folder / "ground_truth" / path.parent.name / f"{path.stem}_mask.png"
    if not file.exists():
        return None
    return np.asarray(Picture.fromarray(decode_mask(file.read_bytes())).resize(SIDE, Picture.Resampling.NEAREST))


def figures(folder: Path, peaks: list[float], maps: list[Maps]) -> tuple[float, float, float]:
    """Image AUROC, pixel AUROC and AUPRO."""
    paths = tested(folder)
    bad_B = np.array([path.parent.name != "good" for path in paths])
    masks = [mask(folder, path) for path in paths]
    known = [(each, found) for each, found in zip(masks, maps, strict=True) if each is not None]
    masks_BHW, maps_BHW = np.stack([each for each, _ in known]), np.stack([found for _, found in known])
    found = (image_auroc(bad_B, np.array(peaks)), pixel_auroc(masks_BHW, maps_BHW), aupro(masks_BHW, maps_BHW))
    return found[0] or 0.0, found[1] or 0.0, found[2] or 0.0


def ours(model: Model, folder: Path) -> tuple[float, float, float]:
    """Figures of a model of ours."""
    scores = [model.score([decode(path.read_bytes())])[0] for path in tested(folder)]
    maps = [np.asarray(Picture.fromarray(each.map_HW).resize(SIDE, Picture.Resampling.BILINEAR)) for each in scores]
    return figures(folder, [each.peak for each in scores], maps)


def theirs(rival: Rival, folder: Path, weights: Path) -> tuple[float, float, float]:
    """Figures of anomalib's PatchCore."""
    train = sorted((folder / "train" / "good").iterdir())
    rival.ask("fit", kind="patchcore", paths=[str(path) for path in train], weights=str(weights))
    give_bank(rival)
    with tempfile.TemporaryDirectory() as kept:
        file = f"{kept}/map.npy"
        peaks, maps = [], []
        for path in tested(folder):
            peaks.append(float(rival.ask("score", path=str(path), file=file)["score"]))
            maps.append(np.load(file))
    return figures(folder, peaks, maps)


def said(name: str, folder: Path, found: tuple[float, float, float], fit_s: float) -> None:
    """One line."""
    print(
        f"{folder.name}: {name}: image AUROC {found[0]:.3f}, pixel AUROC {found[1]:.3f}, AUPRO {found[2]:.3f}, fit {fit_s:.0f} s",
        flush=True,
    )


def main() -> None:
    """Every detector on every set."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--detectors", default=",".join(DETECTORS))
    options.add_argument("--backbones", default="resnet18,efficientnet_lite0")
    options.add_argument("--without-anomalib", action="store_true")
    asked = options.parse_args()
    data, weights = os.environ.get("DRIFTLINE_TEST_DATA"), os.environ.get("DRIFTLINE_TEST_WEIGHTS")
    if not data or not weights:
        print("left out: set DRIFTLINE_TEST_DATA and DRIFTLINE_TEST_WEIGHTS to the folders of real images and weights")
        return
    errors: dict[str, list[float]] = {}
    for folder in (Path(data) / name for name in SETS):
        paths = sorted((folder / "train" / "good").iterdir())
        train = [decode(path.read_bytes()) for path in paths]
        for backbone in asked.backbones.split(","):
            file = Path(weights) / WEIGHTS if backbone == "resnet18" else None
            extractor = load_extractor(backbone, weights=file, runtime="openvino")
            for kind in asked.detectors.split(","):
                start = time.perf_counter()
                model = fit_model(
                    train,
                    [str(path) for path in paths],
                    extractor=extractor,
                    detector=detector_from(kind, bank=BANK, seed=0),
                    false_alarm_rate=0.01,
                )
                fit_s = time.perf_counter() - start
                found = ours(model, folder)
                errors.setdefault(f"{kind} on {backbone}", []).append(1 - found[0])
                said(f"{kind} on {backbone}", folder, found, fit_s)
        if not asked.without_anomalib:
            with anomalib() as rival:
                found = theirs(rival, folder, Path(weights) / WEIGHTS)
            errors.setdefault("anomalib", []).append(1 - found[0])
            said("anomalib PatchCore on resnet18", folder, found, 0)
    for name, each in errors.items():
        beside = f", {np.mean(each) / np.mean(errors['anomalib']):.2f} of anomalib's" if "anomalib" in errors else ""
        print(f"{name}: mean error {np.mean(each):.4f}{beside}")


if __name__ == "__main__":
    main()
