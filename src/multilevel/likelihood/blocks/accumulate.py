"""One pass over the rows: design in, cross-products out.

Rows are taken in fixed chunks that fit the cache; each chunk is centred and scaled there, so no
second copy of the data is made. Small designs use NumPy only; large ones a compiled kernel.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from multilevel.design.records import Design
from multilevel.likelihood.blocks.cross_products import CrossProducts, PairBlock
from multilevel.likelihood.blocks.scaling import Scaling

Array = NDArray[np.float64]
CHUNK = 16_384
COMPILED_FROM = 2_000_000  # products (rows x entries per row) above which the kernel is used


def _add_plain(codes: NDArray[np.int32], left: Array, right: Array, out: Array) -> None:
    """Plain twin of ``gram_kernels.add_outer_by_code``."""
    J, a, b = out.shape
    wide = codes.astype(np.intp)
    for i in range(a):
        for k in range(b):
            out[:, i, k] += np.bincount(wide, weights=left[:, i] * right[:, k], minlength=J)


def add_by_code(codes: NDArray[np.int32], left: Array, right: Array, out: Array) -> None:
    """``out[g] += sum left_i' right_i`` over the rows of level g; compiled where that pays.

    ``codes`` (n,), ``left`` (n, a), ``right`` (n, b), ``out`` (J, a, b), changed in place.
    """
    if left.size * right.shape[1] > COMPILED_FROM:
        from multilevel.likelihood.blocks.gram_kernels import add_outer_by_code

        add_outer_by_code(codes, np.ascontiguousarray(left), np.ascontiguousarray(right), out)
        return
    _add_plain(codes, left, right, out)


def _chunks(n: int, size: int) -> Iterator[slice]:
    for start in range(0, n, size):
        yield slice(start, min(start + size, n))


def level_cells(
    fine: NDArray[np.int32], coarse: NDArray[np.int32], J: int, K: int
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Pairs of levels that occur together: ``(indptr, indices, cell of each row)``."""
    key = fine.astype(np.int64) * K + coarse
    order = np.argsort(key)
    ordered = key[order]
    first = np.ones(len(key), dtype=bool)
    first[1:] = ordered[1:] != ordered[:-1]
    cell = np.empty(len(key), dtype=np.int64)
    cell[order] = np.cumsum(first) - 1
    distinct = ordered[first]
    per_level = np.bincount(distinct // K, minlength=J)
    indptr = np.concatenate([[0], np.cumsum(per_level)]).astype(np.int64)
    return indptr, distinct % K, cell


def accumulate(design: Design, scaling: Scaling, *, compiled: bool | None = None) -> CrossProducts:
    """Form the scaled cross-products of a design in one pass over its rows.

    Parameters
    ----------
    design : n rows.
    scaling : maps of the columns (``scaling_of(design)``).
    compiled : force (True) or forbid (False) the compiled kernel; None chooses by size.

    Returns
    -------
    CrossProducts of the scaled columns; memory ``sum_t J_t q_t (q_t + m)`` and the pairs.
    """
    blocks = design.blocks
    p = design.X.shape[1]
    m = p + 1
    widths = [b.columns.shape[1] for b in blocks]
    pairs_index = {
        (t, s): level_cells(
            blocks[t].codes, blocks[s].codes, blocks[t].n_levels, blocks[s].n_levels
        )
        for t in range(len(blocks))
        for s in range(t + 1, len(blocks))
    }
    work = design.n * sum(q * (q + m) for q in widths)
    use_kernel = work > COMPILED_FROM if compiled is None else compiled
    add = _add_plain
    if use_kernel:
        from multilevel.likelihood.blocks.gram_kernels import add_outer_by_code as add
    own_rhs = [np.zeros((b.n_levels, q, q + m)) for b, q in zip(blocks, widths, strict=True)]
    pair_values = {
        (t, s): np.zeros((len(pairs_index[t, s][1]), widths[t], widths[s])) for t, s in pairs_index
    }
    total = np.zeros((m, m))
    y = design.y if design.offset is None else design.y - design.offset
    for rows in _chunks(design.n, CHUNK if use_kernel else max(design.n, 1)):
        W = scaling.apply(design.X[rows], y[rows])
        w = None if design.weights is None else design.weights[rows][:, None]
        total += W.T @ (W if w is None else w * W)
        Zs = [b.columns[rows] @ B for b, B in zip(blocks, scaling.random, strict=True)]
        for t, Z in enumerate(Zs):
            weighted = Z if w is None else w * Z
            add(blocks[t].codes[rows], weighted, np.hstack([Z, W]), own_rhs[t])
            for s in range(t + 1, len(blocks)):
                cell = pairs_index[t, s][2][rows].astype(np.int32)
                add(cell, weighted, Zs[s], pair_values[t, s])
    return CrossProducts(
        n=design.n,
        n_fixed=p,
        total=total,
        own=tuple(np.ascontiguousarray(a[:, :, :q]) for a, q in zip(own_rhs, widths, strict=True)),
        rhs=tuple(np.ascontiguousarray(a[:, :, q:]) for a, q in zip(own_rhs, widths, strict=True)),
        pairs={
            key: PairBlock(index[0], index[1], pair_values[key])
            for key, index in pairs_index.items()
        },
        sum_log_weights=0.0 if design.weights is None else float(np.log(design.weights).sum()),
    )


def _crossed_with(design: Design, scaling: Scaling, v: Array) -> Array:
    """``X_scaled'v`` (p,), chunk by chunk."""
    p = design.X.shape[1]
    out = np.zeros(p)
    for rows in _chunks(design.n, CHUNK):
        X = scaling.apply(design.X[rows], np.zeros(len(v[rows])))[:, :p]
        out += X.T @ v[rows]
    return out


def with_response(cross: CrossProducts, design: Design, scaling: Scaling) -> CrossProducts:
    """The same cross-products with the response of ``design`` (all else is kept).

    Only ``X'y``, ``y'y`` and ``Z_t'y`` are formed again, O(n).
    """
    y = design.y if design.offset is None else design.y - design.offset
    p = design.X.shape[1]
    ys = design.X @ scaling.first[:p, p] + y * scaling.first[p, p]
    wy = ys if design.weights is None else ys * design.weights
    total = cross.total.copy()
    total[:p, p] = total[p, :p] = _crossed_with(design, scaling, wy)
    total[p, p] = ys @ wy
    rhs = []
    for block, B, old in zip(design.blocks, scaling.random, cross.rhs, strict=True):
        new = old.copy()
        raw = np.stack(
            [
                np.bincount(block.codes, weights=block.columns[:, a] * wy, minlength=block.n_levels)
                for a in range(block.columns.shape[1])
            ],
            axis=1,
        )
        new[:, :, p] = raw @ B
        rhs.append(new)
    return CrossProducts(
        cross.n, p, total, cross.own, tuple(rhs), cross.pairs, cross.sum_log_weights
    )
