"""Every function of the extension: as whom it runs, who may call it, what it sets. The table is functions.txt.

A line of it is `function | runs as | for | sets`. The schema, and search_path pinned to pg_catalog and
pg_temp, go without saying; a function that does not pin its path says "nothing".
"""

from __future__ import annotations

from pathlib import Path

from history import Connection, rows, value

TABLE = Path(__file__).parent / "functions.txt"
PINNED = "search_path=pg_catalog, pg_temp"


def functions(connection: Connection) -> list[str]:
    """The table, as the catalog has it."""
    query = """
        SELECT oid::regprocedure::text, prosecdef, COALESCE(proconfig, '{}'),
               ARRAY(SELECT CASE a.grantee WHEN 0 THEN 'everybody' ELSE a.grantee::regrole::text END
                       FROM aclexplode(COALESCE(proacl, acldefault('f', proowner))) AS a
                      WHERE a.grantee <> proowner)
          FROM pg_proc WHERE pronamespace = 'pghistory'::regnamespace"""
    return sorted(
        " | ".join(
            (
                name.removeprefix("pghistory."),
                "owner" if is_definer else "caller",
                ", ".join(grantees) or "owner",
                (", ".join(s for s in settings if s != PINNED) if PINNED in settings else "nothing") or "-",
            )
        )
        for name, is_definer, settings, grantees in rows(connection, query)
    )


def test_every_function_has_exactly_the_rights_that_the_table_says(connection: Connection) -> None:
    assert functions(connection) == TABLE.read_text().splitlines()


def test_all_functions_belong_to_the_owner_of_the_extension(connection: Connection) -> None:
    owner = value(connection, "SELECT extowner::regrole::text FROM pg_extension WHERE extname = 'pghistory'")
    for catalog, prefix in (("pg_proc", "pro"), ("pg_class", "rel")):
        assert rows(
            connection,
            f"SELECT DISTINCT {prefix}owner::regrole::text FROM {catalog} "
            f"WHERE {prefix}namespace = 'pghistory'::regnamespace",
        ) == [(owner,)]
    assert rows(connection, "SELECT DISTINCT evtowner::regrole::text FROM pg_event_trigger") == [(owner,)]


def test_only_functions_that_act_for_the_caller_alone_run_as_the_owner_for_everybody() -> None:
    """What the pages on security say of each of them stands there by name."""
    table = [line.split(" | ") for line in TABLE.read_text().splitlines()]
    for_everybody = [name for name, runs_as, whom, _ in table if runs_as == "owner" and whom == "everybody"]
    assert for_everybody == [
        "_attach_context()",
        "_context_of_event(uuid,xid8)",
        "_read_inline_context()",
        "_use_permit(text,text)",
    ]
    page = (Path(__file__).parent.parent.parent / "docs" / "security.md").read_text()
    for name, runs_as, _, sets in table:
        if runs_as == "owner" or sets == "nothing":
            assert f"`{name.split('(')[0]}`" in page, name
