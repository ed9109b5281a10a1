"""An object store in a bucket of any S3 server that can write on condition (AWS, MinIO, versitygw and others)."""

import base64
import hashlib
import random
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Self
from urllib.parse import SplitResult, parse_qs, urlsplit
from xml.etree import ElementTree

import urllib3
from minio import Minio
from minio.credentials.providers import AWSConfigProvider, ChainedProvider, EnvAWSProvider
from minio.error import MinioException

from detectors.errors import Conflict, InvalidInput, NotFound, Unavailable
from detectors.objects import Revision, check_key

DEADLINE_S = 30.0
"""How long a call tries before it says that the store is away."""

CONNECT_S, READ_S = 3.0, 15.0
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.1, 3.0

_PROBE = ".driftline/probe"
"""Begins with a dot, as no key does: nobody meets it."""

_MD5 = re.compile(r'"([0-9a-f]{32})"')
_BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")
_OPTIONS = ("endpoint", "region")
_SIGNED_FOR = timedelta(minutes=10)
_FAILURES = (MinioException, urllib3.exceptions.HTTPError, OSError)


@dataclass(frozen=True)
class _Answer:
    """What the server said. `doubtful`: an earlier attempt of the same call may have been carried out unheard."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    doubtful: bool

    @property
    def code(self) -> str:
        """The error's name in S3's own words, such as NoSuchKey; its status where there is none."""
        try:
            root = ElementTree.fromstring(self.body)  # of the server we are set to trust
        except ElementTree.ParseError:
            return str(self.status)
        return next(
            (each.text or "" for each in root.iter() if each.tag.rpartition("}")[2] == "Code"), str(self.status)
        )


class _Patience:
    """Random pauses, each about twice as long as the one before, until the time for one call is over."""

    def __init__(self, deadline_s: float, bucket: str) -> None:
        self._deadline_s = deadline_s
        self._bucket = bucket
        self._give_up = time.monotonic() + deadline_s
        self._pause_s = FIRST_PAUSE_S

    def wait(self, intent: str, reason: str) -> None:
        """Pause before the next try; raises Unavailable instead where time is over."""
        if time.monotonic() + self._pause_s > self._give_up:
            raise Unavailable(
                f"cannot {intent} in bucket {self._bucket} after {self._deadline_s:.0f} s: {reason}; "
                "it is tried again when the store answers"
            )
        time.sleep(random.uniform(0.5, 1.0) * self._pause_s)
        self._pause_s = min(2 * self._pause_s, LONGEST_PAUSE_S)


class S3Store:
    """Objects in a bucket. Immutability and swaps are conditional writes (`If-None-Match: *`, `If-Match: etag`), so they hold
    between any number of machines; a server that ignores the condition is refused when the store is opened.

    Bytes are checked against the server's MD5 on their way up and down. What does not answer, or answers that it is
    busy, is asked again after a random pause until `DEADLINE_S` are over; a write whose answer was lost is looked up
    before it is called a conflict. Threads may share a store.
    """

    def __init__(
        self, client: Minio, pool: urllib3.PoolManager, bucket: str, *, deadline_s: float = DEADLINE_S
    ) -> None:
        self._client = client
        self._pool = pool
        self._bucket = bucket
        self._deadline_s = deadline_s

    @classmethod
    def at(cls, url: str, *, deadline_s: float = DEADLINE_S) -> Self:
        """The store at `s3://bucket?endpoint=https://host:port&region=us-east-1`, tried before it is returned.

        Without an endpoint it is AWS. Keys come from AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or the AWS
        configuration file. Raises InvalidInput for an ill-formed URL, a bucket that is not there, keys that are missing, wrong or
        may not write, and a server that cannot write on condition; Unavailable for one that does not answer.
        """
        bucket, endpoint, region = _read(url)
        pool = urllib3.PoolManager(
            num_pools=4, maxsize=16, timeout=urllib3.Timeout(connect=CONNECT_S, read=READ_S), retries=False
        )
        keys = ChainedProvider([EnvAWSProvider(), AWSConfigProvider()])
        try:
            keys.retrieve()
        except ValueError as error:
            raise InvalidInput(f"no keys for {url}; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY") from error
        secure, host = endpoint.scheme == "https", endpoint.netloc
        client = Minio(host, secure=secure, region=region, http_client=pool, credentials=keys)
        store = cls(client, pool, bucket, deadline_s=deadline_s)
        store._try_out(url)
        return store

    def put(self, key: str, data: bytes) -> None:
        """Keep `data` under `key` for ever. Equal bytes there already: nothing to do; different bytes: Conflict."""
        check_key(key)
        answer = self._write(key, data, {"If-None-Match": "*"})
        if answer.status == 200:
            return
        existing = self.get(key)
        if existing != data:
            raise Conflict(f"{key} is kept with {len(existing)} other bytes; objects are immutable, use another key")

    def get(self, key: str) -> bytes:
        """The bytes under `key`; raises NotFound."""
        if (revision := self.read(key)) is None:
            raise NotFound(f"no object {key} in bucket {self._bucket}; it was never put, or removed by hand")
        return revision.data

    def exists(self, key: str) -> bool:
        """Whether there is an object under `key`."""
        check_key(key)
        answer = self._ask("HEAD", key)
        if answer.status == 404:  # which has no body to say whether it is the object or the bucket
            self._check_there()
        return self._understood(answer, f"look for {key}").status == 200

    def keys(self, prefix: str) -> list[str]:
        """The keys that begin with `prefix`, sorted; `""` for all."""
        if prefix.strip("/"):
            check_key(prefix.rstrip("/"))
        patience = _Patience(self._deadline_s, self._bucket)
        while True:
            try:
                found = self._client.list_objects(self._bucket, prefix=prefix, recursive=True)
                names = [each.object_name for each in found if each.object_name is not None]
                return sorted(name for name in names if not name.startswith("."))
            except _FAILURES as error:
                patience.wait(f"list {prefix}", str(error))

    def read(self, key: str) -> Revision | None:
        """The bytes under `key` with their etag, None where there are none: the first half of a `swap`."""
        check_key(key)
        patience = _Patience(self._deadline_s, self._bucket)
        while True:
            answer = self._understood(self._ask("GET", key), f"read {key}")
            if answer.status == 404:
                return None
            etag = answer.headers.get("ETag", "")
            if _is_whole(answer.body, etag):
                return Revision(answer.body, etag)
            patience.wait(f"read {key}", f"its bytes are not those of its digest {etag}")

    def swap(self, key: str, data: bytes, *, expected: str | None) -> str:
        """Replace the object whose etag is `expected` (None: there must be none); the new etag. Else Conflict."""
        check_key(key)
        answer = self._write(key, data, {"If-None-Match": "*"} if expected is None else {"If-Match": expected})
        if answer.status == 200:
            return answer.headers.get("ETag", "")
        current = self.read(key)
        if answer.doubtful and current is not None and current.data == data:
            return current.etag  # it was our own write that stood in our way
        found = None if current is None else current.etag
        raise Conflict(f"{key} is at {found}, expected {expected}; read it again and decide anew")

    def _write(self, key: str, data: bytes, condition: Mapping[str, str]) -> _Answer:
        """A conditional write: status 200, or 412 where the condition does not hold."""
        md5 = base64.b64encode(hashlib.md5(data, usedforsecurity=False).digest()).decode()
        answer = self._ask("PUT", key, data, {**condition, "Content-MD5": md5})
        if answer.status == 404 and answer.code == "NoSuchKey":  # AWS says so where If-Match finds nothing
            return _Answer(412, answer.headers, answer.body, answer.doubtful)
        return self._understood(answer, f"write {key}")

    def _understood(self, answer: _Answer, intent: str) -> _Answer:
        """An answer that means something to the caller: 200, 404 for an absent object, 412. Raises Unavailable for others."""
        absent = answer.status == 404 and answer.code in ("NoSuchKey", "404")
        if answer.status in (200, 412) or absent:
            return answer
        raise Unavailable(
            f"cannot {intent} in bucket {self._bucket}: {answer.code}; look at the store, its permissions and our clock"
        )

    def _ask(
        self, method: str, key: str, data: bytes | None = None, headers: Mapping[str, str] | None = None
    ) -> _Answer:
        """One request, made again while the server is away or busy; raises Unavailable after the deadline."""
        patience = _Patience(self._deadline_s, self._bucket)
        doubtful = False
        while True:
            try:
                # Signed anew each time; minio-py itself knows no conditions.
                url = self._client.get_presigned_url(method, self._bucket, key, expires=_SIGNED_FOR)
                response = self._pool.request(method, url, body=data, headers=headers)
                answer = _Answer(response.status, response.headers, response.data, doubtful)
                if answer.status < 500 and answer.status not in (408, 409, 429):
                    return answer
                reason = answer.code
            except (urllib3.exceptions.HTTPError, OSError) as error:
                reason = str(error)
            doubtful = doubtful or data is not None
            patience.wait(f"{method} {key}", reason)

    def _check_there(self) -> None:
        """Tell an absent object from an absent bucket, which nobody may take for an empty one."""
        try:
            there = self._client.bucket_exists(self._bucket)
        except _FAILURES as error:
            raise Unavailable(f"cannot look for bucket {self._bucket}: {error}; mend the store") from error
        if not there:
            raise Unavailable(f"bucket {self._bucket} is gone; make or restore it")

    def _try_out(self, url: str) -> None:
        """Write on condition, and see that the condition counts."""
        for condition, held in (({"If-None-Match": "*"}, (200, 412)), ({"If-None-Match": "*"}, (412,)),
                                ({"If-Match": f'"{"0" * 32}"'}, (412,))):  # fmt: skip
            answer = self._ask("PUT", _PROBE, b"whether writes are conditional here", condition)
            if answer.code == "NoSuchBucket":
                raise InvalidInput(f"{url}: there is no bucket {self._bucket}; make it first")
            if answer.code == "AccessDenied":
                raise InvalidInput(
                    f"{url}: these keys may not write into bucket {self._bucket} ({answer.code}); let them put objects there, "
                    "give others in AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or see whether our clock is right"
                )
            if answer.status in (400, 401, 403):
                raise InvalidInput(f"{url}: {answer.code}; check the keys, the region, and our clock")
            if answer.status not in held:
                raise InvalidInput(
                    f"{url}: a write on condition ({', '.join(condition)}) was answered {answer.status}; "
                    "a registry needs a server with conditional writes"
                )


def _read(url: str) -> tuple[str, SplitResult, str]:
    """Bucket, endpoint and region.

    >>> bucket, endpoint, region = _read("s3://parts?endpoint=http://127.0.0.1:9000")
    >>> bucket, endpoint.netloc, region
    ('parts', '127.0.0.1:9000', 'us-east-1')
    """
    parts = urlsplit(url)
    given = parse_qs(parts.query, keep_blank_values=True)
    unknown = sorted(set(given) - set(_OPTIONS))
    region = given.get("region", ["us-east-1"])[0]
    endpoint = urlsplit(given.get("endpoint", [f"https://s3.{region}.amazonaws.com"])[0])
    if unknown or parts.username or parts.password or parts.path.strip("/") or not _BUCKET.fullmatch(parts.netloc):
        raise InvalidInput(
            f"no bucket at {parts.scheme}://{parts.hostname}{parts.path}?{parts.query}; write s3://bucket?endpoint=https://host:port"
            "&region=name: bucket names have 3 to 63 letters, digits, dots and dashes, keys come from the environment"
        )
    if endpoint.scheme not in ("http", "https") or not endpoint.netloc or endpoint.path.strip("/") or endpoint.query:
        raise InvalidInput(f"endpoint {endpoint.geturl()!r} of {url}; write it as https://host:port")
    return parts.netloc, endpoint, region


def _is_whole(data: bytes, etag: str) -> bool:
    """Whether the bytes are those of the etag, where it is their MD5 (that of an object in parts is not)."""
    told = _MD5.fullmatch(etag)
    return told is None or told[1] == hashlib.md5(data, usedforsecurity=False).hexdigest()
