"""Takes an older version back into service, instead of training, where a line has returned to a condition which that version knows.

What was decided is kept in the store before anything is done, so that a run that is killed in between is finished by the next and
decides nothing a second time.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import msgspec

from detectors.encoding import encode_name
from detectors.errors import ArtifactError, Conflict, InvalidInput, NotFound
from detectors.images import Image
from detectors.model import Model
from detectors.objects import ObjectStore
from orchestration.known_condition import FEWEST, PICTURES, Comparison, alike, compared, judges_well, manifests, spread
from orchestration.retrain import Retrain
from orchestration.workbench import readable
from streams.classifying import COVARIATE
from streams.comebacks import last_asked, proven
from streams.ledger_rows import AWAITING
from streams.messages import RetrainRequest
from streams.succession import put_before_a_person, replace_waiting, serve

NOT_LOOKED = "not looked for"
SWITCHED_BACK, CANCELLED = "switched_back", "cancelled"


class Comeback(msgspec.Struct, frozen=True, kw_only=True):
    """What was decided: the version that knows the line's condition, at which promotion of the line, and why."""

    version: int
    sequence: int
    words: str


@dataclass(frozen=True)
class Looked:
    """What came of looking for a version that knows the line's condition. `outcome`: how the request ended, None where it goes on to a
    new model.
    """

    words: dict[str, str]
    version: int | None = None
    outcome: str | None = None


def look_back(retrain: Retrain) -> Looked:
    """Look for an older version that knows the condition of a request's images; one that does is taken back, or offered where a person
    is to approve, and the request ends.
    """
    kept = _kept(retrain)
    if kept is not None:
        return _carry_out(retrain, kept, {})
    pointers = retrain.rooms.registry.pointers(retrain.request.line)
    if why := _no_reason_to_look(retrain, pointers.champion):
        return Looked({NOT_LOOKED: why})
    images = _readable(retrain, retrain.request)
    if len(images) < FEWEST:
        return Looked({NOT_LOOKED: f"{len(images)} images of the window can be read, {FEWEST} are needed"})
    comparisons = _comparisons(retrain, images)
    words = {f"version {each.version}": each.words for each in comparisons}
    found = next((each for each in comparisons if each.knows), None)
    if found is None:
        return Looked(words or {NOT_LOOKED: "there is no other version that may be taken back"})
    comeback = Comeback(version=found.version, sequence=pointers.sequence, words=found.words)
    _store(retrain).put(_key(retrain), msgspec.json.encode(comeback))
    return _carry_out(retrain, comeback, words)


def _no_reason_to_look(retrain: Retrain, champion: int | None) -> str:
    """Why no older version is looked for; empty where one is."""
    request = retrain.request
    if request.cause != COVARIATE:
        return f"the cause of the request is {request.cause}"
    if champion is None or champion != request.parent_version:
        return f"version {request.parent_version} asked, and {champion} serves"
    return ""


def _comparisons(retrain: Retrain, images: Sequence[Image]) -> Sequence[Comparison]:
    """The versions that may be taken back against the request's images."""
    request, rooms = retrain.request, retrain.rooms
    candidates = manifests(rooms.registry, request.line, proven(rooms.ledger, request.line))

    def judges(version: int, seen: Sequence[Image]) -> tuple[bool, str]:
        asked = last_asked(rooms.ledger, request.line, version)
        before = [] if asked is None else _readable(retrain, asked)
        if len(before) >= FEWEST and alike(before, images):
            return False, "it asked for another model in this very condition"
        try:
            return judges_well(retrain.in_force(version)[0], _champion(retrain), seen)
        except (ArtifactError, NotFound) as error:
            return False, f"cannot be loaded: {error}"

    return compared(images, candidates, spec=lambda: retrain.extractor.spec, judges=judges)


def _readable(retrain: Retrain, request: RetrainRequest) -> list[Image]:
    """Images of a request's window, so many as are looked at, spread over it; what cannot be read is left out."""
    keys = spread(request.image_keys, PICTURES)
    images, _ = readable(_store(retrain), keys)
    return [images[key] for key in keys if key in images]


def _champion(retrain: Retrain) -> Model | None:
    """The version that asks; None where it cannot be loaded, which is no reason to keep it."""
    version = retrain.rooms.registry.pointers(retrain.request.line).champion
    try:
        return None if version is None else retrain.in_force(version)[0]
    except (ArtifactError, NotFound):
        return None


def _carry_out(retrain: Retrain, comeback: Comeback, words: dict[str, str]) -> Looked:
    """Promote or offer the version, unless somebody promoted another one meanwhile; each step repeats harmlessly."""
    ledger, at = retrain.rooms.ledger, retrain.rooms.now()
    why = f"the line returned to the condition of version {comeback.version}"
    try:
        if retrain.config.promotion == "automatic":
            outcome = _serve(retrain, comeback, why, at)
        else:
            outcome = AWAITING
            put_before_a_person(
                ledger, retrain.rooms.registry, retrain.request, comeback.version, retrain.config,
                f"{why}: {comeback.words}", at=at,
            )  # fmt: skip
    except (Conflict, InvalidInput) as error:
        detail = f"{why}, but somebody was quicker: {error}"
        ledger.end_request(retrain.request.request_id, outcome=CANCELLED, version=None, detail=detail, at=at)
        return Looked(words, outcome=CANCELLED)
    replace_waiting(ledger, retrain.request, comeback.version, at=at)
    return Looked(words, version=comeback.version, outcome=outcome)


def _serve(retrain: Retrain, comeback: Comeback, why: str, at: float) -> str:
    rooms, detail = retrain.rooms, f"{why}: {comeback.words}"
    serve(
        rooms.ledger, rooms.registry, retrain.request, comeback.version, retrain.config, why=why, detail=detail, at=at,
        expected_sequence=comeback.sequence, outcome=SWITCHED_BACK,
    )  # fmt: skip
    return SWITCHED_BACK


def _kept(retrain: Retrain) -> Comeback | None:
    revision = _store(retrain).read(_key(retrain))
    return None if revision is None else msgspec.json.decode(revision.data, type=Comeback)


def _store(retrain: Retrain) -> ObjectStore:
    return retrain.rooms.bench.store


def _key(retrain: Retrain) -> str:
    return f"drafts/{encode_name(retrain.request.line)}/{retrain.request.request_id}/comeback.json"
