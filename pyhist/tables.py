"""Rows as text, for people who look at a terminal."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from unicodedata import combining, east_asian_width

from pyhist.exact_json import dumps

NARROWEST = 8  # cells that a shortened column keeps


def table(heads: Sequence[str], rows: Iterable[Sequence[str]], *, width: int | None = None) -> str:
    """Return `rows` below `heads`, each column as wide as its widest value.

    With `width`, in cells of a terminal, lines are kept within it by shortening the widest columns.
    """
    lines = [list(heads), *map(list, rows)]
    widths = [max(map(cells, column)) for column in zip(*lines, strict=True)]
    if width:
        widths = narrowed(widths, width - 2 * (len(widths) - 1))
    lines.insert(1, ["-" * column for column in widths])
    return "\n".join("  ".join(map(_fit, line, widths)).rstrip() for line in lines)


def records(heads: Sequence[str], rows: Iterable[Sequence[str]], *, width: int | None = None) -> str:
    """Return each row as a paragraph with a line for each column, behind its head.

    With `width`, in cells, lines are kept within it by shortening values.
    """
    column = max(map(cells, heads), default=0)
    room = max(width - column - 2, NARROWEST) if width else None
    return "\n\n".join(
        "\n".join(
            f"{_fit(head, column)}  {shortened(value, room)}".rstrip()
            for head, value in zip(heads, row, strict=True)
        )
        for row in rows
    )


def fits(heads: Sequence[str], width: int | None) -> bool:
    """Whether a table of these columns can be kept within a width without shortening them to nothing."""
    return not width or len(heads) * (NARROWEST + 2) - 2 <= width


def text(value: object) -> str:
    """A value as JSON has it, for a line on a terminal: characters that a terminal would obey are escaped."""
    shown = value if isinstance(value, str) else dumps(value)
    if shown.isprintable():
        return shown
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in shown)


def narrowed(widths: Sequence[int], room: int) -> list[int]:
    """The widths, the widest of them made smaller until they fit into the room, but not below `NARROWEST`."""
    low, high = NARROWEST, max(widths, default=NARROWEST)
    while low < high:
        middle = (low + high + 1) // 2
        if sum(min(width, middle) for width in widths) <= room:
            low = middle
        else:
            high = middle - 1
    return [min(width, low) for width in widths]


def cells(text: str) -> int:
    """How many cells of a terminal a text takes."""
    return len(text) if text.isascii() else sum(map(_cells, text))


def shortened(text: str, room: int | None) -> str:
    """As much of a text as fits into so many cells, with dots where it ends early."""
    if room is None or cells(text) <= room:
        return text
    end = taken = 0
    while taken + _cells(text[end]) <= room - 3:
        taken += _cells(text[end])
        end += 1
    return f"{text[:end]}..."


def _cells(character: str) -> int:
    return 0 if combining(character) else 2 if east_asian_width(character) in "WF" else 1


def _fit(value: str, width: int) -> str:
    value = shortened(value, width)
    return value + " " * (width - cells(value))
