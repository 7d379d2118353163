"""The functions of pghistory for a `psycopg.AsyncConnection`: `await pyhist.aio.track(conn, ...)`.

Each has the name, the arguments and the meaning of the one in `pyhist`.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Coroutine
from typing import Any, Concatenate, ParamSpec, TypeVar

import psycopg

from pyhist import calls, flows
from pyhist.calls import Flow
from pyhist.client import put_connection_first
from pyhist.connection import plain_cursor
from pyhist.errors import explained

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
            async with plain_cursor(conn) as cursor:
                await cursor.execute(call.sql, call.arguments)
                rows = await cursor.fetchall()


def mirror(
    describe: Callable[P, Flow[T]],
) -> Callable[Concatenate[psycopg.AsyncConnection[Any], P], Coroutine[Any, Any, T]]:
    """The coroutine function that does, on the connection that comes first, what the other describes."""

    @functools.wraps(describe)
    async def mirrored(conn: psycopg.AsyncConnection[Any], /, *args: P.args, **kwargs: P.kwargs) -> T:
        return await run(conn, describe(*args, **kwargs))

    put_connection_first(mirrored, describe)
    return mirrored


any_change = mirror(functools.partial(calls.change, "any_change"))
all_change = mirror(functools.partial(calls.change, "all_change"))
any_dont_change = mirror(functools.partial(calls.change, "any_dont_change"))
all_dont_change = mirror(functools.partial(calls.change, "all_dont_change"))

add_context = mirror(calls.add_context)
capture = mirror(calls.capture)
clear_context = mirror(calls.clear_context)
create_event = mirror(calls.create_event)
create_event_table = mirror(calls.create_event_table)
current_context = mirror(calls.current_context)
refresh = mirror(calls.refresh)
set_context = mirror(calls.set_context)
status = mirror(flows.status)
sync = mirror(calls.sync)
track = mirror(calls.track)
trackers = mirror(calls.trackers)
untrack = mirror(calls.untrack)
verify = mirror(calls.verify)
