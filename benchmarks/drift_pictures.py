"""The pictures of docs/drift.md: two drift maps and a backtest, all of the rendered demo line under a small real model.

Run: `python benchmarks/drift_pictures.py [FOLDER]`; a minute or two. What the maps show and say is what the monitor found; the plot
is that of `driftline drift backtest` with the story of the line written over it. Prints what every alarm said.
"""

import argparse
import io
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from pathlib import Path

import numpy as np
from PIL import Image as Picture
from PIL import ImageDraw, ImageFont

from dashboard.drift_map import with_drift_map
from dashboard.pictures import thumbnail
from detectors.errors import InvalidInput
from detectors.extractors import ExtractorCache
from detectors.fitting import fit_model
from detectors.images import Image, decode, encode_jpeg
from detectors.model import Model, detector_from
from detectors.objects import ObjectStore
from detectors.store import FolderStore
from orchestration.backtest import Asked, Report, Trace, backtest
from orchestration.backtest_plot import GAP, LEFT, PANEL, RIGHT, TOP, drawing
from orchestration.drawing import Drawing, Line, Words, svg
from streams.alarms import Alarm
from streams.backtesting import runs_of
from streams.bus import Record
from streams.classifying import place_of
from streams.drift import LineMonitor
from streams.ledger import Ledger
from streams.messages import DriftIncident, Verdict, encode
from streams.perturbation import Perturbation, apply
from streams.rendered import RenderedLine
from streams.rendered_defects import DEFECTS
from streams.resuming import NothingJudged
from streams.scoring import signals_of
from streams.settings import LineConfig
from streams.watching import WatchHandler

LINE = "demo"
CONFIG = LineConfig(auto=False)
OTHER_RUN_LENGTH = 300
FITTED, BANK = 60, 1000
UNCHANGED = Perturbation()
BEGAN_AT, EVERY_S = 1_774_936_800.0, 2.0
"""Of the story: 2026-03-31, 06:00 UTC, an image every two seconds."""

SIDE_PX, HEAD_PX, GAP_PX = 300, 24, 6
LARGEST_BYTES = {".jpg": 40_000, ".svg": 100_000}
_PAPER, _INK = "#f7f8fa", "#1a1f26"


@dataclass(frozen=True)
class Act:
    """A stretch of the line: what it does to its images, and one part in how many is bad."""

    name: str
    images: int
    words: str
    change: Perturbation = UNCHANGED
    bad_every: int = 25

    def image(self, line: RenderedLine, number: int, index: int) -> Image:
        """The `number`th image of the act, of part `index` of the line."""
        bad = number % self.bad_every == self.bad_every // 2
        defect = list(DEFECTS)[number // self.bad_every % len(DEFECTS)] if bad else None
        return apply(line.image(index, defect=defect), self.change, rng=np.random.default_rng(index))


SMUDGE = Act("smudge", 40, "a smudge on the lens", Perturbation(smudge=0.2))
LAMP = Act("lamp", 80, "lamp 25 % brighter", Perturbation(light=1.25))
STORY = (
    Act("steady", 120, "as always"),
    LAMP,
    Act("back", 240, "lamp as before"),
    Act("surge", 120, "every third part bad", bad_every=3),
)
STEADY = STORY[0]


@dataclass(frozen=True)
class Rig:
    """The line, its model, and the store that its images are kept in."""

    line: RenderedLine
    model: Model
    store: ObjectStore

    def verdict(self, act: Act, number: int, index: int) -> Verdict:
        """What the scorer would say of an image; `index` counts the images of the line since the story began."""
        data = encode_jpeg(act.image(self.line, number, FITTED + index))
        image_id = f"{act.name}-{number:03d}"
        self.store.put(key_of(image_id), data)
        (score,) = self.model.score([decode(data)])
        at = BEGAN_AT + EVERY_S * index
        return Verdict(
            line=LINE, image_id=image_id, version=1, score=score.peak, threshold=self.model.threshold.value,
            threshold_revision=1, flagged=score.peak > self.model.threshold.value, signals=signals_of(score), taken_at=at,
            judged_at=at, latency_ms=0.0, image_key=key_of(image_id), nearest=None,
        )  # fmt: skip

    def verdicts(self, act: Act, *, first: int) -> list[Verdict]:
        """On all images of an act, of which the first is image `first` of the line."""
        return [self.verdict(act, number, first + number) for number in range(act.images)]


def key_of(image_id: str) -> str:
    """Where the store keeps an image."""
    return f"images/{image_id}.jpg"


def rig(folder: Path) -> Rig:
    """The line with a model of its first images, which were JPEGs as all later ones are: a monitor tells them by their noise."""
    line = RenderedLine(seed=7)
    model = fit_model(
        [decode(encode_jpeg(line.image(index))) for index in range(FITTED)],
        [f"training-{index:03d}" for index in range(FITTED)],
        extractor=ExtractorCache().load(CONFIG.backbone, image_size=CONFIG.image_size),
        detector=detector_from(CONFIG.detector, bank=BANK, seed=CONFIG.seed),
        false_alarm_rate=CONFIG.false_alarm_rate,
    )
    return Rig(line, model, FolderStore(folder))


def first_alarm(here: Rig, verdicts: Iterable[Verdict]) -> Alarm:
    """The first thing that a monitor of the line says."""
    monitor = LineMonitor(here.model.reference, expected_run_length=CONFIG.expected_run_length)
    return next(alarm for _, alarms in monitor.follow(verdicts) for alarm in alarms)


def map_picture(store: ObjectStore, before: Verdict, after: Verdict, alarm: Alarm) -> bytes:
    """The last image before a change, and the first after it with the map over it that the alarm of it brought."""
    was = thumbnail(store, before.image_key, side_px=SIDE_PX)
    shown = with_drift_map(store, after.image_key, alarm.where, side_px=SIDE_PX)
    return side_by_side([(was, "last image before"), (shown, f"first after, in robust sd: {place_of(alarm.where)}")])


def side_by_side(pictures: Sequence[tuple[bytes, str]]) -> bytes:
    """Pictures of SIDE_PX in a row, each under its words, as a JPEG."""
    step = SIDE_PX + GAP_PX
    canvas = Picture.new("RGB", (step * len(pictures) - GAP_PX, HEAD_PX + SIDE_PX), _PAPER)
    pen, font = ImageDraw.Draw(canvas), ImageFont.load_default(size=15)
    for place, (data, words) in enumerate(pictures):
        canvas.paste(Picture.fromarray(decode(data)), (step * place, HEAD_PX))
        pen.text((step * place + SIDE_PX / 2, HEAD_PX / 2), words, fill=_INK, font=font, anchor="mm")
    out = io.BytesIO()
    canvas.save(out, "JPEG", quality=70, optimize=True)
    return out.getvalue()


def incidents(here: Rig, verdicts: Sequence[Verdict]) -> list[DriftIncident]:
    """What the watcher records of the line."""
    handler = WatchHandler(
        lambda *_: here.model.reference, lambda _: CONFIG, lambda: verdicts[-1].judged_at, history=NothingJudged()
    )
    records = [
        Record(Verdict.topic, 0, offset, LINE.encode(), (), encode(each), each.judged_at)
        for offset, each in enumerate(verdicts)
    ]
    return [each for each in handler.handle(records).messages if isinstance(each, DriftIncident)]


def backtested(here: Rig, ledger: Ledger) -> tuple[Report, list[Trace]]:
    """What `driftline drift backtest` says of the line's own run length and a short one."""
    asked = Asked(line=LINE, run_lengths=(CONFIG.expected_run_length, OTHER_RUN_LENGTH))
    return backtest(ledger, lambda *_: here.model.reference, CONFIG, asked, told=lambda *_: None, traced=True)


def with_story(picture: Drawing) -> Drawing:
    """The plot with the acts of the story over it, in words above the alarms."""
    words_y = TOP + 2 * PANEL + 1.6 * GAP
    ends = list(accumulate(act.images for act in STORY))
    per_image = (RIGHT - LEFT) / (ends[-1] - 1)
    shapes: list[Line | Words] = []
    for act, end in zip(STORY, ends, strict=True):
        x = LEFT + per_image * (end - act.images)
        shapes += [Line(((x, TOP), (x, picture.height - 56)), _INK, width=0.5), Words(x + 4, words_y, act.words)]
    return replace(picture, shapes=[*picture.shapes, *shapes])


def said(alarm: Alarm) -> str:
    """An alarm in a line."""
    return (
        f"{alarm.kind}: {alarm.signal} moved by {alarm.effect:+.1f} robust sd ({alarm.shape}) since {alarm.since_image_id}, "
        f"found at {alarm.alarm_image_id}, {place_of(alarm.where)}, sure {alarm.confidence:.2f}: {'; '.join(alarm.evidence)}"
    )


def show(report: Report) -> None:
    """The alarms and incidents of the plot."""
    for setting in report.settings:
        for each, again in runs_of(setting.alarms):
            print(
                f"  run length {setting.expected_run_length}: {each.kind} {each.signal} {each.effect:+.1f} sd at "
                f"{each.image_id}, {each.place}, again {again} times, {each.mark or 'not compared'}"
            )
    for told in report.recorded:
        print(f"  recorded: {told.kind} {told.signal} {told.effect:+.1f} sd at {told.alarm_image_id}, {told.state}")


def write(path: Path, data: bytes) -> None:
    """Write a picture, and say how large it is; raises InvalidInput for one too large to be kept with the sources."""
    if len(data) > LARGEST_BYTES[path.suffix]:
        raise InvalidInput(f"{path.name} of {len(data)} bytes; at most {LARGEST_BYTES[path.suffix]}: make it smaller")
    path.write_bytes(data)
    print(f"  {path.name}: {len(data):,} bytes", flush=True)


def main() -> None:
    """All three pictures."""
    options = argparse.ArgumentParser(description=__doc__)
    kept = Path(tempfile.gettempdir()) / "driftline-drift-pictures"
    options.add_argument("folder", type=Path, nargs="?", default=kept, help=f"where to write them (default: {kept})")
    folder: Path = options.parse_args().folder
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch:
        here, ledger = rig(Path(scratch) / "objects"), Ledger.open(f"sqlite:///{scratch}/ledger.sqlite")
        steady = here.verdicts(STEADY, first=0)
        story = list(steady)
        for act in STORY[1:]:
            story += here.verdicts(act, first=len(story))
        for name, changed in (
            ("smudge", here.verdicts(SMUDGE, first=STEADY.images)),
            ("light", story[STEADY.images :]),
        ):
            alarm = first_alarm(here, [*steady, *changed])
            print(f"{name}: {said(alarm)}")
            write(folder / f"drift-map-{name}.jpg", map_picture(here.store, steady[-1], changed[0], alarm))
        ledger.record([*story, *incidents(here, story)])
        report, traces = backtested(here, ledger)
        print("backtest:")
        show(report)
        write(folder / "drift-backtest.svg", svg(with_story(drawing(report, traces))).encode())


if __name__ == "__main__":
    main()
