"""JSON about rows: numbers with a fraction are decimals, as exact as they are in the table."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal
from typing import Any
from uuid import UUID


def loads(text: str | None) -> Any:
    """What a JSON text says; None stays None."""
    return None if text is None else json.loads(text, parse_float=Decimal)


def dumps(value: Any) -> str:
    """The JSON text of a value, on one line; times and UUIDs are text, times with their offset."""
    if isinstance(value, Mapping):
        return f"{{{', '.join(f'{dumps(str(key))}: {dumps(item)}' for key, item in value.items())}}}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(dumps, value))}]"
    if isinstance(value, Decimal):
        return format(value, "f")
    if isinstance(value, datetime):
        value = value.isoformat()
    elif isinstance(value, UUID):
        value = str(value)
    return json.dumps(value, ensure_ascii=False)
