"""How much memory is to be had: what a plan compares its needs with."""

from __future__ import annotations

import os
from pathlib import Path


def free_memory() -> float:
    """Bytes of memory that are free or can be freed, within the limit of a container."""
    found = [_meminfo("MemAvailable:"), _container_room()]
    known = [value for value in found if value is not None]
    if known:
        return min(known)
    if hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names:
        return 0.5 * float(os.sysconf("SC_PHYS_PAGES")) * float(os.sysconf("SC_PAGE_SIZE"))
    return 8e9


def _meminfo(key: str) -> float | None:
    """One line of Linux's memory table in bytes, None elsewhere."""
    path = Path("/proc/meminfo")
    if not path.exists():
        return None
    for line in path.read_text(encoding="ascii").splitlines():
        if line.startswith(key):
            return 1024.0 * float(line.split()[1])
    return None


def _container_room() -> float | None:
    """Memory that the control group still allows, None where there is no limit."""
    folder = Path("/sys/fs/cgroup")
    limit, used = folder / "memory.max", folder / "memory.current"
    if not (limit.exists() and used.exists()):
        return None
    text = limit.read_text(encoding="ascii").strip()
    return None if text == "max" else max(0.0, float(text) - float(used.read_text()))
