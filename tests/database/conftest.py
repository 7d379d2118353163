"""Fixtures for the tests of the SQL."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest
from history import Connection, rows, value, warnings_of

EVENT_TRIGGERS = ("pghistory_before_ddl", "pghistory_after_ddl", "pghistory_after_drop")


@pytest.fixture
def without_event_triggers(connection: Connection) -> None:
    """Make the database one in which event triggers could not be created."""
    for name in EVENT_TRIGGERS:
        connection.execute(f"ALTER EXTENSION pghistory DROP EVENT TRIGGER {name}")
        connection.execute(f"DROP EVENT TRIGGER {name}")


class Follow:
    """Call `follow(statement, ...)` to run DDL in one transaction and have it followed.

    Afterwards verify() finds nothing but `wrong`, and there was no warning.
    """

    def __init__(self, connection: Connection, by: str) -> None:
        self.connection = connection
        self.by = by

    def __call__(
        self, *statements: str, by: Connection | None = None, wrong: Sequence[tuple[str, str]] = ()
    ) -> None:
        session = by or self.connection
        with warnings_of(session) as warnings, session.transaction():
            for statement in statements:
                session.execute(statement)
            if self.by == "sync()":
                session.execute("SELECT pghistory.sync()")
        assert warnings == []
        found = rows(self.connection, "SELECT object, problem FROM pghistory.verify() ORDER BY object")
        assert found == list(wrong)


@pytest.fixture(params=["event triggers", "sync()"])
def follow(
    request: pytest.FixtureRequest, connection: Connection, connect: Callable[..., Connection]
) -> Follow:
    """DDL that is followed: by event triggers, and without them by sync() in the same transaction."""
    if request.param == "sync()":
        request.getfixturevalue("without_event_triggers")
    found = value(connection, "SELECT count(*) FROM pg_event_trigger WHERE evtname LIKE 'pghistory%'")
    assert found == (0 if request.param == "sync()" else len(EVENT_TRIGGERS))
    return Follow(connection, request.param)
