"""What the tests of as_of() share: asking for the past, and the ways in which a table's history is kept."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import psycopg
from history import Connection, rows, track, value

MOMENT = "SELECT clock_timestamp()"

AFTER_IMAGES = ("history",)
BEFORE_IMAGES = ("after_insert", "before_update", "before_delete", "before_truncate")
KEPT_BY = {
    "history": AFTER_IMAGES,
    "snapshots and deletes": ("snapshot", "before_delete", "before_truncate"),
    "after images, each by a tracker": ("after_insert", "after_update", "before_delete", "before_truncate"),
    "before images": BEFORE_IMAGES,
}
"""The kinds of trackers that together tell what a table was like."""


def keep(connection: Connection, table: str, kinds: tuple[str, ...], **options: object) -> str:
    """Track a table by trackers of these kinds; return the event table's name."""
    (event_table,) = {track(connection, table, kind=kind, **options) for kind in kinds}
    return event_table


def moment(connection: Connection) -> datetime:
    """The time, a moment after whatever was done and before whatever is done next."""
    found: datetime = value(connection, MOMENT)
    return found


def as_of(
    connection: Connection, table: str, at: datetime, obj: str | None = None, columns: str = "t::text"
) -> list[Any]:
    """The rows of a table as they were, as sorted texts."""
    query = f"SELECT {columns} FROM pghistory.as_of(NULL::{table.replace('%', '%%')}, %s, %s) AS t"
    return sorted(row[0] if len(row) == 1 else row for row in rows(connection, query, at, obj))


def copy(connection: Connection, table: str, columns: str = "t::text", only: str = "ONLY") -> list[Any]:
    """The rows of a table as they are, in the same form."""
    found = rows(connection, f"SELECT {columns} FROM {only} {table} AS t")
    return sorted(row[0] if len(row) == 1 else row for row in found)


def told(
    connection: Connection, table: str, at: datetime, obj: str | None = None
) -> tuple[list[Any], psycopg.errors.Diagnostic | None]:
    """The rows of a table as they were, or what the server says if it does not know."""
    try:
        return as_of(connection, table, at, obj), None
    except psycopg.errors.ObjectNotInPrerequisiteState as error:
        said = error.diag
    assert said.message_hint
    return [], said


def unknown(
    connection: Connection, table: str, at: datetime, obj: str | None = None
) -> psycopg.errors.Diagnostic | None:
    """What the server says if it does not know what the table was like; nothing if it does."""
    return told(connection, table, at, obj)[1]
