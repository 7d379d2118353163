"""The hostile role of these tests, what he has prepared, and the log of what ran as whom."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from history import Connection, rows

Connect = Callable[..., Connection]
Role = Callable[..., str]


@pytest.fixture
def mallory(connection: Connection, role: Role) -> str:
    """An ordinary role who owns the schema `evil` and may create things in `app` and `public`, as everybody may.

    His function `evil.log` writes into `public.runs` as whom it runs.
    """
    name = role("mallory")
    connection.execute(
        f"""CREATE TABLE public.runs (by name, what text); GRANT ALL ON public.runs TO PUBLIC;
        CREATE SCHEMA app; GRANT ALL ON SCHEMA app, public TO PUBLIC;
        CREATE SCHEMA evil AUTHORIZATION {name}; GRANT USAGE ON SCHEMA evil TO PUBLIC;
        SET ROLE {name};
        CREATE FUNCTION evil.log(what text) RETURNS boolean LANGUAGE plpgsql AS
            'BEGIN INSERT INTO public.runs VALUES (current_user, what); RETURN true; END';
        RESET ROLE"""
    )
    return name


@pytest.fixture
def ran(connection: Connection, mallory: str) -> Callable[[], dict[str, set[str]]]:
    """Call it for what ran since the last call: the roles, and what of the hostile role's ran as each."""

    def ran() -> dict[str, set[str]]:
        found: dict[str, set[str]] = {}
        for by, what in rows(connection, "SELECT DISTINCT by, what FROM public.runs"):
            found.setdefault(by, set()).add(what)
        connection.execute("TRUNCATE public.runs")
        return found

    return ran


@pytest.fixture
def vera(connection: Connection, role: Role, mallory: str) -> str:
    """The honest owner of the table `app.users`, who lets the hostile role write rows of it and nothing more."""
    name = role("vera")
    connection.execute(
        f"""SET ROLE {name};
        CREATE TABLE app.users (id integer PRIMARY KEY, name text);
        GRANT INSERT, UPDATE, DELETE, TRUNCATE ON app.users TO {mallory};
        GRANT SELECT (id) ON app.users TO {mallory};
        RESET ROLE"""
    )
    return name
