"""Why things happen: the context of the current thread or task.

`context` lives in one `ContextVar`, so each thread and each asyncio task has its own, and a task inherits the
one it was started in. It is carried to the server by what `pyhist.instrument` and its fellows make of a
connection.
"""

from __future__ import annotations

import functools
import inspect
import json
import math
from collections.abc import AsyncGenerator, Callable, Generator, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, replace
from enum import Enum
from types import TracebackType
from typing import Any, TypeVar, cast
from uuid import UUID, uuid4

Decorated = TypeVar("Decorated", bound=Callable[..., Any])


@dataclass(frozen=True)
class Layer:
    """What one `context` added, and whether it ends with its `with` block or with the whole context.

    The metadata is a dict, or a mapping of another kind, which is then asked for each statement anew.
    """

    source: context | None
    metadata: Mapping[str, Any]
    is_block: bool


@dataclass(frozen=True)
class ActiveContext:
    """The context of the current thread or task.

    Attributes:
        id: made by the outermost `context`, and the same for all inside it.
        layers: what was added, later keys winning.
    """

    id: UUID
    layers: tuple[Layer, ...]

    @property
    def metadata(self) -> dict[str, Any]:
        """Everything that was added, as it will be written: values that JSON does not know are text."""
        return {key: value for layer in self.layers for key, value in layer.metadata.items()}

    @property
    def settings(self) -> tuple[str, str]:
        """The values of `pghistory.context_id` and `pghistory.context_metadata`."""
        if all(isinstance(layer.metadata, dict) for layer in self.layers):
            return self._lasting_settings
        return str(self.id), json.dumps(self.metadata)

    @functools.cached_property
    def _lasting_settings(self) -> tuple[str, str]:
        return str(self.id), json.dumps(self.metadata)


_active: ContextVar[ActiveContext | None] = ContextVar("pyhist.context", default=None)


def active_context() -> ActiveContext | None:
    """The context that statements sent from here are recorded with, or None."""
    return _active.get()


class context:  # noqa: N801 - reads as the verb it is: `with pyhist.context(user=1):`
    """Says why things happen, in any keys you like: `context(user=1, url="/signup")`.

    As a context manager (`with` or `async with`) or as a decorator of a function, coroutine function,
    generator or asynchronous generator, it holds for the statements sent inside. The outermost one makes the
    context's id; inner ones add their keys for as long as they last. Merely called, it adds its keys to the
    context that is active, until that ends, and does nothing if none is.

    Values that JSON does not know are written as text: dates, UUIDs, decimals, enums (their value), anything
    else as `str()` shows it.
    """

    __slots__ = ("metadata",)

    def __init__(self, /, **metadata: Any) -> None:
        self.metadata: Mapping[str, Any] = as_json(metadata)
        active = _active.get()
        if active is not None:
            layers = active.layers
            if len(layers) > 1 and not (layers[-2].is_block or layers[-1].is_block):
                # Calls that will not become blocks any more do not pile up.
                layers = (*layers[:-2], Layer(None, {**layers[-2].metadata, **layers[-1].metadata}, False))
            _active.set(replace(active, layers=(*layers, Layer(self, self.metadata, False))))

    def __repr__(self) -> str:
        return f"context({', '.join(f'{key}={value!r}' for key, value in self.metadata.items())})"

    def __enter__(self) -> ActiveContext:
        outer = self._without_call(_active.get())
        block = Layer(self, self.metadata, True)
        entered = replace(outer, layers=(*outer.layers, block)) if outer else ActiveContext(uuid4(), (block,))
        _active.set(entered)
        return entered

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        active = _active.get()
        if active is not None:
            _active.set(_without(active, self, is_block=True))

    async def __aenter__(self) -> ActiveContext:
        return self.__enter__()

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.__exit__(kind, error, traceback)

    def __call__(self, function: Decorated) -> Decorated:
        _active.set(self._without_call(_active.get()))
        return cast(Decorated, _decorated(function, self.metadata))

    def _without_call(self, active: ActiveContext | None) -> ActiveContext | None:
        """What was active before this object was made: it turned out to be more than a mere call."""
        return active and _without(active, self, is_block=False)


def _without(active: ActiveContext, source: context, *, is_block: bool) -> ActiveContext | None:
    """The context without what was last added so. Without its first layer it is over."""
    positions = [
        i for i, layer in enumerate(active.layers) if layer.source is source and layer.is_block == is_block
    ]
    if not positions:
        return active
    last = positions[-1]
    if last == 0:
        return None
    return replace(active, layers=active.layers[:last] + active.layers[last + 1 :])


def _decorated(function: Callable[..., Any], metadata: Mapping[str, Any]) -> Callable[..., Any]:
    if inspect.isasyncgenfunction(function):

        @functools.wraps(function)
        async def asynchronous_generator(*args: Any, **kwargs: Any) -> AsyncGenerator[Any, Any]:
            steps: AsyncGenerator[Any, Any] = function(*args, **kwargs)
            step = Steps(_entered(metadata))
            try:
                with step():
                    item = await anext(steps)
                while True:
                    try:
                        sent = yield item
                    except GeneratorExit:
                        raise
                    except BaseException as error:
                        with step():
                            item = await steps.athrow(error)
                    else:
                        with step():
                            item = await steps.asend(sent)
            except StopAsyncIteration:
                return
            finally:
                with step():
                    await steps.aclose()

        return asynchronous_generator

    if inspect.isgeneratorfunction(function):

        @functools.wraps(function)
        def generator(*args: Any, **kwargs: Any) -> Generator[Any, Any, Any]:
            steps: Generator[Any, Any, Any] = function(*args, **kwargs)
            step = Steps(_entered(metadata))
            try:
                with step():
                    item = next(steps)
                while True:
                    try:
                        sent = yield item
                    except GeneratorExit:
                        raise
                    except BaseException as error:
                        with step():
                            item = steps.throw(error)
                    else:
                        with step():
                            item = steps.send(sent)
            except StopIteration as end:
                return end.value
            finally:
                with step():
                    steps.close()

        return generator

    if inspect.iscoroutinefunction(function):

        @functools.wraps(function)
        async def coroutine_function(*args: Any, **kwargs: Any) -> Any:
            with context(**metadata):
                return await function(*args, **kwargs)

        return coroutine_function

    @functools.wraps(function)
    def plain_function(*args: Any, **kwargs: Any) -> Any:
        with context(**metadata):
            return function(*args, **kwargs)

    return plain_function


def _entered(metadata: Mapping[str, Any]) -> ActiveContext:
    """The context that a block would have here."""
    outside = _active.get()
    try:
        return context(**metadata).__enter__()
    finally:
        _active.set(outside)


class Steps:
    """Runs something in a context step by step (`with step():`); whoever asks for the steps keeps his own.

    Args:
        inside: the context of the first step; later ones go on with what the one before has left.
    """

    def __init__(self, inside: ActiveContext | None) -> None:
        self._inside = inside

    @contextmanager
    def __call__(self) -> Iterator[None]:
        outside = _active.get()
        _active.set(self._inside)
        try:
            yield
        finally:
            self._inside = _active.get()
            _active.set(outside)


def as_json(value: Any) -> Any:
    """The value as JSON can hold it and jsonb can read it; what JSON does not know becomes text."""
    if isinstance(value, Enum):
        value = value.value if isinstance(value, str | int | float) else str(value.value)
    if value is None or isinstance(value, bool | int) or (isinstance(value, float) and math.isfinite(value)):
        return value
    if isinstance(value, Mapping):
        return {_as_text(key): as_json(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [as_json(item) for item in value]
    return _as_text(value)


def _as_text(value: Any) -> str:
    """The value's text without what jsonb refuses: NUL and lone surrogates."""
    text = str(value.value if isinstance(value, Enum) else value)
    return text.replace("\0", "\N{REPLACEMENT CHARACTER}").encode("utf-8", "replace").decode("utf-8")
