"""Ledgers on both engines, for every test that asks for one."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from itertools import count
from pathlib import Path

import pytest

from streams.ledger import Ledger
from tests.servers import postgresql_database


@pytest.fixture(params=["sqlite", "postgresql"])
def new_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Callable[[], str]]:
    """Gives the URL of a new, empty ledger each time it is called."""
    with ExitStack() as databases:
        numbers = count()
        if request.param == "sqlite":
            yield lambda: f"sqlite:///{tmp_path / f'ledger-{next(numbers)}.sqlite'}"
        else:
            yield lambda: databases.enter_context(postgresql_database())


@pytest.fixture
def url(new_url: Callable[[], str]) -> str:
    return new_url()


@pytest.fixture
def ledger(url: str) -> Iterator[Ledger]:
    with closing(Ledger.open(url)) as opened:
        yield opened
