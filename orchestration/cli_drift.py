"""Commands about drift: recorded verdicts under other settings."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

from detectors.registry import Registry
from detectors.store import open_store
from orchestration.console import Answer, Console, command
from orchestration.moments import moment_of, utc
from orchestration.options import settings
from orchestration.workers import drift_reference
from streams.ledger import Ledger
from streams.settings import line_config, load_lines

if TYPE_CHECKING:
    from orchestration.backtest import Report


def register(driftline: click.Group) -> None:
    """Put these commands under `driftline`."""
    driftline.add_command(drift)


@click.group()
def drift() -> None:
    """Drift settings against recorded verdicts."""


@command(
    drift, "driftline drift backtest --line press-4/door --expected-run-length 3000 --plot door.html", name="backtest"
)
@click.option("--line", required=True)
@click.option("--version", type=int, help="Only what this version judged.")
@click.option(
    "--expected-run-length", "run_lengths", type=int, multiple=True, metavar="N",
    help="Images between false alarms; again for more (default: the line's own).",
)  # fmt: skip
@click.option("--since", metavar="WHEN", help="Only what was judged since: 2026-03-31, or 2026-03-31T14:05 (UTC).")
@click.option("--images", type=click.IntRange(1), help="Only the latest so many images.")
@click.option("--seed", type=int, help="Seed of the calibration (default: the line's own).")
@click.option("--plot", type=click.Path(path_type=Path), help="A picture to write: FILE.html, .svg or .png.")
def drift_backtest(
    console: Console,
    line: str,
    version: int | None,
    run_lengths: tuple[int, ...],
    since: str | None,
    images: int | None,
    seed: int | None,
    plot: Path | None,
) -> Answer:
    """Recorded verdicts of a line under other settings: which alarms would have come when."""
    # Imported here because river takes seconds, and no other command needs it.
    from orchestration.backtest import Asked, backtest
    from orchestration.backtest_plot import check_plot, write_plot

    if plot is not None:
        check_plot(plot)
    began = None if since is None else moment_of(since, option="--since")
    asked = Asked(line=line, run_lengths=run_lengths, version=version, since=began, images=images, seed=seed)
    here = settings()
    report, traces = backtest(
        Ledger.open(here.ledger),
        partial(drift_reference, Registry(open_store(here.store))),
        line_config(load_lines(here.home), line),
        asked,
        told=console.told,
        traced=plot is not None,
    )
    if plot is not None:
        write_plot(plot, report, traces)
    return Answer(report, _words(report))


def _words(report: "Report") -> str:
    """What a person reads: what was run, the alarms, the incidents that were recorded."""
    run = [each for each in report.versions if each.skipped is None]
    late = sum(each.late for each in report.versions)
    lines = [
        f"{report.line}: {report.images:,} images of version{'s' if len(run) > 1 else ''} "
        f"{', '.join(str(each.version) for each in run)}" + (f", {late:,} judged late left out" if late else "")
    ]
    lines += [f"version {each.version} was not run: {each.skipped}" for each in report.versions if each.skipped]
    lines += [f"{each.expected_run_length}: {note}" for each in report.settings for note in each.notes]
    quiet = [str(each.expected_run_length) for each in report.settings if not each.alarms]
    lines += [f"no alarm at a run length of {length}" for length in quiet]
    return "\n".join([*lines, *_alarm_lines(report), *_recorded_lines(report)])


def _alarm_lines(report: "Report") -> list[str]:
    """The alarms, those that only found the same change again as a number."""
    from streams.backtesting import runs_of  # brings river, as above

    head = (
        "run length", "version", "when (UTC)", "image", "kind", "signal", "effect", "sure", "place", "since image", "recorded", "again",
    )  # fmt: skip
    rows = [
        (
            str(setting.expected_run_length), str(each.version), utc(each.at), each.image_id, each.kind, each.signal,
            f"{each.effect:+.1f} sd", f"{each.confidence:.2f}", each.place, each.since_image_id, each.mark or "",
            f"{again:,} times" if again else "",
        )
        for setting in report.settings
        for each, again in runs_of(setting.alarms)
    ]  # fmt: skip
    return _table("", head, rows)


def _recorded_lines(report: "Report") -> list[str]:
    if not report.recorded:
        return ["no incident was recorded of these versions in this time"]
    head = ("version", "opened (UTC)", "closed (UTC)", "image", "kind", "signal", "effect", "in this run")
    rows = [
        (
            str(each.version), utc(each.opened_at), "" if each.closed_at is None else utc(each.closed_at),
            each.alarm_image_id, each.kind, each.signal, f"{each.effect:+.1f} sd", each.mark or "not compared",
        )
        for each in report.recorded
    ]  # fmt: skip
    return _table("incidents that were recorded:", head, rows)


def _table(title: str, head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Columns as wide as what is in them, after a title; nothing without rows.

    >>> _table("two:", ("a", "b"), [("1", "x"), ("100", "y")])
    ['', 'two:', 'a    b', '1    x', '100  y']
    """
    if not rows:
        return []
    widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
    lines = ["  ".join(f"{cell:{width}}" for cell, width in zip(row, widths, strict=True)) for row in (head, *rows)]
    return ["", *filter(None, [title]), *(line.rstrip() for line in lines)]
