"""Signals of real images under real models, scored once and kept: what the streams of the drift benchmark are drawn from.

Each model is a PatchCore on ResNet18 (layers 2+3, 256 px, 4,000 rows), fitted on the good images of its training side.
The kept files hold numbers and the names of images, never pixels. Scoring takes some ten minutes, once.

Shape legend: N images, S columns of `COLUMNS`.
"""

import csv
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rivals.client import BANK, WEIGHTS

from detectors.features import load_extractor
from detectors.fitting import fit_model
from detectors.images import Image, decode
from detectors.manifest import DriftReference
from detectors.maps import REGIONS
from detectors.model import Extractor, Model, detector_from
from streams.messages import Signals
from streams.perturbation import Perturbation, apply
from streams.scoring import signals_of

PLAIN = ("peak", "bulk", "mean", "contrast", "sharpness", "warmth", "tint", "saturated", "noise", "over")
COLUMNS = PLAIN + tuple(f"region {field}" for field in range(REGIONS**2))
FALSE_ALARM_RATE = 0.01
AS_IT_IS = "as it is"
ANOTHER_PART = "another part"
CONDITIONS = {
    "blur 2 px": Perturbation(blur_px=2.0),
    "gain 0.9": Perturbation(light=0.9),
    "gain 1.1": Perturbation(light=1.1),
    "shift 8 px": Perturbation(shift_px=8.0),
    "smudge": Perturbation(smudge=0.08),
    "heavy blur": Perturbation(blur_px=8.0),
    "black": Perturbation(blank=True),
    "black with noise": Perturbation(blank=True, noise=2.0),
    "blown out": Perturbation(light=20.0),
    "covered": Perturbation(light=0.15, blur_px=30.0, noise=2.0),
}
"""What is done to the good images that the model has not seen."""

COOKIE = "cookie"
EXPOSURES = {
    "exposures 1+2": (1, 2), "exposures 5+6": (5, 6), "exposure 1": (1,), "exposure 2": (2,), "exposure 3": (3,),
    "exposure 4": (4,), "exposure 5": (5,),
}  # fmt: skip
"""Models of tiles by what they were fitted on."""

MODELS = (*EXPOSURES, COOKIE)
WHOLE = ("exposures 1+2", COOKIE)
SMALL_STEPS = tuple(f"exposure {number}" for number in range(2, 6))

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Picture:
    """An image file: `side` is train or test, `kind` good or the type of defect; exposure 0 where there is none."""

    path: Path
    side: str
    kind: str
    exposure: int = 0
    tile: int = 0
    num: int = 0

    @property
    def good(self) -> bool:
        """Whether it shows a good part."""
        return self.kind == "good"


@dataclass(frozen=True)
class Scored:
    """What one model said: its drift reference, its threshold, and the signals of images it was not fitted on.

    `condition`: `AS_IT_IS`, a key of `CONDITIONS` or `ANOTHER_PART`; `kind`: good or the type of defect; `side`:
    train or test, by physical part; `ms`: time of scoring alone.
    """

    reference: Floats
    threshold: float
    signals: Floats
    condition: NDArray[np.str_]
    kind: NDArray[np.str_]
    side: NDArray[np.str_]
    exposure: NDArray[np.int64]
    tile: NDArray[np.int64]
    num: NDArray[np.int64]
    path: NDArray[np.str_]
    ms: Floats

    def rows(
        self, *, condition: str = AS_IT_IS, exposures: Sequence[int] = (), good: bool = True, side: str = "test"
    ) -> Floats:
        """Signals of some of the images, `(N, S)`; `exposures` empty: of all."""
        chosen_N = (self.condition == condition) & (self.side == side) & ((self.kind == "good") == good)
        chosen_N &= self.kind != "uneven"  # a weak label
        if exposures:
            chosen_N &= np.isin(self.exposure, exposures)
        found: Floats = self.signals[chosen_N]
        return found


def row(signals: Signals) -> list[float]:
    """The signals of an image in the order of `COLUMNS`."""
    return [float(getattr(signals, name)) for name in PLAIN] + list(signals.regions)


def signals(row_S: Floats) -> Signals:
    """The inverse of `row`."""
    values = row_S.tolist()
    return Signals(**dict(zip(PLAIN, values, strict=False)), regions=tuple(values[len(PLAIN) :]))


def reference(rows_NS: Floats) -> DriftReference:
    """A drift reference of these images."""
    columns = {name: tuple(rows_NS[:, place].tolist()) for place, name in enumerate(PLAIN)}
    return DriftReference(**columns, regions=tuple(map(tuple, rows_NS[:, len(PLAIN) :].tolist())))


def table(known: DriftReference) -> Floats:
    """The inverse of `reference`."""
    return np.column_stack([*(getattr(known, name) for name in PLAIN), np.array(known.regions)])


def pictures(data: Path) -> list[Picture]:
    """All images of both sets, tiles in the order of capture."""
    with (data / "magnetic_tile" / "index.csv").open(newline="", encoding="utf-8") as file:
        rows = sorted(csv.DictReader(file), key=lambda each: (int(each["num"]), each["path"]))
    tiles = [
        Picture(
            path=data / "magnetic_tile" / each["path"],
            side=each["path"].split("/")[0],
            kind="good" if each["label"] == "good" else each["type"],
            exposure=int(each["exposure"]),
            tile=int(each["tile_id"]),
            num=int(each["num"]),
        )
        for each in rows
        if each["exposure"] != "0"
    ]
    files = sorted((data / COOKIE).glob("t*/*/*"))
    return tiles + [Picture(path, path.parents[1].name, path.parent.name) for path in files]


def kept(cache: Path, data: Path, weights: Path, name: str) -> Scored:
    """What the model `name` said, from the cache or scored now."""
    file = cache / f"{name.replace(' ', '_')}.npz"
    if not file.exists():
        cache.mkdir(parents=True, exist_ok=True)
        scored = score(name, pictures(data), load_extractor("resnet18", weights=weights / WEIGHTS, runtime="openvino"))
        np.savez_compressed(file, **{each.name: getattr(scored, each.name) for each in fields(scored)})
    with np.load(file) as arrays:
        values = {each.name: arrays[each.name] for each in fields(Scored)}
    return Scored(**{**values, "threshold": float(values["threshold"])})


def fitted(train: Sequence[Picture], extractor: Extractor) -> Model:
    """The model of some good images."""
    return fit_model(
        [decode(each.path.read_bytes()) for each in train],
        [str(each.path) for each in train],
        extractor=extractor,
        detector=detector_from("patchcore", bank=BANK, seed=0),
        false_alarm_rate=FALSE_ALARM_RATE,
    )


def score(name: str, known: Sequence[Picture], extractor: Extractor) -> Scored:
    """Fit the model and score what it has not seen."""
    own = [each for each in known if (each.exposure in EXPOSURES[name] if name in EXPOSURES else each.exposure == 0)]
    train = [each for each in own if each.good and each.side == "train"]
    model = fitted(train, extractor)
    rows, conditions, shown, taken = [], [], [], []
    for picture, condition, image in _to_score(name, known, set(train), own):
        start = time.perf_counter()
        (judged,) = model.score([image])
        taken.append(1000 * (time.perf_counter() - start))
        rows.append(row(signals_of(judged)))
        conditions.append(condition)
        shown.append(picture)
    return Scored(
        reference=table(model.reference),
        threshold=model.threshold.value,
        signals=np.array(rows),
        condition=np.array(conditions),
        kind=np.array([each.kind for each in shown]),
        side=np.array([each.side for each in shown]),
        exposure=np.array([each.exposure for each in shown]),
        tile=np.array([each.tile for each in shown]),
        num=np.array([each.num for each in shown]),
        path=np.array(["/".join(each.path.parts[-4:]) for each in shown]),
        ms=np.array(taken),
    )


def _to_score(
    name: str, known: Sequence[Picture], train: set[Picture], own: Sequence[Picture]
) -> Iterator[tuple[Picture, str, Image]]:
    """Unseen images as they are; for `WHOLE` models also unseen good ones under every condition, and other parts."""
    for each in known:
        if each not in train and _wanted(each, name):
            yield each, AS_IT_IS, decode(each.path.read_bytes())
    if name not in WHOLE:
        return
    rng = np.random.default_rng(0)
    for each in own:
        if each.good and each.side == "test":
            for condition, perturbation in CONDITIONS.items():
                yield each, condition, apply(decode(each.path.read_bytes()), perturbation, rng=rng)
    others = [each for each in known if (each.exposure == 0) != (name == COOKIE) and each.good]
    for each in others[:: max(1, len(others) // 45)]:
        yield each, ANOTHER_PART, decode(each.path.read_bytes())


def _wanted(picture: Picture, name: str) -> bool:
    """Whether a model looks at an image: all of its kind of part, or those of the exposures that its lines pass through."""
    if name in WHOLE:
        return (picture.exposure == 0) == (name == COOKIE)
    last = EXPOSURES[name][-1] + 1 if name in SMALL_STEPS else 6
    first = EXPOSURES[name][0] if name in SMALL_STEPS else 1
    return picture.side == "test" and first <= picture.exposure <= last
