"""One line over time, as Altair charts: pure functions, tables in, chart out.

Both charts share the time axis by taking the same `span`, so that the drift moment and the swap stand above each other.
"""

from datetime import datetime
from typing import Literal

import altair as alt
import pandas as pd

FLAGGED = "#ea580c"
THRESHOLD = "#dc2626"
NORMAL = "#9ca3af"
VERSION_COLOURS = ("#3b82f6", "#14b8a6", "#a855f7", "#d4a106", "#ec4899", "#84a016")
MARK_COLOURS = {"drift": "#ea580c", "swap": "#16a34a", "refused": "#dc2626", "change": "#6b7280"}
LANES = 3
_AXIS_PX = 46
_NAME_PX = 66
_DAY_S = 86_400
_LANE_PX = 15

Span = tuple[datetime, datetime]
Layer = alt.Chart | alt.LayerChart | alt.FacetChart


def score_chart(points: pd.DataFrame, marks: pd.DataFrame, *, span: Span) -> alt.LayerChart:
    """Image scores relative to their thresholds: flagged images as diamonds, the threshold at 1, `marks` as rules.

    `points` is a `queries.verdict_table`, `marks` a `queries.marks_table`.
    """
    base = alt.Chart(points).encode(
        x=_time(span),
        y=_height("relative", "score / threshold"),
        color=_version(points, legend=False),
        tooltip=_tooltip("score", "threshold"),
    )
    normal = base.transform_filter("!datum.flagged").mark_circle(size=24, opacity=0.55)
    flagged = base.transform_filter("datum.flagged").mark_point(
        size=75, shape="diamond", filled=True, opacity=0.95, stroke=FLAGGED, strokeWidth=2
    )
    layers: list[Layer] = [
        _level(1.0, THRESHOLD, "threshold"),
        alt.layer(normal, flagged),
        _rules(marks, span),
        *_labels(marks, span),
    ]
    return _joined(layers, height_px=290, top_px=_LANE_PX * LANES + 6)


def bulk_chart(points: pd.DataFrame, marks: pd.DataFrame, *, span: Span) -> alt.LayerChart:
    """How far whole images lie from the model's own normal ones, in robust standard deviations, and the running median.

    Tables as in `score_chart`. Images of a model whose reference is gone are not drawn.
    """
    base = alt.Chart(points.dropna(subset=["bulk_z"])).encode(x=_time(span), color=_version(points))
    dots = base.mark_circle(size=14, opacity=0.35).encode(
        y=_height("bulk_z", "bulk, robust sd"), tooltip=_tooltip("bulk", "bulk_z")
    )
    running = base.mark_line(strokeWidth=2.5).encode(y=_height("bulk_running", "bulk, robust sd"))
    layers: list[Layer] = [_level(0.0, NORMAL, "normal"), alt.layer(dots, running), _rules(marks, span)]
    return _joined(layers, height_px=210, top_px=4)


def signal_chart(points: pd.DataFrame, marks: pd.DataFrame, *, unit: str, level: float) -> alt.LayerChart:
    """A signal image by image around its change, its running median, and the `level` of the model's normal images across.

    Tables as in `around.SignalAround`. The words of the change stand before its rule, those of the alarm behind.
    """
    image = alt.X("image:Q", title="images before and after the alarm", scale=alt.Scale(nice=False, padding=8))
    several = points["version"].nunique() > 1
    base = alt.Chart(points).encode(x=image, color=_version(points, legend=several))
    tooltip = [alt.Tooltip("image_id:N", title="image"), alt.Tooltip("value:Q", format=".4g")]
    tooltip += [alt.Tooltip("z:Q", title="robust sd", format="+.1f"), alt.Tooltip("version:N"), _when()]
    dots = base.mark_circle(size=20, opacity=0.45).encode(y=_height("shown", unit), tooltip=tooltip)
    running = base.mark_line(strokeWidth=2.5).encode(y=_height("running", unit))
    moments = alt.Chart(_painted(marks)).encode(x=image, color=_painted_by())
    layers: list[Layer] = [
        _level(level, NORMAL, "normal"),
        alt.layer(dots, running),
        moments.mark_rule(strokeWidth=2, strokeDash=[6, 3]),
        _moment(moments, "datum.kind == 'change'", "right"),
        _moment(moments, "datum.kind != 'change'", "left"),
    ]
    return _joined(layers, height_px=280 if several else 240, top_px=20)


def _moment(moments: alt.Chart, which: str, align: Literal["left", "right"]) -> alt.Chart:
    """The words of moments above the plot, on one side of their rules."""
    chosen = moments.transform_filter(which).encode(text="words:N", y=alt.value(-3))
    dx = 2 if align == "right" else -2
    drawn: alt.Chart = chosen.mark_text(align=align, baseline="bottom", dx=dx, fontSize=12, fontWeight="bold")
    return drawn


def _joined(layers: list[Layer], *, height_px: int, top_px: int) -> alt.LayerChart:
    padding = {"top": top_px, "left": 4, "right": _NAME_PX, "bottom": 4}
    joined = alt.layer(*layers).resolve_scale(color="independent")
    chart: alt.LayerChart = joined.properties(height=height_px, padding=padding)
    return chart


def _rules(marks: pd.DataFrame, span: Span) -> alt.Chart:
    """A vertical dashed rule at each mark."""
    what = [alt.Tooltip("words:N", title="what"), _when()]
    rule = alt.Chart(_painted(marks)).mark_rule(strokeWidth=2, strokeDash=[6, 3])
    rules: alt.Chart = rule.encode(x=_time(span), color=_painted_by(), tooltip=what)
    return rules


def _labels(marks: pd.DataFrame, span: Span) -> list[alt.Chart]:
    """The words of the marks above the plot, on as many lanes as keeps neighbours apart."""
    text = alt.Chart(_painted(marks)).encode(x=_time(span), color=_painted_by(), text="words:N")
    drawn = text.mark_text(align="left", baseline="bottom", dx=-2, fontSize=12, fontWeight="bold")
    return [
        drawn.transform_filter(f"datum.lane == {lane}").encode(y=alt.value(-3 - lane * _LANE_PX))
        for lane in range(LANES)
    ]


def _painted(marks: pd.DataFrame) -> pd.DataFrame:
    return marks.assign(colour=marks["kind"].map(MARK_COLOURS))


def _painted_by() -> alt.Color:
    return alt.Color("colour:N", scale=None, legend=None)


def _level(value: float, colour: str, words: str) -> Layer:
    """A horizontal line with its name beyond the right end; unseen, the longest name keeps all charts as wide."""
    table = alt.Chart(pd.DataFrame({"level": [value], "words": [words]}))
    rule = table.mark_rule(color=colour, strokeWidth=1.5).encode(y="level:Q")
    name = table.mark_text(align="left", color=colour, dx=6, fontSize=12)
    place = name.encode(y="level:Q", x=alt.value("width"))
    room = place.mark_text(align="left", dx=6, fontSize=12, opacity=0).encode(text=alt.value("threshold"))
    return alt.layer(rule, room, place.encode(text="words:N"))


def _time(span: Span) -> alt.X:
    """The time axis: seconds where there are few minutes of it, the date where there are days."""
    width_s = (span[1] - span[0]).total_seconds()
    shown = "%H:%M:%S" if width_s < 600 else "%H:%M" if width_s < _DAY_S else "%m-%d %H:%M"
    axis = alt.Axis(format=shown, labelOverlap=True)
    return alt.X("at:T", title=None, axis=axis, scale=alt.Scale(domain=[moment.isoformat() for moment in span]))


def _height(field: str, title: str) -> alt.Y:
    return alt.Y(f"{field}:Q", title=title, axis=alt.Axis(minExtent=_AXIS_PX), scale=alt.Scale(zero=False, nice=True))


def _version(points: pd.DataFrame, *, legend: bool = True) -> alt.Color:
    """One colour a version, the same in both charts and however many of its images are in sight."""
    versions = sorted(points["version"].unique())
    colours = [VERSION_COLOURS[(version - 1) % len(VERSION_COLOURS)] for version in versions]
    shown = alt.Legend(title="version", orient="bottom", direction="horizontal", titleOrient="left", symbolOpacity=1)
    return alt.Color("version:N", scale=alt.Scale(domain=versions, range=colours), legend=shown if legend else None)


def _tooltip(*figures: str) -> list[alt.Tooltip]:
    shown = [alt.Tooltip(f"{name}:Q", format=".4g") for name in figures]
    return [alt.Tooltip("image_id:N", title="image"), *shown, alt.Tooltip("version:N"), _when()]


def _when() -> alt.Tooltip:
    return alt.Tooltip("at:T", title="at", format="%Y-%m-%d %H:%M:%S")
