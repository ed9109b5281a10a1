"""How long the preview of another threshold takes on a line's busiest day: a million verdicts of one version within 24 h.

Run: `python benchmarks/operating_point.py [--verdicts N] [--folder FOLDER] [--only sqlite|postgresql]`. PostgreSQL where
DRIFTLINE_TEST_POSTGRESQL names one. The last 20,000 verdicts are not vacuumed there, as on a running line: of those it looks up every
row. One part in 500 is reviewed. Status 1 where a median is above the limit.
"""

import argparse
import os
import platform
import sqlite3
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing
from itertools import islice
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from streams.ledger import Ledger
from streams.messages import Review
from streams.operating_points import DAY_S, preview
from tests.servers import POSTGRESQL, postgresql_database
from tests.streams.ledger_bulk import BEGAN_AT, Row, fill, image_id, rows, settle

LIMIT_MS = 300
ROUNDS = 9
LINE = "press-0"
REVIEWED_ONE_IN = 500
NEW = 20_000


def one_day(verdicts: int) -> Iterator[Row]:
    """The rows of `ledger_bulk`, all of one line and version, spread over a day, scores from 0 to 1."""
    for number, row in enumerate(rows(verdicts)):
        score = number * 2_654_435_761 % 2**32 / 2**32
        yield (LINE, row[1], 1, score, score > 0.98, BEGAN_AT + number * DAY_S / verdicts, 0, 0, row[8])


def reviews(verdicts: int) -> list[Review]:
    """A defect, a normal, in turn."""
    return [
        Review(line=LINE, image_id=image_id(n), says=("defect", "normal")[n % 2], note="", by="ana", at=BEGAN_AT)
        for n in range(0, verdicts, REVIEWED_ONE_IN + 1)
    ]


def timed(ledger: Ledger) -> float:
    """Milliseconds of one preview."""
    began = time.perf_counter()
    preview(ledger, LINE, 1, 0.99, now=BEGAN_AT + DAY_S)
    return 1000 * (time.perf_counter() - began)


def measure(name: str, url: str, verdicts: int) -> bool:
    """Fill, ask; whether the median keeps the limit."""
    with closing(Ledger.open(url)) as ledger:
        coming = one_day(verdicts)
        fill(url, islice(coming, verdicts - NEW))
        settle(url)
        fill(url, coming)
        ledger.record(reviews(verdicts))
        first, median = timed(ledger), statistics.median(timed(ledger) for _ in range(ROUNDS))
        seen = preview(ledger, LINE, 1, 0.99, now=BEGAN_AT + DAY_S)
    print(f"{name}: {verdicts:,} verdicts, of them reviewed {seen.reviewed.defects + seen.reviewed.normals:,}")
    print(f"  first {first:.0f} ms, median {median:.0f} ms   {seen.words}", flush=True)
    return median <= LIMIT_MS


def main() -> int:
    """Both engines in turn."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--verdicts", type=int, default=1_000_000)
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--only", choices=("sqlite", "postgresql"))
    chosen = parser.parse_args()
    print(f"{platform.machine()} {platform.system()}, {os.cpu_count()} cores, SQLite {sqlite3.sqlite_version}")
    well = True
    if chosen.only != "postgresql":
        with tempfile.TemporaryDirectory(dir=chosen.folder) as scratch:
            well &= measure("SQLite", f"sqlite:///{scratch}/ledger.sqlite", chosen.verdicts)
    if chosen.only != "sqlite" and POSTGRESQL in os.environ:
        with postgresql_database() as url:
            well &= measure("PostgreSQL", url, chosen.verdicts)
    return 0 if well else 1


if __name__ == "__main__":
    sys.exit(main())
