"""Sakila, a DVD rental shop, and a day in it.

Each step of the day is a function that takes a connection with a transaction open.
"""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg
from history import Connection

FOLDER = Path(__file__).parents[3] / "shared" / "data" / "sakila"

PAYMENTS = ("payment", *(f"payment_p2007_0{month}" for month in range(1, 7)))
"""The table of payments, and those that inherit from it: rules send payments of 2007 there."""


def load(server: Any, database: str) -> None:
    """Load Sakila into a database."""
    for script in ("schema.sql", "insert-data-using-copy.sql"):
        subprocess.run(
            [
                *(server.bindir / "psql", "--no-psqlrc", "--quiet", "--single-transaction"),
                *("--set", "ON_ERROR_STOP=1", "--dbname", server.dsn(database), "--file", FOLDER / script),
            ],
            check=True,
            stdout=subprocess.DEVNULL,
            env=server.installation.environment,
        )


def open_shop(connection: Connection) -> None:
    """Add a film and its copies, the category and the language that it needs, and a customer."""
    connection.execute(
        """
        INSERT INTO category (name) VALUES ('Opera');
        INSERT INTO language (name) VALUES ('Ladin');
        WITH added AS (
            INSERT INTO film (title, description, language_id, rating, special_features, fulltext)
            SELECT 'THE LAST ARIA', 'A Song', language_id, 'NC-17', '{Trailers,"Deleted Scenes"}', ''
              FROM language WHERE name = 'Ladin'
            RETURNING film_id), stocked AS (
            INSERT INTO inventory (film_id, store_id) SELECT film_id, store_id FROM added, store
            RETURNING film_id)
        INSERT INTO film_category (film_id, category_id)
        SELECT DISTINCT film_id, category_id FROM stocked, category WHERE name IN ('Opera', 'Music');
        INSERT INTO film_actor (actor_id, film_id)
        SELECT 200, film_id FROM film WHERE title = 'THE LAST ARIA';
        INSERT INTO customer (store_id, first_name, last_name, email, address_id, active)
        VALUES (1, 'ZOË', 'O''NEILL', 'zoë@example.org', 5, 1), (2, 'ÅSA', 'NORD', NULL, 6, NULL);
        """
    )


def rent_films(connection: Connection) -> None:
    """Let customers take what is on the shelves."""
    connection.execute(
        """
        INSERT INTO rental (rental_date, inventory_id, customer_id, staff_id)
        SELECT timestamp '2007-03-05 09:00' + i.inventory_id * interval '1 minute', i.inventory_id,
               c.customer_id, i.store_id
          FROM inventory AS i JOIN customer AS c ON c.customer_id = 1 + i.inventory_id % 150
         WHERE i.inventory_id % 31 = 0 AND inventory_in_stock(i.inventory_id)
        """
    )


def take_payments(connection: Connection) -> None:
    """Let every customer with a film out pay for it, some late, some before the tables of 2007."""
    connection.execute(
        """
        INSERT INTO payment (customer_id, staff_id, rental_id, amount, payment_date)
        SELECT customer_id, staff_id, rental_id, 4.99,
               timestamp '2006-12-20' + (rental_id % 200) * interval '1 day'
          FROM rental
         WHERE return_date IS NULL
        """
    )
    connection.execute(
        "INSERT INTO payment (customer_id, staff_id, rental_id, amount, payment_date)"
        " VALUES (148, 1, 1, 0.99, '2007-03-05 10:00')"
    )


def return_films(connection: Connection) -> None:
    """Take the films back, one of them twice, and try one that no one has."""
    connection.execute("UPDATE rental SET return_date = '2007-03-05 18:00' WHERE return_date IS NULL")
    connection.execute("UPDATE rental SET return_date = '2007-03-05 18:05' WHERE rental_id = 11496")
    connection.execute("UPDATE rental SET return_date = '2007-03-05 18:10' WHERE rental_id = -1")


def change_prices(connection: Connection) -> None:
    """Raise prices, then lower some of them again, in bulk; set some to what they are."""
    connection.execute("UPDATE film SET rental_rate = rental_rate + 1 WHERE rating IN ('PG', 'PG-13')")
    connection.execute("UPDATE film SET rental_rate = rental_rate - 1 WHERE rating = 'PG' AND length < 100")
    connection.execute("UPDATE film SET rental_rate = rental_rate WHERE rating = 'PG'")
    connection.execute("UPDATE payment SET amount = amount WHERE customer_id < 100")


def correct_payments(connection: Connection) -> None:
    """Correct payments wherever they are, through the parent; move one to another day."""
    connection.execute("UPDATE payment SET amount = amount + 0.50 WHERE payment_date >= '2007-02-10'")
    connection.execute("UPDATE payment SET amount = 0 WHERE payment_id % 500 = 7")
    connection.execute(
        "UPDATE ONLY payment SET payment_date = payment_date + interval '1 day' WHERE payment_id = 1"
    )
    connection.execute("DELETE FROM payment WHERE amount = 0")


def forget_a_customer(connection: Connection) -> None:
    """Delete a customer: first in vain, then with all that hangs on him."""
    with contextlib.suppress(psycopg.IntegrityError), connection.transaction():
        connection.execute("UPDATE customer SET email = NULL WHERE customer_id = 148")
        connection.execute("DELETE FROM customer WHERE customer_id = 148")
    connection.execute(
        """
        DELETE FROM payment
         WHERE customer_id = 148 OR rental_id IN (SELECT rental_id FROM rental WHERE customer_id = 148);
        DELETE FROM rental WHERE customer_id = 148;
        WITH gone AS (DELETE FROM customer WHERE customer_id = 148 RETURNING address_id)
        SELECT FROM gone;
        DELETE FROM address WHERE address_id = 152;
        """
    )


def rename_films(connection: Connection) -> None:
    """Rename films, and give some a new number: what refers to them follows."""
    connection.execute("UPDATE film SET title = initcap(title) WHERE film_id BETWEEN 100 AND 300")
    connection.execute("UPDATE film SET title = title || ', PART ' || film_id WHERE film_id IN (101, 102)")
    connection.execute("UPDATE film SET film_id = film_id + 5000 WHERE film_id <= 20")
    connection.execute("UPDATE actor SET actor_id = 1000 WHERE actor_id = 1")
    connection.execute(
        "UPDATE language SET language_id = language_id + 100 WHERE name IN ('English', 'French')"
    )


def load_again(connection: Connection) -> None:
    """Empty tables and load them again from what was copied out."""

    def copied_out(query: str) -> list[bytes]:
        with connection.cursor().copy(f"COPY ({query}) TO STDOUT") as copy:
            return [bytes(data) for data in copy]

    def copy_in(table: str, contents: list[bytes]) -> None:
        with connection.cursor().copy(f"COPY {table} FROM STDIN") as copy:
            for data in contents:
                copy.write(data)

    categories = copied_out("SELECT * FROM film_category ORDER BY film_id")
    connection.execute("TRUNCATE film_category")
    copy_in("film_category", categories[:-50])

    payments = copied_out("SELECT * FROM ONLY payment WHERE payment_id < 5000")
    connection.execute("TRUNCATE payment")
    copy_in("payment", payments)

    actors, casts = copied_out("TABLE actor"), copied_out("TABLE film_actor")
    connection.execute("TRUNCATE actor CASCADE")
    copy_in("actor", actors)
    copy_in("film_actor", casts)


def tidy_up(connection: Connection) -> None:
    """Upsert, move rows by deleting and inserting them, and on a server that has it, merge."""
    connection.execute(
        """
        INSERT INTO category (category_id, name) VALUES (1, 'Adventure'), (2, 'Animation'), (90, 'Fado')
        ON CONFLICT (category_id) DO UPDATE SET name = upper(EXCLUDED.name);
        INSERT INTO category (category_id, name) VALUES (1, 'x'), (91, 'Zydeco') ON CONFLICT DO NOTHING;
        WITH gone AS (DELETE FROM film_actor WHERE film_id BETWEEN 400 AND 420 RETURNING *)
        INSERT INTO film_actor SELECT actor_id, film_id, last_update - interval '1 day' FROM gone;
        """
    )
    if connection.info.server_version >= 150000:
        connection.execute(
            """
            MERGE INTO inventory AS i
            USING (SELECT inventory_id, film_id, store_id FROM inventory WHERE inventory_id < 300
                    UNION ALL
                   SELECT 100000 + film_id, film_id, 1 FROM film WHERE film_id BETWEEN 500 AND 520) AS s
               ON i.inventory_id = s.inventory_id
             WHEN MATCHED AND i.inventory_id NOT IN (SELECT inventory_id FROM rental) THEN DELETE
             WHEN MATCHED AND i.inventory_id % 3 = 0 THEN UPDATE SET store_id = 3 - i.store_id
             WHEN MATCHED THEN DO NOTHING
             WHEN NOT MATCHED THEN
                 INSERT (inventory_id, film_id, store_id) VALUES (s.inventory_id, s.film_id, s.store_id)
            """
        )


def think_better_of_it(connection: Connection) -> None:
    """Change much, and roll all of it back."""
    with connection.transaction(force_rollback=True):
        connection.execute("DELETE FROM payment")
        connection.execute("UPDATE film SET title = 'x'")


DAY: tuple[tuple[Callable[[Connection], None], dict[str, Any] | None], ...] = (
    (open_shop, {"user": "Mike", "task": "open"}),
    (rent_films, {"user": "Mike", "task": "counter"}),
    (take_payments, {"user": "Mike", "task": "counter", "till": 2}),
    (return_films, {"user": "Jon", "task": "returns"}),
    (change_prices, {"user": "Jon", "reason": "it's 5 o'clock: \"happy hour\" \\ 100%"}),
    (correct_payments, None),
    (forget_a_customer, {"user": "Jon", "ticket": {"number": 42, "urgent": True}}),
    (rename_films, {"user": "Ζωή"}),
    (load_again, None),
    (tidy_up, {"user": "Jon", "task": "close"}),
    (think_better_of_it, {"user": "Jon", "task": "nothing"}),
)
"""The steps, and the metadata of the context that each has, if it has one."""
