"""Measuring statements on a private server, in rounds in which the variants take turns."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg

from pyhist.server import Server

UNITS = {"ms": 1, "µs": 1000}  # of a millisecond


@dataclass(frozen=True)
class Cost:
    """What something took, in milliseconds: of the client's time, and of the processor time of the backend."""

    wall: float
    cpu: float

    def each(self, count: int) -> Cost:
        """The part of one of `count`."""
        return Cost(self.wall / count, self.cpu / count)


@dataclass(frozen=True)
class Result:
    """The median cost of a variant of a workload, and how many times the cost of `compared_with` it is.

    Costs are in `unit`; the quartiles are the first and the third, over the rounds.
    """

    workload: str
    variant: str
    wall: float
    cpu: float
    compared_with: str | None
    wall_ratio: float | None
    cpu_ratio: float | None
    unit: str = "ms"
    wall_quartiles: tuple[float, float] | None = None
    cpu_quartiles: tuple[float, float] | None = None
    rounds: int = 1
    note: str = ""


@dataclass(frozen=True)
class Amount:
    """What is counted and not timed, and how many times that of `compared_with` it is."""

    workload: str
    variant: str
    amount: float
    unit: str
    compared_with: str | None = None
    ratio: float | None = None
    note: str = ""


def processor_time(pid: int) -> float:
    """The processor time that a process has used, in milliseconds: of its only thread, to the nanosecond."""
    return int(Path(f"/proc/{pid}/schedstat").read_text().split()[0]) / 1e6


@contextmanager
def session(
    server: Server, schema: str = "public", dbname: str = "postgres"
) -> Iterator[psycopg.Connection[Any]]:
    """A session of its own, so with no plans of earlier ones, in which `schema` is the first of the path."""
    options = f"-c search_path={schema},public"
    with psycopg.connect(server.dsn(dbname), autocommit=True, options=options) as connection:
        yield connection


def cost_of(connection: psycopg.Connection[Any], work: Callable[[], object]) -> Cost:
    """What `work` takes, which uses the connection."""
    pid = connection.info.backend_pid
    cpu, wall = processor_time(pid), time.perf_counter()
    work()
    return Cost((time.perf_counter() - wall) * 1000, processor_time(pid) - cpu)


def cost(connection: psycopg.Connection[Any], statement: str) -> Cost:
    """What a statement takes, or several that are one transaction."""
    return cost_of(connection, lambda: connection.execute(statement.encode(), prepare=False))


def read_amount(connection: psycopg.Connection[Any], query: str) -> float:
    """The number that a query gives."""
    row = connection.execute(query.encode()).fetchone()
    assert row
    return float(row[0])


def quartiles(values: list[float], digits: int) -> tuple[float, float]:
    if len(values) == 1:
        return round(values[0], digits), round(values[0], digits)
    first, _, third = statistics.quantiles(values, method="inclusive")
    return round(first, digits), round(third, digits)


def measure_all(
    workloads: Mapping[str, Mapping[str, Callable[[], Cost]]],
    compared: Mapping[str, str],
    rounds: int,
    *,
    unit: str = "ms",
    notes: Mapping[str, str] | None = None,
) -> Iterator[Result]:
    """Run workload after workload, in each the variants in turns, all of that in rounds.

    `compared` says with what a variant is compared: with the best of several in `"a | b"`, with the first that
    the workload has in `"a, else b"`. Every other round has the variants in reverse.
    """
    costs: dict[tuple[str, str], list[Cost]] = {}
    for number in range(rounds):
        for workload, variants in workloads.items():
            for variant in list(variants)[:: -1 if number % 2 else 1]:
                costs.setdefault((workload, variant), []).append(variants[variant]())
    digits = 2 if unit == "µs" else 3
    for workload, variants in workloads.items():
        medians = {
            variant: Cost(
                statistics.median(cost.wall for cost in costs[workload, variant]),
                statistics.median(cost.cpu for cost in costs[workload, variant]),
            )
            for variant in variants
        }
        for variant, median in medians.items():
            choices = [choice.split(" | ") for choice in compared.get(variant, "").split(", else ")]
            others = next((names for names in choices if medians.keys() >= set(names)), [])
            other = min(others, key=lambda name: medians[name].wall, default=None)
            those = costs[workload, variant]
            yield Result(
                workload,
                variant,
                round(median.wall * UNITS[unit], digits),
                round(median.cpu * UNITS[unit], digits),
                other,
                round(median.wall / medians[other].wall, 3) if other else None,
                round(median.cpu / medians[other].cpu, 3) if other else None,
                unit,
                quartiles([cost.wall * UNITS[unit] for cost in those], digits),
                quartiles([cost.cpu * UNITS[unit] for cost in those], digits),
                rounds,
                (notes or {}).get(variant, ""),
            )


def measure(
    workload: str,
    variants: Mapping[str, Callable[[], Cost]],
    compared: Mapping[str, str],
    rounds: int,
    *,
    unit: str = "ms",
) -> Iterator[Result]:
    """Run the variants of one workload in turns, and compare those in `compared` with what it names."""
    return measure_all({workload: variants}, compared, rounds, unit=unit)
