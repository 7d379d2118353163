"""The tables that outlive the code, and the schema they are in: whose they are, and whose they may not be."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import psycopg
import pytest
from history import track
from psycopg import errors, sql

Connection = psycopg.Connection[Any]


def run(connection: Connection, statement: str, **names: str) -> None:
    connection.execute(
        sql.SQL(statement).format(**{name: sql.Identifier(value) for name, value in names.items()})
    )


def test_a_schema_that_others_may_create_in_is_refused_where_the_installer_cannot_close_it(
    empty_database: str, role: Callable[..., str]
) -> None:
    installer, other = role("installer"), role("other")
    database = psycopg.conninfo.conninfo_to_dict(empty_database)["dbname"]
    with psycopg.connect(empty_database, autocommit=True) as connection:
        run(connection, "GRANT CREATE ON DATABASE {database} TO {role}", database=database, role=installer)
        connection.execute("CREATE SCHEMA pghistory")
        run(
            connection,
            "GRANT CREATE ON SCHEMA pghistory TO {installer}, {other}",
            installer=installer,
            other=other,
        )
    with psycopg.connect(empty_database, autocommit=True, user=installer) as connection:
        with pytest.raises(errors.InsufficientPrivilege, match="other roles may create objects in schema"):
            connection.execute("CREATE EXTENSION pghistory")


def test_what_others_were_granted_on_the_schema_ends_when_a_superuser_installs(
    empty_database: str, role: Callable[..., str]
) -> None:
    other = role("other")
    with psycopg.connect(empty_database, autocommit=True) as connection:
        connection.execute("CREATE SCHEMA pghistory")
        run(connection, "GRANT ALL ON SCHEMA pghistory TO PUBLIC, {other}", other=other)
        connection.execute("CREATE EXTENSION pghistory")
    with psycopg.connect(empty_database, autocommit=True, user=other) as connection:
        with pytest.raises(errors.InsufficientPrivilege):
            connection.execute("CREATE TABLE pghistory.tracker ()")


def test_a_table_of_somebody_elses_that_could_run_his_code_is_not_taken_over(
    connection: Connection, role: Callable[..., str]
) -> None:
    other = role("other")
    connection.execute("CREATE TABLE pghistory.capture_key (key text PRIMARY KEY)")
    connection.execute(
        "CREATE FUNCTION public.trap() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN RETURN NULL; END$$"
    )
    connection.execute(
        "CREATE TRIGGER trap AFTER INSERT ON pghistory.capture_key FOR EACH ROW EXECUTE FUNCTION public.trap()"
    )
    run(connection, "ALTER TABLE pghistory.capture_key OWNER TO {other}", other=other)
    connection.execute("CREATE TABLE item (id integer PRIMARY KEY)")
    message = "pghistory.capture_key belongs to role .* and cannot be taken over"
    with pytest.raises(errors.InsufficientPrivilege, match=message):
        track(connection, "item")
    assert connection.execute("SELECT to_regclass('item_event')").fetchone() == (None,)


def test_a_kept_column_that_a_view_needs_keeps_its_type_and_says_so(connection: Connection) -> None:
    notices: list[str] = []
    connection.execute("CREATE TYPE mood AS ENUM ('sad', 'ok')")
    connection.execute("CREATE TABLE person (id integer PRIMARY KEY, mood mood)")
    track(connection, "person")
    connection.execute("INSERT INTO person VALUES (1, 'ok')")
    connection.execute("ALTER TABLE person ALTER mood TYPE integer USING 1")
    connection.execute("CREATE VIEW moods AS SELECT mood__1 FROM person_event")
    connection.add_notice_handler(lambda diagnostic: notices.append(diagnostic.message_primary or ""))
    with pytest.raises(errors.DependentObjectsStillExist):
        connection.execute("DROP TYPE mood")
    kept = (
        'column "mood__1" of event table public.person_event keeps its type: '
        "cannot alter type of a column used by a view or rule"
    )
    assert kept in notices
    assert connection.execute("SELECT mood__1::text FROM person_event").fetchall() == [("ok",)]
