"""The models of what pghistory shows; nothing in the database."""

from django.db import migrations, models

from pyhist.django.events import ReadOnly


class Migration(migrations.Migration):
    """Tells Django that the models are there."""

    initial = True
    dependencies = ()
    operations = (
        migrations.CreateModel(
            "Context",
            [
                ("id", models.UUIDField(primary_key=True, serialize=False)),
                ("metadata", models.JSONField()),
                ("created_at", models.DateTimeField()),
                ("updated_at", models.DateTimeField()),
            ],
            options={
                "db_table": 'pghistory"."context',
                "managed": False,
                "default_permissions": ("view",),
            },
            bases=(ReadOnly, models.Model),
        ),
        migrations.CreateModel(
            "RecordedEvent",
            [
                ("pgh_slug", models.TextField(primary_key=True, serialize=False)),
                ("pgh_event_table", models.TextField()),
                ("pgh_id", models.BigIntegerField()),
                ("pgh_created_at", models.DateTimeField(verbose_name="when")),
                ("pgh_label", models.TextField(verbose_name="what")),
                ("pgh_operation", models.CharField(max_length=1)),
                ("pgh_data", models.JSONField()),
                ("pgh_diff", models.JSONField(null=True, verbose_name="changes")),
                ("pgh_context_id", models.UUIDField(null=True)),
                ("pgh_context", models.JSONField(null=True, verbose_name="why")),
                ("pgh_xid", models.BigIntegerField(null=True)),
                ("pgh_obj_table", models.TextField(null=True)),
                ("pgh_obj_id", models.TextField(null=True)),
            ],
            options={
                "db_table": "pghistory_events",
                "ordering": ("-pgh_created_at", "-pgh_id"),
                "managed": False,
                "default_permissions": ("view",),
            },
            bases=(ReadOnly, models.Model),
        ),
    )
