"""The scorer from decoding to a durable verdict: images a second and milliseconds an image, beside the bare model in the same run.

The rounds of the two alternate, so that a machine that slows down slows both. Absolute figures are of this machine; the ratio is what to
beat.
"""

import os
import platform
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from detectors.artifact import Provenance, pack
from detectors.extractors import ExtractorCache
from detectors.fitting import fit_model
from detectors.images import decode, encode_jpeg
from detectors.model import Model, detector_from
from detectors.registry import Registry
from detectors.store import FolderStore
from streams.camera import Camera
from streams.local import LocalBus
from streams.rendered import RenderedLine
from streams.scoring import ScoreHandler
from streams.serving import ServingModels
from streams.worker import Worker

LINE = "bench"
FIT, SCORED, ROUNDS = 40, 40, 3


def fitted(pictures: list[bytes], registry: Registry, cache: ExtractorCache) -> Model:
    """A blind model of the pictures, published and in service."""
    images = [decode(data) for data in pictures]
    model = fit_model(
        images,
        [str(number) for number in range(len(images))],
        extractor=cache.load("efficientnet_lite0", image_size=256),
        detector=detector_from("patchcluster", bank=4000, seed=0),
        false_alarm_rate=0.01,
    )
    provenance = Provenance(
        line=LINE, mode="blind", cause="manual", parent=None, request_id=None, created_at=0.0, code_version="bench", metrics={}
    )  # fmt: skip
    registry.promote(LINE, registry.publish(LINE, pack(model, provenance, golden_image=images[0])))
    return model


def seconds_each(work: Callable[[int], object], count: int) -> list[float]:
    """How long each of `count` pieces of work takes."""
    taken = []
    for number in range(count):
        start = time.perf_counter()
        work(number)
        taken.append(time.perf_counter() - start)
    return taken


def main() -> None:
    """Print the table."""
    line = RenderedLine(3)
    pictures = [encode_jpeg(line.image(number)) for number in range(FIT + SCORED)]
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        store, bus, cache = FolderStore(home / "objects"), LocalBus(home / "bus.sqlite"), ExtractorCache()
        registry = Registry(store)
        model = fitted(pictures[:FIT], registry, cache)
        models = ServingModels(registry, cache, now=time.time)
        handler = ScoreHandler(store, models, now=time.time)
        worker = Worker(bus.consumer("scorer", ["images"]), bus.producer(), handler, source="/bench", max_records=1)
        camera = Camera(store, bus.producer(), line=LINE, source="/bench")
        to_score = pictures[FIT:]
        bare, whole = [], []
        for turn in range(ROUNDS):
            for number, data in enumerate(to_score):
                camera.send(data, image_id=f"{turn}-{number}", suffix="jpg")
            camera.flush()
            bare += seconds_each(lambda number: model.score([decode(to_score[number])]), SCORED)
            whole += seconds_each(lambda _: worker.step(), SCORED)
        models.close()
    threads = os.environ.get("OMP_NUM_THREADS", "all")
    print(
        f"machine: {platform.machine()}, {os.cpu_count()} cores, {threads} threads; one image at a time, 256 px, 4,000 rows"
    )
    for name, taken in (("decode and score (bare model)", bare), ("decode to durable verdict (worker)", whole)):
        ms = 1000 * np.asarray(taken)
        print(
            f"{name:36} {1000 / ms.mean():6.1f} images/s   p50 {np.median(ms):6.1f} ms   p99 {np.percentile(ms, 99):6.1f} ms"
        )
    print(f"worker / bare model, medians: {np.median(whole) / np.median(bare):.2f}")


if __name__ == "__main__":
    main()
