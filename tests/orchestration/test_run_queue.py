"""Twenty lines ask at the same moment: the real sensor, Dagster's own queue and the real job, one run at a time, in order.

The runs are carried out in this process. None of the images that the requests name is there, so each ends with that reason at once.
"""

import logging
import random
import sys
from collections.abc import Iterator
from dataclasses import dataclass

import dagster as dg
import pytest
from dagster._core.remote_origin import InProcessCodeLocationOrigin
from dagster._core.types.loadable_target_origin import LoadableTargetOrigin
from dagster._core.workspace.context import WorkspaceProcessContext
from dagster._core.workspace.load_target import InProcessWorkspaceLoadTarget
from dagster._daemon.run_coordinator.queued_run_coordinator_daemon import QueuedRunCoordinatorDaemon
from dagster._daemon.sensor import execute_sensor_iteration

from orchestration.dagster_instance import write_configuration
from orchestration.resources import ATTEMPT_TAG, LINE_TAG
from streams.ledger import Ledger, RequestRow
from streams.messages import RetrainRequest
from streams.settings import Settings

LINES = 20
IN_THIS_PROCESS = """\
run_launcher:
  module: dagster._core.launcher.sync_in_memory_run_launcher
  class: SyncInMemoryRunLauncher
"""


@dataclass(frozen=True)
class Daemon:
    """A sensor daemon and a run queue over an instance; what another one did before they know from its databases alone."""

    context: WorkspaceProcessContext
    queue: QueuedRunCoordinatorDaemon

    def look(self) -> None:
        """One tick of every sensor that is due."""
        log = logging.getLogger("dagster.daemon")
        assert [error for error in execute_sensor_iteration(self.context, log, None, None, None) if error] == []

    def dequeue(self) -> None:
        """Start what the queue lets start."""
        assert [error for error in self.queue.run_iteration(self.context) if error] == []


def daemon(instance: dg.DagsterInstance) -> Daemon:
    module = LoadableTargetOrigin(executable_path=sys.executable, module_name="orchestration.definitions")
    origin = InProcessCodeLocationOrigin(loadable_target_origin=module, location_name="driftline")
    context = WorkspaceProcessContext(instance, InProcessWorkspaceLoadTarget(origin))
    return Daemon(context, QueuedRunCoordinatorDaemon(1))


def asked(line: str, at: float) -> RetrainRequest:
    return RetrainRequest(
        line=line, request_id=f"of-{line}", cause="manual", mode="blind", image_keys=("gone",), parent_version=None, alarm_at=None,
        requested_at=at,
    )  # fmt: skip


@dataclass(frozen=True)
class Story:
    """What became of it. `order`: the lines by the moment of their request; `runs`: line and attempt as they were started."""

    order: list[str]
    rows: dict[str, RequestRow]
    runs: list[tuple[str, str]]


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Story]:
    """The first line's run dies before it has done anything, the fifth one's is cancelled, and another daemon takes over half-way."""
    with pytest.MonkeyPatch.context() as patch:
        home = tmp_path_factory.mktemp("queue")
        for name in ("DRIFTLINE_LEDGER", "DRIFTLINE_BUS", "DRIFTLINE_STORE"):
            patch.delenv(name, raising=False)
        patch.setenv("DRIFTLINE_HOME", str(home))
        settings = Settings.from_environ({"DRIFTLINE_HOME": str(home)})
        folder = write_configuration(settings)
        with (folder / "dagster.yaml").open("a") as configuration:
            configuration.write(IN_THIS_PROCESS)
        order = [f"line-{number:02}" for number in range(LINES)]
        random.Random(3).shuffle(order)
        ledger = Ledger.open(settings.ledger)
        ledger.record([asked(line, float(at)) for at, line in enumerate(order)])
        with dg.DagsterInstance.from_config(str(folder)) as instance:
            live_through(instance, order)
            records = sorted(instance.get_run_records(), key=lambda each: each.start_time or 0.0)
            runs = [each.dagster_run.tags for each in records if each.start_time]
        rows = {row.request.line: row for row in ledger.requests()}
        yield Story(order, rows, [(tags[LINE_TAG], tags[ATTEMPT_TAG]) for tags in runs])


def live_through(instance: dg.DagsterInstance, order: list[str]) -> None:
    here = daemon(instance)
    with here.context:
        here.look()
        queued = {run.tags[LINE_TAG]: run for run in instance.get_runs()}
        instance.report_run_failed(queued[order[0]], "its process died")
        instance.run_coordinator.cancel_run(queued[order[4]].run_id)
        for _ in range(LINES // 2):
            here.dequeue()
            here.look()
    successor = daemon(instance)
    with successor.context:
        for _ in range(LINES // 2):
            successor.look()
            successor.dequeue()


def test_lines_are_served_in_the_order_of_their_requests_and_who_has_to_try_again_goes_behind_them(
    story: Story,
) -> None:
    served = [line for line in story.order if line not in (story.order[0], story.order[4])]
    assert story.runs == [*((line, "1") for line in served), (story.order[0], "2")]


def test_each_request_ends_once_with_the_reason(story: Story) -> None:
    for line in story.order:
        row = story.rows[line]
        if line == story.order[4]:
            assert (row.state, row.detail) == ("cancelled", "the run was cancelled by hand")
        else:
            assert row.state == "failed"
            assert row.detail is not None
            assert row.detail.startswith("0 different usable images in a window of 1, a model needs 20")
