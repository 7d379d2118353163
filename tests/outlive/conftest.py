"""Databases that have lived, and others for them to go to."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

pytest.register_assert_rewrite("lived")

from lived import KEEPER, Picture, Server, connect, live, picture  # noqa: E402

numbers = itertools.count(1)


@pytest.fixture(scope="session")
def lived(server: Server) -> Iterator[str]:
    """A database that has lived. Tests leave it as it is, and look at what becomes of it elsewhere."""
    with connect(server.dsn()) as connection:
        connection.execute(f"CREATE ROLE {KEEPER}")
        connection.execute("CREATE DATABASE lived TEMPLATE template_pghistory")
        live(server, server.dsn("lived"), KEEPER)
        yield "lived"
        connection.execute("DROP DATABASE lived WITH (FORCE)")
        connection.execute(f"DROP ROLE {KEEPER}")


@pytest.fixture(scope="session")
def memory(server: Server, lived: str) -> Picture:
    """What `lived` holds."""
    return picture(server.dsn(lived))


@pytest.fixture
def new_database(server: Server, role: object) -> Iterator[Callable[..., str]]:
    """Call `new_database(template="template0", owner="postgres")` for the name of a new database."""
    with connect(server.dsn()) as connection, ExitStack() as databases:

        def new_database(template: str = "template0", owner: str = "postgres") -> str:
            name = f"moved_{next(numbers)}"
            connection.execute(f"CREATE DATABASE {name} TEMPLATE {template} OWNER {owner}")
            databases.callback(connection.execute, f"DROP DATABASE {name} WITH (FORCE)")
            return name

        yield new_database
