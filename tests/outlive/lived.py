"""A database that has lived, a picture of all that it holds, and what must be true of it wherever it went."""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

import psycopg

from pyhist.server import Installation

Connection = psycopg.Connection[Any]
Picture = dict[str, list[str]]

KEEPER = "keeper"  # a role that owns some of what lived

# Numbers that belong to one server, of columns, tables and functions: they are learnt again.
_NUMBERS = (
    "origin",
    "obj_key_numbers",
    "table_column_number",
    "field_numbers",
    "exclude_numbers",
    "condition_columns",
    "condition_objects",
)

# A write, the event table it goes to, and the labels of the events it makes, in their order.
_WRITES = (
    ("UPDATE shop.users SET full_name = 'Ada L.' WHERE id = 2", "shop.users_event", ["user"]),
    (
        """INSERT INTO shop.orders (user_id, amount, status, tags, note)
           VALUES (2, 101, 'paid', 'gift=>1', 'Thanks')""",
        "shop.orders_event",
        ["order", "order.large"],
    ),
    (
        "INSERT INTO shop.kinds VALUES (8, 'later')",
        "shop.kinds_event",
        ["snapshot", "after_insert", "after_insert_or_update", "history"],
    ),
    ("INSERT INTO shop.measures VALUES ('2024-09-09', 'x', 1)", "a_history.measures", ["measure"]),
    ("DELETE FROM shop.measures_2025 WHERE place = 'x'", "a_history.measures", ["measure"]),
    ("TRUNCATE shop.measures_2024_here", "a_history.measures", ["measure"]),
    ("UPDATE shop.capitals SET name = 'Paname'", "shop.capitals_event", ["capital"]),
    ("UPDATE shop.notes SET body = '{}' WHERE id = 2", "z_history.notes", ["note"]),
    ("UPDATE shop.counters SET n = n + 1", "shop.counters_event", ["counter", "counter"]),
    ("UPDATE shop.items SET price = 3 WHERE sku = 'a'", "shop.item_log", ["item"]),
    ("INSERT INTO shop.log VALUES ('same')", "shop.log_event", ["log"]),
    ("INSERT INTO shop.pruned VALUES (11)", "a_history.pruned", ["pruned"]),
    (
        """UPDATE "Odd ""schema"", 100%"."Té'st {};\n$$--" SET "{}'; DROP" = 2""",
        """"Odd ""schema"", 100%"."Té'st {};\n$$--_event\"""",
        ["\"label'; $$ %s {} \\ é"] * 2,
    ),
)


class Server(Protocol):
    """A server of ours, however it was started."""

    installation: Installation

    def dsn(self, dbname: str = "postgres", user: str = "postgres") -> str:
        """The connection string of a database."""


def run(
    server: Server, program: str, *arguments: str | Path, said: str | None = None, **options: Any
) -> subprocess.CompletedProcess[str]:
    """Run one of PostgreSQL's programs; it must succeed, or fail and have `said` something."""
    done: subprocess.CompletedProcess[str] = subprocess.run(
        [server.installation.bindir / program, *arguments],
        capture_output=True,
        text=True,
        check=False,
        env={**server.installation.environment, "PGCLIENTENCODING": "UTF8"},
        **options,
    )
    assert (done.returncode != 0) == (said is not None), done.stderr
    assert said is None or said in done.stderr
    return done


def run_script(server: Server, script: Path, dsn: str, *options: str) -> str:
    """Run a script with psql, going on after errors, and return what it said of them."""
    return run(server, "psql", "--no-psqlrc", "--quiet", *options, f"--file={script}", dsn).stderr


def live(server: Server, dsn: str, keeper: str) -> None:
    """Give a database a life; `keeper` is a role that owns some of it."""
    life = Path(__file__).with_name("life.sql")
    run(server, "psql", "--no-psqlrc", f"--set=keeper={keeper}", f"--file={life}", dsn)


def connect(dsn: str, **options: Any) -> Connection:
    """Open a connection in autocommit mode, for `with`."""
    return psycopg.connect(dsn, autocommit=True, **options)


def rows(connection: Connection, query: str, *arguments: object) -> list[tuple[Any, ...]]:
    """Run a query and return its rows. Only with arguments do percent signs in it have a meaning."""
    return connection.execute(query, arguments or None).fetchall()


@contextlib.contextmanager
def warnings_of(connection: Connection) -> Iterator[list[str]]:
    """Collect the messages of the warnings that the server sends meanwhile."""
    messages: list[str] = []

    def keep(diagnostic: psycopg.errors.Diagnostic) -> None:
        if diagnostic.severity_nonlocalized == "WARNING":
            messages.append(diagnostic.message_primary or "")

    connection.add_notice_handler(keep)
    try:
        yield messages
    finally:
        connection.remove_notice_handler(keep)


def picture(dsn: str) -> Picture:
    """All that a database holds, by name, as sorted text: tables, events, contexts, sequences, registry."""
    with connect(dsn) as connection:
        connection.execute("SET search_path TO ''")
        shown: Picture = {}
        relations = rows(
            connection,
            """SELECT c.oid::regclass::text, c.relkind::text FROM pg_class AS c
                WHERE c.relkind IN ('r', 'S') AND c.oid >= 16384
                  AND NOT EXISTS (SELECT FROM pg_depend AS d
                                   WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid
                                     AND d.deptype = 'e')""",
        )
        for name, kind in relations:
            if name in ("pghistory._permit", "pghistory.tracker_ordinal_seq"):
                continue  # is empty between transactions; has numbers that looking after trackers uses up
            text = (
                "concat_ws(' ', t.last_value, t.is_called)"
                if kind == "S"
                else f"(to_jsonb(t) - '{{{','.join(_NUMBERS)}}}'::text[])::text"
                if name.startswith("pghistory.")
                else "t::text"
            )
            source = name if kind == "S" else f"ONLY {name}"
            shown[name] = sorted(row[0] for row in rows(connection, f"SELECT {text} FROM {source} AS t"))
        views = """SELECT 'pghistory.context' WHERE to_regclass('pghistory.context') IS NOT NULL
                    UNION ALL
                   SELECT 'pghistory.trackers()' WHERE to_regproc('pghistory.trackers') IS NOT NULL"""
        for (view,) in rows(connection, views):
            shown[view] = sorted(row[0] for row in rows(connection, f"SELECT t::text FROM {view} AS t"))
        return shown


def assert_all_is_well(connection: Connection) -> None:
    """Assert that verify() finds nothing."""
    assert rows(connection, "SELECT * FROM pghistory.verify()") == []


def assert_recorded(connection: Connection, write: str, event_table: str, labels: list[str]) -> None:
    """Assert that a write makes events of these labels, with numbers behind those that were there."""
    ((last,),) = rows(connection, f"SELECT COALESCE(max(pgh_id), 0) FROM {event_table}")
    ((count,),) = rows(connection, f"SELECT count(*) FROM {event_table}")
    connection.execute(write)
    new = rows(connection, f"SELECT pgh_label FROM {event_table} WHERE pgh_id > {last} ORDER BY pgh_id")
    assert [label for (label,) in new] == labels, write
    assert rows(connection, f"SELECT count(*) FROM {event_table}") == [(count + len(labels),)]


def assert_goes_on(dsn: str, *, by_sync: bool = False) -> None:
    """Assert that all is well in a database that has lived, that it records writes and follows DDL.

    The first DDL renames a column, which a registry from elsewhere could take for one that was dropped. With
    `by_sync` no event triggers are there.
    """

    with connect(dsn) as connection:

        def ddl(command: str) -> None:
            connection.execute(command)
            if by_sync:
                connection.execute("SELECT pghistory.sync()")
            assert_all_is_well(connection)

        assert_all_is_well(connection)
        for write, event_table, labels in _WRITES:
            assert_recorded(connection, write, event_table, labels)
        assert_all_is_well(connection)

        beginnings = """SELECT label, since, NULL FROM pghistory.tracker UNION ALL
                        SELECT event_table::text, added_at, concat_ws(' ', added_after, missing_value)
                          FROM pghistory.event_column WHERE added_at IS NOT NULL ORDER BY 1, 2"""
        began = rows(connection, beginnings)
        old = rows(connection, "SELECT pgh_id, born FROM shop.users_event ORDER BY 1")
        ddl("ALTER TABLE shop.users RENAME COLUMN born TO year")
        assert rows(connection, beginnings) == began
        assert rows(connection, "SELECT pgh_id, year FROM shop.users_event ORDER BY 1") == old
        ddl("ALTER TABLE shop.users ADD COLUMN nick text DEFAULT 'none', DROP COLUMN active")
        assert_recorded(
            connection, "UPDATE shop.users SET year = 1816 WHERE id = 2", "shop.users_event", ["user"]
        )
        assert rows(
            connection,
            "SELECT full_name, year, nick, active FROM shop.users_event ORDER BY pgh_id DESC LIMIT 1",
        ) == [("Ada L.", 1816, "none", None)]

        ddl("ALTER TABLE shop.orders RENAME COLUMN amount TO total")
        ddl("ALTER FUNCTION shop.is_large(numeric) RENAME TO is_big")
        ddl("ALTER TYPE shop.status RENAME TO state")
        order = """INSERT INTO shop.orders (user_id, total, status, tags, note)
                   VALUES (2, {}, 'paid', 'gift=>1', 'thanks')"""
        assert_recorded(connection, order.format(102), "shop.orders_event", ["order", "order.large"])
        assert_recorded(connection, order.format(1), "shop.orders_event", ["order"])

        ddl("ALTER TABLE shop.measures ADD COLUMN unit text")
        ddl("CREATE TABLE shop.measures_rest PARTITION OF shop.measures DEFAULT")
        insert = "INSERT INTO shop.measures_rest VALUES ('2030-01-01', 'x', 1, 'm')"
        assert_recorded(connection, insert, "a_history.measures", ["measure"])
        assert_recorded(connection, "TRUNCATE shop.measures_rest", "a_history.measures", ["measure"])

        ddl("ALTER TABLE shop.counters RENAME COLUMN b TO c")
        ddl("ALTER TABLE shop.counters SET SCHEMA a_history")
        assert_recorded(
            connection, "UPDATE a_history.counters SET n = n + 1", "shop.counters_event", ["counter"] * 2
        )
        assert ("y", "y") in rows(connection, "SELECT pgh_obj_c, c FROM shop.counters_event")


def assert_same(one: Picture, other: Picture) -> None:
    """Assert that two pictures are the same, showing what differs."""
    differences = {
        name: (sorted(set(there) - set(here)), sorted(set(here) - set(there)))
        for name in one.keys() | other.keys()
        if (here := one.get(name, [])) != (there := other.get(name, []))
    }
    assert not differences, "\n".join(f"{name}: {pair}" for name, pair in differences.items())
