"""One private server for all tests; on it a database for each, cloned from a template that has the extension.

The PostgreSQL to test on is the one that `pyhist.server.find_bindir` finds: PYHIST_BINDIR names another.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import psycopg.conninfo
import psycopg.sql
import pytest
import testing.postgresql
from pgbouncer import running_pgbouncer

from pyhist.install import install
from pyhist.server import INITDB_OPTIONS, Installation, find_bindir, new_folder

TEMPLATE = "template_pghistory"
SETTINGS = {
    "fsync": "off",
    "listen_addresses": "127.0.0.1",
    "max_prepared_transactions": "20",
    "track_commit_timestamp": "on",
    "wal_level": "logical",
}
numbers = itertools.count(1)


def use_memory_for_temporary_files(memory: Path = Path("/dev/shm")) -> None:
    """Have servers in memory where there is plenty: on a disk, a database for each test takes up to 0.2 s."""
    if memory.is_dir():
        volume = os.statvfs(memory)
        if volume.f_bavail * volume.f_frsize > 4 << 30 and not volume.f_flag & os.ST_NOEXEC:
            os.environ["TMPDIR"] = tempfile.tempdir = str(memory)


use_memory_for_temporary_files()
signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that a run that is ended removes its servers


class Server(testing.postgresql.Postgresql):
    """testing.postgresql's server on a private share folder, and, for root, run by an account that PostgreSQL
    accepts.

    It listens on a Unix socket, and on 127.0.0.1 at `port`. The superuser is `postgres`; nobody has a
    password.
    """

    def __init__(self) -> None:
        folder = new_folder()
        self.installation = Installation(find_bindir(), folder)
        super().__init__(
            base_dir=str(folder),
            initdb=str(self.bindir / "initdb"),
            postgres=str(self.bindir / "postgres"),
            initdb_args=" ".join(INITDB_OPTIONS),
            postgres_args=" ".join(f"-c {name}={value}" for name, value in SETTINGS.items()),
        )

    @property
    def bindir(self) -> Path:
        """The folder with PostgreSQL's programs."""
        return self.installation.bindir

    @property
    def major(self) -> int:
        """PostgreSQL's major version."""
        return self.installation.major

    @property
    def port(self) -> int:
        """The TCP port, and a part of the socket's name."""
        return self.settings["port"]

    def dsn(self, dbname: str = "postgres", user: str | None = None) -> str:
        """The connection string of a database, over the Unix socket."""
        return psycopg.conninfo.make_conninfo(
            host=f"{self.base_dir}/tmp", port=self.port, user=user or "postgres", dbname=dbname
        )

    def initialize_database(self) -> None:
        for subdirectory in self.subdirectories:
            if account := self.installation.account:
                shutil.chown(Path(self.base_dir, subdirectory), account["user"], account["group"])
        self.installation.run("initdb", "-D", self.get_data_directory(), *INITDB_OPTIONS)

    def start(self) -> None:
        self.prestart()
        with Path(self.base_dir, f"{self.name}.log").open("w") as log:
            self.child_process = subprocess.Popen(
                self.get_server_commandline(), stdout=log, stderr=log, **self.installation.as_server()
            )
        self.wait_booting()

    def is_server_available(self) -> bool:
        with contextlib.suppress(psycopg.OperationalError), psycopg.connect(self.dsn()):
            return True
        return False

    def cleanup(self) -> None:
        super().cleanup()
        shutil.rmtree(self.base_dir, ignore_errors=True)


@pytest.fixture(scope="session")
def server() -> Iterator[Server]:
    """The server that all tests share: `dsn(dbname, user)`, `bindir`, `major`, `port`."""
    with Server() as server:
        with psycopg.connect(server.dsn(), autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {TEMPLATE}")
        install(server.dsn(TEMPLATE))
        with psycopg.connect(server.dsn(TEMPLATE), autocommit=True) as connection:
            for contrib in ("hstore", "citext"):
                connection.execute(f"CREATE EXTENSION {contrib}")
        yield server


@pytest.fixture(scope="session")
def pgbouncer(server: Server) -> Iterator[None]:
    """A PgBouncer in transaction mode in front of `server`: `pgbouncer.pooled(dsn)` leads through it."""
    with running_pgbouncer(server):
        yield


@contextlib.contextmanager
def new_database(server: Server, template: str) -> Iterator[str]:
    """Make a database, give its connection string, and drop it at the end, whoever is connected."""
    name = f"test_{next(numbers)}"
    with psycopg.connect(server.dsn(), autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name} TEMPLATE {template}")
        yield server.dsn(name)
        connection.execute(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
def database(server: Server, role: object) -> Iterator[str]:
    """The connection string of a fresh database with the extensions pghistory, hstore and citext."""
    with new_database(server, TEMPLATE) as dsn:
        yield dsn


@pytest.fixture
def empty_database(server: Server, role: object) -> Iterator[str]:
    """The connection string of a fresh database without our extension."""
    with new_database(server, "template1") as dsn:
        yield dsn


@pytest.fixture
def connect(database: str) -> Iterator[Callable[..., psycopg.Connection[Any]]]:
    """Call `connect(user=None, autocommit=True, **kwargs)` for a further connection to `database`."""
    with contextlib.ExitStack() as connections:

        def connect(
            user: str | None = None, autocommit: bool = True, **kwargs: Any
        ) -> psycopg.Connection[Any]:
            if user:
                kwargs["user"] = user
            return connections.enter_context(
                contextlib.closing(psycopg.connect(database, autocommit=autocommit, **kwargs))
            )

        yield connect


@pytest.fixture
def connection(connect: Callable[..., psycopg.Connection[Any]]) -> psycopg.Connection[Any]:
    """A connection to `database` as the superuser, in autocommit mode."""
    return connect()


@pytest.fixture
def role(server: Server) -> Iterator[Callable[..., str]]:
    """Call `role(name_hint="writer", superuser=False)` for a role that may log in.

    Roles are dropped after the test's databases, and so after all that they own or may use there.
    """
    roles: list[str] = []

    with psycopg.connect(server.dsn(), autocommit=True) as connection:

        def role(name_hint: str = "writer", *, superuser: bool = False) -> str:
            name = f"{name_hint}_{next(numbers)}"
            connection.execute(
                psycopg.sql.SQL("CREATE ROLE {} LOGIN {}").format(
                    psycopg.sql.Identifier(name), psycopg.sql.SQL("SUPERUSER" if superuser else "NOSUPERUSER")
                )
            )
            roles.append(name)
            return name

        yield role

        for name in reversed(roles):
            connection.execute(psycopg.sql.SQL("DROP ROLE {}").format(psycopg.sql.Identifier(name)))
