"""The bus on a real Kafka cluster keeps the contract, and what is its own: sessions, outages, topics, passwords, bad addresses."""

import gc
import os
import re
import shutil
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from functools import partial

import pytest
from kafka.admin import ConfigResource, ConfigResourceType

from detectors.errors import DriftlineError, InvalidInput, Unavailable
from streams.bus import Consumer
from streams.buses import open_bus
from streams.kafka import DELIVERY_S
from streams.kafka_address import KafkaAddress, with_account
from streams.kafka_client import admin_of
from streams.topics import TOPICS
from tests.servers import kafka_bus, service
from tests.streams.bus_contract import KEYS, BusContract, append, drain, positions, side_by_side, until, values_of

pytestmark = pytest.mark.filterwarnings("ignore:Exception ignored in. <s:pytest.PytestUnraisableExceptionWarning")
"""kafka-python 3.0.12 does not close the socket of a connection that was refused or whose TLS handshake failed."""


@pytest.fixture(autouse=True)
def swept() -> Iterator[None]:
    """Such sockets are found where they were left."""
    yield
    gc.collect()


@pytest.fixture
def url() -> Iterator[str]:
    """A bus of its own in the clear."""
    with kafka_bus() as made:
        yield made


@pytest.fixture
def secure_url() -> Iterator[str]:
    """A bus of its own with TLS, without the account."""
    with kafka_bus(secure=True) as made:
        yield made


def account() -> tuple[str, str]:
    """The brokers' one user."""
    return os.environ["AWS_ACCESS_KEY_ID"], os.environ["AWS_SECRET_ACCESS_KEY"]


class TestKafkaBus(BusContract):
    session_s = 2.0

    @pytest.fixture
    def url(self) -> Iterator[str]:
        with kafka_bus() as made:
            yield made


class TestSessions:
    """Who keeps partitions and who loses them."""

    def test_work_longer_than_the_session_loses_nothing(self, url: str) -> None:
        bus = open_bus(url)
        append(bus, ["a"] * len(KEYS))
        with closing(bus.consumer("group", ["images"], session_timeout_s=1.0)) as slow:
            records = drain(slow, len(KEYS))
            with closing(bus.consumer("group", ["images"], session_timeout_s=1.0)) as other:
                other.poll(max_records=1, timeout_s=0.1)
                time.sleep(3.0)  # the work: three sessions long
                slow.commit(positions(records))
        assert bus.lag("group", ["images"]) == 0

    def test_a_member_that_comes_back_under_its_name_keeps_its_partitions(self, url: str) -> None:
        append(open_bus(url), ["a"] * len(KEYS))

        def member(name: str) -> Consumer:
            return open_bus(f"{url}&member={name}").consumer("group", ["images"], session_timeout_s=6.0)

        def look(consumer: Consumer) -> None:
            consumer.poll(max_records=1, timeout_s=0.1)
            consumer.rewind()

        with closing(member("one")) as one, closing(member("two")) as two:
            side_by_side(lambda: len(one.owned) == len(two.owned) == 4, partial(look, one), partial(look, two))
            before = one.owned, two.owned
            one.close()
            with closing(member("one")) as again:
                side_by_side(lambda: len(again.owned) == 4, partial(look, again), partial(look, two))
                assert (again.owned, two.owned) == before


class TestOutages:
    """Brokers that are killed, all brokers away: nothing is lost, and it is said."""

    def test_a_killed_broker_is_not_noticed_by_what_is_sent_and_read(self, url: str) -> None:
        bus = open_bus(url)
        append(bus, ["before"] * len(KEYS))
        with closing(bus.consumer("group", ["images"])) as consumer:
            consumer.commit(positions(drain(consumer, len(KEYS))))
            with service("kafka-2", gone_by=signal.SIGKILL):
                sent = [str(number) for number in range(48)]
                persistently(partial(append, bus, sent))
                found = drain(consumer, 48)
                persistently(lambda: consumer.commit(positions(found)))
            assert set(values_of(found)) == set(sent)
        assert bus.lag("group", ["images"]) == 0

    def test_without_brokers_a_flush_says_so_keeps_the_messages_and_the_next_one_delivers(self, url: str) -> None:
        bus = open_bus(url)
        with closing(bus.producer()) as producer, closing(bus.consumer("group", ["images"])) as consumer:
            consumer.poll(max_records=1, timeout_s=1.0)
            with service("kafka-1", "kafka-2", "kafka-3", gone_by=signal.SIGKILL):
                for number in range(20):
                    producer.send("images", key=b"tiles", value=str(number).encode())
                with pytest.raises(Unavailable, match="start the brokers"):
                    producer.flush()
                with pytest.raises(Unavailable):
                    bus.lag("group", ["images"])
                assert list(consumer.poll(max_records=1, timeout_s=0.1)) == []
            persistently(producer.flush)
            values: list[str] = []
            until(
                lambda: len(values) >= 20,
                lambda: values.extend(values_of(consumer.poll(max_records=50, timeout_s=0.5))),
            )
            assert values == [str(number) for number in range(20)]

    def test_a_commit_without_brokers_is_unavailable_and_the_records_come_again(self, url: str) -> None:
        bus = open_bus(url)
        append(bus, ["a"] * len(KEYS))
        with closing(bus.consumer("group", ["images"])) as consumer:
            records = drain(consumer, len(KEYS))
            with service("kafka-1", "kafka-2", "kafka-3", gone_by=signal.SIGKILL), pytest.raises(Unavailable):
                consumer.commit(positions(records))
            consumer.rewind()
            again = drain(consumer, len(KEYS))
            assert values_of(again) == ["a"] * len(KEYS)
            persistently(lambda: consumer.commit(positions(again)))


def persistently(step: Callable[[], object]) -> None:
    """Do it again while the brokers are away, as a worker would."""
    give_up = time.monotonic() + 6 * DELIVERY_S
    while True:
        try:
            step()
            return
        except DriftlineError:
            if time.monotonic() > give_up:
                raise


class TestTopics:
    """Made from the table, or checked against it."""

    def test_all_topics_of_the_table_are_made(self, url: str) -> None:
        open_bus(url).producer().close()
        address = KafkaAddress.parse(url)
        names = [address.prefix + name for name in TOPICS]
        with admin_of(address) as admin:
            admin.wait_for_topics(names)
            made = {each["name"]: each for each in admin.describe_topics(names)}
        for name, topic in TOPICS.items():
            partitions = made[address.prefix + name]["partitions"]
            assert len(partitions) == topic.partitions
            assert {len(part["replica_nodes"]) for part in partitions} == {3}

    @pytest.mark.parametrize(
        ("setting", "value", "words"),
        [
            ("max.message.bytes", "1000", "holds messages of 1000 bytes.*kafka-configs.sh.*max.message.bytes="),
            ("cleanup.policy", "compact", "compacted.*kafka-configs.sh.*cleanup.policy=delete"),
        ],
    )
    def test_a_topic_that_cannot_hold_our_messages_is_refused(
        self, url: str, setting: str, value: str, words: str
    ) -> None:
        self.change(url, setting, value)
        until(lambda: re.search(words, self.said(url)) is not None)

    def test_a_topic_that_forgets_early_is_said(self, url: str, caplog: pytest.LogCaptureFixture) -> None:
        self.change(url, "retention.ms", "1000")
        until(lambda: self.said(url) == "" and "keeps messages 1000 ms" in caplog.text)
        assert "kafka-configs.sh" in caplog.text

    def said(self, url: str) -> str:
        """Why the bus is refused now; "" if it is not. (A change comes to the brokers one after the other.)"""
        try:
            open_bus(url).producer().close()
        except InvalidInput as error:
            return str(error)
        return ""

    def change(self, url: str, setting: str, value: str) -> None:
        """Make the topics, then change a setting of the images'."""
        open_bus(url).producer().close()
        address = KafkaAddress.parse(url)
        with admin_of(address) as admin:
            admin.wait_for_topics([f"{address.prefix}images"])
            admin.alter_configs([ConfigResource(ConfigResourceType.TOPIC, f"{address.prefix}images", {setting: value})])


class TestSecurity:
    """TLS and passwords, and what is said without ever printing one."""

    @pytest.mark.parametrize("mechanism", ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"])
    def test_with_a_password(self, secure_url: str, mechanism: str) -> None:
        bus = open_bus(with_account(f"{secure_url}&sasl={mechanism}", *account()))
        append(bus, ["a"])
        with closing(bus.consumer("group", ["images"])) as consumer:
            assert values_of(drain(consumer, 1)) == ["a"]

    @pytest.mark.parametrize("mechanism", ["PLAIN", "SCRAM-SHA-512"])
    def test_with_a_wrong_password(self, secure_url: str, mechanism: str) -> None:
        said = refused(with_account(f"{secure_url}&sasl={mechanism}", account()[0], "not-the-password"))
        assert "the user or the password is wrong" in said
        assert "not-the-password" not in said

    def test_without_a_password(self, secure_url: str) -> None:
        assert "does this port want a password" in refused(secure_url)

    def test_without_knowing_who_signed(self, secure_url: str) -> None:
        assert "nobody we trust signed" in refused(with_account(f"{secure_url.partition('?')[0]}?tls=yes", *account()))

    def test_in_the_clear_where_tls_is_spoken(self, secure_url: str) -> None:
        assert "does this port want TLS" in refused(secure_url.partition("?")[0])

    def test_tls_where_it_is_not_spoken(self, url: str) -> None:
        assert "do not speak TLS on this port" in refused(f"{url}&tls=yes")

    def test_the_password_is_never_printed(self) -> None:
        address = KafkaAddress.parse("kafka://ana:hush@one:9092")
        assert "hush" not in f"{address} {address!r}"


def refused(url: str) -> str:
    """What is said about an address that does not work."""
    with pytest.raises((InvalidInput, Unavailable)) as caught:
        open_bus(url).producer()
    return str(caught.value)


class TestAddresses:
    """Addresses that lead nowhere."""

    def test_nobody_listens(self) -> None:
        assert "no broker answers" in refused("kafka://127.0.0.1:1")

    def test_no_such_host(self) -> None:
        assert "no such host" in refused("kafka://no-such-host.invalid:9092")

    def test_a_server_that_is_no_kafka(self) -> None:
        with babbling() as port:
            assert "is it Kafka" in refused(f"kafka://127.0.0.1:{port}")

    @pytest.mark.parametrize(
        ("url", "words"),
        [
            ("kafka://", "'' in DRIFTLINE_BUS is no broker"),
            ("kafka://host", "'host' in DRIFTLINE_BUS is no broker; write kafka://host:9092"),
            ("kafka://host:99999", "is no broker"),
            ("kafka://a:9092,,b:9092", "'' in DRIFTLINE_BUS"),
            ("kafka://a:9092?tsl=yes", "'tsl' is no option of a kafka:// URL; there are tls"),
            ("kafka://a:9092?tls=maybe", "give yes or no"),
            ("kafka://u:p@a:9092?sasl=GSSAPI", "give one of PLAIN"),
            ("kafka://a:9092?sasl=PLAIN", "no user; set DRIFTLINE_KAFKA_USER"),
            ("kafka://a:9092?tls=yes&ca=/nowhere.pem", "is no file; give a PEM file"),
            ("kafka://a:9092?prefix=a/b", "letters, digits"),
            ("kafka://a:9092?replication=0", "from 1 to 32"),
            ("kafka://a:9092?session_timeout_s=-1", "above 0"),
        ],
    )
    def test_ill_formed(self, url: str, words: str) -> None:
        with pytest.raises(InvalidInput) as caught:
            open_bus(url)
        assert words in str(caught.value)


@contextmanager
def babbling() -> Iterator[int]:
    """A server that answers everything with a line of HTTP; its port."""
    with socket.create_server(("127.0.0.1", 0)) as door:

        def answer() -> None:
            while True:
                try:
                    caller, _ = door.accept()
                except OSError:
                    return
                with caller:
                    caller.recv(1000)
                    caller.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")

        thread = threading.Thread(target=answer)
        thread.start()
        yield int(door.getsockname()[1])
        door.shutdown(socket.SHUT_RDWR)
        thread.join()


def kcat(url: str, *arguments: str | bytes, value: bytes = b"") -> bytes:
    """What kcat prints for our images topic; skips the test where there is none."""
    if shutil.which("kcat") is None:
        pytest.skip("no kcat: `apt-get install kcat` brings it")
    address = KafkaAddress.parse(url)
    command = ["kcat", "-b", ",".join(address.servers), "-t", f"{address.prefix}images", *arguments]
    return subprocess.run(command, input=value, capture_output=True, check=True, timeout=60).stdout


def test_kcat_reads_and_writes_our_topics(url: str) -> None:
    bus = open_bus(url)
    append(bus, ["ours"])
    kcat(url, "-P", "-k", "tiles", "-H", "from=kcat", value=b"theirs")
    assert set(kcat(url, "-C", "-e", "-q", "-f", "%s\n").split()) == {b"ours", b"theirs"}
    with closing(bus.consumer("group", ["images"])) as consumer:
        found = {record.value: record for record in drain(consumer, 2)}
    assert (found[b"theirs"].key, found[b"theirs"].header("from")) == (b"tiles", "kcat")


@pytest.mark.parametrize("codec", ["gzip", "snappy", "lz4", "zstd"])
def test_compressed_messages_are_read(url: str, codec: str) -> None:
    bus = open_bus(url)
    append(bus, [])
    image = b"pixels " * 100_000
    kcat(url, "-P", "-k", "tiles", "-z", codec, "-D", "\x1e", value=image)
    with closing(bus.consumer("group", ["images"])) as consumer:
        assert [record.value for record in drain(consumer, 1)] == [image]


def test_a_header_name_that_is_no_utf8_does_not_stop_the_partition(url: str) -> None:
    bus = open_bus(url)
    append(bus, [])
    kcat(url, "-P", "-k", "tiles", "-H", b"na\xffme=odd", value=b"first")
    kcat(url, "-P", "-k", "tiles", value=b"second")
    with closing(bus.consumer("group", ["images"])) as consumer:
        first, second = drain(consumer, 2)
    assert (first.value, first.headers) == (b"first", (("na\udcffme", b"odd"),))
    assert second.value == b"second"
