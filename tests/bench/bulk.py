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


def measured(server: Server, recorder: Recorder, shape: Shape, name: str, count: int) -> Cost:
    """The cost of one of the writes, which come one after the other."""
    with schema_of(server, shape, recorder) as connection:
        if name in ("insert", COPY):
            recorder.empty(connection)
            connection.execute("CHECKPOINT")
        connection.execute("VACUUM item")
    with schema_of(server, shape, recorder) as connection:
        return cost(connection, statement(server, recorder, shape, name, count))


def workloads(
    server: Server, recorders: list[Recorder], shape: Shape, count: int, more: str = ""
) -> Iterator[Result]:
    with schema_of(server, shape, recorders[0]) as connection:
        connection.execute(f"COPY ({rows(shape, 1, count)}) TO '{file_of(server, shape)}'".encode())
    yield from measure_all(
        {
            f"{count:,} rows, {name}, {shape.name}{more}": {
                recorder.name: functools.partial(measured, server, recorder, shape, name, count)
                for recorder in recorders
                if not (recorder.name == LIMIT and name in WITHOUT_EVENTS)
            }
            for name in (*bulk_writes(shape, count), COPY)
        },
        peers.compared(recorders),
        SIZES.bulk_rounds,
    )


def run(server: Server) -> Iterator[Result]:
    """Narrow and wide rows, on the same tables; fewer of them by the peers that take ten times as long, and by
    all peers on the tables that they bring themselves."""
    recorders = peers.with_same_tables(server, debian=False)
    for shape, count in ((NARROW, SIZES.rows), (WIDE, SIZES.fewer_rows)):
        prepare(server, shape, recorders)
        yield from workloads(server, recorders, shape, count)
    if more := [*peers.of_debian(server), *peers.with_own_tables(server)]:
        prepare(server, NARROW, more)
        yield from workloads(server, [*recorders[:2], *more], NARROW, SIZES.fewer_rows, ", other peers")
