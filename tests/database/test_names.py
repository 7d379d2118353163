"""Names: quoted, long, in other alphabets, and such as would break out of what is not quoted."""

from __future__ import annotations

import pytest
from history import LEVELS, Connection, call, catalog, events, quoted, rows, track, value

ODD_NAMES = [
    "it's",
    'say "hello"',
    "100%",
    "%s %I %L %1$s",
    "{braces}",
    "semi;colon",
    "two words",
    "new\nline",
    "carriage\rreturn",
    "tab\there",
    "back\\slash",
    "$$",
    "$1",
    "$function$",
    "-- comment",
    "/* comment */",
    "Größe",
    "表",
    "😀",
    "UPPER",
    "select",
    "new",
    "old",
    "label",
    "event_id",
    "1st",
    ".",
    " ",
]
LIFE_OF_TWO = [
    ("I", 1, 1, "a"),
    ("U", 1, 1, "b"),
    ("D", 1, 1, "b"),
    ("I", 2, 2, "c"),
    ("T", 2, 2, "c"),
]


def live(connection: Connection, table: str) -> None:
    """Do to a table of two columns what LIFE_OF_TWO tells of its history."""
    connection.execute(f"INSERT INTO {table} VALUES (1, 'a')")
    connection.execute(f"UPDATE {table} SET content = 'b'")
    connection.execute(f"DELETE FROM {table}")
    connection.execute(f"INSERT INTO {table} VALUES (2, 'c')")
    connection.execute(f"TRUNCATE {table}")


@pytest.mark.parametrize("name", ODD_NAMES)
def test_schemas_tables_columns_and_labels_may_have_odd_names(connection: Connection, name: str) -> None:
    table, event_table = quoted(name, name), quoted(name, f"{name}_event")
    connection.execute(f"CREATE SCHEMA {quoted(name)}")
    connection.execute(f"CREATE TABLE {table} ({quoted(name)} integer PRIMARY KEY, content text)")
    for level in LEVELS:
        track(connection, table, level + name, kind="history", level=level)
    live(connection, table)
    columns = f"pgh_operation, pgh_obj_id, {quoted(name)}, content"
    for level in LEVELS:
        assert events(connection, event_table, columns, level + name) == LIFE_OF_TWO


@pytest.mark.parametrize("name", ODD_NAMES)
def test_trackers_of_odd_names_are_listed_made_again_and_removed(connection: Connection, name: str) -> None:
    table = quoted(name, name)
    connection.execute(f"CREATE SCHEMA {quoted(name)}")
    connection.execute(f"CREATE TABLE {table} ({quoted(name)} integer PRIMARY KEY, content text)")
    condition = call(connection, "any_change", name)
    track(
        connection,
        table,
        name,
        kind="after_update",
        fields=[name],
        condition=condition,
        event_table=quoted(name, f"{name} 2"),
    )
    label, fields, definition = rows(
        connection, "SELECT label, fields, definition FROM pghistory.trackers()"
    )[0]
    assert (label, fields) == (name, [name])
    before = catalog(connection)
    connection.execute(definition)
    assert catalog(connection) == before
    assert call(connection, "untrack", table, name) == 1
    connection.execute(definition)
    assert value(connection, "SELECT definition FROM pghistory.trackers()") == definition
    connection.execute(f"INSERT INTO {table} VALUES (1)")
    assert call(connection, "create_event", table, "1", name) == 1


LONG = "x" * 63
LONG_UNICODE = "ö" * 31
WIDE_UNICODE = "表" * 21


@pytest.mark.parametrize("name", [LONG, LONG_UNICODE, WIDE_UNICODE, LONG[:57], LONG[:58], "😀" * 15])
def test_names_of_63_bytes_are_shortened_at_characters(connection: Connection, name: str) -> None:
    table = quoted(name, name)
    connection.execute(f"CREATE SCHEMA {quoted(name)}")
    connection.execute(f"CREATE TABLE {table} ({quoted(name)} integer PRIMARY KEY, content text)")
    for level in LEVELS:
        event_table = track(connection, table, level, kind="history", level=level)
    name_of_it = value(connection, "SELECT relname::text FROM pg_class WHERE oid = %s::regclass", event_table)
    assert name_of_it.endswith("_event")
    assert len(name_of_it.encode()) <= 63
    assert set(name_of_it) <= {*name, *"_event", *"0123456789abcdef"}
    live(connection, table)
    columns = f"pgh_operation, pgh_obj_id, {quoted(name)}, content"
    for level in LEVELS:
        assert events(connection, event_table, columns, level) == LIFE_OF_TWO


def test_names_that_are_alike_for_63_bytes_stay_apart(connection: Connection) -> None:
    tables = [LONG[:-1] + last for last in "abcdefgh"]
    for table in tables:
        connection.execute(f"CREATE TABLE {table} (id integer PRIMARY KEY, content text)")
    event_tables = [track(connection, table, "t", kind="history") for table in tables]
    assert len(set(event_tables)) == len(tables)
    for table, event_table in zip(tables, event_tables, strict=True):
        live(connection, table)
        assert events(connection, event_table, "pgh_operation, pgh_obj_id, id, content") == LIFE_OF_TWO


def test_event_tables_of_long_lists_of_fields_stay_apart(connection: Connection) -> None:
    columns = [f"quite_a_long_name_of_a_column_{number}" for number in range(8)]
    connection.execute(
        f"CREATE TABLE t (id integer PRIMARY KEY, {', '.join(f'{name} text' for name in columns)})"
    )
    names = {track(connection, "t", f"label {last}", fields=columns[:last]) for last in range(1, 9)}
    names |= {track(connection, "t", f"without {last}", exclude=columns[:last]) for last in range(1, 9)}
    assert len(names) == 16
    connection.execute("INSERT INTO t (id) VALUES (1)")
    for name in names:
        assert events(connection, name, "pgh_obj_id") == [1]


def test_keys_of_long_names_stay_apart(connection: Connection) -> None:
    first, second = LONG[:-1] + "1", LONG[:-1] + "2"
    connection.execute(f"CREATE TABLE t ({first} integer, {second} integer, PRIMARY KEY ({first}, {second}))")
    track(connection, "t", kind="history")
    connection.execute("INSERT INTO t VALUES (1, 2); UPDATE t SET " + f"{second} = 3")
    names = [c.name for c in connection.execute("SELECT * FROM t_event").description or ()]
    keys = [name for name in names if name.startswith("pgh_obj_")]
    assert len(set(keys)) == 2
    assert events(connection, "t_event", ", ".join(keys)) == [(1, 2), (1, 3)]


def test_the_name_of_an_event_table_may_fill_63_bytes(connection: Connection) -> None:
    connection.execute("CREATE TABLE t (id integer PRIMARY KEY, content text)")
    for name in (LONG, quoted(LONG_UNICODE), quoted("9" * 63)):
        for level in LEVELS:
            assert (
                track(connection, "t", f"{level} {name}", kind="history", level=level, event_table=name)
                == name
            )
    live(connection, "t")
    for name in (LONG, quoted(LONG_UNICODE), quoted("9" * 63)):
        for level in LEVELS:
            found = events(connection, name, "pgh_operation, pgh_obj_id, id, content", f"{level} {name}")
            assert found == LIFE_OF_TWO


def test_tables_of_one_name_in_two_schemas_may_send_events_to_a_third(connection: Connection) -> None:
    connection.execute("CREATE SCHEMA audit")
    for schema in ("a", "b"):
        connection.execute(f"CREATE SCHEMA {schema}")
        connection.execute(f"CREATE TABLE {schema}.t (id integer PRIMARY KEY, content text)")
        event_table = f"audit.{schema}_t_event"
        assert track(connection, f"{schema}.t", kind="history", event_table=event_table) == event_table
        live(connection, f"{schema}.t")
        assert events(connection, event_table, "pgh_operation, pgh_obj_id, id, content") == LIFE_OF_TWO


def test_event_tables_of_one_name_in_two_schemas_serve_one_table(connection: Connection) -> None:
    connection.execute("CREATE SCHEMA a; CREATE SCHEMA b; CREATE TABLE t (id int PRIMARY KEY, content text)")
    for schema in ("a", "b"):
        track(connection, "t", schema, kind="history", event_table=f"{schema}.history")
    live(connection, "t")
    for schema in ("a", "b"):
        found = events(connection, f"{schema}.history", "pgh_operation, pgh_obj_id, id, content")
        assert found == LIFE_OF_TWO


def test_a_function_of_the_users_with_the_name_of_ours_is_left_alone(connection: Connection) -> None:
    connection.execute(
        """CREATE TABLE t (id integer PRIMARY KEY, content text);
        CREATE FUNCTION t_event_insert_statement() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN END';
        CREATE FUNCTION t_event_by_hand(text, anyelement) RETURNS bigint LANGUAGE sql AS 'SELECT 7'"""
    )
    bodies = "SELECT prosrc FROM pg_proc WHERE proname ~ '^t_event_(insert_statement|by_hand)$' ORDER BY oid"
    before = rows(connection, bodies)
    track(connection, "t", "t", kind="history")
    live(connection, "t")
    assert events(connection, "t_event", "pgh_operation, pgh_obj_id, id, content") == LIFE_OF_TWO
    connection.execute("INSERT INTO t VALUES (3, 'x')")
    call(connection, "create_event", "t", "3", "t")
    assert events(connection, "t_event")[-1] == "S"
    call(connection, "untrack", "t")
    assert rows(connection, bodies) == before


def test_a_label_may_be_any_text(connection: Connection) -> None:
    connection.execute("CREATE TABLE t (id integer PRIMARY KEY)")
    labels = [*ODD_NAMES, "x" * 5000, "\\'; DROP TABLE t; --"]
    for label in labels:
        track(connection, "t", label, kind="after_insert")
    connection.execute("INSERT INTO t VALUES (1)")
    assert events(connection, "t_event", "pgh_label") == labels
    for label in labels:
        assert call(connection, "untrack", "t", label) == 1
