"""What logical replication carries, and what is recorded of it on the subscriber.

Publisher and subscriber are databases of one server, so that the slot is made beforehand.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import psycopg
import pytest
from lived import (
    Server,
    assert_all_is_well,
    assert_goes_on,
    assert_recorded,
    assert_same,
    connect,
    picture,
    rows,
    run,
)
from servers import until

Connection = psycopg.Connection[Any]
NewDatabase = Callable[..., str]
Subscribe = Callable[[str, str, str], None]

# Brings the numbers of events, which are not replicated, behind those that are there.
TAKE_OVER = """
    SELECT setval(pg_get_serial_sequence(event_table::text, 'pgh_id'),
                  (xpath('/row/last/text()', query_to_xml(
                      format('SELECT COALESCE(max(pgh_id), 0) + 1 AS last FROM %s', event_table),
                      false, true, '')))[1]::text::bigint, false)
      FROM pghistory.event_table
"""


@pytest.fixture
def subscribe(server: Server, new_database: NewDatabase) -> Iterator[Subscribe]:
    """Call `subscribe(publisher, subscriber, "TABLE item")` for a subscription to these tables."""
    with ExitStack() as subscriptions:

        def subscribe(publisher: str, subscriber: str, what: str) -> None:
            def end() -> None:
                with connect(server.dsn(subscriber)) as connection:
                    connection.execute(f"ALTER SUBSCRIPTION {subscriber} DISABLE")
                    connection.execute(f"ALTER SUBSCRIPTION {subscriber} SET (slot_name = NONE)")
                    connection.execute(f"DROP SUBSCRIPTION {subscriber}")
                with connect(server.dsn(publisher)) as connection:
                    query = "SELECT count(*) FROM pg_replication_slots WHERE database = %s AND active"
                    until(lambda: rows(connection, query, publisher) == [(0,)])
                    connection.execute("SELECT pg_drop_replication_slot(%s)", [subscriber])

            with connect(server.dsn(publisher)) as connection:
                connection.execute(f"CREATE PUBLICATION all_of_it FOR {what}")
                connection.execute("SELECT pg_create_logical_replication_slot(%s, 'pgoutput')", [subscriber])
            with connect(server.dsn(subscriber)) as connection:
                connection.execute(
                    f"""CREATE SUBSCRIPTION {subscriber} CONNECTION '{server.dsn(publisher)}'
                        PUBLICATION all_of_it WITH (create_slot = false, slot_name = '{subscriber}')"""
                )
                subscriptions.callback(end)
                query = "SELECT count(*) FROM pg_subscription_rel WHERE srsubstate <> 'r'"
                until(lambda: rows(connection, query) == [(0,)])

        yield subscribe


def await_changes(server: Server, publisher: str, subscriber: str) -> None:
    """Wait until the subscriber has applied all that the publisher has written."""
    with connect(server.dsn(publisher)) as connection:
        ((written,),) = rows(connection, "SELECT pg_current_wal_lsn()::text")
        query = "SELECT confirmed_flush_lsn >= %s::pg_lsn FROM pg_replication_slots WHERE slot_name = %s"
        until(lambda: rows(connection, query, written, subscriber) == [(True,)])


WRITES = (
    "INSERT INTO item VALUES (2, 'two'), (3, 'three')",
    "UPDATE item SET name = 'zwei' WHERE id = 2",
    "UPDATE item SET id = 30 WHERE id = 3",
    "DELETE FROM item WHERE id = 1",
)


@pytest.fixture
def pair(server: Server, new_database: NewDatabase) -> tuple[str, str]:
    """Publisher and subscriber of a table `item`; the publisher's has a row, the subscriber pghistory."""
    publisher, subscriber = new_database(), new_database("template_pghistory")
    for database in (publisher, subscriber):
        with connect(server.dsn(database)) as connection:
            connection.execute("CREATE TABLE item (id integer PRIMARY KEY, name text)")
    with connect(server.dsn(publisher)) as connection:
        connection.execute("INSERT INTO item VALUES (1, 'one')")
    return publisher, subscriber


def test_a_subscriber_applies_to_tracked_tables_and_records_its_own_writes_only(
    server: Server, pair: tuple[str, str], subscribe: Subscribe
) -> None:
    publisher, subscriber = pair
    with connect(server.dsn(publisher)) as source, connect(server.dsn(subscriber)) as target:
        target.execute("SELECT pghistory.track('item', 'item', kind => 'history')")
        subscribe(publisher, subscriber, "TABLE item")
        for write in WRITES:
            source.execute(write)
        await_changes(server, publisher, subscriber)

        assert rows(target, "TABLE item ORDER BY id") == [(2, "zwei"), (30, "three")]
        assert rows(target, "SELECT * FROM item_event") == []
        source.execute("TRUNCATE item")
        await_changes(server, publisher, subscriber)
        assert rows(target, "TABLE item") == []
        assert rows(target, "SELECT * FROM item_event") == []
        target.execute("INSERT INTO item VALUES (9, 'own')")
        assert rows(target, "SELECT pgh_operation::text, name FROM item_event") == [("I", "own")]
        assert_all_is_well(target)


def test_triggers_that_fire_always_record_what_a_subscriber_applies(
    server: Server, pair: tuple[str, str], subscribe: Subscribe
) -> None:
    """At row level: the worker that applies changes fires no statement-level triggers."""
    publisher, subscriber = pair
    with connect(server.dsn(publisher)) as source, connect(server.dsn(subscriber)) as target:
        target.execute("SELECT pghistory.track('item', 'item', kind => 'history', level => 'row')")
        for (trigger,) in rows(target, "SELECT tgname FROM pg_trigger WHERE tgrelid = 'item'::regclass"):
            target.execute(f'ALTER TABLE item ENABLE ALWAYS TRIGGER "{trigger}"')
        assert_all_is_well(target)
        subscribe(publisher, subscriber, "TABLE item")
        for write in (*WRITES, "TRUNCATE item"):
            source.execute(write)
        await_changes(server, publisher, subscriber)

        recorded = (
            "SELECT pgh_operation::text, pgh_obj_id, pgh_other_id, name FROM item_event ORDER BY pgh_id"
        )
        assert rows(target, recorded) == [
            ("I", 1, None, "one"),
            ("I", 2, None, "two"),
            ("I", 3, None, "three"),
            ("U", 2, None, "zwei"),
            ("U", 30, 3, "three"),
            ("D", 1, None, "one"),
            ("T", 2, None, "zwei"),
            ("T", 30, None, "three"),
        ]
        # DDL is followed, and they go on firing always.
        for connection in (target, source):
            connection.execute("ALTER TABLE item ADD COLUMN size integer")
        source.execute("INSERT INTO item VALUES (4, 'four', 4)")
        await_changes(server, publisher, subscriber)
        assert rows(target, "SELECT name, size FROM item_event ORDER BY pgh_id DESC LIMIT 1") == [("four", 4)]
        assert_all_is_well(target)


def test_a_subscriber_of_everything_has_the_publishers_events_and_can_take_its_place(
    server: Server, lived: str, new_database: NewDatabase, subscribe: Subscribe, tmp_path: Path
) -> None:
    publisher, subscriber = new_database(lived), new_database()
    schema = tmp_path / "schema"
    run(
        server,
        "pg_dump",
        "--format=custom",
        "--schema-only",
        f"--file={schema}",
        f"--dbname={server.dsn(publisher)}",
    )
    run(server, "pg_restore", "--exit-on-error", f"--dbname={server.dsn(subscriber)}", schema)
    with connect(server.dsn(publisher)) as source:
        source.execute("ALTER TABLE shop.log REPLICA IDENTITY FULL")
        subscribe(publisher, subscriber, "ALL TABLES")
        assert_recorded(
            source, "UPDATE shop.users SET born = 1814 WHERE id = 2", "shop.users_event", ["user"]
        )
        source.execute("SELECT pghistory.create_event(u, 'user.login') FROM shop.users AS u WHERE id = 2")
        assert_recorded(
            source, "TRUNCATE shop.kinds", "shop.kinds_event", ["before_truncate"] * 4 + ["history"] * 4
        )
        await_changes(server, publisher, subscriber)

    def contents(database: str) -> dict[str, list[str]]:
        """What a database holds, but for the numbers of sequences, which are not replicated."""
        shown = picture(server.dsn(database))
        return {name: held for name, held in shown.items() if not name.rstrip('"').endswith("_seq")}

    assert_same(contents(subscriber), contents(publisher))
    with connect(server.dsn(subscriber)) as target:
        target.execute(f"ALTER SUBSCRIPTION {subscriber} DISABLE")
        assert_all_is_well(target)
        target.execute(TAKE_OVER)
        target.execute(
            "SELECT setval('pghistory.context_part_part_seq', max(part)) FROM pghistory.context_part"
        )
        target.execute("SELECT setval('pghistory.tracker_ordinal_seq', max(ordinal)) FROM pghistory.tracker")
        target.execute("SELECT setval('shop.orders_id_seq', max(id)) FROM shop.orders")
        target.execute("INSERT INTO shop.kinds VALUES (4, 'again'), (5, 'again'), (6, 'again'), (7, 'again')")
        target.execute("UPDATE shop.users SET born = 1815 WHERE id = 2")
    assert_goes_on(server.dsn(subscriber))
