"""Every wire type and its codec.

Bodies are JSON (msgspec), tolerant of unknown fields and strict about types. Headers follow CloudEvents' binary mode:
`ce_specversion`, `ce_type`, `ce_source`, `ce_id`, `ce_time`, `ce_subject`, and `ce_dataref` where the pixels lie in the object store
(claim check). Times are seconds since the epoch, UTC.
"""

from typing import Any, ClassVar, TypeVar

import msgspec

from detectors.errors import InvalidInput

TYPE_PREFIX = "driftline."
SPEC_VERSION = "1.0"


class Message(msgspec.Struct, frozen=True, kw_only=True):
    """Base of the wire types. `line` is the bus key of each of them."""

    topic: ClassVar[str]
    line: str

    @property
    def identity(self) -> str:
        """What makes two deliveries the same message (`ce_id`)."""
        raise NotImplementedError


class LineImage(Message, frozen=True, kw_only=True):
    """An image of a line: where its pixels are, and where it came from.

    `late` marks an image that was collected before the line had a model and comes again to be scored by its first one.
    """

    topic: ClassVar[str] = "images"
    image_id: str
    taken_at: float
    digest: str
    key: str
    size_bytes: int
    camera: str | None = None
    lot: str | None = None
    late: bool = False

    @property
    def identity(self) -> str:
        return self.image_id


class Signals(msgspec.Struct, frozen=True, kw_only=True):
    """What is watched of an image. `peak`: image score; `bulk`: median patch distance; the rest: of its pixels in 0..255.

    `contrast` is the standard deviation of grey; `sharpness` the standard deviation of its Laplacian; `warmth`, `tint`: colour
    balance; `saturated`: share of pixels at either end; `noise`: standard deviation; `over`: share of patches above the pixel
    threshold; `regions`: median patch distance of each field of the image, row by row. What came later is absent in old verdicts.
    """

    peak: float
    bulk: float
    mean: float
    contrast: float
    sharpness: float
    warmth: float | None = None
    tint: float | None = None
    saturated: float | None = None
    noise: float | None = None
    over: float | None = None
    regions: tuple[float, ...] = ()


class NearestNormal(msgspec.Struct, frozen=True, kw_only=True):
    """The normal training patch nearest to an image's worst patch. Boxes are (left, top, right, bottom) in shares of the image."""

    training_image_key: str
    training_box: tuple[float, float, float, float]
    box: tuple[float, float, float, float]
    distance: float


class Verdict(Message, frozen=True, kw_only=True):
    """What a model version said of an image. The first one of an image stands.

    `late`: judged out of its turn: the image had been collected before the line had a model, or stepped aside for newer ones;
    `overdue`: the verdict came after the line's deadline.
    """

    topic: ClassVar[str] = "verdicts"
    image_id: str
    version: int
    score: float
    threshold: float
    threshold_revision: int
    flagged: bool
    signals: Signals
    taken_at: float
    judged_at: float
    latency_ms: float
    image_key: str
    heatmap_key: str | None = None
    nearest: NearestNormal | None = None
    late: bool = False
    overdue: bool = False

    @property
    def identity(self) -> str:
        return self.image_id


class ShadowVerdict(Message, frozen=True, kw_only=True):
    """What the line's challenger would have said of an image that `champion` judged (`champion_score`, `champion_flagged`)."""

    topic: ClassVar[str] = "shadows"
    image_id: str
    version: int
    score: float
    threshold: float
    flagged: bool
    champion: int
    champion_score: float
    champion_flagged: bool
    image_key: str
    judged_at: float
    heatmap_key: str | None = None

    @property
    def identity(self) -> str:
        return f"{self.image_id}@{self.version}"


class Collected(Message, frozen=True, kw_only=True):
    """An image that met no model: kept, to be scored by the line's first one."""

    topic: ClassVar[str] = "collected"
    image: LineImage
    collected_at: float

    @property
    def identity(self) -> str:
        return self.image.image_id


class ModelAlert(Message, frozen=True, kw_only=True):
    """A version that the scorer refused to load (broken, tampered with); `serving` stays in service. `beside`: it could not be loaded as
    challenger, or not score an image as one, and is no challenger any more; as a champion it is not refused.
    """

    topic: ClassVar[str] = "alerts"
    version: int
    serving: int | None
    reason: str
    raised_at: float
    beside: bool = False

    @property
    def identity(self) -> str:
        return f"{self.line}@{self.version}" + (" beside" if self.beside else "")


class ModelServing(Message, frozen=True, kw_only=True):
    """A scorer now judges the line with `version`: the moment of the swap."""

    topic: ClassVar[str] = "servings"
    version: int
    previous: int | None
    at: float

    @property
    def identity(self) -> str:
        return f"{self.line}@{self.version}:{self.at}"


class DriftIncident(Message, frozen=True, kw_only=True):
    """What became of a change of the line. `kind`: covariate_drift, defect_surge or camera_fault; `state`: opened, growing (it moved
    on by more than half), reopened (it came back soon after it was closed) or closed.

    `since_image_id` is the first image after the estimated change, `before_image_id` the last one before it where it is known, `effect`
    the shift of `signal` in robust standard deviations, `after_images` the images this model had judged before the alarm. `confidence`
    (0 to 1) is that of the kind, `evidence` says why in words, `shape` is step or ramp, `where` how far the bulk of each field of the
    image moved in robust standard deviations (row by row, `detectors.maps.REGIONS` a side; empty: not known) and `place` the same in
    words. `run_length`: the images between false alarms that were promised. `sequence` counts the states of an incident.
    """

    topic: ClassVar[str] = "incidents"
    incident_id: str
    kind: str
    state: str
    version: int
    signal: str
    test: str
    reference: float
    observed: float
    effect: float
    since_image_id: str
    alarm_image_id: str
    after_images: int
    at: float
    reason: str = ""
    before_image_id: str | None = None
    confidence: float | None = None
    evidence: tuple[str, ...] = ()
    shape: str = ""
    where: tuple[float, ...] = ()
    place: str = ""
    run_length: int | None = None
    sequence: int = 0

    @property
    def identity(self) -> str:
        return (
            f"{self.incident_id}:{self.state}"
            if self.sequence == 0
            else f"{self.incident_id}:{self.state}:{self.sequence}"
        )


class IncidentAnswer(Message, frozen=True, kw_only=True):
    """What a person says of an incident. `says`: acknowledged (seen, the policy goes on), expected ("new material from Monday": it is the
    line's new normal, learn it) or ignored (it is explained and no reason to learn anything).
    """

    topic: ClassVar[str] = "answers"
    incident_id: str
    says: str
    note: str
    by: str
    at: float

    @property
    def identity(self) -> str:
        return f"{self.incident_id}:{self.by}:{self.at}"


class RetrainRequest(Message, frozen=True, kw_only=True):
    """A new model is wanted. `cause`: cold_start, covariate_drift, reviews, schedule, manual; `mode`: blind, trusted, refresh.

    `image_keys` is the window: object keys of the images to learn from, oldest first. `asked_at`: when the last of them was judged,
    of a request that follows from an incident. `wanted_images` of a request without a window: so many of the line's latest images
    that show its present condition, chosen when there are enough.
    """

    topic: ClassVar[str] = "requests"
    request_id: str
    cause: str
    mode: str
    image_keys: tuple[str, ...]
    parent_version: int | None
    alarm_at: float | None
    requested_at: float
    incident_id: str | None = None
    asked_at: float | None = None
    wanted_images: int | None = None

    @property
    def identity(self) -> str:
        return self.request_id


class ModelPromoted(Message, frozen=True, kw_only=True):
    """The line's champion is now `version`; `sequence` counts the line's promotions and rollbacks.

    `rolled_back`: the champion before, `previous`, was taken back.
    """

    topic: ClassVar[str] = "promotions"
    version: int
    previous: int | None
    sequence: int
    by: str
    why: str
    at: float
    request_id: str | None = None
    rolled_back: bool = False

    @property
    def identity(self) -> str:
        return f"{self.line}@{self.version}#{self.sequence}"


class Approval(Message, frozen=True, kw_only=True):
    """What a person says of a version that a request made and that waits for people. `says`: approved or rejected."""

    topic: ClassVar[str] = "approvals"
    request_id: str
    version: int
    says: str
    why: str
    by: str
    at: float

    @property
    def identity(self) -> str:
        return f"{self.request_id}:{self.by}:{self.at}"


class Review(Message, frozen=True, kw_only=True):
    """What a person said of an image: `says` is defect, normal or unsure."""

    topic: ClassVar[str] = "reviews"
    image_id: str
    says: str
    note: str
    by: str
    at: float

    @property
    def identity(self) -> str:
        return f"{self.image_id}:{self.by}:{self.at}"


class DeadLetter(Message, frozen=True, kw_only=True):
    """Why a message could not be processed. The original bytes are the body's `original`, its headers `headers`, untouched.

    `cut_from_bytes` is the size of an original too large to be kept whole: `original` is its beginning. `appended_at`: when
    the original came onto the bus.
    """

    topic: ClassVar[str] = "dead-letters"
    source_topic: str
    source_partition: int
    source_offset: int
    error: str
    reason: str
    original: bytes
    headers: tuple[tuple[str, bytes], ...]
    key: bytes | None
    at: float
    cut_from_bytes: int | None = None
    appended_at: float | None = None

    @property
    def identity(self) -> str:
        return f"{self.source_topic}/{self.source_partition}/{self.source_offset}"


class Redrive(Message, frozen=True, kw_only=True):
    """A person puts the original of a dead letter back onto its topic; `repaired`: with this body instead of its own."""

    topic: ClassVar[str] = "redrives"
    source_topic: str
    source_partition: int
    source_offset: int
    by: str
    at: float
    repaired: bytes | None = None

    @property
    def identity(self) -> str:
        """That of the dead letter: it is put back once."""
        return f"{self.source_topic}/{self.source_partition}/{self.source_offset}"


WIRE_TYPES: tuple[type[Message], ...] = (
    LineImage, Verdict, ShadowVerdict, Collected, ModelAlert, ModelServing, DriftIncident, IncidentAnswer, RetrainRequest, ModelPromoted,
    Approval, Review, DeadLetter, Redrive,
)  # fmt: skip

M = TypeVar("M", bound=Message)


def encode(message: Message) -> bytes:
    """The body of a message on the bus.

    >>> review = Review(line="tiles", image_id="a", says="normal", note="", by="ana", at=1.0)
    >>> decode(encode(review), Review) == review
    True
    """
    return msgspec.json.encode(message)


def decode(body: bytes, kind: type[M]) -> M:
    """The message in a body; raises InvalidInput (with the field at fault) if it is not one of `kind`."""
    try:
        return msgspec.json.decode(body, type=kind)
    except (msgspec.DecodeError, msgspec.ValidationError, UnicodeDecodeError) as error:
        raise InvalidInput(
            f"not a {kind.__name__}: {error}; send the fields that streams.messages describes"
        ) from error


def headers_of(message: Message, *, source: str, at: float) -> tuple[tuple[str, bytes], ...]:
    """CloudEvents headers of a message.

    >>> review = Review(line="tiles", image_id="a", says="normal", note="", by="ana", at=1.0)
    >>> dict(headers_of(review, source="/dashboard", at=0.0))["ce_type"]
    b'driftline.Review'
    """
    attributes: dict[str, Any] = {
        "ce_specversion": SPEC_VERSION,
        "ce_type": TYPE_PREFIX + type(message).__name__,
        "ce_source": source,
        "ce_id": message.identity,
        "ce_time": f"{at:.6f}",
        "ce_subject": message.line,
        "content-type": "application/json",
    }
    if isinstance(message, LineImage):
        attributes["ce_dataref"] = message.key
    return tuple((name, str(value).encode()) for name, value in attributes.items())
