"""What pyhist raises when the server refuses, and what it leaves to psycopg."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import psycopg
import pytest

import pyhist

Connection = psycopg.Connection[Any]


@pytest.fixture
def users(connection: Connection) -> Connection:
    connection.execute("CREATE TABLE users (id integer PRIMARY KEY, username text)")
    return connection


def test_an_error_says_what_why_and_what_to_do(users: Connection) -> None:
    condition = "NEW.username = 'x' AND"
    with pytest.raises(pyhist.InvalidArgumentError) as refused:
        pyhist.track(users, "users", pyhist.Snapshot("user", condition=condition))
    error, cause = refused.value, refused.value.__cause__
    assert isinstance(error, pyhist.HistoryError)
    assert isinstance(cause, psycopg.errors.SyntaxError)
    said = (cause.diag.message_primary, cause.diag.message_detail, cause.diag.message_hint)
    assert None not in said
    assert (error.message, error.detail, error.hint) == said
    assert str(error) == "{}\nDETAIL: {}\nHINT: {}".format(*said)


@pytest.mark.parametrize(
    ("kind", "attempt"),
    [
        (pyhist.NotFoundError, lambda conn: pyhist.track(conn, "nobody", pyhist.Snapshot())),
        (pyhist.NotFoundError, lambda conn: pyhist.track(conn, "users", pyhist.Snapshot(), fields=["age"])),
        (pyhist.NotFoundError, lambda conn: pyhist.untrack(conn, "users", "user")),
        (pyhist.NotSupportedError, lambda conn: pyhist.track(conn, "pg_class", pyhist.Snapshot())),
        (
            pyhist.ConflictError,
            lambda conn: pyhist.track(conn, "users", pyhist.Snapshot(), event_table="users"),
        ),
        (pyhist.InvalidArgumentError, lambda conn: pyhist.track(conn, "users", pyhist.Snapshot(""))),
        (
            pyhist.InvalidArgumentError,
            lambda conn: pyhist.track(conn, "users", pyhist.Snapshot(condition="f()")),
        ),
        (
            pyhist.InvalidArgumentError,
            lambda conn: pyhist.track(conn, "users", pyhist.Snapshot(), context="x"),
        ),
        (pyhist.InvalidArgumentError, lambda conn: pyhist.set_context(conn, {}, id="not a uuid")),
        (pyhist.InvalidArgumentError, lambda conn: pyhist.set_context(conn, [1])),
    ],
)
def test_what_the_server_refuses_is_a_history_error(
    users: Connection, kind: type[pyhist.HistoryError], attempt: Callable[[Connection], Any]
) -> None:
    with pytest.raises(kind) as refused:
        attempt(users)
    assert type(refused.value) is kind
    assert isinstance(refused.value.__cause__, psycopg.Error)


def test_only_the_owner_may_track(users: Connection, connect: Callable[..., Connection], role: Any) -> None:
    with pytest.raises(pyhist.NotAllowedError, match="must be owner"):
        pyhist.track(connect(user=role()), "users", pyhist.Snapshot("user"))


@pytest.mark.parametrize("attempt", [pyhist.trackers, pyhist.verify, pyhist.clear_context])
def test_without_the_extension_an_error_says_how_to_install_it(
    empty_database: str, attempt: Callable[[Connection], Any]
) -> None:
    with psycopg.connect(empty_database) as connection:
        with pytest.raises(pyhist.NotInstalledError, match=r"pyhist\.install"):
            attempt(connection)
        connection.rollback()


def test_a_lost_connection_stays_psycopgs_error(
    users: Connection, connect: Callable[..., Connection]
) -> None:
    other = connect()
    users.execute("SELECT pg_terminate_backend(%s, 10000)", [other.info.backend_pid])
    with pytest.raises(psycopg.errors.AdminShutdown):
        pyhist.trackers(other)
    with pytest.raises(psycopg.OperationalError):
        pyhist.trackers(other)


def test_an_aborted_transaction_stays_psycopgs_error(connect: Callable[..., Connection]) -> None:
    connection = connect(autocommit=False)
    with pytest.raises(pyhist.NotFoundError):
        pyhist.track(connection, "nobody", pyhist.Snapshot())
    with pytest.raises(psycopg.errors.InFailedSqlTransaction):
        pyhist.trackers(connection)


def test_a_timeout_stays_psycopgs_error(users: Connection, connect: Callable[..., Connection]) -> None:
    other = connect(autocommit=False)
    other.execute("LOCK TABLE users")
    for setting, kind in (
        ("lock_timeout", psycopg.errors.LockNotAvailable),
        ("statement_timeout", psycopg.errors.QueryCanceled),
    ):
        users.execute(f"RESET ALL; SET {setting} = 50")
        with pytest.raises(kind):
            pyhist.track(users, "users", pyhist.Snapshot("user"))


def test_a_deadlock_stays_psycopgs_error(users: Connection, connect: Callable[..., Connection]) -> None:
    users.execute("CREATE TABLE others (id integer PRIMARY KEY)")
    first, second = connect(autocommit=False), connect(autocommit=False)
    first.execute("LOCK TABLE users")
    second.execute("LOCK TABLE others")
    ends = []

    def track(connection: Connection, table: str) -> None:
        try:
            pyhist.track(connection, table, pyhist.Snapshot())
        except psycopg.Error as error:
            ends.append(type(error))
        connection.rollback()

    threads = [threading.Thread(target=track, args=each) for each in ((first, "others"), (second, "users"))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert ends == [psycopg.errors.DeadlockDetected]
