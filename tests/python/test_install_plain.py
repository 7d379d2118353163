"""pyhist.install without an extension: plain SQL."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import psycopg
import pytest
from installing import execute, fetch, found
from psycopg.conninfo import make_conninfo

import pyhist
from pyhist import bundle
from pyhist.errors import InstallError
from pyhist.server import Server

VERSION = bundle.version()
FUNCTIONS = """SELECT count(*), max(oid), max(xmin::text::bigint) FROM pg_proc
                WHERE pronamespace = to_regnamespace('pghistory')"""


@pytest.fixture
def bare_server() -> Iterator[Server]:
    """A server that has never heard of pghistory, with a role `owner` that owns its database."""
    with Server() as server:
        execute(server.dsn(), "CREATE ROLE owner LOGIN", "ALTER DATABASE postgres OWNER TO owner")
        yield server


@pytest.fixture
def installed_once(empty_database: str, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], str]:
    """Call `installed_once(version)` for a database that an earlier version of pyhist installed in."""

    def installed_once(version: str) -> str:
        with monkeypatch.context() as then:
            then.setattr(bundle, "version", lambda: version)
            assert pyhist.install(empty_database, how="sql") == f"pghistory {version} installed as plain SQL."
        return empty_database

    return installed_once


def assert_records(dsn: str) -> None:
    """A table can be tracked, and changed, and all is well."""
    execute(dsn, "CREATE TABLE film (id integer PRIMARY KEY, title text)")
    execute(dsn, "SELECT pghistory.track('film', 'film')", "INSERT INTO film VALUES (1, 'M')")
    assert fetch(dsn, "SELECT count(*) FROM film_event") == (1,)
    assert fetch(dsn, "SELECT count(*) FROM pghistory.verify()") == (0,)


def test_where_it_cannot_be_an_extension_it_is_plain_sql_and_says_so_and_why(bare_server: Server) -> None:
    dsn = bare_server.dsn(user="owner")
    said = pyhist.install(dsn).splitlines()
    assert said[0] == (
        f"pghistory {VERSION} installed as plain SQL. The server "
        "does not have pghistory's files, and only a superuser may ask it where they belong. The extension pg_tle is not in database "
        '"postgres".'
    )
    assert said[1:] == [
        "Warning: event triggers may not be created here: call pghistory.sync() after DDL on tracked tables. "
        "Let a superuser install the extension to have DDL followed at once."
    ]
    assert fetch(dsn, "SELECT count(*) FROM pg_extension WHERE extname = 'pghistory'") == (0,)
    assert found(dsn).how == "sql"
    assert_records(dsn)


def test_it_can_be_asked_for(empty_database: str) -> None:
    assert pyhist.install(empty_database, how="sql") == f"pghistory {VERSION} installed as plain SQL."
    assert found(empty_database) == pyhist.Installation("sql", VERSION, VERSION, "enabled", [])
    assert_records(empty_database)


def test_installing_again_changes_nothing(empty_database: str) -> None:
    pyhist.install(empty_database, how="sql")
    before = fetch(empty_database, FUNCTIONS)
    for options in ({}, {"upgrade": True}, {"how": "sql"}, {"upgrade": True, "how": "sql"}):
        said = pyhist.install(empty_database, **options)
        assert said == f"pghistory {VERSION} is installed already."
    assert fetch(empty_database, FUNCTIONS) == before


def test_nobody_is_left_with_half_of_it(empty_database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bundle, "install_script", lambda: f"{script}; SELECT 1 / 0;")
    script = bundle._script(bundle.folder() / "extension" / f"pghistory--{VERSION}.sql")
    with pytest.raises(InstallError, match="division by zero"):
        pyhist.install(empty_database, how="sql")
    assert fetch(empty_database, "SELECT to_regnamespace('pghistory')") == (None,)


def test_whoever_may_not_create_in_the_database_is_told_so(empty_database: str, role: Any) -> None:
    guest = role()
    with pytest.raises(InstallError, match=f'GRANT CREATE ON DATABASE .* TO "{guest}"'):
        pyhist.install(make_conninfo(empty_database, user=guest), how="sql")


def test_the_encoding_of_the_database_is_of_no_matter(bare_server: Server) -> None:
    execute(bare_server.dsn(), "CREATE DATABASE bytes ENCODING 'SQL_ASCII' TEMPLATE template0")
    pyhist.install(bare_server.dsn("bytes"), how="sql")
    assert_records(bare_server.dsn("bytes"))


@pytest.mark.parametrize("version", ["0.1.0", "0.2.0"])
def test_an_older_version_is_announced_and_brought_up_to_date(
    installed_once: Callable[[str], str], version: str
) -> None:
    dsn = installed_once(version)
    execute(dsn, "CREATE TABLE users (id integer PRIMARY KEY)", "SELECT pghistory.track('users', 'user')")
    execute(dsn, "INSERT INTO users VALUES (1)")
    assert pyhist.install(dsn) == (
        f"pghistory {version} is installed already; {VERSION} is available: "
        "pyhist.install(..., upgrade=True), or pyhist upgrade."
    )
    assert found(dsn).version == version
    assert pyhist.upgrade(dsn) == f"pghistory {VERSION} upgraded as plain SQL."
    assert found(dsn) == pyhist.Installation("sql", VERSION, VERSION, "enabled", [])
    execute(dsn, "INSERT INTO users VALUES (2)")
    assert fetch(dsn, "SELECT count(*) FROM users_event") == (2,)
    assert fetch(dsn, "SELECT count(*) FROM pghistory.verify()") == (0,)


def test_what_psql_installed_is_brought_up_to_date_whichever_version_it_is(empty_database: str) -> None:
    script = bundle._script(bundle.folder() / "extension" / "pghistory--0.2.0.sql")
    with psycopg.connect(empty_database, client_encoding="utf8") as connection:
        connection.execute(script)
    assert found(empty_database) == pyhist.Installation(
        "sql", None, VERSION, "enabled", [f"pyhist upgrade makes it {VERSION}, whichever version it is."]
    )
    assert f"to make it {VERSION}: " in pyhist.install(empty_database)
    assert found(empty_database).version is None
    assert pyhist.install(empty_database, upgrade=True) == f"pghistory {VERSION} upgraded as plain SQL."
    assert found(empty_database).version == VERSION
    assert_records(empty_database)


def test_an_upgrade_that_fails_leaves_the_old_version(
    installed_once: Callable[[str], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    dsn = installed_once("0.2.0")
    before = fetch(dsn, FUNCTIONS)
    script = bundle.upgrade_script(None)
    monkeypatch.setattr(bundle, "upgrade_script", lambda installed: f"{script}; SELECT 1 / 0;")
    with pytest.raises(InstallError, match="division by zero"):
        pyhist.upgrade(dsn)
    assert found(dsn).version == "0.2.0"
    assert fetch(dsn, FUNCTIONS) == before


def test_a_newer_version_stays(empty_database: str) -> None:
    pyhist.install(empty_database, how="sql")
    execute(empty_database, "COMMENT ON SCHEMA pghistory IS '(pghistory 99.0.0, installed as plain SQL)'")
    assert pyhist.upgrade(empty_database) == "pghistory 99.0.0 is installed already."


def test_it_does_not_become_an_extension_by_accident(empty_database: str) -> None:
    """Though the server has the files of the extension."""
    pyhist.install(empty_database, how="sql")
    assert_records(empty_database)
    before = fetch(empty_database, FUNCTIONS)
    assert "already" in pyhist.install(empty_database)
    assert "already" in pyhist.install(empty_database, upgrade=True)
    with pytest.raises(psycopg.errors.DuplicateObject, match="installed in this database as plain SQL"):
        execute(empty_database, "CREATE EXTENSION pghistory")
    assert found(empty_database).how == "sql"
    assert fetch(empty_database, FUNCTIONS) == before
    execute(empty_database, "INSERT INTO film VALUES (2, 'Fury')")
    assert fetch(empty_database, "SELECT count(*) FROM film_event") == (2,)


@pytest.mark.parametrize("version", ["0.1.0", "0.2.0", "0.3.0", VERSION])
def test_it_becomes_an_extension_if_that_is_asked_for_and_keeps_every_event(
    installed_once: Callable[[str], str], version: str
) -> None:
    dsn = installed_once(version)
    execute(dsn, "CREATE TABLE film (id integer PRIMARY KEY)", "SELECT pghistory.track('film', 'film')")
    execute(dsn, "INSERT INTO film VALUES (1)")
    said = pyhist.install(dsn, how="files")
    assert said == f"pghistory {VERSION} is plain SQL no longer. It is installed: its files were there."
    installation = found(dsn)
    assert installation.how in ("files", "path")  # a private server of 18 finds its files by a path
    assert installation == pyhist.Installation(installation.how, VERSION, VERSION, "enabled", [])
    execute(dsn, "INSERT INTO film VALUES (2)")
    assert fetch(dsn, "SELECT array_agg(id ORDER BY pgh_id) FROM film_event") == ([1, 2],)
    assert fetch(dsn, "SELECT count(*) FROM pghistory.verify()") == (0,)


def test_who_writes_while_it_becomes_an_extension_is_recorded(empty_database: str) -> None:
    pyhist.install(empty_database, how="sql")
    assert_records(empty_database)
    with psycopg.connect(empty_database) as connection, psycopg.connect(empty_database) as writer:
        connection.execute(bundle.remove_script())
        with ThreadPoolExecutor() as pool:
            writing = pool.submit(writer.execute, "INSERT INTO film VALUES (2, 'Fury')")
            waits = "SELECT cardinality(pg_blocking_pids(%s)) > 0"
            while connection.execute(waits, [writer.info.backend_pid]).fetchone() != (True,):
                assert not writing.done()
            connection.execute("CREATE EXTENSION pghistory")
            connection.execute("SELECT pghistory.refresh()")
            connection.commit()
            writing.result()
    assert fetch(empty_database, "SELECT array_agg(title ORDER BY pgh_id) FROM film_event") == (
        ["M", "Fury"],
    )


def test_it_stays_what_it_is_if_it_cannot_become_an_extension(
    empty_database: str, role: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    pyhist.install(empty_database, how="sql")
    assert_records(empty_database)
    before = fetch(empty_database, FUNCTIONS)
    with pytest.raises(InstallError, match="must be owner of"):
        pyhist.install(make_conninfo(empty_database, user=role()), how="files")
    with pytest.raises(InstallError, match=r"pg_tle is not in database"):
        pyhist.install(empty_database, how="pg_tle")
    execute(empty_database, "COMMENT ON SCHEMA pghistory IS '(pghistory 99.0.0, installed as plain SQL)'")
    with pytest.raises(
        InstallError, match=f"99.0.0 is installed as plain SQL, and the extension would be {VERSION}"
    ):
        pyhist.install(empty_database, how="files")
    assert fetch(empty_database, FUNCTIONS) == before


def test_an_extension_does_not_become_plain_sql_by_accident(database: str) -> None:
    with pytest.raises(InstallError, match=r"is installed as an extension .* cannot .* as plain SQL"):
        pyhist.install(database, how="sql", upgrade=True)
    assert found(database).how in ("files", "path")
