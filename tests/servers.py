"""Real servers the tests may use: those that `make services` has started, told by the environment."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit
from uuid import uuid4

import pytest
import urllib3
from minio import Minio
from sqlalchemy import create_engine, make_url
from sqlalchemy.pool import NullPool

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
