"""What arrives on the images topic, from our cameras and from others', as `LineImage`s.

Three kinds: our own claim (`driftline.LineImage`: a key into the store), an image of somebody else's as a CloudEvent
(`driftline.Image`, binary or structured, pixels or `dataref`), and the bare bytes of an image. What can never be scored raises
InvalidInput with the value, the limit and the cure: the worker makes a dead letter of it.
"""

import hashlib
from datetime import datetime
from typing import Annotated

import msgspec

from detectors.encoding import check_line_name
from detectors.errors import InvalidInput, NotFound
from detectors.objects import ObjectStore, check_key, image_key
from streams.bus import Record
from streams.cloudevents import IMAGE, Event, read_event
from streams.messages import TYPE_PREFIX, LineImage, decode
from streams.origin import origin_of
from streams.topics import check_size

CLAIM = TYPE_PREFIX + LineImage.__name__
MOST_ID_BYTES = 1000
"""The longest image id: databases index it."""

_SUFFIX_OF_MAGIC = {b"\xff\xd8\xff": "jpg", b"\x89PNG": "png", b"II*\x00": "tif", b"MM\x00*": "tif", b"BM": "bmp"}
_Moment = Annotated[datetime, msgspec.Meta(tz=True)]


class Arrivals:
    """Reads the images topic: checks in what others sent, and fetches the pixels of what is to be scored."""

    def __init__(self, store: ObjectStore) -> None:
        self._store = store

    def read(self, record: Record) -> LineImage:
        """The image of a record, its pixels in the store; raises InvalidInput, or Unavailable where the store is away."""
        check_size(record.topic, record.value)
        event = read_event(record)
        if event.about.type == CLAIM:
            image = _claim(record, event)
        elif event.about.type == IMAGE:
            image = self._check_in(record, event)
        else:
            raise InvalidInput(
                f"an event of type {event.about.type!r:.80} on the images topic; send {CLAIM}, {IMAGE} or the bare image"
            )
        _check_id(image.image_id)
        return image

    def pixels(self, image: LineImage) -> bytes:
        """The bytes of the image, of the digest it states."""
        data = self._object(image.key)
        digest = hashlib.sha256(data).hexdigest()
        if digest != image.digest:
            raise InvalidInput(
                f"{image.key}: digest {digest[:12]}, the message says {image.digest[:12]}; send it again"
            )
        return data

    def _object(self, key: str) -> bytes:
        try:
            return self._store.get(key)
        except NotFound as error:
            raise InvalidInput(f"the pixels {key!r:.200} are not in the store: {error}; send them again") from error

    def _check_in(self, record: Record, event: Event) -> LineImage:
        """An image from a camera that knows little of us: its id defaults to its place in the log, its time to that of the log."""
        about, origin, line = event.about, origin_of(record), _line(record, event)
        taken_at = origin.appended_at if about.time is None else _seconds(about.time)
        if about.dataref is not None and not event.data:
            _check_reference(about.dataref)
            key, data = about.dataref, self._object(about.dataref)
            digest = hashlib.sha256(data).hexdigest()
        else:
            data, suffix = event.data, _suffix(event.data)
            digest = hashlib.sha256(data).hexdigest()
            key = image_key(line, digest, at=taken_at, suffix=suffix)
        if about.digest is not None and about.digest.lower() != digest:
            raise InvalidInput(f"pixels of digest {digest[:12]}, the event says {about.digest[:12]!r}; send it again")
        if about.dataref is None or event.data:
            self._store.put(key, data)
        return LineImage(
            line=line,
            image_id=origin.image_id if about.id is None else about.id,
            taken_at=taken_at,
            digest=digest,
            key=key,
            size_bytes=len(data),
            camera=about.camera,
            lot=None if about.lot is None else str(about.lot),
        )


def _claim(record: Record, event: Event) -> LineImage:
    image = decode(event.data, LineImage)
    check_line_name(image.line)
    if record.key != image.line.encode():
        key = record.key if record.key is None else record.key[:80]
        raise InvalidInput(f"message key {key!r}, the message is of line {image.line!r}; use the line as the key")
    if event.about.subject not in (None, image.line):
        raise InvalidInput(
            f"ce_subject {event.about.subject!r:.80}, the message is of line {image.line!r}; make them agree"
        )
    _check_reference(image.key)
    return image


def _line(record: Record, event: Event) -> str:
    """The line by the record's key or the event's subject; both, if both are there."""
    subject = event.about.subject
    if not record.key and subject is None:
        raise InvalidInput("neither a message key nor ce_subject; use the name of the line as the key")
    line = _text(record.key) if record.key else subject or ""
    check_line_name(line)
    if subject not in (None, line):
        raise InvalidInput(f"message key {line!r}, ce_subject {subject!r:.80}; both name the line: make them agree")
    return line


def _text(key: bytes) -> str:
    try:
        return key.decode()
    except UnicodeDecodeError as error:
        raise InvalidInput(f"message key {key[:80]!r} is no UTF-8; use the name of the line as the key") from error


def _suffix(data: bytes) -> str:
    suffix = next((suffix for magic, suffix in _SUFFIX_OF_MAGIC.items() if data.startswith(magic)), None)
    if suffix is None:
        raise InvalidInput(
            f"{len(data)} bytes, neither a {CLAIM} nor the bytes of a JPEG, PNG, TIFF or BMP image; check the sender"
        )
    return suffix


def _seconds(time: str) -> float:
    try:
        return msgspec.convert(time, _Moment).timestamp()
    except msgspec.ValidationError as error:
        raise InvalidInput(f"ce_time {time!r:.80} is no RFC 3339 time; write 2026-11-23T08:15:00Z") from error


def _check_reference(key: str) -> None:
    """References are keys of our store: no URLs, no way out of it."""
    if "://" in key:
        raise InvalidInput(
            f"the reference {key!r:.200} names another place; put the object into our store and send its key there"
        )
    try:
        check_key(key)
    except InvalidInput as error:
        raise InvalidInput(f"the reference {key!r:.200} is outside the store: {error}") from error


def _check_id(image_id: str) -> None:
    size = len(image_id.encode())
    if not 1 <= size <= MOST_ID_BYTES or "\0" in image_id:
        raise InvalidInput(f"image id {image_id!r:.80} of {size} bytes; use 1 to {MOST_ID_BYTES}, without NUL")
