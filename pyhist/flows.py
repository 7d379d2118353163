"""What takes several calls: generators that yield each call and are sent its rows."""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import Any

from pyhist import calls, exact_json, installed
from pyhist.calls import Call, Moment, Rows, Stream, as_key, dict_behind
from pyhist.errors import InvalidArgumentError, NotFoundError, NotSupportedError
from pyhist.models import Difference, RecordedEvent, Status, Version


def status() -> Generator[Call[Any], Rows, Status]:
    """What is tracked, and what is wrong with it: `trackers` and `verify`; and how pghistory is installed."""
    installation = yield from installed.installation()
    if installation.how is None:
        return Status([], [], installation)
    tracked = yield from calls.trackers()
    problems = yield from calls.verify()
    return Status(tracked, problems, installation)


def as_of(table: str, at: Moment, obj: Any = None) -> Generator[Call[Any], Rows, Stream[dict[str, Any]]]:
    """A table as it was: `for row in as_of(conn, "users", "2026-01-01")`. Mirrors `pghistory.as_of`.

    The result is an iterator of rows, `{column: value}`, that streams as that of `events` does.

    Args:
        table: its name, as SQL would write it.
        at: when; text as PostgreSQL reads it.
        obj: the key of the only object to look at; a mapping from columns to values for a key of several
            columns.

    Raises:
        HistoryError: the server refuses, such as for times about which too little was kept; raised when the
            iteration begins.
    """
    row_type = yield from _row_type(table)
    return Stream(
        f"SELECT * FROM pghistory.as_of(NULL::{row_type}, %s::timestamptz, %s::text)",
        (at, as_key(obj)),
        lambda row: row[0],
        dict_behind(0),
    )


def versions(table: str, obj: Any) -> Generator[Call[Any], Rows, list[Version]]:
    """Every version of one object, oldest first. Mirrors `pghistory.versions`.

    Args:
        table: its table's name, as SQL would write it.
        obj: its key; a mapping from columns to values for a key of several columns.

    Raises:
        HistoryError: the server refuses, such as where too little was kept.
    """
    row_type = yield from _row_type(table)
    return (
        yield from Call(
            f"""SELECT valid, label, context_id, (version).*
                  FROM pghistory.versions(NULL::{row_type}, %s::text)""",
            (as_key(obj),),
            lambda rows: [Version(*row) for row in rows],
            dict_behind(3),
        )
    )


def revert(event: RecordedEvent | str) -> Generator[Call[Any], Rows, dict[str, Any]]:
    """Puts an object back to what an event says, inserting it again if it is gone.

    Mirrors `pghistory.revert`. What it does is recorded as any other change.

    Args:
        event: an event, or its slug: `<event table>:<pgh_id>`.

    Returns:
        The row as it is now, as JSON has it; numbers with a fraction are decimals.

    Raises:
        NotFoundError: there is no such event.
        InvalidArgumentError: it is no slug.
        HistoryError: the server refuses, such as for event tables without all columns.
    """
    slug = event if isinstance(event, str) else event.slug
    event_table, _, number = slug.rpartition(":")
    if not event_table or not (number.isascii() and number.isdigit()):
        raise InvalidArgumentError(
            f'"{slug}" does not name an event', hint="Name it by its slug, such as users_event:42."
        )
    name = yield from _row_type(event_table)
    rows = yield from Call(
        f"SELECT pghistory.revert(e)::text FROM {name} AS e WHERE e.pgh_id = %s::bigint",
        (number,),
        lambda rows: [exact_json.loads(row) for (row,) in rows],
    )
    if not rows:
        raise NotFoundError(f"there is no event {slug}", hint="Events may have been pruned, or deleted.")
    row: dict[str, Any] = rows[0]
    return row


def backfill_in_batches(
    table: str,
    label: str | None = None,
    batch_pages: int = 1000,
    report: Callable[[int, int, int], None] = lambda done, pages, events: None,
) -> Generator[Call[Any], Rows, int]:
    """Does what `backfill` does a few pages at a time: each is a transaction of its own in autocommit.

    Args:
        table: as for `backfill`.
        label: as for `backfill`.
        batch_pages: how many pages at a time, at least 1.
        report: is told, before each batch and in the end, how many pages are done, how many there are, and
            how many events have been written.

    Returns:
        How many events were written.
    """
    partitions = yield from _partitions(table)
    pages = sum(size for _, size in partitions)
    done = written = 0
    for partition, size in partitions:
        for start in range(0, size, batch_pages):
            batch = range(start, min(start + batch_pages, size))
            report(done, pages, written)
            written += yield from calls.backfill(partition, label, batch)
            done += len(batch)
    report(done, pages, written)
    # What these pages do not have: rows written since, and those of foreign or inherited tables.
    written += yield from calls.backfill(table, label)
    report(pages, pages, written)
    return written


def rows_as_of(
    table: str, at: Moment, obj: Any = None, where: str | None = None
) -> Generator[Call[Any], Rows, Stream[dict[str, Any]]]:
    """The rows of `as_of` as JSON has them: numbers with a fraction are decimals.

    Args:
        table: as for `as_of`.
        at: as for `as_of`.
        obj: as for `as_of`.
        where: an SQL condition over the table's columns; None for all rows.
    """
    row_type = yield from _row_type(table)
    condition = f" WHERE ({where}\n)".replace("%", "%%") if where else ""
    return Stream(
        f"""SELECT row_to_json(t)::text
              FROM pghistory.as_of(NULL::{row_type}, %s::timestamptz, %s::text) AS t{condition}""",
        (at, as_key(obj)),
        lambda row: exact_json.loads(row[0]),
    )


def differences(
    table: str, earlier: Moment, later: Moment, obj: Any = None
) -> Generator[Call[Any], Rows, Stream[Difference]]:
    """What is different in a table, or one object of it, at two times; in the order of keys.

    Args:
        table: its name, as SQL would write it.
        earlier: one time; text as PostgreSQL reads it.
        later: the other.
        obj: the key of the only object to look at.

    Raises:
        HistoryError: as for `as_of`; and where no tracker of the table names objects.
    """
    row_type = yield from _row_type(table)
    names = yield from _key(table)
    key = ", ".join('"{}"'.format(name.replace('"', '""').replace("%", "%%")) for name in names)

    def difference(row: tuple[Any, ...]) -> Difference:
        before, after = map(exact_json.loads, row)
        obj = _obj(names, after or before)
        if before is None or after is None:
            return Difference(table, obj, "INSERT" if after else "DELETE", None, before, after)
        changes = {
            name: [before[name], value]
            for name, value in after.items()
            if exact_json.dumps(before[name]) != exact_json.dumps(value)
        }
        return Difference(table, obj, "UPDATE", changes, before, after)

    return Stream(
        f"""SELECT row_to_json(a)::text, row_to_json(b)::text
              FROM pghistory.as_of(NULL::{row_type}, %s::timestamptz, %s::text) AS a
                   FULL JOIN pghistory.as_of(NULL::{row_type}, %s::timestamptz, %s::text) AS b USING ({key})
             WHERE (a *= b) IS NOT TRUE
             ORDER BY {key}""",
        (earlier, as_key(obj), later, as_key(obj)),
        difference,
    )


def _row_type(table: str) -> Generator[Call[Any], Rows, str]:
    """The name of a table and of its rows' type, for any search_path and fit to be part of a call's SQL."""
    rows: Rows = yield Call(
        """SELECT format('%%I.%%I', n.nspname, c.relname)
             FROM pg_catalog.pg_class AS c JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
            WHERE c.oid = %s::regclass""",
        (table,),
        list,
    )
    name: str = rows[0][0]
    return name.replace("%", "%%")


def _partitions(table: str) -> Generator[Call[Any], Rows, list[tuple[str, int]]]:
    """What holds the rows of a table, itself or its partitions, and how many pages of them."""
    return (
        yield from Call(
            """SELECT format('%%I.%%I', n.nspname, c.relname),
                      pg_catalog.pg_relation_size(c.oid) / pg_catalog.current_setting('block_size')::bigint
                 FROM (SELECT relid FROM pg_catalog.pg_partition_tree(%s::regclass) WHERE isleaf
                       UNION SELECT %s::regclass) AS part
                      JOIN pg_catalog.pg_class AS c ON c.oid = part.relid
                      JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
                WHERE c.relkind = 'r'
                ORDER BY c.oid""",
            (table, table),
            lambda rows: rows,
        )
    )


def _key(table: str) -> Generator[Call[Any], Rows, list[str]]:
    """The columns that name the objects of a tracked table."""
    rows: Rows = yield Call(
        """SELECT obj_key FROM pghistory.trackers()
            WHERE "table" = %s::regclass AND obj_key <> '{}'
            ORDER BY kind = 'history' DESC, label LIMIT 1""",
        (table,),
        list,
    )
    if not rows:
        raise NotSupportedError(
            f"no tracker of {table} names its rows", hint="Two times can be compared where rows have a key."
        )
    names: list[str] = rows[0][0]
    return names


def _obj(names: list[str], row: dict[str, Any]) -> str:
    """The key of a row as text, as `RecordedEvent.object`."""
    if len(names) > 1:
        return exact_json.dumps({name: row[name] for name in names})
    value = row[names[0]]
    return value if isinstance(value, str) else exact_json.dumps(value)
