"""pyhist.install: the extension's files where the server finds them, then CREATE EXTENSION."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from pyhist import bundle
from pyhist.errors import InstallError
from pyhist.install import install, upgrade
from pyhist.server import Server, find_bindir

SOURCE = bundle.folder()
VERSION = bundle.version()
FILES = {"pghistory.control"} | {path.name for path in (SOURCE / "extension").glob("*.sql")}


@pytest.fixture
def server_18(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """A server that knows extension_control_path, and has never heard of pghistory."""
    monkeypatch.delenv("PYHIST_BINDIR", raising=False)
    with Server(bindir=find_bindir(prefer="wheel")) as server:
        yield server


@pytest.fixture
def share_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """A server whose share folder is the only way in: a search path cannot hold a folder with a colon."""
    source = tmp_path / "source:here"
    source.mkdir()
    for name in ("META.json", "Makefile", "pghistory.control"):
        shutil.copy(SOURCE / name, source)
    shutil.copytree(SOURCE / "extension", source / "extension")
    monkeypatch.setattr(bundle, "folder", lambda: source)
    with Server() as server:
        yield server


def fetch(dsn: str, query: str) -> Any:
    with psycopg.connect(dsn) as connection:
        row = connection.execute(query).fetchone()
    return row[0] if row else None


def execute(dsn: str, *statements: str) -> None:
    with psycopg.connect(dsn, autocommit=True) as connection:
        for statement in statements:
            connection.execute(statement)


def installed(dsn: str) -> str | None:
    """The version of the extension in a database, if it is there; if not, none of it is."""
    version: str | None = fetch(dsn, "SELECT extversion FROM pg_extension WHERE extname = 'pghistory'")
    if version is None:
        assert fetch(dsn, "SELECT to_regproc('pghistory.track')") is None
    return version


def extension_folder(server: Server) -> Path:
    return server.installation.sharedir / "extension"


def installed_files(server: Server) -> set[str]:
    return {path.name for path in extension_folder(server).glob("pghistory*")}


def test_from_postgresql_18_on_the_server_reads_the_files_where_they_are(server_18: Server) -> None:
    said = install(server_18.dsn())
    assert str(SOURCE) in said
    assert installed(server_18.dsn()) == VERSION
    assert installed_files(server_18) == set()


def test_the_folders_that_the_server_reads_already_stay(server_18: Server) -> None:
    earlier = "/opt/other/share:$system"
    execute(
        server_18.dsn(), f"ALTER SYSTEM SET extension_control_path = '{earlier}'", "SELECT pg_reload_conf()"
    )
    install(server_18.dsn())
    kept = fetch(server_18.dsn(), "SELECT pg_read_file('postgresql.auto.conf')")
    assert f"extension_control_path = '{SOURCE}:{earlier}'" in kept


def test_a_server_whose_settings_are_locked_is_told_which_one_to_set(server_18: Server) -> None:
    with (server_18.folder / "data" / "postgresql.conf").open("a") as configuration:
        configuration.write("allow_alter_system = off\n")
    execute(server_18.dsn(), "SELECT pg_reload_conf()")
    with psycopg.connect(server_18.dsn(), autocommit=True) as connection:
        while connection.execute("SHOW allow_alter_system").fetchone() != ("off",):
            connection.execute("SELECT 1")
    with pytest.raises(InstallError, match=f"extension_control_path = '{SOURCE}:"):
        install(server_18.dsn(), how="path")
    assert installed(server_18.dsn()) is None


def test_make_puts_the_files_into_the_share_folder(share_server: Server) -> None:
    assert "pgxn install" in install(share_server.dsn())
    assert installed(share_server.dsn()) == VERSION
    assert installed_files(share_server) == FILES


def test_without_make_the_files_are_copied(share_server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(share_server.folder))
    assert "copied" in install(share_server.dsn())
    assert installed(share_server.dsn()) == VERSION
    assert installed_files(share_server) == FILES


def test_installing_again_changes_nothing(share_server: Server) -> None:
    install(share_server.dsn())
    assert install(share_server.dsn()) == f"pghistory {VERSION} is installed already."


def test_a_second_database_needs_no_files(share_server: Server) -> None:
    install(share_server.dsn())
    execute(share_server.dsn(), "CREATE DATABASE other", "CREATE ROLE owner LOGIN")
    execute(share_server.dsn(), "ALTER DATABASE other OWNER TO owner")
    assert "its files were there" in install(share_server.dsn("other", "owner"))
    assert installed(share_server.dsn("other")) == VERSION


def test_a_newer_version_is_announced_and_installed_when_asked_for(share_server: Server) -> None:
    install(share_server.dsn())
    control = extension_folder(share_server) / "pghistory.control"
    control.write_text(control.read_text().replace(VERSION, "99.0.0"))
    (extension_folder(share_server) / f"pghistory--{VERSION}--99.0.0.sql").write_text("SELECT 1;")
    said = install(share_server.dsn())
    assert "99.0.0 is available" in said
    assert "upgrade" in said
    assert installed(share_server.dsn()) == VERSION
    assert "99.0.0 upgraded" in install(share_server.dsn(), upgrade=True)
    assert installed(share_server.dsn()) == "99.0.0"


def test_whoever_may_not_create_in_the_database_is_told_so(share_server: Server) -> None:
    install(share_server.dsn())
    execute(share_server.dsn(), "CREATE DATABASE other", "CREATE ROLE guest LOGIN")
    with pytest.raises(InstallError, match='GRANT CREATE ON DATABASE "other" TO "guest"') as refused:
        install(share_server.dsn("other", "guest"))
    assert isinstance(refused.value.__cause__, psycopg.errors.InsufficientPrivilege)
    assert installed(share_server.dsn("other")) is None


def test_only_a_superuser_brings_files_to_a_server(share_server: Server) -> None:
    execute(share_server.dsn(), "CREATE ROLE owner LOGIN", "ALTER DATABASE postgres OWNER TO owner")
    with pytest.raises(InstallError, match="superuser"):
        install(share_server.dsn(user="owner"), how="files")
    assert installed_files(share_server) == set()


def test_a_server_elsewhere_is_told_what_to_do_there(share_server: Server) -> None:
    """What its data folder is called is not here, as it would not be for a server on another machine."""
    data, moved = share_server.folder / "data", share_server.folder / "moved"
    data.rename(moved)
    try:
        with pytest.raises(InstallError, match="another machine"):
            install(share_server.dsn(), how="files")
    finally:
        moved.rename(data)
    assert installed_files(share_server) == set()


def test_a_share_folder_that_cannot_be_written_to_is_named(share_server: Server) -> None:
    folder, moved = extension_folder(share_server), share_server.folder / "extension"
    folder.rename(moved)
    with pytest.raises(InstallError, match=f"{folder} cannot be written to"):
        install(share_server.dsn(), how="files")


def test_somebody_elses_schema_of_the_name_is_left_alone(share_server: Server) -> None:
    execute(
        share_server.dsn(),
        "CREATE ROLE stranger",
        "CREATE SCHEMA pghistory AUTHORIZATION stranger",
        "CREATE TABLE pghistory.mine ()",
    )
    with pytest.raises(InstallError, match="ALTER SCHEMA pghistory OWNER") as refused:
        install(share_server.dsn())
    assert isinstance(refused.value.__cause__, psycopg.Error)
    assert installed(share_server.dsn()) is None
    assert fetch(share_server.dsn(), "SELECT to_regnamespace('pghistory')::text") == "pghistory"


def test_files_can_be_copied_where_the_server_could_read_them_in_place(server_18: Server) -> None:
    said = install(server_18.dsn(), how="files")
    assert str(extension_folder(server_18)) in said
    assert installed(server_18.dsn()) == VERSION
    assert installed_files(server_18) == FILES


def test_files_that_the_server_cannot_read_are_not_named_to_it(share_server: Server) -> None:
    """A search path cannot hold a folder with a colon; older servers have none."""
    with pytest.raises(InstallError, match=r"does not read the files|Only PostgreSQL 18"):
        install(share_server.dsn(), how="path")
    assert installed(share_server.dsn()) is None


def test_upgrade_brings_an_older_version_up_to_date(share_server: Server) -> None:
    install(share_server.dsn())
    execute(share_server.dsn(), "CREATE DATABASE other")
    other = share_server.dsn("other")
    execute(
        other, "CREATE EXTENSION pghistory VERSION '0.1.0'", "CREATE TABLE users (id integer PRIMARY KEY)"
    )
    execute(other, "SELECT pghistory.track('users', 'user')")
    assert f"{VERSION} is available" in install(other)
    assert upgrade(other) == f"pghistory {VERSION} upgraded: its files were there."
    assert installed(other) == VERSION
    assert fetch(other, "SELECT count(*) FROM pghistory.verify()") == 0
    assert upgrade(other) == f"pghistory {VERSION} is installed already."


def test_only_what_is_installed_can_be_upgraded(share_server: Server) -> None:
    with pytest.raises(InstallError, match="is not installed"):
        upgrade(share_server.dsn())
    assert installed(share_server.dsn()) is None


def test_older_files_that_the_server_keeps_are_better_than_none(share_server: Server) -> None:
    """As those of a distribution's package, beside a newer pyhist whose files may not be put there."""
    install(share_server.dsn())
    control = extension_folder(share_server) / "pghistory.control"
    control.write_text(control.read_text().replace(VERSION, "0.2.0"))
    execute(share_server.dsn(), "CREATE DATABASE other", "CREATE ROLE owner LOGIN")
    execute(share_server.dsn(), "ALTER DATABASE other OWNER TO owner")
    said = install(share_server.dsn("other", "owner"))
    assert said.startswith(f"pghistory 0.2.0 installed: its files were there, but not those of {VERSION}.")
    assert installed(share_server.dsn("other")) == "0.2.0"
    with pytest.raises(InstallError, match="only a superuser"):
        upgrade(share_server.dsn("other", "owner"))
    assert installed(share_server.dsn("other")) == "0.2.0"
