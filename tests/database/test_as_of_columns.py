"""as_of() across DDL: the table has today's columns, and what each of them held then; or it says that it cannot know."""

from __future__ import annotations

import pytest
from history import Connection, track
from past import KEPT_BY, as_of, copy, keep, moment, unknown

IMAGES = ("history", "before images")


@pytest.fixture(params=IMAGES)
def table(connection: Connection, request: pytest.FixtureRequest) -> str:
    """A table of three rows, tracked since it is there, in either kind of image."""
    connection.execute("CREATE TABLE item (id integer PRIMARY KEY, name text, price integer)")
    keep(connection, "item", KEPT_BY[request.param])
    connection.execute("INSERT INTO item VALUES (1, 'one', 10), (2, 'two', 20), (3, 'three', 30)")
    return "item"


def change(connection: Connection) -> None:
    """Update a row, delete another one, insert one; the third stays as it was."""
    connection.execute("UPDATE item SET name = 'TWO' WHERE id = '2'")
    connection.execute("DELETE FROM item WHERE id = '3'")
    connection.execute("INSERT INTO item (id, name) VALUES ('4', 'four')")


@pytest.mark.parametrize("default", ["", "DEFAULT 7", "DEFAULT now()", "NOT NULL DEFAULT 'x'"])
def test_a_column_is_null_before_it_was_added_and_then_what_it_was_added_with(
    connection: Connection, table: str, default: str
) -> None:
    before, was = moment(connection), copy(connection, "item", "id, name, price")
    connection.execute(f"ALTER TABLE item ADD COLUMN new text {default}")
    added, then = moment(connection), copy(connection, "item")
    change(connection)

    assert as_of(connection, "item", before, columns="id, name, price, new") == [(*row, None) for row in was]
    assert as_of(connection, "item", added) == then
    assert as_of(connection, "item", moment(connection)) == copy(connection, "item")
    assert [as_of(connection, "item", added, str(number)) for number in (1, 2, 3)] == [[row] for row in then]


@pytest.mark.parametrize(
    "definition",
    [
        "new double precision DEFAULT random()",
        "new serial",
        "new integer GENERATED ALWAYS AS IDENTITY",
        "new integer GENERATED ALWAYS AS (price * 2) STORED",
    ],
)
def test_of_a_column_that_was_filled_row_by_row_what_is_known_is_told(
    connection: Connection, table: str, definition: str
) -> None:
    before, was = moment(connection), copy(connection, "item", "id, name, price")
    connection.execute(f"ALTER TABLE item ADD COLUMN {definition}")
    added, then = moment(connection), copy(connection, "item")

    assert as_of(connection, "item", before, columns="id, name, price, new") == [(*row, None) for row in was]
    assert as_of(connection, "item", added) == then
    change(connection)
    assert as_of(connection, "item", moment(connection)) == copy(connection, "item")
    assert as_of(connection, "item", added, "1") == then[:1]
    said = unknown(connection, "item", added)
    if said:  # after-images do not have what was computed
        assert said.message_primary
        assert 'what column "new" of table public.item held at ' in said.message_primary
    else:
        assert as_of(connection, "item", added) == then


def test_what_the_column_of_a_name_held_does_not_become_the_value_of_the_next_of_that_name(
    connection: Connection, table: str
) -> None:
    connection.execute("ALTER TABLE item DROP COLUMN name")
    connection.execute("ALTER TABLE item ADD COLUMN name text")
    added, then = moment(connection), copy(connection, "item")
    connection.execute("UPDATE item SET name = 'TWO' WHERE id = 2")

    assert as_of(connection, "item", added) == then
    assert as_of(connection, "item", moment(connection)) == copy(connection, "item")


def test_columns_keep_their_values_when_they_are_renamed_also_into_each_other(
    connection: Connection, table: str
) -> None:
    connection.execute("ALTER TABLE item ADD COLUMN other text DEFAULT 'other'")
    before, was = moment(connection), copy(connection, "item")
    connection.execute("ALTER TABLE item RENAME name TO x")
    connection.execute("ALTER TABLE item RENAME other TO name")
    connection.execute("ALTER TABLE item RENAME x TO other")
    change(connection)

    assert as_of(connection, "item", before) == was
    assert as_of(connection, "item", before, columns="id, other") == [(1, "one"), (2, "two"), (3, "three")]


def test_dropped_columns_are_left_out(connection: Connection, table: str) -> None:
    before = moment(connection)
    connection.execute("ALTER TABLE item DROP COLUMN name")
    connection.execute("UPDATE item SET price = price + 1")

    assert as_of(connection, "item", before) == ["(1,10)", "(2,20)", "(3,30)"]


@pytest.mark.parametrize("key", ["id", "price"])
def test_values_become_another_type_as_the_rows_did(connection: Connection, table: str, key: str) -> None:
    before, was = moment(connection), copy(connection, "item")
    connection.execute("UPDATE item SET price = 11 WHERE id = 1")
    connection.execute(f"ALTER TABLE item ALTER COLUMN {key} TYPE bigint")
    connection.execute(f"ALTER TABLE item ALTER COLUMN {key} TYPE text")
    after, then = moment(connection), copy(connection, "item")
    change(connection)

    assert as_of(connection, "item", before) == was
    assert as_of(connection, "item", after) == then
    assert as_of(connection, "item", moment(connection)) == copy(connection, "item")


@pytest.mark.parametrize(
    "computed",
    [
        "ALTER TABLE item ALTER COLUMN price TYPE bigint USING price * 100",
        "ALTER TABLE item ALTER COLUMN price TYPE integer USING price * 100",
        "DO 'BEGIN ALTER TABLE item ALTER COLUMN price TYPE bigint USING price * 100; END'",
    ],
)
def test_values_that_using_computed_are_told_where_they_are_known_and_never_guessed(
    connection: Connection, table: str, computed: str
) -> None:
    before, was = moment(connection), copy(connection, "item")
    connection.execute("UPDATE item SET name = 'Two' WHERE id = 2")
    connection.execute(computed)
    after, then = moment(connection), copy(connection, "item")

    assert as_of(connection, "item", after) == then
    change(connection)
    assert as_of(connection, "item", after, "1") == then[:1]
    for at, expected in ((before, was), (after, then)):
        for obj in (None, "1", "2", "3"):
            said = unknown(connection, "item", at, obj)
            if said:
                assert said.message_primary
                assert 'what column "price" of table public.item held at ' in said.message_primary
            else:
                wanted = [row for row in expected if obj is None or row.startswith(f"({obj},")]
                assert as_of(connection, "item", at, obj) == wanted


def test_after_images_know_what_values_were_before_using_computed_them(connection: Connection) -> None:
    connection.execute("CREATE TABLE item (id integer PRIMARY KEY, price integer)")
    track(connection, "item", kind="history")
    connection.execute("INSERT INTO item VALUES (1, 10), (2, 20)")
    before, was = moment(connection), copy(connection, "item")
    connection.execute("ALTER TABLE item ALTER COLUMN price TYPE numeric USING price / 8.0")
    between, then = moment(connection), copy(connection, "item")
    connection.execute("ALTER TABLE item ALTER COLUMN price TYPE numeric USING price + 1")
    connection.execute("UPDATE item SET price = 5 WHERE id = 1")

    assert as_of(connection, "item", before) == was
    assert as_of(connection, "item", moment(connection)) == copy(connection, "item")
    for at in (between,):
        assert unknown(connection, "item", at), then


def test_a_row_without_events_is_not_told_as_it_was_before_using_computed_it(connection: Connection) -> None:
    connection.execute("CREATE TABLE item (id integer PRIMARY KEY, price integer)")
    connection.execute("INSERT INTO item VALUES (1, 10)")
    track(connection, "item", kind="history")
    before = moment(connection)
    connection.execute("ALTER TABLE item ALTER COLUMN price TYPE bigint USING price * 100")

    assert unknown(connection, "item", before)
    assert as_of(connection, "item", moment(connection)) == ["(1,1000)"]


def test_a_row_without_events_is_told_as_it_was_before_a_plain_change_of_type(connection: Connection) -> None:
    connection.execute("CREATE TABLE item (id integer PRIMARY KEY, price integer)")
    connection.execute("INSERT INTO item VALUES (1, 10)")
    track(connection, "item", kind="history")
    before = moment(connection)
    connection.execute("ALTER TABLE item ALTER COLUMN price TYPE bigint")

    assert as_of(connection, "item", before) == ["(1,10)"]


def test_values_that_cannot_become_the_type_of_today_are_not_guessed(
    connection: Connection, table: str
) -> None:
    before = moment(connection)
    connection.execute("UPDATE item SET name = id::text")
    connection.execute("ALTER TABLE item ALTER COLUMN name TYPE integer USING name::integer")
    after, then = moment(connection), copy(connection, "item")

    said = unknown(connection, "item", before)
    assert said
    assert said.message_primary
    assert 'what column "name" of table public.item held at ' in said.message_primary
    assert as_of(connection, "item", after) == then
    connection.execute("UPDATE item SET name = 5")
    assert as_of(connection, "item", moment(connection)) == copy(connection, "item")


def test_a_table_is_told_under_its_new_name_in_its_new_schema(connection: Connection, table: str) -> None:
    before, was = moment(connection), copy(connection, "item")
    connection.execute("CREATE SCHEMA other")
    connection.execute("ALTER TABLE item RENAME TO thing")
    connection.execute("ALTER TABLE thing SET SCHEMA other")
    connection.execute("DELETE FROM other.thing")

    assert as_of(connection, "other.thing", before) == was


def test_a_key_that_never_changed_can_become_the_primary_key(connection: Connection, table: str) -> None:
    connection.execute("UPDATE item SET price = 21 WHERE id = 2")
    before, was = moment(connection), copy(connection, "item")
    connection.execute("ALTER TABLE item DROP CONSTRAINT item_pkey, ADD PRIMARY KEY (name)")
    between, then = moment(connection), copy(connection, "item")
    connection.execute("UPDATE item SET price = 22 WHERE name = 'two'")
    connection.execute("UPDATE item SET name = 'zwei' WHERE name = 'two'")
    connection.execute("DELETE FROM item WHERE id = 1")

    assert as_of(connection, "item", before) == was
    assert as_of(connection, "item", between) == then
    assert as_of(connection, "item", between, "two") == [row for row in then if "two" in row]
    assert as_of(connection, "item", moment(connection)) == copy(connection, "item")


def test_under_a_key_that_changed_before_it_was_the_key_history_begins_anew(
    connection: Connection, table: str
) -> None:
    connection.execute("UPDATE item SET name = 'zwei' WHERE id = 2")
    before = moment(connection)
    connection.execute("ALTER TABLE item DROP CONSTRAINT item_pkey, ADD PRIMARY KEY (name)")
    between, then = moment(connection), copy(connection, "item")
    connection.execute("INSERT INTO item VALUES (4, 'two', 4)")

    said = unknown(connection, "item", before)
    assert said
    assert said.message_primary
    assert "the history of table public.item does not reach back to " in said.message_primary
    assert as_of(connection, "item", between) == then
    assert as_of(connection, "item", moment(connection)) == copy(connection, "item")


@pytest.mark.parametrize("type_name", ["integer", "bigint"])
def test_under_a_key_that_was_computed_anew_history_begins_anew(
    connection: Connection, table: str, type_name: str
) -> None:
    before = moment(connection)
    connection.execute(f"ALTER TABLE item ALTER COLUMN id TYPE {type_name} USING id * 10")
    between, then = moment(connection), copy(connection, "item")
    connection.execute("INSERT INTO item VALUES (1, 'new', 0)")

    assert unknown(connection, "item", before)
    assert as_of(connection, "item", between) == then


def test_without_event_triggers_what_was_written_before_sync_is_not_taken_for_something_else(
    connection: Connection, table: str, without_event_triggers: None
) -> None:
    connection.execute("ALTER TABLE item ADD COLUMN new integer DEFAULT 7")
    connection.execute("UPDATE item SET new = 8 WHERE id = 2")
    connection.execute("SELECT pghistory.sync()")
    synced, then = moment(connection), copy(connection, "item")

    assert as_of(connection, "item", synced) == then
    connection.execute("UPDATE item SET new = 9")
    said = unknown(connection, "item", synced)
    assert said or as_of(connection, "item", synced) == then
    assert as_of(connection, "item", moment(connection)) == copy(connection, "item")
