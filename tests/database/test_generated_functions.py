"""What track() generates: functions that read as if written by hand, and do nothing but write events."""

from __future__ import annotations

from collections.abc import Callable

import psycopg
import pytest
from history import LEVELS, Connection, call, events, rows, track, value

Connect = Callable[..., Connection]
GENERATED = """
    SELECT oid, proname::text AS name FROM pg_proc
     WHERE pronamespace = 'public'::regnamespace AND proname ~ '_event_'
     ORDER BY proname
"""


@pytest.fixture(autouse=True)
def users(connection: Connection) -> None:
    connection.execute("CREATE TABLE users (id integer PRIMARY KEY, name text)")


def track_everything(connection: Connection) -> None:
    """Make trackers of every kind and level, so that there is every sort of function."""
    for level in LEVELS:
        for kind in ("history", "before_update", "after_update"):
            condition = "new.name <> 'x'" if kind == "after_update" else None
            track(connection, "users", f"{level} {kind}", kind=kind, level=level, condition=condition)
    track(connection, "users", "inline", kind="history", context="inline", event_table="inline_event")
    track(connection, "users", "name", fields=["name"], context="none")


def test_a_row_level_function_reads_as_if_written_by_hand(connection: Connection) -> None:
    track(connection, "users", "user.changed")
    assert value(connection, "SELECT pg_get_functiondef('users_event_update_row'::regproc)") == (
        """CREATE OR REPLACE FUNCTION public.users_event_update_row()
 RETURNS trigger
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
-- Written by pghistory: events of public.users go to public.users_event. Change it with pghistory.track().
-- Columns: id integer, name text
BEGIN
    IF old.* *<> new.* THEN
        INSERT INTO public.users_event
            (pgh_created_at, pgh_label, pgh_operation, pgh_xid, pgh_obj_id, pgh_other_id, pgh_context_id, id,
             name)
        VALUES
            (now(), 'user.changed', 'U', pg_current_xact_id(), new.id,
             CASE WHEN ROW(old.id)::record *<> ROW(new.id)::record THEN old.id END, pghistory._context_id(),
             new.id, new.name);
    END IF;
    RETURN NULL;
END
$function$
"""
    )


def test_a_statement_level_function_reads_as_if_written_by_hand(connection: Connection) -> None:
    track(connection, "users", "user.created", kind="after_insert", fields=["name"], context="none")
    source = value(
        connection, "SELECT prosrc FROM pg_proc WHERE proname = 'users_name_event_insert_statement'"
    )
    assert source == (
        """
-- Written by pghistory: events of public.users go to public.users_name_event. """
        """Change it with pghistory.track().
-- Columns: id integer, name text
#variable_conflict use_column
BEGIN
    INSERT INTO public.users_name_event
        (pgh_created_at, pgh_label, pgh_operation, pgh_xid, pgh_obj_id, name)
    SELECT now(), 'user.created', 'I', pg_current_xact_id(), new.id, new.name
      FROM new_rows AS new;
    RETURN NULL;
END
"""
    )


def test_generated_lines_fit_a_screen(connection: Connection) -> None:
    columns = ", ".join(f"quite_a_long_name_{number} text" for number in range(60))
    connection.execute(f"CREATE TABLE wide (id integer PRIMARY KEY, {columns})")
    track(connection, "wide", kind="history", level="statement")
    for (source,) in rows(
        connection, "SELECT prosrc FROM pg_proc WHERE proname ~ '^wide_event_.*(insert|delete)'"
    ):
        assert max(len(line) for line in source.splitlines()) <= 120


def test_generated_functions_say_what_they_are(connection: Connection) -> None:
    track_everything(connection)
    sources = rows(connection, f"SELECT prosrc FROM ({GENERATED}) AS g JOIN pg_proc AS p USING (oid)")
    assert len(sources) > 8
    for (source,) in sources:
        assert source.startswith("\n-- Written by pghistory: events of public.users go to public.")


def test_generated_functions_are_security_definer_pinned_and_nobodys_to_call(connection: Connection) -> None:
    track_everything(connection)
    found = rows(
        connection,
        f"""SELECT name, prosecdef, proconfig, has_function_privilege('public', oid, 'EXECUTE')
              FROM ({GENERATED}) AS g JOIN pg_proc AS p USING (oid)""",
    )
    for name, is_definer, settings, is_for_everyone in found:
        assert is_definer, name
        assert settings[0] == "search_path=pg_catalog, pg_temp", name
        assert is_for_everyone is name.endswith("_by_hand"), name


def test_generated_functions_and_triggers_depend_on_the_extension(connection: Connection) -> None:
    track_everything(connection)
    track(connection, "users", "guarded", append_only=True, event_table="guarded_event")
    dependent = rows(
        connection,
        """SELECT classid::regclass::text, objid FROM pg_depend
            WHERE deptype = 'x' AND refobjid = (SELECT oid FROM pg_extension WHERE extname = 'pghistory')""",
    )
    functions = {("pg_proc", oid) for oid, _ in rows(connection, GENERATED)}
    ours = {
        ("pg_trigger", oid)
        for (oid,) in rows(connection, "SELECT oid FROM pg_trigger WHERE tgname ~ '^! ?pghistory '")
    }
    assert functions | ours == set(dependent)


def test_no_trigger_names_a_column(connection: Connection) -> None:
    track_everything(connection)
    definitions = rows(
        connection,
        """SELECT pg_get_triggerdef(oid), tgqual IS NULL, tgattr::text FROM pg_trigger
            WHERE tgname ~ '^! ?pghistory ' AND tgrelid = 'users'::regclass""",
    )
    for definition, has_no_condition, columns in definitions:
        assert has_no_condition, definition
        assert columns == "", definition
    connection.execute("ALTER TABLE users ALTER COLUMN name TYPE varchar(10)")
    connection.execute("ALTER TABLE users DROP COLUMN name")


def test_our_triggers_fire_before_everyone_elses(connection: Connection) -> None:
    track(connection, "users", kind="history", level="row")
    connection.execute(
        """CREATE FUNCTION nothing() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';
        CREATE TRIGGER "!a" AFTER UPDATE ON users FOR EACH ROW EXECUTE FUNCTION nothing();
        CREATE TRIGGER "0" AFTER UPDATE ON users FOR EACH ROW EXECUTE FUNCTION nothing();
        CREATE TRIGGER "A" AFTER UPDATE ON users FOR EACH ROW EXECUTE FUNCTION nothing()"""
    )
    names = rows(
        connection,
        """SELECT tgname::text FROM pg_trigger
            WHERE tgrelid = 'users'::regclass AND tgtype & 16 > 0 ORDER BY tgname COLLATE "C" """,
    )
    ours = [name for (name,) in names if name.startswith("!pghistory ")]
    assert [name for (name,) in names if name not in ("!a",)][: len(ours)] == ours


def test_generated_functions_call_the_owners_names_only_by_schema(
    connection: Connection, connect: Connect, role: Callable[..., str]
) -> None:
    """Whatever a writer puts before the names that a function uses is not called."""
    track_everything(connection)
    writer = role("writer")
    connection.execute(f"GRANT SELECT, INSERT, UPDATE, DELETE, TRUNCATE ON users TO {writer}")
    connection.execute(f"CREATE SCHEMA evil AUTHORIZATION {writer}")
    session = connect(user=writer)
    for schema in ("evil", "pg_temp"):
        session.execute(
            f"""CREATE TABLE {schema}.stolen (by name);
            CREATE FUNCTION {schema}.steal() RETURNS void LANGUAGE sql AS
                'INSERT INTO {schema}.stolen VALUES (current_user)';
            CREATE FUNCTION {schema}.now() RETURNS timestamptz LANGUAGE sql AS
                'SELECT {schema}.steal(); SELECT pg_catalog.now()';
            CREATE FUNCTION {schema}.pg_current_xact_id() RETURNS xid8 LANGUAGE sql AS
                'SELECT {schema}.steal(); SELECT pg_catalog.pg_current_xact_id()';
            CREATE FUNCTION {schema}.current_setting(text, boolean) RETURNS text LANGUAGE sql AS
                $$ SELECT {schema}.steal(); SELECT 'forged'::text $$;
            CREATE FUNCTION {schema}.differ(record, record) RETURNS boolean LANGUAGE plpgsql AS
                'BEGIN PERFORM {schema}.steal(); RETURN false; END';
            CREATE OPERATOR {schema}.*<> (LEFTARG = record, RIGHTARG = record, FUNCTION = {schema}.differ);
            CREATE FUNCTION {schema}.unequal(text, text) RETURNS boolean LANGUAGE sql AS
                'SELECT {schema}.steal(); SELECT false';
            CREATE OPERATOR {schema}.<> (LEFTARG = text, RIGHTARG = text, FUNCTION = {schema}.unequal);
            CREATE OPERATOR {schema}.= (LEFTARG = text, RIGHTARG = text, FUNCTION = {schema}.unequal);
            CREATE TABLE {schema}.users_event (LIKE public.users)"""
        )
    session.execute("SET search_path TO evil, pg_temp, pg_catalog, public")
    session.execute(
        "SELECT pg_catalog.set_config('pghistory.context_id', pg_catalog.gen_random_uuid()::text, false)"
    )
    session.execute(
        "INSERT INTO public.users VALUES (1, 'Ann'), (2, 'Tim'); UPDATE public.users SET name = 'y'"
    )
    session.execute("DELETE FROM public.users WHERE id OPERATOR(pg_catalog.=) 1; TRUNCATE public.users")
    session.execute("RESET search_path")
    assert rows(session, "SELECT * FROM evil.stolen") == []
    assert rows(session, "SELECT * FROM pg_temp.stolen") == []
    for level in LEVELS:
        label = f"{level} history"
        assert events(connection, "users_event", label=label) == ["I", "I", "U", "U", "D", "T"]


def test_generated_functions_cannot_be_attached_to_other_tables(
    connection: Connection, connect: Connect, role: Callable[..., str]
) -> None:
    track_everything(connection)
    stranger = role("stranger")
    connection.execute(f"GRANT INSERT, UPDATE, SELECT ON users TO {stranger}")
    connection.execute(f"CREATE SCHEMA own AUTHORIZATION {stranger}")
    session = connect(user=stranger)
    session.execute("CREATE TABLE own.fake (id integer, name text)")
    for _, name in rows(connection, GENERATED):
        with pytest.raises((psycopg.errors.InsufficientPrivilege, psycopg.errors.UndefinedFunction)):
            session.execute(
                f"CREATE TRIGGER forge AFTER INSERT ON own.fake FOR EACH ROW EXECUTE FUNCTION public.{name}()"
            )
    assert events(connection, "users_event") == []


def test_generated_functions_do_nothing_outside_of_their_triggers(connection: Connection) -> None:
    track_everything(connection)
    for _, name in rows(connection, GENERATED):
        if not name.endswith("_by_hand"):
            with pytest.raises(psycopg.errors.FeatureNotSupported):
                connection.execute(f"SELECT public.{name}()")


def test_a_condition_stands_in_its_function_as_postgresql_writes_it(connection: Connection) -> None:
    track(connection, "users", condition="NEW.name<>'x' and length(new.name)>0", kind="after_insert")
    source = value(connection, "SELECT prosrc FROM pg_proc WHERE proname = 'users_event_insert_statement'")
    assert "((new.name <> 'x'::text) AND (length(new.name) > 0))" in source


def test_labels_break_out_of_nothing(connection: Connection) -> None:
    label = "$function$; ' || current_user || ' \\'; DROP TABLE users; --\n"
    for level in LEVELS:
        track(connection, "users", level + label, kind="history", level=level)
    connection.execute("INSERT INTO users VALUES (1, 'Ann'); UPDATE users SET name = 'x'; TRUNCATE users")
    for level in LEVELS:
        assert events(connection, "users_event", label=level + label) == ["I", "U", "T"]
    call(connection, "create_event_table", "users", "unused")
    assert value(connection, "SELECT count(*) FROM users") == 0


def test_a_table_name_with_line_breaks_stays_in_its_comment(connection: Connection) -> None:
    connection.execute('CREATE TABLE "a\n; DROP TABLE users; --\r\n" (id integer PRIMARY KEY)')
    track(
        connection,
        '"a\n; DROP TABLE users; --\r\n"',
        kind="history",
        event_table='"e\r; DROP TABLE users; --"',
    )
    connection.execute('INSERT INTO "a\n; DROP TABLE users; --\r\n" VALUES (1)')
    assert value(connection, "SELECT count(*) FROM users") == 0
    assert events(connection, '"e\r; DROP TABLE users; --"', "id") == [1]


def test_every_function_of_the_extension_compiles(connection: Connection) -> None:
    """CREATE EXTENSION does not check bodies; making each function again does."""
    track_everything(connection)
    call(connection, "capture", "session_user")
    connection.execute("SET check_function_bodies = on")
    definitions = rows(
        connection,
        "SELECT pg_get_functiondef(oid) FROM pg_proc WHERE pronamespace = 'pghistory'::regnamespace",
    )
    with connection.transaction(force_rollback=True):
        for (definition,) in definitions:
            connection.execute(definition)
