"""The server is killed in the middle of it all: what was committed and what was recorded agree exactly."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import threading
from collections.abc import Iterator

import psycopg
import pytest
from lived import assert_all_is_well, connect, rows
from servers import start, until

import pyhist.server
from pyhist.install import install

WRITERS = 6
ACCOUNTS = 20
COMMITS = 300  # before the server is killed

SCHEMA = """
    CREATE TABLE ledger (token text PRIMARY KEY);
    CREATE TABLE account (id integer PRIMARY KEY, version integer NOT NULL DEFAULT 1);
    CREATE TABLE by_statement (id integer PRIMARY KEY, version integer NOT NULL DEFAULT 1);
    SELECT pghistory.track('ledger', 'ledger', kind => 'history');
    SELECT pghistory.track('account', 'account', kind => 'history');
    SELECT pghistory.track('account', 'seen', kind => 'event');
    SELECT pghistory.track('by_statement', 'by_statement', kind => 'history', level => 'statement');
"""


@pytest.fixture
def durable() -> Iterator[pyhist.server.Server]:
    """A server that waits for the disk, with the tables above."""
    settings = {"fsync": "on", "synchronous_commit": "on", "max_prepared_transactions": "5"}
    with pyhist.server.Server(settings=settings) as server:
        install(server.dsn())
        with connect(server.dsn()) as connection:
            connection.execute(SCHEMA)
            for table in ("account", "by_statement"):
                connection.execute(f"INSERT INTO {table} SELECT generate_series(1, {ACCOUNTS})")
        yield server


def kill(server: pyhist.server.Server) -> None:
    """Kill the server, all its processes at once, without giving them a chance."""
    postmaster = int((server.folder / "data" / "postmaster.pid").read_text().split()[0])
    with connect(server.dsn()) as connection:
        processes = [pid for (pid,) in rows(connection, "SELECT pid FROM pg_stat_activity")]
        for pid in (postmaster, *processes):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def revive(server: pyhist.server.Server) -> None:
    """Start the server again, as soon as what is left of its memory is free."""

    def started() -> bool:
        with contextlib.suppress(pyhist.server.ServerError):
            start(server)
            return True
        return False

    until(started)


def write(dsn: str, writer: int, confirmed: list[str], enough: threading.Event) -> None:
    """Commit one transaction after the other until the server is gone; every one leaves its token."""
    choose = random.Random(writer)
    with contextlib.suppress(psycopg.OperationalError), psycopg.connect(dsn) as connection:
        for number in range(1_000_000):
            token = f"{writer}.{number}"
            one, other = sorted(choose.sample(range(1, ACCOUNTS + 1), 2))
            connection.execute("SELECT pghistory.set_context(jsonb_build_object('token', %s::text))", [token])
            connection.execute("INSERT INTO ledger VALUES (%s)", [token])
            for table in ("account", "by_statement"):
                connection.execute(
                    f"""WITH locked AS (SELECT id FROM {table} WHERE id IN (%s, %s) ORDER BY id FOR UPDATE)
                        UPDATE {table} AS t SET version = version + 1 FROM locked WHERE t.id = locked.id""",
                    [one, other],
                )
            if number % 5 == 0:
                connection.execute("SELECT pghistory.create_event(a, 'seen') FROM account AS a WHERE id = 1")
            if number % 7 == 0:
                connection.rollback()
                continue
            connection.commit()
            confirmed.append(token)
            if len(confirmed) >= COMMITS:
                enough.set()


def test_what_was_committed_and_what_was_recorded_agree_after_a_crash(durable: pyhist.server.Server) -> None:
    confirmed: list[str] = []
    enough = threading.Event()
    writers = [
        threading.Thread(target=write, args=(durable.dsn(), writer, confirmed, enough))
        for writer in range(WRITERS)
    ]
    with connect(durable.dsn()) as connection:
        connection.execute("BEGIN; INSERT INTO ledger VALUES ('prepared'); PREPARE TRANSACTION 'in doubt'")
    for writer in writers:
        writer.start()
    assert enough.wait(timeout=60)
    kill(durable)
    for writer in writers:
        writer.join()
    revive(durable)

    with connect(durable.dsn()) as connection:
        tokens = {token for (token,) in rows(connection, "SELECT token FROM ledger")}
        assert tokens >= set(confirmed)
        recorded = rows(connection, "SELECT token, pgh_operation::text FROM ledger_event")
        assert sorted(recorded) == sorted((token, "I") for token in tokens)
        for table in ("account", "by_statement"):
            # Every version of every row has its event, in order, and the last one is the row.
            assert rows(
                connection,
                f"""SELECT id, array_agg(version ORDER BY pgh_id) FROM {table}_event
                     WHERE pgh_label <> 'seen' GROUP BY id ORDER BY id""",
            ) == rows(
                connection, f"SELECT id, ARRAY(SELECT generate_series(1, version)) FROM {table} ORDER BY id"
            )
        # Every event has its context, and every context its events.
        assert (
            rows(
                connection,
                """SELECT e.token, c.metadata ->> 'token'
                     FROM ledger_event AS e FULL JOIN pghistory.context AS c ON c.id = e.pgh_context_id
                    WHERE e.token IS DISTINCT FROM c.metadata ->> 'token'""",
            )
            == []
        )

        connection.execute("COMMIT PREPARED 'in doubt'")
        assert rows(connection, "SELECT count(*) FROM ledger_event WHERE token = 'prepared'") == [(1,)]
        connection.execute("INSERT INTO ledger VALUES ('later')")
        connection.execute(
            "SELECT pghistory.create_event(l, 'ledger') FROM ledger AS l WHERE token = 'later'"
        )
        last = rows(
            connection, "SELECT token, pgh_operation::text FROM ledger_event ORDER BY pgh_id DESC LIMIT 2"
        )
        assert last == [("later", "S"), ("later", "I")]
        assert_all_is_well(connection)
