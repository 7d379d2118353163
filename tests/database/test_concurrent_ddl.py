"""Tracking changes, and tables do, while others write: every write is recorded, and nobody waits or fails for us."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from time import monotonic
from typing import Any

import psycopg
import pytest
from history import Connection, events, rows, track, triggers, value, warnings_of

TABLE = "CREATE TABLE item (id integer PRIMARY KEY, name text, note text)"
PATIENCE = 30.0
"""How many seconds something may take that takes none."""


@pytest.fixture
def start() -> Iterator[Callable[..., Future[Any]]]:
    """Call `start(function, *arguments)` to do something in the background."""
    with ThreadPoolExecutor() as executor:
        yield executor.submit


def wait_until_blocked(connection: Connection, waiting: Connection) -> None:
    """Return once a session waits for a lock that another one has."""
    deadline = monotonic() + PATIENCE
    while not value(connection, "SELECT cardinality(pg_blocking_pids(%s)) > 0", waiting.info.backend_pid):
        assert monotonic() < deadline, "the session does not wait"


class Writers:
    """Sessions that insert, change and delete rows of their own until they are told to stop."""

    def __init__(self, connect: Callable[..., Connection], count: int = 2) -> None:
        self.stop = threading.Event()
        self.written = [0] * count
        self.executor = ThreadPoolExecutor(count)
        self.done = [self.executor.submit(self._write, connect(), number) for number in range(count)]

    def _write(self, session: Connection, number: int) -> None:
        while not self.stop.is_set():
            key = number * 1_000_000 + self.written[number]
            session.execute("INSERT INTO item (id) VALUES (%s)", (key,))
            session.execute("UPDATE item SET id = -id - 1 WHERE id = %s", (key,))
            with session.transaction():
                session.execute("UPDATE item SET id = -id - 1 WHERE id = %s", (-key - 1,))
                session.execute("DELETE FROM item WHERE id = %s", (key,))
            self.written[number] += 1

    def wait_for(self, more: int) -> None:
        """Return once each has written some more rows."""
        wanted = [count + more for count in self.written]
        deadline = monotonic() + PATIENCE
        while any(count < want for count, want in zip(self.written, wanted, strict=True)):
            for future in self.done:
                if future.done():
                    future.result()
            assert monotonic() < deadline, "the writers do not get on"
            self.stop.wait(0.01)

    def finish(self) -> int:
        """Stop them, let their errors be seen, and say how many rows each wrote in all."""
        self.stop.set()
        for future in self.done:
            future.result(PATIENCE)
        self.executor.shutdown()
        return sum(self.written)


@pytest.fixture
def writers(connection: Connection, connect: Callable[..., Connection]) -> Iterator[Writers]:
    """Writers of a table whose history is kept."""
    connection.execute(TABLE)
    track(connection, "item", kind="history")
    writers = Writers(connect)
    yield writers
    writers.stop.set()
    writers.executor.shutdown()


def check_all_is_recorded(connection: Connection, written: int, event_table: str = "item_event") -> None:
    """Every row was inserted, changed twice and deleted."""
    assert rows(
        connection,
        f"""SELECT pgh_operation, count(*) FROM {event_table} WHERE pgh_label = 'item.history'
             GROUP BY pgh_operation ORDER BY pgh_operation""",
    ) == [("D", written), ("I", written), ("U", 2 * written)]
    assert rows(connection, "SELECT * FROM pghistory.verify()") == []


DDL = [  # the event table's own name is in functions that may be running: nobody writes while it changes
    "ALTER TABLE item ADD COLUMN size integer DEFAULT 5",
    "ALTER TABLE item RENAME COLUMN name TO title",
    "ALTER TABLE item ALTER COLUMN note TYPE integer USING 1",
    "ALTER TABLE item DROP COLUMN note",
    "ALTER TABLE item ALTER COLUMN id TYPE bigint",
    "LOCK TABLE item; ALTER TABLE item_event RENAME TO log",
    "CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'",
    "CREATE TRIGGER of_the_user AFTER INSERT ON item FOR EACH ROW EXECUTE FUNCTION f()",
    "DROP TRIGGER of_the_user ON item",
    "ALTER TABLE item SET (fillfactor = 50)",
]


@pytest.mark.parametrize("by", ["event triggers", "sync()"])
def test_no_write_fails_or_is_lost_while_the_table_changes(
    by: str, request: pytest.FixtureRequest, connection: Connection, writers: Writers
) -> None:
    if by == "sync()":
        request.getfixturevalue("without_event_triggers")
    for statement in DDL:
        writers.wait_for(3)
        with connection.transaction():
            connection.execute(statement)
            if by == "sync()":
                connection.execute("SELECT pghistory.sync()")
    writers.wait_for(3)
    check_all_is_recorded(connection, writers.finish(), "log")


def test_no_write_fails_or_is_lost_while_upkeep_runs(connection: Connection, writers: Writers) -> None:
    for statement in (
        "SELECT pghistory.refresh()",
        "SELECT pghistory.sync()",
        "SELECT * FROM pghistory.verify()",
        "SELECT pghistory.track('item', 'item.history', kind => 'history')",
        "SELECT pghistory.track('item', 'by row', kind => 'history', level => 'row')",
        "SELECT pghistory.track('item', 'by row', kind => 'after_insert', level => 'statement')",
        "SELECT pghistory.track('item', 'elsewhere', fields => '{name}')",
        "SELECT pghistory.untrack('item', 'by row')",
        "SELECT pghistory.untrack('item', 'elsewhere', drop_events => true)",
        "SELECT pghistory.refresh()",
    ):
        writers.wait_for(3)
        connection.execute(statement)
    writers.wait_for(3)
    check_all_is_recorded(connection, writers.finish())


def test_untracking_while_others_write_lets_them_go_on(connection: Connection, writers: Writers) -> None:
    writers.wait_for(3)
    connection.execute("SELECT pghistory.untrack('item', drop_events => true)")
    writers.wait_for(3)
    writers.finish()
    assert value(connection, "SELECT to_regclass('item_event')") is None
    assert not triggers(connection, "item")


def test_two_that_track_refresh_and_sync_at_once_leave_all_well(
    connection: Connection, connect: Callable[..., Connection]
) -> None:
    tables = [f"item_{number}" for number in range(3)]
    for table in tables:
        connection.execute(TABLE.replace("item", table))

    def keep_well(session: Connection) -> None:
        for table in tables:
            track(session, table, kind="history")
        session.execute("SELECT pghistory.refresh()")
        session.execute("SELECT pghistory.sync()")

    with ThreadPoolExecutor(3) as executor:
        for done in [executor.submit(keep_well, connect()) for _ in range(3)]:
            done.result(PATIENCE)
    assert rows(connection, 'SELECT "table"::text, status FROM pghistory.trackers()') == [
        (table, "active") for table in tables
    ]
    assert rows(connection, "SELECT * FROM pghistory.verify()") == []


def test_a_writer_in_a_transaction_is_waited_for_and_not_deadlocked(
    connection: Connection, connect: Callable[..., Connection], start: Callable[..., Future[Any]]
) -> None:
    connection.execute(TABLE)
    track(connection, "item", kind="history")
    writer, changer = connect(autocommit=False), connect()
    for statement, write in (
        ("ALTER TABLE item ADD COLUMN size integer", "INSERT INTO item VALUES ({})"),
        ("ALTER TABLE item RENAME COLUMN name TO title", "UPDATE item SET id = -id WHERE id = {}"),
        ("ALTER TABLE item ALTER COLUMN id TYPE bigint", "DELETE FROM item WHERE id = -{}"),
        ("ALTER TABLE item DROP COLUMN note", "INSERT INTO item VALUES ({})"),
    ):
        # as without us: who reads first and writes then is waited for where the lock that DDL takes says so
        writer.execute("SELECT * FROM item")
        writer.execute(write.format(1))
        waiting = start(changer.execute, statement)
        wait_until_blocked(connection, changer)
        writer.execute("UPDATE item SET id = id")
        writer.execute("INSERT INTO item VALUES (100); DELETE FROM item WHERE id = 100")
        writer.commit()
        waiting.result(PATIENCE)
    assert rows(connection, "SELECT * FROM pghistory.verify()") == []
    assert events(connection, "item_event WHERE abs(id) = 1") == ["I", "U", "D", "I"]


@pytest.mark.parametrize(
    "statement",
    [
        "ALTER TABLE item SET (fillfactor = 50)",
        "ALTER TABLE item ALTER COLUMN name SET STATISTICS 10",
        "ALTER TABLE item VALIDATE CONSTRAINT positive",
        "CREATE INDEX ON item (name)",
        "CREATE TRIGGER t BEFORE INSERT ON item FOR EACH ROW EXECUTE FUNCTION f()",
        "ALTER TABLE other ADD FOREIGN KEY (id) REFERENCES item",
        "COMMENT ON TABLE item IS 'a thing'",
    ],
)
def test_ddl_takes_no_stronger_lock_than_it_would_without_us(
    statement: str, connection: Connection, connect: Callable[..., Connection]
) -> None:
    connection.execute(
        f"""{TABLE}; ALTER TABLE item ADD CONSTRAINT positive CHECK (id > 0) NOT VALID;
            CREATE TABLE other (id integer);
            CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END'"""
    )

    def locks() -> set[tuple[str, str]]:
        with connection.transaction(force_rollback=True):
            connection.execute(statement)
            return set(
                rows(
                    connection,
                    """SELECT relation::regclass::text, mode FROM pg_locks
                        WHERE pid = pg_backend_pid() AND relation::regclass::text LIKE 'item%'
                          AND mode NOT IN ('AccessShareLock')""",
                )
            )

    without = locks()
    track(connection, "item", kind="history")
    assert {lock for lock in locks() if lock[0] != "item_name_idx"} == {
        lock for lock in without if lock[0] != "item_name_idx"
    }


@pytest.mark.parametrize("call", ["refresh()", "sync()", "sync('item')"])
def test_upkeep_that_finds_nothing_to_do_waits_for_no_reader(
    call: str, connection: Connection, connect: Callable[..., Connection]
) -> None:
    connection.execute(TABLE)
    track(connection, "item", kind="history", append_only=True)
    reader = connect(autocommit=False)
    reader.execute("SELECT * FROM item, item_event")
    connection.execute("SET lock_timeout = '1s'")
    connection.execute(f"SELECT pghistory.{call}")
    reader.execute("INSERT INTO item VALUES (1)")
    reader.commit()
    assert events(connection, "item_event") == ["I"]


@pytest.mark.parametrize("call", ["sync('item')", "untrack('item')", "track('item', 'more')"])
def test_upkeep_of_a_table_honours_lock_timeout(
    call: str, connection: Connection, connect: Callable[..., Connection]
) -> None:
    connection.execute(TABLE)
    track(connection, "item", kind="history")
    writer = connect(autocommit=False)
    writer.execute("INSERT INTO item VALUES (1)")
    connection.execute("SET lock_timeout = '50ms'")
    with pytest.raises(psycopg.errors.LockNotAvailable):
        connection.execute(f"SELECT pghistory.{call}")
    writer.commit()
    assert rows(connection, "SELECT * FROM pghistory.verify()") == []


@pytest.mark.parametrize("call", ["refresh()", "sync()"])
def test_upkeep_of_all_tables_passes_over_what_it_cannot_lock_in_time_and_says_so(
    call: str, connection: Connection, connect: Callable[..., Connection]
) -> None:
    for table in ("item", "other"):
        connection.execute(TABLE.replace("item", table))
        track(connection, table, kind="history")
        connection.execute(f"DROP FUNCTION {table}_event_insert_statement CASCADE")
    writer = connect(autocommit=False)
    writer.execute("INSERT INTO item VALUES (1)")
    connection.execute("SET lock_timeout = '50ms'")
    with warnings_of(connection) as warnings:
        connection.execute(f"SELECT pghistory.{call}")
    assert len(warnings) == 1
    assert "item" in warnings[0]
    writer.commit()
    assert {table for (table,) in rows(connection, 'SELECT "table"::text FROM pghistory.verify()')} == {
        "item"
    }


def test_tables_change_side_by_side_without_waiting_for_each_other(
    connection: Connection, connect: Callable[..., Connection]
) -> None:
    for table in ("one", "two"):
        connection.execute(TABLE.replace("item", table))
        track(connection, table, kind="history")
    first, second = connect(autocommit=False), connect(autocommit=False)
    for session in (first, second):
        session.execute("SET lock_timeout = '1s'")
    first.execute("ALTER TABLE one ADD COLUMN size integer")
    second.execute("ALTER TABLE two ADD COLUMN size integer")
    second.execute("INSERT INTO two (id, size) VALUES (1, 2)")
    second.commit()
    first.execute("INSERT INTO one (id, size) VALUES (1, 2)")
    first.commit()
    for table in ("one", "two"):
        assert events(connection, f"{table}_event", "size") == [2]
    assert rows(connection, "SELECT * FROM pghistory.verify()") == []
