"""Topics on a Kafka cluster: made as `streams.topics` says where they are missing, checked where they are there."""

import logging
from collections.abc import Mapping, Sequence
from typing import Any

from kafka import KafkaAdminClient
from kafka.admin import ConfigResource, ConfigResourceType
from kafka.errors import TopicAlreadyExistsError, for_code

from detectors.errors import InvalidInput, Unavailable
from streams.kafka_address import KafkaAddress
from streams.kafka_client import admin_of
from streams.topics import TOPICS, Topic

MOST_REPLICATION = 3
ROOM_BYTES = 1 << 20
"""What key, headers and Kafka's own framing may add to a message."""

_log = logging.getLogger(__name__)


def prepare_topics(address: KafkaAddress) -> None:
    """Make the missing topics of the table and check the others.

    Raises InvalidInput for a topic that cannot hold our messages, or that we may not make, with the command that mends it.
    """
    wanted = {address.prefix + topic.name: topic for topic in TOPICS.values()}
    with admin_of(address) as admin:
        found = {each["name"]: each for each in admin.describe_topics(list(wanted))}
        missing = {name: topic for name, topic in wanted.items() if _is_missing(found[name])}
        if missing:
            _make(admin, address, missing)
        _check(admin, address, [name for name in wanted if name not in missing])


def settings_of(topic: Topic, *, replication: int) -> dict[str, str]:
    """A topic's own settings on Kafka.

    >>> settings_of(TOPICS["images"], replication=3)["min.insync.replicas"]
    '2'
    """
    return {
        "cleanup.policy": "delete",
        "retention.ms": str(1000 * topic.retention_s),
        "max.message.bytes": str(topic.most_bytes + ROOM_BYTES),
        "min.insync.replicas": "2" if replication > 2 else "1",
    }


def _is_missing(described: Mapping[str, Any]) -> bool:
    return bool(described["error_code"])


def _make(admin: KafkaAdminClient, address: KafkaAddress, missing: Mapping[str, Topic]) -> None:
    brokers = len(admin.describe_cluster()["brokers"])
    replication = address.replication or min(MOST_REPLICATION, brokers)
    asked = {
        name: {
            "num_partitions": topic.partitions,
            "replication_factor": replication,
            "configs": settings_of(topic, replication=replication),
        }
        for name, topic in missing.items()
    }
    answers = admin.create_topics(asked, raise_errors=False)["topics"]
    for answer in answers:
        error = for_code(answer["error_code"])
        if answer["error_code"] and error is not TopicAlreadyExistsError:
            name = answer["name"]
            words = (
                f"{address}: topic {name} is missing and cannot be made: {answer['error_message'] or error.__name__}"
            )
            command = _creation(name, missing[name], replication)
            raise (Unavailable if error.retriable else InvalidInput)(f"{words}; make it: {command}")
    admin.wait_for_topics(list(missing))


def _check(admin: KafkaAdminClient, address: KafkaAddress, names: Sequence[str]) -> None:
    if not names:
        return
    resources = [ConfigResource(ConfigResourceType.TOPIC, name) for name in names]
    for name, settings in admin.describe_configs(resources, config_filter="all")["topic"].items():
        holds = int(settings["max.message.bytes"]["value"])
        needs = TOPICS[name[len(address.prefix) :]].most_bytes + ROOM_BYTES
        if holds < needs:
            raise InvalidInput(
                f"{address}: topic {name} holds messages of {holds} bytes, ours have up to {needs}; "
                f"run {_alteration(name, 'max.message.bytes', needs)}"
            )
        if settings["cleanup.policy"]["value"] != "delete":
            raise InvalidInput(
                f"{address}: topic {name} is compacted and would forget all but the last message of a line; "
                f"run {_alteration(name, 'cleanup.policy', 'delete')}"
            )
        kept_ms, promised_ms = (
            int(settings["retention.ms"]["value"]),
            1000 * TOPICS[name[len(address.prefix) :]].retention_s,
        )
        if 0 <= kept_ms < promised_ms:
            mend = _alteration(name, "retention.ms", promised_ms)
            _log.warning("topic %s keeps messages %d ms, the table says %d; run %s", name, kept_ms, promised_ms, mend)


def _creation(name: str, topic: Topic, replication: int) -> str:
    settings = " ".join(f"--config {key}={value}" for key, value in settings_of(topic, replication=replication).items())
    size = f"--partitions {topic.partitions} --replication-factor {replication}"
    return f"kafka-topics.sh --bootstrap-server HOST:PORT --create --topic {name} {size} {settings}"


def _alteration(name: str, setting: str, value: object) -> str:
    what = f"--entity-type topics --entity-name {name} --add-config {setting}={value}"
    return f"kafka-configs.sh --bootstrap-server HOST:PORT --alter {what}"
