"""Where a Kafka cluster is and how it is spoken to, as one URL.

`kafka://[user:password@]host:port[,host:port...][?option=value&...]` with the options

- `tls=yes`, `ca=FILE` (who signed the brokers' certificates; default: whom the system trusts), `certificate=FILE` and `key=FILE` (our own)
- `sasl=PLAIN`, `SCRAM-SHA-256` or `SCRAM-SHA-512` (default, where there is a user)
- `prefix=TEXT`: begins the name of every topic and group, so that several installations share a cluster
- `replication=N`: copies of each partition of topics that are made (default: three, or as many as there are brokers)
- `session_timeout_s=S`: how long a member may be silent before others take its partitions (default 6)
- `member=NAME`: static membership: a process that comes back under its name within the session timeout keeps its partitions
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import parse_qsl, quote, unquote

from detectors.errors import InvalidInput

SCHEME = "kafka://"
OPTIONS = ("tls", "ca", "certificate", "key", "sasl", "prefix", "replication", "session_timeout_s", "member")
MECHANISMS = ("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512")
SESSION_TIMEOUT_S = 6.0
_HOST = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+):([0-9]{1,5})")
_NAME = re.compile(r"[A-Za-z0-9._-]{0,100}")


@dataclass(frozen=True)
class KafkaAddress:
    """A Kafka cluster and this installation's place in it. Prints without the password.

    >>> address = KafkaAddress.parse("kafka://ana:secret@one:9092,two:9092?tls=yes&prefix=plant-1.")
    >>> address.servers, address.tls, address.mechanism, address.prefix
    (('one:9092', 'two:9092'), True, 'SCRAM-SHA-512', 'plant-1.')
    >>> str(address)
    'kafka://ana:***@one:9092,two:9092'
    """

    servers: tuple[str, ...]
    user: str | None = None
    password: str | None = field(default=None, repr=False)
    mechanism: str = "SCRAM-SHA-512"
    tls: bool = False
    ca: Path | None = None
    certificate: Path | None = None
    key: Path | None = None
    prefix: str = ""
    replication: int | None = None
    session_timeout_s: float = SESSION_TIMEOUT_S
    member: str | None = None

    @classmethod
    def parse(cls, url: str) -> "KafkaAddress":
        """The address in a URL; raises InvalidInput naming what is wrong with it, never its password."""
        place, _, query = url.removeprefix(SCHEME).partition("?")
        account, at, hosts = place.rpartition("@")
        user, _, password = account.partition(":")
        servers = tuple(hosts.rstrip("/").split(","))
        for server in servers:
            found = _HOST.fullmatch(server)
            if found is None or not 0 < int(found[2]) < 65536:
                raise InvalidInput(f"{server!r} in DRIFTLINE_BUS is no broker; write kafka://host:9092,host:9092")
        options = dict(parse_qsl(query, keep_blank_values=True))
        _check_options(options, signed_in=bool(user))
        return cls(
            servers,
            user=unquote(user) if at else None,
            password=unquote(password) if at else None,
            mechanism=options.get("sasl", cls.mechanism),
            tls=options.get("tls", "no") == "yes",
            ca=_file(options, "ca"),
            certificate=_file(options, "certificate"),
            key=_file(options, "key"),
            prefix=options.get("prefix", ""),
            replication=int(options["replication"]) if "replication" in options else None,
            session_timeout_s=float(options.get("session_timeout_s", SESSION_TIMEOUT_S)),
            member=options.get("member"),
        )

    def __str__(self) -> str:
        account = f"{self.user}:***@" if self.user else ""
        return f"{SCHEME}{account}{','.join(self.servers)}"


def with_account(url: str, user: str | None, password: str | None) -> str:
    """The URL with an account in it, where it names none and one is given apart.

    >>> with_account("kafka://one:9092?tls=yes", "ana", "p@ss")
    'kafka://ana:p%40ss@one:9092?tls=yes'
    """
    place, mark, query = url.removeprefix(SCHEME).partition("?")
    if not url.startswith(SCHEME) or user is None or "@" in place:
        return url
    return f"{SCHEME}{quote(user, safe='')}:{quote(password or '', safe='')}@{place}{mark}{query}"


def _check_options(options: Mapping[str, str], *, signed_in: bool) -> None:
    for name in options:
        if name not in OPTIONS:
            raise InvalidInput(f"{name!r} is no option of a kafka:// URL; there are {', '.join(OPTIONS)}")
    allowed = {
        "tls": ("yes or no", options.get("tls", "no") in ("yes", "no")),
        "sasl": (f"one of {', '.join(MECHANISMS)}", options.get("sasl", "PLAIN") in MECHANISMS),
        "prefix": ("up to 100 letters, digits, . _ -", bool(_NAME.fullmatch(options.get("prefix", "")))),
        "member": ("up to 100 letters, digits, . _ -", bool(_NAME.fullmatch(options.get("member", "x")))),
        "replication": ("a number from 1 to 32", options.get("replication", "1") in map(str, range(1, 33))),
        "session_timeout_s": ("a number above 0", _is_positive(options.get("session_timeout_s", "6"))),
    }
    for name, (limit, kept) in allowed.items():
        if not kept:
            raise InvalidInput(f"{name}={options[name]!r} in the kafka:// URL; give {limit}")
    if "sasl" in options and not signed_in:
        raise InvalidInput(
            "sasl in the kafka:// URL but no user; set DRIFTLINE_KAFKA_USER and DRIFTLINE_KAFKA_PASSWORD"
        )


def _is_positive(text: str) -> bool:
    return bool(re.fullmatch(r"[0-9]+(\.[0-9]+)?", text)) and float(text) > 0


def _file(options: Mapping[str, str], name: str) -> Path | None:
    """A file that an option names; raises InvalidInput if it is not there."""
    if name not in options:
        return None
    path = Path(options[name])
    if not path.is_file():
        raise InvalidInput(f"{name}={options[name]!r} in the kafka:// URL is no file; give a PEM file")
    return path
