"""The tables of docs/performance.md, from what was measured: `python tests/bench/summary.py` writes them anew.

Each stands between `<!-- measured: name -->` and `<!-- end -->`, and is one of TABLES.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

from report import number, table
from targets import AUTO, LIMIT, ROW, STATEMENT, UNTRACKED, by_workload, outcomes

ROOT = Path(__file__).parent.parent.parent
PAGE = ROOT / "docs" / "performance.md"
MARKED = re.compile(r"(<!-- measured: ([\w-]+) -->\n).*?(<!-- end -->)", re.DOTALL)

Reports: TypeAlias = Mapping[str, Mapping[str, Any]]
DJANGO = "django-pghistory, row"
WRITES = (
    r"one row, (insert|update|no-op update|delete), narrow, in a loop",
    r"[\d,]+ rows, (?:insert|update|delete|COPY), narrow",
    r"TPC-B, .*",
)


def of(report: Mapping[str, Any], pattern: str) -> Iterator[tuple[str, dict[str, dict[str, Any]]]]:
    """The workloads whose whole name matches, with their variants."""
    for workload, variants in by_workload(report["results"]).items():
        if re.fullmatch(pattern, workload):
            yield workload, variants


def cost(variants: Mapping[str, dict[str, Any]], name: str, base: str | None = None) -> str:
    """The processor time of a variant, and how many times that of `base` it is."""
    if name not in variants:
        return ""
    row = variants[name]
    text = f"{number(row['cpu'])} {row['unit']}"
    return f"{text}, {row['cpu'] / variants[base]['cpu']:.2f} ×" if base in variants else text


def per_version(
    reports: Reports, heads: Sequence[str], rows_of: Callable[[Mapping[str, Any]], Iterator[Sequence[str]]]
) -> str:
    """The rows of each server, under its version."""
    return "\n\n".join(
        f"PostgreSQL {version}:\n\n{table(heads, rows_of(report))}" for version, report in reports.items()
    )


def writes(reports: Reports) -> str:
    def rows_of(report: Mapping[str, Any]) -> Iterator[Sequence[str]]:
        for pattern in WRITES:
            for workload, variants in of(report, pattern):
                base = LIMIT if LIMIT in variants else UNTRACKED
                yield (
                    workload.removesuffix(", in a loop").removesuffix(", narrow"),
                    cost(variants, UNTRACKED),
                    cost(variants, LIMIT),
                    *(cost(variants, name, base) for name in (AUTO, STATEMENT, ROW, DJANGO)),
                )

    return per_version(
        reports, ("", UNTRACKED, "by hand", "level auto", "level statement", "level row", DJANGO), rows_of
    )


def targets(reports: Reports) -> str:
    found: dict[tuple[str, str], dict[str, Any]] = {}
    for version, report in reports.items():
        for each in outcomes(report):
            workload = each.workload if each.name in ("TPC-B", "a whole table as it was") else ""
            most = (
                f"{each.most:g} {each.unit} {each.compared_with}".strip()
                if not workload
                else f"{each.most:g} ×"
            )
            measured = f"{each.measured:g}" if each.met else f"**{each.measured:g}**"
            found.setdefault((f"{each.name}{workload and ': '}{workload}", most), {})[version] = measured
    return table(
        ("", "at most", *(f"PostgreSQL {version}" for version in reports)),
        (
            (name, most, *(of_version.get(each, "") for each in reports))
            for (name, most), of_version in found.items()
        ),
    )


TABLES: dict[str, Callable[[Reports], str]] = {"writes": writes, "targets": targets}


def rendered(page: str) -> str:
    """The page with its tables written anew."""
    paths = sorted((ROOT / "docs" / "performance").glob("postgresql-*.json"))
    reports = {path.stem.removeprefix("postgresql-"): json.loads(path.read_text()) for path in paths}
    return MARKED.sub(lambda found: f"{found[1]}\n{TABLES[found[2]](reports)}\n\n{found[3]}", page)


def write() -> None:
    PAGE.write_text(rendered(PAGE.read_text()))


if __name__ == "__main__":
    write()
