"""The rules of the house, read from sql/ and from a database that has the extension.

What each rule is for stands in docs/design.md, under "House rules".
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import psycopg
import pytest
from reference import REFERENCE, build

import pyhist
import pyhist.aio

ROOT = Path(__file__).parent.parent.parent
SQL = ROOT / "sql"
CONTENTS = re.findall(r"^\\ir (\S+)$", (SQL / "pghistory.sql").read_text(), re.MULTILINE)
VERSION = re.search("default_version = '(.+)'", (ROOT / "pghistory.control").read_text())[1]

# Functions that do not pin their search_path: the public ones hand on their caller's; the text of the others
# becomes part of the statement that calls them, and names everything with its schema.
UNPINNED = {
    *("track", "revert", "undo", "undo_transaction"),
    *("_capturing", "_context_id", "_inline_context_id", "_inline_context"),
}

# Functions that act with the rights of the extension's owner, and whether everybody may call them.
DEFINERS = {
    "_ensure_state()": False,
    "_apply_request()": False,
    "_before_ddl()": False,
    "_after_ddl()": False,
    "_after_drop()": False,
    "_attach_context()": True,
    "_context_of_event(uuid,xid8)": True,
    "_read_inline_context()": True,
    "_use_permit(text,text)": True,
}

# What PUBLIC may do with the tables and views of the schema.
TABLE_RIGHTS = {
    "_request": {"INSERT"},
    "event_table": {"SELECT"},
    "event_column": {"SELECT"},
    "tracker": {"SELECT"},
    "capture_key": {"SELECT"},
}

# A string may go on in the next line.
STRING = r"'(?:[^']|'')*'(?:\s*\n\s*'(?:[^']|'')*')*"
ESCAPED = r"'(?:[^'\\]|''|\\.)*'(?:\s*\n\s*'(?:[^'\\]|''|\\.)*')*"

# An SQL text falls into comments, dollar-quoted texts, strings, quoted names and the rest.
TOKEN = re.compile(
    rf"""(?P<comment>--[^\n]*|/\*.*?\*/)
      | (?P<dollar>\$(?P<tag>\w*)\$.*?\$(?P=tag)\$)
      | (?P<escape>\bE{ESCAPED})
      | (?P<string>{STRING})
      | (?P<name>"(?:[^"]|"")*")
      | (?P<rest>[A-Za-z_][\w$]*|.)""",
    re.VERBOSE | re.DOTALL,
)


def tokens(text: str) -> Iterator[tuple[str, str]]:
    """The kinds and texts of what an SQL text consists of; dollar-quoted bodies are opened, `$re$` is not."""
    for match in TOKEN.finditer(text):
        if match["dollar"] and match["tag"] != "re":
            yield from tokens(match["dollar"][len(match["tag"]) + 2 : -len(match["tag"]) - 2])
        else:
            yield str(match.lastgroup), match[0]


@cache
def sql(file: str) -> str:
    return (SQL / file).read_text()


@cache
def code(file: str, *, with_strings: bool) -> str:
    """A file without comments and COMMENT ON; strings stay, or are empty ones."""
    text = re.sub(r"^COMMENT ON .*?';$", "", sql(file), flags=re.MULTILINE | re.DOTALL)
    return "".join(
        "''" if kind in {"string", "escape"} and not with_strings else token
        for kind, token in tokens(text)
        if kind != "comment"
    )


def defined(file: str) -> set[str]:
    """The functions, views and tables that a file makes, also those that are made on first use."""
    kinds = r"(?:UNLOGGED )?(?:FUNCTION|PROCEDURE|VIEW|TABLE)(?: IF NOT EXISTS)?"
    return set(re.findall(rf"^ *CREATE (?:OR REPLACE )?{kinds} pghistory\.(\w+)", sql(file), re.MULTILINE))


def functions() -> Iterator[tuple[str, str]]:
    """The files of sql/ and the names of the functions in them."""
    for file in CONTENTS:
        for name in re.findall(
            r"^CREATE (?:OR REPLACE )?(?:FUNCTION|PROCEDURE) pghistory\.(\w+)\(", sql(file), re.MULTILINE
        ):
            yield file, name


@dataclass(frozen=True)
class Raised:
    """A RAISE statement."""

    file: str
    line: int
    level: str
    message: str
    options: str

    def __str__(self) -> str:
        return f"sql/{self.file}:{self.line}: {self.message}"


def raised() -> Iterator[Raised]:
    """All errors and warnings that sql/ raises."""
    for file in CONTENTS:
        for match in re.finditer(
            rf"\bRAISE (EXCEPTION|WARNING)\s+({STRING})((?:[^;']|{STRING})*);", sql(file)
        ):
            line = sql(file).count("\n", 0, match.start()) + 1
            message = re.sub(r"'\s*\n\s*'", "", match[2])[1:-1].replace("''", "'")
            yield Raised(file, line, match[1], message, match[3])


RAISED = list(raised())


@cache
def said_in_tests() -> tuple[str, ...]:
    """What tests expect to read: their strings, as text and without the escapes of regular expressions, and
    what stories and documents show."""
    said: list[str] = []
    for path in (ROOT / "tests").rglob("test_*.py"):
        for node in ast.walk(ast.parse(path.read_text())) if path != Path(__file__) else ():
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                said.append(node.value)
    said += [text.replace("\\", "") for text in said if "\\" in text]
    shown = [*(ROOT / "tests" / "sql" / "expected").glob("*.out"), *(ROOT / "docs").glob("*.md")]
    return (*said, *(line for path in shown for line in path.read_text().splitlines()))


def is_provoked(message: str) -> bool:
    """Does a test expect the message, or as much of it as tells it from others?"""
    parts = message.split("%")
    whole = re.compile(".+".join(map(re.escape, parts)))
    longest = max((part.strip(' "') for part in parts), key=len)
    enough = min(len(longest), 20)
    pieces = [longest[start : start + enough] for start in range(len(longest) - enough + 1)]
    return any(whole.search(text) or any(piece in text for piece in pieces) for text in said_in_tests())


@pytest.fixture
def installed(connection: psycopg.Connection[Any]) -> psycopg.Connection[Any]:
    """A database that has the extension, after its first use."""
    connection.execute("SELECT pghistory._ensure_state()")
    return connection


# Files


def test_every_sql_file_stands_once_in_the_table_of_contents() -> None:
    assert sorted(CONTENTS) == sorted(path.name for path in SQL.glob("*.sql") if path.name != "pghistory.sql")


def test_every_sql_file_has_a_room_in_the_design() -> None:
    design = (ROOT / "docs" / "design.md").read_text()
    assert [file for file in CONTENTS if f"`sql/{file}`" not in design] == []


def test_no_file_calls_what_stands_below_it() -> None:
    above: set[str] = set()
    everything = set().union(*map(defined, CONTENTS))
    for file in CONTENTS:
        above |= defined(file)
        called = set(re.findall(r"pghistory\.(\w+)", code(file, with_strings=False)))
        # In strings people are told what to call; there only private names are calls.
        called |= set(re.findall(r"pghistory\.(_\w+)", code(file, with_strings=True)))
        assert called & everything - above == set(), file


def test_no_file_names_what_is_not_there() -> None:
    everything = set().union(*map(defined, CONTENTS))
    for file in CONTENTS:
        named = set(re.findall(r"pghistory\.(\w+)", code(file, with_strings=False)))
        assert {name for name in named - everything if not name.endswith("_seq")} == set(), file


def test_lines_have_at_most_120_characters() -> None:
    too_long = [
        f"sql/{file}:{number}: {len(line)}"
        for file in ["pghistory.sql", *CONTENTS]
        for number, line in enumerate(sql(file).splitlines(), start=1)
        if len(line) > 120
    ]
    assert too_long == []


def test_strings_mean_the_same_under_every_setting() -> None:
    """A backslash in a plain string is read differently where standard_conforming_strings is off."""
    for file in CONTENTS:
        assert [token for kind, token in tokens(sql(file)) if kind == "string" and "\\" in token] == [], file


def test_the_version_stands_in_one_place() -> None:
    told = {"pghistory.control", "META.json", "CHANGELOG.md"}  # PGXN wants it; another test compares
    files = [
        path
        for folder in ("sql", "pyhist", "tests", "docs", ".ci")
        for path in (ROOT / folder).rglob("*")
        if path.is_file() and path.suffix in {".py", ".sql", ".md", ".out", ""}
    ]
    files += [path for path in ROOT.glob("*.*") if path.is_file() and path.name not in told]
    files += [ROOT / "Makefile"]
    assert [str(path.relative_to(ROOT)) for path in files if VERSION in path.read_text()] == []


# Functions


def test_every_function_pins_its_search_path(installed: psycopg.Connection[Any]) -> None:
    unpinned = installed.execute(
        """SELECT proname, prosecdef FROM pg_proc
            WHERE pronamespace = 'pghistory'::regnamespace
              AND NOT 'search_path=pg_catalog, pg_temp' = ANY (COALESCE(proconfig, '{}'))"""
    ).fetchall()
    assert {name for name, _ in unpinned} == UNPINNED
    assert not any(is_definer for _, is_definer in unpinned)


def test_functions_with_the_rights_of_the_owner_are_known_by_name(installed: psycopg.Connection[Any]) -> None:
    definers = installed.execute(
        """SELECT replace(oid::regprocedure::text, 'pghistory.', ''),
                  has_function_privilege('public', oid, 'EXECUTE')
             FROM pg_proc WHERE pronamespace = 'pghistory'::regnamespace AND prosecdef"""
    )
    assert dict(definers.fetchall()) == DEFINERS


def test_everybody_may_call_what_privileges_sql_names_and_nothing_else(
    installed: psycopg.Connection[Any],
) -> None:
    grants = code("privileges.sql", with_strings=True)
    granted = set(re.findall(r"pghistory\.(\w+)", re.sub(r"GRANT INSERT.*?;", "", grants, flags=re.DOTALL)))
    allowed = installed.execute(
        """SELECT proname FROM pg_proc
            WHERE pronamespace = 'pghistory'::regnamespace
              AND has_function_privilege('public', oid, 'EXECUTE')"""
    )
    assert {name for (name,) in allowed} == granted
    assert {name for _, name in functions() if not name.startswith("_")} <= granted


def test_privileges_sql_names_functions_under_the_files_they_are_in() -> None:
    files: dict[str, set[str]] = {}
    for file, names in re.findall(
        r"^GRANT EXECUTE ON FUNCTION  -- (\S+)\n(.*?)TO PUBLIC;",
        sql("privileges.sql"),
        re.MULTILINE | re.DOTALL,
    ):
        files[file] = set(re.findall(r"pghistory\.(\w+)", names))
    for file, names in files.items():
        assert names <= {name for where, name in functions() if where == file}, file


def test_everybody_may_read_the_registry_and_knock_at_its_door_and_no_more(
    installed: psycopg.Connection[Any],
) -> None:
    rights: dict[str, set[str]] = {}
    for relation, right in installed.execute(
        """SELECT c.relname, a.privilege_type
             FROM pg_class AS c CROSS JOIN LATERAL aclexplode(c.relacl) AS a
            WHERE c.relnamespace = 'pghistory'::regnamespace AND a.grantee = 0"""
    ):
        rights.setdefault(relation, set()).add(right)
    assert rights == TABLE_RIGHTS


def test_the_bodies_of_all_functions_are_valid(installed: psycopg.Connection[Any]) -> None:
    installed.execute("SET check_function_bodies TO on")
    for (definition,) in installed.execute(
        """SELECT pg_get_functiondef(oid) FROM pg_proc
            WHERE pronamespace = 'pghistory'::regnamespace ORDER BY oid"""
    ).fetchall():
        installed.execute(definition.encode())


# What people use


def test_everything_public_has_a_comment(installed: psycopg.Connection[Any]) -> None:
    silent = installed.execute(
        """SELECT oid::regprocedure::text FROM pg_proc
            WHERE pronamespace = 'pghistory'::regnamespace AND NOT starts_with(proname, '_')
              AND obj_description(oid, 'pg_proc') IS NULL
           UNION ALL
           SELECT oid::regclass::text FROM pg_class
            WHERE relnamespace = 'pghistory'::regnamespace AND relkind IN ('r', 'p', 'v')
              AND NOT starts_with(relname, '_')
              AND obj_description(oid, 'pg_class') IS NULL
           UNION ALL
           SELECT nspname FROM pg_namespace
            WHERE nspname = 'pghistory' AND obj_description(oid, 'pg_namespace') IS NULL
           UNION ALL
           SELECT evtname FROM pg_event_trigger
            WHERE starts_with(evtname, 'pghistory') AND obj_description(oid, 'pg_event_trigger') IS NULL"""
    )
    assert silent.fetchall() == []


def test_the_reference_says_what_the_comments_say(installed: psycopg.Connection[Any]) -> None:
    assert REFERENCE.read_text() == build(installed), "run make reference"


def test_every_public_function_has_a_mirror_in_python() -> None:
    for _, name in functions():
        if not name.startswith("_"):
            assert name in pyhist.__all__, name
            assert callable(getattr(pyhist.aio, name)), name


# Refusals


def test_every_raise_is_seen_by_these_rules() -> None:
    """One without a message is inside of a string, and caught by who runs it."""
    for file in CONTENTS:
        statements = re.findall(r"\bRAISE (?:EXCEPTION|WARNING)\b(?! USING)", code(file, with_strings=True))
        assert len(statements) == sum(error.file == file for error in RAISED), file


@pytest.mark.parametrize("error", RAISED, ids=str)
def test_every_error_has_a_code_and_a_way_out(error: Raised) -> None:
    assert re.search(r"\bERRCODE *= *\S", error.options)
    assert re.search(r"\bHINT *= *\S", error.options)


@pytest.mark.parametrize("error", RAISED, ids=str)
def test_every_error_is_provoked_by_a_test(error: Raised) -> None:
    assert is_provoked(error.message)
