"""Who is compared: the untracked table, the limit, pghistory at each level, and the peers."""

from __future__ import annotations

import debian_peers
import django_pghistory
from recorders import LIMIT, OURS, UNTRACKED, Recorder, limit, ours, untracked
from sizes import SIZES

from pyhist.server import Server

COMPARED = {UNTRACKED: LIMIT}


def of_django(server: Server) -> list[Recorder]:
    return [django_pghistory.recorder(server, level) for level in django_pghistory.LEVELS]


def of_debian(server: Server) -> list[Recorder]:
    """Those of Debian's packages, in the long form."""
    return debian_peers.recorders(server) if SIZES.all_peers else []


def with_same_tables(server: Server, *, debian: bool = True) -> list[Recorder]:
    """Each on a table of the same columns, and an event table with an index on the object."""
    django_pghistory.prepare_database(server.dsn())
    return [
        untracked,
        limit,
        *(ours(name) for name in OURS),
        *of_django(server),
        *(of_debian(server) if debian else ()),
    ]


def with_own_tables(server: Server) -> list[Recorder]:
    """The peers as they come out of the box, in the long form."""
    if not SIZES.all_peers:
        return []
    return [
        *(
            django_pghistory.recorder(server, level, own_event_table=True)
            for level in django_pghistory.LEVELS
        ),
        *debian_peers.recorders(server, own_tables=True),
    ]


def compared(recorders: list[Recorder]) -> dict[str, str]:
    """Everyone with the limit; where a workload has none, with the untracked table."""
    return {
        each.name: f"{LIMIT}, else {UNTRACKED}" for each in recorders if each not in (untracked, limit)
    } | {UNTRACKED: LIMIT}
