"""What happens when Django has read its settings."""

from __future__ import annotations

from typing import Any

from django.apps import AppConfig
from django.db import connections
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.backends.signals import connection_created

from pyhist.django.carrying import carry


class HistoryConfig(AppConfig):
    """Has every connection to PostgreSQL carry the context, those that are there already, too."""

    name = "pyhist.django"
    label = "pyhist"
    verbose_name = "History"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        """Is called by Django."""
        connection_created.connect(_carry_created, dispatch_uid="pyhist.django")
        for connection in connections.all():
            if connection.connection is not None:
                carry(connection)


def _carry_created(connection: BaseDatabaseWrapper, **_: Any) -> None:
    carry(connection)
