"""untrack(): removing trackers, with or without their events."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from history import KINDS, Connection, call, catalog, events, refused, rows, track, triggers, value
from psycopg import errors

Connect = Callable[..., Connection]


@pytest.fixture(autouse=True)
def users(connection: Connection) -> None:
    connection.execute("CREATE TABLE users (id integer PRIMARY KEY, name text)")


def labels(connection: Connection) -> list[str]:
    return [label for (label,) in rows(connection, "SELECT label FROM pghistory.trackers()")]


def test_one_tracker_is_removed_and_the_others_stay(connection: Connection) -> None:
    track(connection, "users", "created", kind="after_insert")
    track(connection, "users", "deleted", kind="before_delete")
    assert call(connection, "untrack", "users", "created") == 1
    connection.execute("INSERT INTO users VALUES (1, 'Ann'); DELETE FROM users")
    assert labels(connection) == ["deleted"]
    assert triggers(connection, "users") == {("delete", "statement")}
    assert events(connection, "users_event", "pgh_label") == ["deleted"]


def test_all_trackers_are_removed_and_counted(connection: Connection) -> None:
    for kind in KINDS:
        track(connection, "users", kind, kind=kind)
    track(connection, "users", "elsewhere", fields=["name"])
    assert call(connection, "untrack", "users") == len(KINDS) + 1
    connection.execute("INSERT INTO users VALUES (1, 'Ann'); UPDATE users SET name = 'x'; DELETE FROM users")
    assert labels(connection) == []
    assert triggers(connection, "users") == set()
    assert events(connection, "users_event") == []
    assert events(connection, "users_name_event") == []


def test_trackers_of_other_tables_stay(connection: Connection) -> None:
    connection.execute("CREATE TABLE orders (id integer PRIMARY KEY)")
    track(connection, "users", "created")
    track(connection, "orders", "created")
    assert call(connection, "untrack", "users") == 1
    connection.execute("INSERT INTO orders VALUES (1)")
    assert events(connection, "orders_event", "pgh_label") == ["created"]


def test_events_stay_unless_asked(connection: Connection) -> None:
    track(connection, "users", "created")
    connection.execute("INSERT INTO users VALUES (1, 'Ann')")
    call(connection, "untrack", "users", "created")
    assert events(connection, "users_event", "pgh_label, name") == [("created", "Ann")]


def test_the_events_of_the_last_tracker_go_with_their_table_if_asked(connection: Connection) -> None:
    track(connection, "users", "created")
    connection.execute("INSERT INTO users VALUES (1, 'Ann')")
    assert call(connection, "untrack", "users", "created", drop_events=True) == 1
    assert value(connection, "SELECT to_regclass('users_event')") is None
    assert value(connection, "SELECT count(*) FROM users") == 1


def test_the_events_of_one_of_several_trackers_go_by_their_label_if_asked(connection: Connection) -> None:
    track(connection, "users", "created", kind="after_insert")
    track(connection, "users", "changed")
    connection.execute("INSERT INTO users VALUES (1, 'Ann')")
    call(connection, "untrack", "users", "created", drop_events=True)
    assert events(connection, "users_event", "pgh_label") == ["changed"]


def test_append_only_events_go_if_their_owner_asks(connection: Connection) -> None:
    track(connection, "users", "created", kind="after_insert", append_only=True)
    track(connection, "users", "changed", append_only=True)
    connection.execute("INSERT INTO users VALUES (1, 'Ann')")
    call(connection, "untrack", "users", "created", drop_events=True)
    assert events(connection, "users_event", "pgh_label") == ["changed"]
    with pytest.raises(errors.InsufficientPrivilege):
        connection.execute("DELETE FROM users_event")
    call(connection, "untrack", "users", drop_events=True)
    assert value(connection, "SELECT to_regclass('users_event')") is None


def test_all_event_tables_of_a_table_go_if_asked(connection: Connection) -> None:
    track(connection, "users", "a")
    track(connection, "users", "b", fields=["name"])
    track(connection, "users", "c", kind="history", event_table="log")
    assert call(connection, "untrack", "users", drop_events=True) == 3
    for name in ("users_event", "users_name_event", "log"):
        assert value(connection, "SELECT to_regclass(%s)", name) is None


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"kind": "history", "level": "row"},
        {"kind": "history", "append_only": True, "context": "inline"},
        {"condition": "new.name <> 'x'", "fields": ["name"], "obj_key": ["name"]},
        {"kind": "event", "obj_fk": "cascade"},
    ],
    ids=str,
)
def test_nothing_is_left_of_tracking_but_the_registry_itself(
    connection: Connection, options: dict[str, object]
) -> None:
    track(connection, "users", "first", kind="event")
    call(connection, "untrack", "users", drop_events=True)
    before = catalog(connection)
    track(connection, "users", "second", **options)
    connection.execute("INSERT INTO users VALUES (1, 'Ann')")
    call(connection, "untrack", "users", "second", drop_events=True)
    assert catalog(connection) == before


def test_partitions_are_left_clean(connection: Connection) -> None:
    connection.execute(
        """CREATE TABLE sale (id integer PRIMARY KEY) PARTITION BY RANGE (id);
        CREATE TABLE sale_1 PARTITION OF sale FOR VALUES FROM (1) TO (10)"""
    )
    track(connection, "sale", kind="history")
    assert triggers(connection, "sale_1") != set()
    call(connection, "untrack", "sale")
    assert triggers(connection, "sale") == triggers(connection, "sale_1") == set()
    connection.execute("INSERT INTO sale VALUES (1); TRUNCATE sale_1")
    assert events(connection, "sale_event") == []


def test_a_table_without_trackers_has_none_to_remove(connection: Connection) -> None:
    assert call(connection, "untrack", "users") == 0
    track(connection, "users")
    call(connection, "untrack", "users")
    assert call(connection, "untrack", "users") == 0


def test_a_label_that_is_not_there_is_refused(connection: Connection) -> None:
    query = "SELECT pghistory.untrack('users', 'created')"
    message = 'table public.users has no tracker "created"'
    refused(connection, errors.UndefinedObject, message, query)
    track(connection, "users", "Created")
    refused(connection, errors.UndefinedObject, message, query)


def test_arguments_that_are_null_are_refused(connection: Connection) -> None:
    track(connection, "users", "created")
    null = errors.NullValueNotAllowed
    refused(connection, null, '"table" must not be null', "SELECT pghistory.untrack(NULL)")
    refused(
        connection,
        null,
        "drop_events must not be null",
        "SELECT pghistory.untrack('users', drop_events => NULL)",
    )


def test_who_does_not_own_the_table_is_refused(
    connection: Connection, connect: Connect, role: Callable[..., str]
) -> None:
    track(connection, "users", "created")
    stranger = role("stranger")
    connection.execute(f"GRANT ALL ON users, users_event TO {stranger}")
    session = connect(user=stranger)
    for arguments in ("'users'", "'users', 'created'", "'users', 'created', true"):
        refused(
            session,
            errors.InsufficientPrivilege,
            "must be owner of table public.users",
            f"SELECT pghistory.untrack({arguments})",
            inspector=connection,
        )


def test_untracking_is_undone_with_its_transaction(connection: Connection) -> None:
    track(connection, "users", "created")
    before = catalog(connection)
    with connection.transaction(force_rollback=True):
        call(connection, "untrack", "users", drop_events=True)
    assert catalog(connection) == before
    connection.execute("INSERT INTO users VALUES (1, 'Ann')")
    assert events(connection, "users_event", "name") == ["Ann"]


def test_untrack_has_the_signature_of_the_contract(connection: Connection) -> None:
    assert rows(
        connection,
        """SELECT pg_get_function_arguments(oid), pg_get_function_result(oid) FROM pg_proc
            WHERE oid = 'pghistory.untrack'::regproc""",
    ) == [('"table" regclass, label text DEFAULT NULL::text, drop_events boolean DEFAULT false', "integer")]


def test_what_depends_on_an_event_table_keeps_it(connection: Connection) -> None:
    track(connection, "users", "created")
    connection.execute("CREATE VIEW report AS SELECT * FROM users_event")
    before = catalog(connection)
    with pytest.raises(errors.DependentObjectsStillExist):
        call(connection, "untrack", "users", drop_events=True)
    assert catalog(connection) == before
