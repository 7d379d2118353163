"""How long looking back takes, beside the best that can be written by hand."""

from __future__ import annotations

import functools
import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import psycopg
from measure import Cost, Result, cost, measure, session
from sizes import SIZES

import pyhist
from pyhist.server import Server

EVENTS = int(os.environ.get("PYHIST_BENCH_EVENTS", SIZES.looking_events))

# The three ways to ask for the last event of each object by then.
BY_HAND = {
    "DISTINCT ON": """
        SELECT id, name, price, quantity
          FROM (SELECT DISTINCT ON (pgh_obj_id) * FROM {table}_event WHERE pgh_created_at <= {at}
                 ORDER BY pgh_obj_id, pgh_id DESC) AS e
         WHERE pgh_operation NOT IN ('D', 'T')""",
    "LATERAL": """
        WITH RECURSIVE walk AS (
            (SELECT pgh_obj_id FROM {table}_event ORDER BY pgh_obj_id LIMIT 1)
            UNION ALL
            SELECT (SELECT e.pgh_obj_id FROM {table}_event AS e WHERE e.pgh_obj_id > w.pgh_obj_id
                     ORDER BY e.pgh_obj_id LIMIT 1)
              FROM walk AS w WHERE w.pgh_obj_id IS NOT NULL
        )
        SELECT id, name, price, quantity
          FROM walk AS w
               CROSS JOIN LATERAL (SELECT * FROM {table}_event AS e
                                    WHERE e.pgh_obj_id = w.pgh_obj_id AND e.pgh_created_at <= {at}
                                    ORDER BY e.pgh_id DESC LIMIT 1) AS e
         WHERE pgh_operation NOT IN ('D', 'T')""",
    "window": """
        SELECT id, name, price, quantity
          FROM (SELECT *, row_number() OVER (PARTITION BY pgh_obj_id ORDER BY pgh_id DESC) AS place
                  FROM {table}_event WHERE pgh_created_at <= {at}) AS e
         WHERE place = 1 AND pgh_operation NOT IN ('D', 'T')""",
}
AS_OF = "SELECT id, name, price, quantity FROM pghistory.as_of(NULL::{table}, {at})"


@dataclass(frozen=True)
class Shape:
    """A table with `objects` rows, each with `events` events; the moment asked for is after half of them."""

    table: str
    objects: int
    events: int


SHAPES = (Shape("much_changed", EVENTS // 100, 100), Shape("hardly_changed", EVENTS // 2, 2))


def fill(connection: psycopg.Connection[Any], shape: Shape) -> None:
    """Make the table and let it live, and remember the moment as setting `bench.<table>`."""
    connection.execute(
        f"CREATE TABLE {shape.table} (id bigint PRIMARY KEY, name text, price numeric, quantity integer)"
    )
    pyhist.track(connection, shape.table, pyhist.History(level="statement"))
    connection.execute(
        f"INSERT INTO {shape.table} SELECT id, 'item ' || id, id, 0 FROM generate_series(1, {shape.objects}) AS id"
    )
    for number in range(1, shape.events):
        if number == max(shape.events // 2, 1):
            connection.execute(f"CREATE TABLE moment_of_{shape.table} AS SELECT clock_timestamp() AS at")
        connection.execute(f"UPDATE {shape.table} SET quantity = {number}, name = 'item {number}'")
    connection.execute(f"VACUUM (FULL, ANALYZE) {shape.table}")
    connection.execute(f"VACUUM ANALYZE {shape.table}_event")


def asked(server: Server, query: str, shape: Shape) -> Cost:
    moment = f"(SELECT at FROM moment_of_{shape.table})"
    with session(server) as connection:
        return cost(
            connection,
            f"SELECT count(*), sum(quantity) FROM ({query.format(table=shape.table, at=moment)}) AS t",
        )


def run(server: Server) -> Iterator[Result]:
    """Whole tables as they were, one object as it was, and the first page of events."""
    for shape in SHAPES:
        with session(server) as connection:
            fill(connection, shape)
        yield from measure(
            f"{shape.objects:,} objects as of a time, from {shape.objects * shape.events:,} events",
            {
                name: functools.partial(asked, server, query, shape)
                for name, query in {**BY_HAND, "as_of()": AS_OF}.items()
            },
            {"as_of()": " | ".join(BY_HAND)},
            SIZES.looking_rounds,
        )
    few, many = Shape("few", 1000, 10), SHAPES[0]
    with session(server) as connection:
        fill(connection, few)
    for name, query in {
        "one object as of a time": "SELECT quantity FROM pghistory.as_of(NULL::{table}, {at}, '7')",
        "ten newest events of one object": "SELECT 1 AS quantity FROM pghistory.events('{table}', '7', max_rows => 10)",
        "ten newest events of a table": "SELECT 1 AS quantity FROM pghistory.events('{table}', max_rows => 10)",
    }.items():
        yield from measure(
            name,
            {
                f"of {few.objects * few.events:,} events": functools.partial(asked, server, query, few),
                f"of {many.objects * many.events:,} events": functools.partial(asked, server, query, many),
            },
            {f"of {many.objects * many.events:,} events": f"of {few.objects * few.events:,} events"},
            SIZES.looking_rounds,
        )
