"""Lineage both ways: from a verdict to the version, run, training set and images behind it; from an image to the models that learnt it.

Facts alone, from registry and ledger; `streams.lineage_words` says them.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from detectors.errors import ArtifactError, NotFound
from detectors.manifest import Manifest
from detectors.registry import OperatingPoint, Registry
from streams.ledger import GateResult, ImageStory, LearntFrom, Ledger, RequestRow
from streams.messages import DriftIncident, ModelPromoted
from streams.reviews import DEFECT

FIT, LEFT_OUT = "fit", "left_out"
ASKED_AT_ONCE = 5000
_DIGEST = re.compile(r"([0-9a-f]{64})\.[a-z0-9]+")


@dataclass(frozen=True)
class Ancestor:
    """A version that another came after, and why it was made."""

    version: int
    mode: str
    cause: str
    created_at: float


@dataclass(frozen=True)
class DefectLearnt:
    """A training image that stands as a defect now, and since when."""

    image_key: str
    image_id: str
    at: float


@dataclass(frozen=True)
class VersionStory:
    """All that is known of a version. `training`: what became of each image of its training set; empty for versions of a folder, and
    for those older than the ledger's note of it. `affected`: images it learnt that stand as defects now.
    """

    line: str
    version: int
    marks: tuple[str, ...]
    manifest: Manifest
    snapshot: str | None
    ancestors: tuple[Ancestor, ...]
    operating_points: tuple[OperatingPoint, ...]
    request: RequestRow | None = None
    incident: DriftIncident | None = None
    gates: tuple[GateResult, ...] = ()
    promotions: tuple[ModelPromoted, ...] = ()
    training: tuple[LearntFrom, ...] = ()
    affected: tuple[DefectLearnt, ...] = ()


@dataclass(frozen=True)
class ImageLineage:
    """All that is known of an image. `judged_by`: the version of its verdict, with all behind it; `learnt_by`: its training sets."""

    image: ImageStory
    image_key: str
    judged_by: VersionStory | None
    learnt_by: tuple[LearntFrom, ...]


def born(registry: Registry, line: str, version: int) -> VersionStory:
    """What the registry alone knows of a version; raises NotFound, or ArtifactError where it cannot be read."""
    manifest, pointers = registry.manifest(line, version), registry.pointers(line)
    named = {"champion": pointers.champion, "challenger": pointers.challenger, "previous": pointers.previous}
    return VersionStory(
        line=line,
        version=version,
        marks=tuple(mark for mark, number in named.items() if number == version),
        manifest=manifest,
        snapshot=manifest.snapshot,
        ancestors=tuple(_ancestors(registry, line, manifest)),
        operating_points=tuple(registry.operating_points(line, version)),
    )


def version_story(ledger: Ledger, registry: Registry, line: str, version: int) -> VersionStory:
    """All that is known of a version; raises NotFound, or ArtifactError where it cannot be read."""
    story = born(registry, line, version)
    story = replace(
        story,
        promotions=tuple(each for each in ledger.promotions(line) if each.version == version),
        affected=tuple(_defects_learnt(story.manifest, standing_defects(ledger, line))),
    )
    request_id = story.manifest.request_id
    row = None if request_id is None else ledger.request(request_id)
    if row is None:
        return story
    incident_id = row.request.incident_id
    return replace(
        story,
        request=row,
        incident=None if incident_id is None else ledger.incident(line, incident_id),
        gates=tuple(ledger.gates(row.request.request_id)),
        training=tuple(ledger.training_set(line, row.request.request_id)),
    )


def image_lineage(ledger: Ledger, registry: Registry, line: str, image_id: str) -> ImageLineage:
    """All that is known of an image by its id, or by its object key where it never came down the line.

    Raises NotFound where nothing is known of it.
    """
    image = ledger.story(line, image_id)
    key = image_id
    if image.verdict is not None:
        key = image.verdict.image_key
    elif image.collected is not None:
        key = image.collected.image.key
    found = learnt_by(ledger, registry, line, [key])
    if not (found or image.verdict or image.collected or image.dead_letters):
        raise NotFound(f"line {line!r} knows no image {image_id!r}; give the id of its verdict, or its object key")
    return ImageLineage(image, key, _judge(ledger, registry, image), tuple(found))


def learnt_by(ledger: Ledger, registry: Registry, line: str, image_keys: Sequence[str]) -> list[LearntFrom]:
    """In which training sets these images are, and what became of them there, by version; those without one (yet) last.

    The ledger knows what was chosen; the manifest has the last word, for the fit leaves out more. Versions that the ledger does not
    know the images of (trained from a folder, or older) are asked one by one, and by content: the same picture may lie under two days.
    """
    noted = [row for keys in _few(image_keys) for row in ledger.training_images(line, keys)]
    unknown = set(registry.versions(line)) - ledger.versions_learnt(line)
    manifests = dict(_manifests(registry, line, unknown | {row.version for row in noted if row.version is not None}))
    version_of = {each.request_id: version for version, each in manifests.items() if each.request_id is not None}
    rows = [replace(row, version=row.version or version_of.get(row.request_id)) for row in noted]
    told = {(row.version, row.image_key) for row in rows}
    rows += [
        row
        for version in unknown & manifests.keys()
        for row in _told_by(manifests[version], version, image_keys)
        if (version, row.image_key) not in told
    ]
    corrected = [_corrected(row, manifests.get(row.version or 0)) for row in rows]
    return sorted(corrected, key=lambda row: (row.version is None, row.version or 0, row.image_key))


def affected_versions(ledger: Ledger, registry: Registry, line: str) -> dict[int, tuple[DefectLearnt, ...]]:
    """The versions that learnt images which stand as defects now, and those images; versions without any are absent."""
    defects = standing_defects(ledger, line)
    found: dict[int, list[DefectLearnt]] = {}
    for row in learnt_by(ledger, registry, line, list(defects)) if defects else ():
        if row.role == FIT and row.version is not None:
            found.setdefault(row.version, []).append(defects[row.image_key])
    return {version: tuple(images) for version, images in found.items()}


def standing_defects(ledger: Ledger, line: str) -> dict[str, DefectLearnt]:
    """The judged images of a line that stand as defects, by object key."""
    parts = [part for part in ledger.reviewed(line) if part.says == DEFECT]
    return {
        part.verdict.image_key: DefectLearnt(part.verdict.image_key, part.verdict.image_id, part.at) for part in parts
    }


def _defects_learnt(manifest: Manifest, defects: Mapping[str, DefectLearnt]) -> Iterator[DefectLearnt]:
    for row in _told_by(manifest, 0, list(defects)):
        if row.role == FIT:
            yield defects[row.image_key]


def _told_by(manifest: Manifest, version: int, image_keys: Iterable[str]) -> Iterator[LearntFrom]:
    """What a manifest says of those of these images that it knows."""
    left_out = {_content(key): why for key, why in manifest.left_out.items()}
    fitted = {_content(key) for key in manifest.training_keys} - left_out.keys()
    for key in image_keys:
        content = _content(key)
        if content in fitted or content in left_out:
            role = FIT if content in fitted else LEFT_OUT
            yield LearntFrom(key, role, left_out.get(content, ""), manifest.request_id or "", version)


def _corrected(row: LearntFrom, manifest: Manifest | None) -> LearntFrom:
    """The row, unless it was chosen for the fit and the fit left it out."""
    if row.role != FIT or manifest is None or row.image_key not in manifest.left_out:
        return row
    return replace(row, role=LEFT_OUT, why=manifest.left_out[row.image_key])


def _content(key: str) -> str:
    """What tells an image from others: its digest where the key has one.

    >>> _content(f"images/tiles/2026/01/01/{'0' * 64}.png") == _content(f"images/tiles/2026/01/02/{'0' * 64}.jpg") == "0" * 64
    True
    """
    found = _DIGEST.fullmatch(key.rpartition("/")[2])
    return found[1] if found else key


def _judge(ledger: Ledger, registry: Registry, image: ImageStory) -> VersionStory | None:
    """The version that judged the image; None where none did, or its artefact is gone."""
    if image.verdict is None:
        return None
    try:
        return version_story(ledger, registry, image.line, image.verdict.version)
    except (ArtifactError, NotFound):
        return None


def _ancestors(registry: Registry, line: str, manifest: Manifest) -> Iterator[Ancestor]:
    """Parent, its parent and so on, as far as they can be read."""
    parent = manifest.parent
    met: set[int] = set()
    while parent is not None and parent not in met:
        met.add(parent)
        found = dict(_manifests(registry, line, [parent]))
        if parent not in found:
            return
        manifest = found[parent]
        yield Ancestor(parent, manifest.mode, manifest.cause, manifest.created_at)
        parent = manifest.parent


def _manifests(registry: Registry, line: str, versions: Iterable[int]) -> Iterator[tuple[int, Manifest]]:
    """The manifests of those of the versions that can be read."""
    for version in versions:
        try:
            yield version, registry.manifest(line, version)
        except (ArtifactError, NotFound):
            continue


def _few(keys: Sequence[str]) -> Iterator[Sequence[str]]:
    """As many at once as a database takes in one question."""
    for start in range(0, len(keys), ASKED_AT_ONCE):
        yield keys[start : start + ASKED_AT_ONCE]
