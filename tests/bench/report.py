"""What was measured, as Markdown and charts: `python tests/bench/report.py FILE.json` draws them anew."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from itertools import groupby
from pathlib import Path
from typing import Any

import charts
from targets import outcomes

TITLES = {
    "single_rows": "Statements that write one row",
    "bulk": "Statements that write many rows",
    "sequences": "One-row and bulk statements after each other",
    "trackers": "Several trackers, rare conditions, partitioned tables",
    "contexts": "Contexts",
    "clients": "Many clients",
    "scaling": "Growth, memory, temporary files",
    "storage": "Storage and large values",
    "changes": "Events that hold only what changed",
    "looking": "Looking back",
    "drivers": "What a context costs a statement on each driver, in microseconds",
}


def table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


def number(value: float | None) -> str:
    """With three digits that mean something, and all of those before the point."""
    if value is None:
        return ""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def cell(value: Any) -> str:
    return " to ".join(map(str, value)) if isinstance(value, list) else str(value)


def spread(row: Mapping[str, Any], what: str) -> str:
    low, high = row[f"{what}_quartiles"] or (None, None)
    return f"{number(row[what])} ({number(low)} to {number(high)})"


def times(row: Mapping[str, Any], ratio: str) -> str:
    return "" if row[ratio] is None else f"{row[ratio]:.2f} × {row['compared_with']}"


def results_of(rows: Iterable[Mapping[str, Any]]) -> Iterator[str]:
    for workload, of_workload in groupby(rows, key=lambda row: row["workload"]):
        those = list(of_workload)
        unit = those[0]["unit"]
        notes = sorted({row["note"] for row in those if row["note"]})
        yield f"**{workload}** ({those[0]['rounds']} rounds, {unit})" + "".join(f"; {note}" for note in notes)
        yield table(
            ("", "processor", "ratio", "waited", "ratio"),
            (
                (
                    row["variant"],
                    spread(row, "cpu"),
                    times(row, "cpu_ratio"),
                    spread(row, "wall"),
                    times(row, "wall_ratio"),
                )
                for row in those
            ),
        )


def amounts_of(rows: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    for workload in dict.fromkeys(row["workload"] for row in rows):
        those = [row for row in rows if row["workload"] == workload]
        yield f"**{workload}** ({those[0]['unit']})"
        yield table(
            ("", those[0]["unit"], ""),
            ((row["variant"], number(row["amount"]), row["note"]) for row in those),
        )


def others_of(rows: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    if rows:
        heads = [name for name in rows[0] if name != "group"]
        yield table(
            [head.replace("_", " ") for head in heads], ([cell(row[head]) for head in heads] for row in rows)
        )


def targets_of(report: Mapping[str, Any]) -> str:
    return table(
        ("target", "workload", "variant", "at most", "measured", "", "best peer"),
        (
            (
                found.name,
                found.workload,
                found.variant,
                f"{found.most:g} {found.unit} {found.compared_with}".strip(),
                f"{found.measured:g} {found.unit}",
                "met" if found.met else "**not met**",
                found.best_peer,
            )
            for found in outcomes(report)
        ),
    )


def markdown(report: Mapping[str, Any], drawn: Mapping[str, Sequence[str]]) -> str:
    """The whole page; `drawn` names the charts of each group."""
    machine = report["machine"]
    packages = ", ".join(f"{name} {version}" for name, version in machine["packages"].items())
    settings = ", ".join(f"{name} = {value}" for name, value in machine["settings"].items())
    parts = [
        f"# What history costs on PostgreSQL {machine['postgresql']}",
        f"Measured by `make bench`, {report['form']} form, on {report['date']}: {machine['processor']}, "
        f"{machine['cores']} cores, {machine['memory']} GB, {machine['system']}; {packages}. Settings: {settings}.",
        "Medians of rounds in which the variants took turns, with the first and the third quartile. *Processor* is "
        "the processor time of the backend, *waited* what the client waited. *By hand* is the limit: both writes "
        "in one statement, `WITH written AS (... RETURNING *) INSERT INTO item_event SELECT ... FROM written`.",
        "## Targets",
        "By processor time.",
        targets_of(report),
        *(f"![{name}]({name})" for name in drawn.get("targets", ())),
    ]
    for group in report["seconds"]:
        parts.append(f"## {TITLES.get(group, group.replace('_', ' ').capitalize())}")
        parts += [f"![{name}]({name})" for name in drawn.get(group, ())]
        parts += results_of(row for row in report["results"] if row["group"] == group)
        parts += amounts_of([row for row in report["amounts"] if row["group"] == group])
        parts += others_of([row for row in report["others"] if row["group"] == group])
    return "\n\n".join(parts) + "\n"


def write(saved: Path) -> Path:
    """Write Markdown and charts beside the file with what was measured, and return the path of the Markdown."""
    report = json.loads(saved.read_text())
    drawn: dict[str, list[str]] = {}
    for old in saved.parent.glob(f"{saved.stem}-*.svg"):
        old.unlink()
    for group, name, figure in charts.draw(report, [asdict(found) for found in outcomes(report)]):
        file = saved.with_name(f"{saved.stem}-{name}.svg")
        charts.save(figure, file)
        drawn.setdefault(group, []).append(file.name)
    page = saved.with_suffix(".md")
    page.write_text(markdown(report, drawn))
    return page


if __name__ == "__main__":
    for argument in sys.argv[1:]:
        print(write(Path(argument)))
