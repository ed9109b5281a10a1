"""How long a backtest of many recorded verdicts takes: from a SQLite ledger through the monitors; seconds, and microseconds an image.

The line is drawn: 26 signals around a reference of 200 images, a change of light once in 100,000 images. `--ledger FILE` keeps what was
written for the next time (two million verdicts take some minutes to write and 3 GB).
"""

import argparse
import tempfile
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import numpy as np

from detectors.manifest import DriftReference
from detectors.maps import REGIONS
from orchestration.backtest import Asked, backtest
from streams.calibrating import NUMBERS
from streams.ledger import Ledger
from streams.messages import Signals, Verdict
from streams.settings import LineConfig

LINE = "press-1"
HOME = np.array([2.0, 1.4, 110.0, 30.0, 9.0, 4.0, -2.0, 0.01, 2.0, 0.02, *([1.4] * REGIONS**2)])
PAGE, CHANGE_EVERY, CHANGED = 2_000, 100_000, 40


def drawn(images: int, seed: int) -> Iterator[Signals]:
    """Signals of the line, each within some per cent of its usual value."""
    rng = np.random.default_rng(seed)
    for start in range(0, images, PAGE):
        noise = rng.standard_normal((PAGE, len(HOME)))
        number = start + np.arange(PAGE)
        noise[(number % CHANGE_EVERY >= CHANGE_EVERY // 2) & (number % CHANGE_EVERY < CHANGE_EVERY // 2 + CHANGED)] += (
            3.0
        )
        for row in (HOME * (1 + 0.05 * noise)).tolist()[: images - start]:
            yield Signals(**dict(zip(NUMBERS, row, strict=False)), regions=tuple(row[len(NUMBERS) :]))


def verdicts(images: int) -> Iterator[Verdict]:
    """One a second."""
    for number, signals in enumerate(drawn(images, 1)):
        yield Verdict(
            line=LINE, image_id=f"image-{number:09}", version=1, score=signals.peak, threshold=2.3, threshold_revision=1,
            flagged=signals.peak > 2.3, signals=signals, taken_at=float(number), judged_at=float(number), latency_ms=100.0,
            image_key=f"images/{LINE}/{number:064x}.png",
        )  # fmt: skip


def reference() -> DriftReference:
    """200 images of the same line."""
    known = list(drawn(200, 0))
    columns = {name: tuple(getattr(each, name) for each in known) for name in NUMBERS}
    return DriftReference(**columns, regions=tuple(each.regions for each in known))


def filled(path: Path, images: int) -> Ledger:
    """A ledger with so many verdicts; one that has them already is taken as it is."""
    ledger = Ledger.open(f"sqlite:///{path}")
    coming = islice(verdicts(images), ledger.counts(LINE).verdicts, None)
    while page := list(islice(coming, PAGE)):
        ledger.record(page)
    return ledger


def main() -> None:
    """Fill a ledger, run the backtest, print what it took."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=2_000_000)
    parser.add_argument("--ledger", type=Path, help="a SQLite ledger to keep")
    parser.add_argument("--expected-run-length", type=int, nargs="*", default=[10_000])
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        began = time.perf_counter()
        ledger = filled(asked.ledger or Path(folder) / "ledger.sqlite", asked.images)
        print(f"written in {time.perf_counter() - began:.0f} s", flush=True)
        began, busy = time.perf_counter(), time.process_time()
        what = Asked(line=LINE, run_lengths=tuple(asked.expected_run_length))
        report, _ = backtest(ledger, lambda *_: reference(), LineConfig(), what, told=lambda *_: None)
        took, cpu = time.perf_counter() - began, time.process_time() - busy
    for setting in report.settings:
        print(f"expected run length {setting.expected_run_length}: {len(setting.alarms)} alarms")
    print(
        f"{report.images:,} verdicts: {took:.1f} s, {cpu:.1f} s of processor time, {1e6 * took / report.images:.1f} us an image"
    )


if __name__ == "__main__":
    main()
