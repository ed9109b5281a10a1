"""A small real installation for the tests of the dashboard: ledger, store and registry, filled with real messages."""

import hashlib
import io
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray
from PIL import Image as Picture
from PIL import ImageFilter

from detectors.manifest import DriftReference, FeatureSpec, Golden, Manifest, Preprocessing, Threshold
from detectors.objects import ObjectStore, image_key
from detectors.registry import Registry
from detectors.store import open_store
from streams.ledger import AuditEntry, GateResult, Ledger
from streams.ledger_configuration import described
from streams.messages import (
    Collected,
    DeadLetter,
    DriftIncident,
    LineImage,
    ModelPromoted,
    ModelServing,
    NearestNormal,
    RetrainRequest,
    Review,
    ShadowVerdict,
    Signals,
    Verdict,
)
from streams.rendered import RenderedLine
from streams.rendered_defects import DEFECTS
from streams.settings import LineConfig, Settings

LINE = "press-4/door"
COLLECTING = "__new__"
REQUEST = "request-1"
RATE = 0.5


@dataclass(frozen=True)
class Installation:
    """Everything under one folder, opened."""

    settings: Settings
    ledger: Ledger
    store: ObjectStore
    registry: Registry

    @property
    def environ(self) -> Mapping[str, str]:
        """The variables that make the dashboard open this one."""
        return self.settings.environ()


def installation(home: Path) -> Installation:
    """An empty installation under `home`."""
    settings = Settings.from_environ({"DRIFTLINE_HOME": str(home)})
    home.mkdir(parents=True, exist_ok=True)
    store = open_store(settings.store)
    return Installation(settings, Ledger.open(settings.ledger), store, Registry(store))


def verdict(line: str, number: int, *, at: float, version: int = 1, score: float = 1.0, bulk: float = 1.0) -> Verdict:
    """The verdict on image `number`; the threshold is 2."""
    return Verdict(
        line=line,
        image_id=f"part-{number}",
        version=version,
        score=score,
        threshold=2.0,
        threshold_revision=1,
        flagged=score > 2.0,
        signals=Signals(peak=score, bulk=bulk, mean=100.0, contrast=20.0, sharpness=5.0),
        taken_at=at - 0.1,
        judged_at=at,
        latency_ms=100.0,
        image_key=f"images/{number}.png",
    )


def serving(line: str, version: int, *, at: float) -> ModelServing:
    """The swap to `version`."""
    return ModelServing(line=line, version=version, previous=version - 1 or None, at=at)


def incident(line: str, *, at: float, state: str = "opened", image_id: str = "part-20") -> DriftIncident:
    """The one incident of the line."""
    return DriftIncident(
        line=line,
        incident_id=f"{line}-1",
        kind="covariate_drift",
        state=state,
        version=1,
        signal="bulk",
        test="page-hinkley",
        reference=1.0,
        observed=1.4,
        effect=2.9,
        since_image_id="part-10",
        alarm_image_id=image_id,
        after_images=20,
        at=at,
        reason="a new model is in service" if state == "closed" else "",
    )


def request(line: str, *, at: float, cause: str = "covariate_drift") -> RetrainRequest:
    """A request for a new model from three images."""
    keys = ("images/1.png", "images/2.png", "images/3.png")
    return RetrainRequest(
        line=line,
        request_id=REQUEST,
        cause=cause,
        mode="blind",
        image_keys=keys,
        parent_version=1,
        alarm_at=at,
        requested_at=at,
        incident_id=f"{line}-1",
    )


def said(line: str, image_id: str, says: str, *, at: float = 1.0) -> Review:
    """What somebody says of an image."""
    return Review(line=line, image_id=image_id, says=says, note="", by="ana", at=at)


def collected(line: str, number: int, *, at: float) -> Collected:
    """Image `number` of a line that has no model."""
    image = LineImage(
        line=line, image_id=f"new-{number}", taken_at=at, digest="0" * 64, key=f"images/new-{number}.png", size_bytes=1
    )
    return Collected(line=line, image=image, collected_at=at)


def publish(
    here: Installation,
    line: str,
    *,
    parent: int | None = None,
    request_id: str | None = None,
    reference: DriftReference | None = None,
    prepare: Preprocessing | None = None,
) -> int:
    """A version whose reference has bulk 0.9 .. 1.1 (median 1.0) unless another is given, made by `request_id`."""
    bulk = tuple(np.linspace(0.9, 1.1, 41).tolist())
    manifest = Manifest(
        line=line,
        detector="patchcluster",
        mode="blind",
        cause="cold_start" if parent is None else "covariate_drift",
        parameters={},
        features=FeatureSpec(
            backbone="resnet18",
            layers=("layer2",),
            image_size=256,
            weights_sha256="00",
            prepare=prepare or Preprocessing(),
        ),
        threshold=Threshold(
            value=2.0, false_alarm_rate=0.01, low=0.004, high=0.03, method="left-out quantile", images=120
        ),
        reference=reference or DriftReference(peak=bulk, bulk=bulk, mean=bulk, contrast=bulk, sharpness=bulk),
        golden=Golden(file="golden.png", peak=1.0, bulk=1.0, tolerance=1e-3),
        training_keys=tuple(f"images/{number}.png" for number in range(120)),
        left_out={"images/bad.png": "looks bad"},
        notes=("8 bits are not used: rank correlation 0.901 of patch scores on 15 held-out images",),
        intruders={"images/1.png": 1.42, "images/gone.png": 1.05},
        parent=parent,
        request_id=request_id,
        created_at=1_000.0,
        code_version="test",
        metrics={},
        files={"golden.png": hashlib.sha256(b"golden").hexdigest()},
    )
    return here.registry.publish(line, {"manifest.json": msgspec.json.encode(manifest), "golden.png": b"golden"})


def carry_out(here: Installation, line: str, *, at: float, version: int) -> None:
    """The request picked up, judged by two gates and ended."""
    here.ledger.begin_request(REQUEST, run_id="0123456789abcdef", attempt=1, at=at)
    for name in ("threshold_holds", "finds_drawn_defects"):
        here.ledger.note_gate(
            REQUEST, GateResult(name=name, passed=True, value=1.0, limit=2.0, words=f"{name}: well within")
        )
    here.ledger.end_request(REQUEST, outcome="promoted", version=version, detail="all gates passed", at=at + 5)


def tell_the_story(here: Installation, *, now: float, images: int = 240, parts: int = 1) -> None:
    """A line that runs, drifts, is retrained and runs again, until `now`, with `parts` pictures; one collects."""
    start = now - images / RATE
    alarm, swap = now - 0.40 * images / RATE, now - 0.30 * images / RATE
    publish(here, LINE)
    publish(here, LINE, parent=1, request_id=REQUEST)
    here.registry.promote(LINE, 1)
    here.registry.promote(LINE, 2)
    pictures = _Pictures(here.store, now=now, parts=parts)
    rng = np.random.default_rng(3)
    here.ledger.record([serving(LINE, 1, at=start - 1)])
    lived = [
        _lived(number, start + number / RATE, alarm - 20, swap, rng=rng, pictures=pictures) for number in range(images)
    ]
    here.ledger.record(lived)
    alarm_image = f"part-{int((alarm - start) * RATE)}"
    here.ledger.record([incident(LINE, at=alarm, image_id=alarm_image)])
    here.ledger.record([request(LINE, at=alarm + 4)])
    carry_out(here, LINE, at=swap - 20, version=2)
    here.ledger.record(
        [ModelPromoted(line=LINE, version=2, previous=1, sequence=2, by="driftline", why="", at=swap - 2)]
    )
    here.ledger.record([serving(LINE, 2, at=swap)])
    here.ledger.record([incident(LINE, at=swap + 1, state="closed", image_id=alarm_image)])
    here.ledger.record([collected(COLLECTING, number, at=now - number) for number in range(37)])


def try_out(here: Installation, *, now: float) -> None:
    """After that story version 3 has scored 40 images beside version 2, disagreed on three of them, and waits for a person."""
    tell_the_story(here, now=now)
    version = publish(here, LINE, parent=2, request_id="request-2")
    here.registry.set_challenger(LINE, version)
    here.ledger.record([msgspec.structs.replace(request(LINE, at=now), request_id="request-2")])
    pictures = _Pictures(here.store, now=now, parts=1)
    image_key, heatmap_key, _ = pictures.of(0)
    for number in range(40):
        flagged, theirs = number in (10, 20), number == 30
        shadow = ShadowVerdict(
            line=LINE, image_id=f"part-{number}", version=version, score=3.0 if flagged else 1.0, threshold=2.0, flagged=flagged,
            champion=2, champion_score=3.0 if theirs else 1.0, champion_flagged=theirs, image_key=image_key,
            judged_at=now + number, heatmap_key=heatmap_key if flagged != theirs else None,
        )  # fmt: skip
        here.ledger.record([shadow])
    here.ledger.end_request("request-2", outcome="awaiting_approval", version=version, detail="of 40 images", at=now)


def tell_of_people(here: Installation, *, now: float) -> None:
    """People and Driftline have acted, the line is described, and three messages could not be processed."""
    config = LineConfig(bank=2000, promotion="approval")
    (here.settings.home / "driftline.toml").write_text(f'[lines."{LINE}"]\nbank = 2000\npromotion = "approval"\n')
    here.ledger.note_configuration({LINE: described(config)}, who="kim", at=now - 7200)
    for ago, who, action, detail in (
        (5000, "driftline", "retrain", "the line has changed"),
        (4000, "driftline", "promote", "version 2 for 1: all gates passed"),
        (3000, "ana", "review", "part-17: defect"),
        (
            900,
            "김민지",
            "threshold",
            "version 2, revision 2: 2.2 for 2.0 (too many false alarms); 12 of 240 images flagged, were 31",
        ),
        (60, "<b>bo</b>", "rollback", "=1+1"),
    ):
        here.ledger.act(AuditEntry(now - ago, who, "engineer", action, LINE, detail), ())
    originals = (png(RenderedLine(seed=7).image(1)), b"<b>no picture</b>, but a page of an error", bytes(300))
    here.ledger.record([_letter(number, data, at=now - 100 * number) for number, data in enumerate(originals, start=1)])


def _letter(number: int, original: bytes, *, at: float) -> DeadLetter:
    error, reason = (
        ("ImageError", "no picture: 0 of 300 bytes can be read")
        if number > 1
        else ("InvalidInput", "a line with a tab")
    )
    return DeadLetter(
        line=LINE, source_topic="images", source_partition=3, source_offset=number, error=error, reason=reason, original=original,
        headers=(("ce_id", b"part-17"), ("ce_source", b"/camera-4")), key=LINE.encode(), at=at, appended_at=at - 1,
    )  # fmt: skip


@dataclass
class _Pictures:
    """Rendered parts with their heatmaps in the store."""

    store: ObjectStore
    now: float
    parts: int

    def __post_init__(self) -> None:
        line = RenderedLine(seed=7)
        self.normal = self._put(line.image(10_000))
        self.made = [self._make(line, number) for number in range(self.parts)]

    def of(self, number: int) -> tuple[str, str, NearestNormal]:
        """Image key, heatmap key and provenance of image `number`: the parts come round again."""
        return self.made[number % self.parts]

    def _make(self, line: RenderedLine, number: int) -> tuple[str, str, NearestNormal]:
        """A part with a defect."""
        kind = list(DEFECTS)[number % len(DEFECTS)]
        image, mask = line.image_and_mask(number, defect=kind)
        rows, columns = np.nonzero(mask)
        row, column = float(rows.mean()) / mask.shape[0], float(columns.mean()) / mask.shape[1]
        box = (max(0, column - 0.08), max(0, row - 0.08), min(1, column + 0.08), min(1, row + 0.08))
        key = f"heatmaps/{number}.jpg"
        self.store.put(key, _heatmap(image, mask))
        nearest = NearestNormal(training_image_key=self.normal, training_box=box, box=box, distance=3.1)
        return self._put(image), key, nearest

    def _put(self, image: NDArray[np.uint8]) -> str:
        data = png(image)
        key = image_key(LINE, hashlib.sha256(data).hexdigest(), at=self.now, suffix="png")
        self.store.put(key, data)
        return key


def _lived(
    number: int, at: float, drift: float, swap: float, *, rng: np.random.Generator, pictures: _Pictures
) -> Verdict:
    drifted = drift <= at < swap
    score = float(rng.gamma(40, 1.1 / 40) * (1.5 if drifted else 1.0))
    bad = number % 20 == 7
    made = verdict(
        LINE,
        number,
        at=at,
        version=1 if at < swap else 2,
        score=score + 1.4 if bad else score,
        bulk=float(rng.normal(1.25 if drifted else 1.0, 0.05)),
    )
    if not made.flagged:
        return made
    image_key, heatmap_key, nearest = pictures.of(number)
    return msgspec.structs.replace(made, image_key=image_key, heatmap_key=heatmap_key, nearest=nearest)


def png(image: NDArray[np.uint8]) -> bytes:
    """The bytes of an image file."""
    out = io.BytesIO()
    Picture.fromarray(image).save(out, "PNG")
    return out.getvalue()


def _heatmap(image: NDArray[np.uint8], mask: NDArray[np.bool_]) -> bytes:
    """What a heatmap of the defect looks like: its blurred mask in red over the part."""
    glow = np.asarray(Picture.fromarray(mask.astype(np.uint8) * 255).filter(ImageFilter.GaussianBlur(9)), np.float32)
    alpha = np.clip(glow / max(1.0, float(glow.max())), 0, 1)[:, :, None] * 0.7
    painted = image * (1 - alpha) + np.array([255, 40, 0], np.float32) * alpha
    out = io.BytesIO()
    Picture.fromarray(painted.astype(np.uint8)).save(out, "JPEG")
    return out.getvalue()
