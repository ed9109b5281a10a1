"""Prometheus's configuration, alerts and Grafana's panels: checked by promtool, and each query against a real worker's figures."""

import json
import math
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client import generate_latest

from orchestration.worker_metrics import WorkerMetrics
from streams.health import Vitals
from streams.messages import Message
from streams.worker import Committed, Effects
from tests.compose.tools import COMPOSE, ROOT, program
from tests.compose.watched import Prometheus, answers, watched
from tests.streams.bus_contract import until

DASHBOARD = json.loads((COMPOSE / "grafana" / "dashboards" / "driftline.json").read_text())
PANELS: list[dict[str, Any]] = DASHBOARD["panels"]
QUERIES = [
    pytest.param(target["expr"], id=f"{panel['title']} {target['refId']}")
    for panel in PANELS
    for target in panel["targets"]
]
RULES = [rule for group in yaml.safe_load((COMPOSE / "alerts.yml").read_text())["groups"] for rule in group["rules"]]
PARTS_OF_SERIES = "_bucket|_sum|_count"


@pytest.fixture(scope="module")
def prometheus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    with watched(tmp_path_factory.mktemp("prometheus")) as running:
        yield running


def promtool(*arguments: str | Path) -> None:
    """Runs promtool; fails with its words."""
    found = subprocess.run((program("promtool", "prometheus"), *arguments), capture_output=True, text=True)
    assert found.returncode == 0, found.stdout + found.stderr


def test_configuration_and_rules_are_valid() -> None:
    promtool("check", "config", COMPOSE / "prometheus.yml")
    promtool("check", "rules", COMPOSE / "alerts.yml")


def test_each_alert_fires_on_its_fault_and_on_nothing_else(tmp_path: Path) -> None:
    tests = (ROOT / "tests" / "compose" / "alerts_test.yml").read_text()
    assert {rule["alert"] for rule in RULES} == set(re.findall(r"alertname: (\w+)", tests))
    (tmp_path / "tests.yml").write_text(tests.replace("ALERTS", str(COMPOSE / "alerts.yml")))
    promtool("test", "rules", tmp_path / "tests.yml")


@pytest.mark.parametrize("expression", QUERIES)
def test_each_query_of_a_panel_shows_something(prometheus: Prometheus, expression: str) -> None:
    asked = expression.replace("$__rate_interval", "1m").replace("$line", ".*")
    assert "$" not in asked
    until(lambda: any(map(math.isfinite, prometheus.query(asked))))


def test_the_choice_of_lines_is_offered(prometheus: Prometheus) -> None:
    (variable,) = DASHBOARD["templating"]["list"]
    assert variable["query"]["query"] == "label_values(driftline_messages_total, line)"
    found = prometheus.ask("label/line/values", **{"match[]": "driftline_messages_total"})
    assert found == ["glass", "tiles"]


def test_rules_are_evaluated_without_an_error(prometheus: Prometheus) -> None:
    def evaluated() -> bool:
        (group,) = prometheus.ask("rules")["groups"]
        return all(rule["health"] == "ok" for rule in group["rules"])

    until(evaluated)


def test_a_dead_letter_and_a_refused_model_are_heard_of(prometheus: Prometheus) -> None:
    def firing() -> set[str]:
        return {
            alert["labels"]["alertname"] for alert in prometheus.ask("alerts")["alerts"] if alert["state"] == "firing"
        }

    until(lambda: {"DeadLetters", "ModelRefused"} <= firing())
    assert firing() - {"WorkerAway"} == {"DeadLetters", "ModelRefused"}  # there are no watcher and no recorder here


def test_panels_have_a_place_and_a_source_each() -> None:
    source = yaml.safe_load((COMPOSE / "grafana/provisioning/datasources/prometheus.yaml").read_text())["datasources"][
        0
    ]
    assert len({panel["id"] for panel in PANELS}) == len(PANELS)
    taken: set[tuple[int, int]] = set()
    for panel in PANELS:
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken, panel["title"]
        assert max(x for x, _ in cells) < 24
        taken |= cells
        assert panel["datasource"] == {"type": source["type"], "uid": source["uid"]}


def exported() -> set[str]:
    """The names of all figures of a worker that has seen everything."""
    vitals = Vitals(lambda: 1)
    metrics = WorkerMetrics("scorer", vitals.health)
    turn = Committed(3, Effects(messages=tuple[Message, ...](answers().values())))
    vitals.hear(turn)
    metrics.hear(turn)
    text = generate_latest(metrics.registry).decode()
    types = re.findall(r"# TYPE (driftline_\w+) (\w+)", text)
    return {name for name, _ in types if not name.endswith("_created")}


def named(text: str) -> set[str]:
    """The names of figures in a text, a histogram's by its own."""
    return {re.sub(f"({PARTS_OF_SERIES})$", "", name) for name in re.findall(r"\bdriftline_\w+", text)}


@pytest.mark.parametrize("path", [COMPOSE / "alerts.yml", COMPOSE / "grafana" / "dashboards" / "driftline.json"])
def test_only_figures_that_there_are_are_asked_for(path: Path) -> None:
    assert named(path.read_text()) <= exported()


def test_the_documentation_names_every_figure_and_every_alert() -> None:
    text = (ROOT / "docs" / "deployment.md").read_text()
    assert exported() == named(text)
    assert [rule["alert"] for rule in RULES] == re.findall(r"(?m)^\| `([A-Z]\w+)` \|", text)
