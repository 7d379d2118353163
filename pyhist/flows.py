"""What takes several calls: generators that yield each call and are sent its rows."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

from pyhist import calls
from pyhist.calls import Call, Rows
from pyhist.models import Status


def status() -> Generator[Call[Any], Rows, Status]:
    """What is tracked, and what is wrong with it: `trackers` and `verify`."""
    tracked = yield from calls.trackers()
    problems = yield from calls.verify()
    return Status(tracked, problems)
