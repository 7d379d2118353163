"""Events name their object by its key, whatever becomes of the key."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import psycopg
import pytest
from history import Connection, events, rows, track, value

if TYPE_CHECKING:
    from conftest import Follow

TABLE = "CREATE TABLE item (id integer PRIMARY KEY, code text NOT NULL, part integer NOT NULL, note text)"


@pytest.fixture(autouse=True)
def item(connection: Connection) -> None:
    """A table with one row that is to come."""
    connection.execute(TABLE)


def key_columns(connection: Connection, event_table: str = "item_event") -> dict[str, str]:
    """The columns of an event table that name the object, with their types."""
    return dict(
        rows(
            connection,
            """SELECT attname::text, format_type(atttypid, atttypmod) FROM pg_attribute
                WHERE attrelid = %s::regclass AND attname LIKE 'pgh\\_obj%%' AND NOT attisdropped
                ORDER BY attnum""",
            event_table,
        )
    )


def has_index(connection: Connection, *columns: str, event_table: str = "item_event") -> bool:
    """Is there an index on these columns, in this order, from the first on?"""
    found = value(
        connection,
        """SELECT count(*) FROM pg_index AS i
            WHERE indrelid = %s::regclass
              AND (SELECT array_agg(a.attname::text ORDER BY k.place)
                     FROM unnest(i.indkey::smallint[]) WITH ORDINALITY AS k(number, place)
                          JOIN pg_attribute AS a ON a.attrelid = i.indrelid AND a.attnum = k.number) = %s""",
        event_table,
        list(columns),
    )
    return bool(found)


@pytest.mark.parametrize("options", [{}, {"fields": ["note"]}, {"fields": []}, {"exclude": ["id"]}], ids=str)
def test_a_retyped_key_is_followed_in_sessions_that_have_written_before(
    options: dict[str, list[str]], follow: Follow, connection: Connection, connect: Callable[..., Connection]
) -> None:
    table = track(connection, "item", kind="history", **options)
    other = connect()
    for session, key in ((connection, 1), (other, 2)):
        session.execute("INSERT INTO item VALUES (%s, 'a', 1)", (key,))
        session.execute("UPDATE item SET note = 'x' WHERE id = %s", (key,))
        session.execute("DELETE FROM item WHERE id = %s", (key,))
    follow("ALTER TABLE item ALTER COLUMN id TYPE bigint")
    for session, key in ((connection, 10**10), (other, 10**10 + 1)):
        session.execute("INSERT INTO item VALUES (%s, 'a', 1)", (key,))
        session.execute("UPDATE item SET note = 'x' WHERE id = %s", (key,))
        session.execute("DELETE FROM item WHERE id = %s", (key,))
    assert key_columns(connection, table) == {"pgh_obj_id": "bigint"}
    assert events(connection, table, "pgh_obj_id") == [
        key for key in (1, 2, 10**10, 10**10 + 1) for _ in "IUD"
    ]
    assert has_index(connection, "pgh_obj_id", "pgh_id", event_table=table)


def test_a_key_of_a_type_that_old_keys_cannot_become_has_them_beside_it(
    follow: Follow, connection: Connection
) -> None:
    track(connection, "item", kind="history")
    connection.execute("INSERT INTO item VALUES (1, 'a', 1)")
    follow("ALTER TABLE item ALTER COLUMN id TYPE uuid USING gen_random_uuid()")
    connection.execute("UPDATE item SET note = 'new'")
    assert key_columns(connection) == {"pgh_obj_id__1": "integer", "pgh_obj_id": "uuid"}
    ((_, old), (new, nothing)) = events(connection, "item_event", "pgh_obj_id::text, pgh_obj_id__1")
    assert (new, old, nothing) == (value(connection, "SELECT id::text FROM item"), 1, None)
    assert has_index(connection, "pgh_obj_id", "pgh_id")


def test_a_renamed_key_is_followed(follow: Follow, connection: Connection) -> None:
    track(connection, "item", kind="history")
    track(connection, "item", "pair", obj_key=["part", "code"], event_table="pair_event")
    connection.execute("INSERT INTO item VALUES (1, 'a', 7)")
    follow(
        "ALTER TABLE item RENAME COLUMN id TO number",
        "ALTER TABLE item RENAME COLUMN part TO piece",
        "ALTER TABLE item RENAME COLUMN code TO part",
        "ALTER TABLE item RENAME CONSTRAINT item_pkey TO item_key",
    )
    connection.execute("UPDATE item SET note = 'x', number = 2, part = 'b'")
    assert events(connection, "item_event", "pgh_obj_id, pgh_other_id, number") == [(1, None, 1), (2, 1, 2)]
    assert events(connection, "pair_event", "pgh_obj_piece, pgh_obj_part, pgh_other_part, piece, part") == [
        (7, "a", None, 7, "a"),
        (7, "b", "a", 7, "b"),
    ]
    assert rows(connection, "SELECT obj_key FROM pghistory.trackers() ORDER BY label") == [
        (["number"],),
        (["piece", "part"],),
    ]


@pytest.mark.parametrize(
    "statements",
    [
        ["ALTER TABLE item DROP CONSTRAINT item_pkey", "ALTER TABLE item ADD PRIMARY KEY (code)"],
        ["ALTER TABLE item DROP CONSTRAINT item_pkey, ADD PRIMARY KEY (code)"],
        [
            "ALTER TABLE item DROP CONSTRAINT item_pkey",
            "CREATE UNIQUE INDEX item_code ON item (code)",
            "ALTER TABLE item ADD PRIMARY KEY USING INDEX item_code",
        ],
        ["ALTER TABLE item DROP COLUMN id, ADD PRIMARY KEY (code)"],
    ],
    ids=["one after the other", "at once", "using an index", "with its column"],
)
def test_another_primary_key_names_older_events_too(
    statements: list[str], follow: Follow, connection: Connection, connect: Callable[..., Connection]
) -> None:
    track(connection, "item", kind="history")
    other = connect()
    for session, key, code in ((connection, 1, "a"), (other, 2, "b")):
        session.execute("INSERT INTO item VALUES (%s, %s, 1)", (key, code))
        session.execute("UPDATE item SET note = 'x' WHERE code = %s", (code,))
    follow(*statements)
    for session, code in ((connection, "a"), (other, "b")):
        session.execute("UPDATE item SET code = upper(code) WHERE code = %s", (code,))
        session.execute("DELETE FROM item WHERE code = upper(%s)", (code,))
    assert events(connection, "item_event", "pgh_obj_id, pgh_other_id, pgh_obj_id__1") == [
        *[("a", None, 1)] * 2,
        *[("b", None, 2)] * 2,
        *[("A", "a", None), ("A", None, None), ("B", "b", None), ("B", None, None)],
    ]
    assert has_index(connection, "pgh_obj_id", "pgh_id")


def test_a_primary_key_of_more_columns_names_objects_by_all(follow: Follow, connection: Connection) -> None:
    track(connection, "item", kind="history")
    connection.execute("INSERT INTO item VALUES (1, 'a', 7)")
    follow("ALTER TABLE item DROP CONSTRAINT item_pkey, ADD PRIMARY KEY (part, code)")
    connection.execute("UPDATE item SET code = 'b'")
    assert events(connection, "item_event", "pgh_obj_part, pgh_obj_code, pgh_other_part, pgh_other_code") == [
        (7, "a", None, None),
        (7, "b", 7, "a"),
    ]
    assert has_index(connection, "pgh_obj_part", "pgh_obj_code", "pgh_id")
    follow("ALTER TABLE item DROP CONSTRAINT item_pkey, ADD PRIMARY KEY (code, part)")
    connection.execute("UPDATE item SET part = 8")
    assert events(connection, "item_event", "pgh_obj_code, pgh_obj_part")[-1] == ("b", 8)
    follow("ALTER TABLE item DROP CONSTRAINT item_pkey, ADD PRIMARY KEY (id)")
    connection.execute("UPDATE item SET note = 'x'")
    assert events(connection, "item_event", "pgh_obj_id") == [1, 1, 1, 1]


def test_a_primary_key_that_comes_later_names_objects(follow: Follow, connection: Connection) -> None:
    connection.execute("ALTER TABLE item DROP CONSTRAINT item_pkey")
    track(connection, "item", kind="history")
    connection.execute("INSERT INTO item VALUES (1, 'a', 7)")
    assert key_columns(connection) == {}
    follow("ALTER TABLE item ADD PRIMARY KEY (id)")
    connection.execute("UPDATE item SET id = 2")
    assert events(connection, "item_event", "pgh_obj_id, pgh_other_id") == [(1, None), (2, 1)]
    assert has_index(connection, "pgh_obj_id", "pgh_id")


def test_without_a_primary_key_its_columns_go_on_naming_objects(
    follow: Follow, connection: Connection
) -> None:
    track(connection, "item", kind="history")
    connection.execute("INSERT INTO item VALUES (1, 'a', 7)")
    follow("ALTER TABLE item DROP CONSTRAINT item_pkey")
    connection.execute("UPDATE item SET id = 2")
    assert events(connection, "item_event", "pgh_obj_id, pgh_other_id") == [(1, None), (2, 1)]
    follow("ALTER TABLE item DROP COLUMN id")
    connection.execute("UPDATE item SET note = 'x'")
    connection.execute("DELETE FROM item")
    assert events(connection, "item_event", "pgh_obj_id__1, code") == [(1, "a"), (2, "a"), *[(None, "a")] * 2]


def test_a_key_that_was_given_is_kept_whatever_the_primary_key_is(
    follow: Follow, connection: Connection
) -> None:
    track(connection, "item", kind="history", obj_key=["code"])
    connection.execute("INSERT INTO item VALUES (1, 'a', 7)")
    follow("ALTER TABLE item DROP CONSTRAINT item_pkey, ADD PRIMARY KEY (part)")
    follow("ALTER TABLE item ALTER COLUMN code TYPE varchar(5)", "ALTER TABLE item RENAME code TO sign")
    connection.execute("UPDATE item SET note = 'x'")
    assert events(connection, "item_event", "pgh_obj_id, sign") == [("a", "a")] * 2
    follow("ALTER TABLE item DROP COLUMN sign")
    connection.execute("UPDATE item SET note = 'y'")
    assert events(connection, "item_event", "pgh_operation, sign, note")[-1] == ("U", None, "y")


def test_a_key_that_is_not_recorded_is_followed(follow: Follow, connection: Connection) -> None:
    track(connection, "item", kind="history", fields=["note"], event_table="item_event")
    connection.execute("INSERT INTO item VALUES (1, 'a', 7)")
    follow("ALTER TABLE item DROP CONSTRAINT item_pkey, ADD PRIMARY KEY (code)")
    connection.execute("UPDATE item SET note = 'x'")
    assert events(connection, "item_event", "pgh_obj_id, pgh_obj_id__1, note") == [
        (None, 1, None),
        ("a", None, "x"),
    ]


def test_a_key_of_several_given_columns_that_loses_one_names_nothing_any_more(
    follow: Follow, connection: Connection
) -> None:
    track(connection, "item", kind="history", obj_key=["code", "part"])
    connection.execute("INSERT INTO item VALUES (1, 'a', 7)")
    follow("ALTER TABLE item DROP COLUMN part")
    connection.execute("UPDATE item SET code = 'b'")
    assert events(connection, "item_event", "code, part") == [("a", 7), ("b", None)]


@pytest.mark.parametrize("append_only", [False, True])
def test_append_only_events_learn_their_new_key_and_stay_append_only(
    append_only: bool, follow: Follow, connection: Connection
) -> None:
    track(connection, "item", kind="history", append_only=append_only)
    connection.execute("INSERT INTO item VALUES (1, 'a', 7)")
    follow("ALTER TABLE item DROP CONSTRAINT item_pkey, ADD PRIMARY KEY (code)")
    follow("ALTER TABLE item ALTER COLUMN part TYPE smallint, ALTER COLUMN note TYPE integer USING 1")
    assert events(connection, "item_event", "pgh_obj_id, part") == [("a", 7)]
    if append_only:
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            connection.execute("DELETE FROM item_event")


@pytest.mark.parametrize("obj_fk", ["cascade", "set null"])
def test_a_real_foreign_key_follows_the_key(obj_fk: str, follow: Follow, connection: Connection) -> None:
    track(connection, "item", obj_fk=obj_fk)
    connection.execute("INSERT INTO item VALUES (1, 'a', 7)")
    follow("ALTER TABLE item ALTER COLUMN id TYPE bigint")
    follow("ALTER TABLE item RENAME COLUMN id TO number", "ALTER TABLE item RENAME TO thing")
    connection.execute("UPDATE thing SET number = 10000000000, note = 'x'")
    assert set(events(connection, "item_event", "pgh_obj_id")) == {10**10}
    connection.execute("DELETE FROM thing")
    assert set(events(connection, "item_event", "pgh_obj_id")) == ({None} if obj_fk == "set null" else set())


def test_a_real_foreign_key_goes_to_another_primary_key(follow: Follow, connection: Connection) -> None:
    track(connection, "item", obj_fk="cascade")
    connection.execute("INSERT INTO item VALUES (1, 'a', 7)")
    follow("ALTER TABLE item DROP CONSTRAINT item_pkey CASCADE, ADD PRIMARY KEY (code)")
    connection.execute("UPDATE item SET note = 'x'")
    assert events(connection, "item_event", "pgh_obj_id") == ["a", "a"]
    connection.execute("DELETE FROM item")
    assert events(connection, "item_event") == []


def test_leftovers_of_keys_do_not_keep_their_types(follow: Follow, connection: Connection) -> None:
    connection.execute("CREATE TYPE colour AS ENUM ('blue')")
    connection.execute("CREATE TABLE paint (colour colour PRIMARY KEY, number integer NOT NULL)")
    track(connection, "paint", kind="history")
    connection.execute("INSERT INTO paint VALUES ('blue', 1)")
    follow("ALTER TABLE paint DROP COLUMN colour, ADD PRIMARY KEY (number)")
    follow("DROP TYPE colour")
    connection.execute("UPDATE paint SET number = 2")
    assert events(connection, "paint_event", "pgh_obj_id, pgh_obj_id__1::text, colour::text") == [
        (1, "blue", "blue"),
        (2, None, None),
    ]


def test_a_real_foreign_key_that_has_nothing_to_refer_to_is_missed_aloud(connection: Connection) -> None:
    notices: list[str] = []
    connection.execute("CREATE TABLE coin (id integer PRIMARY KEY, name text)")
    track(connection, "coin", obj_fk="cascade")
    connection.add_notice_handler(lambda diagnostic: notices.append(diagnostic.message_primary or ""))
    connection.execute("ALTER TABLE coin DROP CONSTRAINT coin_pkey CASCADE")
    assert rows(connection, "SELECT problem FROM pghistory.verify()") == [
        ("foreign key to the object is missing",)
    ]
    connection.execute("INSERT INTO coin VALUES (1, 'penny')")
    connection.execute("SELECT pghistory.refresh()")
    assert any(
        "events of public.coin have no foreign key to their objects any more" in notice for notice in notices
    )
    connection.execute("ALTER TABLE coin ADD PRIMARY KEY (id)")
    connection.execute("SELECT pghistory.refresh()")
    assert rows(connection, "SELECT problem FROM pghistory.verify()") == []
