"""ASGI applications: each request and each WebSocket has a context, whatever writes for it and whenever."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest
from fastapi import BackgroundTasks, Depends, FastAPI, Request, WebSocket
from fastapi.responses import StreamingResponse
from probe import Probe
from psycopg_pool import AsyncConnectionPool, ConnectionPool
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.responses import PlainTextResponse
from starlette.routing import Mount, Route

import pyhist
from pyhist.asgi import HistoryMiddleware
from pyhist.context import active_context

USERS = 12


def application(probe: Probe, **options: Any) -> FastAPI:
    """An application that writes items, also when it starts and stops."""
    pools: dict[str, Any] = {}

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with AsyncConnectionPool(
            probe.dsn, connection_class=pyhist.AsyncConnection, min_size=2, max_size=2, open=False
        ) as pool:
            with ConnectionPool(
                probe.dsn, connection_class=pyhist.Connection, min_size=2, max_size=2, open=True
            ) as blocking:
                pools.update(pool=pool, blocking=blocking)
                await add(9000)
                yield
                await add(9001)

    async def add(number: int) -> None:
        async with pools["pool"].connection() as connection:
            await connection.execute("SELECT add(%s)", [number])

    def add_blocking(number: int) -> None:
        with pools["blocking"].connection() as connection:
            connection.execute("SELECT add(%s)", [number])

    async def log_in(request: Request) -> None:
        pyhist.context(user=request.headers["user"])

    app = FastAPI(lifespan=lifespan)
    app.add_middleware(HistoryMiddleware, **options)  # type: ignore[arg-type, unused-ignore]
    app.state.add = add

    @app.post("/items/{number}")
    async def one(number: int) -> str:
        await add(number)
        return "ok"

    @app.post("/blocking/{number}", dependencies=[Depends(log_in)])
    def in_a_thread(number: int) -> str:
        add_blocking(number)
        return "ok"

    @app.post("/logged-in/{number}", dependencies=[Depends(log_in)])
    async def logged_in(number: int, background: BackgroundTasks) -> StreamingResponse:
        async def rows() -> AsyncIterator[str]:
            for i in range(3):
                await add(number + i)
                yield f"{i}\n"

        async def later() -> None:
            await add(number + 4)

        background.add_task(add_blocking, number + 3)
        background.add_task(later)
        await asyncio.gather(*(add(number + i) for i in (5, 6)))
        return StreamingResponse(rows(), background=background)

    @app.post("/streamed-in-a-thread/{number}")
    def streamed_in_a_thread(number: int) -> StreamingResponse:
        def rows() -> Iterator[str]:
            for i in range(2):
                add_blocking(number + i)
                yield f"{i}\n"

        return StreamingResponse(rows())

    @app.post("/broken/{number}")
    async def broken(number: int) -> str:
        with pyhist.context(step="first"):
            await add(number)
            raise RuntimeError

    return app


def run(app: Any, use: Callable[[httpx.AsyncClient], Awaitable[Any]], **options: Any) -> Any:
    """Starts the application, uses it, and stops it."""

    async def whole() -> Any:
        started, stop = asyncio.Event(), asyncio.Event()
        received = iter(["lifespan.startup", "lifespan.shutdown"])

        async def receive() -> dict[str, str]:
            kind = next(received)
            if kind == "lifespan.shutdown":
                await stop.wait()
            return {"type": kind}

        async def send(message: Any) -> None:
            assert not message["type"].endswith("failed"), message
            started.set()

        living = asyncio.create_task(app({"type": "lifespan", "asgi": {"version": "3.0"}}, receive, send))
        await started.wait()
        try:
            transport = httpx.ASGITransport(app, **options)
            async with httpx.AsyncClient(transport=transport, base_url="http://app", timeout=30) as client:
                return await use(client)
        finally:
            stop.set()
            await living

    return asyncio.run(whole())


def seen(probe: Probe) -> list[Any]:
    """What requests wrote."""
    return [(item, metadata) for item, metadata in probe.seen() if item < 9000]


def test_a_request_is_the_context_of_what_it_writes(probe: Probe) -> None:
    async def use(client: httpx.AsyncClient) -> None:
        assert (await client.post("/items/1?token=secret")).json() == "ok"
        assert (await client.post("/items/2")).json() == "ok"

    run(application(probe), use)
    assert seen(probe) == [
        (1, {"method": "POST", "url": "/items/1"}),
        (2, {"method": "POST", "url": "/items/2"}),
    ]


def test_start_and_stop_have_no_context(probe: Probe) -> None:
    async def use(client: httpx.AsyncClient) -> None:
        await client.post("/items/1")

    run(application(probe), use)
    first, _, last = probe.seen()
    assert (first, last) == ((9000, None), (9001, None))


def test_what_is_unknown_passes_through() -> None:
    passed = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        passed.append((scope, active_context()))

    scope = {"type": "else"}
    asyncio.run(HistoryMiddleware(app)(scope, None, None))  # type: ignore[arg-type]
    assert passed == [(scope, None)]


@pytest.mark.parametrize("is_async", [False, True])
def test_a_function_of_the_scope_adds_what_it_knows(probe: Probe, is_async: bool) -> None:
    def agent(scope: Any) -> dict[str, Any]:
        return {"agent": dict(scope["headers"])[b"user-agent"].decode(), "method": None}

    async def agent_later(scope: Any) -> dict[str, Any]:
        await asyncio.get_running_loop().run_in_executor(None, lambda: None)
        return agent(scope)

    async def use(client: httpx.AsyncClient) -> None:
        await client.post("/items/1", headers={"User-Agent": "robot"})

    run(application(probe, context=agent_later if is_async else agent), use)
    assert seen(probe) == [(1, {"method": None, "url": "/items/1", "agent": "robot"})]


def test_streams_tasks_and_background_tasks_belong_to_the_request(probe: Probe) -> None:
    async def use(client: httpx.AsyncClient) -> None:
        assert (await client.post("/logged-in/10", headers={"user": "ada"})).text == "0\n1\n2\n"
        assert (await client.post("/streamed-in-a-thread/20")).text == "0\n1\n"

    run(application(probe), use)
    written = seen(probe)
    assert sorted(item for item, _ in written) == [*range(10, 17), 20, 21]
    for item, metadata in written:
        if item < 20:
            assert metadata == {"method": "POST", "url": "/logged-in/10", "user": "ada"}
        else:
            assert metadata == {"method": "POST", "url": "/streamed-in-a-thread/20"}


def test_all_that_belongs_to_a_request_has_its_id(probe: Probe) -> None:
    async def use(client: httpx.AsyncClient) -> None:
        await client.post("/logged-in/10", headers={"user": "ada"})
        await client.post("/items/1")

    run(application(probe), use)
    ids = probe.ids()[1:-1]
    assert len(set(ids[:7])) == 1
    assert ids[7] not in ids[:7]


def test_an_endpoint_in_a_thread_belongs_to_the_request(probe: Probe) -> None:
    async def use(client: httpx.AsyncClient) -> None:
        assert (await client.post("/blocking/1", headers={"user": "ada"})).json() == "ok"

    run(application(probe), use)
    assert seen(probe) == [(1, {"method": "POST", "url": "/blocking/1", "user": "ada"})]


def test_users_at_the_same_time_are_not_mixed_up(probe: Probe) -> None:
    async def use(client: httpx.AsyncClient) -> None:
        async def change(user: int) -> None:
            for i, path in enumerate(("logged-in", "blocking", "logged-in", "blocking")):
                response = await client.post(
                    f"/{path}/{user * 100 + i * 10}", headers={"user": f"user {user}"}
                )
                response.raise_for_status()

        await asyncio.gather(*map(change, range(USERS)))

    run(application(probe), use)
    written = seen(probe)
    assert len(written) == USERS * (7 + 1 + 7 + 1)
    assert [item for item, metadata in written if metadata["user"] != f"user {item // 100}"] == []


def test_an_error_ends_the_context(probe: Probe) -> None:
    async def use(client: httpx.AsyncClient) -> None:
        assert (await client.post("/broken/1")).status_code == 500
        assert active_context() is None
        await client.post("/items/2")

    run(application(probe), use, raise_app_exceptions=False)
    assert seen(probe) == [
        (1, {"method": "POST", "url": "/broken/1", "step": "first"}),
        (2, {"method": "POST", "url": "/items/2"}),
    ]


def test_a_pooled_connection_is_given_back_without_the_context(probe: Probe) -> None:
    app = application(probe)

    async def use(client: httpx.AsyncClient) -> None:
        await client.post("/logged-in/10", headers={"user": "ada"})
        await client.post("/logged-in/20", headers={"user": "bob"})
        await asyncio.gather(app.state.add(1), app.state.add(2))

    run(app, use)
    assert sorted(seen(probe)[-2:]) == [(1, None), (2, None)]


def test_a_websocket_has_one_context(probe: Probe) -> None:
    app = application(probe)

    @app.websocket("/socket")
    async def socket(websocket: WebSocket) -> None:
        await websocket.accept()
        async for number in websocket.iter_text():
            await app.state.add(int(number))
            await websocket.send_text("ok")

    async def use(_: httpx.AsyncClient) -> None:
        texts = [{"type": "websocket.receive", "text": number} for number in ("1", "2")]
        messages = iter(
            [{"type": "websocket.connect"}, *texts, {"type": "websocket.disconnect", "code": 1000}]
        )
        sent = []

        async def receive() -> Any:
            return next(messages)

        async def send(message: Any) -> None:
            sent.append(message["type"])

        scope = {
            "type": "websocket",
            "asgi": {"version": "3.0"},
            "path": "/socket",
            "headers": [],
            "query_string": b"",
        }
        await app(scope, receive, send)
        assert sent == ["websocket.accept", "websocket.send", "websocket.send"]

    run(app, use)
    assert seen(probe) == [(1, {"url": "/socket"}), (2, {"url": "/socket"})]


def test_behind_a_middleware_that_has_tasks_of_its_own_the_context_is_there(probe: Probe) -> None:
    async def add(request: Request) -> PlainTextResponse:
        async with await pyhist.AsyncConnection.connect(probe.dsn) as connection:
            await connection.execute("SELECT add(1)")
        return PlainTextResponse("ok")

    async def dispatch(request: Request, call_next: Any) -> Any:
        pyhist.context(checked=True)
        return await call_next(request)

    app = Starlette(
        routes=[Mount("/shop", routes=[Route("/items", add, methods=["PUT"])])],
        middleware=[Middleware(HistoryMiddleware), Middleware(BaseHTTPMiddleware, dispatch=dispatch)],
    )

    async def use(client: httpx.AsyncClient) -> None:
        assert (await client.put("/shop/items")).text == "ok"

    run(app, use)
    assert probe.seen() == [(1, {"method": "PUT", "url": "/shop/items", "checked": True})]
