"""One-row and bulk statements after each other in a session: does the plan of the one hurt the other?"""

from __future__ import annotations

import functools
from collections.abc import Iterator

import peers
from measure import Cost, Result, cost, measure_all
from recorders import LIMIT, UNTRACKED, Recorder, prepare, schema_of
from shapes import NARROW, rows
from single_rows import loop
from sizes import SIZES

from pyhist.server import Server

UPDATE = "UPDATE item SET amount = amount + 1"
UPDATE_ONE = f"{UPDATE} WHERE id = i"
ONES = 200  # one-row statements


def bulk(server: Server, recorder: Recorder, count: int, *, after: str | None) -> Cost:
    """An update of `count` rows, in a session in which there was `after` before."""
    with schema_of(server, NARROW, recorder) as connection:
        recorder.fill(connection, f"INSERT INTO item ({NARROW.names}) {rows(NARROW, 1, count)}")
        connection.execute("VACUUM ANALYZE item")
    with schema_of(server, NARROW, recorder) as connection:
        if after:
            connection.execute(after.encode())
        return cost(connection, UPDATE)


def ones(server: Server, recorder: Recorder, *, after: str | None) -> Cost:
    """Updates of one row each, in a session in which there was `after` before."""
    with schema_of(server, NARROW, recorder) as connection:
        connection.execute("VACUUM ANALYZE item")
        if after:
            connection.execute(after.encode())
        return cost(connection, loop(UPDATE_ONE, 1, min(ONES, SIZES.cliff_rows))).each(
            min(ONES, SIZES.cliff_rows)
        )


def both_ways(server: Server, recorder: Recorder, count: int, rounds: int) -> Iterator[Result]:
    """The two sequences of a recorder, beside each half alone."""
    fresh = "in a fresh session"
    for workload, unit, run, after, before in (
        (
            f"update of {count:,} rows",
            "ms",
            functools.partial(bulk, count=count),
            "after one of one row",
            f"{UPDATE} WHERE id = 1",
        ),
        (f"updates of one row in {count:,}", "µs", ones, f"after one of {count:,} rows", UPDATE),
    ):
        variants = {
            fresh: functools.partial(run, server, recorder, after=None),
            after: functools.partial(run, server, recorder, after=before),
        }
        yield from measure_all({f"{workload}, {recorder.name}": variants}, {after: fresh}, rounds, unit=unit)


def run(server: Server) -> Iterator[Result]:
    """All with as many rows as the worst of them bears: there, an update of 20,000 takes minutes.

    pghistory also with more rows.
    """
    recorders = [
        each for each in peers.with_same_tables(server, debian=False) if each.name not in (UNTRACKED, LIMIT)
    ]
    prepare(server, NARROW, recorders)
    for recorder in recorders:
        ours = recorder.name.startswith("pghistory")
        if ours:
            yield from both_ways(server, recorder, SIZES.sequence_rows, SIZES.sequence_rounds)
        yield from both_ways(server, recorder, SIZES.cliff_rows, SIZES.sequence_rounds if ours else 1)
