"""Opening a ledger brings it to the latest revision, whoever made it, however many open it at once."""

import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterable
from contextlib import closing, suppress
from pathlib import Path

import msgspec
import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import make_url, text, update
from sqlalchemy.exc import OperationalError

from detectors.errors import InvalidInput, Unavailable
from streams.ledger import Ledger
from streams.ledger_engine import lock_tables, open_engine, refusal
from streams.ledger_schema import FIRST, LATEST, REVISION, bring_up_to_date, migrate, revision_of, revisions
from streams.ledger_tables import METADATA
from streams.messages import DeadLetter, Review, Verdict, encode
from tests.servers import postgresql_database
from tests.streams.ledger_bulk import connected
from tests.streams.test_ledger import everything_in, verdict
from tests.streams.test_ledger_queries import letter, review
from tests.streams.together import ROOT, together


def make_as_before_migrations(url: str) -> None:
    """A ledger as the program made it before there were revisions, its tables printed by that program."""
    kind = url.partition(":")[0].partition("+")[0]
    statements = Path(__file__).with_name(f"ledger_before_migrations.{kind}.sql").read_text()
    with connected(url) as connection:
        for statement in statements.split(";\n"):
            if statement:
                connection.exec_driver_sql(statement)


def fill_as_before_migrations(url: str, messages: Iterable[Verdict | Review | DeadLetter]) -> None:
    """Rows as the program wrote them before there were revisions."""
    with connected(url) as connection:
        for each in messages:
            row = verdict_row(each) if isinstance(each, Verdict) else event_row(each)
            table = "verdicts" if isinstance(each, Verdict) else "events"
            names = ", ".join(row)
            connection.execute(text(f"INSERT INTO {table} ({names}) VALUES (:{names.replace(', ', ', :')})"), row)


def verdict_row(verdict: Verdict) -> dict[str, object]:
    columns = ("line", "image_id", "version", "score", "flagged", "judged_at")
    return {name: getattr(verdict, name) for name in columns} | {
        "redelivered": 0,
        "repeats": 0,
        "body": encode(verdict),
    }


def event_row(message: Review | DeadLetter) -> dict[str, object]:
    return {
        "kind": message.topic,
        "identity": f"{message.line}|{message.identity}",
        "line": message.line,
        "subject": message.image_id if isinstance(message, Review) else message.identity,
        "at": message.at,
        "body": encode(message),
    }


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


def test_a_new_postgresql_ledger_and_a_migrated_one_are_vacuumed_alike() -> None:
    found = []
    for since in (FIRST, None):
        with postgresql_database() as url:
            if since is not None:
                make_as_before_migrations(url)
            Ledger.open(url).close()
            with connected(url) as connection:
                query = text("SELECT reloptions FROM pg_class WHERE oid = 'verdicts'::regclass")
                found.append(sorted(connection.execute(query).scalar_one()))
    assert found[0] == found[1] != []


def test_a_ledger_from_before_the_migrations_keeps_everything_and_becomes_the_same(
    url: str, new_url: Callable[[], str]
) -> None:
    letters = [letter(1, ("ce_id", b"a")), letter(2), *(letter(offset, ("ce_id", b"\0")) for offset in range(3, 150))]
    messages: list[Verdict | Review | DeadLetter] = [
        verdict("a", flagged=True),
        verdict("b", at=3599.9),
        verdict("c", at=3600.0),
        *(msgspec.structs.replace(verdict(name, at=at), overdue=True) for name, at in (("e", 1.0), ("f", 3601.0))),
        verdict('"overdue":true', at=2.0),
        review("a"),
        *letters,
    ]
    make_as_before_migrations(url)
    fill_as_before_migrations(url, messages)
    with connected(url) as connection:
        assert revision_of(connection) == FIRST
    with closing(Ledger.open(url)) as old, closing(Ledger.open(new_url())) as new:
        new.record(messages)
        for ledger in (old, new):
            ledger.record([verdict("a"), verdict("d", at=3601.0)])
        assert everything_in(old) == everything_in(new)
        assert old.hours("tiles") == new.hours("tiles") != []
        assert old.counts("tiles").overdue == 2
        for image_id in ("a", "images-3-2"):
            assert old.story("tiles", image_id) == new.story("tiles", image_id)
        assert old.story("tiles", "a").dead_letters == (letters[0],)
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


@pytest.mark.parametrize("old", [False, True])
def test_processes_that_open_at_once_migrate_once(url: str, old: bool) -> None:
    if old:
        make_as_before_migrations(url)
    together("from streams.ledger import Ledger", "Ledger.open(sys.argv[1])", [(url,)] * 3)
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
