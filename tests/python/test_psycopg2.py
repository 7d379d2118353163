"""psycopg2 connections that carry the context: every way of writing has it, and little else changes."""

from __future__ import annotations

import io
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager, nullcontext
from datetime import date
from decimal import Decimal
from typing import Any
from uuid import UUID

import psycopg2.errors
import psycopg2.extras
import psycopg2.pool
import pytest
from probe import Probe
from proxy import counting_proxy
from psycopg2 import extensions, sql

import pyhist.psycopg2


@pytest.fixture
def open_connection(probe: Probe) -> Iterator[Callable[..., Any]]:
    """Call `open_connection(carrying=True, autocommit=False, **kwargs)` for a connection to the probe."""
    with ExitStack() as stack:

        def open_connection(carrying: bool = True, autocommit: bool = False, **kwargs: Any) -> Any:
            if carrying:
                kwargs["connection_factory"] = pyhist.psycopg2.Connection
            connection = stack.enter_context(closing(psycopg2.connect(probe.dsn, **kwargs)))
            connection.autocommit = autocommit
            return connection

        yield open_connection


@pytest.fixture(params=["autocommit", "transactions"])
def carrying(request: pytest.FixtureRequest, open_connection: Callable[..., Any]) -> Any:
    """A connection to the probe that carries the context."""
    return open_connection(autocommit=request.param == "autocommit")


@contextmanager
def transaction(connection: Any) -> Iterator[Any]:
    """A cursor in a transaction, whatever the mode of the connection."""
    cursor = connection.cursor()
    if connection.autocommit:
        cursor.execute("BEGIN")
    yield cursor
    cursor.execute("COMMIT")
    connection.commit()


def test_a_statement_has_the_context_it_is_sent_in(carrying: Any, probe: Probe) -> None:
    cursor = carrying.cursor()
    cursor.execute("INSERT INTO item VALUES (1)")
    with pyhist.context(user=1):
        cursor.execute("INSERT INTO item VALUES (%s, %s)", [2, "a;b"])
        with pyhist.context(step='it\'s \\ "ü" %s'):
            cursor.execute("INSERT INTO item VALUES (%(id)s)", {"id": 3})
        cursor.execute(sql.SQL("INSERT INTO {} VALUES (%s)").format(sql.Identifier("item")), (4,))
    carrying.commit()
    assert probe.seen() == [
        (1, None),
        (2, {"user": 1}),
        (3, {"user": 1, "step": 'it\'s \\ "ü" %s'}),
        (4, {"user": 1}),
    ]


def test_all_statements_of_a_context_have_its_id(carrying: Any, probe: Probe) -> None:
    with pyhist.context() as active:
        for number in (1, 2):
            carrying.cursor().execute("SELECT add(%s)", [number])
            carrying.commit()
    assert probe.ids() == [str(active.id)] * 2


def test_a_call_adds_to_the_context_that_is_active_and_to_nothing_else(carrying: Any, probe: Probe) -> None:
    def write(number: int) -> None:
        pyhist.context(number=number)
        carrying.cursor().execute("SELECT add(%s)", [number])

    write(1)
    with pyhist.context(user=1):
        write(2)
    write(3)
    carrying.commit()
    assert probe.seen() == [(1, None), (2, {"user": 1, "number": 2}), (3, None)]


def test_values_that_json_does_not_know_are_text(carrying: Any, probe: Probe) -> None:
    with pyhist.context(day=date(2026, 1, 31), id=UUID(int=7), price=Decimal("1.10"), key=("a", {"b"})):
        carrying.cursor().execute("SELECT add(1)")
    carrying.commit()
    written = {"day": "2026-01-31", "id": str(UUID(int=7)), "price": "1.10", "key": ["a", "{'b'}"]}
    assert probe.seen() == [(1, written)]


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
        "PREPARE new AS INSERT INTO item VALUES (1); EXECUTE new",
    ],
)
def test_whatever_writes_has_the_context(carrying: Any, probe: Probe, write: str) -> None:
    with pyhist.context(user=1):
        carrying.cursor().execute(write)
    carrying.commit()
    assert probe.seen() == [(1, {"user": 1})]


def test_executemany_has_the_context(carrying: Any, probe: Probe) -> None:
    cursor = carrying.cursor()
    with pyhist.context(user="100 %s"):
        cursor.executemany("SELECT add(100)", [None])
        cursor.executemany("INSERT INTO item VALUES (%s, 'a%%')", [(number,) for number in range(50)])
    assert cursor.rowcount == 50
    assert cursor.query == b"INSERT INTO item VALUES (49, 'a%')"
    cursor.execute("SELECT DISTINCT name FROM item WHERE id < 100")
    assert cursor.fetchall() == [("a%",)]
    carrying.commit()
    assert probe.seen() == [(number, {"user": "100 %s"}) for number in (100, *range(50))]


def test_what_psycopg2_puts_together_in_one_text_has_the_context(carrying: Any, probe: Probe) -> None:
    cursor = carrying.cursor()
    rows = [(number, "a;'\\") for number in range(50)]
    with pyhist.context(user=1):
        psycopg2.extras.execute_batch(cursor, "INSERT INTO item VALUES (%s, %s)", rows)
        psycopg2.extras.execute_values(
            cursor, "UPDATE item SET name = n FROM (VALUES %s) AS v (i, n)", rows[:1]
        )
    carrying.commit()
    assert probe.seen() == [(number, {"user": 1}) for number in (*range(50), *range(50))]


def test_a_function_that_is_called_by_name_has_the_context(carrying: Any, probe: Probe) -> None:
    cursor = carrying.cursor()
    with pyhist.context(user=1):
        assert cursor.callproc("add", (1,)) == (1,)
        assert cursor.fetchall() == [(1,)]
        cursor.callproc("add", {"id": 2, "name": "%s"})
        assert cursor.fetchall() == [(2,)]
        cursor.callproc("now")
        cursor.callproc("version", [])
    carrying.commit()
    assert probe.seen() == [(1, {"user": 1}), (2, {"user": 1})]


def test_copy_has_the_context(carrying: Any, probe: Probe) -> None:
    cursor = carrying.cursor()
    with pyhist.context(user=1):
        cursor.copy_expert("COPY item FROM STDIN (FORMAT csv)", io.StringIO("1,a\n2,b\n"))
        assert cursor.rowcount == 2
        cursor.copy_from(io.StringIO("c|3\nNULL|4\n"), "item", sep="|", null="NULL", columns=("name", "id"))
        cursor.copy_from(io.StringIO("5\t\\N\n"), "item")
        output = io.StringIO()
        cursor.copy_expert("COPY (SELECT add(6)) TO STDOUT", output)
        cursor.copy_to(output, "item", sep=",", columns=["id"])
    assert output.getvalue() == "6\n1\n2\n3\n4\n5\n6\n"
    cursor.copy_from(io.StringIO("7\t\\N\n"), "item")
    carrying.commit()
    assert probe.seen() == [*((number, {"user": 1}) for number in range(1, 7)), (7, None)]


def test_a_copy_that_fails_leaves_a_usable_connection(carrying: Any, probe: Probe) -> None:
    cursor = carrying.cursor()
    with pyhist.context(user=1):
        with pytest.raises(psycopg2.errors.UniqueViolation):
            cursor.copy_from(io.StringIO("1\ta\n1\tb\n"), "item")
        carrying.rollback()
        cursor.execute("INSERT INTO item VALUES (1)")
    carrying.commit()
    assert probe.seen() == [(1, {"user": 1})]


def test_a_named_cursor_has_the_context_it_was_opened_in(open_connection: Any, probe: Probe) -> None:
    connection = open_connection()
    with connection.cursor("one") as cursor:
        with pyhist.context(user=1):
            cursor.execute("SELECT add(n) FROM generate_series(1, %s) AS n -- all", [3])
        assert cursor.fetchone() == (1,)
        assert list(cursor) == [(2,), (3,)]
    with connection.cursor("two", scrollable=True) as cursor:
        with pyhist.context(user=2):
            cursor.execute("SELECT add(4);")
            assert cursor.fetchall() == [(4,)]
    with connection.cursor("three") as cursor:
        cursor.execute("SELECT add(5)")
        assert cursor.fetchmany(2) == [(5,)]
    connection.commit()
    users = ({"user": 1}, {"user": 1}, {"user": 1}, {"user": 2}, None)
    assert probe.seen() == list(enumerate(users, start=1))


def test_a_named_cursor_that_outlives_its_transaction_has_the_context(carrying: Any, probe: Probe) -> None:
    with pyhist.context(user=1), carrying.cursor("named", None, True, False) as cursor:
        cursor.execute("SELECT add(n) FROM generate_series(1, 3) AS n")
        carrying.commit()
        assert cursor.fetchall() == [(1,), (2,), (3,)]
    assert probe.seen() == [(number, {"user": 1}) for number in (1, 2, 3)]


def test_a_script_has_the_context_and_gives_its_last_result(carrying: Any, probe: Probe) -> None:
    cursor = carrying.cursor()
    script = (
        "INSERT INTO item VALUES (%s), (2); -- ;\n SELECT 'a;b'; SET work_mem = '5MB';;"
        "UPDATE item SET name = 'x' WHERE id = 1 RETURNING id"
    )
    with pyhist.context(user=1):
        cursor.execute(script, (1,))
    assert cursor.fetchall() == [(1,)]
    assert (cursor.rowcount, cursor.statusmessage) == (1, "UPDATE 1")
    assert cursor.query == script.replace("%s", "1").encode()
    carrying.commit()
    assert probe.seen() == [(1, {"user": 1}), (2, {"user": 1}), (1, {"user": 1})]


def test_a_script_with_transactions_of_its_own_has_the_context_in_each(
    open_connection: Any, probe: Probe
) -> None:
    with pyhist.context(user=1):
        open_connection(autocommit=True).cursor().execute(
            "BEGIN ISOLATION LEVEL SERIALIZABLE; SELECT add(1); SAVEPOINT s; SELECT add(2); ROLLBACK TO s;"
            " SELECT add(3); COMMIT; SELECT add(4);"
            " CREATE FUNCTION more() RETURNS integer BEGIN ATOMIC SELECT 1; SELECT add(5); END; SELECT more()"
        )
    assert probe.seen() == [(number, {"user": 1}) for number in (1, 3, 4, 5)]


def test_a_procedure_that_commits_still_can(open_connection: Any, probe: Probe) -> None:
    connection = open_connection(autocommit=True)
    cursor = connection.cursor()
    cursor.execute(
        "CREATE PROCEDURE work(a integer) LANGUAGE plpgsql AS $$BEGIN PERFORM add(a); COMMIT; PERFORM add(2); END$$"
    )
    with pyhist.context(user=1):
        cursor.execute("CALL work(%s)", [1])
    assert probe.seen() == [(1, None), (2, None)]


@pytest.mark.parametrize(
    "statement",
    ["VACUUM item", "CREATE INDEX CONCURRENTLY ON item (name)", "DISCARD ALL", "ALTER SYSTEM RESET work_mem"],
)
def test_what_must_not_run_in_a_transaction_still_runs(open_connection: Any, statement: str) -> None:
    cursor = open_connection(autocommit=True).cursor()
    with pyhist.context(user=1):
        cursor.execute(statement)
        cursor.execute(f"{statement}; -- alone")


def test_a_transaction_can_still_be_set_up(open_connection: Any, probe: Probe) -> None:
    connection = open_connection()
    cursor = connection.cursor()
    with pyhist.context(user=1):
        cursor.execute("SET TRANSACTION ISOLATION LEVEL SERIALIZABLE")
        cursor.execute("SHOW transaction_isolation")
        assert cursor.fetchone() == ("serializable",)
        connection.rollback()
        connection.tpc_begin(connection.xid(1, "a", "b"))
        cursor.execute("INSERT INTO item VALUES (1)")
        connection.tpc_prepare()
        connection.tpc_commit()
    assert probe.seen() == [(1, {"user": 1})]


def test_a_rolled_back_savepoint_takes_no_context_with_it(carrying: Any, probe: Probe) -> None:
    with transaction(carrying) as cursor:
        cursor.execute("INSERT INTO item VALUES (1)")
        cursor.execute("SAVEPOINT mine")
        with pyhist.context(user=1):
            cursor.execute("INSERT INTO item VALUES (2)")
            cursor.execute("ROLLBACK TO mine")
            cursor.execute("INSERT INTO item VALUES (3)")
            cursor.execute("SAVEPOINT other")
        cursor.execute("INSERT INTO item VALUES (4)")
        cursor.execute("ROLLBACK TO other")
        cursor.execute("INSERT INTO item VALUES (5)")
    assert probe.seen() == [(1, None), (3, {"user": 1}), (5, None)]


def test_a_context_that_has_ended_is_over_for_the_rest_of_the_transaction(
    carrying: Any, probe: Probe
) -> None:
    with transaction(carrying) as cursor:
        with pyhist.context(user=1):
            cursor.execute("INSERT INTO item VALUES (1)")
        cursor.execute("INSERT INTO item VALUES (2)")
        with pyhist.context(user=2):
            cursor.execute("INSERT INTO item VALUES (3)")
        cursor.copy_from(io.StringIO("4\ta\n"), "item")
        cursor.execute("SELECT add(5); SELECT add(6)")
        with pyhist.context(user=3):
            cursor.copy_from(io.StringIO("7\ta\n"), "item")
        cursor.executemany("INSERT INTO item VALUES (%s)", [(8,), (9,)])
        with pyhist.context(user=4):
            cursor.execute("SELECT add(10)")
        cursor.callproc("add", [11])
    users = {1: {"user": 1}, 3: {"user": 2}, 7: {"user": 3}, 10: {"user": 4}}
    assert probe.seen() == [(number, users.get(number)) for number in range(1, 12)]


def test_a_context_set_by_other_means_stays(carrying: Any, probe: Probe) -> None:
    with transaction(carrying) as cursor:
        with pyhist.context(user=2):
            cursor.execute("INSERT INTO item VALUES (2)")
        cursor.execute(
            "SELECT set_config('pghistory.context_' || n, '1', true) FROM unnest('{id,metadata}'::text[]) n"
        )
        cursor.execute("INSERT INTO item VALUES (3)")
        cursor.execute("INSERT INTO item VALUES (4)")
    assert probe.seen() == [(2, {"user": 2}), (3, 1), (4, 1)]


def test_no_setting_is_left_behind(carrying: Any) -> None:
    cursor = carrying.cursor()
    with pyhist.context(user=1):
        cursor.execute("INSERT INTO item VALUES (1)")
        carrying.commit()
    cursor.execute(
        "SELECT current_setting('pghistory.context_id'), current_setting('pghistory.context_metadata')"
    )
    assert cursor.fetchone() == ("", "")


def test_an_aborted_transaction_is_left_alone(open_connection: Any, probe: Probe) -> None:
    connection = open_connection()
    cursor = connection.cursor()
    with pyhist.context(user=1):
        with pytest.raises(psycopg2.errors.DivisionByZero):
            cursor.execute("SELECT 1 / 0")
        for statement in ("SELECT 1", "SELECT 1; SELECT 2"):
            with pytest.raises(psycopg2.errors.InFailedSqlTransaction):
                cursor.execute(statement)
        with pytest.raises(psycopg2.errors.InFailedSqlTransaction):
            cursor.copy_from(io.StringIO(""), "item")
        connection.rollback()
        cursor.execute("INSERT INTO item VALUES (1)")
    connection.commit()
    assert probe.seen() == [(1, {"user": 1})]


def test_an_error_inside_a_context_leaves_nothing_behind(carrying: Any, probe: Probe) -> None:
    cursor = carrying.cursor()

    @pyhist.context(user=1)
    def fail() -> None:
        cursor.execute("INSERT INTO item VALUES (1)")
        carrying.commit()
        with pytest.raises(psycopg2.errors.UniqueViolation):
            cursor.execute("INSERT INTO item VALUES (1)")
        carrying.rollback()
        cursor.execute("INSERT INTO item VALUES (2)")
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    cursor.execute("INSERT INTO item VALUES (3)")
    carrying.commit()
    assert probe.seen() == [(1, {"user": 1}), (2, {"user": 1}), (3, None)]


def test_what_is_decorated_has_the_context(carrying: Any, probe: Probe) -> None:
    def add(number: int) -> None:
        carrying.cursor().execute("SELECT add(%s)", [number])

    @pyhist.context(job="generator")
    def generator() -> Iterator[None]:
        add(2)
        yield
        add(4)

    pyhist.context(job="function")(add)(1)
    for _ in generator():
        add(3)
    carrying.commit()
    assert probe.seen() == [
        (1, {"job": "function"}),
        (2, {"job": "generator"}),
        (3, None),
        (4, {"job": "generator"}),
    ]


STATEMENTS: list[tuple[Any, ...]] = [
    ("INSERT INTO item VALUES (1, 'a'), (2, 'b')",),
    ("INSERT INTO item VALUES (%s, %s) RETURNING *", (3, "c")),
    ("UPDATE item SET name = upper(name)",),
    ("SELECT id, name, 1.5::numeric, now() IS NULL FROM item ORDER BY id",),
    ("SELECT",),
    ("SELECT 1; UPDATE item SET name = NULL; SHOW server_version",),
    ("UPDATE item SET name = NULL; SELECT 'x', %s", ["y"]),
    ("",),
    (None,),
    (";",),
    ("SHOW server_version",),
    ("DO $$BEGIN RAISE NOTICE 'hello'; END$$",),
    ("SELECT %(a)s::int, %(b)s", {"a": 1, "b": "x%"}),
    ("SELECT '100%'",),
    (b"SELECT 'bytes'",),
    (sql.SQL("SELECT {}").format(sql.Literal("composed")),),
    ("INSERT INTO item VALUES (1, 'a')",),
    ("SELECT 1 / 0",),
    ("SELECT wrong",),
    ("SELECT 'ü', 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, wrong FROM item",),
    ("SELEC",),
    ("SELECT 'ü';\n\tSELECT wrong,\n 2",),
    ("UPDATE item SET name = NULL; SELECT 1 / 0",),
    ("UPDATE item SET name = NULL; SELEC 'ü'",),
    ("SELECT %s", ()),
    ("SELECT %s, %s", (1,)),
    ("SELECT %s", (1, 2)),
    ("SELECT %(a)s", {}),
    ("COPY wrong FROM '/nowhere'",),
    ("COPY item TO STDOUT",),
    ("DO $$BEGIN RAISE query_canceled; END$$",),
]


def observe(cursor: Any, method: str, *arguments: Any) -> list[Any]:
    """What a program can see of a statement."""
    seen: list[Any] = []
    try:
        seen.append(getattr(cursor, method)(*arguments))
        columns = cursor.description
        rows = None if columns is None else cursor.fetchall()
        seen.append((cursor.rowcount, cursor.statusmessage, columns, rows, cursor.rownumber, cursor.query))
    except Exception as error:
        seen.append((type(error), str(error), error.args, cursor.rowcount, cursor.statusmessage))
        if isinstance(error, psycopg2.Error):
            fields = {name: getattr(error.diag, name) for name in dir(error.diag) if name[0] != "_"}
            del fields["statement_position"]  # which nobody can set
            seen.append((error.pgcode, error.pgerror, fields, cursor.query))
    return [*seen, cursor.connection.info.transaction_status]


@pytest.mark.parametrize("factory", [None, psycopg2.extras.DictCursor, psycopg2.extras.NamedTupleCursor])
def test_nothing_else_can_be_told_apart(open_connection: Any, probe: Probe, factory: Any) -> None:
    seen: list[Any] = []
    for carrying in (False, True):
        probe.observer.execute("TRUNCATE item")
        connection = open_connection(carrying, cursor_factory=factory)
        observed = []
        with pyhist.context(user="100%"):
            helper = connection.cursor()
            calls: list[tuple[Any, ...]] = [("execute", *statement) for statement in STATEMENTS]
            calls += [
                ("executemany", "INSERT INTO item VALUES (%s, 'ü%%')", [[20], [21]]),
                ("executemany", "SELECT 'ü', %s, wrong", [["long enough to move it"], [21]]),
                ("executemany", "INSERT INTO item VALUES (%s)", []),
                ("executemany", "INSERT INTO item VALUES (%s)", [[1, 2]]),
                ("callproc", "add", [30, "a"]),
                ("callproc", "add", {"name": "a", "id": 31}),
                ("callproc", "wrong", [1]),
                ("callproc", "pg_is_in_recovery"),
                ("copy_from", io.StringIO("wrong"), "item"),
                ("copy_to", io.StringIO(), "wrong"),
                ("copy_expert", "COPY wrong FROM STDIN", io.StringIO()),
                ("copy_expert", "SELECT 1", io.StringIO()),
                ("mogrify", "SELECT %s", [1]),
            ]
            for call in calls:
                helper.execute("SAVEPOINT s")
                observed.append((call, observe(connection.cursor(), *call)))
                if connection.info.transaction_status == extensions.TRANSACTION_STATUS_INERROR:
                    helper.execute("ROLLBACK TO s")
        seen.append([*observed, ("notices", connection.notices)])
        connection.close()
    for (call, expected), (_, got) in zip(*seen, strict=True):
        assert (call[:2], got) == (call[:2], expected)


def test_other_kinds_of_cursors_have_the_context(open_connection: Any, probe: Probe) -> None:
    connection = open_connection(cursor_factory=psycopg2.extras.DictCursor)
    with pyhist.context(user=1):
        cursor = connection.cursor()
        cursor.execute("SELECT add(1) AS one")
        assert cursor.fetchone()["one"] == 1
        cursor = connection.cursor(cursor_factory=psycopg2.extras.RealDictCursor)
        cursor.callproc("add", [2])
        assert cursor.fetchall() == [{"add": 2}]
        cursor = connection.cursor("named", psycopg2.extras.NamedTupleCursor)
        cursor.execute("SELECT add(3) AS three")
        assert cursor.fetchone().three == 3
    assert isinstance(cursor, psycopg2.extras.NamedTupleCursor)
    with pytest.raises(TypeError, match="must be a class"):
        connection.cursor(cursor_factory=lambda *arguments: extensions.cursor(*arguments))
    connection.commit()
    assert probe.seen() == [(number, {"user": 1}) for number in (1, 2, 3)]


def test_a_class_of_connections_can_be_combined_with_others(probe: Probe) -> None:
    class Mine(psycopg2.extras.LoggingConnection, pyhist.psycopg2.Connection):
        pass

    log = io.StringIO()
    with closing(psycopg2.connect(probe.dsn, connection_factory=Mine)) as connection:
        connection.initialize(log)
        cursor = connection.cursor()
        with pyhist.context(user=1):
            cursor.execute("SELECT add(%s)", [1])
        connection.commit()
    assert isinstance(cursor, psycopg2.extras.LoggingCursor)
    assert log.getvalue() == "SELECT add(1)\n"
    assert probe.seen() == [(1, {"user": 1})]


def test_other_encodings_and_old_string_syntax_carry_it(open_connection: Any, probe: Probe) -> None:
    connection = open_connection(options="-c standard_conforming_strings=off", client_encoding="latin1")
    with pyhist.context(user="it's \\ 漢"):
        connection.cursor().execute("SELECT add(1, 'ü'); SELECT add(2, %s)", ["ü\\"])
    connection.commit()
    assert probe.seen() == [(number, {"user": "it's \\ 漢"}) for number in (1, 2)]


def test_asynchronous_connections_carry_it(open_connection: Any, probe: Probe) -> None:
    connection = psycopg2.connect(probe.dsn, connection_factory=pyhist.psycopg2.Connection, async_=True)
    psycopg2.extras.wait_select(connection)
    with pyhist.context(user=1):
        cursor = connection.cursor()
        cursor.execute("SELECT add(%s)", [1])
    psycopg2.extras.wait_select(connection)
    assert cursor.fetchall() == [(1,)]
    connection.close()
    assert probe.seen() == [(1, {"user": 1})]


def test_a_closed_connection_is_told_as_psycopg2_tells_it(open_connection: Any, probe: Probe) -> None:
    seen = []
    for carrying in (False, True):
        connection = open_connection(carrying, autocommit=True)
        cursor = connection.cursor()
        probe.observer.execute("SELECT pg_terminate_backend(%s, 10000)", [connection.info.backend_pid])
        with pyhist.context(user=1):
            for call in (cursor.execute, cursor.execute, cursor.callproc, connection.cursor):
                with pytest.raises(psycopg2.Error) as told:
                    call("SELECT 1")
                seen.append((carrying, type(told.value), str(told.value)))
    assert [told[1:] for told in seen if told[0]] == [told[1:] for told in seen if not told[0]]


@pytest.mark.parametrize("autocommit", [True, False])
def test_threads_that_share_a_connection_keep_their_contexts(
    open_connection: Any, probe: Probe, autocommit: bool
) -> None:
    meeting = threading.Barrier(4)
    connection = open_connection(autocommit=autocommit)

    def work(user: int) -> None:
        meeting.wait()
        cursor = connection.cursor()
        with pyhist.context(user=user):
            for number in range(50):
                cursor.execute("INSERT INTO item VALUES (%s)", [user * 100 + number])
        cursor.execute("INSERT INTO item VALUES (%s)", [user * 100 + 99])

    with ThreadPoolExecutor(4) as threads:
        list(threads.map(work, range(4)))
    connection.commit()
    seen = probe.seen()
    assert len(seen) == 204
    assert all(got == (None if item % 100 == 99 else {"user": item // 100}) for item, got in seen)


def test_fifty_users_of_a_pool_of_five_keep_their_contexts(probe: Probe) -> None:
    pool = psycopg2.pool.ThreadedConnectionPool(
        5, 5, probe.dsn, connection_factory=pyhist.psycopg2.Connection
    )
    free = threading.Semaphore(5)

    def write(number: int) -> None:
        with free:
            connection = pool.getconn()
            with connection, connection.cursor() as cursor:
                cursor.execute("INSERT INTO item VALUES (%s)", [number])
            pool.putconn(connection)

    def work(user: int) -> None:
        with pyhist.context(user=user):
            for number in range(5):
                write(user * 100 + number)
        write(user * 100 + 99)

    with ThreadPoolExecutor(50) as threads:
        list(threads.map(work, range(50)))
    pool.closeall()
    seen = probe.seen()
    assert len(seen) == 300
    assert all(got == (None if item % 100 == 99 else {"user": item // 100}) for item, got in seen)


def test_the_next_user_of_a_pooled_connection_finds_no_context(probe: Probe) -> None:
    pool = psycopg2.pool.SimpleConnectionPool(1, 1, probe.dsn, connection_factory=pyhist.psycopg2.Connection)
    with pyhist.context(user=1):
        connection = pool.getconn()
        connection.cursor().execute("INSERT INTO item VALUES (1)")
        connection.commit()
        connection.cursor().execute("INSERT INTO item VALUES (2)")
        pool.putconn(connection)  # which rolls back
    again = pool.getconn()
    again.cursor().execute("INSERT INTO item VALUES (3)")
    again.commit()
    pool.closeall()
    assert again is connection
    assert probe.seen() == [(1, {"user": 1}), (3, None)]


def fetch_named(connection: Any) -> None:
    with connection.cursor("named", withhold=True) as cursor:
        cursor.execute("SELECT add(200)")
        cursor.fetchall()


def go_back(connection: Any) -> None:
    cursor = connection.cursor()
    cursor.execute("BEGIN" if connection.autocommit else "SELECT 1")
    cursor.execute("SAVEPOINT here")
    cursor.execute("INSERT INTO item VALUES (300)")
    cursor.execute("ROLLBACK TO here")
    cursor.execute("INSERT INTO item VALUES (301)")
    cursor.execute("COMMIT")


def change_context(connection: Any) -> None:
    for number in range(400, 403):
        with pyhist.context(number=number):
            connection.cursor().execute("INSERT INTO item VALUES (%s)", [number])


WAYS: list[Callable[[Any], Any]] = [
    lambda connection: connection.cursor().execute("INSERT INTO item VALUES (%s)", [1]),
    lambda connection: connection.cursor().execute("SELECT add(2); SELECT add(3)"),
    lambda connection: connection.cursor().executemany("INSERT INTO item VALUES (%s)", [[4], [5], [6]]),
    lambda connection: connection.cursor().callproc("add", [7]),
    lambda connection: connection.cursor().copy_from(io.StringIO("8\ta\n"), "item"),
    lambda connection: connection.cursor().execute("VACUUM") if connection.autocommit else None,
    fetch_named,
    go_back,
    change_context,
]


@pytest.mark.parametrize("autocommit", [True, False])
@pytest.mark.parametrize("way", WAYS)
def test_a_context_costs_no_round_trip(
    server: Any, probe: Probe, autocommit: bool, way: Callable[[Any], Any]
) -> None:
    counts = []
    for factory, around in (
        (None, pyhist.context(user=1)),
        (pyhist.psycopg2.Connection, nullcontext()),
        (pyhist.psycopg2.Connection, pyhist.context(user=1)),
    ):
        with (
            counting_proxy(server.port) as proxy,
            closing(
                psycopg2.connect(probe.dsn, host="127.0.0.1", port=proxy.port, connection_factory=factory)
            ) as connection,
        ):
            connection.autocommit = autocommit
            with around:
                proxy.count()
                way(connection)
                connection.rollback()
                counts.append(proxy.count())
        probe.observer.execute("TRUNCATE item")
    plain, without_context, carried = counts
    assert plain == without_context == carried


def test_what_follows_a_context_in_a_transaction_costs_no_round_trip(server: Any, probe: Probe) -> None:
    with (
        counting_proxy(server.port) as proxy,
        closing(
            psycopg2.connect(
                probe.dsn,
                host="127.0.0.1",
                port=proxy.port,
                connection_factory=pyhist.psycopg2.Connection,
            )
        ) as connection,
    ):
        with pyhist.context(user=1):
            connection.cursor().execute("INSERT INTO item VALUES (1)")
        proxy.count()
        connection.cursor().execute("INSERT INTO item VALUES (2)")
        assert proxy.count() == 1
        connection.commit()
    assert probe.seen() == [(1, {"user": 1}), (2, None)]
