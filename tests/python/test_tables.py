"""pyhist.tables: rows as text."""

from __future__ import annotations

from pyhist.tables import table


def test_a_column_is_as_wide_as_its_widest_value() -> None:
    assert table(("name", "n"), [("Ada", "1"), ("Fatma", "22")]).splitlines() == [
        "name   n",
        "-----  --",
        "Ada    1",
        "Fatma  22",
    ]


def test_a_table_is_kept_within_its_width_by_shortening_the_widest_columns() -> None:
    shown = table(("id", "text"), [("1", "a long story of many words")], width=15)
    assert shown.splitlines() == ["id  text", "--  -----------", "1   a long s..."]


def test_a_table_without_rows_has_its_heads() -> None:
    assert table(("a", "bc"), []).splitlines() == ["a  bc", "-  --"]
