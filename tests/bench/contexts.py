"""What a context costs: none, one that is set, one that is set and facts captured beside it."""

from __future__ import annotations

import functools
import uuid
from collections.abc import Iterator

import django_pghistory
from measure import Cost, Result, cost, cost_of, measure_all
from recorders import OURS, UNTRACKED, Connection, Recorder, ours, prepare, schema_of, untracked
from shapes import NARROW, rows
from single_rows import WARM_UP
from sizes import SIZES

from pyhist.server import Server

STATEMENTS = 1000
UPDATE = "UPDATE item SET amount = amount + 1 WHERE id = {i}"
UNSET, SET, CAPTURED = "no context", "context", "context and capture"
CAPTURE = "'session_user', 'application_name', 'client_addr'"
SET_CONTEXT = """set_config('pghistory.context_id', {id}, true),
    set_config('pghistory.context_metadata', '{{"user": 1, "url": "/items"}}', true)"""


def begin(connection: Connection, recorder: Recorder, mode: str) -> None:
    """Empty the events, and capture or not; without it, pghistory and its peers have the same to do."""
    recorder.empty_events(connection)
    connection.execute("VACUUM ANALYZE item")
    keys = CAPTURE if mode == CAPTURED else ""
    connection.execute(f"SELECT pghistory.capture({keys})".encode())


def one_transaction(server: Server, recorder: Recorder, mode: str) -> Cost:
    """Statements through the protocol, in a pipeline, all in one transaction."""
    with schema_of(server, NARROW, recorder) as connection:
        begin(connection, recorder, mode)
        update = UPDATE.format(i="%s").encode()
        cursor = connection.cursor()
        cursor.executemany(update, [(i,) for i in range(1, WARM_UP + 1)])

        def work() -> None:
            with connection.transaction(), connection.pipeline():
                if mode != UNSET:
                    connection.execute(f"SELECT {SET_CONTEXT.format(id='%s')}".encode(), (str(uuid.uuid4()),))
                cursor.executemany(update, [(i,) for i in range(1, STATEMENTS + 1)])

        return cost_of(connection, work).each(STATEMENTS)


def many_transactions(server: Server, recorder: Recorder, mode: str) -> Cost:
    """Transactions of one statement, with a context each, in a loop in the server."""
    with schema_of(server, NARROW, recorder) as connection:
        begin(connection, recorder, mode)
        connection.execute("SET synchronous_commit TO off")
        before = f"PERFORM {SET_CONTEXT.format(id='gen_random_uuid()::text')};" if mode != UNSET else ""
        loop = (
            "DO $$ BEGIN FOR i IN {}..{} LOOP " + before + UPDATE.format(i="i") + "; COMMIT; END LOOP; END $$"
        )
        # Of which the braces of the metadata are none.
        loop = loop.replace('{"user": 1, "url": "/items"}', '{{"user": 1, "url": "/items"}}')
        connection.execute(loop.format(STATEMENTS - 10, STATEMENTS).encode(), prepare=False)
        return cost(connection, loop.format(1, SIZES.transactions)).each(SIZES.transactions)


def run(server: Server) -> Iterator[Result]:
    """The same protocol of two settings serves django-pghistory as well."""
    django_pghistory.prepare_database(server.dsn())
    recorders = [
        untracked,
        *(ours(name) for name in OURS),
        *(django_pghistory.recorder(server, level) for level in django_pghistory.LEVELS),
    ]
    prepare(server, NARROW, recorders)
    for recorder in recorders:
        with schema_of(server, NARROW, recorder) as connection:
            connection.execute(f"INSERT INTO item ({NARROW.names}) {rows(NARROW, 1, STATEMENTS)}".encode())
    for title, run_one in (
        (f"{STATEMENTS} statements in a transaction", one_transaction),
        ("one statement in a transaction", many_transactions),
    ):
        variants = {
            f"{recorder.name}, {mode}": functools.partial(run_one, server, recorder, mode)
            for recorder in recorders
            for mode in (UNSET, SET, CAPTURED)
            if mode != CAPTURED or recorder.name in OURS
        }
        compared = {
            f"{recorder.name}, {mode}": f"{recorder.name}, {UNSET}"
            for recorder in recorders
            for mode in (SET, CAPTURED)
        } | {f"{recorder.name}, {UNSET}": f"{UNTRACKED}, {UNSET}" for recorder in recorders[1:]}
        yield from measure_all({title: variants}, compared, SIZES.context_rounds, unit="µs")
