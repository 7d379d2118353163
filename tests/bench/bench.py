"""What history costs, and how long looking back takes: `make bench` measures it on a private server.

Each figure is the median of rounds in which the variants take turns: the time that the client waited, and the
processor time of the server's process. A ratio is that of a variant to the one it is compared with. What a
context costs on each driver has a table of its own. All is printed, and saved in build/bench.json.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import drivers
import looking
import writing
from measure import Result, session

import pyhist
from pyhist.server import Server
from pyhist.tables import table

RESULTS = Path("build/bench.json")
SETTINGS = {
    "autovacuum": "off",
    "max_wal_size": "8GB",
    "shared_buffers": "1GB",
    "work_mem": "64MB",
    "max_parallel_workers_per_gather": "0",
}


def line(result: Result) -> tuple[str, ...]:
    ratio = f"{result.wall_ratio} (processor {result.cpu_ratio}) x {result.compared_with}"
    return (
        result.workload,
        result.variant,
        f"{result.wall:.1f}",
        f"{result.cpu:.1f}",
        ratio if result.compared_with else "",
    )


def main() -> None:
    with Server(settings=SETTINGS) as server:
        pyhist.install(server.dsn())
        with session(server) as connection:
            version = connection.info.parameter_status("server_version")
        print(f"PostgreSQL {version}, kind history, level statement; medians of rounds that take turns")
        results = [*writing.run(server), *looking.run(server)]
        plan = looking.plan_of_one_object(server, looking.SHAPES[0])
        carried = list(drivers.run(server))
    print(table(("workload", "variant", "ms waited", "ms processor", "ratio"), map(line, results)))
    print(f"\nThe plan of as_of() for one object:\n{plan}")
    print(f"\nA context on each driver:\n{table(drivers.HEADING, map(drivers.line, carried))}")
    RESULTS.parent.mkdir(exist_ok=True)
    report = {
        "postgresql": version,
        "results": [asdict(result) for result in results],
        "plan": plan,
        "drivers": [asdict(result) for result in carried],
    }
    RESULTS.write_text(json.dumps(report, indent=2) + "\n")
    print(f"saved in {RESULTS}")


if __name__ == "__main__":
    main()
