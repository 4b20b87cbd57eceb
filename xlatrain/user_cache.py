"""Where files are kept between runs that can be made again."""

from __future__ import annotations

import os
from pathlib import Path


def user_cache() -> Path:
    """xlatrain's folder in the user's cache, which need not exist yet."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "xlatrain"
