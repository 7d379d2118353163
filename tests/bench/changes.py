"""Events that hold only what an update changed, written by hand: what they would save, and what looking back would cost.

Events of inserts hold the whole row. Those of updates say in `pgh_changed`, a bit for each column, what they hold.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator

from measure import Amount, Cost, Result, cost, measure, read_amount
from recorders import Connection, Recorder, event_insert, like_ours, prepare, schema_of
from shapes import WIDE, Shape, Write, rows
from sizes import SIZES
from storage import CONTENTS, DOCUMENT, VALUE_SIZES

from pyhist.server import Server

WHOLE, CHANGES = "the whole row", "only what changed"
CHANGED = ("customer", "amount", "note", "column_0")  # by one update after the other


def begin(connection: Connection, shape: Shape) -> None:
    like_ours(connection)
    connection.execute("ALTER TABLE item_event ADD COLUMN pgh_changed varbit")


RECORDERS = (Recorder(WHOLE, "whole", begin), Recorder(CHANGES, "changes", begin))


def update(shape: Shape, recorder: Recorder, column: str) -> str:
    """The update of a column in every row, with its event."""
    write = Write("U", f"UPDATE item SET {column} = {'note' if column == 'note' else f'{column} + 1'}")
    if recorder.name == WHOLE:
        event = event_insert(shape, "U", "written")
    else:
        bits = "".join("1" if name == column else "0" for name in shape.columns)
        event = event_insert(shape, "U", "written", {column: column, "pgh_changed": f"B'{bits}'"})
    return f"WITH written AS ({write.text} RETURNING *) {event}"


def as_it_was(shape: Shape, recorder: Recorder) -> str:
    """The table as it was a moment ago."""
    if recorder.name == WHOLE:
        return (
            f"SELECT {shape.names} FROM (SELECT DISTINCT ON (pgh_obj_id) * FROM item_event "
            "WHERE pgh_created_at <= now() ORDER BY pgh_obj_id, pgh_id DESC) AS e"
        )
    columns = ", ".join(
        f"(array_agg({name} ORDER BY pgh_id DESC) "
        f"FILTER (WHERE pgh_changed IS NULL OR get_bit(pgh_changed, {position}) = 1))[1] AS {name}"
        for position, name in enumerate(shape.columns)
    )
    return f"SELECT pgh_obj_id AS id, {columns} FROM item_event WHERE pgh_created_at <= now() GROUP BY pgh_obj_id"


def fill(connection: Connection, shape: Shape, row_source: str) -> None:
    connection.execute("TRUNCATE item, item_event")
    inserted = f"INSERT INTO item ({shape.names}) {row_source} RETURNING *"
    connection.execute(f"WITH written AS ({inserted}) {event_insert(shape, 'I', 'written')}".encode())


def updated(server: Server, shape: Shape, row_source: str, recorder: Recorder) -> Cost:
    with schema_of(server, shape, recorder) as connection:
        fill(connection, shape, row_source)
        connection.execute("CHECKPOINT")
        return cost(connection, update(shape, recorder, "amount"))


def bytes_of_event(connection: Connection, shape: Shape, row_source: str, recorder: Recorder) -> float:
    """Of an update of one column."""
    fill(connection, shape, row_source)
    before = read_amount(connection, "SELECT pg_table_size('item_event')")
    connection.execute(update(shape, recorder, "amount").encode())
    after = read_amount(connection, "SELECT pg_table_size('item_event')")
    return (after - before) / read_amount(connection, "SELECT count(*) FROM item")


def asked(server: Server, recorder: Recorder) -> Cost:
    with schema_of(server, WIDE, recorder) as connection:
        return cost(connection, f"SELECT count(*) FROM ({as_it_was(WIDE, recorder)} OFFSET 0) AS t")


def run(server: Server) -> Iterator[Result | Amount]:
    document = CONTENTS["incompressible"].format(bytes=VALUE_SIZES["10 kB"])
    wide_rows = rows(WIDE, 1, SIZES.storage_rows)
    documents = f"SELECT i, 0, {document} FROM generate_series(1, {SIZES.large_values * 50}) AS i"
    for shape, row_source in ((WIDE, wide_rows), (DOCUMENT, documents)):
        prepare(server, shape, RECORDERS)
        yield from measure(
            f"changes: an update of one column, {shape.name}",
            {each.name: functools.partial(updated, server, shape, row_source, each) for each in RECORDERS},
            {CHANGES: WHOLE},
            SIZES.large_value_rounds,
        )
        for recorder in RECORDERS:
            with schema_of(server, shape, recorder) as connection:
                taken = bytes_of_event(connection, shape, row_source, recorder)
            yield Amount(
                f"changes: an event of one column, {shape.name}", recorder.name, round(taken, 1), "bytes"
            )
    for recorder in RECORDERS:
        with schema_of(server, WIDE, recorder) as connection:
            fill(connection, WIDE, wide_rows)
            for column in CHANGED:
                connection.execute(update(WIDE, recorder, column).encode())
            connection.execute("VACUUM ANALYZE item_event")
            differing = f"SELECT count(*) FROM ({as_it_was(WIDE, recorder)} EXCEPT TABLE item) AS t"
            assert read_amount(connection, differing) == 0
    yield from measure(
        f"changes: {SIZES.storage_rows:,} rows of 40 columns as they were, from {len(CHANGED) + 1} events each",
        {each.name: functools.partial(asked, server, each) for each in RECORDERS},
        {CHANGES: WHOLE},
        SIZES.large_value_rounds,
    )
