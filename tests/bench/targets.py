"""What a write may cost, and whether it does: computed from what was measured, by processor time."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

ROW, STATEMENT, AUTO = "pghistory, row", "pghistory, statement", "pghistory, auto"
LIMIT, UNTRACKED = "by hand", "untracked"
ROWS = r"[\d,]+ rows, "
PEERS = ("django-pghistory", "table_log", "periods")


@dataclass(frozen=True)
class Target:
    """The most that `variant` may cost in the workload that the pattern names, by what it is compared with.

    `compared_with` can be the best of several: "a | b". `by` is "times" that, or "more" than it.
    """

    name: str
    workload: str
    variant: str
    compared_with: str
    most: float
    by: str = "times"
    peers: bool = True


@dataclass(frozen=True)
class Outcome:
    """A target, what was measured, and the best of the peers there."""

    name: str
    workload: str
    variant: str
    compared_with: str
    most: float
    measured: float
    unit: str
    met: bool
    best_peer: str = ""


TARGETS = (
    Target("bulk INSERT", ROWS + "insert, narrow", STATEMENT, LIMIT, 1.0),
    Target("bulk INSERT, wide", ROWS + "insert, wide", STATEMENT, LIMIT, 1.0),
    Target("bulk DELETE", ROWS + "delete, narrow", STATEMENT, LIMIT, 1.0),
    Target("bulk DELETE, wide", ROWS + "delete, wide", STATEMENT, LIMIT, 1.0),
    Target("COPY", ROWS + "COPY, narrow", STATEMENT, LIMIT, 1.05),
    Target("bulk UPDATE, statement level", ROWS + "update, narrow", STATEMENT, LIMIT, 1.2),
    Target("bulk UPDATE, statement level, wide", ROWS + "update, wide", STATEMENT, LIMIT, 1.35),
    Target("bulk UPDATE, row level", ROWS + "update, narrow", ROW, LIMIT, 1.9),
    Target("bulk UPDATE, row level, wide", ROWS + "update, wide", ROW, LIMIT, 1.9),
    Target("INSERT of one row", "one row, insert, narrow, in a loop", AUTO, LIMIT, 1.25),
    Target("UPDATE of one row", "one row, update, narrow, in a loop", AUTO, LIMIT, 1.25),
    Target("DELETE of one row", "one row, delete, narrow, in a loop", AUTO, LIMIT, 1.25),
    Target(
        "INSERT of one row, by the protocol", "one row, insert, narrow, by the protocol", AUTO, LIMIT, 1.25
    ),
    Target(
        "UPDATE of one row, by the protocol", "one row, update, narrow, by the protocol", AUTO, LIMIT, 1.25
    ),
    Target(
        "DELETE of one row, by the protocol", "one row, delete, narrow, by the protocol", AUTO, LIMIT, 1.25
    ),
    Target("no-op UPDATE", "one row, no-op update, narrow, in a loop", AUTO, UNTRACKED, 1.35),
    Target("TPC-B", "TPC-B, .*", AUTO, UNTRACKED, 1.4),
    Target(
        "a context, 1000 statements in a transaction",
        "1000 statements in a transaction",
        f"{AUTO}, context",
        f"{AUTO}, no context",
        2,
        "more",
        peers=False,
    ),
    Target(
        "bulk UPDATE after one of one row, statement level",
        r"update of [\d,]+ rows, pghistory, statement",
        "after one of one row",
        "in a fresh session",
        1.1,
        peers=False,
    ),
    Target(
        "bulk UPDATE after one of one row, row level",
        r"update of [\d,]+ rows, pghistory, row",
        "after one of one row",
        "in a fresh session",
        1.1,
        peers=False,
    ),
    Target(
        "a whole table as it was",
        r"[\d,]+ objects as of a time, .*",
        "as_of()",
        "DISTINCT ON | LATERAL | window",
        1.5,
        peers=False,
    ),
)
BYTES = "bytes for an update, narrow, table"
MOST_BYTES = 140


def by_workload(results: list[dict[str, Any]]) -> dict[str, dict[str, dict[str, Any]]]:
    found: dict[str, dict[str, dict[str, Any]]] = {}
    for result in results:
        found.setdefault(result["workload"], {})[result["variant"]] = result
    return found


def outcome(target: Target, workload: str, variants: Mapping[str, dict[str, Any]]) -> Outcome:
    compared_with = min(target.compared_with.split(" | "), key=lambda name: float(variants[name]["cpu"]))
    own, other = variants[target.variant]["cpu"], variants[compared_with]["cpu"]
    measured = own - other if target.by == "more" else own / other
    peers = {name: row["cpu"] / other for name, row in variants.items() if name.startswith(PEERS)}
    best = min(peers, key=peers.__getitem__) if peers and target.peers else None
    return Outcome(
        target.name,
        workload,
        target.variant,
        compared_with,
        target.most,
        round(measured, 2),
        variants[target.variant]["unit"] + " more" if target.by == "more" else "×",
        round(measured, 2) <= target.most,
        f"{peers[best]:.2f} ({best})" if best else "",
    )


def outcomes(report: Mapping[str, Any]) -> Iterator[Outcome]:
    """Of each target, and each workload that it is about; of those that were measured."""
    workloads = by_workload(report["results"])
    for target in TARGETS:
        for workload, variants in workloads.items():
            needed = {target.variant, *target.compared_with.split(" | ")}
            if re.fullmatch(target.workload, workload) and variants.keys() >= needed:
                yield outcome(target, workload, variants)
    sizes = {row["variant"]: row["amount"] for row in report["amounts"] if row["workload"] == BYTES}
    if AUTO in sizes:
        best = min((name for name in sizes if name.startswith(PEERS)), key=sizes.__getitem__)
        yield Outcome(
            "bytes of an event, narrow, beside the object's index",
            BYTES,
            AUTO,
            "",
            MOST_BYTES,
            sizes[AUTO],
            "bytes",
            sizes[AUTO] <= MOST_BYTES,
            f"{sizes[best]:g} ({best})",
        )
