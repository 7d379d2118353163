"""Celery: tasks say what they are, and belong to whatever had them done."""

from __future__ import annotations

import json
from contextlib import ExitStack
from typing import Any, TypeVar
from uuid import UUID

from celery import signals

from pyhist.context import ActiveContext, Layer, Steps, active_context, context

Application = TypeVar("Application")

# Of messages; texts, which every broker can carry.
_ID, _METADATA = "pyhist_context_id", "pyhist_context_metadata"


def instrument(app: Application) -> Application:
    """Gives each task of a Celery application a context; call it where tasks are sent and where they run.

    Its metadata has the `task` (the name) and the `task_id`. A task that is sent in a context carries that
    along: its events have the sender's context id, and the sender's metadata below its own. So have tasks
    that it sends in turn, and its retries. Doing it again changes nothing.

    Returns:
        The same application.
    """
    marked: Any = app
    marked.has_history = True
    signals.before_task_publish.connect(_send, dispatch_uid="pyhist")
    signals.task_prerun.connect(_begin, dispatch_uid="pyhist")
    signals.task_postrun.connect(_end, dispatch_uid="pyhist")
    return app


def _send(headers: dict[str, Any], **_: Any) -> None:
    active = active_context()
    if active is None:
        headers.pop(_ID, None)  # a retry has what its task has come with
    else:
        headers[_ID], headers[_METADATA] = active.settings


def _begin(task: Any, task_id: str, **_: Any) -> None:
    if not getattr(task.app, "has_history", False):
        return
    begun = ExitStack()
    sent = task.request.headers or {}
    if sent.get(_ID):
        metadata = json.loads(sent[_METADATA])
        begun.enter_context(Steps(ActiveContext(UUID(sent[_ID]), (Layer(None, metadata, True),)))())
    begun.enter_context(context(task=task.name, task_id=task_id))
    task.request.history = begun


def _end(task: Any, **_: Any) -> None:
    begun: ExitStack | None = getattr(task.request, "history", None)
    if begun is not None:
        begun.close()
