"""What recording costs: `make bench` measures it on a private server, and saves it in build/bench.json.

Each figure is the median of rounds in which the variants take turns: the time that the client waited, and the
processor time of the server's process. A ratio is that of a variant to the one it is compared with.
"""

from __future__ import annotations

import json
import os
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import psycopg

import pyhist
from pyhist.server import Server
from pyhist.tables import table

ROUNDS = 9
ROWS = 20_000
RESULTS = Path("build/bench.json")
SETTINGS = {"autovacuum": "off", "max_wal_size": "4GB", "shared_buffers": "256MB"}

COLUMNS = "id, customer, amount, note"
NEW_ROWS = f"SELECT id, id % 97, id * 0.25, 'row number ' || id FROM generate_series(1, {ROWS}) AS id"
INSERT = f"INSERT INTO {{}} ({COLUMNS}) {NEW_ROWS}"
INSERT_BY_HAND = f"""
WITH row AS (INSERT INTO by_hand ({COLUMNS}) {NEW_ROWS} RETURNING *)
INSERT INTO by_hand_event (pgh_created_at, pgh_label, pgh_operation, pgh_xid, pgh_obj_id, {COLUMNS})
SELECT now(), 'tracked.history', 'I', pg_current_xact_id(), id, {COLUMNS} FROM row
"""
UPDATE_ALL = "UPDATE tracked SET amount = amount + 1"


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


def bulk_update(server: Server, *, after_one_row: bool) -> Cost:
    with session(server) as connection:
        connection.execute("TRUNCATE tracked_event")
        connection.execute("VACUUM ANALYZE tracked")
    with session(server) as connection:
        if after_one_row:
            connection.execute(f"{UPDATE_ALL} WHERE id = 1")
        return cost(connection, UPDATE_ALL)


def bulk_insert(server: Server, name: str, statement: str) -> Cost:
    with session(server) as connection:
        connection.execute(f"TRUNCATE {name}")
        connection.execute(f"TRUNCATE {name}_event")
        connection.execute("CHECKPOINT")
        return cost(connection, statement)


def measure(
    workload: str, variants: dict[str, Callable[[], Cost]], compared: dict[str, str]
) -> Iterator[Result]:
    """Run the variants in turns, and compare those in `compared` with the ones that these name."""
    costs: dict[str, list[Cost]] = {variant: [] for variant in variants}
    for _ in range(ROUNDS):
        for variant, run in variants.items():
            costs[variant].append(run())
    medians = {
        variant: Cost(
            statistics.median(cost.wall for cost in those), statistics.median(cost.cpu for cost in those)
        )
        for variant, those in costs.items()
    }
    for variant, median in medians.items():
        other = compared.get(variant)
        yield Result(
            workload,
            variant,
            round(median.wall, 1),
            round(median.cpu, 1),
            other,
            round(median.wall / medians[other].wall, 2) if other else None,
            round(median.cpu / medians[other].cpu, 2) if other else None,
        )


def prepare(server: Server) -> None:
    """Make a tracked table, and two equal ones with equal event tables that we do not write to."""
    pyhist.install(server.dsn())
    with session(server) as connection:
        for name in ("tracked", "untracked", "by_hand"):
            columns = "id integer PRIMARY KEY, customer integer, amount numeric, note text"
            connection.execute(f"CREATE TABLE {name} ({columns})")
        pyhist.track(connection, "tracked", pyhist.History(level="statement"))
        for name in ("untracked", "by_hand"):
            connection.execute(f"CREATE TABLE {name}_event (LIKE tracked_event INCLUDING ALL)")


def run(server: Server) -> list[Result]:
    prepare(server)
    inserts = measure(
        f"insert {ROWS:,} rows",
        {
            "untracked": lambda: bulk_insert(server, "untracked", INSERT.format("untracked")),
            "events by hand": lambda: bulk_insert(server, "by_hand", INSERT_BY_HAND),
            "history": lambda: bulk_insert(server, "tracked", INSERT.format("tracked")),
        },
        {"history": "events by hand"},
    )
    updates = measure(
        f"update {ROWS:,} rows",
        {
            "in a fresh session": lambda: bulk_update(server, after_one_row=False),
            "after a one-row update": lambda: bulk_update(server, after_one_row=True),
        },
        {"after a one-row update": "in a fresh session"},
    )
    return [*inserts, *updates]


def main() -> None:
    with Server(settings=SETTINGS) as server:
        with session(server) as connection:
            version = connection.info.parameter_status("server_version")
        print(f"PostgreSQL {version}, kind history, level statement; medians of {ROUNDS} rounds")
        results = run(server)
    rows = (
        (
            result.workload,
            result.variant,
            f"{result.wall:.1f}",
            f"{result.cpu:.1f}",
            f"{result.wall_ratio} (processor {result.cpu_ratio}) x {result.compared_with}"
            if result.compared_with
            else "",
        )
        for result in results
    )
    print(table(("workload", "variant", "ms waited", "ms processor", "ratio"), rows))
    RESULTS.parent.mkdir(exist_ok=True)
    report = {"postgresql": version, "rounds": ROUNDS, "results": [asdict(result) for result in results]}
    RESULTS.write_text(json.dumps(report, indent=2) + "\n")
    print(f"saved in {RESULTS}")


if __name__ == "__main__":
    main()
