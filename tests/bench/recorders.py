"""What records the writes to a table, or does not: each has a schema with a table `item` of its own."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeAlias

import psycopg
from measure import session
from shapes import Shape, Write

from pyhist.server import Server

Connection: TypeAlias = psycopg.Connection[Any]

UNTRACKED = "untracked"
LIMIT = "by hand"
OURS = ("pghistory, row", "pghistory, statement", "pghistory, auto")


@dataclass(frozen=True)
class Recorder:
    """A name to show, the schema, and what makes a table `item` that is there already record to `events`."""

    name: str
    schema: str
    begin: Callable[[Connection, Shape], None]
    keeps_events: bool = True

    def text(self, shape: Shape, write: Write) -> str:
        """The statement that writes: by hand with the event in the same statement."""
        return by_hand(shape, write) if self.name == LIMIT else write.text

    def empty(self, connection: Connection) -> None:
        """Empty both tables."""
        connection.execute("TRUNCATE item")
        self.empty_events(connection)

    def fill(self, connection: Connection, insert: str) -> None:
        """Empty both tables, and insert rows without events of them."""
        self.empty(connection)
        connection.execute("SET session_replication_role TO replica")
        connection.execute(insert.encode())
        connection.execute("RESET session_replication_role")

    def empty_events(self, connection: Connection) -> None:
        if self.keeps_events:
            connection.execute("TRUNCATE item_event")


def event_insert(shape: Shape, operation: str, source: str, held: Mapping[str, str] | None = None) -> str:
    """The best way to write events of what `source` has: of its columns, or of what `held` says."""
    columns, values = (", ".join(held), ", ".join(held.values())) if held else (shape.names, shape.names)
    return (
        f"INSERT INTO item_event (pgh_created_at, pgh_label, pgh_operation, pgh_xid, pgh_obj_id, {columns}) "
        f"SELECT now(), 'item.history', '{operation}', pg_current_xact_id(), id, {values} FROM {source}"
    )


def by_hand(shape: Shape, write: Write) -> str:
    """Both writes in one statement: the limit of what a trigger can reach."""
    return f"WITH written AS ({write.text} RETURNING *) {event_insert(shape, write.operation, 'written')}"


def track(connection: Connection, level: str, **options: str) -> None:
    more = "".join(f", {name} => '{value}'" for name, value in options.items())
    kind = "" if "kind" in options else ", kind => 'history'"
    connection.execute(f"SELECT pghistory.track('item', level => '{level}'{kind}{more})".encode())


def like_ours(connection: Connection, name: str = "item_event", of: str = "item") -> None:
    """An event table like ours, with the same indexes, to which nothing writes."""
    connection.execute(f"CREATE TABLE model (LIKE {of} INCLUDING ALL)".encode())
    connection.execute("SELECT pghistory.create_event_table('model')")
    connection.execute(f"CREATE TABLE {name} (LIKE model_event INCLUDING ALL)".encode())
    connection.execute("DROP TABLE model_event, model")


untracked = Recorder(UNTRACKED, "untracked", lambda connection, shape: None, keeps_events=False)
limit = Recorder(LIMIT, "by_hand", lambda connection, shape: like_ours(connection))


def ours(name: str) -> Recorder:
    """pghistory, by one of the names in `OURS`."""
    level = name.split(", ")[1]
    return Recorder(name, f"pghistory_{level}", lambda connection, shape: track(connection, level))


def prepare(server: Server, shape: Shape, recorders: Iterable[Recorder], partitions: int = 0) -> None:
    """Make the tables of the recorders, in schemas that are named after the shape and them."""
    for recorder in recorders:
        with session(server) as connection:
            connection.execute(f"CREATE SCHEMA {shape.name}_{recorder.schema}".encode())
        with schema_of(server, shape, recorder) as connection:
            by = " PARTITION BY HASH (id)" if partitions else ""
            connection.execute(f"CREATE TABLE item ({shape.definition}){by}".encode())
            for number in range(partitions):
                of = f"PARTITION OF item FOR VALUES WITH (MODULUS {partitions}, REMAINDER {number})"
                connection.execute(f"CREATE TABLE item_{number} {of}".encode())
            recorder.begin(connection, shape)


@contextmanager
def schema_of(server: Server, shape: Shape, recorder: Recorder) -> Iterator[Connection]:
    """A session in the schema of a recorder."""
    with session(server, f"{shape.name}_{recorder.schema}") as connection:
        yield connection
