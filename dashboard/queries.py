"""What the pages show, as plain values and tables made from ledger and registry. Nothing here knows Streamlit."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Literal

import numpy as np
import pandas as pd

from dashboard.signals import robust_z
from dashboard.words import short
from detectors.errors import DriftlineError
from detectors.manifest import DriftReference
from detectors.registry import Registry
from streams.incidents import CLOSED, OPENED
from streams.ledger import Ledger, LineSummary
from streams.messages import DriftIncident, ModelAlert, ModelServing, Verdict
from streams.settings import LineConfig, line_config

SILENT_AFTER_S = 60.0
RUNNING_MEDIAN_IMAGES = 15
LANES = 3
LANE_WIDTH = 0.18

Colour = Literal["red", "orange", "green", "blue", "violet", "gray"]

KIND_IN_WORDS = {
    "covariate_drift": "the line has changed",
    "defect_surge": "many more bad parts than usual",
    "camera_fault": "the camera does not show the parts",
}


@dataclass(frozen=True)
class LineState:
    """How a line is, in one word, with the symbol and the colour that say the same."""

    word: str
    symbol: str
    colour: Colour


REFUSED = LineState("Model refused", "gpp_bad", "red")
RETRAINING = LineState("Retraining", "autorenew", "blue")
DRIFTING = LineState("Drifting", "trending_up", "orange")
COLLECTING = LineState("Collecting", "hourglass_top", "violet")
SILENT = LineState("Silent", "sensors_off", "gray")
RUNNING = LineState("Running", "check_circle", "green")


@dataclass(frozen=True)
class Alarm:
    """When an incident began, the incident, and when it was closed (None: it is open). Epoch seconds."""

    at: float
    incident: DriftIncident
    closed_at: float | None


@dataclass(frozen=True)
class LineCard:
    """A line at a glance. `progress`: (collected, needed) before the first model; `seen_s`: since the last image;
    `waits`: what its open request for a new model waits for.
    """

    line: str
    state: LineState
    images_per_min: float
    judged: int
    overdue: int
    flag_rate: float | None
    target_rate: float
    version: int | None
    incident: str | None
    trouble: str | None
    progress: tuple[int, int] | None
    seen_s: float | None
    waits: str | None = None


def kind_in_words(kind: str) -> str:
    """What an incident of this kind means.

    >>> kind_in_words("camera_fault")
    'the camera does not show the parts'
    """
    return KIND_IN_WORDS.get(kind, short(kind, 40))


def cards(ledger: Ledger, lines: Mapping[str, LineConfig], *, now: float) -> list[LineCard]:
    """A card a line, those that need a person first, then by name."""
    made = [_card(summary, line_config(lines, summary.line), now=now) for summary in ledger.lines(now=now)]
    order = [REFUSED, DRIFTING, RETRAINING, SILENT, COLLECTING, RUNNING]
    return sorted(made, key=lambda card: (order.index(card.state), card.line))


def line_names(ledger: Ledger) -> list[str]:
    """The lines that have sent anything, by name."""
    return ledger.line_names()


def verdict_table(verdicts: Sequence[Verdict], references: Mapping[int, DriftReference]) -> pd.DataFrame:
    """Verdicts oldest first, a row each, with what the charts draw.

    Columns: `at` (UTC), `image_id`, `version`, `flagged`, `score`, `threshold`, `relative` (score / threshold), `bulk`,
    `bulk_z` (bulk in robust standard deviations from the median of its version's reference; absent where `references`
    has none) and `bulk_running` (the median of `bulk_z` over the latest images of the same version).
    """
    oldest_first = sorted(verdicts, key=lambda verdict: verdict.judged_at)
    table = pd.DataFrame(
        {
            "at": pd.to_datetime([verdict.judged_at for verdict in oldest_first], unit="s", utc=True),
            "image_id": [short(verdict.image_id) for verdict in oldest_first],
            "version": np.array([verdict.version for verdict in oldest_first], dtype=np.int64),
            "flagged": np.array([verdict.flagged for verdict in oldest_first], dtype=bool),
            "score": np.array([verdict.score for verdict in oldest_first], dtype=np.float64),
            "threshold": np.array([verdict.threshold for verdict in oldest_first], dtype=np.float64),
            "bulk": np.array([verdict.signals.bulk for verdict in oldest_first], dtype=np.float64),
        }
    )
    table["relative"] = table["score"] / table["threshold"]
    table["bulk_z"] = _bulk_z(table, references)
    rolling = table.groupby("version")["bulk_z"].rolling(RUNNING_MEDIAN_IMAGES, min_periods=1).median()
    table["bulk_running"] = rolling.reset_index(level=0, drop=True)
    return table


def marks_table(
    alarms: Sequence[Alarm],
    servings: Sequence[ModelServing],
    alerts: Sequence[ModelAlert],
    *,
    span: tuple[datetime, datetime],
) -> pd.DataFrame:
    """The moments to draw into a chart of `span`, oldest first.

    Columns: `at` (UTC), `kind` (drift, swap, refused), `words`, `lane` (0 = lowest).
    """
    marks = [(each.at, "drift", f"alarm: {kind_in_words(each.incident.kind)}") for each in alarms]
    marks += [(each.at, "swap", f"version {each.version} in service") for each in swaps(servings)]
    marks += [(each.raised_at, "refused", f"version {each.version} refused") for each in alerts]
    within = sorted(mark for mark in marks if span[0].timestamp() <= mark[0] <= span[1].timestamp())
    table = pd.DataFrame(within, columns=["at", "kind", "words"])
    width_s = (span[1] - span[0]).total_seconds()
    table["lane"] = _lanes([at for at, _, _ in within], apart=LANE_WIDTH * width_s)
    table["at"] = pd.to_datetime(table["at"].astype("float64"), unit="s", utc=True)
    return table


def span_of(verdicts: Sequence[Verdict]) -> tuple[datetime, datetime]:
    """The time axis of a chart of these verdicts, two percent to spare at either end; raises ValueError for none."""
    times = [verdict.judged_at for verdict in verdicts]
    first, last = datetime.fromtimestamp(min(times), UTC), datetime.fromtimestamp(max(times), UTC)
    spare = max((last - first) * 0.02, timedelta(seconds=1))
    return first - spare, last + spare


def alarms(ledger: Ledger, line: str) -> list[Alarm]:
    """The alarms of a line, oldest first. The ledger keeps what became of one last; its alarm image has the start."""
    found = []
    for incident in ledger.incidents(line):
        closed_at = incident.at if incident.state == CLOSED else None
        image = None if incident.state == OPENED else ledger.verdict(line, incident.alarm_image_id)
        found.append(Alarm(incident.at if image is None else image.judged_at, incident, closed_at))
    return sorted(found, key=lambda alarm: alarm.at)


def swaps(servings: Sequence[ModelServing]) -> list[ModelServing]:
    """The swaps of a line, oldest first: several scorers each announce one, the first of them counts."""
    found: list[ModelServing] = []
    for serving in sorted(servings, key=lambda serving: serving.at):
        if not found or found[-1].version != serving.version:
            found.append(serving)
    return found


def references(registry: Registry, line: str, versions: Sequence[int]) -> dict[int, DriftReference]:
    """The drift references of those of `versions` whose manifests can still be read."""
    found = {}
    for version in set(versions):
        try:
            found[version] = registry.manifest(line, version).reference
        except DriftlineError:
            continue
    return found


def _card(summary: LineSummary, config: LineConfig, *, now: float) -> LineCard:
    seen_s = None if summary.last_at is None else now - summary.last_at
    return LineCard(
        line=summary.line,
        state=_state(summary, seen_s),
        images_per_min=summary.images_per_min,
        judged=summary.judged,
        overdue=summary.overdue,
        flag_rate=summary.flag_rate,
        target_rate=config.false_alarm_rate,
        version=summary.version,
        incident=summary.open_incident,
        trouble=None if summary.alert is None else summary.alert.reason,
        progress=(summary.collected, config.cold_start_images) if summary.version is None else None,
        seen_s=seen_s,
        waits=summary.request_waits,
    )


def _state(summary: LineSummary, seen_s: float | None) -> LineState:
    """What a person should know first: trouble with the model, what the loop is doing, whether images come at all."""
    if summary.alert is not None:
        return REFUSED
    if summary.open_request is not None and summary.request_waits is None:
        return RETRAINING
    if summary.open_incident is not None:
        return DRIFTING
    if summary.version is None:
        return COLLECTING
    return SILENT if seen_s is None or seen_s > SILENT_AFTER_S else RUNNING


def _bulk_z(table: pd.DataFrame, references: Mapping[int, DriftReference]) -> pd.Series:
    z = pd.Series(np.nan, index=table.index, dtype="float64")
    for version, reference in references.items():
        mine = table["version"] == version
        z[mine] = robust_z(table["bulk"][mine].to_list(), reference, "bulk")
    return z


def _lanes(times: Sequence[float], *, apart: float) -> list[int]:
    """A lane for each label so that neighbours in a lane are `apart`; the next lane in turn where none is free.

    >>> _lanes([0, 1, 2, 50], apart=10)
    [0, 1, 2, 0]
    """
    free_from = [float("-inf")] * LANES
    lanes: list[int] = []
    for at in times:
        lane = next((lane for lane in range(LANES) if free_from[lane] <= at), len(lanes) % LANES)
        free_from[lane] = at + apart
        lanes.append(lane)
    return lanes
