"""Which storage of ``H``? Predicted seconds, checked against memory, told in a sentence.

Rates are medians on one core of a server processor; only their order matters.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

from multilevel.errors import LikelihoodError
from multilevel.likelihood.blocks.memory import free_memory
from multilevel.likelihood.blocks.ordering import symbolic
from multilevel.likelihood.generalized.row_layout import RowLayout
from multilevel.likelihood.generalized.storage import Storage

StorageName = Literal["dense", "leaf", "sparse"]
STORAGES: tuple[str, ...] = get_args(StorageName)
FACTORISATIONS = 3  # per evaluation from a warm start; the inverse for the gradient comes once
CHOLESKY_RATE, INVERSE_RATE, SCATTER_RATE, SPARSE_RATE = 40e9, 50e9, 0.6e9, 0.7e9
SMALL_CALL = 2e-5  # seconds that a LAPACK call and its surroundings take, however small
SEEK_SPARSE = 0.01  # seconds from which the search for a sparse order pays
SPARSE_NONZEROS = 60_000_000
ROW_SECONDS = 2e-8


@dataclass(frozen=True)
class StoragePlan:
    """One way to keep ``H``, with its predicted cost.

    Attributes
    ----------
    name : one of ``STORAGES``.
    seconds : predicted seconds of value and gradient, without the passes over rows.
    memory : bytes.
    order : order of the largest dense matrix (for the number of threads).
    ratio : cost of one factorisation over that of one pass over the rows.
    make : builds it.
    sentence : the reason, with the alternatives.
    """

    name: StorageName
    seconds: float
    memory: float
    order: int
    ratio: float
    make: Callable[[RowLayout], Storage]
    sentence: str = ""


def choose_storage(layout: RowLayout, wanted: str | None = None) -> StoragePlan:
    """The fastest storage that fits in half of the free memory, or the wanted one.

    Raises
    ------
    LikelihoodError : an unknown name; or none fits in memory (with sizes).
    """
    if wanted is not None and wanted not in STORAGES:
        raise LikelihoodError(
            "A storage of the random-effects matrix must be one of " + ", ".join(STORAGES) + ".",
            repr(wanted),
            "use one of these, or None for the automatic choice",
        )
    plans = _candidates(layout, wanted)
    room = 0.5 * free_memory()
    fitting = [plan for plan in plans if plan.memory <= room]
    if not fitting:
        best = min(plans, key=lambda plan: plan.memory)
        raise LikelihoodError(
            "The random effects of a generalized model must fit in half of the free memory.",
            f"{layout.n_effects:,} random effects of {len(layout.sizes)} grouping factors; the "
            f"leanest storage ({best.name}) needs {best.memory / 1e9:.1f} GB and "
            f"{room / 1e9:.1f} GB are to be had",
            "use a machine with more memory, or fewer levels",
        )
    best = min(fitting, key=lambda plan: plan.seconds)
    factors = len(layout.sizes)
    told = ", ".join(
        f"{p.name} {p.seconds * 1e3:.2g} ms and {p.memory / 1e6:.2g} MB" for p in plans
    )
    why = (
        f"Laplace approximation for {layout.n_effects:,} random effects of {factors} grouping "
        f"factor{'s' if factors != 1 else ''}, all modes found together: {_WORDS[best.name]} "
        f"({told} predicted per evaluation)"
    )
    return StoragePlan(best.name, best.seconds, best.memory, best.order, best.ratio, best.make, why)


_WORDS: dict[str, str] = {
    "dense": "one dense matrix",
    "leaf": "the largest factor is eliminated first, the rest is one dense matrix",
    "sparse": "one sparse matrix",
}


def _candidates(layout: RowLayout, wanted: str | None) -> list[StoragePlan]:
    if wanted == "dense":
        return [_dense(layout)]
    if wanted == "leaf":
        return [_leaf(layout)]
    if wanted == "sparse":
        return [_sparse(layout, None)]
    plans = [_dense(layout), _leaf(layout)]
    fastest = min(plan.seconds for plan in plans)
    is_deep = layout.pattern.is_chain and len(layout.sizes) > 2
    if is_deep or fastest > SEEK_SPARSE:
        plans.append(_sparse(layout, SPARSE_NONZEROS))
    return plans


def _plan(
    layout: RowLayout,
    name: StorageName,
    factor: float,
    inverse: float,
    memory: float,
    order: int,
    make: Callable[[RowLayout], Storage],
) -> StoragePlan:
    Q = layout.raw.shape[1]
    rows = max(layout.n * layout.n_random**2 * (1 + Q) * ROW_SECONDS / 2, 2e-5)
    memory += 8.0 * layout.n * (Q * (Q + 1) / 2 + Q * (1 + layout.n_random))
    return StoragePlan(name, FACTORISATIONS * factor + inverse, memory, order, factor / rows, make)


def _cubic(order: float) -> tuple[float, float]:
    """Seconds of a dense Cholesky factor and of the inverse from it."""
    slow = 1.0 + 300.0 / max(order, 1.0)  # small matrices reach a fraction of the rate
    cube = order**3 * slow
    return cube / 3 / CHOLESKY_RATE + SMALL_CALL, 2 * cube / 3 / INVERSE_RATE + SMALL_CALL


def _dense(layout: RowLayout) -> StoragePlan:
    from multilevel.likelihood.generalized.storage_dense import DenseStorage

    N = layout.n_effects
    factor, inverse = _cubic(N)
    factor += 1e-9 * N**2
    return _plan(layout, "dense", factor, inverse, 24.0 * N**2, N, DenseStorage)


def _leaf(layout: RowLayout) -> StoragePlan:
    from multilevel.likelihood.generalized.storage_leaf import LeafStorage

    J, q = layout.sizes[0]
    n_core = layout.n_effects - J * q
    lengths = np.zeros(J)
    for s in range(1, len(layout.sizes)):
        lengths += np.diff(layout.pattern.pairs[0, s].indptr) * layout.sizes[s][1]
    scatter = float((lengths**2).sum()) * q / 2 / SCATTER_RATE + J * q**3 * 2e-9
    factor, inverse = _cubic(n_core)
    factor += 1e-9 * n_core**2
    memory = 24.0 * n_core**2 + 32.0 * float(lengths.sum()) * q
    return _plan(layout, "leaf", factor + scatter, inverse + scatter, memory, n_core, LeafStorage)


def _sparse(layout: RowLayout, limit: int | None) -> StoragePlan:
    """Its memory is beyond any machine where the fill exceeds the limit."""
    from multilevel.likelihood.generalized.storage_sparse import SparseStorage

    found = symbolic(layout.pattern) if limit is None else symbolic(layout.pattern, limit)
    flops = found.predicted_flops + 20.0 * found.nnz_factor + 40.0 * found.n_unknowns
    seconds = flops / SPARSE_RATE
    memory = float(found.n_bytes) if found.is_within_limit else np.inf
    return _plan(
        layout, "sparse", seconds, 2 * seconds, memory, 0, lambda rows: SparseStorage(rows, found)
    )
