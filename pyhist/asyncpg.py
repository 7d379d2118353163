"""asyncpg connections that carry the context to the server.

asyncpg runs statements one by one and prepares those with arguments, so the two settings of the protocol
cannot travel with each of them. They are sent once for each transaction, with what begins it, and again when
the context has changed or a savepoint was rolled back. What is written outside of a transaction gets one of
its own, or, if it has no arguments, is sent together with the settings. They last for the transaction only:
the next user of a pooled connection finds nothing.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, TypeAlias, TypeVar

import asyncpg
from asyncpg import cursor, prepared_stmt

from pyhist.context import ActiveContext, active_context
from pyhist.settings import clearing, opening, setting
from pyhist.statements import Script, Statement, scripted, statements

T = TypeVar("T")
Send: TypeAlias = Callable[[], Awaitable[T]]

_BEGINS = re.compile(rb"(BEGIN|START\s+TRANSACTION)(?![\w$])", re.IGNORECASE)
_GOES_BACK = re.compile(rb"ROLLBACK\s+(?:(?:WORK|TRANSACTION)\s+)?TO(?![\w$])", re.IGNORECASE)
_UNDOES = re.compile(rb"(?:COMMIT|END|ROLLBACK|ABORT|RESET|DISCARD)(?![\w$])", re.IGNORECASE)
_UNKNOWN = ("", "")  # what the server's settings are if they may have been undone


class Connection(asyncpg.Connection):
    """An asyncpg connection that carries the context: `asyncpg.connect(connection_class=Connection)`.

    Also for `asyncpg.create_pool`.
    """

    __slots__ = ("_history_ids", "_history_sent", "_history_task")

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        # The ids that this transaction has been given, the settings that it has, and who is sending several
        # things in a row.
        self._history_ids: frozenset[str] = frozenset()
        self._history_sent: tuple[str, str] | None = None
        self._history_task: asyncio.Task[Any] | None = None
        super().__init__(*args, **kwargs)

    async def execute(self, query: str, *args: Any, timeout: float | None = None) -> str:
        send = partial(super().execute, query, *args, timeout=timeout)
        if args:
            return await self._history_carried(query, send)
        active = self._history_active()
        if active is None and not self._history_ids:
            return await send()
        text = query.encode()
        found = statements(text)
        if len(found) == 1 and (starts := self._history_starts(text[found[0].start :], active)):
            settings, status = starts
            await self._history_send(Script(text, b"\n;" + settings, (len(text),)), active, timeout)
            return status
        if len(found) > 1 or (found and found[0].may_write and self._history_is_needed(active)):
            return await self._history_execute(text, found, active, timeout)
        with self._history_watched(query):
            return await send()

    async def executemany(self, command: str, args: Any, **options: Any) -> None:
        send = partial(super().executemany, command, args, **options)
        await self._history_carried(command, send, is_repeatable=False)

    async def fetch(self, query: str, *args: Any, **options: Any) -> list[Any]:
        send = partial(super().fetch, query, *args, **options)
        return await self._history_carried(query, send)

    async def fetchval(self, query: str, *args: Any, **options: Any) -> Any:
        return await self._history_carried(query, partial(super().fetchval, query, *args, **options))

    async def fetchrow(self, query: str, *args: Any, **options: Any) -> Any:
        return await self._history_carried(query, partial(super().fetchrow, query, *args, **options))

    async def fetchmany(self, query: str, args: Any, **options: Any) -> list[Any]:
        send = partial(super().fetchmany, query, args, **options)
        return await self._history_carried(query, send, is_repeatable=False)

    async def copy_from_query(self, query: str, *args: Any, **options: Any) -> str:
        send = partial(super().copy_from_query, query, *args, **options)
        return await self._history_carried("COPY", send, is_repeatable=False)

    async def copy_to_table(self, table_name: str, **options: Any) -> str:
        send = partial(super().copy_to_table, table_name, **options)
        return await self._history_carried("COPY", send, is_repeatable=False)

    async def copy_records_to_table(self, table_name: str, **options: Any) -> str:
        send = partial(super().copy_records_to_table, table_name, **options)
        return await self._history_carried("COPY", send, is_repeatable=False)

    async def prepare(self, query: str, **options: Any) -> Any:
        self._history_check()
        prepared = await super().prepare(query, **options)
        prepared.__class__ = PreparedStatement
        return prepared

    def cursor(self, query: str, *args: Any, **options: Any) -> Any:
        factory = super().cursor(query, *args, **options)
        factory.__class__ = CursorFactory
        return factory

    def _history_check(self) -> None:
        if self._history_task not in (None, asyncio.current_task()):
            raise asyncpg.InterfaceError("cannot perform operation: another operation is in progress")

    def _history_active(self) -> ActiveContext | None:
        """The context to send; forgets the transaction that is over."""
        self._history_check()
        if not self.is_in_transaction():
            self._history_ids, self._history_sent = frozenset(), None
        return active_context()

    def _history_is_needed(self, active: ActiveContext | None) -> bool:
        """Whether the server has other settings than what is sent now should have."""
        return bool(active or self._history_ids) and self._history_sent != (active and active.settings)

    def _history_settings(self, active: ActiveContext | None) -> bytes:
        return (setting(active) if active else clearing(self._history_ids)).as_script()

    def _history_starts(self, statement: bytes, active: ActiveContext | None) -> tuple[bytes, str] | None:
        """If it begins a transaction, or goes back in it: the settings that follow it, and its status."""
        if active and not self.is_in_transaction() and (begins := _BEGINS.match(statement)):
            return opening(active).encode(), " ".join(begins[1].decode().upper().split())
        if self._history_goes_back(statement):
            return self._history_settings(active), "ROLLBACK"
        return None

    def _history_goes_back(self, query: str | bytes) -> bool:
        """Whether it rolls back to a savepoint, and so takes back settings."""
        text = query.encode() if isinstance(query, str) else query
        has_settings = active_context() or self._history_ids
        return bool(_GOES_BACK.match(text) and has_settings) and self.is_in_transaction()

    async def _history_send(
        self, script: Script, active: ActiveContext | None, timeout: float | None = None
    ) -> str:
        """Sends a text with the settings in it."""
        self._history_sent = _UNKNOWN
        if active:
            self._history_ids |= {active.settings[0]}
        try:
            status = await super().execute(script.sent.decode(), timeout=timeout)
        except asyncpg.PostgresError as error:
            _restore(error, script)
            raise
        self._history_sent = active.settings if active else None
        return status

    async def _history_execute(
        self, text: bytes, found: Sequence[Statement], active: ActiveContext | None, timeout: float | None
    ) -> str:
        """Sends a text with the settings in front of what may write."""
        is_alone = len(found) == 1 and not self.is_in_transaction()
        try:
            status = await self._history_send(
                scripted(text, self._history_settings(active), found), active, timeout
            )
        except asyncpg.InvalidTransactionTerminationError:
            # A procedure that commits may not do so behind another statement. What it did until then was
            # rolled back: it is called once more, alone.
            if not is_alone:
                raise
            return await super().execute(text.decode(), timeout=timeout)
        if not found[-1].may_write:
            self._history_sent = _UNKNOWN
        return status

    async def _history_carried(self, query: str, send: Send[T], *, is_repeatable: bool = True) -> T:
        """Sends something in the context, in a transaction of its own if there is none."""
        active = self._history_active()
        if active is None and not self._history_ids:
            return await send()
        if not (self._history_is_needed(active) and _may_write(query)):
            with self._history_watched(query):
                return await send()
        with self._history_alone():
            if self.is_in_transaction():
                await self._history_renewed(query)
                return await send()
            assert active
            try:
                return await self._history_transaction(query, active, send)
            except asyncpg.InvalidCachedStatementError:
                if not is_repeatable:
                    raise
                # asyncpg knows better now, and does so, too.
                return await self._history_transaction(query, active, send)
            except asyncpg.InvalidTransactionTerminationError:
                if not is_repeatable:
                    raise
                return await send()  # a procedure that commits, which cannot be in a transaction

    async def _history_transaction(self, query: str, active: ActiveContext, send: Send[T]) -> T:
        try:
            await self._history_send(Script(b"BEGIN;", opening(active).encode(), (6,)), active)
            result = await send()
        except BaseException:
            try:
                if not self.is_closed():
                    await super().execute("ROLLBACK;")
            except BaseException:
                self.terminate()  # so that nobody is given a connection in the middle of a transaction
            raise
        try:
            await super().execute("COMMIT;")
        except asyncpg.PostgresError as error:
            _restore(error, Script(query.encode(), b"", ()))  # the statement's failure, which came late
            raise
        return result

    async def _history_renewed(self, query: str) -> None:
        """Gives the transaction the settings that a statement needs."""
        active = self._history_active()
        if self.is_in_transaction() and self._history_is_needed(active) and _may_write(query):
            await self._history_send(Script(b"", self._history_settings(active), (0,)), active)

    @contextmanager
    def _history_alone(self) -> Iterator[None]:
        """Lets no other task in between."""
        outer, self._history_task = self._history_task, asyncio.current_task()
        try:
            yield
        finally:
            self._history_task = outer

    @contextmanager
    def _history_watched(self, query: str) -> Iterator[None]:
        """Something is sent that may undo the settings."""
        yield
        if self._history_ids and _undoes(query):
            self._history_sent = _UNKNOWN


class PreparedStatement(prepared_stmt.PreparedStatement):
    """A prepared statement that carries the context it is run in."""

    __slots__ = ()

    _connection: Connection
    _query: str
    _last_status: bytes | None

    async def fetch(self, *args: Any, **options: Any) -> Any:
        if not args and self._connection and self._connection._history_goes_back(self._query):
            # SQLAlchemy prepares this, too.
            self._last_status = (await self._connection.execute(self._query, **options)).encode()
            return []
        return await self._history_carried(partial(super().fetch, *args, **options))

    async def fetchval(self, *args: Any, **options: Any) -> Any:
        return await self._history_carried(partial(super().fetchval, *args, **options))

    async def fetchrow(self, *args: Any, **options: Any) -> Any:
        return await self._history_carried(partial(super().fetchrow, *args, **options))

    async def fetchmany(self, args: Any, **options: Any) -> Any:
        return await self._history_carried(partial(super().fetchmany, args, **options), is_repeatable=False)

    async def executemany(self, args: Any, **options: Any) -> Any:
        send = partial(super().executemany, args, **options)
        return await self._history_carried(send, is_repeatable=False)

    def cursor(self, *args: Any, **options: Any) -> Any:
        factory = super().cursor(*args, **options)
        factory.__class__ = CursorFactory
        return factory

    async def _history_carried(self, send: Send[T], *, is_repeatable: bool = True) -> T:
        if self._connection is None or self._connection.is_closed():
            return await send()  # which is refused
        return await self._connection._history_carried(self._query, send, is_repeatable=is_repeatable)


class CursorFactory(cursor.CursorFactory):
    """Opens cursors that run in the context they are opened in."""

    __slots__ = ()

    _connection: Connection
    _query: str

    def __aiter__(self) -> Any:
        iterator = super().__aiter__()
        iterator.__class__ = CursorIterator
        return iterator

    def __await__(self) -> Any:
        yield from self._connection._history_renewed(self._query).__await__()
        return (yield from super().__await__())


class CursorIterator(cursor.CursorIterator):
    """Gives its transaction the settings before it runs."""

    __slots__ = ()

    _connection: Connection
    _query: str
    _portal_name: str | None
    _exhausted: bool

    async def __anext__(self) -> Any:
        if not self._portal_name and not self._exhausted:
            await self._connection._history_renewed(self._query)
        return await super().__anext__()


def _may_write(query: str) -> bool:
    return any(statement.may_write for statement in statements(query.encode()))


def _undoes(query: str) -> bool:
    """Whether it may undo the settings."""
    text = query.encode()
    return any(_UNDOES.match(text, statement.start) for statement in statements(text))


def _restore(error: Any, script: Script) -> None:
    """Lets an error be about the text as it was written."""
    if script.text:
        error.query = script.text.decode()
    if error.position is not None:
        error.position = str(script.original(int(error.position), "utf-8"))
