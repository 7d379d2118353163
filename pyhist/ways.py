"""The ways to install: each is made for a connection if it is possible, and then creates, or updates.

A way raises InstallError when it is made if it is not possible, and psycopg's errors when it is gone.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any, Protocol

import psycopg
import psycopg.sql

from pyhist import bundle
from pyhist.errors import InstallError
from pyhist.installed import PLAIN_SQL
from pyhist.models import How

CONTROL_PATH_SERVER = 18
"""The first major version of PostgreSQL that has the setting extension_control_path."""

_BY_HAND = (
    "On the server's machine, as an account that may write to PostgreSQL's share folder, run "
    "`pyhist install --how files`, or `make install` in pghistory's source; then run this again."
)


class Way(Protocol):
    """A way that is possible.

    Attributes:
        version: the version that there will be.
        how_it_goes: the rest of a sentence that says how that is done.
    """

    version: str
    how_it_goes: str

    def create(self) -> None:
        """Install where nothing is."""

    def update(self) -> None:
        """Bring what is there up to date, but for what it generated."""


class Files:
    """An extension whose files the server has, or can be made to find."""

    def __init__(
        self, connection: psycopg.Connection[Any], how: How | None = None, *, installed: str | None = None
    ) -> None:
        self.connection = connection
        offered, brought = _offered(connection), bundle.version()
        self.version = offered or ""
        self.how_it_goes = ": its files were there"
        if offered and bundle.number(offered) >= bundle.number(brought):
            return
        try:
            self.how_it_goes = f": {_provide_files(connection, how)}"
            self.version = brought
        except InstallError as error:
            if not offered or (installed and bundle.number(offered) <= bundle.number(installed)):
                raise
            self.how_it_goes += f", but not those of {brought}. {error.message.removesuffix('.')}"

    def create(self) -> None:
        """CREATE EXTENSION."""
        self.connection.execute(psycopg.sql.SQL("CREATE EXTENSION pghistory VERSION {}").format(self.version))

    def update(self) -> None:
        """ALTER EXTENSION UPDATE."""
        self.connection.execute(
            psycopg.sql.SQL("ALTER EXTENSION pghistory UPDATE TO {}").format(self.version)
        )


class PgTle:
    """An extension that pg_tle keeps in the database, and so without files, for roles with its rights."""

    how_it_goes = " as an extension that pg_tle keeps"

    def __init__(self, connection: psycopg.Connection[Any], *, installed: str | None = None) -> None:
        self.connection = connection
        self.version = bundle.version()
        self.installed = installed
        database, role = connection.info.dbname, connection.info.user
        facts = connection.execute(
            """SELECT pg_catalog.has_schema_privilege(n.oid, 'USAGE'),
                      pg_catalog.has_schema_privilege(n.oid, 'USAGE, CREATE')
                      AND pg_catalog.has_function_privilege(p.oid, 'EXECUTE'),
                      p.pronargs > 5
                 FROM pg_catalog.pg_extension AS x
                      JOIN pg_catalog.pg_namespace AS n ON n.oid = x.extnamespace
                      JOIN pg_catalog.pg_proc AS p
                           ON p.pronamespace = n.oid AND p.proname = 'install_extension'
                WHERE x.extname = 'pg_tle'"""
        ).fetchone()
        if not facts:
            offered = _offered(connection, "pg_tle")
            raise InstallError(
                f'The extension pg_tle is not in database "{database}"'
                + (", but could be: CREATE EXTENSION pg_tle." if offered else ".")
            )
        may_look, self.may_give, self.takes_schema = facts
        self.has_script = may_look and bool(self._script_schema())
        self.has_update_path = may_look and installed is not None and self._has_update_path(installed)
        if not self.may_give and not (self.has_update_path if installed else self.has_script):
            raise InstallError(
                f'Role "{role}" may not give extensions to pg_tle.', hint=f'GRANT pgtle_admin TO "{role}"'
            )

    def create(self) -> None:
        """CREATE EXTENSION, once pg_tle has it. Older ones keep no schema with it."""
        with self.connection.transaction():
            self._give_script()
            create = psycopg.sql.SQL("CREATE EXTENSION pghistory VERSION {}").format(self.version)
            if self._script_schema() != ("pghistory",):
                self.connection.execute("CREATE SCHEMA IF NOT EXISTS pghistory")
                create += psycopg.sql.SQL(" SCHEMA pghistory")
            self.connection.execute(create)

    def update(self) -> None:
        """ALTER EXTENSION UPDATE, once pg_tle has the way to this version."""
        with self.connection.transaction():
            if self.may_give:
                self._give_script()
            if not self.has_update_path:
                self.connection.execute(
                    "SELECT pgtle.install_update_path('pghistory', %s, %s, %s)",
                    [self.installed, self.version, bundle.upgrade_script(self.installed)],
                )
            self.connection.execute(
                psycopg.sql.SQL("ALTER EXTENSION pghistory UPDATE TO {}").format(self.version)
            )

    def _give_script(self) -> None:
        if not self.has_script:
            arguments = ["pghistory", self.version, bundle.description(), bundle.install_script(), None]
            if self.takes_schema:
                arguments.append("pghistory")
            places = ", ".join(["%s::text"] * 4 + ["%s::text[]"] + ["%s::text"] * (len(arguments) - 5))
            self.connection.execute(psycopg.sql.SQL(f"SELECT pgtle.install_extension({places})"), arguments)

    def _script_schema(self) -> tuple[str | None] | None:
        """The schema that pg_tle has for this version, in a tuple; None if it does not have this version."""
        return self.connection.execute(
            """SELECT schema::text FROM pgtle.available_extension_versions()
                WHERE name = 'pghistory' AND version = %s""",
            [self.version],
        ).fetchone()

    def _has_update_path(self, installed: str) -> bool:
        return bool(
            value(
                self.connection,
                """SELECT path FROM pgtle.extension_update_paths('pghistory')
                    WHERE source = %s AND target = %s""",
                installed,
                self.version,
            )
        )


class PlainSql:
    """No extension: the same objects, which belong to nobody but their owner."""

    how_it_goes = " as plain SQL"

    def __init__(self, connection: psycopg.Connection[Any]) -> None:
        self.connection = connection
        self.version = bundle.version()

    def create(self) -> None:
        """Run the install script, which replaces nothing."""
        self._run(bundle.install_script())

    def update(self) -> None:
        """Run an upgrade script: whatever version is there, it is replaced."""
        self._run(bundle.upgrade_script(None))

    def _run(self, script: str) -> None:
        """Run a script, all or nothing, and leave a note that says which version this is."""
        with self.connection.transaction():
            self.connection.execute(script)
            comment = value(
                self.connection,
                "SELECT pg_catalog.obj_description('pghistory'::regnamespace, 'pg_namespace')",
            )
            note = f"{comment or ''} ({PLAIN_SQL.format(self.version)})".strip()
            self.connection.execute(psycopg.sql.SQL("COMMENT ON SCHEMA pghistory IS {}").format(note))


def said(diagnostic: psycopg.errors.Diagnostic) -> str:
    """What the server said, in a line and without a full stop."""
    parts = (diagnostic.message_primary, diagnostic.message_detail, diagnostic.message_hint)
    return ". ".join(part.rstrip(".") for part in parts if part)


def value(connection: psycopg.Connection[Any], query: str, *arguments: object) -> Any:
    """The only value of a query's only row, or None."""
    row = connection.execute(psycopg.sql.SQL(query), arguments).fetchone()
    return row[0] if row else None


def _offered(connection: psycopg.Connection[Any], name: str = "pghistory") -> str | None:
    """The version of the extension's files that the server has, None if it has none."""
    query = "SELECT default_version FROM pg_available_extensions WHERE name = %s"
    offered: str | None = value(connection, query, name)
    return offered


def _provide_files(connection: psycopg.Connection[Any], how: How | None) -> str:
    """Make the server know the extension's files, and say how."""
    done = None
    source = bundle.folder()
    if how != "files":
        try:
            _name_in_control_path(connection, source)
            done = (
                f"the server reads its files in {source} (extension_control_path), so that folder has to stay"
            )
        except InstallError:
            if how == "path":
                raise
    if not done:
        done = _put_into_share_folder(connection, source)
    if _offered(connection) != bundle.version():
        raise InstallError(f"The server does not see pghistory's files, although {done}.", hint=_BY_HAND)
    return done


def _name_in_control_path(connection: psycopg.Connection[Any], source: Path) -> None:
    """Put `source` at the head of extension_control_path, for good, and at once in this session."""
    if connection.info.server_version < CONTROL_PATH_SERVER * 10000:
        raise InstallError(f"Only PostgreSQL {CONTROL_PATH_SERVER} and later have extension_control_path.")
    if not _reads(connection, source):
        raise InstallError(
            f"Either the server does not read the files in {source}, or the role may not ask it to.",
            hint="Be a superuser, and let the account that runs the server read them.",
        )
    current = str(value(connection, "SHOW extension_control_path")).split(os.pathsep)
    path = os.pathsep.join([str(source), *(folder for folder in current if folder != str(source))])
    setting = psycopg.sql.SQL("ALTER SYSTEM SET extension_control_path = {}").format(path)
    try:
        connection.execute(setting)
    except psycopg.Error as error:
        raise InstallError(
            f"The server's settings cannot be changed from here: {said(error.diag)}.",
            hint=f"Set extension_control_path = '{path}' where they are kept, reload, and run this again.",
        ) from error
    connection.execute("SELECT pg_reload_conf()")
    connection.execute("SELECT set_config('extension_control_path', %s, false)", [path])


def _reads(connection: psycopg.Connection[Any], source: Path) -> bool:
    """Tell whether the server reads in `source` what we read there, and we may ask it to."""
    if value(connection, "SHOW is_superuser") != "on" or os.pathsep in str(source):
        return False
    read = "SELECT pg_read_binary_file(%s, true)"
    try:
        return all(value(connection, read, str(path)) == path.read_bytes() for path in bundle.files())
    except psycopg.Error:
        return False


def _put_into_share_folder(connection: psycopg.Connection[Any], source: Path) -> str:
    """Put the extension's files into the share folder of a server on this machine, and say how."""
    try:
        built = dict(connection.execute("SELECT name, setting FROM pg_config").fetchall())
        here = _is_on_this_machine(connection)
    except psycopg.errors.InsufficientPrivilege as error:
        raise InstallError(
            "The server does not have pghistory's files, and only a superuser may ask it where they belong.",
            hint=f"Run this as a superuser once. Or: {_BY_HAND}",
        ) from error
    if not here:
        raise InstallError(
            "The server does not have pghistory's files, and is on another machine.", hint=_BY_HAND
        )
    folder = Path(built["SHAREDIR"]) / "extension"
    if not os.access(folder, os.W_OK):
        raise InstallError(
            f"The server does not have pghistory's files, and {folder} cannot be written to.", hint=_BY_HAND
        )
    if _pgxn_install(source, Path(built["BINDIR"]) / "pg_config", built["SHAREDIR"]):
        return f"pgxn install put its files into {folder}"
    for path in bundle.files():
        shutil.copyfile(path, folder / path.name)
        (folder / path.name).chmod(0o644)
    return f"its files were copied into {folder}"


def _is_on_this_machine(connection: psycopg.Connection[Any]) -> bool:
    """Tell whether the server's data folder is the one that has its name here.

    The folder changes whenever its server starts, so the time of the last change tells it from any other.
    """
    query = "SELECT extract(epoch FROM modification)::bigint FROM pg_stat_file('.')"
    changed = value(connection, query)
    try:
        data = Path(value(connection, "SHOW data_directory")).stat()
    except OSError:
        return False
    return int(data.st_mtime) == int(changed)


def _pgxn_install(source: Path, pg_config: Path, sharedir: str) -> bool:
    """Install with PGXN's client, if make and the right pg_config are there; tell whether that worked."""
    if not pg_config.exists() or not shutil.which("make"):
        return False
    answer = subprocess.run([pg_config, "--sharedir"], capture_output=True, text=True, check=False)
    if answer.stdout.strip() != sharedir:
        return False
    command = ["-m", "pgxnclient.cli", "install", "--pg_config", str(pg_config), f"{source}/"]
    environment = {name: value for name, value in os.environ.items() if name != "MAKEFLAGS"}
    done = subprocess.run([sys.executable, *command], env=environment, capture_output=True, check=False)
    return done.returncode == 0
