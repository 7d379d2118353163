"""What this package brings of the extension: its files, its version, its scripts."""

from __future__ import annotations

import re
from pathlib import Path

from pyhist.errors import InstallError


def folder() -> Path:
    """The folder with the extension's source: inside the installed package, or the checkout around it."""
    packaged = Path(__file__).with_name("_extension")
    return packaged if packaged.is_dir() else Path(__file__).parent.parent


def files() -> list[Path]:
    """The files that a server needs."""
    extension = folder() / "extension"
    return [extension / "pghistory.control", *sorted(extension.glob("pghistory--*.sql"))]


def version() -> str:
    """The version of the extension."""
    return _setting("default_version")


def description() -> str:
    """What the extension is, in a few words."""
    return _setting("comment")


def install_script() -> str:
    """What installs the extension's objects where there are none of them."""
    return _script(folder() / "extension" / f"pghistory--{version()}.sql")


def upgrade_script(installed: str | None) -> str:
    """What makes the objects of another version those of this one.

    Every upgrade script replaces or drops whatever any earlier version had. So where it is not known which
    version that is (None), any of them will do.

    Raises InstallError if there is none.
    """
    scripts = sorted((folder() / "extension").glob(f"pghistory--{installed or '*'}--{version()}.sql"))
    if not scripts:
        raise InstallError(f"This package has no script that upgrades pghistory {installed} to {version()}.")
    return _script(scripts[-1])


def remove_script() -> str:
    """What removes what plain SQL installed, and leaves the data."""
    return _script(folder() / "sql" / "upgrade" / "remove_plain_sql.sql")


def number(version: str) -> tuple[int, ...]:
    """A version in a form that can be compared."""
    return tuple(int(part) for part in re.findall(r"\d+", version))


def _setting(name: str) -> str:
    control = folder() / "pghistory.control"
    found = re.search(rf"^{name} = '(.+)'", control.read_text(), re.MULTILINE)
    if not found:
        raise InstallError(f"{control} has no {name}.")
    return found[1]


def _script(path: Path) -> str:
    """A script without the lines that are psql's own commands."""
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    return "".join(line for line in lines if not line.startswith("\\"))
