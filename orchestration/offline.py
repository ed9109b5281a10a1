"""What the commands do without a running installation: train, rank and predict on folders, change a champion."""

import hashlib
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from importlib.metadata import version as distribution_version
from pathlib import Path
from typing import Any, Protocol

import msgspec

from detectors.artifact import Provenance, pack, unpack
from detectors.errors import ImageError, InvalidInput
from detectors.extractors import ExtractorCache
from detectors.images import Image, decode, encode_jpeg
from detectors.model import Model, detector_from, fit_model, heatmap
from detectors.registry import Pointers, Registry
from detectors.store import ObjectStore, image_key, open_store
from streams.actions import Actor, promote, rollback
from streams.ledger import Ledger
from streams.messages import ModelPromoted
from streams.settings import LineConfig, Settings, load_lines, weights_files

SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp"})


class Progress(Protocol):
    """Passes items on while telling how far it is."""

    def __call__(self, items: Iterable[Any], what: str, /) -> Iterator[Any]:
        """The same items."""


class ScoredFile(msgspec.Struct, frozen=True, kw_only=True):
    """A file and its score."""

    path: str
    score: float
    flagged: bool


class Ranking(msgspec.Struct, frozen=True, kw_only=True):
    """A folder ranked blind, worst first."""

    images: tuple[ScoredFile, ...]
    seconds: float
    parameters: dict[str, int | float | str | bool]
    unreadable: dict[str, str]


class Predictions(msgspec.Struct, frozen=True, kw_only=True):
    """Files scored with one version."""

    model: str
    images: tuple[ScoredFile, ...]
    unreadable: dict[str, str]


def image_files(folder: Path) -> list[Path]:
    """The image files under a folder, in order of name; raises InvalidInput where there is none."""
    if not folder.is_dir():
        raise InvalidInput(f"{folder} is no folder; name one with images")
    found = sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES and path.is_file())
    if not found:
        raise InvalidInput(f"no images in {folder} ({', '.join(sorted(SUFFIXES))}); name a folder with some")
    return found


def read_images(paths: Iterable[Path]) -> tuple[dict[Path, Image], dict[str, str]]:
    """Decoded images, and for each that cannot be decoded the reason."""
    images: dict[Path, Image] = {}
    unreadable: dict[str, str] = {}
    for path in paths:
        try:
            images[path] = decode(path.read_bytes())
        except (ImageError, OSError) as error:
            unreadable[str(path)] = str(error)
    return images, unreadable


def fit_images(images: Mapping[str, Image], config: LineConfig) -> Model:
    """A model of images by key."""
    weights = {config.backbone: Path(config.weights)} if config.weights else {}
    extractor = ExtractorCache(weights=weights).load(config.backbone, image_size=config.image_size)
    return fit_model(
        list(images.values()),
        list(images),
        extractor=extractor,
        detector=detector_from(config.detector, bank=config.bank, seed=config.seed),
        false_alarm_rate=config.false_alarm_rate,
    )


def train_line(
    folder: Path, line: str, config: LineConfig, *, store: ObjectStore, progress: Progress
) -> tuple[int, Pointers]:
    """Fit on a folder of normal images, publish a version of the line; champion at once where the line has none."""
    return train_images(list(progress(image_files(folder), "read")), line, config, store=store)


def train_images(paths: Sequence[Path], line: str, config: LineConfig, *, store: ObjectStore) -> tuple[int, Pointers]:
    """As `train_line`, on these files."""
    images, unreadable = read_images(paths)
    if not images:
        raise InvalidInput(
            f"none of the {len(unreadable)} files can be read as an image; look at one of them: {paths[:1]}"
        )
    stored = {_keep(store, line, path): image for path, image in images.items()}
    model = fit_images(stored, config)
    registry = Registry(store)
    before = registry.pointers(line)
    provenance = Provenance(
        line=line,
        mode="trusted",
        cause="manual",
        parent=before.champion,
        request_id=None,
        created_at=time.time(),
        code_version=distribution_version("driftline"),
        metrics={"unreadable": float(len(unreadable))},
    )
    version = registry.publish(line, pack(model, provenance, golden_image=next(iter(images.values()))))
    return version, registry.promote(line, version) if before.champion is None else before


def _keep(store: ObjectStore, line: str, path: Path) -> str:
    """Put a training image into the store, so that verdicts can show the normal patch they were compared with."""
    data = path.read_bytes()
    key = image_key(
        line, hashlib.sha256(data).hexdigest(), at=path.stat().st_mtime, suffix=path.suffix.lower().lstrip(".")
    )
    store.put(key, data)
    return key


def rank_folder(folder: Path, config: LineConfig, *, progress: Progress) -> Ranking:
    """Rank an unlabelled folder, worst first. Each image is scored with its own patches left out of the bank."""
    start = time.perf_counter()
    images, unreadable = read_images(progress(image_files(folder), "read"))
    model = fit_images({str(path): image for path, image in images.items()}, config)
    scores = _left_out_scores(model, images)
    ranked = sorted(scores, key=lambda each: -each.score)
    return Ranking(
        images=tuple(ranked),
        seconds=time.perf_counter() - start,
        parameters=dict(model.detector.state().parameters),
        unreadable=unreadable,
    )


def _left_out_scores(model: Model, images: Mapping[Path, Image]) -> list[ScoredFile]:
    """Leave-image-out scores for the images of the fit, plain scores for those left out of it (near-duplicates)."""
    fitted = dict(zip(model.training_keys, model.left_out_scores(), strict=True))
    rest = [path for path in images if str(path) not in fitted]
    fitted |= {str(path): score.peak for path, score in zip(rest, model.score([images[p] for p in rest]), strict=True)}
    return [
        ScoredFile(
            path=str(path), score=float(fitted[str(path)]), flagged=bool(fitted[str(path)] > model.threshold.value)
        )
        for path in images
    ]


def predict_files(
    model: str,
    paths: Sequence[Path],
    settings: Settings,
    *,
    heatmaps: Path | None,
    weights: Path | None,
    progress: Progress,
) -> Predictions:
    """Score files, and the files of folders, with a version or an artefact folder."""
    files, threshold = _artefact(model, settings)
    lines = load_lines(settings.home)
    fitted, manifest = unpack(files, extractors=ExtractorCache(weights=weights_files(lines)))
    del weights
    wanted = [each for path in paths for each in (image_files(path) if path.is_dir() else [path])]
    scored: list[ScoredFile] = []
    unreadable: dict[str, str] = {}
    for path in progress(wanted, "score"):
        images, faults = read_images([path])
        unreadable |= faults
        for image in images.values():
            (score,) = fitted.score([image])
            limit = manifest.threshold.value if threshold is None else threshold
            scored.append(ScoredFile(path=str(path), score=score.peak, flagged=score.peak > limit))
            if heatmaps is not None:
                heatmaps.mkdir(parents=True, exist_ok=True)
                (heatmaps / f"{path.stem}.jpg").write_bytes(encode_jpeg(heatmap(image, score.map_HW, limit)))
    return Predictions(model=model, images=tuple(scored), unreadable=unreadable)


def _artefact(model: str, settings: Settings) -> tuple[dict[str, bytes], float | None]:
    """The files of a version and its threshold in force; of a folder, its own threshold."""
    if (folder := Path(model)).is_dir():
        return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}, None
    if "@" not in model:
        raise InvalidInput(
            f"{model!r} is neither a folder nor a version; write L@champion, L@3 or the folder of an artefact"
        )
    registry = Registry(open_store(settings.store))
    line, version = registry.resolve(model)
    return registry.files(line, version), registry.operating_point(line, version).threshold


def change_champion(settings: Settings, actor: Actor, line: str, *, version: int | None, why: str) -> ModelPromoted:
    """Promote `version`, or roll back where it is None, through the audited actions."""
    ledger, registry = Ledger.open(settings.ledger), Registry(open_store(settings.store))
    if version is None:
        return rollback(ledger, actor, registry, line=line, why=why, at=time.time())
    return promote(ledger, actor, registry, line=line, version=version, why=why, at=time.time())
