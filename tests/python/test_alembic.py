"""Alembic migrations that track tables, there and back, on a server or as SQL."""

from __future__ import annotations

import io
import subprocess
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest
import sqlalchemy as sa
from alembic import command
from alembic.autogenerate import produce_migrations, render, render_python_code
from alembic.autogenerate.api import AutogenContext
from alembic.config import Config
from alembic.operations import Operations, ops
from alembic.runtime.migration import MigrationContext
from both_ways import WITHOUT_PREPARED_STATEMENTS
from pgbouncer import pooled
from psycopg.conninfo import conninfo_to_dict

import pyhist
from pyhist.alembic import TrackOp, UntrackOp, include_object

ENV = """
import asyncio

from alembic import context
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy import create_engine, pool

import pyhist.alembic

url = context.config.get_main_option("sqlalchemy.url")
options = {"poolclass": pool.NullPool, "connect_args": context.config.attributes["connect_args"]}


def migrate(connection):
    context.configure(connection=connection, transaction_per_migration=True)
    with context.begin_transaction():
        context.run_migrations()


async def migrate_async():
    engine = pyhist.instrument(create_async_engine(url, **options))
    async with engine.connect() as connection:
        await connection.run_sync(migrate)


if context.is_offline_mode():
    context.configure(url=url, literal_binds=True)
    with context.begin_transaction():
        context.run_migrations()
elif "asyncpg" in url:
    asyncio.run(migrate_async())
else:
    with pyhist.instrument(create_engine(url, **options)).connect() as connection:
        migrate(connection)
"""
MIGRATION = """
import pyhist
from alembic import op
from pyhist import AfterInsert, AfterUpdate, BeforeDelete, Event, Snapshot, any_change
from sqlalchemy import Integer, column, table

revision, down_revision = "{revision}", {before!r}


def upgrade():
    {upgrade}


def downgrade():
    {downgrade}
"""
CONDITION = r"NEW.email LIKE '%@example.com' OR NEW.email = 'a:b \: %s'"


class Project:
    """A folder with migrations, and the database that they are about."""

    def __init__(self, folder: Path, database: str, driver: str, connect_args: dict[str, Any]) -> None:
        given = conninfo_to_dict(database)
        url = f"postgresql+{driver}://{given['user']}@/{given['dbname']}?host={given['host']}&port={given['port']}"
        self.output = io.StringIO()
        self.config = Config(output_buffer=self.output)
        self.config.set_main_option("script_location", str(folder))
        self.config.set_main_option("sqlalchemy.url", url.replace("%", "%%"))
        self.config.set_main_option("path_separator", "os")
        self.config.attributes["connect_args"] = connect_args
        self._versions = folder / "versions"
        self._versions.mkdir(parents=True)
        (folder / "env.py").write_text(ENV)
        self._last: str | None = None

    def add(self, upgrade: str, downgrade: str = "pass") -> None:
        """Adds a migration."""
        revision = f"r{len(list(self._versions.glob('*.py')))}"
        (self._versions / f"{revision}.py").write_text(
            MIGRATION.format(revision=revision, before=self._last, upgrade=upgrade, downgrade=downgrade)
        )
        self._last = revision

    def sql(self, action: Callable[..., None], revision: str) -> str:
        """What a command prints with --sql."""
        self.output.truncate(0)
        action(self.config, revision, sql=True)
        return self.output.getvalue().replace("\0", "")


@pytest.fixture
def users(database: str) -> psycopg.Connection[Any]:
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute("CREATE TABLE users (id integer PRIMARY KEY, username text, email text)")
        connection.execute('CREATE SCHEMA "Other"')
        connection.execute('CREATE TABLE "Other"."the items" (id integer PRIMARY KEY)')
        yield connection


@pytest.fixture(params=["psycopg", "psycopg2", "asyncpg"])
def project(
    request: pytest.FixtureRequest, database: str, users: Any, tmp_path: Path, through_pgbouncer: bool
) -> Project:
    driver, connect_args = request.param, {}
    if through_pgbouncer:
        request.getfixturevalue("pgbouncer")
        database = pooled(database)
        connect_args = WITHOUT_PREPARED_STATEMENTS[driver]
    return Project(tmp_path / "migrations", database, driver, connect_args)


def labels(connection: psycopg.Connection[Any]) -> list[str]:
    return sorted(tracker.label for tracker in pyhist.trackers(connection))


def test_a_migration_tracks_a_table_and_its_downgrade_stops_that(project: Project, users: Any) -> None:
    project.add(
        'op.track("users", Snapshot("user.snapshot"), AfterInsert(), fields=["username"])',
        'op.untrack("users", Snapshot("user.snapshot"), AfterInsert(), fields=["username"])',
    )
    project.add(
        """op.track('"Other"."the items"', BeforeDelete())""", """op.untrack('"Other"."the items"')"""
    )
    command.upgrade(project.config, "head")
    assert labels(users) == ["the items.before_delete", "user.snapshot", "users.after_insert"]
    users.execute("INSERT INTO users VALUES (1, 'ada')")
    command.downgrade(project.config, "-1")
    assert labels(users) == ["user.snapshot", "users.after_insert"]
    command.downgrade(project.config, "base")
    assert labels(users) == []
    assert users.execute("SELECT count(*) FROM users_username_event").fetchone() == (2,)


def test_untrack_takes_labels_and_drops_events_if_asked(project: Project, users: Any) -> None:
    project.add('op.track("users", Snapshot("a"), AfterInsert("b"), BeforeDelete("c"), Event("d"))')
    project.add('op.untrack("users", "a", AfterInsert("b"))')
    project.add('op.untrack("users", drop_events=True)')
    command.upgrade(project.config, "r1")
    assert labels(users) == ["c", "d"]
    command.upgrade(project.config, "head")
    assert labels(users) == []
    assert users.execute("SELECT to_regclass('users_event')").fetchone() == (None,)


def test_any_text_arrives_as_it_was_written(project: Project, users: Any) -> None:
    project.add(f'op.track("users", Snapshot("100% :a \\\\\\\\:b it\'s", condition=r"{CONDITION}"))')
    project.add('op.track("users", AfterUpdate("changed", condition=any_change("email", "username")))')
    command.upgrade(project.config, "head")
    trackers = {tracker.label: tracker for tracker in pyhist.trackers(users)}
    assert set(trackers) == {"100% :a \\\\:b it's", "changed"}
    pyhist.track(users, "users", pyhist.Snapshot("again", condition=CONDITION))
    (again,) = [tracker for tracker in pyhist.trackers(users) if tracker.label == "again"]
    assert trackers["100% :a \\\\:b it's"].condition == again.condition
    assert "email" in str(trackers["changed"].condition)


def test_a_migration_that_fails_tracks_nothing(project: Project, users: Any) -> None:
    project.add('op.track("users", Snapshot()); op.track("nowhere", Snapshot())')
    with pytest.raises(sa.exc.DBAPIError, match="nowhere"):
        command.upgrade(project.config, "head")
    assert labels(users) == []


def test_what_a_migration_writes_has_the_context(project: Project, users: Any) -> None:
    project.add('op.track("users", Snapshot("user"))')
    project.add(
        """
    with pyhist.context(migration="r1"):
        op.execute("INSERT INTO users VALUES (1, 'ada')")
        op.bulk_insert(table("users", column("id", Integer)), [{"id": 2}, {"id": 3}])
        with op.get_context().autocommit_block():
            op.execute("CREATE INDEX CONCURRENTLY ON users (email)")
            op.execute("INSERT INTO users VALUES (4, 'eve')")
    op.execute("INSERT INTO users VALUES (5, 'bob')")
    """.strip()
    )
    command.upgrade(project.config, "head")
    events = sorted(pyhist.events(users), key=lambda event: event.id)
    contexts = [*[{"migration": "r1"}] * 4, None]
    assert [(event.object, event.context) for event in events] == [
        (str(number), said) for number, said in enumerate(contexts, start=1)
    ]


def test_a_table_can_be_made_and_tracked_and_dropped(project: Project, users: Any) -> None:
    project.add(
        'op.execute("CREATE TABLE made (id integer PRIMARY KEY)"); op.track("made", Snapshot())',
        'op.untrack("made", Snapshot(), drop_events=True); op.drop_table("made")',
    )
    command.upgrade(project.config, "head")
    assert labels(users) == ["made.snapshot"]
    command.downgrade(project.config, "base")
    assert labels(users) == []
    assert users.execute("SELECT to_regclass('made_event')").fetchone() == (None,)


def test_offline_mode_prints_what_online_mode_does(
    project: Project, server: Any, database: str, users: Any
) -> None:
    project.add(
        f'op.track("users", Snapshot("a:b", condition=r"{CONDITION}"), AfterInsert(), exclude=["email"])',
        'op.untrack("users", Snapshot("a:b"), AfterInsert(), exclude=["email"])',
    )
    command.upgrade(project.config, "head")
    online = pyhist.trackers(users)
    command.downgrade(project.config, "base")
    users.execute("DROP TABLE alembic_version")

    for action, revision in ((command.upgrade, "head"), (command.downgrade, "r0:base")):
        script = project.sql(action, revision)
        psql = [str(server.bindir / "psql"), "-X", "-q", "-v", "ON_ERROR_STOP=1", "-d", database]
        done = subprocess.run(psql, input=script, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr + script
        assert pyhist.trackers(users) == (online if revision == "head" else [])


def test_operations_are_reversible() -> None:
    trackers = (pyhist.Snapshot("a"), pyhist.AfterInsert())
    track = TrackOp("users", trackers, {"fields": ["username"]})
    untrack = track.reverse()
    assert (untrack.table, untrack.trackers, untrack.options) == ("users", trackers, {"fields": ["username"]})
    again = untrack.reverse()
    assert (again.table, again.trackers, again.options) == (track.table, track.trackers, track.options)
    upgrade = ops.UpgradeOps([track, UntrackOp("items", trackers)])
    assert [type(op) for op in upgrade.reverse().ops] == [TrackOp, UntrackOp]
    for irreversible in (UntrackOp("users"), UntrackOp("users", ["a"])):
        with pytest.raises(ValueError, match="needs the trackers"):
            irreversible.reverse()


def test_operations_become_code_that_makes_them() -> None:
    track = TrackOp(
        "users",
        [
            pyhist.Snapshot("it's", condition=pyhist.any_change("email"), level="row"),
            pyhist.History(condition="NEW.id > 1"),
        ],
        {"fields": ["email"], "retention": timedelta(days=7)},
    )
    upgrade = ops.UpgradeOps([track, UntrackOp("users", ["a"], drop_events=True)])
    code = render_python_code(upgrade, alembic_module_prefix="op.")
    made: list[tuple[Any, ...]] = []

    class Recorder:
        def track(self, table: str, *trackers: Any, **options: Any) -> None:
            made.append(("track", table, trackers, options))

        def untrack(self, table: str, *trackers: Any, **options: Any) -> None:
            made.append(("untrack", table, trackers, options))

    lines = [line.strip() for line in code.splitlines() if not line.strip().startswith("#")]
    exec("\n".join([*imports_of(upgrade), *lines]), {"op": Recorder()})
    assert made == [
        ("track", "users", track.trackers, track.options),
        ("untrack", "users", ("a",), {"drop_events": True}),
    ]


def imports_of(upgrade: ops.UpgradeOps) -> set[str]:
    """The imports that a migration with the operations gets."""
    context = AutogenContext(MigrationContext.configure(dialect_name="postgresql"), autogenerate=False)
    for operation in upgrade.ops:
        render.render_op(context, operation)
    return context.imports


def test_what_makes_no_sense_is_told_before_anything_is_sent() -> None:
    migration = MigrationContext.configure(dialect_name="postgresql", opts={"as_sql": True})
    operations = Operations(migration)
    for arguments in ((), ("user.snapshot",)):
        with pytest.raises(TypeError, match="Snapshot"):
            operations.track("users", *arguments)
    with pytest.raises(TypeError, match="wrong"):
        operations.track("users", pyhist.Snapshot(), wrong=1)


def test_autogenerate_leaves_event_tables_alone(users: Any) -> None:
    pyhist.track(users, "users", pyhist.Snapshot())
    pyhist.track(users, "users", pyhist.Snapshot("other"), event_table="audit")
    given = conninfo_to_dict(users.info.dsn)
    url = sa.URL.create("postgresql+psycopg", given["user"], database=given["dbname"])
    engine = sa.create_engine(url, connect_args={"host": given["host"], "port": given["port"]})
    models = sa.MetaData()
    sa.Table("new", models, sa.Column("pgh_id", sa.Integer), sa.Column("pgh_label", sa.Text))
    with engine.connect() as connection:
        migration = MigrationContext.configure(
            connection, opts={"include_object": include_object, "include_schemas": True}
        )
        found = produce_migrations(migration, models).upgrade_ops
    engine.dispose()
    assert found is not None
    assert sorted(type(op).__name__ + " " + op.table_name for op in found.ops) == [
        "CreateTableOp new",
        "DropTableOp the items",
        "DropTableOp users",
    ]
