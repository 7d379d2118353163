"""`pyhist demo`: a small shop whose history is recorded, on a private server that goes when the demo ends."""

from __future__ import annotations

import shlex
import subprocess
import textwrap
from collections.abc import Iterable, Sequence
from typing import Any

import psycopg

import pyhist
from pyhist.server import Server, find_bindir
from pyhist.tables import table

WIDTH = 100
SHOWN = 4  # of a step's events, before "... and 30 more"

TABLES = """
CREATE TABLE customer (
    id          integer PRIMARY KEY,
    name        text NOT NULL,
    city        text NOT NULL
);
CREATE TABLE product (
    id          integer PRIMARY KEY,
    name        text NOT NULL,
    kind        text NOT NULL,
    price       numeric(8,2) NOT NULL,
    stock       integer NOT NULL
);
CREATE TABLE orders (
    id          integer PRIMARY KEY,
    customer_id integer NOT NULL REFERENCES customer,
    status      text NOT NULL DEFAULT 'new',
    parcel      text
);
CREATE TABLE order_line (
    order_id    integer REFERENCES orders ON DELETE CASCADE,
    product_id  integer REFERENCES product,
    quantity    integer NOT NULL,
    PRIMARY KEY (order_id, product_id)
);
"""

ROWS = """
INSERT INTO customer
SELECT id,
       (ARRAY['Ada', 'Bela', 'Chen', 'Dora', 'Emil', 'Fatma', 'Goran', 'Hana'])[1 + id % 8] || ' '
           || (ARRAY['Alder', 'Birch', 'Cedar', 'Elm', 'Fir', 'Hazel', 'Maple'])[1 + id % 7],
       (ARRAY['Lisbon', 'Oslo', 'Prague', 'Turin', 'Utrecht'])[1 + id % 5]
FROM generate_series(1, 40) AS id;

INSERT INTO product
SELECT id,
       (ARRAY['Assam', 'Darjeeling', 'Sencha', 'Java', 'Sidamo', 'Mocha', 'Clay', 'Glass'])[1 + id % 8]
           || ' ' || kind || ' no. ' || 1 + id / 8, kind, 4 + id % 9 + 0.5 * (id % 2), 20 + id % 30
FROM generate_series(1, 32) AS id,
     unnest(ARRAY['tea', 'tea', 'tea', 'coffee', 'coffee', 'coffee', 'pot', 'pot'])
         WITH ORDINALITY AS kinds (kind, n)
WHERE n = 1 + id % 8;

INSERT INTO orders
SELECT id, 1 + id * 7 % 40, (ARRAY['new', 'paid', 'paid', 'shipped'])[1 + id % 4]
FROM generate_series(1, 80) AS id;

INSERT INTO order_line
SELECT id, 1 + (id * 5 + line * 11) % 32, 1 + (id + line) % 3
FROM generate_series(1, 80) AS id, generate_series(0, id % 4) AS line;
"""

# One SELECT for each event table: each event, beside the object's event before that transaction.
WHAT_HAPPENED = """
SELECT event.pgh_created_at AS at, event.pgh_xid AS transaction, event.pgh_id AS event,
       event.pgh_label AS label, '{name} ' || concat_ws('/', {keys}) AS object,
       CASE event.pgh_operation
           WHEN 'I' THEN 'new'
           WHEN 'D' THEN 'deleted'
           ELSE (SELECT string_agg(concat(key, ': ', coalesce(old.value, 'null'), ' -> ', new.value), ', ')
                 FROM jsonb_each_text(to_jsonb(event)) AS new
                 JOIN jsonb_each_text(to_jsonb(before)) AS old USING (key)
                 WHERE NOT starts_with(key, 'pgh_') AND new.value IS DISTINCT FROM old.value)
       END AS change,
       coalesce(why.metadata ->> 'user',
                (why.metadata #>> '{{session,session_user}}') || ' in '
                    || (why.metadata #>> '{{session,application_name}}'), '-') AS who,
       coalesce(why.metadata ->> 'reason', '-') AS why
FROM {table}_event AS event
LEFT JOIN pghistory.context AS why ON why.id = event.pgh_context_id
LEFT JOIN LATERAL (
    SELECT * FROM {table}_event AS before
    WHERE ({same}) AND before.pgh_xid < event.pgh_xid
    ORDER BY before.pgh_id DESC LIMIT 1
) AS before ON true
"""
KEYS = {
    "customer": ("pgh_obj_id",),
    "product": ("pgh_obj_id",),
    "orders": ("pgh_obj_id",),
    "order_line": ("pgh_obj_order_id", "pgh_obj_product_id"),
}

PUT_BACK = """
UPDATE orders SET status = before.status
FROM orders_event AS mistake
JOIN pghistory.context AS why ON why.id = mistake.pgh_context_id,
LATERAL (
    SELECT status FROM orders_event AS event
    WHERE event.pgh_obj_id = mistake.pgh_obj_id AND event.pgh_id < mistake.pgh_id
    ORDER BY event.pgh_id DESC LIMIT 1
) AS before
WHERE why.metadata ->> 'user' = 'sam'
  AND orders.id = mistake.pgh_obj_id AND orders.id <> 40
"""


def run(*, keep: bool = False) -> int:
    """Show history being recorded, in readable tables on standard output, and return the exit status, 0.

    With `keep` the server stays, and the last lines say how to look around in it and how to remove it.

    Raises ServerError if there is no PostgreSQL to run it on.
    """
    server = Server(bindir=find_bindir(prefer="wheel"))
    stays = False
    try:
        _show(server)
        stays = keep
    finally:
        if not stays:
            server.stop()
    if keep:
        _say("The server stays. Look around in it, in the view what_happened for one, with")
        _code(server.psql("shop"))
        _say("and stop and remove it with")
        _code(server.stop_command())
    else:
        _say(
            "The server is gone, and its folder with it. `make demo keep=1`, or `pyhist demo --keep`, leaves "
            "it running, and says how to look around in it with psql and how to remove it."
        )
    return 0


def _show(server: Server) -> None:
    with psycopg.connect(server.dsn(), autocommit=True) as admin:
        admin.execute("CREATE DATABASE shop")
        version = admin.info.parameter_status("server_version")
    _say(f"A private PostgreSQL {version} runs in {server.folder}, with an empty database, shop.")
    _code('pyhist.install("dbname=shop")')
    _say(pyhist.install(server.dsn("shop")))
    with pyhist.Connection.connect(server.dsn("shop"), autocommit=True) as conn:
        conn.execute(TABLES)
        _track(conn)
        conn.execute("CREATE VIEW what_happened AS " + " UNION ALL ".join(map(_what_happened, KEYS)))
        with pyhist.context(user="import", reason="opening of the shop"):
            conn.execute(ROWS)
        _work(conn, server)
        _sum_up(conn)


def _track(conn: pyhist.Connection[Any]) -> None:
    _say("The shop has customers, products, orders and their lines. Its history is to be recorded:")
    shipped = "OLD.status <> NEW.status AND NEW.status = 'shipped'"
    pyhist.track(conn, "customer", pyhist.History("customer"))
    pyhist.track(conn, "product", pyhist.History("product"))
    pyhist.track(conn, "order_line", pyhist.History("order.line"))
    pyhist.track(
        conn, "orders", pyhist.History("order"), pyhist.AfterUpdate("order.shipped", condition=shipped)
    )
    _code(
        'pyhist.track(conn, "customer", History("customer"))',
        'pyhist.track(conn, "product", History("product"))',
        'pyhist.track(conn, "order_line", History("order.line"))',
        'pyhist.track(conn, "orders", History("order"), AfterUpdate("order.shipped", condition=',
        f'    "{shipped}"))',
    )
    trackers = (
        (it.table, it.label, it.kind, it.condition or "", it.event_table) for it in pyhist.trackers(conn)
    )
    _table(("table", "label", "kind", "condition", "events go to"), trackers)


def _work(conn: pyhist.Connection[Any], server: Server) -> None:
    _step(
        conn,
        "Maya raises the price of tea.",
        {"user": "maya", "reason": "spring price list"},
        "UPDATE product SET price = round(price * 1.05, 2) WHERE kind = 'tea'",
    )
    _step(
        conn,
        "Tom ships an order.",
        {"user": "tom", "reason": "parcel handed over"},
        "UPDATE orders SET status = 'shipped', parcel = 'RX 4711' WHERE id = 17",
        "UPDATE product SET stock = stock - 3 WHERE id = 22",
    )
    _step(
        conn,
        "Sam cancels order 40, as its customer asks, and forgets to say which one it is.",
        {"user": "sam", "reason": "ticket 1183: cancel order 40"},
        "UPDATE orders SET status = 'cancelled' WHERE status = 'new'",
    )
    _step(
        conn,
        "What the orders were is in their history, so Maya can put the others back.",
        {"user": "maya", "reason": "ticket 1183 hit every new order"},
        PUT_BACK,
    )
    _say("Somebody deletes an order in psql, and says neither who nor why. It is recorded all the same.")
    _delete_in_psql(conn, server, order=23)
    _say("From now on nobody stays anonymous, whatever he writes with.")
    _code('pyhist.capture(conn, "session_user", "application_name")')
    pyhist.capture(conn, "session_user", "application_name")
    _delete_in_psql(conn, server, order=24)


def _step(conn: pyhist.Connection[Any], sentence: str, why: dict[str, str], *statements: str) -> None:
    """Run statements of a person with a reason, in one transaction, and print them and what was recorded."""
    _say(sentence)
    begin = _next_transaction(conn)
    with pyhist.context(**why), conn.transaction():
        for statement in statements:
            conn.execute(statement)
    context = ", ".join(f'{name}="{value}"' for name, value in why.items())
    _code(f"with pyhist.context({context}):", *map(_python, statements))
    _print_events(conn, begin)


def _python(statement: str) -> str:
    if "\n" in statement:
        return f'    conn.execute("""{textwrap.indent(statement, " " * 8)}    """)'
    return f'    conn.execute("{statement}")'


def _delete_in_psql(conn: pyhist.Connection[Any], server: Server, *, order: int) -> None:
    statement = f"DELETE FROM orders WHERE id = {order}"
    begin = _next_transaction(conn)
    subprocess.run([*shlex.split(server.psql("shop")), "-q", "-c", statement], check=True)
    _code(f'psql shop -c "{statement}"')
    _print_events(conn, begin)


def _next_transaction(conn: pyhist.Connection[Any]) -> str:
    row = conn.execute("SELECT pg_snapshot_xmax(pg_current_snapshot())::text").fetchone()
    assert row
    return str(row[0])


def _print_events(conn: pyhist.Connection[Any], begin: str) -> None:
    """Print what was recorded since a transaction."""
    events = conn.execute(
        "SELECT label, object, change, who, why FROM what_happened "
        "WHERE transaction >= %s::xid8 ORDER BY label, event",
        [begin],
    ).fetchall()
    _table(("label", "object", "what changed", "who", "why"), events[:SHOWN])
    if len(events) > SHOWN:
        print(f"... and {len(events) - SHOWN} more")


def _sum_up(conn: pyhist.Connection[Any]) -> None:
    _say("What was recorded in all:")
    people = conn.execute(
        "SELECT who, why, count(*)::text, string_agg(DISTINCT label, ', ') "
        "FROM what_happened GROUP BY who, why ORDER BY min(at)"
    )
    _table(("who", "why", "events", "labels"), people.fetchall())


def _what_happened(name: str) -> str:
    """The part of the view what_happened that is about one table."""
    return WHAT_HAPPENED.format(
        table=name,
        name=name.replace("_", " "),
        keys=", ".join(f"event.{key}" for key in KEYS[name]),
        same=" AND ".join(f"before.{key} = event.{key}" for key in KEYS[name]),
    )


def _table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    print("", table(heads, rows, width=WIDTH), sep="\n")


def _say(text: str) -> None:
    print("", *textwrap.wrap(text, WIDTH, break_on_hyphens=False), sep="\n")


def _code(*lines: str) -> None:
    print("", textwrap.indent("\n".join(lines), "    "), sep="\n")
