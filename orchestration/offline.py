"""What the commands do without a running installation: train, rank and predict on folders, change a champion."""

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version as distribution_version
from pathlib import Path
from typing import Any, Protocol

import msgspec
import numpy as np

from detectors.artifact import Provenance, unpack
from detectors.backbones import BACKBONES
from detectors.errors import InvalidInput
from detectors.extractors import ExtractorCache
from detectors.fitting import Progress, unwatched
from detectors.images import encode_jpeg
from detectors.model import Model, heatmap
from detectors.objects import ObjectStore
from detectors.patchcluster import PatchCluster
from detectors.registry import Pointers, Registry
from detectors.store import open_store
from orchestration.fitting import fit_line, pack_version
from orchestration.image_files import ImageFiles, image_files, kept, readable
from streams.actions import Actor, promote, rollback
from streams.ledger import Ledger
from streams.messages import ModelPromoted
from streams.model_card import keep_card
from streams.settings import LineConfig, Settings, load_lines, weights_files


class Watcher(Protocol):
    """Who is told how far long work is; `orchestration.console.Console` in the commands."""

    def progress(self, items: Iterable[Any], what: str, /) -> Iterator[Any]:
        """The same items, while telling how far it is."""

    def told(self, what: str, done: int, total: int, /) -> None:
        """What is being done, how much of it is done, and of how much."""


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


@dataclass(frozen=True)
class Trained:
    """A version just published, its model, and the files it was fitted on by key."""

    version: int
    pointers: Pointers
    model: Model
    paths: Mapping[str, Path]


class Predictions(msgspec.Struct, frozen=True, kw_only=True):
    """Files scored with one version."""

    model: str
    images: tuple[ScoredFile, ...]
    unreadable: dict[str, str]


def fit_files(images: ImageFiles, keys: Sequence[str], config: LineConfig, *, told: Progress = unwatched) -> Model:
    """A model of files named by keys; raises InvalidInput where there is no file."""
    if not images:
        raise InvalidInput("none of the files can be read as an image; look at one of them")
    weights = {config.backbone: Path(config.weights)} if config.weights else {}
    return fit_line(images, keys, config, ExtractorCache(weights=weights, device=config.device), told=told)


def train_line(folder: Path, line: str, config: LineConfig, *, store: ObjectStore, watcher: Watcher) -> Trained:
    """Fit on a folder of normal images, publish a version of the line; champion at once where the line has none."""
    return train_images(image_files(folder), line, config, store=store, told=watcher.told)


def train_images(
    paths: Sequence[Path], line: str, config: LineConfig, *, store: ObjectStore, told: Progress = unwatched
) -> Trained:
    """As `train_line`, on these files."""
    images, unreadable = readable(paths)
    stored = {kept(store, line, path): path for path in images.paths}
    model = fit_files(ImageFiles(list(stored.values())), list(stored), config, told=told)
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
    version = registry.publish(line, pack_version(model, provenance, config, golden_image=images[0]))
    keep_card(store, registry, line, version)
    pointers = registry.promote(line, version) if before.champion is None else before
    return Trained(version, pointers, model, stored)


def rank_folder(folder: Path, config: LineConfig, *, watcher: Watcher) -> Ranking:
    """Rank an unlabelled folder, worst first. Each image is scored with its own patches left out of the bank."""
    start = time.perf_counter()
    images, unreadable = readable(watcher.progress(image_files(folder), "read"))
    model = fit_files(images, [str(path) for path in images.paths], config, told=watcher.told)
    scores = _ranked(model, images)
    ranked = sorted(scores, key=lambda each: -each.score)
    return Ranking(
        images=tuple(ranked),
        seconds=time.perf_counter() - start,
        parameters=dict(model.detector.state().parameters),
        unreadable=unreadable,
    )


def _ranked(model: Model, images: ImageFiles) -> list[ScoredFile]:
    """Each file with the score it is ranked by: its own patches left out; for those not fitted on, on the same scale."""
    detector, fitted = model.detector, model.left_out_scores()
    flagged, scale = fitted > model.threshold.value, 1.0
    if isinstance(detector, PatchCluster):  # which has a better ranking of its own, and its own idea of who stands out
        ranking, flagged = detector.ranking(), detector.suspects()
        fitted, scale = ranking, float(np.median(ranking) / max(np.median(fitted), np.finfo(float).tiny))
    known = {
        key: (float(score), bool(flag)) for key, score, flag in zip(model.training_keys, fitted, flagged, strict=False)
    }
    scored = []
    for number, path in enumerate(images.paths):
        if str(path) not in known:
            peak = model.score([images[number]])[0].peak
            known[str(path)] = (peak * scale, peak > model.threshold.value)
        scored.append(ScoredFile(path=str(path), score=known[str(path)][0], flagged=known[str(path)][1]))
    return scored


def predict_files(
    model: str,
    paths: Sequence[Path],
    settings: Settings,
    *,
    heatmaps: Path | None,
    weights: Path | None,
    watcher: Watcher,
) -> Predictions:
    """Score files, and the files of folders, with a version or an artefact folder; `weights`: of its backbone."""
    files, threshold = _artefact(model, settings)
    known = weights_files(load_lines(settings.home))
    if weights is not None:
        known = dict.fromkeys(BACKBONES, weights)
    fitted, manifest = unpack(files, extractors=ExtractorCache(weights=known))
    wanted = [each for path in paths for each in (image_files(path) if path.is_dir() else [path])]
    scored: list[ScoredFile] = []
    unreadable: dict[str, str] = {}
    for path in watcher.progress(wanted, "score"):
        images, faults = readable([path])
        unreadable |= faults
        for image in images:
            (score,) = fitted.score([image])
            limit = manifest.threshold.value if threshold is None else threshold
            scored.append(ScoredFile(path=str(path), score=score.peak, flagged=score.peak > limit))
            if heatmaps is not None:
                heatmaps.mkdir(parents=True, exist_ok=True)
                _free(heatmaps, path).write_bytes(encode_jpeg(heatmap(image, score.map_HW, limit)))
    return Predictions(model=model, images=tuple(scored), unreadable=unreadable)


def _free(folder: Path, path: Path) -> Path:
    """Where the heatmap of a file goes: under its own name, after its folder's where another has that already."""
    plain = folder / f"{path.stem}.jpg"
    return folder / f"{path.parent.name}-{path.stem}.jpg" if plain.exists() else plain


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
