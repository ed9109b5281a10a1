"""Whether an older version of a line knows the condition that the line is in now: day and night, one supplier and another.

The pictures are asked first, which takes no model: the signals of the window's images against the version's drift reference. A version
that they do not rule out is loaded, and must judge these images as it judged its own. The measure is that of the drift watch, so that
a version which is taken back does not alarm at once; and one whose own watch asked for a model in this very condition does not know it,
whatever the measures say, so that no two versions are exchanged for each other while the line stays as it is.

Shape legend: T images of the window, N of a reference, S signals.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from detectors.errors import ArtifactError, InvalidInput, NotFound
from detectors.images import Image, statistics
from detectors.manifest import DriftReference, FeatureSpec, Manifest
from detectors.model import Model
from detectors.registry import Registry
from orchestration.evidence import Evidence
from orchestration.gate_calibration import MEDIAN_ERROR, threshold_holds
from orchestration.gate_defects import finds_drawn_defects
from streams.calibrating import (
    CLIP,
    FIELDS,
    NUMBERS,
    OF_PARTS,
    Scale,
    autocorrelation,
    dead_zones,
    floors,
    reference_table,
)
from streams.messages import Signals
from streams.scoring import signals_of

PICTURES = 60
"""Images of the window whose pictures are looked at."""
SCORED = 30
"""Images of the window that a version must judge well."""
DRAWN_ON = 12
"""Images of the window that defects are drawn into."""
FEWEST = 20
"""Of fewer images nothing is told."""
MOST_VERSIONS = 5
ERRORS = 2.5
"""Standard errors of the window's median that are chance."""

Columns = Mapping[str, Sequence[float]]
T = TypeVar("T")


@dataclass(frozen=True)
class Likeness:
    """How far images lie from a reference. `distance`: root mean square of the shifts of all signals in robust sd; `signal`: the one
    that lies farthest beyond its `limit`, or nearest to it.
    """

    distance: float
    signal: str
    shift: float
    limit: float

    @property
    def is_within(self) -> bool:
        """Whether no signal is farther off than its limit."""
        return self.shift <= self.limit

    @property
    def words(self) -> str:
        """The same for people."""
        return (
            f"{self.signal} {self.shift:.1f} robust sd from its reference ({self.limit:.1f} allowed), "
            f"{self.distance:.2f} over all signals"
        )


@dataclass(frozen=True)
class Comparison:
    """What came of comparing a version with the line's images."""

    version: int
    knows: bool
    words: str


def compared(
    images: Sequence[Image], candidates: Mapping[int, Manifest], *, spec: Callable[[], FeatureSpec], judges: "Judges"
) -> list[Comparison]:
    """The candidates by how near their pictures are, up to the first that knows the condition of `images`.

    `spec`: how the line's images become features now, asked for only when a version comes near; a version of other features is not
    taken back, since somebody wanted others.
    """
    near = spread(images, PICTURES)
    seen = columns_of_pictures(near)
    likenesses = {version: _likeness(manifest, seen) for version, manifest in candidates.items()}
    made: list[Comparison] = []
    for version, found in sorted(likenesses.items(), key=lambda each: _distance(each[1])):
        made.append(_compared(version, candidates[version], found, spread(images, SCORED), spec=spec, judges=judges))
        if made[-1].knows:
            break
    return made


def _compared(
    version: int,
    manifest: Manifest,
    pictures: Likeness | str,
    images: Sequence[Image],
    *,
    spec: Callable[[], FeatureSpec],
    judges: "Judges",
) -> Comparison:
    if isinstance(pictures, str):
        return Comparison(version, knows=False, words=pictures)
    if not pictures.is_within:
        return Comparison(version, knows=False, words=f"pictures differ: {pictures.words}")
    if not _same_view(manifest.features, spec()):
        return Comparison(version, knows=False, words="it looks at images in another way than the line is set to now")
    knows, words = judges(version, images)
    return Comparison(version, knows=knows, words=f"pictures: {pictures.words}; {words}")


Judges = Callable[[int, Sequence[Image]], tuple[bool, str]]
"""Whether a version judges images as it judged its own, and in words why."""


def judges_well(candidate: Model, champion: Model | None, images: Sequence[Image]) -> tuple[bool, str]:
    """Whether scores lie within the candidate's reference, its threshold holds, and it finds no fewer drawn defects than the champion."""
    scores = likeness(candidate.reference, columns_of_signals([signals_of(each) for each in candidate.score(images)]))
    if not scores.is_within:
        return False, f"scores differ: {scores.words}"
    words = [f"scores: {scores.words}"]
    for gate, count in ((threshold_holds, SCORED), (finds_drawn_defects, DRAWN_ON)):
        shown = {f"image {at}": image for at, image in enumerate(spread(images, count))}
        result = gate(Evidence(candidate=candidate, champion=champion, held_out=shown, files={}))
        words.append(result.words)
        if not result.passed:
            return False, "; ".join(words)
    return True, "; ".join(words)


def likeness(reference: DriftReference, seen: Columns) -> Likeness:
    """How far the medians of images lie from a reference, over the signals that both know.

    Allowed is what the watch of the reference takes for no drift, and `ERRORS` standard errors of a median of so few images; signals of
    parts count upwards only, as there. Raises InvalidInput for a reference that cannot carry a watch.

    >>> known = tuple(100.0 + at % 7 for at in range(60))
    >>> reference = DriftReference(peak=known, bulk=known, mean=known, contrast=known, sharpness=known)
    >>> likeness(reference, {"mean": [103.0] * 30}).is_within, likeness(reference, {"mean": [110.0] * 30}).is_within
    (True, False)
    """
    names, table_NS = reference_table(reference)
    return _likeness_of(names, table_NS, seen)


def alike(before: Sequence[Image], now: Sequence[Image]) -> bool:
    """Whether the pictures of two windows show one condition."""
    columns = columns_of_pictures(before)
    return _likeness_of(tuple(columns), np.array(list(columns.values())).T, columns_of_pictures(now)).is_within


def _likeness_of(names: tuple[str, ...], table_NS: NDArray[np.float64], seen: Columns) -> Likeness:
    both = tuple(name for name in names if name in seen)
    reference_NS = table_NS[:, [names.index(name) for name in both]]
    seen_TS = np.array([seen[name] for name in both]).T
    scale = Scale.of(reference_NS, floors(both))
    shift_S = scale.standard(np.median(seen_TS, axis=0))
    shift_S = np.where([name in OF_PARTS for name in both], np.maximum(shift_S, 0.0), np.abs(shift_S))
    limit_S = _limits(scale, reference_NS, len(seen_TS))
    at = int(np.argmax(shift_S / limit_S))
    return Likeness(float(np.sqrt(np.mean(shift_S**2))), both[at], float(shift_S[at]), float(limit_S[at]))


def _limits(scale: Scale, reference_NS: NDArray[np.float64], images: int) -> NDArray[np.float64]:
    correlation_S = autocorrelation(np.clip(scale.standard(reference_NS), -CLIP, CLIP))
    no_drift_S = dead_zones(len(reference_NS), correlation_S)[0]
    return np.asarray(no_drift_S + ERRORS * MEDIAN_ERROR / np.sqrt(images))


def columns_of_pictures(images: Sequence[Image]) -> Columns:
    """Signals that take no model, by name."""
    rows = [asdict(statistics(image)) for image in images]
    return {name: [row[name] for row in rows] for name in rows[0]}


def columns_of_signals(seen: Sequence[Signals]) -> Columns:
    """Signals by name, those that all images have."""
    columns = {name: [getattr(each, name) for each in seen] for name in NUMBERS}
    columns |= {name: [each.regions[at] for each in seen] for at, name in enumerate(FIELDS) if seen[0].regions}
    return {name: column for name, column in columns.items() if None not in column}


def manifests(registry: Registry, line: str, proven: Iterable[int]) -> dict[int, Manifest]:
    """The newest proven versions of a line but its champion, each distinct model once; one that cannot be read is none."""
    champion = registry.pointers(line).champion
    others = sorted({*registry.versions(line)} & {*proven} - {champion}, reverse=True)
    distinct: dict[int, Manifest] = {}
    for version in others if champion is None else (champion, *others):
        manifest = _manifest(registry, line, version)
        if manifest is not None and all(manifest.files != each.files for each in distinct.values()):
            distinct[version] = manifest
    newest = [version for version in distinct if version != champion][:MOST_VERSIONS]
    return {version: distinct[version] for version in newest}


def _manifest(registry: Registry, line: str, version: int) -> Manifest | None:
    try:
        return registry.manifest(line, version)
    except (ArtifactError, NotFound):
        return None


def _likeness(manifest: Manifest, seen: Columns) -> Likeness | str:
    try:
        return likeness(manifest.reference, seen)
    except InvalidInput as error:
        return f"cannot be compared: {error}"


def _distance(found: Likeness | str) -> float:
    return np.inf if isinstance(found, str) else found.distance


def _same_view(one: FeatureSpec, other: FeatureSpec) -> bool:
    """Whether two specifications look at images alike, whatever computes them."""
    counted = set(FeatureSpec.__struct_fields__) - {"runtime", "network_sha256"}
    return all(getattr(one, name) == getattr(other, name) for name in counted)


def spread(items: Sequence[T], count: int) -> Sequence[T]:
    """At most `count` items, spread evenly over all.

    >>> spread("abcdef", 2), spread("abc", 5)
    (['b', 'e'], ['a', 'b', 'c'])
    """
    step = max(1.0, len(items) / count)
    return [items[int((at + 0.5) * step)] for at in range(min(count, len(items)))]
