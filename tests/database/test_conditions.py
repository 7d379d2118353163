"""Conditions: what they may say, what is refused, and that they keep their meaning."""

from __future__ import annotations

from collections.abc import Callable

import psycopg
import pytest
from history import LEVELS, Connection, call, catalog, events, rows, track, track_refused, triggers, value
from psycopg import errors

Connect = Callable[..., Connection]


@pytest.fixture(autouse=True)
def users(connection: Connection) -> None:
    connection.execute("CREATE TABLE users (id integer PRIMARY KEY, name text, age integer)")


def kept_condition(connection: Connection, label: str) -> str:
    return str(value(connection, "SELECT condition FROM pghistory.trackers() WHERE label = %s", label))


# Which rows there are

LIFE = """
    INSERT INTO users VALUES (1, 'child', 4), (2, 'adult', 40);
    UPDATE users SET age = age + 1;
    UPDATE users SET age = age;
    DELETE FROM users WHERE id = 2;
    INSERT INTO users VALUES (3, 'adult', 30);
    TRUNCATE users;
"""


@pytest.mark.parametrize(
    ("kind", "condition", "found"),
    [
        ("snapshot", "new.age > 17", [("I", 2, 40), ("U", 2, 41), ("I", 3, 30)]),
        ("after_insert", "new.age > 17", [("I", 2, 40), ("I", 3, 30)]),
        ("after_insert_or_update", "new.age < 18", [("I", 1, 4), ("U", 1, 5), ("U", 1, 5)]),
        ("before_update", "old.age > 17", [("B", 2, 40), ("B", 2, 41)]),
        ("before_update", "new.age > 40", [("B", 2, 40), ("B", 2, 41)]),
        ("after_update", "old.age > 17 AND new.age > old.age", [("U", 2, 41)]),
        ("after_update", "old.age > 17", [("U", 2, 41), ("U", 2, 41)]),
        ("before_delete", "old.age > 17", [("D", 2, 41)]),
        ("before_delete", "old.age < 18", []),
        ("before_truncate", "old.age > 17", [("T", 3, 30)]),
        ("before_truncate", "old.age < 18", [("T", 1, 5)]),
        ("history", "current_setting('app.quiet', true) IS NULL", "all"),
        ("history", "current_setting('app.quiet', true) IS NOT NULL", []),
    ],
)
def test_a_condition_narrows_a_kind_at_every_level(
    connection: Connection, kind: str, condition: str, found: object
) -> None:
    for level in LEVELS:
        track(connection, "users", level, kind=kind, condition=condition, level=level)
    track(connection, "users", "all", kind=kind)
    connection.execute(LIFE)
    for level in LEVELS:
        expected = (
            events(connection, "users_event", "pgh_operation, id, age", "all") if found == "all" else found
        )
        assert sorted(events(connection, "users_event", "pgh_operation, id, age", level)) == sorted(
            expected
        ), level


def test_a_condition_that_is_unknown_is_not_met(connection: Connection) -> None:
    track(connection, "users", condition="new.age > 17")
    connection.execute("INSERT INTO users VALUES (1, 'Ann', NULL)")
    assert events(connection, "users_event") == []


def test_no_condition_is_no_condition(connection: Connection) -> None:
    track(connection, "users", condition=None)
    assert value(connection, "SELECT condition FROM pghistory.trackers()") is None


@pytest.mark.parametrize(
    ("kind", "condition"),
    [
        ("snapshot", "old.age > 17"),
        ("snapshot", "new.age > 17 OR old.age > 17"),
        ("after_insert", "old.age > 17"),
        ("after_insert", "old IS NULL"),
        ("after_insert_or_update", "old.age <> new.age"),
        ("before_delete", "new.age > 17"),
        ("before_truncate", "new.age > 17"),
        ("history", "old.age > 17"),
        ("history", "new.age > 17"),
        ("history", "old.* IS NOT NULL"),
    ],
)
def test_a_row_that_an_operation_does_not_have_is_refused(
    connection: Connection, kind: str, condition: str
) -> None:
    message = f'condition of kind "{kind}" is not accepted: .*condition cannot reference (OLD|NEW) values'
    track_refused(
        connection, errors.InvalidObjectDefinition, message, "users", kind=kind, condition=condition
    )


def test_events_written_by_hand_take_no_condition(connection: Connection) -> None:
    track_refused(
        connection,
        errors.InvalidParameterValue,
        'kind "event" takes no condition',
        "users",
        kind="event",
        condition="true",
    )


# What is refused

NOT_CONDITIONS: list[tuple[str, type[psycopg.Error]]] = [
    # no SQL
    ("", errors.SyntaxError),
    (" ", errors.SyntaxError),
    ("-- nothing", errors.SyntaxError),
    ("new.age >", errors.SyntaxError),
    ("new.age > 'unfinished", errors.SyntaxError),
    ("new.age > 17 /* unfinished", errors.SyntaxError),
    ("$$", errors.SyntaxError),
    ("new.age ==> 17", errors.UndefinedFunction),
    ("age > 17", errors.AmbiguousColumn),
    ("new.height > 17", errors.UndefinedColumn),
    ("other.age > 17", errors.UndefinedTable),
    ("is_adult(new.age)", errors.UndefinedFunction),
    ("new.age::years > 17", errors.UndefinedObject),
    ("new.age > $1", errors.UndefinedParameter),
    ("tg_op = 'INSERT'", errors.UndefinedColumn),
    # not boolean
    ("new.age", errors.DatatypeMismatch),
    ("NULL::text", errors.DatatypeMismatch),
    ("'seventeen'", errors.InvalidTextRepresentation),
    # what no trigger could decide by
    ("new.age > (SELECT 17)", errors.FeatureNotSupported),
    ("EXISTS (SELECT FROM users WHERE age > 17)", errors.FeatureNotSupported),
    ("new.id IN (SELECT id FROM users)", errors.FeatureNotSupported),
    ("max(new.age) > 17", errors.GroupingError),
    ("rank() OVER () > 1", errors.WindowingError),
    ("generate_series(1, 2) > 1", errors.FeatureNotSupported),
    # more than one expression
    ("true;", errors.SyntaxError),
    ("true, true", errors.SyntaxError),
    ("true; DROP TABLE users", errors.SyntaxError),
    ("true); DROP TABLE users; --", errors.SyntaxError),
    ("true); DROP TABLE users; SELECT (true", errors.InvalidCursorDefinition),
    ("true) OR (false", errors.SyntaxError),
    ("true) AND (new.age > 17", errors.SyntaxError),
    ("true) EXECUTE FUNCTION pghistory._parse_only(); DROP TABLE users; --", errors.SyntaxError),
    (
        "true) EXECUTE FUNCTION pghistory._parse_only(); DROP TABLE users; "
        "CREATE TRIGGER other AFTER INSERT ON users FOR EACH ROW WHEN (true",
        errors.SyntaxError,
    ),
    ("true) FROM users WHERE (true", errors.SyntaxError),
    ("true FROM users", errors.SyntaxError),
    ("true AS answer", errors.SyntaxError),
    ("true UNION SELECT true", errors.SyntaxError),
    ("true LIMIT 1", errors.SyntaxError),
    ("true WHERE new.age > 17", errors.SyntaxError),
    ("true INTO STRICT stolen", errors.SyntaxError),
    ("$condition$ true $condition$; DROP TABLE users", errors.SyntaxError),
    ("' || 'true", errors.SyntaxError),
    ("true\n); DROP TABLE users; /*", errors.SyntaxError),
    ("*", errors.SyntaxError),
]


def test_what_is_not_one_boolean_expression_is_refused(connection: Connection) -> None:
    connection.execute("INSERT INTO users VALUES (1, 'Ann', 40)")
    message = 'condition of kind "snapshot" is not accepted: '
    for condition, error in NOT_CONDITIONS:
        said = track_refused(connection, error, message, "users", condition=condition)
        assert condition in (said.message_detail or "")
    assert value(connection, "SELECT count(*) FROM users") == 1


def test_a_refused_condition_leaves_the_tracker_as_it_was(connection: Connection) -> None:
    track(connection, "users", "adult", condition="new.age > 17")
    track_refused(
        connection, errors.UndefinedColumn, "is not accepted", "users", "adult", condition="new.x > 17"
    )
    connection.execute("INSERT INTO users VALUES (1, 'Ann', 40), (2, 'Tim', 4)")
    assert events(connection, "users_event", "name") == ["Ann"]


ODD_CONDITIONS = [
    "true",
    "new.age > 17 -- only adults",
    "/* only adults */ new.age > 17",
    "-- only adults\n new.age > 17",
    "(((new.age > 17)))",
    "new.age > 17 OR false",
    "NEW.AGE > 17",
    'new."age" > 17',
    "new.name IN ('Ann', $$Ann$$, $tag$Tim's$tag$, E'\\t', U&'\\0041')",
    "new.name = 'Ann' AND 'true); DROP TABLE users; --' <> new.name",
    "new.name <> '%' AND new.name <> '{}' AND new.name <> '%s %I %L' AND new.name !~ '\\\\'",
    "CASE WHEN new.age > 17 THEN true ELSE new.name IS NULL END",
    "(new.age > 17) IS TRUE",
    "ARRAY[new.age] && ARRAY[40, 41]",
    "new.age BETWEEN SYMMETRIC 60 AND 18",
    "new.name LIKE 'A%' AND new.name ~ '^A' AND new.name SIMILAR TO 'A%'",
    "COALESCE(new.age, 0) > 17 AND greatest(new.age, 17) > 17",
    "age(now(), now() - make_interval(years => new.age)) > interval '17 years'",
    "new.name = 'Ann' AND new.name <> 'pghistory._tracked_any_change(old.*, new.*)'",
]


def test_every_sort_of_expression_is_understood(connection: Connection) -> None:
    for number, condition in enumerate(ODD_CONDITIONS):
        table = f"users_{number}"
        connection.execute(f"CREATE TABLE {table} (LIKE users INCLUDING ALL)")
        for level in LEVELS:
            track(connection, table, level, kind="after_insert", condition=condition, level=level)
        connection.execute(f"INSERT INTO {table} VALUES (1, 'Ann', 40)")
        assert set(events(connection, f"{table}_event", "pgh_label")) == set(LEVELS), condition


def test_a_condition_given_again_as_it_is_kept_is_the_same(connection: Connection) -> None:
    for number, condition in enumerate(ODD_CONDITIONS):
        track(connection, "users", f"{number}", kind="after_insert", condition=condition)
    for number, condition in enumerate(ODD_CONDITIONS):
        before = catalog(connection)
        kept = kept_condition(connection, f"{number}")
        track(connection, "users", f"{number}", kind="after_insert", condition=kept)
        assert catalog(connection) == before, condition


def test_track_does_not_run_the_condition(connection: Connection) -> None:
    connection.execute(
        """CREATE SEQUENCE runs; INSERT INTO users VALUES (1, 'Ann', 40);
        CREATE FUNCTION run() RETURNS boolean LANGUAGE sql AS $$ SELECT nextval('public.runs') > 0 $$"""
    )
    track(connection, "users", condition="run()")
    connection.execute("INSERT INTO users VALUES (2, 'Tim', 4)")
    assert value(connection, "SELECT nextval('runs')") == 2


def test_what_a_condition_raises_is_the_writers_error(connection: Connection) -> None:
    track(connection, "users", condition="100 / new.age > 3")
    connection.execute("INSERT INTO users VALUES (1, 'Ann', 20)")
    with pytest.raises(errors.DivisionByZero):
        connection.execute("INSERT INTO users VALUES (2, 'Tim', 0)")
    assert value(connection, "SELECT count(*) FROM users") == 1


# Meaning

CHANGED_MEANING = [
    "ROW(old.name)::record *<> ROW(new.name)::record",
    "ROW(old.id, old.name)::record *= ROW(new.id, new.name)::record",
    # a name that could not follow its object
    "new.tableoid = 'users'::regclass",
]


@pytest.mark.parametrize("condition", CHANGED_MEANING)
def test_a_condition_that_could_not_be_kept_as_it_is_is_refused(
    connection: Connection, condition: str
) -> None:
    message = "condition cannot be kept without changing its meaning"
    track_refused(
        connection, errors.FeatureNotSupported, message, "users", kind="after_update", condition=condition
    )


@pytest.mark.parametrize(
    "condition",
    [
        "new.name IS DISTINCT FROM 'ann'::citext",
        "NULLIF(new.name, 'ann'::citext) IS NULL",
        "CASE new.name WHEN 'ann'::citext THEN true ELSE false END",
    ],
)
def test_an_equality_that_no_text_can_name_is_refused(connection: Connection, condition: str) -> None:
    connection.execute("ALTER TABLE users ALTER COLUMN name TYPE citext")
    message = "condition cannot be kept without changing its meaning"
    track_refused(connection, errors.FeatureNotSupported, message, "users", condition=condition)


@pytest.mark.parametrize(
    "who", ["current_user = 'postgres'", "current_role = 'postgres'", "user = 'postgres'"]
)
def test_a_condition_on_who_is_writing_is_refused_since_the_events_are_written_by_their_owner(
    connection: Connection, who: str
) -> None:
    message = "condition cannot be kept without changing its meaning"
    track_refused(connection, errors.FeatureNotSupported, message, "users", condition=who)


def test_a_condition_on_the_session_user_is_about_the_writer(
    connection: Connection, connect: Connect, role: Callable[..., str]
) -> None:
    batch, clerk = role("batch"), role("clerk")
    connection.execute(f"GRANT INSERT ON users TO {batch}, {clerk}")
    track(connection, "users", condition=f"session_user <> '{batch}'")
    connect(user=batch).execute("INSERT INTO users VALUES (1, 'by batch', 1)")
    connect(user=clerk).execute("INSERT INTO users VALUES (2, 'by clerk', 1)")
    assert events(connection, "users_event", "name") == ["by clerk"]


def test_a_condition_means_what_the_path_of_the_caller_of_track_said(connection: Connection) -> None:
    connection.execute(
        """CREATE SCHEMA app;
        CREATE FUNCTION app.is_adult(age integer) RETURNS boolean LANGUAGE sql AS 'SELECT age > 17';
        CREATE DOMAIN app.years AS integer;
        CREATE OPERATOR app.>>>> (LEFTARG = integer, RIGHTARG = integer, FUNCTION = int4gt);
        SET search_path TO app, public"""
    )
    for level in LEVELS:
        condition = "is_adult(new.age) AND 40::years = new.age AND new.age >>>> 17"
        track(connection, "users", level, kind="after_insert", condition=condition, level=level)
    for number, path in enumerate(("''", "public", "app", "pg_temp, pg_catalog"), start=1):
        connection.execute(f"SET search_path TO {path}")
        connection.execute(f"INSERT INTO public.users VALUES ({number}, 'Ann', 40)")
    assert len(events(connection, "public.users_event")) == 4 * len(LEVELS)


def test_a_condition_keeps_meaning_what_it_meant_when_others_are_put_before_it(
    connection: Connection,
) -> None:
    connection.execute(
        "CREATE FUNCTION public.is_adult(integer) RETURNS boolean LANGUAGE sql AS 'SELECT $1 > 17'"
    )
    track(connection, "users", condition="is_adult(new.age) AND new.name = 'Ann' AND lower(new.name) = 'ann'")
    connection.execute(
        """CREATE SCHEMA evil;
        CREATE FUNCTION evil.is_adult(integer) RETURNS boolean LANGUAGE sql AS 'SELECT false';
        CREATE FUNCTION evil.lower(text) RETURNS text LANGUAGE sql AS $$ SELECT 'evil' $$;
        CREATE FUNCTION evil.never(text, text) RETURNS boolean LANGUAGE sql AS 'SELECT false';
        CREATE OPERATOR evil.= (LEFTARG = text, RIGHTARG = text, FUNCTION = evil.never);
        SET search_path TO evil, pg_catalog, public"""
    )
    connection.execute("INSERT INTO users VALUES (1, 'Ann', 40)")
    connection.execute("RESET search_path")
    assert events(connection, "users_event", "name") == ["Ann"]


EXTENSION_CONDITIONS = [
    ("citext", "'Ann'", "new.content = 'ANN'", True),
    ("citext", "'Ann'", "new.content <> 'ANN'", False),
    ("citext", "'Ann'", "new.content IN ('tim', 'ANN')", True),
    ("citext", "'Ann'", "new.content LIKE 'a%'", True),
    ("citext", "'Ann'", "new.content ~ '^an'", True),
    ("citext", "'Ann'", "ROW(new.content, 1) = ROW('ANN'::citext, 1)", True),
    ("hstore", "'a=>1, b=>2'", "new.content ? 'a'", True),
    ("hstore", "'a=>1, b=>2'", "new.content ? 'c'", False),
    ("hstore", "'a=>1, b=>2'", "new.content -> 'a' = '1'", True),
    ("hstore", "'a=>1, b=>2'", "new.content @> 'a=>1'", True),
    ("hstore", "'a=>1, b=>2'", "new.content ?& ARRAY['a', 'b'] AND exist(new.content, 'a')", True),
    (
        "jsonb",
        """'{"a": [1, 2]}'""",
        "new.content -> 'a' ->> 0 = '1' AND new.content @? '$.a[*] ? (@ > 1)'",
        True,
    ),
    ("int4range", "'[1, 9]'", "new.content @> 5 AND new.content && int4range(9, 20)", True),
    ("point", "'(1, 1)'", "new.content <@ box '((0,0),(2,2))'", True),
    ("xml", "'<a>1</a>'", "xpath_exists('/a', new.content) AND new.content::text LIKE '%1%'", True),
    ("tsvector", "'cat dog'", "new.content @@ 'cat'::tsquery", True),
    ("bit(3)", "B'101'", "new.content & B'100' = B'100'", True),
]


def test_operators_of_every_type_are_found_under_every_path(connection: Connection) -> None:
    for number, (of_type, content, condition, is_met) in enumerate(EXTENSION_CONDITIONS):
        connection.execute("RESET search_path")
        table = f"public.sample_{number}"
        connection.execute(f"CREATE TABLE {table} (id integer PRIMARY KEY, content {of_type})")
        for level in LEVELS:
            track(connection, table, level, kind="after_insert", condition=condition, level=level)
        connection.execute(f"PREPARE add_{number} AS INSERT INTO {table} VALUES ($1, {content})")
        connection.execute("SET search_path TO ''")
        connection.execute(f"EXECUTE add_{number} (1)")
        assert len(events(connection, f"{table}_event")) == (len(LEVELS) if is_met else 0), condition


WHOLE_ROWS = [
    "new IS NOT NULL",
    "new.* IS NOT NULL",
    "to_jsonb(new) ->> 'name' = 'Ann'",
    "has_age(new)",
    "new.tableoid <> 0",
    "new.ctid IS NOT NULL AND new.xmin IS NOT NULL",
    "new = ROW(1, 'Ann', 40)::users",
]


@pytest.mark.parametrize("condition", WHOLE_ROWS)
def test_whole_rows_and_system_columns_are_recorded_row_by_row(
    connection: Connection, condition: str
) -> None:
    connection.execute(
        "CREATE FUNCTION has_age(users) RETURNS boolean LANGUAGE sql AS 'SELECT $1.age IS NOT NULL'"
    )
    message = "its condition names whole rows or system columns"
    track_refused(
        connection, errors.FeatureNotSupported, message, "users", condition=condition, level="statement"
    )
    track(connection, "users", condition=condition)
    assert triggers(connection, "users") == {("insert", "row"), ("update", "row")}
    connection.execute("INSERT INTO users VALUES (1, 'Ann', 40)")
    connection.execute("UPDATE users SET name = 'Ann', age = 40")
    assert events(connection, "users_event", "pgh_operation, name") == [("I", "Ann")]


def test_whole_rows_before_and_after_are_compared(connection: Connection) -> None:
    track(connection, "users", kind="after_update", condition="old IS DISTINCT FROM new")
    connection.execute("INSERT INTO users VALUES (1, 'Ann', 40)")
    connection.execute("UPDATE users SET age = 40")
    connection.execute("UPDATE users SET age = 41")
    assert events(connection, "users_event", "age") == [41]


def test_whole_rows_are_seen_on_truncate(connection: Connection) -> None:
    condition = "to_jsonb(old) ->> 'name' = 'Ann' AND old.ctid IS NOT NULL"
    track(connection, "users", kind="before_truncate", condition=condition)
    connection.execute("INSERT INTO users VALUES (1, 'Ann', 40), (2, 'Tim', 4); TRUNCATE users")
    assert events(connection, "users_event", "name") == ["Ann"]


def test_whole_rows_of_a_partition_are_those_of_its_table(connection: Connection) -> None:
    connection.execute(
        """CREATE TABLE city (id integer, name text) PARTITION BY LIST (id);
        CREATE TABLE city_1 (name text, filler text, id integer);
        ALTER TABLE city_1 DROP COLUMN filler;
        ALTER TABLE city ATTACH PARTITION city_1 FOR VALUES IN (1);
        CREATE FUNCTION is_rome(city) RETURNS boolean LANGUAGE sql AS $$ SELECT $1.name = 'Rome' $$"""
    )
    track(connection, "city", condition="is_rome(new)")
    connection.execute("INSERT INTO city VALUES (1, 'Rome'), (1, 'Bonn')")
    connection.execute("INSERT INTO city_1 VALUES ('Rome', 1)")
    assert events(connection, "city_event", "name") == ["Rome", "Rome"]


# The user's own DDL


def test_a_column_that_a_condition_names_can_be_renamed(connection: Connection) -> None:
    track(connection, "users", condition="new.age > 17")
    connection.execute("ALTER TABLE users RENAME COLUMN age TO years")
    connection.execute("INSERT INTO users VALUES (1, 'Ann', 40), (2, 'Tim', 4)")
    assert events(connection, "users_event", "name") == ["Ann"]


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize(
    "command",
    ["ALTER TABLE users ALTER COLUMN age TYPE text", "ALTER TABLE users DROP COLUMN age"],
)
def test_a_column_that_a_condition_names_can_be_retyped_or_dropped_and_all_is_recorded_then(
    connection: Connection, command: str, level: str
) -> None:
    track(connection, "users", "adults", condition="new.age > 17", level=level)
    track(connection, "users", "Anns", condition="new.name = 'Ann'", level=level)
    connection.execute(command)
    connection.execute("INSERT INTO users (id, name) VALUES (1, 'Ann'), (2, 'Tim')")
    assert events(connection, "users_event", "name", label="adults") == ["Ann", "Tim"]
    assert events(connection, "users_event", "name", label="Anns") == ["Ann"]
    assert "adults" in str(rows(connection, "SELECT * FROM pghistory.verify()"))
    track(connection, "users", "adults", condition="new.name <> 'Ann'", level=level)
    assert rows(connection, "SELECT * FROM pghistory.verify()") == []
    connection.execute("UPDATE users SET name = 'Tom' WHERE id = 2")
    assert events(connection, "users_event", "name", label="adults") == ["Ann", "Tim", "Tom"]


# Changes

CHANGES = [
    # what the update sets; then, of name and age: any_change, all_change, any_dont_change, all_dont_change
    ("age = age", (False, False, True, True)),
    ("name = 'Bob'", (True, False, True, False)),
    ("age = 41", (True, False, True, False)),
    ("name = 'Bob', age = 41", (True, True, False, False)),
    ("name = NULL, age = NULL", (True, True, False, False)),
    ("id = 2", (False, False, True, True)),
]
HELPERS = ("any_change", "all_change", "any_dont_change", "all_dont_change")


@pytest.mark.parametrize("level", ["row", "statement"])
@pytest.mark.parametrize(("assignment", "met"), CHANGES)
def test_the_four_changes(connection: Connection, level: str, assignment: str, met: tuple[bool, ...]) -> None:
    connection.execute("INSERT INTO users VALUES (1, 'Ann', 40)")
    for helper in HELPERS:
        for fields in (["name", "age"], []):
            condition = call(connection, helper, *fields)
            label = f"{helper} {fields}"
            options: dict[str, object] = {"kind": "after_update", "condition": condition, "level": level}
            track(connection, "users", label, fields=["name", "age"], **options)
    connection.execute(f"UPDATE users SET {assignment}")
    written = events(connection, "users_name_age_event", "pgh_label")
    expected = {helper for helper, is_met in zip(HELPERS, met, strict=True) if is_met}
    assert set(written) == {f"{helper} {fields}" for helper in expected for fields in (["name", "age"], [])}


def test_changes_are_texts_that_can_be_put_together(connection: Connection) -> None:
    connection.execute("INSERT INTO users VALUES (1, 'Ann', 40), (2, 'Tim', 4)")
    connection.execute(
        """SELECT pghistory.track('users', 'adult.renamed', 'after_update',
                  condition => pghistory.any_change('name') || ' AND new.age > 17');
        SELECT pghistory.track('users', 'not renamed', 'after_update',
                  condition => format('NOT (%s)', pghistory.any_change(VARIADIC ARRAY['name'])))"""
    )
    connection.execute("UPDATE users SET name = 'x'")
    connection.execute("UPDATE users SET age = 5 WHERE id = 2")
    assert events(connection, "users_event", "pgh_label, id") == [("adult.renamed", 1), ("not renamed", 2)]


@pytest.mark.parametrize("of_type", ["json", "xml", "point"])
def test_changes_of_types_without_equality(connection: Connection, of_type: str) -> None:
    connection.execute(f"CREATE TABLE sample (id integer PRIMARY KEY, content {of_type})")
    track(connection, "sample", kind="after_update", condition=call(connection, "any_change", "content"))
    contents = {"json": ("1", "2"), "xml": ("<a/>", "<b/>"), "point": ("(1,2)", "(3,4)")}[of_type]
    connection.execute(f"INSERT INTO sample VALUES (1, '{contents[0]}')")
    connection.execute(f"UPDATE sample SET content = '{contents[0]}'")
    connection.execute(f"UPDATE sample SET content = '{contents[1]}'")
    assert events(connection, "sample_event", "content::text") == [contents[1]]


def test_changes_see_what_equality_does_not(connection: Connection) -> None:
    connection.execute("ALTER TABLE users ALTER COLUMN name TYPE citext")
    connection.execute("INSERT INTO users VALUES (1, 'ann', 1)")
    track(connection, "users", kind="after_update", condition=call(connection, "any_change", "name"))
    connection.execute("UPDATE users SET name = 'Ann'")
    assert events(connection, "users_event", "name") == ["Ann"]


def test_changes_without_arguments_follow_the_tracked_fields(connection: Connection) -> None:
    connection.execute("INSERT INTO users VALUES (1, 'Ann', 40)")
    any_change = call(connection, "any_change")
    track(connection, "users", "all", kind="after_update", condition=any_change)
    track(connection, "users", "but age", kind="after_update", condition=any_change, exclude=["age"])
    track(connection, "users", "name", kind="after_update", condition=any_change, fields=["name"])
    track(connection, "users", "meta", kind="after_update", condition=any_change, fields=[])
    connection.execute("ALTER TABLE users ADD COLUMN city text")
    connection.execute("UPDATE users SET age = 41")
    connection.execute("UPDATE users SET city = 'Rome'")
    connection.execute("UPDATE users SET city = 'Rome'")
    assert events(connection, "users_event", "age, city", label="all") == [(41, None), (41, "Rome")]
    assert events(connection, "users_without_age_event", "city") == ["Rome"]
    assert events(connection, "users_name_event") == []
    assert events(connection, "users_meta_event") == ["U", "U"]


def test_changes_of_one_tracked_field_are_all_the_same(connection: Connection) -> None:
    connection.execute("INSERT INTO users VALUES (1, 'Ann', 40)")
    for helper in HELPERS:
        condition = call(connection, helper)
        track(connection, "users", helper, kind="after_update", fields=["name"], condition=condition)
    connection.execute("UPDATE users SET age = 41")
    connection.execute("UPDATE users SET name = 'Anna'")
    assert events(connection, "users_name_event", "pgh_label") == [
        "any_dont_change",
        "all_dont_change",
        "any_change",
        "all_change",
    ]


def test_changes_of_fields_with_odd_names(connection: Connection) -> None:
    names = [
        "it's",
        'say "x"',
        "50%",
        "{a}",
        "a;b",
        "new\nline",
        "back\\slash",
        "größe",
        "old",
        "new",
        "select",
    ]
    columns = ", ".join('"' + name.replace('"', '""') + '" integer' for name in names)
    connection.execute(f"CREATE TABLE odd (id integer PRIMARY KEY, {columns})".encode())
    for level in LEVELS:
        track(
            connection,
            "odd",
            level,
            kind="after_update",
            condition=call(connection, "any_change", *names),
            level=level,
        )
    connection.execute(
        'INSERT INTO odd (id) VALUES (1); UPDATE odd SET "it\'s" = 1; UPDATE odd SET "it\'s" = 1'
    )
    assert sorted(events(connection, "odd_event", "pgh_label")) == sorted(LEVELS)


def test_a_change_of_a_column_that_is_not_there_is_refused(connection: Connection) -> None:
    condition = call(connection, "any_change", "height")
    track_refused(
        connection, errors.UndefinedColumn, "height", "users", kind="after_update", condition=condition
    )


def test_a_change_needs_both_rows(connection: Connection) -> None:
    for helper in HELPERS:
        for fields in (["name"], []):
            condition = call(connection, helper, *fields)
            for kind in ("snapshot", "after_insert", "before_delete", "history"):
                track_refused(
                    connection,
                    errors.InvalidObjectDefinition,
                    "cannot reference (OLD|NEW) values",
                    "users",
                    kind=kind,
                    condition=condition,
                )
