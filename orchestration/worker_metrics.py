"""A worker's figures for Prometheus: counted when they are committed, so that what comes again after a crash counts once.

The names are listed in docs/deployment.md. The only home of prometheus_client's metrics.
"""

import time
from collections.abc import Callable, Iterable

from prometheus_client import CollectorRegistry, Counter, Histogram, ProcessCollector
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from streams.health import Health
from streams.messages import Message, Verdict
from streams.worker import Committed, Handed, Turn

BATCH_BUCKETS_S = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
LATENCY_BUCKETS_S = (0.05, 0.1, 0.2, 0.35, 0.5, 0.75, 1, 1.5, 2, 3, 5, 10, 30, 60, 300, 3600)


class WorkerMetrics:
    """An observer that counts what one worker (`scorer`, `watcher`, `recorder`) has committed, in a registry of its own.

    `health` is asked whenever the metrics are read.
    """

    def __init__(
        self, worker: str, health: Callable[[], Health], *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.registry = CollectorRegistry()
        self._worker = worker
        self._clock = clock
        self._handed_at = clock()
        self._records = self._counter("driftline_records_committed", "Messages dealt with and committed.")
        self._dead = self._counter("driftline_dead_letters", "Messages given up, of those committed.")
        self._made = self._counter("driftline_messages", "Messages sent, by type and line.", "type", "line")
        self._flagged = self._counter("driftline_flagged", "Verdicts that flagged the image.", "line")
        self._overdue = self._counter("driftline_overdue", "Verdicts after their line's deadline.", "line")
        self._batch = self._histogram(
            "driftline_batch_seconds", "From records in hand to their commit.", BATCH_BUCKETS_S
        )
        self._latency = self._histogram(
            "driftline_verdict_latency_seconds", "From camera to verdict.", LATENCY_BUCKETS_S, "line", "late"
        )
        for each in (self._records, self._dead, self._batch):
            each.labels(worker)  # there from the start, at 0
        self.registry.register(_AtReading(worker, health))
        ProcessCollector(registry=self.registry)

    def hear(self, turn: Turn) -> None:
        """Count a worker's turn; called in the worker's thread."""
        match turn:
            case Handed():
                self._handed_at = self._clock()
            case Committed(records, effects):
                self._batch.labels(self._worker).observe(max(0.0, self._clock() - self._handed_at))
                self._records.labels(self._worker).inc(records)
                self._dead.labels(self._worker).inc(len(effects.dead))
                for message in effects.messages:
                    self._count(message)

    def _count(self, message: Message) -> None:
        self._made.labels(self._worker, type(message).__name__, message.line).inc()
        if isinstance(message, Verdict):
            self._flagged.labels(self._worker, message.line).inc(int(message.flagged))
            self._overdue.labels(self._worker, message.line).inc(int(message.overdue))
            late = "yes" if message.late else "no"
            self._latency.labels(self._worker, message.line, late).observe(message.latency_ms / 1000)

    def _counter(self, name: str, words: str, *labels: str) -> Counter:
        return Counter(name, words, ("worker", *labels), registry=self.registry)

    def _histogram(self, name: str, words: str, buckets: tuple[float, ...], *labels: str) -> Histogram:
        return Histogram(name, words, ("worker", *labels), buckets=buckets, registry=self.registry)


class _AtReading(Collector):
    """What is true at the moment of reading; what is unknown is not there."""

    def __init__(self, worker: str, health: Callable[[], Health]) -> None:
        self._worker = worker
        self._health = health

    def collect(self) -> Iterable[Metric]:
        """Called whenever the metrics are read."""
        health = self._health()
        yield self._gauge("driftline_well", "1 while the worker is well (/healthz says why it is not).", health.well)
        yield self._gauge("driftline_waiting", "1 while it waits for something that is away.", bool(health.waiting_for))
        yield self._gauge("driftline_lag", "Messages its group has not committed.", health.lag)
        yield self._gauge("driftline_seconds_since_commit", "Since the last commit.", health.since_commit_s)

    def _gauge(self, name: str, words: str, value: float | None) -> Metric:
        gauge = GaugeMetricFamily(name, words, labels=("worker",))
        if value is not None:
            gauge.add_metric((self._worker,), float(value))
        return gauge
