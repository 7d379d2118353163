"""Bytes for each event, and what large values cost that an update leaves as they are."""

from __future__ import annotations

import functools
from collections.abc import Iterator

import peers
import psycopg
from measure import Amount, Cost, Result, cost, measure_all, read_amount, session
from recorders import OURS, Recorder, limit, ours, prepare, schema_of, untracked
from shapes import NARROW, WIDE, Shape, Write, rows
from sizes import SIZES

from pyhist.server import Server

UPDATE = Write("U", "UPDATE item SET amount = amount + 1")
EVENTS_SIZE = "pg_table_size('item_event')"
INDEXES_SIZE = "pg_indexes_size('item_event')"
OBJECT_INDEX_SIZE = """
    SELECT COALESCE(sum(pg_relation_size(indexrelid)), 0) FROM pg_index
     WHERE indrelid = 'item_event'::regclass AND NOT indisprimary AND indpred IS NULL"""

# How many bytes, how they are kept, and what they are.
VALUE_SIZES = {"10 kB": 10_000, "1 MB": 1_000_000}
KEPT = {
    "extended, pglz": "STORAGE EXTENDED, ALTER COLUMN document SET COMPRESSION pglz",
    "extended, lz4": "STORAGE EXTENDED, ALTER COLUMN document SET COMPRESSION lz4",
    "external": "STORAGE EXTERNAL",
}
CONTENTS = {
    "incompressible": "(SELECT string_agg(encode(sha512((i || ' ' || n)::bytea), 'base64'), '')"
    " FROM generate_series(1, {bytes} / 89 + 1) AS n)",
    "compressible": "repeat('The quick brown fox ' || i || ' jumps over the lazy dog. ', {bytes} / 48)",
}


def bytes_of_events(server: Server, recorder: Recorder, shape: Shape) -> Iterator[Amount]:
    """Of the events of updates."""
    with schema_of(server, shape, recorder) as connection:
        recorder.fill(connection, f"INSERT INTO item ({shape.names}) {rows(shape, 1, SIZES.storage_rows)}")
        connection.execute(recorder.text(shape, UPDATE).encode())
        count = read_amount(connection, "SELECT count(*) FROM item_event")
        for what, query in (
            ("table", f"SELECT {EVENTS_SIZE}"),
            ("object's index", OBJECT_INDEX_SIZE),
            ("all indexes", f"SELECT {INDEXES_SIZE}"),
        ):
            size = read_amount(connection, query)
            note = (
                "" if count == SIZES.storage_rows else f"{count / SIZES.storage_rows:g} events for an update"
            )
            yield Amount(
                f"bytes for an update, {shape.name}, {what}",
                recorder.name,
                round(size / SIZES.storage_rows, 1),
                "bytes",
                note=note,
            )


def large_value(server: Server, recorder: Recorder) -> Cost:
    """An update of each row that leaves the large value alone."""
    with schema_of(server, DOCUMENT, recorder) as connection:
        recorder.empty_events(connection)
        connection.execute("VACUUM item")
        connection.execute("CHECKPOINT")
        # Once before, so that functions are compiled and plans are made: these rows are few.
        connection.execute(recorder.text(DOCUMENT, UPDATE).encode(), prepare=False)
        return cost(connection, recorder.text(DOCUMENT, UPDATE)).each(SIZES.large_values)


DOCUMENT = Shape("document", {"amount": NARROW.columns["amount"], "document": ("text", "''")})


def large_values(server: Server) -> Iterator[Result | Amount]:
    """In each way to keep them that the server was built with."""
    recorders = [untracked, limit, *(ours(name) for name in OURS), *peers.of_django(server)]
    prepare(server, DOCUMENT, recorders)
    for size in SIZES.value_sizes:
        for content, text in CONTENTS.items():
            with session(server) as connection:
                made = text.format(bytes=VALUE_SIZES[size])
                connection.execute("DROP TABLE IF EXISTS made")
                connection.execute(
                    f"CREATE TABLE made AS SELECT i AS id, 0 AS amount, {made} AS document "
                    f"FROM generate_series(1, {SIZES.large_values}) AS i".encode()
                )
            for kept, change in KEPT.items():
                try:
                    for recorder in recorders:
                        with schema_of(server, DOCUMENT, recorder) as connection:
                            # What is kept how concerns no tracker: nobody's event triggers need to look.
                            connection.execute("SET session_replication_role TO replica")
                            for table in ("item", "item_event")[: 1 + recorder.keeps_events]:
                                connection.execute(
                                    f"ALTER TABLE {table} ALTER COLUMN document SET {change}".encode()
                                )
                            # Computed, so that the values are kept as the column says, and not as they were.
                            recorder.fill(
                                connection, "INSERT INTO item SELECT id, amount, document || '' FROM made"
                            )
                except psycopg.errors.FeatureNotSupported:
                    continue
                title = f"unchanged {size}, {content}, {kept}"
                variants = {each.name: functools.partial(large_value, server, each) for each in recorders}
                compared = peers.compared(recorders)
                yield from measure_all({title: variants}, compared, SIZES.large_value_rounds, unit="µs")
                for recorder in recorders[1:]:
                    with schema_of(server, DOCUMENT, recorder) as connection:
                        taken = read_amount(
                            connection, f"SELECT {EVENTS_SIZE} / (SELECT count(*) FROM item_event)"
                        )
                    yield Amount(title, recorder.name, round(taken), "bytes")


def run(server: Server) -> Iterator[Result | Amount]:
    recorders = [*peers.with_same_tables(server)[1:], *peers.with_own_tables(server)]
    for shape in (NARROW, WIDE):
        prepare(server, shape, recorders)
        for recorder in recorders:
            yield from bytes_of_events(server, recorder, shape)
    yield from large_values(server)
