"""The nine kinds: which operation writes an event, with which image, and what counts as a change."""

from __future__ import annotations

import psycopg
import pytest
from history import KINDS, LEVELS, Connection, events, rows, track

# One object's life: inserted, changed, written without a change, deleted; then another is truncated away.
LIFE = """
    INSERT INTO thing VALUES (1, 'first', 1);
    UPDATE thing SET name = 'second' WHERE id = 1;
    UPDATE thing SET name = name WHERE id = 1;
    DELETE FROM thing WHERE id = 1;
    INSERT INTO thing VALUES (2, 'other', 2);
    TRUNCATE thing;
"""
EVENTS_OF_LIFE = {
    "snapshot": [("I", 1, "first"), ("U", 1, "second"), ("I", 2, "other")],
    "after_insert": [("I", 1, "first"), ("I", 2, "other")],
    "after_insert_or_update": [
        ("I", 1, "first"),
        ("U", 1, "second"),
        ("U", 1, "second"),
        ("I", 2, "other"),
    ],
    "before_update": [("B", 1, "first"), ("B", 1, "second")],
    "after_update": [("U", 1, "second"), ("U", 1, "second")],
    "before_delete": [("D", 1, "second")],
    "before_truncate": [("T", 2, "other")],
    "history": [
        ("I", 1, "first"),
        ("U", 1, "second"),
        ("D", 1, "second"),
        ("I", 2, "other"),
        ("T", 2, "other"),
    ],
    "event": [],
}


@pytest.fixture(autouse=True)
def thing(connection: Connection) -> None:
    connection.execute("CREATE TABLE thing (id integer PRIMARY KEY, name text, size numeric)")


def track_at_every_level(connection: Connection, **options: object) -> None:
    """Make one tracker for each level, labelled with it."""
    for level in LEVELS:
        track(connection, "thing", level, level=level, **options)


@pytest.mark.parametrize("kind", KINDS)
def test_a_kind_writes_its_events_with_its_image(connection: Connection, kind: str) -> None:
    track_at_every_level(connection, kind=kind)
    connection.execute(LIFE)
    for level in LEVELS:
        found = events(connection, "thing_event", "pgh_operation, id, name", level)
        assert found == EVENTS_OF_LIFE[kind], level


def test_the_kind_is_snapshot_unless_given(connection: Connection) -> None:
    track(connection, "thing")
    connection.execute(LIFE)
    assert events(connection, "thing_event", "pgh_operation, id, name") == EVENTS_OF_LIFE["snapshot"]


def test_all_kinds_on_one_table_write_their_own_events(connection: Connection) -> None:
    for kind in KINDS:
        track(connection, "thing", kind, kind=kind)
    connection.execute(LIFE)
    for kind in KINDS:
        assert events(connection, "thing_event", "pgh_operation, id, name", kind) == EVENTS_OF_LIFE[kind]


@pytest.mark.parametrize("level", LEVELS)
def test_every_row_of_a_bulk_statement_has_its_event(connection: Connection, level: str) -> None:
    track(connection, "thing", kind="history", level=level)
    connection.execute("INSERT INTO thing SELECT n, 'before', n FROM generate_series(1, 50) AS n")
    connection.execute("UPDATE thing SET name = 'after' WHERE id % 2 = 0")
    connection.execute("DELETE FROM thing WHERE id <= 10")
    connection.execute("TRUNCATE thing")
    found = events(connection, "thing_event", "pgh_operation, pgh_obj_id, name")
    # Rows of one statement come in no particular order.
    assert sorted(found[:50]) == [("I", n, "before") for n in range(1, 51)]
    assert sorted(found[50:75]) == [("U", n, "after") for n in range(2, 51, 2)]
    assert sorted(found[75:85]) == [("D", n, "before" if n % 2 else "after") for n in range(1, 11)]
    assert sorted(found[85:]) == [("T", n, "before" if n % 2 else "after") for n in range(11, 51)]


@pytest.mark.parametrize("level", LEVELS)
def test_a_statement_that_meets_no_row_writes_no_event(connection: Connection, level: str) -> None:
    for kind in KINDS:
        track(connection, "thing", kind, kind=kind, level=level)
    connection.execute("INSERT INTO thing SELECT * FROM thing")
    connection.execute("UPDATE thing SET name = 'x'")
    connection.execute("DELETE FROM thing")
    connection.execute("TRUNCATE thing")
    assert events(connection, "thing_event") == []


@pytest.mark.parametrize("level", LEVELS)
def test_events_of_one_statement_with_changed_and_unchanged_rows_are_the_changed_ones(
    connection: Connection, level: str
) -> None:
    connection.execute(
        "INSERT INTO thing VALUES (1, 'same', 1), (2, 'other', 2), (3, 'same', 3), (4, NULL, 4)"
    )
    track(connection, "thing", level=level)
    connection.execute("UPDATE thing SET name = 'same'")
    assert sorted(events(connection, "thing_event", "pgh_obj_id, name")) == [(2, "same"), (4, "same")]


CHANGES = [
    ("integer", "1", "2", True),
    ("integer", "1", "1", False),
    ("integer", "1", "NULL", True),
    ("integer", "NULL", "1", True),
    ("integer", "NULL", "NULL", False),
    ("numeric", "1.0", "1.00", True),
    ("numeric", "1.0", "1.0", False),
    ("citext", "'Ann'", "'ANN'", True),
    ("citext", "'Ann'", "'Ann'", False),
    ("json", """'{"a": 1}'""", """'{"a":1}'""", True),
    ("json", """'{"a": 1}'""", """'{"a": 1}'""", False),
    ("jsonb", """'{"a": 1}'""", """'{"a":1}'""", False),
    ("jsonb", """'{"a": 1}'""", """'{"a": 1.0}'""", True),
    ("xml", "'<a/>'", "'<b/>'", True),
    ("xml", "'<a/>'", "'<a/>'", False),
    ("point", "'(1,2)'", "'(1,3)'", True),
    ("point", "'(1,2)'", "'(1,2)'", False),
    ("double precision", "0.0", "'-0'::double precision", True),
    ("double precision", "'NaN'", "'NaN'", False),
    ("interval", "'1 day'", "'24 hours'", True),
    ("numeric[]", "'{1.0}'", "'{1.00}'", True),
    ("timestamptz", "'2026-01-01 12:00+00'", "'2026-01-01 13:00+01'", False),
    ("character(3)", "'a'", "'a '", False),
    ("hstore", "'a=>1'", "'a=>2'", True),
    ("hstore", "'a=>1, b=>2'", "'b=>2, a=>1'", False),
]


def test_a_change_is_a_stored_value_that_differs(connection: Connection) -> None:
    for number, (of_type, before, after, is_change) in enumerate(CHANGES):
        table = f"sample_{number}"
        connection.execute(f"CREATE TABLE {table} (id integer PRIMARY KEY, content {of_type})")
        connection.execute(f"INSERT INTO {table} VALUES (1, {before}), (2, {before}), (3, {before})")
        for level in LEVELS:
            track(connection, table, level, level=level)
            track(connection, table, f"{level} of content", fields=["content"], level=level)
        connection.execute(f"UPDATE {table} SET content = {after} WHERE id = 1")
        connection.execute(f"UPDATE {table} SET content = {after}")
        changed = [1, 2, 3] if is_change else []
        for level in LEVELS:
            assert events(connection, f"{table}_event", "pgh_obj_id", level) == changed, (of_type, level)
            of_content = events(connection, f"{table}_content_event", "pgh_obj_id", f"{level} of content")
            assert of_content == changed, (of_type, level)


def test_a_large_value_that_is_stored_anew_unchanged_is_no_change(connection: Connection) -> None:
    connection.execute(
        "INSERT INTO thing SELECT 1, string_agg(md5(n::text), ''), 1 FROM generate_series(1, 1000) AS n"
    )
    track(connection, "thing")
    connection.execute("UPDATE thing SET name = concat(left(name, 100), substr(name, 101))")
    assert events(connection, "thing_event") == []
    connection.execute("UPDATE thing SET name = concat(left(name, -1), '!')")
    assert events(connection, "thing_event") == ["U"]


@pytest.mark.parametrize("level", LEVELS)
def test_a_snapshot_of_some_fields_heeds_changes_of_these_only(connection: Connection, level: str) -> None:
    track(connection, "thing", fields=["name"], level=level)
    connection.execute("INSERT INTO thing VALUES (1, 'a', 1), (2, 'b', 2)")
    connection.execute("UPDATE thing SET size = size + 1")
    connection.execute("UPDATE thing SET name = 'c', size = 9 WHERE id = 2")
    assert events(connection, "thing_name_event", "pgh_operation, pgh_obj_id, name") == [
        ("I", 1, "a"),
        ("I", 2, "b"),
        ("U", 2, "c"),
    ]


@pytest.mark.parametrize("level", LEVELS)
def test_a_snapshot_without_some_fields_ignores_changes_of_these(connection: Connection, level: str) -> None:
    track(connection, "thing", exclude=["size"], level=level)
    connection.execute("INSERT INTO thing VALUES (1, 'a', 1)")
    connection.execute("UPDATE thing SET size = 2")
    connection.execute("UPDATE thing SET name = 'b'")
    assert events(connection, "thing_without_size_event", "pgh_operation, id, name") == [
        ("I", 1, "a"),
        ("U", 1, "b"),
    ]


@pytest.mark.parametrize("level", LEVELS)
def test_a_snapshot_of_metadata_only_says_that_something_changed(connection: Connection, level: str) -> None:
    track(connection, "thing", fields=[], level=level)
    connection.execute("INSERT INTO thing VALUES (1, 'a', 1)")
    connection.execute("UPDATE thing SET size = 2")
    connection.execute("UPDATE thing SET size = 2")
    assert events(connection, "thing_meta_event", "pgh_operation, pgh_obj_id") == [("I", 1), ("U", 1)]


@pytest.mark.parametrize("kind", ["before_update", "after_update", "after_insert_or_update"])
def test_kinds_of_every_update_heed_updates_of_other_fields_too(connection: Connection, kind: str) -> None:
    connection.execute("INSERT INTO thing VALUES (1, 'a', 1)")
    track_at_every_level(connection, kind=kind, fields=["name"])
    connection.execute("UPDATE thing SET size = 2")
    for level in LEVELS:
        assert events(connection, "thing_name_event", "name", level) == ["a"]


def test_an_event_has_the_transaction_and_its_time(connection: Connection) -> None:
    track(connection, "thing")
    with connection.transaction():
        began, transaction = rows(connection, "SELECT now(), pg_current_xact_id()")[0]
        connection.execute("INSERT INTO thing VALUES (1, 'a', 1)")
        connection.execute("UPDATE thing SET name = 'b'")
    assert events(connection, "thing_event", "pgh_created_at, pgh_xid") == [(began, transaction)] * 2


def test_events_of_a_transaction_that_is_rolled_back_are_gone(connection: Connection) -> None:
    track(connection, "thing", kind="history")
    with connection.transaction(force_rollback=True):
        connection.execute("INSERT INTO thing VALUES (1, 'a', 1)")
    with connection.transaction():
        connection.execute("INSERT INTO thing VALUES (2, 'b', 1)")
        with connection.transaction(force_rollback=True):
            connection.execute("DELETE FROM thing")
    assert events(connection, "thing_event", "pgh_operation, id") == [("I", 2)]


def test_a_write_that_fails_leaves_no_event(connection: Connection) -> None:
    track(connection, "thing")
    with pytest.raises(psycopg.errors.UniqueViolation):
        connection.execute("INSERT INTO thing VALUES (1, 'a', 1), (1, 'b', 2)")
    assert events(connection, "thing_event") == []


@pytest.mark.parametrize("kind", ["snapshot", "after_update", "before_update", "history"])
def test_an_update_of_the_key_names_both_keys(connection: Connection, kind: str) -> None:
    connection.execute("INSERT INTO thing VALUES (1, 'a', 1)")
    track_at_every_level(connection, kind=kind)
    connection.execute("UPDATE thing SET name = 'b'")
    connection.execute("UPDATE thing SET id = 2")
    keys = [(1, None), (1, 2)] if kind == "before_update" else [(1, None), (2, 1)]
    for level in LEVELS:
        assert events(connection, "thing_event", "pgh_obj_id, pgh_other_id", level) == keys
