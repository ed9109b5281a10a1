"""Three Kafka brokers (KRaft, broker and controller in one) on this machine: their jars, certificate, properties and storage.

Each broker listens on the loopback three times: in the clear, with TLS and passwords (SASL PLAIN and SCRAM), and for the
other controllers. `services.py` starts and ends them.
"""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from ports import free_ports

BROKERS = ("kafka-1", "kafka-2", "kafka-3")
CLUSTER = "ZHJpZnRsaW5lLXRlc3RzMQ"
POM = Path(__file__).with_name("kafka-jars.xml")
JAVA = Path(shutil.which("java") or "/usr/bin/java")
PROPERTIES = """\
process.roles=broker,controller
node.id={number}
controller.quorum.voters={voters}
controller.listener.names=CONTROLLER
inter.broker.listener.name=CLEAR
listeners=CLEAR://127.0.0.1:{clear},SECURE://127.0.0.1:{secure},CONTROLLER://127.0.0.1:{controller}
advertised.listeners=CLEAR://127.0.0.1:{clear},SECURE://127.0.0.1:{secure}
listener.security.protocol.map=CLEAR:PLAINTEXT,SECURE:SASL_SSL,CONTROLLER:PLAINTEXT
ssl.keystore.type=PKCS12
ssl.keystore.location={keystore}
ssl.keystore.password={password}
sasl.enabled.mechanisms=PLAIN,SCRAM-SHA-256,SCRAM-SHA-512
listener.name.secure.plain.sasl.jaas.config=org.apache.kafka.common.security.plain.PlainLoginModule required user_{user}="{password}";
listener.name.secure.scram-sha-256.sasl.jaas.config=org.apache.kafka.common.security.scram.ScramLoginModule required;
listener.name.secure.scram-sha-512.sasl.jaas.config=org.apache.kafka.common.security.scram.ScramLoginModule required;
log.dirs={data}
auto.create.topics.enable=false
default.replication.factor=3
offsets.topic.replication.factor=3
offsets.topic.num.partitions=6
transaction.state.log.replication.factor=3
group.min.session.timeout.ms=500
group.initial.rebalance.delay.ms=0
broker.session.timeout.ms=3000
broker.heartbeat.interval.ms=500
num.network.threads=2
num.io.threads=2
"""


@dataclass(frozen=True)
class Ports:
    """Where a broker listens on the loopback."""

    clear: int
    secure: int
    controller: int


@dataclass(frozen=True)
class Cluster:
    """The brokers whose jars, certificate and properties lie in `folder`; one user, `user` with `password`."""

    folder: Path
    user: str
    password: str

    @property
    def certificate(self) -> Path:
        """What clients trust: the brokers' own certificate, PEM."""
        return self.folder / "certificate.pem"

    def command(self, broker: str) -> list[str]:
        """What runs a broker."""
        heap = ("-Xms128m", "-Xmx320m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1")
        return [*heap, "-cp", f"{self.folder}/jars/*", "kafka.Kafka", str(self._properties(broker))]

    def ports(self) -> dict[str, Ports]:
        """Where each broker listens; drawn by `prepare`."""
        read = json.loads((self.folder / "ports.json").read_text())
        return {broker: Ports(**ports) for broker, ports in read.items()}

    def servers(self, kind: Callable[[Ports], int]) -> str:
        """`host:port` of every broker, by commas."""
        return ",".join(f"127.0.0.1:{kind(ports)}" for ports in self.ports().values())

    def prepare(self, data_of: Callable[[str], Path], *, running: bool) -> None:
        """Everything that the brokers need to start; their ports are drawn anew unless one of them is `running`."""
        self.folder.mkdir(parents=True, exist_ok=True)
        self._fetch_jars()
        self._make_certificate()
        if not running:
            (self.folder / "ports.json").write_text(json.dumps(_free_ports()))
        for number, broker in enumerate(BROKERS, 1):
            self._describe(broker, number, data_of(broker))
            if not (data_of(broker) / "meta.properties").exists():
                self._format(broker)

    def _fetch_jars(self) -> None:
        if (self.folder / "jars").exists():
            return
        print("fetching Kafka (once) ...", flush=True)
        fresh = self.folder / "jars.new"
        goal = ("dependency:copy-dependencies", "-DincludeScope=runtime", f"-DoutputDirectory={fresh}")
        subprocess.run(["mvn", "-q", "-B", "-f", POM, *goal], check=True, stdout=sys.stderr, stdin=subprocess.DEVNULL)
        fresh.rename(self.folder / "jars")

    def _make_certificate(self) -> None:
        if self.certificate.exists():
            return
        store = (
            f"-keystore {self.folder / 'keystore.p12'} -storetype PKCS12 -storepass:env STOREPASS -alias kafka".split()
        )
        names = ("-dname", "CN=driftline tests", "-ext", "san=ip:127.0.0.1,dns:localhost")
        pair = ("-genkeypair", *store, "-keyalg", "EC", "-validity", "3650", *names)
        environ = {**os.environ, "STOREPASS": self.password}
        for arguments in (pair, ("-exportcert", *store, "-rfc", "-file", str(self.certificate))):
            subprocess.run(["keytool", *arguments], check=True, env=environ, capture_output=True)

    def _describe(self, broker: str, number: int, data: Path) -> None:
        ports = self.ports()
        voters = ",".join(f"{index}@127.0.0.1:{ports[name].controller}" for index, name in enumerate(BROKERS, 1))
        text = PROPERTIES.format(
            number=number, voters=voters, data=data, keystore=self.folder / "keystore.p12", user=self.user,
            password=self.password, **vars(ports[broker]),
        )  # fmt: skip
        file = self._properties(broker)
        file.touch(mode=0o600)
        file.write_text(text)

    def _format(self, broker: str) -> None:
        """Storage with the user's SCRAM passwords in it."""
        users = [
            argument
            for mechanism in ("SCRAM-SHA-256", "SCRAM-SHA-512")
            for argument in ("--add-scram", f"{mechanism}=[name={self.user},password={self.password}]")
        ]
        tool = [JAVA, "-cp", f"{self.folder}/jars/*", "kafka.tools.StorageTool", "format", "-t", CLUSTER, *users]
        subprocess.run([*tool, "-c", self._properties(broker)], check=True, stdout=subprocess.DEVNULL)

    def _properties(self, broker: str) -> Path:
        return self.folder / f"{broker}.properties"


def _free_ports() -> dict[str, dict[str, int]]:
    """Three free ports for each broker, all different."""
    ports = iter(free_ports(3 * len(BROKERS)))
    return {broker: {name: next(ports) for name in ("clear", "secure", "controller")} for broker in BROKERS}
