"""Trackers in migrations."""

from __future__ import annotations

import inspect
from dataclasses import fields
from typing import Any

from django.db import router
from django.db.backends.base.schema import BaseDatabaseSchemaEditor
from django.db.migrations.operations.base import Operation
from django.db.migrations.serializer import BaseSerializer
from django.db.migrations.state import ProjectState
from django.db.migrations.writer import MigrationWriter

from pyhist import calls
from pyhist.calls import Call
from pyhist.models import Condition, Tracker


class _TrackerOperation(Operation):
    """What is the same in doing and undoing."""

    reduces_to_sql = True

    def __init__(self, table: str, *trackers: Tracker, **options: Any) -> None:
        self.table = table
        self.trackers = (*trackers, *options.pop("trackers", ()))
        self.options = options
        if self.trackers or not self._may_lack_trackers:
            calls.track(table, *self.trackers, **options)  # which refuses what makes no sense

    _may_lack_trackers = False

    def deconstruct(self) -> tuple[str, Any, Any]:
        """What Django compares operations by, and writes when migrations are squashed."""
        return type(self).__name__, (), {"table": self.table, "trackers": self.trackers, **self.options}

    def state_forwards(self, app_label: str, state: ProjectState) -> None:
        """Django's models stay what they are."""

    @property
    def migration_name_fragment(self) -> str:
        """A part of the name of a migration."""
        name = "".join(c if c.isalnum() else "_" for c in self.table.lower())
        return f"{type(self).__name__.lower()}_{name}"

    @property
    def _labels(self) -> str:
        return ", ".join(tracker.label or tracker.kind for tracker in self.trackers) or "everything"

    def _track(self, app_label: str, schema_editor: BaseDatabaseSchemaEditor) -> None:
        _execute(app_label, schema_editor, calls.track(self.table, *self.trackers, **self.options))

    def _untrack(self, app_label: str, schema_editor: BaseDatabaseSchemaEditor) -> None:
        if not self.trackers:
            _execute(app_label, schema_editor, calls.untrack(self.table))
        for tracker in self.trackers:
            _execute(app_label, schema_editor, _untrack(self.table, tracker))


class Track(_TrackerOperation):
    """Records what happens to a table's rows: `Track("users", Snapshot("user.snapshot"))`.

    Taken back, it removes the trackers, and leaves their events. To change a tracker, put an `Untrack` of the
    old one before: then that, too, can be taken back.

    Args:
        table: its name in the database, as SQL would write it.
        trackers: what to record.
        options: what else `pyhist.track` takes, such as `fields`.
    """

    def database_forwards(
        self,
        app_label: str,
        schema_editor: BaseDatabaseSchemaEditor,
        from_state: ProjectState,
        to_state: ProjectState,
    ) -> None:
        """Is called by Django."""
        self._track(app_label, schema_editor)

    def database_backwards(
        self,
        app_label: str,
        schema_editor: BaseDatabaseSchemaEditor,
        from_state: ProjectState,
        to_state: ProjectState,
    ) -> None:
        """Is called by Django."""
        self._untrack(app_label, schema_editor)

    def describe(self) -> str:
        """What is shown while it runs."""
        return f"Track {self.table}: {self._labels}"


class Untrack(_TrackerOperation):
    """Ends what `Track`, with the same arguments, has begun, and leaves the events.

    Taken back, it tracks again. Without trackers it ends all of the table's, and cannot be taken back.
    """

    _may_lack_trackers = True

    @property
    def reversible(self) -> bool:
        """Whether it says what there was."""
        return bool(self.trackers)

    def database_forwards(
        self,
        app_label: str,
        schema_editor: BaseDatabaseSchemaEditor,
        from_state: ProjectState,
        to_state: ProjectState,
    ) -> None:
        """Is called by Django."""
        self._untrack(app_label, schema_editor)

    def database_backwards(
        self,
        app_label: str,
        schema_editor: BaseDatabaseSchemaEditor,
        from_state: ProjectState,
        to_state: ProjectState,
    ) -> None:
        """Is called by Django."""
        self._track(app_label, schema_editor)

    def describe(self) -> str:
        """What is shown while it runs."""
        return f"Untrack {self.table}: {self._labels}"


def _untrack(table: str, tracker: Tracker) -> Call[int]:
    if tracker.label is not None:
        return calls.untrack(table, tracker.label)
    # The label that it was given has the name that the table had.
    return Call(
        """SELECT pghistory.untrack(oid::regclass, format('%%s.%%s', relname, %s::text))
             FROM pg_catalog.pg_class WHERE oid = %s::regclass""",
        (tracker.kind, table),
        lambda rows: rows[0][0],
    )


def _execute(app_label: str, schema_editor: BaseDatabaseSchemaEditor, call: Call[Any]) -> None:
    connection = schema_editor.connection
    if connection.vendor == "postgresql" and router.allow_migrate(connection.alias, app_label):
        schema_editor.execute(call.sql, call.arguments)


class _ValueSerializer(BaseSerializer):
    """Trackers and conditions, as they are written."""

    def serialize(self) -> tuple[str, set[str]]:
        value = self.value
        written: list[str] = []
        imports = {"import pyhist"}
        name = type(value).__name__
        if isinstance(value, Condition):
            name = value.change
            written = [repr(field) for field in value.fields]
        else:
            for field in fields(value):
                text, more = MigrationWriter.serialize(getattr(value, field.name))
                if text != repr(field.default):
                    written.append(f"{field.name}={text}")
                    imports |= set(more)
        return f"pyhist.{name}({', '.join(written)})", imports


MigrationWriter.register_serializer((Tracker, Condition), _ValueSerializer)


def _signature() -> inspect.Signature:
    """The arguments by name: Django writes those only that it finds here."""
    of_track = inspect.signature(calls.track).parameters.values()
    names = ["self", "table", "trackers", *(p.name for p in of_track if p.kind is p.KEYWORD_ONLY)]
    return inspect.Signature(
        [inspect.Parameter(name, inspect.Parameter.POSITIONAL_OR_KEYWORD) for name in names]
    )


_TrackerOperation.__init__.__signature__ = _signature()  # type: ignore[attr-defined]
