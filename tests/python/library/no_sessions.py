"""Sessions that cannot be read."""

from __future__ import annotations

from typing import Any

from django.contrib.sessions.backends.base import SessionBase


class SessionStore(SessionBase):
    def load(self) -> dict[str, Any]:
        raise OSError
