"""undo() and undo_transaction(): what was done is taken back, all of it or nothing."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, NamedTuple

import pytest
from history import Connection, call, catalog, quoted, rows, track, value
from psycopg import errors
from test_concurrency import PATIENCE, wait_until_blocked

Connect = Callable[..., Connection]
ID = uuid.UUID("a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11")
OTHER_ID = uuid.UUID("b0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11")

IMAGES = {
    "after": ("history",),
    "before": ("after_insert", "before_update", "before_delete", "before_truncate"),
}


def keep(connection: Connection, *tables: str, image: str = "after", level: str = "auto", **options: Any) -> None:
    """Keep the history of tables, as after-images or as before-images."""
    for table in tables:
        for kind in IMAGES[image]:
            track(connection, table, kind=kind, level=level, **options)


def contents(connection: Connection) -> dict[str, list[str]]:
    """The rows of all ordinary tables of the current schema but event tables, as text."""
    found = {}
    for (table,) in rows(
        connection,
        """SELECT c.oid::regclass::text FROM pg_class AS c
            WHERE c.relnamespace = current_schema()::regnamespace AND c.relkind = 'r'
              AND NOT EXISTS (SELECT FROM pghistory.event_table AS e WHERE e.event_table = c.oid)
            ORDER BY 1""",
    ):
        found[table] = [row for (row,) in rows(connection, f"SELECT t::text FROM ONLY {table} AS t ORDER BY 1")]
    return found


def do(connection: Connection, *statements: str) -> str:
    """Run statements in one transaction, and return its id."""
    with connection.transaction():
        for statement in statements:
            connection.execute(statement)
        return str(value(connection, "SELECT pg_current_xact_id()"))


def do_in_context(connection: Connection, context_id: uuid.UUID, *statements: str) -> None:
    with connection.transaction():
        call(connection, "set_context", '{"user": 1}', context_id)
        for statement in statements:
            connection.execute(statement)


def undo(connection: Connection, xid: str, **options: object) -> tuple[int, str]:
    """Call undo_transaction(), and return how many changes it took back and the id of its own transaction."""
    with connection.transaction():
        taken = call(connection, "undo_transaction", xid, **options)
        return taken, str(value(connection, "SELECT pg_current_xact_id()"))


def undo_refused(
    connection: Connection, message: str, undone: object, *, force: bool = False, error: type = None
) -> Any:
    """Call undo() or undo_transaction(), which must be refused and leave everything as it was."""
    before = catalog(connection), contents(connection)
    function = "undo" if isinstance(undone, uuid.UUID) else "undo_transaction"
    with pytest.raises(error or errors.ObjectNotInPrerequisiteState, match=message) as caught:
        call(connection, function, undone, force)
    assert (catalog(connection), contents(connection)) == before
    return caught.value.diag


class Story(NamedTuple):
    """What is there, and what one transaction does to it."""

    tables: tuple[str, ...]
    setup: str
    statements: tuple[str, ...]


ITEM = "CREATE TABLE item (id integer PRIMARY KEY, name text, price numeric);" + (
    "INSERT INTO item VALUES (1, 'pen', 1.0), (2, 'ink', 5), (3, NULL, NULL), (4, 'cap', 2);"
)
CITY = """
    CREATE TABLE country (id integer PRIMARY KEY, name text);
    CREATE TABLE city (id integer PRIMARY KEY, name text, country_id integer DEFAULT 1 REFERENCES country {});
    INSERT INTO country VALUES (1, 'nowhere'), (2, 'France'), (3, 'Greece');
    INSERT INTO city VALUES (21, 'Paris', 2), (22, 'Lyon', 2), (31, 'Athens', 3), (32, 'Volos', 3);
"""
TREE = """
    CREATE TABLE node (id integer PRIMARY KEY, name text, parent_id integer REFERENCES node {});
    INSERT INTO node VALUES (1, 'a', NULL), (2, 'b', 1), (3, 'c', 2), (4, 'd', 2), (5, 'e', 1), (6, 'f', NULL);
"""
SLOT = """
    CREATE TABLE slot (id integer PRIMARY KEY, position integer UNIQUE {});
    INSERT INTO slot VALUES (1, 1), (2, 2), (3, 3);
"""
CYCLE = """
    CREATE TABLE team (id integer PRIMARY KEY, captain_id integer {});
    CREATE TABLE player (id integer PRIMARY KEY, team_id integer NOT NULL REFERENCES team {});
    ALTER TABLE team ADD FOREIGN KEY (captain_id) REFERENCES player {};
    {}
"""
LINE = """
    CREATE TABLE purchase (shop text, "No" integer, day date, PRIMARY KEY (shop, "No"));
    CREATE TABLE line (shop text, "No" integer, number integer, what text, PRIMARY KEY (shop, "No", number),
                       FOREIGN KEY (shop, "No") REFERENCES purchase {});
    INSERT INTO purchase VALUES ('x', 1, '2026-01-01'), ('x', 2, NULL), ('y', 1, NULL);
    INSERT INTO line VALUES ('x', 1, 1, 'pen'), ('x', 1, 2, 'ink'), ('y', 1, 1, NULL);
"""
COMPUTED = """
    CREATE TABLE computed (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, a integer,
                           number integer GENERATED BY DEFAULT AS IDENTITY,
                           twice integer GENERATED ALWAYS AS (a * 2) STORED);
    INSERT INTO computed (a) VALUES (1), (2), (3);
"""
MEASURE = """
    CREATE TABLE measure (id integer, day date, value numeric, PRIMARY KEY (id, day)) PARTITION BY RANGE (day);
    CREATE TABLE measure_old (value numeric, day date NOT NULL, id integer NOT NULL);
    ALTER TABLE measure ATTACH PARTITION measure_old FOR VALUES FROM (MINVALUE) TO ('2026-01-01');
    CREATE TABLE measure_new PARTITION OF measure FOR VALUES FROM ('2026-01-01') TO (MAXVALUE);
    INSERT INTO measure VALUES (1, '2025-05-05', 1.0), (2, '2026-05-05', 2), (3, '2026-05-05', 3);
"""
ODD = """
    CREATE TABLE "it's {table} %s" ("key's" text PRIMARY KEY, "{set}" text, "%I" json, "Größe" double precision);
    INSERT INTO "it's {table} %s" VALUES ('a''{}%', '{names}', '{"a": 1}', 0.1), ('B', '%L', NULL, 'NaN');
"""

STORIES = {
    "everything that can happen to a row": Story(
        ("item",),
        ITEM,
        (
            "INSERT INTO item VALUES (5, 'new', 9)",
            "UPDATE item SET price = price + 1",
            "DELETE FROM item WHERE id IN (2, 3)",
            "UPDATE item SET name = 'newer' WHERE id = 5",
            "INSERT INTO item VALUES (6, 'gone', 9)",
            "DELETE FROM item WHERE id = 6",
        ),
    ),
    "a row that came again": Story(
        ("item",),
        ITEM,
        (
            "DELETE FROM item WHERE id = 1",
            "INSERT INTO item VALUES (1, 'other', 7)",
            "UPDATE item SET name = 'another' WHERE id = 1",
            "DELETE FROM item WHERE id = 1",
            "INSERT INTO item VALUES (1, 'third', 8)",
        ),
    ),
    "changes that only images show": Story(
        ("item",), ITEM, ("UPDATE item SET price = 1.00 WHERE id = 1", "UPDATE item SET price = 1.000 WHERE id = 1")
    ),
    "one row over and over": Story(
        ("item",), ITEM, tuple(f"UPDATE item SET name = 'v{number}' WHERE id = 1" for number in range(5))
    ),
    "an emptied table": Story(("item",), ITEM, ("TRUNCATE item",)),
    "an emptied table that is filled again": Story(
        ("item",), ITEM, ("UPDATE item SET price = 0", "TRUNCATE item", "INSERT INTO item VALUES (1, 'again', 1)")
    ),
    "keys that change": Story(
        ("item",),
        ITEM,
        ("UPDATE item SET id = 10, name = 'ten' WHERE id = 1", "UPDATE item SET id = id + 100 WHERE id > 3"),
    ),
    "keys that change and change back": Story(
        ("item",),
        ITEM,
        (
            "UPDATE item SET id = 10 WHERE id = 1",
            "UPDATE item SET name = 'ten' WHERE id = 10",
            "UPDATE item SET id = 1 WHERE id = 10",
        ),
    ),
    "keys that move up": Story(
        ("item",),
        ITEM,
        tuple(f"UPDATE item SET id = {number + 1} WHERE id = {number}" for number in (4, 3, 2, 1)),
    ),
    "keys that are exchanged": Story(
        ("item",),
        ITEM,
        (
            "UPDATE item SET id = 0 WHERE id = 1",
            "UPDATE item SET id = 1 WHERE id = 2",
            "UPDATE item SET id = 2 WHERE id = 0",
        ),
    ),
    "a key that is taken by another row": Story(
        ("item",),
        ITEM,
        (
            "UPDATE item SET id = 10 WHERE id = 1",
            "INSERT INTO item VALUES (1, 'usurper', 0)",
            "UPDATE item SET name = 'king' WHERE id = 1",
            "DELETE FROM item WHERE id = 10",
        ),
    ),
    "a new row that changes its key": Story(
        ("item",), ITEM, ("INSERT INTO item VALUES (9, 'x', 1)", "UPDATE item SET id = 8 WHERE id = 9")
    ),
    "a row that changes its key and goes": Story(
        ("item",), ITEM, ("UPDATE item SET id = 8 WHERE id = 1", "DELETE FROM item WHERE id = 8")
    ),
    "unique values that are exchanged": Story(
        ("slot",),
        SLOT.format(""),
        (
            "UPDATE slot SET position = NULL WHERE id = 1",
            "UPDATE slot SET position = 1 WHERE id = 2",
            "UPDATE slot SET position = 2 WHERE id = 1",
        ),
    ),
    "unique values exchanged in one statement": Story(
        ("slot",), SLOT.format("DEFERRABLE"), ("UPDATE slot SET position = 3 - position WHERE id < 3",)
    ),
    "unique values exchanged in a transaction": Story(
        ("slot",),
        SLOT.format("DEFERRABLE INITIALLY DEFERRED"),
        ("UPDATE slot SET position = 2 WHERE id = 1", "UPDATE slot SET position = 1 WHERE id = 2"),
    ),
    "unique values that move up in one statement": Story(
        ("slot",), SLOT.format("DEFERRABLE"), ("UPDATE slot SET position = position + 1",)
    ),
    "a unique value that another row gets": Story(
        ("slot",), SLOT.format(""), ("DELETE FROM slot WHERE id = 1", "INSERT INTO slot VALUES (4, 1)")
    ),
    "new rows that refer to new rows": Story(
        ("country", "city"),
        CITY.format(""),
        ("INSERT INTO country VALUES (4, 'Spain')", "INSERT INTO city VALUES (41, 'Madrid', 4)"),
    ),
    "rows deleted with what refers to them": Story(
        ("country", "city"),
        CITY.format(""),
        ("DELETE FROM city WHERE country_id = 3", "DELETE FROM country WHERE id = 3"),
    ),
    "rows that refer elsewhere before theirs goes": Story(
        ("country", "city"),
        CITY.format(""),
        (
            "INSERT INTO country VALUES (5, 'Union')",
            "UPDATE city SET country_id = 5, name = upper(name)",
            "DELETE FROM country WHERE id IN (2, 3)",
        ),
    ),
    "back and forth between tables": Story(
        ("country", "city"),
        CITY.format(""),
        (
            "INSERT INTO country VALUES (4, 'Spain')",
            "INSERT INTO city VALUES (41, 'Madrid', 4)",
            "DELETE FROM city WHERE id = 41",
            "DELETE FROM country WHERE id = 4",
            "INSERT INTO country VALUES (4, 'Portugal')",
            "UPDATE city SET country_id = 4 WHERE id = 21",
        ),
    ),
    "ON DELETE CASCADE": Story(
        ("country", "city"), CITY.format("ON DELETE CASCADE"), ("DELETE FROM country WHERE id > 1",)
    ),
    "ON DELETE CASCADE of new rows": Story(
        ("country", "city"),
        CITY.format("ON DELETE CASCADE"),
        (
            "INSERT INTO country VALUES (4, 'Spain')",
            "INSERT INTO city VALUES (41, 'Madrid', 4)",
            "UPDATE city SET name = 'MADRID' WHERE id = 41",
        ),
    ),
    "ON DELETE SET NULL": Story(
        ("country", "city"), CITY.format("ON DELETE SET NULL"), ("DELETE FROM country WHERE id > 1",)
    ),
    "ON DELETE SET NULL of new rows": Story(
        ("country", "city"),
        CITY.format("ON DELETE SET NULL"),
        ("INSERT INTO country VALUES (4, 'Spain')", "UPDATE city SET country_id = 4 WHERE id = 21"),
    ),
    "ON DELETE SET DEFAULT": Story(
        ("country", "city"), CITY.format("ON DELETE SET DEFAULT"), ("DELETE FROM country WHERE id > 1",)
    ),
    "ON UPDATE CASCADE": Story(
        ("country", "city"), CITY.format("ON UPDATE CASCADE"), ("UPDATE country SET id = id + 100 WHERE id = 2",)
    ),
    "ON UPDATE CASCADE and more": Story(
        ("country", "city"),
        CITY.format("ON UPDATE CASCADE"),
        (
            "UPDATE city SET name = upper(name)",
            "UPDATE country SET id = id + 100 WHERE id = 2",
            "UPDATE city SET name = name || '!' WHERE country_id = 102",
            "DELETE FROM city WHERE id = 22",
        ),
    ),
    "ON UPDATE SET NULL": Story(
        ("country", "city"), CITY.format("ON UPDATE SET NULL"), ("UPDATE country SET id = 102 WHERE id = 2",)
    ),
    "deferred references, inserted": Story(
        ("country", "city"),
        CITY.format("DEFERRABLE INITIALLY DEFERRED"),
        ("INSERT INTO city VALUES (41, 'Madrid', 4)", "INSERT INTO country VALUES (4, 'Spain')"),
    ),
    "deferred references, deleted": Story(
        ("country", "city"),
        CITY.format("DEFERRABLE INITIALLY DEFERRED"),
        ("DELETE FROM country WHERE id = 2", "DELETE FROM city WHERE country_id = 2"),
    ),
    "deferred references, made to fit": Story(
        ("country", "city"),
        CITY.format("DEFERRABLE"),
        (
            "SET CONSTRAINTS ALL DEFERRED",
            "UPDATE country SET id = 20 WHERE id = 2",
            "UPDATE city SET country_id = 20 WHERE country_id = 2",
        ),
    ),
    "truncated with what refers to it": Story(
        ("country", "city"), CITY.format(""), ("TRUNCATE country CASCADE",)
    ),
    "a tree that grows": Story(
        ("node",),
        TREE.format(""),
        ("INSERT INTO node VALUES (7, 'g', 6)", "INSERT INTO node VALUES (8, 'h', 7), (9, 'i', 8)"),
    ),
    "a tree that grows in one statement": Story(
        ("node",), TREE.format(""), ("INSERT INTO node VALUES (9, 'i', 8), (8, 'h', 7), (7, 'g', 6)",)
    ),
    "a tree that falls": Story(("node",), TREE.format("ON DELETE CASCADE"), ("DELETE FROM node WHERE id = 1",)),
    "a tree felled in one statement": Story(
        ("node",), TREE.format(""), ("DELETE FROM node WHERE id < 6",)
    ),
    "a tree cut up": Story(("node",), TREE.format("ON DELETE SET NULL"), ("DELETE FROM node WHERE id IN (1, 2)",)),
    "a tree whose keys change": Story(
        ("node",),
        TREE.format("ON UPDATE CASCADE"),
        ("UPDATE node SET id = 20 WHERE id = 2", "UPDATE node SET id = 10 WHERE id = 1"),
    ),
    "a tree that is planted elsewhere": Story(
        ("node",),
        TREE.format(""),
        (
            "INSERT INTO node VALUES (7, 'g', NULL)",
            "UPDATE node SET parent_id = 7 WHERE parent_id = 2",
            "DELETE FROM node WHERE id = 2",
        ),
    ),
    "a node that refers to itself": Story(
        ("node",), TREE.format(""), ("INSERT INTO node VALUES (7, 'g', 7)", "DELETE FROM node WHERE id = 3")
    ),
    "a circle of new rows": Story(
        ("team", "player"),
        CYCLE.format("", "", "", ""),
        (
            "INSERT INTO team VALUES (1, NULL)",
            "INSERT INTO player VALUES (1, 1), (2, 1)",
            "UPDATE team SET captain_id = 2",
        ),
    ),
    "a circle of deferred references, inserted": Story(
        ("team", "player"),
        CYCLE.format("NOT NULL", "DEFERRABLE INITIALLY DEFERRED", "DEFERRABLE INITIALLY DEFERRED", ""),
        ("INSERT INTO team VALUES (1, 2)", "INSERT INTO player VALUES (1, 1), (2, 1)"),
    ),
    "a circle of deferrable references, inserted": Story(
        ("team", "player"),
        CYCLE.format("NOT NULL", "DEFERRABLE", "DEFERRABLE", ""),
        (
            "SET CONSTRAINTS ALL DEFERRED",
            "INSERT INTO team VALUES (1, 2)",
            "INSERT INTO player VALUES (1, 1), (2, 1)",
        ),
    ),
    "a circle of deferred references, deleted": Story(
        ("team", "player"),
        CYCLE.format(
            "NOT NULL",
            "DEFERRABLE INITIALLY DEFERRED",
            "DEFERRABLE INITIALLY DEFERRED",
            "BEGIN; INSERT INTO team VALUES (1, 2); INSERT INTO player VALUES (1, 1), (2, 1); COMMIT;",
        ),
        ("DELETE FROM team", "DELETE FROM player"),
    ),
    "a circle that a cascade deletes": Story(
        ("team", "player"),
        CYCLE.format(
            "", "ON DELETE CASCADE", "", "INSERT INTO team VALUES (1); INSERT INTO player VALUES (1, 1), (2, 1);"
        )
        + "UPDATE team SET captain_id = 1;",
        ("DELETE FROM team",),
    ),
    "keys of several columns": Story(
        ("purchase", "line"),
        LINE.format(""),
        (
            "INSERT INTO purchase VALUES ('z', 9, NULL)",
            "UPDATE line SET shop = 'z', \"No\" = 9 WHERE shop = 'y'",
            "DELETE FROM purchase WHERE shop = 'y'",
            "UPDATE line SET number = number + 10",
        ),
    ),
    "keys of several columns that cascade": Story(
        ("purchase", "line"),
        LINE.format("ON UPDATE CASCADE ON DELETE CASCADE"),
        (
            "UPDATE purchase SET shop = 'xx', \"No\" = 11 WHERE shop = 'x' AND \"No\" = 1",
            "UPDATE line SET what = 'paper' WHERE number = 2",
            "DELETE FROM purchase WHERE shop = 'xx'",
        ),
    ),
    "generated and identity columns": Story(
        ("computed",),
        COMPUTED,
        (
            "UPDATE computed SET a = a + 10",
            "DELETE FROM computed WHERE id = 2",
            "INSERT INTO computed (a, number) VALUES (7, 77)",
            "UPDATE computed SET number = 70 WHERE id = 3",
        ),
    ),
    "partitions": Story(
        ("measure",),
        MEASURE,
        (
            "UPDATE measure SET value = value * 2",
            "UPDATE measure SET day = '2026-05-05' WHERE id = 1",
            "UPDATE measure SET value = 7 WHERE id = 1",
            "DELETE FROM measure_new WHERE id = 3",
            "INSERT INTO measure_old (id, day, value) VALUES (3, '2025-05-05', 4)",
        ),
    ),
    "partitions that are emptied": Story(
        ("measure",), MEASURE, ("UPDATE measure SET value = 0 WHERE id = 2", "TRUNCATE measure_new")
    ),
    "odd names and values": Story(
        (quoted("it's {table} %s"),),
        ODD,
        (
            """UPDATE "it's {table} %s" SET "%I" = '{ "a" : 1 }', "key's" = 'b%L{key}' WHERE "key's" = 'B'""",
            """UPDATE "it's {table} %s" SET "{set}" = NULL, "%I" = '{"a":1}', "Größe" = 'Infinity'""",
            """DELETE FROM "it's {table} %s" WHERE "key's" <> 'B'""",
        ),
    ),
    "arrays, composites, domains, enums": Story(
        ("thing",),
        """CREATE TYPE mood AS ENUM ('sad', 'happy'); CREATE DOMAIN positive AS integer NOT NULL CHECK (VALUE > 0);
           CREATE TYPE pair AS (a integer, b text);
           CREATE TABLE thing (id mood PRIMARY KEY, numbers integer[], one pair, many pair[], size positive,
                               during tstzrange, place point, xml xml);
           INSERT INTO thing VALUES ('sad', '{1,NULL}', '(1,)', '{"(2,x)"}', 1, '[2026-01-01,)', '(1,2)', '<a/>')""",
        (
            "UPDATE thing SET numbers = '[2:3]={1,2}', one = NULL, many = '{}', place = '(3,4)', xml = NULL",
            "INSERT INTO thing VALUES ('happy', NULL, '(,)', NULL, 2, 'empty', NULL, '<b/>')",
            "UPDATE thing SET size = 3",
            "DELETE FROM thing WHERE id = 'sad'",
        ),
    ),
}


@pytest.mark.parametrize("name", STORIES)
def test_undo_restores_what_was_there_and_can_be_undone(connection: Connection, name: str) -> None:
    for image, level in (("after", "auto"), ("before", "row")):
        connection.execute(f"CREATE SCHEMA {image}; SET search_path TO {image}")
        check_undo_and_its_undo(connection, STORIES[name], image, level)


def check_undo_and_its_undo(connection: Connection, story: Story, image: str, level: str) -> None:
    for statement in story.setup.split(";\n"):
        connection.execute(statement.encode())
    keep(connection, *story.tables, image=image, level=level)
    if image == "after":
        for table in story.tables:
            call(connection, "backfill", table)
    before = contents(connection)
    xid = do(connection, *story.statements)
    after = contents(connection)
    assert after != before

    for expected in (before, after, before):
        plan = rows(connection, "SELECT obj, conflict FROM pghistory.undo_transaction_plan(%s)", xid)
        assert [conflict for _, conflict in plan if conflict] == []
        taken, xid = undo(connection, xid)
        assert contents(connection) == expected
        assert taken == len(plan) > 0


# What stands in the way


@pytest.mark.parametrize("image", IMAGES)
def test_a_row_that_changed_since_is_named_with_table_key_and_event(connection: Connection, image: str) -> None:
    connection.execute(ITEM)
    keep(connection, "item", image=image)
    call(connection, "backfill", "item")
    xid = do(connection, "UPDATE item SET price = price + 1 WHERE id IN (1, 2)")
    connection.execute("UPDATE item SET name = 'pencil' WHERE id = 1")
    later = value(connection, "SELECT max(pgh_id) FROM item_event")
    diagnostic = undo_refused(connection, f"transaction {xid} cannot be taken back: row 1 of table public.item", xid)
    assert diagnostic.message_detail.startswith(
        f"row 1 of table public.item: changed since by event public.item_event:{later} (item."
    )
    assert "row 2 " not in diagnostic.message_detail
    assert "force => true" in diagnostic.message_hint
    plan = rows(connection, "SELECT obj, action, conflict FROM pghistory.undo_transaction_plan(%s)", xid)
    assert plan == [("2", "UPDATE", None), ("1", "UPDATE", diagnostic.message_detail.split(": ", 1)[1])]


@pytest.mark.parametrize("image", IMAGES)
@pytest.mark.parametrize(
    ("done", "since"),
    [
        ("UPDATE item SET name = 'x' WHERE id = 1", "UPDATE item SET name = 'y' WHERE id = 1"),
        ("UPDATE item SET name = 'x' WHERE id = 1", "DELETE FROM item WHERE id = 1"),
        ("UPDATE item SET name = 'x' WHERE id = 1", "UPDATE item SET id = 11 WHERE id = 1"),
        ("UPDATE item SET name = 'x' WHERE id = 1", "TRUNCATE item"),
        ("UPDATE item SET id = 10 WHERE id = 1", "UPDATE item SET id = 1 WHERE id = 10"),
        ("UPDATE item SET id = 10 WHERE id = 1", "UPDATE item SET name = 'y' WHERE id = 10"),
        ("INSERT INTO item VALUES (9)", "UPDATE item SET name = 'y' WHERE id = 9"),
        ("INSERT INTO item VALUES (9)", "DELETE FROM item WHERE id = 9"),
        ("DELETE FROM item WHERE id = 1", "INSERT INTO item VALUES (1, 'other')"),
        ("DELETE FROM item WHERE id = 1", "UPDATE item SET id = 1 WHERE id = 2"),
        ("TRUNCATE item", "INSERT INTO item VALUES (1, 'other')"),
        ("DELETE FROM item WHERE id = 1", "INSERT INTO item VALUES (1, 'o'); DELETE FROM item WHERE id = 1"),
    ],
)
def test_whatever_happened_to_a_row_since_stands_in_the_way(
    connection: Connection, image: str, done: str, since: str
) -> None:
    connection.execute(ITEM)
    keep(connection, "item", image=image)
    call(connection, "backfill", "item")
    xid = do(connection, done)
    connection.execute(since)
    undo_refused(connection, "row .* of table public.item: (changed since by event|it is there again)", xid)


def test_many_conflicts_are_counted(connection: Connection) -> None:
    connection.execute("CREATE TABLE item (id integer PRIMARY KEY, name text)")
    keep(connection, "item")
    xid = do(connection, "INSERT INTO item SELECT generate_series(1, 25)")
    connection.execute("UPDATE item SET name = 'x'")
    lines = undo_refused(connection, "cannot be taken back", xid).message_detail.splitlines()
    assert len(lines) == 11
    assert lines[-1] == "and 15 more"


def test_a_context_is_undone_over_all_its_transactions_and_nothing_else(connection: Connection) -> None:
    connection.execute(CITY.format(""))
    keep(connection, "country", "city")
    for table in ("country", "city"):
        call(connection, "backfill", table)
    before = contents(connection)
    do_in_context(connection, ID, "INSERT INTO country VALUES (4, 'Spain')", "UPDATE city SET name = 'x' WHERE id = 21")
    do_in_context(connection, OTHER_ID, "UPDATE city SET name = 'LYON' WHERE id = 22")
    do_in_context(connection, ID, "INSERT INTO city VALUES (41, 'Madrid', 4)")
    do_in_context(connection, ID, "UPDATE city SET name = 'y' WHERE id = 21")
    plan = rows(connection, "SELECT \"table\"::text, obj, action, changes FROM pghistory.undo_plan(%s)", ID)
    assert plan == [
        ("city", "21", "UPDATE", {"name": ["y", "x"]}),
        ("city", "41", "DELETE", {"id": [41, None], "name": ["Madrid", None], "country_id": [4, None]}),
        ("city", "21", "UPDATE", {"name": ["x", "Paris"]}),
        ("country", "4", "DELETE", {"id": [4, None], "name": ["Spain", None]}),
    ]
    assert call(connection, "undo", ID) == 4
    before["city"][before["city"].index("(22,Lyon,2)")] = "(22,LYON,2)"
    assert contents(connection) == {table: sorted(lines) for table, lines in before.items()}


@pytest.mark.parametrize("image", IMAGES)
def test_what_somebody_else_did_in_between_stands_in_the_way_of_a_context(connection: Connection, image: str) -> None:
    connection.execute(ITEM)
    keep(connection, "item", image=image)
    do_in_context(connection, ID, "INSERT INTO item VALUES (9, 'one', 1)")
    connection.execute("UPDATE item SET price = 2 WHERE id = 9")
    do_in_context(connection, ID, "UPDATE item SET name = 'two' WHERE id = 9")
    undo_refused(connection, "row 9 of table public.item: changed since by event", ID)
    assert call(connection, "undo", ID, True) == 2
    assert rows(connection, "SELECT FROM item WHERE id = 9") == []


def test_undo_twice_is_refused(connection: Connection) -> None:
    connection.execute(ITEM)
    keep(connection, "item")
    call(connection, "backfill", "item")
    xid = do(connection, "UPDATE item SET price = 7", "DELETE FROM item WHERE id = 1", "INSERT INTO item VALUES (9)")
    undo(connection, xid)
    undo_refused(connection, "changed since by event", xid)


def test_nothing_done_is_nothing_undone(connection: Connection) -> None:
    assert call(connection, "undo", ID) == 0
    assert call(connection, "undo_transaction", "12") == 0
    assert rows(connection, "SELECT * FROM pghistory.undo_plan(%s)", ID) == []
    connection.execute(ITEM)
    keep(connection, "item")
    assert call(connection, "undo", ID) == 0
    assert call(connection, "undo_transaction", "12", True) == 0
    assert rows(connection, "SELECT * FROM pghistory.undo_transaction_plan('12')") == []
    assert rows(connection, "SELECT * FROM item_event") == []


@pytest.mark.parametrize("function", ["undo", "undo_transaction", "undo_plan", "undo_transaction_plan"])
def test_undo_of_null_is_refused(connection: Connection, function: str) -> None:
    with pytest.raises(errors.NullValueNotAllowed, match="must not be null"):
        connection.execute(f"SELECT pghistory.{function}(NULL)")


@pytest.mark.parametrize("force", [False, True])
def test_what_was_before_the_first_event_is_not_known_and_not_guessed(connection: Connection, force: bool) -> None:
    connection.execute(ITEM)
    keep(connection, "item")
    xid = do(connection, "UPDATE item SET price = 7 WHERE id = 1", "UPDATE item SET price = 8 WHERE id = 1")
    diagnostic = undo_refused(connection, "row 1 of table public.item: what it was before is not known", xid, force=force)
    assert "backfill()" in diagnostic.message_hint


def test_a_value_that_ddl_changed_is_not_known(connection: Connection) -> None:
    connection.execute(ITEM)
    keep(connection, "item")
    call(connection, "backfill", "item")
    connection.execute("ALTER TABLE item ALTER price TYPE integer USING price * 100")
    xid = do(connection, "UPDATE item SET name = 'x' WHERE id = 1")
    undo_refused(connection, "what it was before is not known", xid)


@pytest.mark.parametrize("image", IMAGES)
def test_rows_that_had_one_key_at_the_same_time_are_not_mixed_up(connection: Connection, image: str) -> None:
    connection.execute(
        "CREATE TABLE item (id integer PRIMARY KEY DEFERRABLE, name text);"
        "INSERT INTO item VALUES (1, 'a'), (2, 'b'), (3, 'c')"
    )
    keep(connection, "item", image=image)
    xid = do(connection, "UPDATE item SET id = 3 - id WHERE id < 3")
    for force in (False, True):
        undo_refused(connection, "row . of table public.item", xid, force=force)
    call(connection, "backfill", "item")
    xid = do(connection, "UPDATE item SET id = id + 10")
    undo(connection, xid)
    assert contents(connection) == {"item": ["(1,b)", "(2,a)", "(3,c)"]}


# Foreign keys


@pytest.mark.parametrize("action", ["NO ACTION", "RESTRICT", "CASCADE", "SET NULL", "SET DEFAULT"])
@pytest.mark.parametrize("is_kept", [True, False])
def test_rows_of_others_that_refer_to_a_new_row_keep_it(connection: Connection, action: str, is_kept: bool) -> None:
    connection.execute(CITY.format(f"ON DELETE {action}"))
    keep(connection, "country", *["city"] * is_kept)
    xid = do(connection, "INSERT INTO country VALUES (4, 'Spain')", "UPDATE country SET name = 'ES' WHERE id = 4")
    connection.execute("INSERT INTO city VALUES (41, 'Madrid', 4)")
    undo_refused(connection, "row 4 of table public.country: others refer to it", xid)
    if action in ("NO ACTION", "RESTRICT"):
        undo_refused(connection, "row 4 of table public.country: others refer to it", xid, force=True)
    else:
        assert undo(connection, xid, force=True)[0] == 2
        assert "(4,ES)" not in contents(connection)["country"]
        expected = {"CASCADE": [], "SET NULL": [("Madrid", None)], "SET DEFAULT": [("Madrid", 1)]}
        assert rows(connection, "SELECT name, country_id FROM city WHERE id = 41") == expected[action]


@pytest.mark.parametrize("action", ["SET NULL", "SET DEFAULT"])
def test_rows_of_others_that_refer_to_a_new_key_keep_it(connection: Connection, action: str) -> None:
    connection.execute(CITY.format(f"ON UPDATE {action}"))
    keep(connection, "country")
    call(connection, "backfill", "country")
    connection.execute("DELETE FROM city WHERE country_id = 3")
    xid = do(connection, "UPDATE country SET id = 30 WHERE id = 3")
    connection.execute("INSERT INTO city VALUES (31, 'Athens', 30)")
    undo_refused(connection, "row 30 of table public.country: others refer to it", xid)


def test_rows_of_others_follow_a_key_that_they_refer_to(connection: Connection) -> None:
    connection.execute(CITY.format("ON UPDATE CASCADE"))
    keep(connection, "country")
    call(connection, "backfill", "country")
    xid = do(connection, "UPDATE country SET id = 30 WHERE id = 3")
    connection.execute("INSERT INTO city VALUES (33, 'Patras', 30)")
    assert undo(connection, xid)[0] == 1
    assert rows(connection, "SELECT country_id FROM city WHERE id IN (31, 33)") == [(3,), (3,)]


def test_a_row_that_refers_to_one_that_is_gone_is_not_put_back(connection: Connection) -> None:
    connection.execute(CITY.format(""))
    keep(connection, "country", "city")
    xid = do(connection, "DELETE FROM city WHERE country_id = 3")
    connection.execute("DELETE FROM country WHERE id = 3")
    undo_refused(connection, "of table public.city: .* it refers to one that is not there", xid)
    undo_refused(connection, "of table public.city: .* it refers to one that is not there", xid, force=True)


def test_a_unique_value_that_another_row_took_since_stands_in_the_way(connection: Connection) -> None:
    connection.execute(SLOT.format(""))
    keep(connection, "slot")
    call(connection, "backfill", "slot")
    xid = do(connection, "UPDATE slot SET position = 9 WHERE id = 1")
    connection.execute("INSERT INTO slot VALUES (4, 1)")
    for force in (False, True):
        undo_refused(connection, "row 1 of table public.slot: .* must be unique", xid, force=force)


def test_a_tree_that_others_grew_on_is_kept(connection: Connection) -> None:
    connection.execute(TREE.format("ON DELETE CASCADE"))
    keep(connection, "node")
    xid = do(connection, "INSERT INTO node VALUES (7, 'g', 6), (8, 'h', 7)")
    connection.execute("INSERT INTO node VALUES (9, 'i', 8)")
    undo_refused(connection, "of table public.node: others refer to it", xid)
    assert undo(connection, xid, force=True)[0] == 2
    assert rows(connection, "SELECT FROM node WHERE id > 6") == []


# Force


@pytest.mark.parametrize("image", IMAGES)
def test_force_takes_back_only_what_was_changed_then(connection: Connection, image: str) -> None:
    connection.execute(ITEM)
    keep(connection, "item", image=image)
    call(connection, "backfill", "item")
    xid = do(connection, "UPDATE item SET price = 100 WHERE id IN (1, 2)")
    connection.execute("UPDATE item SET name = 'pencil' WHERE id = 1")
    assert undo(connection, xid, force=True)[0] == 2
    # A before-image does not say what the update changed.
    name = {"after": "pencil", "before": "pen"}[image]
    assert rows(connection, "TABLE item ORDER BY id")[:2] == [(1, name, 1), (2, "ink", 5)]


@pytest.mark.parametrize("image", IMAGES)
def test_force_passes_over_rows_that_are_gone_and_replaces_those_that_came_again(
    connection: Connection, image: str
) -> None:
    connection.execute(ITEM)
    keep(connection, "item", image=image)
    call(connection, "backfill", "item")
    xid = do(
        connection,
        "UPDATE item SET price = 100 WHERE id = 1",
        "DELETE FROM item WHERE id = 2",
        "INSERT INTO item VALUES (9, 'nine', 9)",
        "INSERT INTO item VALUES (8, 'eight', 8)",
    )
    connection.execute("DELETE FROM item WHERE id IN (1, 9); INSERT INTO item VALUES (2, 'again', 0)")
    undo(connection, xid, force=True)
    assert rows(connection, "TABLE item ORDER BY id") == [(2, "ink", 5), (3, None, None), (4, "cap", 2)]


# Around it


def test_an_undo_is_recorded_in_a_context_that_says_what_it_undid(connection: Connection) -> None:
    connection.execute(ITEM)
    keep(connection, "item")
    do_in_context(connection, ID, "INSERT INTO item VALUES (9, 'nine', 9)")
    with connection.transaction():
        call(connection, "undo", ID)
        assert rows(connection, "SELECT * FROM pghistory.current_context()") == [(None, None)]
        xid = do_nothing = str(value(connection, "SELECT pg_current_xact_id()"))
    assert rows(
        connection, "SELECT pgh_operation, pgh_context FROM pghistory.events('item', max_rows => 1)"
    ) == [("D", {"undo": {"context_id": str(ID)}})]
    _, last = undo(connection, xid)
    assert rows(
        connection, "SELECT pgh_operation, pgh_context FROM pghistory.events('item', max_rows => 1)"
    ) == [("I", {"undo": {"xid": xid}})]
    assert last != do_nothing


def test_an_undo_in_a_context_adds_to_it_and_leaves_it_as_it_was(connection: Connection) -> None:
    connection.execute(ITEM)
    keep(connection, "item")
    xid = do(connection, "INSERT INTO item VALUES (9, 'nine', 9)")
    with connection.transaction():
        call(connection, "set_context", '{"user": 1}', ID)
        call(connection, "undo_transaction", xid)
        assert rows(connection, "SELECT * FROM pghistory.current_context()") == [(ID, {"user": 1})]
        connection.execute("INSERT INTO item VALUES (10)")
        assert value(connection, "SELECT metadata FROM pghistory.context WHERE id = %s", ID)["user"] == 1
    assert rows(connection, "SELECT pgh_context_id, pgh_context FROM pghistory.events('item', '9', max_rows => 1)") == [
        (ID, {"user": 1, "undo": {"xid": xid}})
    ]


def test_a_context_that_undoes_itself_does_so_once(connection: Connection) -> None:
    connection.execute(ITEM)
    keep(connection, "item")
    call(connection, "backfill", "item")
    before = contents(connection)
    with connection.transaction():
        call(connection, "set_context", '{"user": 1}', ID)
        connection.execute("UPDATE item SET price = 7; INSERT INTO item VALUES (9)")
        assert call(connection, "undo", ID) == 6 - 1
        assert contents(connection) == before


def test_an_error_leaves_nothing_behind(connection: Connection) -> None:
    connection.execute(ITEM)
    keep(connection, "item")
    xid = do(connection, "INSERT INTO item VALUES (9, 'nine', 9)")
    connection.execute("UPDATE item SET price = 3 WHERE id = 9")
    with connection.transaction():
        call(connection, "set_context", '{"user": 1}', ID)
        with pytest.raises(errors.ObjectNotInPrerequisiteState), connection.transaction():
            call(connection, "undo_transaction", xid)
        assert rows(connection, "SELECT * FROM pghistory.current_context()") == [(ID, {"user": 1})]


def test_a_plan_changes_nothing_and_says_what_undo_then_does(connection: Connection) -> None:
    connection.execute(ITEM)
    keep(connection, "item")
    call(connection, "backfill", "item")
    xid = do(
        connection,
        "UPDATE item SET price = 1.00 WHERE id = 1",
        "DELETE FROM item WHERE id = 2",
        "INSERT INTO item VALUES (9, NULL, 9)",
    )
    before = catalog(connection), contents(connection)
    plan = rows(connection, "SELECT * FROM pghistory.undo_transaction_plan(%s)", xid)
    assert (catalog(connection), contents(connection)) == before
    assert plan == [
        (1, "item", "9", "DELETE", "public.item_event:7", {"id": [9, None], "name": [None, None], "price": [9, None]}, None),
        (2, "item", "2", "INSERT", "public.item_event:6", {"id": [None, 2], "name": [None, "ink"], "price": [None, 5]}, None),
        (3, "item", "1", "UPDATE", "public.item_event:5", {"price": [1.0, 1.0]}, None),
    ]
    undo(connection, xid)
    assert sorted(rows(connection, "SELECT id, pgh_operation, price::text FROM item_event WHERE pgh_id > 7")) == [
        (1, "U", "1.0"),
        (2, "I", "5"),
        (9, "D", "9"),
    ]


def test_tables_whose_history_is_not_kept_are_passed_over(connection: Connection) -> None:
    connection.execute(ITEM)
    connection.execute("CREATE TABLE noted (id integer PRIMARY KEY, name text)")
    connection.execute("CREATE TABLE partly (id integer PRIMARY KEY, name text)")
    connection.execute("CREATE TABLE keyless (id integer, name text)")
    keep(connection, "item")
    track(connection, "noted", kind="snapshot")
    track(connection, "partly", kind="history", fields=["name"])
    track(connection, "keyless", kind="history")
    xid = do(connection, *(f"INSERT INTO {table} VALUES (9, 'x')" for table in ("item", "noted", "partly", "keyless")))
    assert [table for (table,) in rows(connection, 'SELECT "table"::text FROM pghistory.undo_transaction_plan(%s)', xid)] == ["item"]
    assert undo(connection, xid)[0] == 1
    assert contents(connection)["noted"] == contents(connection)["keyless"] == ["(9,x)"]
    assert rows(connection, "SELECT FROM item WHERE id = 9") == []


def test_columns_that_came_since_are_left_alone_and_others_get_what_they_had(connection: Connection) -> None:
    connection.execute(ITEM)
    keep(connection, "item")
    call(connection, "backfill", "item")
    xid = do(connection, "UPDATE item SET price = 100 WHERE id = 1", "DELETE FROM item WHERE id = 2")
    connection.execute("ALTER TABLE item RENAME price TO cost; ALTER TABLE item ADD kind text DEFAULT 'tool'; ALTER TABLE item DROP name")
    undo(connection, xid)
    assert rows(connection, "TABLE item ORDER BY id") == [(1, 1, "tool"), (2, 5, "tool"), (3, None, "tool"), (4, 2, "tool")]
    xid = do(connection, "UPDATE item SET kind = 'x', cost = 3")
    undo(connection, xid)
    assert rows(connection, "TABLE item ORDER BY id") == [(1, 1, "tool"), (2, 5, "tool"), (3, None, "tool"), (4, 2, "tool")]


def test_an_update_after_a_column_was_added_goes_back_to_its_default(connection: Connection) -> None:
    connection.execute(ITEM)
    keep(connection, "item")
    call(connection, "backfill", "item")
    connection.execute("ALTER TABLE item ADD kind text DEFAULT 'tool'")
    xid = do(connection, "UPDATE item SET kind = 'x' WHERE id = 1", "DELETE FROM item WHERE id = 1")
    undo(connection, xid)
    assert rows(connection, "SELECT * FROM item WHERE id = 1") == [(1, "pen", 1, "tool")]


def test_triggers_of_the_tables_own_run(connection: Connection) -> None:
    connection.execute(ITEM)
    connection.execute(
        """ALTER TABLE item ADD changes integer NOT NULL DEFAULT 0;
           CREATE FUNCTION count_change() RETURNS trigger LANGUAGE plpgsql AS
               'BEGIN NEW.changes := OLD.changes + 1; RETURN NEW; END';
           CREATE TRIGGER count_change BEFORE UPDATE ON item FOR EACH ROW EXECUTE FUNCTION count_change();"""
    )
    keep(connection, "item")
    call(connection, "backfill", "item")
    xid = do(connection, "UPDATE item SET price = 100 WHERE id = 1")
    undo(connection, xid)
    assert rows(connection, "SELECT * FROM item WHERE id = 1") == [(1, "pen", 1, 2)]


def test_a_trigger_that_keeps_a_row_from_being_written_is_said(connection: Connection) -> None:
    connection.execute(ITEM)
    keep(connection, "item")
    xid = do(connection, "DELETE FROM item WHERE id < 3")
    connection.execute(
        """CREATE FUNCTION no() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';
           CREATE TRIGGER no BEFORE INSERT ON item FOR EACH ROW WHEN (NEW.id = 1) EXECUTE FUNCTION no();"""
    )
    undo_refused(connection, "row 1 of table public.item: it was not written", xid)
    assert undo(connection, xid, force=True)[0] == 1


def test_an_error_of_the_tables_own_comes_through(connection: Connection) -> None:
    connection.execute(ITEM)
    keep(connection, "item")
    xid = do(connection, "DELETE FROM item WHERE id < 3")
    connection.execute("ALTER TABLE item ADD CHECK (id <> 1)")
    undo_refused(connection, "violates check constraint", xid, error=errors.CheckViolation)


def test_statement_level_is_undone_as_well(connection: Connection) -> None:
    connection.execute(ITEM)
    keep(connection, "item", level="statement")
    call(connection, "backfill", "item")
    before = contents(connection)
    xid = do(connection, "UPDATE item SET price = 7", "UPDATE item SET id = id + 10", "DELETE FROM item WHERE id > 12")
    undo(connection, xid)
    assert contents(connection) == before


@pytest.mark.parametrize("context", ["inline", "none"])
def test_a_context_is_undone_where_events_say_that_they_are_of_it(connection: Connection, context: str) -> None:
    connection.execute(ITEM)
    keep(connection, "item", context=context)
    do_in_context(connection, ID, "DELETE FROM item WHERE id = 1")
    assert call(connection, "undo", ID) == (1 if context == "inline" else 0)


def test_the_caller_needs_the_rights_to_do_it_himself(connection: Connection, connect: Connect, role: Callable[..., str]) -> None:
    writer = role("writer")
    connection.execute(ITEM)
    connection.execute("CREATE TABLE other (id integer PRIMARY KEY)")
    keep(connection, "item", "other")
    xid = do(connection, "DELETE FROM item WHERE id = 1")
    session = connect(user=writer)
    assert call(session, "undo_transaction", xid) == 0  # of tables whose events he may not read
    connection.execute(f"GRANT SELECT ON item_event, other_event, item TO {writer}")
    with pytest.raises(errors.InsufficientPrivilege, match="permission denied for table item"):
        call(session, "undo_transaction", xid)
    assert len(rows(session, "SELECT * FROM pghistory.undo_transaction_plan(%s)", xid)) == 1
    connection.execute(f"GRANT INSERT, UPDATE, DELETE ON item TO {writer}")
    assert call(session, "undo_transaction", xid) == 1
    assert rows(connection, "SELECT name FROM item WHERE id = 1") == [("pen",)]


# Side by side


@pytest.fixture
def start() -> Iterator[Callable[..., Future[object]]]:
    with ThreadPoolExecutor() as executor:
        yield executor.submit


def test_undo_waits_for_a_writer_and_sees_what_he_did(
    connection: Connection, connect: Connect, start: Callable[..., Future[object]]
) -> None:
    connection.execute(ITEM)
    keep(connection, "item")
    call(connection, "backfill", "item")
    xid = do(connection, "UPDATE item SET price = 7")
    writer, undoer = connect(autocommit=False), connect()
    writer.execute("UPDATE item SET name = 'pencil' WHERE id = 1")
    undoing = start(call, undoer, "undo_transaction", xid)
    wait_until_blocked(connection, undoer)
    writer.commit()
    with pytest.raises(errors.ObjectNotInPrerequisiteState, match="row 1 of table public.item: changed since"):
        undoing.result(PATIENCE)


def test_a_writer_waits_for_an_undo(
    connection: Connection, connect: Connect, start: Callable[..., Future[object]]
) -> None:
    connection.execute(ITEM)
    keep(connection, "item")
    call(connection, "backfill", "item")
    xid = do(connection, "UPDATE item SET price = 7")
    undoer, writer = connect(autocommit=False), connect()
    call(undoer, "undo_transaction", xid)
    writing = start(writer.execute, "UPDATE item SET price = price + 1 WHERE id = 1")
    wait_until_blocked(connection, writer)
    undoer.commit()
    writing.result(PATIENCE)
    assert rows(connection, "SELECT price FROM item ORDER BY id") == [(2,), (5,), (None,), (2,)]


def test_two_undos_at_once_do_it_once(
    connection: Connection, connect: Connect, start: Callable[..., Future[object]]
) -> None:
    connection.execute(ITEM)
    keep(connection, "item")
    call(connection, "backfill", "item")
    xid = do(connection, "UPDATE item SET price = 7", "DELETE FROM item WHERE id = 2")
    first, second = connect(autocommit=False), connect()
    call(first, "undo_transaction", xid)
    undoing = start(call, second, "undo_transaction", xid)
    wait_until_blocked(connection, second)
    first.commit()
    with pytest.raises(errors.ObjectNotInPrerequisiteState, match="changed since"):
        undoing.result(PATIENCE)


def test_a_great_undo_takes_few_statements(connection: Connection) -> None:
    connection.execute("CREATE TABLE item (id integer PRIMARY KEY, name text); INSERT INTO item SELECT generate_series(1, 20000)")
    keep(connection, "item")
    call(connection, "backfill", "item")
    xid = do(connection, "UPDATE item SET name = 'x'", "UPDATE item SET id = id + 100000")
    assert undo(connection, xid)[0] == 40000
    assert rows(connection, "SELECT count(*), count(name), max(id) FROM item") == [(20000, 0, 20000)]


def test_triggers_of_the_tables_own_see_the_callers_search_path(connection: Connection) -> None:
    connection.execute(
        """CREATE SCHEMA shop; SET search_path TO shop;
           CREATE TABLE item (id integer PRIMARY KEY, name text); CREATE TABLE log (id integer);
           CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS
               'BEGIN INSERT INTO log VALUES (NEW.id); RETURN NULL; END';
           CREATE TRIGGER note AFTER INSERT OR UPDATE ON item FOR EACH ROW EXECUTE FUNCTION note();"""
    )
    keep(connection, "item")
    xid = do(connection, "INSERT INTO item VALUES (1, 'a'), (2, 'b')")
    xid = do(connection, "DELETE FROM item WHERE id = 1", "UPDATE item SET name = 'x' WHERE id = 2")
    connection.execute("INSERT INTO item VALUES (1, 'other')")
    undo(connection, xid, force=True)
    undo(connection, xid, force=True)
    assert rows(connection, "SELECT * FROM item ORDER BY id") == [(1, "a"), (2, "b")]
    assert value(connection, "SHOW search_path") == "shop"
    assert [id for (id,) in rows(connection, "TABLE log")][:4] == [1, 2, 2, 1]
