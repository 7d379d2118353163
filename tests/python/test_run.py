"""`pyhist run`: any program has the context, and is otherwise what it would be without."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from commands import result
from probe import Probe
from psycopg.conninfo import conninfo_to_dict, make_conninfo

Run = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def run(server: Any, probe: Probe) -> Run:
    """Call `run("user=ada", "--", "psql", ..., PGOPTIONS="...")`; the probe is what libpq connects to."""

    def run(*words: str, **environment: str) -> subprocess.CompletedProcess[str]:
        parameters = conninfo_to_dict(probe.dsn)
        there = {f"PG{name.upper()}": str(parameters[name]) for name in ("host", "port", "user")}
        path = os.pathsep.join([str(server.bindir), str(Path(sys.executable).parent), os.environ["PATH"]])
        return subprocess.run(
            [sys.executable, "-m", "pyhist", "run", *words],
            env=os.environ | there | {"PGDATABASE": str(parameters["dbname"]), "PATH": path} | environment,
            capture_output=True,
            text=True,
            check=False,
        )

    return run


def psql(statement: str) -> tuple[str, ...]:
    return ("--", "psql", "-X", "-q", "-A", "-t", "-c", statement)


def test_psql_has_the_context(run: Run, probe: Probe) -> None:
    done = run("user=ada", "url=/a?b=c", *psql("SELECT add(1)"))
    assert (done.returncode, done.stdout, done.stderr) == (0, "1\n", "")
    assert probe.seen() == [(1, {"user": "ada", "url": "/a?b=c"})]


def test_all_sessions_and_transactions_of_a_program_share_one_context(run: Run, probe: Probe) -> None:
    script = """
        psql -X -q -c 'BEGIN' -c 'SELECT add(1)' -c 'COMMIT' -c 'SELECT add(2)' -c 'DISCARD ALL' -c 'SELECT add(3)'
        echo 4 a | psql -X -q -c "\\copy item FROM STDIN (DELIMITER ' ')"
        python -c 'import psycopg; psycopg.connect(autocommit=True).execute("SELECT add(5)").connection.close()'
        """
    done = run("job=nightly", "--", "sh", "-eu", "-c", script)
    assert done.returncode == 0, done.stderr
    ids = probe.ids()
    assert len(ids) == 5
    assert len(set(ids)) == 1


def test_pg_restore_has_the_context(run: Run, probe: Probe, tmp_path: Path) -> None:
    probe.observer.execute("INSERT INTO item VALUES (1, 'a')")
    dump = str(tmp_path / "dump")
    assert run("--", "pg_dump", "-Fc", "-a", "-t", "item", "-f", dump).returncode == 0
    probe.observer.execute("TRUNCATE item, seen")
    probe.observer.execute("ALTER FUNCTION see() SET search_path = public")  # pg_restore has none
    done = run("from=dump", "--", "pg_restore", "-a", "-d", probe.dsn, dump)
    assert (done.returncode, done.stderr) == (0, "")
    assert probe.seen() == [(1, {"from": "dump"})]


@pytest.mark.parametrize(
    "value",
    [
        "",
        " two  spaces ",
        "tab\tline\nreturn\r",
        'it\'s "quoted" \\ \\\\',
        "ü 漢 😀",
        "$HOME `ls` -c a=b",
        "007",
    ],
)
def test_a_value_arrives_as_it_was_given(run: Run, probe: Probe, value: str) -> None:
    done = run(f"key={value}", f"{value or 'x'}=1", *psql("SELECT add(1)"))
    assert done.returncode == 0, done.stderr
    name, _, rest = f"{value or 'x'}=1".partition("=")
    assert probe.seen() == [(1, {"key": value, name: rest})]


def test_values_can_be_json(run: Run, probe: Probe) -> None:
    run("user:=7", "tags:=[1, null]", 'who:={"name": "é b"}', "text=7", *psql("SELECT add(1)"))
    assert probe.seen() == [(1, {"user": 7, "tags": [1, None], "who": {"name": "é b"}, "text": "7"})]


def test_options_that_are_there_stay(run: Run, probe: Probe) -> None:
    options = r"-c work_mem=5MB --search_path=public,pg_catalog -c my.setting=a\ \\b"
    show = "SELECT current_setting('work_mem'), current_setting('my.setting'), add(1)"
    done = run("user=ada", *psql(show), PGOPTIONS=options)
    assert done.stdout == "5MB|a \\b|1\n"
    assert probe.seen() == [(1, {"user": "ada"})]


def test_one_inside_another_adds_to_its_context(run: Run, probe: Probe) -> None:
    inner = 'python -m pyhist run step=2 "who:=[2]" -- psql -X -q -c "SELECT add(2)"'
    script = f'psql -X -q -c "SELECT add(1)"; {inner}; psql -X -q -c "SELECT add(3)"'
    done = run("user=a \\ b", "step=1", "--", "sh", "-eu", "-c", script)
    assert done.returncode == 0, done.stderr
    rows = probe.observer.execute("SELECT context_id, metadata FROM seen ORDER BY number").fetchall()
    assert len({context_id for context_id, _ in rows}) == 1
    outer = {"user": "a \\ b", "step": "1"}
    assert [json.loads(metadata) for _, metadata in rows] == [
        outer,
        {**outer, "step": "2", "who": [2]},
        outer,
    ]


def test_a_context_that_makes_no_sense_is_replaced(run: Run, probe: Probe) -> None:
    run("user=ada", *psql("SELECT add(1)"), PGOPTIONS="-cpghistory.context_metadata=[1] -c")
    run("user=ada", *psql("SELECT add(2)"), PGOPTIONS="--pghistory.context_metadata={")
    assert probe.seen() == [(2, {"user": "ada"})]  # the first one's options are nonsense to the server, too


def test_a_context_without_metadata_has_an_id(run: Run, probe: Probe) -> None:
    run(*psql("SELECT add(1)"))
    assert probe.seen() == [(1, {})]


def test_a_role_without_any_right_over_settings_can_have_one(run: Run, probe: Probe, role: Any) -> None:
    name = role()
    probe.observer.execute(f"GRANT ALL ON ALL TABLES IN SCHEMA public TO {name}")
    probe.observer.execute(f"GRANT ALL ON ALL SEQUENCES IN SCHEMA public TO {name}")
    done = run("user=ada", *psql("SELECT add(1)"), PGUSER=name)
    assert done.returncode == 0, done.stderr
    assert probe.seen() == [(1, {"user": "ada"})]


def test_a_connection_string_goes_into_the_environment(run: Run, probe: Probe) -> None:
    dsn = make_conninfo(probe.dsn, application_name="it's mine", options="-c work_mem=5MB")
    show = "SELECT current_setting('work_mem'), current_setting('application_name'), add(1)"
    done = run("--dsn", dsn, "user=ada", *psql(show), PGHOST="/nowhere", PGOPTIONS="-c work_mem=6MB")
    assert (done.stdout, done.stderr) == ("5MB|it's mine|1\n", "")
    assert probe.seen() == [(1, {"user": "ada"})]


def test_what_the_environment_cannot_say_is_refused(run: Run) -> None:
    done = run("--dsn", "keepalives_idle=5", "--", "true")
    assert (done.returncode, done.stderr[:17]) == (1, "pyhist: keepalives"[:17])
    assert run("--dsn", "wrong", "--", "true").returncode == 1


def test_the_exit_status_is_the_programs(run: Run) -> None:
    assert [run("a=b", "--", "sh", "-c", f"exit {status}").returncode for status in (0, 3)] == [0, 3]
    assert run("--", "sh", "-c", "kill -TERM $$").returncode == -signal.SIGTERM
    missing = run("a=b", "--", "no-such-program")
    assert (missing.returncode, missing.stderr) == (
        127,
        "pyhist: no-such-program: No such file or directory\n",
    )
    assert run("--", "/").returncode == 126


def test_words_behind_the_program_are_its_own(run: Run) -> None:
    done = run("a=b", "--", "echo", "--help", "--", "c=d", "--dsn")
    assert done.stdout == "--help -- c=d --dsn\n"


def test_a_program_finds_its_signals_as_a_shell_would_give_them(run: Run) -> None:
    done = run("--", "sh", "-c", "{ (yes; echo $? >&3) | head -n 1 >/dev/null; } 3>&1")
    assert (done.stdout, done.stderr) == (f"{128 + signal.SIGPIPE}\n", "")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["user=ada"], "-- COMMAND is missing"),
        (["user=ada", "--"], "-- COMMAND is missing"),
        (["psql", "--", "psql"], "'psql' is not KEY=VALUE"),
        (["=1", "--", "psql"], "'=1' is not KEY=VALUE"),
        (["a:=wrong", "--", "psql"], "'wrong' is not JSON"),
        (["a:=NaN", "--", "psql"], "'NaN' is not JSON"),
        (["--json", "--", "psql"], "unrecognized arguments: --json"),
    ],
)
def test_wrong_usage_is_told(capsys: pytest.CaptureFixture[str], words: list[str], said: str) -> None:
    with pytest.raises(SystemExit) as ended:
        result(capsys, "run", *words)
    assert ended.value.code == 2
    assert said in capsys.readouterr().err
