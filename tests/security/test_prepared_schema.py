"""A schema `pghistory` that a hostile role made beforehand gives him nothing."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from history import Connection, call, events, rows, track, value
from psycopg import errors

SQL = Path(__file__).parent.parent.parent / "sql"
Role = Callable[..., str]


@pytest.fixture
def superuser(empty_database: str) -> Iterator[Connection]:
    with psycopg.connect(empty_database, autocommit=True) as connection:
        yield connection


@pytest.fixture
def session(empty_database: str, superuser: Connection, role: Role) -> Iterator[Connection]:
    """A session of a role that may create schemas in the database, and was there before us."""
    name = role("mallory")
    superuser.execute(f"GRANT CREATE ON DATABASE {superuser.info.dbname} TO {name}")
    superuser.execute("CREATE TABLE public.runs (by name); GRANT ALL ON public.runs TO PUBLIC")
    with psycopg.connect(empty_database, autocommit=True, user=name) as session:
        yield session


@pytest.mark.parametrize(
    "contents",
    [
        "CREATE TABLE pghistory.tracker (label text)",
        "CREATE FUNCTION pghistory._owner(oid) RETURNS regrole LANGUAGE sql AS 'SELECT 10::regrole'",
        "CREATE TYPE pghistory.event_table AS (a integer)",
        "CREATE VIEW pghistory.context AS SELECT 1",
        "CREATE SEQUENCE pghistory.tracker_ordinal_seq",
        "CREATE OPERATOR pghistory.= (FUNCTION = texteq, LEFTARG = text, RIGHTARG = text)",
        "CREATE DOMAIN pghistory.regclass AS text",
        'CREATE COLLATION pghistory.mine FROM "C"',
        "CREATE TEXT SEARCH DICTIONARY pghistory.mine (TEMPLATE = simple)",
        "ALTER DEFAULT PRIVILEGES IN SCHEMA pghistory GRANT ALL ON TABLES TO PUBLIC",
    ],
    ids=lambda contents: contents.split(" pghistory")[0],
)
def test_a_schema_with_something_in_it_is_refused(
    superuser: Connection, session: Connection, contents: str
) -> None:
    session.execute("CREATE SCHEMA pghistory")
    session.execute(contents)
    with pytest.raises(errors.InsufficientPrivilege, match="is not empty"):
        superuser.execute("CREATE EXTENSION pghistory")
    assert value(
        superuser, "SELECT nspowner::regrole::text FROM pg_namespace WHERE nspname = 'pghistory'"
    ) == (session.info.user)


@pytest.fixture
def install_script() -> str:
    """What `psql -1 -f sql/pghistory.sql` sends."""
    contents = re.findall(r"^\\ir (\S+)$", (SQL / "pghistory.sql").read_text(), re.MULTILINE)
    return "\n".join((SQL / file).read_text() for file in contents)


def grantees(connection: Connection) -> set[Any]:
    """The roles other than the owner who may create things in our schema."""
    return set(
        rows(
            connection,
            """SELECT a.grantee::regrole::text FROM pg_namespace AS n, aclexplode(n.nspacl) AS a
                WHERE n.nspname = 'pghistory' AND a.privilege_type = 'CREATE' AND a.grantee <> n.nspowner""",
        )
    )


@pytest.mark.parametrize("grants", ["", "TO PUBLIC", "TO CURRENT_USER", "TO {accomplice} WITH GRANT OPTION"])
def test_an_empty_schema_is_taken_over_and_closed(
    superuser: Connection, session: Connection, role: Role, grants: str
) -> None:
    accomplice = role("accomplice")
    session.execute("CREATE SCHEMA pghistory")
    if grants:
        session.execute("GRANT ALL ON SCHEMA pghistory " + grants.format(accomplice=accomplice))
    superuser.execute("CREATE EXTENSION pghistory")
    assert grantees(superuser) == set()
    for attempt in (
        "CREATE TABLE pghistory.tracker (label text)",
        "CREATE FUNCTION pghistory._owner(oid) RETURNS regrole LANGUAGE sql AS 'SELECT 10::regrole'",
    ):
        with pytest.raises(errors.InsufficientPrivilege):
            session.execute(attempt)
    superuser.execute("CREATE TABLE public.users (id integer PRIMARY KEY)")
    track(superuser, "public.users", "users", kind="history")
    superuser.execute("INSERT INTO public.users VALUES (1)")
    assert events(superuser, "public.users_event") == ["I"]
    assert (
        value(superuser, "SELECT relacl::text FROM pg_class WHERE oid = 'pghistory.tracker'::regclass").count(
            "=r/"
        )
        == 1
    )


@pytest.mark.parametrize("grants", ["TO PUBLIC", "TO {mallory}"])
def test_a_superusers_schema_that_others_may_create_in_is_closed(
    superuser: Connection, session: Connection, grants: str
) -> None:
    superuser.execute("CREATE SCHEMA pghistory")
    superuser.execute("GRANT ALL ON SCHEMA pghistory " + grants.format(mallory=session.info.user))
    superuser.execute("CREATE EXTENSION pghistory")
    assert grantees(superuser) == set()


@pytest.fixture
def opened(superuser: Connection, session: Connection) -> Connection:
    """A session of the hostile role where the schema was open before the registry had been made."""
    superuser.execute("CREATE EXTENSION pghistory; GRANT CREATE ON SCHEMA pghistory TO PUBLIC")
    superuser.execute("CREATE TABLE public.users (id integer PRIMARY KEY)")
    session.execute(
        """CREATE SCHEMA evil; GRANT USAGE ON SCHEMA evil TO PUBLIC;
        CREATE FUNCTION evil.log() RETURNS boolean LANGUAGE plpgsql AS
            'BEGIN INSERT INTO public.runs VALUES (current_user); RETURN true; END';
        CREATE FUNCTION evil.fired() RETURNS trigger LANGUAGE plpgsql AS
            'BEGIN PERFORM evil.log(); RETURN NEW; END';
        CREATE DOMAIN evil.checked AS text CHECK (evil.log());
        CREATE TABLE evil.keys (key text PRIMARY KEY)"""
    )
    return session


@pytest.mark.parametrize(
    "trap",
    [
        "CREATE TABLE pghistory.capture_key (key evil.checked PRIMARY KEY)",
        "CREATE TABLE pghistory.capture_key (key text PRIMARY KEY DEFAULT evil.log())",
        "CREATE TABLE pghistory.capture_key (key text PRIMARY KEY CHECK (evil.log()))",
        "CREATE TABLE pghistory.capture_key (key text PRIMARY KEY REFERENCES evil.keys)",
        "CREATE VIEW pghistory.capture_key AS SELECT key, evil.log() FROM evil.keys",
        """CREATE TABLE pghistory.capture_key (key text PRIMARY KEY);
        CREATE TRIGGER x BEFORE INSERT ON pghistory.capture_key EXECUTE FUNCTION evil.fired()""",
        """CREATE TABLE pghistory.capture_key (key text PRIMARY KEY);
        CREATE RULE x AS ON INSERT TO pghistory.capture_key DO ALSO SELECT evil.log()""",
    ],
)
def test_a_table_with_a_trap_under_a_name_of_ours_is_refused(
    superuser: Connection, opened: Connection, trap: str
) -> None:
    opened.execute(trap)
    with pytest.raises(psycopg.Error, match=r"pghistory\.capture_key") as caught:
        track(superuser, "public.users")
    assert caught.value.diag.message_hint
    assert rows(superuser, "SELECT * FROM public.runs") == []
    superuser.execute("DROP " + ("VIEW" if "VIEW" in trap else "TABLE") + " pghistory.capture_key")
    track(superuser, "public.users")


def test_a_plain_table_under_a_name_of_ours_is_taken_over_and_closed(
    superuser: Connection, opened: Connection, role: Role
) -> None:
    """What its maker granted others on it goes with him."""
    accomplice = role("accomplice")
    opened.execute(
        f"""CREATE TABLE pghistory.capture_key (key text PRIMARY KEY);
        GRANT ALL ON pghistory.capture_key TO PUBLIC, {accomplice}"""
    )
    track(superuser, "public.users")
    assert rows(
        superuser,
        """SELECT a.grantee::regrole::text, a.privilege_type FROM pg_class, aclexplode(relacl) AS a
            WHERE oid = 'pghistory.capture_key'::regclass AND a.grantee <> relowner""",
    ) == [("-", "SELECT")]


def test_a_plain_sql_installation_runs_nothing_of_the_path(
    superuser: Connection, session: Connection, install_script: str
) -> None:
    """`psql -f` runs the script under the path of whoever installs."""
    session.execute(
        """CREATE SCHEMA evil; GRANT USAGE ON SCHEMA evil TO PUBLIC;
        CREATE FUNCTION evil.same(name, name) RETURNS boolean LANGUAGE plpgsql AS
            'BEGIN INSERT INTO public.runs VALUES (current_user); RETURN true; END';
        CREATE OPERATOR evil.= (FUNCTION = evil.same, LEFTARG = name, RIGHTARG = name);
        CREATE DOMAIN evil.text AS pg_catalog.text; CREATE DOMAIN evil.jsonb AS pg_catalog.jsonb;
        CREATE DOMAIN evil.regclass AS pg_catalog.regclass"""
    )
    superuser.execute("SET search_path TO evil, pg_catalog")
    with superuser.transaction():
        superuser.execute(install_script)
    superuser.execute("RESET search_path")
    assert rows(superuser, "SELECT * FROM public.runs") == []
    assert (
        rows(
            superuser,
            """SELECT oid::regprocedure::text FROM pg_proc
            WHERE pronamespace = 'pghistory'::regnamespace AND 'evil'::regnamespace IN (
                  SELECT typnamespace FROM pg_type WHERE oid = prorettype OR oid = ANY (proargtypes))""",
        )
        == []
    )
    superuser.execute("CREATE TABLE public.users (id integer PRIMARY KEY)")
    track(superuser, "public.users", "users", kind="event")
    superuser.execute("INSERT INTO public.users VALUES (1)")
    assert call(superuser, "create_event", "public.users", "1", "users") == 1
