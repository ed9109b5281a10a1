"""One list of environment variables: what compose asks for, what the programs know, what the example names."""

import re

import pytest

from orchestration.health_server import parsed
from streams.settings import KNOWN_VARIABLES, Settings
from tests.compose.tools import COMPOSE

OF_THE_TESTS = "DRIFTLINE_TEST_"


def example() -> dict[str, str]:
    """The variables of compose/environment.example, in its order."""
    rows = (COMPOSE / "environment.example").read_text().splitlines()
    return dict(row.split("=", 1) for row in rows if row and not row.startswith("#"))


def text_of(name: str) -> str:
    """A file of compose/, without its comments."""
    return re.sub(r"(?m)(^|\s)#.*$", "", (COMPOSE / name).read_text())


def test_the_example_names_what_the_programs_know() -> None:
    ours = {name for name in example() if name.startswith("DRIFTLINE_")}
    assert ours == {name for name in KNOWN_VARIABLES if not name.startswith(OF_THE_TESTS)}


def test_the_example_names_what_compose_asks_for() -> None:
    assert set(example()) == set(re.findall(r"\$\{([A-Za-z_0-9]+)", text_of("compose.yaml")))


def test_servers_without_containers_use_the_same_names() -> None:
    named = set(re.findall(r'"((?:DRIFTLINE|AWS)_[A-Z0-9_]+)"', (COMPOSE / "services.py").read_text()))
    assert named
    assert {name for name in named if not name.startswith(OF_THE_TESTS)} <= set(example())
    assert {name for name in named if name.startswith(OF_THE_TESTS)} <= set(KNOWN_VARIABLES)


def test_secrets_have_no_default() -> None:
    secrets = {name for name in example() if re.search("PASSWORD|KEY", name)}
    assert {"POSTGRES_PASSWORD", "GRAFANA_PASSWORD", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"} <= secrets
    assert {example()[name] for name in secrets} == {""}
    assert not re.findall(r"\$\{\w*(?:PASSWORD|KEY)\w*:?-[^}]", text_of("compose.yaml"))


def test_the_programs_read_the_example() -> None:
    settings = Settings.from_environ(example())
    assert settings.bus.startswith("kafka://")
    assert settings.store.startswith("s3://")
    assert settings.ledger.startswith("postgresql+psycopg://")


@pytest.mark.parametrize("name", ["compose.yaml", "prometheus.yml"])
def test_health_is_asked_where_the_example_says(name: str) -> None:
    _, port = parsed(example()["DRIFTLINE_HEALTH"])
    assert len(re.findall(rf"(?<!\d){port}(?!\d)", text_of(name))) >= 1
