"""Running the command line: in this process, or on a terminal of its own."""

from __future__ import annotations

import fcntl
import os
import pty
import struct
import subprocess
import sys
import termios

import pytest

from pyhist.cli import main


def result(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    """Exit status, output and errors of a command."""
    status = main(arguments)
    said = capsys.readouterr()
    return status, said.out, said.err


def on_terminal(*arguments: str, columns: int = 80, **environment: str) -> tuple[int, str]:
    """Exit status of a command, and what it writes to a terminal of so many columns."""
    terminal, stream = pty.openpty()
    fcntl.ioctl(stream, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    plain = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "NO_COLOR")}
    with subprocess.Popen(
        [sys.executable, "-m", "pyhist", *arguments],
        env=plain | {"TERM": "xterm"} | environment,
        stdin=subprocess.DEVNULL,
        stdout=stream,
        stderr=stream,
    ) as running:
        os.close(stream)
        written = b""
        try:
            while read := os.read(terminal, 65536):
                written += read
        except OSError:  # the terminal has no writer any more
            pass
        os.close(terminal)
    return running.returncode, written.decode().replace("\r\n", "\n")
