"""Who may do what: owners, writers, readers, strangers and superusers."""

from __future__ import annotations

import uuid
from collections.abc import Callable

import psycopg
import pytest
from history import Connection, call, catalog, events, refused, rows, track, value
from psycopg import errors

Connect = Callable[..., Connection]
Role = Callable[..., str]
ID = uuid.UUID("a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11")


@pytest.fixture
def owner(connection: Connection, role: Role) -> str:
    """An ordinary role with a schema of its own and the table app.users in it."""
    name = role("owner")
    connection.execute(
        f"""CREATE SCHEMA app AUTHORIZATION {name}; GRANT USAGE ON SCHEMA app TO PUBLIC;
        SET ROLE {name};
        CREATE TABLE app.users (id integer PRIMARY KEY, name text);
        RESET ROLE"""
    )
    return name


@pytest.fixture
def writer(connection: Connection, owner: str, role: Role) -> str:
    """A role that may do nothing but write rows of app.users, and has a schema of its own."""
    name = role("writer")
    connection.execute(
        f"""GRANT INSERT, UPDATE, DELETE ON app.users TO {name};
        CREATE SCHEMA own AUTHORIZATION {name}; GRANT USAGE ON SCHEMA own TO PUBLIC"""
    )
    return name


def owner_of(connection: Connection, catalog_table: str, oid: str) -> str:
    column = {"pg_class": "relowner", "pg_proc": "proowner"}[catalog_table]
    return str(value(connection, f"SELECT {column}::regrole::text FROM {catalog_table} WHERE oid = {oid}"))


def owners_of_functions(connection: Connection) -> set[str]:
    """The owners of the generated functions in the schema app."""
    query = "SELECT DISTINCT proowner::regrole::text FROM pg_proc WHERE pronamespace = 'app'::regnamespace"
    return {name for (name,) in rows(connection, query)}


# Owners


def test_an_owner_without_further_rights_does_everything_with_his_table(connect: Connect, owner: str) -> None:
    session = connect(user=owner)
    call(session, "create_event_table", "app.users", "users_log")
    session.execute("ALTER TABLE app.users_log ADD COLUMN remark text")
    track(session, "app.users", "changed", kind="history", event_table="app.users_log")
    track(session, "app.users", "renamed", kind="after_update", condition=call(session, "any_change", "name"))
    track(session, "app.users", "guarded", kind="event", append_only=True, event_table="app.guarded")
    with session.transaction():
        call(session, "set_context", '{"user": 1}', ID)
        session.execute("INSERT INTO app.users VALUES (1, 'Ann')")
        session.execute("UPDATE app.users SET name = 'Anna'")
        call(session, "create_event", "app.users", "1", "guarded")
        session.execute("TRUNCATE app.users")
    assert events(session, "app.users_log", "pgh_operation, pgh_context_id") == [
        ("I", ID),
        ("U", ID),
        ("T", ID),
    ]
    assert events(session, "app.users_event", "name") == ["Anna"]
    assert events(session, "app.guarded", "name") == ["Anna"]
    session.execute(
        "ALTER TABLE app.users ADD COLUMN age integer; ALTER TABLE app.users RENAME name TO called"
    )
    session.execute("INSERT INTO app.users VALUES (2, 'Tim', 4)")
    assert events(session, "app.users_log", "called, age")[-1] == ("Tim", 4)
    for function in ("sync", "refresh"):
        call(session, function)
    assert rows(session, "SELECT * FROM pghistory.verify()") == []
    assert len(rows(session, "SELECT * FROM pghistory.trackers()")) == 3
    assert call(session, "untrack", "app.users", drop_events=True) == 3


def test_what_an_owner_tracks_is_his(connection: Connection, connect: Connect, owner: str) -> None:
    track(connect(user=owner), "app.users", kind="history")
    assert owner_of(connection, "pg_class", "'app.users_event'::regclass") == owner
    assert owners_of_functions(connection) == {owner}


def test_what_a_superuser_tracks_is_the_table_owners(connection: Connection, owner: str, writer: str) -> None:
    track(connection, "app.users", kind="history")
    assert owner_of(connection, "pg_class", "'app.users_event'::regclass") == owner
    assert owners_of_functions(connection) == {owner}
    connection.execute(f"SET ROLE {writer}; INSERT INTO app.users VALUES (1, 'Ann'); RESET ROLE")
    connection.execute(f"SET ROLE {owner}")
    assert events(connection, "app.users_event", "name") == ["Ann"]


def test_the_owner_can_go_on_with_what_a_superuser_began(
    connection: Connection, connect: Connect, owner: str
) -> None:
    track(connection, "app.users", "a", kind="history")
    session = connect(user=owner)
    track(session, "app.users", "b", kind="history", level="statement")
    track(session, "app.users", "a", kind="after_insert")
    session.execute("INSERT INTO app.users VALUES (1, 'Ann')")
    assert events(session, "app.users_event", "pgh_label") == ["a", "b"]
    assert call(session, "untrack", "app.users", drop_events=True) == 2


def test_a_member_of_the_owning_role_tracks_for_it(
    connection: Connection, connect: Connect, owner: str, role: Role
) -> None:
    member = role("member")
    connection.execute(f"GRANT {owner} TO {member}")
    session = connect(user=member)
    track(session, "app.users", kind="history")
    assert owner_of(connection, "pg_class", "'app.users_event'::regclass") == owner
    assert owners_of_functions(connection) == {owner}
    session.execute("INSERT INTO app.users VALUES (1, 'Ann')")
    assert events(session, "app.users_event", "name") == ["Ann"]
    call(session, "untrack", "app.users", drop_events=True)


def test_a_table_that_changed_hands_is_still_recorded(
    connection: Connection, connect: Connect, owner: str, writer: str, role: Role
) -> None:
    track(connect(user=owner), "app.users", "first", kind="history")
    heir = role("heir")
    connection.execute(f"ALTER TABLE app.users OWNER TO {heir}; GRANT CREATE ON SCHEMA app TO {heir}")
    connect(user=writer).execute("INSERT INTO app.users VALUES (1, 'Ann')")
    assert events(connection, "app.users_event", "name") == ["Ann"]
    connection.execute(f"ALTER TABLE app.users_event OWNER TO {heir}")
    connect(user=writer).execute("INSERT INTO app.users VALUES (2, 'Tim')")
    assert events(connection, "app.users_event", "name") == ["Ann", "Tim"]
    session = connect(user=heir)
    track(session, "app.users", "second", kind="after_insert")
    assert call(session, "untrack", "app.users") == 2


def test_upkeep_without_a_table_passes_over_what_is_not_the_callers(
    connection: Connection, connect: Connect, owner: str, role: Role
) -> None:
    track(connection, "app.users", kind="history")
    connection.execute('DROP TRIGGER "!pghistory users_event insert statement" ON app.users')
    stranger = connect(user=role("stranger"))
    before = catalog(connection)
    call(stranger, "refresh")
    call(stranger, "sync")
    assert catalog(connection) == before
    query = "SELECT pghistory.sync('app.users')"
    refused(
        stranger,
        errors.InsufficientPrivilege,
        "must be owner of table app.users",
        query,
        inspector=connection,
    )
    call(connect(user=owner), "refresh")
    assert rows(connection, "SELECT * FROM pghistory.verify()") == []


# Writers


def test_a_writers_rows_are_recorded_though_he_has_no_right_on_the_events(
    connection: Connection, connect: Connect, owner: str, writer: str
) -> None:
    connection.execute(f"CREATE SCHEMA audit AUTHORIZATION {owner}")
    owner_session = connect(user=owner)
    track(owner_session, "app.users", "one", kind="history", event_table="audit.one")
    track(owner_session, "app.users", "two", kind="history", context="inline", level="statement")
    session = connect(user=writer)
    with session.transaction():
        call(session, "set_context", '{"user": 1}', ID)
        session.execute("INSERT INTO app.users VALUES (1, 'Ann')")
        session.execute("UPDATE app.users SET name = 'Anna'; DELETE FROM app.users")
        call(session, "add_context", '{"done": true}')
    for event_table in ("audit.one", "app.users_event"):
        assert events(owner_session, event_table, "pgh_operation, name, pgh_context_id") == [
            ("I", "Ann", ID),
            ("U", "Anna", ID),
            ("D", "Anna", ID),
        ]
    assert rows(connection, "SELECT id, metadata FROM pghistory.context") == [(ID, {"user": 1, "done": True})]


FORBIDDEN = [
    "SELECT * FROM app.users_event",
    "SELECT pgh_id FROM app.users_event",
    "INSERT INTO app.users_event (pgh_label) VALUES ('forged')",
    "UPDATE app.users_event SET name = 'forged'",
    "DELETE FROM app.users_event",
    "TRUNCATE app.users_event",
    "DROP TABLE app.users_event",
    "ALTER TABLE app.users_event ADD COLUMN x integer",
    "SELECT nextval(pg_get_serial_sequence('app.users_event', 'pgh_id'))",
    "SELECT * FROM pghistory.context",
    "SELECT * FROM pghistory.context_part",
    "INSERT INTO pghistory.context_part (id, xid) VALUES (gen_random_uuid(), '1')",
    "UPDATE pghistory.context_part SET metadata = '{}'",
    "DELETE FROM pghistory.context_part",
    "DELETE FROM pghistory.tracker",
    "UPDATE pghistory.tracker SET kind = 'event'",
    "INSERT INTO pghistory.capture_key VALUES ('query')",
    "DELETE FROM pghistory.event_table",
    "DELETE FROM pghistory.event_column",
    "SELECT * FROM pghistory._permit",
    "INSERT INTO pghistory._permit VALUES (pg_current_xact_id(), 'app.users_event', 'users.history')",
    "SELECT pghistory._ensure_state()",
    "CREATE FUNCTION pghistory._extra() RETURNS void LANGUAGE sql AS ''",
    "CREATE TABLE pghistory.extra ()",
    "DROP EXTENSION pghistory",
    'ALTER TABLE app.users DISABLE TRIGGER "!pghistory users_event insert statement"',
    'DROP TRIGGER "!pghistory users_event insert statement" ON app.users',
    "DROP FUNCTION app.users_event_insert_statement()",
    "SET session_replication_role = replica",
    "SELECT pghistory.track('app.users')",
    "SELECT pghistory.track('app.users', 'users.history', 'event')",
    "SELECT pghistory.untrack('app.users')",
    "SELECT pghistory.untrack('app.users', drop_events => true)",
    "SELECT pghistory.sync('app.users')",
    "SELECT pghistory.create_event_table('app.users', 'own.stolen')",
    "SELECT pghistory.capture()",
]


def test_a_writer_can_neither_read_nor_change_events_nor_what_is_tracked(
    connection: Connection, connect: Connect, writer: str
) -> None:
    track(connection, "app.users", kind="history")
    connection.execute("INSERT INTO app.users VALUES (1, 'Ann')")
    session = connect(user=writer)
    before = catalog(connection)
    for statement in FORBIDDEN:
        with pytest.raises(errors.InsufficientPrivilege):
            session.execute(statement)
    assert catalog(connection) == before
    assert events(connection, "app.users_event", "name") == ["Ann"]


def test_a_reader_reads_what_he_was_granted(
    connection: Connection, connect: Connect, owner: str, role: Role
) -> None:
    track(connection, "app.users", kind="history")
    connection.execute("INSERT INTO app.users VALUES (1, 'Ann')")
    reader = role("reader")
    connect(user=owner).execute(f"GRANT SELECT ON app.users_event TO {reader}")
    assert events(connect(user=reader), "app.users_event", "name") == ["Ann"]


def test_everybody_may_list_what_is_tracked_and_verify_it(
    connection: Connection, connect: Connect, role: Role, owner: str
) -> None:
    track(connection, "app.users", kind="history")
    session = connect(user=role("stranger"))
    assert rows(session, "SELECT label, status FROM pghistory.trackers()") == [("users.history", "active")]
    assert rows(session, "SELECT * FROM pghistory.verify()") == []


# What is private


PERMIT = "INSERT INTO pghistory._request VALUES ('permit event', 'app.users', NULL, %s)"
REQUESTS = [
    ("save tracker", '{"label": "x", "kind": "history", "level": "auto", "condition_is_row_level": false}'),
    (
        "save tracker",
        '{"label": "users.history", "kind": "event", "level": "auto", "condition_is_row_level": false}',
    ),
    ("remove tracker", '{"label": "users.history"}'),
    ("forget event table", "{}"),
    ("save columns", "[]"),
    ("save function", '{"by_hand": "own.evil"}'),
    (
        "save event table",
        '{"obj_key": "{}", "obj_key_numbers": "{}", "obj_key_given": true, "context": "none"}',
    ),
    ("prepare", "{}"),
    ("unheard of", "{}"),
]


@pytest.mark.parametrize(("action", "details"), REQUESTS, ids=lambda part: part[:30])
def test_the_door_to_the_registry_is_closed_to_strangers(
    connection: Connection, connect: Connect, writer: str, action: str, details: str
) -> None:
    track(connection, "app.users", kind="history")
    session = connect(user=writer)
    session.execute("CREATE TABLE own.mine (id integer PRIMARY KEY); CREATE TABLE own.log (pgh_id bigserial)")
    before = catalog(connection)
    for table, event_table in (
        ("app.users", "app.users_event"),
        ("app.users", "own.log"),
        ("app.users", None),
        ("own.mine", "app.users_event"),
        (None, "app.users_event"),
        (None, None),
    ):
        with pytest.raises(errors.InsufficientPrivilege):
            session.execute(
                "INSERT INTO pghistory._request VALUES (%s, %s, %s, %s)",
                [action, table, event_table, details],
            )
    assert catalog(connection) == before


def test_an_owner_cannot_lay_hands_on_events_that_go_to_another(
    connection: Connection, connect: Connect, owner: str, writer: str
) -> None:
    """The owner of a tracked table may ask for its trackers; not for the event tables of other tables."""
    track(connection, "app.users", kind="history")
    session = connect(user=writer)
    session.execute("CREATE TABLE own.mine (id integer PRIMARY KEY, name text)")
    track(session, "own.mine")
    before = catalog(connection)
    for action, details in REQUESTS:
        with pytest.raises(psycopg.Error):
            session.execute(
                "INSERT INTO pghistory._request VALUES (%s, 'own.mine', 'app.users_event', %s)",
                [action, details],
            )
    assert catalog(connection) == before


def test_a_permit_is_good_for_one_event_of_its_label_in_its_transaction(
    connection: Connection, connect: Connect, writer: str
) -> None:
    track(connection, "app.users", "one", kind="event")
    track(connection, "app.users", "two", kind="event")
    session = connect(user=writer)
    use = "SELECT pghistory._use_permit('app.users_event', %s)"
    for *good, last in (["two"], ["one", "one"]):
        session.execute("BEGIN")
        session.execute(PERMIT, ['{"label": "one"}'])
        for label in good:
            session.execute(use, [label])
        with pytest.raises(errors.InsufficientPrivilege):
            session.execute(use, [last])
        session.execute("ROLLBACK")
    session.execute(PERMIT, ['{"label": "one"}'])
    with pytest.raises(errors.InsufficientPrivilege):
        session.execute(use, ["one"])


def test_private_functions_are_closed_to_everybody_but_where_they_are_needed(connection: Connection) -> None:
    """What runs with the rights of the extension's owner looks only at the caller's own transaction."""
    definers = rows(
        connection,
        """SELECT proname::text, proconfig FROM pg_proc
            WHERE pronamespace = 'pghistory'::regnamespace AND prosecdef ORDER BY proname""",
    )
    for name, settings in definers:
        assert "search_path=pg_catalog, pg_temp" in settings, name
    open_to_all = rows(
        connection,
        """SELECT proname::text FROM pg_proc
            WHERE pronamespace = 'pghistory'::regnamespace AND prosecdef
              AND has_function_privilege('public', oid, 'EXECUTE') ORDER BY proname""",
    )
    assert [name for (name,) in open_to_all] == [
        "_attach_context",
        "_context_of_event",  # which wants to be told what only an event says
        "_read_inline_context",
        "_use_permit",
    ]


# Running code as somebody else


@pytest.fixture
def log_of_runs(connection: Connection, role: Role) -> Callable[[], set[str]]:
    """A table that anybody may write names into, and a function that reads which names there are."""
    connection.execute("CREATE TABLE public.runs (by name); GRANT ALL ON public.runs TO PUBLIC")
    return lambda: {by for (by,) in rows(connection, "SELECT by FROM public.runs")}


LOG = "INSERT INTO public.runs VALUES (current_user)"


def test_a_writer_cannot_make_the_function_behind_create_event_run_his_casts(
    connection: Connection, connect: Connect, writer: str, log_of_runs: Callable[[], set[str]]
) -> None:
    track(connection, "app.users", "login", kind="event")
    session = connect(user=writer)
    session.execute(
        f"""CREATE TYPE own.bomb AS (a integer);
        CREATE FUNCTION own.explode(own.bomb) RETURNS integer LANGUAGE plpgsql AS
            'BEGIN {LOG}; RETURN 1; END';
        CREATE CAST (own.bomb AS integer) WITH FUNCTION own.explode AS ASSIGNMENT;
        CREATE TABLE own.fake (id own.bomb, name text)"""
    )
    function = value(
        connection,
        "SELECT oid::regproc::text FROM pg_proc WHERE prosrc ~ '_use_permit' AND proname ~ '^users_event'",
    )
    session.execute("BEGIN")
    session.execute(PERMIT, ['{"label": "login"}'])
    with pytest.raises(psycopg.Error):
        session.execute(f"SELECT {function}('login', ROW(ROW(1), 'x')::own.fake)")
    session.execute("ROLLBACK")
    with pytest.raises(psycopg.Error):
        session.execute("SELECT pghistory.create_event(ROW(ROW(1), 'x')::own.fake, 'login')")
    assert log_of_runs() <= {writer}
    assert events(connection, "app.users_event") == []


def test_ddl_of_an_owner_runs_nothing_of_his_as_the_superuser(
    connection: Connection, connect: Connect, owner: str, log_of_runs: Callable[[], set[str]]
) -> None:
    session = connect(user=owner)
    track(session, "app.users", kind="history")
    session.execute("INSERT INTO app.users VALUES (1, 'Ann'), (2, 'Tim')")
    session.execute(
        f"""CREATE FUNCTION app.check_it(integer) RETURNS boolean LANGUAGE plpgsql AS
            'BEGIN {LOG}; RETURN true; END';
        CREATE DOMAIN app.checked AS integer CHECK (app.check_it(VALUE));
        CREATE TYPE app.pair AS (a text);
        CREATE FUNCTION app.to_pair(text) RETURNS app.pair LANGUAGE plpgsql AS
            'BEGIN {LOG}; RETURN ROW($1); END';
        CREATE CAST (text AS app.pair) WITH FUNCTION app.to_pair AS ASSIGNMENT"""
    )
    session.execute("ALTER TABLE app.users ADD COLUMN number app.checked")
    session.execute("ALTER TABLE app.users ADD COLUMN other integer")
    session.execute("INSERT INTO app.users VALUES (3, 'Eve', 7, 7)")
    session.execute("ALTER TABLE app.users ALTER COLUMN other TYPE app.checked")
    session.execute("ALTER TABLE app.users ALTER COLUMN name TYPE app.pair USING name::app.pair")
    session.execute("UPDATE app.users SET other = id; ALTER TABLE app.users DROP CONSTRAINT users_pkey")
    session.execute("ALTER TABLE app.users ADD PRIMARY KEY (other)")
    assert log_of_runs() == {owner}


@pytest.mark.parametrize("command", ["SELECT pghistory.refresh()", "SELECT pghistory.sync()", "ddl", "track"])
def test_upkeep_and_ddl_of_a_superuser_run_nothing_of_an_owners_as_him(
    connection: Connection, connect: Connect, owner: str, log_of_runs: Callable[[], set[str]], command: str
) -> None:
    session = connect(user=owner)
    session.execute(
        f"""CREATE FUNCTION app.log() RETURNS boolean LANGUAGE plpgsql AS 'BEGIN {LOG}; RETURN true; END';
        CREATE FUNCTION app.check_it(integer) RETURNS boolean LANGUAGE plpgsql AS
            'BEGIN RETURN app.log(); END';
        CREATE DOMAIN app.checked AS integer CHECK (app.check_it(VALUE));
        CREATE FUNCTION app.is_fine(text) RETURNS boolean IMMUTABLE LANGUAGE plpgsql AS
            'BEGIN RETURN app.log(); END'"""
    )
    track(session, "app.users", kind="after_insert", condition="app.is_fine('x') OR app.is_fine(new.name)")
    session.execute("INSERT INTO app.users VALUES (1, 'Ann'), (2, 'Tim')")
    connection.execute("ALTER EVENT TRIGGER pghistory_after_ddl DISABLE")
    session.execute("ALTER TABLE app.users ADD COLUMN number app.checked")
    connection.execute("ALTER EVENT TRIGGER pghistory_after_ddl ENABLE")
    connection.execute("TRUNCATE public.runs")
    if command == "ddl":
        connection.execute("ALTER TABLE app.users ADD COLUMN later integer")
    elif command == "track":
        track(connection, "app.users", kind="after_insert", level="row")
    else:
        connection.execute(command)
    assert "number" in [c.name for c in connection.execute("SELECT * FROM app.users_event").description or ()]
    assert log_of_runs() <= {owner}


def test_a_writer_runs_nothing_of_his_as_the_owner(
    connection: Connection, connect: Connect, owner: str, writer: str, log_of_runs: Callable[[], set[str]]
) -> None:
    """Neither by temporary objects nor by a context or a label."""
    track(
        connection, "app.users", "login", kind="history", condition="current_setting('app.x', true) IS NULL"
    )
    session = connect(user=writer)
    session.execute(
        f"""CREATE FUNCTION pg_temp.current_setting(text, boolean) RETURNS text LANGUAGE plpgsql AS
            'BEGIN {LOG}; RETURN NULL; END';
        CREATE TEMPORARY TABLE users_event (id integer, name text);
        CREATE TEMPORARY TABLE context_part (id uuid)"""
    )
    with session.transaction():
        session.execute("SELECT set_config('pghistory.context_id', %s, true)", [f"{ID}"])
        session.execute("SELECT set_config('pghistory.context_metadata', '{\"x\": \"$$; SELECT 1\"}', true)")
        session.execute("INSERT INTO app.users VALUES (1, 'Ann'); UPDATE app.users SET name = 'x'")
    assert log_of_runs() == set()
    assert events(connection, "app.users_event") == ["I", "U"]


# An extension that no superuser owns


def test_an_extension_installed_by_an_ordinary_role_serves_everybody(empty_database: str, role: Role) -> None:
    installer, owner, writer = role("installer"), role("owner"), role("writer")
    with psycopg.connect(empty_database, autocommit=True) as superuser:
        superuser.execute(f"GRANT CREATE ON DATABASE {superuser.info.dbname} TO {installer}, {owner}")
    with psycopg.connect(empty_database, user=installer, autocommit=True) as session:
        session.execute("CREATE EXTENSION pghistory")
    with psycopg.connect(empty_database, user=owner, autocommit=True) as session:
        session.execute("CREATE SCHEMA app")
        session.execute("CREATE TABLE app.users (id integer PRIMARY KEY, name text)")
        session.execute(f"GRANT USAGE ON SCHEMA app TO {writer}; GRANT INSERT ON app.users TO {writer}")
        track(session, "app.users", kind="history")
    with psycopg.connect(empty_database, user=installer, autocommit=True) as session:
        call(session, "capture", "session_user")
        with pytest.raises(errors.InsufficientPrivilege):
            session.execute("SELECT * FROM app.users_event")
    with psycopg.connect(empty_database, user=writer, autocommit=True) as session:
        session.execute("INSERT INTO app.users VALUES (1, 'Ann')")
    with psycopg.connect(empty_database, user=owner, autocommit=True) as session:
        session.execute("ALTER TABLE app.users ADD COLUMN age integer")
        session.execute("SELECT pghistory.sync()")
        session.execute("INSERT INTO app.users VALUES (2, 'Tim', 4)")
        assert events(session, "app.users_event", "name, age") == [("Ann", None), ("Tim", 4)]
        assert rows(session, "SELECT * FROM pghistory.verify()") == []
    with psycopg.connect(empty_database, user=installer, autocommit=True) as session:
        facts = rows(session, "SELECT metadata -> 'session' FROM pghistory.context ORDER BY created_at")
        assert facts == [({"session_user": writer},), ({"session_user": owner},)]
        session.execute("DROP EXTENSION pghistory")
