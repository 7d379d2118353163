"""What track() and create_event_table() do not accept: each is refused with a code, a reason and a way out.

Refusals of conditions and event tables, and those of other functions, stand beside their tests.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import psycopg
import pytest
from history import Connection, call, catalog, events, refused, track, track_refused, triggers, value
from psycopg import errors

Connect = Callable[..., Connection]


@pytest.fixture(autouse=True)
def users(connection: Connection) -> None:
    connection.execute("CREATE TABLE users (id integer PRIMARY KEY, name text, email text)")


NOT_TABLES = [
    ("CREATE VIEW thing AS SELECT * FROM users", '"thing" is a view, not a table'),
    ("CREATE MATERIALIZED VIEW thing AS SELECT * FROM users", '"thing" is a materialized view, not a table'),
    ("CREATE SEQUENCE thing", '"thing" is a sequence, not a table'),
    ("CREATE TYPE thing AS (id integer)", '"thing" is a composite type, not a table'),
    ("CREATE INDEX thing ON users (name)", '"thing" is a.* index, not a table'),
    ("CREATE TABLE a (id int) PARTITION BY LIST (id); CREATE INDEX thing ON a (id)", '"thing" is a.* index'),
]


@pytest.mark.parametrize(("command", "message"), NOT_TABLES)
def test_what_is_no_table_is_refused(connection: Connection, command: str, message: str) -> None:
    connection.execute(command)
    track_refused(connection, errors.WrongObjectType, message, "thing")


def test_a_toast_table_is_refused(connection: Connection) -> None:
    toast = value(
        connection, "SELECT reltoastrelid::regclass::text FROM pg_class WHERE oid = 'users'::regclass"
    )
    track_refused(connection, errors.WrongObjectType, "is a TOAST table, not a table", toast)


def test_a_temporary_table_is_refused(connection: Connection) -> None:
    connection.execute("CREATE TEMPORARY TABLE scratch (id integer)")
    track_refused(connection, errors.WrongObjectType, 'table "scratch" is temporary', "scratch")


@pytest.mark.parametrize("table", ["pg_class", "pg_catalog.pg_proc", "information_schema.sql_features"])
def test_a_system_table_is_refused(connection: Connection, table: str) -> None:
    track_refused(connection, errors.WrongObjectType, "is a system table", table)


@pytest.mark.parametrize("table", ["context_part", "event_table", "event_column", "tracker", "capture_key"])
def test_a_table_of_pghistory_is_refused(connection: Connection, table: str) -> None:
    track(connection, "users")
    track_refused(
        connection, errors.WrongObjectType, f"pghistory.{table} is a system table", f"pghistory.{table}"
    )


def test_an_event_table_is_refused(connection: Connection) -> None:
    track(connection, "users")
    track_refused(
        connection, errors.WrongObjectType, "table public.users_event is an event table", "users_event"
    )


def test_a_table_that_is_not_there_is_refused(connection: Connection) -> None:
    with pytest.raises(errors.UndefinedTable, match='relation "nobody" does not exist'):
        track(connection, "nobody")
    track_refused(connection, errors.UndefinedTable, "there is no table with oid 4000000000", "4000000000")


RESERVED = [
    "pgh_id",
    "pgh_created_at",
    "pgh_label",
    "pgh_operation",
    "pgh_xid",
    "pgh_context_id",
    "pgh_context",
    "pgh_obj_id",
    "pgh_obj_name",
    "pgh_other_id",
]


def test_a_column_named_like_ours_is_refused(connection: Connection) -> None:
    for column in RESERVED:
        connection.execute(f"CREATE TABLE with_{column} ({column} text)")
        message = f'with_{column} has a column "{column}"'
        track_refused(connection, errors.ReservedName, message, f"with_{column}")


def test_columns_that_only_resemble_ours_are_welcome(connection: Connection) -> None:
    connection.execute(
        'CREATE TABLE odd ("PGH_ID" integer, pgh_height integer, xpgh_id integer, pgh integer)'
    )
    track(connection, "odd")
    connection.execute("INSERT INTO odd VALUES (1, 2, 3, 4)")
    assert events(connection, "odd_event", '"PGH_ID", pgh_height, xpgh_id, pgh') == [(1, 2, 3, 4)]


def test_more_columns_than_an_event_table_can_have_are_refused(connection: Connection) -> None:
    connection.execute(f"CREATE TABLE wide ({', '.join(f'c{number} boolean' for number in range(1595))})")
    message = "events of table public.wide would have 1601 columns, and a table can have 1600"
    track_refused(connection, errors.TooManyColumns, message, "wide")
    track(connection, "wide", exclude=["c0"])
    track_refused(connection, errors.TooManyColumns, "would have", "wide", "other", obj_key=["c1"])


OPTIONS: list[tuple[dict[str, Any], type[psycopg.Error], str]] = [
    ({"kind": "after_everything"}, errors.InvalidParameterValue, 'unknown kind "after_everything"'),
    ({"kind": "Snapshot"}, errors.InvalidParameterValue, 'unknown kind "Snapshot"'),
    ({"kind": None}, errors.NullValueNotAllowed, "kind must not be null"),
    ({"context": "global"}, errors.InvalidParameterValue, 'unknown context "global"'),
    ({"context": None}, errors.NullValueNotAllowed, "context must not be null"),
    ({"level": "table"}, errors.InvalidParameterValue, 'unknown level "table"'),
    ({"level": None}, errors.NullValueNotAllowed, "level must not be null"),
    ({"append_only": None}, errors.NullValueNotAllowed, "append_only must not be null"),
    ({"obj_fk": "no action"}, errors.InvalidParameterValue, 'unknown obj_fk "no action"'),
    ({"label": ""}, errors.InvalidParameterValue, "label must not be empty"),
    (
        {"fields": ["name"], "exclude": ["email"]},
        errors.InvalidParameterValue,
        "fields and exclude cannot both",
    ),
    ({"fields": [], "exclude": []}, errors.InvalidParameterValue, "fields and exclude cannot both"),
    ({"fields": ["name", "phone"]}, errors.UndefinedColumn, 'table public.users has no column "phone"'),
    ({"fields": ["Name"]}, errors.UndefinedColumn, 'has no column "Name"'),
    ({"fields": ["ctid"]}, errors.UndefinedColumn, 'has no column "ctid"'),
    ({"fields": [None]}, errors.UndefinedColumn, "has no column"),
    ({"exclude": ["phone"]}, errors.UndefinedColumn, 'has no column "phone"'),
    ({"obj_key": ["phone"]}, errors.UndefinedColumn, 'has no column "phone"'),
    ({"obj_key": ["name", "name"]}, errors.DuplicateColumn, "obj_key names a column twice"),
    ({"obj_key": [], "obj_fk": "cascade"}, errors.InvalidParameterValue, "obj_fk needs a key"),
    (
        {"obj_fk": "cascade", "append_only": True},
        errors.InvalidParameterValue,
        "append-only event table cannot",
    ),
    (
        {"obj_fk": "set null", "append_only": True},
        errors.InvalidParameterValue,
        "append-only event table cannot",
    ),
    ({"obj_fk": "cascade", "kind": "history"}, errors.InvalidParameterValue, "outlive their object"),
    ({"obj_fk": "restrict", "kind": "before_delete"}, errors.InvalidParameterValue, "outlive their object"),
    ({"obj_fk": "set null", "kind": "before_truncate"}, errors.InvalidParameterValue, "outlive their object"),
    ({"partition_by": "month"}, errors.FeatureNotSupported, "partition_by is not there yet"),
    ({"retention": "1 year"}, errors.FeatureNotSupported, "retention is not there yet"),
    ({"event_table": "a.b.c"}, errors.InvalidName, 'event_table "a.b.c" is not a table name'),
    ({"event_table": "e" * 64}, errors.InvalidName, "is not a table name"),
    ({"event_table": "two words"}, errors.InvalidName, 'event_table "two words" is not a table name'),
    ({"event_table": ""}, errors.InvalidName, 'event_table "" is not a table name'),
    ({"event_table": '"'}, errors.InvalidName, "is not a table name"),
    ({"event_table": "pg_temp.users_event"}, errors.InvalidName, "temporary"),
]


def test_an_option_that_makes_no_sense_is_refused(connection: Connection) -> None:
    for options, error, message in OPTIONS:
        track_refused(connection, error, message, "users", **options)


def test_a_new_definition_that_makes_no_sense_is_refused_and_the_old_one_stays(
    connection: Connection,
) -> None:
    track(connection, "users", "user")
    for options, error, message in OPTIONS:
        if options.keys().isdisjoint({"label", "event_table"}):
            track_refused(connection, error, message, "users", "user", **options)
    connection.execute("INSERT INTO users VALUES (1, 'Ann')")
    assert events(connection, "users_event", "pgh_label, name") == [("user", "Ann")]


def test_a_table_that_is_null_is_refused(connection: Connection) -> None:
    for function in ("track", "create_event_table"):
        refused(
            connection,
            errors.NullValueNotAllowed,
            '"table" must not be null',
            f"SELECT pghistory.{function}(NULL)",
        )


def test_an_event_table_in_a_schema_that_is_not_there_is_refused(connection: Connection) -> None:
    before = catalog(connection)
    with pytest.raises(errors.InvalidSchemaName, match='schema "nowhere" does not exist'):
        track(connection, "users", event_table="nowhere.users_event")
    assert catalog(connection) == before


def test_create_event_table_refuses_what_track_refuses(connection: Connection) -> None:
    shared = {"fields", "exclude", "obj_key", "obj_fk", "context", "append_only"}
    for options, error, message in OPTIONS:
        if options.keys() <= shared:
            arguments = ", ".join(f"{name} => %s" for name in options)
            query = f"SELECT pghistory.create_event_table('users', {arguments})"
            refused(connection, error, message, query, *options.values())


def test_create_event_table_refuses_what_is_no_name(connection: Connection) -> None:
    query = "SELECT pghistory.create_event_table('users', %s)"
    for name in ("a.b.c", "two words", "", "pg_temp.users_event"):
        refused(connection, errors.InvalidName, "is not a table name|temporary", query, name)


def test_create_event_table_refuses_what_cannot_be_tracked(connection: Connection) -> None:
    connection.execute("CREATE VIEW thing AS SELECT * FROM users")
    refused(
        connection,
        errors.WrongObjectType,
        '"thing" is a view, not a table',
        "SELECT pghistory.create_event_table('thing')",
    )


def test_create_event_table_does_not_replace_a_table(connection: Connection) -> None:
    before = catalog(connection)
    with pytest.raises(errors.DuplicateTable):
        call(connection, "create_event_table", "users", "users")
    assert catalog(connection) == before


# Whose table it is


def test_who_does_not_own_the_table_cannot_track_it(
    connection: Connection, connect: Connect, role: Callable[..., str]
) -> None:
    stranger = role("stranger")
    connection.execute(f"GRANT ALL ON users TO {stranger}; GRANT ALL ON SCHEMA public TO {stranger}")
    session = connect(user=stranger)
    message = "must be owner of table public.users"
    track_refused(session, errors.InsufficientPrivilege, message, "users", inspector=connection)
    refused(
        session,
        errors.InsufficientPrivilege,
        message,
        "SELECT pghistory.create_event_table('users')",
        inspector=connection,
    )


def test_events_do_not_go_to_a_table_of_somebody_else(
    connection: Connection, connect: Connect, role: Callable[..., str]
) -> None:
    owner, stranger = role("owner"), role("stranger")
    connection.execute(
        f"""CREATE SCHEMA app AUTHORIZATION {owner}; GRANT ALL ON SCHEMA app TO {stranger};
        SET ROLE {stranger}; CREATE TABLE app.log (pgh_id bigserial); GRANT ALL ON app.log TO PUBLIC;
        SET ROLE {owner}; CREATE TABLE app.orders (id integer PRIMARY KEY); RESET ROLE"""
    )
    session = connect(user=owner)
    message = "must be owner of table app.log"
    track_refused(
        session,
        errors.InsufficientPrivilege,
        message,
        "app.orders",
        event_table="app.log",
        inspector=connection,
    )


def test_a_default_event_table_of_somebody_else_is_refused(
    connection: Connection, connect: Connect, role: Callable[..., str]
) -> None:
    owner, stranger = role("owner"), role("stranger")
    connection.execute(
        f"""CREATE SCHEMA app AUTHORIZATION {owner}; GRANT ALL ON SCHEMA app TO {stranger};
        SET ROLE {stranger}; CREATE TABLE app.orders_event (pgh_id bigserial);
        SET ROLE {owner}; CREATE TABLE app.orders (id integer PRIMARY KEY); RESET ROLE"""
    )
    session = connect(user=owner)
    message = "must be owner of table app.orders_event"
    track_refused(session, errors.InsufficientPrivilege, message, "app.orders", inspector=connection)


def test_truncates_are_not_tracked_into_the_table_of_a_role_that_may_not_read_the_rows(
    connection: Connection, role: Callable[..., str]
) -> None:
    keeper = role("keeper")
    call(connection, "create_event_table", "users", "users_log")
    connection.execute(f"ALTER TABLE users_log OWNER TO {keeper}")
    for kind in ("before_truncate", "history"):
        message = f"role {keeper}, who owns the event table, may not read table public.users"
        track_refused(
            connection, errors.InsufficientPrivilege, message, "users", kind=kind, event_table="users_log"
        )
    track(connection, "users", "changes", event_table="users_log")
    connection.execute(f"GRANT SELECT ON users TO {keeper}")
    track(connection, "users", "all", kind="history", event_table="users_log")
    connection.execute("INSERT INTO users VALUES (1, 'Ann'); TRUNCATE users")
    assert events(connection, "users_log", label="all") == ["I", "T"]


# Levels

NOT_AT_STATEMENT_LEVEL = [
    ("CREATE TABLE t (id integer PRIMARY KEY) PARTITION BY LIST (id)", "it is partitioned"),
    (
        "CREATE TABLE p (id integer) PARTITION BY LIST (id); CREATE TABLE t PARTITION OF p FOR VALUES IN (1)",
        "it is a partition",
    ),
    ("CREATE TABLE t (id integer); CREATE TABLE child () INHERITS (t)", "other tables inherit from it"),
    (
        "CREATE TABLE parent (id integer); CREATE TABLE t () INHERITS (parent)",
        "it inherits from another table",
    ),
    (
        """CREATE TABLE t (id integer);
        CREATE FUNCTION again() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';
        CREATE TRIGGER again AFTER UPDATE ON t FOR EACH ROW EXECUTE FUNCTION again()""",
        "it has AFTER ROW triggers of its own",
    ),
    (
        "CREATE TABLE t (id integer PRIMARY KEY, parent integer REFERENCES t ON UPDATE CASCADE)",
        "a change of its key may come back to it through foreign keys",
    ),
    (
        """CREATE TABLE t (id integer PRIMARY KEY, other integer);
        CREATE TABLE u (id integer PRIMARY KEY REFERENCES t ON UPDATE CASCADE);
        ALTER TABLE t ADD FOREIGN KEY (other) REFERENCES u ON UPDATE CASCADE""",
        "a change of its key may come back to it through foreign keys",
    ),
]


@pytest.mark.parametrize(("command", "reason"), NOT_AT_STATEMENT_LEVEL)
def test_a_level_that_would_lose_or_misorder_events_is_refused(
    connection: Connection, command: str, reason: str
) -> None:
    connection.execute(command)
    for kind in ("history", "snapshot", "after_insert_or_update", "before_update", "after_update"):
        track_refused(connection, errors.FeatureNotSupported, reason, "t", kind=kind, level="statement")
    track(connection, "t", kind="history")
    assert ("update", "row") in triggers(connection, "t")
    track(connection, "t", kind="history", level="row")


def test_a_level_that_does_not_matter_to_the_kind_is_accepted(connection: Connection) -> None:
    connection.execute("CREATE TABLE t (id integer PRIMARY KEY) PARTITION BY LIST (id)")
    track(connection, "t", "gone", kind="before_truncate", level="statement")
    track(connection, "t", "by hand", kind="event", level="statement")
    connection.execute(
        "CREATE TABLE node (id integer PRIMARY KEY, parent integer REFERENCES node ON UPDATE CASCADE)"
    )
    track(connection, "node", "inserted", kind="after_insert", level="statement")
