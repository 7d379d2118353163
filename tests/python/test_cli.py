"""The command line."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

import psycopg
import pytest
from commands import result
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from pyhist.bundle import version
from pyhist.cli import main

VERSION = version()


@pytest.fixture
def users(database: str) -> str:
    with psycopg.connect(database) as connection:
        connection.execute("CREATE TABLE users (id integer PRIMARY KEY, username text, email text)")
        connection.execute('CREATE TABLE "a,b" (id integer, "x,y" text)')
    return database


def test_track_mirrors_the_sql_function(users: str, capsys: pytest.CaptureFixture[str]) -> None:
    options = [
        *("--kind", "after_update", "--fields", "email, username", "--condition", "OLD.id > 1"),
        *(
            "--level",
            "row",
            "--event-table",
            "audit",
            "--obj-key",
            "id",
            "--context",
            "inline",
            "--append-only",
        ),
    ]
    assert result(capsys, "track", "users", "user.changed", *options, "--dsn", users) == (
        0,
        "Events of users go to audit.\n",
        "",
    )
    status, out, _ = result(capsys, "status", "--json", "--dsn", users)
    (tracker,) = json.loads(out)["trackers"]
    expected = {
        "table": "users",
        "label": "user.changed",
        "kind": "after_update",
        "fields": ["username", "email"],
        "level": "row",
        "event_table": "audit",
        "obj_key": ["id"],
        "context": "inline",
        "append_only": True,
    }
    assert status == 0
    assert {name: tracker[name] for name in expected} == expected
    assert "old.id > 1" in tracker["condition"]


def test_track_has_the_defaults_of_the_sql_function(users: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert result(capsys, "track", "users", "--json", "--dsn", users) == (
        0,
        '{"event_table": "users_event"}\n',
        "",
    )
    status, out, _ = result(capsys, "status", "--dsn", users)
    assert status == 0
    assert [line.rstrip() for line in out.splitlines()[2:]] == [
        "table  label           kind      fields  event table  status",
        "-----  --------------  --------  ------  -----------  ------",
        "users  users.snapshot  snapshot  all     users_event  active",
    ]


def test_lists_of_columns_can_be_empty_or_have_odd_names(
    users: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert result(capsys, "track", "users", "--fields", "", "--obj-key", "", "--dsn", users)[0] == 0
    assert result(capsys, "track", '"a,b"', "--exclude", 'id, "x,y"', "--dsn", users)[0] == 0
    _, out, _ = result(capsys, "status", "--dsn", users)
    assert " none " in out
    assert " all but id, x,y " in out


def test_untrack_removes_one_or_all(users: str, capsys: pytest.CaptureFixture[str]) -> None:
    for label in ("one", "two", "three"):
        main(["track", "users", label, "--dsn", users])
    capsys.readouterr()
    assert result(capsys, "untrack", "users", "one", "--dsn", users) == (
        0,
        "1 tracker of users removed.\n",
        "",
    )
    assert result(capsys, "untrack", "users", "--drop-events", "--json", "--dsn", users) == (
        0,
        '{"removed": 2}\n',
        "",
    )
    status, out, err = result(capsys, "status", "--dsn", users)
    assert (status, out.splitlines()[1:], err) == (0, ["Nothing is tracked."], "")


def test_status_fails_when_something_is_wrong(users: str, capsys: pytest.CaptureFixture[str]) -> None:
    main(["track", "users", "--dsn", users])
    with psycopg.connect(users) as connection:
        connection.execute("ALTER TABLE users DISABLE TRIGGER USER")
    capsys.readouterr()
    status, out, err = result(capsys, "status", "--dsn", users)
    assert (status, err) == (1, "")
    assert " disabled\n" in out
    assert "trigger is disabled  Call pghistory.refresh()." in out
    status, out, _ = result(capsys, "status", "--json", "--dsn", users)
    assert status == 1
    assert json.loads(out)["problems"][0]["problem"] == "trigger is disabled"


def test_verify_tells_what_refresh_repairs(users: str, capsys: pytest.CaptureFixture[str]) -> None:
    main(["track", "users", "--dsn", users])
    with psycopg.connect(users) as connection:
        connection.execute("ALTER TABLE users DISABLE TRIGGER USER")
    capsys.readouterr()
    status, out, err = result(capsys, "verify", "--dsn", users)
    assert (status, err) == (1, "")
    assert out.startswith("table  object ")
    assert "trigger is disabled  Call pghistory.refresh()." in out
    status, out, _ = result(capsys, "verify", "--json", "--dsn", users)
    problems = [json.loads(line) for line in out.splitlines()]
    assert (status, len(problems) > 1) == (1, True)
    assert set(problems[0]) == {"table", "object", "problem", "hint"}
    assert result(capsys, "refresh", "--dsn", users) == (0, "All is well.\n", "")
    assert result(capsys, "verify", "--dsn", users) == (0, "All is well.\n", "")
    assert result(capsys, "refresh", "--json", "--dsn", users) == (0, "", "")


def test_refresh_fails_where_it_cannot_repair(
    users: str, capsys: pytest.CaptureFixture[str], role: Any
) -> None:
    main(["track", "users", "--dsn", users])
    with psycopg.connect(users) as connection:
        connection.execute("ALTER TABLE users DISABLE TRIGGER USER")
    capsys.readouterr()
    other = make_conninfo(users, user=role())
    status, out, _ = result(capsys, "refresh", "--dsn", other)
    assert (status, "trigger is disabled" in out) == (1, True)


def test_an_error_is_one_clear_paragraph(users: str, capsys: pytest.CaptureFixture[str]) -> None:
    status, out, err = result(capsys, "track", "nobody", "--dsn", users)
    assert (status, out) == (1, "")
    assert err.startswith('pyhist: relation "nobody" does not exist HINT: ')
    assert err.count("\n") == 1
    status, out, err = result(capsys, "status", "--dsn", "host=/nowhere")
    assert (status, out) == (1, "")
    assert err.startswith("pyhist: connection ")
    assert err.count("\n") == 1


def test_wrong_usage_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in ([], ["wrong"], ["track"], ["track", "users", "--kind", "wrong"]):
        with pytest.raises(SystemExit) as ended:
            main(arguments)
        assert ended.value.code == 2
        assert capsys.readouterr().err.startswith("usage: pyhist")


def test_help_tells_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["--help"])
    assert ended.value.code == 0
    out = capsys.readouterr().out
    for command in (
        *(
            "install",
            "upgrade",
            "track",
            "untrack",
            "status",
            "log",
            "diff",
            "as-of",
            "revert",
            "undo",
            "backfill",
        ),
        *("verify", "refresh", "demo"),
    ):
        assert f"    {command} " in out


def test_install_says_how_and_does_it_once(empty_database: str, capsys: pytest.CaptureFixture[str]) -> None:
    status, out, _ = result(capsys, "install", "--dsn", empty_database)
    assert (status, out.startswith("pghistory ")) == (0, True)
    status, out, _ = result(capsys, "install", "--json", "--dsn", empty_database)
    assert (status, "already" in json.loads(out)["installed"]) == (0, True)
    assert result(capsys, "status", "--dsn", empty_database)[0] == 0


def test_install_can_be_told_how(empty_database: str, capsys: pytest.CaptureFixture[str]) -> None:
    dsn = ("--dsn", empty_database)
    status, out, _ = result(capsys, "install", "--how", "sql", *dsn)
    assert (status, out) == (0, f"pghistory {VERSION} installed as plain SQL.\n")
    status, out, _ = result(capsys, "install", "--how", "files", *dsn)
    assert (status, out.startswith(f"pghistory {VERSION} is plain SQL no longer. ")) == (0, True)


def test_upgrade_says_what_it_did(empty_database: str, capsys: pytest.CaptureFixture[str]) -> None:
    dsn = ("--dsn", empty_database)
    status, _, err = result(capsys, "upgrade", *dsn)
    assert (status, "is not installed" in err, "pyhist install" in err) == (1, True, True)
    with psycopg.connect(empty_database) as connection:
        connection.execute("CREATE EXTENSION pghistory VERSION '0.2.0'")
    status, out, _ = result(capsys, "upgrade", *dsn)
    assert (status, out) == (0, f"pghistory {VERSION} upgraded: its files were there.\n")
    status, out, _ = result(capsys, "upgrade", "--json", *dsn)
    assert (status, json.loads(out)) == (0, {"upgraded": f"pghistory {VERSION} is installed already."})


def test_status_says_how_it_is_installed_and_what_to_do(
    empty_database: str, capsys: pytest.CaptureFixture[str]
) -> None:
    dsn = ("--dsn", empty_database)
    said = "pghistory is not installed.\nInstall it: pyhist install.\n"
    assert result(capsys, "status", *dsn) == (1, said, "")
    status, out, _ = result(capsys, "status", "--json", *dsn)
    assert (status, json.loads(out)["installation"]["how"]) == (1, None)

    with psycopg.connect(empty_database) as connection:
        connection.execute("CREATE EXTENSION pghistory VERSION '0.2.0'")
        connection.execute("ALTER EXTENSION pghistory DROP EVENT TRIGGER pghistory_after_drop")
        connection.execute("DROP EVENT TRIGGER pghistory_after_drop")
    status, out, _ = result(capsys, "status", *dsn)
    first, *hints = out.splitlines()
    assert (status, first.startswith("pghistory 0.2.0 is installed as an extension, ")) == (0, True)
    assert hints == [
        f"{VERSION} is available: pyhist upgrade.",
        "There are no event triggers: call pghistory.sync() after migrations.",
        "Nothing is tracked.",
    ]
    status, out, _ = result(capsys, "status", "--json", *dsn)
    installation = json.loads(out)["installation"]
    assert (status, installation.pop("how") in ("files", "path")) == (0, True)
    assert installation == {
        "version": "0.2.0",
        "available": VERSION,
        "event_triggers": "missing",
        "hints": hints[:-1],
    }


def test_without_dsn_libpqs_environment_counts(users: str) -> None:
    names: dict[str, Any] = {"host": "PGHOST", "port": "PGPORT", "user": "PGUSER", "dbname": "PGDATABASE"}
    environment = {names[name]: str(value) for name, value in conninfo_to_dict(users).items()}
    done = subprocess.run(
        [sys.executable, "-m", "pyhist", "status"],
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout.splitlines()[-1], done.stderr) == (0, "Nothing is tracked.", "")
