"""The bus behind a URL: the embedded log or Kafka; the same promises from both (`streams.bus`)."""

from pathlib import Path

from detectors.errors import InvalidInput
from streams.bus import Bus
from streams.kafka_address import SCHEME, KafkaAddress
from streams.local import LocalBus


def open_bus(url: str) -> Bus:
    """`sqlite:///relative.sqlite`, `sqlite:////absolute.sqlite`, or `kafka://host:9092,host:9092` (`streams.kafka_address`).

    Raises InvalidInput for any other.

    >>> open_bus("redis://host")
    Traceback (most recent call last):
    detectors.errors.InvalidInput: 'redis:' is no bus; use sqlite:///PATH or kafka://HOST:PORT
    """
    scheme, _, path = url.partition(":///")
    if scheme == "sqlite" and path:
        return LocalBus(Path(path))
    if url.startswith(SCHEME):
        # Imported here because most installations have no Kafka and every command starts with this module.
        from streams.kafka import KafkaBus

        return KafkaBus(KafkaAddress.parse(url))
    raise InvalidInput(f"{url.partition('//')[0]!r} is no bus; use sqlite:///PATH or kafka://HOST:PORT")


def shown(url: str) -> str:
    """The URL as it may be printed.

    >>> shown("kafka://ana:secret@one:9092?tls=yes")
    'kafka://ana:***@one:9092'
    """
    return str(KafkaAddress.parse(url)) if url.startswith(SCHEME) else url
