"""The `driftline` command: what users type. Each command is a composition root over the other rooms."""

import sys

import click

from orchestration import cli_letters, cli_lines, cli_models, cli_runs
from orchestration.console import Answer, Console, command, run
from orchestration.options import settings
from orchestration.workers import run_worker


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(package_name="driftline")
def driftline() -> None:
    """Watch a production line's cameras: score, notice drift, retrain, prove, swap, review."""


@command(driftline, "driftline score")
def score(console: Console) -> Answer:
    """Judge images with each line's current model; any number of scorers share the lines."""
    run_worker("score", settings())
    return Answer({"stopped": "score"})


@command(driftline, "driftline watch")
def watch(console: Console) -> Answer:
    """Watch the verdicts for drift, open incidents, ask for new models."""
    run_worker("watch", settings())
    return Answer({"stopped": "watch"})


@command(driftline, "driftline record")
def record(console: Console) -> Answer:
    """Write everything that happens into the ledger."""
    run_worker("record", settings())
    return Answer({"stopped": "record"})


cli_letters.register(driftline)
cli_lines.register(driftline)
cli_models.register(driftline)
cli_runs.register(driftline)


def main() -> int:
    """The entry point."""
    return run(driftline)


if __name__ == "__main__":
    sys.exit(main())
