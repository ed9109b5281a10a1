"""The compose file: valid, nothing open to the network, nothing without a password, nothing that is lost or stays down."""

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from detectors.store import open_store
from orchestration.dagster_instance import ON_POSTGRESQL
from orchestration.supervise import dashboard_part
from streams.ledger import Ledger
from tests.compose.test_environment import example
from tests.compose.tools import COMPOSE, ROOT, composed
from tests.servers import S3, postgresql_database, s3_bucket, tables_of

SECRETS = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "POSTGRES_PASSWORD", "GRAFANA_PASSWORD")
WORKERS = ("score", "watch", "record")
OURS = (*WORKERS, "dagster-code", "dagster-daemon", "dagster-page", "dashboard", "prepare")
ONCE = ("prepare",)


def filled(folder: Path, **changes: str) -> Path:
    """The example with its secrets filled in, as a file."""
    values = {**example(), **{name: f"secret-{index}" for index, name in enumerate(SECRETS)}, **changes}
    path = folder / "env"
    path.write_text("".join(f"{name}={value}\n" for name, value in values.items()))
    return path


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What compose makes of the file."""
    found = composed(filled(tmp_path_factory.mktemp("compose")))
    assert found.returncode == 0, found.stderr
    assert "WARN" not in found.stderr
    read: dict[str, Any] = yaml.safe_load(found.stdout)
    return read


@pytest.fixture(scope="module")
def services(file: Mapping[str, Any]) -> dict[str, Any]:
    """Its services."""
    return dict(file["services"])


@pytest.mark.parametrize("secret", SECRETS)
def test_without_a_secret_nothing_starts(tmp_path: Path, secret: str) -> None:
    found = composed(filled(tmp_path, **{secret: ""}))
    assert found.returncode != 0
    assert "draw one with openssl" in found.stdout + found.stderr


def test_the_stack_is_all_there(services: Mapping[str, Any]) -> None:
    servers = {"broker-1", "broker-2", "broker-3", "s3", "postgres", "prometheus", "grafana"}
    assert set(services) == servers | set(OURS)


def test_every_port_is_published_on_this_machine_alone(services: Mapping[str, Any]) -> None:
    published = [port for service in services.values() for port in service.get("ports", [])]
    assert len(published) == 8
    for port in published:
        host = port["host_ip"] if isinstance(port, dict) else port.split(":")[0]
        assert host == "127.0.0.1"


def test_every_image_is_pinned(services: Mapping[str, Any]) -> None:
    for name, service in services.items():
        _, _, tag = service["image"].partition(":")
        assert tag[:1].isdigit() or tag[:2] in {"v1", "v3"}, (name, service["image"])


def test_what_lasts_comes_back_and_says_whether_it_is_well(services: Mapping[str, Any]) -> None:
    for name, service in services.items():
        if name in ONCE:
            assert service["restart"] == "on-failure"
            continue
        assert service["restart"] == "unless-stopped", name
        assert service["healthcheck"]["test"], name


def test_data_lies_in_named_volumes(file: Mapping[str, Any]) -> None:
    kept = {"broker-1", "broker-2", "broker-3", "s3", "postgres", "prometheus", "grafana", "home"}
    assert set(file["volumes"]) == kept


def test_no_service_knows_a_secret_that_is_not_its_own(services: Mapping[str, Any]) -> None:
    grafana, postgres = "secret-3", "secret-2"
    knowing = {
        secret: {name for name, each in services.items() if secret in map(str, each.get("environment", {}).values())}
        for secret in (grafana, postgres)
    }
    assert knowing[grafana] == {"grafana"}
    assert knowing[postgres] == {"postgres", *OURS}


def test_our_services_have_one_environment(services: Mapping[str, Any]) -> None:
    environments = [dict(services[name]["environment"]) for name in OURS]
    health = [each.pop("DRIFTLINE_HEALTH", None) for each in environments]
    assert all(each == environments[0] for each in environments)
    assert [name for name, each in zip(OURS, health, strict=True) if each] == list(WORKERS)


def test_the_dashboard_runs_as_it_does_without_containers(services: Mapping[str, Any]) -> None:
    ours = dashboard_part().command
    flags = {name.removeprefix("--"): value for name, value in zip(ours[5::2], ours[6::2], strict=True)}
    given = dict(each.removeprefix("--").split("=") for each in services["dashboard"]["command"])
    assert {**flags, "server.address": "0.0.0.0", "server.port": "8501"} == given


def test_dagster_is_configured_as_it_is_without_containers() -> None:
    assert (COMPOSE / "dagster" / "dagster.yaml").read_text() == ON_POSTGRESQL


def test_every_file_that_is_mounted_or_copied_is_there(services: Mapping[str, Any]) -> None:
    mounted = [volume for each in services.values() for volume in each.get("volumes", [])]
    sources = {volume["source"] if isinstance(volume, dict) else volume.split(":")[0] for volume in mounted}
    files = [Path(source) for source in sources if source.startswith("/")]
    assert len(files) >= 6
    assert [path for path in files if not path.exists()] == []
    copied = [row.split()[1:-1] for row in (COMPOSE / "Dockerfile").read_text().splitlines() if row.startswith("COPY ")]
    names = [name for each in copied for name in each if not name.startswith("--") and name != "/opt"]
    assert [name for name in names if not (ROOT / name).exists()] == []
    sent = {row[1:] for row in (ROOT / ".dockerignore").read_text().splitlines() if row.startswith("!")}
    assert sent == set(names)


def prepare(**environ: str) -> str:
    """What compose/prepare.py says."""
    command = (sys.executable, COMPOSE / "prepare.py")
    known = {**os.environ, "PYTHONPATH": str(ROOT), **environ}
    return subprocess.run(command, env=known, cwd=ROOT, capture_output=True, text=True, check=True).stdout


def test_preparing_makes_bucket_and_tables_once(tmp_path: Path) -> None:
    s3_bucket("versitygw")  # skips where there is no server
    known = dict(pair.split("=", 1) for pair in os.environ[S3].split())
    store = f"s3://prepared-{os.getpid()}?endpoint={known['versitygw']}"
    (tmp_path / "dagster.yaml").write_text(ON_POSTGRESQL)
    with postgresql_database() as ledger:
        environ = {"DRIFTLINE_STORE": store, "DRIFTLINE_LEDGER": ledger, "DAGSTER_HOME": str(tmp_path)}
        assert prepare(**environ) == "bucket made\nDagster's tables are there\n"
        assert "runs" in tables_of(ledger)
        assert prepare(**environ) == "bucket is there\nDagster's tables are there\n"
    open_store(store).put("a", b"b")


def test_the_password_of_the_ledger_may_come_beside_its_url(monkeypatch: pytest.MonkeyPatch) -> None:
    with postgresql_database() as url:
        account, at, place = url.partition("@")
        scheme, _, password = account.rpartition(":")
        monkeypatch.setenv("PGPASSWORD", password)
        assert Ledger.open(f"{scheme}{at}{place}").lines() == []
