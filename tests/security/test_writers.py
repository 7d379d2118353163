"""A writer of rows runs nothing as the owner, loses no event and forges none, and fails nobody's writes."""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import Callable

import psycopg
import pytest
from history import Connection, call, events, quoted, rows, track, value, warnings_of
from psycopg import errors, sql

Connect = Callable[..., Connection]
Role = Callable[..., str]
Ran = Callable[[], dict[str, set[str]]]
ID = uuid.UUID("a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11")
LEVELS = ("auto", "row", "statement")


def track_at_all_levels(owner: Connection, condition: str | None = None) -> None:
    """Track app.users once for each level; the events of all go to app.users_event."""
    for level in LEVELS:
        track(owner, "app.users", level, kind="history", level=level, condition=condition)


def recorded(owner: Connection, columns: str = "pgh_operation") -> list[object]:
    """The events of app.users, which must be the same at all levels."""
    first, *others = (events(owner, "app.users_event", columns, label=level) for level in LEVELS)
    assert all(other == first for other in others)
    return first


# Everything that a body of ours names without a schema, in a better fit, in a schema that comes first.
SHADOWS = """
    CREATE FUNCTION {0}.now() RETURNS timestamptz LANGUAGE plpgsql AS
        $$BEGIN PERFORM evil.log('now'); RETURN 'epoch'; END$$;
    CREATE FUNCTION {0}.pg_current_xact_id() RETURNS xid8 LANGUAGE plpgsql AS
        $$BEGIN PERFORM evil.log('xid'); RETURN '1'; END$$;
    CREATE FUNCTION {0}.current_setting(text, boolean) RETURNS text LANGUAGE plpgsql AS
        $$BEGIN PERFORM evil.log('current_setting'); RETURN ''; END$$;
    CREATE FUNCTION {0}.set_config(text, text, boolean) RETURNS text LANGUAGE plpgsql AS
        $$BEGIN PERFORM evil.log('set_config'); RETURN ''; END$$;
    CREATE FUNCTION {0}.format(text, text) RETURNS text LANGUAGE plpgsql AS
        $$BEGIN PERFORM evil.log('format'); RETURN 'x'; END$$;
    CREATE FUNCTION {0}.lower(text) RETURNS text LANGUAGE plpgsql AS
        $$BEGIN PERFORM evil.log('lower'); RETURN 'x'; END$$;
    CREATE FUNCTION {0}.differ(anyelement, anyelement) RETURNS boolean LANGUAGE plpgsql AS
        $$BEGIN PERFORM evil.log('operator'); RETURN false; END$$;
    CREATE FUNCTION {0}.differ(record, record) RETURNS boolean LANGUAGE plpgsql AS
        $$BEGIN PERFORM evil.log('operator'); RETURN false; END$$;
    CREATE OPERATOR {0}.= (FUNCTION = {0}.differ, LEFTARG = anyelement, RIGHTARG = anyelement);
    CREATE OPERATOR {0}.<> (FUNCTION = {0}.differ, LEFTARG = anyelement, RIGHTARG = anyelement);
    CREATE OPERATOR {0}.*<> (FUNCTION = {0}.differ, LEFTARG = record, RIGHTARG = record);
    CREATE DOMAIN {0}.uuid AS pg_catalog.text CHECK (evil.log('type'));
    CREATE DOMAIN {0}.jsonb AS pg_catalog.text CHECK (evil.log('type'));
    CREATE TABLE {0}.users_event (id integer, name text);
    CREATE TABLE {0}.tracker (label text);
    CREATE SEQUENCE {0}.users_event_pgh_id_seq"""


@pytest.mark.parametrize("schema", ["evil", "public", "app"])
def test_objects_that_shadow_postgresqls_are_never_called(
    connect: Connect, mallory: str, vera: str, ran: Ran, schema: str
) -> None:
    """In a schema that comes first in the writer's path, in public, and beside the table."""
    owner, session = connect(user=vera), connect(user=mallory)
    track_at_all_levels(owner, "lower('X') = 'x'")
    if schema == "app":
        session.execute("SET search_path TO app, pg_catalog")
    session.execute(SHADOWS.replace("{0}.users_event", f"{schema}.other").format(schema))
    owner.execute("SET search_path TO app, public")
    track(owner, "app.users", "more", kind="after_update")
    session.execute(f"SET search_path TO {schema}, pg_catalog, pg_temp")
    session.execute(
        """INSERT INTO app.users VALUES (1, 'Ann'), (2, 'Tim');
        UPDATE app.users SET name = 'x' WHERE id OPERATOR(pg_catalog.=) 1;
        UPDATE app.users SET id = 7 WHERE id OPERATOR(pg_catalog.=) 2;
        DELETE FROM app.users; TRUNCATE app.users"""
    )
    assert ran() == {}
    assert recorded(owner) == ["I", "I", "U", "U", "D", "D"]
    assert value(owner, "SELECT bool_and(pgh_created_at > '2000-01-01') FROM app.users_event") is True


def test_temporary_tables_named_like_ours_take_nothing_in(connect: Connect, mallory: str, vera: str) -> None:
    owner, session = connect(user=vera), connect(user=mallory)
    track_at_all_levels(owner)
    for table in (
        "new_rows",
        "old_rows",
        "users_event",
        "users",
        "context_part",
        "capture_key",
        "tracker",
        "event_table",
        "pg_class",
        "pg_proc",
    ):
        session.execute(f"CREATE TEMPORARY TABLE {table} (id integer, name text, pgh_row bigint)")
        session.execute(f"INSERT INTO pg_temp.{table} VALUES (99, 'forged')")
    session.execute("SET search_path TO pg_temp, app, pg_catalog")
    with session.transaction():
        call(session, "set_context", "{}", ID)
        session.execute("INSERT INTO app.users VALUES (1, 'Ann'), (2, 'Tim')")
        session.execute("UPDATE app.users SET name = 'x'")
        session.execute("DELETE FROM app.users")
    assert recorded(owner, "pgh_operation, id, name, pgh_context_id") == [
        (operation, id, name, ID)
        for operation, *names in (("I", "Ann", "Tim"), ("U", "x", "x"), ("D", "x", "x"))
        for id, name in enumerate(names, 1)
    ]


@pytest.mark.parametrize(
    "settings",
    [
        {"pghistory.attached": "nonsense "},
        {"pghistory.context_id": "nonsense", "pghistory.attached": "nonsense "},
        {
            "pghistory.context_id": "nonsense",
            "pghistory.context_metadata": "x",
            "pghistory.attached": "nonsense x",
        },
        {"pghistory.context_id": str(ID), "pghistory.context_metadata": "{}", "pghistory.warned": "x"},
        {"pghistory.writer": "nobody", "pghistory.warned": "\n", "pghistory.unheard_of": "x"},
        {"session_replication_role": "replica", "row_security": "off", "application_name": "pg_restore"},
        {"standard_conforming_strings": "off", "quote_all_identifiers": "on", "lc_messages": "C"},
        {"check_function_bodies": "off", "plpgsql.extra_errors": "all", "enable_hashjoin": "off"},
        {
            "DateStyle": "German",
            "bytea_output": "escape",
            "xmloption": "document",
            "client_min_messages": "error",
        },
    ],
    ids=lambda settings: " ".join(settings),
)
def test_no_setting_loses_an_event_or_fails_a_write(
    connect: Connect, mallory: str, vera: str, settings: dict[str, str]
) -> None:
    owner, session = connect(user=vera), connect(user=mallory)
    track_at_all_levels(owner)
    for name, setting in settings.items():
        try:
            session.execute("SELECT set_config(%s, %s, false)", [name, setting])
        except errors.InsufficientPrivilege:
            assert not name.startswith("pghistory.")
    session.execute("INSERT INTO app.users VALUES (1, 'Ann'); UPDATE app.users SET name = 'x'")
    session.execute("TRUNCATE app.users")
    assert recorded(owner) == ["I", "U", "T"]


def test_triggers_cannot_be_switched_off_by_a_writer(connect: Connect, mallory: str, vera: str) -> None:
    owner, session = connect(user=vera), connect(user=mallory)
    track(owner, "app.users", "users", kind="history", append_only=True)
    for attempt in (
        "SET session_replication_role TO replica",
        "ALTER TABLE app.users DISABLE TRIGGER ALL",
        "ALTER TABLE app.users_event DISABLE TRIGGER ALL",
        "ALTER EVENT TRIGGER pghistory_after_ddl DISABLE",
        "DROP EXTENSION pghistory CASCADE",
        "DROP SCHEMA pghistory CASCADE",
        "DROP FUNCTION app.users_event_update_row() CASCADE",
        "ALTER FUNCTION app.users_event_update_row() RESET ALL",
        "CREATE RULE x AS ON UPDATE TO app.users DO INSTEAD NOTHING",
        "CREATE TRIGGER x BEFORE INSERT ON app.users_event FOR EACH ROW EXECUTE FUNCTION evil.fired()",
        "CREATE FUNCTION pghistory.mine() RETURNS integer LANGUAGE sql AS 'SELECT 1'",
        "CREATE TABLE pghistory.mine ()",
        "DELETE FROM pghistory.tracker",
        "INSERT INTO pghistory.capture_key VALUES ('x')",
        "TRUNCATE pghistory.context_part",
        "DO 'BEGIN LOCK TABLE pghistory.tracker IN SHARE ROW EXCLUSIVE MODE; END'",
        "DO 'BEGIN LOCK TABLE pghistory.context_part IN ACCESS SHARE MODE; END'",
        "GRANT SELECT ON app.users_event TO PUBLIC",
        "SELECT pghistory.capture('session_user')",
        "SELECT pghistory.untrack('app.users')",
        "SELECT pghistory.sync('app.users')",
    ):
        with pytest.raises((errors.InsufficientPrivilege, errors.UndefinedFunction)):
            session.execute(attempt)
    assert rows(owner, "SELECT * FROM pghistory.verify()") == []


CONTEXTS = {
    "10 MB": ("{}", '{"x": "' + "x" * 10_000_000 + '"}'),
    "10 MB of keys": (str(ID), "{" + ", ".join(f'"k{number}": {number}' for number in range(600_000)) + "}"),
    "10 MB id": ("x" * 10_000_000, "{}"),
    "null character": (str(ID), '{"x": "\\u0000"}'),
    "nested": (str(ID), '{"x": ' + "[" * 1_000_000 + "]" * 1_000_000 + "}"),
    "not an object": (str(ID), "[1, 2]"),
    "a number out of range": (str(ID), '{"x": 1e1000000}'),
    "quotes": (str(ID), """{"'; DROP TABLE app.users; --": "$$ %I {} \\" \\\\ "}"""),
    "an id in SQL": ("'; DROP TABLE app.users; --", "{}"),
}


@pytest.mark.parametrize(("context", "level"), [("reference", "auto"), ("inline", "row")])
@pytest.mark.parametrize(("id", "metadata"), CONTEXTS.values(), ids=CONTEXTS)
def test_no_context_fails_a_write(
    connect: Connect, mallory: str, vera: str, id: str, metadata: str, context: str, level: str
) -> None:
    owner, session = connect(user=vera), connect(user=mallory)
    track(owner, "app.users", "users", kind="history", context=context, level=level)
    with warnings_of(session) as warnings, session.transaction():
        session.execute("SELECT set_config('pghistory.context_id', %s, true)", [id])
        session.execute("SELECT set_config('pghistory.context_metadata', %s, true)", [metadata])
        session.execute("INSERT INTO app.users VALUES (1, 'Ann'), (2, 'Tim')")
    assert events(owner, "app.users_event") == ["I", "I"]
    assert len(warnings) <= 1


NAMES = [
    """it's "a" %s %I %1$s {0} {}""",
    "$$; SELECT 1; -- $function$ /* x",
    "line\nbreak\r\n and back\\slash",
    "x" * 63,
    "é漢字🐘" + "ü" * 20,
    "!pghistory x insert row",
    "new",
    ". ",
]


@pytest.mark.parametrize("name", NAMES)
def test_a_hostile_name_breaks_out_of_nothing(
    connection: Connection, connect: Connect, role: Role, mallory: str, ran: Ran, name: str
) -> None:
    """As schema, table, column, label, text of a condition and event table, through tracking, DDL and upkeep."""
    session = connect(user=mallory)
    connection.execute(f"CREATE SCHEMA {quoted(name)} AUTHORIZATION {mallory}")
    table, column = quoted(name, name), quoted(name)
    session.execute(f"CREATE TABLE {table} (id integer PRIMARY KEY, {column} text)")
    condition = f"new.{column} IS DISTINCT FROM {sql.Literal(name).as_string(None)}"
    default = track(session, table, name, kind="history")
    track(
        session,
        table,
        name + "2",
        kind="after_insert",
        condition=condition,
        fields=[name],
        obj_key=[name],
        event_table=quoted(name, "log"),
        context="inline",
        append_only=True,
    )
    for level in LEVELS:
        track(
            session,
            table,
            "third",
            kind="after_update",
            level=level,
            event_table=quoted(name, f"log_{level}"),
        )
        session.execute(
            sql.SQL("INSERT INTO {} VALUES (1, 'x') ON CONFLICT (id) DO UPDATE SET {} = {}").format(
                sql.Identifier(name, name), sql.Identifier(name), sql.Literal(level)
            )
        )
        call(session, "untrack", table, "third", drop_events=True)
    session.execute(f"ALTER TABLE {table} RENAME COLUMN {column} TO plain")
    session.execute(f"ALTER TABLE {table} RENAME COLUMN plain TO {column}")
    session.execute(f"ALTER TABLE {table} ADD COLUMN plain integer")
    session.execute(f"TRUNCATE {table}; INSERT INTO {table} VALUES (3, 'z')")
    call(session, "create_event", table, "3", name)
    connection.execute("SELECT pghistory.refresh()")
    assert events(session, default, "pgh_operation") == ["I", "U", "U", "T", "I", "S"]
    assert rows(connection, "SELECT * FROM pghistory.verify()") == []
    for (definition,) in rows(session, "SELECT definition FROM pghistory.trackers()"):
        session.execute(definition)
    assert call(session, "untrack", table) == 2
    assert ran() == {}


@pytest.mark.parametrize(
    "attempt",
    [
        "true); DROP TABLE app.users; --",
        "true) OR (evil.log('x')",
        "true)) THEN PERFORM evil.log('x'); END IF; IF ((true",
        "true /* ",
        "true -- \n) OR (true",
        "$$x$$ = $$x$$); SELECT evil.log('x'); SELECT (true",
        "EXISTS (SELECT evil.log('x'))",
        "pg_catalog.set_config('search_path', 'evil', false) IS NULL",
    ],
)
def test_a_condition_that_is_tracked_for_a_table_runs_nothing_then(
    connection: Connection, connect: Connect, vera: str, mallory: str, ran: Ran, attempt: str
) -> None:
    """A condition that somebody made up for the superuser to track with is parsed, not run."""
    path = value(connection, "SHOW search_path")
    with contextlib.suppress(psycopg.Error):
        track(connection, "app.users", kind="after_insert", condition=attempt)
    assert ran() == {}
    assert value(connection, "SHOW search_path") == path
    assert value(connection, "SELECT to_regclass('app.users') IS NOT NULL") is True


def test_squatted_names_stop_nobody(
    connection: Connection, connect: Connect, mallory: str, vera: str, ran: Ran
) -> None:
    """Functions and tables under the names that ours would get, made beforehand where others may create too."""
    owner, session = connect(user=vera), connect(user=mallory)
    for operation in ("insert", "update", "delete", "truncate"):
        for level in ("row", "statement"):
            session.execute(
                f"""CREATE FUNCTION app.log_{operation}_{level}() RETURNS trigger LANGUAGE plpgsql AS
                    $$\n-- Written by pghistory: events\nBEGIN PERFORM evil.log('squat'); RETURN NULL; END$$"""
            )
    for arguments in ("text, anyelement", "text, text", "text, record", "text, app.users"):
        with contextlib.suppress(
            errors.FeatureNotSupported
        ):  # PL/pgSQL of this version takes no such argument
            session.execute(
                f"""CREATE FUNCTION app.log_by_hand({arguments}) RETURNS bigint LANGUAGE plpgsql SECURITY DEFINER
                SET search_path TO 'pg_catalog', 'pg_temp' AS
                $$\n-- Written by pghistory: events\nBEGIN PERFORM evil.log('squat'); RETURN 1; END$$"""
            )
    session.execute("CREATE TABLE app.users_event (id integer)")
    with pytest.raises(psycopg.Error) as caught:
        track(owner, "app.users", "users", kind="history")
    assert "event_table" in (caught.value.diag.message_hint or "")
    track(owner, "app.users", "users", kind="history", event_table="app.log")
    session.execute(
        "INSERT INTO app.users VALUES (1, 'Ann'); UPDATE app.users SET name = 'x'; TRUNCATE app.users"
    )
    session.execute("INSERT INTO app.users VALUES (2, 'Tim')")
    call(owner, "create_event", "app.users", "2", "users")
    connection.execute("SELECT pghistory.refresh()")
    assert events(owner, "app.log") == ["I", "U", "T", "I", "S"]
    assert rows(connection, "SELECT * FROM pghistory.verify()") == []
    assert ran() == {}
    call(owner, "untrack", "app.users")
    assert value(connection, "SELECT count(*) FROM pg_proc WHERE prosrc ~ 'squat'") >= 10


def test_a_function_put_in_the_place_of_a_missing_one_is_not_called(
    connection: Connection, connect: Connect, mallory: str, vera: str, ran: Ran
) -> None:
    owner, session = connect(user=vera), connect(user=mallory)
    track(owner, "app.users", "users", kind="event")
    owner.execute("INSERT INTO app.users VALUES (1, 'Ann')")
    function, arguments = rows(
        connection,
        """SELECT oid::regproc::text, pg_get_function_identity_arguments(oid) FROM pg_proc
            WHERE prosrc ~ '_use_permit' AND pronamespace = 'app'::regnamespace""",
    )[0]
    owner.execute(f"DROP FUNCTION {function}({arguments})")
    session.execute(
        f"""CREATE FUNCTION {function}({arguments}) RETURNS bigint LANGUAGE plpgsql SECURITY DEFINER
        SET search_path TO 'pg_catalog', 'pg_temp' AS
        $$\n-- Written by pghistory: events\nBEGIN PERFORM evil.log('squat'); RETURN 1; END$$"""
    )
    with pytest.raises(errors.ObjectNotInPrerequisiteState):
        call(connection, "create_event", "app.users", "1", "users")
    assert ran() == {}
    owner.execute("SELECT pghistory.refresh()")
    call(connection, "create_event", "app.users", "1", "users")
    assert events(owner, "app.users_event") == ["S"]


def test_private_functions_with_any_arguments_give_a_stranger_nothing(
    connection: Connection, connect: Connect, mallory: str, vera: str, ran: Ran
) -> None:
    """Every function that everybody may call is called by a stranger with what could hurt."""
    owner, session = connect(user=vera), connect(user=mallory)
    track(owner, "app.users", "users", kind="history", append_only=True)
    owner.execute("INSERT INTO app.users VALUES (1, 'Ann')")
    session.execute("SET statement_timeout TO '10s'")
    values = {
        "regclass": ["'app.users'", "'app.users_event'", "'pghistory.tracker'"],
        "oid": ["'app.users'::regclass", "'app.users_event_insert_statement'::regproc"],
        "text": ["'users'", "'app.users_event'", "'DROP TABLE app.users'"],
        "name": ["'id'", "'pgh_id'"],
        "name[]": ["'{id}'"],
        "text[]": ["'{id}'"],
        "boolean": ["true", "false"],
        "jsonb": ["'{}'", "'[]'"],
        "integer": ["0"],
        "smallint": ["1"],
        "record": ["ROW(1)"],
        "uuid": [f"'{ID}'"],
    }
    before = state(connection)
    called = 0
    for function, arguments in rows(
        connection,
        """SELECT oid::regproc::text, proargtypes::regtype[]::text[] FROM pg_proc AS p
            WHERE pronamespace = 'pghistory'::regnamespace AND has_function_privilege('public', oid, 'EXECUTE')
              AND prorettype NOT IN ('trigger'::regtype, 'event_trigger'::regtype)""",
    ):
        for number in range(3):
            chosen = [
                values.get(argument, ["NULL"])[number % len(values.get(argument, ["NULL"]))]
                for argument in arguments
            ]
            text = ", ".join(
                literal + ("" if argument.startswith("any") or argument == "record" else f"::{argument}")
                for literal, argument in zip(chosen, arguments, strict=True)
            )
            session.execute("BEGIN")
            try:
                session.execute(f"SELECT {function}({text})")
                session.execute("COMMIT")
            except errors.QueryCanceled:
                pytest.fail(f"{function}({text}) does not end")
            except psycopg.Error:
                session.execute("ROLLBACK")
            called += 1
    assert called > 300
    assert state(connection) == before
    assert ran() == {}
    assert rows(connection, "SELECT * FROM pghistory.verify()") == []


def state(connection: Connection) -> set[tuple[object, ...]]:
    """Tables, functions, triggers, registry and events of everybody."""
    return {
        *rows(
            connection,
            "SELECT oid::text, relname::text, relowner, relacl::text FROM pg_class WHERE relnamespace::regnamespace::text IN ('app', 'pghistory')",
        ),
        *rows(
            connection,
            "SELECT oid::text, proowner, proacl::text, prosrc FROM pg_proc WHERE pronamespace::regnamespace::text IN ('app', 'pghistory')",
        ),
        *rows(
            connection,
            "SELECT oid::text, tgenabled::text, tgname::text FROM pg_trigger WHERE NOT tgisinternal",
        ),
        *rows(connection, "SELECT 'tracker', t::text FROM pghistory.tracker AS t"),
        *rows(connection, "SELECT 'event table', t::text FROM pghistory.event_table AS t"),
        *rows(connection, "SELECT 'event column', t::text FROM pghistory.event_column AS t"),
        *rows(connection, "SELECT 'event', t::text FROM app.users_event AS t"),
    }


# What is captured


def test_captured_facts_cannot_be_forged_by_calling_ours_first(
    connection: Connection, connect: Connect, mallory: str, vera: str
) -> None:
    call(connection, "capture", "current_user", "session_user", "query")
    owner, session = connect(user=vera), connect(user=mallory)
    track(owner, "app.users", "users", kind="history")
    with session.transaction():
        session.execute("SELECT set_config('pghistory.writer', 'alice', true)")
        session.execute("SELECT pghistory._attach_context()")
        session.execute("INSERT INTO app.users VALUES (1, 'Ann')")
    ((facts,),) = rows(
        connection,
        "SELECT metadata -> 'session' FROM app.users_event JOIN pghistory.context AS c ON c.id = pgh_context_id",
    )
    assert facts == {
        "current_user": mallory,
        "session_user": mallory,
        "query": "INSERT INTO app.users VALUES (1, 'Ann')",
    }


def test_captured_facts_cannot_be_forged_through_a_table_of_ones_own(
    connection: Connection, connect: Connect, mallory: str, vera: str
) -> None:
    """The owner of a tracked table can lie about who wrote to it, not about who wrote to another's."""
    call(connection, "capture", "current_user")
    owner, session = connect(user=vera), connect(user=mallory)
    track(owner, "app.users", "users", kind="history")
    session.execute("CREATE TABLE evil.users (id integer PRIMARY KEY)")
    track(session, "evil.users", "users", kind="history")
    session.execute(
        """ALTER TABLE evil.users DISABLE TRIGGER "! pghistory writer users_event insert statement" """
    )
    with session.transaction():
        session.execute("SELECT set_config('pghistory.writer', 'alice', true)")
        session.execute("INSERT INTO evil.users VALUES (1)")
        session.execute("INSERT INTO app.users VALUES (1, 'Ann')")
    ((writer,),) = rows(
        connection,
        """SELECT metadata -> 'session' ->> 'current_user'
             FROM app.users_event JOIN pghistory.context AS c ON c.id = pgh_context_id""",
    )
    assert writer == mallory


def test_a_context_is_told_only_to_who_knows_an_event_of_it(
    connection: Connection, vera: str, mallory: str
) -> None:
    connection.execute(f"SET ROLE {vera}")
    track(connection, "app.users", "user", kind="history")
    with connection.transaction():
        call(connection, "set_context", '{"secret": 42}', ID)
        connection.execute("INSERT INTO app.users VALUES (1, 'ann')")
    assert rows(connection, "SELECT pgh_context FROM pghistory.events('app.users')") == [({"secret": 42},)]
    xid = value(connection, "SELECT pgh_xid::text FROM app.users_event")

    connection.execute(f"SET ROLE {mallory}")
    told = "SELECT pghistory._context_of_event(%s, %s::xid8)"
    assert value(connection, told, ID, str(int(xid) + 1)) is None
    assert value(connection, told, uuid.uuid4(), xid) is None
    with pytest.raises(errors.InsufficientPrivilege):
        connection.execute("SELECT * FROM pghistory.context")
    with pytest.raises(errors.InsufficientPrivilege):
        connection.execute("SELECT * FROM pghistory.events('app.users')")
