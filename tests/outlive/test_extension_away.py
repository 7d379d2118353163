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
SCRIPT = Path(__file__).parents[2] / "sql" / "pghistory.sql"


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
