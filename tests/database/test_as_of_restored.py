"""After a restore on another server, where the ids of transactions mean something else, the past is as it was."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import psycopg
import pytest
from history import Connection, rows, value
from past import KEPT_BY, as_of, copy, keep, moment

import pyhist.server
from pyhist.install import install

IMAGES = ("history", "before images")


@pytest.fixture
def other(server: Any) -> Iterator[pyhist.server.Server]:
    """Another server, young enough to give transactions the ids that events were written under."""
    with pyhist.server.Server(bindir=pyhist.server.find_bindir()) as other:
        install(other.dsn())
        yield other


def dump_and_restore(server: Any, database: str, other: pyhist.server.Server, folder: Path) -> None:
    dump = str(folder / "dump")
    subprocess.run([server.bindir / "pg_dump", "--format=custom", f"--file={dump}", database], check=True)
    with closing(psycopg.connect(other.dsn(), autocommit=True)) as connection:
        connection.execute("CREATE DATABASE restored TEMPLATE template0")
    subprocess.run(
        [server.bindir / "pg_restore", "--exit-on-error", f"--dbname={other.dsn('restored')}", dump],
        check=True,
    )


@pytest.mark.parametrize("kept", IMAGES)
def test_after_a_restore_elsewhere_the_past_is_as_it_was_and_goes_on(
    server: Any, database: str, connection: Connection, other: pyhist.server.Server, tmp_path: Path, kept: str
) -> None:
    for table in ("thing", "idle"):
        connection.execute(f"CREATE TABLE {table} (id integer PRIMARY KEY, v text)")
        connection.execute(f"INSERT INTO {table} VALUES (0, 'first')")
        keep(connection, table, KEPT_BY[kept])
        connection.execute(
            f"SELECT pghistory.create_event(t, '{table}.{KEPT_BY[kept][0]}') FROM {table} AS t"
        )
    times = [(moment(connection), copy(connection, "thing", "id, v"))]
    for statement in (
        "INSERT INTO thing VALUES (1, 'a'), (2, 'b')",
        "UPDATE thing SET v = v || '!'",
        "DELETE FROM thing WHERE id = 1",
        "UPDATE thing SET id = 3 WHERE id = 2",
    ):
        connection.execute(statement)
        times.append((moment(connection), copy(connection, "thing", "id, v")))
    connection.execute("ALTER TABLE thing ADD COLUMN w integer DEFAULT 5")
    connection.execute("ALTER TABLE idle ADD COLUMN w integer DEFAULT 5")
    added = moment(connection)

    dump_and_restore(server, database, other, tmp_path)
    with closing(psycopg.connect(other.dsn("restored"), autocommit=True)) as restored:
        # its transactions come to have the ids that the events have
        last_xid = value(connection, "SELECT pg_current_xact_id()::text::bigint")
        restored.execute("SET synchronous_commit = off")
        while value(restored, "SELECT pg_current_xact_id()::text::bigint") < last_xid:
            restored.execute(
                "DO 'BEGIN FOR n IN 1 .. 500 LOOP PERFORM pg_current_xact_id(); COMMIT; END LOOP; END'"
            )
        for refreshed in (False, True):
            for at, expected in times:
                assert as_of(restored, "thing", at, columns="id, v") == expected
                assert as_of(restored, "idle", at, columns="id, v, w") == [(0, "first", None)]
            assert {row[2] for row in as_of(restored, "thing", added, columns="id, v, w")} == {5}
            assert as_of(restored, "idle", added, columns="id, v, w") == [(0, "first", 5)]
            if not refreshed:
                restored.execute("SELECT pghistory.refresh()")
        restored.execute("UPDATE thing SET v = v || '?'")
        later, then = moment(restored), copy(restored, "thing")
        restored.execute("DELETE FROM thing")

        assert as_of(restored, "thing", later) == then
        assert as_of(restored, "thing", moment(restored)) == []
        assert rows(restored, "SELECT * FROM pghistory.verify()") == []
        for at, expected in times:
            assert as_of(restored, "thing", at, columns="id, v") == expected
