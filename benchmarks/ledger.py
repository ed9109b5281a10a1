"""How long the ledger's named queries take on many verdicts, on SQLite and (where DRIFTLINE_TEST_POSTGRESQL names one) on PostgreSQL.

Run: `python benchmarks/ledger.py [--verdicts N] [--folder FOLDER] [--only sqlite|postgresql]`. Fills a ledger of the first revision, opens
it (so the migrations' time on N verdicts is measured too), and asks each query several times: the first time, and the median of the others.
`scan` stands where the plan reads the verdicts from end to end, `slow` where the median is above the limit; either fails the run.
10,000,000 verdicts need 15 GB in FOLDER (default: a temporary one) and as much in PostgreSQL's.
"""

import argparse
import os
import platform
import sqlite3
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from streams.ledger import Ledger
from tests.servers import POSTGRESQL, postgresql_database
from tests.streams.ledger_bulk import connected, fill_beside, make_large, more_verdicts, settle
from tests.streams.ledger_plans import Query, named_queries, scans, statements_of

LIMIT_MS = 200
ROUNDS = 9
BATCH = 16
MORE = 1600


def seconds(task: Callable[[], object]) -> float:
    """How long a task takes."""
    began = time.perf_counter()
    task()
    return time.perf_counter() - began


def connect(url: str) -> None:
    """Reach the database, nothing more."""
    with connected(url):
        pass


def measure(name: str, url: str, verdicts: int) -> bool:
    """Fill, open, ask, record; whether every query kept the limit and scanned nothing."""
    print(f"\n{name}: {verdicts:,} verdicts")
    print(f"  {'loaded':34}{seconds(lambda: make_large(url, verdicts)):10.1f} s")
    print(f"  {'opened, and so migrated':34}{seconds(lambda: Ledger.open(url).close()):10.1f} s")
    with closing(Ledger.open(url)) as ledger:
        fill_beside(ledger, verdicts)
        settle(url)
        opening = statistics.median(seconds(lambda: Ledger.open(url).close()) for _ in range(ROUNDS))
        connecting = statistics.median(seconds(lambda: connect(url)) for _ in range(ROUNDS))
        print(f"  {'opened again':34}{1000 * opening:10.1f} ms   of which to connect {1000 * connecting:.1f} ms")
        well = [ask(ledger, url, title, query) for title, query in named_queries(verdicts).items()]
        more = list(more_verdicts(verdicts, MORE))
        batches = [more[start : start + BATCH] for start in range(0, MORE, BATCH)]
        spent = statistics.median(seconds(lambda batch=batch: ledger.record(batch)) for batch in batches)
        print(f"  {f'recorded, in batches of {BATCH}':34}{BATCH / spent:10,.0f} verdicts/s")
    return all(well)


def ask(ledger: Ledger, url: str, title: str, query: Query) -> bool:
    """Time one query and look at its plans; whether all is well."""
    first = 1000 * seconds(lambda: query(ledger))
    median = 1000 * statistics.median(seconds(lambda: query(ledger)) for _ in range(ROUNDS))
    statements = statements_of(url, query)
    with connected(url) as connection:
        scanned = any(scans(connection, statement) for statement in statements)
    faults = [word for word, is_so in (("scan", scanned), ("slow", median > LIMIT_MS)) if is_so]
    print(f"  {title:34}{median:10.1f} ms   first {first:8.1f} ms   {' '.join(faults)}", flush=True)
    return not faults


def main() -> int:
    """Both engines in turn."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--verdicts", type=int, default=200_000)
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--only", choices=("sqlite", "postgresql"))
    chosen = parser.parse_args()
    print(f"{platform.machine()} {platform.system()}, {os.cpu_count()} cores, Python {platform.python_version()}, "
          f"SQLite {sqlite3.sqlite_version}")  # fmt: skip
    well = True
    if chosen.only != "postgresql":
        with tempfile.TemporaryDirectory(dir=chosen.folder) as scratch:
            well &= measure("SQLite", f"sqlite:///{scratch}/ledger.sqlite", chosen.verdicts)
    if chosen.only != "sqlite":
        if POSTGRESQL in os.environ:
            with postgresql_database() as url:
                well &= measure("PostgreSQL", url, chosen.verdicts)
        else:
            print(f"\nPostgreSQL: not measured; `make services` starts it and says its {POSTGRESQL}")
    return 0 if well else 1


if __name__ == "__main__":
    sys.exit(main())
