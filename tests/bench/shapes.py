"""The tables that are written to, narrow and wide, and the statements that write to them."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Shape:
    """A table `item` with the key `id`: its other columns, each with its type and what row `{i}` has there."""

    name: str
    columns: dict[str, tuple[str, str]]

    @property
    def names(self) -> str:
        return ", ".join(["id", *self.columns])

    @property
    def definition(self) -> str:
        return ", ".join(
            ["id bigint PRIMARY KEY", *(f"{name} {kind}" for name, (kind, _) in self.columns.items())]
        )

    def values(self, i: str) -> str:
        """The values of the row whose number the expression `i` has."""
        return ", ".join([i, *(value.format(i=i) for _, value in self.columns.values())])


INTEGER = ("integer", "({i} % 97)::integer")
NUMERIC = ("numeric(12,2)", "{i} * 0.25")
TEXT = ("text", "'row number ' || {i}")
TIME = ("timestamptz", "timestamptz '2026-01-01 00:00+00' + {i} * interval '1 second'")

NARROW = Shape("narrow", {"customer": INTEGER, "amount": NUMERIC, "note": TEXT})
WIDE = Shape(
    "wide",
    {
        **NARROW.columns,
        **{f"column_{number}": (INTEGER, NUMERIC, TEXT, TIME)[number % 4] for number in range(36)},
    },
)


@dataclass(frozen=True)
class Write:
    """A statement that writes, and the letter that events of it have."""

    operation: str
    text: str


def writes_of_one_row(shape: Shape, i: str, some: int) -> dict[str, Write]:
    """Statements that write row `i`, in an order in which `some` times each leave the table as it was."""
    insert = f"INSERT INTO item ({shape.names}) VALUES"
    update = f"UPDATE item SET amount = amount + 1 WHERE id = {i}"
    other = f"({i} + {some // 2})"
    return {
        "insert": Write("I", f"{insert} ({shape.values(i)})"),
        "update": Write("U", update),
        "no-op update": Write("U", f"UPDATE item SET note = note WHERE id = {i}"),
        "update of no row": Write("U", f"UPDATE item SET amount = amount + 1 WHERE id = -{i}"),
        "upsert": Write(
            "U",
            f"{insert} ({shape.values(other)}) ON CONFLICT (id) DO UPDATE SET amount = item.amount + EXCLUDED.amount",
        ),
        "delete": Write("D", f"DELETE FROM item WHERE id = {i}"),
    }


def rows(shape: Shape, first: int, last: int) -> str:
    return f"SELECT {shape.values('i')} FROM generate_series({first}, {last}) AS i"


def bulk_writes(shape: Shape, count: int) -> dict[str, Write]:
    """Statements that write `count` rows, in an order in which they leave the table empty."""
    insert = f"INSERT INTO item ({shape.names})"
    return {
        "insert": Write("I", f"{insert} {rows(shape, 1, count)}"),
        "no-op update": Write("U", "UPDATE item SET note = note"),
        "update of no row": Write("U", "UPDATE item SET amount = amount + 1 WHERE id < 0"),
        "update": Write("U", "UPDATE item SET amount = amount + 1"),
        "upsert": Write(
            "U",
            f"{insert} {rows(shape, count // 2 + 1, count + count // 2)} "
            "ON CONFLICT (id) DO UPDATE SET amount = item.amount + EXCLUDED.amount",
        ),
        "delete": Write("D", "DELETE FROM item"),
    }
