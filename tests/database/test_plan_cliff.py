"""The first statement of a session must not decide what later ones cost."""

from __future__ import annotations

from collections.abc import Callable
from statistics import median
from time import perf_counter

import pytest
from history import Connection, track, value

ROWS = 20_000
MARGIN = 5.0
"""How many times as long as in a fresh session is too long. Off the cliff, it is several hundred times."""

ONE_ROW = "UPDATE item SET price = price + 1 WHERE id = 1"
TWO_ROWS = "UPDATE item SET price = price + 1 WHERE id IN (1, 2)"
BULK = "UPDATE item SET price = price + 1"


@pytest.fixture
def table(connection: Connection) -> Connection:
    """A connection to a database with a tracked table of many rows."""
    connection.execute("CREATE TABLE item (id integer PRIMARY KEY, name text, price integer)")
    connection.execute("INSERT INTO item SELECT n, 'item ' || n, n FROM generate_series(1, %s) AS n", (ROWS,))
    track(connection, "item", kind="history", level="statement")
    connection.execute("VACUUM ANALYZE item")
    return connection


def duration(connection: Connection, statement: str) -> float:
    """How long a statement takes, in seconds. A statement of several hundred times the time is given up."""
    connection.execute("SET statement_timeout = '30s'")
    started = perf_counter()
    connection.execute(statement)
    return perf_counter() - started


def in_new_session(connect: Callable[..., Connection], earlier: list[str], statements: list[str]) -> float:
    """How long a statement takes, at the median, in a session that first did something else."""
    with connect() as session:
        for statement in earlier:
            session.execute(statement)
        return median(duration(session, statement) for statement in statements)


@pytest.mark.parametrize("small", [ONE_ROW, TWO_ROWS], ids=["one", "two"])
def test_a_bulk_update_costs_the_same_in_a_session_that_updated_few_rows_first(
    connect: Callable[..., Connection], table: Connection, small: str
) -> None:
    fresh, later = (
        median(in_new_session(connect, earlier, [BULK]) for _ in range(3)) for earlier in ([], [small] * 8)
    )
    assert later < MARGIN * fresh
    assert value(table, "SELECT count(*) FROM item_event WHERE id > 2") == 6 * (ROWS - 2)


@pytest.mark.parametrize("small", [ONE_ROW, TWO_ROWS], ids=["one", "two"])
def test_an_update_of_few_rows_costs_the_same_in_a_session_that_updated_many_first(
    connect: Callable[..., Connection], table: Connection, small: str
) -> None:
    fresh, later = (
        median(in_new_session(connect, earlier, [small] * 30) for _ in range(3))
        for earlier in ([small], [BULK] * 2)
    )
    assert later < MARGIN * fresh
