"""Charts of what was measured, as SVG that is the same whenever it is drawn from the same file."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from targets import by_workload

matplotlib.rcParams.update(
    {
        "axes.spines.right": False,
        "axes.spines.top": False,
        "font.family": "sans-serif",
        "font.size": 9,
        "svg.fonttype": "none",
        "svg.hashsalt": "pghistory",
    }
)
Report: TypeAlias = Mapping[str, Any]
Chart: TypeAlias = tuple[str, str, Figure]
Rows: TypeAlias = Mapping[str, Mapping[str, Any]]

OURS, PEER, OTHER = "#1f6f8b", "#c9a45c", "#9a9a9a"
WIDEST_LINEAR = 12  # a bar that is so many times another one makes the scale a logarithmic one
ROW_HEIGHT, BAR_ROOM = 0.2, 0.75


def colour(variant: str, title: str) -> str:
    if ", django-pghistory" in title:
        return PEER
    if variant.startswith(("untracked", "by hand")):
        return OTHER
    return PEER if variant.startswith(("django", "table_log", "periods")) else OURS


def save(figure: Figure, file: Path) -> None:
    figure.savefig(file, format="svg", metadata={"Date": None}, bbox_inches="tight")


def bars(
    axes: Axes, title: str, values: Mapping[str, float], unit: str = "", line: float | None = None
) -> None:
    """A horizontal bar for each value, labelled with it; `line` marks what they are compared with."""
    names = list(values)[::-1]
    lengths = [values[name] for name in names]
    axes.barh(names, lengths, height=0.7, color=[colour(name, title) for name in names])
    positive = [length for length in lengths if length > 0]
    if positive and max(positive) / min(positive) > WIDEST_LINEAR:
        axes.set_xscale("log")
        axes.set_xlim(min(positive) / 2, max(positive) * 4)
        title += ", logarithmic"
    else:
        axes.set_xlim(0, max(positive, default=1) * 1.18)
    for name, length in zip(names, lengths, strict=True):
        label = f"{length:,.0f}" if length >= 100 else f"{length:.2f}" if unit == "×" else f"{length:.3g}"
        axes.annotate(
            label, (length, name), xytext=(3, 0), textcoords="offset points", va="center", fontsize=8
        )
    if line is not None:
        axes.axvline(line, color="black", linewidth=0.8, linestyle=":")
    axes.set_title(title, fontsize=9, loc="left", fontweight="bold")
    axes.tick_params(axis="y", length=0, labelsize=8)
    axes.xaxis.set_visible(False)  # each bar has its number
    axes.spines["bottom"].set_visible(False)


def panels(
    title: str,
    shown: Mapping[str, Mapping[str, float]],
    unit: str = "×",
    line: float | None = None,
    columns: int = 2,
) -> Figure:
    """A panel of bars for each of what is shown, side by side and below each other."""
    count = len(shown)
    columns = min(columns, count)
    lines = -(-count // columns)
    tallest = max(len(values) for values in shown.values())
    figure = Figure(
        figsize=(5.4 * columns, lines * (tallest * ROW_HEIGHT + BAR_ROOM) + 0.4), layout="constrained"
    )
    grid = figure.subplots(lines, columns, squeeze=False)
    for number in range(lines * columns):
        axes = grid[number // columns][number % columns]
        if number < count:
            name = list(shown)[number]
            bars(axes, name, shown[name], unit, line)
        else:
            axes.set_visible(False)
    figure.suptitle(title, fontsize=11, x=0.01, ha="left")
    return figure


def ratios(variants: Rows, base: str = "by hand") -> dict[str, float]:
    """How many times the processor time of `base` each takes, or that of the untracked table where it has none."""
    base = base if base in variants else "untracked"
    return {name: row["cpu"] / max(variants[base]["cpu"], 0.001) for name, row in variants.items()}


def of_pattern(report: Report, group: str, pattern: str) -> dict[str, Rows]:
    """The workloads of a group whose whole name matches, by the first part of the pattern that is in brackets."""
    found = by_workload([row for row in report["results"] if row["group"] == group])
    matches = {workload: re.fullmatch(pattern, workload) for workload in found}
    return {match[1]: found[workload] for workload, match in matches.items() if match}


def comparison(
    report: Report, group: str, name: str, pattern: str, title: str, base: str = "by hand"
) -> Iterator[Chart]:
    workloads = of_pattern(report, group, pattern)
    if workloads:
        shown = {}
        for workload, variants in workloads.items():
            chosen = base if base in variants else "untracked"
            shown[f"{workload} (× {chosen})"] = ratios(variants, base)
        yield group, name, panels(title, shown, line=1)


COMPARISONS = (
    (
        "single_rows",
        "one-row",
        r"one row, (.*), narrow, in a loop",
        "One row, 4 columns: processor time of a statement",
    ),
    (
        "single_rows",
        "one-row-protocol",
        r"one row, (.*), narrow, by the protocol",
        "One row, 4 columns, by the protocol: processor time",
    ),
    (
        "single_rows",
        "one-row-wide",
        r"one row, (.*), wide, in a loop",
        "One row, 40 columns: processor time of a statement",
    ),
    (
        "single_rows",
        "one-row-own-tables",
        r"one row, (.*), narrow, .*out of the box",
        "One row, peers as they come: processor time",
    ),
    ("bulk", "bulk", r"([\d,]+ rows, .*), narrow", "Many rows, 4 columns: processor time"),
    ("bulk", "bulk-wide", r"([\d,]+ rows, .*), wide", "Many rows, 40 columns: processor time"),
    (
        "bulk",
        "bulk-other-peers",
        r"([\d,]+ rows, .*), narrow, other peers",
        "Many rows, other peers and peers as they come: processor time",
    ),
    ("trackers", "trackers", r"trackers: (.*)", "Several trackers on a table: processor time", "untracked"),
    ("trackers", "rare-condition", r"rare condition: (.*)", "A condition that is never true: processor time"),
    ("trackers", "partitions", r"\d+ partitions: (.*)", "Partitioned tables: processor time"),
    ("clients", "tpc-b", r"TPC-B, (.*)", "TPC-B: processor time of a transaction", "untracked"),
)


def absolute(
    report: Report, group: str, name: str, pattern: str, title: str, what: str = "cpu"
) -> Iterator[Chart]:
    workloads = of_pattern(report, group, pattern)
    if workloads:
        shown = {
            f"{workload}, {next(iter(variants.values()))['unit']}": {
                each: row[what] for each, row in variants.items()
            }
            for workload, variants in workloads.items()
        }
        yield group, name, panels(title, shown, unit="")


ABSOLUTES = (
    ("sequences", "sequences", r"(update.*)", "One-row and bulk statements after each other: processor time"),
    ("contexts", "contexts", r"(.*in a transaction)", "Contexts: processor time of a statement"),
    (
        "clients",
        "shared-contexts",
        r"(open for.*)",
        "Sessions and contexts: what a transaction takes",
        "wall",
    ),
    ("scaling", "growth", r"growth: (.*)", "An event table that grows: processor time of a statement"),
    ("storage", "large-values", r"unchanged (.*)", "Large values that an update leaves: processor time"),
    ("changes", "changes", r"changes: (.*)", "Events that hold only what changed: processor time"),
    ("looking", "looking", r"(.*)", "Looking back: what a query takes", "wall"),
)


def amounts(report: Report, group: str, name: str, pattern: str, title: str) -> Iterator[Chart]:
    shown: dict[str, dict[str, float]] = {}
    for row in report["amounts"]:
        if row["group"] == group and (match := re.fullmatch(pattern, row["workload"])):
            shown.setdefault(f"{match[1]}, {row['unit']}", {})[row["variant"]] = row["amount"]
    if shown:
        yield group, name, panels(title, shown, unit="")


def of_targets(outcomes: Sequence[Mapping[str, Any]]) -> Iterator[Chart]:
    """What was measured, as a part of what is allowed."""
    if outcomes:
        values = {}
        for found in outcomes:
            several = sum(other["name"] == found["name"] for other in outcomes) > 1
            values[f"{found['name']}: {found['workload']}" if several else found["name"]] = (
                found["measured"] / found["most"]
            )
        figure = Figure(figsize=(8, len(values) * ROW_HEIGHT + BAR_ROOM), layout="constrained")
        bars(figure.subplots(), "Measured, as a part of the target: up to 1 it is met", values, "×", 1)
        yield "targets", "targets", figure


def draw(report: Report, outcomes: Sequence[Mapping[str, Any]]) -> Iterator[Chart]:
    """The charts, each with the group that it belongs to and its name; of what was measured."""
    yield from of_targets(outcomes)
    for arguments in COMPARISONS:
        yield from comparison(report, *arguments)
    for arguments in ABSOLUTES:
        yield from absolute(report, *arguments)
    yield from amounts(report, "storage", "bytes", r"(bytes for an update.*)", "Bytes that an update takes")
    yield from amounts(
        report, "storage", "large-value-bytes", r"unchanged (.*)", "Bytes of an event with a large value"
    )
    yield from amounts(
        report, "scaling", "memory", r"(update of.*)", "Memory and temporary files of one statement"
    )
