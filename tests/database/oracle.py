"""What events ought to say, worked out without the code that writes them.

An image is the text of a row, as record_out writes it: rows of the types in these tests have one text just if
they are the same by image. A key is the text of the columns that name the object.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol
from uuid import UUID

from history import Connection, quoted
from psycopg import sql


@dataclass(frozen=True)
class Table:
    """A table, the columns that are recorded of it, and those that name its objects."""

    schema: str
    name: str
    fields: tuple[str, ...]
    key: tuple[str, ...] = ()

    @property
    def identifier(self) -> sql.Identifier:
        return sql.Identifier(self.schema, self.name)

    @property
    def regclass(self) -> str:
        """The name as text that the server reads as a regclass."""
        return quoted(self.schema, self.name)


class Change(NamedTuple):
    """What an event says about a row, and the context it says it happened in."""

    context_id: str
    operation: str
    key: str
    other_key: str | None
    image: str


@dataclass(frozen=True)
class Event:
    """An event as it stands in an event table, its values as text."""

    id: int
    label: str
    operation: str
    key: str
    other_key: str | None
    image: str
    key_of_image: str
    context_id: UUID | None
    is_of_its_transaction: bool

    @property
    def change(self) -> Change:
        return Change(str(self.context_id), self.operation, self.key, self.other_key, self.image)


def read_table(connection: Connection, schema: str, name: str, key: Sequence[str] | None = None) -> Table:
    """Describe a table: all of its columns, and its primary key unless another key is given."""
    columns = connection.execute(
        """
        SELECT a.attname, COALESCE(array_position(i.indkey::smallint[], a.attnum), -1)
          FROM pg_attribute AS a LEFT JOIN pg_index AS i ON i.indrelid = a.attrelid AND i.indisprimary
         WHERE a.attrelid = format('%%I.%%I', %s::text, %s::text)::regclass
           AND a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated <> 'v'
         ORDER BY a.attnum
        """,
        (schema, name),
    ).fetchall()
    if key is None:
        key = [column for column, position in sorted(columns, key=lambda row: row[1]) if position >= 0]
    return Table(schema, name, tuple(column for column, _ in columns), tuple(key))


def record(columns: Sequence[str], relation: str | None = None) -> sql.Composable:
    """The SQL expression for the text of some columns."""
    names = [sql.Identifier(*filter(None, (relation, column))) for column in columns]
    return sql.SQL("ROW({})::text").format(sql.SQL(", ").join(names))


def object_columns(key: Sequence[str], kind: str = "obj") -> list[str]:
    """The columns of an event table that hold the object's key, or with kind 'other' its other key."""
    return [f"pgh_{kind}_id"] if len(key) == 1 else [f"pgh_{kind}_{column}" for column in key]


def read_rows(connection: Connection, table: Table, *, only: bool = True) -> list[tuple[str, str]]:
    """The key and the image of every row."""
    return connection.execute(
        sql.SQL("SELECT {}, {} FROM {} {}").format(
            record(table.key), record(table.fields), sql.SQL("ONLY" if only else ""), table.identifier
        )
    ).fetchall()


def read_events(
    connection: Connection,
    event_table: str,
    table: Table,
    *,
    after: int = 0,
    fields: Sequence[str] | None = None,
) -> list[Event]:
    """The events behind one pgh_id, oldest first. `event_table` is a name as SQL writes it.

    Call it in the transaction that wrote them to learn whether they say so.
    """
    if fields is None:
        fields = table.fields
    other_columns = object_columns(table.key, "other")
    has_other = [sql.SQL("{} IS NOT NULL").format(sql.Identifier(column)) for column in other_columns]
    events = connection.execute(
        sql.SQL(
            """
            SELECT pgh_id, pgh_label, pgh_operation::text, {key}, CASE WHEN {has_other} THEN {other_key} END,
                   {image}, {key_of_image}, pgh_context_id,
                   pgh_created_at = now() AND pgh_xid = pg_current_xact_id()
              FROM {event_table}
             WHERE pgh_id > {after}
             ORDER BY pgh_id
            """
        ).format(
            key=record(object_columns(table.key)),
            has_other=sql.SQL(" OR ").join(has_other or [sql.SQL("false")]),
            other_key=record(other_columns),
            image=record(fields),
            key_of_image=record([column for column in table.key if column in fields]),
            event_table=sql.SQL(event_table),
            after=sql.Literal(after),
        )
    ).fetchall()
    return [Event(*event) for event in events]


def last_id(connection: Connection, event_tables: Iterable[str]) -> dict[str, int]:
    """The last pgh_id of each event table."""
    query = sql.SQL(" UNION ALL ").join(
        sql.SQL("SELECT {}, COALESCE(max(pgh_id), 0) FROM {}").format(sql.Literal(name), sql.SQL(name))
        for name in event_tables
    )
    return dict(connection.execute(query).fetchall())


class ImpossibleError(AssertionError):
    """An event that tells of a change that cannot have happened after the events before it."""


def differences(expected: Iterable[Any], found: Iterable[Any]) -> dict[str, list[Any]]:
    """What is expected and not found, and what is found and not expected; nothing if they agree."""
    lacking, surplus = Counter(expected), Counter(found)
    lacking, surplus = lacking - surplus, surplus - lacking
    return {
        name: sorted(counter.elements())
        for name, counter in (("lacking", lacking), ("surplus", surplus))
        if counter
    }


def replay(rows: Iterable[tuple[str, str]], events: Iterable[Event]) -> Iterator[tuple[str, str]]:
    """Apply the events of kind `history` of a table with a key to its rows, and return the rows afterwards.

    Rows that exchange their keys are at the same key for a moment: who came first is the one to leave.

    Raises ImpossibleError if an event does not follow from what was there before, or tells of no change.
    """
    state: defaultdict[str, list[str]] = defaultdict(list)
    for key, image in rows:
        state[key].append(image)
    for event in events:
        images = state[event.key]
        if event.operation == "I":
            images.append(event.image)
        elif event.operation == "U":
            images = state[event.key if event.other_key is None else event.other_key]
            if not images:
                raise ImpossibleError(f"nothing was there to be updated: {event}")
            before = images.pop(0 if event.other_key is not None else -1)
            if before == event.image:
                raise ImpossibleError(f"an update that changed nothing: {event}")
            state[event.key].append(event.image)
        elif event.operation in ("D", "T"):
            if event.image not in images:
                raise ImpossibleError(f"nothing such was there to go, but {images}: {event}")
            images.remove(event.image)
        else:
            raise ImpossibleError(f"an operation that history does not have: {event}")
    return ((key, image) for key, images in state.items() for image in images)


def replay_without_key(rows: Iterable[str], events: Sequence[Event], rows_after: Iterable[str]) -> None:
    """Check the events of kind `history` of a table without a key against its rows before and after.

    Such events do not tell which row an update changed. But what was there before and what came must be what
    is there afterwards, what went, and one old row for each update.

    Raises ImpossibleError if it is not.
    """
    balance: Counter[str] = Counter(rows)
    balance.update(event.image for event in events if event.operation in ("I", "U"))
    balance.subtract(event.image for event in events if event.operation in ("D", "T"))
    balance.subtract(rows_after)
    updates = sum(event.operation == "U" for event in events)
    if min(balance.values(), default=0) < 0 or balance.total() != updates:
        raise ImpossibleError(f"{updates} updates left {+balance}, and lack {-balance}")
    if unknown := {event.operation for event in events} - set("IUDT"):
        raise ImpossibleError(f"operations that history does not have: {unknown}")


def check_last_events(connection: Connection, table: Table, event_table: str) -> None:
    """Check that the last event of each object is its row, and that of a lost object says that it is gone.

    An object is gone, too, if a later update gave it another key.
    """
    events = read_events(connection, event_table, table)
    last = {event.key: event for event in events}
    left = {event.other_key: event.id for event in events if event.other_key is not None}
    there = {
        key: event.image
        for key, event in last.items()
        if event.operation not in ("D", "T") and left.get(key, 0) < event.id
    }
    wrong = differences(read_rows(connection, table, only=False), there.items())
    assert not wrong, wrong


IMAGES = {
    "snapshot": {"INSERT": ("I", "new"), "UPDATE": ("U", "new")},
    "after_insert": {"INSERT": ("I", "new")},
    "after_insert_or_update": {"INSERT": ("I", "new"), "UPDATE": ("U", "new")},
    "before_update": {"UPDATE": ("B", "old")},
    "after_update": {"UPDATE": ("U", "new")},
    "before_delete": {"DELETE": ("D", "old")},
    "before_truncate": {"TRUNCATE": ("T", "old")},
    "history": {
        "INSERT": ("I", "new"),
        "UPDATE": ("U", "new"),
        "DELETE": ("D", "old"),
        "TRUNCATE": ("T", "old"),
    },
}
"""The letter and the image of an event, by kind of tracker and what happened."""

ONLY_CHANGES = ("snapshot", "history")
"""The kinds that want an update only if it changed something."""


class Watched(Protocol):
    """A tracker, as far as it says which events it wants."""

    kind: str
    condition: str | None
    """An SQL condition over OLD and NEW."""
    changing: tuple[str, ...] | None
    """Columns of which one must change."""


class Recorder:
    """Writes down what happens to the rows of a table, by plain row triggers that keep old and new row.

    Make it in an empty transaction or in none; `leaves` are the tables that the rows are in.
    """

    def __init__(
        self, connection: Connection, table: Table, trackers: Sequence[Watched], leaves: Sequence[str]
    ) -> None:
        self.connection, self.table, self.trackers = connection, table, trackers
        self.log = self._name("log")
        connection.execute(
            sql.SQL(
                """
                CREATE TABLE {} (
                    number bigint GENERATED ALWAYS AS IDENTITY, context_id text, operation text,
                    old_parts text[], new_parts text[], wanted boolean[])
                """
            ).format(self.log)
        )
        for operation in ("INSERT", "UPDATE", "DELETE"):
            self._create_trigger(table.identifier, "AFTER", operation, "ROW", sql.SQL(""))
        for leaf in leaves:
            relation = sql.Identifier(table.schema, leaf)
            rows = sql.SQL("FROM ONLY {} AS old").format(relation)
            self._create_trigger(relation, "BEFORE", "TRUNCATE", "STATEMENT", rows, leaf)

    def _name(self, *words: str) -> sql.Identifier:
        """A name in the table's schema that nothing else has."""
        return sql.Identifier(self.table.schema, " ".join(["recorder", *words, self.table.name])[:40])

    def _create_trigger(
        self,
        relation: sql.Identifier,
        timing: str,
        operation: str,
        level: str,
        rows: sql.Composable,
        leaf: str = "",
    ) -> None:
        function = self._name(operation, leaf)
        text = "#variable_conflict use_column\nBEGIN INSERT INTO {} SELECT {} {}; RETURN NULL; END"
        body = sql.SQL(text).format(self._columns, self._values(operation), rows)
        self.connection.execute(
            sql.SQL(
                """
                CREATE FUNCTION {function}() RETURNS trigger LANGUAGE plpgsql AS {body};
                CREATE TRIGGER "!recorder {operation}" {timing} {operation} ON {relation}
                    FOR EACH {level} EXECUTE FUNCTION {function}();
                """
            ).format(
                function=function,
                body=sql.Literal(body.as_string(None)),
                timing=sql.SQL(timing),
                operation=sql.SQL(operation),
                relation=relation,
                level=sql.SQL(level),
            )
        )

    @property
    def _columns(self) -> sql.Composable:
        return sql.SQL("{} (context_id, operation, old_parts, new_parts, wanted)").format(self.log)

    def _values(self, operation: str) -> sql.Composable:
        def parts(image: str) -> sql.Composable:
            records = [record([column], image) for column in self.table.fields]
            return sql.SQL("ARRAY[{}]::text[]").format(sql.SQL(", ").join(records))

        nothing = sql.SQL("NULL")
        wanted = [
            sql.SQL("COALESCE(({}), false)").format(sql.SQL(tracker.condition))
            if tracker.condition and operation in IMAGES[tracker.kind]
            else sql.SQL("true")
            for tracker in self.trackers
        ]
        return sql.SQL("current_setting('pghistory.context_id', true), {}, {}, {}, ARRAY[{}]").format(
            sql.Literal(operation),
            nothing if operation == "INSERT" else parts("old"),
            parts("new") if operation in ("INSERT", "UPDATE") else nothing,
            sql.SQL(", ").join(wanted),
        )

    def _record(self, parts: Sequence[str], columns: Sequence[str]) -> str:
        """The text of a record of some columns, put together from records of one column."""
        return "(" + ",".join(parts[self.table.fields.index(column)][1:-1] for column in columns) + ")"

    def expected(self, tracker: Watched, fields: Sequence[str]) -> list[Change]:
        """What the events of a tracker that records some columns ought to be."""
        number = self.trackers.index(tracker)
        watched = tracker.changing
        if not watched and tracker.kind in ONLY_CHANGES:
            watched = tuple(fields) or self.table.fields
        changes = []
        for context_id, operation, old, new, wanted in self.connection.execute(
            sql.SQL(
                "SELECT context_id, operation, old_parts, new_parts, wanted FROM {} ORDER BY number"
            ).format(self.log)
        ).fetchall():
            if operation not in IMAGES[tracker.kind] or not wanted[number]:
                continue
            if operation == "UPDATE" and watched and self._record(old, watched) == self._record(new, watched):
                continue
            letter, image = IMAGES[tracker.kind][operation]
            this, other = (old, new) if image == "old" else (new, old)
            key = self._record(this, self.table.key)
            other_key = self._record(other, self.table.key) if operation == "UPDATE" else key
            changes.append(
                Change(
                    context_id,
                    letter,
                    key,
                    None if other_key == key else other_key,
                    self._record(this, fields),
                )
            )
        return changes
