"""The whole story on one line: a rendered one, or the user's own images under a simulated change of light."""

import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import msgspec

from orchestration.replay import Stage, line_of, run_scenario, running, wait_ready, write_line
from orchestration.report import ReplayReport
from orchestration.workers import stop_on_signals
from streams.rendered import scenario_for_folder, write_demo
from streams.scenario import Scenario, parse_scenario
from streams.settings import LineConfig, Settings

RETRAIN_IMAGES = 50
COOLDOWN_S = 5.0


@dataclass(frozen=True)
class Outcome:
    """How the demo ended, for machines and in words."""

    closed: bool
    report: ReplayReport
    words: str


def run_demo(
    settings: Settings, *, images: Path | None, headless: bool, folder: Path, tell: Callable[[str], None]
) -> Outcome:
    """Run the demo; unless `headless`, keep everything up afterwards until Ctrl-C."""
    stage = Stage.open(settings, "demo", tell)
    with running(stage, dashboard=True) as supervisor:
        scenario = _scenario(images, folder, stage.story.say)
        write_line(settings, scenario.line, _config(scenario))
        wait_ready(stage, supervisor)
        report = run_scenario(scenario, stage)
        outcome = Outcome(loop_closed(report), report, in_words(report))
        if not headless:
            stage.story.say(f"{outcome.words}\nThe dashboard stays open; Ctrl-C ends.")
            _wait_for_ctrl_c()
    return outcome


def loop_closed(report: ReplayReport) -> bool:
    """True where the change was noticed, a new version passed its gates and served, and no image was lost or judged twice."""
    noticed = any(each.kind == "covariate_drift" for phase in report.phases for each in phase.incidents)
    replaced = any(
        each.cause == "covariate_drift" and each.gates == "passed" and each.request_to_serving_s is not None
        for each in report.versions
    )
    return noticed and replaced and report.lost == 0 and report.doubled == 0


def in_words(report: ReplayReport) -> str:
    """The end of the story."""
    lines = [f"{report.sent} images sent, {report.verdicts} judged, {report.lost} lost, {report.doubled} judged twice."]
    for phase in report.phases:
        for version, judged in phase.by_model.items():
            lines.append(
                f"{phase.name}: version {version} flagged {judged.flagged_good} of {judged.good} good "
                f"and {judged.flagged_bad} of {judged.bad} bad parts."
            )
    lines.append("The loop closed." if loop_closed(report) else "THE LOOP DID NOT CLOSE: see the report and the logs.")
    return "\n".join(lines)


def _scenario(images: Path | None, folder: Path, say: Callable[[str], None]) -> Scenario:
    folder.mkdir(parents=True, exist_ok=True)
    if images is not None:
        text = scenario_for_folder(images)
    else:
        say("rendering a production line (a minute at most) ...")
        text = write_demo(folder / "line")
    return parse_scenario(text, path=folder / "line" / "demo.toml", environ={})


def _config(scenario: Scenario) -> LineConfig:
    return msgspec.structs.replace(line_of(scenario), retrain_images=RETRAIN_IMAGES, cooldown_s=COOLDOWN_S)


def _wait_for_ctrl_c() -> None:
    stop = threading.Event()
    stop_on_signals(stop)
    stop.wait()
