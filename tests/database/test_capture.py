"""capture(): nobody stays anonymous who should not."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from typing import Any

import psycopg
import pytest
from history import Connection, call, catalog, events, refused, rows, track, value, warnings_of

Connect = Callable[..., Connection]
ID = uuid.UUID("a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11")
KEYS = (
    "application_name",
    "backend_pid",
    "client_addr",
    "client_port",
    "current_user",
    "database",
    "query",
    "session_user",
    "transaction_start",
)
INSERT = "INSERT INTO users (name) VALUES ('Ann')"


@pytest.fixture(autouse=True)
def users(connection: Connection) -> None:
    connection.execute("CREATE TABLE users (id integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY, name text)")
    connection.execute("GRANT SELECT, INSERT, UPDATE, DELETE, TRUNCATE ON users TO PUBLIC")
    track(connection, "users", kind="history")


def session_facts(connection: Connection) -> dict[str, Any]:
    """What is kept under "session" of the context of the last event."""
    return dict(
        value(
            connection,
            """SELECT metadata -> 'session' FROM pghistory.context
                WHERE id = (SELECT pgh_context_id FROM users_event ORDER BY pgh_id DESC LIMIT 1)""",
        )
    )


def facts_of_transactions(connection: Connection) -> list[Any]:
    """What is kept of each transaction, in their order."""
    return [
        facts for (facts,) in rows(connection, "SELECT session FROM pghistory.context_part ORDER BY part")
    ]


def test_capture_has_the_signature_of_the_contract(connection: Connection) -> None:
    arguments = value(connection, "SELECT pg_get_function_arguments('pghistory.capture'::regproc)")
    assert arguments == "VARIADIC keys text[] DEFAULT '{}'::text[]"


def test_nothing_is_captured_until_it_is_called(connection: Connection) -> None:
    connection.execute(INSERT)
    with connection.transaction():
        call(connection, "set_context", '{"user": 1}')
        connection.execute(INSERT)
    assert [bool(context_id) for context_id in events(connection, "users_event", "pgh_context_id")] == [
        False,
        True,
    ]
    assert rows(connection, "SELECT metadata FROM pghistory.context") == [({"user": 1},)]


@pytest.mark.parametrize("key", KEYS)
def test_each_key_alone_is_captured(connection: Connection, connect: Connect, key: str) -> None:
    call(connection, "capture", key)
    writer = connect(application_name="the app")
    with writer.transaction():
        began = value(writer, "SELECT to_jsonb(now())")
        writer.execute(INSERT)
    expected = {
        "application_name": "the app",
        "backend_pid": writer.info.backend_pid,
        "client_addr": None,
        "client_port": None,
        "current_user": "postgres",
        "database": writer.info.dbname,
        "query": INSERT,
        "session_user": "postgres",
        "transaction_start": began,
    }
    assert session_facts(connection) == {key: expected[key]}


def test_the_address_of_a_client_is_captured(connection: Connection, connect: Connect) -> None:
    call(connection, "capture", "client_addr", "client_port")
    connect(host="127.0.0.1").execute(INSERT)
    facts = session_facts(connection)
    assert facts["client_addr"] == "127.0.0.1"
    assert facts["client_port"] > 0


def test_every_transaction_that_writes_events_has_a_context_of_its_own_if_it_set_none(
    connection: Connection,
) -> None:
    call(connection, "capture", "session_user")
    with connection.transaction():
        connection.execute(INSERT)
        connection.execute("UPDATE users SET name = 'Anna'")
    connection.execute(INSERT)
    first, second, third = events(connection, "users_event", "pgh_context_id")
    assert first is not None
    assert first == second != third
    assert rows(connection, "SELECT DISTINCT metadata FROM pghistory.context") == [
        ({"session": {"session_user": "postgres"}},)
    ]


def test_a_context_that_was_set_holds_the_facts_beside_its_metadata(connection: Connection) -> None:
    call(connection, "capture", "session_user", "database")
    with connection.transaction():
        call(connection, "set_context", '{"user": 1}', ID)
        connection.execute(INSERT)
    assert rows(connection, "SELECT id, metadata FROM pghistory.context") == [
        (ID, {"user": 1, "session": {"session_user": "postgres", "database": connection.info.dbname}})
    ]


def test_facts_are_kept_for_each_transaction_and_the_context_shows_the_latest(
    connection: Connection, connect: Connect
) -> None:
    call(connection, "capture", "application_name")
    for name in ("first", "second"):
        writer = connect(application_name=name)
        with writer.transaction():
            call(writer, "set_context", '{"user": 1}', ID)
            writer.execute(INSERT)
    assert facts_of_transactions(connection) == [
        {"application_name": "first"},
        {"application_name": "second"},
    ]
    assert session_facts(connection) == {"application_name": "second"}


def test_the_query_is_that_of_the_transactions_first_event(connection: Connection) -> None:
    call(connection, "capture", "query")
    with connection.transaction():
        connection.execute("SELECT * FROM users")
        connection.execute(INSERT)
        connection.execute("UPDATE users SET name = 'Anna'")
        call(connection, "set_context", '{"user": 1}', ID)
        connection.execute("DELETE FROM users")
    assert session_facts(connection) == {"query": INSERT}


def test_two_contexts_in_one_transaction_both_hold_the_facts(connection: Connection) -> None:
    call(connection, "capture", "session_user")
    with connection.transaction():
        connection.execute(INSERT)
        call(connection, "set_context", '{"user": 1}', ID)
        connection.execute(INSERT)
    assert len(set(events(connection, "users_event", "pgh_context_id"))) == 2
    assert all(facts == {"session_user": "postgres"} for facts in facts_of_transactions(connection))


def test_the_current_user_is_the_role_in_force_at_the_write(
    connection: Connection, connect: Connect, role: Callable[..., str]
) -> None:
    login, group = role("login"), role("team")
    connection.execute(f"GRANT {group} TO {login}")
    connection.execute(
        f"""CREATE FUNCTION add_user() RETURNS void LANGUAGE sql SECURITY DEFINER
            AS 'INSERT INTO public.users (name) VALUES (''by function'')';
        ALTER FUNCTION add_user() OWNER TO {group}"""
    )
    call(connection, "capture", "current_user", "session_user")
    writer = connect(user=login)
    writer.execute(INSERT)
    assert session_facts(connection) == {"current_user": login, "session_user": login}
    writer.execute(f"SET ROLE {group}")
    writer.execute("UPDATE users SET name = 'x'")
    assert session_facts(connection) == {"current_user": group, "session_user": login}
    writer.execute("RESET ROLE")
    writer.execute("SELECT add_user()")
    assert session_facts(connection) == {"current_user": group, "session_user": login}
    writer.execute("DELETE FROM users")
    assert session_facts(connection) == {"current_user": login, "session_user": login}
    connection.execute(INSERT)
    writer.execute("TRUNCATE users")
    assert session_facts(connection) == {"current_user": login, "session_user": login}


def test_the_current_user_of_an_event_written_by_hand_is_its_writer(
    connection: Connection, connect: Connect, role: Callable[..., str]
) -> None:
    writer = role("writer")
    connection.execute(INSERT)
    call(connection, "capture", "current_user")
    call(connect(user=writer), "create_event", "users", "1", "users.history")
    assert session_facts(connection) == {"current_user": writer}


@pytest.mark.parametrize(
    "forgery",
    [
        "SET pghistory.writer = 'somebody'",
        "SET pghistory.attached = ' '",
        "SET pghistory.attached = 'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11 {}'",
        "SET pghistory.capturing = off",
        "SET pghistory.context_id = 'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11'",
        'SET pghistory.context_metadata = \'{"session": {"current_user": "somebody"}}\'',
        "SET pghistory.context_id = 'nonsense'",
        "SET pghistory.warned = 'x'",
    ],
)
def test_a_writer_cannot_forge_or_evade_what_is_captured(
    connection: Connection, connect: Connect, role: Callable[..., str], forgery: str
) -> None:
    name = role("writer")
    call(connection, "capture", "current_user", "session_user")
    writer = connect(user=name)
    writer.execute(forgery)
    truth = {"current_user": name, "session_user": name}
    writer.execute(INSERT)
    assert session_facts(connection) == truth
    with writer.transaction():
        writer.execute(INSERT)
        writer.execute(forgery)
        writer.execute("UPDATE users SET name = 'x'")
        assert session_facts(connection) == truth
    assert facts_of_transactions(connection)
    assert all(facts == truth for facts in facts_of_transactions(connection))
    assert None not in events(connection, "users_event", "pgh_context_id")


def test_a_writer_cannot_name_another_role_while_he_writes(
    connection: Connection, connect: Connect, role: Callable[..., str]
) -> None:
    name = role("writer")
    call(connection, "capture", "current_user")
    writer = connect(user=name)
    forge = "set_config('pghistory.writer', 'somebody', true)"
    for statement in (
        f"INSERT INTO users (name) SELECT {forge}",
        f"UPDATE users SET name = {forge} || 'x'",
        f"DELETE FROM users WHERE {forge} IS NOT NULL",
        f"WITH forged AS (SELECT {forge} AS name) INSERT INTO users (name) SELECT name FROM forged",
    ):
        writer.execute(statement)
        assert session_facts(connection) == {"current_user": name}, statement


def test_a_forged_marker_cannot_name_a_context_that_is_not_kept(
    connection: Connection, connect: Connect
) -> None:
    call(connection, "capture", "session_user")
    writer = connect()
    with writer.transaction():
        writer.execute(
            """SELECT set_config('pghistory.context_id', %(id)s, true),
                      set_config('pghistory.attached', %(id)s || ' ', true)""",
            {"id": str(ID)},
        )
        writer.execute(INSERT)
    assert events(connection, "users_event", "pgh_context_id") == [ID]
    assert session_facts(connection) == {"session_user": "postgres"}


def test_what_the_writer_puts_under_session_is_ignored(connection: Connection) -> None:
    call(connection, "capture", "session_user")
    with connection.transaction():
        call(connection, "set_context", '{"user": 1, "session": {"session_user": "somebody else"}}', ID)
        connection.execute(INSERT)
        call(connection, "add_context", '{"session": "mine"}')
    assert rows(connection, "SELECT metadata FROM pghistory.context") == [
        ({"user": 1, "session": {"session_user": "postgres"}},)
    ]


def test_a_writer_cannot_switch_it_off(
    connection: Connection, connect: Connect, role: Callable[..., str]
) -> None:
    call(connection, "capture", "session_user")
    name = role("writer")
    writer = connect(user=name)
    message = "must be owner of extension pghistory"
    insufficient = psycopg.errors.InsufficientPrivilege
    refused(writer, insufficient, message, "SELECT pghistory.capture()", inspector=connection)
    refused(writer, insufficient, message, "SELECT pghistory.capture('query')", inspector=connection)
    for command in (
        "DELETE FROM pghistory.capture_key",
        "TRUNCATE pghistory.capture_key",
        "DROP TABLE pghistory.capture_key",
    ):
        with pytest.raises(insufficient):
            writer.execute(command)
    writer.execute(INSERT)
    assert session_facts(connection) == {"session_user": name}


def test_an_unknown_key_is_refused_and_the_others_stay(connection: Connection) -> None:
    call(connection, "capture", "session_user")
    for key in ("password", "", "Session_User", "session_user; DROP TABLE users"):
        refused(
            connection,
            psycopg.errors.InvalidParameterValue,
            f'unknown key "{key}"',
            "SELECT pghistory.capture('query', %s)",
            key,
        )
    refused(
        connection,
        psycopg.errors.NullValueNotAllowed,
        "key must not be null",
        "SELECT pghistory.capture(NULL)",
    )
    connection.execute(INSERT)
    assert session_facts(connection) == {"session_user": "postgres"}


def test_no_key_switches_it_off(connection: Connection) -> None:
    call(connection, "capture", "session_user", "current_user")
    connection.execute(INSERT)
    call(connection, "capture")
    connection.execute(INSERT)
    assert [bool(context_id) for context_id in events(connection, "users_event", "pgh_context_id")] == [
        True,
        False,
    ]


def test_a_later_call_replaces_the_keys(connection: Connection) -> None:
    call(connection, "capture", "session_user", "query")
    call(connection, "capture", "database", "database")
    connection.execute(INSERT)
    assert session_facts(connection) == {"database": connection.info.dbname}


def test_the_same_keys_again_change_nothing(connection: Connection) -> None:
    call(connection, "capture", "session_user", "current_user")
    before = catalog(connection)
    call(connection, "capture", "current_user", "session_user")
    assert catalog(connection) == before


def test_sessions_that_are_open_are_captured_at_once(connection: Connection, connect: Connect) -> None:
    writer = connect()
    for _ in range(10):
        writer.execute(INSERT, prepare=True)
    call(connection, "capture", "session_user", "current_user")
    writer.execute(INSERT, prepare=True)
    assert session_facts(connection) == {"session_user": "postgres", "current_user": "postgres"}
    call(connection, "capture")
    writer.execute(INSERT, prepare=True)
    assert events(connection, "users_event", "pgh_context_id")[-1] is None


def test_tables_tracked_later_are_captured_too(connection: Connection) -> None:
    call(connection, "capture", "current_user")
    connection.execute("CREATE TABLE orders (id integer PRIMARY KEY)")
    track(connection, "orders")
    connection.execute("INSERT INTO orders VALUES (1)")
    (context_id,) = events(connection, "orders_event", "pgh_context_id")
    metadata = value(connection, "SELECT metadata FROM pghistory.context WHERE id = %s", context_id)
    assert metadata == {"session": {"current_user": "postgres"}}


def test_inline_contexts_hold_the_facts_too(
    connection: Connection, connect: Connect, role: Callable[..., str]
) -> None:
    call(connection, "capture", "current_user")
    track(connection, "users", "inline", kind="history", context="inline", event_table="inline_event")
    writer = role("writer")
    session = connect(user=writer)
    session.execute(INSERT)
    with session.transaction():
        call(session, "set_context", '{"user": 1, "session": "forged"}', ID)
        session.execute(INSERT)
    first, second = events(connection, "inline_event", "pgh_context_id, pgh_context")
    assert first[0] is not None
    assert first[1] == {"session": {"current_user": writer}}
    assert second == (ID, {"user": 1, "session": {"current_user": writer}})


def test_tables_without_context_stay_without(connection: Connection) -> None:
    call(connection, "untrack", "users")
    track(connection, "users", context="none", event_table="bare_event")
    call(connection, "capture", "session_user")
    connection.execute(INSERT)
    assert events(connection, "bare_event") == ["I"]
    assert facts_of_transactions(connection) == []


def test_a_malformed_context_is_replaced_by_the_transactions_own(connection: Connection) -> None:
    call(connection, "capture", "session_user")
    with warnings_of(connection) as warnings, connection.transaction():
        connection.execute("SELECT set_config('pghistory.context_id', 'nonsense', true)")
        connection.execute("INSERT INTO users (name) SELECT 'x' FROM generate_series(1, 5)")
    assert len(warnings) == 1
    assert session_facts(connection) == {"session_user": "postgres"}
    assert len(set(events(connection, "users_event", "pgh_context_id"))) == 1


def test_a_rolled_back_savepoint_takes_its_facts_along(connection: Connection) -> None:
    call(connection, "capture", "session_user")
    with connection.transaction():
        with connection.transaction(force_rollback=True):
            connection.execute(INSERT)
        connection.execute(INSERT)
    assert facts_of_transactions(connection) == [{"session_user": "postgres"}]
    assert session_facts(connection) == {"session_user": "postgres"}


def test_capture_is_undone_with_its_transaction(connection: Connection) -> None:
    with connection.transaction(force_rollback=True):
        call(connection, "capture", "session_user")
    connection.execute(INSERT)
    assert events(connection, "users_event", "pgh_context_id") == [None]
