"""Going back from Python."""

from __future__ import annotations

from decimal import Decimal
from typing import Any
from uuid import uuid4

import pytest

import pyhist

Functions = Any


@pytest.fixture
def tracked(pair: tuple[Functions, Any]) -> tuple[Functions, Any]:
    """Functions and a connection as of `pair`, to a database that tracks its table `users`, with two rows."""
    functions, connection = pair
    connection.execute("ALTER TABLE users ADD balance numeric(8,2)")
    functions.track(connection, "users", pyhist.History("user"))
    connection.execute("INSERT INTO users VALUES (1, 'ann', 'a@b.c', 1.50), (2, 'bob', NULL, NULL)")
    return pair


def users(connection: Any) -> list[tuple[int, str]]:
    found: list[tuple[int, str]] = connection.execute("SELECT id, username FROM users ORDER BY id").fetchall()
    return found


def test_revert_puts_an_object_back(tracked: tuple[Functions, Any]) -> None:
    functions, connection = tracked
    *_, insert = functions.events(connection, "users", 1)
    row = {"id": 1, "username": "ann", "email": "a@b.c", "balance": Decimal("1.50")}
    connection.execute("UPDATE users SET username = 'x', email = 'y'")
    assert functions.revert(connection, insert) == row
    connection.execute("DELETE FROM users WHERE id = 1")
    assert functions.revert(connection, insert.slug) == row
    assert functions.revert(connection, event="users_event:1") == row
    assert users(connection) == [(1, "ann"), (2, "x")]


def test_revert_takes_the_name_of_an_event_only(tracked: tuple[Functions, Any]) -> None:
    functions, connection = tracked
    for slug in ("users_event", "users_event:", ":1", "users_event:one", "users_event:-1", "users_event:¹"):
        with pytest.raises(pyhist.InvalidArgumentError, match="does not name an event"):
            functions.revert(connection, slug)
    for slug in ("users_event:99", "nobody:1"):
        with pytest.raises(pyhist.NotFoundError):
            functions.revert(connection, slug)
    for slug in ("users_event e; DROP TABLE users; --:1", "users_event:1; DROP TABLE users"):
        with pytest.raises(pyhist.HistoryError):
            functions.revert(connection, slug)
    assert users(connection) == [(1, "ann"), (2, "bob")]


def test_undo_takes_back_what_a_context_did(tracked: tuple[Functions, Any]) -> None:
    functions, connection = tracked
    with connection.transaction():
        context_id = functions.set_context(connection, {"user": 7})
        connection.execute("UPDATE users SET username = 'x'")
        connection.execute("DELETE FROM users WHERE id = 2")
    assert functions.undo(connection, context_id) == 3
    assert users(connection) == [(1, "ann"), (2, "bob")]
    undoing = next(iter(functions.events(connection, "users")))
    assert undoing.context == {"undo": {"context_id": str(context_id)}}
    # undone was the net effect: a row was changed back, and one inserted again
    assert functions.undo(connection, str(undoing.context_id)) == 2
    assert users(connection) == [(1, "x")]
    assert functions.undo(connection, uuid4()) == 0
    assert functions.undo_plan(connection, uuid4()) == []


def test_undo_transaction_takes_back_what_it_did(tracked: tuple[Functions, Any]) -> None:
    functions, connection = tracked
    connection.execute("UPDATE users SET username = 'x'")
    xid = next(iter(functions.events(connection, "users"))).xid
    plan = functions.undo_transaction_plan(connection, xid)
    assert {(step.table, step.obj, step.action) for step in plan} == {
        ("users", "1", "UPDATE"),
        ("users", "2", "UPDATE"),
    }
    assert functions.undo_transaction(connection, xid) == 2
    assert users(connection) == [(1, "ann"), (2, "bob")]


def test_undo_refuses_where_rows_changed_since(tracked: tuple[Functions, Any]) -> None:
    functions, connection = tracked
    with connection.transaction():
        context_id = functions.set_context(connection, {"user": 7})
        connection.execute("UPDATE users SET balance = 1.5 + id WHERE id = 1")
    (update,) = functions.events(connection, context_id=context_id)
    plan = functions.undo_plan(connection, context_id)
    assert plan == [
        pyhist.UndoStep(
            step=1,
            table="users",
            obj="1",
            action="UPDATE",
            event=update.slug,
            changes={"balance": [Decimal("2.50"), Decimal("1.50")]},
            conflict=None,
        )
    ]
    connection.execute("UPDATE users SET balance = 3 WHERE id = 1")
    later = next(iter(functions.events(connection, "users", 1)))
    (step,) = functions.undo_plan(connection, context_id=str(context_id))
    assert later.slug in step.conflict
    with pytest.raises(pyhist.HistoryError) as refused:
        functions.undo(connection, context_id)
    assert "users" in str(refused.value)
    assert functions.undo(connection, context_id, force=True) == 1
    assert connection.execute("SELECT balance FROM users WHERE id = 1").fetchone() == (Decimal("1.50"),)


def test_backfill_writes_what_is_missing(tracked: tuple[Functions, Any]) -> None:
    functions, connection = tracked
    connection.execute("CREATE TABLE old (id integer PRIMARY KEY, filler text)")
    connection.execute("INSERT INTO old SELECT n, repeat('x', 1000) FROM generate_series(1, 20) AS n")
    functions.track(connection, "old", pyhist.History("old"))
    assert functions.backfill(connection, "old", pages=range(1)) == 7
    assert functions.backfill(connection, "old", "old", range(2)) == 7
    assert functions.backfill(connection, "old", label="old") == 6
    assert functions.backfill(connection, "old") == 0
    events = list(functions.events(connection, "old"))
    assert {(event.operation, event.label) for event in events} == {("S", "old")}
    assert sorted(int(event.object) for event in events) == list(range(1, 21))
    with pytest.raises(TypeError, match="follow one another"):
        functions.backfill(connection, "old", pages=range(0, 10, 2))
    with pytest.raises(pyhist.NotFoundError):
        functions.backfill(connection, "nobody")
