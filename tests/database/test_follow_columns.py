"""Event tables follow the columns of their table, whatever happens to these."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from history import Connection, events, rows, track, value

if TYPE_CHECKING:
    from conftest import Follow

TABLE = """
    CREATE TABLE item (
        id integer PRIMARY KEY, name varchar(20) NOT NULL, price numeric(8, 2), note text, secret text
    )
"""
LONG = "n" * 63
NOT_RECORDED = "column has a name that event tables need, and is not recorded"


@dataclass(frozen=True)
class Change:
    """DDL, what is written after it, and what events that were there before look like then."""

    statements: tuple[str, ...]
    older: dict[str, Any] = field(default_factory=dict)
    insert: str = "INSERT INTO item (id, name) VALUES ({id}, 'new')"
    update: str = "UPDATE item SET price = 9 WHERE id = {id}"
    prepare: str = ""


CHANGES = {
    "added": Change(("ALTER TABLE item ADD COLUMN size integer",), {"size": None}),
    "added with a default": Change(("ALTER TABLE item ADD COLUMN size integer DEFAULT 7",), {"size": None}),
    "added, generated": Change(
        ("ALTER TABLE item ADD COLUMN double numeric GENERATED ALWAYS AS (price * 2) STORED",),
        {"double": None},
    ),
    "added, an identity": Change(
        ("ALTER TABLE item ADD COLUMN number bigint GENERATED ALWAYS AS IDENTITY",), {"number": None}
    ),
    "added, of a domain that refuses null": Change(
        ("ALTER TABLE item ADD COLUMN size size DEFAULT 7",),
        {"size": None},
        prepare="CREATE DOMAIN size AS integer NOT NULL",
    ),
    "added under the name that a dropped one had": Change(
        ("ALTER TABLE item DROP COLUMN note", "ALTER TABLE item ADD COLUMN note text"), {"note": "blue"}
    ),
    "added, of another type, under the name that a dropped one had": Change(
        ("ALTER TABLE item DROP COLUMN note", "ALTER TABLE item ADD COLUMN note integer DEFAULT 7"),
        {"note": None, "note__1": "blue"},
    ),
    "dropped and added in one command": Change(
        ("ALTER TABLE item DROP COLUMN note, ADD COLUMN note integer DEFAULT 7",),
        {"note": None, "note__1": "blue"},
    ),
    "dropped": Change(("ALTER TABLE item DROP COLUMN note",), {"note": "blue"}),
    "dropped with what depends on it": Change(
        ("ALTER TABLE item DROP COLUMN note CASCADE",),
        {"note": "blue"},
        prepare="CREATE VIEW notes AS SELECT note FROM item",
    ),
    "an expression dropped": Change(
        ("ALTER TABLE item ALTER COLUMN double DROP EXPRESSION",),
        {"double": Decimal("3.00")},
        prepare="ALTER TABLE item ADD COLUMN double numeric GENERATED ALWAYS AS (price * 2) STORED",
    ),
    "renamed": Change(
        ("ALTER TABLE item RENAME COLUMN name TO title",),
        {"title": "pen"},
        insert="INSERT INTO item (id, title) VALUES ({id}, 'new')",
    ),
    "renamed to a name that needs quotes": Change(
        ("""ALTER TABLE item RENAME COLUMN note TO "The ""Note"" %s {}" """,),
        {'The "Note" %s {}': "blue"},
    ),
    "renamed to a name that a dropped one had": Change(
        ("ALTER TABLE item DROP COLUMN note", "ALTER TABLE item RENAME COLUMN secret TO note"),
        {"note": "s1", "note__1": "blue"},
    ),
    "with names swapped": Change(
        (
            "ALTER TABLE item RENAME COLUMN note TO spare",
            "ALTER TABLE item RENAME COLUMN secret TO note",
            "ALTER TABLE item RENAME COLUMN spare TO secret",
        ),
        {"note": "s1", "secret": "blue"},
    ),
    "with names passed on in a circle": Change(
        (
            "ALTER TABLE item ALTER COLUMN name DROP NOT NULL, ALTER COLUMN name TYPE text",
            "ALTER TABLE item RENAME COLUMN name TO spare",
            "ALTER TABLE item RENAME COLUMN secret TO name",
            "ALTER TABLE item RENAME COLUMN note TO secret",
            "ALTER TABLE item RENAME COLUMN spare TO note",
        ),
        {"name": "s1", "secret": "blue", "note": "pen"},
    ),
    "of a name of 63 bytes, dropped and added": Change(
        (f"ALTER TABLE item DROP COLUMN {LONG}", f"ALTER TABLE item ADD COLUMN {LONG} integer DEFAULT 7"),
        {LONG: None},
        prepare=f"ALTER TABLE item ADD COLUMN {LONG} text DEFAULT 'long'",
    ),
    "of a wider type": Change(("ALTER TABLE item ALTER COLUMN name TYPE text",), {"name": "pen"}),
    "of a type that all values fit": Change(
        ("ALTER TABLE item ALTER COLUMN note TYPE varchar(4)",), {"note": "blue"}
    ),
    "of a type that changes values": Change(
        ("ALTER TABLE item ALTER COLUMN price TYPE integer",),
        {"price": 2, "price__1": Decimal("1.50")},
    ),
    "of a type that old values cannot become": Change(
        ("ALTER TABLE item ALTER COLUMN name TYPE integer USING length(name)",),
        {"name": None, "name__1": "pen"},
        insert="INSERT INTO item (id, name) VALUES ({id}, 7)",
    ),
    "of another type twice": Change(
        (
            "ALTER TABLE item ALTER COLUMN note TYPE integer USING length(note)",
            "ALTER TABLE item ALTER COLUMN note TYPE date USING '2020-02-02'",
        ),
        {"note": None, "note__1": "blue"},
        insert="INSERT INTO item (id, name, note) VALUES ({id}, 'new', '2021-03-04')",
    ),
    "of a type with USING where old values can be cast": Change(
        ("ALTER TABLE item ALTER COLUMN number TYPE bigint USING number * 10",),
        {"number": 3},
        prepare="ALTER TABLE item ADD COLUMN number integer DEFAULT 3",
    ),
    "of an enum": Change(
        (
            "CREATE TYPE colour AS ENUM ('blue', 'red')",
            "ALTER TABLE item ALTER COLUMN note TYPE colour USING note::colour",
        ),
        {"note": "blue"},
        insert="INSERT INTO item (id, name, note) VALUES ({id}, 'new', 'red')",
    ),
    "of a domain of its type": Change(
        ("ALTER TABLE item ALTER COLUMN price TYPE amount",),
        {"price": Decimal("1.50")},
        prepare="CREATE DOMAIN amount AS numeric(8, 2) CHECK (VALUE > 0)",
    ),
    "of a domain that refuses null": Change(
        ("ALTER TABLE item ALTER COLUMN price TYPE amount",),
        {"price": Decimal("1.50")},
        insert="INSERT INTO item (id, name, price) VALUES ({id}, 'new', 5)",
        prepare="CREATE DOMAIN amount AS numeric(8, 2) NOT NULL",
    ),
    "of a domain's base type again": Change(
        ("ALTER TABLE item ALTER COLUMN amount TYPE numeric(8, 2)",),
        {"amount": Decimal("4.00")},
        prepare="CREATE DOMAIN amount AS numeric(8, 2) NOT NULL;"
        "ALTER TABLE item ADD COLUMN amount amount DEFAULT 4",
    ),
    "of another collation": Change(
        ('ALTER TABLE item ALTER COLUMN name TYPE varchar(20) COLLATE "C"',), {"name": "pen"}
    ),
    "of another case": Change(("ALTER TABLE item ALTER COLUMN note TYPE citext",), {"note": "blue"}),
    "several at once": Change(
        (
            "ALTER TABLE item ADD COLUMN size integer DEFAULT 7, DROP COLUMN note,"
            " ALTER COLUMN name TYPE text, ALTER COLUMN price TYPE numeric, ADD COLUMN note bytea",
        ),
        {"size": None, "note": None, "note__1": "blue", "name": "pen", "price": Decimal("1.50")},
    ),
    "all but the key dropped": Change(
        ("ALTER TABLE item DROP COLUMN name, DROP COLUMN price, DROP COLUMN note, DROP COLUMN secret",),
        {"name": "pen", "price": Decimal("1.50"), "note": "blue"},
        insert="INSERT INTO item VALUES ({id})",
        update="UPDATE item SET id = id + 1000 WHERE id = {id}; UPDATE item SET id = id - 1000 WHERE id > 1000",
    ),
    "renamed to a name of ours": Change(
        ("ALTER TABLE item RENAME COLUMN note TO pgh_label",), {"pgh_obj_id": 1, "name": "pen"}
    ),
}


def image(connection: Connection, event_table: str, condition: str) -> list[dict[str, Any]]:
    """Events as JSON sees them."""
    query = f"SELECT to_jsonb(e) FROM {event_table} AS e WHERE {condition} ORDER BY pgh_id"
    return [row[0] for row in rows(connection, query)]


def check_writes(session: Connection, change: Change, key: int, event_tables: tuple[str, ...]) -> None:
    """Insert, change and delete a row, and see that each event table has it right."""
    last = [value(session, f"SELECT max(pgh_id) FROM {table}") for table in event_tables]
    expected = []
    for operation, statement in (
        ("I", change.insert),
        ("U", change.update),
        ("D", "DELETE FROM item WHERE id = {id}"),
    ):
        for command in statement.format(id=key).split("; "):
            before = (
                value(session, f"SELECT to_jsonb(i) FROM item AS i WHERE id = {key}")
                if operation == "D"
                else 0
            )
            session.execute(command)
            row = before or value(
                session, "SELECT to_jsonb(i) FROM item AS i WHERE id IN (%s, %s)", key, key + 1000
            )
            expected.append((operation, row))
    for table, after in zip(event_tables, last, strict=True):
        written = image(session, table, f"pgh_id > {after}")
        assert [event["pgh_operation"] for event in written] == [operation for operation, _ in expected]
        for event, (_, row) in zip(written, expected, strict=True):
            shown = {name: event[name] for name in row if not name.startswith("pgh_")}
            assert shown == {name: v for name, v in row.items() if not name.startswith("pgh_")}
            assert event["pgh_obj_id"] == row["id"]


@pytest.mark.parametrize("name", CHANGES)
def test_what_is_written_before_and_after_a_column_is_changed_is_recorded(
    name: str, follow: Follow, connection: Connection, connect: Callable[..., Connection]
) -> None:
    change = CHANGES[name]
    connection.execute(f"{TABLE}; {change.prepare}")
    tables = (
        track(connection, "item", kind="history"),
        track(
            connection, "item", "by statement", kind="history", level="statement", event_table="by_statement"
        ),
    )
    connection.execute(
        "INSERT INTO item (id, name, price, note, secret) VALUES (1, 'pen', 1.5, 'blue', 's1')"
    )
    older = Change((), insert="INSERT INTO item (id, name) VALUES ({id}, 'old')")
    other = connect()
    for session, key in ((connection, 2), (other, 3)):  # both have plans for what follows
        check_writes(session, older, key, tables)

    with connection.transaction():
        check_writes(connection, older, 4, tables)
        follow(*change.statements)
        check_writes(connection, change, 5, tables)
    check_writes(other, change, 6, tables)

    for table in tables:
        names = ", ".join(psycopg.sql.Identifier(column).as_string(None) for column in change.older)
        first = rows(connection, f"SELECT {names} FROM {table} ORDER BY pgh_id LIMIT 1")
        assert first == [tuple(change.older.values())]


def test_a_column_of_a_name_of_ours_is_not_recorded_and_verify_says_so(
    follow: Follow, connection: Connection
) -> None:
    connection.execute(TABLE)
    track(connection, "item", kind="history")
    follow(
        "ALTER TABLE item ADD COLUMN pgh_label text, ADD COLUMN pgh_obj_id integer",
        wrong=[(f"column {name} of public.item", NOT_RECORDED) for name in ("pgh_label", "pgh_obj_id")],
    )
    connection.execute("INSERT INTO item VALUES (1, 'pen', 1.5, 'blue', 's1', 'not a label', 7)")
    assert events(connection, "item_event", "pgh_label, pgh_obj_id, secret") == [("item.history", 1, "s1")]
