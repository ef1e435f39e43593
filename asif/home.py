"""Where a user's anchor sets and caches are."""

from __future__ import annotations

import os
from pathlib import Path


def default_home() -> Path:
    """Return the folder of anchor sets and caches: ASIF_HOME, or the data folder of the user."""
    home = os.environ.get("ASIF_HOME")
    return Path(home).expanduser() if home else own_home()


def own_home() -> Path:
    """Return the data folder of the user."""
    from platformdirs import user_data_path

    return user_data_path("asif")


def default_cache() -> Path:
    """Return the folder of caches in the default home."""
    return default_home() / "cache"
