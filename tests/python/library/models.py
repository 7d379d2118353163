"""Its table."""

from __future__ import annotations

from django.db import models


class Book(models.Model):
    title = models.TextField(unique=True)
    price = models.DecimalField(max_digits=10, decimal_places=2, null=True)

    class Meta:
        app_label = "library"
        db_table = "book"
