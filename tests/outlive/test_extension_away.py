"""The data outlive the code: it is dropped, made again by somebody, or laid over itself as plain SQL."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest
from lived import (
    Picture,
    Server,
    assert_all_is_well,
    assert_goes_on,
    assert_recorded,
    assert_same,
    connect,
    picture,
    rows,
    run,
)

NewDatabase = Callable[..., str]
SQL = Path(__file__).parents[2] / "sql"
SCRIPT = SQL / "pghistory.sql"
REMOVE = SQL / "upgrade" / "remove_plain_sql.sql"

MEMBERS = """SELECT classid::regclass::text, count(*) FROM pg_depend
              WHERE refobjid = (SELECT oid FROM pg_extension WHERE extname = 'pghistory') AND deptype IN ('e', 'x')
              GROUP BY classid ORDER BY 1"""

LEFT = """
    SELECT 'function', oid::regprocedure::text FROM pg_proc WHERE prosrc ~ 'pghistory'
     UNION ALL
    SELECT 'trigger', tgname FROM pg_trigger WHERE tgname ~ 'pghistory'
     UNION ALL
    SELECT 'event trigger', evtname FROM pg_event_trigger
     UNION ALL
    SELECT 'relation', relname FROM pg_class WHERE relnamespace = 'pghistory'::regnamespace
     ORDER BY 1, 2"""


def without_trackers(memory: Picture) -> Picture:
    """What is there while the code is not: pghistory.trackers() is a function."""
    return {name: held for name, held in memory.items() if name != "pghistory.trackers()"}


@pytest.mark.parametrize("cascade", ["", "CASCADE"])
def test_drop_extension_leaves_every_event_and_tables_that_can_be_written(
    server: Server, lived: str, memory: Picture, new_database: NewDatabase, cascade: str
) -> None:
    copy = new_database(lived)
    with connect(server.dsn(copy)) as connection:
        connection.execute(f"DROP EXTENSION pghistory {cascade}")
        assert_same(picture(server.dsn(copy)), without_trackers(memory))
        assert rows(connection, "SELECT tgname FROM pg_trigger WHERE tgname ~ 'pghistory'") == []
        assert rows(connection, "SELECT proname FROM pg_proc WHERE prosrc ~ 'pghistory'") == []

        connection.execute("INSERT INTO shop.kinds VALUES (100, 'unseen')")
        connection.execute("UPDATE shop.users SET full_name = full_name || '!'")
        connection.execute("TRUNCATE shop.log")
        connection.execute("DELETE FROM shop.kinds WHERE id = 100")

        connection.execute("CREATE EXTENSION pghistory")
        connection.execute("SELECT pghistory.refresh()")
    events = {name: held for name, held in memory.items() if name.startswith(("pghistory", "a_", "z_"))}
    now = picture(server.dsn(copy))
    assert_same({name: now[name] for name in events}, events)
    assert_goes_on(server.dsn(copy))


def test_another_superuser_takes_up_where_the_first_one_dropped(
    server: Server, lived: str, role: Callable[..., str], new_database: NewDatabase
) -> None:
    copy = new_database(lived)
    with connect(server.dsn(copy)) as connection:
        connection.execute("DROP EXTENSION pghistory")
    with connect(server.dsn(copy, role("another", superuser=True))) as connection:
        connection.execute("CREATE EXTENSION pghistory")
        connection.execute("SELECT pghistory.refresh()")

    assert_goes_on(server.dsn(copy))


def test_ddl_and_truncated_tables_meanwhile_are_followed_by_refresh(
    server: Server, lived: str, new_database: NewDatabase
) -> None:
    copy = new_database(lived)
    with connect(server.dsn(copy)) as connection:
        old = rows(connection, "SELECT pgh_id, born FROM shop.users_event ORDER BY 1")
        connection.execute("DROP EXTENSION pghistory")
        connection.execute("ALTER TABLE shop.users RENAME COLUMN born TO year")
        connection.execute("ALTER TABLE shop.users ADD COLUMN nick text, DROP COLUMN home")
        connection.execute("ALTER TABLE shop.kinds RENAME TO sorts")
        connection.execute("CREATE EXTENSION pghistory")
        connection.execute("SELECT pghistory.refresh()")

        assert_all_is_well(connection)
        assert rows(connection, "SELECT pgh_id, year FROM shop.users_event ORDER BY 1") == old
        write = "UPDATE shop.users SET year = 1816, nick = 'A' WHERE id = 2"
        assert_recorded(connection, write, "shop.users_event", ["user"])
        assert_recorded(
            connection,
            "DELETE FROM shop.sorts WHERE id = 4",
            "shop.kinds_event",
            ["before_delete", "history"],
        )


def test_a_role_that_is_no_superuser_is_refused_what_a_superuser_left(
    server: Server, lived: str, role: Callable[..., str], new_database: NewDatabase
) -> None:
    """His functions would read and write a registry that is not his."""
    owner = role("owner")
    copy = new_database(lived, owner)
    with connect(server.dsn(copy)) as connection:
        connection.execute("DROP EXTENSION pghistory")
    with connect(server.dsn(copy, owner)) as connection:
        with pytest.raises(psycopg.errors.InsufficientPrivilege, match="pghistory"):
            connection.execute("CREATE EXTENSION pghistory")


def test_plain_sql_over_a_plain_sql_installation_keeps_everything(
    server: Server, lived: str, memory: Picture, new_database: NewDatabase
) -> None:
    """Running the script again is how an installation without CREATE EXTENSION is upgraded."""
    copy = new_database(lived)
    with connect(server.dsn(copy)) as connection:
        connection.execute("DROP EXTENSION pghistory")

        def lay_over() -> None:
            run(
                server,
                "psql",
                "--no-psqlrc",
                "--quiet",
                "--set=ON_ERROR_STOP=1",
                "-1",
                f"--file={SCRIPT}",
                server.dsn(copy),
            )
            connection.execute("SELECT pghistory.refresh()")
            assert_all_is_well(connection)

        lay_over()
        assert_same(picture(server.dsn(copy)), memory)
        assert_recorded(connection, "INSERT INTO shop.log VALUES ('1')", "shop.log_event", ["log"])
        before = picture(server.dsn(copy))
        lay_over()
        assert_same(picture(server.dsn(copy)), before)
    assert_goes_on(server.dsn(copy))


def test_plain_sql_becomes_an_extension_and_keeps_everything(
    server: Server, lived: str, memory: Picture, new_database: NewDatabase
) -> None:
    copy = new_database(lived)
    psql = ("psql", "--no-psqlrc", "--quiet", "--set=ON_ERROR_STOP=1", "-1")
    with connect(server.dsn(copy)) as connection:
        members = rows(connection, MEMBERS)
        connection.execute("DROP EXTENSION pghistory")
        run(server, *psql, f"--file={SCRIPT}", server.dsn(copy))
        connection.execute("SELECT pghistory.refresh()")
        before = rows(connection, "SELECT oid, xmin, prosrc FROM pg_proc ORDER BY oid")
        with pytest.raises(psycopg.errors.DuplicateObject) as refused:
            connection.execute("CREATE EXTENSION pghistory")
        assert refused.value.diag.message_primary == "pghistory is installed in this database as plain SQL"
        assert str(REMOVE.relative_to(SQL.parent)) in str(refused.value.diag.message_hint)
        assert rows(connection, "SELECT oid, xmin, prosrc FROM pg_proc ORDER BY oid") == before
        assert_same(picture(server.dsn(copy)), memory)

        create = ["--command=CREATE EXTENSION pghistory", "--command=SELECT pghistory.refresh()"]
        run(server, *psql, f"--file={REMOVE}", *create, server.dsn(copy))
        assert_same(picture(server.dsn(copy)), memory)
        assert rows(connection, MEMBERS) == members
        assert_all_is_well(connection)
    assert_goes_on(server.dsn(copy))


def test_plain_sql_is_removed_as_an_extension_is(
    server: Server, lived: str, memory: Picture, new_database: NewDatabase
) -> None:
    copy = new_database(lived)
    with connect(server.dsn(copy)) as connection:
        remove = REMOVE.read_text()
        with pytest.raises(
            psycopg.errors.WrongObjectType, match="is an extension in this database, not plain SQL"
        ):
            connection.execute(remove)
        connection.execute("DROP EXTENSION pghistory")
        with pytest.raises(psycopg.errors.UndefinedObject, match="is not installed in this database"):
            connection.execute(remove)
        left = rows(connection, LEFT)
        run(server, "psql", "--no-psqlrc", "-1", f"--file={SCRIPT}", server.dsn(copy))
        connection.execute("SELECT pghistory.refresh()")

        connection.execute("CREATE VIEW mine AS SELECT * FROM pghistory.trackers()")
        with pytest.raises(psycopg.errors.DependentObjectsStillExist, match="mine"):
            connection.execute(remove)
        assert_all_is_well(connection)
        connection.execute("DROP VIEW mine")

        connection.execute(remove)
        assert rows(connection, LEFT) == left
        assert_same(picture(server.dsn(copy)), without_trackers(memory))
        connection.execute("INSERT INTO shop.kinds VALUES (100, 'unseen')")
