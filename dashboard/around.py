"""The signal of an incident around its change, however long ago that was: read by the ledger's index, a bounded number of verdicts."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from sqlalchemy import ColumnElement, Connection, select

from dashboard.incidents import IncidentCard
from dashboard.queries import RUNNING_MEDIAN_IMAGES, references
from dashboard.signals import FLAGGED, robust_z, value_of
from dashboard.words import short
from detectors.manifest import DriftReference
from detectors.registry import Registry
from streams.calibrating import PEAK, SUSPICION
from streams.ledger import Ledger
from streams.ledger_tables import VERDICTS
from streams.messages import Verdict, decode

BEFORE, BETWEEN, AFTER = 80, 600, 80
"""Images before the change, from the change to its alarm, and after the alarm, at most."""
FLAG_SHARE_IMAGES = 25


@dataclass(frozen=True)
class SignalAround:
    """What a chart of an incident draws. `in_deviations`: whether in robust standard deviations, else in the signal's units.

    `points`, oldest first: `image` (0: the alarm image, negative before), `at` (UTC), `image_id`, `version`, `value`, `z`
    (from the reference of its version), `shown` (the one that is drawn), `running` (its median over the latest images of the version).
    Suspicion is drawn as the peaks it is made of; of the flag, `value` is the share of flagged ones among the latest images.
    `marks`: `image`, `kind` (change, drift), `words`.
    """

    points: pd.DataFrame
    marks: pd.DataFrame
    in_deviations: bool


def signal_around(ledger: Ledger, registry: Registry, card: IncidentCard) -> SignalAround:
    """The signal of an incident around its change; without points where no verdict says it."""
    line, told = card.incident.line, card.incident.signal
    signal = PEAK if told == SUSPICION else told
    since_at = card.alarm_at if card.since is None else min(card.since.judged_at, card.alarm_at)
    found = verdicts_around(ledger, line, since_at=since_at, alarm_at=card.alarm_at)
    in_turn = [verdict for verdict in found if not verdict.late]
    table = _table(in_turn, signal, card.alarm_at)
    table["z"] = _z(table, signal, references(registry, line, [verdict.version for verdict in in_turn]))
    in_deviations = bool(table["z"].notna().any())
    table["shown"] = table["z"] if in_deviations else table["value"]
    points = table.dropna(subset=["shown"])
    running = points.groupby("version")["shown"].rolling(RUNNING_MEDIAN_IMAGES, min_periods=1).median()
    points = points.assign(running=running.reset_index(level=0, drop=True))
    return SignalAround(points, _marks(points, card), in_deviations)


def verdicts_around(ledger: Ledger, line: str, *, since_at: float, alarm_at: float) -> list[Verdict]:
    """What was judged around a change at `since_at` that was noticed at `alarm_at`, oldest first.

    Of a change that took BETWEEN images or more to be noticed, only the last ones: there is no gap in what is returned.
    """
    at = VERDICTS.c.judged_at
    with ledger.transaction(writes=False) as connection:
        between = _latest(connection, line, (at >= since_at) & (at <= alarm_at), BETWEEN)
        before = _latest(connection, line, at < since_at, BEFORE) if len(between) < BETWEEN else []
        return before + between + _earliest(connection, line, at > alarm_at, AFTER)


def _latest(connection: Connection, line: str, where: ColumnElement[bool], limit: int) -> list[Verdict]:
    order = (VERDICTS.c.judged_at.desc(), VERDICTS.c.image_id.desc())
    return _verdicts(connection, line, where, order, limit)[::-1]


def _earliest(connection: Connection, line: str, where: ColumnElement[bool], limit: int) -> list[Verdict]:
    return _verdicts(connection, line, where, (VERDICTS.c.judged_at, VERDICTS.c.image_id), limit)


def _verdicts(
    connection: Connection,
    line: str,
    where: ColumnElement[bool],
    order: tuple[ColumnElement[float], ColumnElement[str]],
    limit: int,
) -> list[Verdict]:
    query = select(VERDICTS.c.body).where(VERDICTS.c.line == line, where).order_by(*order).limit(limit)
    return [decode(body, Verdict) for body in connection.execute(query).scalars()]


def _table(verdicts: Sequence[Verdict], signal: str, alarm_at: float) -> pd.DataFrame:
    upto_alarm = sum(verdict.judged_at <= alarm_at for verdict in verdicts)
    values = [value_of(verdict, signal) for verdict in verdicts]
    table = pd.DataFrame(
        {
            "image": np.arange(len(verdicts)) - max(upto_alarm - 1, 0),
            "at": pd.to_datetime([verdict.judged_at for verdict in verdicts], unit="s", utc=True),
            "image_id": [short(verdict.image_id) for verdict in verdicts],
            "version": np.array([verdict.version for verdict in verdicts], dtype=np.int64),
            "value": np.array([np.nan if value is None else value for value in values], dtype=np.float64),
        }
    )
    if signal == FLAGGED:
        table["value"] = table["value"].rolling(FLAG_SHARE_IMAGES, min_periods=1).mean()
    return table


def _z(table: pd.DataFrame, signal: str, known: Mapping[int, DriftReference]) -> pd.Series:
    z = pd.Series(np.nan, index=table.index, dtype="float64")
    for version, reference in known.items():
        mine = table["version"] == version
        found = robust_z(table["value"][mine].to_list(), reference, signal)
        if found is not None:
            z[mine] = found
    return z


def _marks(points: pd.DataFrame, card: IncidentCard) -> pd.DataFrame:
    """The alarm, and the estimated change (halfway between two images) where both sides of it are in sight."""
    marks = [(0.0, "drift", "alarm")]
    if card.since is not None and len(points):
        since = points["at"] >= pd.Timestamp(card.since.judged_at, unit="s", tz="UTC")
        if since.any() and not since.all():
            marks.append((float(points["image"][since].min()) - 0.5, "change", "change"))
    return pd.DataFrame(marks, columns=["image", "kind", "words"])
