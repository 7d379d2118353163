"""A day in the shop of Sakila, tracked whole, and compared with copies of its tables between the steps."""

from __future__ import annotations

import contextlib
import json
import uuid
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
import sakila
from history import LEVELS, Connection, rows, track, track_refused
from oracle import (
    Event,
    Table,
    differences,
    last_id,
    read_events,
    read_rows,
    read_table,
    replay,
    replay_without_key,
)

pytestmark = pytest.mark.skipif(not sakila.FOLDER.is_dir(), reason="shared/data is absent")


@pytest.fixture(scope="module")
def shop(server: Any) -> Iterator[str]:
    """The name of a database with Sakila and pghistory, to clone."""
    with psycopg.connect(server.dsn(), autocommit=True) as maintenance:
        maintenance.execute("CREATE DATABASE sakila")
        sakila.load(server, "sakila")
        with contextlib.closing(psycopg.connect(server.dsn("sakila"), autocommit=True)) as connection:
            connection.execute("CREATE EXTENSION pghistory")
        yield "sakila"
        maintenance.execute("DROP DATABASE sakila WITH (FORCE)")


@contextlib.contextmanager
def opened(server: Any, shop: str) -> Iterator[Connection]:
    """A connection to a fresh copy of the shop."""
    today = f"{shop}_today"
    with psycopg.connect(server.dsn(), autocommit=True) as maintenance:
        maintenance.execute(f"CREATE DATABASE {today} TEMPLATE {shop}")
        try:
            with contextlib.closing(psycopg.connect(server.dsn(today), autocommit=True)) as connection:
                yield connection
        finally:
            maintenance.execute(f"DROP DATABASE {today} WITH (FORCE)")


@pytest.fixture
def connection(server: Any, shop: str) -> Iterator[Connection]:
    """A connection to a fresh copy of the shop."""
    with opened(server, shop) as connection:
        yield connection


def all_tables(connection: Connection) -> list[Table]:
    """All tables of the shop. Two children of payment, which inherit no key, are given one."""
    names = rows(
        connection,
        "SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind = 'r'",
    )
    given_keys = {"payment_p2007_03": ["payment_id"], "payment_p2007_04": ["payment_date", "payment_id"]}
    return [read_table(connection, "public", name, given_keys.get(name)) for (name,) in names]


def track_all(connection: Connection, tables: list[Table], level: str) -> dict[Table, str]:
    """Track all tables with kind history; payments, which statement-level triggers would miss, by row."""
    event_tables = {}
    for table in tables:
        is_payment = table.name in sakila.PAYMENTS
        event_tables[table] = track(
            connection,
            table.regclass,
            kind="history",
            obj_key=list(table.key) if is_payment else None,
            level="row" if is_payment and level == "statement" else level,
        )
    return event_tables


def check_events(
    table: Table, before: list[tuple[str, str]], events: list[Event], after: list[tuple[str, str]]
) -> None:
    """Check that the events explain what happened to a table, and nothing else."""
    if table.key:
        assert not differences(after, replay(before, events))
    else:
        replay_without_key([image for _, image in before], events, [image for _, image in after])


@pytest.mark.parametrize("level", LEVELS)
def test_the_events_of_a_day_explain_every_difference_and_nothing_else(
    connection: Connection, level: str
) -> None:
    tables = all_tables(connection)
    event_tables = track_all(connection, tables, level)
    contexts: dict[uuid.UUID | None, dict[str, Any]] = {}
    before = {table: read_rows(connection, table) for table in tables}

    for step, metadata in sakila.DAY:
        context_id = uuid.uuid4() if metadata else None
        last_ids = last_id(connection, event_tables.values())
        with connection.transaction():
            if metadata:
                connection.execute(
                    "SELECT set_config('pghistory.context_id', %s, true),"
                    " set_config('pghistory.context_metadata', %s, true)",
                    (str(context_id), json.dumps(metadata)),
                )
            step(connection)
            events = {
                table: read_events(connection, event_table, table, after=last_ids[event_table])
                for table, event_table in event_tables.items()
            }
        after = {table: read_rows(connection, table) for table in tables}

        for table in tables:
            check_events(table, before[table], events[table], after[table])
            for event in events[table]:
                assert event.label == f"{table.name}.history"
                assert event.key == event.key_of_image
                assert event.context_id == context_id
                assert event.is_of_its_transaction
        if metadata and any(events.values()):
            contexts[context_id] = metadata
        before = after

    assert dict(rows(connection, "SELECT id, metadata FROM pghistory.context")) == contexts
    assert len(contexts) == sum(metadata is not None for _, metadata in sakila.DAY) - 1


def operations_by_object(events: list[Event]) -> dict[str, list[tuple[str, str | None]]]:
    """What happened to each object, in order; the values are left out, since they hold times."""
    operations: dict[str, list[tuple[str, str | None]]] = {}
    for event in events:
        operations.setdefault(event.key, []).append((event.operation, event.other_key))
    return operations


def test_every_level_writes_the_same_events_for_the_same_day(server: Any, shop: str) -> None:
    written = {}
    for level in LEVELS:
        with opened(server, shop) as connection:
            event_tables = track_all(connection, all_tables(connection), level)
            for step, _ in sakila.DAY:
                with connection.transaction():
                    step(connection)
            written[level] = {
                table.name: operations_by_object(read_events(connection, event_table, table))
                for table, event_table in event_tables.items()
            }
    for level in ("auto", "statement"):
        for table, operations in written["row"].items():
            assert not differences(map(repr, operations.items()), map(repr, written[level][table].items()))


def test_statement_level_is_refused_for_tables_that_inherit_and_accepted_for_all_others(
    connection: Connection,
) -> None:
    for table in all_tables(connection):
        if table.name in sakila.PAYMENTS:
            track_refused(
                connection,
                psycopg.errors.FeatureNotSupported,
                "inherit",
                table.regclass,
                kind="history",
                level="statement",
            )
        else:
            track(connection, table.regclass, kind="history", level="statement")
