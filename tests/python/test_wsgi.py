"""WSGI applications: each request has a context, whatever writes for it and whenever."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any
from wsgiref.util import FileWrapper

import flask
import psycopg
import pytest
from probe import Probe
from proxy import counting_proxy
from psycopg_pool import ConnectionPool
from serving import serving

import pyhist
from pyhist.context import active_context
from pyhist.wsgi import HistoryMiddleware

Application = Callable[..., Any]


@pytest.fixture
def pool(probe: Probe) -> Iterator[ConnectionPool[Any]]:
    """Two connections that carry the context, taken anew for each request."""
    with ConnectionPool(
        probe.dsn, connection_class=pyhist.Connection, min_size=2, max_size=2, open=True
    ) as pool:
        yield pool


@pytest.fixture
def app(pool: ConnectionPool[Any]) -> flask.Flask:
    """An application that writes items."""
    app = flask.Flask(__name__)

    def add(number: int) -> None:
        with pool.connection() as connection:
            connection.execute("SELECT add(%s)", [number])

    @app.post("/items/<int:number>")
    def one(number: int) -> str:
        add(number)
        return "ok"

    @app.post("/logged-in/<int:number>")
    def logged_in(number: int) -> str:
        pyhist.context(user=flask.request.headers["user"])
        add(number)
        return "ok"

    @app.post("/nested/<int:number>")
    def nested(number: int) -> str:
        with pyhist.context(step="first"):
            add(number)
        add(number + 1)
        return "ok"

    @app.post("/streamed/<int:number>")
    def streamed(number: int) -> flask.Response:
        def rows() -> Iterator[str]:
            for i in range(3):
                add(number + i)
                yield f"{i}\n"
            pyhist.context(all=True)
            add(number + 3)

        response = flask.Response(rows())
        response.call_on_close(lambda: add(number + 4))
        return response

    @app.post("/broken/<int:number>")
    def broken(number: int) -> str:
        add(number)
        raise RuntimeError

    return app


def test_a_request_is_the_context_of_what_it_writes(app: flask.Flask, probe: Probe) -> None:
    with serving(HistoryMiddleware(app)) as client:
        assert client.post("/items/1?token=secret").text == "ok"
        assert client.post("/items/2").text == "ok"
    assert probe.seen() == [
        (1, {"method": "POST", "url": "/items/1"}),
        (2, {"method": "POST", "url": "/items/2"}),
    ]


def test_each_request_has_a_context_of_its_own(app: flask.Flask, probe: Probe) -> None:
    with serving(HistoryMiddleware(app)) as client:
        client.post("/nested/1")
        client.post("/items/3")
    first, second, third = probe.ids()
    assert first == second != third


def test_a_function_of_the_environ_adds_what_it_knows(app: flask.Flask, probe: Probe) -> None:
    served = HistoryMiddleware(
        app, context=lambda environ: {"agent": environ["HTTP_USER_AGENT"], "method": None}
    )
    with serving(served) as client:
        client.post("/items/1", headers={"User-Agent": "robot"})
    assert probe.seen() == [(1, {"method": None, "url": "/items/1", "agent": "robot"})]


def test_what_is_called_on_the_way_adds_to_the_request(app: flask.Flask, probe: Probe) -> None:
    with serving(HistoryMiddleware(app)) as client:
        client.post("/logged-in/1", headers={"user": "ada"})
        client.post("/items/2")
        client.post("/nested/3")
    assert probe.seen() == [
        (1, {"method": "POST", "url": "/logged-in/1", "user": "ada"}),
        (2, {"method": "POST", "url": "/items/2"}),
        (3, {"method": "POST", "url": "/nested/3", "step": "first"}),
        (4, {"method": "POST", "url": "/nested/3"}),
    ]


def test_a_streamed_body_and_its_end_belong_to_the_request(app: flask.Flask, probe: Probe) -> None:
    with serving(HistoryMiddleware(app)) as client:
        assert client.post("/streamed/1").text == "0\n1\n2\n"
    request = {"method": "POST", "url": "/streamed/1"}
    assert probe.seen() == [
        (1, request),
        (2, request),
        (3, request),
        (4, request | {"all": True}),
        (5, request | {"all": True}),
    ]


def test_an_error_ends_the_context(app: flask.Flask, probe: Probe) -> None:
    app.testing = True  # errors reach whoever called
    served = HistoryMiddleware(app)
    environ = app.test_request_context("/broken/1", method="POST").request.environ
    with pytest.raises(RuntimeError):
        served(environ, lambda *_: None)
    assert active_context() is None
    with serving(served) as client:
        assert client.post("/broken/2").status_code == 500
        assert client.post("/items/3").text == "ok"
    assert [item for item, _ in probe.seen()] == [1, 2, 3]


def test_users_at_the_same_time_are_not_mixed_up(app: flask.Flask, probe: Probe) -> None:
    users = 12
    together = threading.Barrier(users)

    def change(user: int) -> None:
        together.wait()
        for i in range(5):
            path = "/streamed" if i == 2 else "/logged-in"
            client.post(f"{path}/{user * 100 + i * 10}", headers={"user": f"user {user}"}).raise_for_status()

    with serving(HistoryMiddleware(app, context=lambda environ: {"user": environ["HTTP_USER"]})) as client:
        with ThreadPoolExecutor(users) as threads:
            list(threads.map(change, range(users)))
    seen = probe.seen()
    assert len(seen) == users * 9
    assert [item for item, metadata in seen if (metadata or {})["user"] != f"user {item // 100}"] == []


def test_a_pooled_connection_is_given_back_without_the_context(
    app: flask.Flask, pool: ConnectionPool[Any], probe: Probe
) -> None:
    with serving(HistoryMiddleware(app)) as client:
        client.post("/logged-in/1", headers={"user": "ada"})
        client.post("/logged-in/2", headers={"user": "bob"})
    with pool.connection() as one, pool.connection() as other:
        one.execute("SELECT add(3)")
        other.execute("SELECT add(4)")
    assert [metadata for _, metadata in probe.seen()[2:]] == [None, None]


def test_paths_are_read_as_what_they_mean(app: flask.Flask, probe: Probe) -> None:
    app.add_url_rule("/größe/<int:number>", view_func=app.view_functions["one"], methods=["POST"])
    with serving(HistoryMiddleware(app)) as client:
        client.post("/größe/1").raise_for_status()
    assert probe.seen() == [(1, {"method": "POST", "url": "/größe/1"})]


def test_a_mounted_application_has_its_whole_path(probe: Probe) -> None:
    def add(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        with closing(pyhist.Connection.connect(probe.dsn, autocommit=True)) as connection:
            connection.execute("SELECT add(1)")
        return []

    mounted = {"REQUEST_METHOD": "PUT", "SCRIPT_NAME": "/shop", "PATH_INFO": "/items"}
    HistoryMiddleware(add)(mounted, lambda *_: lambda _: None)
    assert probe.seen() == [(1, {"method": "PUT", "url": "/shop/items"})]


def test_an_application_that_is_a_generator_writes_in_the_context(probe: Probe) -> None:
    def add(environ: dict[str, Any], start_response: Any) -> Iterator[bytes]:
        start_response("200 OK", [])
        with closing(pyhist.Connection.connect(probe.dsn, autocommit=True)) as connection:
            yield b"a"
            connection.execute("SELECT add(1)")
            yield b"b"

    with serving(HistoryMiddleware(add)) as client:
        assert client.get("/").text == "ab"
    assert probe.seen() == [(1, {"method": "GET", "url": "/"})]


def test_a_body_that_is_given_up_is_closed_in_the_context(probe: Probe) -> None:
    def add(environ: dict[str, Any], start_response: Any) -> Iterator[bytes]:
        try:
            yield b"a"
        finally:
            with closing(psycopg.connect(probe.dsn, autocommit=True)) as connection:
                pyhist.instrument(connection).execute("SELECT add(1)")

    body: Any = HistoryMiddleware(add)({"REQUEST_METHOD": "GET", "PATH_INFO": "/"}, lambda *_: None)
    assert next(body) == b"a"
    assert active_context() is None
    body.close()
    assert probe.seen() == [(1, {"method": "GET", "url": "/"})]
    assert active_context() is None


def test_lists_and_files_reach_the_server_as_they_are() -> None:
    environ = {"REQUEST_METHOD": "GET", "PATH_INFO": "/", "wsgi.file_wrapper": FileWrapper}
    with Path(__file__).open("rb") as file:
        for body in ([b"a"], FileWrapper(file)):
            served = HistoryMiddleware(lambda *_, body=body: body)  # type: ignore[misc]
            assert served(environ, lambda *_: None) is body


def test_a_request_costs_no_round_trip_its_stream_included(server: Any, probe: Probe) -> None:
    counts = []
    for kind, middleware in (
        (psycopg.Connection, lambda app: app),
        (pyhist.Connection, HistoryMiddleware),
    ):
        with (
            counting_proxy(server.port) as proxy,
            closing(
                kind.connect(probe.dsn, host="127.0.0.1", port=proxy.port, autocommit=True)
            ) as connection,
        ):

            def app(environ: Any, start_response: Any, connection: Any = connection) -> Iterator[bytes]:
                start_response("200 OK", [])
                for number in (1, 2):
                    connection.execute("INSERT INTO item VALUES (%s)", [number])
                    yield b"."

            proxy.count()
            environ = {"REQUEST_METHOD": "POST", "PATH_INFO": "/items"}
            assert b"".join(middleware(app)(environ, lambda *_: None)) == b".."
            counts.append(proxy.count())
        said = {"method": "POST", "url": "/items"} if middleware is HistoryMiddleware else None
        assert probe.seen() == [(1, said), (2, said)]
        probe.observer.execute("TRUNCATE item")
    plain, carried = counts
    assert plain == carried == 2
