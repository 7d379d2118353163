"""The functions of pyhist: what the SQL functions of pghistory are, from Python."""

from __future__ import annotations

import inspect
import json
import subprocess
import sys
from collections.abc import Callable
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest
from psycopg.rows import dict_row, namedtuple_row
from psycopg.types.composite import CompositeInfo, register_composite

import pyhist
from pyhist import aio, calls, client

Functions = Any


def parameters(function: Callable[..., Any]) -> list[tuple[str, Any, Any]]:
    """Name, kind and default of what comes behind the connection."""
    first, *others = inspect.signature(function).parameters.values()
    assert first.name == "conn"
    return [(p.name, p.kind, p.default) for p in others]


def public_functions(
    connection: psycopg.Connection[Any],
) -> dict[str, list[list[tuple[str, bool, str | None]]]]:
    """The arguments of each SQL function, by name: name, whether it is variadic, and default."""
    found: dict[str, list[list[tuple[str, bool, str | None]]]] = {}
    rows = connection.execute(
        """SELECT p.proname, p.proargnames[:p.pronargs], p.provariadic <> 0, p.pronargs,
                  ARRAY(SELECT pg_get_function_arg_default(p.oid, n) FROM generate_series(1, p.pronargs) AS n)
             FROM pg_proc AS p
            WHERE p.pronamespace = 'pghistory'::regnamespace AND p.proname !~ '^_'
            ORDER BY p.proname, p.pronargs"""
    )
    for name, arguments, is_variadic, count, defaults in rows:
        found.setdefault(name, []).append(
            [
                (argument, is_variadic and position == count, default)
                for position, (argument, default) in enumerate(zip(arguments or [], defaults, strict=True), 1)
            ]
        )
    return found


def python_default(default: str | None) -> Any:
    """What the text of an SQL default is in Python."""
    if default is None:
        return inspect.Parameter.empty
    value, _, kind = default.partition("::")
    if value == "NULL":
        return None
    if value in ("true", "false"):
        return value == "true"
    return json.loads(value.strip("'")) if kind == "jsonb" else value.strip("'")


def test_every_sql_function_has_a_mirror_with_its_signature(connection: psycopg.Connection[Any]) -> None:
    for name, overloads in public_functions(connection).items():
        for functions in (pyhist, aio):
            assert hasattr(functions, name), f"{functions.__name__}.{name} is missing"
        if name in ("track", "create_event") or name.endswith("_change"):
            continue
        (arguments,) = overloads
        # A table's name tells the type of its rows, too.
        arguments = [("table" if name == "rowtype" else name, *others) for name, *others in arguments]
        expected = [
            (argument, inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.empty)
            if is_variadic
            else (argument, inspect.Parameter.POSITIONAL_OR_KEYWORD, python_default(default))
            for argument, is_variadic, default in arguments
        ]
        assert parameters(getattr(pyhist, name)) == expected, name
        assert parameters(getattr(aio, name)) == expected, name


def test_track_has_the_parameters_of_its_sql_function(connection: psycopg.Connection[Any]) -> None:
    (arguments,) = public_functions(connection)["track"]
    own = {"label", "kind", "condition", "level"}
    expected = [(name, python_default(default)) for name, _, default in arguments if name not in own]
    for functions in (pyhist, aio):
        table, trackers, *options = parameters(functions.track)
        assert [(name, default) for name, _, default in (table, *options)] == expected
        assert trackers[1] is inspect.Parameter.VAR_POSITIONAL
        assert {kind for _, kind, _ in options} == {inspect.Parameter.KEYWORD_ONLY}
    assert own == {"kind", *inspect.signature(pyhist.Snapshot).parameters}


def test_create_event_has_the_parameters_of_its_sql_function(connection: psycopg.Connection[Any]) -> None:
    by_row, by_key = public_functions(connection)["create_event"]
    assert [name for name, _, _ in by_row] == ["record", "label"]
    for functions in (pyhist, aio):
        assert [name for name, _, _ in parameters(functions.create_event)] == [name for name, _, _ in by_key]


def test_both_faces_have_the_same_functions() -> None:
    assert set(pyhist.__all__) <= set(dir(pyhist))
    mirrors = [
        {n for n, f in vars(module).items() if hasattr(f, "__signature__")} for module in (client, aio)
    ]
    assert mirrors[0] | {f"{which}_change" for which in ("any", "all", "any_dont", "all_dont")} == mirrors[1]
    assert mirrors[1] <= set(pyhist.__all__)


def test_the_kinds_are_those_of_the_server(connection: psycopg.Connection[Any]) -> None:
    connection.execute("CREATE TABLE t (id integer PRIMARY KEY)")
    with pytest.raises(psycopg.Error) as refused:
        connection.execute("SELECT pghistory.track('t', kind => 'wrong')")
    known = str(refused.value.diag.message_hint).removeprefix("It is one of ").removesuffix(".")
    assert set(pyhist.models.KINDS) == set(known.split(", "))


def test_track_records_and_untrack_stops(pair: tuple[Functions, Any]) -> None:
    functions, connection = pair
    tracker = pyhist.Snapshot("user.snapshot")
    assert functions.track(connection, "users", tracker) == "users_event"
    connection.execute("INSERT INTO users VALUES (1, 'ann')")
    assert connection.execute("SELECT pgh_label, username FROM users_event").fetchall() == [
        ("user.snapshot", "ann")
    ]
    assert functions.untrack(connection, "users", "user.snapshot", drop_events=True) == 1
    assert connection.execute("SELECT to_regclass('users_event')").fetchone() == (None,)


def test_the_name_of_the_event_table_is_fit_for_sql(pair: tuple[Functions, Any]) -> None:
    functions, connection = pair
    connection.execute('CREATE SCHEMA "My"; CREATE TABLE "My"."Odd table" (id integer PRIMARY KEY)')
    event_table = functions.track(connection, '"My"."Odd table"', pyhist.AfterInsert("made"))
    assert event_table == '"My"."Odd table_event"'


def test_every_option_reaches_the_server(pair: tuple[Functions, Any]) -> None:
    functions, connection = pair
    functions.track(
        connection,
        "users",
        pyhist.AfterUpdate("changed", condition=pyhist.any_change("email"), level="row"),
        pyhist.BeforeUpdate("renamed", condition="OLD.username <> NEW.username"),
        pyhist.BeforeUpdate("touched", condition=pyhist.any_change()),
        fields=["email", "username"],
        event_table="audit",
        obj_key=["username"],
        obj_fk=None,
        context="inline",
        append_only=True,
    )
    changed, renamed, touched = functions.trackers(connection)
    assert changed == pyhist.TrackerStatus(
        table="users",
        label="changed",
        kind="after_update",
        fields=["username", "email"],
        exclude=None,
        condition=changed.condition,
        event_table="audit",
        obj_key=["username"],
        obj_fk=None,
        context="inline",
        append_only=True,
        level="row",
        partition_by=None,
        retention=None,
        status="active",
        definition=changed.definition,
    )
    assert "email" in changed.condition
    assert "username" not in changed.condition
    assert (renamed.kind, renamed.level) == ("before_update", "auto")
    assert "old.username" in renamed.condition.lower()
    assert touched.condition.startswith(functions.any_change(connection).partition("(")[0])
    assert connection.execute(changed.definition).fetchone() == ("audit",)


def test_no_fields_and_no_key_are_not_all_of_them(pair: tuple[Functions, Any]) -> None:
    functions, connection = pair
    assert (
        functions.track(connection, "users", pyhist.Snapshot(), fields=[], obj_key=[]) == "users_meta_event"
    )
    (tracker,) = functions.trackers(connection)
    assert (tracker.label, tracker.fields, tracker.obj_key) == ("users.snapshot", [], [])


def test_excluded_columns_are_left_out(pair: tuple[Functions, Any]) -> None:
    functions, connection = pair
    name = functions.track(connection, "users", pyhist.History("user"), exclude=("email",))
    assert name == "users_without_email_event"
    assert functions.trackers(connection)[0].exclude == ["email"]


@pytest.mark.parametrize("autocommit", [True, False])
def test_several_trackers_are_all_or_nothing(
    pair: tuple[Functions, Any], connect: Callable[..., psycopg.Connection[Any]], autocommit: bool
) -> None:
    functions, connection = pair
    connection.set_autocommit(autocommit)
    if not autocommit:
        connection.execute("INSERT INTO users VALUES (1)")
        connection.execute("SAVEPOINT mine")
    with pytest.raises(pyhist.NotFoundError):
        functions.track(
            connection, "users", pyhist.Snapshot("good"), pyhist.Snapshot("bad", condition="NEW.wrong")
        )
    if not autocommit:
        connection.execute("ROLLBACK TO mine")
    assert functions.trackers(connection) == []
    functions.track(connection, "users", pyhist.Snapshot("good"), pyhist.AfterInsert("better"))
    connection.rollback()
    assert len(pyhist.trackers(connect())) == (2 if autocommit else 0)


def test_track_takes_trackers_only(pair: tuple[Functions, Any]) -> None:
    functions, connection = pair
    for trackers in ((), ("user.snapshot",), (pyhist.Tracker("x"),), (pyhist.Snapshot,)):
        with pytest.raises(TypeError, match="needs"):
            functions.track(connection, "users", *trackers)
    with pytest.raises(TypeError, match="fields is a list of names, not 'email'"):
        functions.track(connection, "users", pyhist.Snapshot(), fields="email")


def test_create_event_table_can_be_altered_before_it_is_used(pair: tuple[Functions, Any]) -> None:
    functions, connection = pair
    name = functions.create_event_table(connection, "users", "audit", fields=["email"], append_only=True)
    assert name == "audit"
    connection.execute("ALTER TABLE audit ADD note text")
    tracker = pyhist.Snapshot("user")
    assert functions.track(connection, "users", tracker, fields=["email"], event_table=name) == "audit"


def test_create_event_reads_the_row_by_its_key(pair: tuple[Functions, Any]) -> None:
    functions, connection = pair
    functions.track(connection, "users", pyhist.Event("user.login"))
    functions.track(connection, "lines", pyhist.Event("line.seen"))
    connection.execute("INSERT INTO users VALUES (1, 'ann'); INSERT INTO lines VALUES (1, 2)")
    first = functions.create_event(connection, "users", 1, label="user.login")
    assert functions.create_event(connection, "users", "1", "user.login") == first + 1
    assert functions.create_event(connection, "lines", {"number": 1, "item": 2}, label="line.seen") == 1
    with pytest.raises(pyhist.NotFoundError, match="has no row"):
        functions.create_event(connection, "users", 2, label="user.login")
    with pytest.raises(pyhist.NotFoundError, match='has no tracker "user'):
        functions.create_event(connection, "users", 1, label="user.logout")
    with pytest.raises(TypeError, match="label"):
        functions.create_event(connection, "users")


def test_create_event_takes_a_row(pair: tuple[Functions, Any]) -> None:
    functions, connection = pair
    functions.track(connection, "users", pyhist.Event("user.login"))
    target = getattr(connection, "_target", connection)
    info = connection._run(CompositeInfo.fetch(target, "users")) if target is not connection else None
    info = info or CompositeInfo.fetch(connection, "users")
    register_composite(info, target)
    user = info.python_type(1, "ann", "a@b.c")
    functions.create_event(connection, user, label="user.login")
    functions.create_event(connection, user, "user.login")
    events = connection.execute("SELECT pgh_obj_id, username, email FROM users_event").fetchall()
    assert events == [(1, "ann", "a@b.c")] * 2


def test_contexts_can_be_set_on_the_server(pair: tuple[Functions, Any]) -> None:
    functions, connection = pair
    with connection.transaction():
        assert functions.current_context(connection) == (None, None)
        assert functions.add_context(connection, {"user": 1}) is None
        context_id = functions.set_context(connection, {"user": UUID(int=1)})
        assert functions.add_context(connection, metadata={"step": 2}) == context_id
        assert functions.set_context(connection) == context_id
        current = functions.current_context(connection)
        assert current == (context_id, {"user": str(UUID(int=1)), "step": 2})
        assert (current.id, current.metadata["step"]) == (context_id, 2)
        functions.clear_context(connection)
        assert functions.current_context(connection) == (None, None)
        chosen = uuid4()
        assert functions.set_context(connection, id=chosen) == chosen
    assert functions.current_context(connection) == (None, None)
    assert (
        functions.set_context(connection, {"job": 1}, is_local=False)
        == functions.current_context(connection).id
    )


def test_capture_says_who_it_was(pair: tuple[Functions, Any]) -> None:
    functions, connection = pair
    functions.track(connection, "users", pyhist.Snapshot("user"))
    functions.capture(connection, "session_user", "application_name")
    connection.execute("INSERT INTO users VALUES (1)")
    (metadata,) = connection.execute("SELECT metadata FROM pghistory.context").fetchone()
    assert metadata["session"] == {"session_user": "postgres", "application_name": ""}
    functions.capture(connection)
    connection.execute("INSERT INTO users VALUES (2)")
    assert connection.execute("SELECT count(*) FROM pghistory.context").fetchone() == (1,)


def test_verify_tells_what_refresh_repairs(pair: tuple[Functions, Any]) -> None:
    functions, connection = pair
    functions.track(connection, "users", pyhist.Snapshot("user"))
    assert functions.verify(connection) == []
    connection.execute("ALTER TABLE users DISABLE TRIGGER USER")
    problems = functions.verify(connection)
    assert {(problem.table, problem.problem) for problem in problems} == {("users", "trigger is disabled")}
    assert functions.trackers(connection)[0].status == "disabled"
    assert functions.status(connection).problems == problems
    functions.refresh(connection)
    assert functions.status(connection).problems == []
    functions.sync(connection)
    functions.sync(connection, "users")


def test_conditions_are_values_or_text(pair: tuple[Functions, Any]) -> None:
    functions, connection = pair
    assert pyhist.any_change("email") == pyhist.Condition("any_change", ("email",))
    assert functions.any_change(connection, "email") != functions.all_dont_change(connection, "email")
    for name in ("any_change", "all_change", "any_dont_change", "all_dont_change"):
        value, text = getattr(pyhist, name), getattr(functions, name)
        functions.track(
            connection, "users", pyhist.AfterUpdate("as value", condition=value("email", "username"))
        )
        functions.track(
            connection,
            "users",
            pyhist.AfterUpdate("as text", condition=text(connection, "email", "username")),
        )
        as_value, as_text = functions.trackers(connection)
        assert as_value.condition == as_text.condition


@pytest.mark.parametrize("row_factory", [dict_row, namedtuple_row])
def test_rows_and_cursors_of_the_connection_do_not_matter(
    connect: Callable[..., psycopg.Connection[Any]], row_factory: Any
) -> None:
    connection = connect(row_factory=row_factory, cursor_factory=psycopg.ClientCursor, autocommit=False)
    connection.execute("CREATE TABLE users (id integer PRIMARY KEY, username text)")
    assert pyhist.track(connection, "users", pyhist.Snapshot("it's 100%")) == "users_event"
    assert [tracker.label for tracker in pyhist.trackers(connection)] == ["it's 100%"]
    with connection.pipeline():
        assert pyhist.current_context(connection).id is None


def test_functions_carry_the_context_of_an_instrumented_connection(
    connect: Callable[..., psycopg.Connection[Any]],
) -> None:
    connection = pyhist.instrument(connect())
    connection.execute("CREATE TABLE users (id integer PRIMARY KEY)")
    pyhist.track(connection, "users", pyhist.Event("user.login"))
    connection.execute("INSERT INTO users VALUES (1)")
    with pyhist.context(user=1) as active:
        pyhist.create_event(connection, "users", 1, label="user.login")
    assert connection.execute("SELECT pgh_context_id FROM users_event").fetchall() == [(active.id,)]
    assert connection.execute("SELECT id, metadata FROM pghistory.context").fetchall() == [
        (active.id, {"user": 1})
    ]


def test_trackers_are_values() -> None:
    tracker = pyhist.Snapshot("user", condition=pyhist.any_change("email"))
    assert tracker == pyhist.Snapshot("user", condition=pyhist.any_change("email"))
    assert tracker != pyhist.AfterInsert("user", condition=pyhist.any_change("email"))
    assert len({tracker, pyhist.History("user"), pyhist.Snapshot("user")}) == 3
    names = {name: getattr(pyhist, name) for name in pyhist.__all__}
    assert eval(repr(tracker), names) == tracker
    with pytest.raises(AttributeError):
        tracker.label = "other"  # type: ignore[misc]


def test_a_call_is_a_value() -> None:
    assert calls.untrack("users") == calls.untrack("users")
    assert calls.untrack("users", "it's").arguments == ("users", "it's", False)


def test_importing_pyhist_imports_no_framework() -> None:
    code = "import sys, pyhist; print(*sys.modules)"
    loaded = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout.split()
    frameworks = {
        "django",
        "sqlalchemy",
        "alembic",
        "celery",
        "asyncpg",
        "psycopg2",
        "psycopg_pool",
        "argparse",
        "pgxnclient",
    }
    assert not frameworks & set(loaded)
