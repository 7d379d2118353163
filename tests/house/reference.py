"""Builds docs/reference.md from the comments on what people use in the schema pghistory: `make reference`."""

from __future__ import annotations

import re
from itertools import groupby
from pathlib import Path
from typing import Any

import psycopg

import pyhist
from pyhist.server import Server

REFERENCE = Path(__file__).parent.parent.parent / "docs" / "reference.md"
WIDTH = 100  # of a signature on one line

INTRODUCTION = """\
# Reference

<!-- Built from the comments in sql/ by make reference: not to be edited by hand. -->

What is in the schema `pghistory` for people to use. How things go together is told in
[choosing what is recorded](tracking.md), [saying who and why](context.md) and [upkeep](upkeep.md).
"""

FUNCTIONS = """
SELECT p.proname, pg_get_function_arguments(p.oid), pg_get_function_result(p.oid), p.prokind = 'p',
       obj_description(p.oid, 'pg_proc')
  FROM pg_proc AS p
 WHERE p.pronamespace = 'pghistory'::regnamespace AND NOT starts_with(p.proname, '_')
 ORDER BY p.proname, p.pronargs
"""

# Each table and view, followed by its columns.
RELATIONS = """
SELECT c.relname, CASE c.relkind WHEN 'v' THEN 'view' ELSE 'table' END, a.name, a.type, a.comment
  FROM pg_class AS c
       CROSS JOIN LATERAL (
           SELECT 0 AS number, NULL AS name, NULL AS type, obj_description(c.oid, 'pg_class') AS comment
            UNION ALL
           SELECT attnum, attname, format_type(atttypid, atttypmod), col_description(c.oid, attnum)
             FROM pg_attribute WHERE attrelid = c.oid AND attnum > 0 AND NOT attisdropped) AS a
 WHERE c.relnamespace = 'pghistory'::regnamespace AND c.relkind IN ('r', 'p', 'v')
   AND NOT starts_with(c.relname, '_')
 ORDER BY c.relkind DESC, c.relname, a.number
"""

EVENT_TRIGGERS = """
SELECT evtname, obj_description(oid, 'pg_event_trigger') FROM pg_event_trigger
 WHERE starts_with(evtname, 'pghistory') ORDER BY evtname
"""


def build(connection: psycopg.Connection[Any]) -> str:
    """The text of the reference, from a database that has the extension and its tables."""
    sections = [INTRODUCTION, "## Functions\n"]
    for name, forms in groupby(connection.execute(FUNCTIONS), key=lambda row: row[0]):
        sections.append(f"### {name}\n")
        for _, arguments, result, is_procedure, comment in forms:
            sections.append(f"```sql\n{signature(name, arguments, result, is_procedure)}\n```\n\n{comment}\n")
        if hasattr(pyhist, name):
            sections.append(f"In Python: `pyhist.{name}`, `pyhist.aio.{name}`.\n")
    sections.append("## Views and tables\n")
    for (relation, kind), rows in groupby(connection.execute(RELATIONS), key=lambda row: row[:2]):
        (*_, comment), *columns = rows
        table = [f"| column of the {kind} | type | |", "|---|---|---|"]
        table += [f"| `{name}` | `{type_name}` | {text or ''} |" for _, _, name, type_name, text in columns]
        sections.append("\n".join([f"### {relation}\n\n{comment}\n", *table, ""]))
    sections.append("## Event triggers\n")
    sections += [f"- `{name}`: {comment}" for name, comment in connection.execute(EVENT_TRIGGERS)]
    return "\n".join(sections) + "\n"


def signature(name: str, arguments: str, result: str | None, is_procedure: bool) -> str:
    """A function's arguments and result, over several lines if they do not fit on one."""
    arguments = re.sub(r"( DEFAULT (?:NULL|'[^']*'))::[\w ]+(?:\[\])?", r"\1", arguments)
    ending = "" if is_procedure else f" RETURNS {result}"
    start = f"{'PROCEDURE ' * is_procedure}pghistory.{name}("
    if len(start) + len(arguments) + len(ending) < WIDTH:
        return f"{start}{arguments}){ending}"
    ending = re.sub(r"^( RETURNS TABLE\()(.*)\)$", lambda table: f"{table[1]}{listed(table[2])})", ending)
    return f"{start}{listed(arguments) if arguments else ''}){ending}"


def listed(items: str) -> str:
    """A list with commas in between, one item a line."""
    return "\n    " + ",\n    ".join(re.split(r", (?=(?:VARIADIC |OUT |\"|\w+ ))", items)) + "\n"


def main() -> None:
    """Write docs/reference.md, from a private server."""
    with Server() as server:
        pyhist.install(server.dsn())
        with psycopg.connect(server.dsn()) as connection:
            connection.execute("SELECT pghistory._ensure_state()")
            REFERENCE.write_text(build(connection))


if __name__ == "__main__":
    main()
