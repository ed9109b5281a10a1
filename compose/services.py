"""Real servers on this machine, without containers: `make services` builds what is missing and starts it, `make services-down`
ends it. Everything lies under `.services`: programs, data, logs, and `environment`, which tells tests where the servers are.

`services.py stop NAME...` ends single servers and `start NAME...` brings them back where they were, for tests of outages; `folder NAME...`
says where their data lie.
Uses the standard library only. Ports are free ones, of the loopback alone; keys are drawn once for this folder.
"""

import hashlib
import os
import secrets
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from kafka_cluster import BROKERS, JAVA, Cluster
from ports import free_ports

HOME = Path(__file__).resolve().parents[1] / ".services"
ENVIRONMENT = HOME / "environment"
PATIENCE_S = 60.0
USER, PASSWORD = "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"
DATABASE_USER = "driftline"


@dataclass(frozen=True)
class Server:
    """One program, and how it is started on a loopback port with a folder for its data.

    `package`: what Go builds it from; without one `program` is installed already. `owner`: who it runs as where we are root.
    """

    name: str
    program: Path
    arguments: Callable[[int, Path], list[str]]
    package: str = ""
    environ: Callable[[Mapping[str, str]], dict[str, str]] = lambda _: {}
    owner: str | None = None
    ends_on: signal.Signals = signal.SIGTERM

    def file(self, kind: str) -> Path:
        """Its log, pid or port."""
        return HOME / f"{self.name}.{kind}"

    @property
    def port(self) -> int:
        """Where it listens, once it was launched."""
        return int(self.file("port").read_text())

    @property
    def user(self) -> str | None:
        """Whom its process belongs to, where that is not ourselves."""
        return self.owner if os.geteuid() == 0 else None


S3_SERVERS = (
    Server(
        "versitygw",
        HOME / "bin" / "versitygw",
        lambda port, data: ["--port", f"127.0.0.1:{port}", "posix", str(data)],
        package="github.com/versity/versitygw/cmd/versitygw@v1.8.0",
        environ=lambda keys: {"ROOT_ACCESS_KEY": keys[USER], "ROOT_SECRET_KEY": keys[PASSWORD]},
    ),
    Server(
        "minio",
        HOME / "bin" / "minio",
        lambda port, data: ["server", str(data), "--address", f"127.0.0.1:{port}"],
        package="github.com/minio/minio@v0.0.0-20260212201848-7aac2a2c5b7c",
        environ=lambda keys: {
            "MINIO_ROOT_USER": keys[USER], "MINIO_ROOT_PASSWORD": keys[PASSWORD], "MINIO_BROWSER": "off",
        },
    ),
)  # fmt: skip

POSTGRESQL = Server(
    "postgresql",
    max(Path("/usr/lib/postgresql").glob("*/bin/postgres"), default=Path("/usr/lib/postgresql/postgres")),
    lambda port, data: [
        "-D", str(data), "-p", str(port), "-c", "listen_addresses=127.0.0.1", "-c", "unix_socket_directories=", "-c", "max_connections=200",
    ],
    owner="postgres",
    ends_on=signal.SIGINT,  # at once, not when the last client has gone
)  # fmt: skip

KAFKA = tuple(
    Server(broker, JAVA, partial(lambda broker, _port, _data: cluster(_keys()).command(broker), broker))
    for broker in BROKERS
)

SERVERS = (*S3_SERVERS, POSTGRESQL, *KAFKA)


def main(command: str, names: Sequence[str]) -> int:
    """`up`, `down`, or `stop`, `start` and `folder` of single servers; the exit status."""
    some = [server for server in SERVERS if server.name in names]
    if command == "start":
        start(some, _keys())
        return 0
    if command == "stop":
        for server in some:
            stop(server)
        return 0
    if command == "folder":
        for server in some:
            print(data_of(server))
        return 0
    if command == "down":
        for server in SERVERS:
            stop(server)
            server.file("port").unlink(missing_ok=True)
        ENVIRONMENT.unlink(missing_ok=True)
        return 0
    if (words := lacking()) is not None:
        print(f"services cannot be started: {words}", file=sys.stderr)
        return 2
    try:
        up()
    except (subprocess.CalledProcessError, TimeoutError) as error:
        print(f"services cannot be started: {error}", file=sys.stderr)
        return 1
    print(f"tests find them by themselves (`make test`); others: . {ENVIRONMENT}")
    return 0


def lacking() -> str | None:
    """What this machine lacks, with the cure; None if nothing."""
    if shutil.which("go") is None and not all(server.program.exists() for server in S3_SERVERS):
        return "there is no Go; install it from https://go.dev/dl (1.26 was used)"
    if not POSTGRESQL.program.exists():
        return "there is no PostgreSQL; on Debian and Ubuntu run `apt-get install postgresql`"
    for tool, kit in (("java", "openjdk-17-jre-headless"), ("keytool", "openjdk-17-jre-headless"), ("mvn", "maven")):
        if shutil.which(tool) is None:
            return f"there is no {tool} (for Kafka); on Debian and Ubuntu run `apt-get install {kit}`"
    return None


def up() -> None:
    """Everything built, started and answering; the environment written."""
    (HOME / "bin").mkdir(parents=True, exist_ok=True)
    keys = _keys()
    for server in S3_SERVERS:
        build(server)
    make_database(keys)
    kafka = make_kafka(keys)
    ports = start(SERVERS, keys)
    told = {
        **keys,
        "DRIFTLINE_TEST_S3": " ".join(f"{server.name}=http://127.0.0.1:{ports[server.name]}" for server in S3_SERVERS),
        "DRIFTLINE_TEST_KAFKA": f"kafka://{kafka.servers(lambda ports: ports.clear)}",
        "DRIFTLINE_TEST_KAFKA_SECURE": f"kafka://{kafka.servers(lambda ports: ports.secure)}?tls=yes&ca={kafka.certificate}",
        "DRIFTLINE_TEST_POSTGRESQL": f"postgresql+psycopg://{DATABASE_USER}:{keys[PASSWORD]}@127.0.0.1:{ports['postgresql']}/postgres",
    }
    _write_secret(ENVIRONMENT, "".join(f"export {name}={shlex.quote(value)}\n" for name, value in told.items()))
    for name, port in ports.items():
        print(f"{name}: 127.0.0.1:{port}")


def data_of(server: Server) -> Path:
    """The folder of its data: below ours, unless its own user may not go there (a clone in somebody's closed home)."""
    ours = HOME / "data" / server.name
    if server.user is None or all(folder.stat().st_mode & 0o001 for folder in HOME.parents):
        return ours
    return Path("/var/tmp") / f"driftline-{hashlib.sha256(bytes(HOME)).hexdigest()[:12]}" / server.name


def cluster(keys: Mapping[str, str]) -> Cluster:
    """The Kafka brokers of this folder."""
    return Cluster(HOME / "kafka", keys[USER], keys[PASSWORD])


def make_kafka(keys: Mapping[str, str]) -> Cluster:
    """Kafka's jars, certificate and storage, where they are not there; ports that stay while one of its brokers runs."""
    kafka = cluster(keys)
    kafka.prepare(lambda broker: HOME / "data" / broker, running=any(running(server) is not None for server in KAFKA))
    for server in KAFKA:
        server.file("port").write_text(str(kafka.ports()[server.name].clear))
    return kafka


def make_database(keys: Mapping[str, str]) -> None:
    """PostgreSQL's cluster, where there is none yet; its one user logs in with our secret."""
    data = data_of(POSTGRESQL)
    if (data / "PG_VERSION").exists():
        return
    data.mkdir(parents=True, exist_ok=True)
    secret = data.with_name("postgresql.secret")
    _write_secret(secret, keys[PASSWORD])
    if POSTGRESQL.user is not None:
        shutil.chown(data, POSTGRESQL.user)
        shutil.chown(secret, POSTGRESQL.user)
    command: list[str | Path] = [
        POSTGRESQL.program.with_name("initdb"), "-D", data, "-U", DATABASE_USER, "-A", "scram-sha-256", "-E", "UTF8",
        "--locale=C.UTF-8", f"--pwfile={secret}",
    ]  # fmt: skip
    try:
        subprocess.run(command, user=POSTGRESQL.user, cwd="/", check=True, stdout=subprocess.DEVNULL)
    finally:
        secret.unlink()


def build(server: Server) -> None:
    """Its program, made by Go where it is not there."""
    if server.program.exists():
        return
    print(f"building {server.name} (a few minutes, once) ...", flush=True)
    environ = {**os.environ, "GOBIN": str(HOME / "bin"), "CGO_ENABLED": "0"}
    subprocess.run(["go", "install", server.package], env=environ, check=True, stdout=sys.stderr)


def start(servers: Sequence[Server], keys: Mapping[str, str]) -> dict[str, int]:
    """The port of each, once all answer (brokers wait for one another). What runs already is left alone."""
    for server in servers:
        if running(server) is None:
            launch(server, keys)
    return {server.name: _answering(server) for server in servers}


def launch(server: Server, keys: Mapping[str, str]) -> None:
    """Its process, on the port it had if it has been there before."""
    if not server.file("port").exists():
        server.file("port").write_text(str(free_ports(1)[0]))
    data = data_of(server)
    data.mkdir(parents=True, exist_ok=True)
    with server.file("log").open("ab") as log:
        process = subprocess.Popen(
            [server.program, *server.arguments(server.port, data)],
            env={**os.environ, **server.environ(keys)},
            stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True, user=server.user, cwd="/",
        )  # fmt: skip
    server.file("pid").write_text(str(process.pid))
    while running(server) is None and process.poll() is None:  # for a moment a process has no command line yet
        time.sleep(0.01)


def stop(server: Server) -> None:
    """End it, first with a request, after ten seconds without."""
    pid = running(server)
    for number in (server.ends_on, signal.SIGKILL):
        give_up = time.monotonic() + 10
        if running(server) is not None and pid is not None:
            os.kill(pid, number)
        while running(server) is not None and time.monotonic() < give_up:
            time.sleep(0.05)
    server.file("pid").unlink(missing_ok=True)


def running(server: Server) -> int | None:
    """Its process, if it is ours and alive."""
    try:
        pid = int(server.file("pid").read_text())
        command = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except (OSError, ValueError):
        return None
    return pid if command[0] == os.fsencode(server.program) else None


def _answering(server: Server) -> int:
    """Its port, once it takes connections."""
    give_up = time.monotonic() + PATIENCE_S
    while running(server) is not None and time.monotonic() < give_up:
        with socket.socket() as door:
            door.settimeout(2)
            if door.connect_ex(("127.0.0.1", server.port)) == 0:
                return server.port
        time.sleep(0.1)
    raise TimeoutError(f"{server.name} does not answer on port {server.port}; see {server.file('log')}")


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


if __name__ == "__main__":
    known = [server.name for server in SERVERS]
    if not (
        sys.argv[1:] in (["up"], ["down"])
        or (sys.argv[1:2] in (["stop"], ["start"], ["folder"]) and set(sys.argv[2:]) <= set(known))
    ):
        sys.exit(f"write: services.py up, down, or stop, start or folder NAME...; names: {', '.join(known)}")
    sys.exit(main(sys.argv[1], sys.argv[2:]))
