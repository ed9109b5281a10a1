"""Writes `lists/*.txt`, the pools of the magnetic tile scenarios, from `index.csv` of the test data.

    DRIFTLINE_TEST_DATA=../shared/data python tests/scenarios/make_lists.py

One path a line, relative to DRIFTLINE_TEST_DATA, ordered by capture. Tiles are halved by the parity of `tile_id`, so
that no tile is trained on and judged by; the weak type `uneven` is left out.
"""

import csv
import os
from collections.abc import Mapping
from pathlib import Path

SET = "magnetic_tile"
EXPOSURES = {"1": "exp12", "2": "exp12", "5": "exp56", "6": "exp56"}
WEAK = "uneven"


def lists(data: Path) -> Mapping[str, list[str]]:
    """Contents of each list by its file name, from the index under `data`."""
    with (data / SET / "index.csv").open(newline="", encoding="utf-8") as file:
        rows = sorted(csv.DictReader(file), key=lambda row: (int(row["num"]), row["path"]))
    made: dict[str, list[str]] = {}
    for row in rows:
        exposures = EXPOSURES.get(row["exposure"])
        if exposures is None or row["type"] == WEAK:
            continue
        half = "odd" if int(row["tile_id"]) % 2 else "even"
        kind = "good" if row["label"] == "good" else "bad"
        made.setdefault(f"{half}_{exposures}_{kind}.txt", []).append(f"{SET}/{row['path']}")
    return made


def main() -> None:
    """Write every list beside this file."""
    folder = Path(__file__).parent / "lists"
    folder.mkdir(exist_ok=True)
    for name, paths in lists(Path(os.environ["DRIFTLINE_TEST_DATA"])).items():
        (folder / name).write_text("\n".join(paths) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
