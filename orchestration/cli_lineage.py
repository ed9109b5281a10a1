"""Commands about where a model and a verdict come from, and what another threshold would do."""

import time

import click

from detectors.registry import OperatingPoint, Registry
from detectors.store import open_store
from orchestration.cli_lines import local_actor
from orchestration.console import Answer, Console, command
from orchestration.options import settings
from streams.actions import set_threshold
from streams.ledger import Ledger
from streams.lineage import image_lineage
from streams.lineage_words import image_words, point_words
from streams.operating_points import preview, suggest

_group = click.Group("_")


def register(driftline: click.Group, models: click.Group) -> None:
    """Put these commands under `driftline` and `driftline models`."""
    driftline.add_command(lineage)
    models.add_command(threshold)


@command(_group, "driftline lineage --line press-4/door part-7.jpg")
@click.option("--line", required=True)
@click.argument("image_id")
def lineage(console: Console, line: str, image_id: str) -> Answer:
    """One image: its verdict, the version, run and training set behind it, and which models learnt from it.

    IMAGE_ID is the id in the verdict, or the object key of an image that never came down the line.
    """
    here = settings()
    found = image_lineage(Ledger.open(here.ledger), Registry(open_store(here.store)), line, image_id)
    return Answer(found, "\n".join([f"{line}, image {image_id}:", *(f"  {each}" for each in image_words(found))]))


@command(_group, 'driftline models threshold press-4/door@champion 0.42 --why "scratches below 2 mm are fine"')
@click.argument("model")
@click.argument("value", type=float, required=False)
@click.option("--why", default="by hand", help="The reason, for the audit trail.")
@click.option("--try", "tried", type=float, metavar="VALUE", help="Only say what this one would have flagged.")
def threshold(console: Console, model: str, value: float | None, why: str, tried: float | None) -> Answer:
    """The threshold of a version: its history and what the reviews suggest; with a VALUE, another one.

    It is in force on every scorer within three seconds; nothing is trained again.
    """
    here, now = settings(), time.time()
    ledger, registry = Ledger.open(here.ledger), Registry(open_store(here.store))
    line, version = registry.resolve(model)
    if value is None:
        return _threshold_of(ledger, registry, line, version, tried=tried, now=now)
    if tried is not None:
        raise click.UsageError(f"--try {tried} beside the threshold {value}: give one of them")
    point = set_threshold(ledger, local_actor(), registry, line=line, version=version, threshold=value, why=why, at=now)
    return Answer(
        {"line": line, "version": version, "operating_point": point}, f"{line}@{version}: {point_words(point)}"
    )


def _threshold_of(
    ledger: Ledger, registry: Registry, line: str, version: int, *, tried: float | None, now: float
) -> Answer:
    """Current threshold, history, preview (of the one tried, else of the one in force) and suggestion."""
    history: list[OperatingPoint] = registry.operating_points(line, version)
    in_force = history[-1].threshold
    suggestion = suggest(ledger.scored_parts(line, version), in_force)
    seen = preview(ledger, line, version, in_force if tried is None else tried, now=now)
    data = {"line": line, "version": version, "threshold": in_force, "history": history, "preview": seen}
    lines = [f"{line}@{version}:", *map(point_words, history), f"{seen.threshold:.6g} {seen.words}"]
    proposed = None
    if suggestion.threshold is not None:
        proposed = preview(ledger, line, version, suggestion.threshold, now=now)
        lines += [f"the reviews suggest {suggestion.words}", f"{suggestion.threshold} {proposed.words}"]
    else:
        lines.append(suggestion.words)
    return Answer(data | {"suggestion": suggestion, "suggestion_preview": proposed}, "\n  ".join(lines))
