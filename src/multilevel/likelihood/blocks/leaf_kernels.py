"""Compiled kernels that eliminate the finest factor of ``H`` before a dense core.

The leaf's part of ``H`` is block-diagonal; level g touches the core columns
``column[indptr[g]:indptr[g + 1]]`` (ascending) through its panel. A cached kernel does not see
changes in other files, so all that is inlined stands here.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

import numpy as np
from numba import njit
from numpy.typing import NDArray

Array = NDArray[np.float64]
Index = NDArray[np.int32]
Places = NDArray[np.int64]
Kernel = TypeVar("Kernel", bound=Callable[..., Any])

KERNEL_VERSION = 1  # raise when a helper changes: cached callers are not recompiled otherwise


def _compiled(kernel: Kernel) -> Kernel:
    return cast(Kernel, njit(cache=True, error_model="numpy", nogil=True)(kernel))


@_compiled
def eliminate_leaves(
    own: Array,
    indptr: Places,
    column: Index,
    panel: Array,
    inverse: Array,
    scaled: Array,
    core: Array,
) -> float:
    """Eliminate block-diagonal leaves: ``core -= sum_g b_g D_g^-1 b_g'``; returns ``log|D|``.

    ``own`` (J, q, q) with the lower triangles of ``D_g``; ``inverse`` the same shape, overwritten
    by ``D_g^-1``; leaf g touches the core columns ``column[indptr[g]:indptr[g+1]]`` (ascending)
    with ``panel`` (nnz, q); ``scaled`` (nnz, q) is overwritten by ``b_g D_g^-1``; ``core``
    (N2, N2), entries [row, column] with row >= column. NaN where a ``D_g`` is not positive
    definite.
    """
    J, q = own.shape[0], own.shape[1]
    total = 0.0
    L = np.empty((q, q))
    thin = panel.reshape(-1)  # the panel itself where q is 1
    for g in range(J):
        logdet = _invert_small(own[g], inverse[g], L)
        if not np.isfinite(logdet):
            return np.nan
        total += logdet
        start, stop = indptr[g], indptr[g + 1]
        if q == 1:
            d = inverse[g, 0, 0]
            # a leaf that touches a run of neighbours needs no look-up, so the loop is vectorised
            is_run = stop > start and column[stop - 1] - column[start] == stop - 1 - start
            for a in range(start, stop):
                v = d * thin[a]
                scaled[a, 0] = v
                into = core[column[a]]
                if is_run:
                    run = into[column[start] : column[a] + 1]
                    for b in range(a + 1 - start):
                        run[b] -= v * thin[start + b]
                else:
                    for b in range(start, a + 1):
                        into[column[b]] -= v * thin[b]
            continue
        for a in range(start, stop):
            for i in range(q):
                s = 0.0
                for k in range(q):
                    s += panel[a, k] * inverse[g, k, i]
                scaled[a, i] = s
            for b in range(start, a + 1):
                s = 0.0
                for i in range(q):
                    s += scaled[a, i] * panel[b, i]
                core[column[a], column[b]] -= s
    return total


@_compiled
def _invert_small(A: Array, out: Array, L: Array) -> float:
    """``out = A^-1`` from the lower triangle by Cholesky; returns ``log|A|`` or NaN."""
    q = A.shape[0]
    if q == 1:
        if not A[0, 0] > 0.0:
            return np.nan
        out[0, 0] = 1.0 / A[0, 0]
        return float(np.log(A[0, 0]))
    logdet = 0.0
    for j in range(q):
        d = A[j, j]
        for k in range(j):
            d -= L[j, k] * L[j, k]
        if not d > 0.0:
            return np.nan
        logdet += np.log(d)
        L[j, j] = np.sqrt(d)
        for i in range(j + 1, q):
            s = A[i, j]
            for k in range(j):
                s -= L[i, k] * L[j, k]
            L[i, j] = s / L[j, j]
    for c in range(q):
        for i in range(q):
            s = 1.0 if i == c else 0.0
            for k in range(i):
                s -= L[i, k] * out[k, c]
            out[i, c] = s / L[i, i]
        for i in range(q - 1, -1, -1):
            s = out[i, c]
            for k in range(i + 1, q):
                s -= L[k, i] * out[k, c]
            out[i, c] = s / L[i, i]
    return logdet


@_compiled
def leaf_inverses(
    indptr: Places,
    column: Index,
    scaled: Array,
    core: Array,
    inverse: Array,
    own: Array,
    cross: Array,
) -> None:
    """Entries of the whole inverse at the leaves, from ``S^-1`` of the core.

    ``(H^-1)_cg = -S^-1 b_g D_g^-1`` on the panel (``cross``, nnz x q) and
    ``(H^-1)_gg = D_g^-1 + D_g^-1 b_g' S^-1 b_g D_g^-1`` (``own``, J x q x q). ``core``: ``S^-1``,
    entries [row, column] with row >= column; ``scaled`` as left by ``eliminate_leaves``.
    """
    J, q = inverse.shape[0], inverse.shape[1]
    thin, out = scaled.reshape(-1), cross.reshape(-1)  # themselves where q is 1
    for g in range(J):
        start, stop = indptr[g], indptr[g + 1]
        is_run = stop > start and column[stop - 1] - column[start] == stop - 1 - start
        for a in range(start, stop):
            for i in range(q):
                cross[a, i] = 0.0
        for a in range(start, stop):
            line = core[column[a]]
            if q == 1:
                mine = thin[a]
                s = line[column[a]] * mine
                if is_run:
                    run = line[column[start] : column[a]]
                    for b in range(a - start):
                        s += run[b] * thin[start + b]
                    for b in range(a - start):
                        out[start + b] -= run[b] * mine
                else:
                    for b in range(start, a):
                        z = line[column[b]]
                        s += z * thin[b]
                        out[b] -= z * mine
                out[a] -= s
                continue
            for b in range(start, a + 1):
                z = line[column[b]]
                for i in range(q):
                    cross[a, i] -= z * scaled[b, i]
                    if b < a:
                        cross[b, i] -= z * scaled[a, i]
        for i in range(q):
            for k in range(q):
                s = inverse[g, i, k]
                for a in range(start, stop):
                    s -= scaled[a, i] * cross[a, k]
                own[g, i, k] = s


@_compiled
def leaf_forward(indptr: Places, column: Index, scaled: Array, leaf: Array, core: Array) -> None:
    """``core -= b_g D_g^-1 leaf_g`` for right-hand sides ``leaf`` (J, q, k), ``core`` (N2, k)."""
    J, q, k = leaf.shape
    if q == 1 and k == 1:
        for g in range(J):
            x = leaf[g, 0, 0]
            for a in range(indptr[g], indptr[g + 1]):
                core[column[a], 0] -= x * scaled[a, 0]
        return
    for g in range(J):
        for a in range(indptr[g], indptr[g + 1]):
            for i in range(q):
                v = scaled[a, i]
                for c in range(k):
                    core[column[a], c] -= v * leaf[g, i, c]


@_compiled
def leaf_backward(
    inverse: Array, indptr: Places, column: Index, scaled: Array, leaf: Array, core: Array
) -> None:
    """``leaf_g <- D_g^-1 leaf_g - D_g^-1 b_g' core`` for ``leaf`` (J, q, k), ``core`` (N2, k)."""
    J, q, k = leaf.shape
    if q == 1 and k == 1:
        for g in range(J):
            x = inverse[g, 0, 0] * leaf[g, 0, 0]
            for a in range(indptr[g], indptr[g + 1]):
                x -= scaled[a, 0] * core[column[a], 0]
            leaf[g, 0, 0] = x
        return
    held = np.empty(q)
    for g in range(J):
        for c in range(k):
            for i in range(q):
                s = 0.0
                for j in range(q):
                    s += inverse[g, i, j] * leaf[g, j, c]
                held[i] = s
            for i in range(q):
                leaf[g, i, c] = held[i]
        for a in range(indptr[g], indptr[g + 1]):
            for i in range(q):
                v = scaled[a, i]
                for c in range(k):
                    leaf[g, i, c] -= v * core[column[a], c]
