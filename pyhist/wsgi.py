"""WSGI applications whose requests have a context."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from pyhist.context import Steps, active_context
from pyhist.context import context as history_context

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment


class HistoryMiddleware:
    """Gives each request a context: `app = HistoryMiddleware(app)`.

    It holds until the response is closed, so what a streamed body writes belongs to it, too. Its metadata is
    the request's `method` and `url` (the path: queries hold secrets), what `context` adds, and what
    `pyhist.context` adds while the request is handled.

    Args:
        app: the application.
        context: gives more metadata for an environ, such as
            `lambda environ: {"user": environ.get("REMOTE_USER")}`.
    """

    def __init__(
        self,
        app: WSGIApplication,
        context: Callable[[WSGIEnvironment], Mapping[str, Any]] | None = None,
    ) -> None:
        self.app = app
        self.context = context

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        metadata = {"method": environ["REQUEST_METHOD"], "url": _path(environ)}
        if self.context is not None:
            metadata |= self.context(environ)
        with history_context(**metadata):
            body = self.app(environ, start_response)
            if isinstance(body, list | tuple) or _is_file(body, environ):
                return body
            return _Body(body, Steps(active_context()))


class _Body:
    """The body of a response, made and closed in the request's context."""

    def __init__(self, body: Iterable[bytes], step: Steps) -> None:
        self._body = body
        self._step = step
        self._chunks: Iterator[bytes] | None = None

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        with self._step():
            if self._chunks is None:
                self._chunks = iter(self._body)
            return next(self._chunks)

    def close(self) -> None:
        """Closes the body, as servers do in the end."""
        close: Callable[[], None] | None = getattr(self._body, "close", None)
        if close is not None:
            with self._step():
                close()


def _path(environ: WSGIEnvironment) -> str:
    """The path as it was meant: WSGI has its bytes in a text of Latin-1."""
    path: str = environ.get("SCRIPT_NAME", "") + environ.get("PATH_INFO", "")
    return path.encode("latin-1", "replace").decode("utf-8", "replace")


def _is_file(body: Any, environ: WSGIEnvironment) -> bool:
    """Whether it is a file that the server may send by means of its own, which it knows by its class."""
    wrapper = environ.get("wsgi.file_wrapper")
    return isinstance(wrapper, type) and isinstance(body, wrapper)
