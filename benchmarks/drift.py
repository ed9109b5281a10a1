"""Drift alarms: how rare on lines that stay as they are, how early and how well named on lines that change.

Every method sees the same lines in one run. Lines are drawn from the signals of real tiles and cookies under real models,
scored once and kept under `--cache` (ten minutes; numbers and names, no pixels). Needs DRIFTLINE_TEST_DATA and
DRIFTLINE_TEST_WEIGHTS. `--quick` takes a minute, everything some ten once the signals are kept.
"""

import argparse
import os
import platform
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from functools import cache, partial
from pathlib import Path

import numpy as np
from drifts import cost, tables
from drifts.lines import CHANGES, PROCESSES, RAMP, SPIKE, STEP, Marginals, lines
from drifts.rivals import OURS, Start, watchers
from drifts.tables import COOKIE, FALSE_ALARM_RATE, Floats, Scored
from drifts.trials import (
    KINDS,
    LAST,
    REFERENCES,
    Met,
    Quiet,
    cells,
    false_rate,
    quiet,
    recalls,
    trial,
    upper_limit,
)
from rivals.client import BANK

TILES = "exposures 1+2"
TARGET = 1.0
"""False alarms per 10,000 images that the issue allows."""

Tables = Callable[[str], Scored]
"""What a model said, by its name: from the cache, or scored when first asked for."""

_LINE_IMAGES = 5_000
_UPDATES = 20_000
_PER = 10_000


def show(title: str, head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """A Markdown table."""
    print(f"\n### {title}\n")
    for row in (head, ["---"] * len(head), *rows):
        print(f"| {' | '.join(row)} |")
    print(flush=True)


def number(value: float) -> str:
    """A delay, or a dash where nothing was found."""
    return f"{value:.0f}" if np.isfinite(value) else "-"


def rate(counts: Sequence[int], images: int) -> str:
    """False alarms per 10,000 images with the upper limit."""
    if not counts:
        return "not run"
    return f"{_PER * sum(counts) / (images * len(counts)):.2f} (<= {_PER * upper_limit(counts, images):.2f})"


def show_quiet(found: Mapping[str, Quiet], images: int) -> None:
    """False alarms of every method by process, and ours by everything."""
    bases = (TILES, COOKIE)
    show(
        f"Stationary lines: false alarms per {_PER:,} images (upper 95 % confidence limit, clustered by line)",
        ["method", "images", "all", *PROCESSES],
        [
            [name, f"{images * len(each.of()):,}", rate(each.of(), images)]
            + [rate(each.of(process=process), images) for process in PROCESSES]
            for name, each in found.items()
        ],
    )
    show(
        f"{OURS}: the same by what the line is drawn from and images of the reference",
        ["drawn from", "reference", *PROCESSES],
        [
            [base, str(size)]
            + [rate(found[OURS].of(process=process, base=base, reference=size), images) for process in PROCESSES]
            for base in bases
            for size in REFERENCES
        ],
    )
    print(
        f"Goal: at most {TARGET:g} of {_PER:,}. Alarms are not merged; a monitor arms itself again as it does in use."
    )


def show_ours(met: Sequence[Met]) -> None:
    """Delays, confusion and places of ours."""
    show(
        f"{OURS}: real changes after 100 images in control",
        [
            "change", "wanted", "lines", "found", "in time", "right kind", "median delay", "95 %", "longest",
            "alarms before", "asks for a model by itself", "a model is published", "place named",
        ],
        [
            [
                each.change.name, each.change.wanted, str(len(each.trials)), f"{each.found:.0%}", f"{each.in_time:.0%}",
                f"{each.right:.0%}", number(each.median), number(each.quantile(0.95)), number(each.quantile(1.0)),
                str(each.false), f"{each.would_retrain:.0%}", f"{each.would_publish:.0%}", each.where() or "-",
            ]
            for each in met
        ],
    )  # fmt: skip
    for title, counted in (("first alarm", Met.first), (f"last alarm within {LAST} images", Met.last)):
        show(
            f"{OURS}: what it was (rows) and what the {title} called it (columns)",
            ["change", "truth", *KINDS],
            [
                [each.change.name, each.change.truth, *(str(counted(each)[kind] or ".") for kind in KINDS)]
                for each in met
            ],
        )


def show_ramp(met: Mapping[str, Sequence[Met]]) -> None:
    """How many good parts were flagged when the ramp was found."""
    most = 3 * FALSE_ALARM_RATE
    rows = []
    for name, all_met in met.items():
        (each,) = (each for each in all_met if each.change.name == RAMP)
        said = [middle_and_most([getattr(one, what) for one in each.trials]) for what in ("flagged", "rate")]
        good = [f"{share:.0%}" for share in each.in_bounds(most)]
        rows.append([name, number(each.median), number(each.quantile(0.95)), said[0], good[0], said[1], good[1]])
    show(
        f"Ramp: good tiles flagged at the moment of the alarm (target {FALSE_ALARM_RATE:.0%}; median / most)",
        [
            "method", "median delay", "95 %", "of the last 50 images", f"lines <= {most:.0%}",
            "of all unseen tiles at these exposures", f"lines <= {most:.0%}",
        ],
        rows,
    )  # fmt: skip


def middle_and_most(shares: Sequence[float | None]) -> str:
    """Median and largest of those there are."""
    known = [share for share in shares if share is not None]
    return f"{np.median(known):.1%} / {max(known):.1%}" if known else "-"


def show_rivals(met: Mapping[str, Sequence[Met]]) -> None:
    """All methods side by side."""
    show(
        "Every method: median / 95 % delay (share found, where not all); the spike should not be found",
        ["change", *met],
        [[each.change.name, *(delays(met[name][place]) for name in met)] for place, each in enumerate(met[OURS])],
    )
    show(
        f"Every method: alarms before the change per {_PER:,} images, and kinds named right by the first alarm",
        ["method", "false alarms", *KINDS],
        [[name, f"{false_rate(all_met):.1f}", *kinds_right(all_met)] for name, all_met in met.items()],
    )


def kinds_right(met: Sequence[Met]) -> list[str]:
    """Recall of each kind."""
    found = recalls(met)
    return [f"{found[kind]:.0%}" for kind in KINDS]


def delays(met: Met) -> str:
    """One cell of the table of delays."""
    share = "" if met.found == 1.0 else f" ({met.found:.0%})"
    return f"{number(met.median)} / {number(met.quantile(0.95))}{share}"


def show_cost(taken: Mapping[str, Sequence[float]], watched: Sequence[float]) -> None:
    """Watching beside scoring."""
    update_ms, scorings = float(np.median(watched)), len(next(iter(taken.values())))
    show(
        f"Cost of watching {len(watched):,} images, of scoring {scorings} (256 px, OpenVINO, {BANK:,} rows); goal: at most 2 %",
        ["backbone", "scoring p50 ms", "watching p50 ms", "mean", "p99", "watching / scoring"],
        [
            [
                name, f"{np.median(each):.1f}", f"{update_ms:.3f}", f"{np.mean(watched):.3f}",
                f"{np.percentile(watched, 99):.3f}", f"{update_ms / np.median(each):.2%}",
            ]
            for name, each in taken.items()
        ],
    )  # fmt: skip


def cost_part(scored: Tables, data: Path, weights: Path, scorings: int) -> None:
    """Time of watching an image."""
    show_cost(*cost.times(scored(TILES), cost.models(data, weights), data, updates=_UPDATES, scorings=scorings))


def memory_part(scored: Tables, images: int) -> None:
    """Whether memory grows."""
    early, late = cost.resident(scored(TILES), images)
    print(f"\nMemory: {early:.1f} MB after {images // 10:,} images, {late:.1f} MB after {images:,}")


def stationary_part(scored: Tables, starts: Mapping[str, Start], images: int) -> None:
    """False alarms."""
    real: dict[str, tuple[Marginals, Floats]] = {}
    for name in (TILES, COOKIE):
        exposures = (1, 2) if name == TILES else ()
        good = np.concatenate((scored(name).reference, scored(name).rows(exposures=exposures)))
        real[name] = (Marginals(good), scored(name).rows(exposures=exposures, good=False))
    sorts = len(cells(tuple(real)))
    each = min(_LINE_IMAGES, max(500, images // sorts))
    count = max(1, round(images / sorts / each))
    print(
        f"\nStationary: {sorts} sorts x {count} lines x {each:,} images = {sorts * count * each:,} images", flush=True
    )
    show_quiet(quiet(starts, real, lines=count, images=each), each)


def changes_part(scored: Tables, starts: Mapping[str, Start], seeds: int, step_seeds: int) -> None:
    """Delays and kinds."""
    met: dict[str, list[Met]] = {name: [] for name in starts}
    for change in CHANGES:
        several = list(lines(change, scored(change.model), step_seeds if change.name == STEP else seeds))
        for name, start in starts.items():
            met[name].append(Met(change, [trial(start, line, seed) for seed, line in enumerate(several)]))
    show_ours(met[OURS])
    show_ramp(met)
    show_rivals(met)
    (spike,) = (each for each in met[OURS] if each.change.name == SPIKE)
    print(f"Spikes that raised an alarm: {spike.found:.0%} of {len(spike.trials)}")


def options() -> argparse.Namespace:
    """What is asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cache", type=Path, default=Path(tempfile.gettempdir()) / "driftline-drift-benchmark")
    parser.add_argument("--images", type=int, default=1_000_000, help="stationary images in total")
    parser.add_argument("--seeds", type=int, default=20, help="lines of each kind of change")
    parser.add_argument("--step-seeds", type=int, default=50, help="lines of the real step")
    parser.add_argument("--expected-run-length", type=int, default=_PER)
    parser.add_argument("--ours-only", action="store_true", help="leave the rivals out")
    parser.add_argument("--parts", default="changes,cost,stationary", help="changes, cost, stationary, memory")
    parser.add_argument("--memory", type=int, default=1_000_000, help="images of the part memory")
    parser.add_argument("--quick", action="store_true", help="30,000 stationary images, 5 lines a change")
    asked = parser.parse_args()
    if asked.quick:
        asked.images, asked.seeds, asked.step_seeds, asked.memory = 30_000, 5, 5, 20_000
    return asked


def main() -> None:
    """All parts that are asked for."""
    asked = options()
    data, weights = os.environ.get("DRIFTLINE_TEST_DATA"), os.environ.get("DRIFTLINE_TEST_WEIGHTS")
    if not data or not weights:
        print("left out: set DRIFTLINE_TEST_DATA and DRIFTLINE_TEST_WEIGHTS to the folders of real images and weights")
        return
    began = time.perf_counter()
    threads = os.environ.get("OMP_NUM_THREADS", "all")
    print(
        f"machine: {platform.machine()}, {os.cpu_count()} cores, {threads} threads, Python {platform.python_version()}"
    )
    scored = cache(partial(tables.kept, asked.cache, Path(data), Path(weights)))
    starts = watchers(asked.expected_run_length)
    if asked.ours_only:
        starts = {OURS: starts[OURS]}
    parts = {
        "changes": partial(changes_part, scored, starts, asked.seeds, asked.step_seeds),
        "cost": partial(cost_part, scored, Path(data), Path(weights), 5 if asked.quick else 40),
        "stationary": partial(stationary_part, scored, starts, asked.images),
        "memory": partial(memory_part, scored, asked.memory),
    }  # fmt: skip
    for part in asked.parts.split(","):
        parts[part]()
    print(f"\ntook {time.perf_counter() - began:.0f} s")


if __name__ == "__main__":
    main()
