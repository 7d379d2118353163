"""How much is measured, in each form of `make bench`: PYHIST_BENCH_FORM names the form, `long` if it does not."""

from __future__ import annotations

import os
from dataclasses import dataclass


@dataclass(frozen=True)
class Sizes:
    """The size of each workload, and how many rounds the variants take turns."""

    all_peers: bool  # also those that Debian packages, and all as they come out of the box
    single_rows: int  # statements in a row that write one row each
    single_row_rounds: int
    rows: int  # of a bulk statement
    fewer_rows: int  # of one that writes wide rows, or that the slowest peers are compared in
    bulk_rounds: int
    sequence_rows: int  # of the bulk statement in a sequence of one-row and bulk statements
    cliff_rows: int  # the same where a peer falls off the cliff, which is quadratic
    sequence_rounds: int
    transactions: int  # that set a context each, one after the other
    context_rounds: int
    large_values: int  # updates of rows with large values, for each round
    large_value_rounds: int
    value_sizes: tuple[str, ...]
    pgbench_scale: int
    pgbench_seconds: int
    pgbench_rounds: int
    clients: tuple[int, ...]
    growth: tuple[int, ...]  # events in the event table
    growth_rounds: int
    memory_rows: int
    storage_rows: int
    looking_events: int
    looking_rounds: int
    driver_statements: int
    driver_rounds: int


FORMS = {
    "long": Sizes(
        all_peers=True,
        single_rows=1000,
        single_row_rounds=5,
        rows=100_000,
        fewer_rows=20_000,
        bulk_rounds=3,
        sequence_rows=20_000,
        cliff_rows=4000,
        sequence_rounds=5,
        transactions=500,
        context_rounds=5,
        large_values=20,
        large_value_rounds=3,
        value_sizes=("10 kB", "1 MB"),
        pgbench_scale=16,
        pgbench_seconds=2,
        pgbench_rounds=3,
        clients=(1, 4, 16),
        growth=(0, 100_000, 1_000_000, 10_000_000),
        growth_rounds=5,
        memory_rows=1_000_000,
        storage_rows=20_000,
        looking_events=10_000_000,
        looking_rounds=3,
        driver_statements=40,
        driver_rounds=9,
    ),
    "short": Sizes(
        all_peers=False,
        single_rows=300,
        single_row_rounds=2,
        rows=5000,
        fewer_rows=5000,
        bulk_rounds=2,
        sequence_rows=5000,
        cliff_rows=1000,
        sequence_rounds=1,
        transactions=100,
        context_rounds=2,
        large_values=3,
        large_value_rounds=1,
        value_sizes=("1 MB",),
        pgbench_scale=1,
        pgbench_seconds=1,
        pgbench_rounds=1,
        clients=(4,),
        growth=(0, 100_000),
        growth_rounds=2,
        memory_rows=50_000,
        storage_rows=10_000,
        looking_events=100_000,
        looking_rounds=2,
        driver_statements=10,
        driver_rounds=3,
    ),
    # Shows that everything runs, and no more.
    "tiny": Sizes(
        all_peers=False,
        single_rows=4,
        single_row_rounds=1,
        rows=20,
        fewer_rows=20,
        bulk_rounds=2,
        sequence_rows=20,
        cliff_rows=20,
        sequence_rounds=1,
        transactions=2,
        context_rounds=1,
        large_values=1,
        large_value_rounds=1,
        value_sizes=("1 MB",),
        pgbench_scale=1,
        pgbench_seconds=1,
        pgbench_rounds=1,
        clients=(2,),
        growth=(0, 100),
        growth_rounds=1,
        memory_rows=200,
        storage_rows=200,
        looking_events=1000,
        looking_rounds=1,
        driver_statements=2,
        driver_rounds=2,
    ),
}
FORM = os.environ.get("PYHIST_BENCH_FORM", "long")
SIZES = FORMS[FORM]
