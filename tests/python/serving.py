"""A WSGI application on a real server, each request in a thread of its own."""

from __future__ import annotations

import contextlib
import io
import threading
from collections.abc import Iterator
from socketserver import ThreadingMixIn
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

import httpx


class Server(ThreadingMixIn, WSGIServer):
    daemon_threads = False


class QuietHandler(WSGIRequestHandler):
    def log_message(self, *args: Any) -> None:
        pass

    def get_stderr(self) -> Any:
        return io.StringIO()  # tracebacks of errors that tests provoke


@contextlib.contextmanager
def serving(app: Any) -> Iterator[httpx.Client]:
    """A client of the application, which is being served."""
    with make_server("127.0.0.1", 0, app, server_class=Server, handler_class=QuietHandler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            with httpx.Client(base_url=f"http://127.0.0.1:{server.server_port}", timeout=30) as client:
                yield client
        finally:
            server.shutdown()
            thread.join()
