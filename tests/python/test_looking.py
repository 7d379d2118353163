"""Looking back from Python: events and rows that stream, and what they are."""

from __future__ import annotations

import gc
from collections.abc import Callable
from dataclasses import FrozenInstanceError
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import psycopg
import pytest
from psycopg import pq
from psycopg.rows import dict_row
from psycopg.types.range import Range

import pyhist
from pyhist.calls import BATCH

Functions = Any
MANY = 3 * BATCH + 7


def rows(connection: Any, sql: str) -> list[Any]:
    found: list[Any] = connection.execute(sql).fetchall()
    return found


def cursors(connection: Any) -> list[str]:
    """The cursors that the server has for this session."""
    return [name for (name,) in rows(connection, "SELECT name FROM pg_cursors WHERE name LIKE 'pyhist%'")]


@pytest.fixture
def tracked(pair: tuple[Functions, Any]) -> tuple[Functions, Any]:
    """Functions and a connection as of `pair`, to a database that tracks its tables `users` and `lines`."""
    functions, connection = pair
    connection.execute("ALTER TABLE users ADD balance numeric(8,2)")
    functions.track(connection, "users", pyhist.History("user"))
    functions.track(connection, "lines", pyhist.History("line"))
    return pair


@pytest.fixture
def many(tracked: tuple[Functions, Any]) -> tuple[Functions, Any]:
    """With as many events of `users` as need several batches."""
    _, connection = tracked
    connection.execute(f"INSERT INTO users SELECT n, 'user ' || n FROM generate_series(1, {MANY}) AS n")
    return tracked


def test_an_event_says_what_happened_when_and_why(tracked: tuple[Functions, Any]) -> None:
    functions, connection = tracked
    connection.execute("INSERT INTO users VALUES (1, 'ann', 'a@b.c', 1.50)")
    with connection.transaction():
        context_id = functions.set_context(connection, {"user": 7, "ratio": 0.5})
        connection.execute("UPDATE users SET balance = 1.5, email = NULL")
        connection.execute("UPDATE users SET balance = 12345.67")
        (transaction,) = rows(connection, "SELECT pg_current_xact_id()::text::bigint, now()")
    latest, second, first = functions.events(connection, "users", 1)
    assert latest == pyhist.RecordedEvent(
        id=3,
        label="user",
        operation="U",
        data={"id": 1, "username": "ann", "email": None, "balance": Decimal("12345.67")},
        diff={"balance": [Decimal("1.50"), Decimal("12345.67")]},
        context={"user": 7, "ratio": 0.5},
        context_id=context_id,
        created_at=transaction[1],
        xid=transaction[0],
        table="users",
        event_table="users_event",
        object="1",
        slug="public.users_event:3",
    )
    assert isinstance(latest.context_id, UUID)
    assert isinstance(latest.created_at, datetime)
    assert isinstance(latest.context["ratio"], float)
    assert second.diff == {"email": ["a@b.c", None]}
    assert (first.operation, first.diff, first.context, first.context_id) == ("I", None, None, None)
    assert str(first.data["balance"]) == "1.50"
    with pytest.raises(FrozenInstanceError):
        first.label = "other"


def test_events_are_those_that_are_asked_for(tracked: tuple[Functions, Any]) -> None:
    functions, connection = tracked
    functions.track(connection, "users", pyhist.Event("login"))
    connection.execute("INSERT INTO users VALUES (1), (2); INSERT INTO lines VALUES (1, 2)")
    functions.create_event(connection, "users", 1, label="login")
    with connection.transaction():
        context_id = functions.set_context(connection, {"user": 7})
        connection.execute("UPDATE users SET username = 'x' WHERE id = 2")

    def asked(*arguments: Any, **options: Any) -> list[tuple[str | None, str, str | None]]:
        found = functions.events(connection, *arguments, **options)
        return [(event.table, event.operation, event.object) for event in found]

    update, login = ("users", "U", "2"), ("users", "S", "1")
    inserts = [("users", "I", "2"), ("users", "I", "1")]
    line = ("lines", "I", '{"item": 2, "number": 1}')
    assert sorted(asked()) == sorted([update, login, line, *inserts])
    assert asked("users") == [update, login, *inserts]
    assert asked("users", "1") == [login, inserts[1]]
    assert asked("lines", {"number": 1, "item": 2}) == [line]
    assert asked("lines", line[2]) == [line]
    assert asked(label="login") == [login]
    assert asked(context_id=context_id) == asked(context_id=str(context_id)) == [update]
    assert asked("users", max_rows=2) == [update, login]
    updated = next(iter(functions.events(connection, "users", 2))).created_at
    assert asked("users", since=updated) == asked("users", since=updated.isoformat()) == [update]
    assert asked("users", until=updated) == [login, *inserts]
    assert asked(since=updated + timedelta(hours=1)) == []
    assert asked(until=updated.date() - timedelta(days=1)) == []


def test_references_bring_the_rows_that_point_at_the_object(tracked: tuple[Functions, Any]) -> None:
    functions, connection = tracked
    connection.execute("ALTER TABLE lines ADD user_id integer REFERENCES users")
    connection.execute("INSERT INTO users VALUES (1), (2); INSERT INTO lines VALUES (1, 1, 1), (1, 2, 2)")
    found = {(event.table, event.object) for event in functions.references(connection, "users", 1)}
    assert found == {("users", "1"), ("lines", '{"item": 1, "number": 1}')}
    (event,) = functions.references(connection, "users", obj="1", label="line", max_rows=1)
    assert event.data == {"number": 1, "item": 1, "user_id": 1}


def test_large_results_are_asked_for_in_batches(many: tuple[Functions, Any]) -> None:
    functions, connection = many
    events = iter(functions.events(connection))
    assert next(events).object == str(MANY)
    (cursor,) = cursors(connection)
    # The server's cursor stands behind the first batch, and before the second.
    assert rows(connection, f"FETCH 1 FROM {cursor}")[0][0] == MANY - BATCH
    assert [next(events).object for _ in range(BATCH)][-2:] == [
        str(MANY - BATCH + 1),
        str(MANY - BATCH - 1),
    ]
    assert rows(connection, f"FETCH 1 FROM {cursor}")[0][0] == MANY - 2 * BATCH - 1
    assert len(list(events)) == MANY - BATCH - 1 - 2
    assert cursors(connection) == []


@pytest.mark.parametrize("autocommit", [True, False])
@pytest.mark.parametrize("count", [0, 1, BATCH - 1, BATCH, BATCH + 1, 8 * BATCH])
def test_every_event_comes_once(tracked: tuple[Functions, Any], autocommit: bool, count: int) -> None:
    functions, connection = tracked
    connection.execute(f"INSERT INTO users SELECT generate_series(1, {count})")
    connection.set_autocommit(autocommit)
    found = [event.data["id"] for event in functions.events(connection, "users")]
    assert found == list(range(count, 0, -1))
    assert cursors(connection) == []


def test_in_autocommit_what_is_done_between_two_events_is_done(
    many: tuple[Functions, Any], connect: Callable[..., psycopg.Connection[Any]]
) -> None:
    functions, connection = many
    for event in functions.events(connection, "users"):
        connection.execute(f"UPDATE users SET username = 'seen' WHERE id = {event.object}")
        with connection.transaction():
            connection.execute(f"UPDATE users SET email = 'seen' WHERE id = {event.object}")
        if event.object == str(BATCH):
            break
    assert connection.info.transaction_status == pq.TransactionStatus.IDLE
    seen = "SELECT count(*) FROM users WHERE username = 'seen' AND email = 'seen'"
    assert rows(connect(), seen) == [(MANY - BATCH + 1,)]


def test_in_a_transaction_the_program_may_commit_between_two_events(many: tuple[Functions, Any]) -> None:
    functions, connection = many
    connection.set_autocommit(False)
    found = 0
    for event in functions.events(connection, "users"):
        connection.execute(f"UPDATE users SET username = 'seen' WHERE id = {event.object}")
        connection.commit()
        found += 1
    assert found == MANY
    assert connection.info.transaction_status == pq.TransactionStatus.IDLE
    assert cursors(connection) == []


@pytest.mark.parametrize("autocommit", [True, False])
@pytest.mark.parametrize("end", ["close", "forget", "rollback", "commit", "fail"])
def test_an_iteration_that_is_left_leaves_a_usable_connection(
    many: tuple[Functions, Any], autocommit: bool, end: str
) -> None:
    functions, connection = many
    connection.set_autocommit(autocommit)
    events = iter(functions.events(connection, "users"))
    next(events)
    if end == "fail":
        with pytest.raises(psycopg.errors.DivisionByZero):
            connection.execute("SELECT 1 / 0")
        connection.rollback()
    elif end in ("rollback", "commit"):
        getattr(connection, end)()
    connection.execute("INSERT INTO users VALUES (0, 'new')")
    if end == "forget":
        del events
        gc.collect()
    else:
        events.close()
    assert cursors(connection) == []
    assert rows(connection, "SELECT username FROM users WHERE id = 0") == [("new",)]
    connection.commit()
    assert rows(connection, "SELECT username FROM users WHERE id = 0") == [("new",)]


def test_a_closed_iteration_opens_no_transaction(many: tuple[Functions, Any]) -> None:
    functions, connection = many
    connection.set_autocommit(False)
    events = iter(functions.events(connection, "users"))
    next(events)
    connection.commit()
    events.close()
    assert connection.info.transaction_status == pq.TransactionStatus.IDLE
    assert cursors(connection) == []


def test_an_iteration_ends_with_an_error_when_its_transaction_was_rolled_back(
    many: tuple[Functions, Any],
) -> None:
    functions, connection = many
    connection.set_autocommit(False)
    events = iter(functions.events(connection, "users"))
    next(events)
    connection.rollback()
    with pytest.raises(pyhist.HistoryError, match=r"does not exist"):
        list(events)
    connection.rollback()
    assert rows(connection, "SELECT 1") == [(1,)]


def test_an_iteration_may_be_garbage_while_its_connection_is_at_work(
    database: str, connect: Callable[..., psycopg.Connection[Any]]
) -> None:
    """The finalizer of an iterator in a cycle may run anywhere, also where the connection's lock is held."""
    connection = connect()
    events = pyhist.events(connection)
    next(events, None)
    connection.execute("CREATE TABLE t (id integer PRIMARY KEY)")
    pyhist.track(connection, "t", pyhist.Snapshot())
    connection.execute("INSERT INTO t VALUES (1)")
    events = pyhist.events(connection)
    next(events)
    with connection.lock:
        events.close()
    assert len(list(pyhist.events(connection))) == 1


@pytest.mark.parametrize("autocommit", [True, False])
def test_refusals_of_iterators_come_when_they_begin(tracked: tuple[Functions, Any], autocommit: bool) -> None:
    functions, connection = tracked
    connection.set_autocommit(autocommit)
    for asked in (
        lambda: functions.events(connection, "nobody"),
        lambda: functions.references(connection, "nobody", 1),
        lambda: functions.as_of(connection, "nobody", "2026-01-01"),
    ):
        answer = asked()
        with pytest.raises(pyhist.NotFoundError, match="nobody"):
            list(answer)
        connection.rollback()
    with pytest.raises(pyhist.InvalidArgumentError, match="negative"):
        list(functions.events(connection, max_rows=-1))
    connection.rollback()
    with pytest.raises(pyhist.InvalidArgumentError, match="sometime"):
        list(functions.events(connection, since="sometime"))
    connection.rollback()
    assert list(functions.events(connection)) == []


@pytest.mark.parametrize("autocommit", [True, False])
def test_iterators_work_on_connections_of_every_kind(
    connect: Callable[..., psycopg.Connection[Any]], autocommit: bool
) -> None:
    connection = pyhist.instrument(
        connect(row_factory=dict_row, cursor_factory=psycopg.ClientCursor, autocommit=autocommit)
    )
    connection.execute("CREATE TABLE users (id integer PRIMARY KEY)")
    pyhist.track(connection, "users", pyhist.Snapshot("it's 100%"))
    with pyhist.context(user=1) as active:
        connection.execute(f"INSERT INTO users SELECT generate_series(1, {MANY})")
        found = list(pyhist.events(connection, "users", label="it's 100%"))
        assert rows(connection, "SELECT FROM pg_cursors WHERE name LIKE 'pyhist%'") == []
    assert len(found) == MANY
    assert {event.context_id for event in found} == {active.id}
    assert found[0].context == {"user": 1}
    with connection.pipeline():
        assert next(iter(pyhist.events(connection, "users", 1))).object == "1"


def now(connection: Any) -> datetime:
    found: datetime = rows(connection, "SELECT clock_timestamp()")[0][0]
    return found


def test_as_of_gives_the_rows_as_they_were(tracked: tuple[Functions, Any]) -> None:
    functions, connection = tracked
    connection.execute("INSERT INTO users VALUES (1, 'ann', 'a@b.c', 1.50), (2, 'bob', NULL, NULL)")
    connection.execute("INSERT INTO lines VALUES (1, 1), (1, 2)")
    then = now(connection)
    connection.execute("UPDATE users SET username = 'x'; TRUNCATE lines; DELETE FROM users WHERE id = 2")
    ann = {"id": 1, "username": "ann", "email": "a@b.c", "balance": Decimal("1.50")}
    bob = {"id": 2, "username": "bob", "email": None, "balance": None}
    assert sorted(functions.as_of(connection, "users", then), key=lambda row: row["id"]) == [ann, bob]
    assert list(functions.as_of(connection, "public.users", then.isoformat(), 1)) == [ann]
    assert list(functions.as_of(connection, "lines", then, obj={"number": 1, "item": 2})) == [
        {"number": 1, "item": 2}
    ]
    assert list(functions.as_of(connection, "lines", now(connection))) == []


def test_as_of_streams(many: tuple[Functions, Any]) -> None:
    functions, connection = many
    connection.set_autocommit(False)
    found = iter(functions.as_of(connection, "users", now(connection)))
    next(found)
    (cursor,) = cursors(connection)
    assert len(rows(connection, f"FETCH ALL FROM {cursor}")) == MANY - BATCH
    assert len(list(found)) == BATCH - 1
    assert cursors(connection) == []


@pytest.mark.parametrize("name", ['"My"."Odd ""%s"" table"', "date", '"user"', '"select"'])
def test_tables_of_any_name_can_be_looked_at(tracked: tuple[Functions, Any], name: str) -> None:
    functions, connection = tracked
    connection.execute(f'CREATE SCHEMA "My"; CREATE TABLE {name} ("100%" integer PRIMARY KEY)')
    event_table = functions.track(connection, name, pyhist.History("odd"))
    connection.execute(f"INSERT INTO {name} VALUES (1)")
    (event,) = functions.events(connection, name)
    assert event.event_table == event_table
    assert list(functions.as_of(connection, name, now(connection))) == [{"100%": 1}]
    (version,) = functions.versions(connection, name, 1)
    assert version.row == {"100%": 1}
    connection.execute(f"DELETE FROM {name}")
    assert functions.revert(connection, event) == {"100%": 1}
    assert functions.revert(connection, event.slug) == {"100%": 1}


def test_versions_say_what_an_object_was_and_when(tracked: tuple[Functions, Any]) -> None:
    functions, connection = tracked
    connection.execute("INSERT INTO users VALUES (1, 'ann', 'a@b.c', 1.50)")
    with connection.transaction():
        context_id = functions.set_context(connection, {"user": 7})
        connection.execute("UPDATE users SET username = 'ann b.', balance = 2")
    first, second = functions.versions(connection, "users", 1)
    row = {"id": 1, "username": "ann", "email": "a@b.c", "balance": Decimal("1.50")}
    assert (first.label, first.context_id, first.row) == ("user", None, row)
    assert first.valid.lower < first.valid.upper == second.valid.lower
    assert second == pyhist.Version(
        Range(first.valid.upper, None),
        "user",
        context_id,
        {**row, "username": "ann b.", "balance": Decimal(2)},
    )
    connection.execute("DELETE FROM users")
    assert [version.row["id"] for version in functions.versions(connection, "users", obj="1")] == [1, 1]
    assert functions.versions(connection, "users", 1)[1].valid.upper is not None
    assert functions.versions(connection, "users", 2) == []
    connection.execute("INSERT INTO lines VALUES (1, 2)")
    (version,) = functions.versions(connection, "lines", {"number": 1, "item": 2})
    assert version.row == {"number": 1, "item": 2}
    connection.execute(
        "BEGIN; INSERT INTO users VALUES (3); UPDATE users SET username = 'x' WHERE id = 3; COMMIT"
    )
    brief, _ = functions.versions(connection, "users", 3)
    assert brief.valid.isempty
