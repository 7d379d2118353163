"""Every sort of table and column, and every way of writing to it."""

from __future__ import annotations

import psycopg
import pytest
from history import LEVELS, Connection, call, events, rows, track, triggers, value, warnings_of

OBJECT = "pgh_operation, pgh_obj_id"


def track_at_every_level(connection: Connection, table: str, **options: object) -> str:
    """Record the history of a table once for each level, labelled with it, and return the event table."""
    for level in LEVELS:
        event_table = track(connection, table, level, kind="history", level=level, **options)
    return event_table


# Keys


def test_objects_are_named_by_a_key_of_several_columns(connection: Connection) -> None:
    connection.execute(
        "CREATE TABLE line (n integer, order_id uuid, product text, PRIMARY KEY (order_id, n))"
    )
    track_at_every_level(connection, "line")
    uuid = "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"
    connection.execute(f"INSERT INTO line VALUES (1, '{uuid}', 'pen'), (2, '{uuid}', 'ink')")
    connection.execute("UPDATE line SET n = n + 10 WHERE n = 2")
    connection.execute("DELETE FROM line")
    columns = "pgh_operation, pgh_obj_order_id::text, pgh_obj_n, pgh_other_n, product"
    for level in LEVELS:
        assert sorted(events(connection, "line_event", columns, level), key=str) == sorted(
            [
                ("I", uuid, 1, None, "pen"),
                ("I", uuid, 2, None, "ink"),
                ("U", uuid, 12, 2, "ink"),
                ("D", uuid, 1, None, "pen"),
                ("D", uuid, 12, None, "ink"),
            ],
            key=str,
        )


def test_a_join_table_is_tracked(connection: Connection) -> None:
    connection.execute(
        """CREATE TABLE users (id integer PRIMARY KEY); CREATE TABLE groups (id integer PRIMARY KEY);
        CREATE TABLE members (
            user_id integer REFERENCES users ON DELETE CASCADE,
            group_id integer REFERENCES groups ON DELETE CASCADE,
            PRIMARY KEY (user_id, group_id)
        )"""
    )
    track(connection, "members", kind="history")
    connection.execute("INSERT INTO users VALUES (1), (2); INSERT INTO groups VALUES (7)")
    connection.execute("INSERT INTO members VALUES (1, 7), (2, 7)")
    connection.execute("DELETE FROM users WHERE id = 1")
    assert events(connection, "members_event", "pgh_operation, pgh_obj_user_id, pgh_obj_group_id") == [
        ("I", 1, 7),
        ("I", 2, 7),
        ("D", 1, 7),
    ]


def test_a_table_without_key_and_with_duplicate_rows_is_tracked(connection: Connection) -> None:
    connection.execute("CREATE TABLE measure (place text, degrees integer)")
    track_at_every_level(connection, "measure")
    connection.execute("INSERT INTO measure VALUES ('Rome', 20), ('Rome', 20), ('Rome', 20), ('Bonn', 10)")
    connection.execute("UPDATE measure SET degrees = CASE place WHEN 'Rome' THEN 21 ELSE 10 END")
    connection.execute(
        "DELETE FROM measure WHERE ctid = (SELECT min(ctid) FROM measure WHERE place = 'Rome')"
    )
    connection.execute("TRUNCATE measure")
    for level in LEVELS:
        found = events(connection, "measure_event", "pgh_operation, place, degrees", level)
        assert sorted(found) == [
            ("D", "Rome", 21),
            ("I", "Bonn", 10),
            *[("I", "Rome", 20)] * 3,
            ("T", "Bonn", 10),
            *[("T", "Rome", 21)] * 2,
            *[("U", "Rome", 21)] * 3,
        ]


@pytest.mark.parametrize("level", LEVELS)
def test_rows_that_swap_their_primary_keys_in_one_statement_are_told_apart(
    connection: Connection, level: str
) -> None:
    connection.execute("CREATE TABLE seat (id integer PRIMARY KEY DEFERRABLE, guest text)")
    connection.execute("INSERT INTO seat VALUES (1, 'Ann'), (2, 'Tim'), (3, 'Eve')")
    track(connection, "seat", kind="history", level=level)
    condition = "old.guest = 'Tim' AND new.id < old.id"
    track(connection, "seat", "moved down", kind="after_update", condition=condition, level=level)
    connection.execute("UPDATE seat SET id = CASE id WHEN 1 THEN 2 WHEN 2 THEN 1 ELSE 3 END")
    columns = "pgh_operation, pgh_other_id, pgh_obj_id, guest"
    assert sorted(events(connection, "seat_event", columns, "seat.history")) == [
        ("U", 1, 2, "Ann"),
        ("U", 2, 1, "Tim"),
    ]
    assert events(connection, "seat_event", "pgh_obj_id, guest", "moved down") == [(1, "Tim")]


@pytest.mark.parametrize("level", LEVELS)
def test_keys_that_move_up_by_one_are_told_apart(connection: Connection, level: str) -> None:
    connection.execute("CREATE TABLE seat (id integer PRIMARY KEY DEFERRABLE, guest text)")
    connection.execute("INSERT INTO seat SELECT n, 'guest ' || n FROM generate_series(1, 20) AS n")
    track(connection, "seat", kind="before_update", level=level)
    connection.execute("UPDATE seat SET id = id + 1")
    assert sorted(events(connection, "seat_event", "pgh_obj_id, pgh_other_id, guest")) == [
        (n, n + 1, f"guest {n}") for n in range(1, 21)
    ]


# Types

TYPES = {
    "smallint": "7",
    "bigint": "9223372036854775807",
    "numeric(12, 3)": "12345.600",
    "real": "1.5",
    "double precision": "'-Infinity'",
    "money": "12.34",
    "boolean": "true",
    '"char"': "'x'",
    "name": "'a name'",
    "character(5)": "'ab'",
    "varchar(5)": "'abcde'",
    "text": r"E'quote '' percent % back\\slash \n'",
    "citext": "'Case'",
    "bytea": r"'\x00ff'",
    "date": "'-infinity'",
    "time": "'12:34:56.789'",
    "timetz": "'12:34:56+02'",
    "timestamp": "'0044-03-15 12:00 BC'",
    "timestamptz(0)": "'2026-03-29 02:30+01'",
    "interval": "'1 mon -1 day 00:00:01'",
    "uuid": "'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11'",
    "json": """' {"b": 1, "a": [null, "x"]}'""",
    "jsonb": """'{"b": 1, "a": [null, "x"]}'""",
    "jsonpath": "'$.a[*]'",
    "xml": "'<a b=\"c\">d</a>'",
    "hstore": "'a=>1, b=>NULL'",
    "point": "'(1,2)'",
    "line": "'{1,2,3}'",
    "lseg": "'[(0,0),(1,1)]'",
    "box": "'(1,1),(0,0)'",
    "path": "'((0,0),(1,1))'",
    "polygon": "'((0,0),(1,1),(2,0))'",
    "circle": "'<(0,0),1>'",
    "inet": "'192.168.0.1/24'",
    "cidr": "'192.168.0.0/24'",
    "macaddr": "'08:00:2b:01:02:03'",
    "macaddr8": "'08:00:2b:01:02:03:04:05'",
    "bit(3)": "B'101'",
    "bit varying(5)": "B'10'",
    "tsvector": "'fat:2 cat:3A'",
    "tsquery": "'fat & (cat | !rat)'",
    "int4range": "'[1,5)'",
    "tstzrange": "'[2026-01-01,)'",
    "pg_lsn": "'16/B374D848'",
    "xid8": "'42'",
    "oid": "4000000000",
    "regclass": "'pg_class'",
    "integer[]": "'{1,NULL,3}'",
    "text[][]": """'{{a,"b c"},{"{",NULL}}'""",
    "integer[3]": "'[0:2]={1,2,3}'",
    "json[]": """ARRAY['{"a": 1}'::json]""",
    "mood": "'happy'",
    "mood[]": "'{sad,happy}'",
    "positive": "7",
    "mandatory": "7",
    "positive[]": "'{1,2}'",
    "pair": "ROW(1, 'x')",
    "pair[]": "ARRAY[ROW(1, 'x')::pair]",
    "users": "ROW(1, 'Ann')",
    "spread": "'[1.5,2.5]'",
}


@pytest.fixture
def made_types(connection: Connection) -> None:
    connection.execute(
        """CREATE TYPE mood AS ENUM ('sad', 'happy');
        CREATE DOMAIN positive AS integer CHECK (VALUE > 0);
        CREATE DOMAIN mandatory AS integer NOT NULL;
        CREATE TYPE pair AS (a integer, b text);
        CREATE TYPE spread AS RANGE (subtype = float8);
        CREATE TABLE users (id integer, name text)"""
    )


@pytest.mark.usefixtures("made_types")
def test_a_value_of_every_type_is_kept_as_it_is(connection: Connection) -> None:
    for number, (of_type, content) in enumerate(TYPES.items()):
        table = f"sample_{number}"
        connection.execute(f"CREATE TABLE {table} (id integer PRIMARY KEY, content {of_type})")
        for level in ("row", "statement"):
            track(connection, table, level, kind="history", level=level)
        connection.execute(f"INSERT INTO {table} VALUES (1, {content})")
        image = value(connection, f"SELECT content::text FROM {table}")
        if of_type != "mandatory":
            connection.execute(f"UPDATE {table} SET content = NULL; UPDATE {table} SET content = NULL")
        connection.execute(f"UPDATE {table} SET content = {content}; DELETE FROM {table}")
        connection.execute(f"INSERT INTO {table} VALUES (2, {content}); TRUNCATE {table}")
        updates = [] if of_type == "mandatory" else [("U", None), ("U", image)]
        expected = [("I", image), *updates, ("D", image), ("I", image), ("T", image)]
        for level in ("row", "statement"):
            found = events(connection, f"{table}_event", "pgh_operation, content::text", level)
            assert found == expected, (of_type, level)


@pytest.mark.usefixtures("made_types")
def test_a_key_of_every_type_names_its_object(connection: Connection) -> None:
    for number, of_type in enumerate(TYPES):
        table = f"sample_{number}"
        connection.execute(f"CREATE TABLE {table} (content {of_type}, remark text)")
        track(connection, table, kind="history", obj_key=["content"])
        connection.execute(f"INSERT INTO {table} VALUES ({TYPES[of_type]}); UPDATE {table} SET remark = 'x'")
        found = events(connection, f"{table}_event", "pgh_obj_id::text = content::text")
        assert found == [True, True], of_type


def test_generated_and_identity_columns_are_recorded_with_their_values(connection: Connection) -> None:
    connection.execute(
        """CREATE TABLE parcel (
            id integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
            number bigint GENERATED BY DEFAULT AS IDENTITY (START 100),
            width integer, height integer,
            area integer GENERATED ALWAYS AS (width * height) STORED
        )"""
    )
    track_at_every_level(connection, "parcel")
    connection.execute("INSERT INTO parcel (width, height) VALUES (2, 3)")
    connection.execute("UPDATE parcel SET width = 5")
    connection.execute("DELETE FROM parcel")
    for level in LEVELS:
        assert events(connection, "parcel_event", "pgh_operation, id, number, area", level) == [
            ("I", 1, 100, 6),
            ("U", 1, 100, 15),
            ("D", 1, 100, 15),
        ]


def test_values_set_by_triggers_before_the_write_are_recorded(connection: Connection) -> None:
    connection.execute(
        """CREATE TABLE note (id integer PRIMARY KEY, content text, written_by text DEFAULT 'nobody');
        CREATE FUNCTION sign() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            IF NEW.content = 'unwanted' THEN
                RETURN NULL;
            END IF;
            NEW.written_by := 'trigger';
            RETURN NEW;
        END $$;
        CREATE TRIGGER sign BEFORE INSERT OR UPDATE ON note FOR EACH ROW EXECUTE FUNCTION sign()"""
    )
    track_at_every_level(connection, "note")
    connection.execute(
        "INSERT INTO note VALUES (1, 'a'), (2, 'unwanted'); UPDATE note SET content = 'unwanted'"
    )
    for level in LEVELS:
        assert events(connection, "note_event", "pgh_operation, id, written_by", level) == [
            ("I", 1, "trigger")
        ]


def test_a_table_of_1200_columns_is_tracked(connection: Connection) -> None:
    columns = [f"c{number}" for number in range(1200)]
    connection.execute(f"CREATE TABLE wide (id integer PRIMARY KEY, {' integer, '.join(columns)} integer)")
    for level in ("auto", "row"):
        track(connection, "wide", level, kind="history", level=level)
    connection.execute("INSERT INTO wide (id, c0, c1199) VALUES (1, 1, 2), (2, 2, 3)")
    connection.execute("UPDATE wide SET c1199 = 3; UPDATE wide SET c1199 = 3; DELETE FROM wide WHERE id = 1")
    connection.execute("TRUNCATE wide")
    for level in ("auto", "row"):
        assert events(connection, "wide_event", "pgh_operation, id, c0, c1199", level) == [
            ("I", 1, 1, 2),
            ("I", 2, 2, 3),
            ("U", 1, 1, 3),
            ("D", 1, 1, 3),
            ("T", 2, 2, 3),
        ]


def test_a_row_that_just_fits_its_page_is_written_and_its_event_says_what_it_can(
    connection: Connection,
) -> None:
    names = [f"c{number}" for number in range(1000)]
    connection.execute(f"CREATE TABLE wide (id bigint PRIMARY KEY, {' bigint, '.join(names)} bigint)")
    track(connection, "wide", kind="history")
    connection.execute("INSERT INTO wide (id) VALUES (1)")
    with warnings_of(connection) as warnings:
        connection.execute(f"INSERT INTO wide VALUES (2, {', '.join(['7'] * 1000)})")
        connection.execute("DELETE FROM wide")
    assert len(warnings) == 2
    assert events(connection, "wide_event", "pgh_operation, pgh_obj_id, c999") == [
        ("I", 1, None),
        ("I", 2, None),
        ("D", 1, None),
        ("D", 2, None),
    ]


def test_a_key_too_large_for_an_index_is_no_hindrance(connection: Connection) -> None:
    connection.execute("CREATE TABLE page (content text)")
    track(connection, "page", kind="history", obj_key=["content"])
    connection.execute(
        "INSERT INTO page SELECT string_agg(md5(n::text), '') FROM generate_series(1, 1000) AS n"
    )
    assert events(connection, "page_event", "length(pgh_obj_id)") == [32000]


def test_a_table_without_columns_is_tracked(connection: Connection) -> None:
    connection.execute("CREATE TABLE empty ()")
    track_at_every_level(connection, "empty")
    connection.execute("INSERT INTO empty DEFAULT VALUES; DELETE FROM empty")
    for level in LEVELS:
        assert events(connection, "empty_event", label=level) == ["I", "D"]


def test_columns_dropped_before_tracking_are_no_hindrance(connection: Connection) -> None:
    connection.execute(
        """CREATE TABLE t (gone integer, a integer PRIMARY KEY, gone_too text, b text);
        ALTER TABLE t DROP COLUMN gone; ALTER TABLE t DROP COLUMN gone_too;
        ALTER TABLE t ADD COLUMN c integer DEFAULT 7"""
    )
    track_at_every_level(connection, "t")
    connection.execute("INSERT INTO t VALUES (1, 'x'); UPDATE t SET b = 'y'; TRUNCATE t")
    for level in LEVELS:
        found = events(connection, "t_event", "pgh_operation, pgh_obj_id, a, b, c", level)
        assert found == [("I", 1, 1, "x", 7), ("U", 1, 1, "y", 7), ("T", 1, 1, "y", 7)]


@pytest.mark.parametrize("level", LEVELS)
def test_columns_that_share_names_with_what_generated_code_uses(connection: Connection, level: str) -> None:
    names = [
        *(
            "old",
            "new",
            "old_rows",
            "new_rows",
            "label",
            "event_id",
            "tg_op",
            "found",
            "record",
            "now",
            "text",
        ),
        *("public", "t", "t_event", "row_number", "pgh_number"),
    ]
    connection.execute(f"CREATE TABLE t (id integer PRIMARY KEY, {' text, '.join(names)} text)")
    track(connection, "t", kind="history", level=level)
    connection.execute("INSERT INTO t (id, old, new) VALUES (1, 'a', 'b'), (2, 'a', 'b')")
    connection.execute("UPDATE t SET new = 'c', old = 'd', label = 'e'")
    assert events(connection, "t_event", "pgh_operation, id, old, new, t_event.label") == [
        ("I", 1, "a", "b", None),
        ("I", 2, "a", "b", None),
        ("U", 1, "d", "c", "e"),
        ("U", 2, "d", "c", "e"),
    ]


# Ways of writing


@pytest.fixture
def stock(connection: Connection) -> str:
    connection.execute("CREATE TABLE stock (id integer PRIMARY KEY, held integer)")
    return track_at_every_level(connection, "stock")


HELD = "pgh_operation, pgh_obj_id, held"


def assert_at_every_level(
    connection: Connection, event_table: str, columns: str, expected: list[object]
) -> None:
    for level in LEVELS:
        assert sorted(events(connection, event_table, columns, level), key=str) == sorted(
            expected, key=str
        ), level


def test_an_upsert_is_an_insert_or_an_update(connection: Connection, stock: str) -> None:
    connection.execute("INSERT INTO stock VALUES (1, 10), (2, 20)")
    connection.execute(
        """INSERT INTO stock VALUES (2, 5), (3, 5), (1, 0)
        ON CONFLICT (id) DO UPDATE SET held = stock.held + EXCLUDED.held"""
    )
    connection.execute("INSERT INTO stock VALUES (2, 5), (4, 5) ON CONFLICT DO NOTHING")
    expected = [("I", 1, 10), ("I", 2, 20), ("U", 2, 25), ("I", 3, 5), ("I", 4, 5)]
    assert_at_every_level(connection, stock, HELD, expected)


def test_a_merge_does_all_three(connection: Connection, stock: str) -> None:
    if connection.info.server_version < 150000:
        return  # there is no MERGE
    connection.execute("INSERT INTO stock VALUES (1, 10), (2, 20), (3, 30)")
    connection.execute(
        """MERGE INTO stock USING (VALUES (1, 5), (2, -20), (4, 1), (3, 0)) AS delivery (id, number)
              ON stock.id = delivery.id
        WHEN MATCHED AND stock.held + number = 0 THEN DELETE
        WHEN MATCHED THEN UPDATE SET held = stock.held + number
        WHEN NOT MATCHED THEN INSERT VALUES (delivery.id, number)"""
    )
    expected = [("I", 1, 10), ("I", 2, 20), ("I", 3, 30), ("U", 1, 15), ("D", 2, 20), ("I", 4, 1)]
    assert_at_every_level(connection, stock, HELD, expected)


def test_copy_is_recorded(connection: Connection, stock: str) -> None:
    with connection.cursor() as cursor, cursor.copy("COPY stock FROM STDIN") as copy:
        for number in range(3):
            copy.write_row((number, number * 10))
    assert_at_every_level(connection, stock, HELD, [("I", 0, 0), ("I", 1, 10), ("I", 2, 20)])


def test_writable_ctes_are_recorded(connection: Connection, stock: str) -> None:
    connection.execute("INSERT INTO stock VALUES (1, 10), (2, 20)")
    connection.execute(
        """WITH gone AS (DELETE FROM stock WHERE id = 1 RETURNING *),
             more AS (UPDATE stock SET held = held + (SELECT held FROM gone) WHERE id = 2 RETURNING *)
        INSERT INTO stock SELECT id + 10, held FROM more"""
    )
    expected = [("I", 1, 10), ("I", 2, 20), ("D", 1, 10), ("U", 2, 30), ("I", 12, 30)]
    assert_at_every_level(connection, stock, HELD, expected)


def test_writes_through_views_and_rules_are_recorded(connection: Connection, stock: str) -> None:
    connection.execute(
        """CREATE VIEW low AS SELECT * FROM stock WHERE held < 10;
        CREATE TABLE orders (id integer, number integer);
        CREATE RULE take AS ON INSERT TO orders DO ALSO
            UPDATE stock SET held = held - NEW.number WHERE id = NEW.id"""
    )
    connection.execute(
        "INSERT INTO low VALUES (1, 5); UPDATE low SET held = 7; INSERT INTO orders VALUES (1, 3)"
    )
    assert_at_every_level(connection, stock, HELD, [("I", 1, 5), ("U", 1, 7), ("U", 1, 4)])


def test_cascades_are_recorded(connection: Connection) -> None:
    connection.execute(
        """CREATE TABLE parent (id integer PRIMARY KEY);
        CREATE TABLE child (
            id integer PRIMARY KEY, parent integer REFERENCES parent ON DELETE CASCADE ON UPDATE CASCADE);
        CREATE TABLE friend (id integer PRIMARY KEY, parent integer REFERENCES parent ON DELETE SET NULL);
        INSERT INTO parent VALUES (1);
        INSERT INTO child VALUES (10, 1), (11, 1);
        INSERT INTO friend VALUES (20, 1)"""
    )
    for table in ("parent", "child", "friend"):
        track_at_every_level(connection, table)
    connection.execute("DELETE FROM friend; UPDATE parent SET id = 2; INSERT INTO friend VALUES (21, 2)")
    connection.execute("DELETE FROM parent")
    assert_at_every_level(connection, "parent_event", OBJECT, [("U", 2), ("D", 2)])
    assert_at_every_level(connection, "child_event", OBJECT, [("U", 10), ("U", 11), ("D", 10), ("D", 11)])
    assert_at_every_level(
        connection, "friend_event", "pgh_operation, id, parent", [("D", 20, 1), ("I", 21, 2), ("U", 21, None)]
    )


def test_truncates_are_recorded_also_by_cascade(connection: Connection) -> None:
    connection.execute(
        """CREATE TABLE parent (id integer PRIMARY KEY);
        CREATE TABLE child (id integer PRIMARY KEY, parent integer REFERENCES parent);
        INSERT INTO parent VALUES (1), (2); INSERT INTO child VALUES (10, 1), (11, 2), (12, NULL)"""
    )
    track_at_every_level(connection, "parent")
    track_at_every_level(connection, "child")
    connection.execute("TRUNCATE parent RESTART IDENTITY CASCADE")
    assert_at_every_level(connection, "parent_event", OBJECT, [("T", 1), ("T", 2)])
    assert_at_every_level(connection, "child_event", OBJECT, [("T", 10), ("T", 11), ("T", 12)])


def test_an_update_joined_with_another_table_is_recorded_once_for_each_row(
    connection: Connection, stock: str
) -> None:
    connection.execute("INSERT INTO stock VALUES (1, 10), (2, 20)")
    connection.execute(
        """UPDATE stock SET held = d.number
             FROM (VALUES (1, 5), (1, 5)) AS d (id, number) WHERE d.id = stock.id"""
    )
    connection.execute("DELETE FROM stock USING (VALUES (2), (2)) AS d (id) WHERE d.id = stock.id")
    assert_at_every_level(connection, stock, HELD, [("I", 1, 10), ("I", 2, 20), ("U", 1, 5), ("D", 2, 20)])


def test_writes_in_functions_and_cursors_are_recorded(connection: Connection, stock: str) -> None:
    connection.execute(
        """DO $$
        DECLARE
            this CURSOR FOR SELECT * FROM stock FOR UPDATE;
        BEGIN
            FOR n IN 1..3 LOOP
                INSERT INTO stock VALUES (n, n);
            END LOOP;
            FOR r IN this LOOP
                UPDATE stock SET held = held * 10 WHERE CURRENT OF this;
            END LOOP;
        END $$"""
    )
    expected: list[object] = [
        (letter, n, n * factor) for n in (1, 2, 3) for letter, factor in (("I", 1), ("U", 10))
    ]
    assert_at_every_level(connection, stock, HELD, expected)


SESSION_SETTINGS = [
    "standard_conforming_strings = off",
    "quote_all_identifiers = on",
    "DateStyle = 'German'",
    "IntervalStyle = 'sql_standard'",
    "TimeZone = 'Asia/Kathmandu'",
    "extra_float_digits = -15",
    "bytea_output = 'escape'",
    "search_path = ''",
    "search_path = pg_temp",
    "row_security = off",
    "default_transaction_isolation = serializable",
    "check_function_bodies = off",
    "plpgsql.variable_conflict = use_variable",
    "xmlbinary = hex",
    "array_nulls = off",
    "backslash_quote = on",
    "transform_null_equals = on",
    "escape_string_warning = on",
    "default_toast_compression = pglz",
    "jit = on",
    "plan_cache_mode = force_generic_plan",
    "statement_timeout = '1min'",
    "client_encoding = 'LATIN1'",
]


@pytest.mark.parametrize("setting", SESSION_SETTINGS)
def test_settings_of_the_session_change_nothing(connection: Connection, setting: str) -> None:
    connection.execute(
        r"""CREATE TABLE "It's" (
            id integer PRIMARY KEY,
            "back\slash" text,
            at timestamptz,
            part double precision,
            content bytea,
            span interval
        )"""
    )
    connection.execute(f"SET {setting}")
    table = 'public."It\'s"'
    for level in LEVELS:
        options: dict[str, object] = {"kind": "history", "level": level, "event_table": "public.history"}
        track(connection, table, rf"it's \ {level}", **options)
        condition = r"""new."back\slash" LIKE 'it''s%odd' AND new.at > '2026-01-02' AND new.part <> 0.1"""
        track(
            connection,
            table,
            rf"if \ {level}",
            condition=condition,
            level=level,
            event_table="public.history",
        )
    connection.execute(
        f"""INSERT INTO {table}
            VALUES (1, %s, '2026-02-03 04:05:06.789+00', 0.1::float8 + 0.2, %s, '1 day -02:03:04')""",
        [r"it's \ odd", b"\x00\xff'\\"],
    )
    connection.execute(f"UPDATE {table} SET part = part WHERE id = 1; UPDATE {table} SET part = part * 3")
    connection.execute(f"DELETE FROM {table}")
    connection.execute("RESET ALL")
    image = """id, "back\\slash", at = '2026-02-03 04:05:06.789+00', content = '\\x00ff275c',
               span = '1 day -02:03:04', part = 0.1::float8 + 0.2"""
    first = (1, r"it's \ odd", True, True, True, True)
    second = (*first[:-1], False)
    for level in LEVELS:
        found = events(connection, "history", f"pgh_operation, {image}", rf"it's \ {level}")
        assert found == [("I", *first), ("U", *second), ("D", *second)]
        assert events(connection, "history", label=rf"if \ {level}") == ["I", "U"]


# Partitions

PARTITIONED = """
    CREATE TABLE sale (id integer, year integer, total numeric, note text, PRIMARY KEY (id, year))
        PARTITION BY LIST (year);
    CREATE TABLE sale_2025 PARTITION OF sale FOR VALUES IN (2025);
    CREATE TABLE sale_2026 (note text, gone text, total numeric, year integer NOT NULL, id integer NOT NULL);
    ALTER TABLE sale_2026 DROP COLUMN gone;
    ALTER TABLE sale ATTACH PARTITION sale_2026 FOR VALUES IN (2026);
"""


@pytest.fixture
def sale(connection: Connection) -> str:
    """A partitioned table; one of its partitions has another order of columns. Returns the event table."""
    connection.execute(PARTITIONED)
    return track(connection, "sale", kind="history")


def sale_events(connection: Connection) -> list[tuple[object, ...]]:
    return events(connection, "sale_event", "pgh_operation, id, year, total::integer, note")


def test_writes_to_a_partitioned_table_and_to_its_partitions_are_recorded(
    connection: Connection, sale: str
) -> None:
    connection.execute("INSERT INTO sale VALUES (1, 2025, 10, 'a'), (2, 2026, 20, 'b')")
    connection.execute("INSERT INTO sale_2025 VALUES (3, 2025, 30, 'c')")
    connection.execute("INSERT INTO sale_2026 (id, year, total, note) VALUES (4, 2026, 40, 'd')")
    connection.execute(
        "UPDATE sale SET total = total + 1 WHERE id = 1; UPDATE sale_2026 SET note = 'e' WHERE id = 4"
    )
    connection.execute(
        "UPDATE sale_2026 SET note = note; DELETE FROM sale_2025 WHERE id = 3; DELETE FROM sale WHERE id = 2"
    )
    assert sale_events(connection) == [
        ("I", 1, 2025, 10, "a"),
        ("I", 2, 2026, 20, "b"),
        ("I", 3, 2025, 30, "c"),
        ("I", 4, 2026, 40, "d"),
        ("U", 1, 2025, 11, "a"),
        ("U", 4, 2026, 40, "e"),
        ("D", 3, 2025, 30, "c"),
        ("D", 2, 2026, 20, "b"),
    ]


@pytest.mark.usefixtures("sale")
def test_a_row_that_moves_to_another_partition_is_deleted_and_inserted(connection: Connection) -> None:
    connection.execute("INSERT INTO sale VALUES (1, 2025, 10, 'a')")
    connection.execute("UPDATE sale SET year = 2026, total = 11")
    assert sale_events(connection) == [
        ("I", 1, 2025, 10, "a"),
        ("D", 1, 2025, 10, "a"),
        ("I", 1, 2026, 11, "a"),
    ]


@pytest.mark.usefixtures("sale")
def test_truncating_a_partitioned_table_or_one_partition_is_recorded(connection: Connection) -> None:
    connection.execute("INSERT INTO sale VALUES (1, 2025, 10, 'a'), (2, 2026, 20, 'b'), (3, 2026, 30, 'c')")
    connection.execute("TRUNCATE sale_2026")
    connection.execute("TRUNCATE sale")
    assert sale_events(connection)[3:] == [
        ("T", 2, 2026, 20, "b"),
        ("T", 3, 2026, 30, "c"),
        ("T", 1, 2025, 10, "a"),
    ]


@pytest.mark.usefixtures("sale")
def test_partitions_made_or_attached_later_are_recorded(connection: Connection) -> None:
    connection.execute(
        """CREATE TABLE sale_2027 PARTITION OF sale FOR VALUES IN (2027);
        CREATE TABLE sale_2028 (total numeric, id integer NOT NULL, note text, year integer NOT NULL);
        ALTER TABLE sale ATTACH PARTITION sale_2028 FOR VALUES IN (2028);
        CREATE TABLE sale_rest PARTITION OF sale DEFAULT PARTITION BY RANGE (year);
        CREATE TABLE sale_2030s PARTITION OF sale_rest FOR VALUES FROM (2030) TO (2040)"""
    )
    for number, year in enumerate((2027, 2028, 2031)):
        connection.execute(f"INSERT INTO sale VALUES ({number}, {year}, 10, 'a')")
    connection.execute("INSERT INTO sale_2028 (id, year, total, note) VALUES (9, 2028, 90, 'direct')")
    connection.execute("INSERT INTO sale_2030s (id, year, total, note) VALUES (8, 2032, 80, 'direct')")
    connection.execute("UPDATE sale SET total = total + 1 WHERE id = 9")
    connection.execute("TRUNCATE sale_2028; TRUNCATE sale_2030s; TRUNCATE sale_2027")
    assert sale_events(connection) == [
        ("I", 0, 2027, 10, "a"),
        ("I", 1, 2028, 10, "a"),
        ("I", 2, 2031, 10, "a"),
        ("I", 9, 2028, 90, "direct"),
        ("I", 8, 2032, 80, "direct"),
        ("U", 9, 2028, 91, "direct"),
        ("T", 1, 2028, 10, "a"),
        ("T", 9, 2028, 91, "direct"),
        ("T", 2, 2031, 10, "a"),
        ("T", 8, 2032, 80, "direct"),
        ("T", 0, 2027, 10, "a"),
    ]


@pytest.mark.usefixtures("sale")
def test_a_detached_partition_is_no_longer_recorded(connection: Connection) -> None:
    connection.execute("INSERT INTO sale VALUES (1, 2025, 10, 'a'), (2, 2026, 20, 'b')")
    connection.execute("ALTER TABLE sale DETACH PARTITION sale_2026")
    connection.execute("UPDATE sale_2026 SET note = 'x'; INSERT INTO sale_2026 VALUES ('y', 1, 2026, 5)")
    connection.execute("TRUNCATE sale_2026")
    connection.execute("DROP TABLE sale_2025")
    assert sale_events(connection) == [("I", 1, 2025, 10, "a"), ("I", 2, 2026, 20, "b")]


def test_a_single_partition_can_be_tracked(connection: Connection) -> None:
    connection.execute(PARTITIONED)
    track(connection, "sale_2026", kind="history")
    connection.execute("INSERT INTO sale VALUES (1, 2025, 10, 'a'), (2, 2026, 20, 'b')")
    connection.execute("UPDATE sale SET note = 'c'; UPDATE sale SET year = 2025 WHERE id = 2; TRUNCATE sale")
    columns = "pgh_operation, id, year, note"
    assert events(connection, "sale_2026_event", columns) == [
        ("I", 2, 2026, "b"),
        ("U", 2, 2026, "c"),
        ("D", 2, 2026, "c"),
    ]


def test_a_partition_can_be_tracked_beside_its_table(connection: Connection, sale: str) -> None:
    track(connection, "sale_2026", "2026", kind="history")
    connection.execute("INSERT INTO sale VALUES (1, 2025, 10, 'a'), (2, 2026, 20, 'b'); TRUNCATE sale")
    assert events(connection, sale, "pgh_operation, id") == [("I", 1), ("I", 2), ("T", 1), ("T", 2)]
    assert events(connection, "sale_2026_event", "pgh_operation, id") == [("I", 2), ("T", 2)]
    assert call(connection, "untrack", "sale_2026") == 1
    connection.execute("INSERT INTO sale VALUES (3, 2026, 30, 'c'); TRUNCATE sale")
    assert events(connection, sale, "pgh_operation, id")[4:] == [("I", 3), ("T", 3)]


def test_conditions_and_changes_hold_for_partitions_of_another_column_order(connection: Connection) -> None:
    connection.execute(PARTITIONED)
    condition = "new.total > old.total AND new.note = 'x'"
    track(connection, "sale", "raised", kind="after_update", condition=condition)
    track(connection, "sale", "noted", kind="after_update", condition=call(connection, "any_change", "note"))
    track(connection, "sale", "some", fields=["note", "total"])
    connection.execute("INSERT INTO sale VALUES (1, 2025, 10, 'x'), (2, 2026, 10, 'x')")
    connection.execute("UPDATE sale SET total = 11")
    connection.execute("UPDATE sale SET note = 'y'")
    assert events(connection, "sale_event", "id", "raised") == [1, 2]
    assert events(connection, "sale_event", "id", "noted") == [1, 2]
    assert events(connection, "sale_total_note_event", "pgh_obj_id, total::integer, note") == [
        (1, 10, "x"),
        (2, 10, "x"),
        (1, 11, "x"),
        (2, 11, "x"),
        (1, 11, "y"),
        (2, 11, "y"),
    ]


# Inheritance


def test_a_parent_and_its_heirs_are_tracked_each_for_itself(connection: Connection) -> None:
    connection.execute(
        """CREATE TABLE city (id integer PRIMARY KEY, name text);
        CREATE TABLE capital (country text, PRIMARY KEY (id)) INHERITS (city)"""
    )
    track(connection, "city", kind="history")
    connection.execute("INSERT INTO city VALUES (1, 'Bonn'); INSERT INTO capital VALUES (2, 'Rome', 'Italy')")
    connection.execute("UPDATE city SET name = upper(name)")
    assert events(connection, "city_event", "pgh_operation, name") == [("I", "Bonn"), ("U", "BONN")]
    track(connection, "capital", kind="history")
    connection.execute("UPDATE city SET name = lower(name)")
    connection.execute("DELETE FROM city")
    connection.execute("INSERT INTO capital VALUES (3, 'Paris', 'France'); TRUNCATE city")
    assert events(connection, "city_event", "pgh_operation, name")[2:] == [("U", "bonn"), ("D", "bonn")]
    assert events(connection, "capital_event", "pgh_operation, name, country") == [
        ("U", "rome", "Italy"),
        ("D", "rome", "Italy"),
        ("I", "Paris", "France"),
        ("T", "Paris", "France"),
    ]


def test_a_table_that_gets_an_heir_later_is_still_recorded(connection: Connection) -> None:
    connection.execute("CREATE TABLE city (id integer PRIMARY KEY, name text)")
    track(connection, "city", kind="history")
    assert ("insert", "statement") in triggers(connection, "city")
    connection.execute("CREATE TABLE capital (country text) INHERITS (city)")
    connection.execute("INSERT INTO city VALUES (1, 'Bonn'); INSERT INTO capital VALUES (2, 'Rome', 'Italy')")
    connection.execute("DELETE FROM city")
    assert events(connection, "city_event", "pgh_operation, name") == [("I", "Bonn"), ("D", "Bonn")]


# Tables of other sorts


def test_an_unlogged_table_is_tracked(connection: Connection) -> None:
    connection.execute("CREATE UNLOGGED TABLE t (id integer PRIMARY KEY)")
    track_at_every_level(connection, "t")
    connection.execute("INSERT INTO t VALUES (1)")
    assert_at_every_level(connection, "t_event", OBJECT, [("I", 1)])


def test_a_table_of_a_composite_type_is_tracked(connection: Connection) -> None:
    connection.execute(
        "CREATE TYPE kind AS (id integer, name text); CREATE TABLE t OF kind (PRIMARY KEY (id))"
    )
    track_at_every_level(connection, "t")
    connection.execute("INSERT INTO t VALUES (1, 'a'); UPDATE t SET name = 'b'")
    assert_at_every_level(connection, "t_event", OBJECT, [("I", 1), ("U", 1)])


def test_a_table_of_an_extension_is_tracked(connection: Connection) -> None:
    connection.execute(
        "CREATE TABLE setting (name text PRIMARY KEY); ALTER EXTENSION citext ADD TABLE setting"
    )
    track_at_every_level(connection, "setting")
    connection.execute("INSERT INTO setting VALUES ('a')")
    assert_at_every_level(connection, "setting_event", OBJECT, [("I", "a")])


def test_a_table_with_row_level_security_is_recorded_in_full(connection: Connection) -> None:
    connection.execute(
        """CREATE TABLE note (id integer PRIMARY KEY, owner text);
        ALTER TABLE note ENABLE ROW LEVEL SECURITY;
        ALTER TABLE note FORCE ROW LEVEL SECURITY;
        CREATE POLICY own ON note USING (owner = session_user)"""
    )
    track_at_every_level(connection, "note")
    connection.execute("INSERT INTO note VALUES (1, 'postgres'), (2, 'somebody')")
    connection.execute("UPDATE note SET owner = 'else' WHERE id = 1")
    assert_at_every_level(connection, "note_event", OBJECT, [("I", 1), ("I", 2), ("U", 1)])


def test_a_table_that_replicates_is_recorded_on_its_origin(connection: Connection) -> None:
    connection.execute("CREATE TABLE t (id integer PRIMARY KEY); CREATE PUBLICATION p FOR TABLE t")
    track_at_every_level(connection, "t")
    connection.execute("INSERT INTO t VALUES (1); DELETE FROM t")
    assert_at_every_level(connection, "t_event", OBJECT, [("I", 1), ("D", 1)])


def test_the_tracked_table_can_be_dropped_and_its_events_stay(connection: Connection) -> None:
    connection.execute("CREATE TABLE t (id integer PRIMARY KEY)")
    track_at_every_level(connection, "t")
    connection.execute("INSERT INTO t VALUES (1); DROP TABLE t")
    assert_at_every_level(connection, "t_event", OBJECT, [("I", 1)])
    assert rows(connection, "SELECT * FROM pghistory.trackers()") == []
    assert value(connection, "SELECT count(*) FROM pg_proc WHERE proname ~ '^t_event'") == 0


def test_an_event_table_can_be_dropped_and_writes_go_on(connection: Connection) -> None:
    connection.execute("CREATE TABLE t (id integer PRIMARY KEY)")
    track_at_every_level(connection, "t")
    connection.execute("DROP TABLE t_event")
    connection.execute("INSERT INTO t VALUES (1); UPDATE t SET id = 2; DELETE FROM t; TRUNCATE t")
    assert rows(connection, "SELECT * FROM pghistory.trackers()") == []
    assert triggers(connection, "t") == set()


def test_a_prepared_transaction_is_recorded_when_it_is_committed(connection: Connection) -> None:
    connection.execute("CREATE TABLE t (id integer PRIMARY KEY)")
    track(connection, "t", kind="history")
    connection.execute("BEGIN; INSERT INTO t VALUES (1); PREPARE TRANSACTION 'recorded'")
    assert events(connection, "t_event") == []
    connection.execute("COMMIT PREPARED 'recorded'")
    assert events(connection, "t_event", "id") == [1]


def test_a_failing_constraint_of_the_event_table_is_its_owners_business(connection: Connection) -> None:
    connection.execute("CREATE TABLE t (id integer PRIMARY KEY)")
    track(connection, "t")
    connection.execute("ALTER TABLE t_event ADD CHECK (id > 0)")
    with pytest.raises(psycopg.errors.CheckViolation):
        connection.execute("INSERT INTO t VALUES (-1)")
