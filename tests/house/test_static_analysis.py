"""What analysers of SQL and PL/pgSQL find in ours: nothing but what is listed here, each with its reason."""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from pyhist.install import install
from pyhist.server import Server, find_bindir

ROOT = Path(__file__).parent.parent.parent
SCRIPT = (
    ROOT
    / "extension"
    / (
        "pghistory--"
        + re.search("default_version = '(.+)'", (ROOT / "pghistory.control").read_text())[1]
        + ".sql"
    )
)

# Findings of pgspot that are as they should be.
ACCEPTED = {
    # The body of these becomes part of the statement that calls them, which settings would prevent; they name
    # everything with its schema.
    r"PS005: Function without explicit search_path: pghistory\._(capturing|context_id|inline_context|inline_context_id)\(\)",
    # _ensure_state makes what is missing, in a schema where nobody else may create, after it has looked at whose
    # is what is there.
    r"PS01[245]: Unsafe (table|index|view) creation: (pghistory\.)?\w+",
    # _parse_condition puts the path back before this, by set_config(), which pgspot does not see.
    r"PS017: Unqualified object reference: pg_trigger",
    r"PS001: Unqualified operator: '=' in t\.tg(relid|name) = .*",
    r"PS016: Unqualified function call: format",
}


def test_pgspot_finds_nothing_unsafe_in_the_install_script() -> None:
    found = subprocess.run(
        [Path(sys.executable).parent / "pgspot", SCRIPT], capture_output=True, text=True, check=False
    )
    assert "Errors:" in found.stdout, found.stderr
    findings = re.findall(r"^(PS\d+: .*) at line \d+$", found.stdout, re.MULTILINE)
    assert [f for f in findings if not any(re.fullmatch(accepted, f) for accepted in ACCEPTED)] == []
    assert [a for a in ACCEPTED if not any(re.fullmatch(a, f) for f in findings)] == []


@pytest.fixture(scope="module")
def checked() -> Iterator[psycopg.Connection[Any]]:
    """A database with the extension, tables tracked in every way, and plpgsql_check.

    Debian has plpgsql_check for its own PostgreSQL only: that is the server then, installed or from a wheel.
    """
    sys.path.insert(0, str(ROOT / "tests"))
    from binaries import bindir
    from debian_packages import unpack

    release = Path("/etc/debian_version")
    major = (
        {"11": 13, "12": 15, "13": 17}.get(release.read_text().split(".")[0], 15) if release.exists() else 15
    )
    with tempfile.TemporaryDirectory() as name, pytest.MonkeyPatch.context() as patch:
        folder = Path(name)
        folder.chmod(0o755)
        package = f"postgresql-{major}-plpgsql-check"
        assert unpack(package, folder), (
            f"plpgsql_check cannot be had: apt-get download {package} failed (as root, run apt-get update)"
        )
        (library,) = folder.rglob("plpgsql_check.so")
        (script,) = folder.rglob("plpgsql_check--*.sql")
        installed = find_bindir()
        if f"/{major}/" not in str(installed):
            patch.setenv("PYHIST_BINDIR", str(bindir(str(major))))
        with Server() as server:
            install(server.dsn())
            with psycopg.connect(server.dsn(), autocommit=True) as connection:
                text = re.sub(r"^\\.*$", "", script.read_text(), flags=re.MULTILINE)
                connection.execute("CREATE SCHEMA checking; SET search_path TO checking, public")
                connection.execute(
                    text.replace("MODULE_PATHNAME", str(library)).replace("@extschema@", "checking")
                )
                connection.execute(TRACKED)
                yield connection


TRACKED = """
    CREATE TABLE public.users (id integer PRIMARY KEY, name text, at timestamptz, doc json);
    CREATE TABLE public.parts (id integer, day date, PRIMARY KEY (id, day)) PARTITION BY RANGE (day);
    CREATE TABLE public.part PARTITION OF public.parts DEFAULT;
    SELECT pghistory.track('users', kind => 'history');
    SELECT pghistory.track('users', 'row', kind => 'history', level => 'row', event_table => 'by_row');
    SELECT pghistory.track('users', 'statement', kind => 'history', level => 'statement', context => 'inline',
                           event_table => 'by_statement', condition => 'true');
    SELECT pghistory.track('users', 'by hand', kind => 'event', event_table => 'by_hand', fields => '{name}');
    SELECT pghistory.track('parts', kind => 'history');
    SELECT pghistory.capture('current_user')"""

# Every PL/pgSQL function with what it is called for: a trigger function once for each table that it is on.
CHECK = """
    SELECT DISTINCT p.oid::regprocedure::text, c.message
      FROM pg_proc AS p
           LEFT JOIN LATERAL (SELECT DISTINCT ON (tgrelid) tgrelid, tgoldtable, tgnewtable
                                FROM pg_trigger WHERE tgfoid = p.oid) AS t ON true
           CROSS JOIN LATERAL checking.plpgsql_check_function_tb(
               p.oid::regprocedure,
               COALESCE(t.tgrelid::regclass, CASE WHEN p.prorettype = 'trigger'::regtype
                                                  THEN 'public.users'::regclass ELSE 0::regclass END),
               -- fatal errors, other, performance, extra, security, compatibility warnings
               false, true, false, false, true, false,
               t.tgoldtable, t.tgnewtable, 'public.users'::regtype) AS c
     WHERE p.prolang = (SELECT oid FROM pg_language WHERE lanname = 'plpgsql')
       AND p.pronamespace IN ('pghistory'::regnamespace, 'public'::regnamespace)
       AND (c.level = 'error' OR c.level = 'security' AND p.prosecdef)
     ORDER BY 1, 2"""


def test_plpgsql_check_finds_no_error_in_our_functions_and_in_generated_ones(
    checked: psycopg.Connection[Any],
) -> None:
    """And nothing that could be injected into those that run with others' rights."""
    for name, message in checked.execute(CHECK).fetchall():
        # What a record consists of that is a parameter, or comes of one or of a dynamic query, is known when it is run.
        record = re.fullmatch(
            r'record "(\w+)" (?:is not assigned yet|is not assigned to tuple structure)', message
        )
        assert record, (name, message)
        arguments, source = checked.execute(
            "SELECT pg_get_function_arguments(oid), prosrc FROM pg_proc WHERE oid = %s::regprocedure", (name,)
        ).fetchone()
        assert re.search(rf"\b{record[1]} record\b", arguments) or re.search(
            rf"\bINTO {record[1]}\b", source
        ), (name, message)
