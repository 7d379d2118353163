"""A TCP proxy that counts round trips: how often the client speaks after the server has."""

from __future__ import annotations

import contextlib
import selectors
import socket
import threading
from collections.abc import Iterator


class CountingProxy:
    """Stands between one client and a server."""

    def __init__(self, listener: socket.socket) -> None:
        self.port: int = listener.getsockname()[1]
        self._listener = listener
        self._client_spoke = False
        self._count = 0

    def count(self) -> int:
        """The round trips since the last call."""
        counted, self._count = self._count, 0
        return counted

    def serve(self, server_port: int, server_host: str) -> None:
        """Passes everything on until either side is done."""
        client, _ = self._listener.accept()
        with (
            client,
            _connected(server_port, server_host) as server,
            selectors.DefaultSelector() as ready,
        ):
            ready.register(client, selectors.EVENT_READ, server)
            ready.register(server, selectors.EVENT_READ, client)
            while True:
                for key, _ in ready.select():
                    receiver: socket.socket = key.data
                    if not (data := key.fileobj.recv(1 << 16)):  # type: ignore[union-attr]
                        return
                    from_client = receiver is server
                    self._count += from_client and not self._client_spoke
                    self._client_spoke = from_client
                    receiver.sendall(data)


def _connected(port: int, host: str) -> socket.socket:
    if not host.startswith("/"):
        return socket.create_connection((host, port))
    connected = socket.socket(socket.AF_UNIX)
    connected.connect(f"{host}/.s.PGSQL.{port}")
    return connected


@contextlib.contextmanager
def counting_proxy(server_port: int, server_host: str = "127.0.0.1") -> Iterator[CountingProxy]:
    """A running proxy to a server, whose host may be the folder of a Unix socket; connect to its `port` once."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        proxy = CountingProxy(listener)
        serving = threading.Thread(target=proxy.serve, args=(server_port, server_host))
        serving.start()
        yield proxy
        serving.join()
