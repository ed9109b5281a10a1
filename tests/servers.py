"""Real servers the tests may use: those that `make services` has started, told by the environment."""

import os
from urllib.parse import urlsplit
from uuid import uuid4

import pytest
import urllib3
from minio import Minio

S3 = "DRIFTLINE_TEST_S3"
"""`name=endpoint` pairs, by spaces. Their keys are in AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, as everybody's are."""


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
