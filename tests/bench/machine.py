"""What a measurement was made on: the processor, the memory, the versions, the settings of the servers."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import re
from pathlib import Path
from typing import Any

from measure import session

from pyhist.server import Server

# Nothing that runs by itself, and no plan that depends on the build of the server.
SETTINGS = {
    "autovacuum": "off",
    "checkpoint_timeout": "1h",
    "jit": "off",
    "max_connections": "50",
    "max_parallel_workers_per_gather": "0",
    "max_wal_size": "8GB",
    "shared_buffers": "1GB",
    "work_mem": "64MB",
}
PACKAGES = ("django-pghistory", "django-pgtrigger", "psycopg")


def processor() -> str:
    found = re.search(r"^model name\s*: (.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    return found[1].strip() if found else platform.processor() or platform.machine()


def machine(server: Server) -> dict[str, Any]:
    """The machine and the software."""
    with session(server) as connection:
        version = connection.info.parameter_status("server_version")
        ours = connection.execute(
            "SELECT extversion FROM pg_extension WHERE extname = 'pghistory'"
        ).fetchone()
        assert version
        assert ours
    return {
        "postgresql": version,
        "pghistory": ours[0],
        "processor": processor(),
        "cores": os.cpu_count(),
        "memory": round(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30, 1),
        "system": f"{platform.system()} {platform.release()}",
        "packages": {name: importlib.metadata.version(name) for name in PACKAGES},
        "settings": SETTINGS,
    }
