"""Stopping servers, starting them again, and waiting for what they do by themselves."""

from __future__ import annotations

import time
from collections.abc import Callable

import pyhist.server

PATIENCE = 60  # seconds


def stop(server: pyhist.server.Server) -> None:
    """Stop a server and leave its data where they are."""
    server.installation.run("pg_ctl", "-D", server.folder / "data", "-m", "fast", "-w", "-s", "stop")


def start(server: pyhist.server.Server) -> None:
    """Start a server again."""
    postgres = server.installation.bindir / "postgres"
    log = server.folder / "server.log"
    server.installation.run(
        "pg_ctl", "-D", server.folder / "data", "-l", log, "-p", postgres, "-w", "-s", "start"
    )


def until(happened: Callable[[], bool]) -> None:
    """Ask until it has happened; fail if it does not within a minute."""
    deadline = time.monotonic() + PATIENCE
    while not happened():
        assert time.monotonic() < deadline, "it did not happen"
