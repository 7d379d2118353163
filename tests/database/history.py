"""What the tests of the SQL share: calling pghistory, reading events, and seeing what was left behind."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from psycopg import sql

Connection = psycopg.Connection[Any]

KINDS = (
    "snapshot",
    "after_insert",
    "after_insert_or_update",
    "before_update",
    "after_update",
    "before_delete",
    "before_truncate",
    "history",
    "event",
)
LEVELS = ("auto", "row", "statement")

# What a call could change. The transaction that wrote a row (xmin) tells whether a function was replaced.
_CATALOG = """
    SELECT 'schema', nspname::text, nspowner::text, nspacl::text FROM pg_namespace WHERE nspname !~ '^pg_'
    UNION ALL
    SELECT 'relation', oid::regclass::text,
           concat_ws(' ', oid, relkind, relowner, relnatts, relchecks), relacl::text
      FROM pg_class WHERE oid >= 16384 AND relnamespace <> 'pg_toast'::regnamespace
    UNION ALL
    SELECT 'column', format('%s.%I', attrelid::regclass, attname),
           concat_ws(' ', attnum, atttypid, atttypmod, attnotnull, attcollation, attstorage, attcompression),
           attacl::text
      FROM pg_attribute WHERE attrelid >= 16384
    UNION ALL
    SELECT 'function', oid::regprocedure::text, concat_ws(' ', oid, xmin, proowner), proacl::text
      FROM pg_proc WHERE oid >= 16384
    UNION ALL
    SELECT 'trigger', tgname::text, concat_ws(' ', oid, xmin, tgenabled), tgrelid::regclass::text
      FROM pg_trigger WHERE oid >= 16384
    UNION ALL
    SELECT 'constraint', conname::text, concat_ws(' ', oid, xmin), pg_get_constraintdef(oid)
      FROM pg_constraint WHERE oid >= 16384
    UNION ALL
    SELECT 'index', indexrelid::regclass::text, indexrelid::text, pg_get_indexdef(indexrelid)
      FROM pg_index WHERE indexrelid >= 16384 AND indrelid::regclass::text !~ '^pg_toast'
    UNION ALL
    SELECT 'comment', classoid::regclass::text, concat_ws(' ', objoid, objsubid), description
      FROM pg_description WHERE objoid >= 16384
"""
_REGISTRY = ("context_part", "event_table", "event_column", "tracker", "capture_key")


def quoted(*names: str) -> str:
    """Write a name as SQL does: a schema, a table, a column, one after the other."""
    return sql.Identifier(*names).as_string(None)


def rows(connection: Connection, query: str, *arguments: object) -> list[tuple[Any, ...]]:
    """Run a query and return its rows. Only with arguments do percent signs in it have a meaning."""
    return connection.execute(query, arguments or None).fetchall()


def value(connection: Connection, query: str, *arguments: object) -> Any:
    """Run a query and return the first column of its only row."""
    ((first, *_),) = rows(connection, query, *arguments)
    return first


def call(connection: Connection, function: str, *arguments: object, **named: object) -> Any:
    """Call a function of pghistory by position and by name, and return its result; a regclass as text."""
    positional = [sql.Placeholder() for _ in arguments]
    by_name = [sql.SQL("{} => {}").format(sql.Identifier(name), sql.Placeholder()) for name in named]
    statement = sql.SQL("SELECT pghistory.{}({})").format(
        sql.Identifier(function), sql.SQL(", ").join([*positional, *by_name])
    )
    row = connection.execute(statement, [*arguments, *named.values()]).fetchone()
    return row and row[0]


def track(connection: Connection, table: str, label: str | None = None, **options: object) -> str:
    """Call pghistory.track() and return the event table's name, as SQL writes it."""
    return str(call(connection, "track", table, label, **options))


def events(
    connection: Connection, event_table: str, columns: str = "pgh_operation", label: str | None = None
) -> list[Any]:
    """Read an event table, or its events of one label, in the order of the events.

    Gives tuples of the columns, or the plain values if it is but one.
    """
    having = f"WHERE pgh_label = {sql.Literal(label).as_string(connection)}" if label else ""
    found = rows(connection, f"SELECT {columns} FROM {event_table} {having} ORDER BY pgh_id")
    return [row[0] if len(row) == 1 else row for row in found]


def catalog(connection: Connection) -> set[tuple[Any, ...]]:
    """What the database consists of and what pghistory keeps in it: the same until something changes."""
    state: set[tuple[Any, ...]] = set(rows(connection, _CATALOG))
    for table in _REGISTRY:
        if value(connection, f"SELECT to_regclass('pghistory.{table}') IS NOT NULL"):
            state.update(
                rows(
                    connection,
                    f"SELECT 'registry', '{table}', t::text, NULL FROM pghistory.{table} AS t",
                )
            )
    return state


def refused(
    connection: Connection,
    error: type[psycopg.Error],
    message: str,
    query: str | sql.Composable,
    *arguments: object,
    inspector: Connection | None = None,
) -> psycopg.errors.Diagnostic:
    """Run a statement that must be refused; see that it says why and what to do, and leaves nothing behind.

    `error` is psycopg's class for the SQLSTATE, `message` a regular expression that the message must match;
    `inspector` looks at the catalog where the refused role may not. Returns what the server said.
    """
    inspector = inspector or connection
    before = catalog(inspector)
    with pytest.raises(psycopg.Error, match=message) as caught:
        connection.execute(query, arguments or None)
    assert type(caught.value) is error
    assert caught.value.diag.message_hint
    assert catalog(inspector) == before
    return caught.value.diag


def track_refused(
    connection: Connection,
    error: type[psycopg.Error],
    message: str,
    table: str,
    label: str | None = None,
    inspector: Connection | None = None,
    **options: object,
) -> psycopg.errors.Diagnostic:
    """Call pghistory.track() as `track` does, and see that it is refused as `refused` does."""
    statement = sql.SQL("SELECT pghistory.track({})").format(
        sql.SQL(", ").join(
            [
                sql.Placeholder(),
                sql.Placeholder(),
                *(sql.SQL("{} => {}").format(sql.Identifier(name), sql.Placeholder()) for name in options),
            ]
        )
    )
    return refused(
        connection, error, message, statement, table, label, *options.values(), inspector=inspector
    )


@contextlib.contextmanager
def warnings_of(connection: Connection) -> Iterator[list[str]]:
    """Collect the messages of the warnings that the server sends meanwhile."""
    messages: list[str] = []

    def keep(diagnostic: psycopg.errors.Diagnostic) -> None:
        if diagnostic.severity_nonlocalized == "WARNING":
            messages.append(diagnostic.message_primary or "")

    connection.add_notice_handler(keep)
    try:
        yield messages
    finally:
        connection.remove_notice_handler(keep)


def triggers(connection: Connection, table: str) -> set[tuple[str, str]]:
    """Our triggers on a table: (operation, level), such as ("update", "row")."""
    return {
        (operation, level)
        for operation, level in rows(
            connection,
            """SELECT CASE WHEN tgtype & 4 > 0 THEN 'insert' WHEN tgtype & 8 > 0 THEN 'delete'
                           WHEN tgtype & 16 > 0 THEN 'update' ELSE 'truncate' END,
                      CASE WHEN tgtype & 1 > 0 THEN 'row' ELSE 'statement' END
                 FROM pg_trigger
                WHERE tgrelid = %s::regclass AND NOT tgisinternal AND tgname LIKE '!pghistory %%'""",
            table,
        )
    }
