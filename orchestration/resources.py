"""This installation as a Dagster resource: the only I/O of the assets."""

import os
from functools import cached_property
from importlib.metadata import version
from typing import TYPE_CHECKING

import dagster as dg

from detectors.errors import NotFound
from detectors.registry import Registry
from detectors.store import open_store
from streams.ledger import Ledger
from streams.lines_in_force import LinesInForce
from streams.settings import Settings, device_of, line_config, weights_files

if TYPE_CHECKING:
    from orchestration.retrain import Retrain

REQUEST_TAG = "driftline/request"
ATTEMPT_TAG = "driftline/attempt"
LINE_TAG = "driftline/line"
PID_TAG = "driftline/pid"


class Installation(dg.ConfigurableResource):  # type: ignore[type-arg]
    """Ledger, store, registry and bus of this installation, opened when first asked for.

    Dagster's page shows `home` and no more: each process reads from its environment where the rest is, since URLs may hold passwords.
    """

    home: str

    @cached_property
    def settings(self) -> Settings:
        """Where this installation keeps things."""
        return Settings.from_environ(os.environ)

    @cached_property
    def ledger(self) -> Ledger:
        """What happened."""
        return Ledger.open(self.settings.ledger)

    @cached_property
    def registry(self) -> Registry:
        """The versions of the lines."""
        return Registry(open_store(self.settings.store))

    @cached_property
    def in_force(self) -> LinesInForce:
        """How the lines are run; a mistake in the file leaves the last good one in force."""
        return LinesInForce(self.settings.home)

    @cached_property
    def _retrains(self) -> dict[str, "Retrain"]:
        return {}

    def retrain(self, run: dg.DagsterRun) -> "Retrain":
        """The retrain that a run carries out, one object for all its steps."""
        if run.run_id not in self._retrains:
            self._retrains[run.run_id] = self._open_retrain(run.tags[REQUEST_TAG], int(run.tags[ATTEMPT_TAG]))
        return self._retrains[run.run_id]

    def _open_retrain(self, request_id: str, attempt: int) -> "Retrain":
        # Imported here to keep torch out of the daemon and the web page, which load this module too.
        from detectors.extractors import ExtractorCache
        from orchestration.retrain import Retrain, Rooms
        from orchestration.workbench import Workbench

        row = self.ledger.request(request_id)
        if row is None:
            raise NotFound(f"no request {request_id!r} in the ledger; `driftline retrain --line L` files one")
        lines = self.in_force.lines
        rooms = Rooms(
            ledger=self.ledger,
            registry=self.registry,
            bench=Workbench(
                open_store(self.settings.store),
                ExtractorCache(
                    weights=weights_files(lines), folder=self.settings.home / "networks", device=device_of(lines)
                ),
            ),
            code_version=version("driftline"),
        )
        return Retrain(rooms, row, attempt, line_config(lines, row.request.line))
