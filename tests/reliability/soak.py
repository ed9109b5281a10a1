"""Every fault on real servers, one after the other, and the table of what became of the images: `make soak`.

Needs `make services`. `--deaths N` and `--outage S` say how often workers die and how long servers are gone.
"""

import argparse
import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

from streams.settings import Settings
from tests.reliability.checker import Plant, Tally, table_of
from tests.reliability.faults import all_faults
from tests.reliability.proxy import Proxy, proxied
from tests.reliability.workers import Workers, worker_commands
from tests.servers import kafka_bus, postgresql_database, s3_bucket


@contextmanager
def real_installation(home: Path) -> Iterator[tuple[Settings, Proxy]]:
    """Settings of a fresh installation on Kafka, S3 (through a proxy that can fail) and PostgreSQL."""
    with ExitStack() as opened:
        place, _, endpoint = s3_bucket("versitygw").partition("?endpoint=")
        address = urlsplit(endpoint)
        proxy = opened.enter_context(proxied(int(address.port or 0)))
        store = f"{place}?endpoint={urlunsplit(address._replace(netloc=f'127.0.0.1:{proxy.port}'))}"
        environ = {
            "DRIFTLINE_HOME": str(home),
            "DRIFTLINE_BUS": opened.enter_context(kafka_bus()),
            "DRIFTLINE_STORE": store,
            "DRIFTLINE_LEDGER": opened.enter_context(postgresql_database()),
        }
        yield Settings.from_environ(environ), proxy


def run(home: Path, *, deaths: int, outage_s: float, tell: Callable[[str], None]) -> list[Tally]:
    """Every fault once; the tallies in order."""
    tallies = []
    with real_installation(home) as (settings, proxy):
        plant = Plant.build(settings)
        workers = Workers(settings, worker_commands(scorers=2))
        workers.start()
        try:
            for name, inject in all_faults(settings, workers, proxy, deaths=deaths, outage_s=outage_s).items():
                tallies.append(plant.episode(name, inject, workers, poison=name.startswith("poison")))
                tell(table_of(tallies[-1:]).splitlines()[-1])
        finally:
            workers.stop()
    return tallies


def main() -> int:
    """Print the table; 1 if anything was lost or doubled."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--deaths", type=int, default=1000)
    options.add_argument("--outage", type=float, default=60.0, metavar="SECONDS")
    asked = options.parse_args()
    with tempfile.TemporaryDirectory() as home:
        tallies = run(Path(home), deaths=asked.deaths, outage_s=asked.outage, tell=lambda line: print(line, flush=True))  # noqa: T201
    print(table_of(tallies), flush=True)  # noqa: T201
    return 0 if all(each.kept for each in tallies) else 1


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    sys.exit(main())
