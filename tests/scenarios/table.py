"""The table of docs/main-job.md, from reports and homes of finished replays.

    python -m tests.scenarios.table r.json HOME [r-mirror.json HOME ...]

Needs DRIFTLINE_TEST_DATA. Recall and the old version's false alarms are scored offline with `driftline predict`.
"""

import csv
import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streams.settings import Settings

Row = Mapping[str, str]
Flags = NDArray[np.float64]

BEFORE_AFTER = {"magnetic_tile_step": ("12", "56"), "magnetic_tile_step_mirror": ("56", "12")}


def flagged(model: str, settings: Settings, wanted: Callable[[Row], bool]) -> Flags:
    """Which of the tiles that `wanted` chooses a version flags (1.0) and which not (0.0), with `driftline predict`."""
    root = Path(os.environ["DRIFTLINE_TEST_DATA"]) / "magnetic_tile"
    with (root / "index.csv").open() as table:
        rows = [row for row in csv.DictReader(table) if row["type"] != "uneven" and wanted(row)]
    command = [
        sys.executable,
        "-m",
        "orchestration",
        "predict",
        model,
        *(str(root / row["path"]) for row in rows),
        "--json",
    ]
    environ = {**os.environ, **settings.environ()}
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=True, env=environ)
    return np.array([each["flagged"] for each in json.loads(done.stdout)["images"]], dtype=float)


def defects_of(exposures: str) -> Callable[[Row], bool]:
    """Every tile with a defect under these exposures."""
    return lambda row: row["label"] == "defect" and row["exposure"] in exposures


def good_even_of(exposures: str) -> Callable[[Row], bool]:
    """Good even tiles under these exposures: the ones judged in the last phase, seen by no fit of version 2."""
    return lambda row: row["label"] == "good" and row["exposure"] in exposures and int(row["tile_id"]) % 2 == 0


def interval(flags: Flags) -> str:
    """A share and its 95 % bootstrap interval, in words."""
    rng = np.random.default_rng(0)
    means = [rng.choice(flags, len(flags)).mean() for _ in range(2000)]
    low, high = np.quantile(means, [0.025, 0.975])
    return f"{flags.mean():.1%} ({low:.1%} to {high:.1%}, n = {len(flags)})"


def lines_of(report: dict[str, Any], settings: Settings) -> dict[str, str]:
    """What the table says of one replay, by row."""
    before, after = BEFORE_AFTER[report["scenario"]]
    phases = {phase["name"]: phase for phase in report["phases"]}
    second = next((each for each in report["versions"] if each["version"] == 2), None)
    rows = {
        "sent / verdicts / collected / dead letters": " / ".join(
            str(report[name]) for name in ("sent", "verdicts", "collected", "dead_letters")
        ),
        "lost, doubled": f"{report['lost']}, {report['doubled']}",
        "incidents in the steady phase": str(len(phases["steady"]["incidents"])),
        "incidents in the step phase": "; ".join(
            f"{each['kind']} ({each['signal']}) after {each['after_images']} images"
            for each in phases["step"]["incidents"]
        )
        or "none",
        "requests": "; ".join(f"{each['cause']}: {each['outcome']}" for each in report["requests"]),
        "longest gap between two live verdicts": f"{report['longest_gap_s']:.1f} s",
        "camera to verdict, p50 / p99": f"{report['latency_ms']['p50']:.0f} / {report['latency_ms']['p99']:.0f} ms",
        "version 1, good even tiles after the change flagged": interval(
            flagged("tiles@1", settings, good_even_of(after))
        ),
        "version 1, recall on all defects before the change": interval(
            flagged("tiles@1", settings, defects_of(before))
        ),
        "version 1, recall on all defects after the change": interval(flagged("tiles@1", settings, defects_of(after))),
    }
    for name, phase in phases.items():
        for version, judged in phase["by_model"].items():
            rows[f"{name}: version {version} flagged good, bad"] = (
                f"{judged['flagged_good']} of {judged['good']}, {judged['flagged_bad']} of {judged['bad']}"
            )
    if second is not None:
        rows["version 2: alarm to request, request to serving"] = (
            f"{second['alarm_to_request_s']:.1f} s, {second['request_to_serving_s']:.1f} s"
        )
        rows["version 2: training images, gates"] = f"{second['training_images']}, {second['gates']}"
        rows["version 2, good even tiles after the change flagged"] = interval(
            flagged("tiles@2", settings, good_even_of(after))
        )
        rows["version 2, recall on all defects after the change"] = interval(
            flagged("tiles@2", settings, defects_of(after))
        )
    return rows


def main(arguments: list[str]) -> None:
    """Print the table (Markdown)."""
    replays = [
        lines_of(json.loads(Path(report).read_text()), Settings.from_environ({"DRIFTLINE_HOME": home}))
        for report, home in zip(arguments[::2], arguments[1::2], strict=True)
    ]
    names = [Path(report).stem for report in arguments[::2]]
    print("| |", " | ".join(names), "|")  # noqa: T201
    print("|---" * (len(names) + 1) + "|")  # noqa: T201
    for row in dict.fromkeys(name for each in replays for name in each):
        print(f"| {row} |", " | ".join(each.get(row, "-") for each in replays), "|")  # noqa: T201


if __name__ == "__main__":
    main(sys.argv[1:])
