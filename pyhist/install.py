"""Install the extension pghistory: its files where the server looks for them, then ``CREATE EXTENSION``."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import psycopg
import psycopg.sql

from pyhist.errors import InstallError

OLDEST_SERVER = 14
"""The oldest major version of PostgreSQL that the extension runs on."""

CONTROL_PATH_SERVER = 18
"""The first major version of PostgreSQL that has the setting extension_control_path."""

_BY_HAND = (
    "On the server's machine, as an account that may write to PostgreSQL's share folder, run "
    "`pyhist install`, or `make install` in pghistory's source; then run this again."
)


def install(dsn: str = "", *, upgrade: bool = False) -> str:
    """Install the extension pghistory in the database that `dsn` names, and return a sentence that says how.

    `dsn` is a libpq connection string or URI; what it leaves out comes from libpq's environment. If the
    server does not have the extension's files, they are made known to it first: from PostgreSQL 18 on by
    naming the folder they are in (extension_control_path, nothing is copied), else, on the server's own
    machine, by putting them into its share folder: with ``pgxn install`` where make and the server's
    pg_config are there, else by copying them.

    Installing again changes nothing. An older version in the database is brought up to date with `upgrade`,
    which also renews what the older version generated (``pghistory.refresh()``). Warnings that the server
    gave follow the sentence, each on a line of its own.

    Raises InstallError, which says what to do, if the server is too old or on another machine, or if rights
    are missing; and psycopg.OperationalError if there is no connection.
    """
    with psycopg.connect(dsn, autocommit=True) as connection:
        if connection.info.server_version < OLDEST_SERVER * 10000:
            raise InstallError(
                f"pghistory needs PostgreSQL {OLDEST_SERVER} or newer; "
                f"this server has {_value(connection, 'SHOW server_version')}."
            )
        source = _source()
        offered = _offered(connection)
        target = max(filter(None, (offered, _version(source))), key=_number)
        installed = _value(connection, "SELECT extversion FROM pg_extension WHERE extname = 'pghistory'")
        if installed and _number(installed) >= _number(target):
            return f"pghistory {installed} is installed already."
        if installed and not upgrade:
            return (
                f"pghistory {installed} is installed already; {target} is available: "
                "pyhist.install(..., upgrade=True), or pyhist install --upgrade."
            )
        files = "its files were there" if offered == target else _provide_files(connection, source)
        warnings = _collect_warnings(connection)
        command = "ALTER EXTENSION pghistory UPDATE TO" if installed else "CREATE EXTENSION pghistory VERSION"
        try:
            connection.execute(psycopg.sql.SQL(command + " {}").format(target))
            if installed:
                connection.execute("SELECT pghistory.refresh()")
        except psycopg.Error as error:
            raise _refused(connection, error) from error
        done = "upgraded" if installed else "installed"
        return "\n".join([f"pghistory {target} {done}: {files}.", *warnings])


def _refused(connection: psycopg.Connection[Any], error: psycopg.Error) -> InstallError:
    database, role = connection.info.dbname, connection.info.user
    advice = ""
    if isinstance(error, psycopg.errors.InsufficientPrivilege) and not error.diag.message_hint:
        advice = f' Let its owner do that, or GRANT CREATE ON DATABASE "{database}" TO "{role}".'
    return InstallError(
        f'pghistory could not be installed in database "{database}" as role "{role}": '
        f"{_said(error.diag)}.{advice}"
    )


def _collect_warnings(connection: psycopg.Connection[Any]) -> list[str]:
    """Return a list that grows with the warnings that the server gives from now on."""
    warnings: list[str] = []

    def collect(notice: psycopg.errors.Diagnostic) -> None:
        if notice.severity_nonlocalized == "WARNING":
            warnings.append(f"Warning: {_said(notice)}.")

    connection.add_notice_handler(collect)
    return warnings


def _provide_files(connection: psycopg.Connection[Any], source: Path) -> str:
    """Make the server know the extension's files, and say how."""
    if connection.info.server_version >= CONTROL_PATH_SERVER * 10000 and _reads(connection, source):
        _name_in_control_path(connection, source)
        how = f"the server reads its files in {source} (extension_control_path), so that folder has to stay"
    else:
        how = _put_into_share_folder(connection, source)
    if _offered(connection) != _version(source):
        raise InstallError(f"The server does not see pghistory's files, although {how}. {_BY_HAND}")
    return how


def _reads(connection: psycopg.Connection[Any], source: Path) -> bool:
    """Tell whether the server reads in `source` what we read there, and we may ask it to."""
    if _value(connection, "SHOW is_superuser") != "on" or os.pathsep in str(source):
        return False
    read = "SELECT pg_read_binary_file(%s, true)"
    try:
        return all(_value(connection, read, str(path)) == path.read_bytes() for path in _files(source))
    except psycopg.Error:
        return False


def _name_in_control_path(connection: psycopg.Connection[Any], source: Path) -> None:
    """Put `source` at the head of extension_control_path, for good, and at once in this session."""
    current = str(_value(connection, "SHOW extension_control_path")).split(os.pathsep)
    path = os.pathsep.join([str(source), *(folder for folder in current if folder != str(source))])
    setting = psycopg.sql.SQL("ALTER SYSTEM SET extension_control_path = {}").format(path)
    try:
        connection.execute(setting)
    except psycopg.Error as error:
        raise InstallError(
            f"The server's settings cannot be changed from here: {_said(error.diag)}. "
            f"Set extension_control_path = '{path}' where they are kept, reload, and run this again."
        ) from error
    connection.execute("SELECT pg_reload_conf()")
    connection.execute("SELECT set_config('extension_control_path', %s, false)", [path])


def _put_into_share_folder(connection: psycopg.Connection[Any], source: Path) -> str:
    """Put the extension's files into the share folder of a server on this machine, and say how."""
    try:
        built = dict(connection.execute("SELECT name, setting FROM pg_config").fetchall())
        here = _is_on_this_machine(connection)
    except psycopg.errors.InsufficientPrivilege as error:
        raise InstallError(
            "The server does not have pghistory's files, and only a superuser may ask it where they belong. "
            f"Run this as a superuser once. Or: {_BY_HAND}"
        ) from error
    if not here:
        raise InstallError(
            f"The server does not have pghistory's files, and is on another machine. {_BY_HAND}"
        )
    folder = Path(built["SHAREDIR"]) / "extension"
    if not os.access(folder, os.W_OK):
        raise InstallError(
            f"The server does not have pghistory's files, and {folder} cannot be written to. {_BY_HAND}"
        )
    if _pgxn_install(source, Path(built["BINDIR"]) / "pg_config", built["SHAREDIR"]):
        return f"pgxn install put its files into {folder}"
    for path in _files(source):
        shutil.copyfile(path, folder / path.name)
        (folder / path.name).chmod(0o644)
    return f"its files were copied into {folder}"


def _is_on_this_machine(connection: psycopg.Connection[Any]) -> bool:
    """Tell whether the server's data folder is the one that has its name here.

    The folder changes whenever its server starts, so the time of the last change tells it from any other.
    """
    query = "SELECT extract(epoch FROM modification)::bigint FROM pg_stat_file('.')"
    changed = _value(connection, query)
    try:
        data = Path(_value(connection, "SHOW data_directory")).stat()
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


def _source() -> Path:
    """The folder with the extension's source: inside the installed package, or the checkout around it."""
    packaged = Path(__file__).with_name("_extension")
    return packaged if packaged.is_dir() else Path(__file__).parent.parent


def _files(source: Path) -> list[Path]:
    extension = source / "extension"
    return [extension / "pghistory.control", *sorted(extension.glob("pghistory--*.sql"))]


def _version(source: Path) -> str:
    """The version of the extension in `source`."""
    found = re.search(r"^default_version = '(.+)'", (source / "pghistory.control").read_text(), re.MULTILINE)
    if not found:
        raise InstallError(f"{source / 'pghistory.control'} names no version.")
    return found[1]


def _number(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", version))


def _offered(connection: psycopg.Connection[Any]) -> str | None:
    """The version of the extension's files that the server has, None if it has none."""
    query = "SELECT default_version FROM pg_available_extensions WHERE name = 'pghistory'"
    offered: str | None = _value(connection, query)
    return offered


def _value(connection: psycopg.Connection[Any], query: str, *arguments: object) -> Any:
    row = connection.execute(psycopg.sql.SQL(query), arguments).fetchone()
    return row[0] if row else None


def _said(diagnostic: psycopg.errors.Diagnostic) -> str:
    said = (diagnostic.message_primary, diagnostic.message_detail, diagnostic.message_hint)
    return ". ".join(part.rstrip(".") for part in said if part)
