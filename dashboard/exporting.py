"""What a search found, to take away: a table, or the images in MVTec's layout. Knows no Streamlit."""

import io
import re
import zipfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from dashboard.spreadsheet import Cell, spreadsheet
from detectors.encoding import encode_name
from detectors.errors import InvalidInput, NotFound
from detectors.objects import ObjectStore
from streams.ledger_search import FoundImage
from streams.reviews import NORMAL

TABLE_LIMIT = 10_000
IMAGES_LIMIT = 200
BYTES_LIMIT = 200_000_000
MISSING_NAMED = 20
COLUMNS = (
    "line", "image_id", "judged_at", "taken_at", "score", "threshold", "flagged", "version", "review", "image_key", "heatmap_key",
)  # fmt: skip
_UNSAFE = re.compile(r"[^\w.-]+")
_SUFFIX = re.compile(r"\.[A-Za-z0-9]{1,8}\Z")


@dataclass(frozen=True)
class Archive:
    """A zip file, how many images are in it, the ids of those whose pixels are gone, and whether it was full before all were in it."""

    data: bytes
    images: int
    missing: tuple[str, ...]
    full: bool


def table_of(images: Iterable[FoundImage]) -> bytes:
    """A row an image as CSV (UTF-8 with the mark that spreadsheets look for); times are ISO 8601, UTC."""
    return spreadsheet(COLUMNS, (_row(image) for image in images))


def archive_of(store: ObjectStore, images: Sequence[FoundImage], *, bytes_limit: int = BYTES_LIMIT) -> Archive:
    """The images as they were taken, as `test/good`, `test/<what people say>`, `test/flagged`, with a table and a README.

    Several lines are a folder each. At most `bytes_limit` of pixels. Raises Unavailable where the store does not answer.
    """
    out = io.BytesIO()
    kept: list[tuple[Cell, ...]] = []
    missing: list[str] = []
    left, full = bytes_limit, False
    several = len({image.verdict.line for image in images}) > 1
    with zipfile.ZipFile(out, "w") as archive:
        for image in images:
            data = _pixels(store, image)
            if data is None:
                missing.append(image.verdict.image_id)
                continue
            left -= len(data)
            if left < 0:
                full = True
                break
            name = _name(image, len(kept), several=several)
            archive.writestr(name, data)
            kept.append((name, *_row(image)))
        archive.writestr("images.csv", spreadsheet(("file", *COLUMNS), kept))
        archive.writestr("README.txt", _readme(len(kept), missing, full=full))
    return Archive(out.getvalue(), len(kept), tuple(missing), full)


def kind_of(image: FoundImage) -> str:
    """The folder of an image: what stands of its reviews, else what the model said.

    Good: people say normal, or nobody said anything and the model did not flag it.
    """
    if image.says is None:
        return "flagged" if image.verdict.flagged else "good"
    return "good" if image.says == NORMAL else image.says


def _row(image: FoundImage) -> tuple[Cell, ...]:
    verdict = image.verdict
    times = (_utc(verdict.judged_at), _utc(verdict.taken_at))
    figures = (verdict.score, verdict.threshold, "yes" if verdict.flagged else "no", verdict.version)
    return (
        verdict.line, verdict.image_id, *times, *figures, image.says or "", verdict.image_key, verdict.heatmap_key or "",
    )  # fmt: skip


def _utc(at: float) -> str:
    try:
        return datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds")
    except (ValueError, OverflowError, OSError):
        return str(at)


def _pixels(store: ObjectStore, image: FoundImage) -> bytes | None:
    try:
        return store.get(image.verdict.image_key)
    except (InvalidInput, NotFound):
        return None


def _name(image: FoundImage, number: int, *, several: bool) -> str:
    """A path within the archive made of letters, digits and `._-` alone, whatever the image is called.

    The number in front keeps apart what looks alike then.
    """
    verdict = image.verdict
    suffix = _SUFFIX.search(verdict.image_key)
    file = f"{number:04}-{_UNSAFE.sub('_', verdict.image_id)[:60]}".rstrip(".")
    folder = f"{encode_name(verdict.line)}/" if several else ""
    return f"{folder}test/{kind_of(image)}/{file}{suffix[0].lower() if suffix else '.bin'}"


def _readme(images: int, missing: Sequence[str], *, full: bool) -> str:
    words = [
        f"{images} images found by a search in Driftline, laid out as MVTec AD is (test/<kind>); images.csv has a row for each.",
        "good: people say normal, or nobody said anything and the model did not flag it.",
        "defect, unsure: what stands of people's reviews. flagged: the model flagged it and nobody said anything yet.",
        "No mask is known, as nobody has drawn where a defect is: there is no folder ground_truth.",
    ]
    if full:
        words.append(f"There were more: the pixels of an archive are limited to {BYTES_LIMIT / 1e6:.0f} MB.")
    if missing:
        words.append(f"The pixels of {len(missing)} images are no longer in the object store:")
        words += [" ".join(image_id.split()) for image_id in missing]
    return "\n".join([*words, ""])
