"""Decorated coroutines and generators that write, the same with every driver."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable

import pyhist


async def run_decorated_coroutines(add: Callable[[int], Awaitable[None]]) -> None:
    """Call `add(number)`, which writes an item, in a decorated coroutine, in a decorated generator and beside it."""

    @pyhist.context(job="generator")
    async def generator() -> AsyncIterator[None]:
        await add(2)
        yield
        await add(4)

    await pyhist.context(job="coroutine")(add)(1)
    async for _ in generator():
        await add(3)


# What a probe has seen then.
SEEN_OF_COROUTINES = [
    (1, {"job": "coroutine"}),
    (2, {"job": "generator"}),
    (3, None),
    (4, {"job": "generator"}),
]
