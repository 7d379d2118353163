"""Which tests run twice, with a server and with a PgBouncer in transaction mode in front of it, and which cannot."""

from __future__ import annotations

from typing import Any

BOTH_WAYS = (
    "test_alembic",
    "test_asyncpg",
    "test_connection",
    "test_pool",
    "test_psycopg2",
    "test_sqlalchemy",
)

# What is said of a session is not said of a client of PgBouncer, who has a session for a transaction only.
DIRECT_ONLY = {
    # A prepared statement belongs to a session: before PgBouncer 1.21 its clients cannot have any.
    "test_prepared_statements_have_the_context",
    "test_a_prepared_statement_has_the_context_it_is_run_in",
    # So does a cursor that outlives its transaction.
    "test_a_named_cursor_in_autocommit_has_the_context",
    "test_a_named_cursor_that_outlives_its_transaction_has_the_context",
    # It refuses the parameter `options`, or drops it.
    "test_old_string_syntax_carries_it",
    "test_other_encodings_and_old_string_syntax_carry_it",
    # The process that a client is told of is not the server's.
    "test_an_ended_session_is_told_as_psycopg_tells_it",
    "test_an_ended_session_is_told_as_asyncpg_tells_it",
    "test_a_closed_connection_is_told_as_psycopg2_tells_it",
    # What is sent, and in front of what, does not depend on who is in between; other tests send it through.
    "test_whatever_writes_has_the_context",
    "test_any_text_arrives_as_it_was_written",
    "test_untrack_takes_labels_and_drops_events_if_asked",
    "test_a_table_can_be_made_and_tracked_and_dropped",
    "test_offline_mode_prints_what_online_mode_does",
    # Round trips are counted on the way to the server.
    "test_a_context_costs_no_round_trip",
    "test_a_statement_that_gets_a_transaction_of_its_own_costs_two_more",
    "test_a_statement_without_a_transaction_is_one_round_trip_and_three_with_a_context",
    "test_a_context_that_changes_within_a_transaction_costs_one_more_each_time",
    "test_a_context_costs_a_pool_as_much_as_a_connection",
}

# What SQLAlchemy's `connect_args` say to each driver.
WITHOUT_PREPARED_STATEMENTS: dict[str, dict[str, Any]] = {
    "psycopg": {"prepare_threshold": None},
    "psycopg2": {},
    "psycopg_async": {"prepare_threshold": None},
    "asyncpg": {
        "statement_cache_size": 0,
        "prepared_statement_cache_size": 0,
        "prepared_statement_name_func": lambda: "",
    },
}
