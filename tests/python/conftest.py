"""Connections that carry the context, and a database to see it in."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack, closing
from typing import Any

import psycopg
import pytest
from blocking import Blocking
from both_ways import BOTH_WAYS, DIRECT_ONLY
from pgbouncer import pooled
from probe import PROBE, Probe

import pyhist
from pyhist import aio

Functions = Any


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Runs tests of drivers twice: with a server, and with a PgBouncer in front of it."""
    if "through_pgbouncer" in metafunc.fixturenames and metafunc.module.__name__ in BOTH_WAYS:
        ways = {"direct": False}
        if metafunc.function.__name__ not in DIRECT_ONLY:
            ways["pgbouncer"] = True
        metafunc.parametrize("through_pgbouncer", ways.values(), ids=ways.keys(), indirect=True)


@pytest.fixture
def through_pgbouncer(request: pytest.FixtureRequest) -> bool:
    """Whether the test's connections go through a PgBouncer."""
    return getattr(request, "param", False)


@pytest.fixture
def probe(request: pytest.FixtureRequest, empty_database: str, through_pgbouncer: bool) -> Iterator[Probe]:
    """A fresh `Probe`."""
    with closing(psycopg.connect(empty_database, autocommit=True)) as observer:
        observer.execute(PROBE)
        dsn = empty_database
        if through_pgbouncer:
            request.getfixturevalue("pgbouncer")
            dsn = pooled(dsn)
        yield Probe(dsn, observer, through_pgbouncer)


@pytest.fixture(params=["sync", "async"])
def open_connection(request: pytest.FixtureRequest, probe: Probe) -> Iterator[Callable[..., Any]]:
    """Call `open_connection(carrying=True, **kwargs)` for a connection to the probe; one that blocks."""
    with ExitStack() as stack:
        if request.param == "async":
            loop = stack.enter_context(closing(asyncio.new_event_loop()))

        def open_connection(carrying: bool = True, **kwargs: Any) -> Any:
            kwargs = probe.options | kwargs
            if request.param == "sync":
                kind = pyhist.Connection if carrying else psycopg.Connection
                return stack.enter_context(closing(kind.connect(probe.dsn, **kwargs)))
            async_kind = pyhist.AsyncConnection if carrying else psycopg.AsyncConnection
            connection = loop.run_until_complete(async_kind.connect(probe.dsn, **kwargs))
            stack.callback(lambda: loop.run_until_complete(connection.close()))
            return Blocking(connection, loop)

        yield open_connection


@pytest.fixture(params=["autocommit", "transactions"])
def carrying(request: pytest.FixtureRequest, open_connection: Callable[..., Any]) -> Any:
    """A connection to the probe that carries the context."""
    return open_connection(autocommit=request.param == "autocommit")


class AwaitedFunctions:
    """`pyhist.aio` with the face of `pyhist`."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop

    def __getattr__(self, name: str) -> Callable[..., Any]:
        function = getattr(aio, name)

        def awaited(connection: Blocking, *args: Any, **kwargs: Any) -> Any:
            result = function(connection._target, *args, **kwargs)
            if isinstance(result, AsyncIterator):
                return Blocking(result, self._loop)
            return self._loop.run_until_complete(result)

        return awaited


@pytest.fixture(params=["sync", "async"])
def pair(request: pytest.FixtureRequest, database: str) -> Iterator[tuple[Functions, Any]]:
    """The functions, and a connection in autocommit mode to give them, to a database with a table `users`."""
    with psycopg.connect(database, autocommit=True) as setup:
        setup.execute("CREATE TABLE users (id integer PRIMARY KEY, username text, email text)")
        setup.execute("CREATE TABLE lines (number integer, item integer, PRIMARY KEY (number, item))")
    if request.param == "sync":
        with closing(psycopg.connect(database, autocommit=True)) as connection:
            yield pyhist, connection
    else:
        with closing(asyncio.new_event_loop()) as loop:
            opened = loop.run_until_complete(psycopg.AsyncConnection.connect(database, autocommit=True))
            yield AwaitedFunctions(loop), Blocking(opened, loop)
            loop.run_until_complete(opened.close())
