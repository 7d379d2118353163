"""Celery: tasks say what they are, and belong to whatever had them done."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import celery
import pytest
from celery.contrib.testing.worker import start_worker
from celery.result import allow_join_result
from probe import Probe

import pyhist
import pyhist.celery
from pyhist.context import active_context

names = itertools.count(1)
Context = dict[str, Any] | None


class Tasks:
    """An application whose tasks write items."""

    probe: Probe

    def __init__(self, app: celery.Celery) -> None:
        self.app = app

        def write(number: int) -> None:
            with pyhist.Connection.connect(self.probe.dsn) as connection:
                connection.execute("SELECT add(%s)", [number])

        @app.task(shared=False, name="add")
        def one(number: int) -> int:
            write(number)
            return number

        @app.task(shared=False, name="add_in_steps")
        def in_steps(number: int) -> None:
            with pyhist.context(step=1):
                write(number)
            pyhist.context(step=2)
            write(number + 1)

        @app.task(shared=False, name="fail")
        def fail(number: int) -> None:
            write(number)
            raise ValueError(number)

        @app.task(shared=False, name="send_on")
        def send_on(number: int) -> str:
            write(number)
            return one.delay(number + 1).id

        @app.task(shared=False, name="try_again", bind=True)
        def try_again(task: Any, number: int) -> None:
            write(number + task.request.retries)
            if task.request.retries < 2:
                raise task.retry(countdown=0)

        @app.task(shared=False, name="leftovers")
        def leftovers(*_: Any) -> bool:
            active = active_context()
            return active is not None and set(active.metadata) == {"task", "task_id"}

        self.one, self.in_steps, self.fail = one, in_steps, fail
        self.send_on, self.try_again, self.leftovers = send_on, try_again, leftovers

    def seen(self) -> list[tuple[int, Context]]:
        """The items, and their contexts without the ids of tasks."""
        return [
            (item, metadata and {key: value for key, value in metadata.items() if key != "task_id"})
            for item, metadata in self.probe.seen()
        ]


def application(**conf: Any) -> celery.Celery:
    app = celery.Celery(
        f"app{next(names)}", broker="memory://", backend="cache+memory://", set_as_current=False
    )
    app.conf.update(
        task_default_queue=app.main,
        broker_transport_options={"polling_interval": 0.01},
        worker_enable_remote_control=False,
        **conf,
    )
    return app


@contextlib.contextmanager
def working(app: celery.Celery, concurrency: int = 1) -> Iterator[None]:
    pool = "threads" if concurrency > 1 else "solo"
    with start_worker(app, perform_ping_check=False, pool=pool, concurrency=concurrency, shutdown_timeout=30):
        with allow_join_result():
            yield


@pytest.fixture(scope="module", params=[1, 2])
def worked(request: pytest.FixtureRequest) -> Iterator[Tasks]:
    """Tasks that a worker does, for either kind of messages."""
    app = pyhist.celery.instrument(application(task_protocol=request.param))
    tasks = Tasks(app)
    with working(app):
        yield tasks


@pytest.fixture
def tasks(worked: Tasks, probe: Probe) -> Tasks:
    """The same, for a fresh probe."""
    worked.probe = probe
    return worked


@pytest.fixture
def other_tasks(probe: Probe) -> Callable[..., Tasks]:
    """Call `other_tasks(app)` for those of another application."""

    def other_tasks(app: celery.Celery) -> Tasks:
        tasks = Tasks(app)
        tasks.probe = probe
        return tasks

    return other_tasks


def test_a_task_says_what_it_is(tasks: Tasks) -> None:
    result = tasks.one.delay(1)
    assert result.get(timeout=30, interval=0.01) == 1
    assert tasks.probe.seen() == [(1, {"task": "add", "task_id": result.id})]


def test_a_task_belongs_to_the_context_it_is_sent_in(tasks: Tasks) -> None:
    with pyhist.context(user=1, url="/a") as active:
        tasks.one.delay(1).get(timeout=30, interval=0.01)
        with pyhist.context(step="it's"):
            tasks.one.apply_async((2,), headers={"own": "header"}).get(timeout=30, interval=0.01)
        tasks.app.send_task("add", (3,)).get(timeout=30, interval=0.01)
    tasks.one.delay(4).get(timeout=30, interval=0.01)
    said = {"user": 1, "url": "/a", "task": "add"}
    ids = [
        context_id == str(active.id)
        for (context_id,) in tasks.probe.observer.execute("SELECT context_id FROM seen ORDER BY number")
    ]
    assert ids == [True, True, True, False]
    assert tasks.seen() == [(1, said), (2, said | {"step": "it's"}), (3, said), (4, {"task": "add"})]


def test_contexts_nest_in_a_task(tasks: Tasks) -> None:
    with pyhist.context(user=1):
        tasks.in_steps.delay(1).get(timeout=30, interval=0.01)
    said = {"user": 1, "task": "add_in_steps"}
    assert tasks.seen() == [(1, said | {"step": 1}), (2, said | {"step": 2})]


def test_a_task_leaves_nothing_to_the_next(tasks: Tasks) -> None:
    with pyhist.context(user=1):
        tasks.in_steps.delay(1).get(timeout=30, interval=0.01)
        with pytest.raises(ValueError, match="3"):
            tasks.fail.delay(3).get(timeout=30, interval=0.01)
    assert tasks.leftovers.delay().get(timeout=30, interval=0.01)


def test_what_a_task_sends_belongs_to_its_sender_too(tasks: Tasks) -> None:
    with pyhist.context(user=1) as active:
        sent = tasks.send_on.delay(1).get(timeout=30, interval=0.01)
    tasks.app.AsyncResult(sent).get(timeout=30, interval=0.01)
    assert tasks.probe.ids() == [str(active.id)] * 2


def test_retries_belong_to_the_sender(tasks: Tasks) -> None:
    with pyhist.context(user=1) as active:
        tasks.try_again.delay(1).get(timeout=30, interval=0.01)
    rows = tasks.probe.observer.execute("SELECT DISTINCT context_id FROM seen").fetchall()
    assert rows == [(str(active.id),)]
    assert tasks.seen() == [(number, {"user": 1, "task": "try_again"}) for number in (1, 2, 3)]


def test_chains_and_groups_belong_to_the_sender(tasks: Tasks) -> None:
    with pyhist.context(user=1) as active:
        celery.chain(tasks.one.si(1), tasks.one.si(2)).apply_async().get(timeout=30, interval=0.01)
        celery.group(tasks.one.si(3), tasks.one.si(4)).apply_async().get(timeout=30, interval=0.01)
    assert tasks.probe.ids() == [str(active.id)] * 4


def test_a_task_done_at_once_is_nested(other_tasks: Callable[..., Tasks]) -> None:
    tasks = other_tasks(pyhist.celery.instrument(application(task_always_eager=True)))
    with pyhist.context(user=1) as active:
        tasks.one.delay(1)
        tasks.one(2)
        assert active_context() == active
    tasks.one.delay(3)
    assert active_context() is None
    assert tasks.seen() == [(1, {"user": 1, "task": "add"}), (2, {"user": 1}), (3, {"task": "add"})]


def test_values_that_json_does_not_know_become_text(tasks: Tasks) -> None:
    with pyhist.context(price=1 + 2j, big=1 << 80, nothing=None, names=["ü"]):
        tasks.one.delay(1).get(timeout=30, interval=0.01)
    assert tasks.seen() == [
        (1, {"price": "(1+2j)", "big": 1 << 80, "nothing": None, "names": ["ü"], "task": "add"})
    ]


def test_an_application_that_is_not_instrumented_is_left_alone(other_tasks: Callable[..., Tasks]) -> None:
    tasks = other_tasks(application())
    with working(tasks.app), pyhist.context(user=1):
        tasks.one.delay(1).get(timeout=30, interval=0.01)
    assert tasks.seen() == [(1, None)]


def test_users_at_the_same_time_are_not_mixed_up(other_tasks: Callable[..., Tasks]) -> None:
    tasks = other_tasks(pyhist.celery.instrument(pyhist.celery.instrument(application())))

    def use(user: int) -> None:
        with pyhist.context(user=user), allow_join_result():
            for i in range(3):
                tasks.in_steps.delay(user * 100 + i * 10).get(timeout=60, interval=0.01)

    with working(tasks.app, concurrency=4), ThreadPoolExecutor(8) as threads:
        list(threads.map(use, range(8)))
    seen = tasks.seen()
    assert len(seen) == 8 * 3 * 2
    assert [item for item, metadata in seen if (metadata or {})["user"] != item // 100] == []
