"""table_log and periods, of Debian's packages for PostgreSQL 15: recorders in C."""

from __future__ import annotations

import functools
import re
import sys
import tempfile
from pathlib import Path

import psycopg
from debian_packages import unpack
from measure import session
from recorders import Connection, Recorder
from shapes import Shape

from pyhist.server import Server

MAJOR = 15
PACKAGES = {"table_log": "postgresql-15-tablelog", "periods": "postgresql-15-periods"}


@functools.cache
def unpacked(package: str) -> Path | None:
    """Where a package was unpacked, if it can be had; for as long as this process lives."""
    holder = tempfile.TemporaryDirectory()
    folders.append(holder)
    folder = Path(holder.name)
    folder.chmod(0o755)
    return folder if unpack(package, folder) else None


folders: list[tempfile.TemporaryDirectory[str]] = []


def put_in_place(server: Server, extension: str) -> bool:
    """Give a private server the files of an extension, if these can be had."""
    folder = unpacked(PACKAGES[extension])
    if folder is None:
        print(f"{PACKAGES[extension]} cannot be had: without {extension}", file=sys.stderr)
        return False
    (library,) = folder.rglob(f"{extension}.so")
    extensions = server.installation.sharedir / "extension"
    for file in folder.rglob(f"share/postgresql/*/extension/{extension}*"):
        text = file.read_text()
        if file.suffix == ".control":
            text = re.sub(r"module_pathname = .*", f"module_pathname = '{library}'", text)
        (extensions / file.name).write_text(text)
    return True


def index_object(connection: Connection, second: str) -> None:
    connection.execute(f"CREATE INDEX ON item_event (id, {second})".encode())


def begin_table_log(connection: Connection, shape: Shape, *, indexed: bool) -> None:
    schema = connection.execute("SELECT current_schema()").fetchone()
    assert schema
    connection.execute("SELECT table_log_init(4, %s, 'item', %s, 'item_event')", (schema[0], schema[0]))
    if indexed:
        index_object(connection, "trigger_id")


def begin_periods(connection: Connection, shape: Shape, *, indexed: bool) -> None:
    connection.execute("SELECT periods.add_system_time_period('item', 'row_start', 'row_end')")
    connection.execute("SELECT periods.add_system_versioning('item', history_table_name => 'item_event')")
    if indexed:
        index_object(connection, "row_start")


def recorders(server: Server, *, own_tables: bool = False) -> list[Recorder]:
    """Those that can be had: with an index on the object, as the others have, or as they come."""
    if server.installation.major != MAJOR:
        return []
    suffix, schema = (" (own tables)", "_own") if own_tables else ("", "")
    begin = {"table_log": begin_table_log, "periods": begin_periods}
    found = []
    for extension in PACKAGES:
        with session(server) as connection:
            try:
                connection.execute(f"CREATE EXTENSION IF NOT EXISTS {extension} CASCADE".encode())
            except psycopg.errors.FeatureNotSupported:
                if not put_in_place(server, extension):
                    continue
                connection.execute(f"CREATE EXTENSION {extension} CASCADE".encode())
        found.append(
            Recorder(
                extension + suffix,
                extension + schema,
                functools.partial(begin[extension], indexed=not own_tables),
            )
        )
    return found
