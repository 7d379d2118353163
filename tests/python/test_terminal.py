"""pyhist.terminal: what a terminal can do."""

from __future__ import annotations

import io
import sys
from pathlib import Path

import pytest

from pyhist.terminal import Progress, Terminal, local_zone


class Screen(io.StringIO):
    """A stream that says that it is a terminal."""

    def isatty(self) -> bool:
        return True


def test_what_is_no_terminal_has_no_width_and_no_colours() -> None:
    terminal = Terminal.of(io.StringIO())
    assert terminal == Terminal(None, False)
    assert terminal.paint("text", "red") == "text"


def test_a_terminal_has_colours_unless_somebody_says_no(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "70")
    monkeypatch.delenv("NO_COLOR", raising=False)
    assert Terminal.of(Screen()) == Terminal(70, True)
    assert Terminal.of(Screen()).paint("text", "red") == "\033[31mtext\033[0m"
    monkeypatch.setenv("TERM", "dumb")
    assert Terminal.of(Screen()) == Terminal(70, False)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("NO_COLOR", "1")
    assert Terminal.of(Screen()) == Terminal(70, False)


def test_the_zone_is_the_users(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", ":Asia/Tokyo")
    assert local_zone() == "Asia/Tokyo"
    monkeypatch.delenv("TZ")
    zone = local_zone()
    assert zone is None or Path("/usr/share/zoneinfo", zone).exists()


def test_progress_shows_how_far_it_is_and_how_long_it_will_take(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = Screen()
    monkeypatch.setattr(sys, "stderr", screen)
    monkeypatch.setenv("COLUMNS", "70")
    times = iter([0.0, 10.0, 100.0, 9000.0])
    progress = Progress(lambda: next(times))
    for done, events in ((0, 0), (200, 1500), (400, 3000), (500, 3500), (1000, 4000)):
        progress.report(done, 1000, events)
    progress.end()
    assert screen.getvalue().split("\r\033[K")[1:] == [
        "[--------------------]   0%  0 events",
        "[####----------------]  20%  1,500 events  40 s left",
        "[########------------]  40%  3,000 events  2 min left",
        "[##########----------]  50%  3,500 events  2 h 30 min left",
        "[####################] 100%  4,000 events",
        "",
    ]


def test_progress_is_silent_where_there_is_no_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    progress = Progress()
    progress.report(1, 2, 3)
    progress.end()
    assert capsys.readouterr().err == ""
