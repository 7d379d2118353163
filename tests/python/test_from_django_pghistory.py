"""From django-pghistory: what a project of its has recorded is taken over as docs/from-django-pghistory.md says."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict

DOCUMENT = (Path(__file__).parents[2] / "docs" / "from-django-pghistory.md").read_text()
(TAKE_OVER,) = re.findall(r"^```sql\n(BEGIN;\nLOCK TABLE .*?)^```$", DOCUMENT, re.MULTILINE | re.DOTALL)

SETTINGS = """
import os

SECRET_KEY = "not one"
USE_TZ = True
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
DATABASES = {"default": {"ENGINE": "django.db.backends.postgresql", "NAME": os.environ["PGDATABASE"]}}
INSTALLED_APPS = [
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "pgtrigger",
    "pghistory",
    "pyhist.django",
    "accounts",
]
"""
BEFORE = """
import pghistory
from django.db import models


@pghistory.track()
class Account(models.Model):
    name = models.TextField()
    balance = models.IntegerField()
"""
AFTER = """
from django.db import models

from pyhist.django import event_model


class Account(models.Model):
    name = models.TextField()
    balance = models.IntegerField()


AccountEvent = event_model(Account, event_table="accounts_accountevent")
"""
MIGRATION = """
from django.db import migrations
from pgtrigger.migrations import RemoveTrigger

from pyhist import History
from pyhist.django import Track

GIVE_COLUMNS = {give_columns!r}
TAKE_CONTEXTS = {take_contexts!r}


class Migration(migrations.Migration):
    dependencies = [("accounts", "0001_initial")]
    operations = [
        migrations.RunSQL(GIVE_COLUMNS),
        Track("accounts_account", History("account"), event_table="accounts_accountevent"),
        RemoveTrigger(model_name="account", name="insert_insert"),
        RemoveTrigger(model_name="account", name="update_update"),
        migrations.RunSQL(TAKE_CONTEXTS),
        migrations.SeparateDatabaseAndState(state_operations=[migrations.DeleteModel("AccountEvent")]),
    ]
"""
RECORDED = """
    SELECT pgh_label, pgh_operation, pgh_data -> 'balance', pgh_context
      FROM pghistory.events('accounts_account', '1') ORDER BY pgh_id"""

Manage = Callable[..., str]


@pytest.fixture
def manage(database: str, tmp_path: Path) -> Manage:
    """Call `manage(*words)` to run a command in a project that django-pghistory has recorded two events of."""
    (tmp_path / "accounts" / "migrations").mkdir(parents=True)
    for package in ("accounts", "accounts/migrations"):
        (tmp_path / package / "__init__.py").touch()
    (tmp_path / "settings.py").write_text(SETTINGS)
    (tmp_path / "accounts" / "models.py").write_text(BEFORE)
    places = {f"PG{name.upper()}": str(value) for name, value in conninfo_to_dict(database).items()}
    environment = os.environ | places | {"DJANGO_SETTINGS_MODULE": "settings", "PYTHONDONTWRITEBYTECODE": "1"}
    environment["PGDATABASE"] = environment.pop("PGDBNAME")

    def manage(*words: str) -> str:
        command = [sys.executable, "-m", "django", *words]
        done = subprocess.run(
            command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr + done.stdout
        return done.stdout

    manage("makemigrations", "accounts")
    manage("migrate")
    write(manage, "pghistory.context(user=1, url='/a')", "Account.objects.create(name='ada', balance=1)")
    write(manage, "pghistory.context(user=2)", "Account.objects.update(balance=2)")
    return manage


def write(manage: Manage, context: str, *statements: str) -> None:
    """Change accounts inside a context."""
    block = "".join(f"    {statement}\n" for statement in statements)
    imports = "import pghistory, pyhist\nfrom accounts.models import Account\n"
    manage("shell", "--command", f"{imports}with {context}:\n{block}")


def recorded(database: str) -> list[tuple[Any, ...]]:
    with psycopg.connect(database) as connection:
        assert connection.execute("SELECT * FROM pghistory.verify()").fetchall() == []
        return connection.execute(RECORDED).fetchall()


OLD = [("insert", "I", 1, {"user": 1, "url": "/a"}), ("update", "U", 2, {"user": 2})]


def test_sql_takes_over_what_django_pghistory_recorded(manage: Manage, database: str) -> None:
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute(TAKE_OVER)
    assert recorded(database) == OLD

    write(manage, "pghistory.context(user=3)", "Account.objects.update(balance=3)")
    write(manage, "pyhist.context(user=4)", "Account.objects.update(balance=4)")
    assert recorded(database) == [*OLD, ("account", "U", 3, {"user": 3}), ("account", "U", 4, {"user": 4})]


def test_a_migration_takes_over_what_django_pghistory_recorded(
    manage: Manage, database: str, tmp_path: Path
) -> None:
    statements = TAKE_OVER.removeprefix("BEGIN;\n").removesuffix("COMMIT;\n")
    give_columns, rest = statements.split("SELECT pghistory.track(", 1)
    take_contexts = rest[rest.index("INSERT INTO pghistory.context_part") :]
    migration = MIGRATION.format(give_columns=give_columns, take_contexts=take_contexts)
    (tmp_path / "accounts" / "migrations" / "0002_take_over.py").write_text(migration)
    (tmp_path / "accounts" / "models.py").write_text(AFTER)
    manage("makemigrations", "accounts", "--name", "event_model")
    changes = re.sub(r"--.*|BEGIN;|COMMIT;", "", manage("sqlmigrate", "accounts", "0003"))
    assert changes.strip() == ""
    manage("migrate")
    manage("makemigrations", "--check")
    assert recorded(database) == OLD

    write(manage, "pghistory.context(user=3)", "Account.objects.update(balance=3)")
    write(manage, "pyhist.context(user=4)", "Account.objects.update(balance=4)")
    assert recorded(database) == [*OLD, ("account", "U", 3, {"user": 3}), ("account", "U", 4, {"user": 4})]
    events = (
        "print([(e.balance, e.pgh_context.metadata['user']) for e in Account.objects.get().events.all()])"
    )
    shown = manage("shell", "--command", f"from accounts.models import Account\n{events}")
    assert "[(4, 4), (3, 3), (2, 2), (1, 1)]" in shown
