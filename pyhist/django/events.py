"""Models of event tables."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from django.db import models

_NUMBERS = {
    models.AutoField: models.IntegerField,
    models.BigAutoField: models.BigIntegerField,
    models.SmallAutoField: models.SmallIntegerField,
}
# What makes a column of a table more than one of its events.
_MORE = (
    "auto_now",
    "auto_now_add",
    "db_default",
    "db_index",
    "default",
    "primary_key",
    "unique",
    "unique_for_date",
    "unique_for_month",
    "unique_for_year",
)


class ReadOnly:
    """What the database writes, and Django only reads."""

    def save(self, *args: Any, **kwargs: Any) -> None:
        """Refuses."""
        raise TypeError(f"{type(self).__name__} is written by the database only")

    def delete(self, *args: Any, **kwargs: Any) -> Any:
        """Refuses."""
        raise TypeError(f"{type(self).__name__} is written by the database only")


def event_model(
    model: type[models.Model],
    *,
    name: str | None = None,
    event_table: str | None = None,
    fields: Sequence[str] | None = None,
    exclude: Sequence[str] | None = None,
    context: str = "reference",
    related_name: str = "events",
) -> Any:
    """The model of a tracked model's events, to be asked as any other: `BookEvent = event_model(Book)`.

    It is not managed, and cannot be saved. Beside the model's columns, which all can be null, it has
    `pgh_id`, `pgh_created_at`, `pgh_label`, `pgh_operation`, `pgh_obj` (the object: a foreign key, which
    need not lead anywhere any more; for a key of several columns `pgh_obj_<column>` each) and `pgh_context`,
    whose `metadata` says why.

    Args:
        model: the tracked model.
        name: of the class that is made; None for `<model>Event`.
        event_table: the table's name; None for `<table>_event`.
        fields: the columns that are recorded, as for `Track`; None for all.
        exclude: the columns that are left out instead.
        context: as for `Track`; with `inline`, `pgh_context` is the metadata itself.
        related_name: the model's attribute that has an object's events; `+` for none.
    """
    meta = model._meta
    attributes: dict[str, Any] = {
        "__module__": model.__module__,
        "__doc__": f"What happened to a {meta.verbose_name}.",
        "pgh_id": models.BigAutoField(primary_key=True),
        "pgh_created_at": models.DateTimeField(),
        "pgh_label": models.TextField(),
        "pgh_operation": models.CharField(max_length=1),
        **_object(model, related_name),
        **_context(context),
    }
    for field in meta.concrete_fields:
        if (fields is None or field.column in fields) and field.column not in (exclude or ()):
            attributes[field.name] = _plain(field)

    class Meta:
        app_label = meta.app_label
        managed = False
        db_table = event_table or f"{meta.db_table}_event"
        ordering = ("-pgh_id",)

    return type(name or f"{model.__name__}Event", (ReadOnly, models.Model), {**attributes, "Meta": Meta})


def _object(model: type[models.Model], related_name: str) -> dict[str, Any]:
    keys = getattr(model._meta, "pk_fields", [model._meta.pk])
    if len(keys) > 1:
        return {f"pgh_obj_{key.column}": _plain(key, f"pgh_obj_{key.column}") for key in keys}
    return {
        "pgh_obj": models.ForeignKey(
            model,
            models.DO_NOTHING,
            db_constraint=False,
            db_column="pgh_obj_id",
            null=True,
            related_name=related_name,
        )
    }


def _context(context: str) -> dict[str, Any]:
    if context == "none":
        return {}
    if context == "inline":
        return {
            "pgh_context": models.JSONField(null=True),
            "pgh_context_id": models.UUIDField(null=True),
        }
    return {
        "pgh_context": models.ForeignKey(
            "pyhist.Context",
            models.DO_NOTHING,
            db_constraint=False,
            db_column="pgh_context_id",
            null=True,
            related_name="+",
        )
    }


def _plain(field: Any, column: str | None = None) -> Any:
    """The field without what makes it more than a column."""
    column = column or field.column
    if field.remote_field:
        return models.ForeignKey(
            field.remote_field.model,
            models.DO_NOTHING,
            db_constraint=False,
            db_column=column,
            null=True,
            related_name="+",
            to_field=field.target_field.name,
        )
    if type(field) in _NUMBERS:
        return _NUMBERS[type(field)](db_column=column, null=True)
    generated = getattr(field, "output_field", None) if getattr(field, "generated", False) else None
    _, _, args, options = (generated or field).deconstruct()
    kept = {option: value for option, value in options.items() if option not in _MORE}
    return type(generated or field)(*args, **(kept | {"db_column": column, "null": True}))
