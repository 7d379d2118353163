"""The functions of pghistory for a `psycopg.AsyncConnection`: `await pyhist.aio.track(conn, ...)`.

Each has the name, the arguments and the meaning of the one in `pyhist`. What is an iterator there is an
asynchronous one here: `async for event in pyhist.aio.events(conn, ...)`.
"""

from __future__ import annotations

import functools
from collections.abc import AsyncGenerator, Callable, Coroutine
from contextlib import suppress
from typing import Any, Concatenate, ParamSpec, TypeVar

import psycopg
from psycopg.pq import TransactionStatus

from pyhist import calls, flows
from pyhist.calls import BATCH, Flow, Stream
from pyhist.client import put_connection_first
from pyhist.connection import plain_cursor
from pyhist.errors import HistoryError, explained

P = ParamSpec("P")
T = TypeVar("T")


async def run(conn: psycopg.AsyncConnection[Any], flow: Flow[T]) -> T:
    """Makes the calls of a flow, in whatever transaction the connection is in, and gives its result."""
    steps = iter(flow)
    rows: Any = None
    while True:
        try:
            call = steps.send(rows)
        except StopIteration as end:
            return end.value  # type: ignore[no-any-return]
        with explained():
            async with plain_cursor(conn, call.row_factory) as cursor:
                await cursor.execute(call.sql, call.arguments)
                rows = await cursor.fetchall() if call.has_rows else []


async def iterate(
    conn: psycopg.AsyncConnection[Any], flow: Stream[T] | Flow[Stream[T]]
) -> AsyncGenerator[T, None]:
    """The items of a stream, and its end on the server when it ends here, exhausted or not."""
    begin, fetch, end = (flow if isinstance(flow, Stream) else await run(conn, flow)).calls()
    await run(conn, begin)
    try:
        more = True
        while more:
            items = await run(conn, fetch)
            more = len(items) == BATCH
            for item in items:
                yield item
    finally:
        is_idle = conn.info.transaction_status == TransactionStatus.IDLE
        with suppress(psycopg.Error, HistoryError):
            await run(conn, end)
            if is_idle:
                await conn.rollback()  # so that it stays so, whatever the mode


def mirror(
    describe: Callable[P, Flow[T]],
) -> Callable[Concatenate[psycopg.AsyncConnection[Any], P], Coroutine[Any, Any, T]]:
    """The coroutine function that does, on the connection that comes first, what the other describes."""

    @functools.wraps(describe)
    async def mirrored(conn: psycopg.AsyncConnection[Any], /, *args: P.args, **kwargs: P.kwargs) -> T:
        return await run(conn, describe(*args, **kwargs))

    put_connection_first(mirrored, describe)
    return mirrored


def mirror_stream(
    describe: Callable[P, Stream[T] | Flow[Stream[T]]],
) -> Callable[Concatenate[psycopg.AsyncConnection[Any], P], AsyncGenerator[T, None]]:
    """The function that iterates, on the connection that comes first, over what the other describes."""

    @functools.wraps(describe)
    def mirrored(
        conn: psycopg.AsyncConnection[Any], /, *args: P.args, **kwargs: P.kwargs
    ) -> AsyncGenerator[T, None]:
        return iterate(conn, describe(*args, **kwargs))

    put_connection_first(mirrored, describe)
    return mirrored


any_change = mirror(functools.partial(calls.change, "any_change"))
all_change = mirror(functools.partial(calls.change, "all_change"))
any_dont_change = mirror(functools.partial(calls.change, "any_dont_change"))
all_dont_change = mirror(functools.partial(calls.change, "all_dont_change"))

add_context = mirror(calls.add_context)
as_of = mirror_stream(flows.as_of)
backfill = mirror(calls.backfill)
capture = mirror(calls.capture)
clear_context = mirror(calls.clear_context)
create_event = mirror(calls.create_event)
create_event_table = mirror(calls.create_event_table)
current_context = mirror(calls.current_context)
events = mirror_stream(calls.events)
references = mirror_stream(calls.references)
refresh = mirror(calls.refresh)
revert = mirror(flows.revert)
set_context = mirror(calls.set_context)
status = mirror(flows.status)
sync = mirror(calls.sync)
track = mirror(calls.track)
trackers = mirror(calls.trackers)
undo = mirror(calls.undo)
undo_plan = mirror(calls.undo_plan)
undo_transaction = mirror(calls.undo_transaction)
undo_transaction_plan = mirror(calls.undo_transaction_plan)
untrack = mirror(calls.untrack)
verify = mirror(calls.verify)
versions = mirror(flows.versions)
