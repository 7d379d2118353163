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


def costs_of(pattern: str, names: Sequence[str], base: str) -> Callable[[Reports], str]:
    """A table with a row for each workload, and a column for each variant that is named."""

    def render(reports: Reports) -> str:
        def rows_of(report: Mapping[str, Any]) -> Iterator[Sequence[str]]:
            for workload, variants in of(report, pattern):
                yield workload, *(cost(variants, name, base if name != base else None) for name in names)

        return per_version(reports, ("", *names), rows_of)

    return render


def variants_of(pattern: str) -> Callable[[Reports], str]:
    """A table with a row for each variant of the workloads."""

    def render(reports: Reports) -> str:
        def rows_of(report: Mapping[str, Any]) -> Iterator[Sequence[str]]:
            for workload, variants in of(report, pattern):
                for name, row in variants.items():
                    yield workload, name, cost(variants, name, row["compared_with"])

        return per_version(reports, ("", "", "processor"), rows_of)

    return render


def amounts_of(pattern: str, names: Sequence[str]) -> Callable[[Reports], str]:
    """A table of what is counted."""

    def render(reports: Reports) -> str:
        def rows_of(report: Mapping[str, Any]) -> Iterator[Sequence[str]]:
            for workload, those in by_workload(report["amounts"]).items():
                if re.fullmatch(pattern, workload):
                    cells = (those.get(name, {"amount": None, "unit": ""}) for name in names)
                    yield workload, *(f"{number(cell['amount'])} {cell['unit']}".strip() for cell in cells)

        return per_version(reports, ("", *names), rows_of)

    return render


def drivers(reports: Reports) -> str:
    def rows_of(report: Mapping[str, Any]) -> Iterator[Sequence[str]]:
        rows = [row for row in report["others"] if row["group"] == "drivers"]
        plain = {(row["driver"], row["mode"]): row for row in rows if row["variant"] == "plain"}
        for row in rows:
            if row["variant"] != "one context":
                continue
            without = plain[row["driver"], row["mode"]]
            yield (
                row["driver"],
                row["mode"],
                f"{without['round_trips']:g}",
                f"{row['round_trips']:g}",
                f"{number(without['wall'])} µs",
                f"{row['wall_more']:+.0f} µs",
                f"{row['cpu_more']:+.0f} µs",
            )

    heads = (
        "driver",
        "mode",
        "round trips, plain",
        "with a context",
        "waited, plain",
        "more",
        "of that the client",
    )
    return per_version(reports, heads, rows_of)


TABLES: dict[str, Callable[[Reports], str]] = {
    "writes": writes,
    "targets": targets,
    "wide": costs_of(
        r"(one row|[\d,]+ rows), (insert|update|delete), wide(, in a loop)?",
        (UNTRACKED, LIMIT, AUTO, STATEMENT),
        LIMIT,
    ),
    "trackers": variants_of(r"trackers: .*"),
    "rare-condition": costs_of(r"rare condition: .*", (UNTRACKED, AUTO, STATEMENT, DJANGO), UNTRACKED),
    "partitions": costs_of(r"\d+ partitions: .*", (UNTRACKED, LIMIT, AUTO, DJANGO), LIMIT),
    "contexts": costs_of(
        r".* in a transaction",
        (
            f"{UNTRACKED}, no context",
            f"{AUTO}, no context",
            f"{AUTO}, context",
            f"{AUTO}, context and capture",
        ),
        f"{AUTO}, no context",
    ),
    "sequences": variants_of(r"update of .* rows, (pghistory, statement|django-pghistory, statement)"),
    "growth": variants_of(r"growth: .*"),
    "clients": variants_of(r"open for .*, pghistory, auto"),
    "memory": amounts_of(r"update of .* rows, .*", (UNTRACKED, LIMIT, AUTO, STATEMENT, DJANGO)),
    "bytes": amounts_of(r"bytes for an update, .*", (LIMIT, AUTO, DJANGO)),
    "large-values": costs_of(r"unchanged .*", (UNTRACKED, LIMIT, AUTO), LIMIT),
    "changes": variants_of(r"changes: .*"),
    "changes-bytes": amounts_of(r"changes: .*", ("the whole row", "only what changed")),
    "looking": variants_of(r".* objects as of a time, .*|one object as of a time|ten newest events .*"),
    "drivers": drivers,
}


def rendered(page: str) -> str:
    """The page with its tables written anew."""
    paths = sorted((ROOT / "docs" / "performance").glob("postgresql-*.json"))
    reports = {path.stem.removeprefix("postgresql-"): json.loads(path.read_text()) for path in paths}
    return MARKED.sub(lambda found: f"{found[1]}\n{TABLES[found[2]](reports)}\n\n{found[3]}", page)


def write() -> None:
    PAGE.write_text(rendered(PAGE.read_text()))


if __name__ == "__main__":
    write()
