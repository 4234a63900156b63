"""Columns split into a part for each level, by (projections on) cluster means.

Nested factors: the part of a level is the cluster mean minus the mean of the next higher cluster;
the parts are uncorrelated. Crossed factors: the additive projection on the clusters of both (for
balanced data the margins minus the grand mean); the parts then need not be uncorrelated.
Sources: Rights & Sterba 2019 (Psychological Methods 24:309) for two levels; the extension to any
design through projections is our own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from scipy.sparse.linalg import lsqr

from multilevel.interpret.variance import is_nested

if TYPE_CHECKING:
    from multilevel.design.records import Design, RandomBlock

Array = NDArray[np.float64]
ROWS = "rows"


def finer_than(design: Design) -> NDArray[np.bool_]:
    """``(T, T)``: whether factor s is nested in factor t (a factor is not nested in itself)."""
    blocks = design.blocks
    out = np.zeros((len(blocks), len(blocks)), dtype=bool)
    for s, fine in enumerate(blocks):
        for t, coarse in enumerate(blocks):
            out[s, t] = s != t and fine.n_levels >= coarse.n_levels and is_nested(fine, coarse)
    return out


def level_parts(design: Design, column: Array) -> list[Array]:
    """Split a column (n,) into parts that add up to the column minus its mean.

    Returns
    -------
    One part (n,) per block of the design, in its order, then the part within all of them.
    """
    centred = column - column.mean()
    T = len(design.blocks)
    parts = [np.zeros(len(column)) for _ in range(T)]
    if T:
        _spread(design, centred, list(range(T)), finer_than(design), parts)
    within = centred - sum(parts, np.zeros(len(column)))
    size = float(np.abs(column).max()) if len(column) else 0.0
    for part in (*parts, within):
        # Rounding of the means is not variance.
        if float(np.abs(part).max(initial=0.0)) <= 1e-12 * size:
            part[:] = 0.0
    return [*parts, within]


def _spread(
    design: Design,
    column: Array,
    factors: list[int],
    nested: NDArray[np.bool_],
    parts: list[Array],
) -> None:
    """Add the parts of ``column`` at ``factors`` to ``parts``, the finest factors first."""
    finest = [t for t in factors if not any(nested[s, t] for s in factors)]
    for t, projected in zip(finest, _project(design, column, finest), strict=True):
        above = [s for s in factors if nested[t, s]]
        if not above:
            parts[t] += projected
            continue
        inner = [np.zeros(len(column)) for _ in parts]
        _spread(design, projected, above, nested, inner)
        for s in above:
            parts[s] += inner[s]
        parts[t] += projected - sum(inner, np.zeros(len(column)))


def _project(design: Design, column: Array, factors: list[int]) -> list[Array]:
    """Additive least-squares projection on the clusters of the factors, each part centred."""
    blocks = [design.blocks[t] for t in factors]
    if len(blocks) == 1:
        return [cluster_means(column, blocks[0])[blocks[0].codes]]
    if not np.any(column):
        return [np.zeros(len(column)) for _ in blocks]
    n = len(column)
    rows = np.arange(n)
    counts = [np.bincount(b.codes, minlength=b.n_levels) for b in blocks]
    # Columns of unit length make the least-squares iterations few.
    indicators = [
        sparse.csr_matrix((1.0 / np.sqrt(c[b.codes]), (rows, b.codes)), shape=(n, b.n_levels))
        for b, c in zip(blocks, counts, strict=True)
    ]
    found = lsqr(sparse.hstack(indicators).tocsr(), column, atol=1e-14, btol=1e-14)[0]
    out, at = [], 0
    for block, count in zip(blocks, counts, strict=True):
        effect = found[at : at + block.n_levels] / np.sqrt(count)
        part = effect[block.codes]
        out.append(np.asarray(part - part.mean()))
        at += block.n_levels
    return out


def cluster_means(column: Array, block: RandomBlock) -> Array:
    """Means of a column by level of a factor, (J,), computed around the grand mean."""
    shift = float(column.mean())
    counts = np.bincount(block.codes, minlength=block.n_levels)
    sums = np.bincount(block.codes, weights=column - shift, minlength=block.n_levels)
    return np.asarray(sums / counts + shift)
