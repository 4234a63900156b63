"""How many threads linear algebra may use: few for small matrices, free cores for large ones.

Two threads of a spinning BLAS on a busy core can make a Cholesky factor 30 times slower, so small
matrices get one thread, and large ones as many as the machine has idle cores.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import lru_cache
from pathlib import Path

import scipy.linalg  # loads SciPy's own BLAS before it is looked up  # noqa: F401
from threadpoolctl import ThreadpoolController

LARGE_ORDER = 1000  # order of a dense matrix from which more than one thread pays


@lru_cache(maxsize=1)
def _controller() -> ThreadpoolController:
    """The BLAS libraries of NumPy and of SciPy (each wheel carries its own)."""
    return ThreadpoolController().select(user_api="blas")


def idle_cores() -> int:
    """Cores that are not busy at this moment, at least one; ``OMP_NUM_THREADS`` is a ceiling."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    cores = cores or 1
    ceiling = os.environ.get("OMP_NUM_THREADS", "").split(",")[0]
    if ceiling.isdigit():
        cores = max(1, min(cores, int(ceiling)))
    if cores == 1:
        return 1
    now = Path("/proc/loadavg")
    if now.exists():
        # fourth field: tasks that run now / all tasks; this one is among them. The averages before
        # it remember the last minutes, our own work included.
        # The least of three looks, for threads that end or spin out their wait; one is enough
        # where nothing else runs.
        running = _running_tasks(now)
        for _ in range(2):
            if running <= 1:
                break
            time.sleep(0.005)
            running = min(running, _running_tasks(now))
        return max(1, cores - max(0, running - 1))
    if hasattr(os, "getloadavg"):
        return max(1, cores - round(max(0.0, os.getloadavg()[0] - 0.6)))
    return cores


def _running_tasks(loadavg: Path) -> int:
    return int(loadavg.read_text(encoding="ascii").split()[3].split("/")[0])


@contextmanager
def blas_threads(order: int) -> Iterator[int]:
    """Limit BLAS inside the block to what suits dense matrices of this order; yields the limit."""
    wanted = idle_cores() if order >= LARGE_ORDER else 1
    with _controller().limit(limits=wanted):
        yield wanted


def step_of(order: int) -> AbstractContextManager[int]:
    """For one step with a dense matrix of this order: threads chosen anew where it is large.

    A fit may take long: a core that was busy when it began may be idle by now, or the reverse.
    Small matrices keep the limit that is set.
    """
    return blas_threads(order) if order >= LARGE_ORDER else nullcontext(0)
