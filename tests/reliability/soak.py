"""Every fault on real servers, one after the other, and the table of what became of the images: `make soak`.

Needs `make services`. `--deaths N` and `--outage S` say how often workers die and how long servers are gone, `--only WORDS` which faults.
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
from tests.reliability.clock import WorkersClock
from tests.reliability.disks import may_mount, small_disks
from tests.reliability.faults import ON_SMALL_DISKS, all_faults
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


def run(home: Path, *, deaths: int, outage_s: float, tell: Callable[[str], None], only: str = "") -> list[Tally]:
    """Every fault whose name holds `only`, once; the tallies in order. Where nothing may be mounted no disk is full, and that is told."""
    tallies = []
    wanted = tuple(name for name in ON_SMALL_DISKS if only in f"disk full under {name}")
    roomy = wanted if may_mount() else ()
    if wanted and not roomy:
        tell("disk full: left out; it takes root and the right to mount a tmpfs")
    with small_disks(roomy) as disks, real_installation(home) as (settings, proxy):
        plant = Plant.build(settings)
        workers = Workers(settings, worker_commands(scorers=2, program=WorkersClock(home).program))
        workers.start()
        try:
            faults = all_faults(settings, workers, proxy, disks, deaths=deaths, outage_s=outage_s)
            for name in (each for each in faults if only in each):
                tallies.append(plant.episode(name, faults[name], workers, poison=name.startswith("poison")))
                tell(table_of(tallies[-1:]).splitlines()[-1])
        finally:
            workers.stop()
    return tallies


def main() -> int:
    """Print the table; 1 if anything was lost or doubled."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--deaths", type=int, default=1000)
    options.add_argument("--outage", type=float, default=60.0, metavar="SECONDS")
    options.add_argument("--only", default="", metavar="WORDS")
    asked = options.parse_args()
    with tempfile.TemporaryDirectory() as home:
        tallies = run(
            Path(home),
            deaths=asked.deaths,
            outage_s=asked.outage,
            tell=lambda line: print(line, flush=True),  # noqa: T201
            only=asked.only,
        )
    print(table_of(tallies), flush=True)  # noqa: T201
    return 0 if all(each.kept for each in tallies) else 1


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    sys.exit(main())
