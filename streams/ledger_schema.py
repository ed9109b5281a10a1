"""The ledger's revision: a new ledger is made at the latest one, an older one is brought to it, a newer one is refused.

The steps between revisions are in `streams.migrations`. A ledger changes in one transaction, so that whoever dies on the way leaves it
as it was, and under a lock, so that of several processes one changes it and the others find it changed.
"""

import logging
from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy import Column, Connection, Engine, MetaData, String, Table, delete, insert, inspect, select, text

from detectors.errors import InvalidInput
from streams.ledger_engine import lock_tables
from streams.ledger_tables import METADATA

if TYPE_CHECKING:
    from alembic.script import ScriptDirectory

FIRST = "0001"
"""The revision of ledgers made before there were revisions."""

LATEST = "0005"
"""The revision that `streams.ledger_tables` describes."""

REVISION = Table("ledger_revision", MetaData(), Column("version_num", String(32), primary_key=True))
"""Not alembic's usual name: Dagster keeps its own revision under that one, and may share the database."""

LACKING = text(
    "SELECT name FROM unnest(CAST(:names AS text[])) AS name WHERE NOT (has_table_privilege(name, 'SELECT')"
    " AND has_table_privilege(name, 'INSERT') AND has_table_privilege(name, 'UPDATE')) ORDER BY name"
)
"""Which of these tables we may not both read and write."""

_log = logging.getLogger(__name__)


def bring_up_to_date(engine: Engine) -> None:
    """Make the ledger, or bring it to the latest revision; where it is there already, that is only read.

    Raises InvalidInput for a ledger that a newer program made, or into which we may not write.
    """
    with engine.connect().execution_options(writes=False) as connection, connection.begin():
        if revision_of(connection) == LATEST:
            _check_rights(connection)
            return
    with engine.connect() as connection, connection.begin():
        lock_tables(connection)
        found = revision_of(connection)
        if found is None:
            METADATA.create_all(connection)
            _note(connection, LATEST)
        elif found != LATEST:
            _log.warning("the ledger goes from revision %s to %s; a large one takes minutes", found, LATEST)
            migrate(connection, since=found)


def _check_rights(connection: Connection) -> None:
    """Raise InvalidInput where the database's user may not read and write every table."""
    if connection.dialect.name != "postgresql":
        return
    lacking = connection.execute(LACKING, {"names": sorted(METADATA.tables)}).scalars().all()
    if lacking:
        raise InvalidInput(
            f"ledger {connection.engine.url}: its user may not read and write {', '.join(lacking)}; "
            "GRANT SELECT, INSERT, UPDATE ON them, or name another user"
        )


def revision_of(connection: Connection) -> str | None:
    """The revision of the ledger; None where there is none."""
    tables = inspect(connection)
    if tables.has_table(REVISION.name):
        found: str = connection.execute(select(REVISION.c.version_num)).scalar_one()
        return found
    return FIRST if tables.has_table("verdicts") else None


def migrate(connection: Connection, *, since: str | None, to: str = LATEST) -> None:
    """Take every step from one revision (None: from nothing) to another."""
    # Imported here: a third of a second that only an older ledger should cost.
    from alembic.operations import Operations
    from alembic.runtime.migration import MigrationContext

    if since is not None and since not in revisions():
        raise InvalidInput(
            f"ledger {connection.engine.url} has revision {since}, this program knows {LATEST}: it is from a newer program, use that"
        )
    operations = Operations(MigrationContext.configure(connection))
    for step in reversed(list(_scripts().iterate_revisions(to, since or "base"))):
        step.module.upgrade(operations)
    _note(connection, to)


def revisions() -> list[str]:
    """Every revision this program knows, oldest first."""
    return [script.revision for script in _scripts().walk_revisions()][::-1]


def _scripts() -> "ScriptDirectory":
    from alembic.script import ScriptDirectory

    folder = str(Path(__file__).with_name("migrations"))
    return ScriptDirectory(folder, version_locations=[folder])


def _note(connection: Connection, revision: str) -> None:
    REVISION.create(connection, checkfirst=True)
    connection.execute(delete(REVISION))
    connection.execute(insert(REVISION).values(version_num=revision))
