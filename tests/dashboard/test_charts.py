"""The charts say what the tables say: every mark a rule, every image a point, both charts on one time axis."""

from datetime import UTC, datetime, timedelta
from typing import Any

import altair as alt
import pandas as pd
import pytest

from dashboard.charts import LANES, MARK_COLOURS, VERSION_COLOURS, bulk_chart, score_chart, signal_chart

START = datetime(2026, 11, 23, tzinfo=UTC)
SPAN = (START, START + timedelta(seconds=100))


@pytest.fixture
def points() -> pd.DataFrame:
    return pd.DataFrame(
        {
            "at": [START + timedelta(seconds=10 * i) for i in range(4)],
            "image_id": ["a", "b", "c", "d"],
            "version": [1, 1, 3, 3],
            "flagged": [False, True, False, True],
            "score": [1.0, 3.0, 1.0, 4.0],
            "threshold": [2.0] * 4,
            "relative": [0.5, 1.5, 0.5, 2.0],
            "bulk": [1.0, 1.1, 1.2, 1.3],
            "bulk_z": [0.0, 1.0, None, 3.0],
            "bulk_running": [0.0, 0.5, None, 3.0],
        }
    )


@pytest.fixture
def marks() -> pd.DataFrame:
    return pd.DataFrame(
        {
            "at": [START + timedelta(seconds=20), START + timedelta(seconds=30)],
            "kind": ["drift", "swap"],
            "words": ["alarm: the line has changed", "version 3 in service"],
            "lane": [0, 1],
        }
    )


def test_a_mark_is_a_dashed_rule_in_its_colour_with_its_words(points: pd.DataFrame, marks: pd.DataFrame) -> None:
    spec = score_chart(points, marks, span=SPAN).to_dict()
    (rules,) = [layer for layer in _leaves(spec) if _mark(layer) == "rule" and "x" in layer["encoding"]]
    drawn = _rows(spec, rules)
    assert [(row["words"], row["colour"]) for row in drawn] == [
        ("alarm: the line has changed", MARK_COLOURS["drift"]),
        ("version 3 in service", MARK_COLOURS["swap"]),
    ]
    assert rules["encoding"]["color"]["scale"] is None
    labels = [
        layer for layer in _leaves(spec) if _mark(layer) == "text" and layer["encoding"]["text"].get("field") == "words"
    ]
    assert {transform["filter"] for layer in labels for transform in layer.get("transform", [])} == {
        f"datum.lane == {lane}" for lane in range(LANES)
    }


def test_the_threshold_is_drawn_at_one_and_flagged_images_apart(points: pd.DataFrame, marks: pd.DataFrame) -> None:
    spec = score_chart(points, marks, span=SPAN).to_dict()
    levels = [_rows(spec, layer) for layer in _leaves(spec) if layer["encoding"].get("y", {}).get("field") == "level"]
    assert {row["level"] for rows in levels for row in rows} == {1.0}
    by_filter = {
        layer["transform"][0]["filter"]: layer
        for layer in _leaves(spec)
        if "y" in layer["encoding"] and layer.get("transform")
    }
    assert _mark(by_filter["!datum.flagged"]) == "circle"
    assert _mark(by_filter["datum.flagged"]) == "point"
    assert by_filter["datum.flagged"]["mark"]["shape"] == "diamond"


def test_both_charts_share_axis_and_version_colours(points: pd.DataFrame, marks: pd.DataFrame) -> None:
    specs = [score_chart(points, marks, span=SPAN).to_dict(), bulk_chart(points, marks, span=SPAN).to_dict()]
    for spec in specs:
        time_axes = [
            layer["encoding"]["x"] for layer in _leaves(spec) if layer["encoding"].get("x", {}).get("field") == "at"
        ]
        assert time_axes
        assert all(axis["scale"]["domain"] == [moment.isoformat() for moment in SPAN] for axis in time_axes)
    scales = [
        layer["encoding"]["color"]["scale"]
        for spec in specs
        for layer in _leaves(spec)
        if layer["encoding"].get("color", {}).get("field") == "version"
    ]
    assert scales
    assert all(scale == {"domain": [1, 3], "range": [VERSION_COLOURS[0], VERSION_COLOURS[2]]} for scale in scales)


def test_images_without_a_reference_are_not_drawn_as_if_they_were_zero(
    points: pd.DataFrame, marks: pd.DataFrame
) -> None:
    spec = bulk_chart(points, marks, span=SPAN).to_dict()
    dots = [layer for layer in _leaves(spec) if layer["encoding"].get("y", {}).get("field") == "bulk_z"]
    assert [[row["bulk_z"] for row in _rows(spec, layer)] for layer in dots] == [[0.0, 1.0, 3.0]]


def test_no_marks_draw_no_rules_and_the_tables_are_left_alone(points: pd.DataFrame, marks: pd.DataFrame) -> None:
    before = points.copy()
    spec = score_chart(points, marks.iloc[:0], span=SPAN).to_dict()
    (rules,) = [layer for layer in _leaves(spec) if _mark(layer) == "rule" and "x" in layer["encoding"]]
    assert _rows(spec, rules) == []
    pd.testing.assert_frame_equal(points, before)
    assert isinstance(score_chart(points, marks, span=SPAN), alt.LayerChart)


def test_a_signal_around_its_change_has_a_rule_and_a_word_for_change_and_alarm(points: pd.DataFrame) -> None:
    around = points.assign(image=[-2, -1, 0, 1], value=1.0, z=points["bulk_z"], shown=[0.0, 1.0, 2.0, 3.0], running=1.0)
    marks = pd.DataFrame({"image": [0.0, -1.5], "kind": ["drift", "change"], "words": ["alarm", "change"]})
    spec = signal_chart(around, marks, unit="robust sd", level=0.5).to_dict()
    (rules,) = [layer for layer in _leaves(spec) if _mark(layer) == "rule" and "x" in layer["encoding"]]
    assert [(row["image"], row["words"], row["colour"]) for row in _rows(spec, rules)] == [
        (0.0, "alarm", MARK_COLOURS["drift"]),
        (-1.5, "change", MARK_COLOURS["change"]),
    ]
    (dots,) = [layer for layer in _leaves(spec) if layer["encoding"].get("y", {}).get("field") == "shown"]
    assert [(row["image"], row["shown"]) for row in _rows(spec, dots)] == [(-2, 0.0), (-1, 1.0), (0, 2.0), (1, 3.0)]
    assert dots["encoding"]["y"]["title"] == "robust sd"
    levels = [_rows(spec, layer) for layer in _leaves(spec) if layer["encoding"].get("y", {}).get("field") == "level"]
    assert {(row["level"], row["words"]) for rows in levels for row in rows} == {(0.5, "normal")}


def test_the_versions_are_named_only_where_there_are_several(points: pd.DataFrame) -> None:
    around = points.assign(image=[-2, -1, 0, 1], value=1.0, z=1.0, shown=1.0, running=1.0)
    marks = pd.DataFrame({"image": [0.0], "kind": ["drift"], "words": ["alarm"]})

    def legends(table: pd.DataFrame) -> list[bool]:
        spec = signal_chart(table, marks, unit="share", level=0.0).to_dict()
        return [layer["encoding"]["color"]["legend"] is not None for layer in _leaves(spec) if _versions(layer)]

    assert all(legends(around))
    assert not any(legends(around[around["version"] == 1]))


def _versions(layer: dict[str, Any]) -> bool:
    return bool(layer["encoding"].get("color", {}).get("field") == "version")


def _leaves(spec: dict[str, Any], data: dict[str, Any] | None = None) -> list[dict[str, Any]]:
    """The single marks of a layered chart, each with the data it inherits."""
    inherited = spec.get("data", data)
    if "layer" not in spec:
        return [{**spec, "data": inherited}]
    return [leaf for layer in spec["layer"] for leaf in _leaves(layer, inherited)]


def _rows(spec: dict[str, Any], leaf: dict[str, Any]) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = spec["datasets"][leaf["data"]["name"]]
    return rows


def _mark(layer: dict[str, Any]) -> str:
    return str(layer["mark"]["type"])
