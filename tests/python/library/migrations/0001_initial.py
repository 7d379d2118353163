"""The table, and its history."""

from __future__ import annotations

from django.db import migrations, models

from pyhist import History
from pyhist.django import Track

ADD = """
CREATE FUNCTION add(title text) RETURNS text LANGUAGE sql AS
    'INSERT INTO book (title) VALUES (add.title) RETURNING title'
"""


def is_postgresql(schema_editor):
    return schema_editor.connection.vendor == "postgresql"


def make_function(apps, schema_editor):
    if is_postgresql(schema_editor):
        schema_editor.execute(ADD)


def drop_function(apps, schema_editor):
    if is_postgresql(schema_editor):
        schema_editor.execute("DROP FUNCTION add")


class Migration(migrations.Migration):
    initial = True
    operations = [  # noqa: RUF012
        migrations.CreateModel(
            "Book",
            [
                (
                    "id",
                    models.AutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID"),
                ),
                ("title", models.TextField(unique=True)),
                ("price", models.DecimalField(max_digits=10, decimal_places=2, null=True)),
            ],
            options={"db_table": "book"},
        ),
        Track("book", History("book"), context="inline"),
        migrations.RunPython(make_function, drop_function),
    ]
