"""Measuring statements on a private server, in rounds in which the variants take turns."""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg

from pyhist.server import Server


@dataclass(frozen=True)
class Cost:
    """What one statement took, in milliseconds."""

    wall: float
    cpu: float


@dataclass(frozen=True)
class Result:
    """The median cost of a variant of a workload, and how many times the cost of `compared_with` it is."""

    workload: str
    variant: str
    wall: float
    cpu: float
    compared_with: str | None
    wall_ratio: float | None
    cpu_ratio: float | None


def processor_time(pid: int) -> float:
    """The processor time that a process has used, in milliseconds."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) * 1000 / os.sysconf("SC_CLK_TCK")


@contextmanager
def session(server: Server) -> Iterator[psycopg.Connection[Any]]:
    """A session of its own, so with no plans of earlier ones."""
    with psycopg.connect(server.dsn(), autocommit=True) as connection:
        yield connection


def cost(connection: psycopg.Connection[Any], statement: str) -> Cost:
    pid = connection.info.backend_pid
    cpu, wall = processor_time(pid), time.perf_counter()
    connection.execute(statement)
    return Cost((time.perf_counter() - wall) * 1000, processor_time(pid) - cpu)


def measure(
    workload: str, variants: Mapping[str, Callable[[], Cost]], compared: Mapping[str, str], rounds: int
) -> Iterator[Result]:
    """Run the variants in turns, and compare those in `compared` with the ones that these name.

    A variant can be compared with the best of several: `"a | b"`.
    """
    costs: dict[str, list[Cost]] = {variant: [] for variant in variants}
    for _ in range(rounds):
        for variant, run in variants.items():
            costs[variant].append(run())
    medians = {
        variant: Cost(
            statistics.median(cost.wall for cost in those), statistics.median(cost.cpu for cost in those)
        )
        for variant, those in costs.items()
    }
    for variant, median in medians.items():
        others = compared.get(variant, "").split(" | ")
        other = min(filter(None, others), key=lambda name: medians[name].wall, default=None)
        yield Result(
            workload,
            variant,
            round(median.wall, 1),
            round(median.cpu, 1),
            other,
            round(median.wall / medians[other].wall, 2) if other else None,
            round(median.cpu / medians[other].cpu, 2) if other else None,
        )
