"""Which images of a line a model learns from: frozen, with what was left out and why.

A training set is chosen from the material that a request brings together (`orchestration.material`) and kept for ever under its own digest.
"""

import hashlib
from collections.abc import Mapping, Sequence

import msgspec

from detectors.duplicates import identical_images, same_parts
from detectors.encoding import encode_name
from detectors.errors import InvalidInput
from detectors.fitting import IDENTICAL
from detectors.model import Extractor
from detectors.objects import ObjectStore
from orchestration.material import DEFECT_BY_A_PERSON, Material
from orchestration.workbench import Workbench, readable
from streams.causes import LEAST_IMAGES
from streams.ledger import LearntFrom
from streams.messages import RetrainRequest

HELD_OUT_SHARE = 0.15
LEAST_HELD_OUT = 5

HELD_OUT_PART = "shows a part that is held out"
DEFECTIVE_PART = "shows a part that a person called defective on another image"


class TrainingSet(msgspec.Struct, frozen=True, kw_only=True):
    """Which images a model learns from, which prove it, and which were left out and why. Keys are object keys (each with the digest of
    its image), oldest first.

    `vouched`: those of `fit` that people called normal; `old`: those of all that an earlier model had learnt from.
    """

    line: str
    request_id: str
    fit: tuple[str, ...]
    held_out: tuple[str, ...]
    left_out: dict[str, str]
    mode: str = "blind"
    vouched: tuple[str, ...] = ()
    old: tuple[str, ...] = ()


def choose_images(request: RetrainRequest, material: Material, bench: Workbench, extractor: Extractor) -> TrainingSet:
    """The training set of a request: what is left out and why, and a share of the parts held out for the gates.

    Images that show one part are all fitted on, or the first is held out and the others are left out: no part is both
    fitted on and judged by, none judges twice. A part that people vouch for is fitted on; one that they called defective is
    left out on every image of it, but on those that they called normal. Raises InvalidInput where too few images are left.
    """
    images, unread = readable(bench.store, material.every)
    keys = list(images)
    left_out = dict(material.left_out) | {key: f"unreadable: {why}" for key, why in unread.items()}
    vouched = frozenset(material.vouched)
    part_of: dict[str, int] = {}
    if keys:
        patches_BHWD = extractor.extract(list(images.values()))
        again_B = identical_images(patches_BHWD)
        left_out |= {key: IDENTICAL for key, twice in zip(keys, again_B, strict=True) if twice and key not in left_out}
        different = [key for key, twice in zip(keys, again_B, strict=True) if not twice]
        part_of = dict(zip(different, same_parts(patches_BHWD[~again_B]).tolist(), strict=True))
    defective = {part for key, part in part_of.items() if material.left_out.get(key) == DEFECT_BY_A_PERSON}
    spoilt = {key for key, part in part_of.items() if part in defective and key not in vouched | left_out.keys()}
    left_out |= dict.fromkeys(spoilt, DEFECTIVE_PART)
    keys = [key for key in part_of if key not in left_out]
    if len(keys) < LEAST_IMAGES:
        raise InvalidInput(
            f"{len(keys)} different usable images in a window of {len(material.every)}, a model needs {LEAST_IMAGES}; "
            f"wait for more images and ask again"
        )
    first_of: dict[int, str] = {}
    firsts = {key: first_of.setdefault(part_of[key], key) for key in keys}
    held_out = _held_out(firsts, vouched)
    left_out |= {key: HELD_OUT_PART for key in keys if key not in held_out and firsts[key] in held_out}
    fit = tuple(key for key in keys if key not in held_out and key not in left_out)
    return TrainingSet(
        line=request.line,
        request_id=request.request_id,
        fit=fit,
        held_out=tuple(key for key in keys if key in held_out),
        left_out=left_out,
        mode=request.mode,
        vouched=tuple(key for key in fit if key in vouched),
        old=tuple(key for key in material.old if key not in left_out),
    )


def keep_snapshot(store: ObjectStore, training_set: TrainingSet) -> str:
    """Keep the training set for ever; its key, which names its digest: equal sets have one."""
    data = msgspec.json.encode(training_set)
    key = f"snapshots/{encode_name(training_set.line)}/{hashlib.sha256(data).hexdigest()}.json"
    store.put(key, data)
    return key


def read_snapshot(store: ObjectStore, key: str) -> TrainingSet:
    """The training set kept under `key`; raises NotFound."""
    return msgspec.json.decode(store.get(key), type=TrainingSet)


def learnt_from(training_set: TrainingSet, left_out: Mapping[str, str]) -> list[LearntFrom]:
    """What became of each image of a training set; `left_out`: what the fit itself left out."""
    reasons = {**training_set.left_out, **left_out}
    roles = dict.fromkeys(training_set.fit, "fit") | dict.fromkeys(training_set.held_out, "held_out")
    roles |= dict.fromkeys(reasons, "left_out")
    return [LearntFrom(image_key=key, role=role, why=reasons.get(key, "")) for key, role in roles.items()]


def _held_out(firsts: dict[str, str], vouched: frozenset[str]) -> frozenset[str]:
    """The first images of some parts, spread evenly; none of a part that is vouched for, unless all are."""
    taught = {firsts[key] for key in firsts if key in vouched}
    parts = list(dict.fromkeys(firsts.values()))
    free = [key for key in parts if key not in taught]
    wanted = max(LEAST_HELD_OUT, round(HELD_OUT_SHARE * len(parts)))
    return _every_nth(free if len(free) >= LEAST_HELD_OUT else parts, wanted)


def _every_nth(keys: Sequence[str], count: int) -> frozenset[str]:
    """`count` keys spread evenly over the window, no more than there are.

    >>> sorted(_every_nth("abcdef", 2))
    ['b', 'e']
    """
    count = min(count, len(keys))
    step = len(keys) / count
    return frozenset(keys[int((i + 0.5) * step)] for i in range(count))
