"""The data outlives the code: DROP EXTENSION, and taking up where it was."""

from __future__ import annotations

import uuid
from collections.abc import Callable

import psycopg
import pytest
from history import Connection, call, events, rows, track, triggers, value
from psycopg import errors

Connect = Callable[..., Connection]
ID = uuid.UUID("a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11")


@pytest.fixture(autouse=True)
def shop(connection: Connection) -> None:
    """Tables of several sorts, tracked in several ways, with some history and a context."""
    connection.execute(
        """CREATE TABLE users (id integer PRIMARY KEY, name text);
        CREATE TABLE sale (id integer PRIMARY KEY, total integer) PARTITION BY RANGE (id);
        CREATE TABLE sale_1 PARTITION OF sale FOR VALUES FROM (1) TO (10)"""
    )
    track(connection, "users", "history", kind="history")
    track(connection, "users", "Anns", kind="after_update", condition="new.name = 'Ann'", level="statement")
    track(connection, "users", "guarded", kind="after_insert", append_only=True, event_table="guarded_event")
    track(connection, "users", "inline", fields=["name"], context="inline")
    track(connection, "users", "tied", fields=["id"], obj_fk="cascade")
    track(connection, "users", "login", kind="event")
    track(connection, "sale", kind="history")
    with connection.transaction():
        call(connection, "set_context", '{"user": 1}', ID)
        connection.execute("INSERT INTO users VALUES (1, 'Ann'); INSERT INTO sale VALUES (1, 10)")
    call(connection, "capture", "session_user", "current_user")


def history(connection: Connection) -> dict[str, list[tuple[object, ...]]]:
    """All that must outlive the code: events, contexts, and the registry."""
    tables = (
        *("users_event", "guarded_event", "users_name_event", "users_id_event", "sale_event"),
        *("pghistory.context", "pghistory.context_part", "pghistory.event_table", "pghistory.event_column"),
        *("pghistory.tracker", "pghistory.capture_key"),
    )
    return {table: sorted(rows(connection, f"SELECT t::text FROM {table} AS t")) for table in tables}


def write(connection: Connection) -> None:
    connection.execute(
        """INSERT INTO users VALUES (2, 'Tim'); UPDATE users SET name = 'Ann'; DELETE FROM users WHERE id = 2;
        INSERT INTO sale VALUES (2, 20); UPDATE sale SET total = 0; TRUNCATE sale_1; TRUNCATE sale"""
    )


def test_drop_extension_needs_no_cascade_and_leaves_events_contexts_and_registry(
    connection: Connection,
) -> None:
    before = history(connection)
    connection.execute("DROP EXTENSION pghistory")
    assert history(connection) == before


def test_without_the_extension_tracked_tables_can_be_written(connection: Connection) -> None:
    connection.execute("DROP EXTENSION pghistory")
    before = history(connection)
    write(connection)
    connection.execute("TRUNCATE users CASCADE; ALTER TABLE sale ADD COLUMN note text")
    del before["users_id_event"]  # tied to its objects by a foreign key
    after = {table: found for table, found in history(connection).items() if table in before}
    assert after == before


def test_without_the_extension_no_code_is_left(connection: Connection) -> None:
    connection.execute("DROP EXTENSION pghistory")
    assert (
        triggers(connection, "users")
        == triggers(connection, "sale")
        == triggers(connection, "sale_1")
        == set()
    )
    assert rows(connection, "SELECT tgname FROM pg_trigger WHERE tgname ~ '^! ?pghistory'") == []
    assert rows(connection, "SELECT evtname FROM pg_event_trigger") == []
    functions = """SELECT oid::regprocedure FROM pg_proc
                    WHERE pronamespace = 'pghistory'::regnamespace
                       OR pronamespace = 'public'::regnamespace AND proname ~ '_event_'"""
    assert rows(connection, functions) == []


def test_without_the_extension_its_tables_are_ordinary_ones(connection: Connection) -> None:
    connection.execute("DROP EXTENSION pghistory")
    connection.execute(
        "UPDATE guarded_event SET name = 'x'; DELETE FROM users_event; DROP TABLE users_name_event"
    )
    connection.execute("DROP SCHEMA pghistory CASCADE")


def test_the_tables_are_no_members_of_the_extension(connection: Connection) -> None:
    members = rows(
        connection,
        """SELECT pg_describe_object(classid, objid, objsubid) FROM pg_depend
            WHERE refobjid = (SELECT oid FROM pg_extension WHERE extname = 'pghistory') AND deptype = 'e'""",
    )
    described = {description for (description,) in members}
    for table in ("context_part", "event_table", "event_column", "tracker", "capture_key"):
        assert f"table pghistory.{table}" not in described
    assert "view pghistory.context" not in described
    assert "schema pghistory" not in described


def test_creating_it_again_and_refresh_take_up_where_it_was(connection: Connection) -> None:
    trackers = rows(connection, "SELECT * FROM pghistory.trackers()")
    before = history(connection)
    connection.execute("DROP EXTENSION pghistory; INSERT INTO users VALUES (7, 'unseen')")
    connection.execute("CREATE EXTENSION pghistory")
    assert rows(connection, "SELECT * FROM pghistory.verify()") != []
    connection.execute("SELECT pghistory.refresh()")
    assert rows(connection, "SELECT * FROM pghistory.verify()") == []
    assert rows(connection, "SELECT * FROM pghistory.trackers()") == trackers
    assert history(connection) == before


def test_what_is_written_then_is_recorded_as_before(connection: Connection, connect: Connect) -> None:
    connection.execute("DROP EXTENSION pghistory; CREATE EXTENSION pghistory; SELECT pghistory.refresh()")
    for session in (connection, connect()):
        with session.transaction():
            call(session, "set_context", '{"again": true}', ID)
            write(session)
            call(session, "create_event", "users", "1", "login")
    columns = "pgh_operation, id, name"
    assert events(connection, "users_event", columns, "history") == [
        ("I", 1, "Ann"),
        *[("I", 2, "Tim"), ("U", 2, "Ann"), ("D", 2, "Ann")] * 2,
    ]
    assert events(connection, "users_event", "id", "login") == [1, 1]
    assert events(connection, "sale_event", "pgh_operation, id, total") == [
        *[("I", 1, 10), ("I", 2, 20), ("U", 1, 0), ("U", 2, 0), ("T", 1, 0), ("T", 2, 0)],
        *[("I", 2, 20), ("U", 2, 0), ("T", 2, 0)],
    ]
    assert rows(connection, "SELECT id, metadata FROM pghistory.context") == [
        (ID, {"user": 1, "again": True, "session": {"session_user": "postgres", "current_user": "postgres"}})
    ]
    with pytest.raises(errors.InsufficientPrivilege, match="append-only"):
        connection.execute("DELETE FROM guarded_event")


def test_ddl_that_happened_meanwhile_is_followed_by_refresh(connection: Connection) -> None:
    connection.execute("DROP EXTENSION pghistory")
    connection.execute(
        """ALTER TABLE users RENAME COLUMN name TO called;
        ALTER TABLE users ADD COLUMN age integer;
        ALTER TABLE sale ALTER COLUMN total TYPE numeric;
        CREATE TABLE sale_2 PARTITION OF sale FOR VALUES FROM (10) TO (20);
        ALTER TABLE users RENAME TO people"""
    )
    connection.execute("CREATE EXTENSION pghistory; SELECT pghistory.refresh()")
    connection.execute(
        "INSERT INTO people VALUES (2, 'Tim', 4); INSERT INTO sale VALUES (11, 1.5); TRUNCATE sale_2"
    )
    assert events(connection, "users_event", "called, age", "history") == [("Ann", None), ("Tim", 4)]
    found = events(connection, "sale_event", "pgh_operation, total::text")
    assert found == [("I", "10"), ("I", "1.5"), ("T", "1.5")]
    assert rows(connection, "SELECT * FROM pghistory.verify()") == []


def test_a_table_that_was_dropped_meanwhile_keeps_its_events_for_the_next_of_its_name(
    connection: Connection,
) -> None:
    connection.execute("DROP EXTENSION pghistory; DROP TABLE sale")
    connection.execute("CREATE EXTENSION pghistory; SELECT pghistory.refresh()")
    assert "sale" not in str(rows(connection, "SELECT label FROM pghistory.trackers()"))
    assert rows(connection, "SELECT * FROM pghistory.verify()") == []
    connection.execute("CREATE TABLE sale (id integer PRIMARY KEY, total integer)")
    assert track(connection, "sale", kind="history") == "sale_event"
    connection.execute("INSERT INTO sale VALUES (5, 50)")
    assert events(connection, "sale_event", "id, total") == [(1, 10), (5, 50)]


def test_an_event_table_that_was_dropped_meanwhile_ends_its_trackers(connection: Connection) -> None:
    connection.execute("DROP EXTENSION pghistory; DROP TABLE sale_event")
    connection.execute("CREATE EXTENSION pghistory; SELECT pghistory.refresh()")
    connection.execute("INSERT INTO sale VALUES (5, 50); TRUNCATE sale")
    assert rows(connection, "SELECT * FROM pghistory.verify()") == []
    assert triggers(connection, "sale") == set()


def test_it_can_go_and_come_several_times(connection: Connection) -> None:
    for number in range(3):
        connection.execute("DROP EXTENSION pghistory; CREATE EXTENSION pghistory; SELECT pghistory.refresh()")
        connection.execute(f"UPDATE users SET name = 'name {number}'")
    assert events(connection, "users_event", "name", "history") == ["Ann", "name 0", "name 1", "name 2"]


def test_tracking_again_is_as_good_as_refresh(connection: Connection) -> None:
    connection.execute("DROP EXTENSION pghistory; CREATE EXTENSION pghistory")
    assert track(connection, "sale", kind="history") == "sale_event"
    connection.execute("INSERT INTO sale VALUES (5, 50)")
    assert events(connection, "sale_event", "id") == [1, 5]


def test_dropping_it_with_cascade_leaves_the_same(connection: Connection) -> None:
    before = history(connection)
    connection.execute("DROP EXTENSION pghistory CASCADE")
    assert history(connection) == before
    write(connection)


def test_an_extension_that_tracked_nothing_can_go_and_come(server: object, empty_database: str) -> None:
    with psycopg.connect(empty_database, autocommit=True) as session:
        session.execute("CREATE EXTENSION pghistory; DROP EXTENSION pghistory; CREATE EXTENSION pghistory")
        session.execute("CREATE TABLE t (id integer PRIMARY KEY)")
        track(session, "t")
        session.execute("INSERT INTO t VALUES (1)")
        assert events(session, "t_event", "id") == [1]


def test_a_schema_that_somebody_else_prepared_is_refused(
    empty_database: str, role: Callable[..., str]
) -> None:
    name = role("somebody")
    with psycopg.connect(empty_database, autocommit=True) as session:
        session.execute(f"CREATE SCHEMA pghistory AUTHORIZATION {name}")
        session.execute(
            f"""SET ROLE {name};
            CREATE FUNCTION pghistory.evil() RETURNS void LANGUAGE sql AS '';
            RESET ROLE"""
        )
        message = f'schema "pghistory" belongs to role "{name}" and is not empty'
        with pytest.raises(errors.InsufficientPrivilege, match=message) as caught:
            session.execute("CREATE EXTENSION pghistory")
        assert caught.value.diag.message_hint
        assert (
            value(session, "SELECT count(*) FROM pg_proc WHERE pronamespace = 'pghistory'::regnamespace") == 1
        )
        session.execute("DROP FUNCTION pghistory.evil()")
        session.execute("CREATE EXTENSION pghistory")
        assert (
            value(session, "SELECT nspowner::regrole::text FROM pg_namespace WHERE nspname = 'pghistory'")
            == "postgres"
        )
