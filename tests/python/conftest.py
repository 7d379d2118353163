"""Connections that carry the context, and a database to see it in."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from typing import Any

import psycopg
import pytest
from blocking import Blocking
from probe import PROBE, Probe

import pyhist


@pytest.fixture
def probe(empty_database: str) -> Iterator[Probe]:
    """A fresh `Probe`."""
    with closing(psycopg.connect(empty_database, autocommit=True)) as observer:
        observer.execute(PROBE)
        yield Probe(empty_database, observer)


@pytest.fixture(params=["sync", "async"])
def open_connection(request: pytest.FixtureRequest, probe: Probe) -> Iterator[Callable[..., Any]]:
    """Call `open_connection(carrying=True, **kwargs)` for a connection to the probe; one that blocks."""
    with ExitStack() as stack:
        if request.param == "async":
            loop = stack.enter_context(closing(asyncio.new_event_loop()))

        def open_connection(carrying: bool = True, **kwargs: Any) -> Any:
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
