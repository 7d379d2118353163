"""pyhist.tables: rows as text."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from decimal import Decimal
from uuid import UUID

import pytest

from pyhist import exact_json
from pyhist.tables import cells, records, shortened, table, text


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


def test_a_table_that_cannot_be_narrow_keeps_a_little_of_each_column() -> None:
    shown = table(("a", "b"), [("long " * 4, "short")], width=5)
    assert shown.splitlines()[2] == "long ...  short"


def test_wide_characters_take_two_cells() -> None:
    assert [cells(value) for value in ("abc", "日本", "e\u0301")] == [3, 4, 1]
    assert table(("a", "b"), [("日本", "x"), ("abcde", "y")]).splitlines()[2:] == ["日本   x", "abcde  y"]
    assert shortened("日本語テスト", 8) == "日本..."
    assert shortened("日本語", 6) == "日本語"


def test_records_have_a_line_for_each_column() -> None:
    shown = records(("id", "name"), [("1", "ada"), ("2", "a long name of many words")], width=20)
    assert shown.splitlines() == ["id    1", "name  ada", "", "id    2", "name  a long name..."]


def test_characters_that_a_terminal_would_obey_are_escaped() -> None:
    assert text("a\x1b[31m\n\u009b") == r"a\x1b[31m\n\x9b"
    assert text("naïve 日本") == "naïve 日本"


def test_values_are_shown_as_json_has_them() -> None:
    shown = [text(value) for value in (None, True, 1, Decimal("1.50"), [1, "a"], {"a": None})]
    assert shown == ["null", "true", "1", "1.50", '[1, "a"]', '{"a": null}']


@pytest.mark.parametrize(
    "written",
    [
        '{"a": [1.50, 0.00000000, 123456789012345678901234567890.5, -1, true, null]}',
        '"naïve \\" \\n"',
        "[]",
        "{}",
    ],
)
def test_exact_json_is_read_and_written_without_loss(written: str) -> None:
    assert exact_json.dumps(exact_json.loads(written)) == written
    assert exact_json.loads(None) is None


def test_times_and_uuids_are_text_in_json() -> None:
    moment = datetime(2026, 1, 2, 3, 4, 5, 6, timezone(timedelta(hours=2)))
    assert exact_json.dumps([moment, UUID(int=1)]) == (
        '["2026-01-02T03:04:05.000006+02:00", "00000000-0000-0000-0000-000000000001"]'
    )
