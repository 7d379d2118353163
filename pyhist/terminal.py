"""What a terminal can do, and what the person in front of it expects."""

from __future__ import annotations

import os
import shutil
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TextIO, TypeAlias

Colour: TypeAlias = Literal["red", "green", "yellow", "cyan", "bold", "dim"]
_CODES: dict[Colour, int] = {"red": 31, "green": 32, "yellow": 33, "cyan": 36, "bold": 1, "dim": 2}


@dataclass(frozen=True)
class Terminal:
    """Where output goes.

    Attributes:
        width: in cells; None for files and pipes, where nothing is shortened.
        is_coloured: whether it shows colours, and nobody said NO_COLOR.
    """

    width: int | None = None
    is_coloured: bool = False

    @classmethod
    def of(cls, stream: TextIO) -> Terminal:
        """What is known about a stream."""
        if not stream.isatty():
            return cls()
        plain = os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb"
        return cls(shutil.get_terminal_size().columns, not plain)

    def paint(self, text: str, colour: Colour) -> str:
        """The text in a colour, if there are any."""
        return f"\033[{_CODES[colour]}m{text}\033[0m" if self.is_coloured and text else text


def local_zone() -> str | None:
    """The name of the zone that this machine or its user is in, or None if it cannot be told."""
    if name := os.environ.get("TZ"):
        return name.removeprefix(":")
    _, _, name = str(Path("/etc/localtime").resolve()).partition("/zoneinfo/")
    return name or None


class Progress:
    """A bar on standard error, if that is a terminal: how far it is, and how long it will take.

    Args:
        clock: seconds that pass.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._begin = clock()
        self._terminal = Terminal.of(sys.stderr)

    def report(self, done: int, total: int, events: int) -> None:
        """Shows that so much of the total is done, and has given so many events."""
        if self._terminal.width is None or not total:
            return
        share = done / total
        bar = "#" * int(20 * share)
        said = f"[{bar:-<20}] {share:4.0%}  {events:,} events"
        if 0 < done < total:
            said += f"  {_duration((self._clock() - self._begin) * (total - done) / done)} left"
        self._write(said[: self._terminal.width - 1])

    def end(self) -> None:
        """Takes the bar away."""
        if self._terminal.width is not None:
            self._write("")

    def _write(self, said: str) -> None:
        sys.stderr.write(f"\r\033[K{said}")
        sys.stderr.flush()


def _duration(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"
