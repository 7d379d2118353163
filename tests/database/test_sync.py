"""sync() follows what happened to tables where no event trigger told, for whoever may."""

from __future__ import annotations

from collections.abc import Callable

import psycopg
import pytest
from history import Connection, catalog, events, refused, rows, track, value

TABLE = "CREATE TABLE item (id integer PRIMARY KEY, name text, note text)"
CHANGE = (
    "ALTER TABLE item RENAME COLUMN name TO title; ALTER TABLE item DROP COLUMN note, ADD COLUMN size integer"
)

pytestmark = pytest.mark.usefixtures("without_event_triggers")


@pytest.fixture
def owner(connection: Connection, role: Callable[..., str]) -> str:
    """A role that may make tables, and is no superuser."""
    name = role("owner")
    connection.execute(f"GRANT CREATE ON SCHEMA public TO {name}")
    return name


def test_a_table_owner_can_call_it(connect: Callable[..., Connection], owner: str) -> None:
    user = connect(owner)
    user.execute(TABLE)
    track(user, "item", kind="history", append_only=True)
    user.execute("INSERT INTO item VALUES (1, 'pen', 'x')")
    with user.transaction():
        user.execute(CHANGE)
        user.execute("SELECT pghistory.sync('item')")
    user.execute("UPDATE item SET title = 'ink', size = 3")
    user.execute("SELECT pghistory.create_event('item'::regclass, '1', 'item.history')")
    assert events(user, "item_event", "pgh_operation, title, note, size") == [
        *[("I", "pen", "x", None), ("U", "ink", None, 3), ("S", "ink", None, 3)]
    ]
    assert rows(user, "SELECT * FROM pghistory.verify()") == []


def test_a_member_of_the_owning_role_can_call_it(
    connection: Connection, connect: Callable[..., Connection], owner: str, role: Callable[..., str]
) -> None:
    member = role("member")
    connection.execute(f"GRANT {owner} TO {member}")
    user = connect(owner)
    user.execute(TABLE)
    track(user, "item", kind="history")
    user.execute(CHANGE)
    connect(member).execute("SELECT pghistory.sync()")
    user.execute("INSERT INTO item VALUES (1, 'pen', 3)")
    assert events(user, "item_event", "title, size") == [("pen", 3)]
    assert rows(user, "SELECT * FROM pghistory.verify()") == []


def test_with_a_table_it_changes_no_other(connection: Connection) -> None:
    for table in ("one", "two"):
        connection.execute(TABLE.replace("item", table))
        track(connection, table, kind="history")
        connection.execute(f"ALTER TABLE {table} ADD COLUMN size integer")
    connection.execute("SELECT pghistory.sync('one')")
    wrong = rows(connection, 'SELECT "table"::text, object, problem FROM pghistory.verify()')
    assert ("two", "event table public.two_event", 'column "size" is missing') in wrong
    assert {table for table, *_ in wrong} == {"two"}


def test_without_a_table_it_passes_over_what_the_caller_may_not_change(
    connection: Connection, connect: Callable[..., Connection], owner: str
) -> None:
    user = connect(owner)
    user.execute(TABLE.replace("item", "own"))
    connection.execute(TABLE)
    for session, table in ((user, "own"), (connection, "item")):
        track(session, table, kind="history")
        session.execute(f"ALTER TABLE {table} ADD COLUMN size integer")
    user.execute("SELECT pghistory.sync()")
    assert {table for (table,) in rows(connection, 'SELECT "table"::text FROM pghistory.verify()')} == {
        "item"
    }


def test_a_table_of_somebody_elses_is_refused(
    connection: Connection, connect: Callable[..., Connection], owner: str
) -> None:
    connection.execute(TABLE)
    track(connection, "item", kind="history")
    connection.execute(CHANGE)
    refused(
        connect(owner),
        psycopg.errors.InsufficientPrivilege,
        "must be owner of table public.item",
        "SELECT pghistory.sync('public.item')",
        inspector=connection,
    )


def test_an_event_table_of_somebody_elses_is_not_passed_over_in_silence(
    connection: Connection, connect: Callable[..., Connection], owner: str
) -> None:
    user = connect(owner)
    user.execute(TABLE)
    track(user, "item", kind="history")
    connection.execute("ALTER TABLE item_event OWNER TO postgres; SELECT pghistory.sync()")
    user.execute(CHANGE)
    with pytest.raises(psycopg.errors.InsufficientPrivilege, match="event table"):
        user.execute("SELECT pghistory.sync('item')")


def test_where_there_is_nothing_to_follow_it_changes_nothing(connection: Connection) -> None:
    connection.execute("SELECT pghistory.sync()")
    assert value(connection, "SELECT to_regclass('pghistory.tracker')") is None
    connection.execute(f"{TABLE}; CREATE TABLE plain (id integer)")
    track(connection, "item", kind="history")
    before = catalog(connection)
    connection.execute("SELECT pghistory.sync(), pghistory.sync('item'), pghistory.sync('plain')")
    assert catalog(connection) == before


def test_several_changes_are_followed_at_once_in_any_session(
    connection: Connection, connect: Callable[..., Connection]
) -> None:
    connection.execute(f"{TABLE}; CREATE SCHEMA attic")
    track(connection, "item", kind="history")
    other = connect()
    other.execute("INSERT INTO item VALUES (1, 'pen', 'x')")
    connection.execute(CHANGE)
    connection.execute("ALTER TABLE item SET SCHEMA attic; ALTER TABLE attic.item RENAME TO thing")
    connection.execute("ALTER TABLE item_event SET SCHEMA attic; ALTER SCHEMA attic RENAME TO loft")
    connection.execute("ALTER TABLE loft.thing DROP CONSTRAINT item_pkey, ADD PRIMARY KEY (title)")
    other.execute("SELECT pghistory.sync()")
    other.execute("UPDATE loft.thing SET size = 3")
    assert events(other, "loft.item_event", "pgh_obj_id, title, note, size") == [
        ("pen", "pen", "x", None),
        ("pen", "pen", None, 3),
    ]
    assert rows(connection, "SELECT * FROM pghistory.verify()") == []


def test_what_was_called_for_is_undone_with_its_transaction(connection: Connection) -> None:
    connection.execute(TABLE)
    track(connection, "item", kind="history")
    before = catalog(connection)
    with connection.transaction(force_rollback=True):
        connection.execute(CHANGE)
        connection.execute("SELECT pghistory.sync()")
    assert catalog(connection) == before
    connection.execute("INSERT INTO item VALUES (1, 'pen', 'x')")
    assert events(connection, "item_event", "name") == ["pen"]


def test_columns_change_while_nobody_tracks_and_are_followed_when_tracked_again(
    connection: Connection,
) -> None:
    connection.execute(TABLE)
    track(connection, "item", kind="history")
    connection.execute("INSERT INTO item VALUES (1, 'pen', 'x')")
    connection.execute("SELECT pghistory.untrack('item')")
    connection.execute(CHANGE)
    connection.execute("INSERT INTO item VALUES (2, 'ink', 3)")
    track(connection, "item", kind="history")
    connection.execute("DELETE FROM item WHERE id = 2")
    assert events(connection, "item_event", "title, note, size") == [("pen", "x", None), ("ink", None, 3)]


@pytest.mark.parametrize("label", ["item.history", "another"])
def test_track_follows_first(label: str, connection: Connection) -> None:
    connection.execute(TABLE)
    track(connection, "item", kind="history")
    connection.execute("INSERT INTO item VALUES (1, 'pen', 'x')")
    connection.execute(CHANGE)
    track(connection, "item", label, kind="history")
    connection.execute("INSERT INTO item VALUES (2, 'ink', 3)")
    assert events(connection, "item_event", "title, size", label=label)[-1] == ("ink", 3)
    assert rows(connection, "SELECT * FROM pghistory.verify()") == []
