"""A backtest as a picture: score and bulk over time, a lane of alarms for each setting, and the incidents that were recorded."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from detectors.errors import InvalidInput
from orchestration.backtest import Report, Setting, Trace
from orchestration.downsampling import Array, Band
from orchestration.drawing import FONT_PX, Area, Drawing, Line, Points, Words, png, svg
from orchestration.html_report import document, table
from orchestration.moments import utc
from streams.backtesting import RecordedIncident, WouldAlarm, runs_of

FORMATS = (".html", ".svg", ".png")
KIND_COLOURS = {"covariate_drift": "#ea580c", "defect_surge": "#a855f7", "camera_fault": "#1a1f26"}
VERSION_COLOURS = ("#0b62d6", "#14b8a6", "#d4a106", "#ec4899", "#84a016")
RULE, THRESHOLD = "#c3c9d1", "#d1345b"
WIDTH, LEFT, RIGHT, TOP = 1040, 180, 1020, 46
PANEL, GAP, LANE = 170, 34, 22
TICKS = 5
MARK = 3
_GAP_BINS = 6

Shapes = list[Line | Area | Words]


def check_plot(path: Path) -> None:
    """Raises InvalidInput for a file that no plot can become."""
    if path.suffix.lower() not in FORMATS:
        raise InvalidInput(
            f"--plot {path}: a plot is written as {', '.join(FORMATS)}; give the file one of these endings"
        )
    if not path.absolute().parent.is_dir():
        raise InvalidInput(f"--plot {path}: there is no folder {path.parent}; make it first")


def write_plot(path: Path, report: Report, traces: Sequence[Trace]) -> None:
    """Write the picture; in HTML with the tables beneath it. Raises InvalidInput where it cannot be written."""
    picture = drawing(report, traces)
    suffix = path.suffix.lower()
    try:
        if suffix == ".png":
            path.write_bytes(png(picture))
        else:
            path.write_text(svg(picture) if suffix == ".svg" else _page(report, picture))
    except OSError as error:
        raise InvalidInput(f"--plot {path}: {error.strerror}; name a file that can be written") from error


def drawing(report: Report, traces: Sequence[Trace]) -> Drawing:
    """The picture of a report."""
    first = min(each.first_at for each in report.versions)
    last = max(each.last_at for each in report.versions)

    def x_of(at: float) -> float:
        return LEFT + (RIGHT - LEFT) * min(max((at - first) / max(last - first, 1e-3), 0.0), 1.0)

    bulk_top = TOP + PANEL + GAP
    lanes_top = bulk_top + PANEL + GAP
    bottom = lanes_top + LANE * (len(report.settings) + 1)
    shapes: Shapes = [
        *_panel([each.score for each in traces], x_of, TOP, "score / threshold", 1.0, THRESHOLD),
        *_panel([each.bulk for each in traces], x_of, bulk_top, "bulk, robust sd", 0.0, RULE),
        *_versions(report, x_of, bottom),
    ]
    for number, setting in enumerate(report.settings):
        shapes += _lane(setting, x_of, lanes_top + LANE * number)
    shapes += _recorded_lane(report.recorded, x_of, lanes_top + LANE * len(report.settings))
    shapes += _time_axis(first, last, x_of, bottom) + _legend(bottom + 44)
    return Drawing(f"Backtest of {report.line}", WIDTH, bottom + 56, shapes)


def _panel(
    bands: Sequence[Band], x_of: Callable[[float], float], top: int, title: str, level: float, colour: str
) -> Shapes:
    """One series over time, a colour a version: median as a line within least and greatest."""
    low, high = _range(bands, level)

    def y_of(value: float) -> float:
        return top + PANEL * (1 - min(max((value - low) / (high - low), 0.0), 1.0))

    shapes: Shapes = [Words(LEFT, top - 6, title), Line(((LEFT, top), (LEFT, top + PANEL), (RIGHT, top + PANEL)), RULE)]
    ends = [value for value in (low, high) if abs(y_of(value) - y_of(level)) > FONT_PX]
    shapes += [Words(LEFT - 6, y_of(value) + 4, f"{value:.3g}", right=True) for value in (level, *ends)]
    shapes.append(Line(((LEFT, y_of(level)), (RIGHT, y_of(level))), colour))
    for number, band in enumerate(bands):
        ink = VERSION_COLOURS[number % len(VERSION_COLOURS)]
        for part in _unbroken(band):
            xs = [x_of(at) for at in part.at]
            tops = [(x, y_of(value)) for x, value in zip(xs, part.high, strict=True)]
            floors = [(x, y_of(value)) for x, value in zip(xs, part.low, strict=True)]
            middle = [(x, y_of(value)) for x, value in zip(xs, part.median, strict=True)]
            shapes += [Area([*tops, *reversed(floors)], ink, opacity=0.25), Line(_at_least_two(middle), ink, width=1.5)]
    return shapes


def _range(bands: Sequence[Band], level: float) -> tuple[float, float]:
    """What the axis shows: all but the farthest hundredth of the bins on either side, which are drawn at its edge."""
    lows = np.concatenate([each.low for each in bands] or [np.array([level])])
    highs = np.concatenate([each.high for each in bands] or [np.array([level])])
    if not len(lows):
        return level - 1, level + 1
    low, high = min(level, float(np.quantile(lows, 0.01))), max(level, float(np.quantile(highs, 0.99)))
    room = 0.05 * (high - low) if high - low > 1e-9 else 1.0
    return low - room, high + room


def _unbroken(band: Band) -> list[Band]:
    """The stretches of a band without a pause of many bins."""
    steps = np.diff(band.at)
    usual = float(np.median(steps)) if len(steps) else 0.0
    edges = np.flatnonzero(steps > _GAP_BINS * usual) + 1
    columns: list[list[Array]] = [np.split(each, edges) for each in (band.at, band.low, band.median, band.high)]
    return [Band(*parts) for parts in zip(*columns, strict=True) if len(parts[0])]


def _at_least_two(points: Points) -> Points:
    return points if len(points) > 1 else [points[0], (points[0][0] + 1, points[0][1])]


def _versions(report: Report, x_of: Callable[[float], float], bottom: int) -> Shapes:
    shapes: Shapes = []
    for each in report.versions:
        x = x_of(each.first_at)
        said = f"version {each.version}" + (", not run" if each.skipped else "")
        shapes += [Line(((x, TOP - 36), (x, bottom)), RULE), Words(x + 4, TOP - 26, said)]
    return shapes


def _lane(setting: Setting, x_of: Callable[[float], float], top: int) -> Shapes:
    said = f"{setting.expected_run_length:,}" + (" (the line's)" if setting.of_line else "")
    shapes: Shapes = [*_lane_frame(f"alarms at {said}", top)]
    drawn: dict[tuple[int, str], list[WouldAlarm]] = {}
    for alarm in setting.alarms:
        drawn.setdefault((round(x_of(alarm.at)), alarm.kind), []).append(alarm)
    for (x, kind), alarms in drawn.items():
        shapes.append(Area.box(x - MARK / 2, top + 3, x + MARK / 2, top + LANE - 3, _colour(kind), _told(alarms)))
    return shapes


def _told(alarms: Sequence[WouldAlarm]) -> str:
    first = alarms[0]
    more = f" and {len(alarms) - 1} more" if len(alarms) > 1 else ""
    return f"{utc(first.at)} {first.kind} {first.signal} {first.effect:+.1f} sd at {first.image_id}{more}"


def _recorded_lane(recorded: Sequence[RecordedIncident], x_of: Callable[[float], float], top: int) -> Shapes:
    shapes: Shapes = [*_lane_frame("recorded incidents", top)]
    for each in recorded:
        left = x_of(each.opened_at)
        right = float(RIGHT) if each.closed_at is None else max(x_of(each.closed_at), left + MARK)
        words = f"{utc(each.opened_at)} {each.kind} {each.signal} {each.effect:+.1f} sd, {each.mark or each.state}"
        shapes.append(Area.box(left, top + 5, right, top + LANE - 5, _colour(each.kind), words))
    return shapes


def _lane_frame(name: str, top: int) -> Shapes:
    return [Words(LEFT - 6, top + 15, name, right=True), Line(((LEFT, top + LANE), (RIGHT, top + LANE)), RULE)]


def _time_axis(first: float, last: float, x_of: Callable[[float], float], bottom: int) -> Shapes:
    shapes: Shapes = []
    for at in np.linspace(first, last, TICKS, endpoint=False) if last > first else [first]:
        x = x_of(float(at))
        words = utc(float(at))[: -4 if last - first > 86_400 else None]
        shapes += [Line(((x, bottom), (x, bottom + 5)), RULE), Words(x, bottom + 19, words)]
    return shapes


def _legend(y: int) -> Shapes:
    shapes: Shapes = []
    for number, (kind, colour) in enumerate(KIND_COLOURS.items()):
        x = LEFT + 150 * number
        shapes += [Area.box(x, y - 10, x + 10, y, colour), Words(x + 16, y, kind.replace("_", " "))]
    shapes.append(Words(RIGHT, y, "line: median of a bin; band: least to greatest; times in UTC", right=True))
    return shapes


def _colour(kind: str) -> str:
    return KIND_COLOURS.get(kind, RULE)


def _page(report: Report, picture: Drawing) -> str:
    parts = [svg(picture)]
    for setting in report.settings:
        parts.append(f"<h2>Alarms at an expected run length of {setting.expected_run_length:,} images</h2>")
        parts.append(_alarm_table(setting))
    parts += ["<h2>Recorded incidents</h2>", _recorded_table(report.recorded)]
    return document(f"{report.line}: {report.images:,} recorded verdicts under other settings", parts)


def _alarm_table(setting: Setting) -> str:
    head = (
        "when (UTC)",
        "version",
        "kind",
        "signal",
        "effect, sd",
        "confidence",
        "place",
        "image",
        "recorded",
        "again",
    )
    rows = [
        (utc(each.at), str(each.version), each.kind, each.signal, f"{each.effect:+.1f}", f"{each.confidence:.2f}", each.place,
         each.image_id, each.mark or "", str(again) if again else "")
        for each, again in runs_of(setting.alarms)
    ]  # fmt: skip
    return table(head, rows) if rows else "<p>None.</p>"


def _recorded_table(recorded: Sequence[RecordedIncident]) -> str:
    head = ("opened (UTC)", "version", "kind", "signal", "effect, sd", "place", "image", "in this run")
    rows = [
        (utc(each.opened_at), str(each.version), each.kind, each.signal, f"{each.effect:+.1f}", each.place,
         each.alarm_image_id, each.mark or "not compared")
        for each in recorded
    ]  # fmt: skip
    return table(head, rows) if rows else "<p>None.</p>"
