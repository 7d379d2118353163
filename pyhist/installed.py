"""How pghistory is in a database: as an extension, as plain SQL, or not at all."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from typing import Any

from pyhist import bundle
from pyhist.calls import Call, Rows
from pyhist.models import EventTriggers, How, Installation

PLAIN_SQL = "pghistory {}, installed as plain SQL"
"""What the installer adds to the comment of the schema, since nothing else would tell the version."""

_IN_WORDS: dict[How, str] = {
    "files": "as an extension, with its files in the server's share folder",
    "path": "as an extension, whose files the server finds by extension_control_path",
    "pg_tle": "as an extension that pg_tle keeps",
    "sql": "as plain SQL",
}

# None of it fails or needs a right, whatever there is: a failure would end the caller's transaction.
_FACTS = r"""
SELECT x.extversion,
       EXISTS (SELECT FROM pg_catalog.pg_depend AS d
                      JOIN pg_catalog.pg_extension AS t ON t.oid = d.refobjid AND t.extname = 'pg_tle'
                WHERE d.classid = 'pg_catalog.pg_extension'::pg_catalog.regclass AND d.objid = x.oid
                  AND d.refclassid = d.classid),
       EXISTS (SELECT FROM pg_catalog.pg_proc WHERE pronamespace = n.oid AND proname = 'track'),
       pg_catalog.substring(pg_catalog.obj_description(n.oid, 'pg_namespace'),
                            'pghistory (\S+), installed as plain SQL'),
       (SELECT default_version FROM pg_catalog.pg_available_extensions WHERE name = 'pghistory'),
       (SELECT CASE WHEN count(*) < 3 THEN 'missing'
                    WHEN pg_catalog.bool_or(e.evtenabled NOT IN ('O', 'A'))
                         OR pg_catalog.current_setting('event_triggers', true) = 'off' THEN 'disabled'
                    ELSE 'enabled' END
          FROM pg_catalog.pg_event_trigger AS e JOIN pg_catalog.pg_proc AS p ON p.oid = e.evtfoid
         WHERE e.evtname IN ('pghistory_before_ddl', 'pghistory_after_ddl', 'pghistory_after_drop')
           AND p.pronamespace = n.oid),
       pg_catalog.current_setting('is_superuser') = 'on'
           AND EXISTS (SELECT FROM pg_catalog.pg_settings WHERE name = 'extension_control_path')
  FROM (VALUES (1)) AS one
       LEFT JOIN pg_catalog.pg_namespace AS n ON n.nspname = 'pghistory'
       LEFT JOIN pg_catalog.pg_extension AS x ON x.extname = 'pghistory'"""

# Without the folders in extension_control_path, is it still there? The setting is back before the query ends.
_IN_SHARE_FOLDER = """
SELECT pg_catalog.set_config('extension_control_path', '$system', true),
       EXISTS (SELECT FROM pg_catalog.pg_available_extensions WHERE name = 'pghistory'),
       pg_catalog.set_config('extension_control_path', s.path, true)
  FROM (SELECT pg_catalog.current_setting('extension_control_path') AS path OFFSET 0) AS s"""


def installation() -> Generator[Call[Any], Rows, Installation]:
    """How it is installed, which version, which is available, and what is to be done about that."""
    facts = yield from Call(_FACTS, (), lambda rows: rows[0])
    extension, is_pg_tle, is_there, plain, offered, event_triggers, has_path = facts
    how: How | None = None
    available = bundle.version()
    if extension is None:
        how = "sql" if is_there else None
    elif is_pg_tle:
        how = "pg_tle"
    else:
        how = "files"
        if has_path and offered:
            in_share_folder = yield from Call(_IN_SHARE_FOLDER, (), lambda rows: rows[0][1])
            how = "files" if in_share_folder else "path"
    if offered and how in ("files", "path", None):
        available = max(offered, available, key=bundle.number)
    if how is None:
        return Installation(available=available, hints=["Install it: pyhist install."])
    version = extension or plain
    return Installation(
        how, version, available, event_triggers, list(_hints(version, available, event_triggers))
    )


def sentences(installation: Installation) -> list[str]:
    """The same in words, with what is to be done about it."""
    found = installation
    if found.how is None:
        return ["pghistory is not installed.", *found.hints]
    version = f"pghistory {found.version}" if found.version else "pghistory of some version"
    return [f"{version} is installed {_IN_WORDS[found.how]}.", *found.hints]


def _hints(version: str | None, available: str, event_triggers: EventTriggers) -> Iterator[str]:
    if version is None:
        yield f"pyhist upgrade makes it {available}, whichever version it is."
    elif bundle.number(version) < bundle.number(available):
        yield f"{available} is available: pyhist upgrade."
    if event_triggers == "missing":
        yield "There are no event triggers: call pghistory.sync() after migrations."
    elif event_triggers == "disabled":
        yield "Event triggers are disabled: enable them, or call pghistory.sync() after migrations."
