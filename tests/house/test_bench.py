"""The bench works, at sizes that measure nothing, and what is published comes from what was measured."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
BENCH = ROOT / "tests" / "bench"
PUBLISHED = ROOT / "docs" / "performance"


def run(program: str, *arguments: str | Path) -> None:
    done = subprocess.run(
        [sys.executable, BENCH / program, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "PYHIST_BENCH_FORM": "tiny"},
        check=False,
    )
    assert done.returncode == 0, done.stdout


def texts(chart: Path) -> list[str]:
    """The words and numbers of a chart: how they are drawn depends on the version of the library."""
    return re.findall(r"<text[^>]*>([^<]*)</text>", chart.read_text())


def test_the_bench_measures_and_reports(tmp_path: Path) -> None:
    run("bench.py", "--only", "contexts", "--only", "scaling", "--folder", tmp_path)
    (saved,) = tmp_path.glob("postgresql-*.json")
    report = json.loads(saved.read_text())
    assert {row["group"] for row in report["results"]} == {"contexts", "scaling"}
    assert all(row["wall"] > 0 and row["cpu"] > 0 for row in report["results"])
    assert {row["unit"] for row in report["amounts"]} == {"MB"}
    page = saved.with_suffix(".md").read_text()
    assert all(
        f"**{row['workload']}**" in page and f"| {row['variant']} |" in page for row in report["results"]
    )
    assert "| a context, 1000 statements in a transaction |" in page
    shown = re.findall(r"!\[(.+)\]\(\1\)", page)
    assert {path.name for path in tmp_path.glob("*.svg")} == set(shown)
    assert f"{saved.stem}-contexts.svg" in shown
    assert "pghistory, auto, context" in texts(tmp_path / f"{saved.stem}-contexts.svg")

    drawn = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    run("report.py", saved)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == drawn


def test_what_is_published_is_what_was_measured(tmp_path: Path) -> None:
    """Tables and charts are drawn anew from the numbers."""
    for saved in PUBLISHED.glob("*.json"):
        again = tmp_path / saved.name
        again.write_text(saved.read_text())
        run("report.py", again)
    published = {path.name for path in PUBLISHED.glob("postgresql-*")}
    assert {path.name for path in tmp_path.iterdir()} == published
    for path in tmp_path.glob("*.md"):
        assert path.read_text() == (PUBLISHED / path.name).read_text()
    for path in tmp_path.glob("*.svg"):
        assert texts(path) == texts(PUBLISHED / path.name)


def test_the_tables_of_the_page_on_performance_are_from_what_was_measured() -> None:
    page = (ROOT / "docs" / "performance.md").read_text()
    program = "import summary; print(summary.rendered(summary.PAGE.read_text()), end='')"
    environment = {**os.environ, "PYTHONPATH": str(BENCH)}
    again = subprocess.run(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, text=True, env=environment, check=True
    )
    assert again.stdout == page
    assert page.count("<!-- end -->") == len(
        re.findall(r"<!-- measured: [\w-]+ -->\n\n(?:PostgreSQL \d+:\n\n)?\|", page)
    )
