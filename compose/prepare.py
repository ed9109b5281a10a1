"""Before the services start: the bucket of DRIFTLINE_STORE and Dagster's tables, where there are none. Run by compose.yaml, once."""

import os
import subprocess
import sys
from urllib.parse import parse_qs, urlsplit

from minio import Minio
from minio.error import S3Error

from orchestration.dagster_instance import MAKE_DATABASES

OURS_ALREADY = "BucketAlreadyOwnedByYou"


def make_bucket(url: str, access_key: str, secret_key: str) -> bool:
    """Whether the bucket of a store's URL had to be made. A store in a folder needs none."""
    store = urlsplit(url)
    if store.scheme != "s3":
        return False
    options = parse_qs(store.query)
    endpoint = urlsplit(options["endpoint"][0])
    region = options.get("region", ["us-east-1"])[0]
    client = Minio(endpoint.netloc, access_key, secret_key, secure=endpoint.scheme == "https", region=region)
    if client.bucket_exists(store.netloc):
        return False
    try:
        client.make_bucket(store.netloc)
    except S3Error as error:
        if error.code != OURS_ALREADY:
            raise
        return False
    return True


def main() -> None:
    """Both, from the environment of the services."""
    made = make_bucket(
        os.environ["DRIFTLINE_STORE"], os.environ["AWS_ACCESS_KEY_ID"], os.environ["AWS_SECRET_ACCESS_KEY"]
    )
    print("bucket made" if made else "bucket is there")
    subprocess.run((sys.executable, "-c", MAKE_DATABASES), check=True)
    print("Dagster's tables are there")


if __name__ == "__main__":
    main()
