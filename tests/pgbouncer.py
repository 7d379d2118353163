"""A real PgBouncer in transaction mode in front of the tests' server.

Its program is the installed one, or else fetched into the user's cache folder with the libraries that the
machine lacks: by apt-get, which needs no root for that, and installs nothing.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import psycopg
import psycopg.conninfo

from pyhist.server import new_folder

if TYPE_CHECKING:
    from conftest import Server

PORT = 6432  # only a part of the name of a socket, which is beside the server's
PLACES = os.pathsep.join((os.environ.get("PATH", os.defpath), "/usr/sbin", "/usr/local/sbin"))
# So few connections to the server that clients get each other's. Other users than postgres are looked up there.
CONFIGURATION = """
[databases]
* = host={sockets} port={server_port} auth_user=postgres

[pgbouncer]
pool_mode = transaction
default_pool_size = 2
max_client_conn = 500
unix_socket_dir = {sockets}
listen_port = {port}
auth_type = trust
auth_file = {folder}/users.txt
admin_users = postgres
logfile = {folder}/pgbouncer.log
log_connections = 0
log_disconnections = 0
"""


def installation() -> tuple[Path, Path | None]:
    """PgBouncer's program, and the tree of files it came in if it was fetched."""
    if installed := shutil.which("pgbouncer", path=PLACES):
        return Path(installed), None
    cache = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "pyhist"
    cache.mkdir(parents=True, exist_ok=True)
    tree = cache / "pgbouncer"
    with (cache / "pgbouncer.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not tree.is_dir():
            fetch(tree)
    return tree / "usr/sbin/pgbouncer", tree


def fetch(tree: Path) -> None:
    """Fetch the packages of the distribution, and unpack them."""
    if not shutil.which("apt-get"):
        raise FileNotFoundError("PgBouncer is not installed, and there is no apt-get to fetch it: install it")
    with tempfile.TemporaryDirectory(dir=tree.parent) as folder:
        lists, cache, unpacked = (Path(folder, name) for name in ("lists", "cache", "unpacked"))
        for partial in (lists / "partial", cache / "archives" / "partial"):
            partial.mkdir(parents=True)
        options = ["-qq", f"-oDir::State::Lists={lists}", f"-oDir::Cache={cache}"]
        options += ["-oDebug::NoLocking=1", "-oAPT::Sandbox::User=root"]
        for action in (
            ["update"],
            ["install", "--yes", "--download-only", "--no-install-recommends", "pgbouncer"],
        ):
            subprocess.run(["apt-get", *options, *action], check=True)
        for package in (cache / "archives").glob("*.deb"):
            subprocess.run(["dpkg-deb", "--extract", package, unpacked], check=True)
        unpacked.rename(tree)


@contextlib.contextmanager
def running_pgbouncer(server: Server) -> Iterator[None]:
    """Run a PgBouncer in front of the server, as the account that runs that."""
    program, tree = installation()
    folder = new_folder()
    options = server.installation.as_server()
    if tree:
        # The account may not enter somebody's cache folder.
        copy = folder / "pgbouncer"
        shutil.copytree(tree, copy)
        program = copy / program.relative_to(tree)
        libraries = os.pathsep.join(map(str, copy.glob("usr/lib/*-linux-*")))
        options["env"] = options["env"] | {"LD_LIBRARY_PATH": libraries}
    configuration = CONFIGURATION.format(
        folder=folder, sockets=f"{server.base_dir}/tmp", port=PORT, server_port=server.port
    )
    (folder / "pgbouncer.ini").write_text(configuration)
    (folder / "users.txt").write_text('"postgres" ""\n')
    with subprocess.Popen([program, "--quiet", folder / "pgbouncer.ini"], **options) as process:
        try:
            console = psycopg.conninfo.make_conninfo(pooled(server.dsn("pgbouncer")), connect_timeout=10)
            while not answers(console):
                assert process.poll() is None, (folder / "pgbouncer.log").read_text()
            yield
        finally:
            process.terminate()
            process.wait()
            shutil.rmtree(folder)


def answers(console: str) -> bool:
    with (
        contextlib.suppress(psycopg.OperationalError),
        psycopg.connect(console, autocommit=True) as connection,
    ):
        return connection.execute("SHOW VERSION").fetchone() is not None
    return False


def pooled(dsn: str) -> str:
    """The connection string of a server's database through the PgBouncer in front of it."""
    return psycopg.conninfo.make_conninfo(dsn, port=PORT)
