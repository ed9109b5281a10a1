"""Real servers on this machine, without containers: `make services` builds what is missing and starts it, `make services-down`
ends it. Everything lies under `.services`: programs, data, logs, and `environment`, which tells tests where the servers are.

Uses the standard library only. Ports are free ones, of the loopback alone; keys are drawn once for this folder.
"""

import os
import secrets
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

HOME = Path(__file__).resolve().parents[1] / ".services"
ENVIRONMENT = HOME / "environment"
PATIENCE_S = 60.0
USER, PASSWORD = "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"


@dataclass(frozen=True)
class Server:
    """One program: how Go builds it, and how it is started on a port with a folder for its data."""

    name: str
    package: str
    arguments: Callable[[str, Path], list[str]]
    environ: Callable[[Mapping[str, str]], dict[str, str]]

    @property
    def program(self) -> Path:
        """Where it lies once it is built."""
        return HOME / "bin" / self.name

    def file(self, kind: str) -> Path:
        """Its log, pid or port."""
        return HOME / f"{self.name}.{kind}"


S3_SERVERS = (
    Server(
        "versitygw",
        "github.com/versity/versitygw/cmd/versitygw@v1.8.0",
        lambda address, data: ["--port", address, "posix", str(data)],
        lambda keys: {"ROOT_ACCESS_KEY": keys[USER], "ROOT_SECRET_KEY": keys[PASSWORD]},
    ),
    Server(
        "minio",
        "github.com/minio/minio@v0.0.0-20260212201848-7aac2a2c5b7c",
        lambda address, data: ["server", str(data), "--address", address],
        lambda keys: {"MINIO_ROOT_USER": keys[USER], "MINIO_ROOT_PASSWORD": keys[PASSWORD], "MINIO_BROWSER": "off"},
    ),
)


def main(command: str) -> int:
    """`up` or `down`; the exit status."""
    if command == "down":
        for server in S3_SERVERS:
            stop(server)
        ENVIRONMENT.unlink(missing_ok=True)
        return 0
    if shutil.which("go") is None and not all(server.program.exists() for server in S3_SERVERS):
        print(
            "services cannot be built: there is no Go; install it from https://go.dev/dl (1.26 was used)",
            file=sys.stderr,
        )
        return 2
    try:
        up()
    except (subprocess.CalledProcessError, TimeoutError) as error:
        print(f"services cannot be started: {error}", file=sys.stderr)
        return 1
    print(f"tests find them by themselves (`make test`); others: . {ENVIRONMENT}")
    return 0


def up() -> None:
    """Everything built, started and answering; the environment written."""
    (HOME / "bin").mkdir(parents=True, exist_ok=True)
    keys = _keys()
    for server in S3_SERVERS:
        build(server)
    endpoints = {server.name: f"http://127.0.0.1:{start(server, keys)}" for server in S3_SERVERS}
    told = {**keys, "DRIFTLINE_TEST_S3": " ".join(f"{name}={endpoint}" for name, endpoint in endpoints.items())}
    _write_secret(ENVIRONMENT, "".join(f"export {name}={shlex.quote(value)}\n" for name, value in told.items()))
    for name, endpoint in endpoints.items():
        print(f"{name}: {endpoint}")


def build(server: Server) -> None:
    """Its program, made by Go where it is not there."""
    if server.program.exists():
        return
    print(f"building {server.name} (a few minutes, once) ...", flush=True)
    environ = {**os.environ, "GOBIN": str(HOME / "bin"), "CGO_ENABLED": "0"}
    subprocess.run(["go", "install", server.package], env=environ, check=True, stdout=sys.stderr)


def start(server: Server, keys: Mapping[str, str]) -> int:
    """Its port, once it answers; what runs already is left alone."""
    if running(server) is not None and server.file("port").exists():
        return _answering(server, lambda: running(server) is not None, int(server.file("port").read_text()))
    port = _free_port()
    data = HOME / "data" / server.name
    data.mkdir(parents=True, exist_ok=True)
    with server.file("log").open("ab") as log:
        process = subprocess.Popen(
            [server.program, *server.arguments(f"127.0.0.1:{port}", data)],
            env={**os.environ, **server.environ(keys)},
            stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True, cwd=HOME,
        )  # fmt: skip
    server.file("pid").write_text(str(process.pid))
    server.file("port").write_text(str(port))
    return _answering(server, lambda: process.poll() is None, port)


def stop(server: Server) -> None:
    """End it, first with a request, after ten seconds without."""
    pid = running(server)
    for number in (signal.SIGTERM, signal.SIGKILL):
        give_up = time.monotonic() + 10
        if running(server) is not None and pid is not None:
            os.kill(pid, number)
        while running(server) is not None and time.monotonic() < give_up:
            time.sleep(0.05)
    server.file("pid").unlink(missing_ok=True)
    server.file("port").unlink(missing_ok=True)


def running(server: Server) -> int | None:
    """Its process, if it is ours and alive."""
    try:
        pid = int(server.file("pid").read_text())
        command = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except (OSError, ValueError):
        return None
    return pid if command[0] == os.fsencode(server.program) else None


def _answering(server: Server, alive: Callable[[], bool], port: int) -> int:
    give_up = time.monotonic() + PATIENCE_S
    while alive() and time.monotonic() < give_up:
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=2).close()
            return port
        except urllib.error.HTTPError:
            return port  # it asks who we are: it answers
        except OSError:
            time.sleep(0.1)
    raise TimeoutError(f"{server.name} does not answer on port {port}; see {server.file('log')}")


def _keys() -> dict[str, str]:
    """The keys of this folder's servers, drawn once."""
    kept = HOME / "keys"
    if not kept.exists():
        _write_secret(kept, f"{secrets.token_hex(8)} {secrets.token_hex(20)}")
    user, password = kept.read_text().split()
    return {USER: user, PASSWORD: password}


def _write_secret(path: Path, text: str) -> None:
    path.unlink(missing_ok=True)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(text)


def _free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


if __name__ == "__main__":
    if sys.argv[1:] not in (["up"], ["down"]):
        sys.exit("write: services.py up, or services.py down")
    sys.exit(main(sys.argv[1]))
