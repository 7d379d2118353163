"""Contexts: the two settings, the functions that set them, and what is kept of them."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable

import psycopg
import pytest
from history import LEVELS, Connection, call, events, refused, rows, track, value, warnings_of

Connect = Callable[..., Connection]
ID = uuid.UUID("a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11")
OTHER = uuid.UUID("b0eebc99-9c0b-4ef8-bb6d-6bb9bd380a22")
INSERT = "INSERT INTO users (name) VALUES ('Ann')"


@pytest.fixture(autouse=True)
def users(connection: Connection) -> None:
    connection.execute("CREATE TABLE users (id integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY, name text)")


def set_settings(connection: Connection, context_id: object, metadata: str) -> None:
    connection.execute(
        "SELECT set_config('pghistory.context_id', %s, true), "
        "set_config('pghistory.context_metadata', %s, true)",
        [str(context_id), metadata],
    )


def contexts(connection: Connection) -> dict[uuid.UUID, dict[str, object]]:
    """The metadata of each context that had an event."""
    return dict(rows(connection, "SELECT id, metadata FROM pghistory.context"))


# The two settings


def test_two_settings_give_the_events_of_a_transaction_their_context(connection: Connection) -> None:
    track(connection, "users")
    with connection.transaction():
        set_settings(connection, ID, '{"user": 1, "url": "/signup"}')
        connection.execute(INSERT)
        connection.execute("UPDATE users SET name = 'Anna'")
    connection.execute("UPDATE users SET name = 'Annie'")
    assert events(connection, "users_event", "pgh_context_id") == [ID, ID, None]
    assert contexts(connection) == {ID: {"user": 1, "url": "/signup"}}


def test_settings_and_statement_may_come_in_one_string_as_django_pghistory_sends_them(
    connection: Connection,
) -> None:
    track(connection, "users")
    connection.execute(INSERT)
    connection.execute(
        f"""SELECT set_config('pghistory.context_id', '{ID}', true),
                   set_config('pghistory.context_metadata', '{{"user": 1}}', true);
        UPDATE users SET name = 'Anna' WHERE id = 1"""
    )
    assert events(connection, "users_event", "pgh_context_id") == [None, ID]
    assert contexts(connection) == {ID: {"user": 1}}


def test_settings_for_the_session_give_context_too(connection: Connection) -> None:
    track(connection, "users")
    connection.execute(f"SET pghistory.context_id = '{ID}'")
    connection.execute(INSERT)
    connection.execute(INSERT)
    assert events(connection, "users_event", "pgh_context_id") == [ID, ID]
    assert contexts(connection) == {ID: {}}


def test_an_id_alone_is_a_context_and_metadata_alone_is_none(connection: Connection) -> None:
    track(connection, "users")
    with connection.transaction():
        set_settings(connection, "", '{"user": 1}')
        connection.execute(INSERT)
    with connection.transaction():
        set_settings(connection, ID, "")
        connection.execute(INSERT)
    assert events(connection, "users_event", "pgh_context_id") == [None, ID]
    assert contexts(connection) == {ID: {}}


def test_without_context_the_event_is_written_all_the_same(connection: Connection) -> None:
    track(connection, "users")
    with warnings_of(connection) as warnings:
        connection.execute(INSERT)
    assert events(connection, "users_event", "pgh_context_id") == [None]
    assert contexts(connection) == {}
    assert warnings == []


def test_a_context_without_event_is_not_kept(connection: Connection) -> None:
    track(connection, "users")
    with connection.transaction():
        call(connection, "set_context", '{"user": 1}', ID)
        connection.execute("UPDATE users SET name = 'nobody'")
        connection.execute("SELECT * FROM users")
    assert contexts(connection) == {}


@pytest.mark.parametrize("level", LEVELS)
def test_every_row_of_every_statement_has_the_context(connection: Connection, level: str) -> None:
    track(connection, "users", kind="history", level=level)
    with connection.transaction():
        set_settings(connection, ID, "{}")
        connection.execute("INSERT INTO users (name) SELECT 'x' FROM generate_series(1, 20)")
        connection.execute("UPDATE users SET name = 'y'; DELETE FROM users WHERE id < 10; TRUNCATE users")
    assert set(events(connection, "users_event", "pgh_context_id")) == {ID}
    assert value(connection, "SELECT count(*) FROM pghistory.context_part") == 1


# The functions


def test_set_context_starts_a_context_and_returns_its_id(connection: Connection) -> None:
    track(connection, "users")
    with connection.transaction():
        started = call(connection, "set_context", '{"user": 1}')
        connection.execute(INSERT)
    assert isinstance(started, uuid.UUID)
    assert events(connection, "users_event", "pgh_context_id") == [started]
    assert contexts(connection) == {started: {"user": 1}}


def test_set_context_without_arguments_starts_an_empty_one(connection: Connection) -> None:
    with connection.transaction():
        started = call(connection, "set_context")
        assert rows(connection, "SELECT * FROM pghistory.current_context()") == [(started, {})]


def test_set_context_takes_an_id(connection: Connection) -> None:
    with connection.transaction():
        assert call(connection, "set_context", '{"a": 1}', ID) == ID
        assert rows(connection, "SELECT * FROM pghistory.current_context()") == [(ID, {"a": 1})]


def test_set_context_adds_to_the_active_context_and_later_keys_win(connection: Connection) -> None:
    track(connection, "users")
    with connection.transaction():
        call(connection, "set_context", '{"user": 1, "url": "/a"}', ID)
        connection.execute(INSERT)
        assert call(connection, "set_context", '{"url": "/b", "step": 2}') == ID
        assert call(connection, "set_context", '{"step": 3}', ID) == ID
        connection.execute(INSERT)
    assert contexts(connection) == {ID: {"user": 1, "url": "/b", "step": 3}}


def test_set_context_with_another_id_starts_another_context(connection: Connection) -> None:
    track(connection, "users")
    with connection.transaction():
        call(connection, "set_context", '{"user": 1}', ID)
        connection.execute(INSERT)
        assert call(connection, "set_context", '{"task": 2}', OTHER) == OTHER
        connection.execute(INSERT)
    assert events(connection, "users_event", "pgh_context_id") == [ID, OTHER]
    assert contexts(connection) == {ID: {"user": 1}, OTHER: {"task": 2}}


def test_a_context_ends_with_its_transaction(connection: Connection) -> None:
    with connection.transaction():
        call(connection, "set_context", '{"user": 1}')
    assert rows(connection, "SELECT * FROM pghistory.current_context()") == [(None, None)]


def test_a_context_that_is_not_local_lasts_for_the_session(connection: Connection, connect: Connect) -> None:
    call(connection, "set_context", '{"user": 1}', ID, is_local=False)
    assert rows(connection, "SELECT * FROM pghistory.current_context()") == [(ID, {"user": 1})]
    assert rows(connect(), "SELECT * FROM pghistory.current_context()") == [(None, None)]


def test_adding_to_a_session_context_for_the_transaction_leaves_it_as_it_was(connection: Connection) -> None:
    call(connection, "set_context", '{"user": 1}', ID, is_local=False)
    with connection.transaction():
        call(connection, "add_context", '{"step": 1}')
        assert rows(connection, "SELECT * FROM pghistory.current_context()") == [(ID, {"user": 1, "step": 1})]
    assert rows(connection, "SELECT * FROM pghistory.current_context()") == [(ID, {"user": 1})]


def test_add_context_adds_only_if_a_context_is_active(connection: Connection) -> None:
    track(connection, "users")
    with connection.transaction():
        assert call(connection, "add_context", '{"step": 1}') is None
        connection.execute(INSERT)
        call(connection, "set_context", '{"user": 1}', ID)
        assert call(connection, "add_context", '{"step": 2}') == ID
        connection.execute(INSERT)
    assert events(connection, "users_event", "pgh_context_id") == [None, ID]
    assert contexts(connection) == {ID: {"user": 1, "step": 2}}


def test_what_is_added_after_the_last_event_is_kept(connection: Connection) -> None:
    track(connection, "users")
    with connection.transaction():
        call(connection, "set_context", '{"user": 1}', ID)
        connection.execute(INSERT)
        call(connection, "add_context", '{"status": 200}')
    assert contexts(connection) == {ID: {"user": 1, "status": 200}}


def test_what_is_added_in_a_transaction_without_event_is_not_kept(connection: Connection) -> None:
    track(connection, "users")
    with connection.transaction():
        call(connection, "set_context", '{"user": 1}', ID)
        connection.execute(INSERT)
    with connection.transaction():
        call(connection, "set_context", '{"user": 1}', ID)
        call(connection, "add_context", '{"status": 200}')
    assert contexts(connection) == {ID: {"user": 1}}


def test_what_is_added_before_the_first_event_is_kept_with_it(connection: Connection) -> None:
    track(connection, "users")
    with connection.transaction():
        call(connection, "set_context", '{"user": 1}', ID)
        call(connection, "add_context", '{"step": 1}')
        connection.execute(INSERT)
    assert contexts(connection) == {ID: {"user": 1, "step": 1}}


def test_clear_context_ends_it(connection: Connection) -> None:
    track(connection, "users")
    with connection.transaction():
        call(connection, "set_context", '{"user": 1}', ID)
        connection.execute(INSERT)
        call(connection, "clear_context")
        assert rows(connection, "SELECT * FROM pghistory.current_context()") == [(None, None)]
        connection.execute(INSERT)
    assert events(connection, "users_event", "pgh_context_id") == [ID, None]


def test_clear_context_ends_one_of_the_session(connection: Connection) -> None:
    call(connection, "set_context", '{"user": 1}', ID, is_local=False)
    call(connection, "clear_context")
    assert rows(connection, "SELECT * FROM pghistory.current_context()") == [(None, None)]


def test_clear_context_without_context_does_nothing(connection: Connection) -> None:
    call(connection, "clear_context")
    assert rows(connection, "SELECT * FROM pghistory.current_context()") == [(None, None)]


@pytest.mark.parametrize("function", ["set_context", "add_context"])
@pytest.mark.parametrize("metadata", ["[1, 2]", '"text"', "1", "true", "null"])
def test_metadata_must_be_an_object(connection: Connection, function: str, metadata: str) -> None:
    refused(
        connection,
        psycopg.errors.InvalidParameterValue,
        "context metadata is .*, not an object",
        f"SELECT pghistory.{function}(%s)",
        metadata,
    )


def test_metadata_that_is_null_is_none(connection: Connection) -> None:
    with connection.transaction():
        call(connection, "set_context", None, ID)
        assert rows(connection, "SELECT * FROM pghistory.current_context()") == [(ID, {})]


def test_metadata_may_hold_anything_that_json_can(connection: Connection) -> None:
    track(connection, "users")
    metadata = {
        "quote'\"": ["%s %I", "back\\slash", "{}", "new\nline", "Größe 表 😀"],
        "": {"deep": {"er": [None, True, 1.5, -7, "x" * 10_000]}},
        "session": "mine",
    }
    with connection.transaction():
        call(connection, "set_context", json.dumps(metadata), ID)
        connection.execute(INSERT)
    assert contexts(connection) == {ID: metadata}


def test_the_functions_of_contexts_have_the_signatures_of_the_contract(connection: Connection) -> None:
    signatures = rows(
        connection,
        """SELECT format('%s(%s) %s', proname, pg_get_function_arguments(oid), pg_get_function_result(oid))
             FROM pg_proc
            WHERE pronamespace = 'pghistory'::regnamespace
              AND proname IN ('set_context', 'add_context', 'clear_context', 'current_context')
            ORDER BY proname""",
    )
    assert [signature for (signature,) in signatures] == [
        "add_context(metadata jsonb) uuid",
        "clear_context() void",
        "current_context(OUT id uuid, OUT metadata jsonb) record",
        "set_context(metadata jsonb DEFAULT '{}'::jsonb, id uuid DEFAULT NULL::uuid, "
        "is_local boolean DEFAULT true) uuid",
    ]


# What is kept


def test_a_context_accumulates_over_transactions_and_connections(
    connection: Connection, connect: Connect
) -> None:
    track(connection, "users")
    for number, session in enumerate((connection, connect(), connect())):
        with session.transaction():
            set_settings(session, ID, json.dumps({"user": 1, "step": number, f"seen {number}": True}))
            session.execute(INSERT)
    assert contexts(connection) == {
        ID: {"user": 1, "step": 2, "seen 0": True, "seen 1": True, "seen 2": True},
    }
    assert events(connection, "users_event", "pgh_context_id") == [ID] * 3


def test_a_context_shows_when_it_began_and_when_it_was_last_used(connection: Connection) -> None:
    track(connection, "users")
    times = []
    for _ in range(2):
        with connection.transaction():
            set_settings(connection, ID, "{}")
            connection.execute(INSERT)
            times.append(value(connection, "SELECT now()"))
    assert rows(connection, "SELECT created_at, updated_at FROM pghistory.context") == [(times[0], times[1])]


def test_events_of_several_tables_share_a_context(connection: Connection) -> None:
    connection.execute("CREATE TABLE orders (id integer PRIMARY KEY)")
    track(connection, "users")
    track(connection, "orders")
    with connection.transaction():
        set_settings(connection, ID, '{"user": 1}')
        connection.execute(INSERT)
        connection.execute("INSERT INTO orders VALUES (1)")
    assert events(connection, "users_event", "pgh_context_id") == [ID]
    assert events(connection, "orders_event", "pgh_context_id") == [ID]
    assert value(connection, "SELECT count(*) FROM pghistory.context") == 1


def test_a_context_whose_first_event_was_rolled_back_is_kept_with_the_next(connection: Connection) -> None:
    track(connection, "users")
    with connection.transaction():
        set_settings(connection, ID, '{"user": 1}')
        with connection.transaction(force_rollback=True):
            connection.execute(INSERT)
        connection.execute(INSERT)
    assert events(connection, "users_event", "pgh_context_id") == [ID]
    assert contexts(connection) == {ID: {"user": 1}}


def test_what_was_added_in_a_savepoint_that_was_rolled_back_is_gone(connection: Connection) -> None:
    track(connection, "users")
    with connection.transaction():
        call(connection, "set_context", '{"user": 1}', ID)
        connection.execute(INSERT)
        with connection.transaction(force_rollback=True):
            call(connection, "set_context", '{"user": 2}')
            connection.execute(INSERT)
        assert rows(connection, "SELECT * FROM pghistory.current_context()") == [(ID, {"user": 1})]
        connection.execute(INSERT)
    assert contexts(connection) == {ID: {"user": 1}}


def test_a_context_of_a_transaction_that_was_rolled_back_is_not_kept(connection: Connection) -> None:
    track(connection, "users")
    with connection.transaction(force_rollback=True):
        set_settings(connection, ID, '{"user": 1}')
        connection.execute(INSERT)
    assert contexts(connection) == {}


def test_two_contexts_in_turn_in_one_transaction_are_both_kept(connection: Connection) -> None:
    track(connection, "users")
    with connection.transaction():
        for step, context_id in enumerate((ID, OTHER, ID, OTHER, OTHER)):
            set_settings(connection, context_id, json.dumps({"step": step}))
            connection.execute(INSERT)
    assert events(connection, "users_event", "pgh_context_id") == [ID, OTHER, ID, OTHER, OTHER]
    assert contexts(connection) == {ID: {"step": 2}, OTHER: {"step": 4}}


def test_one_context_in_two_transactions_at_once_does_not_wait(
    connection: Connection, connect: Connect
) -> None:
    track(connection, "users")
    other = connect()
    for session in (connection, other):
        session.execute("SET lock_timeout = '1s'")
    with connection.transaction():
        set_settings(connection, ID, '{"one": 1}')
        connection.execute(INSERT)
        with other.transaction():
            set_settings(other, ID, '{"two": 2}')
            other.execute(INSERT)
        call(connection, "add_context", '{"three": 3}')
    assert contexts(connection) == {ID: {"one": 1, "two": 2, "three": 3}}


# Inline and none


def test_an_inline_context_is_in_the_event_itself(connection: Connection) -> None:
    track(connection, "users", kind="history", context="inline")
    connection.execute(INSERT)
    with connection.transaction():
        set_settings(connection, ID, '{"user": 1}')
        connection.execute(INSERT)
        call(connection, "add_context", '{"step": 2}')
        connection.execute("DELETE FROM users WHERE id = 1; TRUNCATE users")
    assert events(connection, "users_event", "pgh_operation, pgh_context_id, pgh_context") == [
        ("I", None, None),
        ("I", ID, {"user": 1}),
        ("D", ID, {"user": 1, "step": 2}),
        ("T", ID, {"user": 1, "step": 2}),
    ]
    assert value(connection, "SELECT count(*) FROM pghistory.context_part") == 0


def test_no_context_leaves_none(connection: Connection) -> None:
    track(connection, "users", context="none")
    with connection.transaction():
        set_settings(connection, ID, '{"user": 1}')
        connection.execute(INSERT)
    assert contexts(connection) == {}
    assert [
        name
        for (name,) in rows(
            connection,
            """SELECT attname::text FROM pg_attribute
            WHERE attrelid = 'users_event'::regclass AND attname ~ '^pgh_context'""",
        )
    ] == []


# What cannot be read

DEEP = '{"a":' * 7000 + "1" + "}" * 7000

MALFORMED = [
    ("not a uuid", '{"user": 1}', None),
    (ID, "no JSON", ID),
    (ID, '{"unfinished": ', ID),
    (ID, "[1, 2]", ID),
    (ID, '"text"', ID),
    (ID, "7", ID),
    (ID, "null", ID),
    (ID, '{"nul": "\\u0000"}', ID),
    (ID, DEEP, ID),
    ("not a uuid", "no JSON", None),
    ("a0eebc99-9c0b-4ef8-bb6d", "", None),
    (f"{ID}'; DROP TABLE users; --", "{}", None),
]


@pytest.mark.parametrize(("given", "metadata", "context_id"), MALFORMED, ids=lambda part: str(part)[:20])
def test_a_malformed_context_never_fails_a_write_and_warns_once_a_statement(
    connection: Connection, given: object, metadata: str, context_id: uuid.UUID | None
) -> None:
    connection.execute("SET max_stack_depth = '100kB'")
    for context in ("reference", "inline"):
        for level in ("row", "statement"):
            table = f"{context}_{level}"
            connection.execute(f"CREATE TABLE {table} (LIKE users INCLUDING ALL)")
            track(connection, table, kind="history", level=level, context=context)
            with warnings_of(connection) as warnings, connection.transaction():
                set_settings(connection, given, metadata)
                for number, statement in enumerate(
                    (
                        f"INSERT INTO {table} (name) SELECT 'x' FROM generate_series(1, 5)",
                        f"UPDATE {table} SET name = 'y'",
                        f"TRUNCATE {table}",
                    ),
                    start=1,
                ):
                    connection.execute(statement)
                    assert len(warnings) == number
            written = events(connection, f"{table}_event", "pgh_operation, pgh_context_id")
            assert written == [(letter, context_id) for letter in "IUT" for _ in range(5)]
            assert {warning.split(": ")[0] for warning in warnings} == {
                "context of the event could not be read"
            }
    assert contexts(connection) == ({context_id: {}} if context_id else {})


def test_an_unusual_spelling_of_a_uuid_is_read(connection: Connection) -> None:
    track(connection, "users")
    with warnings_of(connection) as warnings, connection.transaction():
        for spelling in (str(ID).upper(), f"{{{ID}}}", ID.hex):
            set_settings(connection, spelling, "{}")
            connection.execute(INSERT)
            connection.execute(INSERT)
    assert events(connection, "users_event", "pgh_context_id") == [ID] * 6
    assert warnings == []


@pytest.mark.parametrize("context", ["reference", "inline"])
def test_large_metadata_is_kept(connection: Connection, context: str) -> None:
    track(connection, "users", context=context)
    metadata = {f"key {number}": "x" * 1000 for number in range(2000)}
    with connection.transaction():
        set_settings(connection, ID, json.dumps(metadata))
        connection.execute(INSERT)
    if context == "reference":
        assert contexts(connection) == {ID: metadata}
    else:
        assert events(connection, "users_event", "pgh_context") == [metadata]


def test_a_malformed_setting_does_not_stand_in_the_way_of_a_new_context(connection: Connection) -> None:
    track(connection, "users")
    with connection.transaction():
        set_settings(connection, "nonsense", "nonsense")
        assert rows(connection, "SELECT * FROM pghistory.current_context()") == [(None, None)]
        assert call(connection, "add_context", '{"a": 1}') is None
        started = call(connection, "set_context", '{"a": 1}')
        connection.execute(INSERT)
    assert contexts(connection) == {started: {"a": 1}}


def test_client_messages_and_errors_elsewhere_are_not_disturbed(connection: Connection) -> None:
    track(connection, "users")
    connection.execute("SET client_min_messages = error")
    with warnings_of(connection) as warnings, connection.transaction():
        set_settings(connection, "nonsense", "")
        connection.execute(INSERT)
    assert warnings == []
    assert events(connection, "users_event") == ["I"]
