"""create_event(): events written by hand."""

from __future__ import annotations

import uuid
from collections.abc import Callable

import pytest
from history import Connection, call, catalog, events, refused, rows, track, value
from psycopg import errors

Connect = Callable[..., Connection]
ID = uuid.UUID("a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11")


@pytest.fixture(autouse=True)
def users(connection: Connection) -> None:
    connection.execute("CREATE TABLE users (id integer PRIMARY KEY, name text, age integer)")
    connection.execute("INSERT INTO users VALUES (1, 'Ann', 40), (2, 'Tim', 4)")


EVENT = "pgh_label, pgh_operation, pgh_obj_id, id, name, age"


def test_a_row_of_the_table_makes_an_event_and_gives_its_number(connection: Connection) -> None:
    track(connection, "users", "user.login", kind="event")
    numbers = rows(connection, "SELECT pghistory.create_event(u, 'user.login') FROM users AS u ORDER BY id")
    assert events(connection, "users_event", "pgh_id, id") == [(numbers[0][0], 1), (numbers[1][0], 2)]
    assert events(connection, "users_event", EVENT) == [
        ("user.login", "S", 1, 1, "Ann", 40),
        ("user.login", "S", 2, 2, "Tim", 4),
    ]


def test_a_key_makes_an_event_of_the_row_that_has_it(connection: Connection) -> None:
    track(connection, "users", "user.login", kind="event")
    number = value(connection, "SELECT pghistory.create_event('users', '2', 'user.login')")
    assert events(connection, "users_event", f"pgh_id, {EVENT}") == [
        (number, "user.login", "S", 2, 2, "Tim", 4)
    ]


def test_arguments_have_the_names_of_the_contract(connection: Connection) -> None:
    track(connection, "users", "user.login", kind="event")
    call(connection, "create_event", table="users", obj="1", label="user.login")
    connection.execute("SELECT pghistory.create_event(record => u, label => 'user.login') FROM users AS u")
    assert events(connection, "users_event", "id") == [1, 1, 2]


def test_create_event_has_the_signatures_of_the_contract(connection: Connection) -> None:
    signatures = rows(
        connection,
        """SELECT format('(%s) %s', pg_get_function_arguments(oid), pg_get_function_result(oid)) FROM pg_proc
            WHERE pronamespace = 'pghistory'::regnamespace AND proname = 'create_event' ORDER BY pronargs""",
    )
    assert signatures == [
        ("(record anyelement, label text) bigint",),
        ('("table" regclass, obj text, label text) bigint',),
    ]


def test_an_event_by_hand_has_the_transaction_its_time_and_its_context(connection: Connection) -> None:
    track(connection, "users", "user.login", kind="event")
    with connection.transaction():
        call(connection, "set_context", '{"user": 1}', ID)
        now, xid = rows(connection, "SELECT now(), pg_current_xact_id()")[0]
        call(connection, "create_event", "users", "1", "user.login")
    assert events(connection, "users_event", "pgh_created_at, pgh_xid, pgh_context_id") == [(now, xid, ID)]
    assert rows(connection, "SELECT id, metadata FROM pghistory.context") == [(ID, {"user": 1})]


def test_an_event_by_hand_has_its_inline_context(connection: Connection) -> None:
    track(connection, "users", "user.login", kind="event", context="inline")
    with connection.transaction():
        call(connection, "set_context", '{"user": 1}', ID)
        call(connection, "create_event", "users", "1", "user.login")
    assert events(connection, "users_event", "pgh_context_id, pgh_context") == [(ID, {"user": 1})]


def test_any_label_of_the_table_will_do(connection: Connection) -> None:
    for kind in ("snapshot", "before_delete", "history", "before_truncate"):
        track(connection, "users", f"as {kind}", kind=kind)
        call(connection, "create_event", "users", "1", f"as {kind}")
    assert events(connection, "users_event", "pgh_label, pgh_operation") == [
        ("as snapshot", "S"),
        ("as before_delete", "S"),
        ("as history", "S"),
        ("as before_truncate", "S"),
    ]


def test_an_event_by_hand_has_the_fields_of_its_label(connection: Connection) -> None:
    track(connection, "users", "all", kind="event", event_table="log")
    track(connection, "users", "name", kind="event", fields=["name"], event_table="log")
    track(connection, "users", "meta", kind="event", fields=[], event_table="log")
    track(connection, "users", "elsewhere", kind="event", exclude=["age"])
    for label in ("all", "name", "meta", "elsewhere"):
        call(connection, "create_event", "users", "1", label)
    assert events(connection, "log", EVENT) == [
        ("all", "S", 1, 1, "Ann", 40),
        ("name", "S", 1, None, "Ann", None),
        ("meta", "S", 1, None, None, None),
    ]
    assert events(connection, "users_without_age_event", "pgh_label, name") == [("elsewhere", "Ann")]


def test_the_row_given_is_what_is_written_even_if_it_is_not_in_the_table(connection: Connection) -> None:
    track(connection, "users", "user.imagined", kind="event")
    connection.execute("SELECT pghistory.create_event(ROW(7, 'Eve', NULL)::users, 'user.imagined')")
    assert events(connection, "users_event", EVENT) == [("user.imagined", "S", 7, 7, "Eve", None)]


def test_a_row_of_nulls_is_a_row(connection: Connection) -> None:
    connection.execute("CREATE TABLE note (a text, b text)")
    track(connection, "note", "seen", kind="event")
    connection.execute("INSERT INTO note VALUES (NULL, NULL)")
    connection.execute("SELECT pghistory.create_event(n, 'seen') FROM note AS n")
    assert events(connection, "note_event", "pgh_operation, a, b") == [("S", None, None)]


def test_a_key_of_several_columns_is_a_json_object(connection: Connection) -> None:
    connection.execute(
        """CREATE TABLE line (order_id int, "part's" text, number int, PRIMARY KEY (order_id, "part's"));
        INSERT INTO line VALUES (1, 'pen', 5), (1, 'ink', 6)"""
    )
    track(connection, "line", "checked", kind="event")
    call(connection, "create_event", "line", """{"order_id": 1, "part's": "ink"}""", "checked")
    call(connection, "create_event", "line", """{"part's": "pen", "order_id": "1"}""", "checked")
    assert events(connection, "line_event", "number") == [6, 5]


KEYS = [
    ("bigint", "7", "7"),
    ("text", "'it''s %\\\"{}'", "it's %\\\"{}"),
    ("uuid", f"'{ID}'", str(ID).upper()),
    ("numeric", "1.50", "1.5"),
    ("timestamptz", "'2026-01-02 03:04:05+00'", "2026-01-02 04:04:05+01"),
    ("citext", "'Ann'", "ANN"),
    ("character(5)", "'ab'", "ab"),
    ("boolean", "true", "t"),
    ("integer[]", "'{1,2}'", "{1,2}"),
    ("bytea", "'\\x00ff'", "\\x00ff"),
    ("inet", "'10.0.0.1'", "10.0.0.1"),
    ("mood", "'happy'", "happy"),
    ("positive", "7", "7"),
    ("bit(3)", "B'101'", "101"),
    ("int4range", "'[1,3)'", "[1,2]"),
]


def test_a_key_is_compared_as_its_type_compares(connection: Connection) -> None:
    connection.execute("CREATE TYPE mood AS ENUM ('happy')")
    connection.execute("CREATE DOMAIN positive AS integer CHECK (VALUE > 0)")
    for number, (of_type, stored, obj) in enumerate(KEYS):
        connection.execute("RESET search_path")
        table = f"public.item_{number}"
        connection.execute(
            f"CREATE TABLE {table} (key {of_type} PRIMARY KEY); INSERT INTO {table} VALUES ({stored})"
        )
        track(connection, table, of_type, kind="event")
        connection.execute("SET search_path TO ''")
        call(connection, "create_event", table, obj, of_type)
        assert events(connection, f"{table}_event", "pgh_label") == [of_type]


def test_events_of_tables_without_key_are_written_from_their_rows(connection: Connection) -> None:
    connection.execute("CREATE TABLE measure (degrees integer); INSERT INTO measure VALUES (20), (20)")
    track(connection, "measure", "checked", kind="event")
    connection.execute("SELECT pghistory.create_event(m, 'checked') FROM measure AS m")
    assert events(connection, "measure_event", "degrees") == [20, 20]
    refused(
        connection,
        errors.ObjectNotInPrerequisiteState,
        "events of table public.measure do not name their object",
        "SELECT pghistory.create_event('measure', '20', 'checked')",
    )


def test_rows_of_a_partition_are_rows_of_its_table(connection: Connection) -> None:
    connection.execute(
        """CREATE TABLE sale (id integer PRIMARY KEY, total integer) PARTITION BY RANGE (id);
        CREATE TABLE sale_1 (total integer, gone text, id integer NOT NULL);
        ALTER TABLE sale_1 DROP COLUMN gone;
        ALTER TABLE sale ATTACH PARTITION sale_1 FOR VALUES FROM (1) TO (10);
        INSERT INTO sale VALUES (1, 10)"""
    )
    track(connection, "sale", "checked", kind="event")
    connection.execute("SELECT pghistory.create_event(s, 'checked') FROM sale AS s")
    connection.execute("SELECT pghistory.create_event(s, 'checked') FROM sale_1 AS s")
    call(connection, "create_event", "sale", "1", "checked")
    call(connection, "create_event", "sale_1", "1", "checked")
    assert events(connection, "sale_event", "pgh_obj_id, id, total") == [(1, 1, 10)] * 4


def test_columns_added_later_are_written_too(connection: Connection) -> None:
    track(connection, "users", "user.login", kind="event")
    call(connection, "create_event", "users", "1", "user.login")
    connection.execute("ALTER TABLE users ADD COLUMN city text DEFAULT 'Rome'")
    call(connection, "create_event", "users", "1", "user.login")
    assert events(connection, "users_event", "name, city") == [("Ann", None), ("Ann", "Rome")]


def test_generated_and_dropped_columns_are_no_hindrance(connection: Connection) -> None:
    connection.execute(
        """CREATE TABLE parcel (
            gone text, id integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY, w integer,
            area integer GENERATED ALWAYS AS (w * w) STORED);
        ALTER TABLE parcel DROP COLUMN gone;
        INSERT INTO parcel (w) VALUES (3)"""
    )
    track(connection, "parcel", "measured", kind="event")
    connection.execute("SELECT pghistory.create_event(p, 'measured') FROM parcel AS p")
    call(connection, "create_event", "parcel", "1", "measured")
    assert events(connection, "parcel_event", "pgh_obj_id, w, area") == [(1, 3, 9)] * 2


def test_append_only_event_tables_take_events_by_hand(connection: Connection) -> None:
    track(connection, "users", "user.login", kind="event", append_only=True)
    call(connection, "create_event", "users", "1", "user.login")
    assert events(connection, "users_event") == ["S"]


# Who may


@pytest.mark.parametrize("privilege", ["INSERT", "UPDATE", "DELETE", "INSERT (name)", "UPDATE (age)"])
def test_whoever_may_write_rows_may_write_events(
    connection: Connection, connect: Connect, role: Callable[..., str], privilege: str
) -> None:
    writer = role("writer")
    track(connection, "users", "user.login", kind="event")
    connection.execute(f"GRANT SELECT, {privilege} ON users TO {writer}")
    session = connect(user=writer)
    call(session, "create_event", "users", "1", "user.login")
    session.execute("SELECT pghistory.create_event(u, 'user.login') FROM users AS u WHERE id = 2")
    assert events(connection, "users_event", "id") == [1, 2]


@pytest.mark.parametrize("privilege", ["SELECT", "SELECT, REFERENCES, TRIGGER, TRUNCATE"])
def test_whoever_may_not_write_rows_may_not_write_events(
    connection: Connection, connect: Connect, role: Callable[..., str], privilege: str
) -> None:
    reader = role("reader")
    track(connection, "users", "user.login", kind="event")
    connection.execute(f"GRANT {privilege} ON users TO {reader}")
    session = connect(user=reader)
    message = "permission denied to write events of table public.users"
    for query in (
        "SELECT pghistory.create_event('users', '1', 'user.login')",
        "SELECT pghistory.create_event(u, 'user.login') FROM users AS u",
        "SELECT pghistory.create_event(ROW(7, 'forged', 1)::users, 'user.login')",
    ):
        refused(session, errors.InsufficientPrivilege, message, query, inspector=connection)
    assert events(connection, "users_event") == []


def test_a_row_that_a_writer_may_not_see_makes_no_event(
    connection: Connection, connect: Connect, role: Callable[..., str]
) -> None:
    writer = role("writer")
    track(connection, "users", "user.login", kind="event")
    connection.execute(
        f"""GRANT SELECT, INSERT ON users TO {writer};
        ALTER TABLE users ENABLE ROW LEVEL SECURITY;
        CREATE POLICY adults ON users USING (age > 17)"""
    )
    session = connect(user=writer)
    refused(
        session,
        errors.NoDataFound,
        "table public.users has no row 2",
        "SELECT pghistory.create_event('users', '2', 'user.login')",
        inspector=connection,
    )
    call(session, "create_event", "users", "1", "user.login")
    assert events(connection, "users_event", "id") == [1]


def test_a_writer_may_not_call_the_function_behind_it(
    connection: Connection, connect: Connect, role: Callable[..., str]
) -> None:
    writer = role("writer")
    connection.execute(f"GRANT SELECT, INSERT ON users TO {writer}")
    track(connection, "users", "user.login", kind="event")
    function = value(
        connection,
        "SELECT oid::regproc::text FROM pg_proc WHERE prosrc ~ '_use_permit' AND proname ~ '^users_event'",
    )
    session = connect(user=writer)
    refused(
        session,
        errors.InsufficientPrivilege,
        r"events are written by hand with pghistory.create_event\(\) only|permission denied",
        f"SELECT {function}('user.login', '(7,forged,1)')",
        inspector=connection,
    )
    assert events(connection, "users_event") == []


# What is refused

NO_OBJECT = [
    (
        "SELECT pghistory.create_event('users', '3', 'login')",
        errors.NoDataFound,
        "table public.users has no row 3",
    ),
    (
        "SELECT pghistory.create_event('users', '1', 'logout')",
        errors.UndefinedObject,
        'has no tracker "logout"',
    ),
    (
        "SELECT pghistory.create_event(u, 'logout') FROM users AS u",
        errors.UndefinedObject,
        'has no tracker "logout"',
    ),
    (
        "SELECT pghistory.create_event('other', '1', 'login')",
        errors.UndefinedObject,
        'other has no tracker "login"',
    ),
    (
        "SELECT pghistory.create_event(o, 'login') FROM other AS o",
        errors.UndefinedObject,
        'has no tracker "login"',
    ),
    (
        "SELECT pghistory.create_event(1, 'login')",
        errors.WrongObjectType,
        "needs a row of a tracked table, not integer",
    ),
    (
        "SELECT pghistory.create_event('a'::text, 'login')",
        errors.WrongObjectType,
        "needs a row of a tracked table",
    ),
    (
        "SELECT pghistory.create_event(ROW(1, 2), 'login')",
        errors.WrongObjectType,
        "needs a row of a tracked table",
    ),
    ("SELECT pghistory.create_event(ROW(1)::pair, 'login')", errors.UndefinedObject, "has no tracker"),
    (
        "SELECT pghistory.create_event(NULL::users, 'login')",
        errors.NullValueNotAllowed,
        "record must not be null",
    ),
    (
        "SELECT pghistory.create_event(u, NULL) FROM users AS u",
        errors.NullValueNotAllowed,
        "label must not be null",
    ),
    (
        "SELECT pghistory.create_event(NULL, '1', 'login')",
        errors.NullValueNotAllowed,
        '"table" must not be null',
    ),
    (
        "SELECT pghistory.create_event('users', NULL, 'login')",
        errors.NullValueNotAllowed,
        "obj must not be null",
    ),
    (
        "SELECT pghistory.create_event('users', '1', NULL)",
        errors.NullValueNotAllowed,
        "label must not be null",
    ),
    (
        "SELECT pghistory.create_event('line', '1', 'seen')",
        errors.InvalidParameterValue,
        'key "1" does not name',
    ),
    (
        "SELECT pghistory.create_event('line', '[1, 2]', 'seen')",
        errors.InvalidParameterValue,
        "does not name an",
    ),
    (
        "SELECT pghistory.create_event('line', '{\"a\": 1}', 'seen')",
        errors.InvalidParameterValue,
        "does not name an",
    ),
    (
        "SELECT pghistory.create_event('line', '{\"a\": 1, \"b\": 2, \"c\": 3}', 'seen')",
        errors.InvalidParameterValue,
        "does not name an",
    ),
    (
        "SELECT pghistory.create_event('line', '{\"a\": 1, \"b\": 9}', 'seen')",
        errors.NoDataFound,
        "has no row",
    ),
    (
        "SELECT pghistory.create_event('line', '{\"a\": 1, \"b\": null}', 'seen')",
        errors.NoDataFound,
        "has no row",
    ),
]


def test_what_names_no_row_or_no_label_is_refused(connection: Connection) -> None:
    connection.execute(
        """CREATE TABLE other (id integer PRIMARY KEY); INSERT INTO other VALUES (1);
        CREATE TYPE pair AS (a integer);
        CREATE TABLE line (a integer, b integer, PRIMARY KEY (a, b)); INSERT INTO line VALUES (1, 2)"""
    )
    track(connection, "users", "login", kind="event")
    track(connection, "line", "seen", kind="event")
    for query, error, message in NO_OBJECT:
        refused(connection, error, message, query)
    with pytest.raises(errors.InvalidTextRepresentation):
        connection.execute("SELECT pghistory.create_event('users', 'x', 'login')")
    assert events(connection, "users_event") == []


def test_an_untracked_table_has_no_labels_even_where_nothing_was_ever_tracked(connection: Connection) -> None:
    refused(
        connection,
        errors.UndefinedObject,
        'table public.users has no tracker "login"',
        "SELECT pghistory.create_event('users', '1', 'login')",
    )


def test_a_label_that_was_removed_is_refused(connection: Connection) -> None:
    track(connection, "users", "login", kind="event")
    track(connection, "users", "logout", kind="event")
    call(connection, "untrack", "users", "login")
    query = "SELECT pghistory.create_event('users', '1', 'login')"
    refused(connection, errors.UndefinedObject, 'has no tracker "login"', query)
    call(connection, "create_event", "users", "1", "logout")


def test_a_missing_function_is_said_and_repaired(connection: Connection) -> None:
    track(connection, "users", "login", kind="event")
    function = value(
        connection, "SELECT oid::regprocedure::text FROM pg_proc WHERE proname = 'users_event_by_hand'"
    )
    connection.execute(f"DROP FUNCTION {function}")
    query = "SELECT pghistory.create_event('users', '1', 'login')"
    refused(
        connection,
        errors.ObjectNotInPrerequisiteState,
        "the function that writes events .* is missing",
        query,
    )
    connection.execute("SELECT pghistory.refresh()")
    connection.execute(query)
    assert events(connection, "users_event", "id") == [1]


def test_writing_by_hand_leaves_nothing_but_the_event(connection: Connection) -> None:
    track(connection, "users", "login", kind="event")
    before = catalog(connection)
    for _ in range(3):
        call(connection, "create_event", "users", "1", "login")
    assert catalog(connection) == before
