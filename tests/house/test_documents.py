"""The documents are true: their code runs and gives what they show, and what they point at is there.

Fenced blocks run in order, against a database called app. `sql` goes through psql, `python` through exec()
with the names of the blocks before it, `sh` through a shell in the root of the checkout. A `text` block is
what the block above it prints; ids, dates and times may differ. One that shows an error says that the block
fails.
A comment before a block gives it another database: `<!-- a new database -->`, or one without the extension,
`<!-- an empty database -->`.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg
import psycopg.conninfo
import psycopg.sql
import pytest

if TYPE_CHECKING:
    from conftest import Server

ROOT = Path(__file__).parent.parent.parent
WRITTEN = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")])
BUILT = ROOT / "docs" / "reference.md"
RUNNING = [path for path in WRITTEN if path != BUILT]

# Commands that are not run from here, and the tests that run them.
RUN_ELSEWHERE = {
    "make demo": "test_the_demo_shows_what_changed_who_did_it_and_why",
    "make example-django": "test_django_shows_which_of_its_users_did_what",
    "make example-fastapi": "test_fastapi_shows_which_of_its_users_did_what",
    "make install": "test_make_install_puts_the_same_files_in_place",
    "make build": "test_the_committed_install_script_is_what_sql_builds",
    "pip install '.[binary]'": "test_the_wheel_brings_what_a_server_needs_and_what_pgxn_installs",
}
# Commands that run these tests, or take as long: the Makefile has them.
TARGETS = ("make test", "make lint", "make matrix", "make bench", "make reference", "make matrix-16")

BLOCK = re.compile(
    r"(?:^<!-- (?P<database>(?:a new|an empty) database) -->\n+)?^```(?P<language>\w*)\n(?P<code>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)


@dataclass
class Block:
    """A fenced block of a document, and what it is said to print."""

    document: Path
    line: int
    language: str
    code: str
    database: str | None
    output: str | None = None

    @property
    def place(self) -> str:
        """Where it is, as editors understand it."""
        return f"{self.document.relative_to(ROOT)}:{self.line}"


def blocks(document: Path) -> list[Block]:
    """Read a document's blocks; `text` blocks become the output of the one above."""
    text = document.read_text()
    found: list[Block] = []
    for match in BLOCK.finditer(text):
        line = text.count("\n", 0, match.start("code"))
        if match["language"] == "text":
            assert found, f"{document}: nothing prints the text in line {line}"
            assert found[-1].output is None, f"{document}: the text in line {line} is printed by nothing"
            found[-1].output = match["code"]
        else:
            found.append(Block(document, line, match["language"], match["code"], match["database"]))
    return found


def masked(text: str) -> str:
    """The text without what differs from run to run: ids of contexts and transactions, dates and times, the
    version and how it is installed, spaces at line ends.
    """
    text = re.sub(r"\b[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\b", "<uuid>", text)
    text = re.sub(r"\b\d{4}-\d\d-\d\d\b", "<date>", text)
    text = re.sub(r"<date> \d\d:\d\d:\d\d(\.\d+)?\b", "<date> <time>", text)
    text = re.sub(r"\btransaction \d+\b", "transaction <xid>", text)
    text = re.sub(r"^pghistory \S+ (is )?installed\b.*$", "<installed>", text, flags=re.MULTILINE)
    return "\n".join(line.rstrip() for line in text.strip("\n").splitlines())


class Reader:
    """Somebody who follows a document step by step."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.environment = os.environ | {
            "PATH": os.pathsep.join(
                map(str, [server.bindir, Path(sys.executable).parent, os.environ["PATH"]])
            ),
            "PYTHONPATH": str(ROOT),
            **self._libpq(),
        }
        self.names: dict[str, Any] = {"__name__": "__main__"}

    def _libpq(self) -> dict[str, str]:
        parameters = psycopg.conninfo.conninfo_to_dict(self.server.dsn())
        return {f"PG{name.upper()}": str(parameters[name]) for name in ("host", "port", "user")} | {
            "PGDATABASE": "app"
        }

    def follow(self, block: Block) -> None:
        """Run a block and compare what it prints, if the document shows that."""
        shown = block.output
        fails = shown is not None and bool(re.search(r"^ERROR: |^\w+(\.\w+)*Error", shown, re.MULTILINE))
        run: Callable[[Block], tuple[bool, str]] = {
            "sql": self._run_sql,
            "python": self._run_python,
            "sh": self._run_shell,
        }[block.language]
        failed, printed = run(block)
        assert failed == fails, f"{block.place}: {printed}"
        if shown is not None:
            assert masked(printed) == masked(shown), block.place

    def _run_sql(self, block: Block) -> tuple[bool, str]:
        return self._run(
            ["psql", "-X", "-q", "-v", "ON_ERROR_STOP=1", "-v", "SHOW_CONTEXT=never"], block.code
        )

    def _run_shell(self, block: Block) -> tuple[bool, str]:
        lines = [line for line in block.code.splitlines() if line not in {*RUN_ELSEWHERE, *TARGETS}]
        return self._run(["sh", "-eu"], "\n".join(lines))

    def _run(self, command: list[str], given: str) -> tuple[bool, str]:
        done = subprocess.run(
            command,
            cwd=ROOT,
            env=self.environment,
            input=given,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        return done.returncode != 0, done.stdout

    def _run_python(self, block: Block) -> tuple[bool, str]:
        code = compile("\n" * block.line + block.code, block.document, "exec", dont_inherit=True)
        with contextlib.redirect_stdout(io.StringIO()) as printed:
            try:
                exec(code, self.names)
            except Exception as error:
                kind = type(error)
                print(f"{kind.__module__}.{kind.__qualname__}: {error}")
                return True, printed.getvalue()
        return False, printed.getvalue()


@pytest.fixture
def reader(server: Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[Reader]:
    """A reader with a database called app, which has the extension."""
    reader = Reader(server)
    for name in ("PGHOST", "PGPORT", "PGUSER", "PGDATABASE"):
        monkeypatch.setenv(name, reader.environment[name])
    make_database(server, "a new database")
    before = roles(server)
    yield reader
    drop_database(server)
    with psycopg.connect(server.dsn(), autocommit=True) as connection:
        for role in roles(server) - before:
            connection.execute(psycopg.sql.SQL("DROP ROLE {}").format(psycopg.sql.Identifier(role)))


def roles(server: Server) -> set[str]:
    with psycopg.connect(server.dsn()) as connection:
        return {name for (name,) in connection.execute("SELECT rolname FROM pg_roles")}


def make_database(server: Server, kind: str) -> None:
    """Make the database app anew."""
    drop_database(server)
    with psycopg.connect(server.dsn(), autocommit=True) as connection:
        connection.execute("CREATE DATABASE app")
    if kind == "a new database":
        with psycopg.connect(server.dsn("app"), autocommit=True) as connection:
            connection.execute("CREATE EXTENSION pghistory")


def drop_database(server: Server) -> None:
    with psycopg.connect(server.dsn(), autocommit=True) as connection:
        connection.execute("DROP DATABASE IF EXISTS app WITH (FORCE)")


def name_of(document: Path) -> str:
    return str(document.relative_to(ROOT))


@pytest.mark.parametrize("document", RUNNING, ids=name_of)
def test_the_code_of_a_document_runs_and_gives_what_is_shown(
    document: Path, reader: Reader, request: pytest.FixtureRequest
) -> None:
    if document.stem == "pgbouncer":
        request.getfixturevalue("pgbouncer")
    for block in blocks(document):
        if block.database:
            make_database(reader.server, block.database)
        reader.follow(block)


@pytest.mark.parametrize("document", RUNNING, ids=name_of)
def test_every_block_says_what_language_it_is_in(document: Path) -> None:
    assert {block.language for block in blocks(document)} <= {"sql", "python", "sh"}
    assert document.read_text().count("\n```") % 2 == 0


def test_commands_that_documents_name_are_run_by_some_test() -> None:
    others = [path for path in (ROOT / "tests").rglob("test_*.py") if path != Path(__file__)]
    tests = "".join(path.read_text() for path in others)
    targets = set(re.findall(r"^([\w%-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for command, test in RUN_ELSEWHERE.items():
        assert f"def {test}(" in tests, command
    for command in TARGETS:
        assert re.sub(r"-\d+$", "-%", command.removeprefix("make ")) in targets, command


def anchors(document: Path) -> set[str]:
    """The anchors of a document's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.*)$", re.sub(BLOCK, "", document.read_text()), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("document", WRITTEN, ids=name_of)
def test_every_link_leads_somewhere(document: Path) -> None:
    for target in re.findall(r"\]\(([^)]+)\)", re.sub(BLOCK, "", document.read_text())):
        if target.startswith(("https://", "mailto:")):
            continue
        path, _, anchor = target.partition("#")
        linked = (document.parent / path).resolve() if path else document
        assert linked.exists(), target
        assert not anchor or anchor in anchors(linked), target


@pytest.mark.parametrize("document", WRITTEN, ids=name_of)
def test_every_file_test_and_function_that_a_document_names_is_there(document: Path) -> None:
    tests = "".join(path.read_text() for path in (ROOT / "tests").rglob("*.py"))
    functions = "".join(path.read_text() for path in (ROOT / "sql").glob("*.sql"))
    for name in re.findall(r"`([^`\n]+)`", re.sub(BLOCK, "", document.read_text())):
        if re.fullmatch(r"(sql|tests|docs|examples|pyhist)/[\w./-]*", name):
            assert (ROOT / name).exists(), name
        elif re.fullmatch(r"test_\w+", name):
            assert f"def {name}(" in tests, name
        elif function := re.match(r"pghistory\.(\w+)\(", name):
            assert f"FUNCTION pghistory.{function[1]}(" in functions, name


def test_every_document_is_reached_from_the_readme() -> None:
    reached: set[Path] = set()
    waiting = [ROOT / "README.md"]
    while waiting:
        document = waiting.pop()
        reached.add(document)
        for target in re.findall(r"\]\(([^)#]+\.md)", document.read_text()):
            linked = (document.parent / target).resolve()
            if linked not in reached and linked in WRITTEN:
                waiting.append(linked)
    assert reached == set(WRITTEN)
