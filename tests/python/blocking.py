"""Asynchronous psycopg objects with the face of the synchronous ones: a test can be written for both."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncIterable, Iterator
from typing import Any

import psycopg


class Blocking:
    """Runs what the object would have awaited, in a task that inherits the context of the caller."""

    def __init__(self, target: Any, loop: asyncio.AbstractEventLoop) -> None:
        self._target = target
        self._loop = loop

    def _shown(self, result: Any) -> Any:
        if inspect.isawaitable(result):
            return self._shown(self._run(result))
        if isinstance(result, AsyncIterable | psycopg.AsyncConnection | psycopg.AsyncTransaction) or hasattr(
            result, "__aenter__"
        ):
            return Blocking(result, self._loop)
        return result

    def _run(self, awaitable: Any) -> Any:
        async def awaiting() -> Any:
            return await awaitable

        return self._loop.run_until_complete(awaiting())

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._target, name)
        if not callable(value):
            return value
        return lambda *args, **kwargs: self._shown(value(*args, **kwargs))

    def __enter__(self) -> Any:
        return self._shown(self._target.__aenter__())

    def __exit__(self, *error: Any) -> Any:
        return self._shown(self._target.__aexit__(*error))

    def __iter__(self) -> Iterator[Any]:
        items = aiter(self._target)
        try:
            while True:
                try:
                    yield self._run(anext(items))
                except StopAsyncIteration:
                    return
        finally:
            if inspect.isasyncgen(items):
                self._run(items.aclose())
