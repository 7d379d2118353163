"""From every version that was ever released to this one, with a database that has lived, while others write.

What an upgrade must end in is what a fresh installation has: the catalogs are compared object by object.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from catalogs import catalog
from lived import (
    KEEPER,
    Picture,
    Server,
    assert_all_is_well,
    assert_goes_on,
    assert_recorded,
    assert_same,
    connect,
    live,
    picture,
    rows,
    run,
)

import pyhist

NewDatabase = Callable[..., str]

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "sql" / "pghistory.sql"
GONE = ROOT / "sql" / "upgrade" / "gone.sql"
STEPS = sorted(path.stem.split("--")[1:] for path in (ROOT / "extension").glob("*--*--*.sql"))
"""Every upgrade script: from which version it leads to which."""
VERSIONS = sorted(
    (
        path.stem.split("--")[1]
        for path in (ROOT / "extension").glob("*--*.sql")
        if path.stem.count("--") == 1
    ),
    key=lambda version: [int(part) for part in version.split(".")],
)
"""Every version that has an install script; the last one is this one."""


@pytest.fixture
def new_life(server: Server, lived: str, new_database: NewDatabase) -> Callable[..., str]:
    """Call `new_life(version)` for the name of a database that has lived with that version of the extension.

    With `new_life(None, script)` it is installed as plain SQL, by default by the script of this version. The role
    that owns some of it came with `lived`.
    """

    def new_life(version: str | None, script: Path | None = None) -> str:
        database = new_database()
        with connect(server.dsn(database)) as connection:
            connection.execute("CREATE EXTENSION hstore")
            connection.execute("CREATE EXTENSION citext")
            if version:
                connection.execute(f"CREATE EXTENSION pghistory VERSION '{version}'")
            else:
                run_plain(server, database, script or SCRIPT)
            live(server, server.dsn(database), KEEPER)
            connection.execute("CREATE TABLE busy (id integer PRIMARY KEY, version integer)")
            connection.execute(
                "SELECT pghistory.track('busy', 'busy', kind => 'history', context => 'inline')"
            )
        return database

    return new_life


def run_plain(server: Server, database: str, *scripts: Path) -> None:
    """Install as plain SQL, in one transaction."""
    files = [f"--file={script}" for script in scripts]
    dsn = server.dsn(database)
    run(server, "psql", "--no-psqlrc", "--quiet", "--set=ON_ERROR_STOP=1", "-1", *files, dsn)


def released(folder: Path, version: str) -> Path:
    """The install script of a released version, without what keeps psql from running it."""
    script = folder / "old.sql"
    text = (ROOT / "extension" / f"pghistory--{version}.sql").read_text()
    script.write_text("".join(line for line in text.splitlines(True) if not line.startswith("\\echo")))
    return script


@contextlib.contextmanager
def busy(dsn: str) -> Iterator[None]:
    """Have somebody write meanwhile, and assert that all of it was recorded."""
    finished = threading.Event()
    writes = 0
    failures: list[Exception] = []

    def write() -> None:
        nonlocal writes
        try:
            with connect(dsn) as connection:
                while not finished.is_set():
                    writes += 1
                    connection.execute(
                        """INSERT INTO busy VALUES (1, 1)
                           ON CONFLICT (id) DO UPDATE SET version = busy.version + 1"""
                    )
        except Exception as error:
            failures.append(error)

    writer = threading.Thread(target=write)
    writer.start()
    try:
        yield
    finally:
        finished.set()
        writer.join()
    assert failures == []
    with connect(dsn) as connection:
        recorded = [
            version for (version,) in rows(connection, "SELECT version FROM busy_event ORDER BY pgh_id")
        ]
        assert recorded == list(range(1, writes + 1))


def memories(dsn: str) -> Picture:
    """What a database holds, but for the registry, whose columns may have changed, and what `busy` wrote."""
    shown = picture(dsn)
    return {
        name: held
        for name, held in shown.items()
        if name in ("pghistory.context", "pghistory.trackers()")
        or not name.startswith(("pghistory.", "public.busy"))
    }


@pytest.mark.parametrize("version", VERSIONS)
def test_an_upgraded_extension_is_what_a_fresh_one_is_and_keeps_everything(
    server: Server, new_life: Callable[..., str], version: str
) -> None:
    old, fresh = new_life(version), new_life(VERSIONS[-1])
    before = memories(server.dsn(old))
    with busy(server.dsn(old)), connect(server.dsn(old)) as connection:
        connection.execute("ALTER EXTENSION pghistory UPDATE")
        connection.execute("SELECT pghistory.refresh()")
        assert_all_is_well(connection)

    assert_same(memories(server.dsn(old)), before)
    assert_same(catalog(server.dsn(old)), catalog(server.dsn(fresh)))
    assert_goes_on(server.dsn(old))


def test_every_upgrade_script_leads_to_its_version_and_on_to_this_one(
    server: Server, new_database: NewDatabase
) -> None:
    for before, after in STEPS:
        with connect(server.dsn(new_database())) as connection:
            connection.execute(f"CREATE EXTENSION pghistory VERSION '{before}'")
            connection.execute("CREATE TABLE item (id integer PRIMARY KEY)")
            connection.execute("SELECT pghistory.track('item', 'item')")
            for target, number in ((after, 1), (VERSIONS[-1], 2)):
                connection.execute(f"ALTER EXTENSION pghistory UPDATE TO '{target}'")
                connection.execute("SELECT pghistory.refresh()")
                assert_all_is_well(connection)
                assert_recorded(connection, f"INSERT INTO item VALUES ({number})", "item_event", ["item"])


@pytest.mark.parametrize("version", VERSIONS)
def test_a_plain_sql_installation_is_upgraded_by_the_script_of_the_new_version(
    server: Server, new_life: Callable[..., str], tmp_path: Path, version: str
) -> None:
    script = released(tmp_path, version)
    old, fresh = new_life(None, script), new_life(None)
    before = memories(server.dsn(old))
    with busy(server.dsn(old)):
        run_plain(server, old, GONE, SCRIPT)
        with connect(server.dsn(old)) as connection:
            connection.execute("SELECT pghistory.refresh()")
            assert_all_is_well(connection)

    assert_same(memories(server.dsn(old)), before)
    assert_same(catalog(server.dsn(old)), catalog(server.dsn(fresh)))
    assert_goes_on(server.dsn(old))


@pytest.mark.parametrize("version", VERSIONS)
def test_pyhist_makes_any_plain_sql_installation_what_a_fresh_one_is(
    server: Server, new_life: Callable[..., str], tmp_path: Path, version: str
) -> None:
    """But for the note in the schema's comment, which says that it did."""
    old, fresh = new_life(None, released(tmp_path, version)), new_life(None)
    before = memories(server.dsn(old))
    with busy(server.dsn(old)):
        assert pyhist.upgrade(server.dsn(old)) == f"pghistory {VERSIONS[-1]} upgraded as plain SQL."
        with connect(server.dsn(old)) as connection:
            assert_all_is_well(connection)

    assert_same(memories(server.dsn(old)), before)
    now, expected = catalog(server.dsn(old)), catalog(server.dsn(fresh))
    assert now.pop("schema pghistory") != expected.pop("schema pghistory")
    assert_same(now, expected)
    assert_goes_on(server.dsn(old))
