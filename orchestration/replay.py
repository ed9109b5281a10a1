"""Runs a scenario through the real parts, as processes, and reports what became of every image."""

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import msgspec

from detectors.errors import DriftlineError
from detectors.registry import Registry
from detectors.store import open_store
from orchestration.report import ReplayReport, Run, SentImage, report_of
from orchestration.story import Story
from orchestration.supervise import Supervisor, dagster_parts, dashboard_part, worker_parts
from streams.bus import Bus
from streams.buses import open_bus
from streams.camera import Camera, ImageSent, Pace, PhaseEnded, PhaseStarted, replay
from streams.ledger import Ledger
from streams.ledger_rows import IN_WORK
from streams.newest_first import BACKLOG_GROUP
from streams.scenario import Scenario, plan
from streams.settings import LineConfig, Settings
from streams.topics import BACKLOG, RECORDED

SETTLE_LIMIT_S = 600.0
READY_LIMIT_S = 180.0
LOOK_EVERY_S = 0.3
QUIET_LOOKS = 3
MOST_UNSCORED = 32


class LoopStuck(DriftlineError):
    """A settling phase did not come to rest in time."""


@dataclass(frozen=True)
class Stage:
    """Where a replay runs: the installation's parts opened, and who hears the story."""

    settings: Settings
    bus: Bus
    ledger: Ledger
    registry: Registry
    story: Story

    @classmethod
    def open(cls, settings: Settings, line: str, tell: Callable[[str], None]) -> "Stage":
        """Open the parts of an installation for one line."""
        settings.home.mkdir(parents=True, exist_ok=True)
        ledger = Ledger.open(settings.ledger)
        return cls(
            settings, open_bus(settings.bus), ledger, Registry(open_store(settings.store)), Story(ledger, line, tell)
        )


def line_of(scenario: Scenario) -> LineConfig:
    """How the scenario's line is run: the defaults, a cold start after its first phase, the scenario's model options and its `config`."""
    options = {name: value for name, value in msgspec.structs.asdict(scenario.model).items() if value is not None}
    known = {name: value for name, value in options.items() if name in LineConfig.__struct_fields__}
    return msgspec.convert({"cold_start_images": scenario.phases[0].images, **known, **scenario.config}, LineConfig)


def write_line(settings: Settings, line: str, config: LineConfig) -> None:
    """Describe the line in the installation's `driftline.toml`."""
    settings.home.mkdir(parents=True, exist_ok=True)
    given = {name: value for name, value in msgspec.structs.asdict(config).items() if value is not None}
    rows = "\n".join(f"{name} = {json.dumps(value)}" for name, value in given.items())
    (settings.home / "driftline.toml").write_text(f"[lines.{json.dumps(line, ensure_ascii=False)}]\n{rows}\n")


@contextmanager
def running(stage: Stage, *, dashboard: bool) -> Iterator[Supervisor]:
    """The installation's processes, started and supervised; stopped in order at the end. `wait_ready` says when they are up."""
    parts = (*worker_parts(), *dagster_parts(stage.settings, web=dashboard))
    supervisor = Supervisor(stage.settings, (*parts, dashboard_part()) if dashboard else parts, stage.story.say)
    stop = threading.Event()
    watcher = threading.Thread(target=_watch, args=(supervisor, stage.story, stop), name="supervisor")
    for part in supervisor.parts:
        if part.address is not None:
            stage.story.say(f"{part.name}: {part.address}")
    try:
        supervisor.start()
        watcher.start()
        yield supervisor
    finally:
        stop.set()
        if watcher.is_alive():
            watcher.join()
        stage.story.catch_up()
        supervisor.stop()


def wait_ready(stage: Stage, supervisor: Supervisor) -> None:
    """Wait until every part that serves an address does; raises LoopStuck where one does not in time."""
    if not supervisor.wait_ready(timeout_s=READY_LIMIT_S):
        raise LoopStuck(
            f"not everything was up within {READY_LIMIT_S:.0f} s; look at the logs in {stage.settings.home}/logs"
        )


def _watch(supervisor: Supervisor, story: Story, stop: threading.Event) -> None:
    while not stop.wait(LOOK_EVERY_S):
        supervisor.look()
        story.catch_up()


def run_scenario(scenario: Scenario, stage: Stage) -> ReplayReport:
    """Send the scenario's images at line speed, settle where it says so, and report. The parts must be up."""
    if scenario.start == "trusted":
        _train_first(scenario, stage)
    sent: list[SentImage] = []
    phases = {phase.name: phase for phase in scenario.phases}
    producer = stage.bus.producer()
    store = open_store(stage.settings.store)
    camera = Camera(store, producer, line=scenario.line, source="/driftline/replay")
    pace = Pace(scenario.rate, room=lambda: stage.bus.lag("scorer", ("images",)) < MOST_UNSCORED)
    for event in replay(camera, plan(scenario), pace=pace):
        match event:
            case PhaseStarted(name):
                stage.story.say(f"phase {name}: {phases[name].images} images")
            case ImageSent(planned, image):
                sent.append(SentImage(image.image_id, planned.phase, planned.bad, image.taken_at))
            case PhaseEnded(name):
                if phases[name].settle:
                    settle(stage, scenario.line)
    producer.close()
    settle(stage, scenario.line)
    run = Run(scenario.name, scenario.line, scenario.seed, tuple(phases), tuple(sent))
    return report_of(run, stage.ledger, stage.registry)


def _train_first(scenario: Scenario, stage: Stage) -> None:
    """The trusted model that the scenario starts with."""
    # Imported here to keep torch out of a replay that starts blind.
    from orchestration.offline import train_images

    config = msgspec.structs.replace(line_of(scenario), detector=scenario.model.detector or "patchcore")
    train_images(scenario.trusted, scenario.line, config, store=open_store(stage.settings.store))


def settle(stage: Stage, line: str) -> None:
    """Wait until everything sent has been dealt with, every request has ended and the champion judges the line."""
    deadline = time.monotonic() + SETTLE_LIMIT_S
    quiet = 0
    while quiet < QUIET_LOOKS:
        if time.monotonic() > deadline:
            raise LoopStuck(
                f"line {line} did not settle within {SETTLE_LIMIT_S:.0f} s; look at the logs in {stage.settings.home}/logs"
            )
        time.sleep(LOOK_EVERY_S)
        quiet = quiet + 1 if _at_rest(stage, line) else 0


def _at_rest(stage: Stage, line: str) -> bool:
    if any(stage.bus.lag(group, topics) for group, topics in _groups().items()):
        return False
    if stage.ledger.requests(
        line, states=IN_WORK
    ):  # a version on trial waits for images, which a line at rest has none of
        return False
    champion = stage.registry.pointers(line).champion
    servings = stage.ledger.servings(line)
    refused = {alert.version for alert in stage.ledger.refusals(line)}
    serving = max(servings, key=lambda each: each.at).version if servings else None
    return champion in (serving, *refused)


def _groups() -> dict[str, tuple[str, ...]]:
    """Consumer groups and topics in the order in which a message passes them."""
    return {
        "scorer": ("images",),
        "watcher": ("verdicts", "collected", "promotions"),
        BACKLOG_GROUP: (BACKLOG,),
        "recorder": RECORDED,
    }
