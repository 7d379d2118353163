"""The two settings that carry a context to the server, as the statement that goes in front of another.

Nothing here sends anything: what is sent depends on the driver, and its module does that.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from pyhist.context import ActiveContext


def _in_one_line(sql: str) -> str:
    return " ".join(sql.split())


# They give no row: short, and the same in the mode of single rows, which libpq may have been left in.
MARK = "pghistory.context_id"
_SET = _in_one_line(f"""
SELECT 1 AS "{MARK}"
 WHERE pg_catalog.set_config('pghistory.context_id', $1, true) OPERATOR(pg_catalog.||)
       pg_catalog.set_config('pghistory.context_metadata', $2, true) IS NULL""")
# Only what came from here: a context that the program has set by other means stays.
_CLEAR = _in_one_line(f"""
SELECT 1 AS "{MARK}"
 WHERE CASE WHEN pg_catalog.current_setting('pghistory.context_id', true) OPERATOR(pg_catalog.=)
                 ANY (pg_catalog.string_to_array($1, ' '))
            THEN pg_catalog.set_config('pghistory.context_id', '', true) OPERATOR(pg_catalog.||)
                 pg_catalog.set_config('pghistory.context_metadata', '', true)
            ELSE '' END IS NULL""")


@dataclass(frozen=True)
class Settings:
    """The statement that goes in front.

    Attributes:
        sql: with a `$1` for each value.
        values: text.
    """

    sql: str
    values: tuple[str, ...]

    def as_script(self) -> bytes:
        """For the simple protocol, which has no parameters. It is ASCII, and ends with a semicolon."""
        sql = self.sql
        for number, value in enumerate(self.values, start=1):
            sql = sql.replace(f"${number}", _literal(value))
        return f"{sql};".encode()


def setting(active: ActiveContext) -> Settings:
    """What gives the server a context."""
    return Settings(_SET, active.settings)


def clearing(ids: Collection[str]) -> Settings:
    """What ends these contexts on the server."""
    return Settings(_CLEAR, (" ".join(ids),))


def opening(active: ActiveContext) -> str:
    """What gives a transaction that has just begun its context.

    It needs no snapshot, so that the transaction can still be set up (SET TRANSACTION ...).
    """
    names = ("pghistory.context_id", "pghistory.context_metadata")
    return " ".join(
        f"SET LOCAL {name} = {_literal(value)};" for name, value in zip(names, active.settings, strict=True)
    )


def _literal(value: str) -> str:
    escaped = value.replace("\\", "\\\\").replace("'", "''")
    return f"E'{escaped}'"
