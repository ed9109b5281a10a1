"""`driftline sweep`: one folder judged under many settings, and which of them nothing beats: the Pareto front."""

import itertools
import os
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from pathlib import Path
from tempfile import TemporaryFile

import msgspec
import numpy as np

from detectors.errors import InvalidInput
from orchestration.html_report import document, table
from orchestration.offline import Watcher

VARIED = ("detector", "backbone", "layers", "bank", "runtime", "image_size", "seed")
"""Options of `evaluate` that a sweep may vary; seeds are not compared but averaged."""


class Point(msgspec.Struct, frozen=True, kw_only=True):
    """One setting over all seeds: mean and lowest image AUROC, median milliseconds an image from decoded pixels to score
    and map, peak memory in bytes of a process that fits and scores. `front`: no other is at least as good in all three
    and better in one.
    """

    setting: dict[str, str]
    image_auroc: float
    lowest_auroc: float
    ms_per_image: float
    memory_bytes: int
    front: bool = False


class _Run(msgspec.Struct, frozen=True):
    """What a sweep reads of an evaluation."""

    image_auroc: float | None
    ms_per_image: float
    memory_bytes: int = 0


def varied(texts: Iterable[str]) -> dict[str, tuple[str, ...]]:
    """What `--vary NAME=VALUE,VALUE` options say; layers are joined by `+`, and a backbone may bring its weights as
    `resnet18:FILE`. Raises InvalidInput for others.

    >>> varied(["bank=1000,4000", "layers=block2+block4"])
    {'bank': ('1000', '4000'), 'layers': ('block2,block4',)}
    """
    found: dict[str, tuple[str, ...]] = {}
    for text in texts:
        name, _, values = text.partition("=")
        name = name.strip().replace("-", "_")
        if name not in VARIED or not values.strip():
            raise InvalidInput(f"--vary {text!r}; write NAME=VALUE,VALUE with a name of {', '.join(VARIED)}")
        found[name] = tuple(each.strip().replace("+", ",") for each in values.split(",") if each.strip())
    return found


def sweep(
    folder: Path, fixed: Sequence[str], ways: Mapping[str, Sequence[str]], *, watcher: Watcher
) -> tuple[Point, ...]:
    """Judge `folder` under every combination of `ways`, each in a process of its own (whose memory is measured), with
    the options `fixed` in all; by milliseconds an image. Raises InvalidInput where an evaluation fails.
    """
    seeds = ways.get("seed", ("0",))
    names = [name for name in ways if name != "seed"]
    settings = [dict(zip(names, values, strict=True)) for values in itertools.product(*(ways[name] for name in names))]
    runs: dict[int, list[_Run]] = {number: [] for number in range(len(settings))}
    for number, seed in watcher.progress(list(itertools.product(runs, seeds)), "settings"):
        runs[number].append(_run(folder, fixed, settings[number] | {"seed": seed}))
    points = [_point(setting, runs[number]) for number, setting in enumerate(settings)]
    marked = [msgspec.structs.replace(each, front=not any(_beats(other, each) for other in points)) for each in points]
    return tuple(sorted(marked, key=lambda each: each.ms_per_image))


def _run(folder: Path, fixed: Sequence[str], setting: Mapping[str, str]) -> _Run:
    options = [part for name, value in setting.items() for part in _option(name, value)]
    command = [sys.executable, "-m", "orchestration", "evaluate", str(folder), "--json", *fixed, *options]
    with TemporaryFile() as said, TemporaryFile() as errors:
        process = subprocess.Popen(command, stdout=said, stderr=errors)
        try:
            _, status, usage = os.wait4(process.pid, 0)
        except KeyboardInterrupt:
            process.terminate()
            process.wait()
            raise
        process.returncode = os.waitstatus_to_exitcode(status)
        said.seek(0)
        errors.seek(0)
        if process.returncode != 0:
            lines = errors.read().decode(errors="replace").strip().splitlines()
            raise InvalidInput(f"{' '.join(options)}: {lines[-1] if lines else f'status {process.returncode}'}")
        run = msgspec.json.decode(said.read(), type=_Run)
    return msgspec.structs.replace(run, memory_bytes=usage.ru_maxrss * 1024)


def _option(name: str, value: str) -> list[str]:
    """As `evaluate` takes it.

    >>> _option("backbone", "resnet18:w.pth")
    ['--backbone', 'resnet18', '--weights', 'w.pth']
    """
    if name == "backbone" and ":" in value:
        backbone, _, weights = value.partition(":")
        return ["--backbone", backbone, "--weights", weights]
    return [f"--{name.replace('_', '-')}", value]


def _point(setting: dict[str, str], runs: Sequence[_Run]) -> Point:
    aurocs = [run.image_auroc for run in runs if run.image_auroc is not None]
    if not aurocs:
        raise InvalidInput("no image AUROC: the folder's test images are all good or all bad; give both kinds")
    return Point(
        setting=setting,
        image_auroc=float(np.mean(aurocs)),
        lowest_auroc=min(aurocs),
        ms_per_image=float(np.median([run.ms_per_image for run in runs])),
        memory_bytes=max(run.memory_bytes for run in runs),
    )


def _beats(one: Point, other: Point) -> bool:
    ours, theirs = (np.array([-each.image_auroc, each.ms_per_image, each.memory_bytes]) for each in (one, other))
    return bool((ours <= theirs).all() and (ours < theirs).any())


def words(setting: Mapping[str, str]) -> str:
    """A setting in one line.

    >>> words({"bank": "1000", "runtime": "torch"})
    'bank 1000, runtime torch'
    """
    shown = {name: value.partition(":")[0] if name == "backbone" else value for name, value in setting.items()}
    return ", ".join(f"{name} {value}" for name, value in shown.items()) or "the defaults"


def report(points: Sequence[Point], title: str) -> str:
    """The trade-off as one HTML file: a chart of AUROC over milliseconds, areas by memory, and the table."""
    rows = [
        (
            words(each.setting),
            f"{each.image_auroc:.4f}",
            f"{each.lowest_auroc:.4f}",
            f"{each.ms_per_image:.1f}",
            f"{each.memory_bytes / 2**20:.0f}",
            "yes" if each.front else "",
        )
        for each in points
    ]
    head = ("setting", "image AUROC", "lowest of the seeds", "ms an image", "peak memory, MiB", "on the front")
    return document(
        title,
        [
            "<p>Settings on the front (blue) are those that none other beats in accuracy, time and memory at once. "
            "Area: peak memory.</p>",
            _chart(points),
            table(head, rows),
        ],
    )


def _chart(points: Sequence[Point]) -> str:
    times = np.log([each.ms_per_image for each in points])
    lowest = min(each.image_auroc for each in points)
    span_x, span_y = max(float(np.ptp(times)), 1e-9), max(1 - lowest, 1e-3)
    greatest = max(each.memory_bytes for each in points)
    marks, front = [], []
    for each, time in zip(points, times, strict=True):
        x = 70 + 760 * float(time - times.min()) / span_x
        y = 30 + 330 * (1 - each.image_auroc) / span_y
        colour = "#0b62d6" if each.front else "#aeb6c0"
        radius = 5 + 11 * (each.memory_bytes / greatest) ** 0.5
        marks.append(
            f'<circle cx="{x:.0f}" cy="{y:.0f}" r="{radius:.0f}" fill="{colour}" fill-opacity=".7">'
            f"<title>{escape(words(each.setting))}: AUROC {each.image_auroc:.4f}, {each.ms_per_image:.1f} ms</title></circle>"
        )
        if each.front:
            front.append(f"{x:.0f},{y:.0f}")
    return (
        '<svg width="960" height="420" role="img" aria-label="image AUROC over milliseconds an image">'
        f'<path d="M50 20V380H900" fill="none" stroke="#c3c9d1"/>'
        f'<polyline points="{" ".join(front)}" fill="none" stroke="#0b62d6" stroke-dasharray="5 4"/>{"".join(marks)}'
        f'<text x="8" y="34">1.000</text><text x="8" y="364">{1 - span_y:.3f}</text>'
        f'<text x="60" y="400">{np.exp(times.min()):.1f} ms an image</text>'
        f'<text x="820" y="400">{np.exp(times.max()):.1f} ms</text></svg>'
    )
