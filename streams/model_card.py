"""The model card of a version: what it was trained on, its limits, its figures, its lineage. Markdown, written once by who published it.

It lies beside the version, not in it: the files of a version are checked against its manifest, which is written first.
"""

import re
from collections.abc import Iterator, Sequence
from contextlib import suppress

import numpy as np

from detectors.errors import Conflict, NotFound
from detectors.manifest import DriftReference, Manifest, Preprocessing, Threshold
from detectors.objects import ObjectStore
from detectors.registry import Registry
from detectors.registry_keys import card_key
from streams.ledger import GateResult, Ledger
from streams.lineage import VersionStory, born, version_story
from streams.lineage_words import birth_words, learnt_words, left_out_counts, since_words
from streams.stored_calibration import in_words

FEW_REFERENCES = 50
FEW_HELD_OUT = 30
CONDITIONS = ("mean", "contrast", "sharpness", "bulk", "peak")
_DAY = re.compile(r"images/[^/]+/(\d{4})/(\d{2})/(\d{2})/")
_MARKUP = re.compile(r"([\\`*_\[\]<>|#])")


def keep_card(store: ObjectStore, registry: Registry, line: str, version: int, *, ledger: Ledger | None = None) -> str:
    """Write the card of a version that was just published, unless it is there already, and give its key.

    `ledger`: where a request made it. Raises Unavailable where store or ledger is away: publishing is repeated then.
    """
    key = card_key(line, version)
    if not store.exists(key):
        story = born(registry, line, version) if ledger is None else version_story(ledger, registry, line, version)
        with suppress(Conflict):  # somebody who publishes the same request was quicker
            store.put(key, card(story).encode())
    return key


def kept_card(store: ObjectStore, story: VersionStory) -> str:
    """The card of a version as it was written, and what became of it since; for a version without one it is written now."""
    try:
        kept = store.get(card_key(story.line, story.version)).decode(errors="replace")
    except NotFound:
        kept = card(story)
    return "\n".join([kept.rstrip("\n"), "", "## Since then", "", *_list(since_words(story)), ""])


def card(story: VersionStory) -> str:
    """The card of a version, from all that is known of it."""
    manifest = story.manifest
    sections = {
        "What it learnt from": [*_trained_on(story)],
        "Its limits": [*_limits(story)],
        "Its figures": [*_figures(manifest)],
        "Where it comes from": birth_words(story),
    }
    lines = [f"# {_plain(story.line)}, version {story.version}"]
    for title, words in sections.items():
        lines += ["", f"## {title}", "", *_list(words)]
        if title == "Its figures":
            lines += ["", *_gate_table(story.gates)]
    return "\n".join([*lines, ""])


def _trained_on(story: VersionStory) -> Iterator[str]:
    manifest, row = story.manifest, story.request
    yield learnt_words(story)
    days = sorted("-".join(found.groups()) for key in manifest.training_keys if (found := _DAY.match(key)))
    if days:
        yield f"taken {days[0]} to {days[-1]} (UTC)"
    window = len(story.training) or (0 if row is None else len(row.request.image_keys))
    if window:
        yield f"chosen from a window of {window:,} images"
    if manifest.mode == "blind":
        yield "unsorted images of the line: nobody said that they are normal, the fit left out what stood out"
    yield from (f"{count:,} left out: {why}" for why, count in left_out_counts(story).items())


def _limits(story: VersionStory) -> Iterator[str]:
    manifest = story.manifest
    size_px = manifest.features.image_size
    yield f"sees {_seen(manifest.features.prepare)}, {size_px} px a square: what is smaller than a few of these pixels is invisible"
    yield f"knows one condition, and calls others drift: {_conditions(manifest.reference)}"
    few = len(manifest.reference.bulk)
    if few < FEW_REFERENCES:
        yield f"its drift reference has only {few} images (below {FEW_REFERENCES}): small changes show late"
    yield f"drift watch: {in_words(manifest.calibration, manifest.reference)}"
    yield from _unseen_by_gates(story)
    if manifest.intruders:
        yield f"{len(manifest.intruders)} of its training images look bad themselves; if they are, defects like theirs pass"
    yield from manifest.notes


def _unseen_by_gates(story: VersionStory) -> Iterator[str]:
    """What no gate could see."""
    if not story.gates:
        yield "no gate compared it with another version: nothing is known of its recall"
        return
    if any("drawn" in gate.name for gate in story.gates):
        yield "where a gate judges by drawn defects, it estimates the recall of real ones: these may be harder to see"
    held_out = sum(each.role == "held_out" for each in story.training)
    if 0 < held_out < FEW_HELD_OUT:
        yield f"the gates saw {held_out} held-out images: shares of so few are rough"
    blind = [gate.name for gate in story.gates if np.isnan(gate.value)]
    if blind:
        yield f"not to be evaluated: {', '.join(blind)}"


def _figures(manifest: Manifest) -> Iterator[str]:
    yield _threshold_words("threshold of an image", manifest.threshold)
    if manifest.pixel_threshold is not None:
        yield _threshold_words("threshold of a patch", manifest.pixel_threshold)
    yield from (f"{name}: {value:g}" for name, value in manifest.metrics.items())
    yield from (f"{name}: {value}" for name, value in manifest.parameters.items())


def _threshold_words(what: str, threshold: Threshold) -> str:
    return (
        f"{what} {threshold.value:.6g}, for {_share(threshold.false_alarm_rate)} false alarms; on unseen normals "
        f"{_share(threshold.low)} to {_share(threshold.high)} (95 %), from {threshold.images} images, {threshold.method}"
    )


def _gate_table(gates: Sequence[GateResult]) -> list[str]:
    if not gates:
        return ["No gates."]
    rows = [
        f"| {gate.name} | {'passed' if gate.passed else 'refused'} | {_number(gate.value)} | {_number(gate.limit)} | {_plain(gate.words)} |"
        for gate in gates
    ]
    return ["| gate | | number | limit | in words |", "|---|---|---|---|---|", *rows]


def _conditions(reference: DriftReference) -> str:
    """The middle nine tenths of each signal on its own normal images."""
    ranges = []
    for name in CONDITIONS:
        low, high = np.quantile(getattr(reference, name), [0.05, 0.95])
        ranges.append(f"{name} {low:.3g} to {high:.3g}")
    return ", ".join(ranges)


def _seen(prepare: Preprocessing) -> str:
    rows, columns = prepare.tiles
    parts = ["the image in grey" if prepare.grey else "the image in colour"]
    parts += [f"cropped to {prepare.crop}"] if prepare.crop != (0.0, 0.0, 1.0, 1.0) else []
    parts += [f"cut into {rows} x {columns} squares"] if rows * columns > 1 else []
    parts += ["nothing outside its mask"] if prepare.mask else []
    return ", ".join(parts)


def _share(value: float) -> str:
    return f"{100 * value:.2g} %"


def _number(value: float) -> str:
    return "none" if np.isnan(value) else f"{value:.4g}"


def _list(words: Sequence[str]) -> list[str]:
    return [f"- {_plain(each)}" for each in words]


def _plain(text: str) -> str:
    """Text of others (notes, reasons, names) on one line of Markdown, read as typed.

    >>> _plain("a|b *c*")
    'a\\\\|b \\\\*c\\\\*'
    """
    return _MARKUP.sub(r"\\\1", " ".join(text.split()))
