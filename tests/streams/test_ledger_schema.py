"""Opening a ledger brings it to the latest revision, whoever made it, however many open it at once."""

import subprocess
import sys
import tomllib
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import Connection, make_url, text, update
from sqlalchemy.exc import OperationalError

from detectors.errors import InvalidInput, Unavailable
from streams.ledger import Ledger
from streams.ledger_engine import lock_tables, open_engine, refusal
from streams.ledger_schema import FIRST, LATEST, REVISION, bring_up_to_date, migrate, revision_of, revisions
from streams.ledger_tables import METADATA
from streams.messages import Verdict, encode
from tests.streams.test_ledger import verdict

ROOT = Path(__file__).parents[2]


@contextmanager
def connected(url: str) -> Iterator[Connection]:
    """A transaction on the bare tables."""
    with ExitStack() as stack:
        engine = open_engine(url)
        stack.callback(engine.dispose)
        connection = stack.enter_context(engine.connect())
        stack.enter_context(connection.begin())
        yield connection


def make_as_before_migrations(url: str) -> None:
    """A ledger as the program made it before there were revisions, its tables printed by that program."""
    kind = url.partition(":")[0].partition("+")[0]
    statements = Path(__file__).with_name(f"ledger_before_migrations.{kind}.sql").read_text()
    with connected(url) as connection:
        for statement in statements.split(";\n"):
            if statement:
                connection.exec_driver_sql(statement)


def fill_as_before_migrations(url: str, verdicts: Iterable[Verdict]) -> None:
    """Verdicts as the program wrote them before there were revisions."""
    columns = "line, image_id, version, score, flagged, judged_at, redelivered, repeats, body"
    row = text(f"INSERT INTO verdicts ({columns}) VALUES (:{columns.replace(', ', ', :')})")
    with connected(url) as connection:
        for each in verdicts:
            values = {
                name: getattr(each, name) for name in ("line", "image_id", "version", "score", "flagged", "judged_at")
            }
            connection.execute(row, {**values, "redelivered": 0, "repeats": 0, "body": encode(each)})


def differences(url: str) -> list[object]:
    """What sets the tables at `url` apart from those the program describes."""
    with connected(url) as connection:
        context = MigrationContext.configure(connection, opts={"version_table": REVISION.name})
        return list(compare_metadata(context, METADATA))


def test_the_migrations_form_one_chain_that_ends_where_the_program_is() -> None:
    assert revisions()[0] == FIRST
    assert revisions()[-1] == LATEST
    assert revisions() == sorted(revisions())


def test_a_new_ledger_is_made_at_the_latest_revision(url: str) -> None:
    Ledger.open(url).close()
    with connected(url) as connection:
        assert revision_of(connection) == LATEST
    assert differences(url) == []


def test_every_migration_in_turn_gives_the_same_tables(url: str) -> None:
    with connected(url) as connection:
        migrate(connection, since=None)
        assert revision_of(connection) == LATEST
    assert differences(url) == []


def test_a_ledger_from_before_the_migrations_keeps_everything_and_becomes_the_same(url: str) -> None:
    make_as_before_migrations(url)
    fill_as_before_migrations(url, [verdict("a"), verdict("b", flagged=True)])
    with connected(url) as connection:
        assert revision_of(connection) == FIRST
    with closing(Ledger.open(url)) as ledger:
        ledger.record([verdict("a"), verdict("c", at=2.0)])
        assert ledger.verdicts("tiles", limit=9) == [verdict("c", at=2.0), verdict("a"), verdict("b", flagged=True)]
    assert differences(url) == []


def test_a_ledger_from_a_newer_program_is_refused_with_the_cure(url: str) -> None:
    Ledger.open(url).close()
    with connected(url) as connection:
        connection.execute(update(REVISION).values(version_num="9999"))
    with pytest.raises(InvalidInput, match=r"9999.*newer") as found:
        Ledger.open(url)
    password = make_url(url).password
    assert password is None or password not in str(found.value)


def test_a_migration_that_is_interrupted_leaves_the_ledger_as_it_was(url: str) -> None:
    make_as_before_migrations(url)
    with suppress(KeyboardInterrupt), connected(url) as connection:
        migrate(connection, since=FIRST)
        raise KeyboardInterrupt
    with connected(url) as connection:
        assert revision_of(connection) == FIRST
    Ledger.open(url).close()
    assert differences(url) == []


OPENER = """
import sys
from streams.ledger import Ledger
from tests.streams.test_ledger import verdict
print("ready", flush=True)
sys.stdin.readline()
Ledger.open(sys.argv[1]).record([verdict(sys.argv[2])])
"""


@pytest.mark.parametrize("old", [False, True])
def test_processes_that_open_at_once_migrate_once(url: str, old: bool) -> None:
    if old:
        make_as_before_migrations(url)
    names = ["one", "two", "three", "four"]
    openers = [
        subprocess.Popen(
            [sys.executable, "-c", OPENER, url, name],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
        )
        for name in names
    ]
    for opener in openers:
        assert opener.stdout is not None
        assert opener.stdout.readline() == "ready\n"
    for opener in openers:
        assert opener.stdin is not None
        opener.stdin.write("\n")
        opener.stdin.flush()
    for opener in openers:
        opener.communicate(timeout=60)
        assert opener.returncode == 0
    assert {each.image_id for each in Ledger.open(url).verdicts("tiles", limit=9)} == set(names)
    assert differences(url) == []


def test_opening_a_current_ledger_waits_for_no_writer(url: str) -> None:
    Ledger.open(url).close()
    with connected(url) as other:
        lock_tables(other)
        other.execute(update(REVISION).values(version_num=LATEST))
        Ledger.open(url).close()


def test_a_ledger_that_another_process_is_changing_is_unavailable_for_now(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'ledger.sqlite'}"
    with connected(url), pytest.raises(OperationalError) as found:
        bring_up_to_date(open_engine(url, busy_timeout_s=0.05))
    said = refusal(found.value, url)
    assert isinstance(said, Unavailable)
    assert "locked" in str(said)


def test_a_current_ledger_opens_without_alembic(tmp_path: Path) -> None:
    script = "import sys; from streams.ledger import Ledger; Ledger.open(sys.argv[1]); print('alembic' in sys.modules)"
    url = f"sqlite:///{tmp_path / 'ledger.sqlite'}"
    for _ in range(2):
        done = subprocess.run([sys.executable, "-c", script, url], capture_output=True, text=True, cwd=ROOT, check=True)
        assert done.stdout == "False\n"


def test_the_migrations_are_part_of_the_distribution() -> None:
    listed = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]
    folders = {
        file.parent.relative_to(ROOT).as_posix().replace("/", ".")
        for room in ("detectors", "streams", "orchestration", "dashboard")
        for file in (ROOT / room).rglob("__init__.py")
    }
    assert set(listed) == folders
    assert "streams.migrations" in folders
