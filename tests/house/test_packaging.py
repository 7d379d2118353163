"""One version, and every package has what it needs."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import psycopg
import pytest

from pyhist.server import Server, find_bindir

ROOT = Path(__file__).parent.parent.parent
VERSION = re.search("default_version = '(.+)'", (ROOT / "pghistory.control").read_text())[1]
SCRIPT = f"pghistory--{VERSION}.sql"


def make(folder: Path, *words: str) -> str:
    """Run make without what an outer make hands down, and return what it says."""
    command = ["env", "-u", "MAKEFLAGS", "-u", "MAKELEVEL", "-u", "MFLAGS", "make", "-C", str(folder), *words]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    assert done.returncode == 0, done.stdout
    return done.stdout


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A copy of what the extension and the packages are made of."""
    folder = tmp_path / "checkout"
    folder.mkdir()
    for name in ("sql", "extension", "pyhist", "tests/sql"):
        shutil.copytree(ROOT / name, folder / name, symlinks=True)
    for name in ("LICENSE", "META.json", "Makefile", "README.md", "pghistory.control", "pyproject.toml"):
        shutil.copy(ROOT / name, folder)
    return folder


@pytest.fixture(scope="module")
def packages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the wheel and the source distribution."""
    folder = tmp_path_factory.mktemp("dist")
    build = [sys.executable, "-m", "hatchling", "build", "--directory", str(folder)]
    subprocess.run(build, cwd=ROOT, check=True, capture_output=True)
    return folder


def test_the_committed_install_script_is_what_sql_builds(checkout: Path) -> None:
    (checkout / "extension" / SCRIPT).unlink()
    make(checkout, "build")
    assert (checkout / "extension" / SCRIPT).read_bytes() == (ROOT / "extension" / SCRIPT).read_bytes()


def test_a_build_that_changes_nothing_writes_nothing(checkout: Path) -> None:
    before = (checkout / "extension" / SCRIPT).stat().st_mtime_ns
    assert "writing" not in make(checkout, "build")
    assert (checkout / "extension" / SCRIPT).stat().st_mtime_ns == before


def test_the_install_script_creates_and_replaces_nothing() -> None:
    script = (ROOT / "extension" / SCRIPT).read_text()
    assert not re.search(r"^CREATE OR REPLACE", script, re.MULTILINE)
    commands = re.findall(r"^\\.*", script, re.MULTILINE)
    assert commands == ['\\echo Use "CREATE EXTENSION pghistory" to load this file. \\quit']


@pytest.mark.parametrize("with_pgxs", [True, False], ids=["PGXS", "plain"])
def test_make_install_puts_the_same_files_in_place(checkout: Path, tmp_path: Path, with_pgxs: bool) -> None:
    words = ["PG_CONFIG=/nonexistent", "sharedir=/usr/share/postgresql"]
    if with_pgxs:
        words = [f"PG_CONFIG={find_bindir() / 'pg_config'}"]
    make(checkout, "install", f"DESTDIR={tmp_path / 'stage'}", *words)
    installed = {path.name: path for path in (tmp_path / "stage").rglob("*") if path.is_file()}
    assert set(installed) == {"pghistory.control", *(p.name for p in (ROOT / "extension").glob("*.sql"))}
    assert all(path.parent.name == "extension" for path in installed.values())
    assert all(path.stat().st_mode & 0o777 == 0o644 for path in installed.values())


def test_make_uninstall_takes_them_away_again(checkout: Path, tmp_path: Path) -> None:
    words = ["PG_CONFIG=/nonexistent", "sharedir=/usr/share/postgresql", f"DESTDIR={tmp_path / 'stage'}"]
    make(checkout, "install", *words)
    make(checkout, "uninstall", *words)
    assert [path for path in (tmp_path / "stage").rglob("*") if path.is_file()] == []


def test_without_pg_config_make_install_asks_where_to(checkout: Path) -> None:
    command = ["make", "-C", str(checkout), "install", "PG_CONFIG=/nonexistent"]
    refused = subprocess.run(command, capture_output=True, text=True, check=False)
    assert refused.returncode != 0
    assert "sharedir=" in refused.stderr


def test_nothing_in_the_makefile_has_a_name_that_pgxs_owns() -> None:
    makefile = (ROOT / "Makefile").read_text()
    before_pgxs, after_pgxs = makefile.split("include $(PGXS)\nelse", 1)
    ours = before_pgxs + after_pgxs.split("\nendif\n", 1)[1]
    defined = set(re.findall(r"^(?:define |export )?([\w-]+) *[:?+]?=", ours, re.MULTILINE))
    assert not defined & {"VERSION", "MAJORVERSION", "INSTALL", "INSTALL_SCRIPT", "INSTALL_DATA", "PYTHON"}
    with_recipes = set(re.findall(r"^([\w-]+):.*\n\t", ours, re.MULTILINE))
    assert not with_recipes & {"all", "install", "installdirs", "uninstall", "installcheck", "check", "clean"}


def test_the_version_of_the_pgxn_distribution_is_that_of_the_extension() -> None:
    meta = json.loads((ROOT / "META.json").read_text())
    provided = meta["provides"]["pghistory"]
    assert meta["version"] == provided["version"] == VERSION
    assert provided["file"] == f"extension/{SCRIPT}"
    assert (ROOT / provided["file"]).is_file()
    assert (ROOT / provided["docfile"]).is_file()


def test_the_pgxn_distribution_says_what_its_specification_requires() -> None:
    meta = json.loads((ROOT / "META.json").read_text())
    assert {"name", "version", "abstract", "maintainer", "license", "provides", "meta-spec"} <= set(meta)
    assert meta["meta-spec"]["version"] == "1.0.0"
    assert meta["license"] == "postgresql"
    assert meta["release_status"] in {"stable", "testing", "unstable"}


def test_the_wheel_brings_what_a_server_needs_and_what_pgxn_installs(packages: Path) -> None:
    (wheel,) = packages.glob(f"pyhist-{VERSION}-*.whl")
    with zipfile.ZipFile(wheel) as contents:
        names = set(contents.namelist())
        control = contents.read("pyhist/_extension/extension/pghistory.control")
    assert control == (ROOT / "pghistory.control").read_bytes()
    for name in ("META.json", "Makefile", "pghistory.control", f"extension/{SCRIPT}"):
        assert f"pyhist/_extension/{name}" in names
    assert "pyhist/py.typed" in names
    assert not [name for name in names if name.startswith(("tests/", "sql/"))]


def test_an_installed_package_finds_the_files_that_it_brings(packages: Path, tmp_path: Path) -> None:
    (wheel,) = packages.glob("*.whl")
    with zipfile.ZipFile(wheel) as contents:
        contents.extractall(tmp_path)
    ask = "from pyhist import bundle; print(bundle.folder(), bundle.version())"
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    answer = subprocess.run(
        [sys.executable, "-c", ask], cwd=tmp_path, env=environment, capture_output=True, text=True, check=True
    )
    assert answer.stdout.split() == [str(tmp_path / "pyhist" / "_extension"), VERSION]


@pytest.fixture(scope="module")
def installed_package(packages: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The programs of an environment in which there is nothing but the wheel and what it asks for."""
    (wheel,) = packages.glob("*.whl")
    folder = tmp_path_factory.mktemp("environment")
    subprocess.run([sys.executable, "-m", "venv", folder], check=True)
    pip = [folder / "bin" / "pip", "install", "--quiet", f"{wheel}[binary]"]
    done = subprocess.run(pip, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return folder / "bin"


def test_an_installed_wheel_installs_the_extension_and_plain_sql(installed_package: Path) -> None:
    """On a server that has never heard of it, with what the wheel brings."""

    def pyhist(*words: str) -> str:
        done = subprocess.run(
            [installed_package / "pyhist", *words],
            cwd=installed_package,
            env={name: value for name, value in os.environ.items() if name != "PYTHONPATH"},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    with Server() as server:
        with psycopg.connect(server.dsn(), autocommit=True) as connection:
            connection.execute("CREATE DATABASE plain")
        assert pyhist("install", "--how", "sql", "--dsn", server.dsn("plain")) == (
            f"pghistory {VERSION} installed as plain SQL.\n"
        )
        assert pyhist("install", "--dsn", server.dsn()).startswith(f"pghistory {VERSION} installed: ")
        for database, ways in (("plain", {"sql"}), ("postgres", {"files", "path"})):
            dsn = server.dsn(database)
            with psycopg.connect(dsn, autocommit=True) as connection:
                connection.execute("CREATE TABLE film (id integer PRIMARY KEY)")
                pyhist("track", "film", "film", "--dsn", dsn)
                connection.execute("INSERT INTO film VALUES (1)")
                assert connection.execute("SELECT pgh_label FROM film_event").fetchall() == [("film",)]
            status = json.loads(pyhist("status", "--json", "--dsn", dsn))
            assert status["installation"]["how"] in ways
            assert status["installation"]["version"] == VERSION
            assert status["problems"] == []
        become = pyhist("install", "--how", "files", "--dsn", server.dsn("plain"))
        assert become.startswith(f"pghistory {VERSION} is plain SQL no longer.")


def test_importing_pyhist_imports_nothing_but_itself_and_psycopg(installed_package: Path) -> None:
    """No framework, here as where all of them are installed, and nothing else that takes time."""
    ask = (
        "import sys; import psycopg; before = set(sys.modules); import pyhist; "
        "print(*sorted({name.split('.')[0] for name in set(sys.modules) - before} - sys.stdlib_module_names))"
    )
    for python in (installed_package / "python", Path(sys.executable)):
        answer = subprocess.run(
            [python, "-c", ask], cwd=installed_package, capture_output=True, text=True, check=True
        )
        assert set(answer.stdout.split()) <= {"pyhist", "psycopg"}


def test_the_package_says_which_python_it_is_for(packages: Path) -> None:
    (wheel,) = packages.glob("*.whl")
    with zipfile.ZipFile(wheel) as contents:
        metadata = contents.read(f"pyhist-{VERSION}.dist-info/METADATA").decode()
    assert re.findall(
        r"^Classifier: Programming Language :: Python :: (3\.\d+)$", metadata, re.MULTILINE
    ) == [
        "3.10",
        "3.11",
        "3.12",
        "3.13",
        "3.14",
    ]
    assert "Requires-Python: >=3.10" in metadata
    assert "Classifier: Typing :: Typed" in metadata


def test_the_source_distribution_builds_the_extension(packages: Path, tmp_path: Path) -> None:
    (source,) = packages.glob(f"pyhist-{VERSION}.tar.gz")
    with tarfile.open(source) as contents:
        contents.extractall(tmp_path, filter="data")
    folder = tmp_path / f"pyhist-{VERSION}"
    assert "writing" not in make(folder, "build")
    assert (folder / "extension" / "pghistory.control").read_bytes() == (
        ROOT / "pghistory.control"
    ).read_bytes()
