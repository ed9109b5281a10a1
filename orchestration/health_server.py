"""A worker's HTTP endpoint: `/healthz` (200 while it is well, 503 with the reason while it is not) and `/metrics` for Prometheus."""

import socket
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from socketserver import ThreadingMixIn
from typing import TYPE_CHECKING
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer

import msgspec
from prometheus_client import make_wsgi_app

from detectors.errors import InvalidInput
from orchestration.worker_metrics import WorkerMetrics
from streams.health import Health, Vitals
from streams.worker import Observer

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

CLIENT_PATIENCE_S = 10.0


@contextmanager
def observed(worker: str, address: str | None, lag: Callable[[], int]) -> Iterator[Sequence[Observer]]:
    """Observers for a worker of that name whose health is served at `address` (HOST:PORT) meanwhile; none where it is None."""
    if address is None:
        yield ()
        return
    vitals = Vitals(lag)
    metrics = WorkerMetrics(worker, vitals.health)
    with serving(application(vitals.health, metrics), address):
        yield vitals.hear, metrics.hear


def application(health: Callable[[], Health], metrics: WorkerMetrics) -> "WSGIApplication":
    """What answers: health, metrics, and 404 for the rest."""
    metrics_app: WSGIApplication = make_wsgi_app(metrics.registry)

    def answer(environ: "WSGIEnvironment", start: "StartResponse") -> Iterable[bytes]:
        match environ["PATH_INFO"]:
            case "/metrics":
                return metrics_app(environ, start)
            case "/healthz":
                found = health()
                status = "200 OK" if found.well else "503 Service Unavailable"
                start(status, [("Content-Type", "application/json"), ("Cache-Control", "no-store")])
                return [msgspec.json.encode(found), b"\n"]
        start("404 Not Found", [("Content-Type", "text/plain")])
        return [b"here are /healthz and /metrics\n"]

    return answer


@contextmanager
def serving(app: "WSGIApplication", address: str) -> Iterator[int]:
    """The port on which `app` is served, in threads of its own; raises InvalidInput where nobody may listen at `address`."""
    host, port = parsed(address)
    try:
        server = (_Server6 if ":" in host else _Server)((host, port), _Quiet)
    except (OSError, OverflowError) as error:
        raise InvalidInput(f"nobody can listen on {address}: {error}; choose another HOST:PORT") from error
    server.set_app(app)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.1}, daemon=True, name="health")
    thread.start()
    try:
        yield int(server.server_address[1])
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def parsed(address: str) -> tuple[str, int]:
    """Host and port; raises InvalidInput for anything else.

    >>> parsed("127.0.0.1:9100"), parsed("[::1]:9100")
    (('127.0.0.1', 9100), ('::1', 9100))
    """
    host, _, port = address.rpartition(":")
    if not host or not port.isascii() or not port.isdigit():
        raise InvalidInput(f"{address!r} is no HOST:PORT; write 127.0.0.1:9100, for instance")
    return host.removeprefix("[").removesuffix("]"), int(port)


class _Server(ThreadingMixIn, WSGIServer):
    """A thread a request, so that a slow client holds up no other."""

    daemon_threads = True


class _Server6(_Server):
    address_family = socket.AF_INET6


class _Quiet(WSGIRequestHandler):
    """Does not log requests, and gives up on a client that says nothing."""

    timeout = CLIENT_PATIENCE_S

    def log_message(self, format: str, *args: object) -> None:
        """Nothing."""
