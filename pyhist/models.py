"""The values that pyhist takes and gives."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, NamedTuple, TypeAlias
from uuid import UUID

Level: TypeAlias = Literal["auto", "row", "statement"]
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
class Status:
    """What is tracked in a database, and what is wrong with it."""

    trackers: list[TrackerStatus]
    problems: list[Problem]
