"""psycopg2 connections that carry the context to the server.

psycopg2 sends each statement as one text, with the values in it. The two settings of the protocol are put
into that text, in front of what may write, and last for its transaction only. So a context costs no round
trip, a savepoint that is rolled back takes nothing with it, and the next user of a connection finds nothing.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from itertools import accumulate
from typing import TYPE_CHECKING, Any

import psycopg2
from psycopg2 import extensions, sql

from pyhist.context import active_context
from pyhist.settings import Settings, clearing, setting
from pyhist.statements import Script, Statement, relocated, scripted, statements

_COULD_NOT_COMMIT = "2D000"  # invalid_transaction_termination


class Connection(extensions.connection):
    """A psycopg2 connection that carries the context: `psycopg2.connect(connection_factory=Connection)`.

    Also for psycopg2's pools. Its cursors carry the context whatever their `cursor_factory`, which has to be
    a class.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        # The ids that this transaction has been given; threads may share the connection.
        self._history_ids: frozenset[str] = frozenset()
        self._history_lock = threading.RLock()
        super().__init__(*args, **kwargs)

    if not TYPE_CHECKING:

        def cursor(self, name=None, cursor_factory=None, *args, **kwargs):
            factory = cursor_factory or self.cursor_factory or extensions.cursor
            kwargs.update(zip(("withhold", "scrollable"), args, strict=False))
            return super().cursor(name=name, cursor_factory=_carrying(factory), **kwargs)

    def _history_settings(self) -> Settings | None:
        """What the next statement needs in front of it, if it may write."""
        status = self.get_transaction_status()
        if status not in (extensions.TRANSACTION_STATUS_IDLE, extensions.TRANSACTION_STATUS_INTRANS):
            return None
        if status == extensions.TRANSACTION_STATUS_IDLE:
            self._history_ids = frozenset()
        active = active_context()
        if active is not None:
            settings = setting(active)
            self._history_ids |= {settings.values[0]}
            return settings
        return clearing(self._history_ids) if self._history_ids else None


class _CarryingCursor(extensions.cursor):
    """What is added to a cursor's class."""

    connection: Connection
    _history_inserted: bytes = b""

    @property
    def query(self) -> bytes | None:
        """The last statement, as the program wrote it."""
        sent = super().query
        return sent.replace(self._history_inserted, b"") if sent and self._history_inserted else sent

    def execute(self, query: Any, vars: Any = None) -> None:
        with self._history_carried(query) as (settings, found):
            if settings is None:
                super().execute(query, vars)
                return
            written = self._history_bytes(self.mogrify(query, vars))
            if self.name is not None:
                # A cursor that is only declared needs the settings when it runs.
                self._history_inserted = b"\n;" + settings.as_script()
                super().execute(written + self._history_inserted)
                return
            is_alone = len(found) == 1 and self.connection.autocommit and self._history_is_idle()
            try:
                super().execute(self._history_script(written, settings, found))
            except psycopg2.Error as error:
                if not is_alone or error.pgcode != _COULD_NOT_COMMIT:
                    raise
                # A procedure that commits may not do so behind another statement. What it did until then was
                # rolled back: it is called once more, alone.
                super().execute(written)

    def executemany(self, query: Any, vars_list: Iterable[Any]) -> None:
        with self._history_carried(query) as (settings, found):
            if settings is None or self.name is not None:
                super().executemany(query, vars_list)
                return
            # A percent sign would be a place for a value. In JSON it can be written so.
            escaped = Settings(
                settings.sql, tuple(value.replace("%", "\\u0025") for value in settings.values)
            )
            script = self._history_script(self._history_bytes(query), escaped, found)
            super().executemany(script, vars_list)

    def callproc(self, procname: str | bytes, parameters: Any = None, /) -> Any:
        with self._history_carried(b"SELECT") as (settings, _):
            if settings is None or self.name is not None:
                return super().callproc(procname, parameters)
            name = procname.decode() if isinstance(procname, bytes) else procname
            if isinstance(parameters, Mapping):
                marks = [f"{extensions.quote_ident(key, self)}:=%s" for key in parameters]
                values = tuple(parameters.values())
            else:
                values = tuple(parameters or ())
                marks = ["%s"] * len(values)
            self.execute(f"SELECT * FROM {name}({','.join(marks)})", values or None)
            return None if isinstance(parameters, Mapping) else parameters

    def copy_expert(self, sql: Any, file: Any, size: int = 8192) -> None:
        with self._history_carried(sql) as (settings, found):
            if settings is not None and self.name is None:
                sql = self._history_script(self._history_bytes(sql), settings, found)
            super().copy_expert(sql, file, size)

    if not TYPE_CHECKING:

        def copy_from(self, file, table, sep="\t", null="\\N", size=8192, columns=None):
            with self._history_carried(b"COPY") as (settings, _):
                if settings is None or self.name is not None:
                    super().copy_from(file, table, sep, null, size, columns)
                else:
                    self.copy_expert(_copy("FROM stdin", table, sep, null, columns), file, size)

        def copy_to(self, file, table, sep="\t", null="\\N", columns=None):
            with self._history_carried(b"COPY") as (settings, _):
                if settings is None or self.name is not None:
                    super().copy_to(file, table, sep, null, columns)
                else:
                    self.copy_expert(_copy("TO stdout", table, sep, null, columns), file)

    @contextmanager
    def _history_carried(self, query: Any) -> Iterator[tuple[Settings | None, Sequence[Statement]]]:
        """What goes in front of a text, and the statements in it; no other thread sends anything meanwhile.

        The server's errors get to show the place in the text as it was written.
        """
        self._history_inserted = b""
        if self.closed or self.connection.closed:
            yield None, ()  # it will be refused
            return
        with self.connection._history_lock:
            settings = self.connection._history_settings()
            found = statements(self._history_bytes(query)) if settings else ()
            try:
                yield settings if any(statement.may_write for statement in found) else None, found
            except psycopg2.Error as error:
                self._history_relocate(error)
                raise

    def _history_script(self, text: bytes, settings: Settings, found: Sequence[Statement]) -> bytes:
        """The text with the settings in it."""
        self._history_inserted = settings.as_script()
        return scripted(text, self._history_inserted, found if len(found) == 1 else statements(text)).sent

    def _history_relocate(self, error: psycopg2.Error) -> None:
        inserted, sent = self._history_inserted, super().query
        position = error.diag.statement_position
        if not (inserted and sent and position):
            return
        parts = sent.split(inserted)
        places = tuple(accumulate(map(len, parts[:-1])))
        encoding = extensions.encodings[self.connection.encoding]
        script = Script(b"".join(parts), inserted, places)
        place = script.original(int(position), encoding)
        text = script.text.decode(encoding, "replace")
        error.args = tuple(relocated(str(said), text, place) for said in error.args)
        said = relocated(error.pgerror or "", text, place)
        state: Any = {"pgerror": said, "pgcode": error.pgcode}
        error.__setstate__(state)  # type: ignore[no-untyped-call]

    def _history_is_idle(self) -> bool:
        return self.connection.get_transaction_status() == extensions.TRANSACTION_STATUS_IDLE

    def _history_bytes(self, query: Any) -> bytes:
        if isinstance(query, sql.Composable):
            query = query.as_string(self)
        if isinstance(query, bytes):
            return query
        return str(query).encode(extensions.encodings[self.connection.encoding])


def _copy(direction: str, table: str, sep: str, null: str, columns: Iterable[str] | None) -> sql.Composed:
    names = sql.Composed([sql.Identifier(table)])
    if columns is not None:
        names += sql.SQL("({})").format(sql.SQL(",").join(map(sql.Identifier, columns)))
    return sql.SQL("COPY {} {} WITH DELIMITER AS {} NULL AS {}").format(
        names, sql.SQL(direction), sql.Literal(sep), sql.Literal(null)
    )


@cache
def _carrying(kind: Any) -> Any:
    """A class of cursors like the given one that carries the context; itself if it does."""
    if not isinstance(kind, type):
        raise TypeError(f"cursor_factory must be a class to carry the context, not {kind!r}")
    if issubclass(kind, _CarryingCursor):
        return kind
    names = {"__module__": kind.__module__, "__qualname__": kind.__qualname__, "__doc__": kind.__doc__}
    return type(kind.__name__, (_CarryingCursor, kind), names)
