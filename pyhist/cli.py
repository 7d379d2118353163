"""The command line: `pyhist install | track | untrack | status | log | undo ...`.

`pyhist.looking` has the commands that look back and go back, `pyhist.run` the one that runs others.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict
from typing import Any, get_args

import psycopg

from pyhist import client, looking, models, run
from pyhist.errors import HistoryError
from pyhist.install import install, upgrade
from pyhist.installed import sentences
from pyhist.tables import table

EPILOG = """\
Without --dsn, the connection is what libpq's environment says: PGHOST, PGDATABASE, PGSERVICE ...
The exit status is 0 only if all went well.
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line and gives its exit status.

    Returns:
        0 if all went well, 1 if not, 2 for wrong usage, 130 if it was interrupted.
    """
    arguments, program = run.split(sys.argv[1:] if arguments is None else arguments)
    options = _parser().parse_args(arguments)
    options.program = program
    command: Callable[[argparse.Namespace], int] = options.command
    try:
        status = command(options)
        sys.stdout.flush()
        return status
    except (HistoryError, psycopg.Error) as error:
        print(f"pyhist: {' '.join(str(error).split())}", file=sys.stderr)
        return 1
    except BrokenPipeError:
        # Whoever read it has seen enough. What is still to be flushed at exit must not fail either.
        with suppress(OSError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except KeyboardInterrupt:
        print("pyhist: interrupted", file=sys.stderr)
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="pyhist", description="The history of PostgreSQL tables.", epilog=EPILOG, allow_abbrev=False
    )
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)

    def command(
        name: str, function: Callable[[argparse.Namespace], int], help: str
    ) -> argparse.ArgumentParser:
        added = commands.add_parser(
            name, help=help, description=f"{help[0].upper()}{help[1:]}.", epilog=EPILOG, allow_abbrev=False
        )
        added.set_defaults(command=function)
        return added

    def with_connection(added: argparse.ArgumentParser) -> argparse.ArgumentParser:
        added.add_argument(
            "--dsn", default="", metavar="DSN", help="connection string or URI of the database"
        )
        added.add_argument("--json", action="store_true", help="print JSON, for programs")
        return added

    added = with_connection(command("install", _install, "install the extension in a database"))
    added.add_argument("--upgrade", action="store_true", help="bring an older version up to date")
    added.add_argument(
        "--how",
        choices=get_args(models.How),
        help="in this way or not at all; by default the first that is possible: as an extension whose files "
        "the server finds by extension_control_path (path) or in its share folder (files), or that pg_tle "
        "keeps (pg_tle), or as plain SQL (sql)",
    )
    with_connection(command("upgrade", _upgrade, "bring what is installed up to date"))

    added = with_connection(command("track", _track, "record what happens to the rows of a table"))
    added.add_argument("table", metavar="TABLE", help="the table, as SQL would write it")
    added.add_argument("label", metavar="LABEL", nargs="?", help="name of the events; TABLE.KIND by default")
    added.add_argument(
        "--kind",
        choices=models.KINDS,
        default="snapshot",
        metavar="KIND",
        help=f"what to record: {', '.join(models.KINDS)} (%(default)s by default)",
    )
    added.add_argument("--condition", metavar="SQL", help="boolean over OLD and NEW that narrows it")
    added.add_argument(
        "--level", choices=("auto", "row", "statement"), help="level of the triggers, auto by default"
    )
    columns = added.add_mutually_exclusive_group()
    columns.add_argument(
        "--fields", type=_names, metavar="A,B", help="columns to record, all by default; '' for none of them"
    )
    columns.add_argument("--exclude", type=_names, metavar="A,B", help="columns to leave out")
    added.add_argument(
        "--event-table", metavar="NAME", help="where events go; named after the table by default"
    )
    added.add_argument(
        "--obj-key",
        type=_names,
        metavar="A,B",
        help="columns that name the object; the primary key by default",
    )
    added.add_argument(
        "--obj-fk", metavar="ACTION", help="foreign key to the object: cascade, restrict, set null"
    )
    added.add_argument(
        "--context",
        choices=("reference", "inline", "none"),
        default="reference",
        help="where the context of events is kept (%(default)s by default)",
    )
    added.add_argument("--append-only", action="store_true", help="refuse to change or delete events")
    added.add_argument(
        "--partition-by", choices=("day", "week", "month", "year"), help="make a partitioned event table"
    )
    added.add_argument("--retention", metavar="INTERVAL", help="how old events may get, such as '2 years'")

    added = with_connection(command("untrack", _untrack, "stop recording"))
    added.add_argument("table", metavar="TABLE", help="the table, as SQL would write it")
    added.add_argument("label", metavar="LABEL", nargs="?", help="name of the events; all by default")
    added.add_argument("--drop-events", action="store_true", help="drop the events, too")

    with_connection(
        command("status", _status, "show how it is installed, what is tracked, and what is wrong")
    )

    looking.add_commands(lambda *described: with_connection(command(*described)))

    with_connection(command("verify", _verify, "show what is wrong with what tracks tables"))
    with_connection(command("refresh", _refresh, "repair what verify finds, in the tables that you own"))

    run.add_command(command)

    added = command("demo", _demo, "show it on a server and a database of its own, which go when it ends")
    added.add_argument("--keep", action="store_true", help="leave the server running, to look around in it")
    return parser


def _names(text: str) -> list[str]:
    """Column names with commas in between, in double quotes where they have commas themselves."""
    return next(csv.reader([text], skipinitialspace=True), [])


def _install(options: argparse.Namespace) -> int:
    _report(options, "installed", install(options.dsn, upgrade=options.upgrade, how=options.how))
    return 0


def _upgrade(options: argparse.Namespace) -> int:
    _report(options, "upgraded", upgrade(options.dsn))
    return 0


def _track(options: argparse.Namespace) -> int:
    tracker = models.KINDS[options.kind](options.label, condition=options.condition, level=options.level)
    with psycopg.connect(options.dsn, autocommit=True) as conn:
        event_table = client.track(
            conn,
            options.table,
            tracker,
            fields=options.fields,
            exclude=options.exclude,
            event_table=options.event_table,
            obj_key=options.obj_key,
            obj_fk=options.obj_fk,
            context=options.context,
            append_only=options.append_only,
            partition_by=options.partition_by,
            retention=options.retention,
        )
    _report(options, "event_table", event_table, f"Events of {options.table} go to {event_table}.")
    return 0


def _untrack(options: argparse.Namespace) -> int:
    with psycopg.connect(options.dsn, autocommit=True) as conn:
        removed = client.untrack(conn, options.table, options.label, options.drop_events)
    _report(
        options, "removed", removed, f"{removed} tracker{'s' * (removed != 1)} of {options.table} removed."
    )
    return 0


def _status(options: argparse.Namespace) -> int:
    with psycopg.connect(options.dsn, autocommit=True) as conn:
        status = client.status(conn)
    if options.json:
        print(json.dumps(asdict(status), ensure_ascii=False, indent=2))
    else:
        print(*sentences(status.installation), sep="\n")
        rows = ((t.table, t.label, t.kind, _fields(t), t.event_table, t.status) for t in status.trackers)
        if status.trackers:
            print("", table(("table", "label", "kind", "fields", "event table", "status"), rows), sep="\n")
        elif status.installation.how:
            print("Nothing is tracked.")
        if status.problems:
            print("", _problems(status.problems), sep="\n")
    return 1 if status.problems or not status.installation.how else 0


def _verify(options: argparse.Namespace) -> int:
    with psycopg.connect(options.dsn, autocommit=True) as conn:
        return _show_problems(options, client.verify(conn))


def _refresh(options: argparse.Namespace) -> int:
    with psycopg.connect(options.dsn, autocommit=True) as conn:
        client.refresh(conn)
        return _show_problems(options, client.verify(conn))


def _show_problems(options: argparse.Namespace, problems: list[models.Problem]) -> int:
    if options.json:
        for problem in problems:
            print(json.dumps(asdict(problem), ensure_ascii=False))
    else:
        print(_problems(problems) if problems else "All is well.")
    return 1 if problems else 0


def _problems(problems: list[models.Problem]) -> str:
    rows = ((p.table or "", p.object or "", p.problem, p.hint or "") for p in problems)
    return table(("table", "object", "problem", "what to do"), rows)


def _demo(options: argparse.Namespace) -> int:
    from pyhist import demo  # which brings a server that nothing else needs

    return demo.run(keep=options.keep)


def _report(options: argparse.Namespace, name: str, value: Any, sentence: str | None = None) -> None:
    print(json.dumps({name: value}, ensure_ascii=False) if options.json else sentence or value)


def _fields(tracker: models.TrackerStatus) -> str:
    if tracker.exclude:
        return f"all but {', '.join(tracker.exclude)}"
    return "all" if tracker.fields is None else ", ".join(tracker.fields) or "none"
