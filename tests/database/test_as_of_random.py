"""Random statements in random transactions: at every moment, as_of() is what a copy was that was kept aside."""

from __future__ import annotations

import itertools
from datetime import datetime
from typing import Any, NamedTuple

import pytest
from history import LEVELS, Connection
from past import KEPT_BY, copy, keep, moment, told
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
        "UPDATE pg_class SET reltuples = %s WHERE oid = %s::regclass",
        (1e6 if many_events else 1, event_table),
    )
    connection.execute("UPDATE pg_class SET reltuples = 10 WHERE oid = %s::regclass", (table,))


@pytest.mark.parametrize("backfilled", [True, False], ids=["known from the start", "known by and by"])
@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("kept", KEPT_BY)
def test_at_every_moment_the_past_is_what_was_copied_then(
    connection: Connection, kept: str, level: str, backfilled: bool
) -> None:
    shapes = list(SHAPES.items())
    for name, shape in shapes[(backfilled + len(level)) % 2 :: 2]:
        check(connection, kept, level, name, shape, backfilled=backfilled)


def check(
    connection: Connection, kept: str, level: str, name: str, shape: Shape, *, backfilled: bool
) -> None:
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
    for number, (at, expected) in enumerate(copies):
        look_often(connection, table, event_table, many_events=number % 2 == 0)
        found, said = told(connection, table, at)
        if not said:
            assert found == expected
        elif backfilled or kept == "before images":
            # two rows of one key and the same values for a while: either could be the one that stayed
            assert shape.is_deferrable
            assert "which of two rows stayed" in (said.message_primary or "")
    at, expected = writer.choice.choice(copies)
    objects = [told(connection, table, at, shape.obj(writer.choice, key)) for key in KEYS]
    found = sorted(row for rows, _ in objects for row in rows)
    if any(said for _, said in objects):
        assert shape.is_deferrable or not backfilled
        assert set(found) <= set(expected)
    else:
        assert found == expected
