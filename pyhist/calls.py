"""What pyhist asks the server: each SQL function of pghistory as a function that describes one call of it.

Nothing here talks to a server. `pyhist.client` and `pyhist.aio` do what is described here, with a connection
in front: `pyhist.untrack(conn, "users")`. Names, order, meaning and defaults of arguments are those of the
SQL functions, where everything else about them is said.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from types import MappingProxyType
from typing import Any, Generic, TypeAlias, TypeVar
from uuid import UUID, uuid4

from psycopg.rows import RowFactory, RowMaker, TupleRow, tuple_row

from pyhist import exact_json
from pyhist.context import as_json
from pyhist.models import (
    Change,
    Condition,
    CurrentContext,
    Problem,
    RecordedEvent,
    Tracker,
    TrackerStatus,
    UndoStep,
)

T = TypeVar("T")
Rows: TypeAlias = "list[tuple[Any, ...]]"
Metadata: TypeAlias = Mapping[str, Any]
Moment: TypeAlias = date | str  # a datetime is a date, too

NOTHING: Metadata = MappingProxyType({})
UNGIVEN: Any = object()
BATCH = 500  # rows that a stream asks for at once


@dataclass(frozen=True)
class Call(Generic[T]):
    """One statement, and how its rows become a result. As an iterable it is a flow of itself alone.

    Attributes:
        sql: with a `%s` for each argument.
        arguments: text, numbers, lists and the like; never anything that needs an adapter of its own.
        result: makes the result of the rows.
        row_factory: makes the rows, as psycopg's row factories do.
        has_rows: whether the statement is one that gives rows, be it none.
    """

    sql: str
    arguments: tuple[Any, ...]
    result: Callable[[Rows], T]
    row_factory: RowFactory[TupleRow] = tuple_row
    has_rows: bool = True

    def __iter__(self) -> Generator[Call[Any], Rows, T]:
        return self.result((yield self))


Flow: TypeAlias = "Call[T] | Generator[Call[Any], Rows, T]"


@dataclass(frozen=True)
class Stream(Generic[T]):
    """A query whose rows are asked for in batches, and how each of them becomes an item.

    The server keeps the rest in a cursor. It is one WITH HOLD: in autocommit, what the program does between
    two items must stay what it is, and not become part of a transaction that was opened behind its back; in a
    transaction, the program may commit between two items.

    Attributes:
        query: with a `%s` for each argument.
        arguments: as those of a `Call`.
        item: makes an item of a row.
        row_factory: makes the rows, as psycopg's row factories do.
    """

    query: str
    arguments: tuple[Any, ...]
    item: Callable[[tuple[Any, ...]], T]
    row_factory: RowFactory[TupleRow] = tuple_row

    def calls(self) -> tuple[Call[None], Call[list[T]], Call[None]]:
        """What begins, goes on with and ends one iteration: the second, until it gives less than `BATCH`.

        The last does not fail, and so ends no transaction, if the cursor is gone.
        """
        name = f"pyhist_{uuid4().hex}"
        declare = f"DECLARE {name} NO SCROLL CURSOR WITH HOLD FOR {self.query}"
        close = f"""DO $$
                    DECLARE
                        this refcursor := '{name}';
                    BEGIN
                        CLOSE this;
                    EXCEPTION WHEN invalid_cursor_name THEN
                        NULL;
                    END
                    $$"""
        return (
            Call(declare, self.arguments, lambda _: None, has_rows=False),
            Call(
                f"FETCH FORWARD {BATCH} FROM {name}",
                (),
                lambda rows: [self.item(row) for row in rows],
                self.row_factory,
            ),
            Call(close, (), lambda _: None, has_rows=False),
        )


def track(
    table: str,
    *trackers: Tracker,
    fields: Sequence[str] | None = None,
    exclude: Sequence[str] | None = None,
    event_table: str | None = None,
    obj_key: Sequence[str] | None = None,
    obj_fk: str | None = None,
    context: str = "reference",
    append_only: bool = False,
    partition_by: str | None = None,
    retention: timedelta | str | None = None,
) -> Call[str]:
    """Records what happens to a table's rows from now on: `track(conn, "users", Snapshot("user.snapshot"))`.

    All of the trackers are registered, or none. Mirrors `pghistory.track`.

    Args:
        table: its name, as SQL would write it.
        trackers: what to record.
        fields: the columns to record; None for all, and later ones too; empty for none, only that it
            happened.
        exclude: the columns to leave out instead.
        event_table: where events go; None for a table named after this one.
        obj_key: the columns that name the object; None for the primary key, empty for no reference.
        obj_fk: `cascade`, `restrict` or `set null` for a real foreign key from events to the object.
        context: `reference`, `inline` or `none`.
        append_only: whether events cannot be changed or deleted.
        partition_by: `day`, `week`, `month` or `year` for a partitioned event table.
        retention: how old events may get.

    Returns:
        The name of the event table, as the connection's search_path shows it.

    Raises:
        HistoryError: the server refuses; nothing has changed.
    """
    if not trackers:
        raise TypeError("track() needs a tracker, such as Snapshot('user.snapshot')")
    columns: list[str] = []
    arguments: list[Any] = []
    for tracker in trackers:
        if not isinstance(tracker, Tracker) or type(tracker) is Tracker:
            raise TypeError(
                f"track() needs trackers, such as pyhist.Snapshot('user.snapshot'), not {tracker!r}"
            )
        function, values = _function(
            "track",
            table=table,
            label=tracker.label,
            kind=tracker.kind,
            fields=fields,
            condition=tracker.condition,
            exclude=exclude,
            event_table=event_table,
            obj_key=obj_key,
            obj_fk=obj_fk,
            context=context,
            append_only=append_only,
            level=tracker.level,
            partition_by=partition_by,
            retention=retention,
        )
        columns.append(f"{function}::text")
        arguments += values
    # One statement, so that it is all or nothing in every mode of the connection.
    return Call(f"SELECT {', '.join(columns)}", tuple(arguments), _value)


def untrack(table: str, label: str | None = None, drop_events: bool = False) -> Call[int]:
    """Removes one tracker of a table, or all of them; their events stay unless `drop_events`.

    Mirrors `pghistory.untrack`.

    Returns:
        How many trackers were removed.
    """
    return _scalar("untrack", table=table, label=label, drop_events=drop_events)


def trackers() -> Call[list[TrackerStatus]]:
    """What is tracked. Mirrors `pghistory.trackers`."""
    return Call(
        """SELECT "table"::text, label, kind, fields, exclude, condition, event_table::text, obj_key, obj_fk,
                  context, append_only, level, partition_by, retention::text, status, definition
             FROM pghistory.trackers()""",
        (),
        lambda rows: [TrackerStatus(*row) for row in rows],
    )


def create_event_table(
    table: str,
    name: str | None = None,
    fields: Sequence[str] | None = None,
    exclude: Sequence[str] | None = None,
    obj_key: Sequence[str] | None = None,
    obj_fk: str | None = None,
    context: str = "reference",
    append_only: bool = False,
) -> Call[str]:
    """Creates an event table to add columns, indexes or constraints to before `track` names it.

    Mirrors `pghistory.create_event_table`.

    Returns:
        The name of the event table, as the connection's search_path shows it.
    """
    return _scalar(
        "create_event_table",
        "text",
        table=table,
        name=name,
        fields=fields,
        exclude=exclude,
        obj_key=obj_key,
        obj_fk=obj_fk,
        context=context,
        append_only=append_only,
    )


def create_event(table: Any, obj: Any = UNGIVEN, label: str = UNGIVEN) -> Call[int]:
    """Writes one event by hand: `create_event(conn, "users", 1, label="user.login")`.

    Mirrors `pghistory.create_event` in both its forms. In the other, `create_event(conn, row,
    label="user.login")`, the row is a value of the table's type, as psycopg's `register_composite` makes it.

    Args:
        table: a tracked table's name, as SQL would write it; or a row.
        obj: the key of the row that it is about; a mapping from columns to values for a key of several
            columns.
        label: a label that is registered for the table.

    Returns:
        The `pgh_id` of the event.
    """
    if obj is UNGIVEN or label is UNGIVEN:
        row, label = table, obj if label is UNGIVEN else label
        if label is UNGIVEN:
            raise TypeError("create_event() needs a label")
        return Call("SELECT pghistory.create_event(%s, %s::text)", (row, label), _value)
    return _scalar("create_event", table=table, obj=as_key(obj), label=label)


def change(change: Change, /, *fields: str) -> Call[str]:
    """The text of a condition. Mirrors `pghistory.any_change` and its fellows, whose name comes first."""
    sql, values = _condition(Condition(change, fields))
    return Call(f"SELECT {sql}", values, _value)


def set_context(
    metadata: Metadata = NOTHING, id: UUID | str | None = None, is_local: bool = True
) -> Call[UUID]:
    """Starts a context on the server, or adds to the active one. Mirrors `pghistory.set_context`.

    Programs that can use `pyhist.context` need not call this.

    Args:
        metadata: what to add; values that JSON does not know become text.
        id: the context's id; None for the active one's, or a new one.
        is_local: whether it ends with the transaction. Otherwise it lasts for the session: not for pooled
            connections.

    Returns:
        The context's id.
    """
    return _scalar("set_context", metadata=metadata, id=id, is_local=is_local)


def add_context(metadata: Metadata) -> Call[UUID | None]:
    """Adds to the context that is active on the server, if any. Mirrors `pghistory.add_context`.

    Returns:
        The context's id, or None if none is active.
    """
    return _scalar("add_context", metadata=metadata)


def clear_context() -> Call[None]:
    """Ends the context that is active on the server. Mirrors `pghistory.clear_context`."""
    return _procedure("clear_context")


def current_context() -> Call[CurrentContext]:
    """The context that is active on the server. Mirrors `pghistory.current_context`."""
    return Call(
        "SELECT id, metadata::text FROM pghistory.current_context()",
        (),
        lambda rows: CurrentContext(rows[0][0], None if rows[0][1] is None else json.loads(rows[0][1])),
    )


def capture(*keys: str) -> Call[None]:
    """Puts these facts about the session into the context of every event; none switches it off.

    Mirrors `pghistory.capture`, which says which facts there are.
    """
    return _procedure("capture", keys=keys)


def events(
    table: str | None = None,
    obj: Any = None,
    label: str | None = None,
    context_id: UUID | str | None = None,
    since: Moment | None = None,
    until: Moment | None = None,
    max_rows: int | None = None,
) -> Stream[RecordedEvent]:
    """What happened, newest first: `for event in events(conn, "users", 1)`. Mirrors `pghistory.events`.

    The result is an iterator (`async for event in pyhist.aio.events(...)`) that asks for events in batches:
    a history of any size needs little memory here. The question is put when the iteration begins, and
    answered as of then. The server keeps the answer in a cursor, which ends with the iterator: when it is
    exhausted, closed (`close()`, `aclose()`) or gone. Between two events the connection can be used for
    anything, commits included; a rollback of the transaction that the iteration began in ends it with an
    error. In autocommit the cursor is the session's: behind a pooler that shares sessions among transactions,
    iterate in a transaction.

    Args:
        table: a tracked table's name, as SQL would write it; None for all that the role may read.
        obj: the key of an object; a mapping from columns to values for a key of several columns.
        label: only events of this name.
        context_id: only events of this context.
        since: only events of transactions that began then or later; text as PostgreSQL reads it.
        until: only events of transactions that began before.
        max_rows: how many events to give at most, the newest.

    Raises:
        HistoryError: the server refuses; raised when the iteration begins.
    """
    return _events(
        "events",
        table=table,
        obj=obj,
        label=label,
        context_id=context_id,
        since=since,
        until=until,
        max_rows=max_rows,
    )


def references(
    table: str,
    obj: Any,
    label: str | None = None,
    context_id: UUID | str | None = None,
    since: Moment | None = None,
    until: Moment | None = None,
    max_rows: int | None = None,
) -> Stream[RecordedEvent]:
    """The events of an object, and of the rows whose foreign keys point, or pointed, at it: newest first.

    An iterator, as that of `events`, with the same arguments. Mirrors `pghistory.references`.
    """
    return _events(
        "references",
        table=table,
        obj=obj,
        label=label,
        context_id=context_id,
        since=since,
        until=until,
        max_rows=max_rows,
    )


def undo(context_id: UUID | str, force: bool = False) -> Call[int]:
    """Takes back everything that was done under a context. Mirrors `pghistory.undo`.

    What it does is recorded itself, under the active context or one of its own, which says what was undone.

    Args:
        context_id: the context's id.
        force: whether to go on where rows were changed since.

    Returns:
        How many changes were taken back.

    Raises:
        HistoryError: the server refuses, such as for rows that changed since; nothing has changed.
    """
    return _scalar("undo", context_id=context_id, force=force)


def undo_transaction(xid: int, force: bool = False) -> Call[int]:
    """Takes back everything that a transaction did. Mirrors `pghistory.undo_transaction`.

    Args:
        xid: the transaction's number, as in `RecordedEvent.xid`.
        force: whether to go on where rows were changed since.

    Returns:
        How many changes were taken back.

    Raises:
        HistoryError: as for `undo`.
    """
    return _scalar("undo_transaction", xid=xid, force=force)


def undo_plan(context_id: UUID | str) -> Call[list[UndoStep]]:
    """What `undo` would do, step by step; nothing is changed. Mirrors `pghistory.undo_plan`."""
    return _plan("undo_plan", context_id=context_id)


def undo_transaction_plan(xid: int) -> Call[list[UndoStep]]:
    """What `undo_transaction` would do, step by step; nothing is changed.

    Mirrors `pghistory.undo_transaction_plan`.
    """
    return _plan("undo_transaction_plan", xid=xid)


def backfill(table: str, label: str | None = None, pages: range | None = None) -> Call[int]:
    """Writes an `S` event for each row that has no event yet. Mirrors `pghistory.backfill`.

    It can be called again, also after it was interrupted, and while others write.

    Args:
        table: a tracked table's name, as SQL would write it; with `pages` also that of a partition of one.
        label: the name of the events; None for the label of the table's tracker.
        pages: only the rows in these pages (blocks) of the table, so that a large table can be gone through
            in transactions of bearable size: `range(0, 1000)`.

    Returns:
        How many events were written.
    """
    if pages is not None and pages.step != 1:
        raise TypeError(f"pages follow one another, not as in {pages!r}")
    return _scalar(
        "backfill",
        table=table,
        label=label,
        pages=None if pages is None else f"[{pages.start},{pages.stop})",
    )


def sync(table: str | None = None) -> Call[None]:
    """Makes event tables follow DDL, where event triggers may not be used. Mirrors `pghistory.sync`.

    Args:
        table: the table; None for all that the caller owns.
    """
    return _procedure("sync", table=table)


def verify() -> Call[list[Problem]]:
    """What is wrong with what tracks tables: nothing, when all is well. Mirrors `pghistory.verify`."""
    return Call(
        'SELECT "table"::text, object, problem, hint FROM pghistory.verify()',
        (),
        lambda rows: [Problem(*row) for row in rows],
    )


def refresh() -> Call[None]:
    """Repairs what `verify` finds, in all tables that the caller owns. Mirrors `pghistory.refresh`."""
    return _procedure("refresh")


_TYPES = {
    "table": "regclass",
    "fields": "text[]",
    "exclude": "text[]",
    "obj_key": "text[]",
    "keys": "text[]",
    "append_only": "boolean",
    "drop_events": "boolean",
    "is_local": "boolean",
    "retention": "interval",
    "metadata": "jsonb",
    "id": "uuid",
    "context_id": "uuid",
    "since": "timestamptz",
    "until": "timestamptz",
    "max_rows": "bigint",
    "xid": "xid8",
    "force": "boolean",
    "pages": "int8range",
}
_VARIADIC = frozenset({"keys"})


def _function(name: str, /, **arguments: Any) -> tuple[str, tuple[Any, ...]]:
    """The call of an SQL function, and the values for its `%s`. None leaves an argument to its default."""
    written: list[str] = []
    values: list[Any] = []
    for argument, value in arguments.items():
        if value is None:
            continue
        sql, these = _argument(argument, value)
        written.append(f'{"VARIADIC " * (argument in _VARIADIC)}"{argument}" => {sql}')
        values += these
    return f"pghistory.{name}({', '.join(written)})", tuple(values)


def _argument(name: str, value: Any) -> tuple[str, tuple[Any, ...]]:
    if isinstance(value, Condition):
        return _condition(value)
    kind = _TYPES.get(name, "text")
    if kind == "text[]":
        if isinstance(value, str):
            raise TypeError(f"{name} is a list of names, not {value!r}")
        value = list(value)
    elif kind == "jsonb":
        value = json.dumps(as_json(value))
    elif kind == "xid8":
        value = str(value)  # no number can be cast to it
    return f"%s::{kind}", (value,)


def _condition(condition: Condition) -> tuple[str, tuple[Any, ...]]:
    return f"pghistory.{condition.change}(VARIADIC %s::text[])", (list(condition.fields),)


def as_key(obj: Any) -> str | None:
    """An object's key as SQL functions take it; None stays None."""
    if obj is None:
        return None
    return json.dumps(as_json(obj)) if isinstance(obj, Mapping) else str(obj)


def dict_behind(count: int) -> RowFactory[TupleRow]:
    """A row factory: the first values as they are, and behind them a dict of the others."""

    def row_factory(cursor: Any) -> RowMaker[TupleRow]:
        names = [column.name for column in cursor.description[count:]]
        return lambda values: (*values[:count], dict(zip(names, values[count:], strict=True)))

    return row_factory


def _events(name: str, /, *, obj: Any, **arguments: Any) -> Stream[RecordedEvent]:
    function, values = _function(name, obj=as_key(obj), **arguments)
    return Stream(
        f"""SELECT pgh_id, pgh_label, pgh_operation::text, pgh_data::text, pgh_diff::text, pgh_context::text,
                   pgh_context_id, pgh_created_at, pgh_xid::text, pgh_obj_table::text, pgh_event_table::text,
                   pgh_obj_id, pgh_slug
              FROM {function}""",
        values,
        _recorded_event,
    )


def _recorded_event(row: tuple[Any, ...]) -> RecordedEvent:
    id, label, operation, data, diff, context, context_id, created_at, xid, *others = row
    return RecordedEvent(
        id,
        label,
        operation,
        exact_json.loads(data),
        exact_json.loads(diff),
        None if context is None else json.loads(context),
        context_id,
        created_at,
        int(xid),
        *others,
    )


def _plan(name: str, /, **arguments: Any) -> Call[list[UndoStep]]:
    function, values = _function(name, **arguments)
    return Call(
        f"""SELECT step, "table"::text, obj, action, event, changes::text, conflict
              FROM {function} ORDER BY step""",
        values,
        lambda rows: [
            UndoStep(step, table, obj, action, event, exact_json.loads(changes), conflict)
            for step, table, obj, action, event, changes, conflict in rows
        ],
    )


def _scalar(name: str, kind: str | None = None, /, **arguments: Any) -> Call[Any]:
    function, values = _function(name, **arguments)
    return Call(f"SELECT {function}{f'::{kind}' if kind else ''}", values, _value)


def _procedure(name: str, /, **arguments: Any) -> Call[None]:
    function, values = _function(name, **arguments)
    return Call(f"SELECT FROM {function}", values, lambda _: None)


def _value(rows: Rows) -> Any:
    return rows[0][0]
