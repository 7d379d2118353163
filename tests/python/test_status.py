"""pyhist.status: how pghistory is installed, and what is to be done about it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from installing import found

import pyhist
from pyhist import bundle
from pyhist.server import Server, find_bindir

VERSION = bundle.version()
CALL_SYNC = "call pghistory.sync() after migrations."

Connection = psycopg.Connection[Any]


@pytest.fixture
def server_18(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """A server that knows extension_control_path."""
    monkeypatch.delenv("PYHIST_BINDIR", raising=False)
    with Server(bindir=find_bindir(prefer="wheel")) as server:
        yield server


def test_without_pghistory_it_says_so_and_leaves_the_transaction_as_it_is(empty_database: str) -> None:
    with psycopg.connect(empty_database) as connection:
        status = pyhist.status(connection)
        assert (status.trackers, status.problems) == ([], [])
        assert status.installation == pyhist.Installation(
            None, None, VERSION, None, ["Install it: pyhist install."]
        )
        assert connection.execute("SELECT 1").fetchone() == (1,)


def test_an_extension_is_told_from_plain_sql(database: str, empty_database: str) -> None:
    pyhist.install(empty_database, how="sql")
    assert found(database).how in ("files", "path")
    assert found(empty_database).how == "sql"
    assert found(database).version == found(empty_database).version == VERSION


def test_superusers_are_told_whether_the_server_reads_the_files_in_place(server_18: Server) -> None:
    pyhist.install(server_18.dsn())
    with psycopg.connect(server_18.dsn()) as connection:
        connection.execute("CREATE ROLE reader LOGIN")
    assert found(server_18.dsn()).how == "path"
    assert found(server_18.dsn(user="reader")).how == "files"


def test_looking_at_the_setting_leaves_it_as_it_is(server_18: Server) -> None:
    pyhist.install(server_18.dsn())
    with psycopg.connect(server_18.dsn()) as connection:
        before = connection.execute("SHOW extension_control_path").fetchone()
        assert before != ("$system",)
        assert pyhist.status(connection).installation.how == "path"
        assert connection.execute("SHOW extension_control_path").fetchone() == before


def test_files_in_the_share_folder_are_told_from_those_in_a_path(server_18: Server) -> None:
    pyhist.install(server_18.dsn(), how="files")
    assert found(server_18.dsn()).how == "files"


def test_a_newer_version_is_announced(empty_database: str) -> None:
    with psycopg.connect(empty_database, autocommit=True) as connection:
        connection.execute("CREATE EXTENSION pghistory VERSION '0.1.0'")
    installation = found(empty_database)
    assert (installation.version, installation.available) == ("0.1.0", VERSION)
    assert installation.hints == [f"{VERSION} is available: pyhist upgrade."]


def test_event_triggers_that_are_enabled_need_nothing(connection: Connection) -> None:
    installation = pyhist.status(connection).installation
    assert (installation.event_triggers, installation.hints) == ("enabled", [])


def test_without_event_triggers_it_says_what_to_call_after_migrations(connection: Connection) -> None:
    connection.execute("ALTER EVENT TRIGGER pghistory_after_ddl DISABLE")
    installation = pyhist.status(connection).installation
    assert (installation.event_triggers, len(installation.hints)) == ("disabled", 1)
    assert installation.hints[0].endswith(CALL_SYNC)

    connection.execute("ALTER EXTENSION pghistory DROP EVENT TRIGGER pghistory_after_ddl")
    connection.execute("DROP EVENT TRIGGER pghistory_after_ddl")
    installation = pyhist.status(connection).installation
    assert (installation.event_triggers, len(installation.hints)) == ("missing", 1)
    assert installation.hints[0].endswith(CALL_SYNC)


def test_event_triggers_of_others_do_not_count(connection: Connection) -> None:
    connection.execute("ALTER EXTENSION pghistory DROP EVENT TRIGGER pghistory_after_ddl")
    connection.execute("DROP EVENT TRIGGER pghistory_after_ddl")
    connection.execute(
        """CREATE FUNCTION nothing() RETURNS event_trigger LANGUAGE plpgsql AS 'BEGIN END';
           CREATE EVENT TRIGGER pghistory_after_ddl ON ddl_command_end EXECUTE FUNCTION nothing()"""
    )
    assert pyhist.status(connection).installation.event_triggers == "missing"


def test_status_needs_no_rights(database: str, role: Any) -> None:
    with psycopg.connect(database, user=role()) as connection:
        status = pyhist.status(connection)
        assert (status.installation.version, status.installation.event_triggers) == (VERSION, "enabled")
        assert connection.execute("SELECT 1").fetchone() == (1,)
