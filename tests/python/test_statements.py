"""What is read from the text of statements."""

from __future__ import annotations

import itertools

import psycopg
import pytest

from pyhist.statements import Script, relocated, statements


@pytest.mark.parametrize(
    "text",
    [
        "INSERT INTO t VALUES (1)",
        "-- why\n /* what /* nested */ */ update t SET a = 1;",
        "((SELECT f()))",
        "WITH d AS (DELETE FROM t RETURNING *) SELECT * FROM d",
        "SELECT*FROM t",
        'TABLE"t"',
        "MERGE INTO t USING s ON true WHEN MATCHED THEN DELETE",
        "EXPLAIN ANALYZE DELETE FROM t",
        "CALL p()",
        "DO $$BEGIN END$$",
        "EXECUTE prepared",
        "TRUNCATE t",
        "CREATE TEMP TABLE s AS SELECT f()",
        "CREATE MATERIALIZED VIEW s AS SELECT f()",
    ],
)
def test_what_may_write_is_known(text: str) -> None:
    assert [statement.may_write for statement in statements(text.encode())] == [True]


@pytest.mark.parametrize(
    "text",
    [
        "VACUUM t",
        "CREATE INDEX CONCURRENTLY i ON t (a)",
        "DROP INDEX CONCURRENTLY i",
        "REINDEX DATABASE d",
        "CREATE DATABASE d",
        "DROP DATABASE d",
        "CREATE TABLESPACE s LOCATION '/'",
        "ALTER SYSTEM SET a = 1",
        "ALTER TABLE t DETACH PARTITION p CONCURRENTLY",
        "CREATE SUBSCRIPTION s CONNECTION '' PUBLICATION p",
        "CLUSTER",
        "COMMIT PREPARED 'x'",
        "BEGIN",
        "SET TRANSACTION ISOLATION LEVEL SERIALIZABLE",
        "ROLLBACK TO s",
        "SHOW work_mem",
        "selected",
    ],
)
def test_what_must_stand_alone_or_come_first_is_left_alone(text: str) -> None:
    assert [statement.may_write for statement in statements(text.encode())] == [False]


@pytest.mark.parametrize("text", ["", " ; ;", "-- nothing", "/* never ends"])
def test_nothing_is_no_statement(text: str) -> None:
    assert statements(text.encode()) == ()


@pytest.mark.parametrize(
    "text",
    [
        "SELECT 1; (SELECT 2)",
        "SELECT ';', E'\\';', $$;$$, $a$;$b$;$a$, \";\", 'it''s;' /* ; /* ; */ ; */ -- ;\n; SELECT 2",
        "CREATE RULE r AS ON INSERT TO t DO ALSO (DELETE FROM s; DELETE FROM t); SELECT 2",
        "CREATE FUNCTION f() RETURNS int BEGIN ATOMIC SELECT CASE WHEN a THEN 1 END; SELECT 2; END; SELECT 2",
        "create or replace procedure f() begin atomic select 1; end; SELECT 2",
        "BEGIN; SELECT 2",
        "SELECT a$b$c; SELECT 2 AS b$c",
    ],
)
def test_statements_end_where_psql_ends_them(text: str) -> None:
    assert [text[found.start :].strip("(")[:8] for found in statements(text.encode())][1:] == ["SELECT 2"]


def test_something_is_put_in_front_of_what_may_write() -> None:
    text = "BEGIN; UPDATE ü; COMMIT;\nDELETE".encode()
    places = tuple(found.start for found in statements(text) if found.may_write)
    script = Script(text, b"SET;", places)
    assert script.sent.decode() == "BEGIN; SET;UPDATE ü; COMMIT;\nSET;DELETE"
    for word in (b"BEGIN", b"UPDATE", b"COMMIT", b"DELETE"):
        sent = len(script.sent[: script.sent.index(word)].decode()) + 1
        assert text.decode()[script.original(sent, "utf-8") - 1 :].startswith(word.decode())


def test_an_error_is_shown_where_libpq_would_show_it(connection: psycopg.Connection[object]) -> None:
    befores = ("", "\t", "1,\n", "1,\r\n\r", 30 * "  ", 100 * " 'ü',")
    afters = ("", ", 2\nFROM pg_class", 30 * "  ", 100 * ", 3")
    for before, word, after in itertools.product(befores, ("wrong", "wrong" + 20 * "x"), afters):
        text = f"SELECT {before}{word}{after}"
        with pytest.raises(psycopg.errors.UndefinedColumn) as raised:
            connection.execute(text)
        shown = str(raised.value)
        elsewhere = shown[: shown.index("\nLINE")] + "\nLINE 3: elsewhere\n        ^"
        assert relocated(elsewhere, text, int(raised.value.diag.statement_position or 0)) == shown
