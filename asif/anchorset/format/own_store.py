"""The user's own store, whose files are closed to others; in any other store they have the permissions of the umask."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from asif.home import own_home


def close_to_others(path: Path) -> None:
    """Take all permissions of a new file or folder in the user's own store from group and others.

    Does nothing in other folders, nor if ASIF_HOME names a store: that one may be shared.
    """
    if os.name == "nt" or os.environ.get("ASIF_HOME"):
        return
    own, real = os.path.realpath(own_home()), os.path.realpath(path)
    if os.path.commonpath([own, real]) == own:
        for each in (Path(own), path):
            mode = stat.S_IMODE(each.stat().st_mode)
            if mode & 0o077:
                each.chmod(mode & 0o700)
