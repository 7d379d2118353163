"""The functions of pghistory for a `psycopg.Connection`; `pyhist.aio` has them for an asynchronous one."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Generator
from contextlib import suppress
from typing import Any, Concatenate, ParamSpec, Protocol, TypeVar, overload

import psycopg
from psycopg.pq import TransactionStatus

from pyhist import calls, flows
from pyhist.calls import BATCH, Flow, Stream
from pyhist.connection import plain_cursor
from pyhist.errors import HistoryError, explained
from pyhist.models import Change, Condition

P = ParamSpec("P")
T = TypeVar("T")


def run(conn: psycopg.Connection[Any], flow: Flow[T]) -> T:
    """Makes the calls of a flow, in whatever transaction the connection is in, and gives its result."""
    steps = iter(flow)
    rows: Any = None
    while True:
        try:
            call = steps.send(rows)
        except StopIteration as end:
            return end.value  # type: ignore[no-any-return]
        with explained(), plain_cursor(conn, call.row_factory) as cursor:
            cursor.execute(call.sql, call.arguments)
            rows = cursor.fetchall() if call.has_rows else []


def iterate(conn: psycopg.Connection[Any], flow: Stream[T] | Flow[Stream[T]]) -> Generator[T, None, None]:
    """The items of a stream, and its end on the server when it ends here, exhausted or not."""
    begin, fetch, end = (flow if isinstance(flow, Stream) else run(conn, flow)).calls()
    run(conn, begin)
    try:
        more = True
        while more:
            items = run(conn, fetch)
            more = len(items) == BATCH
            yield from items
    finally:
        # It may be collected as garbage while this thread is at work with the connection.
        if not conn.lock.locked():
            is_idle = conn.info.transaction_status == TransactionStatus.IDLE
            with suppress(psycopg.Error, HistoryError):
                run(conn, end)
                if is_idle:
                    conn.rollback()  # so that it stays so, whatever the mode


def mirror(describe: Callable[P, Flow[T]]) -> Callable[Concatenate[psycopg.Connection[Any], P], T]:
    """The function that does, on the connection that comes first, what the other describes."""

    @functools.wraps(describe)
    def mirrored(conn: psycopg.Connection[Any], /, *args: P.args, **kwargs: P.kwargs) -> T:
        return run(conn, describe(*args, **kwargs))

    put_connection_first(mirrored, describe)
    return mirrored


def mirror_stream(
    describe: Callable[P, Stream[T] | Flow[Stream[T]]],
) -> Callable[Concatenate[psycopg.Connection[Any], P], Generator[T, None, None]]:
    """The function that iterates, on the connection that comes first, over what the other describes."""

    @functools.wraps(describe)
    def mirrored(
        conn: psycopg.Connection[Any], /, *args: P.args, **kwargs: P.kwargs
    ) -> Generator[T, None, None]:
        return iterate(conn, describe(*args, **kwargs))

    put_connection_first(mirrored, describe)
    return mirrored


def put_connection_first(mirrored: Callable[..., Any], describe: Callable[..., Any]) -> None:
    """Gives a mirror the signature of what it mirrors, with the connection in front."""
    signature = inspect.signature(describe)
    conn = inspect.Parameter("conn", inspect.Parameter.POSITIONAL_ONLY)
    mirrored.__signature__ = signature.replace(  # type: ignore[attr-defined]
        parameters=[conn, *signature.parameters.values()], return_annotation=inspect.Signature.empty
    )


class ChangeFunction(Protocol):
    """A condition on what changed: a value for a tracker, or, with a connection, the text that it is."""

    @overload
    def __call__(self, *fields: str) -> Condition: ...

    @overload
    def __call__(self, conn: psycopg.Connection[Any], /, *fields: str) -> str: ...


def _change(name: Change, meaning: str) -> ChangeFunction:
    def change(*arguments: Any) -> Any:
        if arguments and isinstance(arguments[0], psycopg.Connection):
            return run(arguments[0], calls.change(name, *arguments[1:]))
        return Condition(name, arguments)

    change.__name__ = change.__qualname__ = name
    change.__doc__ = f"""The condition that {meaning}; without fields, those that are tracked.

    `condition=pyhist.{name}("email", "phone")` for a tracker. With a connection in front, the text that
    `pghistory.{name}` gives.
    """
    return change


any_change = _change("any_change", "any of the fields changed")
all_change = _change("all_change", "all of the fields changed")
any_dont_change = _change("any_dont_change", "any of the fields did not change")
all_dont_change = _change("all_dont_change", "none of the fields changed")

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
