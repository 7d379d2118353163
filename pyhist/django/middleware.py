"""Requests that have a context."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Mapping
from typing import Any, cast

from asgiref.sync import iscoroutinefunction, markcoroutinefunction
from django.http import FileResponse, HttpRequest, StreamingHttpResponse
from django.http.response import HttpResponseBase

from pyhist.context import Steps, active_context, context
from pyhist.django.metadata import RequestMetadata


class HistoryMiddleware:
    """Gives each request a context, until its response is closed: `"pyhist.django.HistoryMiddleware"`.

    Its metadata is the request's `method` and `url` (the path: queries hold secrets), its `user` (the primary
    key), and what `pyhist.context` adds on the way. The user is whom the request has when a statement is
    sent, as late as that may be; if nobody has looked him up by then, the first write does.

    Wherever it stands in `MIDDLEWARE`, what is below it has the context; so let it stand first. For other
    metadata, subclass it and override `get_context`.
    """

    sync_capable = True
    async_capable = True

    def __init__(self, get_response: Callable[[HttpRequest], Any]) -> None:
        self.get_response = get_response
        self._is_async = iscoroutinefunction(get_response)
        if self._is_async:
            markcoroutinefunction(self)

    def __call__(self, request: HttpRequest) -> HttpResponseBase | Awaitable[HttpResponseBase]:
        if self._is_async:
            return self._respond(request)
        with self._context(request):
            return _carrying(self.get_response(request))

    async def _respond(self, request: HttpRequest) -> HttpResponseBase:
        with self._context(request):
            return _carrying(await self.get_response(request))

    def get_context(self, request: HttpRequest) -> Mapping[str, Any]:
        """The metadata of a request, but for the user; a `user` in it stands."""
        return {"method": request.method, "url": request.path}

    def _context(self, request: HttpRequest) -> context:
        made = context()
        made.metadata = RequestMetadata(request, self.get_context(request))
        return made


def _carrying(response: HttpResponseBase) -> HttpResponseBase:
    """The response; if it is made while it is sent, that is done in the request's context, too."""
    if not isinstance(response, StreamingHttpResponse) or isinstance(response, FileResponse):
        return response
    step = Steps(active_context())
    close = response.close

    def close_in_context() -> None:
        with step():
            close()

    if response.is_async:
        response.streaming_content = _async_parts(cast(AsyncIterator[Any], response.streaming_content), step)
    else:
        response.streaming_content = _parts(cast(Iterable[Any], response.streaming_content), step)
    response.close = close_in_context
    return response


def _parts(content: Iterable[Any], step: Steps) -> Iterator[Any]:
    parts = iter(content)
    while True:
        with step():
            try:
                part = next(parts)
            except StopIteration:
                return
        yield part


async def _async_parts(content: AsyncIterator[Any], step: Steps) -> AsyncIterator[Any]:
    parts = aiter(content)
    try:
        while True:
            with step():
                try:
                    part = await anext(parts)
                except StopAsyncIteration:
                    return
            yield part
    finally:
        close = getattr(parts, "aclose", None)
        if close is not None:
            with step():
                await close()
