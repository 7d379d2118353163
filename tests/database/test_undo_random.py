"""undo_transaction() of random transactions: it restores exactly what was there before, or has a reason to refuse."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any, NamedTuple

import psycopg
import pytest
from history import Connection, call, rows, track, value
from psycopg import errors

TABLES = ("country", "city", "node")
IMAGES = {
    "after": ("history",),
    "before": ("after_insert", "before_update", "before_delete", "before_truncate"),
}
ACTIONS = ("NO ACTION", "CASCADE", "SET NULL", "SET DEFAULT", "RESTRICT")
TRANSACTIONS = 6

Rows = dict[int, tuple[Any, ...]]
State = dict[str, Rows]


class Transaction(NamedTuple):
    """One that was committed: what was there before, and the keys that its events name, by table."""

    xid: str
    before: State
    keys: dict[str, set[int]]
    statements: list[str]


def create_tables(connection: Connection, choice: random.Random, image: str) -> None:
    """Three tables with foreign keys of random kinds, their history kept in a random way."""

    def reference(to: str) -> str:
        deferrable = choice.choice(["", "", "DEFERRABLE", "DEFERRABLE INITIALLY DEFERRED"])
        actions = f"ON DELETE {choice.choice(ACTIONS)} ON UPDATE {choice.choice(ACTIONS)}"
        return f"REFERENCES {to} {actions} {deferrable}"

    connection.execute(
        f"""
        CREATE TABLE country (id integer PRIMARY KEY, name text, code integer UNIQUE);
        CREATE TABLE city (id integer PRIMARY KEY, name text, country_id integer {reference("country")});
        CREATE TABLE node (id integer PRIMARY KEY, name text, parent_id integer {reference("node")});
        INSERT INTO country SELECT id, 'v', id FROM generate_series(1, 4) AS id;
        INSERT INTO city SELECT id, 'v', 1 + id % 4 FROM generate_series(1, 6) AS id;
        INSERT INTO node SELECT id, 'v', NULLIF(id / 2, 0) FROM generate_series(1, 6) AS id;
        """
    )
    for table in TABLES:
        for kind in IMAGES[image]:
            track(connection, table, kind=kind, level=choice.choice(["auto", "row"]))
        if image == "after":
            call(connection, "backfill", table)


def statements(choice: random.Random) -> Iterator[str]:
    """Random statements, of which many change something."""
    last = {"country": "code", "city": "country_id", "node": "parent_id"}
    while True:
        table = choice.choice(TABLES)
        key, other, small = choice.randint(1, 8), choice.randint(1, 8), choice.choice(["NULL", *"12345678"])
        yield choice.choice(
            [
                f"INSERT INTO {table} VALUES ({key}, 'w', {small})",
                f"INSERT INTO {table} VALUES ({key}, 'w', NULL), ({other}, 'x', {small})",
                f"UPDATE {table} SET name = name || {key} WHERE id = {key}",
                f"UPDATE {table} SET name = name || {key}",
                f"UPDATE {table} SET {last[table]} = {small} WHERE id = {key}",
                f"UPDATE {table} SET {last[table]} = NULL WHERE id <= {key}",
                f"UPDATE {table} SET id = {other} WHERE id = {key}",
                f"UPDATE {table} SET id = id + 10, name = 'k' WHERE id > {key}",
                f"UPDATE {table} SET id = id - 10 WHERE id > 10",
                f"DELETE FROM {table} WHERE id = {key}",
                f"DELETE FROM {table} WHERE id > {key}",
                f"DELETE FROM {table} WHERE id IN ({key}, {other})",
                *["TRUNCATE city", "TRUNCATE country CASCADE"] * (choice.random() < 0.2),
            ]
        )


def state(connection: Connection) -> State:
    return {table: {row[0]: row for row in rows(connection, f"TABLE {table}")} for table in TABLES}


def is_sound(tables: State) -> bool:
    """Do foreign keys and unique values hold?"""
    codes = [code for *_, code in tables["country"].values() if code is not None]
    return (
        len(codes) == len(set(codes))
        and all(id is None or id in tables["country"] for *_, id in tables["city"].values())
        and all(id is None or id in tables["node"] for *_, id in tables["node"].values())
    )


def keys_of(connection: Connection, xid: str, *, later: bool = False) -> dict[str, set[int]]:
    """The keys that the events of a transaction name; or those of later ones, up to now."""
    return {
        table: {
            key
            for keys in rows(
                connection,
                f"""SELECT pgh_obj_id, pgh_other_id FROM {table}_event
                     WHERE pgh_operation <> 'S' AND pgh_xid {">" if later else "="} %s""",
                xid,
            )
            for key in keys
            if key is not None
        }
        for table in TABLES
    }


def run(connection: Connection, choice: random.Random) -> Transaction | None:
    """Run random statements in one transaction; those that fail are rolled back alone."""
    before = state(connection)
    done: list[str] = []
    try:
        with connection.transaction():
            for statement, _ in zip(statements(choice), range(choice.randint(1, 6))):
                try:
                    with connection.transaction():
                        connection.execute(statement)
                        done.append(statement)
                except (psycopg.IntegrityError, errors.ObjectInUse):
                    pass
            xid = str(value(connection, "SELECT pg_current_xact_id()"))
    except psycopg.IntegrityError:
        return None  # what was deferred did not hold
    return Transaction(xid, before, keys_of(connection, xid), done)


def check_undo(connection: Connection, transaction: Transaction) -> bool:
    """Undo a transaction for a moment: what was there before is there again, or there is a reason why not."""
    now = state(connection)
    later = keys_of(connection, transaction.xid, later=True)
    untouched = {table: transaction.keys[table] - later[table] for table in TABLES}
    wanted = {
        table: {
            **{key: row for key, row in now[table].items() if key not in untouched[table]},
            **{key: row for key, row in transaction.before[table].items() if key in untouched[table]},
        }
        for table in TABLES
    }
    plan = rows(connection, "SELECT conflict FROM pghistory.undo_transaction_plan(%s)", transaction.xid)
    try:
        with connection.transaction(force_rollback=True):
            taken = call(connection, "undo_transaction", transaction.xid)
            assert taken == len(plan)
            assert not any(conflict for (conflict,) in plan)
            found = state(connection)
            connection.execute("SET CONSTRAINTS ALL IMMEDIATE")
    except errors.ObjectNotInPrerequisiteState:
        assert state(connection) == now
        is_touched = untouched != transaction.keys
        assert is_touched or not is_sound(wanted), transaction
        return False
    except errors.ForeignKeyViolation:
        assert not is_sound(wanted), transaction  # a deferred one is looked at when the transaction ends
        return False
    assert is_sound(found)
    if is_sound(wanted):
        for table in TABLES:
            assert {k: r for k, r in found[table].items() if k not in later[table]} == {
                k: r for k, r in wanted[table].items() if k not in later[table]
            }, transaction
    return True


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("image", IMAGES)
def test_a_random_transaction_is_undone_exactly_or_refused_with_reason(
    connection: Connection, image: str, seed: int
) -> None:
    choice = random.Random(f"{image} {seed}")
    create_tables(connection, choice, image)
    done: list[Transaction] = []
    undone = 0
    while len(done) < TRANSACTIONS:
        if transaction := run(connection, choice):
            done.append(transaction)
            for each in done:
                is_undone = check_undo(connection, each)
                assert is_undone or each is not transaction, transaction
                undone += is_undone
    assert undone >= TRANSACTIONS
