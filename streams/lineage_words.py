"""The story of a version and of an image, in words: the same on the command line, on Dagster's page and in the model card."""

from collections import Counter
from collections.abc import Iterable, Iterator

from detectors.registry import OperatingPoint
from streams.ledger import GateResult, LearntFrom
from streams.lineage import DefectLearnt, ImageLineage, VersionStory
from streams.moments import utc

IMAGES_NAMED = 20
"""Affected images named in words; the others are a number (`--json` has them all)."""


def version_words(story: VersionStory) -> list[str]:
    """All of a version's story, a sentence a line: what it is, where it comes from, what became of it."""
    return [*birth_words(story), *since_words(story)]


def birth_words(story: VersionStory) -> list[str]:
    """What was known when the version was made."""
    manifest = story.manifest
    head = f"{manifest.detector} on {manifest.features.backbone} at {manifest.features.image_size} px"
    snapshot = [f"training set kept as {story.snapshot}"] if story.snapshot else []
    return [
        f"{head}, mode {manifest.mode}, cause {manifest.cause}, made {utc(manifest.created_at)} by driftline {manifest.code_version}",
        *_request_words(story),
        learnt_words(story),
        *snapshot,
        _ancestor_words(story),
        *(gate_words(gate) for gate in story.gates),
    ]


def since_words(story: VersionStory) -> list[str]:
    """What became of the version since: promotions, thresholds, training images that people call defects now."""
    promotions = [
        f"in service from {utc(each.at)} by {each.by}{f' ({each.why})' if each.why else ''}, before it {each.previous or 'none'}"
        for each in sorted(story.promotions, key=lambda each: each.sequence)
    ]
    thresholds = [point_words(point) for point in story.operating_points]
    return [*(promotions or ["never in service"]), *thresholds, *affected_words(story.affected)]


def learnt_words(story: VersionStory) -> str:
    """How many images it learnt from, how many were held out, and what was left out and why.

    Of every image the manifest has the last word; the ledger knows those that never reached the fit.
    """
    manifest = story.manifest
    learnt = len(set(manifest.training_keys) - manifest.left_out.keys())
    held_out = sum(each.role == "held_out" for each in story.training)
    counts = left_out_counts(story)
    words = [f"learnt from {learnt:,} images"]
    words += [f"{held_out:,} held out to judge it"] if held_out else []
    reasons = ", ".join(f"{count:,} {why}" for why, count in counts.items())
    words += [f"{sum(counts.values()):,} left out ({reasons})"] if counts else ["none left out"]
    return ", ".join(words)


def left_out_counts(story: VersionStory) -> dict[str, int]:
    """How many images were left out for each reason, the most frequent first; of a reason with details, what stands before the colon."""
    left_out = {each.image_key: each.why for each in story.training if each.role == "left_out"}
    reasons = (left_out | story.manifest.left_out).values()
    return dict(Counter(why.partition(":")[0] for why in reasons).most_common())


def gate_words(gate: GateResult) -> str:
    """A gate and what it found.

    >>> gate_words(GateResult("latency_and_size", True, 81.0, 1000.0, "81 ms an image (limit 1000)"))
    'gate latency_and_size passed: 81 ms an image (limit 1000)'
    """
    return f"gate {gate.name} {'passed' if gate.passed else 'REFUSED'}: {gate.words}"


def point_words(point: OperatingPoint) -> str:
    """A threshold, since when, by whom and why."""
    preview = f"; {point.preview}" if point.preview else ""
    return f"threshold {point.threshold:.6g}, revision {point.revision}, {utc(point.at)} by {point.by}: {point.why}{preview}"


def affected_words(affected: Iterable[DefectLearnt]) -> list[str]:
    """The warning of a version that learnt from what people call defects now; nothing where there are none."""
    images = [each.image_id for each in affected]
    if not images:
        return []
    named = ", ".join(images[:IMAGES_NAMED]) + (
        f" and {len(images) - IMAGES_NAMED} more" if images[IMAGES_NAMED:] else ""
    )
    return [f"AFFECTED: {len(images)} of its training images stand as defects now: {named}; train again without them"]


def image_words(lineage: ImageLineage) -> list[str]:
    """All of an image's story, a sentence a line."""
    return [
        *_verdict_words(lineage),
        *_said_words(lineage),
        *_learnt_by_words(lineage.learnt_by),
        *_judge_words(lineage),
    ]


def _request_words(story: VersionStory) -> Iterator[str]:
    row = story.request
    if row is None:
        yield (
            "made by hand, no request" if story.manifest.request_id is None else f"request {story.manifest.request_id}"
        )
        return
    request = row.request
    yield (
        f"request {request.request_id} of {utc(request.requested_at)} ({request.cause}, {request.mode}): "
        f"{row.state}{f', {row.detail}' if row.detail else ''}"
    )
    if row.run_id is not None:
        yield f"Dagster run {row.run_id}, attempt {row.attempt}"
    if story.incident is not None:
        incident = story.incident
        yield f"because of incident {incident.incident_id}: {incident.kind}, {incident.signal} {incident.effect:+.1f} sd"
    elif request.incident_id is not None:
        yield f"because of incident {request.incident_id}"


def _ancestor_words(story: VersionStory) -> str:
    if not story.ancestors:
        parent = story.manifest.parent
        return "the line's first" if parent is None else f"after version {parent}, which is gone"
    return "after version " + ", after ".join(f"{each.version} ({each.cause})" for each in story.ancestors)


def _verdict_words(lineage: ImageLineage) -> Iterator[str]:
    verdict, collected = lineage.image.verdict, lineage.image.collected
    if collected is not None:
        yield f"collected {utc(collected.collected_at)}, before the line had a model"
    if verdict is None:
        yield "not judged"
        return
    yield (
        f"judged {utc(verdict.judged_at)} by version {verdict.version}: score {verdict.score:.6g}, "
        f"{'flagged' if verdict.flagged else 'not flagged'} at {verdict.threshold:.6g} (revision {verdict.threshold_revision})"
    )
    if verdict.nearest is not None:
        yield f"nearest normal patch in {verdict.nearest.training_image_key}"


def _said_words(lineage: ImageLineage) -> Iterator[str]:
    image = lineage.image
    yield f"stored as {lineage.image_key}"
    for review in image.reviews:
        yield f"{review.by} says {review.says}, {utc(review.at)}{f': {review.note}' if review.note else ''}"
    for incident in image.incidents:
        yield f"named by incident {incident.incident_id} ({incident.kind})"
    for letter in image.dead_letters:
        yield f"dead letter {letter.identity}: {letter.error}: {letter.reason}"


def _learnt_by_words(rows: Iterable[LearntFrom]) -> list[str]:
    said = {"fit": "learnt by", "held_out": "held out to judge", "left_out": "left out of"}
    words = [f"{said.get(row.role, row.role)} {_what(row)}{f' ({row.why})' if row.why else ''}" for row in rows]
    return words or ["no model learnt from it"]


def _what(row: LearntFrom) -> str:
    if row.version is not None:
        return f"version {row.version}"
    return f"the training set of request {row.request_id}, of which no version came (yet)"


def _judge_words(lineage: ImageLineage) -> Iterator[str]:
    verdict = lineage.image.verdict
    if lineage.judged_by is not None:
        yield f"version {lineage.judged_by.version} {' '.join(lineage.judged_by.marks)}".rstrip() + ":"
        yield from (f"  {each}" for each in version_words(lineage.judged_by))
    elif verdict is not None:
        yield f"version {verdict.version} is not in the registry any more"
