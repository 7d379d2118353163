"""Statements that write one row each: in a loop in the server, and through the protocol, prepared and in a pipeline.

The loop is one DO block, the pipeline one transaction. What is said is for each statement.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator

import peers
from measure import Cost, Result, cost, cost_of, measure_all
from recorders import LIMIT, Connection, Recorder, prepare, schema_of
from shapes import NARROW, WIDE, Shape, Write, rows, writes_of_one_row
from sizes import SIZES

from pyhist.server import Server

WARM_UP = 10  # statements that are run before, so that plans are made
WITHOUT_EVENTS = ("no-op update", "update of no row")  # there is nothing to write by hand


def loop(text: str, first: int, last: int) -> str:
    return f"DO $$ BEGIN FOR i IN {first}..{last} LOOP {text}; END LOOP; END $$"


def in_a_loop(connection: Connection, recorder: Recorder, shape: Shape, write: Write) -> Cost:
    text, count = recorder.text(shape, write), SIZES.single_rows
    connection.execute(loop(text, count + 1, count + WARM_UP).encode(), prepare=False)
    return cost(connection, loop(text, 1, count)).each(count)


def through_the_protocol(connection: Connection, recorder: Recorder, shape: Shape, write: Write) -> Cost:
    text, count = (
        recorder.text(shape, write).replace("%", "%%").replace("<i>", "%(i)s::bigint").encode(),
        SIZES.single_rows,
    )
    cursor = connection.cursor()
    with connection.transaction():
        cursor.executemany(text, [{"i": i} for i in range(count + 1, count + WARM_UP + 1)])
    with connection.transaction():
        return cost_of(
            connection, lambda: cursor.executemany(text, [{"i": i} for i in range(1, count + 1)])
        ).each(count)


def measured(server: Server, recorder: Recorder, shape: Shape, name: str, way: str) -> Cost:
    """The cost of one of the writes, which come one after the other."""
    placeholder, run = WAYS[way]
    write = writes_of_one_row(shape, placeholder, SIZES.single_rows)[name]
    with schema_of(server, shape, recorder) as connection:
        if name == "insert":
            recorder.empty(connection)
            connection.execute(
                f"INSERT INTO item ({shape.names}) {rows(shape, 100_001, 100_000 + SIZES.single_rows)}".encode()
            )
            connection.execute("CHECKPOINT")
        connection.execute("VACUUM item")
        return run(connection, recorder, shape, write)


WAYS = {"in a loop": ("i", in_a_loop), "by the protocol": ("<i>", through_the_protocol)}


def workloads(
    server: Server, recorders: list[Recorder], shape: Shape, way: str, more: str = ""
) -> Iterator[Result]:
    def name_of(name: str) -> str:
        return f"one row, {name}, {shape.name}, {way}{more}"

    yield from measure_all(
        {
            name_of(name): {
                recorder.name: functools.partial(measured, server, recorder, shape, name, way)
                for recorder in recorders
                if not (recorder.name == LIMIT and name in WITHOUT_EVENTS)
            }
            for name in writes_of_one_row(shape, "i", 0)
        },
        peers.compared(recorders),
        SIZES.single_row_rounds,
        unit="µs",
    )


def run(server: Server) -> Iterator[Result]:
    """Narrow and wide rows, on the same tables; narrow ones also on the tables that peers bring themselves."""
    recorders = peers.with_same_tables(server)
    for shape, way in ((NARROW, "in a loop"), (NARROW, "by the protocol"), (WIDE, "in a loop")):
        if way == "in a loop":
            prepare(server, shape, recorders)
        yield from workloads(server, recorders, shape, way)
    if own := peers.with_own_tables(server):
        prepare(server, NARROW, own)
        yield from workloads(server, [*recorders[:2], *own], NARROW, "in a loop", ", out of the box")
