"""Sessions side by side: what they write is recorded right, and nobody waits for us who need not."""

from __future__ import annotations

import json
import random
import threading
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from time import monotonic

import psycopg
import pytest
from history import LEVELS, Connection, events, rows, track, value
from oracle import check_last_events, differences, read_events, read_rows, read_table, replay

TABLE = "CREATE TABLE account (id integer PRIMARY KEY, owner text, balance integer NOT NULL DEFAULT 0)"
PATIENCE = 30.0
"""How many seconds something may take that takes none."""


@pytest.fixture
def start() -> Iterator[Callable[..., Future[object]]]:
    """Call `start(function, *arguments)` to do something in the background."""
    with ThreadPoolExecutor() as executor:
        yield executor.submit


def wait_until_blocked(connection: Connection, waiting: Connection) -> None:
    """Return once a session waits for a lock that another one has."""
    deadline = monotonic() + PATIENCE
    while not value(connection, "SELECT cardinality(pg_blocking_pids(%s)) > 0", waiting.info.backend_pid):
        assert monotonic() < deadline, "the session does not wait"


def begin_in_context(connection: Connection, context_id: uuid.UUID, **metadata: object) -> None:
    """Begin a transaction in a context, and see that it never waits for long."""
    connection.execute("BEGIN")
    connection.execute("SET LOCAL lock_timeout = '1s'")
    set_context(connection, context_id, **metadata)


def set_context(connection: Connection, context_id: uuid.UUID, **metadata: object) -> None:
    connection.execute(
        """SELECT set_config('pghistory.context_id', %s, true),
                  set_config('pghistory.context_metadata', %s, true)""",
        (str(context_id), json.dumps(metadata)),
    )


@pytest.mark.parametrize("level", LEVELS)
def test_the_last_event_of_a_row_that_many_write_to_is_the_row(
    connect: Callable[..., Connection], connection: Connection, level: str
) -> None:
    connection.execute(TABLE)
    track(connection, "account", kind="history", level=level)
    writers, rounds = 6, 60
    ready = threading.Barrier(writers)

    def write(number: int) -> None:
        choice = random.Random(number)
        writer = connect()
        ready.wait(PATIENCE)
        for _ in range(rounds):
            account = choice.randint(1, 4)
            writer.execute(
                *choice.choice(
                    [
                        (
                            """INSERT INTO account VALUES (%s, %s, 1)
                               ON CONFLICT (id) DO UPDATE SET balance = account.balance + 1""",
                            (account, f"writer {number}"),
                        ),
                        ("UPDATE account SET balance = balance + 1 WHERE id = %s", (account,)),
                        ("UPDATE account SET owner = owner WHERE id = %s", (account,)),
                        ("DELETE FROM account WHERE id = %s", (account,)),
                    ]
                )
            )

    with ThreadPoolExecutor(writers) as executor:
        list(executor.map(write, range(writers)))

    account = read_table(connection, "public", "account")
    recorded = read_events(connection, "account_event", account)
    assert len(recorded) > writers * rounds / 4
    check_last_events(connection, account, "account_event")
    assert not differences(read_rows(connection, account), replay([], recorded))


@pytest.mark.parametrize("level", LEVELS)
def test_the_events_of_one_row_are_in_the_order_of_its_writers_commits(
    connect: Callable[..., Connection], connection: Connection, level: str
) -> None:
    connection.execute(TABLE)
    connection.execute("INSERT INTO account VALUES (1), (2)")
    track(connection, "account", kind="history", level=level)
    early, late = connect(autocommit=False), connect(autocommit=False)
    early.execute("UPDATE account SET balance = 1 WHERE id = 2")  # so that its transaction began first
    late.execute("UPDATE account SET balance = 10 WHERE id = 1")
    late.commit()
    early.execute("UPDATE account SET balance = balance + 1 WHERE id = 1")
    early.commit()
    assert events(connection, "account_event WHERE id = 1", "balance") == [10, 11]
    first, second = events(connection, "account_event WHERE id = 1", "pgh_xid::text::bigint")
    assert first > second


def test_two_track_calls_at_once_leave_one_tracker_of_each_label(
    connect: Callable[..., Connection], connection: Connection, start: Callable[..., Future[str]]
) -> None:
    connection.execute(TABLE)
    first, second, third = connect(autocommit=False), connect(), connect()
    first_table = track(first, "account", "account.one", kind="history")
    same = start(track, second, "account", "account.one", kind="history")
    other = start(track, third, "account", "account.two")
    for waiting in (second, third):
        wait_until_blocked(connection, waiting)
    first.commit()
    assert same.result(PATIENCE) == other.result(PATIENCE) == first_table == "account_event"
    assert rows(connection, "SELECT label, status FROM pghistory.trackers()") == [
        *(("account.one", "active"), ("account.two", "active"))
    ]
    connection.execute("INSERT INTO account VALUES (1)")
    assert sorted(events(connection, "account_event", "pgh_label")) == ["account.one", "account.two"]


def test_the_first_track_calls_in_a_database_do_not_get_into_each_others_way(
    connect: Callable[..., Connection], connection: Connection
) -> None:
    tables = [f"account_{number}" for number in range(4)]
    for table in tables:
        connection.execute(TABLE.replace("account", table))
    sessions = [connect() for _ in tables]
    ready = threading.Barrier(len(tables))

    def track_when_all_are_ready(session: Connection, table: str) -> str:
        ready.wait(PATIENCE)
        return track(session, table, kind="history")

    with ThreadPoolExecutor(len(tables)) as executor:
        made = list(executor.map(track_when_all_are_ready, sessions, tables))
    assert made == [f"{table}_event" for table in tables]
    assert value(connection, "SELECT count(*) FROM pghistory.trackers() WHERE status = 'active'") == len(
        tables
    )


@pytest.mark.parametrize("level", LEVELS)
def test_track_waits_for_an_open_writer_and_records_all_that_comes_after(
    connect: Callable[..., Connection], connection: Connection, start: Callable[..., Future[str]], level: str
) -> None:
    connection.execute(TABLE)
    writer, tracker = connect(autocommit=False), connect()
    writer.execute("INSERT INTO account VALUES (1)")
    tracking = start(track, tracker, "account", kind="history", level=level)
    wait_until_blocked(connection, tracker)
    writer.execute("INSERT INTO account VALUES (2)")
    writer.commit()
    assert tracking.result(PATIENCE) == "account_event"
    writer.execute("UPDATE account SET balance = 5")
    writer.commit()
    assert events(connection, "account_event", "pgh_operation, id, balance") == [("U", 1, 5), ("U", 2, 5)]


def test_a_writer_that_came_while_track_was_at_work_is_recorded(
    connect: Callable[..., Connection], connection: Connection, start: Callable[..., Future[object]]
) -> None:
    connection.execute(TABLE)
    tracker, writer = connect(autocommit=False), connect()
    track(tracker, "account", kind="history")
    writing = start(writer.execute, "INSERT INTO account VALUES (1)")
    wait_until_blocked(connection, writer)
    tracker.commit()
    writing.result(PATIENCE)
    assert events(connection, "account_event", "pgh_operation, id") == [("I", 1)]


def test_a_prepared_write_is_recorded_once_its_table_is_tracked(
    connect: Callable[..., Connection], connection: Connection
) -> None:
    connection.execute(TABLE)
    writer = connect()
    writer.execute("PREPARE write (integer) AS INSERT INTO account VALUES ($1)")
    writer.execute("EXECUTE write(1)")
    track(connection, "account", kind="history")
    writer.execute("EXECUTE write(2)")
    assert events(connection, "account_event", "id") == [2]


def test_untrack_waits_for_an_open_writer_and_lets_all_later_writes_go_on(
    connect: Callable[..., Connection], connection: Connection, start: Callable[..., Future[object]]
) -> None:
    connection.execute(TABLE)
    track(connection, "account", kind="history")
    writer, other = connect(autocommit=False), connect()
    writer.execute("INSERT INTO account VALUES (1)")
    untracking = start(value, other, "SELECT pghistory.untrack('account')")
    wait_until_blocked(connection, other)
    writer.execute("UPDATE account SET balance = 1")
    writer.commit()
    assert untracking.result(PATIENCE) == 1
    writer.execute("DELETE FROM account")
    writer.commit()
    assert events(connection, "account_event") == ["I", "U"]


def test_track_gives_up_at_lock_timeout_and_leaves_nothing_behind(
    connect: Callable[..., Connection], connection: Connection
) -> None:
    connection.execute(TABLE)
    writer, tracker = connect(autocommit=False), connect()
    writer.execute("INSERT INTO account VALUES (1)")
    tracker.execute("SET lock_timeout = '50ms'")
    with pytest.raises(psycopg.errors.LockNotAvailable):
        track(tracker, "account", kind="history")
    writer.commit()
    assert value(connection, "SELECT to_regclass('account_event')") is None
    assert rows(connection, "SELECT * FROM pghistory.trackers()") == []
    assert track(tracker, "account", kind="history") == "account_event"


@pytest.mark.parametrize("context", ["reference", "inline", "none"])
@pytest.mark.parametrize("level", LEVELS)
def test_sessions_with_one_context_never_wait_for_each_other(
    connect: Callable[..., Connection], connection: Connection, level: str, context: str
) -> None:
    connection.execute(TABLE)
    connection.execute("INSERT INTO account SELECT generate_series(1, 9)")
    track(connection, "account", kind="history", level=level, context=context)
    context_id = uuid.uuid4()
    sessions = [connect() for _ in range(3)]
    for number, session in enumerate(sessions, start=1):
        begin_in_context(session, context_id, task=number, **{f"task {number}": True})
    for round_number in range(3):
        for number, session in enumerate(sessions, start=1):
            session.execute(
                "UPDATE account SET balance = balance + 1 WHERE id = %s", (round_number * 3 + number,)
            )
            session.execute("SELECT pghistory.add_context(%s)", (json.dumps({"round": round_number}),))
    for session in sessions:
        session.execute("COMMIT")
    assert len(events(connection, "account_event")) == 9
    if context == "reference":
        ((metadata,),) = rows(connection, "SELECT metadata FROM pghistory.context WHERE id = %s", context_id)
        assert metadata.keys() == {"task", "task 1", "task 2", "task 3", "round"}
        assert metadata["round"] == 2


def test_contexts_used_in_opposite_order_do_not_deadlock(
    connect: Callable[..., Connection], connection: Connection
) -> None:
    connection.execute(TABLE)
    track(connection, "account", kind="history")
    one, other = uuid.uuid4(), uuid.uuid4()
    first, second = connect(), connect()
    begin_in_context(first, one, by="first")
    first.execute("INSERT INTO account VALUES (1)")
    begin_in_context(second, other, by="second")
    second.execute("INSERT INTO account VALUES (2)")
    set_context(first, other, by="first")
    first.execute("INSERT INTO account VALUES (3)")
    set_context(second, one, by="second")
    second.execute("INSERT INTO account VALUES (4)")
    first.execute("COMMIT")
    second.execute("COMMIT")
    recorded = dict(rows(connection, "SELECT id, pgh_context_id FROM account_event"))
    assert recorded == {1: one, 2: other, 3: other, 4: one}
    assert value(connection, "SELECT count(*) FROM pghistory.context") == 2


def test_writers_with_and_without_contexts_in_many_sessions_are_each_recorded_under_their_own(
    connect: Callable[..., Connection], connection: Connection
) -> None:
    connection.execute(TABLE)
    connection.execute("INSERT INTO account SELECT generate_series(1, 5)")
    track(connection, "account", kind="after_update", level="row")
    contexts = [uuid.uuid4(), uuid.uuid4(), None]
    writers = 6
    ready = threading.Barrier(writers)

    def write(number: int) -> None:
        session = connect()
        context_id = contexts[number % len(contexts)]
        ready.wait(PATIENCE)
        for turn in range(20):
            with session.transaction():
                if context_id:
                    set_context(session, context_id, turn=turn)
                session.execute(
                    "UPDATE account SET owner = %s WHERE id = %s", (str(context_id), 1 + (turn + number) % 5)
                )

    with ThreadPoolExecutor(writers) as executor:
        list(executor.map(write, range(writers)))
    assert value(connection, "SELECT count(*) FROM account_event") == writers * 20
    assert not rows(
        connection, "SELECT FROM account_event WHERE owner <> COALESCE(pgh_context_id::text, 'None')"
    )
    assert dict(rows(connection, "SELECT id, metadata FROM pghistory.context")).keys() == {*contexts} - {None}


def test_events_written_by_hand_at_once_do_not_use_each_others_permits(
    connect: Callable[..., Connection], connection: Connection
) -> None:
    connection.execute(TABLE)
    connection.execute("INSERT INTO account SELECT generate_series(1, 5)")
    track(connection, "account", "account.audit", kind="event")
    writers = 4
    ready = threading.Barrier(writers)

    def write(number: int) -> None:
        session = connect()
        ready.wait(PATIENCE)
        for turn in range(20):
            session.execute(
                "SELECT pghistory.create_event('account', %s, 'account.audit')",
                (str(1 + (turn + number) % 5),),
            )

    with ThreadPoolExecutor(writers) as executor:
        list(executor.map(write, range(writers)))
    assert events(connection, "account_event") == ["S"] * writers * 20
