"""Tables of random shape and random statements: at every level, the events are those that ought to be."""

from __future__ import annotations

import contextlib
import itertools
import os
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import psycopg
import pytest
from history import LEVELS, Connection, call, quoted, track
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from oracle import (
    Change,
    Recorder,
    Table,
    differences,
    read_events,
    read_rows,
    read_table,
    replay,
    replay_without_key,
)
from random_tables import (
    TYPES,
    VALUES,
    Block,
    Example,
    Statement,
    Tracker,
    inheriting_tables,
    ordinary_tables,
    partitioned_tables,
)

PROFILES = {"default": 60, "thorough": 1000}
EXAMPLES = PROFILES[os.environ.get("HYPOTHESIS_PROFILE", "default")]


def random_examples(count: int) -> settings:
    """As many examples, in CI the same ones in every run.

    To look for the smallest example that fails takes minutes: that is for the profile `thorough`.
    """
    is_thorough = PROFILES["thorough"] == EXAMPLES
    return settings(
        max_examples=count,
        derandomize="CI" in os.environ,
        database=None,
        deadline=None,
        phases=[Phase.generate, Phase.shrink] if is_thorough else [Phase.generate],
        suppress_health_check=[
            HealthCheck.data_too_large,
            HealthCheck.filter_too_much,
            HealthCheck.large_base_example,
            HealthCheck.too_slow,
        ],
    )


@dataclass(frozen=True)
class Laboratory:
    """A database for random tables, and the types that they can have on this server."""

    dsn: str
    types: tuple[str, ...]
    server_major: int


@pytest.fixture(scope="module")
def laboratory(server: Any) -> Iterator[Laboratory]:
    with psycopg.connect(server.dsn(), autocommit=True) as maintenance:
        maintenance.execute("CREATE DATABASE laboratory")
        with psycopg.connect(server.dsn("laboratory"), autocommit=True) as connection:
            for extension in ("hstore", "citext", "pghistory"):
                connection.execute(f"CREATE EXTENSION {extension}")
            connection.execute(TYPES)
            types = set(VALUES)
            try:
                connection.execute("SELECT '<a/>'::xml")
            except psycopg.errors.FeatureNotSupported:  # by a server that was built without libxml
                types.remove("xml")
        yield Laboratory(server.dsn("laboratory"), tuple(sorted(types)), server.major)
        maintenance.execute("DROP DATABASE laboratory WITH (FORCE)")


schema_numbers = itertools.count(1)


class Run:
    """An example that is done in a schema of its own, each statement in a context of its own."""

    def __init__(self, connection: Connection, example: Example, schema: str) -> None:
        self.connection, self.example, self.schema = connection, example, schema
        self.context_ids = (uuid.UUID(int=number) for number in itertools.count(1))
        self.outcomes: list[str | None] = []
        connection.execute(f"CREATE SCHEMA {quoted(schema)}")
        connection.execute(f"SET search_path = {quoted(schema)}, public")
        for definition in example.definition:
            connection.execute(definition)
        for filling in example.filling:
            with contextlib.suppress(psycopg.errors.UniqueViolation):
                connection.execute(filling)
        self.tables = [
            read_table(connection, schema, relation.name, relation.key) for relation, _ in example.tracked
        ]
        self.before = self.rows()

    def rows(self) -> list[list[tuple[str, str]]]:
        """The rows of each table; those in a child are the child's."""
        return [
            read_rows(self.connection, table, only=relation.leaves == (relation.name,))
            for table, (relation, _) in zip(self.tables, self.example.tracked, strict=True)
        ]

    def write(self) -> None:
        self.connection.execute(f"SET search_path = {quoted(self.schema)}, public")
        for block in self.example.blocks:
            self.connection.execute("BEGIN")
            self.take_steps(block.steps)
            self.connection.execute("COMMIT" if block.is_kept else "ROLLBACK")
        self.after = self.rows()

    def take_steps(self, steps: Sequence[Statement | Block]) -> None:
        for step in steps:
            self.connection.execute("SAVEPOINT step")
            if isinstance(step, Block):
                self.take_steps(step.steps)
                is_kept = step.is_kept
            else:
                self.outcomes.append(self.outcome(step))
                is_kept = self.outcomes[-1] is None
            self.connection.execute("RELEASE step" if is_kept else "ROLLBACK TO step; RELEASE step")

    def outcome(self, statement: Statement) -> str | None:
        """Execute a statement, and return the SQLSTATE if it failed."""
        self.connection.execute(f"SET LOCAL pghistory.context_id = '{next(self.context_ids)}'")
        try:
            if statement.rows is None:
                self.connection.execute(statement.text)
            else:
                with self.connection.cursor().copy(statement.text) as copy:
                    for row in statement.rows:
                        copy.write_row(row)
        except psycopg.Error as error:
            return error.sqlstate
        return None

    def drop(self) -> None:
        self.connection.execute(f"DROP SCHEMA {quoted(self.schema)} CASCADE")


class TrackedRun(Run):
    """A run whose tables are tracked at some level."""

    def __init__(self, connection: Connection, example: Example, schema: str, level: str) -> None:
        super().__init__(connection, example, schema)
        self.level = level
        self.event_tables = [
            [self.track(table, tracker) for tracker in trackers]
            for table, (_, trackers) in zip(self.tables, example.tracked, strict=True)
        ]

    def track(self, table: Table, tracker: Tracker) -> str:
        condition = tracker.condition
        if tracker.changing:
            condition = call(self.connection, "any_change", *tracker.changing)
        return track(
            self.connection,
            table.regclass,
            tracker.label,
            kind=tracker.kind,
            fields=None if tracker.fields is None else list(tracker.fields),
            exclude=None if tracker.exclude is None else list(tracker.exclude),
            condition=condition,
            level=self.level,
        )

    def check(self, index: int, recorder: Recorder) -> None:
        """Check the events of each tracker of a table, and that those of kind history replay it all."""
        relation, trackers = self.example.tracked[index]
        table, before, after = self.tables[index], self.before[index], self.after[index]
        for tracker, event_table in zip(trackers, self.event_tables[index], strict=True):
            fields = tracker.recorded(relation)
            written = [
                event
                for event in read_events(self.connection, event_table, table, fields=fields)
                if event.label == tracker.label
            ]
            changes, expected = [event.change for event in written], recorder.expected(tracker, fields)
            objects = [by_object(both, table, self.level) for both in (expected, changes)]
            assert not differences(*objects)
            assert [change.context_id for change in changes] == [change.context_id for change in expected]
            if tracker == trackers[0] and table.key:
                assert not differences(after, replay(before, written))
            elif tracker == trackers[0]:
                replay_without_key([image for _, image in before], written, [image for _, image in after])


def by_object(changes: Sequence[Change], table: Table, level: str) -> list[Any]:
    """Changes as they must agree: in order for each object, or without objects each by itself.

    If in one statement a row takes over the key of a row that goes, only row level has them in order.
    """
    if not table.key:
        return list(changes)
    if level != "row":
        changes = sorted(changes, key=lambda change: (change.context_id, change.other_key is not None))
    objects: dict[str, list[Change]] = {}
    for change in changes:
        objects.setdefault(change.key, []).append(change)
    return [tuple(changes) for changes in objects.values()]


def check(laboratory: Laboratory, example: Example, levels: Sequence[str]) -> None:
    """Do an example where plain triggers record it, and where it is tracked at each level, and compare."""
    number = next(schema_numbers)
    runs: list[Run] = []
    # Not one session for all examples: it would remember every function that it ever called.
    with contextlib.closing(psycopg.connect(laboratory.dsn, autocommit=True)) as connection:
        witness = Run(connection, example, f"witness {number}")
        runs.append(witness)
        recorders = [
            Recorder(connection, table, trackers, relation.leaves)
            for table, (relation, trackers) in zip(witness.tables, example.tracked, strict=True)
        ]
        witness.write()
        for level in levels:
            run = TrackedRun(connection, example, f'"{level}" {number}', level)
            runs.append(run)
            run.write()
            assert run.outcomes == witness.outcomes
            for index, recorder in enumerate(recorders):
                assert not differences(witness.after[index], run.after[index])
                run.check(index, recorder)
        for run in runs:
            run.drop()


@random_examples(EXAMPLES)
@given(data=st.data())
def test_at_every_level_the_events_of_a_random_table_are_those_that_happened(
    laboratory: Laboratory, data: st.DataObject
) -> None:
    example = data.draw(ordinary_tables(laboratory.types, laboratory.server_major))
    check(laboratory, example, LEVELS)


@random_examples(EXAMPLES // 2)
@given(data=st.data())
def test_the_events_of_a_random_partitioned_table_are_those_that_happened(
    laboratory: Laboratory, data: st.DataObject
) -> None:
    example = data.draw(partitioned_tables(laboratory.types, laboratory.server_major))
    check(laboratory, example, ("auto", "row"))


@random_examples(EXAMPLES // 2)
@given(data=st.data())
def test_the_events_of_random_tables_that_inherit_are_those_that_happened(
    laboratory: Laboratory, data: st.DataObject
) -> None:
    example = data.draw(inheriting_tables(laboratory.types, laboratory.server_major))
    check(laboratory, example, ("auto", "row"))
