"""backfill(): a first event for every row that has none."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import pytest
from history import Connection, call, events, refused, rows, track, value
from oracle import check_last_events, read_table
from psycopg import errors
from test_concurrency import PATIENCE, wait_until_blocked

Connect = Callable[..., Connection]
ID = uuid.UUID("a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11")
ITEM = "CREATE TABLE item (id integer PRIMARY KEY, name text);"
ROWS = "INSERT INTO item SELECT number, 'v' || number FROM generate_series(1, 5) AS number;"
PARTITIONS = """
    CREATE TABLE item (id integer, name text, PRIMARY KEY (id)) PARTITION BY RANGE (id);
    CREATE TABLE item_low PARTITION OF item FOR VALUES FROM (MINVALUE) TO (3);
    CREATE TABLE item_high PARTITION OF item FOR VALUES FROM (3) TO (MAXVALUE) PARTITION BY LIST (id);
    CREATE TABLE item_rest (name text, id integer NOT NULL);
    ALTER TABLE item_high ATTACH PARTITION item_rest DEFAULT;
"""


@pytest.fixture
def start() -> Iterator[Callable[..., Future[Any]]]:
    with ThreadPoolExecutor() as executor:
        yield executor.submit


def test_every_row_gets_an_event_and_no_row_gets_two(connection: Connection) -> None:
    connection.execute(ITEM + ROWS)
    track(connection, "item", kind="history")
    assert call(connection, "backfill", "item") == 5
    assert call(connection, "backfill", "item") == 0
    assert events(connection, "item_event", "pgh_operation, pgh_label, pgh_obj_id, id, name") == [
        ("S", "item.history", number, number, f"v{number}") for number in range(1, 6)
    ]


def test_rows_that_have_an_event_of_the_label_get_none(connection: Connection) -> None:
    connection.execute(ITEM + ROWS)
    track(connection, "item", kind="history")
    track(connection, "item", "second", kind="snapshot")
    connection.execute("UPDATE item SET name = 'x' WHERE id = 1; INSERT INTO item VALUES (6, 'y')")
    assert call(connection, "backfill", "item") == 4
    assert call(connection, "backfill", "item", "second") == 4
    assert sorted(events(connection, "item_event", "id", "second")) == [1, 2, 3, 4, 5, 6]


def test_a_row_that_came_under_a_key_that_had_events_has_its_own(connection: Connection) -> None:
    connection.execute(ITEM + ROWS)
    track(connection, "item", kind="before_delete")
    track(connection, "item", kind="history", event_table="whole")
    connection.execute("DELETE FROM item WHERE id = 1; INSERT INTO item VALUES (1, 'again')")
    assert call(connection, "backfill", "item") == 4


def test_the_label_is_that_of_the_tracker_that_knows_most(connection: Connection) -> None:
    connection.execute(ITEM + ROWS)
    track(connection, "item", "removal", kind="before_delete")
    track(connection, "item", "names", kind="snapshot", fields=["name"])
    call(connection, "backfill", "item")
    track(connection, "item", "all", kind="history")
    call(connection, "backfill", "item")
    assert set(rows(connection, "SELECT DISTINCT pgh_label FROM pghistory.events('item')")) == {("names",), ("all",)}


def test_backfilled_rows_are_known_from_when_they_were_tracked(connection: Connection) -> None:
    connection.execute(ITEM + ROWS)
    track(connection, "item", kind="history")
    tracked = value(connection, "SELECT clock_timestamp()")
    call(connection, "backfill", "item")
    filled = value(connection, "SELECT clock_timestamp()")
    connection.execute("UPDATE item SET name = 'x' WHERE id = 1; DELETE FROM item WHERE id = 2")
    for at in (tracked, filled):
        assert rows(connection, "SELECT id, name FROM pghistory.as_of(NULL::item, %s) ORDER BY id", at) == [
            (number, f"v{number}") for number in range(1, 6)
        ]


def test_all_can_be_filled_page_by_page(connection: Connection) -> None:
    connection.execute(ITEM + "INSERT INTO item SELECT number, repeat('x', 100) FROM generate_series(1, 1000) AS number")
    track(connection, "item", kind="history")
    pages = value(connection, "SELECT pg_relation_size('item') / current_setting('block_size')::integer")
    assert pages > 10
    first = call(connection, "backfill", "item", pages="[0,5)")
    assert 0 < first < 1000
    assert call(connection, "backfill", "item", pages="[0,5)") == 0
    assert events(connection, "item_event", "id") == list(range(1, first + 1))
    written = [call(connection, "backfill", "item", pages=f"[{page},{page + 1})") for page in range(pages)]
    assert written[:5] == [0] * 5
    assert first + sum(written) == 1000
    assert call(connection, "backfill", "item") == 0


@pytest.mark.parametrize("pages", ["[,)", "[0,)", "[,100)", "[0,9000000000)", "[0,4294967296)"])
def test_ranges_of_pages_may_be_open_and_too_long(connection: Connection, pages: str) -> None:
    connection.execute(ITEM + ROWS)
    track(connection, "item", kind="history")
    assert call(connection, "backfill", "item", pages=pages) == 5


@pytest.mark.parametrize("pages", ["[5,9)", "empty", "[9000000000,)"])
def test_ranges_without_rows_are_done_at_once(connection: Connection, pages: str) -> None:
    connection.execute(ITEM + ROWS)
    track(connection, "item", kind="history")
    assert call(connection, "backfill", "item", pages=pages) == 0


def test_an_empty_table_has_nothing_to_fill(connection: Connection) -> None:
    connection.execute(ITEM)
    track(connection, "item", kind="history")
    assert call(connection, "backfill", "item") == 0


def test_partitions_are_filled_with_their_table_or_by_themselves(connection: Connection) -> None:
    connection.execute(PARTITIONS + ROWS)
    track(connection, "item", kind="history")
    assert call(connection, "backfill", "item_low") == 2
    assert call(connection, "backfill", "item_rest", pages="[0,1)") == 3
    assert call(connection, "backfill", "item") == 0
    connection.execute("TRUNCATE item_event")
    assert call(connection, "backfill", "item_high") == 3
    assert call(connection, "backfill", "item") == 2
    assert sorted(events(connection, "item_event", "id, name")) == [(number, f"v{number}") for number in range(1, 6)]


def test_rows_that_inherit_are_not_the_tables(connection: Connection) -> None:
    connection.execute(ITEM + ROWS + "CREATE TABLE special () INHERITS (item); INSERT INTO special VALUES (9)")
    track(connection, "item", kind="history")
    assert call(connection, "backfill", "item") == 5


def test_the_context_is_written_down(connection: Connection) -> None:
    connection.execute(ITEM + ROWS)
    track(connection, "item", kind="history")
    with connection.transaction():
        call(connection, "set_context", '{"why": "first"}', ID)
        call(connection, "backfill", "item")
    assert set(rows(connection, "SELECT pgh_context_id, pgh_context::text FROM pghistory.events('item')")) == {
        (ID, '{"why": "first"}')
    }
    assert rows(connection, "SELECT id FROM pghistory.context") == [(ID,)]


@pytest.mark.parametrize("options", [{"append_only": True}, {"context": "inline"}, {"context": "none"}, {"level": "statement"}])
def test_every_event_table_can_be_filled(connection: Connection, options: dict[str, Any]) -> None:
    connection.execute(ITEM + ROWS)
    track(connection, "item", kind="history", **options)
    assert call(connection, "backfill", "item") == 5
    assert call(connection, "backfill", "item") == 0


def test_keys_of_several_columns_and_odd_names(connection: Connection) -> None:
    connection.execute(
        """CREATE SCHEMA "S %s"; CREATE TABLE "S %s"."{t}'s" ("k%'I" text, "B" integer, "{x}" json, PRIMARY KEY ("k%'I", "B"));
           INSERT INTO "S %s"."{t}'s" VALUES ('a''%', 1, '{ }'), ('a''%', 2, NULL)""".encode()
    )
    table = """"S %s"."{t}'s\""""
    track(connection, table, "it's {l} %s", kind="history")
    assert call(connection, "backfill", table) == 2
    assert call(connection, "backfill", table, "it's {l} %s") == 0


def test_generated_columns_and_fewer_fields(connection: Connection) -> None:
    connection.execute(
        "CREATE TABLE item (id integer PRIMARY KEY, a integer, twice integer GENERATED ALWAYS AS (a * 2) STORED);"
        "INSERT INTO item VALUES (1, 2)"
    )
    track(connection, "item", kind="history")
    track(connection, "item", "twice", kind="history", fields=["twice"], event_table="item_event")
    call(connection, "backfill", "item")
    call(connection, "backfill", "item", "twice")
    assert events(connection, "item_event", "id, a, twice") == [(1, 2, 4), (None, None, 4)]


def test_the_filled_events_are_no_work_of_the_tables_triggers(connection: Connection) -> None:
    connection.execute(ITEM + ROWS)
    before = rows(connection, "SELECT xmin::text, ctid::text FROM item")
    track(connection, "item", kind="history")
    call(connection, "backfill", "item")
    assert rows(connection, "SELECT xmin::text, ctid::text FROM item") == before


# Refusals and rights


def backfill_refused(connection: Connection, error: Any, message: str, *arguments: object) -> Any:
    parts = ", ".join(["%s"] * len(arguments))
    return refused(connection, error, message, f"SELECT pghistory.backfill({parts})", *arguments)


def test_what_cannot_be_filled_is_refused(connection: Connection) -> None:
    connection.execute(ITEM + "CREATE TABLE keyless (a integer); CREATE VIEW look AS TABLE item")
    state = errors.ObjectNotInPrerequisiteState
    backfill_refused(connection, state, "table public.item is not tracked", "item")
    track(connection, "keyless", kind="history")
    backfill_refused(connection, state, "table public.item is not tracked", "item")
    backfill_refused(connection, state, "events of table public.keyless do not name their object", "keyless")
    track(connection, "item", kind="history")
    backfill_refused(connection, errors.UndefinedObject, "label", "item", "other")
    backfill_refused(connection, errors.NullValueNotAllowed, "must not be null", None)


def test_pages_of_a_partitioned_table_are_refused(connection: Connection) -> None:
    connection.execute(PARTITIONS)
    track(connection, "item", kind="history")
    for table in ("item", "item_high"):
        backfill_refused(
            connection, errors.WrongObjectType, f"table public.{table} has no pages of its own", table, None, "[0,1)"
        )


def test_only_the_owner_may_fill(connection: Connection, connect: Connect, role: Callable[..., str]) -> None:
    owner, writer = role("owner"), role("writer")
    connection.execute(ITEM + ROWS)
    connection.execute(f"ALTER TABLE item OWNER TO {owner}; GRANT ALL ON item TO {writer}; GRANT CREATE ON SCHEMA public TO {owner}")
    owning, writing = connect(user=owner), connect(user=writer)
    track(owning, "item", kind="history")
    with pytest.raises(errors.InsufficientPrivilege, match="must be owner of table"):
        call(writing, "backfill", "item")
    assert call(owning, "backfill", "item") == 5
    assert call(connection, "backfill", "item") == 0


# While writers run


def test_a_row_that_a_writer_has_open_is_waited_for_and_gets_one_first_event(
    connection: Connection, connect: Connect, start: Callable[..., Future[Any]]
) -> None:
    connection.execute(ITEM + ROWS)
    writer, filler = connect(autocommit=False), connect()
    track(connection, "item", kind="history")
    writer.execute("UPDATE item SET name = 'x' WHERE id = 2")
    writer.execute("DELETE FROM item WHERE id = 3")
    writer.execute("UPDATE item SET id = 40 WHERE id = 4")
    filling = start(call, filler, "backfill", "item")
    wait_until_blocked(connection, filler)
    writer.commit()
    assert filling.result(PATIENCE) == 2
    assert sorted(events(connection, "item_event", "pgh_obj_id, pgh_operation, name")) == [
        *((1, "S", "v1"), (2, "U", "x"), (3, "D", "v3"), (5, "S", "v5"), (40, "U", "v4"))
    ]


def test_a_writer_that_thinks_better_of_it_leaves_the_row_to_be_filled(
    connection: Connection, connect: Connect, start: Callable[..., Future[Any]]
) -> None:
    connection.execute(ITEM + ROWS)
    writer, filler = connect(autocommit=False), connect()
    track(connection, "item", kind="history")
    writer.execute("UPDATE item SET name = 'x' WHERE id = 2; DELETE FROM item WHERE id = 3")
    filling = start(call, filler, "backfill", "item")
    wait_until_blocked(connection, filler)
    writer.rollback()
    assert filling.result(PATIENCE) == 5
    assert sorted(events(connection, "item_event", "id, name"))[1:3] == [(2, "v2"), (3, "v3")]


def test_a_writer_waits_and_his_event_comes_after_the_first(
    connection: Connection, connect: Connect, start: Callable[..., Future[Any]]
) -> None:
    connection.execute(ITEM + ROWS)
    filler, writer = connect(autocommit=False), connect()
    track(connection, "item", kind="history")
    call(filler, "backfill", "item")
    writing = start(writer.execute, "UPDATE item SET name = 'x' WHERE id = 2")
    wait_until_blocked(connection, writer)
    filler.commit()
    writing.result(PATIENCE)
    assert events(connection, "item_event WHERE id = 2", "pgh_operation, name") == [("S", "v2"), ("U", "x")]


def test_two_fillers_at_once_write_one_event_for_each_row(
    connection: Connection, connect: Connect, start: Callable[..., Future[Any]]
) -> None:
    connection.execute(ITEM + ROWS)
    track(connection, "item", kind="history")
    first, second = connect(autocommit=False), connect()
    assert call(first, "backfill", "item") == 5
    filling = start(call, second, "backfill", "item")
    wait_until_blocked(connection, second)
    first.commit()
    assert filling.result(PATIENCE) == 0
    assert events(connection, "item_event", "id") == [1, 2, 3, 4, 5]


def test_foreign_keys_can_be_checked_while_rows_are_filled(connection: Connection, connect: Connect) -> None:
    connection.execute(ITEM + ROWS + "CREATE TABLE part (item_id integer REFERENCES item)")
    track(connection, "item", kind="history")
    filler, writer = connect(autocommit=False), connect(options="-c lock_timeout=2s")
    call(filler, "backfill", "item")
    writer.execute("INSERT INTO part VALUES (1)")


def test_what_is_filled_while_many_write_is_what_was_there(connection: Connection, connect: Connect) -> None:
    connection.execute(ITEM + "INSERT INTO item SELECT number, '0' FROM generate_series(1, 400) AS number")
    track(connection, "item", kind="history")
    sessions = [connect() for _ in range(3)]

    def write(number: int) -> None:
        for round in range(60):
            row = (number * 131 + round * 17) % 400 + 1
            sessions[number].execute(
                "DELETE FROM item WHERE id = %s" if round % 7 == 3 else "UPDATE item SET name = name || 'x' WHERE id = %s",
                (row,),
            )

    def fill() -> None:
        for page in range(4):
            call(sessions[2], "backfill", "item", pages=f"[{page},{page + 1})")

    with ThreadPoolExecutor(3) as executor:
        for future in (executor.submit(fill), *(executor.submit(write, number) for number in range(2))):
            future.result(PATIENCE)
    call(connection, "backfill", "item")
    check_last_events(connection, read_table(connection, "public", "item"), "item_event")
    assert rows(
        connection,
        """SELECT id FROM item_event WHERE pgh_operation = 'S' GROUP BY id HAVING count(*) > 1
           UNION ALL
           SELECT e.id FROM item_event AS e JOIN item_event AS s ON s.id = e.id AND s.pgh_id > e.pgh_id
            WHERE s.pgh_operation = 'S' AND e.pgh_operation <> 'S'""",
    ) == []
