"""The models of events; nothing in the database."""

from django.db import migrations, models

import pyhist.django.events


class Migration(migrations.Migration):
    dependencies = [  # noqa: RUF012
        ("library", "0001_initial"),
    ]

    operations = [  # noqa: RUF012
        migrations.CreateModel(
            name="BookEvent",
            fields=[
                ("pgh_id", models.BigAutoField(primary_key=True, serialize=False)),
                ("pgh_created_at", models.DateTimeField()),
                ("pgh_label", models.TextField()),
                ("pgh_operation", models.CharField(max_length=1)),
                ("pgh_context", models.JSONField(null=True)),
                ("pgh_context_id", models.UUIDField(null=True)),
                ("id", models.IntegerField(db_column="id", null=True)),
                ("title", models.TextField(db_column="title", null=True)),
                ("price", models.DecimalField(db_column="price", decimal_places=2, max_digits=10, null=True)),
            ],
            options={
                "db_table": "book_event",
                "ordering": ("-pgh_id",),
                "managed": False,
            },
            bases=(pyhist.django.events.ReadOnly, models.Model),
        ),
        migrations.CreateModel(
            name="BookTitle",
            fields=[
                ("pgh_id", models.BigAutoField(primary_key=True, serialize=False)),
                ("pgh_created_at", models.DateTimeField()),
                ("pgh_label", models.TextField()),
                ("pgh_operation", models.CharField(max_length=1)),
                ("title", models.TextField(db_column="title", null=True)),
            ],
            options={
                "db_table": "titles",
                "ordering": ("-pgh_id",),
                "managed": False,
            },
            bases=(pyhist.django.events.ReadOnly, models.Model),
        ),
    ]
