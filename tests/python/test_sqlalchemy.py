"""SQLAlchemy engines that carry the context, with each driver: what SQLAlchemy sends has it."""

from __future__ import annotations

import asyncio
import io
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, nullcontext
from datetime import date
from decimal import Decimal
from typing import Any
from uuid import UUID

import psycopg
import psycopg2
import pytest
import sqlalchemy as sa
from both_ways import WITHOUT_PREPARED_STATEMENTS
from decorated import SEEN_OF_COROUTINES, run_decorated_coroutines
from probe import Probe
from proxy import counting_proxy
from psycopg.conninfo import conninfo_to_dict
from sqlalchemy import orm, pool
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, create_async_engine
from sqlalchemy.util import await_only

import pyhist

DRIVERS = ["psycopg", "psycopg2", "psycopg_async", "asyncpg"]
ITEM = sa.table("item", sa.column("id", sa.Integer), sa.column("name", sa.String))


class Base(orm.DeclarativeBase):
    pass


class Item(Base):
    __tablename__ = "item"

    id: orm.Mapped[int] = orm.mapped_column(primary_key=True)
    name: orm.Mapped[str | None]


class Application:
    """An engine, and the blocks of code that use it."""

    def __init__(self, engine: Any) -> None:
        self.engine = engine
        self._loop = asyncio.new_event_loop()

    def use(self, work: Callable[[sa.Connection], Any], **options: Any) -> Any:
        """Gives a connection to the work, in a transaction that is committed unless it says AUTOCOMMIT."""
        if isinstance(self.engine, AsyncEngine):

            async def used() -> Any:
                async with self.engine.connect() as connection:
                    await connection.execution_options(**options)
                    result = await connection.run_sync(work)
                    await connection.commit()
                    return result

            return self._loop.run_until_complete(used())
        with self.engine.connect() as connection:
            result = work(connection.execution_options(**options))
            connection.commit()
            return result

    def dispose(self) -> None:
        if isinstance(self.engine, AsyncEngine):
            self._loop.run_until_complete(self.engine.dispose())
        else:
            self.engine.dispose()

    def close(self) -> None:
        self.dispose()
        self._loop.close()


def new_engine(
    driver: str, probe: Probe, host: str | None = None, port: int | None = None, **kwargs: Any
) -> Any:
    given = conninfo_to_dict(probe.dsn)
    url = sa.URL.create(
        f"postgresql+{driver}",
        given["user"],
        database=given["dbname"],
        query={"host": host or given["host"], "port": str(port or given["port"])},
    )
    is_async = driver in ("psycopg_async", "asyncpg")
    if probe.through_pgbouncer:
        kwargs["connect_args"] = WITHOUT_PREPARED_STATEMENTS[driver]
    return (create_async_engine if is_async else sa.create_engine)(url, **kwargs)


@pytest.fixture(params=DRIVERS)
def application(request: pytest.FixtureRequest, probe: Probe) -> Iterator[Callable[..., Application]]:
    """Call `application(carrying=True, **kwargs)` for one with an engine on the probe."""
    with ExitStack() as stack:

        def application(carrying: bool = True, **kwargs: Any) -> Application:
            engine = new_engine(request.param, probe, **kwargs)
            made = Application(pyhist.instrument(engine) if carrying else engine)
            stack.callback(made.close)
            return made

        yield application


@pytest.fixture(params=["autocommit", "transactions"])
def use(request: pytest.FixtureRequest, application: Callable[..., Application]) -> Callable[..., Any]:
    """Call `use(work)` to give a connection to the work."""
    made = application()
    options = {"isolation_level": "AUTOCOMMIT"} if request.param == "autocommit" else {}
    return lambda work: made.use(work, **options)


def test_a_statement_has_the_context_it_is_sent_in(use: Any, probe: Probe) -> None:
    def work(connection: sa.Connection) -> None:
        connection.execute(sa.insert(ITEM).values(id=1))
        with pyhist.context(user=1):
            connection.execute(sa.text("INSERT INTO item VALUES (:id, 'a:b')"), {"id": 2})
            with pyhist.context(step='it\'s \\ "ü" %s :x'):
                connection.execute(sa.text("INSERT INTO item VALUES (3, '100%')"))
            assert connection.scalar(sa.insert(ITEM).values(id=4).returning(ITEM.c.id)) == 4
            connection.execute(sa.update(ITEM).where(ITEM.c.id == 4).values(name="x"))
        connection.execute(sa.select(sa.func.add(5)))

    use(work)
    assert probe.seen() == [
        (1, None),
        (2, {"user": 1}),
        (3, {"user": 1, "step": 'it\'s \\ "ü" %s :x'}),
        (4, {"user": 1}),
        (4, {"user": 1}),
        (5, None),
    ]


def test_many_rows_at_once_have_the_context(use: Any, probe: Probe) -> None:
    def work(connection: sa.Connection) -> None:
        with pyhist.context(user=1):
            connection.execute(sa.insert(ITEM), [{"id": number} for number in range(20)])
            rows = [{"id": number} for number in range(20, 30)]
            assert len(connection.scalars(sa.insert(ITEM).returning(ITEM.c.id), rows).all()) == 10
            connection.execute(
                sa.update(ITEM).where(ITEM.c.id == sa.bindparam("key")).values(name=sa.bindparam("n")),
                [{"key": 1, "n": "a"}, {"key": 2, "n": "b"}],
            )

    use(work)
    assert probe.seen() == [(number, {"user": 1}) for number in (*range(30), 1, 2)]


def test_a_server_side_cursor_has_the_context(application: Any, probe: Probe) -> None:
    def work(connection: sa.Connection) -> None:
        query = sa.text("SELECT add(n) FROM generate_series(1, 5) AS n")
        with pyhist.context(user=1):
            rows = connection.execution_options(stream_results=True, max_row_buffer=2).execute(query)
            assert [number for (number,) in rows] == [1, 2, 3, 4, 5]

    application().use(work)
    assert probe.seen() == [(number, {"user": 1}) for number in range(1, 6)]


def test_several_statements_in_one_string_have_the_context(use: Any, probe: Probe) -> None:
    def work(connection: sa.Connection) -> None:
        with pyhist.context(user=1):
            if connection.dialect.driver == "asyncpg":  # which prepares what SQLAlchemy sends
                await_only(connection.connection.driver_connection.execute("SELECT add(1); SELECT add(2)"))
            else:
                connection.exec_driver_sql("SELECT add(1); SELECT add(2)")

    use(work)
    assert probe.seen() == [(1, {"user": 1}), (2, {"user": 1})]


def copy(connection: sa.Connection, *ids: int) -> None:
    """Fills the table as the driver does."""
    driver = connection.connection.driver_connection

    async def copy_async() -> None:
        async with driver.cursor().copy("COPY item (id) FROM STDIN") as rows:
            for number in ids:
                await rows.write_row([number])

    match (connection.dialect.driver, connection.dialect.is_async):
        case ("psycopg", False):
            with driver.cursor().copy("COPY item (id) FROM STDIN") as rows:
                for number in ids:
                    rows.write_row([number])
        case ("psycopg2", _):
            driver.cursor().copy_from(io.StringIO("".join(f"{n}\n" for n in ids)), "item", columns=["id"])
        case ("psycopg", True):
            await_only(copy_async())
        case ("asyncpg", _):
            records = [(number,) for number in ids]
            await_only(driver.copy_records_to_table("item", records=records, columns=["id"]))


def test_copy_has_the_context(use: Any, probe: Probe) -> None:
    def work(connection: sa.Connection) -> None:
        connection.execute(sa.select(sa.func.add(1)))
        with pyhist.context(user=1):
            copy(connection, 2, 3)
        copy(connection, 4)

    use(work)
    assert probe.seen() == [(1, None), (2, {"user": 1}), (3, {"user": 1}), (4, None)]


def test_what_is_decorated_has_the_context(use: Any, probe: Probe) -> None:
    def work(connection: sa.Connection) -> None:
        def add(number: int) -> None:
            pyhist.context(number=number)
            connection.execute(sa.select(sa.func.add(number)))

        @pyhist.context(job="generator")
        def generator() -> Iterator[None]:
            add(2)
            yield
            add(4)

        pyhist.context(job="function")(add)(1)
        for _ in generator():
            add(3)

    use(work)
    assert probe.seen() == [
        (1, {"job": "function", "number": 1}),
        (2, {"job": "generator", "number": 2}),
        (3, None),
        (4, {"job": "generator", "number": 4}),
    ]


@pytest.mark.parametrize("driver", ["psycopg_async", "asyncpg"])
def test_decorated_coroutines_have_the_context(probe: Probe, driver: str) -> None:
    async def work() -> None:
        engine = pyhist.instrument(new_engine(driver, probe))

        async def add(number: int) -> None:
            async with engine.begin() as connection:
                await connection.execute(sa.select(sa.func.add(number)))

        await run_decorated_coroutines(add)
        await engine.dispose()

    asyncio.run(work())
    assert probe.seen() == SEEN_OF_COROUTINES


def test_autocommit_stays_autocommit(application: Any, probe: Probe) -> None:
    made = application()

    def work(connection: sa.Connection) -> None:
        with pyhist.context(user=1):
            connection.execute(sa.select(sa.func.add(1)))
            assert probe.seen() == [(1, {"user": 1})]
            connection.exec_driver_sql("VACUUM item")
            connection.exec_driver_sql("CREATE INDEX CONCURRENTLY ON item (name)")

    made.use(work, isolation_level="AUTOCOMMIT")
    pyhist.instrument(made.engine)
    made.engine = made.engine.execution_options(isolation_level="AUTOCOMMIT")
    made.use(lambda connection: connection.exec_driver_sql("VACUUM"))


def test_a_transaction_can_still_have_another_isolation_level(application: Any) -> None:
    def work(connection: sa.Connection) -> None:
        with pyhist.context(user=1):
            connection.execute(sa.select(sa.func.add(1)))
            level = connection.exec_driver_sql("SHOW transaction_isolation").scalar()
            assert level == "serializable"

    application().use(work, isolation_level="SERIALIZABLE")


def test_a_rolled_back_savepoint_takes_no_context_with_it(application: Any, probe: Probe) -> None:
    def add(connection: sa.Connection, number: int) -> None:
        connection.execute(sa.select(sa.func.add(number)))

    def work(connection: sa.Connection) -> None:
        add(connection, 1)
        with pyhist.context(user=1):
            savepoint = connection.begin_nested()
            add(connection, 2)
            savepoint.rollback()
            add(connection, 3)
            savepoint = connection.begin_nested()
            with pytest.raises(sa.exc.IntegrityError), pyhist.context(step=1):
                add(connection, 3)
            savepoint.rollback()
            add(connection, 4)
        add(connection, 5)

    application().use(work)
    assert probe.seen() == [(1, None), (3, {"user": 1}), (4, {"user": 1}), (5, None)]


def test_a_context_that_has_ended_is_over_for_the_rest_of_the_transaction(
    application: Any, probe: Probe
) -> None:
    def work(connection: sa.Connection) -> None:
        for user in (1, 2):
            with pyhist.context(user=user):
                connection.execute(sa.select(sa.func.add(user * 10)))
                pyhist.context(more=True)
                connection.execute(sa.select(sa.func.add(user * 10 + 1)))
            connection.execute(sa.select(sa.func.add(user * 10 + 2)))

    application().use(work)
    assert probe.seen() == [
        (10, {"user": 1}),
        (11, {"user": 1, "more": True}),
        (12, None),
        (20, {"user": 2}),
        (21, {"user": 2, "more": True}),
        (22, None),
    ]


def test_an_aborted_transaction_is_left_alone(application: Any, probe: Probe) -> None:
    def work(connection: sa.Connection) -> None:
        with pyhist.context(user=1):
            with pytest.raises(sa.exc.DBAPIError):
                connection.exec_driver_sql("SELECT 1 / 0")
            with pytest.raises(sa.exc.DBAPIError, match="aborted"):
                connection.execute(sa.select(sa.func.add(1)))
            connection.rollback()
            connection.execute(sa.select(sa.func.add(2)))

    application().use(work)
    assert probe.seen() == [(2, {"user": 1})]


def test_values_that_json_does_not_know_are_text(use: Any, probe: Probe) -> None:
    def work(connection: sa.Connection) -> None:
        with pyhist.context(day=date(2026, 1, 31), id=UUID(int=7), price=Decimal("1.10")):
            connection.execute(sa.select(sa.func.add(1)))

    use(work)
    assert probe.seen() == [(1, {"day": "2026-01-31", "id": str(UUID(int=7)), "price": "1.10"})]


def test_a_session_has_the_context_it_is_flushed_in(application: Any, probe: Probe) -> None:
    def work(connection: sa.Connection) -> None:
        with orm.Session(connection, join_transaction_mode="create_savepoint") as session:
            with pyhist.context(user=1):
                session.add_all(Item(id=number, name="a") for number in (1, 2))
                session.flush()
            with pyhist.context(user=2):
                session.get(Item, 1).name = "b"
                session.commit()
            session.add(Item(id=3))
            session.commit()

    application().use(work)
    assert probe.seen() == [(1, {"user": 1}), (2, {"user": 1}), (1, {"user": 2}), (3, None)]


def test_the_next_user_of_a_connection_finds_no_context(application: Any, probe: Probe) -> None:
    made = application(pool_size=1, max_overflow=0)

    def fail(connection: sa.Connection) -> None:
        connection.execute(sa.select(sa.func.add(2)))
        raise ZeroDivisionError

    def find(connection: sa.Connection) -> Any:
        connection.execute(sa.select(sa.func.add(3)))
        return connection.exec_driver_sql("SELECT current_setting('pghistory.context_id')").scalar()

    with pyhist.context(user=1):
        made.use(lambda connection: connection.execute(sa.select(sa.func.add(1))))
        with pytest.raises(ZeroDivisionError):
            made.use(fail)
    assert made.use(find) == ""
    assert probe.seen() == [(1, {"user": 1}), (3, None)]


def test_connections_that_were_open_before_carry_it_too(application: Any, probe: Probe) -> None:
    made = application(carrying=False)
    made.use(lambda connection: connection.exec_driver_sql("SELECT 1"))
    assert pyhist.instrument(made.engine) is made.engine
    with pyhist.context(user=1):
        made.use(lambda connection: connection.execute(sa.select(sa.func.add(1))))
    assert probe.seen() == [(1, {"user": 1})]


def test_an_engine_without_a_pool_carries_it(application: Any, probe: Probe) -> None:
    made = application(poolclass=pool.NullPool)
    with pyhist.context(user=1):
        made.use(lambda connection: connection.execute(sa.select(sa.func.add(1))))
    assert probe.seen() == [(1, {"user": 1})]


def test_an_engine_that_is_disposed_of_carries_it_again(application: Any, probe: Probe) -> None:
    made = application()
    made.use(lambda connection: connection.exec_driver_sql("SELECT 1"))
    made.dispose()
    with pyhist.context(user=1):
        made.use(lambda connection: connection.execute(sa.select(sa.func.add(1))))
    assert probe.seen() == [(1, {"user": 1})]


def test_connections_of_the_programs_own_making_carry_it_or_are_refused(probe: Probe) -> None:
    def add(engine: sa.Engine, number: int) -> None:
        with engine.begin() as connection, pyhist.context(user=1):
            connection.execute(sa.select(sa.func.add(number)))
        engine.dispose()

    add(pyhist.instrument(new_engine("psycopg", probe, creator=lambda: psycopg.connect(probe.dsn))), 1)
    from pyhist.psycopg2 import Connection

    carrying = new_engine(
        "psycopg2", probe, creator=lambda: psycopg2.connect(probe.dsn, connection_factory=Connection)
    )
    add(pyhist.instrument(carrying), 2)
    plain = new_engine("psycopg2", probe, creator=lambda: psycopg2.connect(probe.dsn))
    with pytest.raises(pyhist.HistoryError, match=r"psycopg2.*cannot carry a context"):
        add(pyhist.instrument(plain), 3)
    assert probe.seen() == [(1, {"user": 1}), (2, {"user": 1})]


def test_an_engine_of_another_database_is_refused() -> None:
    with pytest.raises(TypeError, match="takes an engine of psycopg, psycopg2 or asyncpg, not of pysqlite"):
        pyhist.instrument(sa.create_engine("sqlite://"))


@pytest.mark.parametrize("driver", ["psycopg", "psycopg2"])
def test_fifty_users_of_a_pool_of_five_keep_their_contexts(probe: Probe, driver: str) -> None:
    engine = pyhist.instrument(new_engine(driver, probe, pool_size=5, max_overflow=0))

    def write(number: int) -> None:
        with orm.Session(engine) as session:
            session.add(Item(id=number))
            session.commit()

    def work(user: int) -> None:
        with pyhist.context(user=user):
            for number in range(5):
                write(user * 100 + number)
        write(user * 100 + 99)

    with ThreadPoolExecutor(50) as threads:
        list(threads.map(work, range(50)))
    engine.dispose()
    seen = probe.seen()
    assert len(seen) == 300
    assert all(got == (None if item % 100 == 99 else {"user": item // 100}) for item, got in seen)


@pytest.mark.parametrize("level", ["READ COMMITTED", "AUTOCOMMIT"])
@pytest.mark.parametrize("driver", ["psycopg_async", "asyncpg"])
def test_fifty_tasks_on_a_pool_of_five_keep_their_contexts(probe: Probe, driver: str, level: str) -> None:
    async def share() -> None:
        engine = pyhist.instrument(
            new_engine(driver, probe, pool_size=5, max_overflow=0, isolation_level=level)
        )

        async def write(number: int) -> None:
            async with AsyncSession(engine) as session:
                session.add(Item(id=number))
                await session.commit()

        async def work(user: int) -> None:
            async with pyhist.context(user=user):
                for number in range(5):
                    await write(user * 100 + number)
            await write(user * 100 + 99)

        await asyncio.gather(*map(work, range(50)))
        await engine.dispose()

    asyncio.run(share())
    seen = probe.seen()
    assert len(seen) == 300
    assert all(got == (None if item % 100 == 99 else {"user": item // 100}) for item, got in seen)


def use_core(connection: sa.Connection) -> None:
    connection.execute(sa.insert(ITEM).values(id=1))
    connection.execute(sa.insert(ITEM), [{"id": 2}, {"id": 3}])
    connection.execute(sa.select(sa.func.add(4)))
    savepoint = connection.begin_nested()
    connection.execute(sa.select(sa.func.add(5)))
    savepoint.rollback()
    connection.execute(sa.select(sa.func.add(6)))


def use_orm(connection: sa.Connection) -> None:
    with orm.Session(connection) as session:
        session.add(Item(id=1))
        session.flush()
        session.add_all([Item(id=2), Item(id=3)])
        with session.begin_nested() as savepoint:
            session.execute(sa.select(sa.func.add(4)))
            savepoint.rollback()
        session.get(Item, 1).name = "a"
        session.commit()


def insert_one(connection: sa.Connection) -> None:
    connection.execute(sa.insert(ITEM).values(id=1))


def add_one(connection: sa.Connection) -> None:
    with orm.Session(connection) as session:
        session.add(Item(id=1))
        session.commit()


@pytest.mark.parametrize(
    ("level", "way"),
    [
        ("READ COMMITTED", use_core),
        ("READ COMMITTED", use_orm),
        ("AUTOCOMMIT", insert_one),
        ("AUTOCOMMIT", add_one),
    ],
)
@pytest.mark.parametrize("driver", DRIVERS)
def test_a_context_costs_no_round_trip(
    server: Any, probe: Probe, driver: str, level: str, way: Callable[[sa.Connection], None]
) -> None:
    counts = []
    for carrying, around in (
        (False, pyhist.context(user=1)),
        (True, nullcontext()),
        (True, pyhist.context(user=1)),
    ):
        with counting_proxy(server.port) as proxy:
            engine = new_engine(driver, probe, "127.0.0.1", proxy.port, isolation_level=level)
            made = Application(pyhist.instrument(engine) if carrying else engine)
            tries = []
            for _ in range(8):
                probe.observer.execute("TRUNCATE item")
                with around:
                    proxy.count()
                    made.use(way)
                    tries.append(proxy.count())
            counts.append(min(tries))  # asyncpg writes batches in pieces, which may be answered in between
            made.close()
    plain, without_context, carried = counts
    assert plain == without_context
    # A statement of asyncpg's without a transaction gets one.
    assert carried == plain + 2 * (level == "AUTOCOMMIT" and driver == "asyncpg")


def test_importing_pyhist_imports_no_framework() -> None:
    ask = (
        "import pyhist, sys;"
        "print(sorted({'sqlalchemy', 'alembic', 'asyncpg', 'psycopg2', 'psycopg_pool'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", ask], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
