"""Rows as text, for people who look at a terminal."""

from __future__ import annotations

from collections.abc import Iterable, Sequence


def table(heads: Sequence[str], rows: Iterable[Sequence[str]], *, width: int | None = None) -> str:
    """Return `rows` below `heads`, each column as wide as its widest value.

    With `width`, in characters, lines are kept within it by shortening the widest columns.
    """
    lines = [list(heads), *map(list, rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    while width and sum(widths) + 2 * (len(widths) - 1) > width:
        widths[widths.index(max(widths))] -= 1
    lines.insert(1, ["-" * column for column in widths])
    return "\n".join("  ".join(map(_fit, line, widths)).rstrip() for line in lines)


def _fit(value: str, width: int) -> str:
    return value.ljust(width) if len(value) <= width else f"{value[: width - 3]}..."
