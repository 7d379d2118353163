"""SQLAlchemy engines whose connections carry the context to the server.

An engine's driver does it: psycopg, psycopg2 or asyncpg, by the class of connection that pyhist has for it.
What SQLAlchemy does with the connections stays as it is, AUTOCOMMIT included.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy import Engine, event, exc

from pyhist import connection
from pyhist.errors import HistoryError

if TYPE_CHECKING:
    from sqlalchemy.engine import Dialect
    from sqlalchemy.pool import ConnectionPoolEntry

DRIVERS = ("psycopg", "psycopg_async", "psycopg2", "asyncpg")


def instrument(engine: Engine) -> None:
    """Makes all connections of an engine carry the context.

    Those that it has opened before do so, too: as soon as they are taken from the pool again.

    Raises:
        TypeError: its driver is another one.
    """
    if engine.dialect.driver not in DRIVERS:
        raise TypeError(
            f"instrument() takes an engine of psycopg, psycopg2 or asyncpg, not of {engine.dialect.driver}"
        )
    event.listen(engine, "do_connect", _choose_class)
    event.listen(engine, "connect", _check_new, insert=True)
    event.listen(engine, "checkout", _check_pooled, insert=True)


def _choose_class(
    dialect: Dialect, record: ConnectionPoolEntry, arguments: list[Any], options: dict[str, Any]
) -> None:
    """Asks the driver for connections of our class. psycopg's need not be: they can become it."""
    if dialect.driver == "psycopg2":
        from pyhist.psycopg2 import Connection

        options.setdefault("connection_factory", Connection)
    elif dialect.driver == "asyncpg":
        from pyhist.asyncpg import Connection as AsyncConnection

        options.setdefault("connection_class", AsyncConnection)


def _check_new(_: Any, record: ConnectionPoolEntry) -> None:
    if not _carries(record.driver_connection):
        kind = type(record.driver_connection)
        raise HistoryError(
            f"{kind.__module__}.{kind.__qualname__} cannot carry a context",
            hint="Have what makes the engine's connections make those of pyhist.psycopg2 or pyhist.asyncpg.",
        )


def _check_pooled(_: Any, record: ConnectionPoolEntry, proxy: Any) -> None:
    if not _carries(record.driver_connection):
        raise exc.DisconnectionError("opened before instrument()")  # which makes the pool open another one


def _carries(target: Any) -> bool:
    """Whether a driver's connection carries the context, now at the latest."""
    if hasattr(target, "_history_ids"):
        return True
    try:
        connection.instrument(target)
    except TypeError:
        return False
    return True
