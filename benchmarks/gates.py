"""What the gates say of sound and of poisoned candidates on the real tile step, paired over seeds: the figures of docs/retraining-gates.md.

    python benchmarks/gates.py --seeds 4

Needs DRIFTLINE_TEST_DATA; about a minute a seed on one core.
"""

import argparse
import csv
import os
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from detectors.extractors import ExtractorCache
from detectors.fitting import fit_model
from detectors.images import Image, decode
from detectors.model import Model, detector_from
from orchestration.evidence import Evidence, Golden
from orchestration.gate_calibration import reference_holds, threshold_holds
from orchestration.gate_champion import agrees_where_nothing_changed
from orchestration.gate_defects import finds_drawn_defects, finds_known_defects
from orchestration.workbench import RememberingExtractor

WINDOW, HELD_OUT, BAD = 60, 9, 24
REVIEWED_DEFECTS, REVIEWED_NORMALS = 15, 12
BANK, IMAGE_SIZE = 1500, 256
ASKED = (threshold_holds, reference_holds, finds_known_defects, finds_drawn_defects, agrees_where_nothing_changed)


class Tiles:
    """The magnetic tiles, but for uneven ones."""

    def __init__(self, root: Path) -> None:
        self._root = root
        with (root / "index.csv").open() as table:
            self._rows = [row for row in csv.DictReader(table) if row["type"] != "uneven"]

    def drawn(self, label: str, exposures: str, rng: np.random.Generator) -> list[str]:
        """Paths of good or defect tiles under these exposures, in random order."""
        paths = [row["path"] for row in self._rows if row["label"] == label and row["exposure"] in exposures]
        return [str(path) for path in rng.permutation(paths)]

    def images(self, paths: Sequence[str]) -> dict[str, Image]:
        """The tiles by path."""
        return {path: decode((self._root / path).read_bytes()) for path in paths}


def fitted(tiles: Tiles, paths: Sequence[str], extractor: RememberingExtractor) -> Model:
    """A blind model of some tiles."""
    detector = detector_from("patchcluster", bank=BANK, seed=0)
    images = list(tiles.images(paths).values())
    return fit_model(images, paths, extractor=extractor, detector=detector, false_alarm_rate=0.01)


def evidence(tiles: Tiles, extractor: RememberingExtractor, seed: int) -> Mapping[str, Evidence]:
    """A sound and a poisoned candidate after the step, and a sound one where nothing changed, each with what the gates judge it by."""
    rng = np.random.default_rng(seed)
    new, old, bad = (tiles.drawn(*which, rng) for which in (("good", "56"), ("good", "12"), ("defect", "56")))
    before = fitted(tiles, old[:WINDOW], extractor)
    alike = fitted(tiles, new[2 * WINDOW : 3 * WINDOW], extractor)
    golden = Golden(
        number=1,
        defects=tiles.images(bad[:REVIEWED_DEFECTS]),
        normals=tiles.images(new[3 * WINDOW + 20 :][:REVIEWED_NORMALS]),
        words="golden set",
    )
    poisoned = [*new[: WINDOW - BAD], *bad[REVIEWED_DEFECTS + 5 :][:BAD]]
    asked = {
        "sound, after the step": (new[:WINDOW], before, "the step"),
        "poisoned, after the step": (poisoned, before, "the step"),
        "sound, nothing changed": (new[:WINDOW], alike, ""),
    }
    made = {}
    for name, (window, champion, change) in asked.items():
        shuffled = [str(path) for path in rng.permutation(window)]
        candidate = fitted(tiles, shuffled[HELD_OUT:], extractor)
        made[name] = Evidence(
            candidate, champion, tiles.images(shuffled[:HELD_OUT]), files={}, golden=golden, change=change
        )
    return made


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=4)
    seeds = parser.parse_args().seeds
    tiles = Tiles(Path(os.environ["DRIFTLINE_TEST_DATA"]) / "magnetic_tile")
    extractor = RememberingExtractor(ExtractorCache().load("efficientnet_lite0", image_size=IMAGE_SIZE))
    refused: dict[str, Counter[str]] = defaultdict(Counter)
    recalls: dict[str, list[float]] = defaultdict(list)
    for seed in range(seeds):
        for name, shown in evidence(tiles, extractor, seed).items():
            refused[name].update(gate.__name__ for gate in ASKED if not gate(shown).passed)
            estimate = finds_known_defects(replace(shown, golden=Golden()))
            refused[name].update(["the estimate"] if not estimate.passed else [])
            peaks = shown.by_candidate.peaks(shown.golden.defects)
            recalls[name].append(float((peaks > shown.candidate.threshold.value).mean()))
            print(f"{seed} {name}: {finds_known_defects(shown).words}\n  {estimate.words}", flush=True)
    for name, found in recalls.items():
        print(f"{name}: recall {np.mean(found):.2f}, refused {dict(refused[name])} of {seeds}")


if __name__ == "__main__":
    main()
