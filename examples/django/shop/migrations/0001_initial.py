"""The table, its history, and the model of its events."""

from django.db import migrations, models

from pyhist import History
from pyhist.django import Track
from pyhist.django.events import ReadOnly


class Migration(migrations.Migration):
    initial = True
    operations = (
        migrations.CreateModel(
            "Product",
            [
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("name", models.TextField()),
                ("price", models.DecimalField(decimal_places=2, max_digits=10)),
            ],
        ),
        Track("shop_product", History("product")),
        migrations.CreateModel(
            "ProductEvent",
            [
                ("pgh_id", models.BigAutoField(primary_key=True, serialize=False)),
                ("pgh_created_at", models.DateTimeField()),
                ("pgh_label", models.TextField()),
                ("pgh_operation", models.CharField(max_length=1)),
                ("id", models.BigIntegerField(db_column="id", null=True)),
                ("name", models.TextField(db_column="name", null=True)),
                ("price", models.DecimalField(db_column="price", decimal_places=2, max_digits=10, null=True)),
            ],
            options={"db_table": "shop_product_event", "ordering": ("-pgh_id",), "managed": False},
            bases=(ReadOnly, models.Model),
        ),
    )
