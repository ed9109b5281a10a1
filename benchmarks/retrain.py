"""From the request to the new version in service, while the line goes on: where the seconds go, and what scoring's latency does meanwhile.

A whole installation as processes, rendered parts at two images a second, a refresh or a blind model of the latest `--images` images asked
for by hand. Dagster's own start-up is part of the time. Absolute seconds are this machine's; the last two columns are ratios to the same
run before the request.
"""

import argparse
import os
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import dagster as dg
import numpy as np

from detectors.images import encode_jpeg
from detectors.store import open_store
from orchestration.offline import train_images
from orchestration.replay import Stage, running, wait_ready, write_line
from streams.actions import Actor, request_retrain
from streams.camera import Camera
from streams.causes import Wish
from streams.ledger import RequestRow
from streams.messages import RetrainRequest
from streams.rendered import RenderedLine
from streams.settings import LineConfig, Settings

LINE, RATE, FIRST, BEFORE_S, PATIENCE_S = "flanges", 2.0, 100, 60.0, 600.0
LOOK_EVERY_S = 0.1


class Feed:
    """Rendered parts into the line: as many at once as the window wants, then at the line's rate until told to stop."""

    def __init__(self, stage: Stage, line: RenderedLine) -> None:
        self._camera = Camera(open_store(stage.settings.store), stage.bus.producer(), line=LINE, source="/bench")
        self._line = line
        self._next = FIRST
        self._stop = threading.Event()

    def send(self, images: int) -> None:
        """So many at once."""
        for _ in range(images):
            self._one()
        self._camera.flush()

    @contextmanager
    def running(self) -> Iterator[None]:
        """Two images a second in the background."""
        thread = threading.Thread(target=self._run, name="feed")
        thread.start()
        try:
            yield
        finally:
            self._stop.set()
            thread.join()

    def _run(self) -> None:
        started, number = time.monotonic(), 0
        while not self._stop.wait(max(0.0, started + number / RATE - time.monotonic())):
            self._one()
            self._camera.flush()
            number += 1

    def _one(self) -> None:
        image = encode_jpeg(self._line.image(self._next))
        self._camera.send(image, image_id=f"part-{self._next:06}", suffix="jpg")
        self._next += 1


def trained(stage: Stage, line: RenderedLine, folder: Path, config: LineConfig) -> None:
    """The version in service before."""
    paths = []
    for number in range(FIRST):
        paths.append(folder / f"{number}.jpg")
        paths[-1].write_bytes(encode_jpeg(line.image(number)))
    train_images(paths, LINE, config, store=open_store(stage.settings.store))


def ended(stage: Stage, request: RetrainRequest) -> RequestRow:
    """The request, once a scorer judges the line with what came of it."""
    give_up = time.monotonic() + PATIENCE_S
    while time.monotonic() < give_up:
        row = stage.ledger.request(request.request_id)
        if row is not None and row.ended_at is not None:
            if row.state != "promoted":
                raise SystemExit(f"the request ended {row.state}: {row.detail}")
            if any(each.version == row.version for each in stage.ledger.servings(LINE)):
                return row
        time.sleep(LOOK_EVERY_S)
    raise SystemExit(f"no new version after {PATIENCE_S:.0f} s; logs in {stage.settings.home}/logs")


def steps_of(settings: Settings, run_id: str) -> dict[str, tuple[float, float]]:
    """When each step of a run began and ended, seconds since the epoch."""
    os.environ["DAGSTER_HOME"] = str(settings.home / "dagster")
    found: dict[str, tuple[float, float]] = {}
    with dg.DagsterInstance.get() as instance:
        for entry in instance.all_logs(run_id):
            if entry.dagster_event is None or entry.step_key is None:
                continue
            kind = entry.dagster_event.event_type
            if kind == dg.DagsterEventType.STEP_START:
                found[entry.step_key] = (entry.timestamp, entry.timestamp)
            elif kind == dg.DagsterEventType.STEP_SUCCESS:
                found[entry.step_key] = (found[entry.step_key][0], entry.timestamp)
    return found


def latencies(stage: Stage, since: float, until: float) -> Sequence[float]:
    """Milliseconds from camera to verdict of what was judged in a span."""
    verdicts = stage.ledger.verdicts(LINE, after=since, limit=100_000)
    return [each.latency_ms for each in verdicts if each.judged_at <= until]


def run(home: Path, images: int, mode: str) -> None:
    """Measure once and print."""
    settings = Settings.from_environ({"DRIFTLINE_HOME": str(home)})
    stage, line = Stage.open(settings, LINE, lambda _: None), RenderedLine(seed=5)
    config = LineConfig(detector="patchcluster", auto=False)
    write_line(settings, LINE, config)
    (home / "first").mkdir()
    trained(stage, line, home / "first", config)
    with running(stage, dashboard=False) as supervisor:
        wait_ready(stage, supervisor)
        feed = Feed(stage, line)
        feed.send(images)
        while stage.ledger.counts(LINE).verdicts < images:
            time.sleep(LOOK_EVERY_S)
        with feed.running():
            quiet_from = time.time()
            time.sleep(BEFORE_S)
            wish = Wish(mode, images, "benchmark")
            asked = request_retrain(
                stage.ledger, Actor("bench", "engineer"), stage.registry, config, wish, line=LINE, at=time.time()
            )
            row = ended(stage, asked)
            serving = next(each.at for each in stage.ledger.servings(LINE) if each.version == row.version)
            time.sleep(2.0)
        show(stage, row, serving, latencies(stage, quiet_from, asked.requested_at))


def show(stage: Stage, row: RequestRow, serving: float, before: Sequence[float]) -> None:
    """The table."""
    asked = row.request.requested_at
    steps = steps_of(stage.settings, row.run_id or "")
    print(
        f"| from the request to the version in service: {serving - asked:.1f} s | begins after s | takes s |\n|---|---|---|"
    )
    first = min(began for began, _ in steps.values())
    print(f"| picked up, queued, process started, code loaded | 0.0 | {first - asked:.1f} |")
    for name, (began, done) in sorted(steps.items(), key=lambda each: each[1]):
        print(f"| {name} | {began - asked:.1f} | {done - began:.1f} |")
    last = max(done for _, done in steps.values())
    print(f"| taken up by the scorer | {last - asked:.1f} | {max(0.0, serving - last):.1f} |")
    meanwhile = latencies(stage, asked, serving)
    print("\n| camera to verdict | images | p50 ms | p99 ms |\n|---|---|---|---|")
    for words, values in (("before the request", before), ("from the request to the swap", meanwhile)):
        print(f"| {words} | {len(values)} | {np.quantile(values, 0.5):.0f} | {np.quantile(values, 0.99):.0f} |")
    ratios = [np.quantile(meanwhile, share) / np.quantile(before, share) for share in (0.5, 0.99)]
    print(f"| ratio | | {ratios[0]:.2f} | {ratios[1]:.2f} |", flush=True)


def main() -> None:
    """Measure."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--images", type=int, default=200)
    parser.add_argument("--mode", default="blind", choices=("blind", "refresh"))
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as home:
        run(Path(home), asked.images, asked.mode)


if __name__ == "__main__":
    main()
