"""pyhist.install by pg_tle, of which this has a stub: the folder pg_tle says what of it is so, and what not."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from installing import execute, fetch, found

import pyhist
from pyhist import bundle
from pyhist.errors import InstallError
from pyhist.server import Server

VERSION = bundle.version()
STUB = Path(__file__).with_name("pg_tle")


@pytest.fixture
def bare_server() -> Iterator[Server]:
    """A server that could have pg_tle, with a role `owner` that owns its database."""
    with Server() as server:
        folder = server.installation.sharedir / "extension"
        for path in STUB.iterdir():
            shutil.copy(path, folder)
        if account := server.installation.account:
            shutil.chown(folder, account["user"], account["group"])
        execute(server.dsn(), "CREATE ROLE owner LOGIN", "ALTER DATABASE postgres OWNER TO owner")
        yield server


@pytest.fixture(params=["1.4.0", "1.5.0"])
def tle_server(request: pytest.FixtureRequest, bare_server: Server) -> Server:
    """The same with pg_tle, whose administrator `owner` is, and no superuser."""
    execute(
        bare_server.dsn(), f"CREATE EXTENSION pg_tle VERSION '{request.param}'", "GRANT pgtle_admin TO owner"
    )
    return bare_server


def install_once(monkeypatch: pytest.MonkeyPatch, dsn: str, version: str) -> None:
    """Have an earlier version of pyhist install."""
    with monkeypatch.context() as then:
        then.setattr(bundle, "version", lambda: version)
        pyhist.install(dsn, how="pg_tle")


def test_pg_tle_keeps_the_extension_for_a_role_that_is_no_superuser(tle_server: Server) -> None:
    dsn = tle_server.dsn(user="owner")
    said = pyhist.install(dsn).splitlines()[0]
    assert said == f"pghistory {VERSION} installed as an extension that pg_tle keeps."
    assert fetch(
        dsn,
        "SELECT extversion, extnamespace::regnamespace::text FROM pg_extension WHERE extname = 'pghistory'",
    ) == (
        VERSION,
        "pghistory",
    )
    assert found(dsn).how == "pg_tle"
    execute(dsn, "CREATE TABLE film (id integer PRIMARY KEY)", "SELECT pghistory.track('film', 'film')")
    execute(dsn, "INSERT INTO film VALUES (1)")
    assert fetch(dsn, "SELECT count(*) FROM film_event") == (1,)
    assert fetch(dsn, "SELECT count(*) FROM pghistory.verify()") == (0,)


def test_pg_tle_is_given_what_it_asks_for(tle_server: Server) -> None:
    pyhist.install(tle_server.dsn(user="owner"), how="pg_tle")
    takes_schema = fetch(
        tle_server.dsn(), "SELECT extversion = '1.5.0' FROM pg_extension WHERE extname = 'pg_tle'"
    )[0]
    kept = fetch(
        tle_server.dsn(),
        "SELECT name, fromvers, version, description, requires, schema, ext, kept_by FROM pgtle.kept",
    )
    assert kept == (
        "pghistory",
        "",
        VERSION,
        bundle.description(),
        None,
        "pghistory" if takes_schema else None,
        bundle.install_script(),
        "owner",
    )
    assert not [line for line in kept[6].splitlines() if line.startswith("\\")]
    assert "_pgtle_" not in kept[6]


def test_what_pg_tle_keeps_is_upgraded(tle_server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    dsn = tle_server.dsn(user="owner")
    install_once(monkeypatch, dsn, "0.2.0")
    execute(dsn, "CREATE TABLE film (id integer PRIMARY KEY)", "SELECT pghistory.track('film', 'film')")
    before = found(dsn)
    assert (before.how, before.version, before.available) == ("pg_tle", "0.2.0", VERSION)
    assert f"{VERSION} is available: pyhist upgrade." in before.hints
    assert (
        pyhist.upgrade(dsn).splitlines()[0]
        == f"pghistory {VERSION} upgraded as an extension that pg_tle keeps."
    )
    assert (found(dsn).how, found(dsn).version) == ("pg_tle", VERSION)
    assert fetch(
        tle_server.dsn(), f"SELECT ext FROM pgtle.kept WHERE fromvers = '0.2.0' AND version = '{VERSION}'"
    ) == (bundle.upgrade_script("0.2.0"),)
    assert fetch(dsn, "SELECT default_version FROM pgtle.available_extensions()") == (VERSION,)
    assert fetch(dsn, "SELECT count(*) FROM pghistory.verify()") == (0,)
    assert pyhist.upgrade(dsn) == f"pghistory {VERSION} is installed already."


def test_an_upgrade_that_was_begun_is_finished(tle_server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    dsn = tle_server.dsn(user="owner")
    install_once(monkeypatch, dsn, "0.2.0")
    with psycopg.connect(dsn, client_encoding="utf8") as connection:
        script, path = bundle.install_script(), bundle.upgrade_script("0.2.0")
        connection.execute("SELECT pgtle.install_extension('pghistory', %s, 'x', %s)", [VERSION, script])
        connection.execute("SELECT pgtle.install_update_path('pghistory', '0.2.0', %s, %s)", [VERSION, path])
    assert VERSION in pyhist.upgrade(dsn)
    assert found(dsn).version == VERSION


def test_what_was_dropped_is_created_again(tle_server: Server) -> None:
    dsn = tle_server.dsn(user="owner")
    pyhist.install(dsn, how="pg_tle")
    execute(dsn, "DROP EXTENSION pghistory")
    pyhist.install(dsn, how="pg_tle")
    assert found(dsn).how == "pg_tle"


def test_a_role_without_its_rights_creates_what_somebody_else_gave_to_it(tle_server: Server) -> None:
    pyhist.install(tle_server.dsn(), how="pg_tle")
    execute(
        tle_server.dsn(),
        "DROP EXTENSION pghistory",
        "DROP SCHEMA pghistory CASCADE",
        "REVOKE pgtle_admin FROM owner",
        "GRANT USAGE ON SCHEMA pgtle TO owner",
    )
    pyhist.install(tle_server.dsn(user="owner"), how="pg_tle")
    assert found(tle_server.dsn(user="owner")).how == "pg_tle"


def test_what_is_plain_sql_can_be_given_to_it(tle_server: Server) -> None:
    dsn = tle_server.dsn(user="owner")
    pyhist.install(dsn, how="sql")
    execute(dsn, "CREATE TABLE film (id integer PRIMARY KEY)", "SELECT pghistory.track('film', 'film')")
    execute(dsn, "INSERT INTO film VALUES (1)")
    assert "is plain SQL no longer. It is installed as an extension that pg_tle keeps" in pyhist.install(
        dsn, how="pg_tle"
    )
    execute(dsn, "INSERT INTO film VALUES (2)")
    assert found(dsn).how == "pg_tle"
    assert fetch(dsn, "SELECT array_agg(id ORDER BY pgh_id) FROM film_event") == ([1, 2],)


def test_a_role_without_its_rights_is_told_which(tle_server: Server) -> None:
    execute(tle_server.dsn(), "REVOKE pgtle_admin FROM owner")
    with pytest.raises(InstallError, match='GRANT pgtle_admin TO "owner"'):
        pyhist.install(tle_server.dsn(user="owner"), how="pg_tle")
    assert "as plain SQL. The server" in pyhist.install(tle_server.dsn(user="owner"))


def test_pg_tle_is_not_used_where_the_server_has_the_files(tle_server: Server) -> None:
    pyhist.install(tle_server.dsn(), how="files")
    execute(tle_server.dsn(), "DROP EXTENSION pghistory", "DROP SCHEMA pghistory")
    with pytest.raises(InstallError, match="control file already exists for the pghistory extension"):
        pyhist.install(tle_server.dsn(user="owner"), how="pg_tle")
    assert found(tle_server.dsn()).how is None
    assert "its files were there" in pyhist.install(tle_server.dsn(user="owner"))


def test_who_could_have_pg_tle_is_told_so(bare_server: Server) -> None:
    could = 'pg_tle is not in database "postgres", but could be: CREATE EXTENSION pg_tle.'
    with pytest.raises(InstallError, match=could):
        pyhist.install(bare_server.dsn(user="owner"), how="pg_tle")
    assert could in pyhist.install(bare_server.dsn(user="owner"))
