"""An owner's code never runs as somebody who does DDL or upkeep, least of all as the superuser.

The event table of the tests is a minefield: everything that its owner can make run by itself is on it, and
what runs writes down as whom. DDL on the tracked table, by him or by the superuser, and all upkeep walk over
it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable

import psycopg
import pytest
from history import Connection, call, events, rows, track, value
from psycopg import errors

Connect = Callable[..., Connection]
Ran = Callable[[], dict[str, set[str]]]

# A cast that, run by his own event table's upkeep, turns the path of everybody around it to his schema, and what
# waits there: functions and operators that fit better than PostgreSQL's.
PATH = """
    CREATE TYPE evil.pair AS (value text);
    CREATE FUNCTION evil.to_pair(text) RETURNS evil.pair LANGUAGE plpgsql AS
        $$BEGIN
            PERFORM evil.log('cast');
            PERFORM pg_catalog.set_config('search_path', 'evil, pg_catalog', false);
            RETURN ROW($1);
        END$$;
    CREATE CAST (text AS evil.pair) WITH FUNCTION evil.to_pair AS ASSIGNMENT;
    CREATE FUNCTION evil.from_pair(evil.pair) RETURNS text LANGUAGE plpgsql AS
        $$BEGIN
            PERFORM evil.log('cast to text');
            PERFORM pg_catalog.set_config('search_path', 'evil, pg_catalog', false);
            RETURN ($1).value;
        END$$;
    CREATE CAST (evil.pair AS text) WITH FUNCTION evil.from_pair AS ASSIGNMENT;
    CREATE FUNCTION evil.format(text, text) RETURNS text LANGUAGE plpgsql AS
        $$BEGIN PERFORM evil.log('format'); RETURN pg_catalog.format($1, $2); END$$;
    CREATE FUNCTION evil.same(name, name) RETURNS boolean LANGUAGE plpgsql AS
        $$BEGIN PERFORM evil.log('operator'); RETURN pg_catalog.nameeq($1, $2); END$$;
    CREATE FUNCTION evil.same(oid, oid) RETURNS boolean LANGUAGE plpgsql AS
        $$BEGIN PERFORM evil.log('operator'); RETURN pg_catalog.oideq($1, $2); END$$;
    CREATE FUNCTION evil.same(text, text) RETURNS boolean LANGUAGE plpgsql AS
        $$BEGIN PERFORM evil.log('operator'); RETURN pg_catalog.texteq($1, $2); END$$;
    CREATE OPERATOR evil.= (FUNCTION = evil.same, LEFTARG = name, RIGHTARG = name);
    CREATE OPERATOR evil.= (FUNCTION = evil.same, LEFTARG = oid, RIGHTARG = oid);
    CREATE OPERATOR evil.= (FUNCTION = evil.same, LEFTARG = text, RIGHTARG = text)"""

# What runs when somebody plans, rewrites, reads or writes the event table.
MINES = """
    CREATE FUNCTION evil.fixed(integer) RETURNS integer IMMUTABLE LANGUAGE plpgsql AS
        $$BEGIN PERFORM evil.log('index'); RETURN $1; END$$;
    CREATE FUNCTION evil.fine(text) RETURNS boolean IMMUTABLE LANGUAGE plpgsql AS
        $$BEGIN RETURN evil.log('check'); END$$;
    CREATE FUNCTION evil.made(integer) RETURNS integer IMMUTABLE LANGUAGE plpgsql AS
        $$BEGIN PERFORM evil.log('generated'); RETURN $1; END$$;
    CREATE FUNCTION evil.fired() RETURNS trigger LANGUAGE plpgsql AS
        $$BEGIN PERFORM evil.log(TG_NAME); RETURN NEW; END$$;
    CREATE FUNCTION evil.allowed(integer) RETURNS boolean LANGUAGE plpgsql AS
        $$BEGIN RETURN evil.log('domain'); END$$;
    CREATE DOMAIN evil.checked AS integer CHECK (evil.allowed(VALUE));
    CREATE INDEX ON evil.users_event ((pgh_id + evil.fixed(1)));
    ALTER TABLE evil.users_event ADD CHECK (evil.fine(note));
    ALTER TABLE evil.users_event ADD COLUMN made integer GENERATED ALWAYS AS (evil.made(number)) STORED;
    ALTER TABLE evil.users_event ADD COLUMN seen boolean DEFAULT evil.log('default');
    CREATE TRIGGER "update" BEFORE UPDATE ON evil.users_event FOR EACH ROW EXECUTE FUNCTION evil.fired();
    CREATE CONSTRAINT TRIGGER "deferred" AFTER INSERT OR UPDATE ON evil.users_event
        DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION evil.fired();
    CREATE TABLE evil.child (CHECK (evil.fine('x'))) INHERITS (evil.users_event)"""


@pytest.fixture
def session(connection: Connection, connect: Connect, mallory: str) -> Connection:
    """A session of the hostile owner of the tracked table evil.users and its mined event table."""
    session = connect(user=mallory)
    session.execute(
        """CREATE TABLE evil.users (
            id integer PRIMARY KEY, other integer NOT NULL UNIQUE, note text, number integer, word text)"""
    )
    session.execute(PATH)
    track(session, "evil.users", "users", kind="history")
    session.execute("INSERT INTO evil.users VALUES (1, 11, '5', 7, 'a'), (2, 12, '6', 8, 'b')")
    session.execute(MINES)
    return session


DDL = {
    "a column of a domain": "ALTER TABLE evil.users ADD COLUMN extra evil.checked",
    "a column": "ALTER TABLE evil.users ADD COLUMN extra integer DEFAULT 1",
    "a cast of his": "ALTER TABLE evil.users ALTER COLUMN word TYPE evil.pair USING ROW(word)::evil.pair",
    "a cast": "ALTER TABLE evil.users ALTER COLUMN note TYPE integer USING note::integer",
    "a generated column": "ALTER TABLE evil.users ALTER COLUMN number TYPE bigint",
    "a domain": "ALTER TABLE evil.users ALTER COLUMN number TYPE evil.checked",
    "a key": "ALTER TABLE evil.users DROP CONSTRAINT users_pkey, ADD PRIMARY KEY (other)",
    "a name": "ALTER TABLE evil.users RENAME COLUMN note TO remark",
}


def escaped(ran: dict[str, set[str]], mallory: str) -> dict[str, set[str]]:
    return {by: what for by, what in ran.items() if by != mallory}


@pytest.mark.parametrize("ddl", DDL.values(), ids=DDL)
def test_ddl_of_an_owner_runs_his_code_as_nobody_else(
    connection: Connection, session: Connection, mallory: str, ran: Ran, ddl: str
) -> None:
    """The event triggers run with the rights of the extension's owner."""
    ran()
    session.execute(ddl)
    assert escaped(ran(), mallory) == {}
    session.execute("INSERT INTO evil.users (id, other) VALUES (3, 13)")
    assert len(events(connection, "evil.users_event")) == 3


# DDL that PostgreSQL itself does without the owner's code, so that what runs is ours.
@pytest.mark.parametrize("ddl", ["a column", "a cast", "a generated column", "a key", "a name"])
def test_ddl_of_a_superuser_runs_an_owners_code_as_nobody_else(
    connection: Connection, session: Connection, mallory: str, ran: Ran, ddl: str
) -> None:
    path = value(connection, "SHOW search_path")
    ran()
    connection.execute(DDL[ddl])
    assert escaped(ran(), mallory) == {}
    assert value(connection, "SHOW search_path") == path


UPKEEP = {
    "sync": "SELECT pghistory.sync()",
    "sync of a table": "SELECT pghistory.sync('evil.users')",
    "refresh": "SELECT pghistory.refresh()",
    "verify": "SELECT pghistory.verify()",
    "trackers": "SELECT pghistory.trackers()",
    "track": "SELECT pghistory.track('evil.users', 'users', kind => 'history', level => 'row')",
    "track with another label": "SELECT pghistory.track('evil.users', 'more', kind => 'after_update')",
    "untrack": "SELECT pghistory.untrack('evil.users')",
    "untrack and drop": "SELECT pghistory.untrack('evil.users', drop_events => true)",
    "capture": "SELECT pghistory.capture('current_user')",
    "create_event_table": "SELECT pghistory.create_event_table('evil.users', 'fresh')",
}


# His mined event table fits no tracker any more, and has a child that depends on it.
REFUSALS = (errors.InvalidTableDefinition, errors.DuplicateTable, errors.DependentObjectsStillExist)


@pytest.mark.parametrize("upkeep", UPKEEP.values(), ids=UPKEEP)
def test_upkeep_of_a_superuser_runs_an_owners_code_as_nobody_else(
    connection: Connection, session: Connection, mallory: str, ran: Ran, upkeep: str
) -> None:
    """After DDL that was not followed, so that there is much to be done."""
    connection.execute("ALTER EVENT TRIGGER pghistory_before_ddl DISABLE")
    connection.execute("ALTER EVENT TRIGGER pghistory_after_ddl DISABLE")
    for ddl in DDL.values():
        session.execute(ddl.replace("COLUMN extra", "COLUMN IF NOT EXISTS extra"))
    connection.execute("ALTER EVENT TRIGGER pghistory_before_ddl ENABLE")
    connection.execute("ALTER EVENT TRIGGER pghistory_after_ddl ENABLE")
    path = value(connection, "SHOW search_path")
    ran()
    with contextlib.suppress(*REFUSALS):
        connection.execute(upkeep)
    assert escaped(ran(), mallory) == {}
    assert value(connection, "SHOW search_path") == path


def test_upkeep_of_a_member_of_the_owning_role_runs_no_other_members_code_as_him(
    connection: Connection,
    session: Connection,
    role: Callable[..., str],
    connect: Connect,
    ran: Ran,
    mallory: str,
) -> None:
    colleague = role("colleague")
    connection.execute(f"GRANT {mallory} TO {colleague}")
    connection.execute("ALTER EVENT TRIGGER pghistory_after_ddl DISABLE")
    for ddl in DDL.values():
        session.execute(ddl.replace("COLUMN extra", "COLUMN IF NOT EXISTS extra"))
    connection.execute("ALTER EVENT TRIGGER pghistory_after_ddl ENABLE")
    ran()
    connect(user=colleague).execute("SELECT pghistory.sync()")
    assert escaped(ran(), mallory) == {}


def test_a_superuser_who_writes_an_event_by_hand_runs_an_owners_code_as_nobody_else(
    connection: Connection, connect: Connect, mallory: str, ran: Ran
) -> None:
    """Neither a cast of the row, nor the domain of its key, nor a trigger of the event table."""
    session = connect(user=mallory)
    session.execute(
        """CREATE FUNCTION evil.allowed(integer) RETURNS boolean LANGUAGE plpgsql AS
            $$BEGIN RETURN evil.log('domain'); END$$;
        CREATE DOMAIN evil.number AS integer CHECK (evil.allowed(VALUE));
        CREATE TABLE evil.users (id evil.number PRIMARY KEY, name text);
        CREATE TABLE evil.nothing (id integer, name text);
        CREATE FUNCTION evil.fired() RETURNS trigger LANGUAGE plpgsql AS
            $$BEGIN PERFORM evil.log('trigger'); RETURN NEW; END$$"""
    )
    for table in ("users", "nothing"):
        session.execute(
            f"""CREATE FUNCTION evil.as_text(evil.{table}) RETURNS text LANGUAGE plpgsql AS
                $$BEGIN PERFORM evil.log('row'); RETURN '(1,x)'; END$$;
            CREATE CAST (evil.{table} AS text) WITH FUNCTION evil.as_text(evil.{table}) AS IMPLICIT"""
        )
        track(session, f"evil.{table}", "seen", kind="event")
        session.execute(
            f"""CREATE TRIGGER x BEFORE INSERT ON evil.{table}_event
            FOR EACH ROW EXECUTE FUNCTION evil.fired()"""
        )
    session.execute("INSERT INTO evil.users VALUES (1, 'Eve'); INSERT INTO evil.nothing VALUES (NULL, NULL)")
    ran()
    connection.execute("SELECT pghistory.create_event(u, 'seen') FROM evil.users AS u")
    connection.execute("SELECT pghistory.create_event(u, 'seen') FROM evil.nothing AS u")
    call(connection, "create_event", "evil.users", "1", "seen")
    assert escaped(ran(), mallory) == {}
    assert events(connection, "evil.users_event", "id, name") == [(1, "Eve"), (1, "Eve")]
    assert events(connection, "evil.nothing_event", "id, name") == [(None, None)]


def test_a_view_or_another_thing_cannot_stand_for_an_event_table(
    connection: Connection, connect: Connect, mallory: str, ran: Ran
) -> None:
    session = connect(user=mallory)
    session.execute(
        """CREATE TABLE evil.users (id integer PRIMARY KEY, name text);
        CREATE FUNCTION evil.last() RETURNS bigint LANGUAGE plpgsql AS
            $$BEGIN PERFORM evil.log('view'); RETURN 1; END$$;
        CREATE VIEW evil.seen AS SELECT evil.last() AS pgh_id, 1 AS id, 'x'::text AS name, 2 AS extra;
        CREATE SEQUENCE evil.numbers"""
    )
    track(session, "evil.users", "users", kind="event")
    for thing in ("evil.seen", "evil.numbers", "evil.users_pkey", "evil.users"):
        for action, details in (
            (
                "save event table",
                '{"obj_key": [], "obj_key_numbers": [], "obj_key_given": true, "context": "none", "append_only": false}',
            ),
            ("save tracker", TRACKER % ("forged", "[]")),
        ):
            with pytest.raises(psycopg.Error):
                session.execute(
                    "INSERT INTO pghistory._request VALUES (%s, 'evil.users', %s, %s)",
                    [action, thing, details],
                )
    session.execute("ALTER TABLE evil.users ADD COLUMN extra integer")
    connection.execute("SELECT pghistory.refresh()")
    assert ran() == {}
    assert rows(connection, "SELECT object, problem FROM pghistory.verify()") == []


TRACKER = """{"label": "%s", "kind": "event", "level": "auto", "condition_is_row_level": false,
    "condition_columns": [], "condition_objects": %s, "condition_is_void": false}"""
FORGED = [
    ("save tracker", TRACKER % ("poison", '[{"class": "nonsense", "id": 1}]')),
    ("save tracker", TRACKER % ("poison", '[{"class": "pg_proc", "id": "nonsense"}]')),
    ("save tracker", TRACKER % ("poison", '{"class": "pg_proc"}')),
    ("save tracker", TRACKER % ("poison", "7")),
    ("save function", '{"by_hand": "foo(("}'),
    ("save function", '{"by_hand": "\\""}'),
    ("save function", '{"by_hand": "app.users_event_by_hand"}'),
    (
        "save event table",
        '{"obj_key": [null], "obj_key_numbers": [], "obj_key_given": true, "context": "none", "append_only": false}',
    ),
    (
        "save event table",
        '{"obj_key": ["id"], "obj_key_numbers": [null, 7], "obj_key_given": false, "context": "nonsense",'
        ' "append_only": false, "obj_fk": "; DROP TABLE app.users"}',
    ),
    ("save columns", '[{"column_name": "nonsense", "table_column_name": "x", "table_column_number": 99}]'),
    (
        "save columns",
        '[{"column_name": "id", "table_column_name": "\\") FROM x; --", "table_column_number": 1}]',
    ),
    (
        "save tracker",
        '{"label": "poison", "kind": "nonsense", "level": "nonsense", "fields": ["nonsense"],'
        ' "condition": "true) THEN PERFORM evil.log(\'condition\'); END IF; IF (true",'
        ' "condition_is_row_level": true, "condition_columns": [{"number": 1}], "condition_objects": [],'
        ' "condition_is_void": false}',
    ),
]


@pytest.mark.parametrize(("action", "details"), FORGED)
def test_what_an_owner_forges_in_the_registry_harms_nobody_else(
    connection: Connection, connect: Connect, mallory: str, vera: str, ran: Ran, action: str, details: str
) -> None:
    """Others' DDL is followed, their rows are recorded, their functions stay, and upkeep of all tables works."""
    owner, session = connect(user=vera), connect(user=mallory)
    track(owner, "app.users", "users", kind="history")
    session.execute("CREATE TABLE evil.users (id integer PRIMARY KEY, name text)")
    track(session, "evil.users", "users", kind="history")
    with contextlib.suppress(psycopg.Error):  # to refuse it is better still
        session.execute(
            "INSERT INTO pghistory._request VALUES (%s, 'evil.users', 'evil.users_event', %s)",
            [action, details],
        )
    owner.execute("ALTER TABLE app.users RENAME COLUMN name TO called")
    owner.execute("ALTER TABLE app.users ADD COLUMN age integer")
    owner.execute("INSERT INTO app.users VALUES (1, 'Ann', 30)")
    assert events(owner, "app.users_event", "called, age") == [("Ann", 30)]
    connection.execute("SELECT pghistory.sync(); SELECT pghistory.refresh()")
    connection.execute("SELECT pghistory.trackers()")
    problems = rows(connection, """SELECT "table"::text, problem FROM pghistory.verify()""")
    assert [problem for table, problem in problems if table != "evil.users"] == []
    session.execute("DROP TABLE evil.users")
    call(connection, "create_event", "app.users", "1", "users")
    assert len(events(owner, "app.users_event")) == 2
    assert escaped(ran(), mallory) == {}


def test_a_strangers_ddl_changes_nobody_elses_event_table(
    connection: Connection, connect: Connect, mallory: str, vera: str
) -> None:
    """Columns of an owner's own, types that stayed with old values, and domains."""
    owner, session = connect(user=vera), connect(user=mallory)
    owner.execute(
        "CREATE TYPE app.mood AS ENUM ('good'); CREATE DOMAIN app.short AS text CHECK (VALUE <> '')"
    )
    owner.execute("ALTER TABLE app.users ADD COLUMN feels app.mood, ADD COLUMN nick app.short")
    call(owner, "create_event_table", "app.users")
    owner.execute("ALTER TABLE app.users_event ADD COLUMN judged app.mood DEFAULT 'good'")
    track(owner, "app.users", "users", kind="history")
    owner.execute("ALTER TABLE app.users DROP COLUMN feels")
    query = """SELECT attname::text, atttypid::regtype::text FROM pg_attribute
                WHERE attrelid = 'app.users_event'::regclass AND attnum > 0"""
    before = rows(connection, query)
    session.execute(
        """CREATE TYPE evil.mood AS ENUM ('bad'); ALTER TYPE evil.mood ADD VALUE 'worse'; DROP TYPE evil.mood;
        CREATE DOMAIN evil.word AS text; ALTER DOMAIN evil.word ADD CHECK (VALUE <> ''); DROP DOMAIN evil.word"""
    )
    assert rows(connection, query) == before
    owner.execute("CREATE TYPE app.other AS (a text); DROP TYPE app.other")
    assert ("judged", "app.mood") in rows(connection, query)
