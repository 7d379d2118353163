"""track(): its parameters, the trackers it keeps, and what calling it again does."""

from __future__ import annotations

import psycopg
import pytest
from history import (
    KINDS,
    Connection,
    call,
    catalog,
    events,
    rows,
    track,
    track_refused,
    triggers,
    value,
)

PARAMETERS = """
    "table" regclass,
    label text DEFAULT NULL::text,
    kind text DEFAULT 'snapshot'::text,
    fields text[] DEFAULT NULL::text[],
    condition text DEFAULT NULL::text,
    exclude text[] DEFAULT NULL::text[],
    event_table text DEFAULT NULL::text,
    obj_key text[] DEFAULT NULL::text[],
    obj_fk text DEFAULT NULL::text,
    context text DEFAULT 'reference'::text,
    append_only boolean DEFAULT false,
    level text DEFAULT 'auto'::text,
    partition_by text DEFAULT NULL::text,
    retention interval DEFAULT NULL::interval
"""


@pytest.fixture(autouse=True)
def users(connection: Connection) -> None:
    connection.execute(
        """CREATE TABLE users (
            id integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY, name text, email text, age integer)"""
    )


def trackers(connection: Connection, columns: str) -> list[tuple[object, ...]]:
    return rows(connection, f"SELECT {columns} FROM pghistory.trackers()")


def test_track_has_the_parameters_of_the_contract_in_its_order(connection: Connection) -> None:
    arguments = value(connection, "SELECT pg_get_function_arguments('pghistory.track'::regproc)")
    assert arguments == ", ".join(line.strip().rstrip(",") for line in PARAMETERS.strip().splitlines())
    assert value(connection, "SELECT pg_get_function_result('pghistory.track'::regproc)") == "regclass"


def test_track_returns_the_event_table(connection: Connection) -> None:
    assert track(connection, "users") == "users_event"
    assert value(connection, "SELECT pghistory.track('users', 'again') = 'public.users_event'::regclass")


def test_the_table_is_found_as_the_caller_would_find_it(connection: Connection) -> None:
    connection.execute("CREATE SCHEMA app CREATE TABLE users (id integer PRIMARY KEY)")
    connection.execute("SET search_path TO app, public")
    track(connection, "users")
    connection.execute("INSERT INTO app.users VALUES (1)")
    assert events(connection, "app.users_event", "id") == [1]


def test_the_label_is_the_table_and_the_kind_unless_given(connection: Connection) -> None:
    for kind in KINDS:
        track(connection, "users", kind=kind)
    track(connection, "users", "user.create", kind="after_insert")
    assert trackers(connection, "label, kind") == [
        *((f"users.{kind}", kind) for kind in KINDS),
        ("user.create", "after_insert"),
    ]


def test_default_names_of_event_tables_say_what_is_in_them(connection: Connection) -> None:
    assert track(connection, "users", "all") == "users_event"
    assert track(connection, "users", "some", fields=["email", "name"]) == "users_name_email_event"
    assert track(connection, "users", "but", exclude=["email", "name"]) == "users_without_name_email_event"
    assert track(connection, "users", "meta", fields=[]) == "users_meta_event"
    assert track(connection, "users", "exclude nothing", exclude=[]) == "users_event"


def test_the_default_event_table_is_in_the_schema_of_the_table(connection: Connection) -> None:
    connection.execute("CREATE SCHEMA app CREATE TABLE orders (id integer PRIMARY KEY)")
    assert track(connection, "app.orders") == "app.orders_event"


def test_an_event_table_may_be_in_another_schema(connection: Connection) -> None:
    connection.execute("CREATE SCHEMA audit")
    assert track(connection, "users", event_table="audit.users_history") == "audit.users_history"
    connection.execute("INSERT INTO users (name) VALUES ('Ann')")
    assert events(connection, "audit.users_history", "name") == ["Ann"]


def test_an_event_table_named_without_schema_is_in_that_of_its_table(connection: Connection) -> None:
    connection.execute("CREATE SCHEMA app CREATE TABLE orders (id integer PRIMARY KEY)")
    assert track(connection, "app.orders", event_table='"Orders\' past"') == 'app."Orders\' past"'


def test_trackers_of_the_same_columns_key_and_context_share_the_default_event_table(
    connection: Connection,
) -> None:
    assert track(connection, "users", "a", kind="after_insert") == "users_event"
    assert track(connection, "users", "b", kind="before_delete", level="row") == "users_event"
    assert track(connection, "users", "c", condition="new.age > 17") == "users_event"
    connection.execute("INSERT INTO users (name, age) VALUES ('Ann', 18)")
    connection.execute("DELETE FROM users")
    assert events(connection, "users_event", "pgh_label, name") == [("a", "Ann"), ("c", "Ann"), ("b", "Ann")]


def test_several_track_calls_may_name_the_same_event_table(connection: Connection) -> None:
    track(connection, "users", "a", event_table="history")
    track(connection, "users", "b", fields=["name", "age"], event_table="history")
    connection.execute("INSERT INTO users (name, email, age) VALUES ('Ann', 'ann@example.org', 40)")
    assert events(connection, "history", "pgh_label, id, name, email, age") == [
        ("a", 1, "Ann", "ann@example.org", 40),
        ("b", None, "Ann", None, 40),
    ]


def test_labels_of_different_tables_do_not_meet(connection: Connection) -> None:
    connection.execute("CREATE TABLE orders (id integer PRIMARY KEY)")
    track(connection, "users", "created", kind="after_insert")
    track(connection, "orders", "created", kind="after_insert")
    call(connection, "untrack", "users", "created")
    connection.execute("INSERT INTO orders VALUES (1)")
    assert events(connection, "orders_event", "pgh_label") == ["created"]
    assert trackers(connection, '"table"::text, label') == [("orders", "created")]


SAME_CALLS: list[dict[str, object]] = [
    {},
    {"kind": "history"},
    {"kind": "event"},
    {"fields": ["email", "name"]},
    {"fields": []},
    {"exclude": ["email"]},
    {"condition": "new.age > 17 AND pghistory.any_change('name') IS NOT NULL"},
    {"event_table": "history"},
    {"obj_key": ["email", "name"]},
    {"obj_key": []},
    {"obj_fk": "cascade"},
    {"context": "inline"},
    {"context": "none"},
    {"append_only": True, "kind": "history"},
    {"level": "statement"},
    {"level": "row"},
]


@pytest.mark.parametrize("options", SAME_CALLS, ids=str)
def test_the_same_call_again_changes_nothing(connection: Connection, options: dict[str, object]) -> None:
    first = track(connection, "users", "user", **options)
    before = catalog(connection)
    assert track(connection, "users", "user", **options) == first
    assert catalog(connection) == before


@pytest.mark.parametrize("options", SAME_CALLS, ids=str)
def test_the_definition_of_a_tracker_would_make_it_again(
    connection: Connection, options: dict[str, object]
) -> None:
    track(connection, "users", 'it\'s {a} "label"\\', **options)
    (kept,) = trackers(connection, "*")
    before = catalog(connection)
    connection.execute(kept[-1].encode())
    assert catalog(connection) == before
    call(connection, "untrack", "users")
    connection.execute(kept[-1].encode())
    assert trackers(connection, "*") == [kept]


def test_the_definition_of_a_tracker_means_the_same_under_every_search_path(connection: Connection) -> None:
    connection.execute(
        """CREATE SCHEMA app;
        CREATE TABLE app.orders (id integer PRIMARY KEY, total integer);
        CREATE FUNCTION app.is_large(total integer) RETURNS boolean LANGUAGE sql AS 'SELECT total > 100';
        SET search_path TO app"""
    )
    track(connection, "orders", "large", condition="is_large(new.total)")
    connection.execute("SET search_path TO public")
    (kept,) = trackers(connection, "*")
    call(connection, "untrack", "app.orders")
    connection.execute("SET search_path TO ''")
    connection.execute(kept[-1])
    connection.execute("SET search_path TO public")
    assert trackers(connection, "*") == [kept]


def test_trackers_lists_what_track_was_told(connection: Connection) -> None:
    track(connection, "users", "all")
    track(
        connection,
        "users",
        "some",
        kind="after_update",
        fields=["email", "name"],
        condition="old.age < new.age",
        event_table="some_event",
        obj_key=["name", "id"],
        context="inline",
        append_only=True,
        level="row",
    )
    track(
        connection, "users", "rest", kind="after_insert", exclude=["age"], obj_fk="set null", context="none"
    )
    columns = """"table"::text, label, kind, fields, exclude, condition, event_table::text, obj_key, obj_fk,
                 context, append_only, level, partition_by, retention, status"""
    assert trackers(connection, columns) == [
        (
            *("users", "all", "snapshot", None, None, None, "users_event", ["id"], None, "reference"),
            *(False, "auto", None, None, "active"),
        ),
        (
            *("users", "some", "after_update", ["name", "email"], None, "(old.age < new.age)", "some_event"),
            *(["name", "id"], None, "inline", True, "row", None, None, "active"),
        ),
        (
            *("users", "rest", "after_insert", None, ["age"], None, "users_without_age_event", ["id"]),
            *("set null", "none", False, "auto", None, None, "active"),
        ),
    ]


def test_trackers_has_the_columns_of_the_contract(connection: Connection) -> None:
    result = value(connection, "SELECT pg_get_function_result('pghistory.trackers'::regproc)")
    assert result == (
        'TABLE("table" regclass, label text, kind text, fields text[], exclude text[], condition text, '
        "event_table regclass, obj_key text[], obj_fk text, context text, append_only boolean, level text, "
        "partition_by text, retention interval, status text, definition text)"
    )


def test_trackers_is_empty_where_nothing_was_ever_tracked(connection: Connection) -> None:
    assert trackers(connection, "*") == []


def test_a_tracker_whose_trigger_is_missing_or_disabled_says_so(connection: Connection) -> None:
    track(connection, "users", "one", kind="after_insert")
    track(connection, "users", "two", kind="before_delete")
    connection.execute('ALTER TABLE users DISABLE TRIGGER "!pghistory users_event insert statement"')
    connection.execute('DROP TRIGGER "!pghistory users_event delete statement" ON users')
    assert trackers(connection, "label, status") == [("one", "disabled"), ("two", "missing")]


def test_another_definition_of_a_label_replaces_its_tracker(connection: Connection) -> None:
    track(connection, "users", "user", kind="after_insert")
    assert track(connection, "users", "user", kind="before_delete", condition="old.age > 17") == "users_event"
    connection.execute("INSERT INTO users (name, age) VALUES ('Ann', 40), ('Tim', 4)")
    connection.execute("DELETE FROM users")
    assert events(connection, "users_event", "pgh_operation, name") == [("D", "Ann")]
    assert triggers(connection, "users") == {("delete", "statement")}
    assert trackers(connection, "label, kind") == [("user", "before_delete")]


def test_a_tracker_replaced_with_other_fields_stays_in_its_event_table(connection: Connection) -> None:
    assert track(connection, "users", "user", fields=["name"]) == "users_name_event"
    connection.execute("INSERT INTO users (name, age) VALUES ('Ann', 40)")
    assert track(connection, "users", "user", fields=["name", "age"]) == "users_name_event"
    connection.execute("UPDATE users SET age = 41")
    assert track(connection, "users", "user", fields=["age"]) == "users_name_event"
    connection.execute("UPDATE users SET age = 42")
    assert events(connection, "users_name_event", "name, age") == [("Ann", None), ("Ann", 41), (None, 42)]


def test_a_tracker_replaced_with_every_column_records_later_ones_too(connection: Connection) -> None:
    track(connection, "users", "user", fields=["name"])
    track(connection, "users", "user")
    connection.execute("INSERT INTO users (name, age) VALUES ('Ann', 40)")
    assert events(connection, "users_name_event", "id, name, email, age") == [(1, "Ann", None, 40)]


def test_a_label_keeps_its_event_table(connection: Connection) -> None:
    track(connection, "users", "user")
    message = 'events labelled "user" of table public.users go to public.users_event'
    track_refused(
        connection,
        psycopg.errors.ObjectNotInPrerequisiteState,
        message,
        "users",
        "user",
        event_table="other_event",
    )
    track(connection, "users", "user", event_table="users_event")
    track(connection, "users", "user", event_table="public.users_event")
    call(connection, "untrack", "users", "user")
    assert track(connection, "users", "user", event_table="other_event") == "other_event"


def test_every_column_means_later_ones_too(connection: Connection) -> None:
    track(connection, "users", "all")
    track(connection, "users", "some", fields=["name"])
    track(connection, "users", "but age", exclude=["age"])
    connection.execute("ALTER TABLE users ADD COLUMN city text")
    connection.execute("INSERT INTO users (name, city) VALUES ('Ann', 'Rome')")
    assert events(connection, "users_event", "name, city") == [("Ann", "Rome")]
    assert events(connection, "users_without_age_event", "name, city") == [("Ann", "Rome")]
    assert "city" not in columns_of(connection, "users_name_event")


def columns_of(connection: Connection, table: str) -> list[str]:
    return [column.name for column in connection.execute(f"SELECT * FROM {table}").description or ()]


def test_the_object_is_named_by_the_primary_key_unless_told_otherwise(connection: Connection) -> None:
    track(connection, "users", "by primary key", event_table="a")
    track(connection, "users", "by columns", obj_key=["email", "name"], event_table="b")
    track(connection, "users", "by column", obj_key=["email"], event_table="c")
    track(connection, "users", "not at all", obj_key=[], event_table="d")
    connection.execute("INSERT INTO users (name, email) VALUES ('Ann', 'ann@example.org')")
    assert events(connection, "a", "pgh_obj_id") == [1]
    assert events(connection, "b", "pgh_obj_email, pgh_obj_name") == [("ann@example.org", "Ann")]
    assert events(connection, "c", "pgh_obj_id") == ["ann@example.org"]
    assert [name for name in columns_of(connection, "d") if name.startswith(("pgh_obj", "pgh_other"))] == []


def test_without_a_foreign_key_events_outlive_their_object(connection: Connection) -> None:
    track(connection, "users", "user")
    connection.execute("INSERT INTO users (name) VALUES ('Ann')")
    connection.execute("DELETE FROM users")
    assert events(connection, "users_event", "pgh_obj_id") == [1]


def test_with_obj_fk_cascade_events_go_with_their_object(connection: Connection) -> None:
    track(connection, "users", "user", obj_fk="cascade")
    connection.execute("INSERT INTO users (name) VALUES ('Ann'), ('Tim')")
    connection.execute("DELETE FROM users WHERE name = 'Ann'")
    assert events(connection, "users_event", "name") == ["Tim"]


def test_with_obj_fk_set_null_events_lose_their_reference_only(connection: Connection) -> None:
    track(connection, "users", "user", obj_fk="set null")
    connection.execute("INSERT INTO users (name) VALUES ('Ann')")
    connection.execute("DELETE FROM users")
    assert events(connection, "users_event", "pgh_obj_id, id, name") == [(None, 1, "Ann")]


def test_with_obj_fk_restrict_an_object_with_events_stays(connection: Connection) -> None:
    track(connection, "users", "user", obj_fk="restrict")
    connection.execute("INSERT INTO users (name) VALUES ('Ann')")
    # PostgreSQL 18 has a code of its own for RESTRICT.
    with pytest.raises((psycopg.errors.ForeignKeyViolation, psycopg.errors.RestrictViolation)):
        connection.execute("DELETE FROM users")


@pytest.mark.parametrize("kind", ["snapshot", "before_update", "after_update"])
@pytest.mark.parametrize("obj_fk", ["cascade", "restrict", "set null"])
def test_with_obj_fk_the_key_of_an_object_can_change(connection: Connection, kind: str, obj_fk: str) -> None:
    connection.execute("CREATE TABLE country (code text PRIMARY KEY, name text)")
    track(connection, "country", kind=kind, obj_fk=obj_fk)
    connection.execute("INSERT INTO country VALUES ('cz', 'Czech Republic')")
    connection.execute("UPDATE country SET code = 'CZ'")
    assert set(events(connection, "country_event", "pgh_obj_id")) == {"CZ"}


def test_append_only_events_cannot_be_changed(connection: Connection) -> None:
    track(connection, "users", kind="history", append_only=True)
    connection.execute("INSERT INTO users (name) VALUES ('Ann')")
    connection.execute("UPDATE users SET name = 'Anna'")
    connection.execute("DELETE FROM users")
    for command in ("UPDATE users_event SET name = ''", "DELETE FROM users_event", "TRUNCATE users_event"):
        with pytest.raises(
            psycopg.errors.InsufficientPrivilege, match=f"users_event is append-only: {command.split()[0]}"
        ) as caught:
            connection.execute(command)
        assert caught.value.diag.message_hint
    connection.execute("SET session_replication_role = replica")
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        connection.execute("DELETE FROM users_event")
    assert events(connection, "users_event") == ["I", "U", "D"]


def test_an_append_only_event_table_can_be_opened_again(connection: Connection) -> None:
    track(connection, "users", append_only=True)
    connection.execute("INSERT INTO users (name) VALUES ('Ann')")
    track(connection, "users", append_only=False)
    connection.execute("DELETE FROM users_event")
    track(connection, "users", append_only=True)
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        connection.execute("DELETE FROM users_event")


def test_the_level_auto_records_updates_row_by_row_and_the_rest_by_statement(connection: Connection) -> None:
    track(connection, "users", kind="history")
    assert triggers(connection, "users") == {
        ("insert", "statement"),
        ("update", "row"),
        ("delete", "statement"),
        ("truncate", "statement"),
    }


def test_the_levels_row_and_statement_are_taken_at_their_word(connection: Connection) -> None:
    for level in ("row", "statement"):
        track(connection, "users", kind="history", level=level)
        assert triggers(connection, "users") == {
            ("insert", level),
            ("update", level),
            ("delete", level),
            ("truncate", "statement"),
        }


def test_only_what_the_trackers_need_has_triggers(connection: Connection) -> None:
    track(connection, "users", "inserted", kind="after_insert")
    assert triggers(connection, "users") == {("insert", "statement")}
    track(connection, "users", "by hand", kind="event")
    assert triggers(connection, "users") == {("insert", "statement")}
    track(connection, "users", "deleted", kind="before_delete")
    assert triggers(connection, "users") == {("insert", "statement"), ("delete", "statement")}


def test_tracking_is_undone_with_its_transaction(connection: Connection) -> None:
    before = catalog(connection)
    with connection.transaction(force_rollback=True):
        track(connection, "users", kind="history")
        connection.execute("INSERT INTO users (name) VALUES ('Ann')")
        assert events(connection, "users_event", "name") == ["Ann"]
    assert catalog(connection) == before
    connection.execute("INSERT INTO users (name) VALUES ('Tim')")


def test_rows_that_were_there_before_are_tracked_from_now_on(connection: Connection) -> None:
    with connection.transaction():
        connection.execute("INSERT INTO users (name) VALUES ('Ann')")
        track(connection, "users", kind="history")
        connection.execute("UPDATE users SET name = 'Anna'")
    assert events(connection, "users_event", "pgh_operation, name") == [("U", "Anna")]


def test_a_sessions_prepared_statements_are_recorded_once_the_table_is_tracked(
    connection: Connection,
) -> None:
    connection.execute("PREPARE add_user (text) AS INSERT INTO users (name) VALUES ($1)")
    connection.execute("EXECUTE add_user ('Ann')")
    track(connection, "users")
    connection.execute("EXECUTE add_user ('Tim')")
    assert events(connection, "users_event", "name") == ["Tim"]
