"""Where things are kept that any sweep of this user can use again; stands beside the layers."""

from __future__ import annotations

import os
from pathlib import Path


def cache_root() -> Path:
    """`VI_DIST_CACHE`, else ``vi_dist`` in the user's cache directory."""
    home = os.environ.get("VI_DIST_CACHE")
    caches = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    return Path(home or os.path.join(caches, "vi_dist"))
