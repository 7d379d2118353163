"""What recording costs those who write."""

from __future__ import annotations

from collections.abc import Iterator

from measure import Cost, Result, cost, measure, session

import pyhist
from pyhist.server import Server

ROUNDS = 9
ROWS = 20_000

COLUMNS = "id, customer, amount, note"
NEW_ROWS = f"SELECT id, id % 97, id * 0.25, 'row number ' || id FROM generate_series(1, {ROWS}) AS id"
INSERT = f"INSERT INTO {{}} ({COLUMNS}) {NEW_ROWS}"
INSERT_BY_HAND = f"""
WITH row AS (INSERT INTO by_hand ({COLUMNS}) {NEW_ROWS} RETURNING *)
INSERT INTO by_hand_event (pgh_created_at, pgh_label, pgh_operation, pgh_xid, pgh_obj_id, {COLUMNS})
SELECT now(), 'tracked.history', 'I', pg_current_xact_id(), id, {COLUMNS} FROM row
"""
UPDATE_ALL = "UPDATE tracked SET amount = amount + 1"


def bulk_update(server: Server, *, after_one_row: bool) -> Cost:
    with session(server) as connection:
        connection.execute("TRUNCATE tracked_event")
        connection.execute("VACUUM ANALYZE tracked")
    with session(server) as connection:
        if after_one_row:
            connection.execute(f"{UPDATE_ALL} WHERE id = 1")
        return cost(connection, UPDATE_ALL)


def bulk_insert(server: Server, name: str, statement: str) -> Cost:
    with session(server) as connection:
        connection.execute(f"TRUNCATE {name}")
        connection.execute(f"TRUNCATE {name}_event")
        connection.execute("CHECKPOINT")
        return cost(connection, statement)


def prepare(server: Server) -> None:
    """Make a tracked table, and two equal ones with equal event tables that we do not write to."""
    with session(server) as connection:
        for name in ("tracked", "untracked", "by_hand"):
            columns = "id integer PRIMARY KEY, customer integer, amount numeric, note text"
            connection.execute(f"CREATE TABLE {name} ({columns})")
        pyhist.track(connection, "tracked", pyhist.History(level="statement"))
        for name in ("untracked", "by_hand"):
            connection.execute(f"CREATE TABLE {name}_event (LIKE tracked_event INCLUDING ALL)")


def run(server: Server) -> Iterator[Result]:
    """Bulk writes of kind history, level statement, and the update that follows one of a single row."""
    prepare(server)
    yield from measure(
        f"insert {ROWS:,} rows",
        {
            "untracked": lambda: bulk_insert(server, "untracked", INSERT.format("untracked")),
            "events by hand": lambda: bulk_insert(server, "by_hand", INSERT_BY_HAND),
            "history": lambda: bulk_insert(server, "tracked", INSERT.format("tracked")),
        },
        {"history": "events by hand"},
        ROUNDS,
    )
    yield from measure(
        f"update {ROWS:,} rows",
        {
            "in a fresh session": lambda: bulk_update(server, after_one_row=False),
            "after a one-row update": lambda: bulk_update(server, after_one_row=True),
        },
        {"after a one-row update": "in a fresh session"},
        ROUNDS,
    )
