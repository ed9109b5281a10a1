"""The `driftline` command: what users type. Each command is a composition root over the other rooms."""

import sys
from dataclasses import replace

import click

from orchestration import cli_drift, cli_letters, cli_lineage, cli_lines, cli_models, cli_requests, cli_runs
from orchestration.console import Answer, Console, command, run
from orchestration.options import settings
from orchestration.workers import run_worker

_with_health = click.option(
    "--health", metavar="HOST:PORT", help="Tell there how it goes: /healthz, /metrics (default: DRIFTLINE_HEALTH)."
)


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(package_name="driftline")
def driftline() -> None:
    """Watch a production line's cameras: score, notice drift, retrain, prove, swap, review."""


@command(driftline, "driftline score --health 127.0.0.1:9100")
@_with_health
def score(console: Console, health: str | None) -> Answer:
    """Judge images with each line's current model; any number of scorers share the lines."""
    return _worked("score", health)


@command(driftline, "driftline watch")
@_with_health
def watch(console: Console, health: str | None) -> Answer:
    """Watch the verdicts for drift, open incidents, ask for new models."""
    return _worked("watch", health)


@command(driftline, "driftline record")
@_with_health
def record(console: Console, health: str | None) -> Answer:
    """Write everything that happens into the ledger."""
    return _worked("record", health)


def _worked(name: str, health: str | None) -> Answer:
    """Run a worker until it is told to stop."""
    here = settings()
    run_worker(name, replace(here, health=health or here.health))
    return Answer({"stopped": name})


cli_drift.register(driftline)
cli_letters.register(driftline)
cli_lines.register(driftline)
cli_models.register(driftline)
cli_lineage.register(driftline, cli_models.models)
cli_requests.register(driftline)
cli_runs.register(driftline)


def main() -> int:
    """The entry point."""
    return run(driftline)


if __name__ == "__main__":
    sys.exit(main())
