"""pgbench: TPC-B by several clients, and sessions that share a context or have one each.

The processor time is that of all backends together, for each transaction. Here, commits wait for the disk unless
synchronous_commit is off.
"""

from __future__ import annotations

import functools
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import django_pghistory
from measure import Cost, Result, measure_all, session
from recorders import LIMIT, OURS, UNTRACKED, Connection, like_ours
from sizes import SIZES

import pyhist
from pyhist.server import Server, find_bindir

# The tables that TPC-B updates; what it inserts into is a log itself, and has no key.
TABLES = {
    "pgbench_accounts": ("aid integer", "bid integer", "abalance integer", "filler text"),
    "pgbench_tellers": ("tid integer", "bid integer", "tbalance integer", "filler text"),
    "pgbench_branches": ("bid integer", "bbalance integer", "filler text"),
}
DJANGO = "django-pghistory, row"
HELD = 5  # milliseconds for which a transaction stays open after its write

TPC_B = r"""
\set aid random(1, 100000 * :scale)
\set bid random(1, 1 * :scale)
\set tid random(1, 10 * :scale)
\set delta random(-5000, 5000)
BEGIN;
{pgbench_accounts};
SELECT abalance FROM pgbench_accounts WHERE aid = :aid;
{pgbench_tellers};
{pgbench_branches};
INSERT INTO pgbench_history (tid, bid, aid, delta, mtime) VALUES (:tid, :bid, :aid, :delta, CURRENT_TIMESTAMP);
END;
"""
UPDATES = {
    "pgbench_accounts": "UPDATE pgbench_accounts SET abalance = abalance + :delta WHERE aid = :aid",
    "pgbench_tellers": "UPDATE pgbench_tellers SET tbalance = tbalance + :delta WHERE tid = :tid",
    "pgbench_branches": "UPDATE pgbench_branches SET bbalance = bbalance + :delta WHERE bid = :bid",
}
CONTEXT = r"""
\set customer random(1, 1000000)
BEGIN;
{context}
INSERT INTO written (customer) VALUES (:customer);
\sleep {held} ms
END;
"""
SET_CONTEXT = """SELECT set_config('pghistory.context_id', {id}, true),
    set_config('pghistory.context_metadata', '{{"user": 1}}', true);"""
CONTEXTS = {
    "no context": "",
    "one context": SET_CONTEXT.format(id="'019ad0c5-0000-7000-8000-000000000001'"),
    "a context each": SET_CONTEXT.format(id="gen_random_uuid()::text"),
}


def program() -> Path | None:
    """pgbench of the server, or else of any PostgreSQL that is found."""
    candidates = [find_bindir() / "pgbench", *Path("/usr/lib/postgresql").glob("*/bin/pgbench")]
    return next((path for path in candidates if path.is_file()), None)


def columns_of(table: str) -> list[str]:
    return [column.split()[0] for column in TABLES[table]]


def update_by_hand(table: str) -> str:
    names = ", ".join(columns_of(table))
    return (
        f"WITH written AS ({UPDATES[table]} RETURNING *) INSERT INTO {table}_event (pgh_created_at, pgh_label, "
        f"pgh_operation, pgh_xid, pgh_obj_id, {names}) SELECT now(), 'update', 'U', pg_current_xact_id(), "
        f"{columns_of(table)[0]}, {names} FROM written"
    )


def event_tables(connection: Connection) -> None:
    for table in TABLES:
        like_ours(connection, f"{table}_event", of=table)


def track_with_django(connection: Connection, dsn: str) -> None:
    event_tables(connection)
    django_pghistory.prepare_database(dsn)
    for table, columns in TABLES.items():
        for column in ("pgh_operation", "pgh_xid"):
            connection.execute(f"ALTER TABLE {table}_event ALTER COLUMN {column} DROP NOT NULL".encode())
        pairs = tuple((name, kind) for name, kind in (column.split() for column in columns))
        django_pghistory.record(connection, dsn, table, pairs, "row", own_event_table=False)


def track_with_us(connection: Connection, level: str) -> None:
    for table in TABLES:
        connection.execute(
            f"SELECT pghistory.track('{table}', kind => 'history', level => '{level}')".encode()
        )


VARIANTS: dict[str, Callable[[Connection, str], None]] = {
    UNTRACKED: lambda connection, dsn: None,
    LIMIT: lambda connection, dsn: event_tables(connection),
    OURS[2]: lambda connection, dsn: track_with_us(connection, "auto"),
    DJANGO: track_with_django,
}


def backends_processor_time(server: Server) -> float:
    """Milliseconds of processor time of all processes of the server that have ended."""
    pid = (server.folder / "data" / "postmaster.pid").read_text().split()[0]
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[13]) + int(fields[14])) * 10


def pgbench(
    server: Server,
    dbname: str,
    script: str,
    clients: int,
    *,
    synchronous: bool,
    seconds: int = SIZES.pgbench_seconds,
) -> Cost:
    """What a transaction takes: the clients' time divided by the transactions, and the backends' processor time."""
    path = server.folder / "script.sql"
    path.write_text(script)
    with session(server) as connection:
        connection.execute("CHECKPOINT")
    before = backends_processor_time(server)
    options = ["-n", "-M", "prepared", "-T", str(seconds), "-c", str(clients), "-j", str(min(clients, 2))]
    done = subprocess.run(
        [str(program()), *options, "-f", str(path), "-D", f"scale={SIZES.pgbench_scale}", server.dsn(dbname)],
        capture_output=True,
        text=True,
        env={**os.environ, "PGOPTIONS": f"-c synchronous_commit={'on' if synchronous else 'off'}"},
        check=False,
    )
    assert done.returncode == 0, done.stderr
    processed = re.search(r"processed: (\d+)", done.stdout)
    latency = re.search(r"latency average = ([\d.]+) ms", done.stdout)
    assert processed, done.stdout
    assert latency, done.stdout
    with session(server) as connection:
        query = "SELECT EXISTS (SELECT FROM pg_stat_activity WHERE application_name = 'pgbench')"
        while connection.execute(query).fetchone() == (True,):
            time.sleep(0.01)
    return Cost(float(latency[1]), (backends_processor_time(server) - before) / int(processed[1]))


def create_database(server: Server, dbname: str) -> None:
    with session(server) as connection:
        connection.execute(f"CREATE DATABASE {dbname}".encode())
    pyhist.install(server.dsn(dbname))


def tpc_b(server: Server) -> Iterator[Result]:
    databases = {variant: f"tpc_b_{number}" for number, variant in enumerate(VARIANTS)}
    for variant, dbname in databases.items():
        create_database(server, dbname)
        initialize = [str(program()), "-i", "-q", "-s", str(SIZES.pgbench_scale), server.dsn(dbname)]
        subprocess.run(initialize, capture_output=True, check=True)
        with session(server, dbname=dbname) as connection:
            VARIANTS[variant](connection, server.dsn(dbname))
    scripts = {
        variant: TPC_B.format(
            **({table: update_by_hand(table) for table in TABLES} if variant == LIMIT else UPDATES)
        )
        for variant in VARIANTS
    }
    yield from measure_all(
        {
            f"TPC-B, {clients} client{'s' if clients > 1 else ''}, synchronous commit {'on' if synchronous else 'off'}": {
                variant: functools.partial(
                    pgbench, server, databases[variant], scripts[variant], clients, synchronous=synchronous
                )
                for variant in VARIANTS
            }
            for clients in SIZES.clients
            for synchronous in (True, False)
        },
        {variant: UNTRACKED for variant in VARIANTS if variant != UNTRACKED},
        SIZES.pgbench_rounds,
    )


def contexts(server: Server) -> Iterator[Result]:
    """Transactions that stay open after their write: whoever waits for another one takes a multiple of that."""
    trackers: dict[str, Callable[[Connection, str], None]] = {
        OURS[2]: lambda connection, dsn: pyhist.track(connection, "written", pyhist.History()) and None,
        DJANGO: lambda connection, dsn: django_pghistory.record(
            connection,
            dsn,
            "written",
            (("id", "bigint"), ("customer", "integer")),
            "row",
            own_event_table=True,
        ),
    }
    workloads = {}
    for number, (name, begin) in enumerate(trackers.items()):
        dbname = f"contexts_{number}"
        create_database(server, dbname)
        if name == DJANGO:
            django_pghistory.prepare_database(server.dsn(dbname))
        with session(server, dbname=dbname) as connection:
            connection.execute(
                "CREATE TABLE written (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, customer integer)"
            )
            begin(connection, server.dsn(dbname))
        workloads[f"open for {HELD} ms after a write, {name}"] = {
            f"{variant}, {clients} clients": functools.partial(
                pgbench,
                server,
                dbname,
                CONTEXT.format(context=context, held=HELD),
                clients,
                synchronous=False,
                seconds=1,
            )
            for variant, context in CONTEXTS.items()
            for clients in (1, 8)
        }
    variants = next(iter(workloads.values()))
    alone = {variant: variant.rpartition(", ")[0] + ", 1 clients" for variant in variants}
    compared = {variant: other for variant, other in alone.items() if variant != other}
    yield from measure_all(workloads, compared, SIZES.pgbench_rounds)


def run(server: Server) -> Iterator[Result]:
    """TPC-B and contexts, where there is a pgbench."""
    if program() is None:
        print("there is no pgbench: without its workloads", file=sys.stderr)
        return
    with session(server) as connection:
        connection.execute("ALTER SYSTEM SET fsync TO on")
        connection.execute("SELECT pg_reload_conf()")
    yield from tpc_b(server)
    yield from contexts(server)
