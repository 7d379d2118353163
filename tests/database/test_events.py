"""events(): what happened, newest first, and what changed each time."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from typing import Any

import pytest
from history import Connection, call, quoted, refused, rows, track, value
from psycopg import errors

Connect = Callable[..., Connection]
ID = uuid.UUID("a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11")
OTHER_ID = uuid.UUID("b0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11")
ITEM = "CREATE TABLE item (id integer PRIMARY KEY, name text, price numeric)"


def found(connection: Connection, columns: str, *arguments: object, **named: object) -> list[Any]:
    """Columns of what events() returns: tuples, or plain values if it is but one."""
    parts = ["%s"] * len(arguments) + [f"{quoted(name)} => %s" for name in named]
    lines = rows(
        connection,
        f"SELECT {columns} FROM pghistory.events({', '.join(parts)})",
        *arguments,
        *named.values(),
    )
    return [line[0] if len(line) == 1 else line for line in lines]


def test_events_has_the_columns_and_the_arguments_of_the_contract(connection: Connection) -> None:
    (signature,) = rows(
        connection,
        """SELECT pg_get_function_arguments(oid), pg_get_function_result(oid) FROM pg_proc
            WHERE pronamespace = 'pghistory'::regnamespace AND proname = 'events'""",
    )
    assert signature == (
        '"table" regclass DEFAULT NULL::regclass, obj text DEFAULT NULL::text, label text DEFAULT NULL::text, '
        "context_id uuid DEFAULT NULL::uuid, since timestamp with time zone DEFAULT NULL::timestamp with time zone, "
        "until timestamp with time zone DEFAULT NULL::timestamp with time zone, max_rows bigint DEFAULT NULL::bigint",
        "TABLE(pgh_slug text, pgh_event_table regclass, pgh_id bigint, pgh_created_at timestamp with time zone, "
        'pgh_label text, pgh_operation "char", pgh_data jsonb, pgh_diff jsonb, pgh_context_id uuid, '
        "pgh_context jsonb, pgh_xid xid8, pgh_obj_table regclass, pgh_obj_id text)",
    )


def test_before_the_first_use_there_are_no_events(connection: Connection) -> None:
    assert found(connection, "*") == []


def test_an_event_says_all_that_is_known_of_it(connection: Connection) -> None:
    connection.execute(ITEM)
    track(connection, "item", "item.change")
    with connection.transaction():
        call(connection, "set_context", '{"user": 1}', ID)
        connection.execute("INSERT INTO item VALUES (1, 'pen', 1.50)")
        now, xid = rows(connection, "SELECT now(), pg_current_xact_id()")[0]
    assert found(connection, "*", "item") == [
        (
            *("public.item_event:1", "item_event", 1, now, "item.change", "I"),
            *({"id": 1, "name": "pen", "price": 1.5}, None, ID, {"user": 1}, xid, "item", "1"),
        )
    ]


@pytest.fixture
def shop(connection: Connection) -> Connection:
    """Two tables, one with two event tables, events of two contexts and three times."""
    connection.execute(ITEM + "; CREATE TABLE other (id integer PRIMARY KEY)")
    track(connection, "item", "change", kind="history")
    track(connection, "item", "name", kind="snapshot", fields=["name"])
    track(connection, "other", "change")
    for day, context_id, statements in (
        (1, ID, "INSERT INTO item VALUES (1, 'a', 1), (2, 'b', 2)"),
        (2, OTHER_ID, "UPDATE item SET name = 'x' WHERE id = 1; INSERT INTO other VALUES (1)"),
        (3, None, "DELETE FROM item WHERE id = 2"),
    ):
        with connection.transaction():
            if context_id:
                call(connection, "set_context", "{}", context_id)
            connection.execute(statements)
        for event_table in ("item_event", "item_name_event", "other_event"):
            connection.execute(
                f"UPDATE {event_table} SET pgh_created_at = '2026-01-0{day} 12:00+00' WHERE pgh_created_at > '2026-02-01'"
            )
    return connection


ALL = [
    *("item_event:4", "item_event:3", "item_name_event:3", "other_event:1"),
    *("item_event:2", "item_event:1", "item_name_event:2", "item_name_event:1"),
]


@pytest.mark.parametrize(
    ("named", "numbers"),
    [
        ({}, range(8)),
        ({"table": "item"}, (0, 1, 2, 4, 5, 6, 7)),
        ({"table": "other"}, (3,)),
        ({"table": "item", "obj": "1"}, (1, 2, 5, 7)),
        ({"table": "item", "obj": "3"}, ()),
        ({"label": "name"}, (2, 6, 7)),
        ({"label": "change"}, (0, 1, 3, 4, 5)),
        ({"label": "none"}, ()),
        ({"context_id": ID}, (4, 5, 6, 7)),
        ({"context_id": OTHER_ID}, (1, 2, 3)),
        ({"since": "2026-01-02 12:00+00"}, (0, 1, 2, 3)),
        ({"until": "2026-01-02 12:00+00"}, (4, 5, 6, 7)),
        ({"since": "2026-01-02 12:00+00", "until": "2026-01-03 12:00+00"}, (1, 2, 3)),
        ({"max_rows": 3}, (0, 1, 2)),
        ({"max_rows": 0}, ()),
        ({"table": "item", "max_rows": 1}, (0,)),
        ({"table": "other", "max_rows": 10}, (3,)),
        ({"table": "item", "obj": "1", "label": "name", "context_id": ID}, (7,)),
        ({"table": "item", "label": "change", "until": "2026-01-03 12:00+00", "max_rows": 2}, (1, 4)),
        (
            {
                **{"table": "item", "obj": "1", "label": "change", "context_id": OTHER_ID, "max_rows": 5},
                **{"since": "2026-01-01+00", "until": "2026-02-01+00"},
            },
            (1,),
        ),
    ],
)
def test_filters_choose_alone_and_together(shop: Connection, named: dict[str, object], numbers: Any) -> None:
    slugs = [slug.removeprefix("public.") for slug in found(shop, "pgh_slug", **named)]
    assert slugs == [ALL[number] for number in numbers]


def test_the_newest_event_stands_first(connection: Connection) -> None:
    connection.execute(ITEM)
    track(connection, "item")
    connection.execute("INSERT INTO item VALUES (1); UPDATE item SET price = 1; UPDATE item SET price = 2")
    assert found(connection, "pgh_id", "item") == [3, 2, 1]
    assert found(connection, "pgh_id", "item", max_rows=2) == [3, 2]


def test_a_diff_is_against_the_events_before_in_that_event_table(shop: Connection) -> None:
    assert found(shop, "pgh_slug, pgh_diff", "item", "1") == [
        ("public.item_event:3", {"name": ["a", "x"]}),
        ("public.item_name_event:3", {"name": ["a", "x"]}),
        ("public.item_event:1", None),
        ("public.item_name_event:1", None),
    ]
    assert found(shop, "pgh_diff", "item", "2", "change") == [{}, None]


def test_a_diff_does_not_depend_on_what_is_asked_for(shop: Connection) -> None:
    assert found(shop, "pgh_diff", "item", context_id=OTHER_ID) == [{"name": ["a", "x"]}] * 2
    assert found(shop, "pgh_diff", "item", "1", max_rows=1, label="name") == [{"name": ["a", "x"]}]


def test_what_differs_is_what_differs_by_image(connection: Connection) -> None:
    connection.execute(
        "CREATE TABLE item (id integer PRIMARY KEY, price numeric, data json, name citext, place point, tags text[])"
    )
    track(connection, "item")
    connection.execute(
        """INSERT INTO item VALUES (1, 1.0, '{"a": 1}', 'Ann', '(1,2)', '{}');
           UPDATE item SET price = 1.00; UPDATE item SET data = '{"a":1}'; UPDATE item SET name = 'ANN';
           UPDATE item SET name = NULL, place = NULL; UPDATE item SET tags = '{NULL}'; UPDATE item SET tags = NULL"""
    )
    assert rows(connection, "SELECT pgh_diff::text FROM pghistory.events('item')") == [
        ('{"tags": [[null], null]}',),
        ('{"tags": [[], [null]]}',),
        ('{"name": ["ANN", null], "place": ["(1,2)", null]}',),
        ('{"name": ["Ann", "ANN"]}',),
        ('{"data": [{"a": 1}, {"a": 1}]}',),
        ('{"price": [1.0, 1.00]}',),
        (None,),
    ]


@pytest.mark.parametrize("kind", ["history", "before_update"])
def test_a_diff_follows_an_object_through_its_keys(connection: Connection, kind: str) -> None:
    connection.execute(ITEM)
    track(connection, "item", kind=kind)
    connection.execute(
        """INSERT INTO item VALUES (1, 'a', 1), (2, 'b', 2); UPDATE item SET name = 'aa' WHERE id = 1;
           UPDATE item SET id = 10 WHERE id = 1; UPDATE item SET name = 'c' WHERE id = 10;
           UPDATE item SET id = 1, name = 'd' WHERE id = 2; UPDATE item SET name = 'e' WHERE id = 1"""
    )
    diffs = found(connection, "pgh_obj_id, pgh_diff", "item", label=f"item.{kind}")
    if kind == "history":
        assert diffs == [
            ("1", {"name": ["d", "e"]}),
            ("1", {"id": [2, 1], "name": ["b", "d"]}),
            ("10", {"name": ["aa", "c"]}),
            ("10", {"id": [1, 10]}),
            ("1", {"name": ["a", "aa"]}),
            ("2", None),
            ("1", None),
        ]
    else:
        assert diffs == [
            ("1", {"id": [2, 1], "name": ["b", "d"]}),
            ("2", None),
            ("10", {"id": [1, 10]}),
            ("1", {"name": ["a", "aa"]}),
            ("1", None),
        ]


def test_columns_that_were_added_renamed_and_dropped(connection: Connection) -> None:
    connection.execute(ITEM)
    track(connection, "item")
    connection.execute(
        """INSERT INTO item VALUES (1, 'a', 1); ALTER TABLE item ADD kind text DEFAULT 'tool';
           UPDATE item SET name = 'b'; ALTER TABLE item RENAME name TO title; ALTER TABLE item DROP price;
           UPDATE item SET kind = 'x'; ALTER TABLE item ADD late integer; UPDATE item SET late = 5"""
    )
    assert found(connection, "pgh_data, pgh_diff", "item") == [
        ({"id": 1, "title": "b", "kind": "x", "late": 5}, {"late": [None, 5]}),
        ({"id": 1, "title": "b", "kind": "x", "late": None}, {"kind": ["tool", "x"]}),
        ({"id": 1, "title": "b", "kind": "tool", "late": None, "price": 1}, {"title": ["a", "b"]}),
        ({"id": 1, "title": "a", "kind": None, "late": None, "price": 1}, None),
    ]


def test_columns_of_the_users_own_are_shown(connection: Connection) -> None:
    connection.execute(ITEM)
    call(connection, "create_event_table", "item", "log")
    connection.execute("ALTER TABLE log ADD remark text DEFAULT 'none yet'")
    track(connection, "item", event_table="log")
    connection.execute("INSERT INTO item VALUES (1, 'a', 1)")
    assert found(connection, "pgh_data", "item") == [{"id": 1, "name": "a", "price": 1, "remark": "none yet"}]


def test_keys_of_several_columns_are_json_objects(connection: Connection) -> None:
    connection.execute('CREATE TABLE line ("No" integer, part text, what text, PRIMARY KEY ("No", part))')
    track(connection, "line")
    connection.execute("INSERT INTO line VALUES (1, 'a'), (1, 'b'); UPDATE line SET what = 'x' WHERE part = 'a'")
    assert [
        {**{"id": id}} for id in found(connection, "pgh_obj_id::jsonb", "line", '{"part": "a", "No": 1}')
    ] == [{"id": {"No": 1, "part": "a"}}] * 2
    obj = found(connection, "pgh_obj_id", "line", max_rows=1)[0]
    assert found(connection, "pgh_diff", "line", obj) == [{"what": [None, "x"]}, None]
    refused(
        connection, errors.InvalidParameterValue, "does not name an object", "SELECT * FROM pghistory.events('line', '1')"
    )


def test_events_that_name_no_object_have_no_diff(connection: Connection) -> None:
    connection.execute("CREATE TABLE measure (degrees integer)")
    track(connection, "measure", kind="history")
    connection.execute("INSERT INTO measure VALUES (1), (2); UPDATE measure SET degrees = 3")
    assert found(connection, "pgh_data, pgh_diff, pgh_obj_id", "measure") == [
        *(({"degrees": 3}, None, None), ({"degrees": 3}, None, None)),
        *(({"degrees": 2}, None, None), ({"degrees": 1}, None, None)),
    ]
    assert found(connection, "pgh_id", "measure", "1") == []


def test_events_of_metadata_only(connection: Connection) -> None:
    connection.execute(ITEM)
    track(connection, "item", kind="after_insert_or_update", fields=[])
    connection.execute("INSERT INTO item VALUES (1); UPDATE item SET name = 'x'")
    assert found(connection, "pgh_data, pgh_diff, pgh_obj_id", "item") == [({}, {}, "1"), ({}, None, "1")]


@pytest.mark.parametrize("context", ["inline", "reference", "none"])
def test_the_context_is_shown_wherever_it_is_kept(connection: Connection, context: str) -> None:
    connection.execute(ITEM)
    track(connection, "item", context=context)
    with connection.transaction():
        call(connection, "set_context", '{"user": 1}', ID)
        connection.execute("INSERT INTO item VALUES (1)")
    connection.execute("INSERT INTO item VALUES (2)")
    seen = (None, None) if context == "none" else (ID, {"user": 1})
    assert found(connection, "pgh_context_id, pgh_context", "item") == [(None, None), seen]
    assert len(found(connection, "*", context_id=ID)) == (context != "none")


def test_the_context_is_what_became_of_it_with_the_session_of_the_event(
    connection: Connection, connect: Connect
) -> None:
    connection.execute(ITEM)
    track(connection, "item")
    call(connection, "capture", "application_name")
    for number in (1, 2):
        session = connect(application_name=f"program {number}")
        with session.transaction():
            call(session, "set_context", f'{{"step": {number}, "of {number}": true}}', ID)
            session.execute(f"INSERT INTO item VALUES ({number})")
    whole = {"step": 2, "of 1": True, "of 2": True}
    assert found(connection, "pgh_context", "item") == [
        {**whole, "session": {"application_name": "program 2"}},
        {**whole, "session": {"application_name": "program 1"}},
    ]


def test_who_may_read_an_event_may_read_its_context(
    connection: Connection, connect: Connect, role: Callable[..., str]
) -> None:
    reader = role("reader")
    connection.execute(ITEM + "; CREATE TABLE secret (id integer PRIMARY KEY)")
    track(connection, "item")
    track(connection, "secret")
    with connection.transaction():
        call(connection, "set_context", '{"user": 1}', ID)
        connection.execute("INSERT INTO item VALUES (1); INSERT INTO secret VALUES (1)")
    session = connect(user=reader)
    with pytest.raises(errors.InsufficientPrivilege, match="permission denied for table item_event"):
        found(session, "*", "item")
    assert found(session, "*") == []
    connection.execute(f"GRANT SELECT ON item_event TO {reader}")
    assert found(session, "pgh_event_table, pgh_context") == [("item_event", {"user": 1})]
    with pytest.raises(errors.InsufficientPrivilege, match="permission denied for table secret_event"):
        found(session, "*", "secret")
    with pytest.raises(errors.InsufficientPrivilege):
        session.execute("SELECT * FROM pghistory.context")


def test_a_table_that_was_dropped_keeps_its_events(connection: Connection) -> None:
    connection.execute(ITEM)
    track(connection, "item")
    connection.execute("INSERT INTO item VALUES (1, 'a', 1); DROP TABLE item")
    assert found(connection, "pgh_event_table, pgh_obj_table, pgh_obj_id, pgh_data") == [
        ("item_event", None, "1", {"id": 1, "name": "a", "price": 1})
    ]


def test_an_event_table_that_was_dropped_is_left_out(connection: Connection) -> None:
    connection.execute(ITEM)
    track(connection, "item")
    connection.execute("INSERT INTO item VALUES (1, 'a', 1); DROP TABLE item_event")
    assert found(connection, "*") == found(connection, "*", "item") == []


def test_a_table_that_is_not_tracked_has_no_events(connection: Connection) -> None:
    connection.execute(ITEM + "; CREATE TABLE other (id integer)")
    track(connection, "item")
    connection.execute("INSERT INTO item VALUES (1)")
    assert found(connection, "*", "other") == []


def test_odd_names_and_values(connection: Connection) -> None:
    connection.execute(
        """CREATE SCHEMA "S {0} %s"; CREATE TABLE "S {0} %s"."T'%I{events}" (
               "key {e}'s" text PRIMARY KEY, "%L" text, "{data}" integer, "Größe" text, old text, "differs" text)""".encode()
    )
    table = """"S {0} %s"."T'%I{events}\""""
    track(connection, table, "it's {label} %s")
    with connection.transaction():
        call(connection, "set_context", """{"it's": "{x} %I"}""", ID)
        connection.execute(
            f"""INSERT INTO {table} VALUES ('a''{{k}}%I', '{{wanted}}', 1);
                UPDATE {table} SET "%L" = '$1 ''%s''', "Größe" = 'ü'""".encode()
        )
    (second, first) = found(connection, "pgh_obj_id, pgh_diff, pgh_label, pgh_context", table, "a'{k}%I", "it's {label} %s")
    assert first == ("a'{k}%I", None, "it's {label} %s", {"it's": "{x} %I"})
    assert second[1] == {"%L": ["{wanted}", "$1 '%s'"], "Größe": [None, "ü"]}
    assert len(found(connection, "*", label="it's {label} %s")) == 2


def test_a_cast_that_an_owner_made_is_not_run_as_who_looks(
    connection: Connection, connect: Connect, role: Callable[..., str]
) -> None:
    owner = role("owner")
    connection.execute(f"CREATE SCHEMA trap AUTHORIZATION {owner}")
    session = connect(user=owner, options="-c search_path=trap")
    session.execute(
        """CREATE TYPE bait AS (a integer, b integer); CREATE TYPE mood AS ENUM ('sad', 'happy');
           CREATE TABLE seen (who text);
           CREATE FUNCTION spring(mood) RETURNS json LANGUAGE plpgsql AS
               'BEGIN INSERT INTO trap.seen VALUES (current_user); RETURN ''1''::json; END';
           CREATE CAST (mood AS json) WITH FUNCTION spring(mood);
           CREATE TABLE item (id mood PRIMARY KEY, b bait, moods mood[])"""
    )
    track(session, "item", kind="history")
    session.execute("INSERT INTO item VALUES ('sad', '(1,2)', '{happy}'); UPDATE item SET id = 'happy', moods = NULL")
    session.execute("TRUNCATE seen")
    assert found(connection, "pgh_obj_id, pgh_data ->> 'id'", "trap.item") == [("happy", "happy"), ("sad", "sad")]
    xid = value(connection, "SELECT pgh_xid::text FROM trap.item_event ORDER BY pgh_id LIMIT 1")
    rows(connection, "SELECT * FROM pghistory.undo_transaction_plan(%s)", xid)
    rows(connection, """SELECT * FROM pghistory."references"('trap.item', 'happy')""")
    assert rows(connection, "SELECT * FROM trap.seen") == []


def test_an_object_without_its_table_is_refused(connection: Connection) -> None:
    refused(
        connection,
        errors.InvalidParameterValue,
        'object "42" is named without its table',
        "SELECT * FROM pghistory.events(obj => '42')",
    )


def test_a_negative_number_of_rows_is_refused(connection: Connection) -> None:
    connection.execute(ITEM)
    track(connection, "item")
    refused(
        connection,
        errors.InvalidParameterValue,
        "max_rows must not be negative",
        "SELECT * FROM pghistory.events(max_rows => -1)",
    )


def test_a_key_of_another_type_is_refused_as_the_type_does(connection: Connection) -> None:
    connection.execute(ITEM)
    track(connection, "item")
    with pytest.raises(errors.InvalidTextRepresentation):
        found(connection, "*", "item", "one")


def test_dates_are_read_as_they_are_written_under_every_datestyle(connection: Connection) -> None:
    connection.execute("CREATE TABLE day (day date PRIMARY KEY, at timestamptz, name text)")
    track(connection, "day")
    connection.execute("INSERT INTO day VALUES ('2026-02-01', '2026-02-01 12:00+00', 'a'); UPDATE day SET name = 'b'")
    connection.execute("ALTER TABLE day ADD until date DEFAULT '2026-03-04'; UPDATE day SET until = '2026-04-03'")
    connection.execute("SET DateStyle TO 'SQL, DMY'")
    assert found(connection, "pgh_obj_id", "day", "2026-02-01") == ["2026-02-01"] * 3
    assert found(connection, "pgh_diff", "day", max_rows=1) == [{"until": ["2026-03-04", "2026-04-03"]}]
    assert found(connection, "count(*)", since="01/01/2026", until="13/02/2036") == [3]


def plan(connection: Connection, wanted: str, max_rows: int | None) -> str:
    query = value(connection, "SELECT pghistory._events_query('item_event', %s, %s)", wanted, max_rows)
    return "\n".join(line for (line,) in rows(connection, f"EXPLAIN (COSTS OFF) {query}"))


def test_events_of_one_object_and_the_newest_are_found_by_an_index(connection: Connection) -> None:
    connection.execute(ITEM)
    track(connection, "item", kind="history")
    connection.execute(
        "INSERT INTO item SELECT number, 'x', 0 FROM generate_series(1, 5000) AS number; UPDATE item SET price = 1; ANALYZE"
    )
    condition = value(
        connection, "SELECT pghistory._events_condition('item_event', '42', NULL, NULL, NULL, NULL)"
    )
    for found_plan in (plan(connection, condition, None), plan(connection, condition, 10), plan(connection, "true", 10)):
        assert "Seq Scan on item_event" not in found_plan
        assert "Index Scan" in found_plan or "Bitmap Index Scan" in found_plan
    assert "Sort" not in plan(connection, "true", 10)
