"""Clients of a PgBouncer in transaction mode, who get each other's sessions, and none of each other's contexts."""

from __future__ import annotations

import asyncio
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import asyncpg
import psycopg
import psycopg2
import pytest
from both_ways import BOTH_WAYS, DIRECT_ONLY
from pgbouncer import pooled
from probe import Probe
from psycopg.conninfo import conninfo_to_dict

import pyhist.asyncpg
import pyhist.psycopg2

LEFT = (
    "SELECT pg_backend_pid()::text || coalesce(current_setting('pghistory.context_id', true), '')"
    " || coalesce(current_setting('pghistory.context_metadata', true), '')"
)


class Psycopg:
    """A client that uses psycopg."""

    def __init__(self, dsn: str) -> None:
        self.connection = pyhist.Connection.connect(dsn, autocommit=True, prepare_threshold=None)

    def send(self, statement: str) -> None:
        self.connection.execute(statement)

    def ask(self, query: str) -> Any:
        (value,) = self.connection.execute(query).fetchone() or (None,)
        return value

    def close(self) -> None:
        self.connection.close()


class Psycopg2:
    """A client that uses psycopg2."""

    def __init__(self, dsn: str) -> None:
        self.connection = psycopg2.connect(dsn, connection_factory=pyhist.psycopg2.Connection)
        self.connection.autocommit = True

    def send(self, statement: str) -> None:
        self.connection.cursor().execute(statement)

    def ask(self, query: str) -> Any:
        cursor = self.connection.cursor()
        cursor.execute(query)
        (value,) = cursor.fetchone() or (None,)
        return value

    def close(self) -> None:
        self.connection.close()


class Asyncpg:
    """A client that uses asyncpg."""

    def __init__(self, dsn: str) -> None:
        given = conninfo_to_dict(dsn)
        self.loop = asyncio.new_event_loop()
        self.connection = self.loop.run_until_complete(
            asyncpg.connect(
                host=given["host"],
                port=given["port"],
                user=given["user"],
                database=given["dbname"],
                statement_cache_size=0,
                connection_class=pyhist.asyncpg.Connection,
            )
        )

    def send(self, statement: str) -> None:
        self.loop.run_until_complete(self.connection.execute(statement))

    def ask(self, query: str) -> Any:
        return self.loop.run_until_complete(self.connection.fetchval(query))

    def close(self) -> None:
        if not self.loop.is_closed():
            self.loop.run_until_complete(self.connection.close())
            self.loop.close()


@pytest.fixture
def through_pgbouncer() -> bool:
    return True


@pytest.fixture(params=[Psycopg, Psycopg2, Asyncpg])
def client(request: pytest.FixtureRequest, probe: Probe) -> Iterator[Callable[[], Any]]:
    """Call `client()` for one more client of the PgBouncer: `send` and `ask` in autocommit, `close`."""
    with ExitStack() as stack:
        yield lambda: stack.enter_context(closing(request.param(probe.dsn)))


def test_the_next_client_of_a_session_finds_no_context(client: Callable[[], Any], probe: Probe) -> None:
    first, second = client(), client()
    session = first.ask("SELECT pg_backend_pid()::text")
    with pyhist.context(user=1):
        first.send("SELECT add(1)")
    assert second.ask(LEFT) == session
    with pyhist.context(user=1):
        first.send("BEGIN")
        first.send("SELECT add(2)")
        first.send("COMMIT")
    assert second.ask(LEFT) == session
    with pyhist.context(user=1):
        first.send("BEGIN")
        first.send("SELECT add(3)")
        first.send("ROLLBACK")
    second.send("SELECT add(4)")
    assert second.ask(LEFT) == session
    assert probe.seen() == [(1, {"user": 1}), (2, {"user": 1}), (4, None)]


def test_clients_that_take_turns_keep_their_contexts(client: Callable[[], Any], probe: Probe) -> None:
    clients = [client() for _ in range(5)]
    sessions = set()
    for turn in range(4):
        for number, each in enumerate(clients):
            with pyhist.context(user=number):
                each.send(f"SELECT add({turn * 10 + number})")
            sessions.add(each.ask("SELECT pg_backend_pid()"))
    assert len(sessions) == 1
    assert probe.seen() == [
        (turn * 10 + number, {"user": number}) for turn in range(4) for number in range(5)
    ]


def test_transactions_at_the_same_time_keep_their_contexts(client: Callable[[], Any], probe: Probe) -> None:
    first, second = client(), client()
    with pyhist.context(user=1):
        first.send("BEGIN")
        with pyhist.context(user=2):
            second.send("BEGIN")
            second.send("SELECT add(1)")
        first.send("SELECT add(2)")
        sessions = {each.ask("SELECT pg_backend_pid()") for each in (first, second)}
    first.send("SELECT add(3)")
    second.send("SELECT add(4)")
    for each in (first, second):
        each.send("COMMIT")
    assert len(sessions) == 2
    assert probe.seen() == [(1, {"user": 2}), (2, {"user": 1}), (3, None), (4, None)]


def test_a_client_that_goes_in_the_middle_of_a_transaction_leaves_no_context(
    client: Callable[[], Any], probe: Probe
) -> None:
    first, second = client(), client()
    with pyhist.context(user=1):
        first.send("BEGIN")
        first.send("SELECT add(1)")
        first.close()
    second.send("SELECT add(1)")
    assert second.ask(LEFT).isdigit()
    assert probe.seen() == [(1, None)]


def test_a_context_for_a_session_reaches_other_clients(pgbouncer: None, database: str) -> None:
    """Why nothing here sets one."""
    with closing(psycopg.connect(database, autocommit=True)) as observer:
        observer.execute("CREATE TABLE users (id integer PRIMARY KEY)")
        observer.execute("SELECT pghistory.track('users', context => 'inline')")
        with closing(psycopg.connect(pooled(database), autocommit=True)) as first:
            first.execute("SELECT pghistory.set_context('{\"user\": 1}', is_local => false)")
        with closing(psycopg.connect(pooled(database), autocommit=True)) as second:
            second.execute("INSERT INTO users VALUES (1)")
        assert observer.execute("SELECT pgh_context FROM users_event").fetchone() == ({"user": 1},)


def test_what_is_prepared_in_a_transaction_has_the_context_it_is_run_in(probe: Probe) -> None:
    client = Asyncpg(probe.dsn)

    async def work() -> None:
        async with client.connection.transaction():
            add = await client.connection.prepare("SELECT add($1)")
            await add.fetch(1)
            with pyhist.context(user=1):
                await add.fetch(2)

    with closing(client):
        client.loop.run_until_complete(work())
    assert probe.seen() == [(1, None), (2, {"user": 1})]


def test_an_environment_does_not_carry_a_context(server: Any, probe: Probe) -> None:
    psql = [server.bindir / "psql", "-X", "-d", probe.dsn, "-c", "SELECT add(1)"]
    run = [sys.executable, "-m", "pyhist", "run", "user=1", "--", *psql]
    subprocess.run(run, capture_output=True, check=False)
    assert probe.seen() in ([], [(1, None)])  # which depends on the version


def test_only_tests_that_are_there_are_left_out() -> None:
    texts = "".join(Path(__file__).with_name(f"{module}.py").read_text() for module in BOTH_WAYS)
    assert set(re.findall(r"def (test_\w+)", texts)) >= DIRECT_ONLY
