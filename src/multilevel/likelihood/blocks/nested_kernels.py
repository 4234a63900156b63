"""Compiled kernels of the nested engine (plain twins in ``gaussian.nested``).

Source of the algebra: Lindstrom & Bates 1988; the tree recursion is our own derivation
(elimination of one grouping factor at a time, docs/numerics).
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

KERNEL_VERSION = 1


@numba.njit(cache=True, error_model="numpy", nogil=True)  # type: ignore[untyped-decorator]
def cholesky_in_place(M: NDArray[Any]) -> float:
    """Lower Cholesky factor of a small matrix (lower triangle); returns the log-determinant.

    NaN where a pivot is not positive.
    """
    log_det = 0.0
    for a in range(M.shape[0]):
        for b in range(a + 1):
            s = M[a, b]
            for c in range(b):
                s -= M[a, c] * M[b, c]
            if a == b:
                if not s > 0.0:
                    return np.nan
                M[a, a] = np.sqrt(s)
                log_det += np.log(s)
            else:
                M[a, b] = s / M[b, b]
    return log_det


@numba.njit(cache=True, error_model="numpy", nogil=True)  # type: ignore[untyped-decorator]
def eliminate_units(
    A: NDArray[Any],
    right: NDArray[Any],
    factor: NDArray[Any],
    N: NDArray[Any],
    T: NDArray[Any],
) -> float:
    """Eliminate the random effects of independent units.

    ``N_j = L (I + L'A_jL)^-1 L'`` is stored, ``T -= sum_j R_j'N_jR_j`` (lower triangle) over the
    last ``m`` columns of ``right``. Shapes: A (J, q, q), right (J, q, w), factor (q, q),
    N (J, q, q), T (m, m). Returns ``sum_j log|I + L'A_jL|``; NaN where a pivot is not positive.
    """
    J, q = A.shape[0], A.shape[1]
    m = T.shape[0]
    off = right.shape[2] - m
    M = np.empty((q, q))
    AL = np.empty((q, q))
    C = np.empty((q, m))
    X = np.empty((q, q))
    log_det = 0.0
    for j in range(J):
        for a in range(q):
            for b in range(q):
                s = 0.0
                for c in range(q):
                    s += A[j, a, c] * factor[c, b]
                AL[a, b] = s
        for a in range(q):
            for b in range(a + 1):
                s = 1.0 if a == b else 0.0
                for c in range(q):
                    s += factor[c, a] * AL[c, b]
                M[a, b] = s
        part = cholesky_in_place(M)
        if np.isnan(part):
            return np.nan
        log_det += part
        for a in range(q):  # C = M^-1 L' R and X = M^-1 L'
            for k in range(m):
                s = 0.0
                for c in range(q):
                    s += factor[c, a] * right[j, c, off + k]
                for c in range(a):
                    s -= M[a, c] * C[c, k]
                C[a, k] = s / M[a, a]
            for k in range(q):
                s = factor[k, a]
                for c in range(a):
                    s -= M[a, c] * X[c, k]
                X[a, k] = s / M[a, a]
        for a in range(q):
            for b in range(q):
                s = 0.0
                for c in range(q):
                    s += X[c, a] * X[c, b]
                N[j, a, b] = s
            for k in range(m):
                v = C[a, k]
                for i in range(k + 1):
                    T[k, i] -= v * C[a, i]
    return log_det


@numba.njit(cache=True, error_model="numpy", nogil=True)  # type: ignore[untyped-decorator]
def project_units(
    A: NDArray[Any],
    right: NDArray[Any],
    N: NDArray[Any],
    G: NDArray[Any],
    H: NDArray[Any],
) -> None:
    """``G_j = A_j - A_jN_jA_j`` and ``H_j = R_j - A_jN_jR_j`` (shapes as in eliminate_units)."""
    J, q = A.shape[0], A.shape[1]
    w = right.shape[2]
    P = np.empty((q, q))
    for j in range(J):
        for a in range(q):
            for b in range(q):
                s = 0.0
                for c in range(q):
                    s += A[j, a, c] * N[j, c, b]
                P[a, b] = s
        for a in range(q):
            for b in range(q):
                s = A[j, a, b]
                for c in range(q):
                    s -= P[a, c] * A[j, c, b]
                G[j, a, b] = s
            for k in range(w):
                s = right[j, a, k]
                for c in range(q):
                    s -= P[a, c] * right[j, c, k]
                H[j, a, k] = s


@numba.njit(cache=True, error_model="numpy", nogil=True)  # type: ignore[untyped-decorator]
def push_to_parents(
    right: NDArray[Any],
    N: NDArray[Any],
    parent: NDArray[np.int64],
    at: int,
    A_up: NDArray[Any],
    right_up: NDArray[Any],
) -> None:
    """Subtract ``R_l'N R`` of every unit from its ancestor's cross-products.

    Columns ``at : at + q_l`` of ``right`` belong to the ancestor's random effects, the columns
    behind them match ``right_up``. Shapes: A_up (K, q_l, q_l), right_up (K, q_l, w_up).
    """
    J, q = N.shape[0], N.shape[1]
    ql, wu = right_up.shape[1], right_up.shape[2]
    NR = np.empty((q, ql))
    for j in range(J):
        k = parent[j]
        for a in range(q):
            for b in range(ql):
                s = 0.0
                for c in range(q):
                    s += N[j, a, c] * right[j, c, at + b]
                NR[a, b] = s
        for b in range(ql):
            for d in range(ql):
                s = 0.0
                for a in range(q):
                    s += NR[a, b] * right[j, a, at + d]
                A_up[k, b, d] -= s
            for d in range(wu):
                s = 0.0
                for a in range(q):
                    s += NR[a, b] * right[j, a, at + ql + d]
                right_up[k, b, d] -= s


@numba.njit(cache=True, error_model="numpy", nogil=True)  # type: ignore[untyped-decorator]
def correct_by_parents(
    G: NDArray[Any],
    H: NDArray[Any],
    parent: NDArray[np.int64],
    at: int,
    N_up: NDArray[Any],
    right_up: NDArray[Any],
) -> None:
    """Carry an ancestor's elimination down: ``G -= H_l N_up H_l'``, ``H -= H_l N_up R_up``."""
    J, q = G.shape[0], G.shape[1]
    ql, wu = right_up.shape[1], right_up.shape[2]
    HN = np.empty((q, ql))
    for j in range(J):
        k = parent[j]
        for a in range(q):
            for b in range(ql):
                s = 0.0
                for c in range(ql):
                    s += H[j, a, at + c] * N_up[k, c, b]
                HN[a, b] = s
        for a in range(q):
            for b in range(q):
                s = 0.0
                for c in range(ql):
                    s += HN[a, c] * H[j, b, at + c]
                G[j, a, b] -= s
            for d in range(wu):
                s = 0.0
                for c in range(ql):
                    s += HN[a, c] * right_up[k, c, d]
                H[j, a, at + ql + d] -= s
