"""Django: requests say who asks for what, and whatever their code writes has it."""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import decimal
import itertools
import logging
import os
import threading
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from io import StringIO
from typing import Any

import django
import httpx
import pgbouncer
import psycopg
import pytest
from asgiref.sync import sync_to_async
from proxy import counting_proxy
from serving import serving

import pyhist
from pyhist.context import active_context
from pyhist.django import HistoryMiddleware, Track, Untrack, event_model

os.environ["DJANGO_SETTINGS_MODULE"] = "library.settings"
django.setup()

from django import db  # noqa: E402
from django.apps import apps  # noqa: E402
from django.contrib.auth import get_user_model  # noqa: E402
from django.contrib.auth.models import Permission  # noqa: E402
from django.core.asgi import get_asgi_application  # noqa: E402
from django.core.management import call_command  # noqa: E402
from django.core.wsgi import get_wsgi_application  # noqa: E402
from django.db import (  # noqa: E402
    connection,
    connections,
    models,
    transaction,
)
from django.db.backends.signals import connection_created  # noqa: E402
from django.db.migrations.writer import OperationWriter  # noqa: E402
from django.db.models import F, Func, Value  # noqa: E402
from django.http import HttpResponse  # noqa: E402
from django.test import Client, RequestFactory  # noqa: E402
from django.test.utils import CaptureQueriesContext, override_settings  # noqa: E402
from library.models import Book, BookEvent, BookTitle  # noqa: E402

from pyhist.django.models import Context, RecordedEvent  # noqa: E402


class Loan(models.Model):
    """A table with all that makes a column more than a column; its application is not installed."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4)
    book = models.ForeignKey(Book, models.CASCADE, db_column="the_book")
    title = models.OneToOneField(Book, models.CASCADE, to_field="title", related_name="+")
    since = models.DateTimeField(auto_now_add=True)
    until = models.DateField(auto_now=True, unique_for_date="since")
    code = models.SlugField(unique=True, default="code")
    kind = models.CharField(max_length=1, choices=[("a", "A")], db_index=True)

    class Meta:
        app_label = "elsewhere"
        db_table = "Loan"
        constraints = (models.UniqueConstraint(fields=["kind", "since"], name="one"),)


LoanEvent: Any = event_model(Loan)
LoanCode: Any = event_model(
    Loan,
    name="LoanCode",
    event_table="codes",
    exclude=["id", "the_book", "title_id", "since", "until"],
    context="none",
    related_name="+",
)

if django.VERSION >= (5, 2):

    class Line(models.Model):
        """A table with a key of two columns, and one that is generated."""

        pk = models.CompositePrimaryKey("order", "number")
        order = models.IntegerField(db_column="the_order")
        number = models.IntegerField()
        double = models.GeneratedField(
            expression=F("number") * 2, output_field=models.IntegerField(), db_persist=True
        )

        class Meta:
            app_label = "elsewhere"
            db_table = "line"

    LineEvent: Any = event_model(Line)


numbers = itertools.count(1)
CLIENT_SIDE: dict[str, Any] = {}
SERVER_SIDE: dict[str, Any] = {"server_side_binding": True}
POOLED: dict[str, Any] = {"pool": {"min_size": 1, "max_size": 5}} if django.VERSION >= (5, 1) else {}
WAYS = {
    "client-side": CLIENT_SIDE,
    "server-side": SERVER_SIDE,
    "pooled": POOLED,
    "client-side-pgbouncer": CLIENT_SIDE,
    "server-side-pooled-pgbouncer": SERVER_SIDE | POOLED,
}


@contextlib.contextmanager
def new_database(server: Any, template: str) -> Iterator[str]:
    name = f"library_{next(numbers)}"
    with psycopg.connect(server.dsn(), autocommit=True) as setup:
        setup.execute(f"CREATE DATABASE {name} TEMPLATE {template}")
        yield name
        setup.execute(f"DROP DATABASE {name} WITH (FORCE)")


@contextlib.contextmanager
def using(server: Any, alias: str, name: str, user: str = "postgres", **settings: Any) -> Iterator[None]:
    """Has Django use a database."""
    chosen = {"NAME": name, "USER": user, "HOST": f"{server.base_dir}/tmp", "PORT": server.port, **settings}
    before = dict(connections.settings[alias])
    connections[alias].close()
    connections.settings[alias].update(chosen)
    try:
        yield
    finally:
        connections[alias].close()
        if POOLED:
            connections[alias].close_pool()
        connections.settings[alias].clear()
        connections.settings[alias].update(before)


@pytest.fixture(scope="session")
def migrated(server: Any) -> Iterator[str]:
    """A database with the library's tables and two users."""
    with new_database(server, "template_pghistory") as name:
        with using(server, "default", name):
            call_command("migrate", verbosity=0)
            for user in ("ada", "bob"):
                get_user_model().objects.create_user(user, password="secret")
        yield name


class Library:
    """The library's database, and what its history says."""

    def __init__(self, dsn: str, observer: psycopg.Connection[Any]) -> None:
        self.dsn = dsn
        self.observer = observer
        self.users: dict[str, int] = dict(observer.execute("SELECT username, id FROM auth_user").fetchall())

    def seen(self) -> list[tuple[str, dict[str, Any] | None]]:
        """The books of the events, and the metadata that they were written with."""
        return self.observer.execute("SELECT title, pgh_context FROM book_event ORDER BY pgh_id").fetchall()

    @property
    def books(self) -> dict[str, int]:
        """The keys that books have, or had."""
        return dict(self.observer.execute("SELECT title, id FROM book_event").fetchall())

    def ids(self) -> list[Any]:
        """The ids of the contexts of the events."""
        rows = self.observer.execute("SELECT pgh_context_id FROM book_event ORDER BY pgh_id")
        return [context_id for (context_id,) in rows]


@contextlib.contextmanager
def opened(server: Any, migrated: str, **settings: Any) -> Iterator[Library]:
    with new_database(server, migrated) as name, using(server, "default", name, **settings):
        with psycopg.connect(server.dsn(name), autocommit=True) as observer:
            yield Library(server.dsn(name), observer)


@pytest.fixture(params=WAYS, ids=WAYS)
def library(request: pytest.FixtureRequest, server: Any, migrated: str) -> Iterator[Library]:
    """A library; its connections are used by one request after the other."""
    way = WAYS[request.param]
    settings = {"OPTIONS": way, "CONN_MAX_AGE": 0 if "pool" in way else None}
    if "pgbouncer" in request.param:
        request.getfixturevalue("pgbouncer")
        settings |= {"PORT": pgbouncer.PORT, "DISABLE_SERVER_SIDE_CURSORS": True}
    with opened(server, migrated, **settings) as it:
        yield it


directly = pytest.mark.parametrize("library", [way for way in WAYS if "pgbouncer" not in way], indirect=True)


@pytest.fixture
def one_library(server: Any, migrated: str) -> Iterator[Library]:
    """A library with the settings that Django has by itself."""
    with opened(server, migrated) as it:
        yield it


def asked(path: str, **more: Any) -> dict[str, Any]:
    """The metadata of a request."""
    return {"method": "POST", "url": path, **more}


def logged_in(user: str) -> Client:
    client = Client()
    client.login(username=user, password="secret")
    return client


# Requests


def test_a_request_says_who_asks_for_what(library: Library) -> None:
    ada, bob = logged_in("ada"), logged_in("bob")
    ada.post("/add/a?token=secret")
    bob.post("/add/b")
    Client().post("/add/c")
    assert library.seen() == [
        ("a", asked("/add/a", user=library.users["ada"])),
        ("b", asked("/add/b", user=library.users["bob"])),
        ("c", asked("/add/c")),
    ]
    assert len(set(library.ids())) == 3


def test_a_connection_used_by_the_next_request_has_nothing_of_the_last(library: Library) -> None:
    logged_in("ada").post("/add/a")
    Book.objects.create(title="b")
    assert [metadata for _, metadata in library.seen()] == [asked("/add/a", user=library.users["ada"]), None]
    assert active_context() is None


def test_a_user_who_is_found_by_the_view_is_seen(library: Library) -> None:
    Client().post("/late/a", headers={"user": "ada"})
    metadata = asked("/late/a", user=library.users["ada"])
    assert library.seen() == [("a, copied", metadata), ("a", metadata)]


def test_who_logs_in_is_seen_from_then_on(library: Library) -> None:
    Client().post("/log_in/a", headers={"user": "ada"})
    assert library.seen() == [
        ("a, before", asked("/log_in/a")),
        ("a", asked("/log_in/a", user=library.users["ada"])),
    ]


def test_who_logs_out_is_seen_until_then(library: Library) -> None:
    logged_in("ada").post("/log_out/a")
    assert library.seen() == [
        ("a, before", asked("/log_out/a", user=library.users["ada"])),
        ("a", asked("/log_out/a")),
    ]


def test_nobody_is_looked_up_for_what_only_reads(library: Library) -> None:
    client = logged_in("ada")
    with CaptureQueriesContext(connection) as queries:
        response = client.post("/look/a")
    assert (len(queries), response.has_header("Vary")) == (1, False)


def test_a_user_who_cannot_be_looked_up_lets_the_write_go_on(
    one_library: Library, caplog: pytest.LogCaptureFixture
) -> None:
    client = logged_in("ada")
    with override_settings(SESSION_ENGINE="library.no_sessions"), caplog.at_level(logging.WARNING):
        client.post("/add/a")
    assert one_library.seen() == [("a", asked("/add/a"))]
    assert "the user of a request could not be looked up" in caplog.text


def test_what_the_view_says_counts_for_more(library: Library) -> None:
    logged_in("ada").post("/nested/a")
    assert library.seen() == [
        ("a, as somebody else", asked("/nested/a", user="somebody else", step=1)),
        ("a", asked("/nested/a", user=library.users["ada"], step=2)),
    ]


def test_an_error_ends_the_context(library: Library) -> None:
    client = Client(raise_request_exception=False)
    with contextlib.redirect_stderr(StringIO()):
        assert client.post("/broken/a").status_code == 500
    Book.objects.create(title="b")
    assert library.seen() == [("a", asked("/broken/a")), ("b", None)]


def test_a_streamed_response_and_its_end_belong_to_the_request(library: Library) -> None:
    response = logged_in("ada").post("/stream/a")
    assert active_context() is None
    assert b"".join(response.streaming_content) == b"012"
    response = Client().post("/stream/b")
    assert next(iter(response.streaming_content)) == b"0"
    response.close()
    ada, nobody = asked("/stream/a", user=library.users["ada"]), asked("/stream/b")
    assert library.seen() == [
        *((f"a {i}", ada) for i in range(3)),
        ("a, end", ada),
        ("b 0", nobody),
        ("b, end", nobody),
    ]
    assert active_context() is None


def test_users_at_the_same_time_are_not_mixed_up(library: Library) -> None:
    together = threading.Barrier(8)
    cookies = {user: logged_in(user).cookies["sessionid"].value for user in library.users}

    def change(number: int) -> None:
        user = ["ada", "bob"][number % 2]
        together.wait()
        for i in range(3):
            for view in ("add", "stream"):
                response = client.post(
                    f"/{view}/{user} {number} {i} {view}", headers={"Cookie": f"sessionid={cookies[user]}"}
                )
                response.raise_for_status()

    connections.settings["default"]["CONN_MAX_AGE"] = 0  # the server has a thread for each request
    with serving(get_wsgi_application()) as client, ThreadPoolExecutor(8) as threads:
        list(threads.map(change, range(8)))
    seen = library.seen()
    assert len(seen) == 8 * 3 * 5
    assert [title for title, said in seen if (said or {})["user"] != library.users[title[:3]]] == []


def in_async(use: Callable[[httpx.AsyncClient], Any]) -> None:
    """Uses the application as an asynchronous server has it."""

    async def whole() -> None:
        transport = httpx.ASGITransport(get_asgi_application())
        async with httpx.AsyncClient(transport=transport, base_url="http://app", timeout=30) as client:
            await use(client)

    connections.settings["default"]["CONN_MAX_AGE"] = 0
    asyncio.run(whole())


def test_asynchronous_views_belong_to_the_request(library: Library) -> None:
    cookies = {
        user: {"Cookie": f"sessionid={logged_in(user).cookies['sessionid'].value}"} for user in library.users
    }

    async def use(client: httpx.AsyncClient) -> None:
        async def change(user: str) -> None:
            for view in ("add_async", "stream_async", "add"):
                (await client.post(f"/{view}/{user} {view}", headers=cookies[user])).raise_for_status()

        await asyncio.gather(*map(change, library.users))

    in_async(use)
    seen = library.seen()
    assert len(seen) == 2 * (3 + 4 + 1)
    for title, metadata in seen:
        assert metadata is not None
        assert metadata["user"] == library.users[title[:3]]
        assert metadata["url"].startswith(f"/{title.split()[1].rstrip(',')}/")


if django.VERSION >= (5, 0):

    def test_a_user_who_was_awaited_is_seen(library: Library) -> None:
        cookie = {"Cookie": f"sessionid={logged_in('ada').cookies['sessionid'].value}"}

        async def use(client: httpx.AsyncClient) -> None:
            (await client.post("/add_as_auser/a", headers=cookie)).raise_for_status()
            (await client.post("/log_in_async/b", headers={"user": "bob"})).raise_for_status()

        in_async(use)
        assert [metadata and metadata["user"] for _, metadata in library.seen()] == list(
            library.users.values()
        )


# Whatever writes


def test_code_outside_of_requests_has_the_context_it_says(library: Library) -> None:
    Book.objects.create(title="a")
    with pyhist.context(user=1) as active:
        Book.objects.create(title="b")
        with pyhist.context(step="it's"):
            Book.objects.filter(title="b").update(price=F("id"))
        Book.objects.filter(title="a").delete()
    Book.objects.create(title="c")
    assert library.seen() == [
        ("a", None),
        ("b", {"user": 1}),
        ("b", {"user": 1, "step": "it's"}),
        ("a", {"user": 1}),
        ("c", None),
    ]
    assert set(library.ids()) == {active.id, None}


def test_a_context_that_ends_in_a_transaction_is_over(library: Library) -> None:
    with transaction.atomic():
        with pyhist.context(user=1):
            Book.objects.create(title="a")
        Book.objects.create(title="b")
        with pyhist.context(user=2):
            Book.objects.create(title="c")
    assert library.seen() == [("a", {"user": 1}), ("b", None), ("c", {"user": 2})]


def create(*titles: str | None) -> None:
    """Creates books one by one, all or none."""
    with transaction.atomic():
        for title in titles:
            Book.objects.create(title=title)


def test_what_is_decorated_has_the_context(library: Library) -> None:
    @pyhist.context(job="generator")
    def generator() -> Iterator[None]:
        create("b")
        yield
        create("d")

    @pyhist.context(job="coroutine")
    async def coroutine() -> None:
        pyhist.context(step=1)
        await Book.objects.acreate(title="e")
        await sync_to_async(lambda: connection.close())()  # which is another one in another thread

    pyhist.context(job="function")(create)("a")
    for _ in generator():
        pyhist.context(step=1)
        create("c")
    asyncio.run(coroutine())
    assert library.seen() == [
        ("a", {"job": "function"}),
        ("b", {"job": "generator"}),
        ("c", None),
        ("d", {"job": "generator"}),
        ("e", {"job": "coroutine", "step": 1}),
    ]


def go_on_after_an_error() -> None:
    with transaction.atomic():
        with contextlib.suppress(db.IntegrityError):
            Book.objects.create(title=None)
        Book.objects.create(title="b")


def ask_for_nothing() -> None:
    with connection.cursor() as cursor:
        cursor.execute("SELECT nothing")


def test_savepoints_rolled_back_leave_the_context(library: Library) -> None:
    with pyhist.context(user=1), transaction.atomic():
        create("a")
        with pytest.raises(db.IntegrityError):
            create("b", "a")
        create("c")
        with transaction.atomic():
            create("d")
            transaction.set_rollback(True)
        create("e")
    assert library.seen() == [(title, {"user": 1}) for title in "ace"]


def test_a_transaction_that_fails_fails_as_without_a_context(library: Library) -> None:
    with pyhist.context(user=1):
        with pytest.raises(db.IntegrityError) as failure:
            create("a", "a")
        assert isinstance(failure.value.__cause__, psycopg.errors.UniqueViolation)
        with pytest.raises(transaction.TransactionManagementError):
            go_on_after_an_error()
        with pytest.raises(db.ProgrammingError, match=r"LINE 1: SELECT nothing\n               \^"):
            ask_for_nothing()
        create("c")
    assert library.seen() == [("c", {"user": 1})]


def bulk_create(titles: list[str]) -> None:
    Book.objects.bulk_create([Book(title=title) for title in titles])


def executemany(titles: list[str]) -> None:
    with connection.cursor() as cursor:
        cursor.executemany("INSERT INTO book (title) VALUES (%s)", [(title,) for title in titles])


def raw(titles: list[str]) -> None:
    with connection.cursor() as cursor:
        for title in titles:
            cursor.execute("INSERT INTO book (title) VALUES (%s) RETURNING '100%%'", [title])
            assert cursor.fetchall() == [("100%",)]


def several_in_one(titles: list[str]) -> None:
    with connection.cursor() as cursor:
        cursor.execute("; ".join(f"INSERT INTO book (title) VALUES ('{title}')" for title in titles))


def composed(titles: list[str]) -> None:
    with connection.cursor() as cursor:
        for title in titles:
            statement = psycopg.sql.SQL("INSERT INTO {} (title) VALUES ({})")
            cursor.execute(statement.format(psycopg.sql.Identifier("book"), psycopg.sql.Literal(title)))


def copy(titles: list[str]) -> None:
    with connection.cursor() as cursor, cursor.copy("COPY book (title) FROM STDIN") as rows:
        for title in titles:
            rows.write_row([title])


def called(titles: list[str]) -> None:
    with connection.cursor() as cursor:
        for title in titles:
            cursor.callproc("add", [title])


def selected(titles: list[str]) -> None:
    Book.objects.create(title="first")
    for title in titles:
        books = Book.objects.filter(title="first").annotate(added=Func(Value(title), function="add"))
        assert [book.added for book in books] == [title]


def iterated(titles: list[str]) -> None:
    Book.objects.create(title="first")
    for title in titles:
        books = Book.objects.filter(title="first").annotate(added=Func(Value(title), function="add"))
        assert [book.added for book in books.iterator(chunk_size=2)] == [title]


def got_or_created(titles: list[str]) -> None:
    for title in titles:
        Book.objects.get_or_create(title=title)


def locked(titles: list[str]) -> None:
    bulk_create(titles)
    with transaction.atomic():
        for book in Book.objects.select_for_update():
            book.price = 1
            book.save()


@pytest.mark.parametrize("in_transaction", [False, True])
@pytest.mark.parametrize(
    "write",
    [
        bulk_create,
        executemany,
        raw,
        several_in_one,
        composed,
        copy,
        called,
        selected,
        iterated,
        got_or_created,
        locked,
    ],
)
def test_whatever_writes_has_the_context(
    library: Library, write: Callable[[list[str]], None], in_transaction: bool
) -> None:
    with pyhist.context(user=1), transaction.atomic() if in_transaction else contextlib.nullcontext():
        write(["a", "b"])
    seen = library.seen()
    assert {title for title, _ in seen} - {"first"} == {"a", "b"}
    assert [metadata for _, metadata in seen] == [{"user": 1}] * len(seen)


def test_what_must_not_run_in_a_transaction_does_not(library: Library) -> None:
    with pyhist.context(user=1), connection.cursor() as cursor:
        cursor.execute("VACUUM book")
        cursor.execute("CREATE INDEX CONCURRENTLY ON book (price)")
        cursor.execute("INSERT INTO book (title) VALUES ('a')")
    assert library.seen() == [("a", {"user": 1})]


def test_values_that_json_does_not_know_become_text(library: Library) -> None:
    from django.utils.functional import SimpleLazyObject
    from django.utils.translation import gettext_lazy

    at = datetime.datetime(2026, 1, 2, tzinfo=datetime.timezone.utc)
    with pyhist.context(
        at=at,
        price=decimal.Decimal("1.50"),
        key=uuid.UUID(int=1),
        label=gettext_lazy("Yes"),
        user=SimpleLazyObject(lambda: get_user_model()(username="ada")),
        path=["a", {"b": at.date()}],
    ):
        Book.objects.create(title="a")
    assert library.seen() == [
        (
            "a",
            {
                "at": "2026-01-02 00:00:00+00:00",
                "price": "1.50",
                "key": "00000000-0000-0000-0000-000000000001",
                "label": "Yes",
                "user": "ada",
                "path": ["a", {"b": "2026-01-02"}],
            },
        )
    ]


@pytest.mark.parametrize("library", [way for way in WAYS if "pooled" in way], indirect=True)
def test_fifty_users_of_a_pool_of_five_keep_their_contexts(library: Library) -> None:
    free = threading.Semaphore(5)

    def write(title: str) -> None:
        with free:
            Book.objects.create(title=title)
            connection.close()

    def work(user: int) -> None:
        with pyhist.context(user=user):
            for number in range(4):
                write(f"{user} {number}")
        write(f"{user}")

    with ThreadPoolExecutor(50) as threads:
        list(threads.map(work, range(50)))
    seen = library.seen()
    assert len(seen) == 50 * 5
    assert all(got == ({"user": int(title.split()[0])} if " " in title else None) for title, got in seen)


def test_all_databases_have_the_context(server: Any, migrated: str, one_library: Library) -> None:
    with new_database(server, migrated) as name, using(server, "other", name):
        with psycopg.connect(server.dsn(name), autocommit=True) as observer:
            with connections["lite"].schema_editor() as editor:
                editor.create_model(Book)
            with pyhist.context(user=1) as active:
                for alias in ("default", "other", "lite"):
                    Book.objects.using(alias).create(title=alias)
                    assert Book.objects.using(alias).count() == 1
            other = Library(server.dsn(name), observer)
            assert one_library.seen() + other.seen() == [("default", {"user": 1}), ("other", {"user": 1})]
            assert one_library.ids() + other.ids() == [active.id] * 2
            connections["lite"].close()


def change_books() -> None:
    book = Book.objects.create(title="a")
    book.price = 1
    book.save()
    bulk_create(["b", "c"])
    with transaction.atomic():
        Book.objects.filter(title="b").update(price=2)
        with transaction.atomic():
            Book.objects.filter(title="c").delete()
    list(Book.objects.iterator())
    copy(["d"])


@contextlib.contextmanager
def without_pyhist() -> Iterator[None]:
    """Connections that are opened meanwhile are Django's own."""
    wrappers = connection.execute_wrappers.copy()
    connection.execute_wrappers.clear()
    connection_created.disconnect(dispatch_uid="pyhist.django")
    try:
        yield
    finally:
        apps.get_app_config("pyhist").ready()
        connection.execute_wrappers[:] = wrappers


@pytest.mark.parametrize("options", [CLIENT_SIDE, SERVER_SIDE])
def test_a_context_costs_no_round_trip(server: Any, migrated: str, options: dict[str, Any]) -> None:
    counts = []
    for installed, around, carried_user in (
        (without_pyhist(), pyhist.context(user=1), None),
        (contextlib.nullcontext(), contextlib.nullcontext(), None),
        (contextlib.nullcontext(), pyhist.context(user=1), 1),
    ):
        with installed, counting_proxy(server.port) as proxy:
            settings = {"HOST": "127.0.0.1", "PORT": proxy.port, "OPTIONS": options}
            with opened(server, migrated, **settings) as library:
                connection.ensure_connection()
                with around:
                    proxy.count()
                    change_books()
                    counts.append(proxy.count())
                metadata = {said and said["user"] for _, said in library.seen()}
                assert metadata == {carried_user}
    plain, without_context, carried = counts
    assert plain == without_context == carried > 0


@pytest.mark.parametrize("options", [CLIENT_SIDE, SERVER_SIDE])
def test_a_request_costs_no_round_trip(server: Any, migrated: str, options: dict[str, Any]) -> None:
    counts = []
    for installed, middleware in (
        (without_pyhist(), lambda view: view),
        (contextlib.nullcontext(), HistoryMiddleware),
    ):
        with installed, counting_proxy(server.port) as proxy:
            settings = {"HOST": "127.0.0.1", "PORT": proxy.port, "OPTIONS": options}
            with opened(server, migrated, **settings) as library:
                connection.ensure_connection()
                proxy.count()
                middleware(lambda _: change_books() or HttpResponse())(RequestFactory().post("/books"))
                counts.append(proxy.count())
                is_carried = {said is not None for _, said in library.seen()}
                assert is_carried == {middleware is HistoryMiddleware}
    plain, carried = counts
    assert plain == carried > 0


# Migrations


class NothingHere:
    """A router that keeps the library out of every database."""

    def allow_migrate(self, alias: str, app_label: str, **hints: Any) -> bool:
        return app_label != "library"


def forwards(operation: Any, alias: str = "default") -> None:
    with connections[alias].schema_editor() as editor:
        operation.database_forwards("library", editor, None, None)


def backwards(operation: Any) -> None:
    with connection.schema_editor() as editor:
        operation.database_backwards("library", editor, None, None)


def tracked(library: Library) -> list[tuple[Any, ...]]:
    return library.observer.execute(
        "SELECT label, kind, fields, condition FROM pghistory.trackers() ORDER BY label"
    ).fetchall()


def test_migrations_need_no_superuser_and_can_be_taken_back(server: Any, role: Any) -> None:
    owner = role("owner")
    with new_database(server, "template_pghistory") as name:
        with psycopg.connect(server.dsn(name), autocommit=True) as observer:
            observer.execute(f"GRANT CREATE ON SCHEMA public TO {owner}")
            with using(server, "default", name, user=owner):
                call_command("migrate", verbosity=0)
                Book.objects.create(title="a")
                call_command("migrate", "library", "zero", verbosity=0)
                assert observer.execute("SELECT title FROM book_event").fetchall() == [("a",)]
                assert observer.execute("SELECT count(*) FROM pghistory.trackers()").fetchone() == (0,)
                call_command("migrate", verbosity=0)
                Book.objects.create(title="b")
                assert observer.execute(
                    "SELECT title, pgh_label FROM book_event ORDER BY pgh_id"
                ).fetchall() == [("a", "book"), ("b", "book")]


def test_track_takes_what_the_function_takes(one_library: Library) -> None:
    operation = Track(
        "book",
        pyhist.AfterUpdate("book.title", condition=pyhist.any_change("title")),
        pyhist.AfterInsert(condition="NEW.title LIKE 'a%'"),
        fields=["title"],
        event_table="titles",
    )
    forwards(operation)
    create("a", "b")
    Book.objects.filter(title="a").update(price=1)
    Book.objects.filter(title="b").update(title="B")
    titles = one_library.observer.execute("SELECT pgh_label, title FROM titles ORDER BY pgh_id").fetchall()
    assert titles == [("book.after_insert", "a"), ("book.title", "B")]
    backwards(operation)
    assert [label for label, *_ in tracked(one_library)] == ["book"]
    create("c")
    assert one_library.observer.execute("SELECT count(*) FROM titles").fetchone() == (2,)


def test_untrack_is_track_the_other_way_round(one_library: Library) -> None:
    before = tracked(one_library)
    operation = Untrack("book", pyhist.History("book"), context="inline")
    forwards(operation)
    create("a")
    assert (tracked(one_library), one_library.seen()) == ([], [])
    backwards(operation)
    create("b")
    assert (tracked(one_library), one_library.seen()) == (before, [("b", None)])


def test_untrack_without_trackers_ends_all_and_cannot_be_taken_back(one_library: Library) -> None:
    forwards(Track("book", pyhist.AfterInsert("new"), context="inline"))
    operation = Untrack("book")
    assert not operation.reversible
    forwards(operation)
    assert tracked(one_library) == []


def test_a_tracker_that_cannot_be_is_refused_as_the_server_refuses_it(one_library: Library) -> None:
    with pytest.raises(db.ProgrammingError, match=r"HINT: +Fields are named as the table"):
        forwards(Track("book", pyhist.Snapshot("book.none"), fields=["none"]))
    with pytest.raises(TypeError, match="needs a tracker"):
        Track("book")
    with pytest.raises(TypeError, match="needs trackers"):
        Untrack("book", "book.snapshot")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="unexpected keyword argument 'filds'"):
        Track("book", pyhist.Snapshot("book.none"), filds=["none"])


def test_what_a_migration_does_can_be_shown(one_library: Library) -> None:
    shown = call_command("sqlmigrate", "library", "0001", no_color=True)
    assert """SELECT pghistory.track("table" => 'book'::regclass, "label" => 'book'::text""" in shown
    shown = call_command("sqlmigrate", "library", "0001", backwards=True, no_color=True)
    assert """SELECT pghistory.untrack("table" => 'book'::regclass, "label" => 'book'::text""" in shown
    operation = Untrack('"Odd"', pyhist.History(), pyhist.AfterInsert("new"))
    assert operation.describe() == 'Untrack "Odd": history, new'
    assert operation.migration_name_fragment == "untrack__odd_"


@pytest.mark.parametrize(
    "operation",
    [
        Track(
            "book",
            pyhist.Snapshot("it's"),
            pyhist.AfterUpdate(condition=pyhist.any_change("title", 'odd"'), level="row"),
            fields=["title"],
            context="inline",
            retention=datetime.timedelta(days=7),
        ),
        Untrack("book", pyhist.History("book", condition="true")),
        Untrack("book"),
    ],
)
def test_operations_can_be_written_into_squashed_migrations(operation: Any) -> None:
    text, imports = OperationWriter(operation).serialize()
    names: dict[str, Any] = {}
    exec("\n".join(imports), names)
    (read,) = eval(f"[{text}]", names)
    assert type(read) is type(operation)
    assert read.deconstruct() == operation.deconstruct()


def test_nothing_is_tracked_where_there_is_no_history(one_library: Library) -> None:
    forwards(Track("nowhere", pyhist.Snapshot()), alias="lite")
    with override_settings(DATABASE_ROUTERS=["test_django.NothingHere"]):
        forwards(Track("nowhere", pyhist.Snapshot()))
    connections["lite"].close()


def test_django_finds_nothing_that_migrations_lack(one_library: Library) -> None:
    call_command("makemigrations", check=True, dry_run=True, verbosity=0)


# Events


@directly
def test_events_are_asked_as_other_models_are(library: Library) -> None:
    with pyhist.context(user="ada", url="/a"):
        create("a")
        Book.objects.filter(title="a").update(price=1)
    create("b")
    book = Book.objects.get(title="a")
    last = book.events.first()
    assert (last.title, last.price, last.pgh_operation, last.pgh_obj) == ("a", 1, "U", book)
    assert last.pgh_context == {"user": "ada", "url": "/a"}
    assert book.events.count() == 2
    key, _ = book.pk, book.delete()
    deleted = BookEvent.objects.filter(pgh_obj=key)
    assert [event.pgh_operation for event in deleted] == ["D", "U", "I"]
    assert BookEvent.objects.filter(pgh_context__user="ada").count() == 2
    with pytest.raises(TypeError, match="BookEvent is written by the database only"):
        last.save()
    with pytest.raises(TypeError, match="BookEvent is written by the database only"):
        last.delete()


@directly
def test_events_lead_to_their_contexts(library: Library) -> None:
    forwards(Track("book", pyhist.Snapshot("book.title"), fields=["title"], event_table="titles"))
    with pyhist.context(user="ada") as active:
        create("a")
    create("b")
    with pyhist.context(user="bob"):
        create("c")
    assert [event.title for event in BookTitle.objects.filter(pgh_context__metadata__user="ada")] == ["a"]
    said = {
        event.title: event.pgh_context and event.pgh_context.metadata
        for event in BookTitle.objects.select_related("pgh_context")
    }
    assert said == {"a": {"user": "ada"}, "b": None, "c": {"user": "bob"}}
    assert Book.objects.get(title="a").titles.get().pgh_context_id == active.id
    assert str(Context.objects.get(metadata__user="ada")) == str(active.id)


@directly
def test_the_events_of_any_model_can_be_asked(library: Library) -> None:
    with connection.schema_editor() as editor:
        editor.create_model(Loan)
    forwards(Track('"Loan"', pyhist.History("loan")))
    forwards(
        Track(
            '"Loan"',
            pyhist.Snapshot("loan.code"),
            exclude=["id", "the_book", "title_id", "since", "until"],
            event_table="codes",
            context="none",
        )
    )
    with pyhist.context(user="ada"):
        book = Book.objects.create(title="a")
        loan = Loan.objects.create(book=book, title=book, code="first", kind="a")
    key, _ = loan.pk, loan.delete()
    book.delete()
    last, first = LoanEvent.objects.filter(pgh_obj=key)
    assert (last.pgh_operation, last.pgh_context) == ("D", None)
    assert (first.pgh_operation, first.pgh_context.metadata) == ("I", {"user": "ada"})
    assert (first.id, first.book_id, first.title_id) == (key, library.books["a"], "a")
    assert (first.since, first.until, first.code) == (loan.since, loan.until, "first")
    assert first.get_kind_display() == "A"
    assert [code.code for code in LoanCode.objects.all()] == ["first"]
    loan.pk = key
    assert {event.pgh_label for event in RecordedEvent.objects.of(loan)} == {"loan", "loan.code"}


if django.VERSION >= (5, 2):

    @directly
    def test_the_events_of_a_key_of_several_columns_can_be_asked(library: Library) -> None:
        with connection.schema_editor() as editor:
            editor.create_model(Line)
        forwards(Track("line", pyhist.History("line")))
        line = Line.objects.create(order=1, number=2)
        Line.objects.create(order=1, number=3)
        (event,) = LineEvent.objects.filter(pgh_obj_the_order=1, pgh_obj_number=2)
        assert (event.order, event.number, event.double) == (1, 2, 4)
        (recorded,) = RecordedEvent.objects.of(line)
        assert recorded.pgh_obj_id == '{"number": 2, "the_order": 1}'


@directly
def test_all_that_happened_is_one_model(library: Library) -> None:
    forwards(Track("book", pyhist.Snapshot("book.title"), fields=["title"], event_table="titles"))
    with pyhist.context(user="ada") as active:
        create("a")
        Book.objects.filter(title="a").update(title="A")
    create("b")
    book = Book.objects.get(title="A")
    assert {event.pgh_event_table for event in RecordedEvent.objects.all()} == {"book_event", "titles"}
    events = RecordedEvent.objects.of(book).filter(pgh_label="book")
    assert [event.pgh_diff for event in events] == [{"title": ["a", "A"]}, None]
    assert (events.count(), events.exists(), len(events[:1])) == (2, True, 1)
    (first,) = events.filter(pgh_diff__isnull=True)
    assert (first.pgh_obj_table, first.pgh_obj_id, first.pgh_data["title"]) == ("book", str(book.pk), "a")
    assert str(first) == f"public.book_event:{first.pgh_id}"
    assert RecordedEvent.objects.of(Book, context_id=active.id).count() == 4
    assert RecordedEvent.objects.of(Book, label="book", max_rows=1).get().pgh_data["title"] == "b"
    assert RecordedEvent.objects.filter(pgh_context__user="ada", pgh_event_table="titles").count() == 2
    assert (
        BookEvent.objects.filter(
            pgh_id__in=RecordedEvent.objects.of(book).filter(pgh_label="book").values("pgh_id")
        ).count()
        == 2
    )
    assert RecordedEvent.objects.referring_to(book).count() == 4


@directly
def test_the_admin_shows_the_history_of_an_object(library: Library) -> None:
    with pyhist.context(user="<ada>", url="/a"):
        create("a")
        Book.objects.filter(title="a").update(title="<A>", price=1)
    create("b")
    book = Book.objects.get(title="<A>")
    url = f"/admin/library/book/{book.pk}/history/"
    staff = get_user_model().objects.create_user("staff", password="secret", is_staff=True)
    assert logged_in("staff").get(url).status_code == 403
    staff.user_permissions.add(Permission.objects.get(codename="view_book"))
    page = logged_in("staff").get(url)
    assert page.status_code == 200
    text = page.content.decode()
    assert "title: a &rarr; &lt;A&gt;" in text
    assert "user: &lt;ada&gt;" in text
    assert "2 events" in text
    assert logged_in("staff").post(url).status_code == 200
    assert RecordedEvent.objects.of(book).count() == 2
    assert logged_in("staff").get("/admin/library/book/77/history/").status_code == 302
