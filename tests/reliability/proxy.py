"""A TCP proxy that can be told to fail: in front of an S3 server it answers 503, or slowly, or not at all."""

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Literal

Mode = Literal["pass", "busy", "slow"]

SLOW_S = 2.0
_BUSY = b"HTTP/1.1 503 Slow Down\r\nContent-Type: application/xml\r\nContent-Length: 45\r\nConnection: close\r\n\r\n"
_BODY = b"<Error><Code>SlowDown</Code><n>1</n></Error>\n"


@dataclass
class Proxy:
    """Listens on `port`; `mode` holds for connections made from now on, and for what open ones send."""

    port: int
    mode: Mode = "pass"


@contextmanager
def proxied(port: int) -> Iterator[Proxy]:
    """A proxy in front of a port of the loopback."""
    with socket.create_server(("127.0.0.1", 0), backlog=64) as door:
        proxy = Proxy(int(door.getsockname()[1]))
        thread = threading.Thread(target=_serve, args=(door, port, proxy), daemon=True)
        thread.start()
        yield proxy
        door.shutdown(socket.SHUT_RDWR)
        thread.join()


def _serve(door: socket.socket, port: int, proxy: Proxy) -> None:
    while True:
        try:
            caller, _ = door.accept()
        except OSError:
            return
        threading.Thread(target=_carry, args=(caller, port, proxy), daemon=True).start()


def _carry(caller: socket.socket, port: int, proxy: Proxy) -> None:
    """One connection: what the caller sends is passed on (or refused), what the server answers comes back."""
    with caller, suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=5) as server:
        server.settimeout(None)
        threading.Thread(target=_answers, args=(server, caller), daemon=True).start()
        while data := caller.recv(1 << 16):
            if proxy.mode == "busy":
                caller.sendall(_BUSY + _BODY)
                return
            if proxy.mode == "slow":
                time.sleep(SLOW_S)
            server.sendall(data)


def _answers(server: socket.socket, caller: socket.socket) -> None:
    with suppress(OSError):
        while data := server.recv(1 << 16):
            caller.sendall(data)
    with suppress(OSError):
        caller.shutdown(socket.SHUT_RDWR)
