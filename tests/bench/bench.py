"""What history costs, and how long looking back takes: `make bench` measures it on private servers.

Each figure is the median of rounds in which the variants take turns: the time that the client waited, and the
processor time of the server's process. A ratio is that of a variant to the one it is compared with. The long form
writes docs/performance/postgresql-MAJOR.json, and from that Markdown, charts and the tables of
docs/performance.md; the short form, or one of some groups only, writes Markdown and charts to build/.
"""

from __future__ import annotations

import argparse
import datetime
import importlib
import json
import os
import signal
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent.parent
sys.path.append(str(ROOT / "tests"))

# Modules with `run(server)`, which yields what it measures: `Result`, `Amount`, or dataclasses of its own. Each
# has a server to itself.
GROUPS = (
    "single_rows",
    "bulk",
    "sequences",
    "trackers",
    "contexts",
    "clients",
    "scaling",
    "storage",
    "changes",
    "looking",
    "drivers",
)
KINDS = {"Result": "results", "Amount": "amounts"}


def measured(groups: Sequence[str]) -> dict[str, Any]:
    """All that the groups measure, as it goes into the file."""
    from machine import SETTINGS, machine

    import pyhist
    from pyhist.server import Server

    report: dict[str, Any] = {"results": [], "amounts": [], "others": []}
    seconds = {}
    for group in groups:
        started = time.monotonic()
        with Server(settings=SETTINGS) as server:
            pyhist.install(server.dsn())
            report["machine"] = machine(server)
            for result in importlib.import_module(group).run(server):
                report[KINDS.get(type(result).__name__, "others")].append({"group": group, **asdict(result)})
        seconds[group] = round(time.monotonic() - started)
        print(f"{group}: {seconds[group]} s", file=sys.stderr)
    return {**report, "seconds": seconds}


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="Measure what history costs.")
    parser.add_argument(
        "--short", action="store_true", help="smaller sizes and fewer rounds, for a first look"
    )
    parser.add_argument("--only", choices=GROUPS, action="append", help="one group of workloads, or several")
    parser.add_argument("--folder", type=Path, help="where to write, instead of docs/performance or build")
    options = parser.parse_args(arguments)
    if options.short:
        os.environ.setdefault("PYHIST_BENCH_FORM", "short")
    import report
    import sizes
    import summary

    found = measured(options.only or GROUPS)
    found = {
        "form": sizes.FORM,
        "date": datetime.datetime.now(datetime.timezone.utc).date().isoformat(),
        "sizes": asdict(sizes.SIZES),
        **found,
    }
    complete = sizes.FORM == "long" and not options.only
    folder = options.folder or ROOT / ("docs/performance" if complete else "build")
    folder.mkdir(parents=True, exist_ok=True)
    major = found["machine"]["postgresql"].split(".")[0]
    saved = folder / f"postgresql-{major}.json"
    saved.write_text(json.dumps(found, indent=1, ensure_ascii=False) + "\n")
    print(report.write(saved).read_text())
    if complete:
        summary.write()
    print(f"saved as {saved}, with the table and the charts beside it")


if __name__ == "__main__":
    signal.signal(
        signal.SIGTERM, signal.default_int_handler
    )  # so that a run that is ended removes its server
    main()
