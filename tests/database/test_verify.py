"""verify() finds every kind of damage and says what to do; refresh() repairs what it can."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import pytest
from history import Connection, events, rows, track, triggers, value

TABLE = "CREATE TABLE item (id integer PRIMARY KEY, name text, note text)"


@dataclass(frozen=True)
class Damage:
    """What somebody did, and what is found: part of the object's name, part of the problem."""

    statement: str
    object: str
    problem: str
    without_event_triggers: bool = False


DAMAGES = {
    "a dropped trigger": Damage(
        'DROP TRIGGER "!pghistory item_event insert statement" ON item',
        'trigger "!pghistory item_event insert statement" on public.item',
        "trigger is missing",
    ),
    "a disabled trigger": Damage(
        'ALTER TABLE item DISABLE TRIGGER "!pghistory item_event update row"',
        'trigger "!pghistory item_event update row" on public.item',
        "trigger is disabled",
    ),
    "a trigger for replication only": Damage(
        'ALTER TABLE item ENABLE REPLICA TRIGGER "!pghistory item_event delete statement"',
        'trigger "!pghistory item_event delete statement" on public.item',
        "trigger is disabled",
    ),
    "a trigger that does something else": Damage(
        'CREATE OR REPLACE TRIGGER "!pghistory item_event delete statement" AFTER DELETE ON item'
        " FOR EACH ROW EXECUTE FUNCTION item_event_update_row()",
        'trigger "!pghistory item_event delete statement" on public.item',
        "not what this version",
        without_event_triggers=True,
    ),
    "a trigger too many": Damage(
        'CREATE TRIGGER "!pghistory copy" AFTER UPDATE ON item'
        " FOR EACH ROW EXECUTE FUNCTION item_event_update_row()",
        'trigger "!pghistory copy" on public.item',
        "",
        without_event_triggers=True,
    ),
    "a function changed by hand": Damage(
        "CREATE OR REPLACE FUNCTION item_event_update_row() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER"
        " SET search_path TO 'pg_catalog', 'pg_temp' AS"
        " E'\\n-- Written by pghistory: \\nBEGIN RETURN NULL; END'",
        "function public.item_event_update_row()",
        "not what this version",
    ),
    "a function that runs as the writer": Damage(
        "ALTER FUNCTION item_event_update_row() SECURITY INVOKER",
        "function public.item_event_update_row()",
        "SECURITY DEFINER",
    ),
    "a function without its path": Damage(
        "ALTER FUNCTION item_event_update_row() RESET search_path",
        "function public.item_event_update_row()",
        "search_path",
    ),
    "a function with another owner": Damage(
        "ALTER FUNCTION item_event_update_row() OWNER TO pg_monitor",
        "item_event_update_row",
        "",
    ),
    "a function that anybody may attach": Damage(
        "GRANT EXECUTE ON FUNCTION item_event_update_row() TO PUBLIC",
        "function public.item_event_update_row()",
        "",
    ),
    "create_event()'s function dropped": Damage(
        "DROP FUNCTION item_event_by_hand",
        "function public.item_event_by_hand",
        "function is missing",
    ),
    "an open event table": Damage(
        'DROP TRIGGER "!pghistory append-only" ON item_event',
        "event table public.item_event",
        "append-only",
    ),
    "a guard that is off": Damage(
        'ALTER TABLE item_event DISABLE TRIGGER "!pghistory append-only"',
        "event table public.item_event",
        "append-only",
    ),
    "a missing event column": Damage(
        "ALTER TABLE item_event DROP COLUMN name",
        "event table public.item_event",
        'column "name" is missing',
        without_event_triggers=True,
    ),
    "a renamed event column": Damage(
        "ALTER TABLE item_event RENAME COLUMN name TO title",
        "event table public.item_event",
        'column "name" is missing',
        without_event_triggers=True,
    ),
    "a retyped event column": Damage(
        "ALTER TABLE item_event ALTER COLUMN name TYPE varchar(9)",
        "event table public.item_event",
        'column "name" is character varying(9), not text',
        without_event_triggers=True,
    ),
    "a missing object": Damage(
        "ALTER TABLE item_event DROP COLUMN pgh_obj_id",
        "event table public.item_event",
        'column "pgh_obj_id" is missing',
        without_event_triggers=True,
    ),
    "a column that nobody fills": Damage(
        "ALTER TABLE item_event ADD COLUMN reviewed boolean NOT NULL",
        "event table public.item_event",
        '"reviewed" must not be null',
    ),
    "events without numbers": Damage(
        "ALTER TABLE item_event ALTER COLUMN pgh_id DROP IDENTITY",
        "event table public.item_event",
        'column "pgh_id" does not fill itself',
        without_event_triggers=True,
    ),
} | {
    f"a missing {name}": Damage(
        f"ALTER TABLE item_event DROP COLUMN {name} CASCADE",
        "event table public.item_event",
        f'column "{name}" is missing',
        without_event_triggers=True,
    )
    for name in ("pgh_id", "pgh_created_at", "pgh_label", "pgh_operation", "pgh_xid", "pgh_context_id")
}


@pytest.mark.parametrize("name", DAMAGES)
def test_each_kind_of_damage_is_found_once_and_repaired(
    name: str, request: pytest.FixtureRequest, connection: Connection, connect: Callable[..., Connection]
) -> None:
    damage = DAMAGES[name]
    if damage.without_event_triggers:
        request.getfixturevalue("without_event_triggers")
    connection.execute(TABLE)
    track(connection, "item", kind="history", append_only="append" in damage.problem)
    other = connect()
    if name != "a column that nobody fills":  # that needs an empty table
        other.execute("INSERT INTO item VALUES (1, 'pen', 'x'); UPDATE item SET note = 'y'; DELETE FROM item")
    connection.execute(damage.statement)

    ((table, thing, problem, hint),) = rows(
        connection, 'SELECT "table"::text, object, problem, hint FROM pghistory.verify()'
    )
    assert table == "item"
    assert damage.object in thing
    assert damage.problem in problem
    if name == "a column that nobody fills":
        # what should be in it only the user knows
        assert "refresh" not in hint
        return
    assert hint == "Call pghistory.refresh()."
    connection.execute("SELECT pghistory.refresh()")
    assert rows(connection, "SELECT * FROM pghistory.verify()") == []
    assert triggers(connection, "item") == {
        *[("insert", "statement"), ("update", "row"), ("delete", "statement"), ("truncate", "statement")]
    }
    last = value(connection, "SELECT max(pgh_id) FROM item_event")
    for session in (connection, other):
        session.execute("INSERT INTO item VALUES (2, 'pen', 'x')")
        session.execute("UPDATE item SET name = 'ink'")
        session.execute("SELECT pghistory.create_event('item'::regclass, '2', 'item.history')")
        session.execute("DELETE FROM item")
    assert events(connection, f"item_event WHERE pgh_id > {last}", "pgh_operation, pgh_obj_id, name") == [
        *[("I", 2, "pen"), ("U", 2, "ink"), ("S", 2, "ink"), ("D", 2, "ink")] * 2
    ]


@pytest.mark.parametrize("column", ["pgh_id", "pgh_created_at", "pgh_xid", "pgh_obj_id", "name"])
def test_what_an_event_table_needs_is_put_back_as_soon_as_it_is_dropped(
    column: str, connection: Connection, connect: Callable[..., Connection]
) -> None:
    connection.execute(TABLE)
    track(connection, "item", kind="history")
    other = connect()
    for session in (connection, other):
        session.execute("INSERT INTO item VALUES (1, 'pen', 'x'); DELETE FROM item")
    connection.execute(f"ALTER TABLE item_event DROP COLUMN {column}")
    assert rows(connection, "SELECT * FROM pghistory.verify()") == []
    for session in (connection, other):
        session.execute(
            "INSERT INTO item VALUES (2, 'ink', 'x'); UPDATE item SET note = 'y'; DELETE FROM item"
        )
    assert events(connection, "item_event", "pgh_operation, pgh_obj_id, name")[4:] == [
        *[("I", 2, "ink"), ("U", 2, "ink"), ("D", 2, "ink")] * 2
    ]


@pytest.mark.usefixtures("without_event_triggers")
def test_an_event_column_that_became_generated_is_found_until_its_owner_changes_that(
    connection: Connection,
) -> None:
    connection.execute(TABLE)
    track(connection, "item", kind="history")
    connection.execute(
        """ALTER TABLE item_event DROP COLUMN note,
               ADD COLUMN note text GENERATED ALWAYS AS ('x') STORED"""
    )
    for _ in range(2):
        ((problem,),) = rows(connection, "SELECT problem FROM pghistory.verify()")
        assert problem == 'its column "note" is generated'
        connection.execute("SELECT pghistory.refresh()")
    connection.execute("ALTER TABLE item_event ALTER COLUMN note DROP EXPRESSION")
    assert rows(connection, "SELECT * FROM pghistory.verify()") == []
    connection.execute("INSERT INTO item VALUES (1, 'pen', 'y')")
    assert events(connection, "item_event", "note") == ["y"]


@pytest.mark.usefixtures("without_event_triggers")
def test_a_missing_event_table_is_found_and_refresh_lets_writes_go_on(connection: Connection) -> None:
    connection.execute(TABLE)
    track(connection, "item", kind="history")
    track(connection, "item", "other", event_table="other_event")
    connection.execute("DROP TABLE item_event")
    ((problem, hint),) = rows(
        connection, "SELECT problem, hint FROM pghistory.verify() WHERE object ~ '^event table'"
    )
    assert (problem, hint) == ("event table is missing", "Call pghistory.refresh().")
    connection.execute("SELECT pghistory.refresh()")
    assert rows(connection, "SELECT * FROM pghistory.verify()") == []
    connection.execute("INSERT INTO item VALUES (1)")
    assert rows(connection, "SELECT label FROM pghistory.trackers()") == [("other",)]


@pytest.mark.usefixtures("without_event_triggers")
def test_a_foreign_key_that_was_dropped_is_found_and_put_back(connection: Connection) -> None:
    connection.execute(TABLE)
    track(connection, "item", obj_fk="cascade")
    connection.execute("INSERT INTO item VALUES (1)")
    connection.execute("ALTER TABLE item_event DROP CONSTRAINT pghistory_obj_fk")
    ((problem, hint),) = rows(connection, "SELECT problem, hint FROM pghistory.verify()")
    assert "foreign key" in problem
    assert hint == "Call pghistory.refresh()."
    connection.execute("SELECT pghistory.refresh()")
    assert rows(connection, "SELECT * FROM pghistory.verify()") == []
    connection.execute("DELETE FROM item")
    assert events(connection, "item_event") == []


def test_a_partition_without_its_trigger_is_found(connection: Connection) -> None:
    connection.execute(
        """CREATE TABLE item (id integer PRIMARY KEY) PARTITION BY RANGE (id);
           CREATE TABLE low PARTITION OF item FOR VALUES FROM (0) TO (1000)"""
    )
    track(connection, "item", kind="history")
    connection.execute('DROP TRIGGER "!pghistory item_event truncate statement" ON low')
    assert rows(connection, "SELECT object, problem FROM pghistory.verify()") == [
        ('trigger "!pghistory item_event truncate statement" on public.low', "trigger is missing")
    ]
    connection.execute("SELECT pghistory.refresh()")
    connection.execute("INSERT INTO item VALUES (1); TRUNCATE low")
    assert events(connection, "item_event") == ["I", "T"]


def test_a_trigger_that_is_off_on_a_partition_is_found(connection: Connection) -> None:
    connection.execute(
        """CREATE TABLE item (id integer PRIMARY KEY) PARTITION BY RANGE (id);
           CREATE TABLE low PARTITION OF item FOR VALUES FROM (0) TO (1000)"""
    )
    track(connection, "item", kind="history")
    connection.execute('ALTER TABLE low DISABLE TRIGGER "!pghistory item_event insert row"')
    ((problem,),) = rows(connection, "SELECT problem FROM pghistory.verify()")
    assert problem == "trigger is disabled"
    connection.execute("SELECT pghistory.refresh()")
    connection.execute("INSERT INTO item VALUES (1)")
    assert events(connection, "item_event") == ["I"]
    assert rows(connection, "SELECT * FROM pghistory.verify()") == []


def test_following_ddl_leaves_triggers_off_that_somebody_switched_off(connection: Connection) -> None:
    connection.execute(TABLE)
    track(connection, "item", kind="history")
    connection.execute("ALTER TABLE item DISABLE TRIGGER ALL")
    connection.execute("ALTER TABLE item ADD COLUMN size integer")
    connection.execute("INSERT INTO item VALUES (1)")
    assert events(connection, "item_event") == []
    assert {problem for (problem,) in rows(connection, "SELECT problem FROM pghistory.verify()")} == {
        "trigger is disabled"
    }


def test_anybody_may_verify_and_refresh_repairs_what_the_caller_owns(
    connection: Connection, connect: Callable[..., Connection], role: Callable[..., str]
) -> None:
    owner = role("owner")
    connection.execute(f"GRANT CREATE ON SCHEMA public TO {owner}")
    user = connect(owner)
    user.execute(TABLE.replace("item", "own"))
    connection.execute(TABLE)
    for session, table in ((user, "own"), (connection, "item")):
        track(session, table, kind="after_insert")
        session.execute(f"ALTER TABLE {table} DISABLE TRIGGER USER")
    assert len(rows(user, "SELECT * FROM pghistory.verify()")) == 2
    user.execute("SELECT pghistory.refresh()")
    assert rows(user, 'SELECT "table"::text FROM pghistory.verify()') == [("item",)]


def test_all_is_well_in_a_database_where_nothing_is_tracked(connection: Connection) -> None:
    assert rows(connection, "SELECT * FROM pghistory.verify()") == []
    connection.execute("SELECT pghistory.refresh()")
    assert rows(connection, "SELECT * FROM pghistory.verify()") == []
