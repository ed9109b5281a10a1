"""The process of a run: found gone when it is, whoever has its number now, and the run then ends as was asked."""

import os
import subprocess
import sys
from collections.abc import Iterator

import dagster as dg
import pytest

from orchestration.resources import PID_TAG
from orchestration.run_process import identity_of, is_gone, own_identity, pid_in
from orchestration.sensors import _status
from tests.orchestration.test_kills import until


@pytest.fixture
def child() -> Iterator[subprocess.Popen[bytes]]:
    """A process that goes on until it is killed."""
    with subprocess.Popen((sys.executable, "-c", "input()"), stdin=subprocess.PIPE) as started:
        yield started
        started.kill()


def test_a_process_is_there_until_it_is_killed_also_while_nobody_has_fetched_its_status(
    child: subprocess.Popen[bytes],
) -> None:
    identity = identity_of(child.pid)
    assert identity is not None
    assert pid_in(identity) == child.pid
    assert not is_gone(identity)
    assert not is_gone(str(child.pid)), "as earlier versions noted it"
    child.kill()
    until(lambda: is_gone(identity), within_s=10)
    assert is_gone(str(child.pid))
    child.wait()
    assert is_gone(identity)
    assert is_gone(str(child.pid))


def test_another_process_that_has_the_number_now_is_not_the_one_of_the_run() -> None:
    pid, began, boot = own_identity().split(":")
    assert int(pid) == os.getpid()
    assert not is_gone(f"{pid}:{began}:{boot}")
    assert is_gone(f"{pid}:{int(began) - 1}:{boot}"), "a container was started again"
    assert is_gone(f"{pid}:{began}:another"), "the machine was"


@pytest.mark.parametrize(
    ("asked", "ends"),
    [("STARTED", "FAILURE"), ("CANCELING", "CANCELED")],
)
def test_a_run_whose_process_is_gone_ends_as_was_asked(asked: str, ends: str) -> None:
    pid, began, boot = own_identity().split(":")
    with dg.DagsterInstance.ephemeral() as instance:
        for tag, status in ((own_identity(), asked), (f"{pid}:{int(began) - 1}:{boot}", ends)):
            run = instance.create_run_for_job(_job, tags={PID_TAG: tag}, status=dg.DagsterRunStatus(asked))
            assert _status(instance, run).value == status
            found = instance.get_run_by_id(run.run_id)
            assert found is not None
            assert found.status.value == status


@dg.job
def _job() -> None:
    """Nothing."""
