"""What a request tells about itself, the user included as soon as there is one."""

from __future__ import annotations

import logging
import threading
from collections.abc import ItemsView, Iterator, Mapping
from typing import Any

from django.http import HttpRequest
from django.utils.functional import LazyObject, empty

from pyhist.context import as_json

_logger = logging.getLogger(__name__)


class RequestMetadata(Mapping[str, Any]):
    """The metadata of a request's context, asked for each statement anew.

    It has the `user` (the primary key) whom the request has at that time, if he is known; looking never asks
    the database. `ask` does.

    Args:
        request: the request.
        told: what else there is; a `user` in it stands.
    """

    def __init__(self, request: HttpRequest, told: Mapping[str, Any]) -> None:
        self._request = request
        self._told: dict[str, Any] = as_json(told)
        self._lock = threading.RLock()
        self._is_asking = False

    @property
    def can_ask(self) -> bool:
        """Whether the request could have a user, whom nobody has looked up yet."""
        return (
            "user" not in self._told
            and _is_unknown(vars(self._request).get("user"))
            and "_acached_user" not in vars(self._request)
        )

    def ask(self) -> None:
        """Looks the user up, as `request.user` does when it is used first.

        A write never fails because of that: what goes wrong is logged.
        """
        with self._lock:  # other threads of the request wait for what this one finds
            if self._is_asking or not self.can_ask:
                return  # the look itself has come here again
            self._is_asking = True
            try:
                _ = vars(self._request)["user"].pk
            except Exception:
                _logger.warning("the user of a request could not be looked up", exc_info=True)
            finally:
                self._is_asking = False

    def _current(self) -> dict[str, Any]:
        user = vars(self._request).get("user")
        if _is_unknown(user):
            user = vars(self._request).get("_acached_user")  # by request.auser()
        key = getattr(user, "pk", None)
        return self._told if key is None else {"user": as_json(key), **self._told}

    def __getitem__(self, key: str) -> Any:
        return self._current()[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._current())

    def __len__(self) -> int:
        return len(self._current())

    def items(self) -> ItemsView[str, Any]:
        """All of it, as it is at one time."""
        return self._current().items()


def _is_unknown(user: Any) -> bool:
    return issubclass(type(user), LazyObject) and user._wrapped is empty
