"""Install pghistory in a database, bring it up to date: as an extension, or as plain SQL."""

from __future__ import annotations

from typing import Any

import psycopg

from pyhist import bundle, client, installed
from pyhist.errors import InstallError
from pyhist.models import How, Installation
from pyhist.ways import Files, PgTle, PlainSql, Way, said, value

OLDEST_SERVER = 14
"""The oldest major version of PostgreSQL that the extension runs on."""

_AS: dict[How, str] = {
    "files": "as an extension",
    "path": "as an extension",
    "pg_tle": "as an extension that pg_tle keeps",
    "sql": "as plain SQL",
}


def install(dsn: str = "", *, upgrade: bool = False, how: How | None = None) -> str:
    """Install pghistory in the database that `dsn` names, and return what was done, in words.

    `dsn` is a libpq connection string or URI; what it leaves out comes from libpq's environment.

    It becomes an extension if the server has its files. Otherwise the first of these ways that is possible is
    taken, or the one that `how` names:

    - `path`: the server reads the files where they are, from PostgreSQL 18 on: the setting
      extension_control_path names the folder, and nothing is copied.
    - `files`: they are put into the server's share folder, on the server's own machine: with ``pgxn install``
      where make and the server's pg_config are there, else by copying them.
    - `pg_tle`: the extension pg_tle keeps them, if it is in the database and the role has the rights of
      pgtle_admin, or somebody who has them gave them to it before.
    - `sql`: plain SQL, without an extension. It becomes one if `how` names one of the ways above, in one
      transaction, in which every event is kept, and nobody writes.

    Installing again changes nothing. An older version in the database is brought up to date with `upgrade`,
    in the way in which it was installed, which also renews what the older version generated
    (``pghistory.refresh()``). Warnings that the server gave follow, each on a line of its own.

    Raises InstallError, which says what to do, if the server is too old, if rights are missing, if it is not
    possible in the way that `how` names or was installed in another one; and psycopg.OperationalError if
    there is no connection.
    """
    with _connect(dsn) as connection:
        found = client.run(connection, installed.installation())
        if found.how is None:
            return _install(connection, how)
        if found.how == "sql" and how not in (None, "sql"):
            return _make_extension(connection, found, how)
        _check_way(connection, found, how)
        if upgrade:
            return _upgrade(connection, found)
        if found.version is None:
            return (
                "pghistory is installed already, as plain SQL of some version; to make it "
                f"{found.available}: pyhist.install(..., upgrade=True), or pyhist upgrade."
            )
        if _is_newest(found):
            return f"pghistory {found.version} is installed already."
        return (
            f"pghistory {found.version} is installed already; {found.available} is available: "
            "pyhist.install(..., upgrade=True), or pyhist upgrade."
        )


def upgrade(dsn: str = "") -> str:
    """Bring pghistory in a database up to date, as `install` does with `upgrade`, but only if it is there.

    Raises InstallError as `install` does, and if it is not installed.
    """
    with _connect(dsn) as connection:
        found = client.run(connection, installed.installation())
        if found.how is None:
            raise InstallError(
                f'pghistory is not installed in database "{connection.info.dbname}"',
                hint="Call pyhist.install(dsn), or run: pyhist install",
            )
        return _upgrade(connection, found)


def _connect(dsn: str) -> psycopg.Connection[Any]:
    # Scripts are in UTF-8, whatever the database and the environment are in.
    connection = psycopg.connect(dsn, autocommit=True, client_encoding="utf8")
    if connection.info.server_version < OLDEST_SERVER * 10000:
        version = value(connection, "SHOW server_version")
        connection.close()
        raise InstallError(f"pghistory needs PostgreSQL {OLDEST_SERVER} or newer; this server has {version}.")
    return connection


def _check_way(connection: psycopg.Connection[Any], found: Installation, how: How | None) -> None:
    """Refuse to install in another way than it is installed."""
    if found.how and how and _AS[how] != _AS[found.how]:
        raise InstallError(
            f'pghistory is installed {_AS[found.how]} in database "{connection.info.dbname}"; '
            f"it cannot be installed {_AS[how]}, too",
            hint="Leave `how` away to go on with what is there.",
        )


def _is_newest(found: Installation) -> bool:
    return bundle.number(found.version or "") >= bundle.number(found.available or "")


def _install(connection: psycopg.Connection[Any], how: How | None) -> str:
    """Install where nothing is, in the given way or in the first that is possible."""
    way, reasons = _first_possible(connection, how)
    warnings = _collect_warnings(connection)
    try:
        way.create()
    except psycopg.Error as error:
        raise _refused(connection, error) from error
    done = " ".join([f"pghistory {way.version} installed{way.how_it_goes}.", *reasons])
    return "\n".join([done, *warnings])


def _make_extension(connection: psycopg.Connection[Any], found: Installation, how: How | None) -> str:
    """Make an extension of what is plain SQL."""
    way, _ = _first_possible(connection, how)
    if found.version and bundle.number(way.version) < bundle.number(found.version):
        raise InstallError(
            f"pghistory {found.version} is installed as plain SQL, and the extension would be {way.version}",
            hint="Give the server the files of a version that is not older.",
        )
    warnings = _collect_warnings(connection)
    try:
        with connection.transaction():
            connection.execute(bundle.remove_script())
            way.create()
            connection.execute("SELECT pghistory.refresh()")
    except psycopg.Error as error:
        raise _refused(connection, error) from error
    done = f"pghistory {way.version} is plain SQL no longer. It is installed{way.how_it_goes}."
    return "\n".join([done, *warnings])


def _upgrade(connection: psycopg.Connection[Any], found: Installation) -> str:
    """Bring what is installed up to date."""
    if found.version and _is_newest(found):
        return f"pghistory {found.version} is installed already."
    way = _same(connection, found)
    warnings = _collect_warnings(connection)
    try:
        way.update()
        connection.execute("SELECT pghistory.refresh()")
    except psycopg.Error as error:
        raise _refused(connection, error) from error
    return "\n".join([f"pghistory {way.version} upgraded{way.how_it_goes}.", *warnings])


def _first_possible(connection: psycopg.Connection[Any], how: How | None) -> tuple[Way, list[str]]:
    """The way to install, and why it is none of those before it."""
    if how == "sql":
        return PlainSql(connection), []
    if how == "pg_tle":
        return PgTle(connection), []
    if how:
        return Files(connection, how), []
    reasons: list[str] = []
    for possible in (Files, PgTle):
        try:
            return possible(connection), []
        except InstallError as error:
            reasons.append(error.message)
    return PlainSql(connection), reasons


def _same(connection: psycopg.Connection[Any], found: Installation) -> Way:
    """The way in which it is installed."""
    if found.how == "sql":
        return PlainSql(connection)
    if found.how == "pg_tle":
        return PgTle(connection, installed=found.version)
    return Files(connection, installed=found.version)


def _refused(connection: psycopg.Connection[Any], error: psycopg.Error) -> InstallError:
    database, role = connection.info.dbname, connection.info.user
    advice = ""
    if isinstance(error, psycopg.errors.InsufficientPrivilege) and not error.diag.message_hint:
        advice = f' Let its owner do that, or GRANT CREATE ON DATABASE "{database}" TO "{role}".'
    return InstallError(
        f'pghistory could not be installed in database "{database}" as role "{role}": '
        f"{said(error.diag)}.{advice}"
    )


def _collect_warnings(connection: psycopg.Connection[Any]) -> list[str]:
    """Return a list that grows with the warnings that the server gives from now on."""
    warnings: list[str] = []

    def collect(notice: psycopg.errors.Diagnostic) -> None:
        if notice.severity_nonlocalized == "WARNING":
            warnings.append(f"Warning: {said(notice)}.")

    connection.add_notice_handler(collect)
    return warnings
