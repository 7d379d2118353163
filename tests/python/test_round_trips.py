"""A context costs no round trip of its own with psycopg, synchronous or not, pooled or not."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager, nullcontext
from typing import Any

import psycopg
import psycopg_pool
import pytest
from probe import Probe
from proxy import counting_proxy

import pyhist

Connection = psycopg.Connection[Any]


def copy(connection: Connection) -> None:
    with connection.cursor().copy("COPY item FROM STDIN") as rows:
        rows.write_row((100, "a"))


def fetch_named(connection: Connection) -> None:
    with connection.cursor("named", withhold=True) as cursor:
        cursor.execute("SELECT add(200)").fetchall()


def use_pipeline(connection: Connection) -> None:
    with connection.pipeline():
        connection.execute("INSERT INTO item VALUES (300)")
        connection.execute("INSERT INTO item VALUES (301)")


def prepare_soon(connection: Connection) -> None:
    for number in range(400, 410):
        connection.execute("INSERT INTO item VALUES (%s)", [number])


def fill(connection: Connection) -> None:
    connection.cursor().executemany("INSERT INTO item VALUES (%s)", [(n,) for n in range(500, 510)])


def go_back(connection: Connection) -> None:
    with connection.transaction():
        with connection.transaction():
            connection.execute("INSERT INTO item VALUES (600)")
            raise psycopg.Rollback
        connection.execute("INSERT INTO item VALUES (601)")


def change_context(connection: Connection) -> None:
    with connection.transaction():
        for number in range(700, 703):
            with pyhist.context(number=number):
                connection.execute("INSERT INTO item VALUES (%s)", [number])


WAYS: list[Callable[[Connection], Any]] = [
    lambda connection: connection.execute("INSERT INTO item VALUES (%s)", [1]),
    lambda connection: connection.execute("SELECT add(2); SELECT add(3)"),
    lambda connection: list(connection.cursor().stream("SELECT add(4)")),
    lambda connection: connection.execute("VACUUM") if connection.autocommit else None,
    copy,
    fetch_named,
    use_pipeline,
    prepare_soon,
    fill,
    go_back,
    change_context,
]


@contextmanager
def counted(
    server: Any, open_connection: Callable[..., Any], carrying: bool, autocommit: bool
) -> Iterator[tuple[Any, Callable[[], int]]]:
    """A connection, and what counts its round trips since the last call."""
    with counting_proxy(server.port) as proxy:
        with closing(
            open_connection(carrying, host="127.0.0.1", port=proxy.port, autocommit=autocommit)
        ) as connection:
            proxy.count()
            yield connection, proxy.count


@pytest.mark.parametrize("autocommit", [True, False])
@pytest.mark.parametrize("way", WAYS)
def test_a_context_costs_no_round_trip(
    server: Any,
    probe: Probe,
    open_connection: Callable[..., Any],
    autocommit: bool,
    way: Callable[[Connection], Any],
) -> None:
    def count(carrying: bool, around: AbstractContextManager[Any]) -> int:
        with counted(server, open_connection, carrying, autocommit) as (connection, counted_since), around:
            way(connection)
            connection.rollback()
            round_trips = counted_since()
        probe.observer.execute("TRUNCATE item")
        return round_trips

    plain = count(False, pyhist.context(user=1))
    without_context = count(True, nullcontext())
    carried = count(True, pyhist.context(user=1))
    assert without_context <= plain
    assert carried <= plain
    assert bool(carried) == bool(plain)


def test_a_statement_in_autocommit_is_one_round_trip(
    server: Any, probe: Probe, open_connection: Callable[..., Any]
) -> None:
    with counted(server, open_connection, True, True) as (connection, count), pyhist.context(user=1):
        connection.execute("INSERT INTO item VALUES (1)")
        assert count() == 1
    assert probe.seen() == [(1, {"user": 1})]


def test_what_follows_a_context_in_a_transaction_costs_no_round_trip(
    server: Any, probe: Probe, open_connection: Callable[..., Any]
) -> None:
    with counted(server, open_connection, True, False) as (connection, count):
        with pyhist.context(user=1):
            connection.execute("INSERT INTO item VALUES (1)")
        count()
        connection.execute("INSERT INTO item VALUES (2)")
        assert count() == 1
        connection.commit()
    assert probe.seen() == [(1, {"user": 1}), (2, None)]


@pytest.mark.parametrize("by_class", [True, False])
@pytest.mark.parametrize("autocommit", [True, False])
def test_a_context_costs_a_pool_no_round_trip(
    server: Any, probe: Probe, autocommit: bool, by_class: bool
) -> None:
    counts = []
    for carrying in (False, True):
        kind = pyhist.Connection if carrying and by_class else psycopg.Connection
        with counting_proxy(server.port) as proxy:
            options = {"host": "127.0.0.1", "port": proxy.port, "autocommit": autocommit}
            with psycopg_pool.ConnectionPool(
                probe.dsn, connection_class=kind, kwargs=options, min_size=1, max_size=1, open=True
            ) as pool:
                pool.wait()
                if carrying and not by_class:
                    pyhist.instrument(pool)
                proxy.count()
                for user in (1, 2):
                    with pool.connection() as connection, pyhist.context(user=user):
                        connection.execute("INSERT INTO item VALUES (%s)", [user])
                with pool.connection() as connection:
                    connection.execute("INSERT INTO item VALUES (3)")
                counts.append(proxy.count())
        metadata = [said for _, said in probe.seen()]
        assert metadata == ([{"user": 1}, {"user": 2}, None] if carrying else [None] * 3)
        probe.observer.execute("TRUNCATE item")
    plain, carried = counts
    assert plain == carried > 0
