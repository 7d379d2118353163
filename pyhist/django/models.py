"""What pghistory shows, as models that are not managed."""

from __future__ import annotations

from typing import Any

from django.db import connections, models
from django.db.models.sql import Query
from django.db.models.sql.datastructures import BaseTable

from pyhist.calls import as_key
from pyhist.django.events import ReadOnly


class Context(ReadOnly, models.Model):
    """Why things happened: a row of the view `pghistory.context`."""

    id = models.UUIDField(primary_key=True)
    metadata = models.JSONField()
    created_at = models.DateTimeField()
    updated_at = models.DateTimeField()

    class Meta:
        managed = False
        db_table = 'pghistory"."context'
        default_permissions = ("view",)

    def __str__(self) -> str:
        return str(self.id)


class _Function(BaseTable):
    """`pghistory.events()`, or one like it, where a query has its table."""

    def __init__(self, table_name: str, alias: str | None, name: str, arguments: dict[str, str]) -> None:
        super().__init__(table_name, alias)
        self.name = name
        self.arguments = arguments

    def as_sql(self, compiler: Any, connection: Any) -> tuple[str, list[str]]:
        arguments = ", ".join(f'"{name}" => %s::{_TYPES.get(name, "text")}' for name in self.arguments)
        # The name that it has from Django 6.1 on, or the older one.
        quote = getattr(compiler, "quote_name", None) or compiler.quote_name_unless_alias
        alias = quote(self.table_alias)
        return (
            f"""(SELECT pgh_slug, pgh_event_table::text, pgh_id, pgh_created_at, pgh_label,
                        pgh_operation::text, pgh_data, pgh_diff, pgh_context_id, pgh_context,
                        pgh_xid::text::bigint AS pgh_xid, pgh_obj_table::text, pgh_obj_id
                   FROM pghistory.{self.name}({arguments})) AS {alias}""",
            list(self.arguments.values()),
        )

    def relabeled_clone(self, change_map: dict[str, str]) -> _Function:
        return type(self)(
            self.table_name, change_map.get(self.table_alias, self.table_alias), self.name, self.arguments
        )


_TYPES = {
    "table": "regclass",
    "context_id": "uuid",
    "since": "timestamptz",
    "until": "timestamptz",
    "max_rows": "bigint",
}


class _EventsQuery(Query):
    history_function = "events"
    history_arguments: dict[str, str] = {}  # noqa: RUF012 - replaced, never changed

    def base_table_class(self, table_name: str, alias: str | None) -> _Function:
        """What Django makes the first table of a query by."""
        return _Function(table_name, alias, self.history_function, self.history_arguments)


class RecordedEvents(models.QuerySet):
    """Events, of all event tables until told otherwise; then filtered, ordered and cut as any other query."""

    def __init__(self, model: Any = None, query: Any = None, using: Any = None, hints: Any = None) -> None:
        super().__init__(model, query or _EventsQuery(model), using, hints)

    def of(self, what: models.Model | type[models.Model], **options: Any) -> RecordedEvents:
        """The events of an object, or of all objects of a model.

        Args:
            what: the object, or the model.
            options: what else `pghistory.events()` takes, such as `label`, `context_id`, `since`, `max_rows`.
        """
        return self._asking("events", what, options)

    def referring_to(self, what: models.Model, **options: Any) -> RecordedEvents:
        """The events of an object, and of the rows whose foreign keys point, or pointed, at it.

        Args:
            what: the object.
            options: as for `of`.
        """
        return self._asking("references", what, options)

    def _asking(self, function: str, what: Any, options: dict[str, Any]) -> RecordedEvents:
        table = connections[self.db].ops.quote_name(what._meta.db_table)
        arguments = {"table": table, **{name: str(value) for name, value in options.items()}}
        if isinstance(what, models.Model):
            arguments["obj"] = _key(what)
        asking: RecordedEvents = self._chain()
        asking.query.history_function = function
        asking.query.history_arguments = arguments
        return asking


def _key(instance: models.Model) -> str:
    """An object's key, as pghistory has it."""
    keys = getattr(instance._meta, "pk_fields", [instance._meta.pk])
    if len(keys) > 1:
        return str(as_key({key.column: getattr(instance, key.attname) for key in keys}))
    return str(as_key(instance.pk))


class RecordedEvent(ReadOnly, models.Model):
    """What happened to any tracked table: a row of `pghistory.events()`."""

    pgh_slug = models.TextField(primary_key=True)
    pgh_event_table = models.TextField()
    pgh_id = models.BigIntegerField()
    pgh_created_at = models.DateTimeField("when")
    pgh_label = models.TextField("what")
    pgh_operation = models.CharField(max_length=1)
    pgh_data = models.JSONField()
    pgh_diff = models.JSONField("changes", null=True)
    pgh_context_id = models.UUIDField(null=True)
    pgh_context = models.JSONField("why", null=True)
    pgh_xid = models.BigIntegerField(null=True)
    pgh_obj_table = models.TextField(null=True)
    pgh_obj_id = models.TextField(null=True)

    objects = RecordedEvents.as_manager()

    class Meta:
        managed = False
        db_table = "pghistory_events"
        ordering = ("-pgh_created_at", "-pgh_id")
        default_permissions = ("view",)

    def __str__(self) -> str:
        return str(self.pgh_slug)
