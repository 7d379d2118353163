"""psycopg connections that carry the context to the server.

The two settings of the protocol travel in front of each statement that may write, in the same message, and
last for its transaction only. So a context costs no round trip, a savepoint that is rolled back takes nothing
with it, and the next user of a pooled connection finds nothing.

Everything happens in the generators that psycopg runs on a connection while it holds the connection's lock.
They are the same for synchronous and asynchronous connections, and so is what is here.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from functools import cache, partial, wraps
from inspect import iscoroutinefunction
from typing import TYPE_CHECKING, Any, TypeVar, overload

import psycopg
from psycopg import pq
from psycopg._queries import PostgresClientQuery
from psycopg.errors import error_from_result
from psycopg.generators import execute, fetch_many, send
from psycopg.rows import Row, RowFactory, TupleRow, tuple_row
from psycopg.sql import Composable

from pyhist.context import active_context
from pyhist.errors import HistoryError
from pyhist.settings import MARK, Settings, clearing, setting
from pyhist.statements import Script, Statement, relocated, statements

if TYPE_CHECKING:
    from psycopg._connection_base import BaseConnection
    from psycopg._cursor_base import BaseCursor
    from psycopg._pipeline_base import BasePipeline
    from psycopg._queries import PostgresQuery
    from psycopg._server_cursor_base import ServerCursorMixin
    from psycopg.abc import Params, PQGen, Query
    from psycopg.pq.abc import PGconn, PGresult

    _ServerCursorBase = ServerCursorMixin[Any, Any]
else:
    from psycopg.connection import BaseConnection
    from psycopg.cursor import BaseCursor

    _ServerCursorBase = object


Instrumented = TypeVar("Instrumented")


def _send(settings: Settings, pgconn: PGconn) -> None:
    """Hands the settings to libpq."""
    pgconn.send_query_params(settings.sql.encode(), [value.encode() for value in settings.values])


def _enqueue(settings: Settings, pipeline: BasePipeline) -> None:
    """Puts the settings at the end of a pipeline."""
    pipeline.command_queue.append(partial(_send, settings, pipeline.pgconn))
    pipeline.result_queue.append(None)


class _CarryingConnection(BaseConnection[Row]):
    """What is added to a connection's class."""

    # The ids that this transaction has been given, and the query of the executemany() that has been seen to.
    _history_ids: frozenset[str] = frozenset()
    _history_query: PostgresQuery | None = None
    _history_stream_size: int = 0

    if not TYPE_CHECKING:

        def __init__(self, *args, **kwargs):
            _check_libpq()
            super().__init__(*args, **kwargs)

        # psycopg keeps the classes of cursors in these; they are made to carry when they are looked at.
        @property
        def cursor_factory(self):
            return _with(_CarryingCursor, vars(self)["cursor_factory"])

        @cursor_factory.setter
        def cursor_factory(self, kind):
            vars(self)["cursor_factory"] = kind

        @property
        def server_cursor_factory(self):
            return _with(_CarryingServerCursor, vars(self)["server_cursor_factory"])

        @server_cursor_factory.setter
        def server_cursor_factory(self, kind):
            vars(self)["server_cursor_factory"] = kind

    def _start_query(self) -> PQGen[None]:
        self._history_query = None
        if self.pgconn.transaction_status == pq.TransactionStatus.IDLE:
            self._history_ids = frozenset()
        yield from super()._start_query()

    def _get_tx_start_command(self) -> bytes:
        self._history_ids = frozenset()
        return super()._get_tx_start_command()

    def _history_settings(self) -> Settings | None:
        """What the next statement needs in front of it, if it may write."""
        status = self.pgconn.transaction_status
        if not self._pipeline and status not in (pq.TransactionStatus.IDLE, pq.TransactionStatus.INTRANS):
            return None
        active = active_context()
        if active is not None:
            settings = setting(active)
            self._history_ids |= {settings.values[0]}
            return settings
        if self._history_ids:
            return clearing(self._history_ids)
        return None


def _could_not_commit(results: list[PGresult]) -> bool:
    """Whether a statement failed since it ends its transaction itself (invalid_transaction_termination)."""
    return bool(results) and results[-1].error_field(pq.DiagnosticField.SQLSTATE) == b"2D000"


class _CarryingCursor(BaseCursor[Any, Row]):
    """What is added to a cursor's class."""

    __slots__ = ()

    # Up to psycopg 3.1 execute() goes on with the results that this returns.
    def _maybe_prepare_gen(
        self, pgq: PostgresQuery, *, prepare: bool | None = None, binary: bool | None = None
    ) -> PQGen[Any]:
        connection = self._conn
        plain = super()._maybe_prepare_gen(pgq, prepare=prepare, binary=binary)
        settings = connection._history_settings()
        found = statements(pgq.query) if settings else ()
        if settings is None or not any(statement.may_write for statement in found):
            return (yield from plain)
        if connection._pipeline:
            if connection._history_query is not pgq:
                connection._history_query = pgq
                _enqueue(settings, connection._pipeline)
            return (yield from plain)
        if len(found) == 1 and not found[0].is_copy:
            is_alone = connection.pgconn.transaction_status == pq.TransactionStatus.IDLE
            results = yield from self._history_together_gen(settings, plain, is_alone=is_alone)
            if is_alone and _could_not_commit(results):
                # A procedure that commits may not do so in a pipeline, from PostgreSQL 18 on. What it did
                # until then was rolled back: it is called once more, alone.
                return (yield from super()._maybe_prepare_gen(pgq, prepare=prepare, binary=binary))
            return results
        if self._history_is_simple(pgq, prepare, binary):
            return (yield from self._history_script_gen(settings, pgq, found))
        return (yield from plain)  # which the server refuses

    def _history_is_simple(self, pgq: PostgresQuery, prepare: bool | None, binary: bool | None) -> bool:
        """Whether psycopg would use the simple protocol."""
        merges = isinstance(self, psycopg.ClientCursor | psycopg.AsyncClientCursor)
        _, prepared_name = self._get_prepared(pgq, prepare)
        return not (
            prepared_name or (self.format if binary is None else binary) or (pgq.params and not merges)
        )

    def _history_together_gen(
        self, settings: Settings, plain: PQGen[Any], *, is_alone: bool
    ) -> PQGen[list[PGresult]]:
        """Sends the settings and, with them, what psycopg would send; psycopg looks at the results."""
        connection, pgconn = self._conn, self._pgconn
        pipeline = psycopg.Pipeline(connection)
        connection._pipeline = pipeline
        try:
            _enqueue(settings, pipeline)
            yield from plain  # which sends nothing now, but adds to the queue
        finally:
            connection._pipeline = None

        pgconn.enter_pipeline_mode()
        for command in pipeline.command_queue:
            command()
        pgconn.pipeline_sync()
        received: list[list[PGresult]] = []
        failure: psycopg.Error | None = None
        try:
            yield from send(pgconn)
            for _ in pipeline.result_queue:
                received.append((yield from fetch_many(pgconn)))
            # What fails only in the end is the statement's failure.
            received[-1] += yield from _leave_pipeline(pgconn, is_sent=True)
        except psycopg.Error as error:
            failure = error
        if is_alone and not failure and _could_not_commit(received[-1]):
            return received[-1]
        for queued, results in zip(pipeline.result_queue, received, strict=False):
            if results:
                pipeline._process_results(queued, results)
        if failure:
            raise failure
        return received[-1]

    def _history_script_gen(
        self, settings: Settings, pgq: PostgresQuery, found: Iterable[Statement]
    ) -> PQGen[list[PGresult]]:
        """Sends several statements, which takes the simple protocol, with the settings in between."""
        prepared = self._conn._prepared
        prep, name = self._get_prepared(pgq, False)
        key = prepared.maybe_add_to_cache(pgq, prep, name)
        results = yield from self._history_execute_gen(settings, pgq, found)
        if key is not None:
            prepared.validate(key, prep, name, results)
        self._check_results(results)
        self._results = results
        self._select_current_result(0)
        return results

    def _history_execute_gen(
        self, settings: Settings, pgq: PostgresQuery, found: Iterable[Statement]
    ) -> PQGen[list[PGresult]]:
        """The results of a script, without those of what was put in."""
        places = tuple(statement.start for statement in found if statement.may_write)
        script = Script(pgq.query, settings.as_script(), places)
        self._query = pgq
        self._pgconn.send_query(script.sent)
        results = yield from execute(self._pgconn)
        if results and results[-1].status == pq.ExecStatus.FATAL_ERROR:
            raise _error_in(script, results[-1], self._conn.info.encoding)
        return [result for result in results if not (result.nfields and result.fname(0) == MARK.encode())]

    def _start_copy_gen(self, statement: Query, params: Params | None = None) -> PQGen[None]:
        if self._conn._pipeline:
            yield from super()._start_copy_gen(statement, params)  # which refuses
            return
        yield from self._start_query()
        settings = self._conn._history_settings()
        if settings is None:
            yield from super()._start_copy_gen(statement, params)
            return

        # As psycopg does it, but for what is sent.
        if params or not isinstance(statement, str | bytes | Composable):
            merged = PostgresClientQuery(self._tx)
            merged.convert(statement, params)
            statement = merged.query
        pgq = self._convert_query(statement)
        results = yield from self._history_execute_gen(settings, pgq, statements(pgq.query))
        if len(results) != 1:
            raise psycopg.ProgrammingError("COPY cannot be mixed with other operations")
        self._check_copy_result(results[0])
        self._results = results
        self._select_current_result(0)

    def _execute_send(
        self, query: PostgresQuery, *, force_extended: bool = False, binary: bool | None = None
    ) -> None:
        # stream() and named cursors force the extended protocol, and ask nobody else what goes in front.
        settings = self._conn._history_settings() if force_extended else None
        found = statements(query.query) if settings else ()
        if settings is None or len(found) != 1 or not found[0].may_write or found[0].is_copy:
            super()._execute_send(query, force_extended=force_extended, binary=binary)
            return

        # A cursor that is only declared needs the settings when it runs. Where DECLARE comes first, its
        # result does too, as psycopg expects.
        is_declared = query.query.startswith(b"DECLARE ")
        self._pgconn.enter_pipeline_mode()
        try:
            if not is_declared:
                _send(settings, self._pgconn)
            super()._execute_send(query, force_extended=force_extended, binary=binary)
            if is_declared:
                _send(settings, self._pgconn)
        finally:
            self._pgconn.pipeline_sync()

    def _stream_send_gen(self, query: Query, params: Params | None = None, **options: Any) -> PQGen[None]:
        self._conn._history_stream_size = options.get("size", 1)
        try:
            yield from super()._stream_send_gen(query, params, **options)
        except Exception as error:
            yield from _leave_pipeline_after(error, self._pgconn)
            raise

    def _stream_fetchone_gen(self, first: bool) -> PQGen[PGresult | None]:
        try:
            if first and self._pgconn.pipeline_status:
                yield from self._history_skip_settings_gen()
            result = yield from super()._stream_fetchone_gen(first)
        except Exception as error:
            yield from _leave_pipeline_after(error, self._pgconn)
            raise
        if not result:
            yield from self._history_leave_pipeline_gen()
        return result

    def _history_leave_pipeline_gen(self) -> PQGen[None]:
        for failure in (yield from _leave_pipeline(self._pgconn)):
            raise error_from_result(failure, encoding=self._conn.info.encoding)

    def _history_skip_settings_gen(self) -> PQGen[None]:
        results = yield from fetch_many(self._pgconn)
        for result in results:
            if result.status == pq.ExecStatus.FATAL_ERROR:
                raise error_from_result(result, encoding=self._conn.info.encoding)
        # The mode that psycopg chose was for the first results, and went with them.
        size = self._conn._history_stream_size
        if size == 1:
            self._pgconn.set_single_row_mode()
        else:
            self._pgconn.set_chunked_rows_mode(size)


class _CarryingServerCursor(_CarryingCursor[Row], _ServerCursorBase):
    """What is added to a named cursor's class. It runs in the context it was opened in."""

    __slots__ = ()

    def _declare_gen(self, query: Query, params: Params | None = None, *binary: bool | None) -> PQGen[None]:
        try:
            yield from super()._declare_gen(query, params, *binary)
        except Exception as error:
            yield from _leave_pipeline_after(error, self._pgconn)
            raise

    def _describe_gen(self) -> PQGen[None]:
        yield from self._history_leave_pipeline_gen()
        yield from super()._describe_gen()


def _leave_pipeline(pgconn: PGconn, *, is_sent: bool = False) -> PQGen[list[PGresult]]:
    """Reads what is left up to the sync, which libpq has got, and gives the failures that are there."""
    failures: list[PGresult] = []
    blanks = 0
    if pgconn.pipeline_status and not is_sent:
        yield from send(pgconn)
    while pgconn.pipeline_status and pgconn.status == pq.ConnStatus.OK and blanks < 2:
        results = yield from fetch_many(pgconn)
        blanks = 0 if results else blanks + 1
        failures += [result for result in results if result.status == pq.ExecStatus.FATAL_ERROR]
        if results and results[-1].status == pq.ExecStatus.PIPELINE_SYNC:
            pgconn.exit_pipeline_mode()
    if pgconn.pipeline_status:
        # libpq 15.0 and 15.1 lose the sync when the commit fails: nothing more can be done with it.
        pgconn.finish()
    return failures


def _leave_pipeline_after(error: Exception, pgconn: PGconn) -> PQGen[None]:
    """The same after an error, which counts for more than what may be found."""
    try:
        yield from _leave_pipeline(pgconn)
    except psycopg.Error:
        raise error from None


def _error_in(script: Script, result: PGresult, encoding: str) -> psycopg.Error:
    """The server's error, as if the script had been sent as it was written."""
    error = error_from_result(result, encoding=encoding)
    position = error.diag.statement_position
    if position is None:
        return error
    written = script.original(int(position), encoding)
    fields: dict[int, bytes | None] = {field: result.error_field(field) for field in pq.DiagnosticField}
    fields[pq.DiagnosticField.STATEMENT_POSITION] = str(written).encode()
    message = relocated(str(error), script.text.decode(encoding, "replace"), written)
    return type(error)(message, info=fields, encoding=encoding)


@cache
def _with(addition: Any, kind: Any) -> Any:
    """A class like the given one with the addition; itself if it has that."""
    if issubclass(kind, addition):
        return kind
    names = {"__module__": kind.__module__, "__qualname__": kind.__qualname__, "__doc__": kind.__doc__}
    return type(kind.__name__, (addition, kind), {"__slots__": (), **names})


def _check_libpq() -> None:
    if not psycopg.Pipeline.is_supported():
        raise HistoryError(
            f"libpq {pq.version() // 10000} is too old to carry a context",
            hint="Use libpq 14 or newer, such as the one in psycopg[binary].",
        )


@overload
def plain_cursor(
    conn: psycopg.Connection[Any], row_factory: RowFactory[TupleRow] = ...
) -> psycopg.Cursor[TupleRow]: ...


@overload
def plain_cursor(
    conn: psycopg.AsyncConnection[Any], row_factory: RowFactory[TupleRow] = ...
) -> psycopg.AsyncCursor[TupleRow]: ...


def plain_cursor(conn: Any, row_factory: Any = tuple_row) -> Any:
    """A cursor that gives tuples and takes `%s`, whatever the connection's own cursors do."""
    kind: Any = psycopg.AsyncCursor if isinstance(conn, psycopg.AsyncConnection) else psycopg.Cursor
    if isinstance(conn, _CarryingConnection):
        kind = _with(_CarryingCursor, kind)
    return kind(conn, row_factory=row_factory)


class Connection(_CarryingConnection[Row], psycopg.Connection[Row]):
    """A `psycopg.Connection` that carries the context; also for a pool's `connection_class`."""


class AsyncConnection(_CarryingConnection[Row], psycopg.AsyncConnection[Row]):
    """A `psycopg.AsyncConnection` that carries the context; also for a pool's `connection_class`."""


def instrument(target: Instrumented) -> Instrumented:
    """Makes a connection, or all connections of a pool or an engine, carry the context.

    Nothing else about it changes, and doing it again changes nothing. Cursors made before do not carry the
    context.

    Args:
        target: a psycopg connection, a psycopg_pool pool, or an SQLAlchemy engine, synchronous or not.

    Returns:
        The same object.

    Raises:
        TypeError: it is something else.
    """
    pools, engines = sys.modules.get("psycopg_pool"), sys.modules.get("sqlalchemy")
    if isinstance(target, psycopg.Connection | psycopg.AsyncConnection):
        _check_libpq()
        connection: Any = target
        connection.__class__ = _with(_CarryingConnection, connection.__class__)
    elif pools and isinstance(target, pools.ConnectionPool | pools.AsyncConnectionPool):
        if "getconn" not in vars(target):
            _instrument_pool(target)
    elif engines and isinstance(engine := getattr(target, "sync_engine", target), engines.Engine):
        from pyhist import sqlalchemy  # which the program has, or there would be no engine

        sqlalchemy.instrument(engine)
    else:
        raise TypeError(
            "instrument() takes a psycopg connection, a psycopg_pool pool or an SQLAlchemy engine,"
            f" not {type(target).__module__}.{type(target).__qualname__}"
        )
    return target


def instrument_cursor(cursor: psycopg.Cursor[Any]) -> None:
    """Makes a cursor carry the context as its connection does, though that did not make it by `cursor()`."""
    if not isinstance(cursor.connection, _CarryingConnection):
        return
    addition = _CarryingServerCursor if isinstance(cursor, psycopg.ServerCursor) else _CarryingCursor
    carrying: Any = cursor
    carrying.__class__ = _with(addition, carrying.__class__)


def _instrument_pool(pool: Any) -> None:
    """Has a pool instrument each connection that it hands out, whenever it was opened."""
    getconn = pool.getconn

    @wraps(getconn)
    def carrying(*args: Any, **kwargs: Any) -> Any:
        return instrument(getconn(*args, **kwargs))

    @wraps(getconn)
    async def carrying_async(*args: Any, **kwargs: Any) -> Any:
        return instrument(await getconn(*args, **kwargs))

    pool.getconn = carrying_async if iscoroutinefunction(getconn) else carrying
