"""The errors that pyhist raises.

What goes wrong on the way (a lost connection, a deadlock, a cancelled statement, an aborted transaction)
stays psycopg's own error, so that programs that try again still do.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import psycopg


class HistoryError(Exception):
    """Something about a database's history could not be done; the message says what, why, and what to do.

    If the server said so, its own error is the `__cause__`.

    Attributes:
        message: what was refused.
        detail: more about it, or None.
        hint: what to do, or None.
    """

    default_hint: str | None = None

    def __init__(self, message: str, *, detail: str | None = None, hint: str | None = None) -> None:
        self.message = message
        self.detail = detail
        self.hint = hint or self.default_hint
        super().__init__(message)

    def __str__(self) -> str:
        lines = [self.message]
        if self.detail:
            lines.append(f"DETAIL: {self.detail}")
        if self.hint:
            lines.append(f"HINT: {self.hint}")
        return "\n".join(lines)


class InstallError(HistoryError):
    """The extension could not be installed; the message says what to do."""


class NotInstalledError(HistoryError):
    """The database does not have the extension, or an older one: install it, or upgrade it."""

    default_hint = "Call pyhist.install(dsn, upgrade=True), or run: pyhist install --upgrade"


class NotFoundError(HistoryError):
    """A table, column, tracker or row that was named is not there: name it as the database does."""

    default_hint = "Name tables as in 'schema.table', in double quotes if they have capitals."


class NotAllowedError(HistoryError):
    """The role may not do this: let the table's owner do it, or be granted what is missing."""

    default_hint = "Let the owner of the table do it."


class NotSupportedError(HistoryError):
    """This cannot be recorded, or not in this way: the hint says what can."""


class ConflictError(HistoryError):
    """It contradicts what is there: give another name or label, or remove the other first."""


class InvalidArgumentError(HistoryError):
    """An argument makes no sense here: the hint says which values do."""


_CLASSES: dict[str, type[HistoryError]] = {
    "42P01": NotFoundError,  # undefined_table
    "42703": NotFoundError,  # undefined_column
    "42704": NotFoundError,  # undefined_object
    "P0002": NotFoundError,  # no_data_found
    "42501": NotAllowedError,  # insufficient_privilege
    "0A000": NotSupportedError,  # feature_not_supported
    "42809": NotSupportedError,  # wrong_object_type
    "42939": NotSupportedError,  # reserved_name
    "54011": NotSupportedError,  # too_many_columns
    "42P07": ConflictError,  # duplicate_table
    "42P16": ConflictError,  # invalid_table_definition
    "55000": ConflictError,  # object_not_in_prerequisite_state
}
_NO_SUCH_FUNCTION = ("3F000", "42883")  # invalid_schema_name, undefined_function
_ARGUMENTS = ("22", "42")  # the classes of data exceptions, and of syntax errors and access rule violations
# Lost connections, wrong states of transactions, deadlocks, resources, interventions, system errors, locks.
_ON_THE_WAY = ("08", "25", "40", "53", "57", "58", "XX", "55P03")


@contextmanager
def explained() -> Iterator[None]:
    """Raises what the server refuses as the `HistoryError` that says what to do."""
    try:
        yield
    except psycopg.Error as error:
        code = error.sqlstate
        if code is None or code.startswith(_ON_THE_WAY):
            raise
        said = error.diag
        message, detail, hint = said.message_primary or str(error), said.message_detail, said.message_hint
        # A condition may call what is not there; RAISE says so, which is this place in PostgreSQL's source.
        if code in _NO_SUCH_FUNCTION and said.source_function != "exec_stmt_raise":
            raise NotInstalledError(message, detail=detail) from error
        kind = InvalidArgumentError if code.startswith(_ARGUMENTS) else HistoryError
        raise _CLASSES.get(code, kind)(message, detail=detail, hint=hint) from error
