"""Several trackers on a table, a condition that is rarely true, and partitioned tables."""

from __future__ import annotations

import functools
from collections.abc import Iterator

import django_pghistory
from measure import Cost, Result, cost, measure_all
from recorders import (
    LIMIT,
    OURS,
    UNTRACKED,
    Connection,
    Recorder,
    limit,
    ours,
    prepare,
    schema_of,
    track,
    untracked,
)
from shapes import NARROW, Shape, bulk_writes, rows, writes_of_one_row
from single_rows import WARM_UP, loop
from sizes import SIZES

from pyhist.server import Server

PARTITIONS = 8


def several(count: int) -> Recorder:
    """So many trackers, with an event table together."""

    def begin(connection: Connection, shape: Shape) -> None:
        for number in range(count):
            track(connection, "auto", kind="snapshot", label=f"item.{number}")

    return Recorder(f"{count} tracker{'s' if count > 1 else ''}", f"trackers_{count}", begin)


def rare(level: str) -> Recorder:
    """A tracker whose condition is true of no row that is written here."""

    def begin(connection: Connection, shape: Shape) -> None:
        track(connection, level, kind="after_update", condition=f"new.amount > {django_pghistory.RARE}")

    return Recorder(f"pghistory, {level}", f"rare_{level}", begin)


def one_row(server: Server, recorder: Recorder, name: str) -> Cost:
    count = SIZES.single_rows
    write = writes_of_one_row(NARROW, "i", count)[name]
    with schema_of(server, NARROW, recorder) as connection:
        if name == "insert":
            recorder.empty(connection)
            connection.execute(
                f"INSERT INTO item ({NARROW.names}) {rows(NARROW, 100_001, 100_000 + SIZES.single_rows)}".encode()
            )
            connection.execute("CHECKPOINT")
        connection.execute("VACUUM ANALYZE item")
        connection.execute(loop(recorder.text(NARROW, write), count + 1, count + WARM_UP).encode())
        return cost(connection, loop(recorder.text(NARROW, write), 1, count)).each(count)


def many_rows(server: Server, recorder: Recorder, name: str) -> Cost:
    write = bulk_writes(NARROW, SIZES.sequence_rows)[name]
    with schema_of(server, NARROW, recorder) as connection:
        if name == "insert":
            recorder.empty(connection)
            connection.execute("CHECKPOINT")
        connection.execute("VACUUM ANALYZE item")
    with schema_of(server, NARROW, recorder) as connection:
        return cost(connection, recorder.text(NARROW, write))


def written(
    server: Server, title: str, recorders: list[Recorder], writes: tuple[str, ...], compared: dict[str, str]
) -> Iterator[Result]:
    """The writes of one row and of many, by each of the recorders; `insert` is one of them, and the first."""
    for unit, size, run, rounds in (
        ("µs", "one row", one_row, SIZES.single_row_rounds),
        ("ms", f"{SIZES.sequence_rows:,} rows", many_rows, SIZES.bulk_rounds),
    ):
        workloads = {
            f"{title}: {size}, {name}": {
                each.name: functools.partial(run, server, each, name) for each in recorders
            }
            for name in writes
        }
        yield from measure_all(workloads, compared, rounds, unit=unit)


def run(server: Server) -> Iterator[Result]:
    """Each beside what it is to be compared with."""
    django_pghistory.prepare_database(server.dsn())
    counted = [untracked, *(several(count) for count in (1, 3, 10))]
    prepare(server, NARROW, counted)
    more = {each.name: counted[1].name for each in counted[2:]} | {counted[1].name: UNTRACKED}
    yield from written(server, "trackers", counted, ("insert", "update"), more)

    conditional = [untracked]
    conditional += [rare(level) for level in ("row", "statement", "auto")]
    for level in django_pghistory.LEVELS:
        peer = django_pghistory.recorder(server, level, rare=True)
        conditional.append(Recorder(peer.name, f"rare_{peer.schema}", peer.begin))
    prepare(server, NARROW, conditional[1:])
    than_untracked = {each.name: UNTRACKED for each in conditional[1:]}
    yield from written(server, "rare condition", conditional, ("insert", "update"), than_untracked)

    partitioned = [
        Recorder(each.name, f"partitioned_{each.schema}", each.begin, each.keeps_events)
        for each in (untracked, limit, ours(OURS[2]), django_pghistory.recorder(server, "row"))
    ]
    prepare(server, NARROW, partitioned, partitions=PARTITIONS)
    than_limit = {each.name: LIMIT for each in partitioned if each.name != LIMIT}
    yield from written(
        server, f"{PARTITIONS} partitions", partitioned, ("insert", "update", "delete"), than_limit
    )
