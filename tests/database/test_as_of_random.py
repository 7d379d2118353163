"""Random statements in random transactions: at every moment, as_of() is what a copy was that was kept aside."""

from __future__ import annotations

import itertools
from datetime import datetime
from typing import Any, NamedTuple

import psycopg
import pytest
from history import LEVELS, Connection
from past import KEPT_BY, as_of, copy, keep, moment
from random_writes import KEYS, SHAPES, Shape, Writer

TRANSACTIONS = 12
numbers = itertools.count(1)


class Copy(NamedTuple):
    """What a table held at a moment."""

    at: datetime
    rows: list[Any]


def look_often(connection: Connection, table: str, event_table: str, *, many_events: bool) -> None:
    """Have the server believe that objects have many events each, or few."""
    connection.execute(
        "UPDATE pg_class SET reltuples = %s WHERE oid = %s::regclass", (1e6 if many_events else 1, event_table)
    )
    connection.execute("UPDATE pg_class SET reltuples = 10 WHERE oid = %s::regclass", (table,))


@pytest.mark.parametrize("backfilled", [True, False], ids=["known from the start", "known by and by"])
@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("kept", KEPT_BY)
def test_at_every_moment_the_past_is_what_was_copied_then(
    connection: Connection, kept: str, level: str, backfilled: bool
) -> None:
    for name, shape in SHAPES.items():
        check(connection, kept, level, name, shape, backfilled=backfilled)


def check(connection: Connection, kept: str, level: str, name: str, shape: Shape, *, backfilled: bool) -> None:
    table = f"t{next(numbers)}"
    writer = Writer(connection, table, shape, f"{kept} {level} {name} {backfilled}")
    connection.execute(shape.definition(table))
    for _ in range(4):
        writer.transaction()
    event_table = keep(connection, table, KEPT_BY[kept], level=level)
    if backfilled:
        label = f"{table}.{KEPT_BY[kept][0]}"
        connection.execute(f"SELECT pghistory.create_event(t, '{label}') FROM {table} AS t")
    copies = [Copy(moment(connection), copy(connection, table))]
    for _ in range(TRANSACTIONS):
        writer.transaction()
        copies.append(Copy(moment(connection), copy(connection, table)))
    is_always_known = backfilled or kept == "before images"
    for number, (at, expected) in enumerate(copies):
        look_often(connection, table, event_table, many_events=number % 2 == 0)
        try:
            found = as_of(connection, table, at)
        except psycopg.errors.ObjectNotInPrerequisiteState as error:
            if is_always_known:
                # two rows of one key and the same values for a while: either could be the one that stayed
                assert shape.is_deferrable
                assert "which of two rows stayed" in str(error)
        else:
            assert found == expected
    at, expected = writer.choice.choice(copies)
    found = []
    for key in KEYS:
        try:
            found += as_of(connection, table, at, shape.obj(writer.choice, key))
        except psycopg.errors.ObjectNotInPrerequisiteState:
            assert shape.is_deferrable or not is_always_known
            return
    assert sorted(found) == expected
