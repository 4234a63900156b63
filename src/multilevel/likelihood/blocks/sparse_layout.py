"""From levels to unknowns: the pattern of a sparse factor and the place of every entry in it.

The symbolic phase (``ordering``) works on levels of grouping factors; the numeric phase
(``sparse_ldl``) on single random effects. Both sparse engines share this step.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from multilevel.likelihood.blocks.ordering import SymbolicPlan

IntArray = NDArray[np.int64]


def spread(rows: IntArray, columns: IntArray) -> tuple[IntArray, IntArray]:
    """Row and column unknown of every entry of K blocks, each (q, r, K)."""
    pair = np.broadcast_arrays(rows.T[:, None, :], columns.T[None, :, :])
    return pair[0], pair[1]


def upper_triangle(
    spans: Sequence[tuple[IntArray, IntArray]], n: int
) -> tuple[IntArray, IntArray, list[IntArray]]:
    """Compressed columns of the upper triangle, and the place of every entry given.

    ``spans``: (row, column) unknowns of each entry, in either triangle; the two mirror images of
    an entry inside a diagonal block get the same place.
    """
    flat = [(np.minimum(r, c).ravel(), np.maximum(r, c).ravel()) for r, c in spans]
    upper = np.concatenate([r for r, _ in flat])
    column = np.concatenate([c for _, c in flat])
    pattern = sparse.csc_array((np.ones(upper.size, np.int8), (upper, column)), shape=(n, n))
    pattern.sort_indices()
    Up, Ui = pattern.indptr.astype(np.int64), pattern.indices.astype(np.int64)
    numbered = sparse.csc_array((np.arange(Ui.size, dtype=np.int64), Ui, Up), shape=(n, n))
    positions = []
    for (r, c), (shape, _) in zip(flat, spans, strict=True):
        positions.append(np.asarray(numbered[r, c], np.int64).reshape(shape.shape))
    return Up, Ui, positions


def unknown_tree(plan: SymbolicPlan, ends: IntArray) -> tuple[IntArray, IntArray]:
    """Elimination tree and column pointers of L per unknown, from those per level."""
    last = ends[1:] - 1
    parent = np.arange(1, plan.n_unknowns + 1, dtype=np.int64)
    parent[last] = np.where(plan.parent >= 0, ends[:-1][plan.parent], -1)
    within = np.arange(plan.n_unknowns, dtype=np.int64) - np.repeat(ends[:-1], plan.weight)
    lengths = np.repeat(plan.counts, plan.weight) - 1 - within
    Lp = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    return parent, Lp
