"""Hypothesis strategies: tables of random shape, what to record of them, and what happens to them.

Statements are text that PostgreSQL reads. They name tables without a schema, so that the same ones can be run
in several schemas.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from history import KINDS, quoted
from hypothesis import strategies as st
from psycopg import sql

TYPES = """
    CREATE TYPE mood AS ENUM ('sad', 'ok', 'it''s "happy"');
    CREATE DOMAIN positive AS integer CHECK (VALUE > 0);
    CREATE DOMAIN present AS text NOT NULL;
    CREATE TYPE pair AS (a integer, b text);
"""
"""Types of the user's own that columns may have."""

KEY_VALUES = {
    "integer": ("1", "2", "3", "4", "5", "6", "7"),
    "bigint": ("-1", "0", "9223372036854775807"),
    "text": ("a", "A", "", "b", "c", "it's", 'd\\"%s{}'),
    "citext": ("a", "A", "b"),
    "numeric": ("1", "1.0", "2.50", "-3"),
    "uuid": tuple(f"00000000-0000-0000-0000-00000000000{digit}" for digit in "123"),
}
"""Values for keys: few, so that statements meet each other's rows, and some that are equal and yet differ."""

VALUES = {
    **KEY_VALUES,
    "present": ("here", "there"),
    "boolean": ("true", "false"),
    "double precision": ("0", "-0", "NaN", "0.1"),
    "character(5)": ("a", "ab"),
    "character varying(20)": ("a", "a "),
    '"char"': ("x", "y"),
    "bytea": (r"\x00ff", r"\x"),
    "timestamp with time zone": ("2020-01-01 00:00+00", "infinity"),
    "interval": ("1 day", "24 hours"),
    "bit varying": ("101", ""),
    "json": ('{"a":1}', '{"a": 1}', "[]"),
    "jsonb": ('{"a": 1}', '{"a": 1.0}', "null"),
    "xml": ("<a/>", "<a></a>"),
    "point": ("(1,2)", "(1,3)"),
    "integer[]": ("{}", "{1,2}", "[0:1]={1,2}", "{NULL}"),
    "text[]": ('{"a b"}', "{{a,b},{c,d}}"),
    "int4range": ("[1,3)", "empty"),
    "inet": ("10.0.0.1", "10.0.0.1/8"),
    "tsvector": ("a b", "'a':1"),
    "mood": ("sad", "ok", 'it\'s "happy"'),
    "positive": ("1", "2"),
    "pair": ("(1,x)", "(,)", '(2,"a ""b"", c")'),
    "pair[]": ('{"(1,x)"}', "{}"),
    "hstore": ('"a"=>"1"', "a=>NULL"),
}
"""Types that columns may have, and some values of each."""

LARGE = "large " * 1000

# fmt: off
WORDS = (
    "old", "new", "old_rows", "new_rows", "label", "event_id", "record", "found", "tg_op", "all",
    "begin", "by", "case", "declare", "else", "end", "execute", "for", "foreach", "from", "if", "in",
    "into", "loop", "not", "null", "or", "order", "query", "return", "select", "strict", "then", "to",
    "user", "using", "when", "while",
)
"""Names that could mean something else in a trigger function: variables, words of SQL and PL/pgSQL."""
ODD_NAMES = (
    'a"b', "it's", "100%", "%s", "{}", "{0}", "a;b", "a\nb", "a.b", "a b", "\\", "$$", "$function$",
    "--", "/*", "?", ":x", "Ünï", "日本", "ID", "Id", "e", "o", "n", "t",
)
# fmt: on
NAMES = st.sampled_from(WORDS + ODD_NAMES) | st.text(
    st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=8
).filter(lambda name: not name.startswith("pgh_"))


def listed(names: Sequence[str], prefix: str = "") -> str:
    return ", ".join(prefix + quoted(name) for name in names)


def literal(value: str | None) -> str:
    return sql.Literal(value).as_string(None)


@dataclass(frozen=True)
class Column:
    """A column, and the values that it may get; a column that fills itself gets none."""

    name: str
    type: str
    values: tuple[str | None, ...] = ()
    suffix: str = ""

    @property
    def definition(self) -> str:
        return f"{quoted(self.name)} {self.type} {self.suffix}".rstrip()

    def literal(self, value: str | None) -> str:
        return f"{literal(value)}::{self.type}"


@dataclass(frozen=True)
class Relation:
    """A table that is tracked by itself."""

    name: str
    columns: tuple[Column, ...]
    key: tuple[str, ...]
    is_deferrable: bool
    leaves: tuple[str, ...]
    """The tables that its rows are in: itself, or its partitions."""

    @property
    def writable(self) -> tuple[Column, ...]:
        return tuple(column for column in self.columns if column.values)

    def column(self, name: str) -> Column:
        return next(column for column in self.columns if column.name == name)


@dataclass(frozen=True)
class Tracker:
    """A call of track()."""

    label: str
    kind: str
    fields: tuple[str, ...] | None = None
    exclude: tuple[str, ...] | None = None
    condition: str | None = None
    changing: tuple[str, ...] | None = None
    """Columns to name in any_change() for the condition."""

    def recorded(self, relation: Relation) -> tuple[str, ...]:
        """The columns that its events hold, in the table's order."""
        return tuple(
            column.name
            for column in relation.columns
            if (self.fields is None or column.name in self.fields) and column.name not in (self.exclude or ())
        )


@dataclass(frozen=True)
class Statement:
    """A statement; with rows, a COPY FROM STDIN of them."""

    text: str
    rows: tuple[tuple[str | None, ...], ...] | None = None


@dataclass(frozen=True)
class Block:
    """Statements in a transaction, or in a savepoint of it."""

    steps: tuple[Statement | Block, ...]
    is_kept: bool


@dataclass(frozen=True)
class Example:
    """Tables, what they hold before they are tracked, how they are tracked, and what is done then."""

    definition: tuple[str, ...]
    filling: tuple[str, ...]
    tracked: tuple[tuple[Relation, tuple[Tracker, ...]], ...]
    blocks: tuple[Block, ...]


def names(count: int) -> st.SearchStrategy[list[str]]:
    return st.lists(NAMES, min_size=count, max_size=count, unique=True)


@st.composite
def relations(
    draw: st.DrawFn, types: Sequence[str], key_types: Sequence[str], *, plain: bool = False
) -> Relation:
    """A table of random shape; a plain one has no columns that fill themselves and no deferrable key."""
    key_size = draw(st.sampled_from((0, 1, 1, 1, 2)))
    table_name, *column_names = draw(names(1 + key_size + 5))
    key, others = tuple(column_names[:key_size]), column_names[key_size:]
    columns = []
    for name in key:
        key_type = draw(st.sampled_from(key_types))
        columns.append(Column(name, key_type, KEY_VALUES[key_type]))
    for name in others[: draw(st.integers(1, 4))]:
        column_type = draw(st.sampled_from(types))
        values: tuple[str | None, ...] = VALUES[column_type]
        if column_type == "text":
            values = (*values, LARGE)
        if column_type != "present":
            values = (*values, None)
        columns.append(Column(name, column_type, values))
    if not plain:
        match draw(st.sampled_from(("nothing", "generated", "identity"))):
            case "generated":
                base = draw(st.sampled_from(columns))
                expression = f"GENERATED ALWAYS AS ({quoted(base.name)} IS NULL) STORED"
                columns.append(Column(others[-1], "boolean", suffix=expression))
            case "identity":
                columns.append(Column(others[-1], "bigint", suffix="GENERATED ALWAYS AS IDENTITY"))
        columns = draw(st.permutations(columns))
    is_deferrable = bool(key) and not plain and draw(st.booleans())
    return Relation(table_name, tuple(columns), key, is_deferrable, (table_name,))


@st.composite
def trackers(draw: st.DrawFn, relation: Relation) -> tuple[Tracker, ...]:
    """Kind history of all columns, and perhaps more."""
    labels = draw(names(3))
    columns = [column.name for column in relation.columns]
    found = [Tracker(labels[0], "history")]
    for label in labels[1 : draw(st.integers(1, 3))]:
        tracker = Tracker(label, draw(st.sampled_from([kind for kind in KINDS if kind != "event"])))
        some = tuple(draw(st.lists(st.sampled_from(columns), unique=True)))
        match draw(st.sampled_from(("all", "fields", "exclude"))):
            case "fields":
                tracker = replace(tracker, fields=some)
            case "exclude" if some:
                tracker = replace(tracker, exclude=some)
        name = quoted(draw(st.sampled_from(columns)))
        is_of_updates = tracker.kind in ("before_update", "after_update")
        match draw(st.sampled_from(("none", "null", "becomes null", "key", "changing"))):
            case "null" if tracker.kind != "history":
                is_before = tracker.kind in ("before_update", "before_delete", "before_truncate")
                tracker = replace(tracker, condition=f"{'OLD' if is_before else 'NEW'}.{name} IS NULL")
            case "becomes null" if is_of_updates:
                tracker = replace(tracker, condition=f"OLD.{name} IS NOT NULL AND NEW.{name} IS NULL")
            case "key" if is_of_updates and relation.key:
                key = quoted(relation.key[0])
                tracker = replace(tracker, condition=f"OLD.{key} < NEW.{key} OR NEW.{name} IS NULL")
            case "changing" if is_of_updates and some:
                tracker = replace(tracker, changing=some)
        found.append(tracker)
    return tuple(found)


@dataclass(frozen=True)
class Writes:
    """Ways to write to a table. Each one makes up a statement from what it draws."""

    relation: Relation
    targets: tuple[str, ...]
    """The names to write through: the table's, those of partitions."""
    server_major: int
    scopes: tuple[str, ...] = ("",)
    """What to write before the name in UPDATE, DELETE and TRUNCATE: nothing, or ONLY."""

    def columns(self, prefix: str = "") -> str:
        return listed([column.name for column in self.relation.writable], prefix)

    def rows(self, draw: st.DrawFn, most: int) -> tuple[tuple[str | None, ...], ...]:
        """Rows, mostly of different keys."""
        rows = [
            tuple(draw(st.sampled_from(column.values)) for column in self.relation.writable)
            for _ in range(draw(st.integers(min(2, most), most)))
        ]
        if self.relation.key and draw(st.integers(0, 3)):
            names = [column.name for column in self.relation.writable]
            positions = [names.index(name) for name in self.relation.key]
            rows = list({tuple(row[position] for position in positions): row for row in rows}.values())
        return tuple(rows)

    def values(self, draw: st.DrawFn, most: int = 6) -> str:
        return "VALUES " + ", ".join(
            "(" + ", ".join(map(Column.literal, self.relation.writable, row)) + ")"
            for row in self.rows(draw, most)
        )

    def key_value(self, draw: st.DrawFn, name: str) -> str:
        column = self.relation.column(name)
        return column.literal(draw(st.sampled_from(column.values)))

    def predicate(self, draw: st.DrawFn, prefix: str = "") -> str:
        column = draw(st.sampled_from(self.relation.columns))
        name = prefix + quoted(column.name)
        match draw(st.sampled_from(("true", "null", "value", "key", "key", "other keys"))):
            case "null":
                return f"{name} IS NULL"
            case "value" if value := draw(st.sampled_from((*column.values, None))):
                return f"{name}::text = {literal(value)}"
            case "key" | "other keys" as which if self.relation.key:
                key = draw(st.sampled_from(self.relation.key))
                operator = "=" if which == "key" else "<>"
                return f"{prefix}{quoted(key)} {operator} {self.key_value(draw, key)}"
        return "true"

    def assignments(self, draw: st.DrawFn, prefix: str = "") -> str:
        """Columns set to a value or to what they are; columns of the key, too."""
        chosen = draw(st.lists(st.sampled_from(self.relation.writable), min_size=1, max_size=3, unique=True))
        parts = []
        for column in chosen:
            name = quoted(column.name)
            if draw(st.integers(0, 2)):
                parts.append(f"{name} = {column.literal(draw(st.sampled_from(column.values)))}")
            else:
                parts.append(f"{name} = {prefix}{name}")
        return ", ".join(parts)

    def target(self, draw: st.DrawFn) -> str:
        return quoted(draw(st.sampled_from(self.targets)))

    def scoped(self, draw: st.DrawFn) -> str:
        return f"{draw(st.sampled_from(self.scopes))} {self.target(draw)}".lstrip()

    def insert(self, draw: st.DrawFn) -> str:
        return f"INSERT INTO {self.target(draw)} ({self.columns()}) {self.values(draw)}"

    def copy(self, draw: st.DrawFn) -> Statement:
        return Statement(f"COPY {self.target(draw)} ({self.columns()}) FROM STDIN", self.rows(draw, 4))

    def update(self, draw: st.DrawFn) -> str:
        return f"UPDATE {self.scoped(draw)} SET {self.assignments(draw)} WHERE {self.predicate(draw)}"

    def delete(self, draw: st.DrawFn) -> str:
        return f"DELETE FROM {self.scoped(draw)} WHERE {self.predicate(draw)}"

    def truncate(self, draw: st.DrawFn) -> str:
        return f"TRUNCATE {self.scoped(draw)}"

    def exchange(self, draw: st.DrawFn) -> str:
        """Let rows exchange a column of the key, or pass it on."""
        column = self.relation.column(draw(st.sampled_from(self.relation.key)))
        name = quoted(column.name)
        values = [column.literal(value) for value in draw(st.permutations(column.values))[:3]]
        cases = " ".join(
            f"WHEN {name} = {old} THEN {new}"
            for old, new in zip(values, [*values[1:], values[0]], strict=True)
        )
        return f"UPDATE {self.scoped(draw)} SET {name} = CASE {cases} ELSE {name} END"

    def upsert(self, draw: st.DrawFn) -> str:
        statement = (
            f"INSERT INTO {self.target(draw)} AS held ({self.columns()}) {self.values(draw)}"
            f" ON CONFLICT ({listed(self.relation.key)})"
        )
        if draw(st.booleans()):
            return f"{statement} DO NOTHING"
        assignments, predicate = self.assignments(draw, "EXCLUDED."), self.predicate(draw, "held.")
        return f"{statement} DO UPDATE SET {assignments} WHERE {predicate}"

    def merge(self, draw: st.DrawFn) -> str:
        on = " AND ".join(f"held.{quoted(name)} = given.{quoted(name)}" for name in self.relation.key)
        clauses = [
            f"MATCHED AND {self.predicate(draw, 'held.')} THEN DELETE",
            f"MATCHED AND {self.predicate(draw, 'held.')} THEN UPDATE SET {self.assignments(draw, 'given.')}",
            "MATCHED THEN DO NOTHING",
            f"NOT MATCHED THEN INSERT ({self.columns()}) VALUES ({self.columns('given.')})",
        ]
        if self.server_major >= 17:
            clauses.append(f"NOT MATCHED BY SOURCE AND {self.predicate(draw, 'held.')} THEN DELETE")
        chosen = draw(st.lists(st.sampled_from(clauses), min_size=1, unique=True))
        return (
            f"MERGE INTO {self.target(draw)} AS held"
            f" USING ({self.values(draw)}) AS given ({self.columns()}) ON {on} "
            + " ".join(f"WHEN {clause}" for clause in sorted(chosen, key=clauses.index))
        )

    def move(self, draw: st.DrawFn) -> str:
        """Delete rows and insert them again in one statement."""
        target, predicate = self.target(draw), self.predicate(draw)
        return (
            f"WITH gone AS (DELETE FROM {target} WHERE {predicate} RETURNING *)"
            f" INSERT INTO {target} ({self.columns()}) SELECT {self.columns()} FROM gone ORDER BY gone::text"
        )

    def write_twice(self, draw: st.DrawFn) -> str:
        """Do two things in one statement."""
        first, second = (draw(st.sampled_from((self.insert, self.update, self.delete)))(draw) for _ in "12")
        return f"WITH first AS ({first} RETURNING 1) {second}"

    def take_the_place(self, draw: st.DrawFn) -> str:
        """Let one row have the key of another that goes in the same statement."""
        key, target = self.relation.key[0], self.target(draw)
        taken, given_up = self.key_value(draw, key), self.key_value(draw, key)
        return (
            f"WITH gone AS (DELETE FROM {target} WHERE {quoted(key)} = {taken} RETURNING 1)"
            f" UPDATE {target} SET {quoted(key)} = {taken}"
            f" WHERE {quoted(key)} = {given_up} AND EXISTS (SELECT FROM gone)"
        )

    def make_place(self, draw: st.DrawFn) -> str:
        """Let a row give up its key, and insert one in the same statement."""
        key, target = self.relation.key[0], self.target(draw)
        given_up, taken = self.key_value(draw, key), self.key_value(draw, key)
        return (
            f"WITH moved AS (UPDATE {target} SET {quoted(key)} = {taken} WHERE {quoted(key)} = {given_up}"
            f" RETURNING 1) INSERT INTO {target} ({self.columns()})"
            f" SELECT * FROM ({self.values(draw, 1)}) AS given WHERE EXISTS (SELECT FROM moved)"
        )

    def any(self, draw: st.DrawFn) -> str | Statement:
        ways = [self.insert, self.insert, self.update, self.update, self.delete, self.truncate, self.copy]
        if self.relation.is_deferrable:
            # In statements that do more, the order means nothing: a key may be there twice for a moment.
            ways += [self.exchange, self.exchange]
        else:
            ways += [self.move, self.write_twice]
        if self.relation.key and not self.relation.is_deferrable:
            ways += [self.take_the_place, self.make_place, self.upsert]
            if self.server_major >= 15:
                ways += [self.merge, self.merge]
        return draw(st.sampled_from(ways))(draw)


@st.composite
def statements(draw: st.DrawFn, all_writes: Sequence[Writes]) -> Statement:
    statement = draw(st.sampled_from(all_writes)).any(draw)
    return statement if isinstance(statement, Statement) else Statement(statement)


@st.composite
def blocks(draw: st.DrawFn, *all_writes: Writes) -> tuple[Block, ...]:
    """Transactions of a few statements, some of them in savepoints; some of both are rolled back."""
    written = statements(all_writes)
    is_kept = st.sampled_from((True, True, True, False))
    savepoints = st.builds(Block, st.lists(written, min_size=1, max_size=3).map(tuple), is_kept)
    steps = st.lists(written | written | savepoints, min_size=2, max_size=5).map(tuple)
    return tuple(draw(st.lists(st.builds(Block, steps, is_kept), min_size=2, max_size=5)))


@st.composite
def before_triggers(draw: st.DrawFn, relation: Relation, fixed: Sequence[Column] = ()) -> tuple[str, ...]:
    """Perhaps a trigger of the user's that changes a column of the new row, or lets some rows be."""
    columns = [
        column for column in relation.writable if column.name not in relation.key and column not in fixed
    ]
    action = draw(st.sampled_from(("nothing", "nothing", "rewrite", "skip")))
    if action == "nothing" or not columns:
        return ()
    column = draw(st.sampled_from(columns))
    name = quoted(column.name)
    if action == "rewrite":
        operations = "INSERT OR UPDATE"
        body = f"NEW.{name} := {column.literal(column.values[0])}; RETURN NEW;"
    else:
        operations = "UPDATE OR DELETE"
        body = (
            f"IF OLD.{name} IS NULL THEN RETURN NULL; END IF;"
            " IF TG_OP = 'DELETE' THEN RETURN OLD; END IF; RETURN NEW;"
        )
    return (
        f"CREATE FUNCTION users_own() RETURNS trigger LANGUAGE plpgsql AS {literal(f'BEGIN {body} END')}",
        f"CREATE TRIGGER users_own BEFORE {operations} ON {quoted(relation.name)}"
        " FOR EACH ROW EXECUTE FUNCTION users_own()",
    )


QUIET = "WITH (autovacuum_enabled = false)"
"""Statistics that change from one run to the next could change plans, and so the order of rows."""


def create_table(relation: Relation, more: str, columns: Sequence[Column] | None = None) -> str:
    parts = [column.definition for column in (relation.columns if columns is None else columns)]
    if relation.key:
        deferrable = " DEFERRABLE" if relation.is_deferrable else ""
        parts.append(f"PRIMARY KEY ({listed(relation.key)}){deferrable}")
    return f"CREATE TABLE {quoted(relation.name)} ({', '.join(parts)}) {more}"


@st.composite
def ordinary_tables(draw: st.DrawFn, types: Sequence[str], server_major: int) -> Example:
    """One ordinary table."""
    relation = draw(relations(types, tuple(KEY_VALUES)))
    writes = Writes(relation, (relation.name,), server_major)
    return Example(
        definition=(create_table(relation, QUIET), *draw(before_triggers(relation))),
        filling=(writes.insert(draw),),
        tracked=((relation, draw(trackers(relation))),),
        blocks=draw(blocks(writes)),
    )


@st.composite
def partitioned_tables(draw: st.DrawFn, types: Sequence[str], server_major: int) -> Example:
    """A partitioned table; one partition has another order of columns, one perhaps partitions of its own."""
    relation = draw(relations(types, ("integer", "text"), plain=True))
    if relation.key:
        by = relation.column(relation.key[0])
    else:
        taken = {column.name for column in relation.columns}
        name = draw(NAMES.filter(lambda name: name not in taken))
        by = Column(name, "integer", (*KEY_VALUES["integer"], None))
        relation = replace(relation, columns=(by, *relation.columns))
    relation = replace(relation, leaves=("the first", "the second", "the rest"))
    whole, others, first, second, rest = map(quoted, (relation.name, "the others", *relation.leaves))

    values = [by.literal(value) for value in by.values if value is not None]
    partition_by = f"PARTITION BY LIST ({quoted(by.name)})"
    reordered = ", ".join(
        column.definition + (" NOT NULL" if column.name in relation.key else "")
        for column in draw(st.permutations(relation.columns))
    )
    default = (f"CREATE TABLE {rest} PARTITION OF {whole} DEFAULT {QUIET}",)
    if draw(st.booleans()):
        default = (
            f"CREATE TABLE {others} PARTITION OF {whole} DEFAULT {partition_by}",
            f"CREATE TABLE {rest} PARTITION OF {others} DEFAULT {QUIET}",
        )
    through_whole = Writes(relation, (relation.name,), server_major)
    through_any = Writes(relation, (relation.name, *relation.leaves), server_major)
    return Example(
        definition=(
            create_table(relation, partition_by),
            f"CREATE TABLE {first} PARTITION OF {whole} FOR VALUES IN ({values[0]}) {QUIET}",
            f"CREATE TABLE {second} ({reordered}) {QUIET}",
            f"ALTER TABLE {whole} ATTACH PARTITION {second} FOR VALUES IN ({values[1]})",
            *default,
            *draw(before_triggers(relation, fixed=(by,))),
        ),
        filling=(through_whole.insert(draw),),
        tracked=((relation, draw(trackers(relation))),),
        blocks=draw(blocks(through_whole, through_any)),
    )


@st.composite
def inheriting_tables(draw: st.DrawFn, types: Sequence[str], server_major: int) -> Example:
    """A table and one that inherits from it, each tracked by itself."""
    parent = draw(relations(types, ("integer", "text"), plain=True))
    taken = {parent.name, *(column.name for column in parent.columns)}
    child_name, column_name = draw(names(2).filter(taken.isdisjoint))
    added = Column(column_name, "text", (*VALUES["text"], None))
    child = replace(parent, name=child_name, columns=(*parent.columns, added), leaves=(child_name,))
    through_parent = Writes(parent, (parent.name,), server_major, scopes=("", "", "ONLY"))
    through_child = Writes(child, (child.name,), server_major)
    return Example(
        definition=(
            create_table(parent, QUIET),
            create_table(child, f"INHERITS ({quoted(parent.name)}) {QUIET}", columns=[added]),
        ),
        filling=(through_parent.insert(draw), through_child.insert(draw)),
        tracked=((parent, draw(trackers(parent))), (child, draw(trackers(child)))),
        blocks=draw(blocks(through_parent, through_child)),
    )
