"""The main job on real images: a real change of light, noticed, retrained blind, proved, swapped in. Everything as processes.

Replays of `tests/scenarios/magnetic_tile_step.toml`, then each promise on their reports: on the embedded default at the line's real speed
(eight minutes or so); on Kafka, an S3 server and PostgreSQL, Dagster's runs there too, at four times that (some three minutes).
"""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dagster as dg
import numpy as np
import pytest

from detectors.registry import Registry
from detectors.store import open_store
from streams.ledger import Ledger
from streams.settings import Settings
from tests.scenarios.table import defects_of, flagged, good_even_of
from tests.servers import kafka_bus, postgresql_database, s3_bucket, tables_of

SCENARIOS = Path(__file__).parents[1] / "scenarios"
SCENARIO = SCENARIOS / "magnetic_tile_step.toml"
RATE, FASTER = "rate = 2", "rate = 8"
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
    on_servers: bool

    def phase(self, name: str) -> dict[str, Any]:
        return next(each for each in self.report["phases"] if each["name"] == name)


@pytest.fixture(scope="module", params=[False, True], ids=["embedded", "kafka-s3-postgresql"])
def replayed(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Replayed]:
    folder = tmp_path_factory.mktemp("main-job")
    with ExitStack() as servers:
        places = places_on(servers) if request.param else {}
        scenario = faster(folder) if request.param else SCENARIO
        report = replay(scenario, folder, places)
        settings = Settings.from_environ({**places, "DRIFTLINE_HOME": str(folder / "home")})
        yield Replayed(report, settings, on_servers=request.param)


def places_on(servers: ExitStack) -> dict[str, str]:
    """A fresh bus, bucket and database on real servers; skips where one is not started."""
    return {
        "DRIFTLINE_BUS": servers.enter_context(kafka_bus()),
        "DRIFTLINE_STORE": s3_bucket("minio"),
        "DRIFTLINE_LEDGER": servers.enter_context(postgresql_database()),
    }


def faster(folder: Path) -> Path:
    """The scenario at a higher rate, all else as it is."""
    shutil.copytree(SCENARIOS / "lists", folder / "lists")
    text = SCENARIO.read_text()
    assert RATE in text
    path = folder / SCENARIO.name
    path.write_text(text.replace(RATE, FASTER))
    return path


def replay(scenario: Path, folder: Path, places: Mapping[str, str]) -> dict[str, Any]:
    """The report of a replay whose home is under `folder`."""
    report = folder / "r.json"
    command = [sys.executable, "-m", "orchestration", "replay", str(scenario), "--report", str(report)]
    options = ["--home", str(folder / "home"), *(["--servers"] if places else [])]
    environ = {**os.environ, **places}
    done = subprocess.run(
        [*command, *options], env=environ, capture_output=True, text=True, timeout=LIMIT_S, check=False
    )
    print(done.stdout[-6000:], done.stderr[-2000:])  # noqa: T201  shown where a promise is not kept
    assert done.returncode == 0
    read: dict[str, Any] = json.loads(report.read_text())
    return read


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
    registry = Registry(open_store(replayed.settings.store))
    made_at = {version: registry.manifest("tiles", version).created_at for version in registry.versions("tiles")}
    for verdict in ledger.verdicts("tiles", limit=10**6):
        assert verdict.version in promoted_at
        assert verdict.judged_at >= made_at[verdict.version] - 30


def test_images_kept_being_judged(replayed: Replayed) -> None:
    assert replayed.report["longest_gap_s"] <= 2.0


def test_the_new_version_flags_few_good_tiles_and_far_fewer_than_the_old_one(replayed: Replayed) -> None:
    after = replayed.phase("after")["by_model"]["2"]
    share = after["flagged_good"] / after["good"]
    assert share <= 0.05
    old = flagged("tiles@1", replayed.settings, good_even_of("56"))
    new = flagged("tiles@2", replayed.settings, good_even_of("56"))
    assert share < old.mean() / 3
    assert new.mean() < old.mean() / 3


def test_recall_does_not_fall_beyond_chance(replayed: Replayed) -> None:
    before = flagged("tiles@1", replayed.settings, defects_of("12"))
    after = flagged("tiles@2", replayed.settings, defects_of("56"))
    rng = np.random.default_rng(0)
    differences = [rng.choice(after, len(after)).mean() - rng.choice(before, len(before)).mean() for _ in range(2000)]
    assert np.quantile(differences, 0.975) >= 0, (before.mean(), after.mean())


def test_dagster_kept_its_two_runs_where_the_ledger_is(replayed: Replayed, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DRIFTLINE_LEDGER", replayed.settings.ledger)
    folder = replayed.settings.home / "dagster"
    with dg.DagsterInstance.from_config(str(folder)) as instance:
        assert [run.status for run in instance.get_runs()] == [dg.DagsterRunStatus.SUCCESS] * 2
    assert (folder / "history").exists() != replayed.on_servers
    if replayed.on_servers:
        assert {"runs", "event_logs", "job_ticks", "alembic_version", "verdicts"} <= tables_of(replayed.settings.ledger)
