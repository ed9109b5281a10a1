"""The main job on real images: a real change of light, noticed, retrained blind, proved, swapped in. Everything as processes.

One replay of `tests/scenarios/magnetic_tile_step.toml` at its real speed (eight minutes or so), then each promise on its report.
"""

import csv
import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from detectors.encoding import encode_name
from detectors.registry import Registry
from detectors.store import open_store
from streams.ledger import Ledger
from streams.settings import Settings

SCENARIO = Path(__file__).parents[1] / "scenarios" / "magnetic_tile_step.toml"
LIMIT_S = 1500

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(LIMIT_S + 60),
    pytest.mark.skipif(
        "DRIFTLINE_TEST_DATA" not in os.environ,
        reason="set DRIFTLINE_TEST_DATA to the folder of real images to turn this on",
    ),
]


@dataclass(frozen=True)
class Replayed:
    """A finished replay: its report and its installation."""

    report: dict[str, Any]
    settings: Settings

    def phase(self, name: str) -> dict[str, Any]:
        return next(each for each in self.report["phases"] if each["name"] == name)


@pytest.fixture(scope="module")
def replayed(tmp_path_factory: pytest.TempPathFactory) -> Replayed:
    folder = tmp_path_factory.mktemp("main-job")
    report, home = folder / "r.json", folder / "home"
    command = [
        sys.executable,
        "-m",
        "orchestration",
        "replay",
        str(SCENARIO),
        "--report",
        str(report),
        "--home",
        str(home),
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT_S, check=False)
    print(done.stdout[-6000:], done.stderr[-2000:])  # noqa: T201  shown where a promise is not kept
    assert done.returncode == 0
    return Replayed(json.loads(report.read_text()), Settings.from_environ({"DRIFTLINE_HOME": str(home)}))


def test_nothing_is_lost_and_nothing_doubled(replayed: Replayed) -> None:
    report = replayed.report
    assert report["sent"] == 150 + 280 + 150 + 160
    assert report["lost"] == 0
    assert report["doubled"] == 0
    assert report["sent"] == report["verdicts"] + report["collected"] + report["dead_letters"]


def test_the_steady_line_raises_no_alarm_and_the_step_does_within_40_images(replayed: Replayed) -> None:
    assert replayed.phase("steady")["incidents"] == []
    drift = [each for each in replayed.phase("step")["incidents"] if each["kind"] == "covariate_drift"]
    assert drift
    assert drift[0]["after_images"] <= 40


def test_one_run_makes_version_two_within_120_s_from_images_after_the_change(replayed: Replayed) -> None:
    first, second = replayed.report["versions"]
    assert (first["cause"], second["cause"]) == ("cold_start", "covariate_drift")
    assert second["mode"] == "blind"
    assert second["gates"] == "passed"
    assert second["request_to_serving_s"] <= 120
    assert [each["outcome"] for each in replayed.report["requests"]] == ["promoted", "promoted"]
    ledger = Ledger.open(replayed.settings.ledger)
    request = ledger.requests("tiles")[-1].request
    phase_of = {
        verdict.image_key: verdict.image_id.rpartition("-")[0] for verdict in ledger.verdicts("tiles", limit=10**6)
    }
    assert {phase_of[key] for key in request.image_keys} == {"step"}
    manifest = Registry(open_store(replayed.settings.store)).manifest("tiles", 2)
    assert set(manifest.training_keys) <= set(request.image_keys)


def test_every_verdict_names_a_version_that_was_published(replayed: Replayed) -> None:
    ledger = Ledger.open(replayed.settings.ledger)
    promoted_at = {promotion.version: promotion.at for promotion in ledger.promotions("tiles")}
    for verdict in ledger.verdicts("tiles", limit=10**6):
        published = (
            replayed.settings.home / "objects" / "models" / encode_name("tiles") / "versions" / str(verdict.version)
        ).stat()
        assert verdict.version in promoted_at
        assert verdict.judged_at >= published.st_ctime - 30


def test_images_kept_being_judged(replayed: Replayed) -> None:
    assert replayed.report["longest_gap_s"] <= 2.0


def test_the_new_version_flags_few_good_tiles_and_far_fewer_than_the_old_one(replayed: Replayed) -> None:
    after = replayed.phase("after")["by_model"]["2"]
    flagged = after["flagged_good"] / after["good"]
    assert flagged <= 0.05
    old = predicted(replayed, "tiles@1", good=True, exposures="56")
    new = predicted(replayed, "tiles@2", good=True, exposures="56")
    assert flagged < np.mean(old) / 3
    assert np.mean(new) < np.mean(old) / 3


def test_recall_does_not_fall_beyond_chance(replayed: Replayed) -> None:
    before = predicted(replayed, "tiles@1", good=False, exposures="12")
    after = predicted(replayed, "tiles@2", good=False, exposures="56")
    rng = np.random.default_rng(0)
    differences = [rng.choice(after, len(after)).mean() - rng.choice(before, len(before)).mean() for _ in range(2000)]
    assert np.quantile(differences, 0.975) >= 0, (np.mean(before), np.mean(after))


def predicted(replayed: Replayed, model: str, *, good: bool, exposures: str) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Which of the tiles not fitted on by `model` it flags, with `driftline predict`: even ones of `after` for good, all for defects."""
    root = Path(os.environ["DRIFTLINE_TEST_DATA"]) / "magnetic_tile"
    with (root / "index.csv").open() as table:
        rows = [row for row in csv.DictReader(table) if row["type"] != "uneven" and row["exposure"] in exposures]
    wanted = [row for row in rows if (row["label"] == "good") == good and (not good or int(row["tile_id"]) % 2 == 0)]
    command = [
        sys.executable,
        "-m",
        "orchestration",
        "predict",
        model,
        *(str(root / row["path"]) for row in wanted),
        "--json",
    ]
    environ = {**os.environ, **replayed.settings.environ()}
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=True, env=environ)
    return np.array([each["flagged"] for each in json.loads(done.stdout)["images"]], dtype=float)
