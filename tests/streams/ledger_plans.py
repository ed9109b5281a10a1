"""How a database would answer the ledger's named queries: which of them read the verdicts from end to end."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import islice
from typing import Any

from sqlalchemy import Connection, Engine, event

from streams.ledger import Ledger
from streams.ledger_engine import open_engine
from tests.streams.ledger_bulk import BEGAN_AT, LINES, VERSIONS, image_id

Query = Callable[[Ledger], object]
Statement = tuple[str, Any]

WEEK_S = 7 * 86_400


def named_queries(verdicts: int) -> dict[str, Query]:
    """What pages and commands ask of a ledger of `ledger_bulk`, by name."""
    line, end = LINES[0], BEGAN_AT + verdicts
    told = image_id(0)
    return {
        "latest verdicts of a line": lambda ledger: ledger.verdicts(line, limit=500),
        "verdicts since a moment": lambda ledger: ledger.verdicts(line, after=end - 60, limit=500),
        "flag rate by hour, a week": lambda ledger: ledger.hours(line, since=end - WEEK_S),
        "flag rate by hour, all": lambda ledger: ledger.hours(line),
        "open incidents": lambda ledger: ledger.incidents(open_only=True),
        "open incidents of a line": lambda ledger: ledger.incidents(line, open_only=True),
        "one incident": lambda ledger: ledger.incident(line, told),
        "states of an incident": lambda ledger: ledger.incident_states(line, told),
        "answers to an incident": lambda ledger: ledger.answers(told),
        "images judged before a moment": lambda ledger: list(
            islice(ledger.images_before(line, 1, (end, ""), page=400), 400)
        ),
        "lives of recent incidents": lambda ledger: ledger.lives(line, since=end - 60),
        "what a threshold would flag": lambda ledger: ledger.flags(line, VERSIONS, threshold=2.0, since=end - 60),
        "reviewed parts and their scores": lambda ledger: ledger.scored_parts(line, 1),
        "one image's story": lambda ledger: ledger.story(line, told),
        "latest flagged of a line": lambda ledger: ledger.flagged(line, limit=8),
        "flagged and not reviewed": lambda ledger: ledger.flagged(line, limit=25, unreviewed_only=True),
        "collected and not judged": lambda ledger: ledger.pending_images(line),
        "a line in numbers": lambda ledger: ledger.counts(line),
        "names of the lines": lambda ledger: ledger.line_names(),
        "all lines at a glance": lambda ledger: ledger.lines(now=end),
    }


def statements_of(url: str, query: Query) -> list[Statement]:
    """The SELECTs a query sends."""
    engine = open_engine(url)
    ledger, sent = Ledger(engine), list[Statement]()
    with _heard(engine, sent):
        query(ledger)
    ledger.close()
    return [(words, values) for words, values in sent if words.startswith(("SELECT", "WITH"))]


def scans(connection: Connection, statement: Statement) -> list[str]:
    """The parts of a statement's plan that read verdicts without knowing where they lie."""
    words, values = statement
    if connection.dialect.name == "sqlite":
        plan = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {words}", values).all()
        return [row.detail for row in plan if row.detail.startswith("SCAN verdicts")]
    ((root,),) = connection.exec_driver_sql(f"EXPLAIN (FORMAT JSON) {words}", values).one()
    return [
        f"{node['Node Type']} of verdicts"
        for node in _nodes(root["Plan"])
        if node.get("Relation Name") == "verdicts" and "Index Cond" not in node and "Recheck Cond" not in node
    ]


def work(connection: Connection, statement: Statement) -> int:
    """What answering a statement costs, the same on every machine: SQLite's steps, PostgreSQL's rows of verdicts read."""
    words, values = statement
    if connection.dialect.name == "sqlite":
        return _steps(connection, statement)
    ((root,),) = connection.exec_driver_sql(f"EXPLAIN (ANALYZE, FORMAT JSON) {words}", values).one()
    read = ("Actual Rows", "Rows Removed by Filter", "Rows Removed by Index Recheck")
    nodes = [node for node in _nodes(root["Plan"]) if node.get("Relation Name") == "verdicts"]
    return sum(int(node["Actual Loops"] * sum(node.get(name, 0) for name in read)) for node in nodes)


def _steps(connection: Connection, statement: Statement) -> int:
    steps = 0

    def step() -> int:
        nonlocal steps
        steps += 1
        return 0

    driver: Any = connection.connection.driver_connection
    driver.set_progress_handler(step, 1)
    connection.exec_driver_sql(*statement).all()
    driver.set_progress_handler(None, 0)
    return steps


def _nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for each in plan.get("Plans", ()):
        yield from _nodes(each)


@contextmanager
def _heard(engine: Engine, sent: list[Statement]) -> Iterator[None]:
    def hear(_connection: object, _cursor: object, words: str, values: Any, *_more: object) -> None:
        sent.append((words, values))

    event.listen(engine, "before_cursor_execute", hear)
    try:
        yield
    finally:
        event.remove(engine, "before_cursor_execute", hear)
