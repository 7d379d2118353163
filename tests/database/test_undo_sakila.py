"""A mistaken bulk update in Sakila is undone, and nothing but it."""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
import sakila
from history import Connection, call, rows, track
from oracle import read_rows, read_table

pytestmark = pytest.mark.skipif(not sakila.FOLDER.is_dir(), reason="shared/data is absent")
TABLES = ("country", "city", "address", "store", "staff", "customer", "film", "inventory", "rental", "category")
ID = uuid.UUID("a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11")


@pytest.fixture
def shop(server: Any) -> Iterator[Connection]:
    """A connection to a database with Sakila and pghistory."""
    with psycopg.connect(server.dsn(), autocommit=True) as maintenance:
        maintenance.execute("CREATE DATABASE sakila_undo")
        try:
            sakila.load(server, "sakila_undo")
            with contextlib.closing(psycopg.connect(server.dsn("sakila_undo"), autocommit=True)) as connection:
                connection.execute("CREATE EXTENSION pghistory")
                yield connection
        finally:
            maintenance.execute("DROP DATABASE sakila_undo WITH (FORCE)")


def copies(connection: Connection) -> dict[str, list[tuple[str, str]]]:
    return {table: sorted(read_rows(connection, read_table(connection, "public", table))) for table in TABLES}


def test_only_the_mistake_is_undone(shop: Connection) -> None:
    for table in TABLES:
        track(shop, table, kind="history")
        call(shop, "backfill", table)
    before = copies(shop)

    with shop.transaction():
        call(shop, "set_context", '{"task": "mistake"}', ID)
        shop.execute("UPDATE film SET rental_rate = rental_rate * 10, title = lower(title) WHERE film_id % 2 = 0")
        shop.execute("INSERT INTO category (category_id, name) VALUES (99, 'Opera')")
        shop.execute("UPDATE customer SET address_id = 5, active = 0 WHERE customer_id % 3 = 0")
    mistaken = copies(shop)
    with shop.transaction():
        call(shop, "set_context", '{"task": "good"}', uuid.uuid4())
        shop.execute("UPDATE film SET length = length + 1 WHERE film_id % 2 = 1")
        shop.execute("UPDATE customer SET email = lower(email) WHERE customer_id % 3 = 1")
        shop.execute("INSERT INTO country (country_id, country) VALUES (999, 'Atlantis')")
    good = copies(shop)

    plan = rows(
        shop,
        """SELECT "table"::text, action, count(*), count(conflict) FROM pghistory.undo_plan(%s)
            GROUP BY 1, 2 ORDER BY 1, 2""",
        ID,
    )
    assert [(table, action, conflicts) for table, action, _, conflicts in plan] == [
        *(("category", "DELETE", 0), ("customer", "UPDATE", 0), ("film", "UPDATE", 0))
    ]
    assert copies(shop) == good
    with shop.transaction():
        assert call(shop, "undo", ID) == sum(count for _, _, count, _ in plan) > 600

    # The table's own triggers write down when a row was changed last.
    undone = copies(shop)
    for table in TABLES:
        assert len(undone[table]) == len(before[table]) + (table == "country")
    assert rows(
        shop,
        """SELECT count(*) FROM film AS f JOIN film_event AS e ON e.film_id = f.film_id AND e.pgh_operation = 'S'
            WHERE f.film_id % 2 = 0 AND (f.rental_rate, f.title, f.length) IS DISTINCT FROM (e.rental_rate, e.title, e.length)
               OR f.film_id % 2 = 1 AND f.length <> e.length + 1""",
    ) == [(0,)]
    changed = {
        table: {key for key, _ in set(good[table]) ^ set(undone[table])} for table in TABLES
    }
    wrong = {table: {key for key, _ in set(before[table]) ^ set(mistaken[table])} for table in TABLES}
    assert changed == wrong
