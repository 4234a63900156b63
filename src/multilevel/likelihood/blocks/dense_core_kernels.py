"""Compiled kernels of the dense-core engine: scatter into, and gather from, the core.

The core matrix is held as its lower triangle in Fortran order (row >= column), seen here through
its transpose in C order: ``U[column, row]``.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

KERNEL_VERSION = 1


@numba.njit(cache=True, error_model="numpy", nogil=True)  # type: ignore[untyped-decorator]
def subtract_leaf_products(
    indptr: NDArray[np.int64],
    index: NDArray[np.int32],
    value: NDArray[Any],
    N: NDArray[Any],
    U: NDArray[Any],
    first: int,
    last: int,
) -> None:
    """``U -= sum_g b_g N_g b_g'`` over the leaf levels, for core columns in [first, last).

    ``b_g`` has the rows ``index[indptr[g]:indptr[g+1]]`` (ascending) and q_0 columns ``value``.
    """
    q = N.shape[1]
    left = np.empty(q)
    for g in range(indptr.shape[0] - 1):
        start, stop = indptr[g], indptr[g + 1]
        for a in range(start, stop):
            col = index[a]
            if col < first:
                continue
            if col >= last:
                break
            if q == 1:
                v = value[a, 0] * N[g, 0, 0]
                for b in range(a, stop):
                    U[col, index[b]] -= v * value[b, 0]
            else:
                for i in range(q):
                    s = 0.0
                    for k in range(q):
                        s += value[a, k] * N[g, k, i]
                    left[i] = s
                for b in range(a, stop):
                    s = 0.0
                    for i in range(q):
                        s += left[i] * value[b, i]
                    U[col, index[b]] -= s


@numba.njit(cache=True, error_model="numpy", nogil=True)  # type: ignore[untyped-decorator]
def gather_leaf_forms(
    indptr: NDArray[np.int64],
    index: NDArray[np.int32],
    value: NDArray[Any],
    U: NDArray[Any],
    out: NDArray[Any],
    first: int,
    last: int,
) -> None:
    """``out[g] = b_g' S b_g`` (q_0, q_0) for leaf levels first..last, S symmetric, upper in U."""
    q = value.shape[1]
    for g in range(first, last):
        start, stop = indptr[g], indptr[g + 1]
        if q == 1:
            total = 0.0
            for a in range(start, stop):
                col = index[a]
                s = 0.5 * U[col, col] * value[a, 0]
                for b in range(a + 1, stop):
                    s += U[col, index[b]] * value[b, 0]
                total += 2.0 * value[a, 0] * s
            out[g, 0, 0] = total
        else:
            for a in range(start, stop):
                col = index[a]
                for b in range(a, stop):
                    u = U[col, index[b]]
                    for i in range(q):
                        for k in range(q):
                            if a == b:
                                out[g, i, k] += value[a, i] * u * value[b, k]
                            else:
                                out[g, i, k] += u * (
                                    value[a, i] * value[b, k] + value[b, i] * value[a, k]
                                )


@numba.njit(cache=True, error_model="numpy", nogil=True)  # type: ignore[untyped-decorator]
def scale_core(U: NDArray[Any], scale: NDArray[Any]) -> None:
    """``U[i, j] <- scale[i] U[i, j] scale[j]`` on j >= i, plus one on the diagonal."""
    n = U.shape[0]
    for i in range(n):
        s = scale[i]
        for j in range(i, n):
            U[i, j] *= s * scale[j]
        U[i, i] += 1.0


@numba.njit(cache=True, error_model="numpy", nogil=True)  # type: ignore[untyped-decorator]
def transform_core(
    U: NDArray[Any],
    factors: NDArray[Any],
    first: NDArray[np.int64],
    width: NDArray[np.int64],
    block: NDArray[np.int64],
) -> None:
    """``U <- I + L'UL`` level pair by level pair, L block-diagonal over core levels.

    ``first[h], width[h], block[h]``: first column, columns and factor of core level h; factors
    (K, q_max, q_max) padded.
    """
    H = first.shape[0]
    qmax = factors.shape[1]
    B = np.empty((qmax, qmax))
    C = np.empty((qmax, qmax))
    for h in range(H):
        fh, qh, Lh = first[h], width[h], factors[block[h]]
        for k in range(h, H):
            fk, qk, Lk = first[k], width[k], factors[block[k]]
            for a in range(qh):
                for b in range(qk):
                    if k == h and b < a:
                        B[a, b] = U[fh + b, fh + a]
                    else:
                        B[a, b] = U[fh + a, fk + b]
            for a in range(qh):
                for b in range(qk):
                    s = 0.0
                    for c in range(qk):
                        s += B[a, c] * Lk[c, b]
                    C[a, b] = s
            for a in range(qh):
                for b in range(qk):
                    if k == h and b < a:
                        continue
                    s = 0.0
                    for c in range(qh):
                        s += Lh[c, a] * C[c, b]
                    U[fh + a, fk + b] = s
    for i in range(U.shape[0]):
        U[i, i] += 1.0
