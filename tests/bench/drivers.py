"""What `pyhist.context` costs a statement, on each driver: round trips, which a proxy counts, and microseconds."""

from __future__ import annotations

import asyncio
import functools
import itertools
import statistics
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import (
    AbstractAsyncContextManager,
    AbstractContextManager,
    AsyncExitStack,
    ExitStack,
    asynccontextmanager,
    closing,
    contextmanager,
    nullcontext,
)
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any, TypeAlias

import asyncpg
import django
import psycopg
import psycopg2
import psycopg_pool
import sqlalchemy as sa
from django.conf import settings
from proxy import counting_proxy
from psycopg.conninfo import conninfo_to_dict
from sizes import SIZES
from sqlalchemy import orm
from sqlalchemy.ext.asyncio import create_async_engine

import pyhist
import pyhist.asyncpg
import pyhist.psycopg2
from pyhist.server import Server

ROUNDS, STATEMENTS = SIZES.driver_rounds, SIZES.driver_statements  # one after the other, for each round
COUNTED = 10  # statements whose round trips are counted, which are in one transaction
TRIES = 3  # a server may answer a pipeline in pieces: the fewest round trips count

SETUP = """
CREATE TABLE written (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, customer integer, amount numeric, note text);
"""
ROW = {"customer": 7, "amount": 12, "note": "a row"}
VALUES = tuple(ROW.values())
INSERT = "INSERT INTO written (customer, amount, note) VALUES (%s, %s, %s)"
NUMBERED_INSERT = "INSERT INTO written (customer, amount, note) VALUES ($1, $2, $3)"

Around: TypeAlias = Callable[[], AbstractContextManager[Any]]
# Writes so many rows, with something around each statement.
Write: TypeAlias = Callable[[int, Around], Any]
AsyncWrite: TypeAlias = Callable[[int, Around], Awaitable[Any]]

numbers = itertools.count(1)


@dataclass(frozen=True)
class Place:
    """A database, how its connections are to be made, and what its statements are to be in."""

    host: str
    port: int
    carrying: bool
    in_transaction: bool
    user: str = "postgres"
    database: str = "drivers"

    @property
    def libpq(self) -> dict[str, Any]:
        return {"host": self.host, "port": self.port, "user": self.user, "dbname": self.database}

    @property
    def asyncpg(self) -> dict[str, Any]:
        kind = pyhist.asyncpg.Connection if self.carrying else asyncpg.Connection
        where = {"host": self.host, "port": self.port, "user": self.user, "database": self.database}
        return {**where, "connection_class": kind}


@dataclass(frozen=True)
class DriverResult:
    """What a statement took with a driver: medians, in microseconds, and what they are more than plain.

    Attributes:
        driver: the way to send a statement.
        mode: "autocommit" or "transaction".
        variant: a name of VARIANTS.
        round_trips: of a statement; its part of what begins and ends a transaction included.
        wall: time that the client waited.
        wall_more: the median of the differences to plain in the same round.
        wall_more_quartiles: the first and the third quartile of these differences.
        cpu: processor time of the client.
        cpu_more: the median of the differences to plain in the same round.
    """

    driver: str
    mode: str
    variant: str
    round_trips: float
    wall: float
    wall_more: float
    wall_more_quartiles: tuple[float, float]
    cpu: float
    cpu_more: float


@contextmanager
def psycopg_connection(place: Place) -> Iterator[Write]:
    kind = pyhist.Connection if place.carrying else psycopg.Connection
    with closing(kind.connect(**place.libpq, autocommit=True)) as connection:

        def write(count: int, around: Around) -> None:
            with connection.transaction() if place.in_transaction else nullcontext():
                for _ in range(count):
                    with around():
                        connection.execute(INSERT, VALUES)

        yield write


@contextmanager
def psycopg_pipeline(place: Place) -> Iterator[Write]:
    kind = pyhist.Connection if place.carrying else psycopg.Connection
    with closing(kind.connect(**place.libpq, autocommit=True)) as connection:

        def write(count: int, around: Around) -> None:
            with connection.transaction() if place.in_transaction else nullcontext():
                with connection.pipeline():
                    for _ in range(count):
                        with around():
                            connection.execute(INSERT, VALUES)

        yield write


@contextmanager
def psycopg_connection_pool(place: Place) -> Iterator[Write]:
    options = {**place.libpq, "autocommit": not place.in_transaction}
    with psycopg_pool.ConnectionPool(kwargs=options, min_size=1, max_size=1, open=True) as pool:
        if place.carrying:
            pyhist.instrument(pool)

        def write(count: int, around: Around) -> None:
            if place.in_transaction:
                with pool.connection() as connection:
                    for _ in range(count):
                        with around():
                            connection.execute(INSERT, VALUES)
            else:
                for _ in range(count):
                    with around(), pool.connection() as connection:
                        connection.execute(INSERT, VALUES)

        yield write


@contextmanager
def psycopg2_connection(place: Place) -> Iterator[Write]:
    kind = pyhist.psycopg2.Connection if place.carrying else None
    with closing(psycopg2.connect(**place.libpq, connection_factory=kind)) as connection:
        connection.autocommit = not place.in_transaction

        def write(count: int, around: Around) -> None:
            with connection.cursor() as cursor:
                for _ in range(count):
                    with around():
                        cursor.execute(INSERT, VALUES)
            connection.commit()

        yield write


def awaited(
    opened: Callable[[Place], AbstractAsyncContextManager[AsyncWrite]],
) -> Callable[[Place], AbstractContextManager[Write]]:
    """The same for those who do not await."""

    @contextmanager
    def opened_and_awaited(place: Place) -> Iterator[Write]:
        with ExitStack() as stack:
            loop = stack.enter_context(closing(asyncio.new_event_loop()))
            async_stack = AsyncExitStack()
            stack.callback(lambda: loop.run_until_complete(async_stack.aclose()))
            write = loop.run_until_complete(async_stack.enter_async_context(opened(place)))
            yield lambda count, around: loop.run_until_complete(write(count, around))

    return opened_and_awaited


@asynccontextmanager
async def psycopg_async_connection(place: Place) -> Any:
    kind = pyhist.AsyncConnection if place.carrying else psycopg.AsyncConnection
    async with await kind.connect(**place.libpq, autocommit=True) as connection:

        async def write(count: int, around: Around) -> None:
            async with connection.transaction() if place.in_transaction else nullcontext():
                for _ in range(count):
                    with around():
                        await connection.execute(INSERT, VALUES)

        yield write


@asynccontextmanager
async def asyncpg_connection(place: Place) -> Any:
    connection = await asyncpg.connect(**place.asyncpg)

    async def write(count: int, around: Around) -> None:
        async with connection.transaction() if place.in_transaction else nullcontext():
            for _ in range(count):
                with around():
                    await connection.execute(NUMBERED_INSERT, *VALUES)

    yield write
    await connection.close()


@asynccontextmanager
async def asyncpg_pool(place: Place) -> Any:
    async with asyncpg.create_pool(**place.asyncpg, min_size=1, max_size=1) as pool:

        async def write(count: int, around: Around) -> None:
            if place.in_transaction:
                async with pool.acquire() as connection, connection.transaction():
                    for _ in range(count):
                        with around():
                            await connection.execute(NUMBERED_INSERT, *VALUES)
            else:
                for _ in range(count):
                    with around():
                        await pool.execute(NUMBERED_INSERT, *VALUES)

        yield write


class Base(orm.DeclarativeBase):
    pass


class Written(Base):
    """The table, for SQLAlchemy."""

    __tablename__ = "written"

    id: orm.Mapped[int] = orm.mapped_column(sa.BigInteger, primary_key=True)
    customer: orm.Mapped[int]
    amount: orm.Mapped[int] = orm.mapped_column(sa.Numeric)
    note: orm.Mapped[str]


def core(connection: sa.Connection, count: int, around: Around) -> None:
    statement = sa.insert(Written.__table__).inline()
    for _ in range(count):
        with around():
            connection.execute(statement, ROW)
    connection.commit()


def mapped(connection: sa.Connection, count: int, around: Around) -> None:
    with orm.Session(connection) as session:
        for _ in range(count):
            with around():
                session.add(Written(**ROW))
                session.flush()
        session.commit()


def engine_options(driver: str, place: Place) -> dict[str, Any]:
    query = {"host": place.host, "port": str(place.port)}
    return {
        "url": sa.URL.create(f"postgresql+{driver}", place.user, database=place.database, query=query),
        "isolation_level": "READ COMMITTED" if place.in_transaction else "AUTOCOMMIT",
    }


@contextmanager
def sqlalchemy_engine(driver: str, work: Any, place: Place) -> Iterator[Write]:
    engine = sa.create_engine(**engine_options(driver, place))
    if place.carrying:
        pyhist.instrument(engine)

    def write(count: int, around: Around) -> None:
        with engine.connect() as connection:
            work(connection, count, around)

    yield write
    engine.dispose()


@asynccontextmanager
async def sqlalchemy_async_engine(driver: str, work: Any, place: Place) -> Any:
    engine = create_async_engine(**engine_options(driver, place))
    if place.carrying:
        pyhist.instrument(engine)

    async def write(count: int, around: Around) -> None:
        async with engine.connect() as connection:
            await connection.run_sync(work, count, around)

    yield write
    await engine.dispose()


@functools.cache
def django_model() -> Any:
    """The table, for Django."""
    settings.configure(USE_TZ=True)
    django.setup()
    from django.db import models

    class Written(models.Model):
        id = models.BigAutoField(primary_key=True)
        customer = models.IntegerField()
        amount = models.DecimalField(max_digits=10, decimal_places=2)
        note = models.TextField()

        class Meta:
            app_label = "drivers"
            db_table = "written"

    return Written


@contextmanager
def django_connection(server_side_binding: bool, place: Place) -> Iterator[Write]:
    model = django_model()
    from django.db import connections, transaction
    from django.db.utils import ConnectionHandler

    from pyhist.django.carrying import carry

    alias = f"drivers_{next(numbers)}"
    database = {
        "ENGINE": "django.db.backends.postgresql",
        "HOST": place.host,
        "PORT": place.port,
        "USER": place.user,
        "NAME": place.database,
        "OPTIONS": {"server_side_binding": server_side_binding},
    }
    connection = connections[alias] = ConnectionHandler({"default": {}, alias: database})[alias]
    with closing(connection):
        connection.ensure_connection()
        if place.carrying:
            carry(connection)  # as "pyhist.django" in INSTALLED_APPS does with all of them
        written = model.objects.using(alias)

        def write(count: int, around: Around) -> None:
            with transaction.atomic(alias) if place.in_transaction else nullcontext():
                for _ in range(count):
                    with around():
                        written.create(**ROW)

        yield write
    del connections[alias]


def request() -> AbstractContextManager[Any]:
    """The context that Django's middleware gives a request."""
    django_model()
    from django.http import HttpRequest

    from pyhist.django import HistoryMiddleware

    made = HttpRequest()
    made.method, made.path = "POST", "/written"
    made.user = SimpleNamespace(pk=next(numbers))
    return HistoryMiddleware(lambda _: None)._context(made)


def context() -> AbstractContextManager[Any]:
    return pyhist.context(user=next(numbers), url="/written")


def sqlalchemy_driver(driver: str, work: Any) -> Callable[[Place], AbstractContextManager[Write]]:
    if driver == "asyncpg":
        return awaited(functools.partial(sqlalchemy_async_engine, driver, work))
    return functools.partial(sqlalchemy_engine, driver, work)


# How a driver is opened, and what makes a context.
DRIVERS: dict[str, tuple[Callable[[Place], AbstractContextManager[Write]], Around]] = {
    "psycopg": (psycopg_connection, context),
    "psycopg, async": (awaited(psycopg_async_connection), context),
    "psycopg_pool": (psycopg_connection_pool, context),
    "psycopg, pipeline": (psycopg_pipeline, context),
    "psycopg2": (psycopg2_connection, context),
    "asyncpg": (awaited(asyncpg_connection), context),
    "asyncpg, pool": (awaited(asyncpg_pool), context),
    **{
        f"SQLAlchemy {name}, {driver}": (sqlalchemy_driver(driver, work), context)
        for name, work in (("core", core), ("ORM", mapped))
        for driver in ("psycopg", "psycopg2", "asyncpg")
    },
    "Django, client-side binding": (functools.partial(django_connection, False), request),
    "Django, server-side binding": (functools.partial(django_connection, True), request),
}
# Whether pyhist is there, and what is around all statements and around each.
VARIANTS: dict[str, Callable[[Around], tuple[bool, Around, Around]]] = {
    "plain": lambda _: (False, nullcontext, nullcontext),
    "no context": lambda _: (True, nullcontext, nullcontext),
    "one context": lambda context: (True, context, nullcontext),
    "a context for each": lambda context: (True, nullcontext, context),
}


def prepare(server: Server) -> None:
    """A database with a tracked table, in which a commit does not wait for a disk."""
    with psycopg.connect(server.dsn(), autocommit=True) as connection:
        connection.execute("CREATE DATABASE drivers")
        connection.execute("ALTER DATABASE drivers SET synchronous_commit = off")
    pyhist.install(server.dsn("drivers"))
    with psycopg.connect(server.dsn("drivers"), autocommit=True) as connection:
        connection.execute(SETUP)
        pyhist.track(connection, "written", pyhist.History())


@dataclass(frozen=True)
class Cost:
    """What a statement took, in microseconds."""

    wall: float
    cpu: float


def cost(write: Write, around_all: Around, around_each: Around) -> Cost:
    wall, cpu = time.perf_counter(), time.process_time()
    with around_all():
        write(STATEMENTS, around_each)
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    return Cost(wall * 1e6 / STATEMENTS, cpu * 1e6 / STATEMENTS)


def round_trips(open_driver: Any, place: Place, around_all: Around, around_each: Around) -> float:
    """The round trips of a statement that has been prepared."""
    with counting_proxy(place.port, place.host) as proxy:
        there = Place("127.0.0.1", proxy.port, place.carrying, place.in_transaction)
        with open_driver(there) as write:
            counts = []
            for _ in range(TRIES):
                with around_all():
                    write(COUNTED, around_each)
                    proxy.count()
                with around_all():
                    write(COUNTED, around_each)
                counts.append(proxy.count())
    return min(counts) / COUNTED


def run_driver(place: dict[str, Any], driver: str, mode: str) -> Iterator[DriverResult]:
    open_driver, context = DRIVERS[driver]
    variants = {name: variant(context) for name, variant in VARIANTS.items()}
    places = {
        name: Place(**place, carrying=carrying, in_transaction=mode == "transaction")
        for name, (carrying, *_) in variants.items()
    }
    costs: dict[str, list[Cost]] = {name: [] for name in variants}
    with ExitStack() as stack:
        writes = {name: stack.enter_context(open_driver(places[name])) for name in variants}
        for name, (_, *around) in variants.items():
            cost(writes[name], *around)
        for number in range(ROUNDS):
            order = list(variants)
            for name in order[number % len(order) :] + order[: number % len(order)]:
                costs[name].append(cost(writes[name], *variants[name][1:]))
    for name, (_, *around) in variants.items():
        walls = [cost.wall - plain.wall for cost, plain in zip(costs[name], costs["plain"], strict=True)]
        cpus = [cost.cpu - plain.cpu for cost, plain in zip(costs[name], costs["plain"], strict=True)]
        first, median, third = statistics.quantiles(walls, n=4)
        yield DriverResult(
            driver,
            mode,
            name,
            round_trips(open_driver, places[name], *around),
            round(statistics.median(cost.wall for cost in costs[name]), 1),
            round(median, 1),
            (round(first, 1), round(third, 1)),
            round(statistics.median(cost.cpu for cost in costs[name]), 1),
            round(statistics.median(cpus), 1),
        )


def run(server: Server) -> Iterator[DriverResult]:
    """One row inserted into a tracked table by each statement: of kind history, level auto."""
    prepare(server)
    given = conninfo_to_dict(server.dsn())
    place = {"host": given["host"], "port": int(given["port"])}
    for driver in DRIVERS:
        for mode in ("autocommit", "transaction"):
            yield from run_driver(place, driver, mode)
