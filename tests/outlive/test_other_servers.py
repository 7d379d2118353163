"""Databases move to another cluster, and to the newest major version by dump and by pg_upgrade."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import binaries
import pytest
from lived import KEEPER, Picture, assert_goes_on, assert_same, connect, live, picture, run
from servers import start, stop

import pyhist.server
from pyhist.install import install

*OLDER, NEWEST = sorted(binaries.RELEASES, key=int)


@dataclass(frozen=True)
class Moved:
    """A cluster upgraded to the newest major; what its database `lived` held before, and a dump of it."""

    server: pyhist.server.Server
    memory: Picture
    dump: Path


def new_life(server: pyhist.server.Server) -> Picture:
    """Make a database `lived` that has lived, and return what it holds."""
    with connect(server.dsn()) as connection:
        connection.execute(f"CREATE ROLE {KEEPER}")
        connection.execute("CREATE DATABASE lived")
    install(server.dsn("lived"))
    with connect(server.dsn("lived")) as connection:
        connection.execute("CREATE EXTENSION hstore")
        connection.execute("CREATE EXTENSION citext")
    live(server, server.dsn("lived"), KEEPER)
    return picture(server.dsn("lived"))


@pytest.fixture(scope="module", params=OLDER)
def moved(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Moved]:
    """A cluster of an older major, upgraded to the newest."""
    dump = tmp_path_factory.mktemp("dump") / "lived"
    with pyhist.server.Server(bindir=binaries.bindir(NEWEST)) as new:
        stop(new)
        new.installation.run("pg_checksums", "--disable", "-D", new.folder / "data")
        with pyhist.server.Server(bindir=binaries.bindir(request.param)) as old:
            memory = new_life(old)
            run(new, "pg_dump", "--format=custom", f"--file={dump}", f"--dbname={old.dsn('lived')}")
            stop(old)
            new.installation.run(
                "pg_upgrade",
                "--no-sync",
                "--username=postgres",
                f"--old-bindir={old.installation.bindir}",
                f"--new-bindir={new.installation.bindir}",
                f"--old-datadir={old.folder / 'data'}",
                f"--new-datadir={new.folder / 'data'}",
                f"--socketdir={new.folder}",
            )
        start(new)
        yield Moved(new, memory, dump)


def test_pg_upgrade_carries_everything(moved: Moved) -> None:
    assert_same(picture(moved.server.dsn("lived")), moved.memory)
    assert_goes_on(moved.server.dsn("lived"))


def test_a_dump_carries_everything_into_the_newest_major(moved: Moved) -> None:
    install(moved.server.dsn())
    with connect(moved.server.dsn()) as connection:
        connection.execute("CREATE DATABASE restored TEMPLATE template0")
    run(moved.server, "pg_restore", "--exit-on-error", f"--dbname={moved.server.dsn('restored')}", moved.dump)

    assert_same(picture(moved.server.dsn("restored")), moved.memory)
    assert_goes_on(moved.server.dsn("restored"))


def test_a_dump_carries_everything_into_another_cluster(
    server: pyhist.server.Server, lived: str, memory: Picture, tmp_path: Path
) -> None:
    dump = tmp_path / "lived"
    run(server, "pg_dump", "--format=custom", f"--file={dump}", f"--dbname={server.dsn(lived)}")
    with pyhist.server.Server(bindir=pyhist.server.find_bindir()) as other:
        install(other.dsn())
        with connect(other.dsn()) as connection:
            connection.execute(f"CREATE ROLE {KEEPER}")
            connection.execute("CREATE DATABASE restored TEMPLATE template0")
        run(other, "pg_restore", "--exit-on-error", f"--dbname={other.dsn('restored')}", dump)

        assert_same(picture(other.dsn("restored")), memory)
        assert_goes_on(other.dsn("restored"))
