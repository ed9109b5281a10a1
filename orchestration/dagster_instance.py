"""Dagster's instance of an installation: its configuration, its databases, and its processes' command lines.

On a SQLite ledger Dagster keeps its runs in SQLite too, and one at a time, since they would wait for one another. On PostgreSQL they lie
in the ledger's database, and lines do not wait: two runs at once, though never two of one line.

Dagster's daemon ends runs that are stuck: one that was launched and has not begun after START_LIMIT_S (its process was killed before it
could say its number), one that was cancelled and is not after CANCEL_LIMIT_S. It looks after no others: a run that was begun and whose
process is gone is declared failed by `orchestration.sensors`, at once.
"""

import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from detectors.errors import InvalidInput
from streams.ledger_engine import on_postgresql, shown
from streams.settings import Settings

START_LIMIT_S = 180
CANCEL_LIMIT_S = 600
"""Longer than a fit may go on before it notices that it was cancelled."""

_ALWAYS = f"""\
telemetry:
  enabled: false
run_coordinator:
  module: dagster.core.run_coordinator
  class: QueuedRunCoordinator
  config:
    dequeue_interval_seconds: 1
run_monitoring:
  enabled: true
  start_timeout_seconds: {START_LIMIT_S}
  cancel_timeout_seconds: {CANCEL_LIMIT_S}
  max_resume_run_attempts: 0
  poll_interval_seconds: 30
concurrency:
  runs:
"""

ON_SQLITE = f"""\
{_ALWAYS}    max_concurrent_runs: 1
"""

ON_POSTGRESQL = f"""\
{_ALWAYS}    max_concurrent_runs: 2
    tag_concurrency_limits:
      - key: driftline/line
        value:
          applyLimitPerUniqueValue: true
        limit: 1
storage:
  custom:
    module: orchestration.dagster_storage
    class: LedgerDatabase
    config:
      ledger:
        env: DRIFTLINE_LEDGER
"""

MAKE_DATABASES = """\
import dagster
with dagster.DagsterInstance.get() as instance:
    instance.get_runs_count()
    instance.all_instigator_state()
    instance.event_log_storage.get_maximum_record_id()
"""

ERROR = re.compile(r"[\w.]*(Error|Exception): ")
"""How a line begins that ends a traceback."""


def write_configuration(settings: Settings) -> Path:
    """Write the instance's dagster.yaml; its folder, which is to be DAGSTER_HOME."""
    folder = settings.home / "dagster"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "dagster.yaml").write_text(ON_POSTGRESQL if on_postgresql(settings.ledger) else ON_SQLITE)
    return folder


def make_databases(settings: Settings, environ: Mapping[str, str]) -> None:
    """Make Dagster's databases once, before several of its processes would do so at the same moment and fail.

    `environ`: that of the processes. Raises InvalidInput where they cannot be made.
    """
    if not on_postgresql(settings.ledger) and (settings.home / "dagster" / "history").exists():
        return
    command = (sys.executable, "-c", MAKE_DATABASES)
    done = subprocess.run(command, env=environ, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        reasons = [line for line in done.stderr.splitlines() if ERROR.match(line)] or [f"status {done.returncode}"]
        place = shown(settings.ledger) if on_postgresql(settings.ledger) else settings.home / "dagster"
        raise InvalidInput(
            f"Dagster cannot make its tables in {place}: {reasons[-1]}; its user must be able to make tables and write there"
        )
