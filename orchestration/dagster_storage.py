"""Dagster's runs, events and ticks in the ledger's PostgreSQL database. Named by the dagster.yaml of `orchestration.dagster_instance`.

Its tables lie beside the ledger's: none has a name of theirs, and it keeps its revision in a table of its own (`alembic_version`).
"""

from collections.abc import Mapping
from typing import Any, Self

import dagster as dg
from dagster_postgres import DagsterPostgresStorage
from sqlalchemy import make_url


def for_dagster(ledger: str) -> str:
    """The ledger's URL under Dagster's client: it uses psycopg2 where we use psycopg 3. Both read PGPASSWORD.

    >>> for_dagster("postgresql+psycopg://ana:secret@host/driftline?sslmode=require")
    'postgresql+psycopg2://ana:secret@host/driftline?sslmode=require'
    """
    return make_url(ledger).set(drivername="postgresql+psycopg2").render_as_string(hide_password=False)


class LedgerDatabase(DagsterPostgresStorage):
    """The storage at the ledger's URL, which comes from the environment: it may hold a password."""

    @classmethod
    def config_type(cls) -> dict[str, Any]:
        """What dagster.yaml says of it."""
        return {"ledger": dg.StringSource}

    @classmethod
    def from_config_value(cls, inst_data: Any, config_value: Mapping[str, str]) -> Self:  # type: ignore[override]
        """The storage that dagster.yaml describes; its tables are made where there are none."""
        return cls(for_dagster(config_value["ledger"]), inst_data=inst_data)
