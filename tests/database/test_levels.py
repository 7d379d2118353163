"""Row and statement level: which one is used where, and that both record the same in the right order."""

from __future__ import annotations

from collections.abc import Iterator

import psycopg
import pytest
from history import LEVELS, Connection, events, rows, track, track_refused, triggers, value
from oracle import check_last_events, differences, read_events, read_rows, read_table, replay
from random_tables import WORDS

BY_ROW = {("insert", "row"), ("update", "row"), ("delete", "row"), ("truncate", "statement")}
BY_STATEMENT = {(operation, "statement") for operation, _ in BY_ROW}
AUTO = BY_STATEMENT - {("update", "statement")} | {("update", "row")}

TABLE = "CREATE TABLE item (id integer PRIMARY KEY, name text, touched integer NOT NULL DEFAULT 0)"

TOUCH = """
    CREATE FUNCTION touch() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        UPDATE item SET touched = touched + 1 WHERE id = NEW.id AND touched < 2;
        RETURN NULL;
    END $$;
    CREATE TRIGGER a AFTER INSERT OR UPDATE ON item FOR EACH ROW EXECUTE FUNCTION touch();
"""
"""A trigger of the user's that updates the row that it was called for, until it has done so twice."""

WHERE_STATEMENT_LEVEL_LOSES = {
    "partitioned": "CREATE TABLE item (id integer, name text) PARTITION BY LIST (id)",
    "partition": """
        CREATE TABLE whole (id integer, name text) PARTITION BY LIST (id);
        CREATE TABLE item PARTITION OF whole DEFAULT""",
    "parent": "CREATE TABLE item (id integer, name text); CREATE TABLE child () INHERITS (item)",
    "child": "CREATE TABLE parent (id integer, name text); CREATE TABLE item () INHERITS (parent)",
    "foreign": """
        CREATE FOREIGN DATA WRAPPER nothing;
        CREATE SERVER nowhere FOREIGN DATA WRAPPER nothing;
        CREATE FOREIGN TABLE item (id integer, name text) SERVER nowhere""",
    "row trigger": TABLE + ";" + TOUCH,
    "constraint trigger": TABLE
    + ";"
    + TOUCH.replace("CREATE TRIGGER", "CREATE CONSTRAINT TRIGGER").replace(
        "FOR EACH ROW", "DEFERRABLE INITIALLY DEFERRED FOR EACH ROW"
    ),
}
"""Tables of which statement-level triggers would miss or misorder something."""

SELF_REFERENCE = """
    CREATE TABLE item (
        id integer PRIMARY KEY,
        parent integer REFERENCES item ON UPDATE CASCADE ON DELETE {action},
        name text)
"""
"""A table whose rows refer to others, or to themselves."""


def check_history(connection: Connection, event_table: str = "item_event", table: str = "item") -> None:
    """Check the history of a table that was empty when it was tracked."""
    described = read_table(connection, "public", table)
    check_last_events(connection, described, event_table)
    recorded = replay([], read_events(connection, event_table, described))
    assert not differences(read_rows(connection, described), recorded)


def test_auto_records_updates_by_row_and_all_else_by_statement(connection: Connection) -> None:
    connection.execute(TABLE)
    track(connection, "item", kind="history")
    assert triggers(connection, "item") == AUTO


def test_a_level_that_is_given_is_used(connection: Connection) -> None:
    connection.execute(TABLE)
    track(connection, "item", kind="history", level="row")
    assert triggers(connection, "item") == BY_ROW
    track(connection, "item", kind="history", level="statement")
    assert triggers(connection, "item") == BY_STATEMENT
    assert rows(connection, "SELECT level FROM pghistory.trackers()") == [("statement",)]


@pytest.mark.parametrize("sort", WHERE_STATEMENT_LEVEL_LOSES)
def test_auto_is_row_level_where_statement_level_would_lose_events(connection: Connection, sort: str) -> None:
    connection.execute(WHERE_STATEMENT_LEVEL_LOSES[sort])
    track(connection, "item", kind="history")
    assert triggers(connection, "item") >= BY_ROW - {("truncate", "statement")}
    assert not triggers(connection, "item") - BY_ROW


@pytest.mark.parametrize("kind", ["history", "after_insert", "before_update", "before_delete", "snapshot"])
@pytest.mark.parametrize("sort", WHERE_STATEMENT_LEVEL_LOSES)
def test_statement_level_is_refused_where_it_would_lose_events(
    connection: Connection, sort: str, kind: str
) -> None:
    connection.execute(WHERE_STATEMENT_LEVEL_LOSES[sort])
    track_refused(
        connection,
        psycopg.errors.FeatureNotSupported,
        "statement-level triggers on table .*item would lose or misorder events",
        "item",
        kind=kind,
        level="statement",
    )


@pytest.mark.parametrize("condition", ["OLD.* IS DISTINCT FROM NEW.*", "NEW.ctid IS NOT NULL"])
def test_statement_level_is_refused_for_conditions_that_only_rows_can_answer(
    connection: Connection, condition: str
) -> None:
    connection.execute(TABLE)
    track_refused(
        connection,
        psycopg.errors.FeatureNotSupported,
        "whole rows or system columns",
        "item",
        kind="after_update",
        level="statement",
        condition=condition,
    )


def test_statement_level_is_refused_for_updates_that_may_come_back_through_foreign_keys(
    connection: Connection,
) -> None:
    connection.execute(SELF_REFERENCE.format(action="CASCADE"))
    track_refused(
        connection,
        psycopg.errors.FeatureNotSupported,
        "may come back to it through foreign keys",
        "item",
        kind="history",
        level="statement",
    )
    track(connection, "item", "new", kind="after_insert", level="statement")
    track(connection, "item", "gone", kind="before_delete", level="statement")


@pytest.mark.parametrize("kind", ["before_truncate", "event"])
@pytest.mark.parametrize("sort", ["partitioned", "parent", "row trigger"])
def test_statement_level_is_accepted_where_it_loses_nothing(
    connection: Connection, sort: str, kind: str
) -> None:
    connection.execute(WHERE_STATEMENT_LEVEL_LOSES[sort])
    track(connection, "item", kind=kind, level="statement")


def test_another_level_takes_the_place_of_the_first(connection: Connection) -> None:
    connection.execute(TABLE)
    for level in (*LEVELS, "auto"):
        track(connection, "item", kind="history", level=level)
        connection.execute("TRUNCATE item_event; INSERT INTO item VALUES (1); UPDATE item SET name = 'x'")
        connection.execute("DELETE FROM item")
        assert events(connection, "item_event") == ["I", "U", "D"]


def test_trackers_of_different_levels_share_an_event_table(connection: Connection) -> None:
    connection.execute(TABLE)
    for level in LEVELS:
        track(connection, "item", level, kind="history", level=level)
    connection.execute("INSERT INTO item VALUES (1), (2); UPDATE item SET name = 'x'; DELETE FROM item")
    for level in LEVELS:
        assert events(connection, "item_event", "pgh_operation, id", level) == [
            *(("I", 1), ("I", 2), ("U", 1), ("U", 2), ("D", 1), ("D", 2))
        ]


def test_the_level_is_chosen_again_when_the_table_gets_or_loses_a_row_trigger(connection: Connection) -> None:
    connection.execute(TABLE)
    track(connection, "item", kind="history")
    connection.execute(TOUCH)
    assert triggers(connection, "item") == BY_ROW
    connection.execute("DROP TRIGGER a ON item")
    assert triggers(connection, "item") == AUTO


def test_the_level_is_chosen_again_when_the_table_gets_or_loses_a_child(connection: Connection) -> None:
    connection.execute(TABLE)
    track(connection, "item", kind="history")
    connection.execute("CREATE TABLE child () INHERITS (item)")
    assert triggers(connection, "item") == BY_ROW
    connection.execute("DROP TABLE child")
    assert triggers(connection, "item") == AUTO
    connection.execute("CREATE TABLE parent (name text); ALTER TABLE item INHERIT parent")
    assert triggers(connection, "item") == BY_ROW
    connection.execute("ALTER TABLE item NO INHERIT parent")
    assert triggers(connection, "item") == AUTO


def test_the_level_is_chosen_again_when_the_table_becomes_a_partition(connection: Connection) -> None:
    connection.execute("CREATE TABLE item (id integer PRIMARY KEY, name text)")
    track(connection, "item", kind="history")
    connection.execute("CREATE TABLE whole (id integer PRIMARY KEY, name text) PARTITION BY LIST (id)")
    connection.execute("ALTER TABLE whole ATTACH PARTITION item DEFAULT")
    connection.execute("INSERT INTO whole VALUES (1); UPDATE whole SET name = 'x'; DELETE FROM whole")
    assert events(connection, "item_event") == ["I", "U", "D"]


@pytest.mark.parametrize("level", LEVELS)
def test_statement_level_gives_way_to_a_foreign_key_through_which_updates_come_back(
    connection: Connection, level: str
) -> None:
    connection.execute("CREATE TABLE item (id integer PRIMARY KEY, parent integer, name text)")
    track(connection, "item", kind="history", level=level)
    connection.execute("ALTER TABLE item ADD FOREIGN KEY (parent) REFERENCES item ON UPDATE CASCADE")
    connection.execute("INSERT INTO item VALUES (1, 1), (2, 1); UPDATE item SET id = 10 WHERE id = 1")
    check_history(connection)


@pytest.mark.parametrize("level", ["auto", "row"])
@pytest.mark.parametrize("timing", ["before track", "after track"])
@pytest.mark.parametrize("sort", ["row trigger", "constraint trigger"])
def test_a_users_trigger_that_updates_its_row_again_is_recorded_in_order(
    connection: Connection, sort: str, timing: str, level: str
) -> None:
    create_trigger = WHERE_STATEMENT_LEVEL_LOSES[sort].removeprefix(TABLE + ";")
    connection.execute(TABLE)
    if timing == "before track":
        connection.execute(create_trigger)
    track(connection, "item", kind="history", level=level)
    if timing == "after track":
        connection.execute(create_trigger)
    connection.execute("INSERT INTO item VALUES (1), (2)")
    assert events(connection, "item_event", "pgh_operation, touched", "item.history").count(("U", 2)) == 2
    check_history(connection)
    connection.execute("UPDATE item SET name = 'x', touched = 0")
    connection.execute("DELETE FROM item WHERE id = 1")
    check_history(connection)
    assert events(connection, "item_event WHERE id = 1", "pgh_operation, touched") == [
        *(("I", 0), ("U", 1), ("U", 2), ("U", 0), ("U", 1), ("U", 2), ("D", 2))
    ]


def test_a_users_trigger_made_after_statement_level_was_chosen_is_recorded_in_order(
    connection: Connection,
) -> None:
    connection.execute(TABLE)
    track(connection, "item", kind="history", level="statement")
    connection.execute(TOUCH)
    connection.execute("INSERT INTO item VALUES (1), (2); UPDATE item SET name = 'x', touched = 1")
    check_history(connection)
    assert events(connection, "item_event WHERE id = 1", "touched") == [0, 1, 2, 1, 2]


@pytest.mark.parametrize("level", LEVELS)
def test_a_users_statement_trigger_that_updates_the_table_again_is_recorded_in_order(
    connection: Connection, level: str
) -> None:
    connection.execute(TABLE)
    track(connection, "item", kind="history", level=level)
    connection.execute(
        """
        CREATE FUNCTION touch_all() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            UPDATE item SET touched = touched + 1 WHERE touched < 2;
            RETURN NULL;
        END $$;
        CREATE TRIGGER a AFTER INSERT ON item EXECUTE FUNCTION touch_all();
        CREATE TRIGGER b AFTER UPDATE ON item REFERENCING NEW TABLE AS changed
            FOR EACH STATEMENT WHEN (pg_trigger_depth() < 3) EXECUTE FUNCTION touch_all();
        """
    )
    connection.execute("INSERT INTO item VALUES (1), (2)")
    check_history(connection)
    assert events(connection, "item_event WHERE id = 1", "pgh_operation, touched") == [
        *(("I", 0), ("U", 1), ("U", 2))
    ]


@pytest.mark.parametrize("level", LEVELS)
def test_a_users_before_trigger_is_recorded_with_what_it_made_of_the_row(
    connection: Connection, level: str
) -> None:
    connection.execute(TABLE)
    track(connection, "item", kind="history", level=level)
    connection.execute(
        """
        CREATE FUNCTION shout() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            IF NEW.name = 'no' THEN
                RETURN NULL;
            END IF;
            NEW.name := upper(NEW.name);
            RETURN NEW;
        END $$;
        CREATE TRIGGER shout BEFORE INSERT OR UPDATE ON item FOR EACH ROW EXECUTE FUNCTION shout();
        INSERT INTO item VALUES (1, 'a'), (2, 'no'), (3, 'c');
        UPDATE item SET name = CASE id WHEN 1 THEN 'no' ELSE 'd' END, touched = id;
        UPDATE item SET name = 'd' WHERE id = 3;
        """
    )
    assert events(connection, "item_event", "pgh_operation, id, name, touched") == [
        *(("I", 1, "A", 0), ("I", 3, "C", 0), ("U", 3, "D", 3))
    ]


@pytest.mark.parametrize("level", ["auto", "row"])
@pytest.mark.parametrize("action", ["CASCADE", "SET NULL", "NO ACTION"])
def test_a_table_that_refers_to_itself_is_recorded_whole_and_in_order(
    connection: Connection, action: str, level: str
) -> None:
    connection.execute(SELF_REFERENCE.format(action=action))
    track(connection, "item", kind="history", level=level)
    connection.execute("INSERT INTO item VALUES (1, 1, 'root'), (2, 1, 'a'), (3, 2, 'b'), (4, 4, 'other')")
    connection.execute("UPDATE item SET id = id * 10 WHERE id IN (1, 4)")
    check_history(connection)
    connection.execute("UPDATE item SET id = id + 100, name = name || '!'")
    check_history(connection)
    if action == "NO ACTION":
        connection.execute("DELETE FROM item")
    else:
        connection.execute("DELETE FROM item WHERE name LIKE 'root%'")
    check_history(connection)
    left = {"CASCADE": 1, "SET NULL": 3, "NO ACTION": 0}[action]
    assert value(connection, "SELECT count(*) FROM item") == left


@pytest.mark.parametrize("level", LEVELS)
def test_what_foreign_keys_do_to_other_tables_is_recorded(connection: Connection, level: str) -> None:
    connection.execute(
        """
        CREATE TABLE item (id integer PRIMARY KEY, name text);
        CREATE TABLE part (
            id integer PRIMARY KEY,
            item integer DEFAULT 0 REFERENCES item ON UPDATE CASCADE ON DELETE CASCADE,
            spare integer REFERENCES item ON UPDATE SET NULL ON DELETE SET NULL,
            maker integer DEFAULT 0 REFERENCES item ON UPDATE SET DEFAULT ON DELETE SET DEFAULT);
        """
    )
    for table in ("item", "part"):
        track(connection, table, kind="history", level=level)
    connection.execute(
        """
        INSERT INTO item VALUES (0), (1), (2), (3);
        INSERT INTO part SELECT n, n % 4, (n + 1) % 4, (n + 2) % 4 FROM generate_series(1, 12) AS n;
        UPDATE item SET id = id + 10 WHERE id > 1;
        DELETE FROM item WHERE id IN (1, 12);
        TRUNCATE item CASCADE;
        """
    )
    for table in ("item", "part"):
        check_history(connection, f"{table}_event", table)
    assert events(connection, "part_event").count("T") > 0


@pytest.mark.parametrize("level", ["auto", "row"])
def test_an_update_that_comes_back_through_another_tables_trigger_is_recorded_in_order(
    connection: Connection, level: str
) -> None:
    connection.execute(TABLE)
    track(connection, "item", kind="history", level=level)
    connection.execute(
        """
        CREATE TABLE part (item integer REFERENCES item ON UPDATE CASCADE ON DELETE CASCADE);
        CREATE FUNCTION count_parts() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            UPDATE item SET touched = touched + 1 WHERE id = COALESCE(NEW.item, OLD.item + 1);
            RETURN NULL;
        END $$;
        CREATE TRIGGER count_parts AFTER INSERT OR UPDATE OR DELETE ON part
            FOR EACH ROW EXECUTE FUNCTION count_parts();
        INSERT INTO item VALUES (1), (2);
        INSERT INTO part VALUES (1), (1), (2);
        UPDATE item SET id = id + 10;
        DELETE FROM item WHERE id = 11;
        """
    )
    check_history(connection)


@pytest.mark.parametrize("level", ["auto", "row"])
def test_a_row_that_another_tables_trigger_puts_back_is_not_recorded_as_gone(
    connection: Connection, level: str
) -> None:
    connection.execute(TABLE)
    track(connection, "item", kind="history", level=level)
    connection.execute(
        """
        CREATE TABLE part (item integer REFERENCES item ON DELETE CASCADE);
        CREATE FUNCTION keep_item() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            INSERT INTO item VALUES (OLD.item, 'put back');
            RETURN NULL;
        END $$;
        CREATE TRIGGER keep_item AFTER DELETE ON part FOR EACH ROW EXECUTE FUNCTION keep_item();
        INSERT INTO item VALUES (1);
        INSERT INTO part VALUES (1);
        DELETE FROM item;
        """
    )
    assert rows(connection, "SELECT id, name FROM item") == [(1, "put back")]
    check_history(connection)


def take_the_place(connection: Connection) -> Iterator[None]:
    """Delete row 2 and give its key to row 1, in one statement, in every way that the server has."""
    statements = [
        """WITH gone AS (DELETE FROM item WHERE id = 2 RETURNING 1)
           UPDATE item SET id = 2 WHERE id = 1 AND EXISTS (SELECT FROM gone)"""
    ]
    if connection.info.server_version >= 150000:
        statements.append(
            """MERGE INTO item USING (VALUES (2), (1)) AS given (id) ON item.id = given.id
               WHEN MATCHED AND item.id = 2 THEN DELETE
               WHEN MATCHED THEN UPDATE SET id = 2"""
        )
    for statement in statements:
        connection.execute("INSERT INTO item VALUES (1, 'a'), (2, 'b')")
        connection.execute(statement)
        assert rows(connection, "SELECT id, name FROM item") == [(2, "a")]
        yield
        connection.execute("DELETE FROM item")


def test_by_row_a_row_that_takes_the_key_of_a_deleted_row_in_the_same_statement_is_recorded_in_order(
    connection: Connection,
) -> None:
    connection.execute(TABLE)
    track(connection, "item", kind="history", level="row")
    for _ in take_the_place(connection):
        check_history(connection)


@pytest.mark.parametrize("level", ["auto", "statement"])
def test_by_statement_a_row_that_takes_the_key_of_a_deleted_row_in_the_same_statement_is_recorded_beside_it(
    connection: Connection, level: str
) -> None:
    connection.execute(TABLE)
    track(connection, "item", kind="history", level=level)
    for _ in take_the_place(connection):
        last_two = events(connection, "item_event", "pgh_operation, pgh_obj_id, pgh_other_id, name")[-2:]
        assert set(last_two) == {("D", 2, None, "b"), ("U", 2, 1, "a")}
        item = read_table(connection, "public", "item")
        recorded = replay([], read_events(connection, "item_event", item))
        assert not differences(read_rows(connection, item), recorded)


@pytest.mark.parametrize("level", LEVELS)
def test_a_row_that_takes_the_key_that_another_gives_up_in_the_same_statement_is_recorded_in_order(
    connection: Connection, level: str
) -> None:
    connection.execute(TABLE)
    track(connection, "item", kind="history", level=level)
    connection.execute(
        """
        INSERT INTO item VALUES (1, 'a'), (2, 'b');
        INSERT INTO item VALUES (1, 'c'), (1, 'd') ON CONFLICT (id) DO UPDATE SET id = 3;
        WITH moved AS (UPDATE item SET id = 4 WHERE id = 2 RETURNING 1)
        INSERT INTO item SELECT 2, 'e' FROM moved;
        WITH gone AS (DELETE FROM item RETURNING *)
        INSERT INTO item SELECT id, name || '!' FROM gone;
        """
    )
    assert rows(connection, "SELECT id, name FROM item ORDER BY id") == [
        *((1, "d!"), (2, "e!"), (3, "a!"), (4, "b!"))
    ]
    check_history(connection)


@pytest.mark.parametrize("level", LEVELS)
def test_old_and_new_rows_are_paired_where_keys_are_exchanged_and_rows_left_out(
    connection: Connection, level: str
) -> None:
    connection.execute(
        """
        CREATE TABLE item (id integer PRIMARY KEY DEFERRABLE, name text);
        CREATE FUNCTION leave_out() RETURNS trigger LANGUAGE plpgsql AS
            $$ BEGIN IF OLD.name LIKE 'x%' THEN RETURN NULL; END IF; RETURN NEW; END $$;
        CREATE TRIGGER leave_out BEFORE UPDATE ON item FOR EACH ROW EXECUTE FUNCTION leave_out();
        INSERT INTO item
        SELECT n, CASE n % 5 WHEN 0 THEN 'x' ELSE 'y' END || n FROM generate_series(1, 50) AS n;
        """
    )
    track(connection, "item", "before", kind="before_update", level=level, condition="OLD.id > NEW.id")
    track(connection, "item", "after", kind="after_update", level=level, condition="OLD.id > NEW.id")
    connection.execute(
        """
        UPDATE item SET name = name || id, id = CASE id WHEN 1 THEN 2 WHEN 2 THEN 3 WHEN 3 THEN 1 ELSE id END
        """
    )
    assert events(connection, "item_event", "pgh_obj_id, pgh_other_id, name", "before") == [(3, 1, "y3")]
    assert events(connection, "item_event", "pgh_obj_id, pgh_other_id, name", "after") == [(1, 3, "y33")]


@pytest.mark.parametrize("level", LEVELS)
def test_old_and_new_rows_are_paired_where_there_is_no_key_and_rows_are_alike(
    connection: Connection, level: str
) -> None:
    connection.execute("CREATE TABLE item (name text, price numeric)")
    connection.execute("INSERT INTO item SELECT 'a', n % 2 FROM generate_series(1, 20) AS n")
    track(connection, "item", "before", kind="before_update", level=level, condition="NEW.price > OLD.price")
    track(connection, "item", "changed", kind="snapshot", level=level)
    connection.execute("UPDATE item SET price = CASE price WHEN 1 THEN 1 ELSE 5 END")
    assert [str(price) for price in events(connection, "item_event", "price", "before")] == ["0"] * 10
    assert [str(price) for price in events(connection, "item_event", "price", "changed")] == ["5"] * 10


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("count", [0, 1, 2, 1000])
def test_a_statement_writes_an_event_for_every_row_however_many(
    connection: Connection, count: int, level: str
) -> None:
    connection.execute(TABLE)
    track(connection, "item", kind="history", level=level)
    connection.execute("INSERT INTO item SELECT generate_series(1, %s)", (count,))
    connection.execute("UPDATE item SET name = 'x'")
    connection.execute("UPDATE item SET name = 'x', touched = id % 2")
    connection.execute("UPDATE item SET name = 'x'")
    connection.execute("DELETE FROM item WHERE id % 2 = 0")
    connection.execute("TRUNCATE item")
    check_history(connection)
    written = events(connection, "item_event")
    assert {operation: written.count(operation) for operation in "IUDT"} == {
        "I": count,
        "U": count + (count + 1) // 2,
        "D": count // 2,
        "T": (count + 1) // 2,
    }


@pytest.mark.parametrize("level", LEVELS)
def test_columns_named_by_words_of_plpgsql_are_recorded(connection: Connection, level: str) -> None:
    columns = ", ".join(f'"{word}" integer DEFAULT 0' for word in WORDS)
    connection.execute(f'CREATE TABLE item ({columns}, PRIMARY KEY ("begin", "if"))')
    track(connection, "item", kind="history", level=level)
    track(
        connection,
        "item",
        "looped",
        kind="after_update",
        level=level,
        condition='NEW."loop" > OLD."loop" AND NEW."if" = 0',
    )
    track(
        connection,
        "item",
        "executed",
        kind="after_update",
        level=level,
        condition=value(connection, "SELECT pghistory.any_change('execute', 'by')"),
    )
    connection.execute(
        """
        INSERT INTO item DEFAULT VALUES;
        UPDATE item SET "loop" = 1, "new" = 2;
        UPDATE item SET "by" = 3;
        """
    )
    assert events(connection, "item_event", '"loop", "new", "by"', "item.history") == [
        *((0, 0, 0), (1, 2, 0), (1, 2, 3))
    ]
    assert events(connection, "item_event", '"by"', "looped") == [0]
    assert events(connection, "item_event", '"by"', "executed") == [3]
    connection.execute("SELECT pghistory.create_event(i, 'looped') FROM item AS i")
    connection.execute("DELETE FROM item")
    assert events(connection, "item_event")[-2:] == ["S", "D"]
