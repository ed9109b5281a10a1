"""CloudEvents 1.0 as other programs send them over Kafka: binary mode (an attribute is a `ce_` header) and structured mode (one
JSON document).

Written out here because the project's own SDK calls itself work in progress, and the format is one struct. What is left out
has a default, so that a bare image is an event too; what is there must be right.
"""

from dataclasses import dataclass

import msgspec

from detectors.errors import InvalidInput
from streams.bus import Headers, Record
from streams.messages import SPEC_VERSION

PREFIX = "ce_"
CONTENT_TYPE = "content-type"
STRUCTURED = "application/cloudevents+json"
IMAGE = "driftline.Image"
"""The type of an image from somebody else: its pixels, or a `dataref` to them."""


class Attributes(msgspec.Struct, frozen=True, kw_only=True):
    """What a CloudEvent says about itself. `time` is RFC 3339; `camera`, `lot` and `digest` (SHA-256 in hex, of the pixels) are
    our extensions, `dataref` is CloudEvents' own.
    """

    specversion: str = SPEC_VERSION
    type: str = IMAGE
    id: str | None = None
    subject: str | None = None
    time: str | None = None
    dataref: str | None = None
    digest: str | None = None
    camera: str | None = None
    lot: str | int | None = None


class _Document(Attributes, frozen=True, kw_only=True):
    data: msgspec.Raw = msgspec.Raw(b"")
    data_base64: bytes | None = None


@dataclass(frozen=True)
class Event:
    """An event: what it says about itself, and its data."""

    about: Attributes
    data: bytes


def read_event(record: Record) -> Event:
    """The event in a record, in either mode; raises InvalidInput where it is none that can be read.

    >>> headers = (("ce_type", b"driftline.Image"), ("ce_id", b"part-1"), ("content-type", b"image/jpeg"))
    >>> read_event(Record("images", 0, 7, b"tiles", headers, b"pixels", 0.0)).about.id
    'part-1'
    """
    attributes = _attributes(record.headers)
    content_type = attributes.pop(CONTENT_TYPE, "").partition(";")[0].strip().lower()
    if content_type.startswith("application/cloudevents"):
        event = _structured(record.value, content_type)
    else:
        event = Event(_converted(attributes), record.value)
    if event.about.specversion != SPEC_VERSION:
        raise InvalidInput(f"CloudEvents {event.about.specversion!r:.80}; only {SPEC_VERSION} is read: send that")
    return event


def _attributes(headers: Headers) -> dict[str, str]:
    """The `ce_` headers without their prefix, and the content type."""
    found: dict[str, str] = {}
    for name, value in headers:
        _check_name(name)
        low = name.lower()
        if not (low.startswith(PREFIX) or low == CONTENT_TYPE):
            continue
        attribute, text = low.removeprefix(PREFIX), _text(name, value)
        if found.setdefault(attribute, text) != text:
            raise InvalidInput(f"header {name!r:.80} is {found[attribute]!r:.80} and {text!r:.80}; send it once")
    return found


def _check_name(name: str) -> None:
    try:
        name.encode()
    except UnicodeEncodeError as error:
        raise InvalidInput(f"the header name {name!r:.80} is no UTF-8; write it in UTF-8") from error


def _text(name: str, value: bytes) -> str:
    try:
        return value.decode()
    except UnicodeDecodeError as error:
        raise InvalidInput(f"header {name!r:.80} is {value[:40]!r}, no UTF-8; write it in UTF-8") from error


def _converted(attributes: dict[str, str]) -> Attributes:
    try:
        return msgspec.convert(attributes, Attributes)
    except msgspec.ValidationError as error:
        raise InvalidInput(
            f"not a CloudEvent: {error}; send the attributes that streams.cloudevents describes"
        ) from error


def _structured(body: bytes, content_type: str) -> Event:
    if content_type != STRUCTURED:
        raise InvalidInput(f"content type {content_type!r:.80}; send one event a message, as {STRUCTURED}")
    try:
        document = msgspec.json.decode(body, type=_Document)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise InvalidInput(f"not a CloudEvent in JSON: {error}; send it as {STRUCTURED} describes it") from error
    data = bytes(document.data)
    if data and document.data_base64 is not None:
        raise InvalidInput("an event with data and data_base64; send one of them, images as data_base64")
    about = {name: getattr(document, name) for name in Attributes.__struct_fields__}
    return Event(Attributes(**about), data or document.data_base64 or b"")
