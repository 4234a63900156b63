"""Refits by several processes: the same numbers, sooner, where a batch does not apply.

Processes are started afresh ("spawn"), the only way that is safe beside threads. Each receives the
prepared problem once and is limited to one thread of linear algebra; every replicate carries its
own seed, so that the division of work changes nothing.
"""

from __future__ import annotations

import os
import pickle
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from multilevel.errors import InferenceError
from multilevel.infer.bootstrap_refits import Refits, lean

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

CHUNKS_PER_WORKER = 8  # small enough that workers end together and progress is told
_HELD: list[Any] = []  # in a worker: the problem, received once


class Work(Protocol):
    """What makes one replicate from its seed; it must be picklable."""

    def one(self, seed: np.random.SeedSequence) -> Any:
        """The replicate of a seed."""
        ...


def check_workers(workers: int) -> int:
    """A number of processes, at least one.

    Raises
    ------
    InferenceError : anything else.
    """
    if isinstance(workers, bool) or not isinstance(workers, int | np.integer) or workers < 1:
        raise InferenceError(
            "workers must be a whole number of processes, at least 1.",
            f"workers={workers!r}",
            "write workers=2, or leave it out",
        )
    return int(workers)


def _receive(path: str) -> None:
    """First call in a worker: take the problem and keep to one thread."""
    os.environ["OMP_NUM_THREADS"] = "1"
    threadpool_limits(1)
    _HELD[:] = [pickle.loads(Path(path).read_bytes())]


def _work(where: Sequence[int], seeds: Sequence[np.random.SeedSequence]) -> list[tuple[int, Any]]:
    refits = _HELD[0]
    return [(k, refits.one(seed)) for k, seed in zip(where, seeds, strict=True)]


def in_processes(
    refits: Refits | Work,
    where: Sequence[int],
    seeds: Sequence[np.random.SeedSequence],
    workers: int,
) -> Iterator[tuple[int, Any]]:
    """Replicates as they are finished, in any order.

    Parameters
    ----------
    where, seeds : number of each replicate and its seed.

    Raises
    ------
    InferenceError : the processes cannot be started, or one of them ended.
    """
    workers = min(workers, len(where))
    parts = np.array_split(np.arange(len(where)), min(len(where), workers * CHUNKS_PER_WORKER))
    sent = lean(refits) if isinstance(refits, Refits) else refits
    try:
        # A file, not an argument: a process that ends before it has read a large argument would
        # leave this one waiting for ever.
        with TemporaryDirectory() as folder:
            path = Path(folder) / "problem"
            path.write_bytes(pickle.dumps(sent, protocol=pickle.HIGHEST_PROTOCOL))
            yield from _run(str(path), where, seeds, parts, workers)
    except (BrokenProcessPool, OSError) as error:
        raise InferenceError(
            "Worker processes must be able to start and to end their work.",
            f"{type(error).__name__}: {error}",
            "in a script, put the calls beneath `if __name__ == '__main__':` (new processes read "
            "the script); with too little memory ask for fewer workers; or write workers=1",
        ) from error


def _run(
    path: str,
    where: Sequence[int],
    seeds: Sequence[np.random.SeedSequence],
    parts: Sequence[NDArray[np.intp]],
    workers: int,
) -> Iterator[tuple[int, Any]]:
    pool = ProcessPoolExecutor(
        workers, mp_context=get_context("spawn"), initializer=_receive, initargs=(path,)
    )
    try:
        tasks: list[Future[list[tuple[int, Any]]]] = [
            pool.submit(_work, [where[i] for i in part], [seeds[i] for i in part]) for part in parts
        ]
        for task in as_completed(tasks):
            yield from task.result()
    finally:
        pool.shutdown(cancel_futures=True)
