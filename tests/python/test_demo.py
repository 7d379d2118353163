"""pyhist.demo: what people see first."""

from __future__ import annotations

import shlex
import subprocess
from pathlib import Path

import pytest

from pyhist import demo


def test_the_demo_shows_what_changed_who_did_it_and_why(capsys: pytest.CaptureFixture[str]) -> None:
    assert demo.run() == 0
    shown = capsys.readouterr().out
    for recorded in (
        ("product", "product 1", "price: 5.50 -> 5.78", "maya", "spring price list"),
        ("order.shipped", "orders 17", "parcel: null -> RX 4711, status: paid -> shipped", "tom"),
        ("order", "orders 4", "status: new -> cancelled", "sam", "ticket 1183: cancel order 40"),
        ("order", "orders 4", "status: cancelled -> new", "maya", "ticket 1183 hit every new order"),
        ("order.line", "order line 23/20", "deleted", "-", "-"),
        ("order", "orders 24", "deleted", "postgres in psql", "-"),
    ):
        assert any(all(value in line for value in recorded) for line in shown.splitlines()), recorded


def test_the_demo_fits_into_a_terminal_of_100_columns(capsys: pytest.CaptureFixture[str]) -> None:
    demo.run()
    assert [line for line in capsys.readouterr().out.splitlines() if len(line) > 100] == []


def test_the_demo_leaves_nothing_behind(capsys: pytest.CaptureFixture[str]) -> None:
    demo.run()
    folder = Path(capsys.readouterr().out.split(" runs in ")[1].split(",")[0])
    assert folder.name.startswith("pyhist-")
    assert not folder.exists()


def test_a_kept_demo_is_looked_at_and_removed_as_it_says(capsys: pytest.CaptureFixture[str]) -> None:
    demo.run(keep=True)
    psql, remove = (
        shlex.split(line) for line in capsys.readouterr().out.splitlines() if line.startswith("    /")
    )
    look = [*psql, "-Atc", "SELECT count(*) > 300 FROM what_happened"]
    assert subprocess.run(look, capture_output=True, text=True, check=True).stdout == "t\n"
    subprocess.run(remove, check=True)
    assert not Path(remove[-1]).exists()
