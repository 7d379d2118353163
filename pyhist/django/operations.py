"""Trackers in migrations."""

from __future__ import annotations

from typing import Any

from django.db import router
from django.db.backends.base.schema import BaseDatabaseSchemaEditor
from django.db.migrations.operations.base import Operation
from django.db.migrations.state import ProjectState

from pyhist import calls
from pyhist.calls import Call
from pyhist.models import Tracker


class _TrackerOperation(Operation):
    """What is the same in doing and undoing."""

    reduces_to_sql = True

    def __init__(self, table: str, *trackers: Tracker, **options: Any) -> None:
        self.table = table
        self.trackers = trackers
        self.options = options

    def deconstruct(self) -> tuple[str, Any, Any]:
        """What Django compares operations by."""
        return type(self).__name__, (self.table, *self.trackers), self.options

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

    def __init__(self, table: str, *trackers: Tracker, **options: Any) -> None:
        calls.track(table, *trackers, **options)  # which refuses what makes no sense
        super().__init__(table, *trackers, **options)

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

    def __init__(self, table: str, *trackers: Tracker, **options: Any) -> None:
        if trackers:
            calls.track(table, *trackers, **options)  # which refuses what makes no sense
        super().__init__(table, *trackers, **options)
        self.reversible = bool(trackers)

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
