"""Looking into databases in which pghistory is installed in one way or another."""

from __future__ import annotations

from typing import Any

import psycopg

import pyhist


def execute(dsn: str, *statements: str) -> None:
    """Execute statements, each in a transaction of its own."""
    with psycopg.connect(dsn, autocommit=True) as connection:
        for statement in statements:
            connection.execute(statement)


def fetch(dsn: str, query: str) -> Any:
    """The first row of a query."""
    with psycopg.connect(dsn) as connection:
        return connection.execute(query).fetchone()


def found(dsn: str) -> pyhist.Installation:
    """How pghistory is installed."""
    with psycopg.connect(dsn) as connection:
        return pyhist.status(connection).installation
