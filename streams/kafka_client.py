"""How Kafka's clients are opened, and what their errors mean to us.

kafka-python answers every failure to connect with the same time-out and tells the reason to its log alone; `listening` picks it up
there, so that a wrong password, a certificate nobody signed and a server that is no Kafka are told apart.
"""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from kafka import KafkaAdminClient, errors

from detectors.errors import InvalidInput, Unavailable
from streams.bus import Fenced
from streams.kafka_address import KafkaAddress

OPEN_S = 5.0
"""How long a client may take to reach a first broker."""
REQUEST_S = 5.0
"""How long one request may take before it is tried again or given up."""

_FENCED = (
    errors.CommitFailedError, errors.IllegalGenerationError, errors.UnknownMemberIdError, errors.RebalanceInProgressError,
    errors.FencedInstanceIdError,
)  # fmt: skip
_REFUSED = (
    errors.AuthorizationError, errors.SaslAuthenticationFailedError, errors.UnsupportedSaslMechanismError,
    errors.KafkaConfigurationError, errors.InvalidSessionTimeoutError, errors.MessageSizeTooLargeError,
    errors.RecordListTooLargeError, errors.InvalidTopicError, errors.InvalidReplicationFactorError, errors.PolicyViolationError,
    errors.InconsistentGroupProtocolError,
)  # fmt: skip
_CURES = {
    "SaslAuthenticationFailed": "the user or the password is wrong: set DRIFTLINE_KAFKA_USER and DRIFTLINE_KAFKA_PASSWORD",
    "UnsupportedSaslMechanism": "the brokers do not take this mechanism: set sasl= in DRIFTLINE_BUS to one they take",
    "CERTIFICATE_VERIFY_FAILED": "nobody we trust signed the brokers' certificate: name who did with ca=FILE in DRIFTLINE_BUS",
    "Handshake failed: [SSL": "the brokers do not speak TLS on this port: give their TLS port, or leave out tls=yes",
}


def options_of(address: KafkaAddress) -> dict[str, Any]:
    """What every client of this cluster is opened with."""
    options: dict[str, Any] = {
        "bootstrap_servers": list(address.servers),
        "client_id": "driftline",
        "bootstrap_timeout_ms": int(1000 * OPEN_S),
        "request_timeout_ms": int(1000 * REQUEST_S),
        "reconnect_backoff_max_ms": 1000,
        "security_protocol": ("SASL_" if address.user else "") + ("SSL" if address.tls else "PLAINTEXT"),
    }
    if address.user:
        options["sasl_mechanism"] = address.mechanism
        options["sasl_plain_username"], options["sasl_plain_password"] = address.user, address.password
    files = {"ssl_cafile": address.ca, "ssl_certfile": address.certificate, "ssl_keyfile": address.key}
    return options | {name: str(path) for name, path in files.items() if path is not None}


@contextmanager
def admin_of(address: KafkaAddress) -> Iterator[KafkaAdminClient]:
    """A client for topics and groups, closed at the end; what goes wrong is translated."""
    with translated(address):
        with listening(address):
            admin = KafkaAdminClient(**options_of(address))
        try:
            yield admin
        finally:
            admin.close()


@contextmanager
def translated(address: KafkaAddress) -> Iterator[None]:
    """Kafka's errors as ours: Fenced for a lost membership, InvalidInput for what stays wrong, Unavailable for the rest."""
    try:
        yield
    except _FENCED as error:
        raise Fenced(f"{address}: {error}; drop the records in hand and poll on") from error
    except _REFUSED as error:
        raise InvalidInput(f"{address}: {error}; ask whoever runs the cluster, or change DRIFTLINE_BUS") from error
    except (errors.KafkaError, OSError) as error:
        raise Unavailable(f"{address}: {error}; start the brokers, or correct DRIFTLINE_BUS") from error


@contextmanager
def listening(address: KafkaAddress) -> Iterator[None]:
    """Around the opening of a client: raises InvalidInput or Unavailable with the reason that only the log was told."""
    ear, log = _Ear(), logging.getLogger("kafka")
    spread, level = log.propagate, log.level
    log.addHandler(ear)
    log.propagate = False
    log.setLevel(logging.INFO)
    try:
        yield
    except errors.RetriableError as error:
        raise _explained(address, error, " ".join(ear.heard)) from error
    finally:
        log.propagate = spread
        log.setLevel(level)
        log.removeHandler(ear)


class _Ear(logging.Handler):
    """Remembers what the library says, once each."""

    def __init__(self) -> None:
        super().__init__(logging.INFO)
        self.heard: dict[str, None] = {}

    def emit(self, record: logging.LogRecord) -> None:
        self.heard.setdefault(record.getMessage())


def _explained(address: KafkaAddress, error: errors.KafkaError, heard: str) -> InvalidInput | Unavailable:
    for sign, cure in _CURES.items():
        if sign in heard:
            return InvalidInput(f"{address}: {cure}")
    if "socket disconnected" in heard and "Broker version identified" in heard and address.user:
        return Unavailable(f"{address}: it is Kafka and hangs up as we sign in: {_CURES['SaslAuthenticationFailed']}")
    if "socket disconnected" in heard:
        wants = "a password (DRIFTLINE_KAFKA_USER)" if address.tls else "TLS (tls=yes in DRIFTLINE_BUS)"
        return Unavailable(
            f"{address}: it hangs up on us; is it Kafka, does this port want {wants}, is it just starting?"
        )
    if "DNS" in heard:
        return Unavailable(f"{address}: no such host; correct DRIFTLINE_BUS")
    return Unavailable(f"{address}: no broker answers ({error}); start them, or correct DRIFTLINE_BUS")
