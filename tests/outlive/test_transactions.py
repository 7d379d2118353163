"""Whatever becomes of a transaction, or of a part of it, becomes of its events and of its context."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import psycopg
import pytest
from lived import assert_all_is_well, rows

Connection = psycopg.Connection[Any]
CONTEXT = "00000000-0000-0000-0000-000000000001"


@pytest.fixture
def connection(connect: Callable[..., Connection]) -> Connection:
    """A connection in autocommit mode, to a database with a table `item` whose history is kept."""
    connection = connect()
    connection.execute("CREATE TABLE item (id integer PRIMARY KEY, name text)")
    connection.execute("SELECT pghistory.track('item', 'item', kind => 'history')")
    connection.execute("SELECT pghistory.track('item', 'seen', kind => 'event')")
    return connection


def set_context(connection: Connection, step: int) -> None:
    connection.execute(
        "SELECT pghistory.set_context(jsonb_build_object('step', %s::integer), %s)", [step, CONTEXT]
    )


def events(connection: Connection) -> list[tuple[Any, ...]]:
    """The events: label, operation, name, and whether the context is there."""
    return rows(
        connection,
        """SELECT pgh_label, pgh_operation::text, name, (c.id IS NOT NULL)
             FROM item_event LEFT JOIN pghistory.context AS c ON c.id = pgh_context_id ORDER BY pgh_id""",
    )


def metadata(connection: Connection) -> list[Any]:
    return [metadata for (metadata,) in rows(connection, "SELECT metadata FROM pghistory.context")]


def test_a_prepared_transaction_takes_its_events_and_its_context_along(
    connection: Connection, connect: Callable[..., Connection]
) -> None:
    connection.execute("BEGIN")
    set_context(connection, 1)
    connection.execute("INSERT INTO item VALUES (1, 'prepared')")
    connection.execute("SELECT pghistory.create_event(i, 'seen') FROM item AS i")
    connection.execute("PREPARE TRANSACTION 'kept'")
    assert events(connection) == []
    assert metadata(connection) == []

    # Neither the session nor another one of the same context is held up, or inherits it.
    connection.execute("INSERT INTO item VALUES (2, 'after')")
    with connect() as other, other.transaction():
        set_context(other, 2)
        other.execute("INSERT INTO item VALUES (3, 'other')")
    assert sorted(events(connection)) == [("item", "I", "after", False), ("item", "I", "other", True)]

    connection.execute("COMMIT PREPARED 'kept'")
    assert events(connection)[:2] == [("item", "I", "prepared", True), ("seen", "S", "prepared", True)]
    assert_all_is_well(connection)


def test_a_prepared_transaction_that_is_rolled_back_leaves_nothing(connection: Connection) -> None:
    connection.execute("BEGIN")
    set_context(connection, 1)
    connection.execute("INSERT INTO item VALUES (1, 'never')")
    connection.execute("PREPARE TRANSACTION 'dropped'")
    connection.execute("ROLLBACK PREPARED 'dropped'")

    assert events(connection) == []
    assert metadata(connection) == []
    connection.execute("INSERT INTO item VALUES (1, 'now')")
    assert events(connection) == [("item", "I", "now", False)]


def test_a_rollback_to_a_savepoint_takes_back_its_events_and_nothing_else(connection: Connection) -> None:
    connection.execute("BEGIN")
    set_context(connection, 1)
    connection.execute("SAVEPOINT one")
    connection.execute("INSERT INTO item VALUES (1, 'never')")
    connection.execute("ROLLBACK TO one")
    connection.execute("INSERT INTO item VALUES (1, 'first')")
    connection.execute("SAVEPOINT two")
    connection.execute("UPDATE item SET name = 'never'")
    connection.execute("ROLLBACK TO two")
    connection.execute("UPDATE item SET name = 'second'")
    connection.execute("RELEASE two")
    connection.execute("COMMIT")

    assert events(connection) == [("item", "I", "first", True), ("item", "U", "second", True)]
    assert metadata(connection) == [{"step": 1}]


def test_a_hundred_subtransactions_keep_what_they_wrote(connection: Connection) -> None:
    connection.execute("BEGIN")
    set_context(connection, 1)
    for number in range(100):
        connection.execute(f"SAVEPOINT s{number}")
        connection.execute(f"INSERT INTO item VALUES ({number}, '{number}')")
        if number % 2:
            connection.execute(f"ROLLBACK TO s{number}")
    connection.execute("COMMIT")

    assert events(connection) == [("item", "I", str(number), True) for number in range(0, 100, 2)]


def test_an_exception_that_plpgsql_catches_takes_back_the_events_of_its_block(connection: Connection) -> None:
    connection.execute(
        """DO $$
           BEGIN
               PERFORM pghistory.set_context('{"step": 1}');
               INSERT INTO item VALUES (1, 'kept');
               BEGIN
                   INSERT INTO item VALUES (2, 'never');
                   INSERT INTO item VALUES (1, 'twice');
               EXCEPTION WHEN unique_violation THEN
                   INSERT INTO item VALUES (3, 'instead');
               END;
           END $$"""
    )

    assert events(connection) == [("item", "I", "kept", True), ("item", "I", "instead", True)]


def test_what_a_deferred_constraint_refuses_at_commit_leaves_no_event(connection: Connection) -> None:
    connection.execute("CREATE TABLE owner (id integer PRIMARY KEY)")
    connection.execute(
        "ALTER TABLE item ADD COLUMN owner integer REFERENCES owner DEFERRABLE INITIALLY DEFERRED"
    )
    connection.execute("BEGIN")
    connection.execute("INSERT INTO item VALUES (1, 'orphan', 7)")
    with pytest.raises(psycopg.errors.ForeignKeyViolation):
        connection.execute("COMMIT")
    assert events(connection) == []

    connection.execute("BEGIN; INSERT INTO item VALUES (1, 'child', 7); INSERT INTO owner VALUES (7); COMMIT")
    assert events(connection) == [("item", "I", "child", False)]


def test_what_deferred_triggers_write_at_commit_is_recorded_with_the_context(connection: Connection) -> None:
    connection.execute(
        """CREATE FUNCTION stamp() RETURNS trigger LANGUAGE plpgsql AS
           $$ BEGIN UPDATE item SET name = name || '!' WHERE id = NEW.id; RETURN NULL; END $$"""
    )
    connection.execute(
        """CREATE CONSTRAINT TRIGGER stamp AFTER INSERT ON item DEFERRABLE INITIALLY DEFERRED
           FOR EACH ROW EXECUTE FUNCTION stamp()"""
    )
    connection.execute("BEGIN")
    set_context(connection, 1)
    connection.execute("INSERT INTO item VALUES (1, 'a')")
    connection.execute("COMMIT")

    assert events(connection) == [("item", "I", "a", True), ("item", "U", "a!", True)]
