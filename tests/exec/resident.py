"""How much memory this process takes."""

from __future__ import annotations

import gc
import os
from pathlib import Path


def resident_size() -> int:
    """Resident bytes now, after a garbage collection."""
    gc.collect()
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")
