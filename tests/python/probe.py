"""A table that tells with which settings a row was written."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import psycopg

PROBE = """
CREATE TABLE item (id integer PRIMARY KEY, name text);
CREATE TABLE seen (
    number bigserial, item integer, name text,
    context_id text DEFAULT current_setting('pghistory.context_id', true),
    metadata text DEFAULT current_setting('pghistory.context_metadata', true));
CREATE FUNCTION see() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        INSERT INTO seen (item, name) SELECT NEW.id, NEW.name;
        RETURN NULL;
    END $$;
CREATE TRIGGER see AFTER INSERT OR UPDATE ON item FOR EACH ROW EXECUTE FUNCTION see();
CREATE FUNCTION add(id integer, name text DEFAULT NULL) RETURNS integer LANGUAGE plpgsql AS $$
    BEGIN
        INSERT INTO item VALUES (id, name);
        RETURN id;
    END $$;
"""


@dataclass(frozen=True)
class Probe:
    """A database with a table `item`, a function `add(id)` that writes to it, and what was seen of that.

    `dsn` leads there directly or through a PgBouncer; the observer is always connected directly.
    """

    dsn: str
    observer: psycopg.Connection[Any]
    through_pgbouncer: bool = False

    @property
    def options(self) -> dict[str, Any]:
        """What psycopg's `connect` needs besides the connection string."""
        return {"prepare_threshold": None} if self.through_pgbouncer else {}

    def seen(self) -> list[tuple[int, dict[str, Any] | None]]:
        """The items written since the last look, and the metadata they were written with, in order."""
        rows = self.observer.execute(
            "DELETE FROM seen RETURNING number, item, context_id, metadata"
        ).fetchall()
        return [
            (item, json.loads(metadata) if context_id else None)
            for _, item, context_id, metadata in sorted(rows)
        ]

    def ids(self) -> list[str]:
        """The ids of the contexts that items were written with since the last look."""
        rows = self.observer.execute("DELETE FROM seen RETURNING number, context_id").fetchall()
        return [context_id for _, context_id in sorted(rows)]
