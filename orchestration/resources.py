"""This installation as a Dagster resource: the only I/O of the assets."""

from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

import dagster as dg

from detectors.errors import NotFound
from streams.ledger import Ledger
from streams.settings import Settings, device_of, line_config, load_lines, weights_files

if TYPE_CHECKING:
    from orchestration.retrain import Retrain

REQUEST_TAG = "driftline/request"
ATTEMPT_TAG = "driftline/attempt"
LINE_TAG = "driftline/line"
PID_TAG = "driftline/pid"


class Installation(dg.ConfigurableResource):  # type: ignore[type-arg]
    """Ledger, store, registry and bus of this installation, opened when first asked for."""

    home: str
    bus_url: str
    store_url: str
    ledger_url: str

    @classmethod
    def of(cls, settings: Settings) -> "Installation":
        """The resource for these settings."""
        return cls(home=str(settings.home), bus_url=settings.bus, store_url=settings.store, ledger_url=settings.ledger)

    @cached_property
    def ledger(self) -> Ledger:
        """What happened."""
        return Ledger.open(self.ledger_url)

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
        from detectors.registry import Registry
        from detectors.store import open_store
        from orchestration.retrain import Retrain, Rooms
        from orchestration.training import Workbench
        from streams.local import open_bus

        row = self.ledger.request(request_id)
        if row is None:
            raise NotFound(f"no request {request_id!r} in the ledger; `driftline retrain --line L` files one")
        lines = load_lines(Path(self.home))
        store = open_store(self.store_url)
        rooms = Rooms(
            ledger=self.ledger,
            registry=Registry(store),
            bench=Workbench(
                store,
                ExtractorCache(
                    weights=weights_files(lines), folder=Path(self.home) / "networks", device=device_of(lines)
                ),
            ),
            bus=open_bus(self.bus_url),
            code_version=version("driftline"),
        )
        return Retrain(rooms, row, attempt, line_config(lines, row.request.line))
