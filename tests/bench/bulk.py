"""Statements that write many rows, each in a session of its own, and COPY."""

from __future__ import annotations

import functools
from collections.abc import Iterator

import peers
from measure import Cost, Result, cost, measure_all
from recorders import LIMIT, Recorder, event_insert, prepare, schema_of
from shapes import NARROW, WIDE, Shape, bulk_writes, rows
from single_rows import WITHOUT_EVENTS
from sizes import SIZES

from pyhist.server import Server

COPY = "COPY"


def file_of(server: Server, shape: Shape) -> str:
    """The file that is copied from, on the server."""
    return str(server.folder / f"{shape.name}.rows")


def statement(server: Server, recorder: Recorder, shape: Shape, name: str, count: int) -> str:
    if name != COPY:
        return recorder.text(shape, bulk_writes(shape, count)[name])
    copy = f"COPY item ({shape.names}) FROM '{file_of(server, shape)}'"
    return f"{copy}; {event_insert(shape, 'I', 'item')}" if recorder.name == LIMIT else copy


def measured(server: Server, recorder: Recorder, shape: Shape, name: str) -> Cost:
    """The cost of one of the writes, which come one after the other."""
    with schema_of(server, shape, recorder) as connection:
        if name in ("insert", COPY):
            recorder.empty(connection)
            connection.execute("CHECKPOINT")
        connection.execute("VACUUM item")
    with schema_of(server, shape, recorder) as connection:
        return cost(connection, statement(server, recorder, shape, name, SIZES.rows))


def workloads(
    server: Server, recorders: list[Recorder], shape: Shape, rounds: int, more: str = ""
) -> Iterator[Result]:
    with schema_of(server, shape, recorders[0]) as connection:
        connection.execute(f"COPY ({rows(shape, 1, SIZES.rows)}) TO '{file_of(server, shape)}'".encode())
    yield from measure_all(
        {
            f"{SIZES.rows:,} rows, {name}, {shape.name}{more}": {
                recorder.name: functools.partial(measured, server, recorder, shape, name)
                for recorder in recorders
                if not (recorder.name == LIMIT and name in WITHOUT_EVENTS)
            }
            for name in (*bulk_writes(shape, SIZES.rows), COPY)
        },
        peers.compared(recorders),
        rounds,
    )


def run(server: Server) -> Iterator[Result]:
    """Narrow and wide rows, on the same tables; narrow ones also on the tables that peers bring themselves."""
    recorders = peers.with_same_tables(server)
    for shape, rounds in ((NARROW, SIZES.bulk_rounds), (WIDE, SIZES.wide_bulk_rounds)):
        prepare(server, shape, recorders)
        yield from workloads(server, recorders, shape, rounds)
    if own := peers.with_own_tables(server):
        prepare(server, NARROW, own)
        yield from workloads(
            server, [*recorders[:2], *own], NARROW, SIZES.wide_bulk_rounds, ", out of the box"
        )
