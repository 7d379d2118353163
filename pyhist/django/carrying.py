"""Django's connections, made to carry the context."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import psycopg
from django.db.backends.base.base import BaseDatabaseWrapper

from pyhist.connection import instrument, instrument_cursor
from pyhist.context import active_context
from pyhist.django.metadata import RequestMetadata
from pyhist.statements import statements

# What queries begin with that write. A SELECT may, too, by a function, but hardly ever does.
_WRITES = re.compile(rb"(?:INSERT|UPDATE|DELETE|MERGE|TRUNCATE|COPY|WITH|CALL|DO)\b", re.IGNORECASE)


def carry(connection: BaseDatabaseWrapper) -> None:
    """Makes a connection that has just been opened carry the context, if it is one to PostgreSQL.

    Doing it again changes nothing.
    """
    if connection.vendor != "postgresql":
        return
    if isinstance(connection.connection, psycopg.Connection):
        instrument(connection.connection)
    if _prepare not in connection.execute_wrappers:
        connection.execute_wrappers.append(_prepare)


def _prepare(execute: Callable[..., Any], sql: Any, params: Any, many: bool, context: dict[str, Any]) -> Any:
    """Django's own wrapper of `execute()` and `executemany()`: what must be done before."""
    cursor = context["cursor"].cursor
    if isinstance(cursor, psycopg.Cursor):
        instrument_cursor(cursor)  # Django makes those of iterator() itself
    active = active_context()
    for layer in active.layers if active else ():
        if (
            isinstance(layer.metadata, RequestMetadata)
            and layer.metadata.can_ask
            and not context["connection"].needs_rollback
            and _writes(sql, context["connection"])
        ):
            layer.metadata.ask()
    return execute(sql, params, many, context)


def _writes(sql: Any, connection: BaseDatabaseWrapper) -> bool:
    text = sql if isinstance(sql, str | bytes) else sql.as_string(connection.connection)
    text = text.encode() if isinstance(text, str) else text
    return any(_WRITES.match(text, statement.start) for statement in statements(text))
