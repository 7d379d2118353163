"""`pyhist.context`, by itself: what is active where, and what it says."""

from __future__ import annotations

import asyncio
import contextvars
import datetime
import decimal
import enum
import inspect
import json
import threading
import uuid
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

import pyhist
from pyhist.context import active_context


def metadata() -> dict[str, Any] | None:
    active = active_context()
    return None if active is None else json.loads(active.settings[1])


def context_id() -> uuid.UUID | None:
    active = active_context()
    return None if active is None else active.id


def test_nothing_is_active_outside_of_a_context() -> None:
    with pyhist.context(user=1):
        assert metadata() == {"user": 1}
    assert metadata() is None


def test_the_outermost_context_makes_the_id_and_inner_ones_add_keys_while_they_last() -> None:
    with pyhist.context(user=1, url="/") as outer:
        with pyhist.context(url="/signup", step=2) as inner:
            assert inner.id == outer.id == context_id()
            assert metadata() == {"user": 1, "url": "/signup", "step": 2}
        assert metadata() == {"user": 1, "url": "/"}
    with pyhist.context() as another:
        assert another.id != outer.id
        assert metadata() == {}


def test_a_context_ends_with_an_exception() -> None:
    with pytest.raises(ValueError, match="x"), pyhist.context(user=1):
        raise ValueError("x")
    assert metadata() is None


def test_a_mere_call_adds_to_the_context_until_that_ends() -> None:
    with pyhist.context(user=1):
        with pyhist.context(step=1):
            pyhist.context(found=True, user=2)
            assert metadata() == {"user": 2, "step": 1, "found": True}
        assert metadata() == {"user": 2, "found": True}
    assert metadata() is None


def test_mere_calls_do_not_pile_up() -> None:
    with pyhist.context(user=1):
        for number in range(1000):
            pyhist.context(number=number)
            pyhist.context(half=number // 2)
        with pyhist.context(number=-1):
            assert metadata() == {"user": 1, "number": -1, "half": 499}
        assert metadata() == {"user": 1, "number": 999, "half": 499}
        active = active_context()
        assert active is not None
        assert len(active.layers) < 5


def test_a_mere_call_does_nothing_without_a_context() -> None:
    pyhist.context(user=1)
    assert metadata() is None


def test_a_context_that_was_made_inside_another_ends_with_its_own_block() -> None:
    with pyhist.context(user=1):
        step = pyhist.context(step=1)
        with step:
            assert metadata() == {"user": 1, "step": 1}
        assert metadata() == {"user": 1}


def test_a_context_can_be_entered_again_and_inside_itself() -> None:
    step = pyhist.context(step=1)
    with step as first, step as second:
        assert first.id == second.id
    assert metadata() is None
    with step as third:
        assert third.id != first.id
        assert metadata() == {"step": 1}


def test_any_key_will_do() -> None:
    with pyhist.context(self=1, metadata=2, **{"a key": 3}):
        assert metadata() == {"self": 1, "metadata": 2, "a key": 3}


def test_it_decorates_a_function() -> None:
    @pyhist.context(task="report")
    def report(name: str) -> tuple[str, dict[str, Any] | None, uuid.UUID | None]:
        """Reports."""
        return name, metadata(), context_id()

    name, first, first_id = report("a")
    assert (name, first) == ("a", {"task": "report"})
    assert report("b")[2] != first_id
    assert (report.__name__, report.__doc__) == ("report", "Reports.")
    with pyhist.context(user=1):
        assert report("c")[1] == {"user": 1, "task": "report"}
        assert metadata() == {"user": 1}


def test_a_function_decorated_inside_a_context_adds_nothing_to_it() -> None:
    with pyhist.context(user=1):

        @pyhist.context(task="report")
        def report() -> None: ...

        assert metadata() == {"user": 1}


def test_it_decorates_a_coroutine_function() -> None:
    @pyhist.context(task="report")
    async def report() -> dict[str, Any] | None:
        await asyncio.sleep(0)
        return metadata()

    assert inspect.iscoroutinefunction(report)
    assert asyncio.run(report()) == {"task": "report"}
    assert metadata() is None


def test_it_is_an_asynchronous_context_manager() -> None:
    async def report() -> None:
        async with pyhist.context(user=1):
            await asyncio.sleep(0)
            assert metadata() == {"user": 1}
        assert metadata() is None

    asyncio.run(report())


def test_it_decorates_a_generator_and_leaves_its_caller_alone() -> None:
    seen = []

    @pyhist.context(task="read")
    def read() -> Iterator[str]:
        seen.append((context_id(), metadata()))
        got = yield "first"
        pyhist.context(got=got)
        seen.append((context_id(), metadata()))
        try:
            yield "second"
        except KeyError:
            seen.append((context_id(), metadata()))
        yield "third"
        return "end"

    steps = read()
    assert next(steps) == "first"
    assert metadata() is None
    with pyhist.context(user=1):
        assert steps.send("it") == "second"  # type: ignore[attr-defined]
        assert metadata() == {"user": 1}
    assert steps.throw(KeyError) == "third"  # type: ignore[attr-defined]
    with pytest.raises(StopIteration) as stopped:
        next(steps)
    assert stopped.value.value == "end"
    ids, contents = zip(*seen, strict=True)
    assert len(set(ids)) == 1
    assert contents == ({"task": "read"}, {"task": "read", "got": "it"}, {"task": "read", "got": "it"})


def test_a_decorated_generator_that_is_closed_cleans_up_in_its_context() -> None:
    seen = []

    @pyhist.context(task="read")
    def read() -> Iterator[int]:
        try:
            yield 1
        finally:
            seen.append(metadata())

    steps = read()
    next(steps)
    steps.close()  # type: ignore[attr-defined]
    assert seen == [{"task": "read"}]
    assert metadata() is None


def test_it_decorates_an_asynchronous_generator_and_leaves_its_caller_alone() -> None:
    seen = []

    @pyhist.context(task="read")
    async def read() -> AsyncIterator[int]:
        try:
            for number in range(3):
                await asyncio.sleep(0)
                seen.append((context_id(), metadata()))
                yield number
        finally:
            seen.append((context_id(), metadata()))

    async def consume() -> None:
        numbers = []
        async for number in read():
            assert metadata() is None
            numbers.append(number)
        assert numbers == [0, 1, 2]

        async with pyhist.context(user=1):
            steps = read()
            await anext(steps)
            with pytest.raises(KeyError):
                await steps.athrow(KeyError)  # type: ignore[attr-defined]
            assert metadata() == {"user": 1}

    asyncio.run(consume())
    assert [content for _, content in seen] == [{"task": "read"}] * 4 + [{"user": 1, "task": "read"}] * 2
    assert len({id for id, _ in seen}) == 2


def test_threads_have_their_own() -> None:
    seen = {}
    meeting = threading.Barrier(2)

    def work(user: int) -> None:
        with pyhist.context(user=user):
            meeting.wait()
            pyhist.context(step=user)
            meeting.wait()
            seen[user] = metadata()

    with pyhist.context(user=0):
        with ThreadPoolExecutor(2) as threads:
            list(threads.map(work, (1, 2)))
        assert metadata() == {"user": 0}
    assert seen == {user: {"user": user, "step": user} for user in (1, 2)}


def test_tasks_inherit_the_context_and_do_not_mix_up_what_they_add() -> None:
    async def work(user: int, mine: asyncio.Event, other: asyncio.Event) -> tuple[Any, Any]:
        pyhist.context(user=user)
        with pyhist.context(step=user):
            mine.set()
            await other.wait()
            return context_id(), metadata()

    async def request() -> None:
        one, two = asyncio.Event(), asyncio.Event()
        async with pyhist.context(url="/") as outer:
            done = await asyncio.gather(work(1, one, two), work(2, two, one))
            assert metadata() == {"url": "/"}
        assert done == [(outer.id, {"url": "/", "user": user, "step": user}) for user in (1, 2)]

    asyncio.run(request())


def test_a_block_may_end_in_another_context_than_it_began() -> None:
    block = pyhist.context(user=1)
    contextvars.copy_context().run(block.__enter__)
    block.__exit__(None, None, None)
    assert metadata() is None


class Colour(enum.Enum):
    RED = "red"


class Level(enum.IntEnum):
    HIGH = 3


class Plain(enum.Enum):
    PAIR = (1, 2)


class Lazy:
    def __str__(self) -> str:
        return "me"


@pytest.mark.parametrize(
    ("value", "written"),
    [
        (None, None),
        (True, True),
        (1.5, 1.5),
        ("ü", "ü"),
        ([1, (2, {"a": None})], [1, [2, {"a": None}]]),
        (datetime.date(2026, 1, 2), "2026-01-02"),
        (datetime.datetime(2026, 1, 2, 3, 4, tzinfo=datetime.timezone.utc), "2026-01-02 03:04:00+00:00"),
        (uuid.UUID(int=1), "00000000-0000-0000-0000-000000000001"),
        (decimal.Decimal("1.10"), "1.10"),
        (Colour.RED, "red"),
        (Level.HIGH, 3),
        (Plain.PAIR, "(1, 2)"),
        (float("nan"), "nan"),
        (float("inf"), "inf"),
        ({1: Colour.RED, Colour.RED: 2}, {"1": "red", "red": 2}),
        (Lazy(), "me"),
        ("a\0b\ud800", "a\ufffdb?"),
    ],
)
def test_values_that_json_does_not_know_are_written_as_text(value: Any, written: Any) -> None:
    with pyhist.context(value=value):
        assert metadata() == {"value": written}


def test_a_value_is_written_as_it_was_when_given() -> None:
    numbers = [1]
    with pyhist.context(numbers=numbers):
        numbers.append(2)
        assert metadata() == {"numbers": [1]}
