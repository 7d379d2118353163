"""Its table."""

from __future__ import annotations

from django.db import models

from pyhist.django import event_model


class Book(models.Model):
    title = models.TextField(unique=True)
    price = models.DecimalField(max_digits=10, decimal_places=2, null=True)

    class Meta:
        app_label = "library"
        db_table = "book"

    def __str__(self) -> str:
        return self.title


BookEvent = event_model(Book, context="inline")
BookTitle = event_model(Book, name="BookTitle", event_table="titles", fields=["title"], related_name="titles")
