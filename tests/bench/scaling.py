"""How the cost of a write grows with the events that are there, and the memory of a statement with its rows."""

from __future__ import annotations

import functools
import re
import threading
from collections.abc import Iterator
from pathlib import Path

import peers
from measure import Amount, Cost, Result, cost, measure_all, read_amount, session
from recorders import OURS, Recorder, event_insert, ours, prepare, schema_of
from shapes import NARROW, rows, writes_of_one_row
from single_rows import WARM_UP, loop
from sizes import SIZES

from pyhist.server import Server

WRITES = ("insert", "update", "delete")
TEMPORARY = "SELECT temp_bytes FROM pg_stat_database WHERE datname = current_database()"
UPDATE = "UPDATE item SET amount = amount + 1"


def with_events(count: int) -> Recorder:
    """pghistory, with so many events of other rows that are there already, of ten for each."""
    recorder = ours(OURS[2])
    return Recorder(f"{count:,} events", f"with_{count}", recorder.begin)


def fill(server: Server, recorder: Recorder, count: int) -> None:
    with schema_of(server, NARROW, recorder) as connection:
        source = f"(SELECT {NARROW.values('(1000000 + i % ' + str(count // 10 + 1) + ')')} FROM generate_series(1, {count}) AS i)"
        connection.execute(event_insert(NARROW, "U", f"{source} AS row ({NARROW.names})").encode())
        connection.execute("VACUUM ANALYZE item_event")


def one_row(server: Server, recorder: Recorder, name: str) -> Cost:
    count = SIZES.single_rows
    text = writes_of_one_row(NARROW, "i", count)[name].text
    with schema_of(server, NARROW, recorder) as connection:
        connection.execute("VACUUM ANALYZE item")
        connection.execute(loop(text, count + 1, count + WARM_UP).encode())
        connection.execute(f"DELETE FROM item WHERE id > {count}".encode())
        return cost(connection, loop(text, 1, count)).each(count)


def growth(server: Server) -> Iterator[Result]:
    """Writes of one row to tables with a history of different lengths."""
    recorders = {count: with_events(count) for count in SIZES.growth}
    prepare(server, NARROW, recorders.values())
    for count, recorder in recorders.items():
        fill(server, recorder, count)
    first = recorders[SIZES.growth[0]].name
    yield from measure_all(
        {
            f"growth: one row, {name}": {
                recorder.name: functools.partial(one_row, server, recorder, name)
                for recorder in recorders.values()
            }
            for name in WRITES
        },
        {recorder.name: first for recorder in recorders.values() if recorder.name != first},
        SIZES.growth_rounds,
        unit="µs",
    )


def own_memory(pid: int) -> int:
    """The bytes of memory that a process shares with nobody."""
    found = re.search(r"RssAnon:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    return int(found[1]) * 1024 if found else 0


def watch(pid: int, ended: threading.Event, most: list[int]) -> None:
    """Note how much memory a process has at most, as far as one sees that looks every 10 ms."""
    while not ended.wait(0.01):
        most[0] = max(most[0], own_memory(pid))


def memory_and_files(server: Server, recorder: Recorder) -> tuple[float, float]:
    """What an update of all rows takes more than there was before: bytes of memory, bytes of temporary files.

    The session is a fresh one: django-pghistory's statement level does not come to an end in another.
    """
    with schema_of(server, NARROW, recorder) as connection:
        recorder.fill(connection, f"INSERT INTO item ({NARROW.names}) {rows(NARROW, 1, SIZES.memory_rows)}")
        connection.execute("VACUUM ANALYZE item")
    with session(server) as observer:
        files_before = read_amount(observer, TEMPORARY)
        with schema_of(server, NARROW, recorder) as connection:
            pid = connection.info.backend_pid
            before = own_memory(pid)
            most, ended = [before], threading.Event()
            watcher = threading.Thread(target=watch, args=(pid, ended, most))
            watcher.start()
            try:
                connection.execute(UPDATE)
            finally:
                ended.set()
                watcher.join()
            connection.execute(
                "SELECT pg_stat_force_next_flush()" if server.installation.major >= 15 else "SELECT"
            )
            connection.execute("SELECT 1")
        return most[0] - before, read_amount(observer, TEMPORARY) - files_before


def memory(server: Server) -> Iterator[Amount]:
    """By pghistory, django-pghistory, and the two that are the least there can be; level auto updates as level row."""
    recorders = [each for each in peers.with_same_tables(server, debian=False) if each.name != OURS[2]]
    prepare(server, NARROW, recorders)
    workload = f"update of {SIZES.memory_rows:,} rows"
    for recorder in recorders:
        needed, files = memory_and_files(server, recorder)
        yield Amount(f"{workload}, memory", recorder.name, round(needed / 2**20, 1), "MB")
        yield Amount(f"{workload}, temporary files", recorder.name, round(files / 2**20, 1), "MB")


def run(server: Server) -> Iterator[Result | Amount]:
    yield from growth(server)
    yield from memory(server)
