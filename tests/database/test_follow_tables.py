"""Tracking goes on whatever happens to tables, schemas, types, partitions and owners; DDL is never in its way."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import psycopg
import pytest
from history import Connection, catalog, events, rows, track, triggers, value

if TYPE_CHECKING:
    from conftest import Follow

TABLE = "CREATE TABLE item (id integer PRIMARY KEY, name text, note text)"
BY_ROW = {("insert", "row"), ("update", "row"), ("delete", "row"), ("truncate", "statement")}
BY_STATEMENT = {
    ("insert", "statement"),
    ("update", "row"),
    ("delete", "statement"),
    ("truncate", "statement"),
}


def check_writes(session: Connection, table: str, event_table: str, key: int) -> None:
    """Insert, change, delete and truncate, and see what is recorded."""
    session.execute(f"INSERT INTO {table} (id) VALUES ({key})")
    session.execute(f"UPDATE {table} SET id = {key + 1} WHERE id = {key}")
    session.execute(f"DELETE FROM {table} WHERE id = {key + 1}")
    session.execute(f"INSERT INTO {table} (id) VALUES ({key + 2})")
    session.execute(f"TRUNCATE {table}")
    assert events(session, f"{event_table} WHERE id BETWEEN {key} AND {key + 2}", "pgh_operation, id") == [
        ("I", key),
        ("U", key + 1),
        ("D", key + 1),
        ("I", key + 2),
        ("T", key + 2),
    ]


MOVES = {
    "table renamed": (["ALTER TABLE item RENAME TO thing"], "thing", "item_event"),
    "table moved": (["ALTER TABLE item SET SCHEMA attic"], "attic.item", "item_event"),
    "table renamed and moved": (
        ['ALTER TABLE item RENAME TO "Thing %"', 'ALTER TABLE "Thing %" SET SCHEMA attic'],
        'attic."Thing %%"',
        "item_event",
    ),
    "event table renamed": (["ALTER TABLE item_event RENAME TO log"], "item", "log"),
    "event table moved": (["ALTER TABLE item_event SET SCHEMA attic"], "item", "attic.item_event"),
    "both moved": (
        ["ALTER TABLE item SET SCHEMA attic", "ALTER TABLE item_event SET SCHEMA attic"],
        "attic.item",
        "attic.item_event",
    ),
    "schema renamed": (["ALTER SCHEMA public RENAME TO old"], "old.item", "old.item_event"),
    "names swapped with another table": (
        [
            "ALTER TABLE item RENAME TO spare",
            "ALTER TABLE other RENAME TO item",
            "ALTER TABLE spare RENAME TO other",
        ],
        "other",
        "item_event",
    ),
    "names of the two swapped": (
        [
            "ALTER TABLE item RENAME TO spare",
            "ALTER TABLE item_event RENAME TO item",
            "ALTER TABLE spare RENAME TO item_event",
        ],
        "item_event",
        "item",
    ),
    "constraints, defaults, settings": (
        [
            "ALTER TABLE item ALTER name SET DEFAULT 'x', ADD CHECK (id > 0), SET (fillfactor = 50)",
            "ALTER TABLE item ALTER name SET STORAGE EXTERNAL, REPLICA IDENTITY FULL",
            "CREATE INDEX ON item (name)",
            "COMMENT ON TABLE item IS 'a thing'",
            "ALTER TABLE item SET UNLOGGED",
            "CLUSTER item USING item_pkey",
        ],
        "item",
        "item_event",
    ),
}


@pytest.mark.parametrize("name", MOVES)
def test_renamed_and_moved_tables_stay_tracked(
    name: str, follow: Follow, connection: Connection, connect: Callable[..., Connection]
) -> None:
    statements, table, event_table = MOVES[name]
    table = table.replace("%%", "%")
    connection.execute(f"{TABLE}; CREATE SCHEMA attic; CREATE TABLE other (id integer)")
    track(connection, "item", "item", kind="history")
    other = connect()
    for session, key in ((connection, 1), (other, 11)):
        check_writes(session, "item", "item_event", key)
    with connection.transaction():
        check_writes(connection, "item", "item_event", 21)
        follow(*statements)
        check_writes(connection, table, event_table, 31)
    check_writes(other, table, event_table, 41)
    assert len(events(connection, event_table)) == 5 * 5
    connection.execute(f"INSERT INTO {table} (id) VALUES (50)")
    connection.execute("SELECT pghistory.create_event(%s::regclass, '50', 'item')", (table,))
    assert events(connection, f"{event_table} WHERE id = 50") == ["I", "S"]


def test_following_again_changes_nothing(follow: Follow, connection: Connection) -> None:
    connection.execute(TABLE)
    track(connection, "item", "item", condition="NEW.name <> 'x'", append_only=True)
    follow(
        "ALTER TABLE item DROP COLUMN note, ADD COLUMN note integer, ALTER COLUMN id TYPE bigint",
        "ALTER TABLE item RENAME COLUMN name TO spare",
        "ALTER TABLE item RENAME COLUMN note TO name",
        "ALTER TABLE item RENAME COLUMN spare TO note",
    )
    before = catalog(connection)
    connection.execute("SELECT pghistory.sync(); SELECT pghistory.refresh()")
    assert catalog(connection) == before


# Types


def test_types_of_columns_may_change(
    follow: Follow, connection: Connection, connect: Callable[..., Connection]
) -> None:
    connection.execute(
        """CREATE SCHEMA app; CREATE TYPE mood AS ENUM ('sad', 'ok'); CREATE TYPE place AS (street text, number integer);
           CREATE DOMAIN email AS text; CREATE TABLE item (id integer PRIMARY KEY, mood mood, place place, email email)"""
    )
    track(connection, "item", kind="history")
    other = connect()
    for session, key in ((connection, 1), (other, 2)):
        session.execute("INSERT INTO item VALUES (%s, 'sad', ('High', 1), 'a')", (key,))
        session.execute("UPDATE item SET mood = 'ok' WHERE id = %s", (key,))
    follow(
        "ALTER TYPE mood RENAME TO temper",
        "ALTER TYPE temper ADD VALUE 'great'",
        "ALTER TYPE temper RENAME VALUE 'sad' TO 'blue'",
        "ALTER TYPE temper SET SCHEMA app",
        "ALTER TYPE place ADD ATTRIBUTE town text",
        "ALTER TYPE place RENAME ATTRIBUTE number TO nr",
        "ALTER TYPE place RENAME TO address",
        "ALTER DOMAIN email RENAME TO mail",
        "ALTER DOMAIN mail SET SCHEMA app",
    )
    for session, key in ((connection, 1), (other, 2)):
        session.execute("UPDATE item SET mood = 'great', place.town = 'Rome' WHERE id = %s", (key,))
    assert events(connection, "item_event WHERE id = 2", "mood::text, (place).nr, (place).town") == [
        ("blue", 1, None),
        ("ok", 1, None),
        ("great", 1, "Rome"),
    ]


@pytest.mark.parametrize(
    ("type_definition", "type_name", "drop"),
    [
        ("TYPE gone.t AS ENUM ('a')", "gone.t", "DROP TYPE gone.t"),
        ("TYPE gone.t AS ENUM ('a')", "gone.t[]", "DROP TYPE gone.t"),
        ("TYPE gone.t AS (a integer)", "gone.t", "ALTER TYPE gone.t ALTER ATTRIBUTE a TYPE text"),
        ("TYPE gone.t AS (a integer)", "gone.t[]", "DROP TYPE gone.t"),
        ("DOMAIN gone.t AS text", "gone.t", "DROP DOMAIN gone.t"),
        ("TYPE gone.t AS RANGE (SUBTYPE = integer)", "gone.t", "DROP TYPE gone.t"),
        ("DOMAIN gone.t AS text", "gone.t[]", "ALTER DOMAIN gone.t ADD CHECK (VALUE <> 'x')"),
        ("TYPE gone.t AS ENUM ('a')", "gone.t", "DROP SCHEMA gone CASCADE"),
        ("TYPE gone.t AS ENUM ('a')", "gone.t", "DROP OWNED BY CURRENT_USER"),
        ("TABLE gone.t (a integer)", "gone.t", "DROP TABLE gone.t"),
    ],
)
def test_old_values_stand_in_the_way_of_no_ddl_on_their_type(
    type_definition: str,
    type_name: str,
    drop: str,
    follow: Follow,
    connection: Connection,
    connect: Callable[..., Connection],
    role: Callable[..., str],
) -> None:
    owner = role("owner")
    connection.execute(
        f"CREATE SCHEMA gone AUTHORIZATION {owner}; SET ROLE {owner}; CREATE {type_definition}; RESET ROLE"
    )
    connection.execute(f"CREATE TABLE item (id integer PRIMARY KEY, kept text, old {type_name})")
    track(connection, "item", kind="history")
    connection.execute("INSERT INTO item VALUES (1, 'x', NULL)")
    follow("ALTER TABLE item DROP COLUMN old")
    follow(drop, by=connect(owner))
    connection.execute("UPDATE item SET kept = 'y'")
    assert events(connection, "item_event", "kept, old IS NULL") == [("x", True), ("y", True)]


def test_values_that_a_type_took_along_can_be_read_as_text(follow: Follow, connection: Connection) -> None:
    connection.execute(
        "CREATE TYPE mood AS ENUM ('sad'); CREATE TABLE item (id integer PRIMARY KEY, mood mood)"
    )
    track(connection, "item", kind="history")
    connection.execute("INSERT INTO item VALUES (1, 'sad')")
    follow("ALTER TABLE item DROP COLUMN mood")
    follow("DROP TYPE mood")
    assert events(connection, "item_event", "mood") == ["sad"]


@pytest.mark.parametrize("alteration", ["ADD CHECK (VALUE <> 'old')", "SET NOT NULL"])
def test_a_domain_may_refuse_what_older_events_hold(
    alteration: str, follow: Follow, connection: Connection, connect: Callable[..., Connection]
) -> None:
    connection.execute("CREATE DOMAIN word AS text; CREATE TABLE item (id integer PRIMARY KEY, word word)")
    track(connection, "item", kind="history")
    other = connect()
    for session, key in ((connection, 1), (other, 2)):
        session.execute("INSERT INTO item VALUES (%s, 'old')", (key,))
        session.execute("UPDATE item SET word = NULL WHERE id = %s", (key,))
        session.execute("UPDATE item SET word = 'new' WHERE id = %s", (key,))
    if follow.by == "sync()":  # nothing tells us beforehand: the owner does what an event trigger does
        follow("ALTER TABLE item_event ALTER COLUMN word TYPE text")
    follow(f"ALTER DOMAIN word {alteration}")
    for session, key in ((connection, 1), (other, 2)):
        session.execute("UPDATE item SET word = 'newer' WHERE id = %s", (key,))
    assert events(connection, "item_event WHERE id = 2", "word") == ["old", None, "new", "newer"]


def test_a_table_of_a_type_follows_it(
    follow: Follow, connection: Connection, connect: Callable[..., Connection]
) -> None:
    connection.execute("CREATE TYPE thing AS (id integer, name text, note text)")
    connection.execute("CREATE TABLE item OF thing (PRIMARY KEY (id))")
    track(connection, "item", kind="history")
    other = connect()
    other.execute("INSERT INTO item VALUES (1, 'pen', 'x')")
    follow(
        "ALTER TYPE thing ADD ATTRIBUTE size integer CASCADE",
        "ALTER TYPE thing RENAME ATTRIBUTE name TO title CASCADE",
        "ALTER TYPE thing DROP ATTRIBUTE note CASCADE",
    )
    other.execute("INSERT INTO item VALUES (2, 'ink', 3)")
    assert events(connection, "item_event", "title, note, size") == [("pen", "x", None), ("ink", None, 3)]


# Partitions and inheritance


def test_a_partitioned_table_and_all_its_partitions_are_followed(
    follow: Follow, connection: Connection, connect: Callable[..., Connection]
) -> None:
    connection.execute(
        """CREATE TABLE item (id integer PRIMARY KEY, name text, note text) PARTITION BY RANGE (id);
           CREATE TABLE low PARTITION OF item FOR VALUES FROM (0) TO (1000)"""
    )
    track(connection, "item", kind="history")
    other = connect()
    for session, key in ((connection, 1), (other, 11)):
        check_writes(session, "item", "item_event", key)
    follow(
        "ALTER TABLE item ADD COLUMN size integer DEFAULT 5",
        "ALTER TABLE item RENAME COLUMN name TO title",
        "ALTER TABLE item DROP COLUMN note",
        "CREATE TABLE high PARTITION OF item FOR VALUES FROM (1000) TO (3000) PARTITION BY RANGE (id)",
        "CREATE TABLE high_1 PARTITION OF high FOR VALUES FROM (1000) TO (2000)",
        "CREATE TABLE high_2 (size integer, note date, title text, id integer NOT NULL)",
        "ALTER TABLE high_2 DROP COLUMN note",
        "ALTER TABLE high ATTACH PARTITION high_2 FOR VALUES FROM (2000) TO (3000)",
    )
    for session, key in ((connection, 21), (other, 41)):
        check_writes(session, "item", "item_event", key)
        check_writes(session, "high_1", "item_event", 1000 + key)
        check_writes(session, "high_2", "item_event", 2000 + key)
        session.execute("INSERT INTO item (id, title, size) VALUES (2500, 'pen', 3)")
        session.execute("UPDATE item SET id = 7 WHERE id = 2500")
        session.execute("TRUNCATE low")
    assert (
        events(connection, "item_event WHERE id IN (7, 2500)", "pgh_operation, id, title, size")
        == [
            ("I", 2500, "pen", 3),
            ("D", 2500, "pen", 3),
            ("I", 7, "pen", 3),
            ("T", 7, "pen", 3),
        ]
        * 2
    )


@pytest.mark.parametrize("concurrently", ["", " CONCURRENTLY"])
def test_a_detached_partition_is_recorded_no_longer_and_an_attached_one_is(
    concurrently: str, follow: Follow, connection: Connection
) -> None:
    connection.execute(
        """CREATE TABLE item (id integer PRIMARY KEY, name text) PARTITION BY RANGE (id);
           CREATE TABLE low PARTITION OF item FOR VALUES FROM (0) TO (1000);
           CREATE TABLE high PARTITION OF item FOR VALUES FROM (1000) TO (2000) PARTITION BY RANGE (id);
           CREATE TABLE high_1 PARTITION OF high FOR VALUES FROM (1000) TO (2000)"""
    )
    track(connection, "item", kind="history")
    if concurrently:  # cannot be part of a transaction
        connection.execute("ALTER TABLE item DETACH PARTITION low CONCURRENTLY")
        connection.execute("ALTER TABLE item DETACH PARTITION high CONCURRENTLY")
        follow()
    else:
        follow("ALTER TABLE item DETACH PARTITION low", "ALTER TABLE item DETACH PARTITION high")
    connection.execute("INSERT INTO low VALUES (1); INSERT INTO high VALUES (1001); TRUNCATE low, high")
    assert events(connection, "item_event") == []
    assert not triggers(connection, "low") | triggers(connection, "high") | triggers(connection, "high_1")
    follow("ALTER TABLE item ATTACH PARTITION high FOR VALUES FROM (1000) TO (2000)")
    check_writes(connection, "high_1", "item_event", 1001)


def test_a_tracked_table_that_becomes_a_partition_is_recorded_row_by_row(
    follow: Follow, connection: Connection, connect: Callable[..., Connection]
) -> None:
    connection.execute(
        f"{TABLE}; CREATE TABLE parent (id integer, name text, note text) PARTITION BY RANGE (id)"
    )
    track(connection, "item", kind="history")
    other = connect()
    check_writes(other, "item", "item_event", 1)
    follow("ALTER TABLE parent ATTACH PARTITION item FOR VALUES FROM (0) TO (1000)")
    assert triggers(connection, "item") == BY_ROW
    check_writes(other, "parent", "item_event", 11)
    follow("ALTER TABLE parent RENAME COLUMN name TO title", "ALTER TABLE parent ADD COLUMN size integer")
    check_writes(other, "parent", "item_event", 21)
    other.execute("INSERT INTO parent VALUES (40, 'pen', 'x', 3)")
    assert events(connection, "item_event", "title, size")[-1] == ("pen", 3)
    follow("ALTER TABLE parent DETACH PARTITION item")
    assert triggers(connection, "item") == BY_STATEMENT
    check_writes(other, "item", "item_event", 31)


def test_a_partition_and_its_parent_can_both_be_tracked(follow: Follow, connection: Connection) -> None:
    connection.execute(
        """CREATE TABLE item (id integer PRIMARY KEY, name text) PARTITION BY RANGE (id);
           CREATE TABLE low PARTITION OF item FOR VALUES FROM (0) TO (1000)"""
    )
    for table in ("item", "low"):
        track(connection, table, kind="history")
    follow("ALTER TABLE item ADD COLUMN size integer", "ALTER TABLE item RENAME COLUMN name TO title")
    check_writes(connection, "item", "item_event", 1)
    assert len(events(connection, "low_event", "title, size")) == 5
    follow("ALTER TABLE item DETACH PARTITION low")
    check_writes(connection, "low", "low_event", 11)
    assert len(events(connection, "item_event")) == 5
    follow("DROP TABLE low")
    assert len(events(connection, "low_event")) == 10


@pytest.mark.parametrize("depth", [1, 2])
def test_a_table_that_inherits_follows_what_it_inherits_from(
    depth: int, follow: Follow, connection: Connection, connect: Callable[..., Connection]
) -> None:
    connection.execute("CREATE TABLE parent (id integer, name text)")
    connection.execute("CREATE TABLE middle () INHERITS (parent)" if depth == 2 else "SELECT 1")
    connection.execute(
        f"CREATE TABLE item (PRIMARY KEY (id)) INHERITS ({'middle' if depth == 2 else 'parent'})"
    )
    track(connection, "item", kind="history")
    other = connect()
    check_writes(other, "item", "item_event", 1)
    follow(
        "ALTER TABLE parent RENAME COLUMN name TO title",
        "ALTER TABLE parent ADD COLUMN size integer",
    )
    check_writes(other, "item", "item_event", 11)
    other.execute("INSERT INTO item VALUES (21, 'pen', 3)")
    other.execute("UPDATE parent SET size = 4")
    assert events(connection, "item_event WHERE id = 21", "title, size") == [("pen", 3), ("pen", 4)]
    follow("ALTER TABLE parent DROP COLUMN size")
    other.execute("UPDATE parent SET title = 'ink'")
    assert events(connection, "item_event", "title, size")[-1] == ("ink", None)


@pytest.mark.parametrize(
    ("before", "statement", "undone"),
    [
        ("SELECT", "CREATE TABLE child () INHERITS (item)", "DROP TABLE child"),
        (
            "CREATE TABLE child (LIKE item)",
            "ALTER TABLE child INHERIT item",
            "ALTER TABLE child NO INHERIT item",
        ),
        (
            "CREATE TABLE parent (name text)",
            "ALTER TABLE item INHERIT parent",
            "ALTER TABLE item NO INHERIT parent",
        ),
        (
            """CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'""",
            "CREATE TRIGGER of_the_user AFTER UPDATE ON item FOR EACH ROW EXECUTE FUNCTION f()",
            "DROP TRIGGER of_the_user ON item",
        ),
        (
            """CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'""",
            "CREATE TRIGGER of_the_user AFTER UPDATE ON item FOR EACH ROW EXECUTE FUNCTION f()",
            "DROP FUNCTION f() CASCADE",
        ),
    ],
)
def test_the_level_is_chosen_again(
    before: str,
    statement: str,
    undone: str,
    follow: Follow,
    connection: Connection,
    connect: Callable[..., Connection],
) -> None:
    connection.execute(f"{TABLE}; {before}")
    track(connection, "item", kind="history")
    assert triggers(connection, "item") == BY_STATEMENT
    other = connect()
    check_writes(other, "item", "item_event", 1)
    follow(statement)
    assert triggers(connection, "item") == BY_ROW
    check_writes(other, "item", "item_event", 11)
    if "of_the_user" in undone:
        follow('ALTER TRIGGER of_the_user ON item RENAME TO "renamed"')
        assert triggers(connection, "item") == BY_ROW
        undone = undone.replace("of_the_user", "renamed")
    follow(undone)
    assert triggers(connection, "item") == BY_STATEMENT
    check_writes(other, "item", "item_event", 21)


def test_a_trigger_of_ours_that_is_renamed_doubles_no_events(follow: Follow, connection: Connection) -> None:
    connection.execute(TABLE)
    track(connection, "item", kind="history")
    follow('ALTER TRIGGER "!pghistory item_event insert statement" ON item RENAME TO "zzz"')
    check_writes(connection, "item", "item_event", 1)


# Dropped tables


def test_a_dropped_table_keeps_its_events_and_a_new_one_takes_them_over(
    follow: Follow, connection: Connection
) -> None:
    connection.execute(TABLE)
    track(connection, "item", "one", kind="history")
    track(connection, "item", "two", kind="after_insert", fields=["name"])
    connection.execute("INSERT INTO item VALUES (1, 'pen', 'blue')")
    follow("DROP TABLE item")
    assert rows(connection, "SELECT * FROM pghistory.trackers()") == []
    assert (
        events(connection, "item_event", "name") == events(connection, "item_name_event", "name") == ["pen"]
    )
    follow(
        "CREATE TABLE item (note integer, name varchar(10), size integer, id bigint PRIMARY KEY)",
        "SELECT pghistory.track('item', 'one', kind => 'history')",
        "SELECT pghistory.track('item', 'two', kind => 'after_insert', fields => '{name}')",
    )
    connection.execute("INSERT INTO item VALUES (5, 'ink', 7, 10000000000)")
    assert events(connection, "item_event", "pgh_obj_id, id, name, note, note__1, size") == [
        (1, 1, "pen", None, "blue", None),
        (10**10, 10**10, "ink", 5, None, 7),
    ]
    assert events(connection, "item_name_event", "name") == ["pen", "ink"]
    check_writes(connection, "item", "item_event", 21)


def test_a_table_recreated_in_one_transaction_with_writes_goes_on(
    follow: Follow, connection: Connection
) -> None:
    connection.execute(TABLE)
    track(connection, "item", kind="history")
    with connection.transaction():
        check_writes(connection, "item", "item_event", 1)
        follow("DROP TABLE item", TABLE, "SELECT pghistory.track('item', kind => 'history')")
        check_writes(connection, "item", "item_event", 11)
    assert len(events(connection, "item_event")) == 10


@pytest.mark.parametrize(
    "statement",
    ["DROP TABLE item_event", "DROP TABLE item_event CASCADE", "DROP SCHEMA audit CASCADE"],
)
def test_dropping_an_event_table_ends_its_trackers_and_no_others(
    statement: str, follow: Follow, connection: Connection, connect: Callable[..., Connection]
) -> None:
    connection.execute(f"{TABLE}; CREATE SCHEMA audit")
    schema = "audit." if "SCHEMA" in statement else ""
    for label in ("one", "two"):
        track(connection, "item", label, kind="history", event_table=f"{schema}item_event")
    track(connection, "item", "other", kind="history", event_table="other_event")
    other = connect()
    check_writes(other, "item", "other_event", 1)
    follow(statement)
    check_writes(other, "item", "other_event", 11)
    assert rows(connection, "SELECT label FROM pghistory.trackers()") == [("other",)]
    assert triggers(connection, "item") == BY_STATEMENT
    assert value(connection, "SELECT count(*) FROM pg_trigger WHERE tgname LIKE '!pghistory %'") == 4
    track(connection, "item", "one", kind="history")
    check_writes(other, "item", "item_event", 21)


def test_dropping_the_schema_of_both_leaves_nothing_behind(follow: Follow, connection: Connection) -> None:
    connection.execute("CREATE SCHEMA app")
    connection.execute(TABLE.replace("item", "app.item"))
    track(connection, "app.item", kind="history")
    track(connection, "app.item", "elsewhere", kind="history", event_table="public.item_event")
    check_writes(connection, "app.item", "item_event", 1)
    follow("DROP SCHEMA app CASCADE")
    assert rows(connection, "SELECT * FROM pghistory.trackers()") == []
    assert len(events(connection, "item_event")) == 5
    connection.execute("CREATE SCHEMA app")
    connection.execute(TABLE.replace("item", "app.item"))
    track(connection, "app.item", "elsewhere", kind="history", event_table="public.item_event")
    check_writes(connection, "app.item", "item_event", 11)


def test_what_is_dropped_is_followed_when_the_transaction_is_rolled_back(connection: Connection) -> None:
    connection.execute(TABLE)
    track(connection, "item", kind="history")
    before = catalog(connection)
    with connection.transaction(force_rollback=True):
        connection.execute(
            "ALTER TABLE item RENAME name TO title; DROP TABLE item_event; INSERT INTO item VALUES (1)"
        )
        connection.execute("DROP TABLE item")
    assert catalog(connection) == before
    check_writes(connection, "item", "item_event", 1)


# Trackers of all sorts


def test_fields_and_exclusions_follow_their_columns(
    follow: Follow, connection: Connection, connect: Callable[..., Connection]
) -> None:
    connection.execute(TABLE)
    track(connection, "item", "fields", fields=["name"])
    track(connection, "item", "without", exclude=["note"])
    track(connection, "item", "meta", fields=[])
    other = connect()
    for session in (connection, other):
        session.execute(
            "INSERT INTO item VALUES (1, 'pen', 'x'); UPDATE item SET name = 'ink'; DELETE FROM item"
        )
    follow(
        "ALTER TABLE item RENAME COLUMN name TO title",
        "ALTER TABLE item RENAME COLUMN note TO remark",
        "ALTER TABLE item ADD COLUMN size integer",
        "ALTER TABLE item ADD COLUMN name text",
    )
    for session in (connection, other):
        session.execute(
            "INSERT INTO item VALUES (2, 'pad', 'y', 3, 'z'); UPDATE item SET remark = 'w'; DELETE FROM item"
        )
    assert events(connection, "item_name_event", "title") == ["pen", "ink"] * 2 + ["pad"] * 2
    assert events(connection, "item_without_note_event", "title, size, name")[-2:] == [("pad", 3, "z")] * 2
    assert len(events(connection, "item_meta_event")) == 2 * 2 + 2 * 2
    assert rows(connection, "SELECT label, fields, exclude FROM pghistory.trackers() ORDER BY label") == [
        ("fields", ["title"], None),
        ("meta", [], None),
        ("without", None, ["remark"]),
    ]
    follow("ALTER TABLE item DROP COLUMN title, DROP COLUMN remark")
    for session in (connection, other):
        session.execute("INSERT INTO item VALUES (3, 4, 'v'); UPDATE item SET size = 5; DELETE FROM item")
    assert events(connection, "item_name_event WHERE title IS NULL", "pgh_operation")[0] == "I"
    assert events(connection, "item_without_note_event", "size")[-2:] == [4, 5]


def test_trackers_that_share_an_event_table_are_followed_each(follow: Follow, connection: Connection) -> None:
    connection.execute(TABLE)
    track(connection, "item", "all", kind="history", event_table="log")
    track(connection, "item", "name", fields=["name"], event_table="log")
    track(connection, "item", "without", exclude=["note"], event_table="log")
    follow(
        "ALTER TABLE item RENAME COLUMN name TO title",
        "ALTER TABLE item ADD COLUMN size integer",
        "ALTER TABLE item ALTER COLUMN note TYPE varchar(9)",
    )
    connection.execute("INSERT INTO item VALUES (1, 'pen', 'x', 3)")
    connection.execute("UPDATE item SET note = 'y'")
    connection.execute("UPDATE item SET title = 'ink'")
    assert events(connection, "log", "pgh_label, title, note, size") == [
        *[("all", "pen", "x", 3), ("name", "pen", None, None), ("without", "pen", None, 3)],
        ("all", "pen", "y", 3),
        *[("all", "ink", "y", 3), ("name", "ink", None, None), ("without", "ink", None, 3)],
    ]


OWN_COLUMNS = {
    "plain": "size integer DEFAULT 1",
    "of another type": "size text DEFAULT 'mine'",
    "not null": "size integer NOT NULL DEFAULT 1",
    "generated": "size integer GENERATED ALWAYS AS (id * 2) STORED",
    "an identity": "size integer GENERATED ALWAYS AS IDENTITY",
}


@pytest.mark.parametrize("own", OWN_COLUMNS)
@pytest.mark.parametrize("change", ["ADD COLUMN size integer", "RENAME COLUMN note TO size"])
def test_columns_of_the_users_own_in_an_event_table_are_in_nobodys_way(
    own: str, change: str, follow: Follow, connection: Connection
) -> None:
    connection.execute("CREATE TABLE item (id integer PRIMARY KEY, name text, note integer)")
    connection.execute("SELECT pghistory.create_event_table('item', 'log')")
    connection.execute(
        f"ALTER TABLE log ADD COLUMN {OWN_COLUMNS[own]}, ADD COLUMN seen boolean DEFAULT false"
    )
    connection.execute("CREATE INDEX ON log (name); CREATE VIEW names AS SELECT pgh_id, name FROM log")
    track(connection, "item", kind="history", event_table="log")
    connection.execute("INSERT INTO item (id, name) VALUES (1, 'pen')")
    follow(f"ALTER TABLE item {change}")
    connection.execute("INSERT INTO item (id, name, size) VALUES (2, 'ink', 7)")
    connection.execute("UPDATE item SET size = NULL WHERE id = 2")
    assert events(connection, "log WHERE id = 2", "size, seen") == [(7, False), (None, False)]
    check_writes(connection, "item", "log", 11)


def test_constraints_of_the_users_own_on_events_do_not_outlive_their_columns(
    follow: Follow, connection: Connection
) -> None:
    connection.execute(TABLE)
    connection.execute("SELECT pghistory.create_event_table('item', 'log')")
    connection.execute(
        "ALTER TABLE log ALTER name SET NOT NULL, ALTER note SET NOT NULL, ALTER pgh_obj_id SET NOT NULL"
    )
    track(connection, "item", kind="history", event_table="log")
    connection.execute("INSERT INTO item VALUES (1, 'pen', 'x')")
    follow("ALTER TABLE item DROP COLUMN name, ALTER COLUMN note TYPE integer USING 5")
    connection.execute("UPDATE item SET note = 6")
    follow("ALTER TABLE item DROP COLUMN id")
    connection.execute("UPDATE item SET note = 7")
    assert events(connection, "log", "note") == [None, 6, 7]


def test_columns_that_views_and_indexes_of_events_use_can_be_retyped(
    follow: Follow, connection: Connection
) -> None:
    connection.execute(TABLE)
    track(connection, "item", kind="history")
    connection.execute("INSERT INTO item VALUES (1, 'pen', '5')")
    connection.execute(
        "CREATE VIEW notes AS SELECT note FROM item_event; CREATE INDEX ON item_event (upper(name))"
    )
    follow(
        "ALTER TABLE item ALTER COLUMN note TYPE integer USING note::integer, ALTER COLUMN name TYPE bytea USING ''"
    )
    connection.execute("UPDATE item SET note = 6")
    assert events(connection, "item_event", "note") == [5, 6]


# Owners


def test_a_table_owner_who_does_not_own_the_event_table_can_change_the_table(
    follow: Follow, connection: Connection, connect: Callable[..., Connection], role: Callable[..., str]
) -> None:
    owner, keeper = role("owner"), role("keeper")
    connection.execute(f"GRANT CREATE ON SCHEMA public TO {owner}, {keeper}")
    user = connect(owner)
    user.execute(TABLE)
    track(connection, "item", kind="history")
    connection.execute(f"GRANT SELECT ON item TO {keeper}; ALTER TABLE item_event OWNER TO {keeper}")
    connection.execute("SELECT pghistory.sync()")
    user.execute("INSERT INTO item VALUES (1, 'pen', 'x')")
    # without event triggers, somebody has to call sync() who may change both
    by = user if follow.by == "event triggers" else connection
    follow(
        "ALTER TABLE item RENAME COLUMN name TO title",
        "ALTER TABLE item DROP COLUMN note, ADD COLUMN size integer",
        by=by,
    )
    user.execute("UPDATE item SET size = 3")
    user.execute("TRUNCATE item")
    assert rows(connection, "SELECT pgh_operation, title, size FROM item_event ORDER BY pgh_id") == [
        *[("I", "pen", None), ("U", "pen", 3), ("T", "pen", 3)]
    ]
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        user.execute("SELECT * FROM item_event")


@pytest.mark.parametrize(
    "statement",
    [
        "REASSIGN OWNED BY {old} TO {new}",
        "ALTER TABLE item OWNER TO {new}; ALTER TABLE item_event OWNER TO {new}",
        # what is truncated must be readable for the owner of the event table
        "ALTER TABLE item OWNER TO {new}; GRANT SELECT ON item TO {old}",
        "GRANT SELECT ON item TO {new}; ALTER TABLE item_event OWNER TO {new}",
    ],
)
def test_tables_may_change_hands(
    statement: str,
    follow: Follow,
    connection: Connection,
    connect: Callable[..., Connection],
    role: Callable[..., str],
) -> None:
    old, new = role("old"), role("new")
    connection.execute(f"GRANT CREATE ON SCHEMA public TO {old}, {new}")
    user = connect(old)
    user.execute(TABLE)
    track(user, "item", "item", kind="history")
    check_writes(user, "item", "item_event", 1)
    follow(*statement.format(old=old, new=new).split("; "))
    owner = value(connection, "SELECT relowner::regrole::text FROM pg_class WHERE relname = 'item'")
    user = connect(owner)
    user.execute("INSERT INTO item VALUES (11, 'pen', 'x')")
    user.execute("UPDATE item SET note = 'y'")
    user.execute("SELECT pghistory.create_event('item'::regclass, '11', 'item')")
    user.execute("DELETE FROM item")
    user.execute("INSERT INTO item VALUES (12, 'ink', 'x')")
    user.execute("TRUNCATE item")
    assert events(connection, "item_event WHERE id > 10") == ["I", "U", "S", "D", "I", "T"]


def test_a_truncate_that_the_event_tables_owner_may_not_read_goes_on(
    follow: Follow, connection: Connection, connect: Callable[..., Connection], role: Callable[..., str]
) -> None:
    owner = role("owner")
    connection.execute(f"GRANT CREATE ON SCHEMA public TO {owner}")
    user = connect(owner)
    user.execute(TABLE)
    track(user, "item", kind="history")
    user.execute("INSERT INTO item VALUES (1)")
    connection.execute("ALTER TABLE item OWNER TO postgres")
    connection.execute("SELECT pghistory.sync()")
    connection.execute("TRUNCATE item")
    assert value(connection, "SELECT count(*) FROM item") == 0
    assert "may not read" in str(rows(connection, "SELECT problem FROM pghistory.verify()"))


# Where DDL may be


@pytest.mark.parametrize("level", ["row", "statement"])
def test_ddl_that_is_rolled_back_to_a_savepoint_leaves_writes_as_they_were(
    level: str, follow: Follow, connection: Connection
) -> None:
    connection.execute(TABLE)
    track(connection, "item", kind="history", level=level)
    with connection.transaction():
        check_writes(connection, "item", "item_event", 1)
        with connection.transaction(force_rollback=True):
            follow(
                "ALTER TABLE item RENAME COLUMN name TO title",
                "ALTER TABLE item ALTER COLUMN id TYPE bigint, DROP COLUMN note",
            )
            check_writes(connection, "item", "item_event", 11)
        check_writes(connection, "item", "item_event", 21)
        connection.execute("INSERT INTO item VALUES (31, 'pen', 'x')")
    assert events(connection, "item_event", "id, name, note")[-1] == (31, "pen", "x")
    assert len(events(connection, "item_event")) == 11


def test_ddl_in_a_function_that_writes_before_and_after_is_followed(
    follow: Follow, connection: Connection
) -> None:
    connection.execute(TABLE)
    track(connection, "item", kind="history")
    connection.execute(
        """CREATE FUNCTION migrate() RETURNS void LANGUAGE plpgsql AS $$
           BEGIN
               FOR number IN 1..3 LOOP
                   INSERT INTO item (id) VALUES (number);
                   UPDATE item SET id = -id WHERE id = number;
                   EXECUTE format('ALTER TABLE item ADD COLUMN c%s text DEFAULT %s', number, number);
                   IF NOT EXISTS (SELECT FROM pg_event_trigger WHERE evtname = 'pghistory_after_ddl') THEN
                       PERFORM pghistory.sync();
                   END IF;
                   EXECUTE format('UPDATE item SET c%s = ''x'' WHERE id = -$1', number) USING number;
               END LOOP;
           END $$"""
    )
    follow("SELECT migrate()")
    assert events(connection, "item_event", "pgh_operation, abs(id), c1, c2, c3") == [
        *[("I", 1, None, None, None), ("U", 1, None, None, None), ("U", 1, "x", None, None)],
        *[("I", 2, "1", None, None), ("U", 2, "1", None, None), ("U", 2, "1", "x", None)],
        *[("I", 3, "1", "2", None), ("U", 3, "1", "2", None), ("U", 3, "1", "2", "x")],
    ]


def test_a_partition_or_trigger_made_with_its_schema_is_followed(
    follow: Follow, connection: Connection
) -> None:
    connection.execute("CREATE TABLE item (id integer PRIMARY KEY, name text) PARTITION BY RANGE (id)")
    track(connection, "item", kind="history")
    follow("CREATE SCHEMA archive CREATE TABLE low PARTITION OF public.item FOR VALUES FROM (0) TO (1000)")
    check_writes(connection, "archive.low", "item_event", 1)


def test_a_foreign_table_is_followed(follow: Follow, connection: Connection) -> None:
    connection.execute(
        """CREATE FOREIGN DATA WRAPPER elsewhere; CREATE SERVER there FOREIGN DATA WRAPPER elsewhere;
           CREATE FOREIGN TABLE item (id integer, name text) SERVER there"""
    )
    track(connection, "item", kind="history", obj_key=["id"])
    follow(
        "ALTER FOREIGN TABLE item RENAME COLUMN name TO title",
        "ALTER FOREIGN TABLE item ADD COLUMN size integer",
        "ALTER FOREIGN TABLE item RENAME TO thing",
    )
    assert events(connection, "item_event", "title, size") == []
    follow("DROP FOREIGN TABLE thing")
    assert rows(connection, "SELECT * FROM pghistory.trackers()") == []


# What cannot follow


def test_what_is_in_use_is_followed_as_far_as_it_goes(connection: Connection) -> None:
    connection.execute(TABLE)
    track(connection, "item", kind="history")
    connection.execute("INSERT INTO item VALUES (1, 'pen', 'x')")
    with connection.transaction():
        connection.execute("DECLARE reader CURSOR FOR SELECT * FROM item_event; FETCH reader")
        connection.execute("ALTER TABLE item RENAME COLUMN name TO title")
        connection.execute("ALTER TABLE item DROP COLUMN note, ADD COLUMN size integer")
        connection.execute("INSERT INTO item VALUES (2, 'ink', 3)")
        connection.execute("UPDATE item SET size = 4 WHERE id = 1")
    assert events(connection, "item_event", "pgh_operation, id") == [("I", 1), ("I", 2), ("U", 1)]
    assert rows(connection, "SELECT * FROM pghistory.verify()") != []
    connection.execute("SELECT pghistory.refresh()")
    assert rows(connection, "SELECT * FROM pghistory.verify()") == []
    check_writes(connection, "item", "item_event", 11)


def test_an_event_table_that_somebody_reads_stops_no_ddl_that_waits_for_nobody(
    connection: Connection, connect: Callable[..., Connection]
) -> None:
    connection.execute(TABLE)
    track(connection, "item", kind="history")
    reader = connect(autocommit=False)
    reader.execute("SELECT * FROM item_event")
    connection.execute("SET lock_timeout = '100ms'")
    connection.execute("ALTER TABLE item RENAME COLUMN name TO title")
    connection.execute("INSERT INTO item VALUES (1, 'pen')")
    connection.execute("UPDATE item SET title = 'ink'")
    reader.rollback()
    assert rows(connection, "SELECT * FROM pghistory.verify()") != []
    connection.execute("SELECT pghistory.refresh()")
    connection.execute("DELETE FROM item")
    assert events(connection, "item_event", "pgh_operation, title") == [
        ("I", "pen"),
        ("U", "ink"),
        ("D", "ink"),
    ]
    assert rows(connection, "SELECT * FROM pghistory.verify()") == []


def test_an_event_table_that_is_full_records_what_it_has_columns_for(connection: Connection) -> None:
    columns = ", ".join(f"c{number} boolean" for number in range(1590))
    connection.execute(f"CREATE TABLE item (id integer PRIMARY KEY, name text, {columns})")
    track(connection, "item", kind="history")
    connection.execute("ALTER TABLE item ADD COLUMN added text")
    connection.execute("ALTER TABLE item RENAME COLUMN name TO title")
    connection.execute("ALTER TABLE item DROP COLUMN c0")
    connection.execute("INSERT INTO item (id, title, added) VALUES (1, 'pen', 'x')")
    connection.execute("UPDATE item SET title = 'ink'")
    assert events(connection, "item_event", "pgh_operation, id, name") == [("I", 1, "pen"), ("U", 1, "ink")]
    assert "added" in str(rows(connection, "SELECT problem FROM pghistory.verify()"))


def test_ddl_of_a_session_whose_triggers_are_off_is_followed(connection: Connection) -> None:
    connection.execute(TABLE)
    track(connection, "item", kind="history")
    with connection.transaction():
        connection.execute("SET LOCAL session_replication_role = replica")
        connection.execute("ALTER TABLE item RENAME COLUMN name TO title")
        connection.execute("ALTER TABLE item ADD COLUMN size integer")
    connection.execute("INSERT INTO item (id, title, size) VALUES (1, 'pen', 3)")
    assert events(connection, "item_event", "title, size") == [("pen", 3)]


def test_ddl_on_tables_that_are_not_tracked_costs_the_same_however_many_are(connection: Connection) -> None:
    ddl = """CREATE TABLE plain (id integer); ALTER TABLE plain ADD COLUMN name text; DROP TABLE plain;
             CREATE TYPE plain AS ENUM (); ALTER TYPE plain ADD VALUE 'x'; DROP TYPE plain;
             CREATE TEMPORARY TABLE plain AS SELECT 1; DROP TABLE plain"""

    def calls() -> dict[str, int]:
        with connection.transaction():
            before = dict(
                rows(connection, "SELECT funcid::regprocedure::text, calls FROM pg_stat_xact_user_functions")
            )
            for statement in ddl.split(";"):
                connection.execute(statement)
            after = dict(
                rows(connection, "SELECT funcid::regprocedure::text, calls FROM pg_stat_xact_user_functions")
            )
        # those of earlier transactions are there with nothing, until they are flushed
        return {
            name: count - before.get(name, 0)
            for name, count in after.items()
            if name.startswith("pghistory.") and count > before.get(name, 0)
        }

    connection.execute("SET track_functions = 'all'")
    for number in range(9):
        connection.execute(f"CREATE TABLE item_{number} (id integer PRIMARY KEY)")
    track(connection, "item_0", kind="history")
    with_one = calls()
    for number in range(1, 9):
        track(connection, f"item_{number}", kind="history")
    assert calls() == with_one
    assert with_one["pghistory._after_ddl()"] > 0
