"""The S3 store keeps the contract on two different servers, and says what it cannot open."""

import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit
from uuid import uuid4

import pytest
import urllib3

from detectors.errors import Conflict, InvalidInput, Unavailable
from detectors.s3_store import S3Store
from detectors.store import open_store
from tests.detectors.store_contract import StoreContract
from tests.servers import s3_bucket, s3_reader

SERVERS = ("versitygw", "minio")


class TestVersitygw(StoreContract):
    """On a gateway to a POSIX folder."""

    @pytest.fixture
    def address(self) -> str:
        return s3_bucket("versitygw")


class TestMinio(StoreContract):
    """On MinIO."""

    @pytest.fixture
    def address(self) -> str:
        return s3_bucket("minio")


@pytest.fixture(params=SERVERS)
def address(request: pytest.FixtureRequest) -> str:
    return s3_bucket(str(request.param))


@pytest.mark.parametrize("key", ["a%2Fb/c", "with space/ü+&=?#", "a/b;c:d@e,f"])
def test_keys_of_any_signs_come_back(address: str, key: str) -> None:
    store = open_store(address)
    store.put(key, b"1")
    assert store.get(key) == b"1"
    assert store.keys("") == [key]


def test_more_keys_than_one_page(address: str) -> None:
    store = open_store(address)
    names = sorted(f"n/{number}" for number in range(1005))
    for name in names:
        store.put(name, b"")
    assert store.keys("n/") == names


def test_a_clock_set_back_is_no_fault_of_the_objects_and_passes(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    store = open_store(address)
    store.put("a", b"1")
    with monkeypatch.context() as wrong:
        an_hour_ago = datetime.now(UTC) - timedelta(hours=1)
        wrong.setattr("minio.time.utcnow", lambda: an_hour_ago)
        for use in (store.get, store.exists, lambda key: store.put(key, b"1")):
            with pytest.raises(Unavailable, match="our clock"):
                use("a")
        with pytest.raises(InvalidInput, match="our clock"):
            open_store(address)
    assert store.get("a") == b"1"


def test_a_bucket_that_is_not_there_is_refused(address: str) -> None:
    absent = f"absent-{uuid4().hex}"
    with pytest.raises(InvalidInput, match=f"no bucket {absent}; make it first"):
        open_store(f"s3://{absent}?{urlsplit(address).query}")


def test_wrong_keys_are_refused_without_showing_them(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong-and-secret")
    with pytest.raises(InvalidInput, match="check the keys") as found:
        open_store(address)
    assert "wrong-and-secret" not in str(found.value)


def test_keys_that_may_only_read_are_refused_with_the_cure(monkeypatch: pytest.MonkeyPatch) -> None:
    """On MinIO; versitygw, as we start it, knows one user, who may do everything."""
    url = s3_bucket("minio")
    open_store(url).put("a", b"1")
    with s3_reader("minio") as (key, secret):
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", key)
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", secret)
        with pytest.raises(InvalidInput, match=f"may not write into bucket {urlsplit(url).netloc}.*let them") as found:
            open_store(url)
    assert url in str(found.value)
    assert secret not in str(found.value)


def test_missing_keys_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID", raising=False)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/nowhere")
    with pytest.raises(InvalidInput, match="AWS_ACCESS_KEY_ID"):
        open_store("s3://parts?endpoint=http://127.0.0.1:9")


@pytest.mark.parametrize(
    "url",
    ["s3://", "s3://x", "s3://Upper-case", "s3://a/b", "s3://user:pw@bucket", "s3://parts?endpont=http://h"],
)
def test_urls_that_are_no_bucket_are_refused(url: str) -> None:
    with pytest.raises(InvalidInput, match="no bucket at") as found:
        open_store(url)
    assert "pw" not in str(found.value)


@pytest.mark.parametrize("endpoint", ["host:9000", "ftp://host", "http://host/path"])
def test_endpoints_that_are_none_are_refused(endpoint: str) -> None:
    with pytest.raises(InvalidInput, match="write it as https://host:port"):
        open_store(f"s3://parts?endpoint={endpoint}")


@pytest.fixture
def keys(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "some")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "thing")


@pytest.mark.usefixtures("keys")
def test_nobody_there_is_unavailable_after_the_deadline() -> None:
    with pytest.raises(Unavailable, match="after 1 s"):
        S3Store.at("s3://parts?endpoint=http://127.0.0.1:9", deadline_s=0.6)


class Proxy(BaseHTTPRequestHandler):
    """Between store and server: passes requests on, and fails as the test says."""

    upstream: str
    lost_answers = 0
    busy = 0
    ignores_conditions = False

    def do_any(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        kind = type(self)
        if kind.busy > 0:
            kind.busy -= 1
            self.answer(503, {}, b"<Error><Code>SlowDown</Code></Error>")
            return
        dropped = ("if-none-match", "if-match") if kind.ignores_conditions else ()
        headers = {name: value for name, value in self.headers.items() if name.lower() not in dropped}
        answer = urllib3.request(
            self.command, kind.upstream + self.path, body=body or None, headers=headers, retries=False
        )
        if self.command == "PUT" and kind.lost_answers > 0:
            kind.lost_answers -= 1
            self.close_connection = True
            return
        self.answer(answer.status, {"ETag": answer.headers.get("ETag", "")}, answer.data)

    do_GET = do_PUT = do_HEAD = do_any  # noqa: N815

    def answer(self, status: int, headers: dict[str, str], body: bytes) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Silence."""


@pytest.fixture
def proxy(address: str) -> Iterator[tuple[str, type[Proxy]]]:
    """The same bucket through a proxy. The signed Host header is the proxy's, so it goes on as it came."""
    bucket, _, endpoint = address.partition("?endpoint=")
    kind = type("ThisProxy", (Proxy,), {"upstream": endpoint})
    server = ThreadingHTTPServer(("127.0.0.1", 0), kind)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"{bucket}?endpoint=http://127.0.0.1:{server.server_address[1]}", kind
    server.shutdown()
    server.server_close()


def test_an_answer_that_was_lost_is_no_conflict(proxy: tuple[str, type[Proxy]]) -> None:
    url, kind = proxy
    store = open_store(url)
    kind.lost_answers = 1
    store.put("a", b"1")
    kind.lost_answers = 1
    first = store.swap("p", b"1", expected=None)
    kind.lost_answers = 2
    second = store.swap("p", b"2", expected=first)
    revision = store.read("p")
    assert revision is not None
    assert (revision.data, revision.etag) == (b"2", second)
    kind.lost_answers = 1
    with pytest.raises(Conflict):
        store.swap("p", b"3", expected=first)


def test_a_busy_server_is_asked_again(proxy: tuple[str, type[Proxy]]) -> None:
    url, kind = proxy
    store = open_store(url)
    for call in (
        lambda: store.put("a", b"1"),
        lambda: store.get("a"),
        lambda: store.exists("a"),
        lambda: store.keys(""),
    ):
        kind.busy = 2
        call()
        assert kind.busy == 0


def test_a_server_without_conditional_writes_is_refused(proxy: tuple[str, type[Proxy]]) -> None:
    url, kind = proxy
    kind.ignores_conditions = True
    with pytest.raises(InvalidInput, match="needs a server with conditional writes"):
        open_store(url)
