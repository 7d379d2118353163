"""versions(): one object through time."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from typing import Any

import pytest
from history import Connection, call, refused, rows, track, value
from psycopg import errors

Connect = Callable[..., Connection]
ID = uuid.UUID("a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11")
ITEM = "CREATE TABLE item (id integer PRIMARY KEY, name text, price numeric)"
IMAGES = {"after": ("history",), "before": ("after_insert", "before_update", "before_delete", "before_truncate")}


@pytest.fixture(params=IMAGES)
def image(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def keep(connection: Connection, image: str, table: str = "item", **options: Any) -> None:
    for kind in IMAGES[image]:
        track(connection, table, kind=kind, **options)


def names(connection: Connection, obj: str, table: str = "item", column: str = "name") -> list[Any]:
    """What a column was in each version; in brackets where the version did not last."""
    return [
        [name] if is_empty else name
        for name, is_empty in rows(
            connection,
            f"SELECT (version).{column}, isempty(valid) FROM pghistory.versions(NULL::{table}, %s)",
            obj,
        )
    ]


def check(connection: Connection, obj: str, table: str = "item") -> None:
    """See that versions do not overlap, stand in order, and are what as_of() says, inside and at both ends."""
    versions = rows(
        connection,
        f"""SELECT lower(valid), upper(valid), isempty(valid), valid::text, version::text, (version).id::text
              FROM pghistory.versions(NULL::{table}, %s)""",
        obj,
    )
    lasting = [version for version in versions if not version[2]]
    for (_, upper, *_), (lower, *_) in zip(lasting, lasting[1:]):
        assert upper is not None
        assert upper <= lower
    for lower, upper, _, text, version, key in lasting:
        assert text.startswith("[")
        assert text.endswith(")")
        last = upper and f"timestamptz '{upper}' - interval '1 microsecond'"
        for at in (f"timestamptz '{lower}'", last or "clock_timestamp()"):
            past = rows(connection, f"SELECT t::text FROM pghistory.as_of(NULL::{table}, {at}, %s) AS t", key)
            assert past == [(version,)], (at, versions)


def test_versions_has_the_columns_and_the_arguments_of_the_contract(connection: Connection) -> None:
    assert rows(
        connection,
        """SELECT pg_get_function_arguments(oid), pg_get_function_result(oid) FROM pg_proc
            WHERE pronamespace = 'pghistory'::regnamespace AND proname = 'versions'""",
    ) == [
        ("rowtype anyelement, obj text", "TABLE(valid tstzrange, label text, context_id uuid, version anyelement)")
    ]


def test_every_version_stands_in_order_until_the_next(connection: Connection, image: str) -> None:
    connection.execute(ITEM)
    keep(connection, image)
    connection.execute("INSERT INTO item VALUES (1, 'a', 1), (2, 'z', 9)")
    connection.execute("UPDATE item SET name = 'b' WHERE id = 1")
    connection.execute("UPDATE item SET name = 'c', price = 1.0 WHERE id = 1")
    assert names(connection, "1") == ["a", "b", "c"]
    assert names(connection, "2") == ["z"]
    assert names(connection, "3") == []
    check(connection, "1")
    (last,) = rows(connection, "SELECT upper_inf(valid), lower_inc(valid) FROM pghistory.versions(NULL::item, '1') OFFSET 2")
    assert last == (True, True)


def test_versions_can_be_read_as_a_table(connection: Connection) -> None:
    connection.execute(ITEM)
    keep(connection, "after")
    connection.execute("INSERT INTO item VALUES (1, 'a', 1.50)")
    at = value(connection, "SELECT pg_xact_commit_timestamp(pgh_xid::xid) FROM item_event")
    assert rows(connection, "SELECT lower(valid), (version).* FROM pghistory.versions(NULL::item, '1')") == [
        (at, 1, "a", 1.5)
    ]


def test_a_version_has_the_label_and_the_context_of_what_made_it(connection: Connection, image: str) -> None:
    connection.execute(ITEM)
    keep(connection, image)
    connection.execute("INSERT INTO item VALUES (1, 'a', 1)")
    with connection.transaction():
        call(connection, "set_context", "{}", ID)
        connection.execute("UPDATE item SET name = 'b'")
    connection.execute("UPDATE item SET name = 'c'")
    labels = {"after": ["history"] * 3, "before": ["after_insert", "before_update", "before_update"]}[image]
    assert rows(connection, "SELECT label, context_id FROM pghistory.versions(NULL::item, '1')") == [
        (f"item.{labels[0]}", None),
        (f"item.{labels[1]}", ID),
        (f"item.{labels[2]}", None),
    ]


@pytest.mark.parametrize("how", ["DELETE FROM item", "TRUNCATE item"])
def test_a_row_that_went_has_an_end_and_may_come_again(connection: Connection, image: str, how: str) -> None:
    connection.execute(ITEM)
    keep(connection, image)
    connection.execute("INSERT INTO item VALUES (1, 'a', 1)")
    connection.execute(how)
    assert names(connection, "1") == ["a"]
    assert rows(connection, "SELECT upper_inf(valid) FROM pghistory.versions(NULL::item, '1')") == [(False,)]
    connection.execute("INSERT INTO item VALUES (1, 'b', 1)")
    connection.execute("UPDATE item SET name = 'c'")
    connection.execute(how)
    assert names(connection, "1") == ["a", "b", "c"]
    check(connection, "1")
    gaps = rows(
        connection,
        """SELECT upper(valid) < lead(lower(valid)) OVER (ORDER BY lower(valid)) FROM pghistory.versions(NULL::item, '1')""",
    )
    assert gaps == [(True,), (False,), (None,)]


def test_an_object_is_followed_through_its_keys(connection: Connection, image: str) -> None:
    connection.execute(ITEM)
    keep(connection, image)
    connection.execute("INSERT INTO item VALUES (1, 'a', 1), (2, 'z', 1)")
    connection.execute("UPDATE item SET id = 10, name = 'b' WHERE id = 1")
    connection.execute("UPDATE item SET name = 'c' WHERE id = 10")
    connection.execute("UPDATE item SET id = 11 WHERE id = 10")
    assert names(connection, "11", column="id") == [1, 10, 10, 11]
    assert names(connection, "11") == ["a", "b", "c", "c"]
    check(connection, "11")
    connection.execute("UPDATE item SET id = 1, name = 'y' WHERE id = 2")
    assert names(connection, "1") == ["z", "y"]
    assert names(connection, "11") == ["a", "b", "c", "c"]
    check(connection, "1")


def test_the_object_that_had_a_key_last_ends_when_it_got_another(connection: Connection, image: str) -> None:
    connection.execute(ITEM)
    keep(connection, image)
    connection.execute("INSERT INTO item VALUES (1, 'a', 1)")
    connection.execute("UPDATE item SET name = 'b'")
    connection.execute("UPDATE item SET id = 2, name = 'c'")
    assert names(connection, "1") in (["a", "b"], ["a", "b", "c"])
    ((lower, upper),) = rows(
        connection, "SELECT lower(valid), upper(valid) FROM pghistory.versions(NULL::item, '1') WHERE (version).name = 'b'"
    )
    assert upper == value(
        connection, "SELECT lower(valid) FROM pghistory.versions(NULL::item, '2') WHERE (version).name = 'c'"
    )
    assert lower < upper


def test_versions_that_did_not_last_are_empty(connection: Connection, image: str) -> None:
    connection.execute(ITEM)
    keep(connection, image)
    connection.execute("INSERT INTO item VALUES (1, 'a', 1); UPDATE item SET name = 'b'; UPDATE item SET name = 'c'")
    connection.execute("UPDATE item SET name = 'd'; UPDATE item SET name = 'e'; DELETE FROM item")
    assert names(connection, "1") == [["a"], ["b"], "c", ["d"], ["e"]]
    check(connection, "1")


def test_a_row_without_events_is_what_it_was_since_it_is_tracked(connection: Connection, image: str) -> None:
    connection.execute(ITEM + "; INSERT INTO item VALUES (1, 'a', 1), (2, 'b', 2)")
    keep(connection, image)
    since = value(connection, "SELECT max(since) FROM pghistory.tracker WHERE kind <> 'before_truncate'")
    assert rows(connection, "SELECT lower(valid) >= %s, label, (version).name FROM pghistory.versions(NULL::item, '1')", since) == [
        (True, None, "a")
    ]
    check(connection, "1")
    if image == "before":
        connection.execute("UPDATE item SET name = 'x' WHERE id = 1")
        connection.execute("DELETE FROM item WHERE id = 2")
        assert names(connection, "1") == ["a", "x"]
        assert names(connection, "2") == ["b"]
        check(connection, "1")
        check(connection, "2")


def test_a_backfilled_row_is_known_from_when_it_is_tracked(connection: Connection) -> None:
    connection.execute(ITEM + "; INSERT INTO item VALUES (1, 'a', 1), (2, 'z', 1)")
    keep(connection, "after")
    since = value(connection, "SELECT max(since) FROM pghistory.tracker WHERE kind <> 'before_truncate'")
    call(connection, "backfill", "item")
    connection.execute("UPDATE item SET name = 'b' WHERE id = 1")
    assert names(connection, "1") == ["a", "b"]
    assert value(connection, "SELECT min(lower(valid)) FROM pghistory.versions(NULL::item, '1')") >= since
    for obj in ("1", "2"):
        check(connection, obj)


def test_a_row_whose_first_event_is_its_end(connection: Connection, image: str) -> None:
    connection.execute(ITEM + "; INSERT INTO item VALUES (1, 'a', 1)")
    keep(connection, image)
    connection.execute("DELETE FROM item")
    assert names(connection, "1") == ["a"]
    check(connection, "1")


def test_events_by_hand_end_no_version(connection: Connection, image: str) -> None:
    connection.execute(ITEM)
    keep(connection, image)
    label = {"after": "item.history", "before": "item.before_update"}[image]
    connection.execute("INSERT INTO item VALUES (1, 'a', 1)")
    call(connection, "create_event", "item", "1", label)
    connection.execute("UPDATE item SET name = 'b'")
    call(connection, "create_event", "item", "1", label)
    assert names(connection, "1") == ["a", "b"]
    check(connection, "1")
    connection.execute("DELETE FROM item")
    assert names(connection, "1") == ["a", "b"]
    check(connection, "1")


def test_times_are_those_of_the_commits_where_the_server_knows_them(
    connection: Connection, connect: Connect, image: str
) -> None:
    connection.execute(ITEM)
    keep(connection, image)
    connection.execute("INSERT INTO item VALUES (1, 'a', 1)")
    early = connect(autocommit=False)
    early.execute("SELECT now()")
    connection.execute("UPDATE item SET name = 'b'")
    early.execute("UPDATE item SET name = 'c'")  # in a transaction that began before
    early.commit()
    assert names(connection, "1") == ["a", "b", "c"]
    check(connection, "1")
    commits = [
        commit for (commit,) in rows(connection, "SELECT pg_xact_commit_timestamp(pgh_xid::xid) FROM item_event ORDER BY pgh_id")
    ]
    assert [lower for (lower,) in rows(connection, "SELECT lower(valid) FROM pghistory.versions(NULL::item, '1')")] == commits


def test_columns_that_changed_are_as_the_table_has_them_now(connection: Connection, image: str) -> None:
    connection.execute(ITEM)
    keep(connection, image)
    connection.execute("INSERT INTO item VALUES (1, 'a', 1)")
    connection.execute("UPDATE item SET name = 'b'")
    connection.execute("ALTER TABLE item RENAME name TO title; ALTER TABLE item DROP price; ALTER TABLE item ADD kind text")
    connection.execute("UPDATE item SET kind = 'x'")
    assert rows(connection, "SELECT (version).* FROM pghistory.versions(NULL::item, '1')") == [
        *((1, "a", None), (1, "b", None), (1, "b", "x"))
    ]


def test_keys_of_several_columns_and_odd_names(connection: Connection, image: str) -> None:
    connection.execute(
        """CREATE TABLE "{t} %s" ("k%I" text, "B" integer, "it's {x}" json, PRIMARY KEY ("k%I", "B"))""".encode()
    )
    keep(connection, image, '"{t} %s"')
    connection.execute("""INSERT INTO "{t} %s" VALUES ('a''{%', 1, '{"a":  1}'), ('a''{%', 2, NULL)""".encode())
    connection.execute("""UPDATE "{t} %s" SET "it's {x}" = NULL WHERE "B" = 1""".encode())
    found = connection.execute(
        """SELECT (version)."it's {x}"::text FROM pghistory.versions(NULL::"{t} %s", '{"k%I": "a''{%", "B": 1}')""".encode()
    )
    assert found.fetchall() == [('{"a":  1}',), (None,)]


def test_generated_columns_and_partitions(connection: Connection, image: str) -> None:
    connection.execute(
        """CREATE TABLE item (id integer PRIMARY KEY, name text, long integer GENERATED ALWAYS AS (length(name)) STORED)
               PARTITION BY RANGE (id);
           CREATE TABLE item_low PARTITION OF item FOR VALUES FROM (0) TO (10);
           CREATE TABLE item_high PARTITION OF item FOR VALUES FROM (10) TO (20)"""
    )
    keep(connection, image)
    connection.execute("INSERT INTO item VALUES (1, 'a')")
    connection.execute("UPDATE item SET name = 'bb'")
    assert rows(connection, "SELECT (version).* FROM pghistory.versions(NULL::item, '1')") == [(1, "a", 1), (1, "bb", 2)]
    check(connection, "1")


def test_what_is_not_kept_is_refused(connection: Connection) -> None:
    connection.execute(ITEM)
    query = "SELECT * FROM pghistory.versions(NULL::item, '1')"
    state = errors.ObjectNotInPrerequisiteState
    refused(connection, state, "table public.item is not tracked", query)
    track(connection, "item")
    refused(connection, state, "do not tell what it was like", query)
    refused(connection, errors.WrongObjectType, "is not the row type of a table", "SELECT * FROM pghistory.versions(1, '1')")
    refused(connection, errors.NullValueNotAllowed, "must not be null", "SELECT * FROM pghistory.versions(NULL::item, NULL)")


def test_only_events_that_the_caller_may_read(connection: Connection, connect: Connect, role: Callable[..., str]) -> None:
    connection.execute(ITEM)
    keep(connection, "after")
    session = connect(user=role("reader"))
    with pytest.raises(errors.InsufficientPrivilege):
        names(session, "1")
