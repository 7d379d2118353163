"""ASGI applications whose requests have a context."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from inspect import isawaitable
from typing import Any, TypeAlias

from pyhist.context import context as history_context

Scope: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send: TypeAlias = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Application: TypeAlias = Callable[[Scope, Receive, Send], Awaitable[None]]


class HistoryMiddleware:
    """Gives each request and each WebSocket a context: `app.add_middleware(HistoryMiddleware)`.

    It holds until the application is done with it: streamed responses and background tasks belong to it, too.
    Its metadata is the `url` (the path: queries hold secrets), for a request its `method`, what `context`
    adds, and what `pyhist.context` adds on the way. What is not asked for by somebody outside, such as the
    application's start, has none.

    Args:
        app: the application.
        context: gives more metadata for a scope, such as
            `lambda scope: {"client": scope["client"][0]}`; it may be a coroutine function.
    """

    def __init__(
        self,
        app: Application,
        context: Callable[[Scope], Mapping[str, Any] | Awaitable[Mapping[str, Any]]] | None = None,
    ) -> None:
        self.app = app
        self.context = context

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self.app(scope, receive, send)
            return
        metadata = {name: scope[name] for name in ("method",) if name in scope} | {"url": scope["path"]}
        if self.context is not None:
            added = self.context(scope)
            metadata |= await added if isawaitable(added) else added
        with history_context(**metadata):
            await self.app(scope, receive, send)
