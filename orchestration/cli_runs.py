"""Commands that run the whole house: up, demo, replay, doctor."""

import os
import tempfile
import threading
import time
from pathlib import Path

import click
import msgspec

from detectors.store import open_store
from orchestration.console import DONE, NO, Answer, Console, command
from orchestration.options import settings
from orchestration.supervise import Supervisor, dagster_parts, dashboard_part, worker_parts
from orchestration.workers import stop_on_signals
from streams.buses import open_bus
from streams.ledger import Ledger
from streams.settings import Settings

RETENTION_LOOK_S = 3600.0

_group = click.Group("_")


def register(driftline: click.Group) -> None:
    """Put these commands under `driftline`."""
    for each in (up, demo, replay, doctor):
        driftline.add_command(each)


@command(_group, "driftline up")
def up(console: Console) -> Answer:
    """Everything on this machine until Ctrl-C: scorer, watcher, recorder, Dagster, dashboard."""
    here = settings()
    stop = threading.Event()
    stop_on_signals(stop)
    parts = (*worker_parts(), *dagster_parts(here, web=True), dashboard_part())
    supervisor = Supervisor(here, parts, console.say)
    _try_out(here)
    try:
        supervisor.start()
        for part in parts:
            console.say(f"{part.name:15} {part.address or part.health or 'started'}")
        console.say(f"home: {here.home}; logs beside it in logs/; Ctrl-C stops everything in order")
        threading.Thread(target=_keep_retention, args=(here, stop), daemon=True, name="retention").start()
        supervisor.watch(stop)
    finally:
        supervisor.stop()
    return Answer({"stopped": [part.name for part in parts]}, "everything stopped")


@command(_group, "driftline replay tests/scenarios/magnetic_tile_step.toml --report r.json")
@click.argument("scenario", type=click.Path(path_type=Path))
@click.option("--report", type=click.Path(path_type=Path), help="Write the report (JSON) here.")
@click.option("--home", type=click.Path(path_type=Path), help="Keep the installation of this run here.")
@click.option("--dashboard", is_flag=True, help="With the dashboard and Dagster's page.")
@click.option(
    "--servers", is_flag=True, help="On the bus, store and ledger that the environment names; give it fresh ones."
)
def replay(
    console: Console, scenario: Path, report: Path | None, home: Path | None, dashboard: bool, servers: bool
) -> Answer:
    """Run a scenario through the real parts, as processes, and report."""
    from orchestration.replay import Stage, line_of, run_scenario, running, wait_ready, write_line
    from streams.scenario import load_scenario

    loaded = load_scenario(scenario, environ=os.environ)
    with tempfile.TemporaryDirectory(prefix="driftline-") as temporary:
        here = _installation(home or Path(temporary), servers=servers)
        write_line(here, loaded.line, line_of(loaded))
        stage = Stage.open(here, loaded.line, console.say)
        with running(stage, dashboard=dashboard) as supervisor:
            wait_ready(stage, supervisor)
            result = run_scenario(loaded, stage)
    data = msgspec.json.format(msgspec.json.encode(result), indent=1)
    if report is not None:
        report.write_bytes(data + b"\n")
    sound = result.lost == 0 and result.doubled == 0
    return Answer(result, data.decode(), DONE if sound else NO)


@command(_group, "driftline demo --headless")
@click.option("--headless", is_flag=True, help="No waiting at the end; status 1 if the loop did not close.")
@click.option("--images", type=click.Path(path_type=Path), help="Your own images instead of the rendered line.")
@click.option("--home", type=click.Path(path_type=Path), help="Keep the installation of the demo here.")
def demo(console: Console, headless: bool, images: Path | None, home: Path | None) -> Answer:
    """The whole story on a rendered line: cold start, steady running, a lighting change, the alarm, retraining, the swap."""
    from orchestration.demo import run_demo

    with tempfile.TemporaryDirectory(prefix="driftline-demo-") as temporary:
        here = _installation(home or Path(temporary) / "home")
        outcome = run_demo(here, images=images, headless=headless, folder=Path(temporary), tell=console.say)
    return Answer(outcome.report, outcome.words, DONE if outcome.closed else NO)


@command(_group, "driftline doctor")
def doctor(console: Console) -> Answer:
    """Check every part of this installation and say what is wrong and how to mend it."""
    from orchestration.doctor import examine

    findings = examine(settings())
    text = "\n".join(f"{'ok   ' if each.well else 'WRONG'} {each.part}: {each.words}" for each in findings)
    return Answer({"findings": findings}, text, DONE if all(each.well for each in findings) else NO)


def _try_out(here: Settings) -> None:
    """Raise what is wrong with the store, the bus or the ledger, before parts are started that would end for it again and again."""
    open_store(here.store)
    open_bus(here.bus).lag("scorer", ("images",))
    Ledger.open(here.ledger).close()


def _keep_retention(here: Settings, stop: threading.Event) -> None:
    """Every hour, let the embedded log forget what is older than its topics' retention."""
    bus = open_bus(here.bus)
    while not stop.wait(RETENTION_LOOK_S):
        bus.expire(time.time())


def _installation(home: Path, *, servers: bool = False) -> Settings:
    """An installation of its own under `home`, whatever the environment says of the usual one (misspelt names still count).

    With `servers`, on the bus, the store and the ledger of the environment.
    """
    settings()
    kept = os.environ if servers else {}
    return Settings.from_environ({**kept, "DRIFTLINE_HOME": str(home)})
