"""Commands about requests for new models: file one by hand, see how far they are, give up one that waits."""

import time

import click

from detectors.errors import NotFound
from detectors.registry import Registry
from detectors.store import open_store
from orchestration.cli_lines import local_actor
from orchestration.console import Answer, Console, command
from orchestration.moments import utc
from orchestration.options import settings
from orchestration.windows import window_of
from streams.actions import cancel_request, request_retrain
from streams.causes import BLIND, LEAST_IMAGES, MODES, WANTED_IMAGES, Wish
from streams.ledger import Ledger, RequestRow
from streams.retraining import LARGEST_WINDOW
from streams.settings import line_config, load_lines

_group = click.Group("_")


def register(driftline: click.Group) -> None:
    """Put these commands under `driftline`."""
    for each in (retrain, requests):
        driftline.add_command(each)


@command(_group, "driftline retrain --line press-4/door --mode refresh --why 'new lamps'")
@click.option("--line", required=True)
@click.option("--mode", type=click.Choice(MODES), default=BLIND, help="What the new model learns from.")
@click.option(
    "--images", type=click.IntRange(LEAST_IMAGES, LARGEST_WINDOW), default=WANTED_IMAGES, show_default=True,
    help="How many of the latest images are the window; those from before a change or of a fault are left out.",
)  # fmt: skip
@click.option("--why", default="", help="The reason, for the audit trail.")
def retrain(console: Console, line: str, mode: str, images: int, why: str) -> Answer:
    """File a retrain request by hand, as a drift would."""
    here = settings()
    ledger, registry = Ledger.open(here.ledger), Registry(open_store(here.store))
    config, wish = line_config(load_lines(here.home), line), Wish(mode, images, why)
    request = request_retrain(ledger, local_actor(), registry, config, wish, line=line, at=time.time())
    window = window_of(ledger, request)
    waits = f"; it {window.waits}" if window.waits else "; `driftline up` carries it out"
    return Answer(
        {"request_id": request.request_id, "images": len(window.keys), "waits": window.waits},
        f"request {request.request_id} filed for {line} over {len(window.keys)} images{waits}",
    )


@click.group()
def requests() -> None:
    """Requests for new models: how far they are."""


@command(requests, "driftline requests list --line press-4/door", name="list")
@click.option("--line", help="Only those of this line.")
@click.option("--limit", type=click.IntRange(1), default=50, show_default=True)
def requests_list(console: Console, line: str | None, limit: int) -> Answer:
    """The latest requests, oldest first, with what they wait for or how they ended."""
    rows = Ledger.open(settings().ledger).requests(line)[-limit:]
    return Answer({"requests": [_told(row) for row in rows]}, "\n".join(map(_in_words, rows)) or "no requests")


@command(requests, "driftline requests cancel 5f0c9a --why 'the line is stopped'", name="cancel")
@click.argument("request_id")
@click.option("--why", required=True, help="The reason, for the audit trail.")
def requests_cancel(console: Console, request_id: str, why: str) -> Answer:
    """Give up a request that waits; one that runs is cancelled with its run on Dagster's page."""
    ledger = Ledger.open(settings().ledger)
    row = ledger.request(request_id)
    if row is None:
        raise NotFound(f"no request {request_id!r}; `driftline requests list` shows what there is")
    cancel_request(ledger, local_actor(), line=row.request.line, request_id=request_id, why=why, at=time.time())
    return Answer({"cancelled": request_id}, f"request {request_id} of {row.request.line} is cancelled")


def _told(row: RequestRow) -> dict[str, str | float | int | None]:
    request = row.request
    return {
        "request_id": request.request_id,
        "line": request.line,
        "cause": request.cause,
        "mode": request.mode,
        "state": row.state,
        "detail": row.detail,
        "version": row.version,
        "attempt": row.attempt,
        "requested_at": request.requested_at,
        "ended_at": row.ended_at,
    }


def _in_words(row: RequestRow) -> str:
    request, why = row.request, f": {row.detail}" if row.detail else ""
    what = f"{request.request_id}  {request.line}  {request.cause}  {request.mode}"
    return f"{utc(request.requested_at)}  {what}  {row.state}{why}"
