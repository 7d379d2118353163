"""What pg_dump takes out of a database and pg_restore or psql puts into another: everything, once."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from lived import (
    Picture,
    Server,
    assert_all_is_well,
    assert_goes_on,
    assert_recorded,
    assert_same,
    connect,
    live,
    picture,
    rows,
    run,
    run_script,
    warnings_of,
)

NewDatabase = Callable[..., str]


def dump(server: Server, database: str, target: Path, *options: str, user: str = "postgres") -> Path:
    """Dump a database into a file or folder, and return that."""
    run(server, "pg_dump", *options, f"--file={target}", f"--dbname={server.dsn(database, user)}")
    return target


def restore(server: Server, source: Path, database: str, *options: str, user: str = "postgres") -> None:
    """Put a dump into a database, with psql if it is a script."""
    dsn = server.dsn(database, user)
    if source.suffix == ".sql":
        run(
            server,
            "psql",
            "--no-psqlrc",
            "--quiet",
            "--set=ON_ERROR_STOP=1",
            *options,
            f"--file={source}",
            dsn,
        )
    else:
        run(server, "pg_restore", "--exit-on-error", *options, f"--dbname={dsn}", source)


def test_a_copied_database_is_tracked_as_its_template(
    server: Server, lived: str, memory: Picture, new_database: NewDatabase
) -> None:
    copy = new_database(lived)

    assert_same(picture(server.dsn(copy)), memory)
    assert_goes_on(server.dsn(copy))


def test_a_plain_dump_carries_everything(
    server: Server, lived: str, memory: Picture, new_database: NewDatabase, tmp_path: Path
) -> None:
    script = dump(server, lived, tmp_path / "dump.sql")
    copy = new_database()
    restore(server, script, copy)

    assert_same(picture(server.dsn(copy)), memory)
    assert_goes_on(server.dsn(copy))


def test_a_custom_dump_carries_everything_even_into_an_extension_that_can_be_dropped(
    server: Server, lived: str, memory: Picture, new_database: NewDatabase, tmp_path: Path
) -> None:
    archive = dump(server, lived, tmp_path / "dump", "--format=custom")
    copy = new_database()
    restore(server, archive, copy)

    assert_same(picture(server.dsn(copy)), memory)
    assert_goes_on(server.dsn(copy))
    with connect(server.dsn(copy)) as connection:
        connection.execute("DROP EXTENSION pghistory")
        connection.execute("INSERT INTO shop.log VALUES ('unseen')")
        connection.execute("CREATE EXTENSION pghistory")
        connection.execute("SELECT pghistory.refresh()")
        assert_all_is_well(connection)
        assert_recorded(connection, "INSERT INTO shop.log VALUES ('seen')", "shop.log_event", ["log"])


def test_a_directory_restored_by_jobs_section_by_section_carries_everything(
    server: Server, lived: str, memory: Picture, new_database: NewDatabase, tmp_path: Path
) -> None:
    folder = dump(server, lived, tmp_path / "dump", "--format=directory", "--jobs=2")
    copy = new_database()
    for section in ("pre-data", "data", "post-data"):
        restore(server, folder, copy, f"--section={section}", "--jobs=3")

    assert_same(picture(server.dsn(copy)), memory)
    assert_goes_on(server.dsn(copy))


@pytest.mark.parametrize("form", ["plain", "custom"])
def test_schema_and_data_by_themselves_carry_everything_with_triggers_disabled(
    server: Server, lived: str, memory: Picture, new_database: NewDatabase, tmp_path: Path, form: str
) -> None:
    suffix = ".sql" if form == "plain" else ""
    schema = dump(server, lived, tmp_path / f"schema{suffix}", f"--format={form}", "--schema-only")
    disable = ["--disable-triggers"] if form == "plain" else []
    data = dump(server, lived, tmp_path / f"data{suffix}", f"--format={form}", "--data-only", *disable)
    copy = new_database()
    restore(server, schema, copy)
    restore(server, data, copy, *([] if form == "plain" else ["--data-only", "--disable-triggers"]))

    assert_same(picture(server.dsn(copy)), memory)
    assert_goes_on(server.dsn(copy))


def test_a_dump_that_drops_first_replaces_everything(
    server: Server, lived: str, memory: Picture, new_database: NewDatabase, tmp_path: Path
) -> None:
    """pg_dump --clean does not know how to drop the constraints of partitions, and the script goes on."""
    script = dump(server, lived, tmp_path / "dump.sql", "--clean", "--if-exists")
    copy = new_database(lived)
    with connect(server.dsn(copy)) as connection:
        connection.execute("DELETE FROM shop.kinds")
        connection.execute("ALTER TABLE shop.users RENAME COLUMN born TO year")
    said = run_script(server, script, server.dsn(copy))

    assert all("cannot drop inherited constraint" in line for line in said.splitlines() if "ERROR" in line)
    assert_same(picture(server.dsn(copy)), memory)
    assert_goes_on(server.dsn(copy))


def test_data_alone_with_triggers_enabled_is_refused_rather_than_recorded_twice(
    server: Server, lived: str, new_database: NewDatabase, tmp_path: Path
) -> None:
    """Rows make events of their own as they are loaded, and these have the numbers of those in the dump."""
    schema = dump(server, lived, tmp_path / "schema.sql", "--schema-only")
    data = dump(server, lived, tmp_path / "data.sql", "--data-only")
    copy = new_database()
    restore(server, schema, copy)
    said = run_script(server, data, server.dsn(copy))

    # The events of users are loaded behind it, those of measures before it.
    assert 'duplicate key value violates unique constraint "users_event_pkey"' in said
    assert 'duplicate key value violates unique constraint "measures_pkey"' in said


def test_data_alone_with_triggers_enabled_is_recorded_again_where_numbers_are_free(
    server: Server, new_database: NewDatabase, tmp_path: Path
) -> None:
    """The one case that nothing refuses, which docs/dump-and-restore.md warns of."""
    original, copy = new_database("template_pghistory"), new_database()
    with connect(server.dsn(original)) as connection:
        connection.execute("CREATE TABLE item (id integer PRIMARY KEY)")
        connection.execute("SELECT pghistory.track('item', 'item')")
        connection.execute(
            "INSERT INTO item VALUES (1); UPDATE item SET id = 2; DELETE FROM item_event WHERE pgh_id = 1"
        )
    restore(server, dump(server, original, tmp_path / "schema.sql", "--schema-only"), copy)
    restore(server, dump(server, original, tmp_path / "data.sql", "--data-only"), copy)

    with connect(server.dsn(copy)) as connection:
        recorded = "SELECT pgh_id, pgh_operation::text FROM item_event ORDER BY pgh_id"
        assert rows(connection, recorded) == [(1, "I"), (2, "U")]
        assert_recorded(connection, "INSERT INTO item VALUES (3)", "item_event", ["item"])


def test_data_alone_is_loaded_as_it_is_while_the_extension_is_dropped(
    server: Server, lived: str, memory: Picture, new_database: NewDatabase, tmp_path: Path
) -> None:
    """This takes no superuser: --disable-triggers does."""
    schema = dump(server, lived, tmp_path / "schema.sql", "--schema-only")
    data = dump(server, lived, tmp_path / "data.sql", "--data-only")
    copy = new_database()
    restore(server, schema, copy)
    with connect(server.dsn(copy)) as connection:
        connection.execute("DROP EXTENSION pghistory")
        restore(server, data, copy)
        connection.execute("CREATE EXTENSION pghistory")
        connection.execute("SELECT pghistory.refresh()")

    assert_same(picture(server.dsn(copy)), memory)
    assert_goes_on(server.dsn(copy))


def test_single_tables_take_their_events_along(
    server: Server, lived: str, memory: Picture, new_database: NewDatabase, tmp_path: Path
) -> None:
    script = dump(server, lived, tmp_path / "dump.sql", "--table=shop.kinds", "--table=shop.kinds_event")
    copy = new_database()
    with connect(server.dsn(copy)) as connection:
        connection.execute("CREATE SCHEMA shop")
    run_script(server, script, server.dsn(copy))

    copied = picture(server.dsn(copy))
    assert copied["shop.kinds"] == memory["shop.kinds"]
    assert copied["shop.kinds_event"] == memory["shop.kinds_event"]
    with connect(server.dsn(copy)) as connection:
        connection.execute("CREATE EXTENSION pghistory")
        connection.execute("SELECT pghistory.track('shop.kinds', 'history', kind => 'history')")
        assert_recorded(connection, "INSERT INTO shop.kinds VALUES (9)", "shop.kinds_event", ["history"])
        assert_all_is_well(connection)


def test_an_owner_who_is_no_superuser_dumps_and_restores_what_he_installed(
    server: Server, role: Callable[..., str], new_database: NewDatabase, tmp_path: Path
) -> None:
    """He may not create event triggers: after a restore, as after DDL, he calls sync()."""
    owner = role("owner")
    original, copy = new_database(owner=owner), new_database(owner=owner)
    with connect(server.dsn(original, owner)) as connection:
        with warnings_of(connection) as warnings:
            for extension in ("hstore", "citext", "pghistory"):
                connection.execute(f"CREATE EXTENSION {extension}")
    assert warnings == [
        "event triggers may not be created here: call pghistory.sync() after DDL on tracked tables"
    ]
    live(server, server.dsn(original, owner), owner)
    archive = dump(server, original, tmp_path / "dump", "--format=custom", user=owner)
    restore(server, archive, copy, user=owner)

    assert_same(picture(server.dsn(copy, owner)), picture(server.dsn(original, owner)))
    with connect(server.dsn(copy, owner)) as connection:
        connection.execute("SELECT pghistory.sync()")
    assert_goes_on(server.dsn(copy, owner), by_sync=True)


def test_an_owner_who_is_no_superuser_dumps_what_a_superuser_installed(
    server: Server, role: Callable[..., str], new_database: NewDatabase, tmp_path: Path
) -> None:
    owner = role("owner")
    original, copy = new_database("template_pghistory", owner), new_database(owner=owner)
    with connect(server.dsn(original, owner)) as connection:
        connection.execute("CREATE SCHEMA app")
        connection.execute("CREATE TABLE app.users (gone text, id integer PRIMARY KEY, name text)")
        connection.execute("ALTER TABLE app.users DROP COLUMN gone")
        connection.execute("SELECT pghistory.track('app.users', 'user', kind => 'history')")
        with connection.transaction():
            connection.execute("SELECT pghistory.set_context('{\"user\": 1}')")
            connection.execute("INSERT INTO app.users VALUES (1, 'Ada')")
    archive = dump(server, original, tmp_path / "dump", "--format=custom", user=owner)
    # What was the superuser's becomes the owner's.
    options = ("--no-owner", "--no-comments")
    restore(server, archive, copy, *options, user=owner)

    assert_same(picture(server.dsn(copy, owner)), picture(server.dsn(original)))
    with connect(server.dsn(copy, owner)) as connection:
        connection.execute("SELECT pghistory.sync()")
        assert_all_is_well(connection)
        connection.execute("ALTER TABLE app.users RENAME COLUMN name TO full_name")
        connection.execute("SELECT pghistory.sync()")
        assert_recorded(connection, "UPDATE app.users SET full_name = 'Bob'", "app.users_event", ["user"])
        assert rows(connection, "SELECT full_name FROM app.users_event ORDER BY pgh_id") == [
            ("Ada",),
            ("Bob",),
        ]


def test_what_an_owner_who_is_no_superuser_installed_is_his_where_a_superuser_restores_it(
    server: Server, role: Callable[..., str], new_database: NewDatabase, tmp_path: Path
) -> None:
    """The registry and what writes to it have one owner: triggers on a table run as whoever writes to it."""
    owner = role("owner")
    original, copy = new_database(owner=owner), new_database(owner=owner)
    with connect(server.dsn(original, owner)) as connection:
        connection.execute("CREATE EXTENSION pghistory")
        connection.execute("CREATE SCHEMA app")
        connection.execute("CREATE TABLE app.users (id integer PRIMARY KEY, name text)")
        connection.execute("SELECT pghistory.track('app.users', 'user', kind => 'history')")
    archive = dump(server, original, tmp_path / "dump", "--format=custom")
    restore(server, archive, copy)

    with connect(server.dsn(copy)) as connection:
        connection.execute("SELECT pghistory.refresh()")
        assert_all_is_well(connection)
        assert (
            rows(
                connection,
                """SELECT DISTINCT relowner FROM pg_class
                    WHERE relnamespace = 'pghistory'::regnamespace AND relkind IN ('r', 'v')
                   EXCEPT
                   SELECT proowner FROM pg_proc WHERE oid = 'pghistory._attach_context()'::regprocedure""",
            )
            == []
        )


def test_a_table_that_was_dropped_unseen_is_not_taken_for_another_after_a_restore(
    server: Server, new_database: NewDatabase, tmp_path: Path
) -> None:
    """Where no event trigger tells, the registry keeps its number, which is another table's elsewhere."""
    original, copy = new_database("template_pghistory"), new_database()
    with connect(server.dsn(original)) as connection:
        connection.execute("CREATE TABLE dropped (id integer PRIMARY KEY)")
        connection.execute("CREATE TABLE other (id integer PRIMARY KEY)")
        connection.execute("SELECT pghistory.track('dropped', 'gone')")
        ((number,),) = rows(connection, "SELECT 'dropped'::regclass::oid")
        connection.execute("ALTER EVENT TRIGGER pghistory_after_drop DISABLE")
        connection.execute("DROP TABLE dropped")
    schema = dump(server, original, tmp_path / "schema.sql", "--schema-only")
    data = dump(server, original, tmp_path / "data.sql", "--data-only", "--disable-triggers")
    restore(server, schema, copy)
    with connect(server.dsn(copy)) as connection:
        ((taken,),) = rows(connection, "SELECT 'other'::regclass::oid")
        # A number as a value; as a part of the origin it stays what it was.
        data.write_text(re.sub(rf"(?m)(^|\t){number}(?=\t)", rf"\g<1>{taken}", data.read_text()))
        restore(server, data, copy)
        connection.execute("SELECT pghistory.refresh()")
        connection.execute("ALTER TABLE other ADD COLUMN name text")
        connection.execute("INSERT INTO other VALUES (1)")

        assert rows(connection, "SELECT count(*) FROM dropped_event") == [(0,)]
        assert rows(connection, "SELECT * FROM pghistory.trackers()") == []
        assert_all_is_well(connection)
