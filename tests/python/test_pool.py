"""Pools of connections that carry the context: none of it reaches the next user."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import psycopg
import psycopg_pool
import pytest
from probe import Probe

import pyhist

Pool = "psycopg_pool.ConnectionPool[Any]"


def instrumented(dsn: str, **kwargs: Any) -> Pool:
    return pyhist.instrument(psycopg_pool.ConnectionPool(dsn, **kwargs))


def instrumented_when_open(dsn: str, **kwargs: Any) -> Pool:
    pool: Pool = psycopg_pool.ConnectionPool(dsn, **kwargs)
    pool.wait()
    with pool.connection():
        pyhist.instrument(pool)
    return pyhist.instrument(pool)


def with_our_class(dsn: str, **kwargs: Any) -> Pool:
    return psycopg_pool.ConnectionPool(dsn, connection_class=pyhist.Connection, **kwargs)


def without_connections(dsn: str, **kwargs: Any) -> Pool:
    kwargs["min_size"] = 0
    return pyhist.instrument(psycopg_pool.NullConnectionPool(dsn, **kwargs))


@pytest.mark.parametrize("make", [instrumented, instrumented_when_open, with_our_class, without_connections])
@pytest.mark.parametrize("autocommit", [True, False])
def test_the_next_user_of_a_connection_finds_no_context(
    probe: Probe, make: Callable[..., Pool], autocommit: bool
) -> None:
    kwargs = probe.options | {"autocommit": autocommit}
    with make(probe.dsn, min_size=1, max_size=1, open=True, kwargs=kwargs) as pool:
        with pool.connection() as connection, pyhist.context(user=1):
            connection.execute("INSERT INTO item VALUES (1)")
            connection.execute("SELECT add(2); SELECT add(3)")
        with pool.connection() as connection:
            connection.execute("INSERT INTO item VALUES (4)")
            left = connection.execute("SELECT current_setting('pghistory.context_id', true)").fetchone()
        with pyhist.context(user=2), pool.connection() as connection:
            connection.execute("INSERT INTO item VALUES (5)")
            with pytest.raises(psycopg.errors.UniqueViolation):
                connection.execute("INSERT INTO item VALUES (5)")
            connection.rollback()
        with pool.connection() as connection:
            connection.execute("INSERT INTO item VALUES (6)")
    assert left in (("",), (None,))
    by_user: list[tuple[int, Any]] = [
        (1, {"user": 1}),
        (2, {"user": 1}),
        (3, {"user": 1}),
        (4, None),
        (6, None),
    ]
    assert probe.seen() == (by_user[:4] + [(5, {"user": 2})] * autocommit + by_user[4:])


@pytest.mark.parametrize("by_class", [True, False])
def test_fifty_threads_on_a_pool_of_five_keep_their_contexts(probe: Probe, by_class: bool) -> None:
    kind = pyhist.Connection if by_class else psycopg.Connection
    pool = psycopg_pool.ConnectionPool(
        probe.dsn, connection_class=kind, min_size=5, max_size=5, open=True, kwargs=probe.options
    )

    def write(number: int) -> None:
        with pool.connection() as connection:
            connection.execute("INSERT INTO item VALUES (%s)", [number])

    def work(user: int) -> None:
        with pyhist.context(user=user):
            for number in range(5):
                write(user * 100 + number)
        write(user * 100 + 99)

    with pool if by_class else pyhist.instrument(pool), ThreadPoolExecutor(50) as threads:
        list(threads.map(work, range(50)))
    seen = probe.seen()
    assert len(seen) == 50 * 6
    assert all(got == (None if item % 100 == 99 else {"user": item // 100}) for item, got in seen)


@pytest.mark.parametrize(("by_class", "autocommit"), [(True, False), (False, True)])
def test_fifty_tasks_on_a_pool_of_five_keep_their_contexts(
    probe: Probe, by_class: bool, autocommit: bool
) -> None:
    async def work(pool: psycopg_pool.AsyncConnectionPool[Any], user: int) -> None:
        async with pyhist.context(user=user):
            for number in range(5):
                async with pool.connection() as connection:
                    await connection.execute("INSERT INTO item VALUES (%s)", [user * 100 + number])
        async with pool.connection() as connection:
            await connection.execute("INSERT INTO item VALUES (%s)", [user * 100 + 99])

    async def share() -> None:
        kind = pyhist.AsyncConnection if by_class else psycopg.AsyncConnection
        pool = psycopg_pool.AsyncConnectionPool(
            probe.dsn,
            connection_class=kind,
            min_size=5,
            max_size=5,
            open=False,
            kwargs=probe.options | {"autocommit": autocommit},
        )
        async with pool if by_class else pyhist.instrument(pool):
            await asyncio.gather(*(work(pool, user) for user in range(50)))

    asyncio.run(share())
    seen = probe.seen()
    assert len(seen) == 50 * 6
    assert all(got == (None if item % 100 == 99 else {"user": item // 100}) for item, got in seen)
