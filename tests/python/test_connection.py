"""Connections that carry the context: every way of writing has it, and nothing else about psycopg changes."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import date
from decimal import Decimal
from typing import Any
from uuid import UUID

import psycopg
import pytest
from blocking import Blocking
from decorated import SEEN_OF_COROUTINES, run_decorated_coroutines
from probe import Probe
from psycopg.rows import dict_row

import pyhist

User = dict[str, Any] | None


def settle(connection: Any) -> None:
    """Makes what was written visible to the observer."""
    connection.commit()


def test_a_statement_has_the_context_it_is_sent_in(carrying: Any, probe: Probe) -> None:
    carrying.execute("INSERT INTO item VALUES (1)")
    with pyhist.context(user=1):
        carrying.execute("INSERT INTO item VALUES (%s)", [2])
        with pyhist.context(step='it\'s \\ "ü"'):
            carrying.execute("INSERT INTO item VALUES (3)")
        carrying.execute("INSERT INTO item VALUES (4)")
    settle(carrying)
    assert probe.seen() == [
        (1, None),
        (2, {"user": 1}),
        (3, {"user": 1, "step": 'it\'s \\ "ü"'}),
        (4, {"user": 1}),
    ]


def test_all_statements_of_a_context_have_its_id(carrying: Any, probe: Probe) -> None:
    with pyhist.context() as active:
        carrying.execute("SELECT add(1)")
        settle(carrying)
        carrying.execute("SELECT add(2)")
        settle(carrying)
    assert probe.ids() == [str(active.id)] * 2


def test_a_call_adds_to_the_context_that_is_active_and_to_nothing_else(carrying: Any, probe: Probe) -> None:
    def write(number: int) -> None:
        pyhist.context(number=number)
        carrying.execute("SELECT add(%s)", [number])

    write(1)
    with pyhist.context(user=1):
        write(2)
    write(3)
    settle(carrying)
    assert probe.seen() == [(1, None), (2, {"user": 1, "number": 2}), (3, None)]


def test_values_that_json_does_not_know_are_text(carrying: Any, probe: Probe) -> None:
    with pyhist.context(day=date(2026, 1, 31), id=UUID(int=7), price=Decimal("1.10"), key=("a", {"b"})):
        carrying.execute("SELECT add(1)")
    settle(carrying)
    written = {"day": "2026-01-31", "id": str(UUID(int=7)), "price": "1.10", "key": ["a", "{'b'}"]}
    assert probe.seen() == [(1, written)]


def test_what_is_decorated_has_the_context(carrying: Any, probe: Probe) -> None:
    @pyhist.context(job="function")
    def function() -> None:
        carrying.execute("SELECT add(1)")

    @pyhist.context(job="generator")
    def generator() -> Iterator[None]:
        carrying.execute("SELECT add(2)")
        yield
        carrying.execute("SELECT add(4)")

    function()
    for _ in generator():
        carrying.execute("SELECT add(3)")
    settle(carrying)
    assert probe.seen() == [
        (1, {"job": "function"}),
        (2, {"job": "generator"}),
        (3, None),
        (4, {"job": "generator"}),
    ]


@pytest.mark.parametrize("autocommit", [True, False])
def test_decorated_coroutines_have_the_context(probe: Probe, autocommit: bool) -> None:
    async def work() -> None:
        async with await pyhist.AsyncConnection.connect(
            probe.dsn, autocommit=autocommit, **probe.options
        ) as connection:

            async def add(number: int) -> None:
                await connection.execute("SELECT add(%s)", [number])

            await run_decorated_coroutines(add)

    asyncio.run(work())
    assert probe.seen() == SEEN_OF_COROUTINES


def test_an_error_inside_a_context_leaves_nothing_behind(carrying: Any, probe: Probe) -> None:
    @pyhist.context(user=1)
    def fail() -> None:
        carrying.execute("SELECT add(1)")
        settle(carrying)
        with pytest.raises(psycopg.errors.UniqueViolation):
            carrying.execute("SELECT add(1)")
        carrying.rollback()
        carrying.execute("SELECT add(2)")
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    carrying.execute("SELECT add(3)")
    settle(carrying)
    assert probe.seen() == [(1, {"user": 1}), (2, {"user": 1}), (3, None)]


@pytest.mark.parametrize(
    "write",
    [
        "WITH new AS (INSERT INTO item VALUES (1) RETURNING *) SELECT * FROM new",
        "SELECT add(1)",
        "VALUES (add(1))",
        "DO $$BEGIN PERFORM add(1); END$$",
        "CREATE TABLE copied AS SELECT add(1)",
        "EXPLAIN ANALYZE INSERT INTO item VALUES (1)",
        "-- a comment; with a semicolon\n(SELECT add(1));",
        "COPY (SELECT add(1)) TO '/dev/null'",
    ],
)
def test_whatever_writes_has_the_context(carrying: Any, probe: Probe, write: str) -> None:
    with pyhist.context(user=1):
        carrying.execute(write)
    settle(carrying)
    assert probe.seen() == [(1, {"user": 1})]


def test_prepared_statements_have_the_context(carrying: Any, probe: Probe) -> None:
    with pyhist.context(user=1):
        carrying.execute("PREPARE new AS INSERT INTO item VALUES (1)")
        carrying.execute("EXECUTE new")
        for number in range(2, 12):
            carrying.execute("INSERT INTO item VALUES (%s)", [number])
        carrying.execute("INSERT INTO item VALUES (%s, 'a')", [12], prepare=True)
        carrying.execute("INSERT INTO item VALUES (%s, 'a')", [13], prepare=True)
    prepared = carrying.execute("SELECT count(*) FROM pg_prepared_statements WHERE NOT from_sql").fetchone()
    settle(carrying)
    assert probe.seen() == [(number, {"user": 1}) for number in range(1, 14)]
    assert prepared == (2,)


def test_executemany_has_the_context(carrying: Any, probe: Probe) -> None:
    rows = [(number,) for number in range(1000)]
    cursor = carrying.cursor()
    with pyhist.context(user=1):
        cursor.executemany("INSERT INTO item VALUES (%s)", rows)
        assert cursor.rowcount == 1000
        cursor.executemany("UPDATE item SET name = 'x' WHERE id = %s RETURNING id", rows[:2], returning=True)
        assert cursor.fetchall() == [(0,)]
        assert cursor.nextset()
        assert cursor.fetchall() == [(1,)]
        assert not cursor.nextset()
    settle(carrying)
    assert probe.seen() == [(number, {"user": 1}) for number in (*range(1000), 0, 1)]


def test_copy_has_the_context(carrying: Any, probe: Probe) -> None:
    cursor = carrying.cursor()
    with pyhist.context(user=1):
        with cursor.copy("COPY item FROM STDIN") as copy:
            copy.write_row((1, "a"))
            copy.write_row((2, "b"))
        assert (cursor.rowcount, cursor.statusmessage) == (2, "COPY 2")
        with cursor.copy("COPY item FROM STDIN (FORMAT binary)") as copy:
            copy.set_types(["int4", "text"])
            copy.write_row((3, "c"))
        with cursor.copy("COPY (SELECT add(%s)) TO STDOUT", (4,)) as copy:
            assert bytes(copy.read()) == b"4\n"
            assert not bytes(copy.read())
    settle(carrying)
    assert probe.seen() == [(number, {"user": 1}) for number in range(1, 5)]


def test_a_copy_that_fails_is_undone(carrying: Any, probe: Probe) -> None:
    def fill(*ids: int) -> None:
        with carrying.cursor().copy("COPY item FROM STDIN") as copy:
            for number in ids:
                copy.write_row((10 // number, "a"))

    with pyhist.context(user=1):
        with pytest.raises(ZeroDivisionError):
            fill(1, 0)
        carrying.rollback()
        with pytest.raises(psycopg.errors.UniqueViolation):
            fill(1, 1)
    carrying.rollback()
    assert probe.seen() == []


def test_stream_has_the_context(carrying: Any, probe: Probe) -> None:
    cursor = carrying.cursor()
    with pyhist.context(user=1):
        rows = cursor.stream("INSERT INTO item SELECT * FROM generate_series(1, %s) RETURNING id", [3])
        assert list(rows) == [(1,), (2,), (3,)]
        rows = cursor.stream("SELECT add(n) FROM generate_series(4, 9) AS n", binary=True)
        assert [number for (number,) in rows] == list(range(4, 10))
    settle(carrying)
    assert probe.seen() == [(number, {"user": 1}) for number in range(1, 10)]


def test_stream_has_the_context_in_chunks(carrying: Any, probe: Probe) -> None:
    with pyhist.context(user=1):
        rows = carrying.cursor().stream("SELECT add(n) FROM generate_series(1, 9) AS n", size=4)
        assert list(rows) == [(number,) for number in range(1, 10)]
    settle(carrying)
    assert probe.seen() == [(number, {"user": 1}) for number in range(1, 10)]


def test_a_stream_that_is_left_or_fails_leaves_a_usable_connection(carrying: Any, probe: Probe) -> None:
    cursor = carrying.cursor()
    with pyhist.context(user=1):
        for _ in cursor.stream("SELECT repeat('x', 1000) FROM generate_series(1, 100000)"):
            break
        carrying.rollback()
        for failing in (
            "SELECT 1 / (3 - n) FROM generate_series(1, 9) AS n",
            "SELECT wrong",
            "VACUUM item",
            "",
        ):
            with pytest.raises(psycopg.Error):
                list(cursor.stream(failing))
            carrying.rollback()
        carrying.execute("INSERT INTO item VALUES (1)")
    settle(carrying)
    assert probe.seen() == [(1, {"user": 1})]


def test_a_named_cursor_has_the_context_it_was_opened_in(open_connection: Any, probe: Probe) -> None:
    connection = open_connection()
    with connection.cursor("named") as cursor:
        with pyhist.context(user=1):
            cursor.execute("SELECT add(n) FROM generate_series(1, %s) AS n", [3])
        assert cursor.fetchone() == (1,)
        assert cursor.fetchall() == [(2,), (3,)]
        with pyhist.context(user=2):
            cursor.execute("SELECT add(4)", binary=True)
            assert list(cursor) == [(4,)]
            with pytest.raises(psycopg.errors.SyntaxError):
                cursor.execute("SELEC")
    connection.rollback()
    assert probe.seen() == []


def test_a_named_cursor_that_outlives_its_transaction_has_the_context(
    open_connection: Any, probe: Probe
) -> None:
    connection = open_connection()
    with pyhist.context(user=3), connection.cursor("named", withhold=True) as cursor:
        cursor.execute("SELECT add(n) FROM generate_series(1, 3) AS n")
        connection.commit()
        assert cursor.fetchall() == [(1,), (2,), (3,)]
    assert probe.seen() == [(number, {"user": 3}) for number in (1, 2, 3)]


def test_a_named_cursor_in_autocommit_has_the_context(open_connection: Any, probe: Probe) -> None:
    connection = open_connection(autocommit=True)
    with pyhist.context(user=1), connection.cursor("named", withhold=True) as cursor:
        cursor.execute("SELECT add(n) FROM generate_series(1, 3) AS n")
        assert cursor.fetchall() == [(1,), (2,), (3,)]
    with pyhist.context(user=1), connection.cursor("named") as cursor:
        with pytest.raises(psycopg.errors.NoActiveSqlTransaction):
            cursor.execute("SELECT 1")
    assert probe.seen() == [(number, {"user": 1}) for number in (1, 2, 3)]


def test_a_script_has_the_context_and_its_own_results(carrying: Any, probe: Probe) -> None:
    with pyhist.context(user=1):
        cursor = carrying.execute(
            "INSERT INTO item VALUES (1), (2); -- ;\n SELECT 'a;b', 1; SET work_mem = '5MB';;"
            "UPDATE item SET name = 'x' WHERE id = 1 RETURNING id"
        )
        assert (cursor.rowcount, cursor.statusmessage, cursor.description) == (2, "INSERT 0 2", None)
        assert cursor.nextset()
        assert cursor.fetchall() == [("a;b", 1)]
        assert cursor.nextset()
        assert cursor.statusmessage == "SET"
        assert cursor.nextset()
        assert cursor.fetchall() == [(1,)]
        assert not cursor.nextset()
    settle(carrying)
    assert probe.seen() == [(1, {"user": 1}), (2, {"user": 1}), (1, {"user": 1})]


def test_a_script_with_transactions_of_its_own_has_the_context_in_each(
    open_connection: Any, probe: Probe
) -> None:
    connection = open_connection(autocommit=True)
    with pyhist.context(user=1):
        connection.execute(
            "BEGIN ISOLATION LEVEL SERIALIZABLE; SELECT add(1); SAVEPOINT s; SELECT add(2); ROLLBACK TO s;"
            " SELECT add(3); COMMIT; SELECT add(4);"
            " CREATE FUNCTION more() RETURNS integer BEGIN ATOMIC SELECT 1; SELECT add(5); END; SELECT more()"
        )
    assert probe.seen() == [(number, {"user": 1}) for number in (1, 3, 4, 5)]


def test_a_procedure_that_commits_still_can(open_connection: Any, probe: Probe) -> None:
    connection = open_connection(autocommit=True)
    connection.execute(
        "CREATE PROCEDURE work() LANGUAGE plpgsql AS $$BEGIN PERFORM add(1); COMMIT; PERFORM add(2); END$$"
    )
    with pyhist.context(user=1):
        connection.execute("CALL work()")
    # A context lasts for a transaction, and only a session could carry it into the second: to others as well.
    # From PostgreSQL 18 on, such a procedure cannot be called with anything in front.
    first = {"user": 1} if connection.info.server_version < 180000 else None
    assert probe.seen() == [(1, first), (2, None)]


@pytest.mark.parametrize(
    "statement",
    [
        "VACUUM item",
        "CREATE INDEX CONCURRENTLY ON item (name)",
        "REINDEX TABLE CONCURRENTLY item",
        "ALTER SYSTEM RESET work_mem",
        "DISCARD ALL",
        "CHECKPOINT",
    ],
)
def test_what_must_not_run_in_a_transaction_still_runs(open_connection: Any, statement: str) -> None:
    connection = open_connection(autocommit=True)
    with pyhist.context(user=1):
        connection.execute(statement)
        connection.execute(f"{statement}; -- alone")


def test_a_database_can_still_be_made_and_dropped(open_connection: Any, probe: Probe) -> None:
    name = psycopg.sql.Identifier(f"{probe.observer.info.dbname}_made")
    connection = open_connection(autocommit=True)
    with pyhist.context(user=1):
        connection.execute(psycopg.sql.SQL("CREATE DATABASE {}").format(name))
        connection.execute(psycopg.sql.SQL("DROP DATABASE {}").format(name))


def test_a_transaction_can_still_be_set_up(open_connection: Any) -> None:
    connection = open_connection()
    with pyhist.context(user=1):
        connection.execute("SET TRANSACTION ISOLATION LEVEL SERIALIZABLE")
        assert connection.execute("SHOW transaction_isolation").fetchone() == ("serializable",)
        connection.rollback()
        connection.execute("SELECT 1")
        connection.rollback()
        connection.tpc_begin(connection.xid(1, "a", "b"))
        connection.execute("INSERT INTO item VALUES (1)")
        connection.tpc_prepare()
        connection.tpc_commit()


def test_a_rolled_back_savepoint_takes_no_context_with_it(carrying: Any, probe: Probe) -> None:
    with carrying.transaction():
        carrying.execute("INSERT INTO item VALUES (1)")
        with pyhist.context(user=1):
            with carrying.transaction(force_rollback=True):
                carrying.execute("INSERT INTO item VALUES (2)")
            carrying.execute("INSERT INTO item VALUES (3)")
            carrying.execute("SAVEPOINT mine")
            carrying.execute("INSERT INTO item VALUES (4)")
            carrying.execute("ROLLBACK TO mine")
            carrying.execute("INSERT INTO item VALUES (5)")
    settle(carrying)
    assert probe.seen() == [(1, None), (3, {"user": 1}), (5, {"user": 1})]


def test_a_context_that_has_ended_is_over_for_the_rest_of_the_transaction(
    carrying: Any, probe: Probe
) -> None:
    with carrying.transaction():
        with pyhist.context(user=1):
            carrying.execute("INSERT INTO item VALUES (1)")
        carrying.execute("INSERT INTO item VALUES (2)")
        with pyhist.context(user=2):
            carrying.execute("INSERT INTO item VALUES (3)")
        with carrying.cursor().copy("COPY item FROM STDIN") as copy:
            copy.write_row((4, "a"))
        carrying.execute("SELECT add(5); SELECT add(6)")
        carrying.cursor().executemany("INSERT INTO item VALUES (%s)", [(7,), (8,)])
        list(carrying.cursor().stream("SELECT add(9)"))
    settle(carrying)
    without = [(number, None) for number in (4, 5, 6, 7, 8, 9)]
    assert probe.seen() == [(1, {"user": 1}), (2, None), (3, {"user": 2}), *without]


@pytest.mark.parametrize("first", ["execute", "script", "executemany", "copy", "stream", "named"])
def test_a_context_that_began_a_transaction_is_over_for_its_rest(
    open_connection: Any, probe: Probe, first: str
) -> None:
    connection = open_connection()
    cursor = connection.cursor()
    for user in (1, 2):
        item = user * 10
        with pyhist.context(user=user):
            if first == "execute":
                cursor.execute("SELECT add(%s)", [item])
            elif first == "script":
                cursor.execute(f"SELECT add({item}); SELECT 2")
            elif first == "executemany":
                cursor.executemany("INSERT INTO item VALUES (%s)", [(item,)])
            elif first == "copy":
                with cursor.copy("COPY item FROM STDIN") as copy:
                    copy.write_row((item, "a"))
            elif first == "stream":
                list(cursor.stream("SELECT add(%s)", [item]))
            else:
                with connection.cursor("named") as named:
                    named.execute("SELECT add(%s)", [item]).fetchall()
        connection.execute("INSERT INTO item VALUES (%s)", [item + 1])
        connection.commit()
    assert probe.seen() == [(10, {"user": 1}), (11, None), (20, {"user": 2}), (21, None)]


def test_a_savepoint_does_not_bring_back_a_context_that_has_ended(carrying: Any, probe: Probe) -> None:
    with carrying.transaction():
        with pyhist.context(user=1):
            carrying.execute("INSERT INTO item VALUES (1)")
        carrying.execute("SAVEPOINT mine")
        carrying.execute("INSERT INTO item VALUES (2)")
        carrying.execute("ROLLBACK TO mine")
        carrying.execute("INSERT INTO item VALUES (3)")
    settle(carrying)
    assert probe.seen() == [(1, {"user": 1}), (3, None)]


def test_a_context_set_by_other_means_stays(carrying: Any, probe: Probe) -> None:
    by_hand = (
        "SELECT set_config('pghistory.context_' || name, '1', true) FROM unnest('{id,metadata}'::text[]) name"
    )
    with pyhist.context(user=1):
        with carrying.transaction():
            carrying.execute("INSERT INTO item VALUES (1)")
    with carrying.transaction():
        with pyhist.context(user=2):
            carrying.execute("INSERT INTO item VALUES (2)")
        carrying.execute(by_hand)
        carrying.execute("INSERT INTO item VALUES (3)")
        carrying.execute("INSERT INTO item VALUES (4)")
    settle(carrying)
    assert probe.seen() == [(1, {"user": 1}), (2, {"user": 2}), (3, 1), (4, 1)]


def test_no_setting_is_left_behind(carrying: Any) -> None:
    with pyhist.context(user=1):
        carrying.execute("INSERT INTO item VALUES (1)")
        settle(carrying)
        carrying.cursor().executemany("INSERT INTO item VALUES (%s)", [(2,), (3,)])
        settle(carrying)
    left = "SELECT current_setting('pghistory.context_id'), current_setting('pghistory.context_metadata')"
    assert carrying.execute(left).fetchone() == ("", "")


def test_an_aborted_transaction_is_left_alone(open_connection: Any, probe: Probe) -> None:
    connection = open_connection()
    with pyhist.context(user=1):
        with pytest.raises(psycopg.errors.DivisionByZero):
            connection.execute("SELECT 1 / 0")
        for statement in ("SELECT 1", "SELECT 1; SELECT 2"):
            with pytest.raises(psycopg.errors.InFailedSqlTransaction):
                connection.execute(statement)
        with (
            pytest.raises(psycopg.errors.InFailedSqlTransaction),
            connection.cursor().copy("COPY item TO STDOUT"),
        ):
            pass
        with pytest.raises(psycopg.errors.InFailedSqlTransaction):
            list(connection.cursor().stream("SELECT 1"))
        connection.rollback()
        connection.execute("INSERT INTO item VALUES (1)")
    connection.commit()
    assert probe.seen() == [(1, {"user": 1})]


def test_a_pipeline_has_the_context(carrying: Any, probe: Probe) -> None:
    with carrying.pipeline() as pipeline:
        with pyhist.context(user=1):
            carrying.execute("INSERT INTO item VALUES (1)")
            cursor = carrying.execute("SELECT add(2)")
        carrying.execute("INSERT INTO item VALUES (3)")
        assert cursor.fetchall() == [(2,)]
        with pyhist.context(user=2), carrying.transaction():
            carrying.cursor().executemany("INSERT INTO item VALUES (%s)", [(4,), (5,)])
        pipeline.sync()
        carrying.execute("INSERT INTO item VALUES (6)")
    settle(carrying)
    contexts: list[User] = [{"user": 1}, {"user": 1}, None, {"user": 2}, {"user": 2}, None]
    assert probe.seen() == list(enumerate(contexts, start=1))


def test_a_pipeline_fails_as_it_would(carrying: Any, probe: Probe) -> None:
    def fail() -> None:
        with carrying.pipeline():
            carrying.execute("SELECT 1 / 0")
            carrying.execute("INSERT INTO item VALUES (1)")

    with pyhist.context(user=1):
        with pytest.raises(psycopg.errors.DivisionByZero):
            fail()
        carrying.rollback()
        carrying.execute("INSERT INTO item VALUES (2)")
    settle(carrying)
    assert probe.seen() == [(2, {"user": 1})]


STATEMENTS: list[tuple[Any, ...]] = [
    ("INSERT INTO item VALUES (1, 'a'), (2, 'b')",),
    ("INSERT INTO item VALUES (%s, %s) RETURNING *", (3, "c")),
    ("UPDATE item SET name = upper(name)",),
    ("UPDATE item SET name = name WHERE false",),
    ("SELECT id, name, 1.5::numeric, now() IS NULL FROM item ORDER BY id",),
    ("SELECT",),
    ("SELECT 1; SELECT 'a', 'b'; UPDATE item SET name = NULL; SHOW server_version",),
    ("",),
    ("VACUUM item",),
    ("SHOW server_version",),
    ("DO $$BEGIN RAISE NOTICE 'hello'; END$$",),
    ("SELECT %(a)s::int, %(b)s", {"a": 1, "b": "x"}),
    (b"SELECT 'bytes'",),
    (psycopg.sql.SQL("SELECT {}").format(psycopg.sql.Literal("composed")),),
    ("INSERT INTO item VALUES (1, 'a')",),
    ("SELECT 1 / 0",),
    ("SELECT wrong",),
    ("SELECT 'ü', 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, wrong FROM item",),
    ("SELEC",),
    ("SELECT 'ü';\n\tSELECT wrong,\n 2",),
    ("UPDATE item SET name = NULL; SELECT 1 / 0",),
    ("UPDATE item SET name = NULL; SELEC 'ü'",),
    ("SELECT %s", ()),
    ("SELECT 1; SELECT %s", (1,)),
    ("COPY wrong FROM '/nowhere'",),
    ("COPY item FROM '/nowhere'",),
    ("DO $$BEGIN RAISE query_canceled; END$$",),
    ("INSERT INTO late VALUES (1), (1)",),
    ("INSERT INTO late VALUES (1); INSERT INTO late VALUES (1)",),
    ("COPY item TO STDOUT",),
]


def observe(connection: Any, *query: Any, **kwargs: Any) -> list[Any]:
    """What a program can see of a statement."""
    seen: list[Any] = []
    cursor = connection.cursor()
    try:
        cursor.execute(*query, **kwargs)
        more = True
        while more:
            columns = cursor.description
            shape = None if columns is None else [(c.name, c.type_code, c.internal_size) for c in columns]
            rows = None if columns is None else cursor.fetchall()
            seen.append((cursor.rowcount, cursor.statusmessage, shape, rows, cursor.rownumber))
            more = cursor.nextset()
    except psycopg.Error as error:
        fields = {name: getattr(error.diag, name) for name in dir(error.diag) if name[0] != "_"}
        seen.append((type(error), str(error), error.sqlstate, fields, cursor.rowcount, cursor.statusmessage))
    seen.append(
        (cursor._query and cursor._query.query, connection.info.transaction_status, connection.closed)
    )
    return seen


@pytest.mark.parametrize("autocommit", [True, False])
@pytest.mark.parametrize("kwargs", [{}, {"prepare": True}, {"binary": True}], ids=str)
def test_nothing_else_can_be_told_apart(
    open_connection: Any, probe: Probe, autocommit: bool, kwargs: dict[str, Any]
) -> None:
    probe.observer.execute("CREATE TABLE late (id integer UNIQUE DEFERRABLE INITIALLY DEFERRED)")
    seen: list[Any] = []
    for carrying in (False, True):
        probe.observer.execute("TRUNCATE item")
        connection = open_connection(carrying, autocommit=autocommit)
        notices: list[str | None] = []
        connection.add_notice_handler(lambda said, notices=notices: notices.append(said.message_primary))
        observations = []
        with pyhist.context(user=1):
            for query in STATEMENTS:
                connection.execute("SAVEPOINT s" if not autocommit else "SELECT")
                observations.append((query, observe(connection, *query, **kwargs)))
                if connection.info.transaction_status != psycopg.pq.TransactionStatus.ACTIVE:
                    connection.execute("ROLLBACK TO s" if not autocommit else "SELECT")
        connection.close()
        seen.append((observations, notices))
    (plain, plain_notices), (carried, carried_notices) = seen
    for (query, expected), (_, observed) in zip(plain, carried, strict=True):
        assert (query, observed) == (query, expected)
    assert carried_notices == plain_notices


@pytest.fixture
def with_cursors(open_connection: Callable[..., Any]) -> Callable[[str, str], Any]:
    """Call `with_cursors("ClientCursor")` for a connection that makes such cursors."""

    def with_cursors(name: str, attribute: str = "cursor_factory") -> Any:
        connection = open_connection()
        is_async = isinstance(connection, Blocking)
        setattr(
            connection._target if is_async else connection,
            attribute,
            getattr(psycopg, "Async" * is_async + name),
        )
        return connection

    return with_cursors


@pytest.mark.parametrize(("kind", "mark"), [("ClientCursor", "%s"), ("RawCursor", "$1")])
def test_other_kinds_of_cursors_have_the_context(
    with_cursors: Any, probe: Probe, kind: str, mark: str
) -> None:
    connection = with_cursors(kind)
    with pyhist.context(user="%s  $2"):
        assert connection.execute(f"SELECT add({mark})", [1]).fetchall() == [(1,)]
        connection.cursor().executemany(f"INSERT INTO item VALUES ({mark})", [[2], [3]])
        assert list(connection.cursor().stream(f"SELECT add({mark})", [4])) == [(4,)]
        with connection.cursor().copy("COPY item FROM STDIN") as copy:
            copy.write_row((5, "a"))
        assert connection.execute("SELECT add(6); SELECT add(7)").fetchall() == [(6,)]
    connection.commit()
    assert probe.seen() == [(number, {"user": "%s  $2"}) for number in range(1, 8)]


def test_client_side_binding_makes_scripts_of_any_parameters(with_cursors: Any, probe: Probe) -> None:
    connection = with_cursors("ClientCursor")
    with pyhist.context(user=1):
        connection.execute("SELECT add(%s, %s); SELECT add(%s)", (1, "it's; \\ SELECT 3", 2))
        with pytest.raises(psycopg.NotSupportedError, match="binary"):
            connection.execute("SELECT 1", binary=True)
        with pytest.raises(psycopg.NotSupportedError, match="binary"):
            list(connection.cursor(binary=True).stream("SELECT 1"))
        connection.execute("SELECT add(3)")
    connection.commit()
    assert probe.seen() == [(number, {"user": 1}) for number in (1, 2, 3)]


def test_named_raw_cursors_have_the_context(with_cursors: Any, probe: Probe) -> None:
    connection = with_cursors("RawServerCursor", "server_cursor_factory")
    with pyhist.context(user=1), connection.cursor("named") as cursor:
        cursor.execute("SELECT add($1)", [1])
        assert cursor.fetchall() == [(1,)]
    connection.commit()
    assert probe.seen() == [(1, {"user": 1})]


def test_row_factories_stay(open_connection: Any) -> None:
    connection = open_connection(row_factory=dict_row)
    with pyhist.context(user=1):
        assert connection.execute("SELECT 1 AS one").fetchone() == {"one": 1}
        assert connection.execute("SELECT 1 AS one; SELECT 2").fetchone() == {"one": 1}
        assert list(connection.cursor().stream("SELECT 1 AS one")) == [{"one": 1}]


def test_other_encodings_carry_it(open_connection: Any, probe: Probe) -> None:
    connection = open_connection(client_encoding="latin1")
    with pyhist.context(user="ü 漢"):
        connection.execute("INSERT INTO item VALUES (1, 'ü')")
        connection.execute("SELECT 'ü'; INSERT INTO item VALUES (2)")
    connection.commit()
    assert probe.seen() == [(1, {"user": "ü 漢"}), (2, {"user": "ü 漢"})]


def test_old_string_syntax_carries_it(open_connection: Any, probe: Probe) -> None:
    connection = open_connection(options="-c standard_conforming_strings=off")
    with pyhist.context(user="it's \\ a backslash"):
        connection.execute("SELECT add(1); SELECT add(2)")
    connection.commit()
    assert probe.seen() == [(number, {"user": "it's \\ a backslash"}) for number in (1, 2)]


def test_an_ended_session_is_told_as_psycopg_tells_it(open_connection: Any, probe: Probe) -> None:
    seen = []
    for carrying in (False, True):
        connection = open_connection(carrying, autocommit=True)
        probe.observer.execute("SELECT pg_terminate_backend(%s, 10000)", [connection.info.backend_pid])
        with pyhist.context(user=1):
            with pytest.raises(psycopg.OperationalError) as ended:
                connection.execute("SELECT 1")
            with pytest.raises(psycopg.OperationalError) as closed:
                connection.execute("SELECT 1")
        seen.append([(type(e.value), e.value.sqlstate, str(e.value)) for e in (ended, closed)])
    assert seen[0] == seen[1]


def test_a_context_ends_with_its_transaction_on_the_server(carrying: Any, probe: Probe) -> None:
    with pyhist.context(user=1):
        carrying.execute("INSERT INTO item VALUES (1)")
    settle(carrying)
    carrying.execute("INSERT INTO item VALUES (2)")
    settle(carrying)
    assert probe.seen() == [(1, {"user": 1}), (2, None)]


def test_threads_that_share_a_connection_keep_their_contexts(probe: Probe) -> None:
    meeting = threading.Barrier(4)

    def work(user: int) -> None:
        meeting.wait()
        with pyhist.context(user=user):
            for number in range(50):
                connection.execute("INSERT INTO item VALUES (%s)", [user * 100 + number])
        connection.execute("INSERT INTO item VALUES (%s)", [user * 100 + 99])

    for autocommit in (True, False):
        with closing(
            pyhist.Connection.connect(probe.dsn, autocommit=autocommit, **probe.options)
        ) as connection:
            with ThreadPoolExecutor(4) as threads:
                list(threads.map(work, range(4)))
            connection.commit()
            connection.execute("TRUNCATE item")
            connection.commit()
        seen = probe.seen()
        assert len(seen) == 204
        assert all(got == (None if item % 100 == 99 else {"user": item // 100}) for item, got in seen)


def test_tasks_that_share_a_connection_keep_their_contexts(probe: Probe) -> None:
    async def work(connection: psycopg.AsyncConnection[Any], user: int) -> None:
        async with pyhist.context(user=user):
            for number in range(0, 50, 2):
                await connection.execute("INSERT INTO item VALUES (%s)", [user * 100 + number])
                await connection.execute(f"SELECT 1; SELECT add({user * 100 + number + 1})")
        await connection.execute("INSERT INTO item VALUES (%s)", [user * 100 + 99])

    async def share(autocommit: bool) -> None:
        async with await pyhist.AsyncConnection.connect(
            probe.dsn, autocommit=autocommit, **probe.options
        ) as connection:
            await asyncio.gather(*(work(connection, user) for user in range(4)))
            await connection.execute("TRUNCATE item")

    for autocommit in (True, False):
        asyncio.run(share(autocommit))
        seen = probe.seen()
        assert len(seen) == 204
        assert all(got == (None if item % 100 == 99 else {"user": item // 100}) for item, got in seen)


def test_a_cancelled_task_leaves_a_usable_connection(probe: Probe) -> None:
    async def cancel() -> None:
        async with await pyhist.AsyncConnection.connect(
            probe.dsn, autocommit=True, **probe.options
        ) as connection:
            async with pyhist.context(user=1):
                with pytest.raises(asyncio.TimeoutError):
                    await asyncio.wait_for(connection.execute("SELECT pg_sleep(60)"), 0.2)
                await connection.execute("INSERT INTO item VALUES (1)")

    asyncio.run(cancel())
    assert probe.seen() == [(1, {"user": 1})]


def test_instrument_makes_a_connection_carry_it(open_connection: Any, probe: Probe) -> None:
    connection = open_connection(carrying=False, autocommit=True)
    target = getattr(connection, "_target", connection)
    kind = type(target)
    assert pyhist.instrument(target) is target
    assert pyhist.instrument(target) is target
    assert isinstance(target, kind)
    assert repr(target).startswith(f"<{kind.__module__}.{kind.__qualname__} [")
    assert repr(target.cursor()).startswith(f"<psycopg.{'Async' * hasattr(connection, '_target')}Cursor [")
    with pyhist.context(user=1):
        connection.execute("INSERT INTO item VALUES (1)")
    assert probe.seen() == [(1, {"user": 1})]


def test_a_connection_without_instrument_carries_nothing(open_connection: Any, probe: Probe) -> None:
    connection = open_connection(carrying=False, autocommit=True)
    with pyhist.context(user=1):
        connection.execute("INSERT INTO item VALUES (1)")
    assert probe.seen() == [(1, None)]


@pytest.mark.parametrize("thing", [None, "dbname=app", psycopg, psycopg.Connection])
def test_instrument_refuses_what_it_does_not_know(thing: Any) -> None:
    with pytest.raises(TypeError, match="a psycopg_pool pool or an SQLAlchemy engine, not"):
        pyhist.instrument(thing)
