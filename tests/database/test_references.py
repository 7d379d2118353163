"""references(): the events of an object, and of all that points, or pointed, at it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from history import Connection, call, quoted, rows, track
from psycopg import errors

Connect = Callable[..., Connection]
CITY = """
    CREATE TABLE country (id integer PRIMARY KEY, code text UNIQUE, name text);
    CREATE TABLE city (id integer PRIMARY KEY, country_id integer REFERENCES country, name text);
"""


def found(connection: Connection, *arguments: object, **named: object) -> list[tuple[str, str]]:
    """Table, object and operation of the events that references() returns, oldest first."""
    parts = ["%s"] * len(arguments) + [f"{quoted(name)} => %s" for name in named]
    return rows(
        connection,
        f"""SELECT concat_ws(' ', pgh_obj_table, pgh_obj_id, pgh_operation)
              FROM pghistory."references"({", ".join(parts)}) WITH ORDINALITY ORDER BY ordinality DESC""",
        *arguments,
        *named.values(),
    )


def names(*lines: str) -> list[tuple[str]]:
    return [(line,) for line in lines]


@pytest.fixture
def cities(connection: Connection) -> Connection:
    connection.execute(CITY)
    track(connection, "country", kind="history")
    track(connection, "city", kind="history")
    for statement in (
        "INSERT INTO country VALUES (1, 'F', 'France'), (2, 'G', 'Greece')",
        "INSERT INTO city VALUES (11, 1, 'Paris')",
        "INSERT INTO city VALUES (12, 1, 'Lyon')",
        "INSERT INTO city VALUES (21, 2, 'Athens')",
        "INSERT INTO city VALUES (22, NULL, 'Volos')",
    ):
        connection.execute(statement)
    return connection


def test_rows_that_point_at_the_object(cities: Connection) -> None:
    assert found(cities, "country", "1") == names("country 1 I", "city 11 I", "city 12 I")
    assert found(cities, "country", "2") == names("country 2 I", "city 21 I")
    assert found(cities, "city", "11") == names("city 11 I")
    assert found(cities, "country", "3") == []


def test_rows_that_pointed_at_it_and_point_elsewhere_now(cities: Connection) -> None:
    cities.execute("UPDATE city SET country_id = 2 WHERE id = 12")
    cities.execute("UPDATE city SET name = 'LYON' WHERE id = 12")
    cities.execute("UPDATE city SET country_id = NULL WHERE id = 21")
    assert found(cities, "country", "1") == names("country 1 I", "city 11 I", "city 12 I", "city 12 U", "city 12 U")
    assert found(cities, "country", "2") == names("country 2 I", "city 12 I", "city 21 I", "city 12 U", "city 12 U", "city 21 U")


def test_rows_that_are_gone(cities: Connection) -> None:
    cities.execute("DELETE FROM city WHERE id = 11; DELETE FROM city WHERE country_id = 2")
    cities.execute("DELETE FROM country WHERE id = 2")
    assert found(cities, "country", "1") == names("country 1 I", "city 11 I", "city 12 I", "city 11 D")
    assert found(cities, "country", "2") == names("country 2 I", "city 21 I", "city 21 D", "country 2 D")


def test_rows_that_were_there_before_they_were_tracked(connection: Connection) -> None:
    connection.execute(CITY + "INSERT INTO country VALUES (1); INSERT INTO city VALUES (11, 1), (12, 1)")
    track(connection, "city", kind="snapshot", fields=["name"])
    connection.execute("UPDATE city SET name = 'x' WHERE id = 11")
    assert found(connection, "country", "1") == names("city 11 U")


def test_the_object_itself_need_not_be_tracked_nor_be_there(connection: Connection) -> None:
    connection.execute(CITY + "INSERT INTO country VALUES (1)")
    track(connection, "city", kind="history")
    connection.execute("INSERT INTO city VALUES (11, 1)")
    assert found(connection, "country", "1") == names("city 11 I")


def test_tables_that_are_not_tracked_are_left_out(connection: Connection) -> None:
    connection.execute(CITY)
    track(connection, "country", kind="history")
    connection.execute("INSERT INTO country VALUES (1); INSERT INTO city VALUES (11, 1)")
    assert found(connection, "country", "1") == names("country 1 I")


def test_event_tables_without_key_are_searched_event_by_event(connection: Connection) -> None:
    connection.execute("CREATE TABLE country (id integer PRIMARY KEY); CREATE TABLE visit (country_id integer REFERENCES country)")
    track(connection, "visit", kind="history")
    connection.execute("INSERT INTO country VALUES (1), (2); INSERT INTO visit VALUES (1), (2)")
    assert found(connection, "country", "1") == names("visit I")


def test_a_tree_points_at_itself(connection: Connection) -> None:
    connection.execute("CREATE TABLE node (id integer PRIMARY KEY, parent_id integer REFERENCES node)")
    track(connection, "node", kind="history")
    connection.execute("INSERT INTO node VALUES (1); INSERT INTO node VALUES (2, 1); INSERT INTO node VALUES (3, 2)")
    assert found(connection, "node", "1") == names("node 1 I", "node 2 I")
    assert found(connection, "node", "2") == names("node 2 I", "node 3 I")


def test_two_foreign_keys_of_one_table(connection: Connection) -> None:
    connection.execute(
        """CREATE TABLE person (id integer PRIMARY KEY);
           CREATE TABLE letter (id integer PRIMARY KEY, sender integer REFERENCES person, receiver integer REFERENCES person)"""
    )
    track(connection, "letter", kind="history")
    connection.execute("INSERT INTO person VALUES (1), (2), (3)")
    for line in ("(1, 1, 2)", "(2, 2, 3)", "(3, 3, 1)", "(4, 1, 1)"):
        connection.execute(f"INSERT INTO letter VALUES {line}")
    assert found(connection, "person", "1") == names("letter 1 I", "letter 3 I", "letter 4 I")


def test_keys_of_several_columns(connection: Connection) -> None:
    connection.execute(
        """CREATE TABLE purchase (shop text, "No" integer, PRIMARY KEY (shop, "No"));
           CREATE TABLE line (number integer PRIMARY KEY, "no's" integer, shop text,
                              FOREIGN KEY ("no's", shop) REFERENCES purchase ("No", shop));"""
    )
    track(connection, "purchase", kind="history")
    track(connection, "line", kind="history")
    connection.execute("INSERT INTO purchase VALUES ('x', 1), ('y', 1)")
    connection.execute("INSERT INTO line VALUES (1, 1, 'x'), (2, 1, 'y'), (3, 1, NULL)")
    connection.execute("UPDATE line SET shop = 'x' WHERE number = 2")
    assert found(connection, "purchase", '{"shop": "x", "No": 1}') == names(
        *('purchase {"No": 1, "shop": "x"} I', "line 1 I", "line 2 I", "line 2 U")
    )
    with pytest.raises(errors.InvalidParameterValue, match="does not name an object"):
        found(connection, "purchase", "1")


def test_a_foreign_key_to_another_unique_column_that_changed(connection: Connection) -> None:
    connection.execute(
        """CREATE TABLE country (id integer PRIMARY KEY, code text UNIQUE);
           CREATE TABLE city (id integer PRIMARY KEY, code text REFERENCES country (code) ON UPDATE CASCADE);"""
    )
    track(connection, "country", kind="history")
    track(connection, "city", kind="history")
    connection.execute("INSERT INTO country VALUES (1, 'F'), (2, 'G')")
    connection.execute("INSERT INTO city VALUES (11, 'F'), (21, 'G')")
    connection.execute("DELETE FROM city WHERE id = 11")
    connection.execute("UPDATE country SET code = 'FR' WHERE id = 1")
    connection.execute("INSERT INTO city VALUES (12, 'FR')")
    assert found(connection, "country", "1") == names("country 1 I", "city 11 I", "city 11 D", "country 1 U", "city 12 I")


def test_a_key_that_changed(cities: Connection) -> None:
    cities.execute("ALTER TABLE city DROP CONSTRAINT city_country_id_fkey, ADD FOREIGN KEY (country_id) REFERENCES country ON UPDATE CASCADE")
    cities.execute("UPDATE country SET id = 10 WHERE id = 1")
    cities.execute("INSERT INTO city VALUES (13, 10, 'Nice')")
    assert found(cities, "country", "10") == names(
        *("city 11 I", "city 12 I", "city 11 U", "city 12 U", "country 10 U", "city 13 I")
    )


def test_every_filter_holds_for_what_points_at_it(cities: Connection) -> None:
    cities.execute("UPDATE city SET name = 'x' WHERE id = 11")
    assert found(cities, "country", "1", max_rows=2) == names("city 12 I", "city 11 U")
    assert found(cities, "country", "1", label="country.history") == names("country 1 I")
    assert found(cities, "country", "1", since="2126-01-01") == found(cities, "country", "1", until="2020-01-01") == []
    context_id = "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"
    assert found(cities, "country", "1", context_id=context_id) == []
    with cities.transaction():
        call(cities, "set_context", "{}", context_id)
        cities.execute("UPDATE city SET name = 'y' WHERE id = 12; UPDATE city SET name = 'y' WHERE id = 21")
    assert found(cities, "country", "1", context_id=context_id) == names("city 12 U")


def test_nothing_is_found_before_the_first_use(connection: Connection) -> None:
    connection.execute(CITY)
    assert found(connection, "country", "1") == []


@pytest.mark.parametrize("arguments", [(None, "1"), ("country", None)])
def test_null_is_refused(connection: Connection, arguments: tuple[Any, ...]) -> None:
    connection.execute(CITY)
    with pytest.raises(errors.NullValueNotAllowed, match="must not be null"):
        found(connection, *arguments)


def test_partitions_of_a_referring_table_are_searched_once(connection: Connection) -> None:
    connection.execute(
        """CREATE TABLE country (id integer PRIMARY KEY);
           CREATE TABLE visit (id integer, country_id integer REFERENCES country, PRIMARY KEY (id)) PARTITION BY RANGE (id);
           CREATE TABLE visit_1 PARTITION OF visit FOR VALUES FROM (0) TO (10);
           CREATE TABLE visit_2 PARTITION OF visit FOR VALUES FROM (10) TO (20);"""
    )
    track(connection, "visit", kind="history")
    connection.execute("INSERT INTO country VALUES (1), (2); INSERT INTO visit VALUES (1, 1), (11, 1), (12, 2)")
    assert found(connection, "country", "1") == names("visit 1 I", "visit 11 I")


def test_odd_names(connection: Connection) -> None:
    connection.execute(
        """CREATE TABLE "c {x}'%s" ("id %I" text PRIMARY KEY);
           CREATE TABLE "t %L" ("key's" integer PRIMARY KEY, "to {c}" text REFERENCES "c {x}'%s");""".encode()
    )
    track(connection, quoted("c {x}'%s"), kind="history")
    track(connection, quoted("t %L"), kind="history")
    connection.execute("""INSERT INTO "c {x}'%s" VALUES ('it''s {1} %s'); INSERT INTO "t %L" VALUES (7, 'it''s {1} %s')""".encode())
    assert len(found(connection, quoted("c {x}'%s"), "it's {1} %s")) == 2


def test_only_events_that_the_caller_may_read(
    cities: Connection, connect: Connect, role: Callable[..., str]
) -> None:
    session = connect(user=role("reader"))
    with pytest.raises(errors.InsufficientPrivilege):
        found(session, "country", "1")
