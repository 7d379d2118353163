"""Extensions that Debian packages, unpacked beside a private server and not installed on the machine."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path


def unpack(package: str, folder: Path) -> bool:
    """Unpack a package of this machine's Debian into a folder; False where it cannot be had.

    As root, the lists of packages are renewed where they do not know it.
    """
    apt_get = shutil.which("apt-get")
    if apt_get is None:
        return False
    download = [apt_get, "download", "-q", "-o", "APT::Sandbox::User=root", package]
    if subprocess.run(download, cwd=folder, capture_output=True, check=False).returncode != 0:
        if os.geteuid() != 0:
            return False
        subprocess.run([apt_get, "update", "-q"], capture_output=True, check=False)
        if subprocess.run(download, cwd=folder, capture_output=True, check=False).returncode != 0:
            return False
    (archive,) = folder.glob(f"{package}_*.deb")
    subprocess.run(["dpkg-deb", "-x", archive, folder], check=True)
    return True
