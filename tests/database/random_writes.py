"""Random statements against a small table, so that rows meet again and again."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from dataclasses import dataclass

import psycopg
from history import Connection

KEYS = range(6)
GROUPS = range(3)


@dataclass(frozen=True)
class Shape:
    """A table: what its key looks like, and how keys are written."""

    columns: str
    names: tuple[str, ...]
    write: Callable[[random.Random, int], tuple[str, ...]]
    constraint: str = ""

    def definition(self, table: str) -> str:
        key = ", ".join(self.names)
        return f"""CREATE TABLE {table} ({self.columns}, grp integer, note text,
                                         PRIMARY KEY ({key}) {self.constraint})"""

    @property
    def is_deferrable(self) -> bool:
        return "DEFERRABLE" in self.constraint

    def obj(self, choice: random.Random, number: int) -> str:
        """A key as the argument of as_of()."""
        values = [value.strip("'") for value in self.write(choice, number)]
        return (
            values[0]
            if len(values) == 1
            else json.dumps({name.strip('"'): value for name, value in zip(self.names, values, strict=True)})
        )


def plain(choice: random.Random, number: int) -> tuple[str, ...]:
    return (str(number),)


def in_any_case(choice: random.Random, number: int) -> tuple[str, ...]:
    return (choice.choice(("'K{}'", "'k{}'")).format(number),)


def of_any_scale(choice: random.Random, number: int) -> tuple[str, ...]:
    return (choice.choice(("{}", "{}.0", "{}.00")).format(number),)


def pair(choice: random.Random, number: int) -> tuple[str, ...]:
    return (f"'{number % 2}'", str(number // 2))


SHAPES = {
    "plain": Shape("id integer", ("id",), plain),
    "deferred": Shape("id integer", ("id",), plain, "DEFERRABLE INITIALLY DEFERRED"),
    "deferrable": Shape("id bigint", ("id",), plain, "DEFERRABLE"),
    "citext": Shape("id citext", ("id",), in_any_case),
    "numeric": Shape("id numeric", ("id",), of_any_scale),
    "pair": Shape('one text COLLATE "C", "two{}" integer', ("one", '"two{}"'), pair),
}


class Writer:
    """Writes to a table of some shape what a random choice says."""

    def __init__(self, connection: Connection, table: str, shape: Shape, seed: str) -> None:
        self.connection, self.table, self.shape = connection, table, shape
        self.choice = random.Random(seed)
        self.number = 0

    def key(self) -> str:
        return ", ".join(self.shape.write(self.choice, self.choice.choice(KEYS)))

    def row(self) -> str:
        self.number += 1
        return f"({self.key()}, {self.choice.choice(GROUPS)}, 'note {self.number}')"

    def statement(self) -> str:
        """A random statement. It may fail."""
        table, choice = self.table, self.choice
        names = ", ".join(self.shape.names)
        group = choice.choice(GROUPS)
        is_it = f"({names}) = ({self.key()})" if len(self.shape.names) > 1 else f"{names} = {self.key()}"
        self.number += 1
        note = f"'note {self.number}'"
        options = [
            f"INSERT INTO {table} VALUES {self.row()}",
            f"INSERT INTO {table} VALUES {self.row()}, {self.row()}, {self.row()}",
            f"UPDATE {table} SET note = {note} WHERE {is_it}",
            f"UPDATE {table} SET note = {note} WHERE {is_it}",
            f"UPDATE {table} SET note = note || '.', grp = (grp + 1) % 3 WHERE grp >= {group}",
            f"UPDATE {table} SET note = note WHERE grp = {group}",
            f"DELETE FROM {table} WHERE {is_it}",
            f"DELETE FROM {table} WHERE grp = {group}",
            f"UPDATE {table} SET ({names}) = ROW({self.key()}) WHERE {is_it}",
            f"UPDATE {table} SET ({names}) = ROW({self.key()}), note = {note} WHERE {is_it}",
            f"""WITH d AS (DELETE FROM {table} WHERE grp = {group} RETURNING *)
                INSERT INTO {table} SELECT {names}, (grp + 1) % 3, note || '!' FROM d""",
        ]
        if choice.random() < 0.1:
            return f"TRUNCATE {table}"
        if self.connection.info.server_version >= 150000:
            options.append(
                f"""MERGE INTO {table} AS t USING (VALUES {self.row()}, {self.row()}) AS s({names}, grp, note)
                    ON ({self.both("t")}) = ({self.both("s")})
                    WHEN MATCHED AND t.grp = {group} THEN DELETE
                    WHEN MATCHED THEN UPDATE SET note = s.note || ' merged'
                    WHEN NOT MATCHED THEN INSERT VALUES ({self.both("s")}, s.grp, s.note)"""
            )
        if self.shape.is_deferrable:
            one, other = choice.sample(KEYS, 2)
            options += [
                f"UPDATE {table} SET {names} = CASE {names} WHEN {one} THEN {other} ELSE {one} END, note = {note} "
                f"WHERE {names} IN ({one}, {other})",
                f"UPDATE {table} SET {names} = ({names} + 1) % {len(KEYS)}",
                f"UPDATE {table} SET {names} = {names} + 1 - 2 * ({names} % 2) WHERE {names} < 4",
                f"WITH i AS (INSERT INTO {table} VALUES ({one}, {group}, {note})) DELETE FROM {table} WHERE {names} = {one}",
                f"INSERT INTO {table} VALUES ({one}, {group}, {note}); DELETE FROM {table} WHERE {names} = {one} AND note <> {note}",
            ]
        else:
            options.append(
                f"""INSERT INTO {table} VALUES {self.row()}, {self.row()}
                    ON CONFLICT ({names}) DO UPDATE SET note = EXCLUDED.note || ' again', {self.shape.names[0]} = EXCLUDED.{self.shape.names[0]}"""
            )
            options.append(f"INSERT INTO {table} VALUES {self.row()}, {self.row()} ON CONFLICT DO NOTHING")
        return choice.choice(options)

    def both(self, alias: str) -> str:
        return ", ".join(f"{alias}.{name}" for name in self.shape.names)

    def transaction(self) -> bool:
        """Do a transaction of random statements, and say whether it committed."""
        self.connection.execute("BEGIN")
        for _ in range(self.choice.choice((1, 1, 2, 3, 5))):
            self.connection.execute("SAVEPOINT step")
            is_kept = self.choice.random() > 0.1
            try:
                self.connection.execute(self.statement())
            except psycopg.Error:
                is_kept = False
            if not is_kept:
                self.connection.execute("ROLLBACK TO step")
        try:
            self.connection.execute("COMMIT" if self.choice.random() > 0.1 else "ROLLBACK")
        except psycopg.errors.UniqueViolation:
            return False
        return True
