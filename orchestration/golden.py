"""A line's golden set: reviewed images by which each candidate of the line is judged, chosen by a stated policy, frozen in versions.

The policy: at most `DEFECTS_KEPT` defects and as many normals as `NORMALS_KEPT`, by what stands of their reviews; half of the places go to
those judged last, the others are shared evenly among the models that judged the older ones and by whether those flagged them, so that
neither a light of long ago nor a defect that was missed is crowded out. Which of the older ones stay does not depend on what comes
later, so that a set changes little from one candidate to the next.
"""

import hashlib
import re
from collections.abc import Callable, Collection, Iterable, Sequence

import msgspec

from detectors.encoding import encode_name
from detectors.errors import Conflict, NotFound
from detectors.images import Image
from detectors.objects import ObjectStore
from streams.reviews import DEFECT, NORMAL, ReviewedPart

DEFECTS_KEPT = 40
NORMALS_KEPT = 40
_ROUNDS = 4
"""So often images that cannot be read are replaced by others; after that their places stay empty."""

_VERSION = re.compile(r"([1-9][0-9]{0,8})\.json")


class GoldenImage(msgspec.Struct, frozen=True, kw_only=True):
    """A reviewed image. `says`: defect or normal; `judged_at`, `version`, `flagged`: its verdict."""

    key: str
    image_id: str
    says: str
    judged_at: float
    version: int
    flagged: bool


class GoldenSet(msgspec.Struct, frozen=True, kw_only=True):
    """The images of a line that judge its candidates, oldest first; `gone`: chosen ones whose pixels cannot be read, and why."""

    line: str
    images: tuple[GoldenImage, ...] = ()
    gone: dict[str, str] = {}

    def of(self, says: str) -> tuple[GoldenImage, ...]:
        """The defects, or the normals."""
        return tuple(each for each in self.images if each.says == says)


Read = Callable[[Iterable[str]], tuple[dict[str, Image], dict[str, str]]]
"""The images under keys, and why the others cannot be read."""


def content_of(key: str) -> str:
    """What an object key says of the pixels, without the day they came: the same image on two days is the same image.

    >>> content_of("images/tiles/2026/03/01/ab12.png") == content_of("images/tiles/2026/03/02/ab12.png")
    True
    """
    return key.rpartition("/")[2]


def golden_set(line: str, parts: Iterable[ReviewedPart], read: Read) -> tuple[GoldenSet, dict[str, Image]]:
    """The set that the policy chooses among reviewed parts, and its pixels by key."""
    pool = known_images(parts)
    seen: dict[str, Image] = {}
    gone: dict[str, str] = {}
    for _ in range(_ROUNDS):
        chosen = choose(pool, without=gone)
        found, missing = read(each.key for each in chosen if each.key not in seen)
        seen |= found
        gone |= missing
        if not missing:
            break
    images = tuple(each for each in chosen if each.key in seen)
    return GoldenSet(line=line, images=images, gone=gone), {each.key: seen[each.key] for each in images}


def known_images(parts: Iterable[ReviewedPart]) -> list[GoldenImage]:
    """The reviewed parts of which a defect or normal stands, by when they were judged. Where the same pixels were judged twice they
    count once, as a defect if one of them is called so.
    """
    known: dict[str, GoldenImage] = {}
    for part in parts:
        image, before = _golden(part), known.get(content_of(part.verdict.image_key))
        if image.says in (DEFECT, NORMAL) and not (before and before.says == DEFECT and image.says == NORMAL):
            known[content_of(image.key)] = image
    return sorted(known.values(), key=lambda each: (each.judged_at, each.key))


def _golden(part: ReviewedPart) -> GoldenImage:
    verdict = part.verdict
    return GoldenImage(
        key=verdict.image_key,
        image_id=verdict.image_id,
        says=part.says,
        judged_at=verdict.judged_at,
        version=verdict.version,
        flagged=verdict.flagged,
    )


def choose(pool: Sequence[GoldenImage], *, without: Collection[str] = ()) -> tuple[GoldenImage, ...]:
    """The images of `pool` (oldest first) that the policy keeps, oldest first; keys in `without` cannot be had."""
    kept: list[GoldenImage] = []
    for says, most in ((DEFECT, DEFECTS_KEPT), (NORMAL, NORMALS_KEPT)):
        at_hand = [each for each in pool if each.says == says and each.key not in without]
        latest = at_hand[len(at_hand) - min(len(at_hand), most - most // 2) :]
        older = at_hand[: len(at_hand) - len(latest)]
        kept += [*_shared(older, most // 2), *latest]
    return tuple(sorted(kept, key=lambda each: (each.judged_at, each.key)))


def _shared(older: Sequence[GoldenImage], places: int) -> list[GoldenImage]:
    """At most so many of the older images: each group gives one in turn, in an order that a digest of the pixels says."""
    groups: dict[tuple[int, bool], list[GoldenImage]] = {}
    for each in sorted(older, key=lambda each: _lot(each.key)):
        groups.setdefault((each.version, each.flagged), []).append(each)
    turns = [
        (turn, -group[0], group[1], image) for group, images in groups.items() for turn, image in enumerate(images)
    ]
    return [image for *_, image in sorted(turns, key=lambda each: each[:3])[:places]]


def _lot(key: str) -> str:
    return hashlib.sha256(content_of(key).encode()).hexdigest()


def freeze(store: ObjectStore, golden: GoldenSet) -> int:
    """The number of the version that is exactly this set: one kept before, or the line's next. Repeats harmlessly after a crash."""
    data = msgspec.json.encode(golden)
    by_content = f"{_folder(golden.line)}contents/{hashlib.sha256(data).hexdigest()}"
    known = store.read(by_content)
    number = int(known.data) if known else _kept(store, golden.line, data)
    try:
        store.put(by_content, str(number).encode())
    except Conflict:  # another run froze the same set at the same moment
        return int(store.get(by_content))
    return number


def _kept(store: ObjectStore, line: str, data: bytes) -> int:
    """Put the set under the first number that is free, or that holds the same bytes because its writer was killed."""
    number = max(versions(store, line), default=1)
    while not _put(store, _key(line, number), data):
        number += 1
    return number


def _put(store: ObjectStore, key: str, data: bytes) -> bool:
    try:
        store.put(key, data)
    except Conflict:
        return False
    return True


def versions(store: ObjectStore, line: str) -> list[int]:
    """The numbers of the golden sets that were kept of a line, in order."""
    folder = _folder(line)
    found = (_VERSION.fullmatch(key.removeprefix(folder)) for key in store.keys(folder))
    return sorted(int(each[1]) for each in found if each)


def read_golden(store: ObjectStore, line: str, number: int) -> GoldenSet:
    """A golden set kept before; raises NotFound."""
    found = store.read(_key(line, number))
    if found is None:
        raise NotFound(f"line {line!r} has no golden set {number}; it has {len(versions(store, line))}")
    return msgspec.json.decode(found.data, type=GoldenSet)


def _folder(line: str) -> str:
    return f"golden/{encode_name(line)}/"


def _key(line: str, number: int) -> str:
    return f"{_folder(line)}{number}.json"
