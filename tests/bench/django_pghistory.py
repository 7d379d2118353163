"""django-pghistory, from PyPI: what the package makes of a model, at each level, on the tables of this bench.

Django has one configuration for each process, and one for each server is needed here: so it gets processes of its own.
"""

from __future__ import annotations

import functools
import itertools
import multiprocessing
from concurrent.futures import ProcessPoolExecutor

from psycopg.conninfo import conninfo_to_dict
from recorders import Connection, Recorder, like_ours
from shapes import Shape

from pyhist.server import Server

LEVELS = ("row", "statement")
RARE = 1_000_000  # an amount that no row has

numbers = itertools.count(1)


@functools.cache
def process(dsn: str) -> ProcessPoolExecutor:
    """A process in which Django is configured for a database."""
    return ProcessPoolExecutor(1, multiprocessing.get_context("spawn"), configure, (dsn,))


def prepare_database(dsn: str) -> None:
    """What every table needs: the table of contexts, and the function that attaches them."""
    process(dsn).submit(create_context).result()


def record(
    connection: Connection,
    dsn: str,
    table: str,
    columns: tuple[tuple[str, str], ...],
    level: str,
    *,
    own_event_table: bool,
    rare: bool = False,
) -> None:
    """Have django-pghistory record a table, to `<table>_event`: of its own making, or one that is there."""
    event_table, triggers = process(dsn).submit(recording, table, columns, level, rare).result()
    for statement in [*(event_table if own_event_table else ()), *triggers]:
        connection.execute(statement.encode())


def recorder(server: Server, level: str, *, own_event_table: bool = False, rare: bool = False) -> Recorder:
    """django-pghistory, on an event table like ours, or on the one that it makes itself."""

    def begin(connection: Connection, shape: Shape) -> None:
        if not own_event_table:
            like_ours(connection)
            # What it does not fill.
            for column in ("pgh_operation", "pgh_xid"):
                connection.execute(f"ALTER TABLE item_event ALTER COLUMN {column} DROP NOT NULL")
        columns = (("id", "bigint"), *((name, kind) for name, (kind, _) in shape.columns.items()))
        record(connection, server.dsn(), "item", columns, level, own_event_table=own_event_table, rare=rare)

    suffix = " (own tables)" if own_event_table else ""
    schema = f"django_{level}_own" if own_event_table else f"django_{level}"
    return Recorder(f"django-pghistory, {level}{suffix}", schema, begin)


def configure(dsn: str) -> None:
    import django
    from django.conf import settings

    place = conninfo_to_dict(dsn)
    database = {"HOST": place["host"], "PORT": place["port"], "USER": place["user"], "NAME": place["dbname"]}
    settings.configure(
        INSTALLED_APPS=["pgtrigger", "pghistory"],
        DATABASES={"default": {"ENGINE": "django.db.backends.postgresql", **database}},
        DEFAULT_AUTO_FIELD="django.db.models.AutoField",
        USE_TZ=True,
    )
    django.setup()


def create_context() -> None:
    """What the package's migrations end up with."""
    from django.db import connection
    from pghistory.models import Context

    with connection.schema_editor() as editor:
        editor.create_model(Context)
    Context.install_pgh_attach_context_func()
    connection.close()


def recording(
    table: str, columns: tuple[tuple[str, str], ...], level_name: str, rare: bool
) -> tuple[list[str], list[str]]:
    """The SQL that makes the event table, and the one that makes the triggers; the first column is the key."""
    import pghistory
    import pgtrigger
    from django.db import connection, models

    fields = {
        "bigint": models.BigIntegerField,
        "integer": models.IntegerField,
        "numeric(12,2)": functools.partial(models.DecimalField, max_digits=12, decimal_places=2),
        "text": models.TextField,
        "timestamptz": models.DateTimeField,
    }
    meta = type("Meta", (), {"app_label": "pghistory", "db_table": table})
    name = f"Item{next(numbers)}"
    (key, kind_of_key), *others = columns
    made = {key: fields[kind_of_key](primary_key=True)}
    made |= {column: fields[kind](null=True) for column, kind in others}
    model = type(name, (models.Model,), {"__module__": "pghistory.models", "Meta": meta, **made})
    level = {"row": pgtrigger.Row, "statement": pgtrigger.Statement}[level_name]
    trackers = [
        event(level=level) for event in (pghistory.InsertEvent, pghistory.UpdateEvent, pghistory.DeleteEvent)
    ]
    if rare:
        trackers = [pghistory.UpdateEvent(level=level, condition=pgtrigger.Q(new__amount__gt=RARE))]
    event_model = pghistory.create_event_model(
        model,
        *trackers,
        abstract=False,
        model_name=f"{name}Event",
        app_label="pghistory",
        meta={"db_table": f"{table}_event"},
    )
    with connection.schema_editor(collect_sql=True) as editor:
        editor.create_model(event_model)
    connection.close()
    triggers = []
    for _, trigger in pgtrigger.registered():
        triggers.append(trigger.compile(model).install_sql)
        trigger.unregister(model)  # of one table there is one model, if Django may say
    return editor.collected_sql, triggers
