"""The values that pyhist takes and gives."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, ClassVar, Literal, NamedTuple, TypeAlias
from uuid import UUID

from psycopg.types.range import Range

Level: TypeAlias = Literal["auto", "row", "statement"]
How: TypeAlias = Literal["files", "path", "pg_tle", "sql"]
EventTriggers: TypeAlias = Literal["enabled", "disabled", "missing"]
Change: TypeAlias = Literal["any_change", "all_change", "any_dont_change", "all_dont_change"]


@dataclass(frozen=True)
class Condition:
    """A condition that the server writes: what `any_change("email")` and its fellows give.

    Attributes:
        change: the name of the SQL function that writes it, such as `any_change`.
        fields: the columns it is about; without any, the tracked ones.
    """

    change: Change
    fields: tuple[str, ...] = ()


@dataclass(frozen=True)
class Tracker:
    """A rule: when this happens to a row, write an event with this label. Use one of the subclasses.

    Attributes:
        label: the name of the event, such as `user.create`; None for `<table>.<kind>`.
        condition: an SQL boolean over OLD and NEW that narrows it, or a `Condition`; None for always.
        level: `auto`, `row` or `statement`; None for `auto`.
    """

    kind: ClassVar[str]

    label: str | None = None
    condition: str | Condition | None = field(default=None, kw_only=True)
    level: Level | None = field(default=None, kw_only=True)


class Snapshot(Tracker):
    """After an insert, and after an update that changed a tracked field: the new values."""

    kind = "snapshot"


class AfterInsert(Tracker):
    """After an insert: the new values."""

    kind = "after_insert"


class AfterInsertOrUpdate(Tracker):
    """After an insert and after every update: the new values."""

    kind = "after_insert_or_update"


class BeforeUpdate(Tracker):
    """On every update: the old values."""

    kind = "before_update"


class AfterUpdate(Tracker):
    """On every update: the new values."""

    kind = "after_update"


class BeforeDelete(Tracker):
    """On a delete: the old values."""

    kind = "before_delete"


class BeforeTruncate(Tracker):
    """On a truncate: the values of every row about to go."""

    kind = "before_truncate"


class History(Tracker):
    """Everything needed to know the table at any time: snapshots, deletes and truncates."""

    kind = "history"


class Event(Tracker):
    """Never by itself: only by `create_event`."""

    kind = "event"


KINDS: dict[str, type[Tracker]] = {tracker.kind: tracker for tracker in Tracker.__subclasses__()}


@dataclass(frozen=True)
class TrackerStatus:
    """One row of `pghistory.trackers()`: a tracker and how it is.

    Attributes:
        table: the tracked table, as the connection's search_path shows it.
        label: the name of its events.
        kind: `snapshot`, `history` ...
        fields: the columns it records; None for all but those in `exclude`.
        exclude: the columns it leaves out, or None.
        condition: as PostgreSQL keeps it, or None.
        event_table: where its events go.
        obj_key: the columns that name the object; empty if events do not name it.
        obj_fk: what the foreign key of events does on delete, or None without one.
        context: `reference`, `inline` or `none`.
        append_only: whether events cannot be changed.
        level: `auto`, `row` or `statement`.
        partition_by: `day`, `week`, `month` or `year`, or None.
        retention: how long events stay, as PostgreSQL shows an interval, or None for ever.
        status: `active`, `disabled` or `missing`.
        definition: the SQL that would make it again.
    """

    table: str
    label: str
    kind: str
    fields: list[str] | None
    exclude: list[str] | None
    condition: str | None
    event_table: str
    obj_key: list[str]
    obj_fk: str | None
    context: str
    append_only: bool
    level: str
    partition_by: str | None
    retention: str | None
    status: str
    definition: str


@dataclass(frozen=True)
class Problem:
    """One row of `pghistory.verify()`: an object that is not as it should be.

    Attributes:
        table: the tracked table.
        object: what is wrong with it: a trigger, a function, an event table.
        problem: what is wrong.
        hint: what to do.
    """

    table: str | None
    object: str | None
    problem: str
    hint: str | None


class CurrentContext(NamedTuple):
    """The context that the server sees; both None without one."""

    id: UUID | None
    metadata: dict[str, Any] | None


@dataclass(frozen=True)
class Installation:
    """How pghistory is in a database.

    Attributes:
        how: `files`, an extension with its files in the server's share folder; `path`, one whose files the
            server finds by extension_control_path, which only superusers are told: for others it is `files`,
            too; `pg_tle`, one that pg_tle keeps; `sql`, plain SQL without an extension; None, not at all.
        version: the version that is installed; None also where plain SQL was installed by other means than
            pyhist.
        available: the newest version that could be installed: what this package brings or the server has.
        event_triggers: `enabled` if event tables follow DDL at once; `disabled`, or `missing`, if they do
            when `sync` is called; None if nothing is installed.
        hints: what to do: install, upgrade, call `sync` after migrations.
    """

    how: How | None = None
    version: str | None = None
    available: str | None = None
    event_triggers: EventTriggers | None = None
    hints: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Status:
    """What is tracked in a database, what is wrong with it, and how pghistory is installed.

    Where it is not installed, nothing is tracked and nothing is wrong, and `installation.how` is None.
    """

    trackers: list[TrackerStatus]
    problems: list[Problem]
    installation: Installation = field(default_factory=Installation)


@dataclass(frozen=True)
class RecordedEvent:
    """One event: a row of `pghistory.events()`.

    Values in `data` and `diff` are as JSON has them; numbers with a fraction are decimals, as exact as they
    are in the table.

    Attributes:
        id: its number in its event table, the `pgh_id`.
        label: its name, such as `user.create`.
        operation: what happened: `I`, `U`, `D` or `T` for an insert, update, delete or truncate, `B` for what
            a row was before an update, `S` for a snapshot made by hand or by `backfill`.
        data: the row's tracked columns and their values.
        diff: what changed since the object's event before in the same event table, `{column: [old, new]}`;
            None if there is none before.
        context: the metadata of its context, or None without one.
        context_id: the id of its context, or None.
        created_at: when its transaction began.
        xid: the number of its transaction.
        table: the tracked table, as the connection's search_path shows it; None if it was dropped.
        event_table: where the event is, in the same way.
        object: the key of the row it is about, as text; the text of a JSON object for a key of several
            columns; None for events that do not name it. It can be given as `obj` to the functions that ask
            for one.
        slug: `<event table>:<pgh_id>`, which names the event in the database; `revert` takes it.
    """

    id: int
    label: str
    operation: str
    data: dict[str, Any]
    diff: dict[str, list[Any]] | None
    context: dict[str, Any] | None
    context_id: UUID | None
    created_at: datetime
    xid: int
    table: str | None
    event_table: str
    object: str | None
    slug: str


@dataclass(frozen=True)
class Version:
    """What one object was from one time to another: a row of `pghistory.versions()`.

    Attributes:
        valid: from when, included, until when, not included: `valid.lower` and `valid.upper`, which is None
            if it still is. It is empty (`valid.isempty`) for what another version followed in the same
            transaction.
        label: the name of the event that began it, or None.
        context_id: the context of that event, or None.
        row: the table's columns and their values, as psycopg reads them.
    """

    valid: Range[datetime]
    label: str | None
    context_id: UUID | None
    row: dict[str, Any]


@dataclass(frozen=True)
class UndoStep:
    """One change that an undo makes, or would make: a row of `pghistory.undo_plan()`.

    Attributes:
        step: its place in the order of steps, from 1.
        table: the table, as the connection's search_path shows it.
        obj: the key of the row, as `RecordedEvent.object`.
        action: `INSERT`, `UPDATE` or `DELETE`.
        event: the slug of the event that is taken back.
        changes: `{column: [now, then]}`.
        conflict: what stands in the way, such as a later event of the row; None if nothing does.
    """

    step: int
    table: str
    obj: str | None
    action: str
    event: str
    changes: dict[str, list[Any]] | None
    conflict: str | None


@dataclass(frozen=True)
class Difference:
    """An object that is not the same at two times.

    Attributes:
        table: its table, as it was asked for.
        obj: its key, as `RecordedEvent.object`.
        action: `INSERT`, `UPDATE` or `DELETE`: what makes the earlier one the later one.
        changes: `{column: [before, after]}`, or None for an insert or a delete.
        before: the row at the earlier time, or None if it was not there; values are as JSON has them.
        after: the row at the later time, or None.
    """

    table: str
    obj: str
    action: str
    changes: dict[str, list[Any]] | None
    before: dict[str, Any] | None
    after: dict[str, Any] | None
