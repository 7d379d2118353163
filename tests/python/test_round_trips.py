"""A context costs no round trip of its own."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from typing import Any

import psycopg
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
]


@pytest.mark.parametrize("autocommit", [True, False])
@pytest.mark.parametrize("way", WAYS)
def test_a_context_costs_no_round_trip(
    server: Any, probe: Probe, autocommit: bool, way: Callable[[Connection], Any]
) -> None:
    counts = []
    for carrying in (False, True):
        with (
            counting_proxy(server.port) as proxy,
            closing(
                psycopg.connect(probe.dsn, host="127.0.0.1", port=proxy.port, autocommit=autocommit)
            ) as connection,
        ):
            if carrying:
                pyhist.instrument(connection)
            with pyhist.context(user=1):
                proxy.count()
                way(connection)
                connection.rollback()
                counts.append(proxy.count())
        probe.observer.execute("TRUNCATE item")
    plain, carried = counts
    assert carried <= plain
    assert bool(carried) == bool(plain)


def test_a_statement_in_autocommit_is_one_round_trip(server: Any, probe: Probe) -> None:
    with (
        counting_proxy(server.port) as proxy,
        closing(
            pyhist.Connection.connect(probe.dsn, host="127.0.0.1", port=proxy.port, autocommit=True)
        ) as connection,
    ):
        with pyhist.context(user=1):
            proxy.count()
            connection.execute("INSERT INTO item VALUES (1)")
            assert proxy.count() == 1
    assert probe.seen() == [(1, {"user": 1})]
