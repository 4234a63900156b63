"""Resident memory of this process. Standard library only."""

from __future__ import annotations

import resource
from pathlib import Path

_STATUS = Path("/proc/self/status")
_CLEAR = Path("/proc/self/clear_refs")


def _field(name: str) -> int:
    for line in _STATUS.read_text().splitlines():
        if line.startswith(name):
            return int(line.split()[1]) * 1024
    raise KeyError(name)


def forget_peak() -> int:
    """Start a new peak at what is resident now, and return that in bytes.

    Linux lets a process reset its peak. Elsewhere the peak since the start stands, so that memory
    above the data is understated if loading needed more than fitting.
    """
    if not _STATUS.exists():
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    _CLEAR.write_text("5")
    return _field("VmRSS:")


def peak() -> int:
    """Largest resident memory in bytes since ``forget_peak``."""
    if not _STATUS.exists():
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return _field("VmHWM:")
