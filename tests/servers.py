"""Real servers the tests may use: those that `make services` has started, told by the environment."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit
from uuid import uuid4

import pytest
import urllib3
from minio import Minio
from minio.credentials.providers import StaticProvider
from minio.minioadmin import MinioAdmin
from sqlalchemy import create_engine, inspect, make_url
from sqlalchemy.pool import NullPool

from streams.kafka_address import KafkaAddress
from streams.kafka_client import admin_of

S3 = "DRIFTLINE_TEST_S3"
"""`name=endpoint` pairs, by spaces. Their keys are in AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, as everybody's are."""


POSTGRESQL = "DRIFTLINE_TEST_POSTGRESQL"
"""URL of a database whose user may create others."""


def s3_bucket(server: str) -> str:
    """A new bucket on the S3 server of that name, as a store's URL; skips the test where it is not started."""
    known = dict(pair.split("=", 1) for pair in os.environ.get(S3, "").split())
    if server not in known:
        pytest.skip(f"no S3 server {server}: `make services` starts it, `make test` finds it ({S3})")
    bucket = f"test-{uuid4().hex}"
    parts = urlsplit(known[server])
    keys = os.environ["AWS_ACCESS_KEY_ID"], os.environ["AWS_SECRET_ACCESS_KEY"]
    with urllib3.PoolManager() as pool:
        Minio(parts.netloc, *keys, secure=parts.scheme == "https", http_client=pool).make_bucket(bucket)
    return f"s3://{bucket}?endpoint={known[server]}"


@contextmanager
def s3_reader(server: str) -> Iterator[tuple[str, str]]:
    """The keys of a user of a MinIO server who may read and not write, gone at the end; skips the test where it is not started."""
    known = dict(pair.split("=", 1) for pair in os.environ.get(S3, "").split())
    if server not in known:
        pytest.skip(f"no S3 server {server}: `make services` starts it, `make test` finds it ({S3})")
    endpoint = urlsplit(known[server])
    ours = StaticProvider(os.environ["AWS_ACCESS_KEY_ID"], os.environ["AWS_SECRET_ACCESS_KEY"])
    key, secret = f"reader-{uuid4().hex[:8]}", uuid4().hex
    with urllib3.PoolManager() as pool:
        admin = MinioAdmin(
            endpoint=endpoint.netloc, credentials=ours, secure=endpoint.scheme == "https", http_client=pool
        )
        admin.user_add(key, secret)
        try:
            admin.attach_policy(["readonly"], user=key)
            yield key, secret
        finally:
            admin.user_remove(key)


KAFKA = "DRIFTLINE_TEST_KAFKA"
"""URL of a Kafka cluster on which the tests may make topics."""

KAFKA_SECURE = "DRIFTLINE_TEST_KAFKA_SECURE"
"""The same cluster with TLS and passwords; the user and the password are those of S3."""


@contextmanager
def kafka_bus(*, secure: bool = False) -> Iterator[str]:
    """A bus of its own on the Kafka cluster, as a URL, its topics gone at the end; skips the test where none is started."""
    name = KAFKA_SECURE if secure else KAFKA
    if name not in os.environ:
        pytest.skip(f"no Kafka: `make services` starts it, `make test` finds it ({name})")
    url = os.environ[name]
    prefixed = f"{url}{'&' if '?' in url else '?'}prefix=test-{uuid4().hex}."
    yield prefixed
    address = KafkaAddress.parse(os.environ[KAFKA])
    with admin_of(address) as admin:
        mine = [each for each in admin.list_topics() if each.startswith(KafkaAddress.parse(prefixed).prefix)]
        admin.delete_topics(mine)


SERVICES = Path(__file__).resolve().parents[1] / "compose" / "services.py"


@contextmanager
def service(*names: str, gone_by: signal.Signals) -> Iterator[None]:
    """Within the block these servers of `make services` are ended (by a signal each) or stopped; they are back at the end."""
    folder = SERVICES.parents[1] / ".services"
    pids = [int((folder / f"{name}.pid").read_text()) for name in names]
    for pid in pids:
        os.kill(pid, gone_by)
    try:
        yield
    finally:
        if gone_by == signal.SIGSTOP:
            for pid in pids:
                os.kill(pid, signal.SIGCONT)
        subprocess.run([sys.executable, SERVICES, "start", *names], check=True)


@contextmanager
def postgresql_database() -> Iterator[str]:
    """A new database as a ledger's URL, gone at the end; skips the test where no server is started."""
    if POSTGRESQL not in os.environ:
        pytest.skip(f"no PostgreSQL: `make services` starts it, `make test` finds it ({POSTGRESQL})")
    url = make_url(os.environ[POSTGRESQL])
    name = f"test_{uuid4().hex}"
    engine = create_engine(url, poolclass=NullPool, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.exec_driver_sql(f"CREATE DATABASE {name}")
    yield url.set(database=name).render_as_string(hide_password=False)
    with engine.connect() as connection:
        connection.exec_driver_sql(f"DROP DATABASE {name} WITH (FORCE)")


@contextmanager
def postgresql_role(url: str) -> Iterator[str]:
    """A new user of a database who may sign in and nothing else, as a ledger's URL; gone at the end."""
    role, password = f"test_{uuid4().hex}", uuid4().hex
    engine = create_engine(url, poolclass=NullPool, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.exec_driver_sql("REVOKE CREATE ON SCHEMA public FROM PUBLIC")
        connection.exec_driver_sql(f"CREATE ROLE {role} LOGIN PASSWORD '{password}'")
    yield make_url(url).set(username=role, password=password).render_as_string(hide_password=False)
    with engine.connect() as connection:
        connection.exec_driver_sql(f"DROP OWNED BY {role}")
        connection.exec_driver_sql(f"DROP ROLE {role}")


def tables_of(url: str) -> set[str]:
    """The tables of a database."""
    return set(inspect(create_engine(url, poolclass=NullPool)).get_table_names())
