"""Row level security on the tracked table hides nothing from its history."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from history import Connection, events, rows, track, warnings_of
from psycopg import errors

Connect = Callable[..., Connection]
LEVELS = ("auto", "row", "statement")

POLICIES = """
    ALTER TABLE app.users ENABLE ROW LEVEL SECURITY;
    CREATE POLICY mine ON app.users USING (name <> 'secret') WITH CHECK (true);
    GRANT SELECT ON app.users TO PUBLIC"""


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("force", [False, True])
def test_rows_that_policies_hide_are_recorded(
    connect: Connect, mallory: str, vera: str, level: str, force: bool
) -> None:
    """Rows that a writer may write and not see; and rows that the owner, who owns the events, may not see."""
    owner, writer = connect(user=vera), connect(user=mallory)
    track(owner, "app.users", "users", kind="history", level=level)
    owner.execute(POLICIES)
    if force:
        owner.execute("ALTER TABLE app.users FORCE ROW LEVEL SECURITY")
    writer.execute("INSERT INTO app.users VALUES (1, 'secret'), (2, 'plain')")
    writer.execute("UPDATE app.users SET name = 'secret'")
    assert rows(writer, "SELECT id FROM app.users") == []
    assert events(owner, "app.users_event", "pgh_operation, id, name") == [
        ("I", 1, "secret"),
        ("I", 2, "plain"),
        ("U", 2, "secret"),
    ]


@pytest.mark.parametrize("setting", ["on", "off"])
def test_a_truncate_is_recorded_in_full_where_the_owner_sees_all_rows(
    connection: Connection, connect: Connect, mallory: str, vera: str, setting: str
) -> None:
    owner, writer = connect(user=vera), connect(user=mallory)
    track(owner, "app.users", "users", kind="before_truncate")
    owner.execute(POLICIES)
    owner.execute("INSERT INTO app.users VALUES (1, 'secret'), (2, 'plain')")
    writer.execute(f"SET row_security TO {setting}")
    writer.execute("TRUNCATE app.users")
    assert sorted(events(owner, "app.users_event", "id")) == [1, 2]
    assert rows(connection, "SELECT * FROM pghistory.verify()") == []


@pytest.mark.parametrize("setting", ["on", "off"])
def test_a_truncate_goes_through_where_policies_are_forced_on_the_owner_and_verify_tells(
    connection: Connection, connect: Connect, mallory: str, vera: str, setting: str
) -> None:
    """A TRUNCATE is recorded by reading the table as the owner of its events: what is hidden from him is lost."""
    owner, writer = connect(user=vera), connect(user=mallory)
    track(owner, "app.users", "users", kind="before_truncate")
    owner.execute("INSERT INTO app.users VALUES (1, 'secret'), (2, 'plain')")
    owner.execute(POLICIES)
    owner.execute("ALTER TABLE app.users FORCE ROW LEVEL SECURITY")
    ((object_, problem, hint),) = rows(connection, "SELECT object, problem, hint FROM pghistory.verify()")
    assert "app.users" in object_
    assert "row" in problem
    assert "ROW LEVEL SECURITY" in hint
    writer.execute(f"SET row_security TO {setting}")
    with warnings_of(writer) as warnings:
        writer.execute("TRUNCATE app.users")
    assert rows(connection, "SELECT * FROM app.users") == []
    assert len(events(owner, "app.users_event", "id")) == 2 or len(warnings) == 1


def test_policies_on_the_event_table_hide_events_and_lose_none(
    connect: Connect, mallory: str, vera: str
) -> None:
    owner, writer = connect(user=vera), connect(user=mallory)
    track(owner, "app.users", "users", kind="history")
    owner.execute(
        f"""ALTER TABLE app.users_event ENABLE ROW LEVEL SECURITY; GRANT SELECT ON app.users_event TO {mallory};
        CREATE POLICY plain ON app.users_event FOR SELECT USING (name <> 'secret')"""
    )
    writer.execute("INSERT INTO app.users VALUES (1, 'secret'), (2, 'plain')")
    assert events(writer, "app.users_event", "id") == [2]
    assert events(owner, "app.users_event", "id") == [1, 2]


def test_an_event_by_hand_needs_a_row_that_the_caller_sees(connect: Connect, mallory: str, vera: str) -> None:
    owner, writer = connect(user=vera), connect(user=mallory)
    track(owner, "app.users", "users", kind="event")
    owner.execute(POLICIES)
    owner.execute("INSERT INTO app.users VALUES (1, 'secret'), (2, 'plain')")
    writer.execute("SELECT pghistory.create_event('app.users', '2', 'users')")
    with pytest.raises(errors.NoDataFound):
        writer.execute("SELECT pghistory.create_event('app.users', '1', 'users')")
    assert events(owner, "app.users_event", "id") == [2]
