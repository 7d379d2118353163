"""Transactions side by side: with commit timestamps the past is what was committed, without them what had begun."""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import psycopg
import pytest
from history import LEVELS, Connection, value
from past import KEPT_BY, as_of, copy, keep, moment

import pyhist.server
from pyhist.install import install

KEYS = range(8)
STEPS = 60
tables = itertools.count(1)


@dataclass
class Transaction:
    """A transaction that is under way, and what it wrote: rows by their keys, nothing where one is gone."""

    session: Connection
    begun: datetime
    writes: list[tuple[int, str | None]] = field(default_factory=list)
    committed: datetime | None = None


class Sessions:
    """A table, and some sessions that write to it by turns; none ever waits for another."""

    def __init__(self, connection: Connection, others: list[Connection], kept: str, level: str) -> None:
        self.connection, self.table = connection, f"account_{next(tables)}"
        self.choice = random.Random(f"{kept} {level}")
        connection.execute(f"CREATE TABLE {self.table} (id integer PRIMARY KEY, note text)")
        connection.execute(f"INSERT INTO {self.table} SELECT i, 'first' FROM generate_series(0, 7, 2) AS i")
        keep(connection, self.table, KEPT_BY[kept], level=level)
        label = f"{self.table}.{KEPT_BY[kept][0]}"
        connection.execute(f"SELECT pghistory.create_event(t, '{label}') FROM {self.table} AS t")
        self.first = {key: f"({key},first)" for key in KEYS if key % 2 == 0}
        self.idle, self.busy = list(others), list[Transaction]()
        # in the order in which rows were written, and so in that of their locks
        self.log: list[tuple[Transaction, int, str | None]] = []
        self.copies: list[tuple[datetime, list[Any]]] = [(moment(connection), copy(connection, self.table))]

    def step(self) -> None:
        if self.idle and self.choice.random() < 0.4:
            session = self.idle.pop(self.choice.randrange(len(self.idle)))
            session.execute("BEGIN")
            self.busy.append(Transaction(session, value(session, "SELECT now()")))
        elif self.busy:
            transaction = self.choice.choice(self.busy)
            if self.choice.random() < 0.3:
                self.end(transaction)
            else:
                self.write(transaction)

    def write(self, transaction: Transaction) -> None:
        held = {key for other in self.busy if other is not transaction for key, _ in other.writes}
        free = [key for key in KEYS if key not in held]
        if not free:
            return
        key, other = self.choice.choice(free), self.choice.choice(free)
        note = f"note {len(self.log)}"
        session = transaction.session
        written: list[tuple[int, str | None]] = []
        match self.choice.choice(("upsert", "update", "delete", "move")):
            case "upsert":
                session.execute(
                    f"INSERT INTO {self.table} VALUES (%s, %s) ON CONFLICT (id) DO UPDATE SET note = EXCLUDED.note",
                    (key, note),
                )
                written = [(key, f'({key},"{note}")')]
            case "update":
                if session.execute(f"UPDATE {self.table} SET note = %s WHERE id = %s", (note, key)).rowcount:
                    written = [(key, f'({key},"{note}")')]
            case "delete":
                if session.execute(f"DELETE FROM {self.table} WHERE id = %s", (key,)).rowcount:
                    written = [(key, None)]
            case "move":
                session.execute(f"DELETE FROM {self.table} WHERE id = %s AND id <> %s", (other, key))
                moved = session.execute(
                    f"UPDATE {self.table} SET id = %s, note = %s WHERE id = %s", (other, note, key)
                ).rowcount
                written = [(other, None), (key, None)] if other != key else []
                written += [(other, f'({other},"{note}")')] if moved else []
        transaction.writes += written
        # what is not there may be written by others
        self.log += [(transaction, *write) for write in written]

    def end(self, transaction: Transaction) -> None:
        self.busy.remove(transaction)
        self.idle.append(transaction.session)
        if self.choice.random() < 0.15:
            transaction.session.execute("ROLLBACK")
        else:
            before = moment(self.connection)
            transaction.session.execute("COMMIT")
            transaction.committed = before
        self.copies.append((moment(self.connection), copy(self.connection, self.table)))

    def finish(self) -> None:
        while self.busy:
            self.end(self.busy[0])

    def begun_by(self, at: datetime) -> list[str]:
        """What the transactions left that had begun by a time and committed."""
        found = dict(self.first)
        for transaction, key, row in self.log:
            if transaction.committed and transaction.begun <= at:
                if row is None:
                    found.pop(key, None)
                else:
                    found[key] = row
        return sorted(found.values())


@pytest.fixture(scope="module")
def without_commit_timestamps() -> Iterator[str]:
    """The connection string of a database on a server that does not keep commit timestamps."""
    with pyhist.server.Server(settings={"track_commit_timestamp": "off"}) as server:
        install(server.dsn())
        yield server.dsn()


def sessions(dsn: str, stack: ExitStack) -> list[Connection]:
    return [stack.enter_context(closing(psycopg.connect(dsn, autocommit=True))) for _ in range(4)]


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("kept", KEPT_BY)
def test_with_commit_timestamps_the_past_is_what_was_committed(database: str, kept: str, level: str) -> None:
    with ExitStack() as stack:
        first, *others = sessions(database, stack)
        assert value(first, "SHOW track_commit_timestamp") == "on"
        written = Sessions(first, others, kept, level)
        for _ in range(STEPS):
            written.step()
        written.finish()

        assert len(written.copies) > 5
        for at, expected in written.copies:
            assert as_of(first, written.table, at) == expected


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("kept", KEPT_BY)
def test_without_commit_timestamps_the_past_is_what_had_begun(
    without_commit_timestamps: str, kept: str, level: str
) -> None:
    with ExitStack() as stack:
        first, *others = sessions(without_commit_timestamps, stack)
        assert value(first, "SHOW track_commit_timestamp") == "off"
        written = Sessions(first, others, kept, level)
        for _ in range(STEPS):
            written.step()
        written.finish()

        assert as_of(first, written.table, moment(first)) == copy(first, written.table)
        differing = 0
        for at, committed in written.copies:
            begun = written.begun_by(at)
            assert as_of(first, written.table, at) == begun
            differing += begun != committed
        assert differing
