"""Append-only event tables change for nobody but the owner who takes that off."""

from __future__ import annotations

from collections.abc import Callable

import psycopg
import pytest
from history import Connection, call, events, rows, track
from psycopg import errors

Connect = Callable[..., Connection]

CHANGES = {
    "update": "UPDATE app.users_event SET name = 'forged'",
    "update of nothing": "UPDATE app.users_event SET name = 'forged' WHERE false",
    "delete": "DELETE FROM app.users_event",
    "truncate": "TRUNCATE app.users_event",
    "truncate with others": "TRUNCATE evil.other, app.users_event CASCADE",
    "upsert": """INSERT INTO app.users_event (pgh_id, pgh_created_at, pgh_label, pgh_operation, pgh_xid)
        OVERRIDING SYSTEM VALUE VALUES (1, now(), 'x', 'I', '1')
        ON CONFLICT (pgh_id) DO UPDATE SET name = 'forged'""",
    "writable query": "WITH gone AS (DELETE FROM app.users_event RETURNING 1) SELECT count(*) FROM gone",
    "through a view": "DELETE FROM evil.window_on_it",
    "through a function": "SELECT evil.remove()",
}


@pytest.fixture
def writer(connect: Connect, mallory: str, vera: str) -> Connection:
    """A session of a role that has every right on the append-only event table that a right can be granted for."""
    owner, writer = connect(user=vera), connect(user=mallory)
    track(owner, "app.users", "users", kind="history", append_only=True)
    owner.execute(f"INSERT INTO app.users VALUES (1, 'Ann'); GRANT ALL ON app.users_event TO {mallory}")
    writer.execute(
        """CREATE TABLE evil.other (); CREATE VIEW evil.window_on_it AS SELECT * FROM app.users_event;
        CREATE FUNCTION evil.remove() RETURNS void LANGUAGE sql SECURITY DEFINER AS 'DELETE FROM app.users_event'"""
    )
    return writer


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_no_granted_right_changes_append_only_events(
    connection: Connection, writer: Connection, change: str
) -> None:
    before = rows(connection, "SELECT * FROM app.users_event")
    with pytest.raises(errors.InsufficientPrivilege, match="append-only"):
        writer.execute(change)
    assert rows(connection, "SELECT * FROM app.users_event") == before


def test_merge_does_not_change_append_only_events(connection: Connection, writer: Connection) -> None:
    before = rows(connection, "SELECT * FROM app.users_event")
    for then in ("DELETE", "UPDATE SET name = 'forged'"):
        with pytest.raises((errors.InsufficientPrivilege, errors.SyntaxError)):  # PostgreSQL 14 has no MERGE
            writer.execute(
                f"MERGE INTO app.users_event USING (SELECT 1) AS one ON true WHEN MATCHED THEN {then}"
            )
    assert rows(connection, "SELECT * FROM app.users_event") == before


def test_copy_adds_events_and_changes_none(connection: Connection, writer: Connection) -> None:
    before = rows(connection, "SELECT * FROM app.users_event")
    with pytest.raises(errors.UniqueViolation), writer.cursor() as cursor:
        with cursor.copy(
            "COPY app.users_event (pgh_id, pgh_created_at, pgh_label, pgh_operation, pgh_xid) FROM STDIN"
        ) as copy:
            copy.write_row((1, "2026-01-01", "x", "I", "1"))
    assert rows(connection, "SELECT * FROM app.users_event") == before


@pytest.mark.parametrize(
    "setting",
    [
        "SET session_replication_role TO replica",
        "SET session_replication_role TO local",
        "SET application_name TO pg_restore",
        "SET row_security TO off",
        "SET pghistory.append_only TO off",
    ],
)
def test_no_setting_takes_the_guard_off(connection: Connection, writer: Connection, setting: str) -> None:
    """Not even those of a superuser, who would have to take the trigger off."""
    connection.execute(setting)
    for change in ("update", "delete", "truncate"):
        with pytest.raises(errors.InsufficientPrivilege, match="append-only"):
            connection.execute(CHANGES[change])


@pytest.mark.parametrize(
    "attempt",
    [
        "SELECT pghistory.track('app.users', 'users', kind => 'history')",
        "SELECT pghistory.untrack('app.users', drop_events => true)",
        "SELECT pghistory.untrack('app.users', 'users', true)",
        "SELECT pghistory._set_append_only('app.users_event', false)",
        """INSERT INTO pghistory._request VALUES ('save event table', 'app.users', 'app.users_event',
            '{"append_only": false}')""",
        "ALTER TABLE app.users_event DISABLE TRIGGER ALL",
        'DROP TRIGGER "!pghistory append-only" ON app.users_event',
        "DROP TABLE app.users_event",
        "ALTER TABLE app.users_event RENAME TO gone",
        "ALTER TABLE app.users_event ALTER COLUMN name TYPE text USING 'forged'",
        "DROP FUNCTION pghistory._refuse_change() CASCADE",
        "CREATE OR REPLACE FUNCTION pghistory._refuse_change() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'",
    ],
)
def test_only_the_owner_takes_the_guard_off(connection: Connection, writer: Connection, attempt: str) -> None:
    with pytest.raises(errors.InsufficientPrivilege):
        writer.execute(attempt)
    assert rows(connection, "SELECT * FROM pghistory.verify()") == []
    with pytest.raises(errors.InsufficientPrivilege, match="append-only"):
        writer.execute(CHANGES["delete"])


def test_the_owner_takes_it_off_by_saying_so(connect: Connect, writer: Connection, vera: str) -> None:
    owner = connect(user=vera)
    for change in ("update", "delete", "truncate"):
        with pytest.raises(errors.InsufficientPrivilege, match="append-only"):
            owner.execute(CHANGES[change])
    track(owner, "app.users", "users", kind="history", append_only=False)
    owner.execute(CHANGES["update"])
    assert events(owner, "app.users_event", "name") == ["forged"]
    writer.execute("DROP VIEW evil.window_on_it")
    track(owner, "app.users", "users", kind="history", append_only=True)
    assert call(owner, "untrack", "app.users", drop_events=True) == 1
    assert rows(owner, "SELECT to_regclass('app.users_event')::text") == [(None,)]


def test_events_are_dropped_by_label_and_the_guard_is_back(
    connect: Connect, writer: Connection, vera: str
) -> None:
    owner = connect(user=vera)
    track(owner, "app.users", "more", kind="after_insert", append_only=True)
    owner.execute("INSERT INTO app.users VALUES (2, 'Tim')")
    call(owner, "untrack", "app.users", "more", drop_events=True)
    assert events(owner, "app.users_event", "pgh_label") == ["users", "users"]
    with pytest.raises(errors.InsufficientPrivilege, match="append-only"):
        writer.execute(CHANGES["delete"])


def test_the_guard_stays_through_ddl_and_upkeep(
    connection: Connection, connect: Connect, writer: Connection, vera: str
) -> None:
    """Also where old events are rewritten: columns retyped, a new key filled in."""
    owner = connect(user=vera)
    owner.execute("ALTER TABLE app.users ADD COLUMN number integer NOT NULL DEFAULT 5")
    owner.execute("ALTER TABLE app.users ALTER COLUMN name TYPE varchar(20)")
    owner.execute("ALTER TABLE app.users DROP CONSTRAINT users_pkey, ADD PRIMARY KEY (number)")
    connection.execute("SELECT pghistory.sync(); SELECT pghistory.refresh()")
    for change in ("update", "delete", "truncate"):
        with pytest.raises(errors.InsufficientPrivilege, match="append-only"):
            writer.execute(CHANGES[change])
    assert rows(connection, "SELECT * FROM pghistory.verify()") == []


def test_a_guard_that_is_missing_is_found_and_put_back(
    connect: Connect, writer: Connection, vera: str
) -> None:
    owner = connect(user=vera)
    for damage in (
        'DROP TRIGGER "!pghistory append-only" ON app.users_event',
        "ALTER TABLE app.users_event DISABLE TRIGGER ALL",
        'ALTER TABLE app.users_event ENABLE REPLICA TRIGGER "!pghistory append-only"',
    ):
        owner.execute(damage)
        assert rows(owner, "SELECT problem FROM pghistory.verify()") != [], damage
        owner.execute("SELECT pghistory.refresh()")
        assert rows(owner, "SELECT problem FROM pghistory.verify()") == [], damage
        with pytest.raises(errors.InsufficientPrivilege, match="append-only"):
            writer.execute(CHANGES["delete"])


def test_what_could_not_be_guarded_is_not_called_append_only(
    connect: Connect, mallory: str, vera: str
) -> None:
    """A partition could be changed by itself, past the guard of the event table."""
    owner = connect(user=vera)
    call(owner, "create_event_table", "app.users", "app.model")
    owner.execute(
        """CREATE TABLE app.log (LIKE app.model) PARTITION BY RANGE (pgh_created_at);
        CREATE SEQUENCE app.numbers; ALTER TABLE app.log ALTER COLUMN pgh_id SET DEFAULT nextval('app.numbers');
        CREATE TABLE app.log_1 PARTITION OF app.log DEFAULT"""
    )
    with pytest.raises(errors.InvalidTableDefinition, match="append-only"):
        track(owner, "app.users", "users", kind="history", event_table="app.log", append_only=True)
    track(owner, "app.users", "users", kind="history", event_table="app.log")


def test_a_deleted_object_takes_no_append_only_event_along(connect: Connect, mallory: str, vera: str) -> None:
    owner = connect(user=vera)
    for obj_fk in ("cascade", "set null"):
        with pytest.raises(psycopg.Error, match="append-only"):
            track(owner, "app.users", kind="after_insert", obj_fk=obj_fk, append_only=True)
