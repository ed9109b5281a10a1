"""What arrives on the images topic: everybody's images as one type, and for each bad message words that say what to do."""

import base64
import hashlib
import json
from contextlib import suppress
from pathlib import Path

import msgspec
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from detectors.errors import InvalidInput
from detectors.images import encode_jpeg, encode_png
from detectors.store import FolderStore
from streams.arrivals import CLAIM, MOST_ID_BYTES, Arrivals
from streams.bus import Headers, Record
from streams.cloudevents import IMAGE as IMAGE_TYPE
from streams.cloudevents import STRUCTURED, Attributes
from streams.messages import LineImage, encode, headers_of
from streams.origin import FIRST_APPENDED_AT, REDRIVE_OF, Origin
from streams.topics import MOST_MESSAGE_BYTES

LINE = "press-4/door"
PNG = encode_png(np.full((8, 8, 3), 90, np.uint8))
JPEG = encode_jpeg(np.full((8, 8, 3), 90, np.uint8))
DIGEST = hashlib.sha256(PNG).hexdigest()
KEPT = "incoming/part.png"
IMAGE = LineImage(line=LINE, image_id="part-1", taken_at=5.0, digest=DIGEST, key=KEPT, size_bytes=len(PNG))


@pytest.fixture
def store(tmp_path: Path) -> FolderStore:
    opened = FolderStore(tmp_path / "objects")
    opened.put(KEPT, PNG)
    return opened


def record(value: bytes, headers: Headers = (), *, key: bytes | None = LINE.encode()) -> Record:
    """A record as it lies on the topic."""
    return Record("images", 3, 17, key, headers, value, 100.5)


def event(*, content_type: str = "image/png", **attributes: str) -> Headers:
    """Headers of a CloudEvent in binary mode."""
    given = {"specversion": "1.0", "type": "driftline.Image", "source": "/press-4/camera", "id": "part-1", **attributes}
    pairs = [(f"ce_{name}", value.encode()) for name, value in given.items()]
    return (*pairs, ("content-type", content_type.encode()))


def document(**attributes: object) -> Record:
    """A CloudEvent in structured mode."""
    given = {"specversion": "1.0", "type": "driftline.Image", "source": "/c", "id": "part-1", **attributes}
    return record(json.dumps(given).encode(), (("content-type", b"application/cloudevents+json; charset=utf-8"),))


def claim(image: LineImage = IMAGE, *, key: bytes | None = LINE.encode(), **headers: str) -> Record:
    """Our own message, with headers changed."""
    usual = dict(headers_of(image, source="/test", at=1.0))
    changed = {**usual, **{name: value.encode() for name, value in headers.items()}}
    return record(encode(image), tuple(changed.items()), key=key)


def changed(**fields: object) -> LineImage:
    """IMAGE with other fields."""
    return msgspec.structs.replace(IMAGE, **fields)


def test_our_own_claims_are_taken_as_they_are(store: FolderStore) -> None:
    arrivals = Arrivals(store)
    assert arrivals.read(claim()) == IMAGE
    assert arrivals.pixels(IMAGE) == PNG


@pytest.mark.parametrize("headers", [(), (("trace", b"\xff\xfe"),), (("content-type", b"image/jpeg"),)])
def test_bare_bytes_are_an_image_named_by_their_place(store: FolderStore, headers: Headers) -> None:
    image = Arrivals(store).read(record(JPEG, headers))
    assert (image.line, image.image_id, image.taken_at, image.size_bytes) == (LINE, "images-3-17", 100.5, len(JPEG))
    assert image.key.endswith(f"/1970/01/01/{hashlib.sha256(JPEG).hexdigest()}.jpg")
    assert store.get(image.key) == JPEG


def test_an_event_in_binary_mode_brings_its_identity_time_camera_and_lot(store: FolderStore) -> None:
    headers = event(time="2026-11-23T08:15:00.25+01:00", subject=LINE, camera="left", lot="L-7", digest=DIGEST)
    image = Arrivals(store).read(record(PNG, headers))
    assert (image.image_id, image.taken_at) == ("part-1", 1795418100.25)
    assert (image.line, image.camera, image.lot, image.digest) == (LINE, "left", "L-7", DIGEST)
    assert "/2026/11/23/" in image.key
    assert store.get(image.key) == PNG


def test_an_event_in_structured_mode_says_the_same(store: FolderStore) -> None:
    pixels = base64.b64encode(PNG).decode()
    time = "2026-11-23T07:15:00.25Z"
    structured = document(
        data_base64=pixels, time=time, subject=LINE, camera="left", lot="L-7", datacontenttype="image/png"
    )
    binary = record(PNG, event(time=time, subject=LINE, camera="left", lot="L-7"))
    arrivals = Arrivals(store)
    assert arrivals.read(structured) == arrivals.read(binary)


def test_a_lot_may_be_a_number_and_our_own_claim_may_come_structured(store: FolderStore) -> None:
    arrivals = Arrivals(store)
    assert arrivals.read(document(data_base64=base64.b64encode(PNG).decode(), lot=17)).lot == "17"
    ours = json.loads(encode(IMAGE))
    assert arrivals.read(document(type="driftline.LineImage", data=ours)) == IMAGE


@pytest.mark.parametrize("structured", [True, False])
def test_an_event_may_refer_to_an_object_of_our_store(store: FolderStore, structured: bool) -> None:
    headers = event(dataref=KEPT, digest=DIGEST.upper())
    arrived = document(dataref=KEPT, digest=DIGEST) if structured else record(b"", headers)
    image = Arrivals(store).read(arrived)
    assert (image.key, image.digest, image.size_bytes, image.image_id) == (KEPT, DIGEST, len(PNG), "part-1")


@pytest.mark.parametrize("key", [None, b""])
def test_the_subject_names_the_line_where_there_is_no_key(store: FolderStore, key: bytes | None) -> None:
    assert Arrivals(store).read(record(PNG, event(subject="tiles"), key=key)).line == "tiles"


def test_what_was_put_back_keeps_its_first_place_and_time(store: FolderStore) -> None:
    first = Origin("images", 3, 5, 42.25)
    image = Arrivals(store).read(record(PNG, first.headers()))
    assert (image.image_id, image.taken_at) == ("images-3-5", 42.25)
    named = Arrivals(store).read(record(PNG, (*event(), *first.headers())))
    assert (named.image_id, named.taken_at) == ("part-1", 42.25)


BAD: dict[str, tuple[Record, str]] = {
    "20 MB": (record(bytes(20_000_000)), "20000000 bytes .* the limit is 16777216; .*camera send"),
    "no image": (record(b"hello"), "5 bytes, neither .* check the sender"),
    "nothing": (record(b""), "0 bytes, neither"),
    "a header name that is no UTF-8": (record(PNG, (("caf\udce9", b"x"),)), r"header name 'caf\\udce9' is no UTF-8; write"),
    "an attribute that is no UTF-8": (record(PNG, (("ce_lot", b"\xff7"),)), r"header 'ce_lot' is b'\\xff7', no UTF-8; write"),
    "a type that is no UTF-8": (record(encode(IMAGE), (("ce_type", b"\xff"),)), "header 'ce_type' .* no UTF-8"),
    "a content type that is no UTF-8": (record(PNG, (("content-type", b"\xff"),)), "'content-type' .* no UTF-8"),
    "an attribute twice": (record(PNG, (("ce_id", b"a"), ("ce_id", b"b"))), "'ce_id' is 'a' and 'b'; send it once"),
    "an unknown type": (record(PNG, event(type="com.other.Picture")), "type 'com.other.Picture' .* send driftline.Line"),
    "an unknown version": (record(PNG, event(specversion="0.3")), r"CloudEvents '0.3'; only 1.0 is read: send"),
    "a later version of ours": (claim(ce_specversion="2.0"), r"CloudEvents '2.0'; only 1.0"),
    "an unknown type, structured": (document(type="x"), "type 'x' .* send"),
    "an unknown version, structured": (document(specversion="1.1"), "CloudEvents '1.1'; only 1.0"),
    "a batch of events": (record(b"[]", (("content-type", b"application/cloudevents-batch+json"),)), "one event a message"),
    "a document that is none": (record(b"{", (("content-type", b"application/cloudevents+json"),)), "not a CloudEvent in"),
    "a document of wrong types": (document(id=7), r"Expected `str.*\$\.id"),
    "no base64": (document(data_base64="??"), r"base64.*\$\.data_base64"),
    "data twice": (document(data={"a": 1}, data_base64="aGVsbG8="), "send one of them"),
    "a time that is none": (record(PNG, event(time="yesterday")), "'yesterday' is no RFC 3339 time; write 2026"),
    "a time without a zone": (record(PNG, event(time="2026-11-23T08:15:00")), "no RFC 3339 time"),
    "a missing object": (claim(changed(key="images/tiles/gone.png")), "PIXELS"),
    "a missing dataref": (record(b"", event(dataref="images/gone.png")), "'images/gone.png' are not in the store.*send"),
    "a way out of the store": (claim(changed(key="../../etc/passwd")), "'../../etc/passwd' is outside the store"),
    "a dataref out of the store": (record(b"", event(dataref="/etc/passwd")), "'/etc/passwd' is outside the store"),
    "a reference with NUL": (claim(changed(key="images/a\0b")), "outside the store"),
    "another bucket": (claim(changed(key="s3://other/a.png")), "'s3://other/a.png' names another place; put .* our store"),
    "a dataref elsewhere": (record(b"", event(dataref="https://e.com/a.png")), "names another place"),
    "another digest": (claim(changed(digest="0" * 64)), "PIXELS"),
    "another digest of an event": (record(PNG, event(digest="0" * 64)), "digest .*the event says '000000000000'; send"),
    "another digest of a dataref": (record(b"", event(dataref=KEPT, digest="0" * 64)), "the event says"),
    "a key of another line": (claim(key=b"tiles"), "message key b'tiles', the message is of line 'press-4/door'; use"),
    "a claim without a key": (claim(key=None), "message key None, the message is of line 'press-4/door'; use"),
    "a subject of another line": (claim(ce_subject="tiles"), "ce_subject 'tiles', the message is of line 'press-4/door'"),
    "key and subject": (record(PNG, event(subject="tiles")), "message key 'press-4/door', ce_subject 'tiles'; .* agree"),
    "neither key nor subject": (record(PNG, key=None), "neither a message key nor ce_subject; use"),
    "a key that is no UTF-8": (record(PNG, key=b"\xff"), r"b'\\xff' is no UTF-8; use the name"),
    "a key that is no line": (record(PNG, key=b"../etc"), "line name '../etc' has the part"),
    "a key too long": (record(PNG, key=b"x" * 65), "has 65 characters; use 1 to 64"),
    "a subject that is no line": (record(PNG, event(subject="a b"), key=None), "has the character ' '; use"),
    "a claim for no line": (claim(changed(line="a\0b"), key=b"a\0b"), "has the character"),
    "a claim that is none": (record(b"{}", event(type="driftline.LineImage")), "not a LineImage.*missing required field"),
    "an id with NUL": (record(PNG, event(id="a\0b")), r"image id 'a\\x00b' of 3 bytes; use 1 to 1000"),
    "an id beyond measure": (record(PNG, event(id="x" * 1001)), "of 1001 bytes; use 1 to 1000"),
    "an empty id": (claim(changed(image_id="")), "image id '' of 0 bytes"),
    "a redrive of nowhere": (record(PNG, (("driftline-redrive-of", b"images/x"),)), "leave them out"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_what_can_never_be_scored_is_refused_with_words(store: FolderStore, name: str) -> None:
    arrived, words = BAD[name]
    arrivals = Arrivals(store)
    if words == "PIXELS":
        image, words = arrivals.read(arrived), "(are not in the store|digest .* the message says 000000000000).*; send"
        with pytest.raises(InvalidInput, match=words):
            arrivals.pixels(image)
        return
    with pytest.raises(InvalidInput, match=words):
        arrivals.read(arrived)


names = st.sampled_from(
    ["ce_type", "ce_id", "ce_specversion", "ce_time", "ce_subject", "ce_dataref", "content-type", "x"]
)
values = st.one_of(
    st.binary(max_size=20), st.sampled_from([b"1.0", b"driftline.Image", b"driftline.LineImage", b"application/cloudevents+json"])
)  # fmt: skip


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    value=st.one_of(st.binary(max_size=200), st.just(PNG), st.just(encode(IMAGE))),
    headers=st.lists(st.tuples(st.one_of(names, st.text(max_size=5)), values), max_size=4),
    key=st.one_of(st.none(), st.binary(max_size=70), st.just(LINE.encode())),
)
def test_whatever_comes_is_an_image_or_refused_and_nothing_worse(
    store: FolderStore, value: bytes, headers: list[tuple[str, bytes]], key: bytes | None
) -> None:
    with suppress(InvalidInput):
        assert Arrivals(store).read(record(value, tuple(headers), key=key)).line


def test_the_guide_for_foreign_cameras_names_every_attribute_and_the_limits() -> None:
    guide = (Path(__file__).parents[2] / "docs" / "foreign-cameras.md").read_text()
    for attribute in Attributes.__struct_fields__:
        assert f"`ce_{attribute}`" in guide
    for said in (IMAGE_TYPE, CLAIM, STRUCTURED, REDRIVE_OF, FIRST_APPENDED_AT, f"{MOST_ID_BYTES:,} bytes"):
        assert said in guide
    assert f"{MOST_MESSAGE_BYTES >> 20} MiB" in guide
