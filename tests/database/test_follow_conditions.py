"""Conditions follow what they name, and stand in the way of no DDL."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import psycopg
import pytest
from history import Connection, events, rows, track, track_refused, value, warnings_of

if TYPE_CHECKING:
    from conftest import Follow

TABLE = """
    CREATE SCHEMA app;
    CREATE TYPE mood AS ENUM ('sad', 'ok');
    CREATE TYPE place AS (street text, town text);
    CREATE DOMAIN word AS text;
    CREATE FUNCTION is_short(text) RETURNS boolean LANGUAGE sql IMMUTABLE AS 'SELECT length($1) < 4';
    CREATE TABLE item (
        id integer PRIMARY KEY, name text, note text DEFAULT 'n', mood mood DEFAULT 'sad',
        place place DEFAULT ('High', 'Rome'), tag citext DEFAULT 'A'
    )
"""

FOLLOWED = {
    "columns": ("NEW.name = 'yes'", ["ALTER TABLE item RENAME COLUMN name TO title"]),
    "columns that swap names": (
        "NEW.name = 'yes' AND NEW.note = 'n'",
        [
            "ALTER TABLE item RENAME COLUMN name TO spare",
            "ALTER TABLE item RENAME COLUMN note TO name",
            "ALTER TABLE item RENAME COLUMN spare TO note",
        ],
    ),
    "columns of which another is dropped": (
        "NEW.name = 'yes'",
        ["ALTER TABLE item DROP COLUMN note CASCADE"],
    ),
    "a literal that looks like a column": (
        "NEW.name = 'yes' AND 'new.name' <> NEW.note",
        ["ALTER TABLE item RENAME COLUMN name TO title"],
    ),
    "a type": (
        "NEW.name = 'yes' AND NEW.mood = 'sad'",
        ["ALTER TYPE mood RENAME TO temper", "ALTER TYPE temper SET SCHEMA app"],
    ),
    "a domain": (
        "NEW.name::word = 'yes'",
        ["ALTER DOMAIN word RENAME TO term", "ALTER DOMAIN term SET SCHEMA app"],
    ),
    "a function": (
        "NEW.name = 'yes' AND is_short(NEW.name)",
        ["ALTER FUNCTION is_short(text) RENAME TO is_brief", "ALTER ROUTINE is_brief(text) SET SCHEMA app"],
    ),
    "a schema": (
        "NEW.name = 'yes' AND is_short(NEW.name) AND NEW.mood = 'sad'",
        ["ALTER SCHEMA public RENAME TO old", "SET search_path TO old, public"],
    ),
    "what an extension brings": (
        "NEW.name = 'yes' AND NEW.tag = 'a'",
        ["ALTER EXTENSION citext SET SCHEMA app"],
    ),
    "a function that is replaced": (
        "NEW.name = 'yes' AND is_short(NEW.name)",
        [
            "CREATE OR REPLACE FUNCTION is_short(text) RETURNS boolean LANGUAGE sql IMMUTABLE AS 'SELECT true'",
            "ALTER FUNCTION is_short(text) COST 5",
        ],
    ),
    "every change": ("pghistory.any_change()", ["ALTER TABLE item RENAME COLUMN name TO title"]),
}


@pytest.mark.parametrize("name", FOLLOWED)
def test_a_condition_keeps_its_meaning_when_what_it_names_is_renamed(
    name: str, follow: Follow, connection: Connection, connect: Callable[..., Connection]
) -> None:
    condition, statements = FOLLOWED[name]
    connection.execute(TABLE)
    kind = "after_update" if "any_change" in condition else "snapshot"
    if "any_change" in condition:
        condition = value(connection, f"SELECT {condition}")
    track(connection, "item", "item", kind=kind, condition=condition)
    other = connect()
    item = value(connection, "SELECT 'item'::regclass::oid")

    def write(first: int) -> None:
        table = value(connection, "SELECT %s::regclass::text", item)
        path = value(connection, "SHOW search_path")
        sessions = (connection, other, connect())  # the last one has no plans
        for session, key in zip(sessions, range(first, first + 6, 2), strict=True):
            session.execute(f"SET search_path TO {path}")
            session.execute(f"INSERT INTO {table} VALUES ({key}, 'yes'), ({key + 1}, 'no')")
            session.execute(f"UPDATE {table} SET id = id WHERE id = {key}")
            if kind == "after_update":
                session.execute(f"UPDATE {table} SET id = -id WHERE id = {key}")

    write(1)
    follow(*statements)
    write(7)
    event_table = value(connection, "SELECT event_table::text FROM pghistory.trackers()")
    assert events(connection, event_table, "abs(id)") == [1, 3, 5, 7, 9, 11]
    assert rows(connection, "SELECT status FROM pghistory.trackers()") == [("active",)]
    # what it says now is what would be said for it today
    definition = value(connection, "SELECT definition FROM pghistory.trackers()")
    connection.execute("SELECT pghistory.untrack(%s::oid::regclass)", (item,))
    connection.execute(definition)
    write(13)
    assert events(connection, event_table, "abs(id)")[-3:] == [13, 15, 17]


VOID = {
    "a dropped column": ("NEW.note = 'n'", "ALTER TABLE item DROP COLUMN note"),
    "a retyped column": (
        "NEW.note = 'n'",
        "ALTER TABLE item ALTER COLUMN note DROP DEFAULT, ALTER COLUMN note TYPE integer USING 1",
    ),
    "a column dropped and added": (
        "NEW.note = 'n'",
        "ALTER TABLE item DROP COLUMN note, ADD COLUMN note text DEFAULT 'n'",
    ),
    "a dropped function": ("is_short(NEW.name)", "DROP FUNCTION is_short"),
    "a dropped operator": ("NEW.name <<< NEW.name", "DROP OPERATOR <<< (text, text)"),
    "a dropped domain": ("NEW.name::gone = 'yes'", "DROP DOMAIN gone"),
    "a dropped schema": ("app.f(NEW.name)", "DROP SCHEMA app CASCADE"),
    "a dropped extension": ("NEW.name::hstore IS NULL", "DROP EXTENSION hstore"),
    "a renamed value of an enum": ("NEW.mood = 'sad'", "ALTER TYPE mood RENAME VALUE 'sad' TO 'blue'"),
    "a renamed attribute": ("(NEW.place).town = 'Rome'", "ALTER TYPE place RENAME ATTRIBUTE town TO city"),
    "a dropped attribute": ("(NEW.place).town = 'Rome'", "ALTER TYPE place DROP ATTRIBUTE town"),
}


@pytest.mark.parametrize("name", VOID)
def test_a_condition_that_lost_what_it_names_is_void_until_it_is_given_anew(
    name: str, follow: Follow, connection: Connection, connect: Callable[..., Connection]
) -> None:
    condition, statement = VOID[name]
    connection.execute(TABLE)
    connection.execute(
        """CREATE FUNCTION app.f(text) RETURNS boolean LANGUAGE sql IMMUTABLE AS 'SELECT false';
           CREATE FUNCTION never(text, text) RETURNS boolean LANGUAGE sql IMMUTABLE AS 'SELECT false';
           CREATE OPERATOR <<< (FUNCTION = never, LEFTARG = text, RIGHTARG = text); CREATE DOMAIN gone AS text"""
    )
    track(connection, "item", "conditional", condition=f"NEW.name = 'never' AND {condition}")
    track(connection, "item", "plain")
    other = connect()
    other.execute("INSERT INTO item (id, name) VALUES (1, 'yes')")
    with warnings_of(connection) as warnings, connection.transaction():
        connection.execute(statement)
        if follow.by == "sync()":
            connection.execute("SELECT pghistory.sync()")
    assert [w for w in warnings if "conditional" in w] == [
        'what the condition of tracker "conditional" names is gone or of another type'
    ]
    for session, key in ((connection, 2), (other, 3)):
        session.execute("INSERT INTO item (id, name) VALUES (%s, 'yes')", (key,))
    assert events(connection, "item_event", "id", label="conditional") == [2, 3]
    assert events(connection, "item_event", "id", label="plain") == [1, 2, 3]
    ((problem, hint),) = rows(connection, "SELECT problem, hint FROM pghistory.verify()")
    assert "condition" in problem
    assert "track()" in hint
    connection.execute("SELECT pghistory.refresh()")  # what was meant only the user knows
    assert len(rows(connection, "SELECT * FROM pghistory.verify()")) == 1
    track(connection, "item", "conditional", condition="NEW.id > 10")
    assert rows(connection, "SELECT * FROM pghistory.verify()") == []
    other.execute("INSERT INTO item (id) VALUES (9), (11)")
    assert events(connection, "item_event", "id", label="conditional") == [2, 3, 11]


def test_a_condition_that_names_a_table_by_its_name_of_today_is_refused(connection: Connection) -> None:
    connection.execute(TABLE)
    track_refused(
        connection,
        psycopg.errors.FeatureNotSupported,
        "condition cannot be kept without changing its meaning",
        "item",
        condition="NEW.tableoid = 'item'::regclass",
    )
