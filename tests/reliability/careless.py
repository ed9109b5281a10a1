"""A scorer that commits before it has delivered, and dies in between: what the checker must not let pass.

`python -m tests.reliability.careless` runs it on the installation that the environment names.
"""

import os
import signal
import threading
import time

from detectors.extractors import ExtractorCache
from detectors.registry import Registry
from detectors.store import open_store
from streams.buses import open_bus
from streams.scoring import ScoreHandler
from streams.serving import ServingModels
from streams.settings import Settings
from streams.worker import POLL_TIMEOUT_S, Worker

FATAL_BATCH = 6


class CarelessWorker(Worker):
    """Commits first, as a worker does that trusts its own next line."""

    _batches = 0

    def step(self) -> int:
        records = self._consumer.poll(max_records=4, timeout_s=POLL_TIMEOUT_S)
        if not records:
            return 0
        effects = self._outcome(records)
        self._consumer.commit({(record.topic, record.partition): record.offset + 1 for record in records})
        self._batches += 1
        if self._batches == FATAL_BATCH:
            os.kill(os.getpid(), signal.SIGKILL)
        self._deliver(effects)
        return len(records)


def main() -> None:
    """Score until killed."""
    settings = Settings.from_environ(os.environ)
    store, bus = open_store(settings.store), open_bus(settings.bus)
    handler = ScoreHandler(store, ServingModels(Registry(store), ExtractorCache(), now=time.time), now=time.time)
    worker = CarelessWorker(bus.consumer("scorer", ["images"]), bus.producer(), handler, source="/test/careless")
    worker.run(threading.Event())


if __name__ == "__main__":
    main()
