"""The commands that look back and go back: `pyhist log | diff | as-of | revert | undo | backfill`."""

from __future__ import annotations

import os
import sys
from argparse import ArgumentParser, ArgumentTypeError, Namespace
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import fields
from itertools import chain, islice
from typing import Any
from uuid import UUID

import psycopg

from pyhist import client, flows
from pyhist.errors import NotFoundError
from pyhist.exact_json import dumps
from pyhist.models import RecordedEvent, UndoStep
from pyhist.tables import cells, fits, narrowed, records, shortened, table, text
from pyhist.terminal import Colour, Progress, Terminal, local_zone

SHOWN = 50  # events on a terminal, unless told otherwise
BATCH = 1000  # rows in a table, before the next one begins

_WORDS = {"I": "insert", "U": "update", "D": "delete", "T": "truncate", "B": "before", "S": "snapshot"}
_COLOURS: dict[str, Colour] = {"insert": "green", "delete": "red", "truncate": "red"}

AddCommand = Callable[[str, Callable[[Namespace], int], str], ArgumentParser]


def add_commands(command: AddCommand) -> None:
    """Adds the commands to a parser; `command(name, function, help)` makes the parser of one."""
    added = command("log", _log, "show what happened, newest first")
    added.add_argument("table", metavar="TABLE", nargs="?", help="a tracked table; all by default")
    added.add_argument("obj", metavar="OBJ", nargs="?", help=_OBJ_HELP)
    added.add_argument("--label", metavar="LABEL", help="only events of this name")
    added.add_argument("--context", type=UUID, metavar="ID", help="only events of this context")
    _add_period(added)
    added.add_argument(
        "--references", action="store_true", help="and the rows whose foreign keys point, or pointed, at OBJ"
    )
    added.set_defaults(usage_error=added.error)

    added = command("diff", _diff, "show what changed, field by field")
    added.add_argument("table", metavar="TABLE", help="a tracked table")
    added.add_argument("obj", metavar="OBJ", nargs="?", help=f"{_OBJ_HELP}; all with --from")
    _add_period(added)
    added.add_argument("--from", dest="earlier", metavar="TIME", help="compare two times: this one")
    added.add_argument("--to", dest="later", metavar="TIME", help="with this one, now by default")
    added.set_defaults(usage_error=added.error)

    added = command("as-of", _as_of, "show a table, or one of its rows, as it was")
    added.add_argument("table", metavar="TABLE", help="a tracked table")
    added.add_argument("at", metavar="TIME", help="when, as PostgreSQL reads it: '2026-01-01 12:00'")
    added.add_argument("obj", metavar="OBJ", nargs="?", help=_OBJ_HELP)
    added.add_argument("--where", metavar="SQL", help="only rows that meet this condition")

    added = command("revert", _revert, "put a row back to what an event says")
    added.add_argument("slug", metavar="EVENT", help="an event, as log shows it: users_event:42")

    added = command("undo", _undo, "take back what a context or a transaction did")
    what = added.add_mutually_exclusive_group(required=True)
    what.add_argument("context_id", type=UUID, metavar="CONTEXT", nargs="?", help="the context's id")
    what.add_argument("--transaction", type=int, metavar="XID", help="number of the transaction")
    added.add_argument("--dry-run", action="store_true", help="only show what would be done")
    added.add_argument("--force", action="store_true", help="go on where rows have changed since")

    added = command("backfill", _backfill, "write an event for each row that has none yet")
    added.add_argument("table", metavar="TABLE", help="a tracked table")
    added.add_argument(
        "label", metavar="LABEL", nargs="?", help="name of the events; by default that of the table's tracker"
    )
    added.add_argument(
        "--batch-pages",
        type=_positive,
        default=1000,
        metavar="N",
        help="pages of the table (of 8 kB) in one transaction (%(default)s by default)",
    )


_OBJ_HELP = "key of a row; a JSON object for a key of several columns"


def _add_period(added: ArgumentParser) -> None:
    added.add_argument("--since", metavar="TIME", help="only events then or later")
    added.add_argument("--until", metavar="TIME", help="only events before")
    added.add_argument(
        "--limit",
        type=_limit,
        metavar="N",
        default=0,
        help=f"only the newest N; 'all' for all of them ({SHOWN} by default on a terminal, else all)",
    )


def _positive(number: str) -> int:
    if not number.isascii() or not number.isdigit() or int(number) == 0:
        raise ArgumentTypeError(f"{number!r} is not a number above 0")
    return int(number)


def _limit(number: str) -> int | None:
    return None if number == "all" else _positive(number)


def _connect(options: Namespace) -> psycopg.Connection[Any]:
    """A connection on which times are read and shown in the user's zone, if the server knows it."""
    conn = psycopg.connect(options.dsn, autocommit=True)
    if (zone := local_zone()) and "PGTZ" not in os.environ:
        with suppress(psycopg.DataError):
            conn.execute("SELECT set_config('TimeZone', %s, false)", [zone])
    return conn


def _log(options: Namespace) -> int:
    if options.references and options.obj is None:
        options.usage_error("--references needs TABLE and OBJ")
    return _show_events(options, _event_summary)


def _diff(options: Namespace) -> int:
    if options.earlier is not None:
        return _compare(options)
    if options.later is not None:
        options.usage_error("--to needs --from")
    if options.obj is None:
        options.usage_error("OBJ is needed, or --from for the whole table at two times")
    options.label = options.context = None
    options.references = False
    return _show_events(options, _event_details)


def _show_events(options: Namespace, paragraph: Callable[[RecordedEvent, Terminal], Iterable[str]]) -> int:
    terminal = Terminal.of(sys.stdout)
    limit = options.limit
    if limit == 0:
        limit = SHOWN if terminal.width and not options.json else None
    look = client.references if options.references else client.events
    with _connect(options) as conn:
        events = look(
            conn,
            options.table,
            options.obj,
            label=options.label,
            context_id=options.context,
            since=options.since,
            until=options.until,
            max_rows=None if limit is None else limit + 1,
        )
        for number, event in enumerate(events):
            if number == limit:
                if not options.json and terminal.width:
                    print(terminal.paint("There are older events: see --limit, --until.", "dim"))
                break
            if options.json:
                print(_json(event))
            else:
                print(*paragraph(event, terminal), sep="\n", end="\n\n" if terminal.width else "\n")
    return 0


def _event_head(event: RecordedEvent, terminal: Terminal) -> str:
    """The line that says what an event is."""
    word = _WORDS.get(event.operation, event.operation)
    what = f"{event.table or '(dropped table)'} {text(event.object or '')}".strip()
    return "  ".join(
        [
            f"{event.created_at:%Y-%m-%d %H:%M:%S}",
            terminal.paint(f"{word:8}", _COLOURS.get(word, "yellow")),
            terminal.paint(shortened(what, terminal.width), "bold"),
            text(event.label),
            terminal.paint(event.slug, "cyan"),
        ]
    )


def _event_summary(event: RecordedEvent, terminal: Terminal) -> Iterator[str]:
    yield _event_head(event, terminal)
    if event.diff:
        yield _line(event.diff.items(), terminal)
    elif event.diff is None or event.operation in "DT":
        yield _line(((name, [value]) for name, value in event.data.items()), terminal)
    yield from _event_context(event, terminal)


def _event_details(event: RecordedEvent, terminal: Terminal) -> Iterator[str]:
    yield _event_head(event, terminal)
    yield f"    transaction {event.xid}"
    yield from _event_context(event, terminal)
    if event.diff:
        yield from _changes(event.diff, terminal)
    elif event.diff is None or event.operation in "DT":
        yield from _values(event.data, "red" if event.operation in "DT" else "green", terminal)


def _event_context(event: RecordedEvent, terminal: Terminal) -> Iterator[str]:
    if event.context_id is not None:
        said = ", ".join(f"{text(key)}: {text(value)}" for key, value in (event.context or {}).items())
        yield terminal.paint(
            shortened(f"    context {event.context_id}  {said}".rstrip(), terminal.width), "dim"
        )


def _line(pairs: Iterable[tuple[str, list[Any]]], terminal: Terminal) -> str:
    """Names with one value, or two, on one line: long values are shortened, then the list, until it fits."""
    parts = [(f"{text(name)}: ", [text(value) for value in values]) for name, values in pairs]
    widths = [cells(value) for _, values in parts for value in values]
    if terminal.width:
        others = 4 + sum(cells(name) + 2 + 4 * (len(values) - 1) for name, values in parts)
        widths = narrowed(widths, terminal.width - others)
    each = iter(widths)
    line, taken = "", 2
    for name, values in parts:
        shown = [shortened(value, next(each)) for value in values]
        taken += 2 + cells(name) + sum(map(cells, shown)) + 4 * (len(shown) - 1)
        if terminal.width and taken > terminal.width - 5 * (name != parts[-1][0]):
            return f"    {line}..."
        line += f"{name}{_arrow(shown, terminal)}, "
    return f"    {line.removesuffix(', ')}"


def _arrow(values: list[str], terminal: Terminal) -> str:
    if len(values) == 1:
        return values[0]
    return f"{terminal.paint(values[0], 'red')} -> {terminal.paint(values[1], 'green')}"


def _changes(changes: dict[str, list[Any]], terminal: Terminal) -> Iterator[str]:
    """A line for each field: what it was and what it became."""
    column = max(cells(text(name)) for name in changes)
    for name, values in changes.items():
        shown = [text(value) for value in values]
        if terminal.width:
            widths = narrowed([cells(value) for value in shown], terminal.width - column - 10)
            shown = list(map(shortened, shown, widths))
        yield f"    {_padded(name, column)}  {_arrow(shown, terminal)}"


def _values(row: dict[str, Any], colour: Colour, terminal: Terminal) -> Iterator[str]:
    """A line for each field: what it is, or was."""
    column = max((cells(text(name)) for name in row), default=0)
    room = terminal.width - column - 6 if terminal.width else None
    for name, value in row.items():
        yield f"    {_padded(name, column)}  {terminal.paint(shortened(text(value), room), colour)}".rstrip()


def _padded(name: str, column: int) -> str:
    return text(name) + " " * (column - cells(text(name)))


def _compare(options: Namespace) -> int:
    terminal = Terminal.of(sys.stdout)
    with _connect(options) as conn:
        found = client.iterate(
            conn, flows.differences(options.table, options.earlier, options.later or "now", options.obj)
        )
        for difference in found:
            if options.json:
                print(_json(difference))
                continue
            word = difference.action.lower()
            colour = _COLOURS.get(word, "yellow")
            what = shortened(f"{difference.table} {text(difference.obj)}", terminal.width)
            print(f"{terminal.paint(f'{word:8}', colour)}  {terminal.paint(what, 'bold')}")
            if difference.changes is not None:
                print(*_changes(difference.changes, terminal), sep="\n")
            else:
                print(*_values(difference.after or difference.before or {}, colour, terminal), sep="\n")
    return 0


def _as_of(options: Namespace) -> int:
    width = Terminal.of(sys.stdout).width
    with _connect(options) as conn:
        rows = client.iterate(conn, flows.rows_as_of(options.table, options.at, options.obj, options.where))
        if options.json:
            for row in rows:
                print(dumps(row))
            return 0
        first = next(rows, None)
        if first is None:
            print("No rows.")
            return 0
        heads = [text(name) for name in first]
        show = table if fits(heads, width) else records
        rest = chain([first], rows)
        while batch := [list(map(text, row.values())) for row in islice(rest, BATCH)]:
            print(show(heads, batch, width=width))
    return 0


def _revert(options: Namespace) -> int:
    with _connect(options) as conn:
        row = client.revert(conn, options.slug)
    if options.json:
        print(dumps({"event": options.slug, "row": row}))
    else:
        terminal = Terminal.of(sys.stdout)
        print(f"The row is what it was in {options.slug}:", *_values(row, "green", terminal), sep="\n")
    return 0


def _undo(options: Namespace) -> int:
    what = f"context {options.context_id}" if options.context_id else f"transaction {options.transaction}"
    nothing = NotFoundError(
        f"there is nothing to take back of {what}",
        hint="Only what was done to tables whose history is kept can be taken back.",
    )
    with _connect(options) as conn:
        if options.dry_run:
            if options.context_id:
                steps = client.undo_plan(conn, options.context_id)
            else:
                steps = client.undo_transaction_plan(conn, options.transaction)
            if not steps:
                raise nothing
            return _show_plan(options, steps)
        with conn.transaction():
            context_id = client.set_context(conn)
            if options.context_id:
                undone = client.undo(conn, options.context_id, options.force)
            else:
                undone = client.undo_transaction(conn, options.transaction, options.force)
    if not undone:
        raise nothing
    if options.json:
        print(dumps({"undone": undone, "context_id": context_id}))
    else:
        print(f"{undone} change{'s' * (undone != 1)} of {what} taken back.")
        print(f"To have {'them' if undone != 1 else 'it'} again: pyhist undo {context_id}")
    return 0


def _show_plan(options: Namespace, steps: list[UndoStep]) -> int:
    if options.json:
        for step in steps:
            print(_json(step))
    else:
        heads = ("step", "action", "row", "changes", "takes back", "conflict")
        rows = [
            (
                str(step.step),
                step.action,
                f"{step.table} {text(step.obj or '')}".strip(),
                ", ".join(_planned(step)),
                step.event,
                text(step.conflict or ""),
            )
            for step in steps
        ]
        print(table(heads, rows, width=Terminal.of(sys.stdout).width))
    return 1 if any(step.conflict for step in steps) and not options.force else 0


def _planned(step: UndoStep) -> Iterator[str]:
    """What becomes of each field; of a row that comes or goes, what it is."""
    for name, (now, then) in (step.changes or {}).items():
        said = {"DELETE": text(now), "INSERT": text(then)}.get(step.action, f"{text(now)} -> {text(then)}")
        yield f"{text(name)}: {said}"


def _backfill(options: Namespace) -> int:
    progress = Progress()
    with _connect(options) as conn:
        try:
            written = client.run(
                conn,
                flows.backfill_in_batches(options.table, options.label, options.batch_pages, progress.report),
            )
        finally:
            progress.end()
    if options.json:
        print(dumps({"written": written}))
    else:
        print(f"{written:,} event{'s' * (written != 1)} of {options.table} written.")
    return 0


def _json(item: Any) -> str:
    """A value of a dataclass as one line of JSON, with all its fields."""
    return dumps({field.name: getattr(item, field.name) for field in fields(item)})
