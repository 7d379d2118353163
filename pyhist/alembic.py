"""Alembic operations that track tables: `op.track` and `op.untrack`, once this module is imported in env.py.

```python
op.track("users", Snapshot("user.snapshot"), fields=["username"])
op.untrack("users", Snapshot("user.snapshot"), fields=["username"])
```

They are statements like any other: part of the migration's transaction, and printed by `--sql`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import sqlalchemy
from alembic.autogenerate import renderers
from alembic.operations import MigrateOperation, Operations
from psycopg import sql
from sqlalchemy.dialects.postgresql.base import ischema_names

from pyhist import calls
from pyhist.models import Condition, Tracker

if TYPE_CHECKING:
    from alembic.autogenerate.api import AutogenContext

# A type of event tables. SQLAlchemy warns of each column with one that it does not know.
ischema_names.setdefault("xid8", sqlalchemy.types.NullType)


@Operations.register_operation("track")
class TrackOp(MigrateOperation):
    """Records what happens to a table's rows from now on.

    Attributes:
        table: its name, as SQL would write it.
        trackers: what to record.
        options: the other arguments of `pyhist.track`.
    """

    def __init__(self, table: str, trackers: Sequence[Tracker], options: dict[str, Any]) -> None:
        calls.track(table, *trackers, **options)  # so that what is wrong is told at once
        self.table = table
        self.trackers = tuple(trackers)
        self.options = options

    @classmethod
    def track(cls, operations: Operations, table: str, *trackers: Tracker, **options: Any) -> None:
        """Records what happens to a table's rows from now on; arguments are those of `pyhist.track`."""
        operations.invoke(cls(table, trackers, options))

    def reverse(self) -> UntrackOp:
        """What takes it back; events stay."""
        return UntrackOp(self.table, self.trackers, self.options)

    def to_diff_tuple(self) -> tuple[Any, ...]:
        """How `alembic check` tells of it."""
        return ("track", self.table, *self.trackers)

    def statements(self) -> Iterator[str]:
        """The SQL."""
        yield _written(calls.track(self.table, *self.trackers, **self.options))


@Operations.register_operation("untrack")
class UntrackOp(MigrateOperation):
    """Stops recording.

    Attributes:
        table: its name, as SQL would write it.
        trackers: what is no longer recorded, as trackers or their labels; without any, all that is.
        options: the other arguments of `pyhist.track`, for taking it back.
        drop_events: whether their events go, too.
    """

    def __init__(
        self,
        table: str,
        trackers: Sequence[Tracker | str] = (),
        options: dict[str, Any] | None = None,
        drop_events: bool = False,
    ) -> None:
        self.table = table
        self.trackers = tuple(trackers)
        self.options = options or {}
        self.drop_events = drop_events

    @classmethod
    def untrack(
        cls,
        operations: Operations,
        table: str,
        *trackers: Tracker | str,
        drop_events: bool = False,
        **options: Any,
    ) -> None:
        """Stops recording: with trackers or labels those, without any all; events stay unless `drop_events`.

        It can be reversed if it is given trackers, and the options that they were tracked with.
        """
        operations.invoke(cls(table, trackers, options, drop_events))

    def reverse(self) -> TrackOp:
        """What takes it back.

        Raises:
            ValueError: it does not say how the table was tracked.
        """
        trackers = [tracker for tracker in self.trackers if isinstance(tracker, Tracker)]
        if not trackers or len(trackers) < len(self.trackers):
            raise ValueError(
                f"untrack({self.table!r}) cannot be reversed: it needs the trackers that were tracked,"
                " such as pyhist.Snapshot('user.snapshot')"
            )
        return TrackOp(self.table, trackers, self.options)

    def to_diff_tuple(self) -> tuple[Any, ...]:
        """How `alembic check` tells of it."""
        return ("untrack", self.table, *self.trackers)

    def statements(self) -> Iterator[str]:
        """The SQL."""
        for tracker in self.trackers or (None,):
            label = tracker.label if isinstance(tracker, Tracker) else tracker
            if isinstance(tracker, Tracker) and label is None:
                named = "(SELECT relname || %s FROM pg_catalog.pg_class WHERE oid = %s::regclass)"
                values = (self.table, f".{tracker.kind}", self.table, self.drop_events)
                yield _written(
                    calls.Call(f"SELECT pghistory.untrack(%s::regclass, {named}, %s)", values, len)
                )
            else:
                yield _written(calls.untrack(self.table, label, self.drop_events))


@Operations.implementation_for(TrackOp)
@Operations.implementation_for(UntrackOp)
def _execute(operations: Operations, operation: TrackOp | UntrackOp) -> None:
    impl = operations.get_context().impl
    for statement in operation.statements():
        if impl.as_sql:  # as it is: SQLAlchemy would double percent signs for the driver
            impl.static_output(f"{statement}{impl.command_terminator}")
        else:
            operations.execute(sqlalchemy.text(statement.replace(":", r"\:")))  # colons are no parameters


@renderers.dispatch_for(TrackOp)
@renderers.dispatch_for(UntrackOp)
def _render(context: AutogenContext, operation: TrackOp | UntrackOp) -> str:
    """The operation as a migration has it."""
    name, options = "track", dict(operation.options)
    if isinstance(operation, UntrackOp):
        name = "untrack"
        options |= {"drop_events": True} if operation.drop_events else {}
    arguments = [repr(operation.table)]
    for tracker in operation.trackers:
        arguments.append(_source(tracker))
        if isinstance(tracker, Tracker):
            context.imports.add(f"from pyhist import {type(tracker).__name__}")
            if isinstance(tracker.condition, Condition):
                context.imports.add(f"from pyhist import {tracker.condition.change}")
    for option, value in options.items():
        arguments.append(f"{option}={value!r}")
        if isinstance(value, timedelta):
            context.imports.add("import datetime")
    prefix = context.opts.get("alembic_module_prefix") or ""
    return f"{prefix}{name}({', '.join(arguments)})"


def _source(value: Any) -> str:
    """The Python that makes a tracker, or what is in it."""
    if isinstance(value, Condition):
        return f"{value.change}({', '.join(map(repr, value.fields))})"
    if not isinstance(value, Tracker):
        return repr(value)
    arguments = [] if value.label is None else [repr(value.label)]
    for option in ("condition", "level"):
        given = getattr(value, option)
        if given is not None:
            arguments.append(f"{option}={_source(given)}")
    return f"{type(value).__name__}({', '.join(arguments)})"


def _written(call: calls.Call[Any]) -> str:
    """The call as a text, with its arguments in it."""
    text: Any = call.sql.replace("%s", "{}")
    return sql.SQL(text).format(*map(sql.Literal, call.arguments)).as_string(None)


def include_object(item: Any, name: str | None, type_: str, reflected: bool, compare_to: Any) -> bool:
    """For `context.configure(include_object=...)`: leaves out what pghistory made.

    Autogenerate drops what is in the database and not in the models. Event tables must not go that way.
    """
    if not reflected or compare_to is not None:
        return True
    table = item if type_ == "table" else getattr(item, "table", None)
    return table is None or not (
        table.schema == "pghistory" or {"pgh_id", "pgh_label"} <= set(table.c.keys())
    )
