"""asyncpg connections that carry the context: every way of writing has it, and little else changes."""

from __future__ import annotations

import asyncio
import io
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager, nullcontext
from datetime import date
from decimal import Decimal
from functools import wraps
from typing import Any
from uuid import UUID

import asyncpg
import pytest
from decorated import SEEN_OF_COROUTINES, run_decorated_coroutines
from probe import Probe
from proxy import counting_proxy

import pyhist.asyncpg


def asynchronous(test: Callable[..., Any]) -> Callable[..., None]:
    """A test in an event loop of its own."""

    @wraps(test)
    def run(*args: Any, **kwargs: Any) -> None:
        asyncio.run(test(*args, **kwargs))

    return run


def arguments_of(probe: Probe) -> dict[str, Any]:
    """What asyncpg needs to connect."""
    arguments: dict[str, Any] = dict(part.split("=", 1) for part in probe.dsn.split())
    arguments["database"] = arguments.pop("dbname")
    if probe.through_pgbouncer:
        arguments["statement_cache_size"] = 0
    return arguments


@asynccontextmanager
async def connected(probe: Probe, carrying: bool = True, **kwargs: Any) -> AsyncIterator[Any]:
    kind = pyhist.asyncpg.Connection if carrying else asyncpg.Connection
    connection = await asyncpg.connect(connection_class=kind, **arguments_of(probe) | kwargs)
    try:
        yield connection
    finally:
        await connection.close()


def pool_of(probe: Probe, size: int, **kwargs: Any) -> Any:
    kwargs = {"connection_class": pyhist.asyncpg.Connection, **arguments_of(probe)} | kwargs
    return asyncpg.create_pool(min_size=size, max_size=size, **kwargs)


@asynccontextmanager
async def mode(connection: Any, in_transaction: bool) -> AsyncIterator[None]:
    """A transaction, or none."""
    async with AsyncExitStack() as stack:
        if in_transaction:
            await stack.enter_async_context(connection.transaction())
        yield


in_both_modes = pytest.mark.parametrize("in_transaction", [False, True], ids=["bare", "transaction"])


@in_both_modes
@asynchronous
async def test_a_statement_has_the_context_it_is_sent_in(probe: Probe, in_transaction: bool) -> None:
    async with connected(probe) as connection, mode(connection, in_transaction):
        await connection.execute("INSERT INTO item VALUES (1)")
        async with pyhist.context(user=1):
            await connection.execute("INSERT INTO item VALUES ($1, $2)", 2, "a;b")
            with pyhist.context(step='it\'s \\ "ü" $1'):
                assert await connection.fetchval("INSERT INTO item VALUES ($1) RETURNING id", 3) == 3
                assert await connection.fetchrow("SELECT add(4)") == (4,)
            assert await connection.fetch("SELECT add($1)", 5) == [(5,)]
            assert await connection.execute("INSERT INTO item VALUES (6)") == "INSERT 0 1"
        await connection.fetch("SELECT add(7)")
    step = {"user": 1, "step": 'it\'s \\ "ü" $1'}
    assert probe.seen() == [
        (1, None),
        (2, {"user": 1}),
        (3, step),
        (4, step),
        (5, {"user": 1}),
        (6, {"user": 1}),
        (7, None),
    ]


@asynchronous
async def test_all_statements_of_a_context_have_its_id(probe: Probe) -> None:
    async with connected(probe) as connection:
        with pyhist.context() as active:
            for number in (1, 2):
                await connection.fetch("SELECT add($1)", number)
    assert probe.ids() == [str(active.id)] * 2


@in_both_modes
@asynchronous
async def test_a_call_adds_to_the_context_that_is_active_and_to_nothing_else(
    probe: Probe, in_transaction: bool
) -> None:
    async def write(number: int) -> None:
        pyhist.context(number=number)
        await connection.fetch("SELECT add($1)", number)

    async with connected(probe) as connection, mode(connection, in_transaction):
        await write(1)
        with pyhist.context(user=1):
            await write(2)
        await write(3)
    assert probe.seen() == [(1, None), (2, {"user": 1, "number": 2}), (3, None)]


@asynchronous
async def test_values_that_json_does_not_know_are_text(probe: Probe) -> None:
    async with connected(probe) as connection:
        with pyhist.context(day=date(2026, 1, 31), id=UUID(int=7), price=Decimal("1.10")):
            await connection.fetch("SELECT add(1)")
    assert probe.seen() == [(1, {"day": "2026-01-31", "id": str(UUID(int=7)), "price": "1.10"})]


@in_both_modes
@pytest.mark.parametrize("method", ["execute", "fetch"])
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
@asynchronous
async def test_whatever_writes_has_the_context(
    probe: Probe, in_transaction: bool, method: str, write: str
) -> None:
    async with connected(probe) as connection, mode(connection, in_transaction):
        with pyhist.context(user=1):
            await getattr(connection, method)(write)
    assert probe.seen() == [(1, {"user": 1})]


@in_both_modes
@asynchronous
async def test_executemany_has_the_context(probe: Probe, in_transaction: bool) -> None:
    async with connected(probe) as connection, mode(connection, in_transaction):
        with pyhist.context(user=1):
            await connection.executemany("INSERT INTO item VALUES ($1)", ((n,) for n in range(50)))
            await connection.fetchmany("SELECT add($1)", [(50,), (51,)])
        await connection.executemany("INSERT INTO item VALUES ($1)", [(52,)])
    assert probe.seen() == [*((number, {"user": 1}) for number in range(52)), (52, None)]


@in_both_modes
@asynchronous
async def test_copy_has_the_context(probe: Probe, in_transaction: bool) -> None:
    output = io.BytesIO()
    async with connected(probe) as connection, mode(connection, in_transaction):
        with pyhist.context(user=1):
            records = [(1, "a"), (2, "b")]
            assert await connection.copy_records_to_table("item", records=iter(records)) == "COPY 2"
            await connection.copy_to_table("item", source=io.BytesIO(b"3\tc\n"))
            await connection.copy_from_query("SELECT add($1)", 4, output=output)
        await connection.copy_records_to_table("item", records=[(5, "a")])
    assert output.getvalue() == b"4\n"
    assert probe.seen() == [*((number, {"user": 1}) for number in (1, 2, 3, 4)), (5, None)]


@asynchronous
async def test_a_copy_that_fails_leaves_a_usable_connection(probe: Probe) -> None:
    async with connected(probe) as connection:
        with pyhist.context(user=1):
            with pytest.raises(asyncpg.UniqueViolationError):
                await connection.copy_records_to_table("item", records=[(1, "a"), (1, "b")])
            assert not connection.is_in_transaction()
            await connection.execute("INSERT INTO item VALUES (1)")
    assert probe.seen() == [(1, {"user": 1})]


@in_both_modes
@asynchronous
async def test_a_prepared_statement_has_the_context_it_is_run_in(probe: Probe, in_transaction: bool) -> None:
    async with connected(probe) as connection, mode(connection, in_transaction):
        with pyhist.context(user=0):
            add = await connection.prepare("SELECT add($1)")
        with pyhist.context(user=1):
            assert await add.fetch(1) == [(1,)]
            assert await add.fetchval(2) == 2
        assert await add.fetchrow(3) == (3,)
        with pyhist.context(user=2):
            await add.executemany([(4,), (5,)])
            await add.fetchmany([(6,)])
            await add.explain(7, analyze=True)
    users = {1: {"user": 1}, 2: {"user": 1}, 4: {"user": 2}, 5: {"user": 2}, 6: {"user": 2}}
    assert probe.seen() == [(number, users.get(number)) for number in range(1, 7)]


@asynchronous
async def test_a_cursor_has_the_context_it_was_opened_in(probe: Probe) -> None:
    query = "SELECT add(n) FROM generate_series($1::integer, $2::integer) AS n"
    async with connected(probe) as connection, connection.transaction():
        with pyhist.context(user=1):
            cursor = await connection.cursor(query, 1, 3)
        assert await cursor.fetchrow() == (1,)
        assert await cursor.fetch(9) == [(2,), (3,)]
        with pyhist.context(user=2):
            assert [row[0] async for row in connection.cursor(query, 4, 6, prefetch=1)] == [4, 5, 6]
        async for _ in connection.cursor(query, 7, 7):
            pass
        prepared = await connection.prepare(query)
        with pyhist.context(user=3):
            assert [row[0] async for row in prepared.cursor(8, 8)] == [8]
            assert await (await prepared.cursor(9, 9)).fetch(1) == [(9,)]
    users = {1: 1, 2: 1, 3: 1, 4: 2, 5: 2, 6: 2, 8: 3, 9: 3}
    expected = [(number, users.get(number) and {"user": users[number]}) for number in range(1, 10)]
    assert probe.seen() == expected


@asynchronous
async def test_a_cursor_without_a_transaction_is_refused_as_by_asyncpg(probe: Probe) -> None:
    async with connected(probe) as connection:
        with pyhist.context(user=1):
            with pytest.raises(asyncpg.NoActiveSQLTransactionError):
                await connection.cursor("SELECT 1")


@in_both_modes
@asynchronous
async def test_a_script_has_the_context(probe: Probe, in_transaction: bool) -> None:
    async with connected(probe) as connection, mode(connection, in_transaction):
        with pyhist.context(user=1):
            status = await connection.execute(
                "INSERT INTO item VALUES (1), (2); -- ;\n SELECT 'a;b'; SET work_mem = '5MB';;"
                "UPDATE item SET name = 'x' WHERE id = 1"
            )
        await connection.execute("SELECT add(3); SELECT add(4)")
    assert status == "UPDATE 1"
    assert probe.seen() == [(1, {"user": 1}), (2, {"user": 1}), (1, {"user": 1}), (3, None), (4, None)]


@asynchronous
async def test_a_script_with_transactions_of_its_own_has_the_context_in_each(probe: Probe) -> None:
    async with connected(probe) as connection:
        with pyhist.context(user=1):
            await connection.execute(
                "BEGIN ISOLATION LEVEL SERIALIZABLE; SELECT add(1); SAVEPOINT s; SELECT add(2); ROLLBACK TO s;"
                " SELECT add(3); COMMIT; SELECT add(4); BEGIN; SELECT add(5); SAVEPOINT s; ROLLBACK TO s"
            )
            await connection.fetch("SELECT add($1)", 6)
            await connection.execute("COMMIT AND CHAIN")
            await connection.fetch("SELECT add($1)", 7)
            await connection.execute("COMMIT")
    assert probe.seen() == [(number, {"user": 1}) for number in (1, 3, 4, 5, 6, 7)]


@pytest.mark.parametrize("method", ["execute", "fetch"])
@asynchronous
async def test_a_procedure_that_commits_still_can(probe: Probe, method: str) -> None:
    async with connected(probe) as connection:
        await connection.execute(
            "CREATE PROCEDURE work() LANGUAGE plpgsql AS $$BEGIN PERFORM add(1); COMMIT; PERFORM add(2); END$$"
        )
        with pyhist.context(user=1):
            await getattr(connection, method)("CALL work()")
    assert probe.seen() == [(1, None), (2, None)]


@pytest.mark.parametrize("method", ["execute", "fetch"])
@pytest.mark.parametrize(
    "statement", ["VACUUM item", "CREATE INDEX CONCURRENTLY ON item (name)", "DISCARD ALL"]
)
@asynchronous
async def test_what_must_not_run_in_a_transaction_still_runs(
    probe: Probe, statement: str, method: str
) -> None:
    async with connected(probe, statement_cache_size=0) as connection:
        with pyhist.context(user=1):
            await getattr(connection, method)(statement)
            await getattr(connection, method)(f"{statement}; -- alone")


@asynchronous
async def test_a_transaction_can_still_be_set_up(probe: Probe) -> None:
    async with connected(probe) as connection:
        with pyhist.context(user=1):
            async with connection.transaction():
                await connection.execute("SET TRANSACTION ISOLATION LEVEL SERIALIZABLE")
                assert await connection.fetchval("SHOW transaction_isolation") == "serializable"
            async with connection.transaction(isolation="repeatable_read", readonly=True):
                assert await connection.fetchval("SHOW transaction_isolation") == "repeatable read"
                with pytest.raises(asyncpg.ReadOnlySQLTransactionError):
                    await connection.fetch("SELECT add(1)")
            assert await connection.execute("start  transaction read write") == "START TRANSACTION"
            await connection.fetch("SELECT add(2)")
            assert await connection.execute("SAVEPOINT s") == "SAVEPOINT"
            assert await connection.execute("ROLLBACK TO SAVEPOINT s -- back") == "ROLLBACK"
            assert await connection.execute("COMMIT") == "COMMIT"
            assert await connection.execute("BEGIN -- again") == "BEGIN"
            assert await connection.execute("ROLLBACK") == "ROLLBACK"
    assert probe.seen() == [(2, {"user": 1})]


@asynchronous
async def test_a_rolled_back_savepoint_takes_no_context_with_it(probe: Probe) -> None:
    async with connected(probe) as connection, connection.transaction():
        await connection.fetch("SELECT add(1)")
        savepoint = connection.transaction()
        await savepoint.start()
        with pyhist.context(user=1):
            await connection.fetch("SELECT add(2)")
            await savepoint.rollback()
            await connection.fetch("SELECT add(3)")
            nested = connection.transaction()
            await nested.start()
            with pyhist.context(step=1), pytest.raises(asyncpg.UniqueViolationError):
                await connection.fetch("SELECT add(3)")
            await nested.rollback()
            await connection.fetch("SELECT add(4)")
            await connection.execute("SAVEPOINT other")
        await connection.fetch("SELECT add(5)")
        await connection.fetch("ROLLBACK TO other")
        await connection.fetch("SELECT add(6)")
    assert probe.seen() == [(1, None), (3, {"user": 1}), (4, {"user": 1}), (6, None)]


@asynchronous
async def test_a_context_that_has_ended_is_over_for_the_rest_of_the_transaction(probe: Probe) -> None:
    async with connected(probe) as connection:
        with pyhist.context(user=1):
            transaction = connection.transaction()
            await transaction.start()
        await connection.fetch("SELECT add(1)")
        with pyhist.context(user=2):
            await connection.execute("SELECT add(2)")
        await connection.copy_records_to_table("item", records=[(3, "a")])
        with pyhist.context(user=3):
            await connection.executemany("SELECT add($1)", [(4,)])
        await connection.execute("SELECT add(5)")
        await transaction.commit()
        await connection.fetch("SELECT add(6)")
    users = {2: {"user": 2}, 4: {"user": 3}}
    assert probe.seen() == [(number, users.get(number)) for number in range(1, 7)]


@asynchronous
async def test_a_context_set_by_other_means_stays(probe: Probe) -> None:
    async with connected(probe) as connection, connection.transaction():
        with pyhist.context(user=2):
            await connection.fetch("SELECT add(2)")
        await connection.fetch(
            "SELECT set_config('pghistory.context_' || n, '1', true) FROM unnest('{id,metadata}'::text[]) n"
        )
        await connection.fetch("SELECT add(3)")
        await connection.execute("SELECT add(4)")
    assert probe.seen() == [(2, {"user": 2}), (3, 1), (4, 1)]


@asynchronous
async def test_no_setting_is_left_behind(probe: Probe) -> None:
    left = "SELECT current_setting('pghistory.context_id'), current_setting('pghistory.context_metadata')"
    async with connected(probe) as connection:
        with pyhist.context(user=1):
            await connection.fetch("SELECT add(1)")
            await connection.execute("SELECT add(2)")
            async with connection.transaction():
                await connection.execute("SELECT add(3)")
        assert await connection.fetchrow(left) == ("", "")


@asynchronous
async def test_an_aborted_transaction_is_left_alone(probe: Probe) -> None:
    async with connected(probe) as connection:
        with pyhist.context(user=1):
            transaction = connection.transaction()
            await transaction.start()
            with pytest.raises(asyncpg.DivisionByZeroError):
                await connection.fetch("SELECT 1 / 0")
            for send in (connection.execute, connection.fetch):
                with pytest.raises(asyncpg.InFailedSQLTransactionError):
                    await send("SELECT 1")
            with pyhist.context(step=1), pytest.raises(asyncpg.InFailedSQLTransactionError):
                await connection.fetch("SELECT $1::text", "1")
            await transaction.rollback()
            await connection.execute("INSERT INTO item VALUES (1)")
    assert probe.seen() == [(1, {"user": 1})]


@asynchronous
async def test_an_error_inside_a_context_leaves_nothing_behind(probe: Probe) -> None:
    async with connected(probe) as connection:

        @pyhist.context(user=1)
        async def fail() -> None:
            await connection.fetch("SELECT add(1)")
            for send in (connection.execute, connection.fetch):
                with pytest.raises(asyncpg.UniqueViolationError):
                    await send("SELECT add(1)")
                assert not connection.is_in_transaction()
            await connection.fetch("SELECT add(2)")
            raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            await fail()
        await connection.fetch("SELECT add(3)")
    assert probe.seen() == [(1, {"user": 1}), (2, {"user": 1}), (3, None)]


@in_both_modes
@asynchronous
async def test_decorated_coroutines_have_the_context(probe: Probe, in_transaction: bool) -> None:
    async with connected(probe) as connection, mode(connection, in_transaction):

        async def add(number: int) -> None:
            await connection.fetch("SELECT add($1)", number)

        await run_decorated_coroutines(add)
    assert probe.seen() == SEEN_OF_COROUTINES


STATEMENTS: list[tuple[Any, ...]] = [
    ("execute", "INSERT INTO item VALUES (1, 'a'), (2, 'b')"),
    ("fetch", "INSERT INTO item VALUES ($1, $2) RETURNING *", 3, "c"),
    ("execute", "UPDATE item SET name = upper(name)"),
    ("fetch", "SELECT id, name, 1.5::numeric FROM item ORDER BY id"),
    ("fetchval", "SELECT"),
    ("execute", "SELECT 1; UPDATE item SET name = NULL; SHOW server_version"),
    ("execute", ""),
    ("fetch", ""),
    ("execute", ";"),
    ("fetch", "SHOW server_version"),
    ("execute", "DO $$BEGIN RAISE NOTICE 'hello'; END$$"),
    ("executemany", "SELECT $1::integer", [(1,), (2,)]),
    ("executemany", "SELECT $1::integer", [("wrong",)]),
    ("execute", "INSERT INTO item VALUES (1, 'a')"),
    ("fetch", "INSERT INTO item VALUES ($1, 'a')", 1),
    ("execute", "SELECT 1 / 0"),
    ("execute", "SELECT 'ü', wrong"),
    ("fetch", "SELECT 'ü', wrong"),
    ("execute", "SELECT 'ü';\n\tSELECT wrong,\n 2"),
    ("execute", "SELECT 1; SELEC 'ü'"),
    ("fetch", "SELECT 1; SELECT 2"),
    ("execute", "SELECT $1::integer", "wrong"),
    ("fetch", "SELECT $1::integer"),
    ("execute", "INSERT INTO late VALUES (1), (1)"),
    ("fetch", "INSERT INTO late VALUES (1), ($1)", 1),
    ("execute", "ROLLBACK TO nowhere"),
    ("prepare", "SELECT wrong"),
]


async def observe(call: Callable[..., Awaitable[Any]], *arguments: Any) -> list[Any]:
    """What a program can see of a statement."""
    try:
        return [await call(*arguments)]
    except Exception as error:
        return [type(error), str(error), error.args, vars(error)]


@in_both_modes
@asynchronous
async def test_nothing_else_can_be_told_apart(probe: Probe, in_transaction: bool) -> None:
    probe.observer.execute("CREATE TABLE late (id integer UNIQUE DEFERRABLE INITIALLY DEFERRED)")
    seen = []
    for carrying in (False, True):
        probe.observer.execute("TRUNCATE item")
        notices: list[Any] = []
        observed: list[Any] = []
        async with connected(probe, carrying) as connection:
            connection.add_log_listener(lambda _, message, notices=notices: notices.append(message.message))
            with pyhist.context(user=1):
                for method, *arguments in STATEMENTS:
                    transaction = connection.transaction()
                    if in_transaction:
                        await transaction.start()
                    observed.append((arguments, await observe(getattr(connection, method), *arguments)))
                    observed.append(connection.is_in_transaction())
                    if in_transaction:
                        failed = isinstance(observed[-2][1][0], type)
                        observed.append(await observe(transaction.rollback if failed else transaction.commit))
            await connection.execute("SELECT 1")
        seen.append([*observed, notices])
    for expected, got in zip(*seen, strict=True):
        assert got == expected


@asynchronous
async def test_a_changed_table_is_noticed_as_by_asyncpg(probe: Probe) -> None:
    async with connected(probe) as connection:
        with pyhist.context(user=1):
            assert len((await connection.fetch("INSERT INTO item VALUES (1) RETURNING *"))[0]) == 2
            probe.observer.execute("ALTER TABLE item ADD more text")
            assert len((await connection.fetch("SELECT *, add(2) FROM item"))[0]) == 4
            probe.observer.execute("ALTER TABLE item ADD most text")
            assert len((await connection.fetch("SELECT *, add(3) FROM item WHERE id = 1"))[0]) == 5
            probe.observer.execute("ALTER TABLE item DROP most")
            assert len((await connection.fetch("SELECT *, add(4) FROM item WHERE id = 1"))[0]) == 4
            probe.observer.execute("ALTER TABLE item DROP more")
            assert len((await connection.fetch("SELECT *, add(4 + 1) FROM item WHERE id = 1"))[0]) == 3
    assert [got for _, got in probe.seen()] == [{"user": 1}] * 5


@asynchronous
async def test_tasks_that_share_a_connection_are_told_so_as_by_asyncpg(probe: Probe) -> None:
    async with connected(probe) as connection:

        async def work(user: int) -> None:
            with pyhist.context(user=user):
                await connection.fetch("SELECT add($1)", user)

        results = await asyncio.gather(*map(work, range(5)), return_exceptions=True)
        assert [type(result) for result in results] == [type(None), *[asyncpg.InterfaceError] * 4]
        assert str(results[1]) == "cannot perform operation: another operation is in progress"
        assert not connection.is_in_transaction()
    assert probe.seen() == [(0, {"user": 0})]


@asynchronous
async def test_a_cancelled_statement_leaves_no_transaction_behind(probe: Probe) -> None:
    probe.observer.execute("SELECT pg_advisory_lock(1)")
    async with connected(probe) as connection:
        with pyhist.context(user=1):
            with pytest.raises(asyncio.TimeoutError):
                await connection.fetch("SELECT add(1), pg_advisory_lock($1)", 1, timeout=0.1)
            assert not connection.is_in_transaction()
            await connection.fetch("SELECT add(2)")
    assert probe.seen() == [(2, {"user": 1})]


@asynchronous
async def test_an_ended_session_is_told_as_asyncpg_tells_it(probe: Probe) -> None:
    seen = []
    for carrying in (False, True):
        async with connected(probe, carrying) as connection:
            pid = connection.get_server_pid()
            with pyhist.context(user=1):
                statement = await connection.prepare("SELECT 1")
                await connection.fetch("SELECT $1::integer", 1)
                probe.observer.execute("SELECT pg_terminate_backend(%s, 10000)", [pid])
                for call, *arguments in (
                    (connection.fetch, "SELECT $1::integer", 1),
                    (connection.fetch, "SELECT 1"),
                    (connection.execute, "SELECT 1"),
                    (statement.fetch,),
                ):
                    with pytest.raises(Exception) as told:  # noqa: PT011
                        await call(*arguments)
                    seen.append((carrying, type(told.value), str(told.value)))
    assert [told[1:] for told in seen if told[0]] == [told[1:] for told in seen if not told[0]]


@pytest.mark.parametrize("in_transaction", [False, True], ids=["bare", "transaction"])
@asynchronous
async def test_fifty_users_of_a_pool_of_five_keep_their_contexts(probe: Probe, in_transaction: bool) -> None:
    async def write(pool: Any, number: int) -> None:
        async with pool.acquire() as connection, mode(connection, in_transaction):
            await connection.execute("INSERT INTO item VALUES ($1)", number)
            await connection.execute(f"INSERT INTO item VALUES ({number + 10})")

    async def work(pool: Any, user: int) -> None:
        async with pyhist.context(user=user):
            for number in range(5):
                await write(pool, user * 100 + number)
            await pool.execute("INSERT INTO item VALUES ($1)", user * 100 + 20)
        await write(pool, user * 100 + 89)

    async with pool_of(probe, 5) as pool:
        await asyncio.gather(*(work(pool, user) for user in range(50)))
    seen = probe.seen()
    assert len(seen) == 50 * 13
    assert all(got == (None if item % 100 > 50 else {"user": item // 100}) for item, got in seen)


@asynchronous
async def test_the_next_user_of_a_pooled_connection_finds_no_context(probe: Probe) -> None:
    async with pool_of(probe, 1) as pool:
        with pyhist.context(user=1):
            async with pool.acquire() as connection:
                await connection.execute("SELECT add(1)")
                await connection.execute("BEGIN")
                await connection.fetch("SELECT add(2)")
                asyncio.get_running_loop().set_exception_handler(lambda *_: None)  # it is told of the rest
        async with pool.acquire() as connection:
            await connection.fetch("SELECT add(3)")
        await pool.execute("SELECT add(4)")
    assert probe.seen() == [(1, {"user": 1}), (3, None), (4, None)]


async def count(server: Any, probe: Probe, way: Callable[[Any], Awaitable[Any]]) -> list[int]:
    """The round trips of something without pyhist, with pyhist, and in a context, when statements have been prepared.

    asyncpg writes a batch in pieces, which the server may answer in between: the fewest of several tries count.
    """
    fewest = []
    for carrying, around in (
        (False, pyhist.context(user=1)),
        (True, nullcontext()),
        (True, pyhist.context(user=1)),
    ):
        with counting_proxy(server.port) as proxy:
            async with connected(probe, carrying, host="127.0.0.1", port=proxy.port) as connection:
                counts = []
                for _ in range(30):
                    probe.observer.execute("TRUNCATE item")
                    with around:
                        proxy.count()
                        await way(connection)
                        counts.append(proxy.count())
                fewest.append(min(counts))
    return fewest


async def write_in_transaction(connection: Any) -> None:
    async with connection.transaction():
        await connection.execute("INSERT INTO item VALUES ($1)", 1)
        await connection.execute("SELECT add(2); SELECT add(3)")
        savepoint = connection.transaction()
        await savepoint.start()
        await connection.fetch("SELECT add($1)", 4)
        await savepoint.rollback()
        await connection.executemany("INSERT INTO item VALUES ($1)", [(5,), (6,)])
        await connection.copy_records_to_table("item", records=[(7, "a")])
        async for _ in connection.cursor("SELECT add($1)", 8):
            pass


@pytest.mark.parametrize(
    "way",
    [
        write_in_transaction,
        lambda connection: connection.execute("SELECT add(1)"),
        lambda connection: connection.execute("SELECT add(2); SELECT add(3)"),
        lambda connection: connection.execute("VACUUM item"),
        lambda connection: connection.fetch("SHOW work_mem"),
    ],
)
@asynchronous
async def test_a_context_costs_no_round_trip(server: Any, probe: Probe, way: Any) -> None:
    plain, without_context, carried = await count(server, probe, way)
    assert plain == without_context == carried


@pytest.mark.parametrize(
    "way",
    [
        lambda connection: connection.execute("INSERT INTO item VALUES ($1)", 1),
        lambda connection: connection.fetch("SELECT add(2)"),
        lambda connection: connection.executemany("INSERT INTO item VALUES ($1)", [(3,), (4,)]),
    ],
)
@asynchronous
async def test_a_statement_that_gets_a_transaction_of_its_own_costs_two_more(
    server: Any, probe: Probe, way: Any
) -> None:
    plain, without_context, carried = await count(server, probe, way)
    assert plain == without_context == carried - 2


@asynchronous
async def test_a_statement_without_a_transaction_is_one_round_trip_and_three_with_a_context(
    server: Any, probe: Probe
) -> None:
    insert = "INSERT INTO item VALUES ($1)"
    assert await count(server, probe, lambda connection: connection.execute(insert, 1)) == [1, 1, 3]


@asynchronous
async def test_a_context_that_changes_within_a_transaction_costs_one_more_each_time(
    server: Any, probe: Probe
) -> None:
    async def change_context(connection: Any) -> None:
        async with connection.transaction():
            for number in range(3):
                with pyhist.context(number=number):
                    for item in range(2):
                        await connection.execute("INSERT INTO item VALUES ($1)", number * 2 + item)

    plain, _, carried = await count(server, probe, change_context)
    assert carried == plain + 3


@asynchronous
async def test_a_context_costs_a_pool_as_much_as_a_connection(server: Any, probe: Probe) -> None:
    counts = []
    for kind in (asyncpg.Connection, pyhist.asyncpg.Connection):
        with counting_proxy(server.port) as proxy:
            async with pool_of(probe, 1, host="127.0.0.1", port=proxy.port, connection_class=kind) as pool:
                for _ in range(2):  # when statements have been prepared
                    probe.observer.execute("TRUNCATE item, seen")
                    with pyhist.context(user=1):
                        proxy.count()
                        async with pool.acquire() as connection, connection.transaction():
                            await connection.execute("INSERT INTO item VALUES ($1)", 1)
                        in_transaction = proxy.count()
                        await pool.execute("INSERT INTO item VALUES ($1)", 2)
                        counted = (in_transaction, proxy.count())
                counts.append(counted)
        carried = {"user": 1} if kind is pyhist.asyncpg.Connection else None
        assert probe.seen() == [(1, carried), (2, carried)]
    (plain_in_transaction, plain), (carried_in_transaction, carried_alone) = counts
    assert carried_in_transaction == plain_in_transaction
    assert carried_alone == plain + 2
