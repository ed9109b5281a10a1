"""Composition roots of the three workers: which handler reads which topics in which group, over this installation's parts."""

import logging
import signal
import threading
import time
from collections.abc import Callable
from functools import partial

import msgspec

from detectors.errors import NotFound
from detectors.manifest import NO_CALIBRATION, DriftReference
from detectors.registry import Registry
from detectors.store import open_store
from orchestration.health_server import observed
from streams.bus import Consumer
from streams.buses import open_bus
from streams.ledger import Ledger
from streams.lines_in_force import LinesInForce
from streams.newest_first import BACKLOG_GROUP, FreshFirst
from streams.settings import Settings, device_of, weights_files
from streams.topics import BACKLOG, RECORDED
from streams.worker import Handler, Worker

SCORER_BATCH = 4
WATCHER_BATCH = 64
RECORDER_BATCH = 128
NEWEST_FIRST = "newest-first"

Ready = Callable[[], None]

_log = logging.getLogger(__name__)


def score(settings: Settings, stop: threading.Event) -> None:
    """Judge images until told to stop."""
    # Imported here to keep torch out of the other workers.
    from detectors.extractors import ExtractorCache
    from streams.scoring import ScoreHandler
    from streams.serving import ServingModels

    store = open_store(settings.store)
    in_force = LinesInForce(settings.home, _log.warning)
    lines = in_force.lines
    extractors = ExtractorCache(weights=weights_files(lines), device=device_of(lines))
    models = ServingModels(Registry(store), extractors, now=time.time, budget_bytes=settings.model_memory)
    aside = any(config.backlog == NEWEST_FIRST for config in lines.values())
    handler = ScoreHandler(
        store,
        models,
        now=time.time,
        deadline_ms=lambda line: in_force.of(line).deadline_ms,
        # What a scorer that does not read the backlog put there would lie until another one starts.
        newest_first=lambda line: aside and in_force.of(line).backlog == NEWEST_FIRST,
        shadow_share=lambda line: in_force.of(line).shadow_share,
        full_batch=SCORER_BATCH,
    )
    try:
        _work(settings, stop, handler, name="scorer", topics=("images",), batch=SCORER_BATCH, aside=aside)
    finally:
        handler.close()


def watch(settings: Settings, stop: threading.Event) -> None:
    """Watch verdicts for drift, open incidents and ask for models until told to stop."""
    # Imported here because river takes seconds and only this worker needs it.
    from streams.watching import TOPICS as WATCHED
    from streams.watching import WatchHandler, recorded_in

    ledger = Ledger.open(settings.ledger)
    registry = Registry(open_store(settings.store))
    handler = WatchHandler(
        partial(drift_reference, registry),
        LinesInForce(settings.home, _log.warning).of,
        time.time,
        history=ledger,
        recorded=recorded_in(ledger),
        calibrations=partial(drift_calibration, registry),
    )
    _work(settings, stop, handler, name="watcher", topics=WATCHED, batch=WATCHER_BATCH)


def record(settings: Settings, stop: threading.Event) -> None:
    """Write everything into the ledger until told to stop."""
    from streams.configuration_audit import ConfigurationAudit
    from streams.recording import RecordHandler

    ledger = Ledger.open(settings.ledger)
    handler = RecordHandler(ledger, time.time, beside=ConfigurationAudit(settings.home, ledger).look)
    _work(settings, stop, handler, name="recorder", topics=RECORDED, batch=RECORDER_BATCH)


WORKERS: dict[str, Callable[[Settings, threading.Event], None]] = {"score": score, "watch": watch, "record": record}


def run_worker(name: str, settings: Settings) -> None:
    """Run a worker until SIGTERM or SIGINT; the batch in hand is finished and committed."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    stop = threading.Event()
    stop_on_signals(stop)
    WORKERS[name](settings, stop)


def stop_on_signals(stop: threading.Event) -> None:
    """Let SIGTERM and Ctrl-C set `stop`, so that what is in hand is finished."""
    for each in (signal.SIGTERM, signal.SIGINT):
        signal.signal(each, lambda *_: stop.set())


def _work(
    settings: Settings,
    stop: threading.Event,
    handler: Handler,
    *,
    name: str,
    topics: tuple[str, ...],
    batch: int,
    aside: bool = False,
) -> None:
    """Run a handler until told to stop; `aside`: it reads the backlog too, as any scorer does while something is left there."""
    bus = open_bus(settings.bus)
    waits = partial(bus.lag, BACKLOG_GROUP, (BACKLOG,))
    aside = aside or (name == "scorer" and waits() > 0)
    with observed(name, settings.health, lambda: bus.lag(name, topics) + (waits() if aside else 0)) as observers:
        consumer: Consumer = bus.consumer(name, topics)
        worker = Worker(
            FreshFirst(consumer, bus.consumer(BACKLOG_GROUP, (BACKLOG,))) if aside else consumer,
            bus.producer(),
            handler,
            source=f"/driftline/{name}",
            max_records=batch,
            observers=observers,
        )
        worker.run(stop)


def drift_reference(registry: Registry, line: str, version: int) -> DriftReference | None:
    """What a version of a line is watched against; None where the version is gone or has none."""
    try:
        return registry.manifest(line, version).reference
    except NotFound:
        return None


def drift_calibration(registry: Registry, line: str, version: int) -> msgspec.Raw:
    """The calibration stored with a version, as it stands in its manifest."""
    try:
        return registry.manifest(line, version).calibration
    except NotFound:
        return NO_CALIBRATION
