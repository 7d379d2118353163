"""The table as it was: which tables, which rows, and when it says that it cannot know."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import datetime, timedelta, timezone

import psycopg
import pytest
from history import Connection, call, quoted, refused, rows, track, value
from past import BEFORE_IMAGES, KEPT_BY, as_of, copy, keep, moment

IMAGES = ("history", "before images")
LONG_AGO = datetime(2001, 1, 1, tzinfo=timezone.utc)


def refuses(connection: Connection, message: str, table: str, at: datetime, obj: str | None = None) -> str:
    """See that as_of() refuses, and return what it says beside the message."""
    said = refused(
        connection,
        psycopg.errors.ObjectNotInPrerequisiteState,
        message,
        f"SELECT * FROM pghistory.as_of(NULL::{table}, %s, %s)",
        at,
        obj,
    )
    assert "WITH RECURSIVE" not in (said.context or "")
    return f"{said.message_detail} {said.message_hint}"


@pytest.mark.parametrize("kept", IMAGES)
@pytest.mark.parametrize(
    ("definition", "values", "keys"),
    [
        (
            'id text COLLATE "C" PRIMARY KEY, v text',
            [("{rows}", "a"), ("FROM walk", "b"), ("%s'\\", "c")],
            None,
        ),
        ("id uuid PRIMARY KEY, v text", [("00000000-0000-0000-0000-00000000000a", "a")], None),
        ("id numeric PRIMARY KEY, v text", [("1.00", "a"), ("-0.50", "b")], ["1", "-.5"]),
        ("id citext PRIMARY KEY, v text", [("Anna", "a"), ("bob", "b")], ["ANNA", "Bob"]),
        ("id timestamptz PRIMARY KEY, v text", [("2026-01-01 00:00:00.000001+00", "a")], None),
        ("id date[] PRIMARY KEY, v text", [("{2026-01-01,2026-02-02}", "a")], None),
        ("id int4range PRIMARY KEY, v text", [("[1,5)", "a")], None),
        ("id mood PRIMARY KEY, v text", [("sad", "a"), ("glad", "b")], None),
        ("id code PRIMARY KEY, v text", [("abc", "a")], None),
        ("id char(5) PRIMARY KEY, v text", [("abc", "a")], None),
        ("id bytea PRIMARY KEY, v text", [("\\x00ff", "a")], None),
        ("id text COLLATE blind PRIMARY KEY, v text", [("Anna", "a"), ("bob", "b")], ["ANNA", "Bob"]),
        ("id jsonb PRIMARY KEY, v text", [('{"a": 1}', "a")], ['{"a":1}']),
    ],
)
def test_rows_are_found_by_keys_of_every_type(
    connection: Connection, kept: str, definition: str, values: list[tuple[str, str]], keys: list[str] | None
) -> None:
    connection.execute("CREATE TYPE mood AS ENUM ('sad', 'glad')")
    connection.execute("CREATE DOMAIN code AS text NOT NULL CHECK (VALUE <> '')")
    try:
        connection.execute(
            "CREATE COLLATION blind (provider = icu, locale = 'und-u-ks-level2', deterministic = false)"
        )
    except psycopg.errors.FeatureNotSupported:  # by a server that was built without ICU
        definition = definition.replace("text COLLATE blind", "citext")
    connection.execute(f"CREATE TABLE thing ({definition})")
    event_table = keep(connection, "thing", KEPT_BY[kept])
    with connection.cursor() as cursor:
        cursor.executemany("INSERT INTO thing VALUES (%s, %s)", values)
    at, was = moment(connection), copy(connection, "thing")
    connection.execute("UPDATE thing SET v = v || '!'")
    connection.execute("DELETE FROM thing")

    for reltuples in (1, 1e6):
        connection.execute(
            "UPDATE pg_class SET reltuples = %s WHERE oid = %s::regclass", (reltuples, event_table)
        )
        assert as_of(connection, "thing", at) == was
    found = [as_of(connection, "thing", at, key) for key in keys or [key for key, _ in values]]
    assert sorted(row for one in found for row in one) == was
    assert all(len(one) == 1 for one in found)


@pytest.mark.parametrize("kept", IMAGES)
@pytest.mark.parametrize(
    "name", ["{rows}", "{", "}", '"', "'", "%", "%s", "%1$s", "\\", "$sql$", "ünï {e.key}", "e", "m."]
)
def test_no_name_of_the_users_means_anything(connection: Connection, kept: str, name: str) -> None:
    table = quoted(f"t {name}")
    one, two, other = quoted(name), quoted(f"two {name}"), quoted(f"v {name}")
    connection.execute(
        f"CREATE TABLE {table} ({one} integer, {two} text, {other} text, PRIMARY KEY ({one}, {two}))".replace(
            "%", "%%"
        ),
        (),
    )
    for kind in KEPT_BY[kept]:
        track(connection, table, f"{name} {kind}", kind=kind)
    insert = f"INSERT INTO {table} VALUES (%s, %s, %s)"
    insert = f"INSERT INTO {table.replace('%', '%%')} VALUES (%s, %s, %s)"
    connection.execute(insert, (1, name, name))
    connection.execute(insert, (2, name, name))
    at = moment(connection)
    connection.execute(f"UPDATE {table} SET {one} = 3 - {one} + 2".replace("%", "%%"), ())
    connection.execute(f"DELETE FROM {table}".replace("%", "%%"), ())

    columns = "t.*"
    assert as_of(connection, table, at, columns=columns) == [(1, name, name), (2, name, name)]
    key = json.dumps({name: 2, f"two {name}": name})
    assert as_of(connection, table, at, key, columns=columns) == [(2, name, name)]


@pytest.mark.parametrize("kept", IMAGES)
def test_columns_of_every_sort_are_told(connection: Connection, server: object, kept: str) -> None:
    connection.execute("CREATE TYPE mood AS ENUM ('sad', 'glad')")
    connection.execute("CREATE DOMAIN must AS text NOT NULL CHECK (VALUE <> '')")
    connection.execute("CREATE TYPE pair AS (a integer, b text)")
    virtual = ", doubled numeric(10, 1) GENERATED ALWAYS AS (price * 2) VIRTUAL"
    has_virtual = connection.info.server_version >= 180000
    connection.execute(
        f"""CREATE TABLE thing (
                gone integer, id integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY, price numeric(10, 2), also_gone text,
                taxed numeric GENERATED ALWAYS AS (price * 1.2) STORED, feeling mood, must must, two pair,
                list pair[], doc json, place point, short varchar(5), bits bit(3), span interval day{virtual if has_virtual else ""})"""
    )
    connection.execute("ALTER TABLE thing DROP COLUMN gone, DROP COLUMN also_gone")
    keep(connection, "thing", KEPT_BY[kept])
    connection.execute(
        """INSERT INTO thing (price, feeling, must, two, list, doc, place, short, bits, span)
           SELECT n, 'sad', 'must', (1, 'b')::pair, ARRAY[(2, 'c')::pair], '{"a" :1}', '(1,2)', 'short', '101', '2 days'
             FROM generate_series(1, 3) AS n"""
    )
    at, was = moment(connection), copy(connection, "thing")
    connection.execute("UPDATE thing SET price = 5, doc = '{}', place = '(3,4)' WHERE id = 1")
    connection.execute("DELETE FROM thing WHERE id = 2")

    assert as_of(connection, "thing", at) == was
    assert as_of(connection, "thing", moment(connection)) == copy(connection, "thing")
    assert [row for key in "123" for row in as_of(connection, "thing", at, key)] == was


@pytest.mark.parametrize("kept", IMAGES)
def test_a_domain_that_refuses_null_stands_in_no_ones_way(connection: Connection, kept: str) -> None:
    connection.execute("CREATE DOMAIN must AS text NOT NULL")
    connection.execute("CREATE TABLE thing (id integer PRIMARY KEY)")
    keep(connection, "thing", KEPT_BY[kept])
    connection.execute("INSERT INTO thing VALUES (1)")
    before = moment(connection)
    connection.execute("ALTER TABLE thing ADD COLUMN must must DEFAULT 'x'")
    assert as_of(connection, "thing", moment(connection), columns="id, must") == [(1, "x")]
    connection.execute("UPDATE thing SET must = 'y'")

    assert as_of(connection, "thing", before, columns="id, must") == [(1, None)]
    assert as_of(connection, "thing", moment(connection), columns="id, must") == [(1, "y")]


def test_pasts_can_be_joined(connection: Connection) -> None:
    connection.execute("CREATE TABLE customer (id integer PRIMARY KEY, name text)")
    connection.execute("CREATE TABLE buy (id integer PRIMARY KEY, customer integer)")
    for table in ("customer", "buy"):
        track(connection, table, kind="history")
    connection.execute("INSERT INTO customer VALUES (1, 'Anna')")
    connection.execute("INSERT INTO buy VALUES (7, 1)")
    at = moment(connection)
    connection.execute("UPDATE customer SET name = 'Bob'")
    connection.execute("DELETE FROM buy")

    assert rows(
        connection,
        """SELECT b.id, c.name FROM pghistory.as_of(NULL::buy, %(at)s) AS b
             JOIN pghistory.as_of(NULL::customer, %(at)s) AS c ON c.id = b.customer""".replace(
            "%(at)s", "%s"
        ),
        at,
        at,
    ) == [(7, "Anna")]


def test_the_future_is_the_present(connection: Connection) -> None:
    connection.execute("CREATE TABLE thing (id integer PRIMARY KEY)")
    track(connection, "thing", kind="history")
    connection.execute("INSERT INTO thing VALUES (1)")

    assert as_of(connection, "thing", moment(connection) + timedelta(days=1)) == ["(1)"]
    assert value(connection, "SELECT count(*) FROM pghistory.as_of(NULL::thing, 'infinity')") == 1


def test_what_a_transaction_did_itself_is_told_in_it(connection: Connection) -> None:
    connection.execute("CREATE TABLE thing (id integer PRIMARY KEY)")
    track(connection, "thing", kind="history")
    with connection.transaction():
        connection.execute("INSERT INTO thing VALUES (1)")
        assert as_of(connection, "thing", moment(connection)) == ["(1)"]


def test_the_past_can_be_told_by_a_transaction_that_only_reads(connection: Connection) -> None:
    connection.execute("CREATE TABLE thing (id integer PRIMARY KEY)")
    track(connection, "thing", kind="history")
    connection.execute("INSERT INTO thing VALUES (1)")
    at = moment(connection)
    connection.execute("BEGIN READ ONLY")
    assert as_of(connection, "thing", at) == ["(1)"]
    connection.execute("ROLLBACK")


def test_of_one_object_only_its_events_are_read(connection: Connection) -> None:
    connection.execute("CREATE TABLE thing (id integer PRIMARY KEY, v integer)")
    connection.execute("INSERT INTO thing SELECT n, 0 FROM generate_series(1, 2000) AS n")
    for kinds, label in ((KEPT_BY["history"], "a"), (BEFORE_IMAGES, "b")):
        for kind in kinds:
            track(connection, "thing", f"{label} {kind}", kind=kind, event_table=f"public.{label}_event")
    connection.execute("UPDATE thing SET v = v + 1")
    connection.execute("UPDATE thing SET v = v + 1")
    connection.execute("UPDATE thing SET id = id + 5000 WHERE id <= 10")
    connection.execute("ANALYZE")
    for event_table in ("a_event", "b_event"):
        query = value(connection, "SELECT pghistory._as_of_query('thing', now(), '1500')")
        plan = "\n".join(row[0] for row in rows(connection, f"EXPLAIN {query}".replace("%", "%")))
        assert f"on {event_table}" in plan
        assert "Seq Scan" not in plan
        if event_table == "a_event":
            call(connection, "untrack", "thing", "a history")


@pytest.mark.parametrize("kept", IMAGES)
def test_rows_that_move_between_partitions_are_where_they_were(connection: Connection, kept: str) -> None:
    connection.execute(
        "CREATE TABLE part (id integer, region text, v text, PRIMARY KEY (id, region)) PARTITION BY LIST (region)"
    )
    connection.execute("CREATE TABLE part_a PARTITION OF part FOR VALUES IN ('a')")
    connection.execute("CREATE TABLE part_b PARTITION OF part FOR VALUES IN ('b')")
    keep(connection, "part", KEPT_BY[kept])
    connection.execute("INSERT INTO part VALUES (1, 'a', 'x'), (2, 'b', 'y')")
    times = [(moment(connection), copy(connection, "part", only=""))]
    for statement in (
        "UPDATE part SET region = 'b' WHERE id = 1",
        "CREATE TABLE part_c PARTITION OF part FOR VALUES IN ('c')",
        "INSERT INTO part_c VALUES (3, 'c', 'z')",
        "UPDATE part SET region = 'a' WHERE id = 2",
        "DELETE FROM part_b",
        "TRUNCATE part_c",
        "TRUNCATE part",
    ):
        connection.execute(statement)
        times.append((moment(connection), copy(connection, "part", only="")))

    for at, expected in times:
        assert as_of(connection, "part", at) == expected
    assert as_of(connection, "part", times[0][0], '{"id": 1, "region": "a"}') == ["(1,a,x)"]
    said = refuses(connection, "table public.part_a is not tracked", "part_a", times[0][0])
    assert "It is a partition: ask for public.part." in said


@pytest.mark.parametrize("kept", IMAGES)
def test_of_a_parent_its_own_rows_are_told(connection: Connection, kept: str) -> None:
    connection.execute("CREATE TABLE parent (id integer PRIMARY KEY, v text)")
    connection.execute("CREATE TABLE child () INHERITS (parent)")
    keep(connection, "parent", KEPT_BY[kept])
    connection.execute("INSERT INTO parent VALUES (1, 'parent')")
    connection.execute("INSERT INTO child VALUES (1, 'child')")
    at = moment(connection)
    connection.execute("UPDATE parent SET v = v || '!'")

    assert as_of(connection, "parent", at) == ["(1,parent)"]
    assert as_of(connection, "parent", moment(connection)) == ["(1,parent!)"]


@pytest.mark.parametrize(
    "kinds", [("snapshot", "before_delete"), ("after_insert", "before_update", "before_delete")]
)
def test_rows_that_went_without_an_event_are_missed(connection: Connection, kinds: tuple[str, ...]) -> None:
    connection.execute("CREATE TABLE thing (id integer PRIMARY KEY, v text)")
    keep(connection, "thing", kinds)
    connection.execute("INSERT INTO thing VALUES (1, 'a'), (2, 'b'), (3, 'c')")
    connection.execute("UPDATE thing SET id = 4 WHERE id = 3")
    before, was = moment(connection), copy(connection, "thing")
    connection.execute("UPDATE thing SET v = v || '!'")
    changed = moment(connection)
    assert as_of(connection, "thing", before) == was
    connection.execute("TRUNCATE thing")
    assert refuses(connection, "when row . of table public.thing went is not known", "thing", changed)
    connection.execute("INSERT INTO thing VALUES (1, 'new'), (3, 'new'), (2, 'new'), (4, 'new')")

    assert refuses(connection, "when row 1 of table public.thing went is not known", "thing", changed, "1")
    assert as_of(connection, "thing", changed, "3") == []
    assert as_of(connection, "thing", moment(connection)) == copy(connection, "thing")


def test_truncate_that_is_recorded_late_does_not_shorten_history(connection: Connection) -> None:
    connection.execute("CREATE TABLE thing (id integer PRIMARY KEY)")
    keep(connection, "thing", ("snapshot", "before_delete"))
    connection.execute("INSERT INTO thing VALUES (1)")
    before = moment(connection)
    track(connection, "thing", kind="before_truncate")
    connection.execute("TRUNCATE thing")

    assert as_of(connection, "thing", before) == ["(1)"]
    assert as_of(connection, "thing", moment(connection)) == []


def test_a_table_that_is_not_tracked_has_no_past(connection: Connection) -> None:
    connection.execute("CREATE TABLE thing (id integer PRIMARY KEY)")
    said = refuses(connection, "table public.thing is not tracked", "thing", moment(connection))
    assert "pghistory.track('public.thing', kind => 'history')" in said


def test_only_tables_have_a_past(connection: Connection) -> None:
    connection.execute("CREATE VIEW seen AS SELECT 1 AS id")
    for value_of in ("NULL::seen", "1", "NULL::text"):
        refused(
            connection,
            psycopg.errors.WrongObjectType,
            "is not the row type of a table",
            f"SELECT pghistory.as_of({value_of}, now())",
        )


@pytest.mark.parametrize(
    ("kinds", "missing"),
    [
        (("snapshot",), "delete"),
        (("after_insert", "before_delete"), "update"),
        (("before_update", "before_delete"), "insert"),
        (("after_update", "before_delete"), "insert"),
        (("event",), "delete, insert, update"),
    ],
)
def test_what_is_not_recorded_is_named(connection: Connection, kinds: tuple[str, ...], missing: str) -> None:
    connection.execute("CREATE TABLE thing (id integer PRIMARY KEY)")
    keep(connection, "thing", kinds)
    said = refuses(
        connection,
        "the events of table public.thing do not tell what it was like",
        "thing",
        moment(connection),
    )
    assert f"nothing records: {missing}." in said


@pytest.mark.parametrize(
    ("options", "lack"),
    [
        ({"exclude": ["secret", "other"]}, "without secret, other"),
        ({"fields": ["id", "secret"]}, "without other"),
        ({"obj_key": []}, "without the key"),
    ],
)
def test_what_is_recorded_in_part_does_not_tell_the_whole(
    connection: Connection, options: dict[str, object], lack: str
) -> None:
    connection.execute("CREATE TABLE thing (id integer PRIMARY KEY, secret text, other text)")
    track(connection, "thing", kind="history", **options)
    said = refuses(connection, "do not tell what it was like", "thing", moment(connection))
    assert f"nothing records: delete ({lack}), " in said


def test_what_a_condition_left_out_is_not_told_also_when_it_is_void(connection: Connection) -> None:
    connection.execute("CREATE TABLE thing (id integer PRIMARY KEY, v integer, w integer)")
    keep(connection, "thing", ("before_delete",))
    track(connection, "thing", kind="snapshot", condition="NEW.v > 5")
    connection.execute("INSERT INTO thing VALUES (1, 1, 1)")
    at = moment(connection)
    assert "insert (with a condition), update" in refuses(connection, "do not tell", "thing", at)
    connection.execute("ALTER TABLE thing DROP COLUMN v")
    assert "insert (with a condition), update" in refuses(connection, "do not tell", "thing", at)


def test_rows_that_share_a_key_are_not_told_apart(connection: Connection) -> None:
    connection.execute("CREATE TABLE thing (id integer, v text)")
    track(connection, "thing", kind="history", obj_key=["id"])
    at = moment(connection)
    message = "events of table public.thing do not tell its rows apart"
    assert "They name the object by id, which no unique constraint guards." in refuses(
        connection, message, "thing", at
    )
    connection.execute("ALTER TABLE thing ADD UNIQUE (id)")
    refuses(connection, message, "thing", at)  # null twice
    connection.execute("ALTER TABLE thing ALTER id SET NOT NULL")
    connection.execute("INSERT INTO thing VALUES (1, 'a')")
    at = moment(connection)
    connection.execute("DELETE FROM thing")
    assert as_of(connection, "thing", at) == ["(1,a)"]


@pytest.mark.parametrize("kept", IMAGES)
def test_from_when_on_it_can_be_told_is_said(connection: Connection, kept: str) -> None:
    connection.execute("CREATE TABLE thing (id integer PRIMARY KEY)")
    connection.execute("INSERT INTO thing VALUES (1)")
    before = moment(connection)
    keep(connection, "thing", KEPT_BY[kept])
    tracked = moment(connection)

    said = refuses(connection, "the history of table public.thing does not reach back to ", "thing", before)
    shown = said.split("It can be told from ")[1].removesuffix(" on.")
    since = value(connection, "SELECT %s::timestamptz", shown)
    assert before < since <= tracked
    assert as_of(connection, "thing", since) == ["(1)"]
    refuses(connection, "does not reach back", "thing", since - timedelta(microseconds=1))
    refuses(connection, "does not reach back", "thing", LONG_AGO)
    assert as_of(connection, "thing", tracked) == ["(1)"]


def test_what_a_row_was_before_its_first_event_is_not_guessed(connection: Connection) -> None:
    connection.execute("CREATE TABLE thing (id integer PRIMARY KEY, v text)")
    connection.execute("INSERT INTO thing VALUES (1, 'a'), (2, 'b'), (3, 'c')")
    track(connection, "thing", kind="history")
    before = moment(connection)
    connection.execute("UPDATE thing SET v = 'B' WHERE id = 2")
    connection.execute("UPDATE thing SET id = 4 WHERE id = 3")

    said = refuses(
        connection, "what row 2 of table public.thing was like before .* is not known", "thing", before, "2"
    )
    assert "pghistory.backfill()" in said
    assert "Event public.thing_event:1 is the first of it, or the one before is gone." in said
    refuses(
        connection, "what row 4 of table public.thing was like before .* is not known", "thing", before, "3"
    )
    refuses(connection, "is not known", "thing", before)
    assert as_of(connection, "thing", before, "1") == ["(1,a)"]
    assert as_of(connection, "thing", before, "4") == []
    assert as_of(connection, "thing", moment(connection)) == copy(connection, "thing")


def test_before_images_know_what_a_row_was_before_its_first_event(connection: Connection) -> None:
    connection.execute("CREATE TABLE thing (id integer PRIMARY KEY, v text)")
    connection.execute("INSERT INTO thing VALUES (1, 'a'), (2, 'b'), (3, 'c')")
    keep(connection, "thing", BEFORE_IMAGES)
    before, was = moment(connection), copy(connection, "thing")
    connection.execute("UPDATE thing SET v = 'B' WHERE id = 2")
    connection.execute("UPDATE thing SET id = 4 WHERE id = 3")

    assert as_of(connection, "thing", before) == was


def test_what_was_pruned_is_not_made_up(connection: Connection) -> None:
    connection.execute("CREATE TABLE thing (id integer PRIMARY KEY, v text)")
    track(connection, "thing", kind="history")
    connection.execute("INSERT INTO thing VALUES (1, 'a')")
    inserted = moment(connection)
    connection.execute("UPDATE thing SET v = 'b'")
    connection.execute("DELETE FROM thing_event WHERE pgh_operation = 'I'")

    for reltuples in (1, 1e6):
        connection.execute("UPDATE pg_class SET reltuples = %s WHERE relname = 'thing_event'", (reltuples,))
        refuses(connection, "what row 1 of table public.thing was like before", "thing", inserted)
        assert as_of(connection, "thing", moment(connection)) == ["(1,b)"]


def test_a_row_of_which_all_was_pruned_is_what_it_is_today(connection: Connection) -> None:
    connection.execute("CREATE TABLE thing (id integer PRIMARY KEY, v text)")
    track(connection, "thing", kind="history")
    connection.execute("INSERT INTO thing VALUES (1, 'a'), (2, 'b'), (3, 'c')")
    at, was = moment(connection), copy(connection, "thing")
    connection.execute("DELETE FROM thing_event")
    connection.execute("DELETE FROM thing WHERE id = 3")

    for reltuples in (1, 1e6):
        connection.execute("UPDATE pg_class SET reltuples = %s WHERE relname = 'thing_event'", (reltuples,))
        assert as_of(connection, "thing", at) == was
        assert as_of(connection, "thing", moment(connection)) == was[:2]


@pytest.mark.parametrize("kept", IMAGES)
def test_events_from_before_a_gap_are_not_used(connection: Connection, kept: str) -> None:
    connection.execute("CREATE TABLE thing (id integer PRIMARY KEY, v text)")
    event_table = keep(connection, "thing", KEPT_BY[kept])
    connection.execute("INSERT INTO thing VALUES (1, 'a'), (2, 'b'), (3, 'c')")
    before = moment(connection)
    call(connection, "untrack", "thing")
    connection.execute("UPDATE thing SET v = 'gap' WHERE id = 1")
    connection.execute("DELETE FROM thing WHERE id = 2")
    assert keep(connection, "thing", KEPT_BY[kept]) == event_table
    after = moment(connection)
    connection.execute("INSERT INTO thing VALUES (4, 'd')")

    refuses(connection, "does not reach back", "thing", before)
    assert as_of(connection, "thing", after) == ["(1,gap)", "(3,c)"]
    assert as_of(connection, "thing", moment(connection)) == copy(connection, "thing")


def test_a_tracker_that_recorded_something_else_before_tells_from_when_it_was_replaced(
    connection: Connection,
) -> None:
    connection.execute("CREATE TABLE thing (id integer PRIMARY KEY, v integer)")
    keep(connection, "thing", ("before_delete", "before_truncate"))
    track(connection, "thing", "changed", kind="snapshot", condition="NEW.v > 5")
    connection.execute("INSERT INTO thing VALUES (1, 1), (6, 6)")
    before = moment(connection)
    track(connection, "thing", "changed", kind="snapshot")
    after = moment(connection)
    connection.execute("INSERT INTO thing VALUES (2, 2)")

    refuses(connection, "does not reach back", "thing", before)
    assert as_of(connection, "thing", after) == ["(1,1)", "(6,6)"]
    track(connection, "thing", "changed", kind="snapshot", level="row")
    assert as_of(connection, "thing", after) == ["(1,1)", "(6,6)"]


def test_two_rows_that_shared_a_key_for_a_while_are_told_apart_or_not_at_all(connection: Connection) -> None:
    connection.execute(
        "CREATE TABLE thing (id integer PRIMARY KEY DEFERRABLE INITIALLY DEFERRED, v text, seen boolean DEFAULT false)"
    )
    track(connection, "thing", kind="history")
    connection.execute("INSERT INTO thing VALUES (1, 'old')")
    with connection.transaction():
        connection.execute("INSERT INTO thing VALUES (1, 'new')")
        connection.execute("DELETE FROM thing WHERE v = 'new'")
    at, was = moment(connection), copy(connection, "thing")
    assert as_of(connection, "thing", at) == was == ["(1,old,f)"]
    connection.execute("UPDATE thing SET seen = true")

    assert "had two rows under one key" in refuses(
        connection, "which of two rows stayed that were row 1 of table public.thing is not known", "thing", at
    )
    assert as_of(connection, "thing", moment(connection)) == copy(connection, "thing")


def test_null_is_no_time(connection: Connection) -> None:
    connection.execute("CREATE TABLE thing (id integer PRIMARY KEY)")
    refused(connection, psycopg.errors.NullValueNotAllowed, "at", "SELECT pghistory.as_of(NULL::thing, NULL)")


def test_whoever_may_read_the_table_and_its_events_may_ask(
    connection: Connection, connect: Callable[..., Connection], role: Callable[..., str]
) -> None:
    connection.execute("CREATE TABLE thing (id integer PRIMARY KEY)")
    track(connection, "thing", kind="history")
    connection.execute("INSERT INTO thing VALUES (1)")
    at = moment(connection)
    reader, blind = role("reader"), role("blind")
    connection.execute(f"GRANT SELECT ON thing TO {reader}, {blind}")
    connection.execute(f"GRANT SELECT ON thing_event TO {reader}")

    assert as_of(connect(user=reader), "thing", at) == ["(1)"]
    assert as_of(connect(user=reader), "thing", at, "1") == ["(1)"]
    with pytest.raises(psycopg.errors.InsufficientPrivilege, match="thing_event"):
        as_of(connect(user=blind), "thing", at)
