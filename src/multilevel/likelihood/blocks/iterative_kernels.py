"""Compiled kernels of the iterative crossed engine (plain twin of each: its ``py_func``).

Vectors come in groups of ``k`` right-hand sides, row-major (rows, k), so that one look-up of a
level serves all of them. The *leaf* is eliminated level by level: one pass over its rows gathers
from the core and scatters back, and no vector of the leaf's length is ever stored.

Layout. ``indptr`` (J_0 + 1,), ``index`` (nnz,) core columns, ``value`` (nnz, q_0):
``Z_core'Z_leaf`` by leaf level. A core row ``i`` belongs to the level whose rows are
``first[i] .. first[i] + width[i] - 1``; block-diagonal matrices over the core are held by rows,
``D[i, b] = D[i, first[i] + b]``, padded to the widest block.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

KERNEL_VERSION = 1

_FLAGS: dict[str, Any] = {
    "cache": True,
    "error_model": "numpy",
    "nogil": True,
    "fastmath": {"reassoc", "contract", "nsz"},
}


@numba.njit(**_FLAGS)  # type: ignore[untyped-decorator]
def apply_leaf(
    indptr: NDArray[np.int64],
    index: NDArray[np.int32],
    value: NDArray[Any],
    N: NDArray[Any],
    V: NDArray[Any],
    out: NDArray[Any],
    first_leaf: int,
    last_leaf: int,
) -> None:
    """``out = sum_g b_g N_g b_g' V`` over the leaf levels [first_leaf, last_leaf).

    Shapes: N (J_0, q_0, q_0), V and out (n_core, k). ``out`` is overwritten.
    """
    k, q = V.shape[1], value.shape[1]
    held = np.empty((q, k))
    sent = np.empty((q, k))
    out[:] = 0.0
    for g in range(first_leaf, last_leaf):
        held[:] = 0.0
        for e in range(indptr[g], indptr[g + 1]):
            c = index[e]
            for a in range(q):
                x = value[e, a]
                for j in range(k):
                    held[a, j] += x * V[c, j]
        for a in range(q):
            x = N[g, a, 0]
            for j in range(k):
                sent[a, j] = x * held[0, j]
            for b in range(1, q):
                x = N[g, a, b]
                for j in range(k):
                    sent[a, j] += x * held[b, j]
        for e in range(indptr[g], indptr[g + 1]):
            c = index[e]
            for a in range(q):
                x = value[e, a]
                for j in range(k):
                    out[c, j] += x * sent[a, j]


@numba.njit(**_FLAGS)  # type: ignore[untyped-decorator]
def leaf_diagonals(
    indptr: NDArray[np.int64],
    index: NDArray[np.int32],
    value: NDArray[Any],
    first: NDArray[np.int32],
    width: NDArray[np.int32],
    N: NDArray[Any],
    core: NDArray[Any],
    Theta: NDArray[Any],
    leaf: NDArray[Any],
    to_core: bool,
) -> None:
    """Diagonal blocks of the leaf's products, in the direction asked for.

    ``to_core``: add the core's diagonal blocks of ``sum_g b_g N_g b_g'`` to ``core``
    (n_core, q_max). Otherwise: add ``b_g' Theta b_g`` with block-diagonal ``Theta``
    (n_core, q_max) to ``leaf`` (J_0, q_0, q_0).
    """
    q = value.shape[1]
    for g in range(indptr.shape[0] - 1):
        for e in range(indptr[g], indptr[g + 1]):
            c = index[e]
            level = e - (c - first[c])
            for b in range(width[c]):
                if to_core:
                    s = 0.0
                    for i in range(q):
                        for j in range(q):
                            s += value[e, i] * N[g, i, j] * value[level + b, j]
                    core[c, b] += s
                else:
                    t = Theta[c, b]
                    for i in range(q):
                        for j in range(q):
                            leaf[g, i, j] += value[e, i] * t * value[level + b, j]


@numba.njit(**_FLAGS)  # type: ignore[untyped-decorator]
def leaf_forms(
    indptr: NDArray[np.int64],
    index: NDArray[np.int32],
    value: NDArray[Any],
    U: NDArray[Any],
    left: NDArray[Any],
    right: NDArray[Any],
    weight: NDArray[Any],
    sums: NDArray[Any],
    levels: NDArray[Any],
    first_leaf: int,
    last_leaf: int,
) -> None:
    """``(U_g b_g'left_c)(U_g b_g'right_c)'`` of the leaf, column c by column.

    ``sums`` (k, q_0, q_0) receives the sum over the leaf levels of the range; ``levels``
    (J_0, q_0, q_0), if it has any rows, the sum over the columns with ``weight`` (k,).
    """
    k, q = left.shape[1], value.shape[1]
    gathered = np.empty((2, q, k))
    x = np.empty(q)
    y = np.empty(q)
    for g in range(first_leaf, last_leaf):
        gathered[:] = 0.0
        for e in range(indptr[g], indptr[g + 1]):
            c = index[e]
            for a in range(q):
                v = value[e, a]
                for j in range(k):
                    gathered[0, a, j] += v * left[c, j]
                    gathered[1, a, j] += v * right[c, j]
        for j in range(k):
            for a in range(q):
                x[a] = 0.0
                y[a] = 0.0
                for b in range(q):
                    x[a] += U[g, a, b] * gathered[0, b, j]
                    y[a] += U[g, a, b] * gathered[1, b, j]
            for a in range(q):
                for b in range(q):
                    sums[j, a, b] += x[a] * y[b]
                    if levels.shape[0] > 0:
                        levels[g, a, b] += weight[j] * x[a] * y[b]


@numba.njit(**_FLAGS)  # type: ignore[untyped-decorator]
def finish_product(
    indptr: NDArray[np.int64],
    index: NDArray[np.int32],
    value: NDArray[Any],
    first: NDArray[np.int32],
    width: NDArray[np.int32],
    Delta: NDArray[Any],
    parts: NDArray[Any],
    P: NDArray[Any],
    V: NDArray[Any],
    product: NDArray[Any],
    forms: NDArray[Any],
    first_row: int,
    last_row: int,
) -> None:
    """``product = O V`` and ``forms_j = p_j'p_j + v_j'O v_j`` over core rows of a range.

    ``O = A - sum(parts) + Delta``: core rows ``A`` (sparse: indptr, index, value) without the
    diagonal blocks, the leaf's ``parts`` (n_parts, n_core, k), and ``Delta`` which cancels the
    diagonal blocks of these parts. ``forms`` (k,) is overwritten.
    """
    k = V.shape[1]
    forms[:] = 0.0
    for i in range(first_row, last_row):
        for j in range(k):
            product[i, j] = -parts[0, i, j]
        for t in range(1, parts.shape[0]):
            for j in range(k):
                product[i, j] -= parts[t, i, j]
        for b in range(width[i]):
            x, c = Delta[i, b], first[i] + b
            for j in range(k):
                product[i, j] += x * V[c, j]
        for e in range(indptr[i], indptr[i + 1]):
            x, c = value[e], index[e]
            for j in range(k):
                product[i, j] += x * V[c, j]
        for j in range(k):
            forms[j] += P[i, j] * P[i, j] + V[i, j] * product[i, j]


@numba.njit(**_FLAGS)  # type: ignore[untyped-decorator]
def step(
    first: NDArray[np.int32],
    width: NDArray[np.int32],
    H: NDArray[Any],
    alpha: NDArray[Any],
    P: NDArray[Any],
    product: NDArray[Any],
    R: NDArray[Any],
    total: NDArray[Any],
    squares: NDArray[Any],
    first_row: int,
    last_row: int,
) -> None:
    """One step along the directions: ``total -= alpha O v``, ``R -= alpha (p + H'O v)``.

    ``squares`` (k,) receives ``sum R^2`` over the rows of the range.
    """
    k = P.shape[1]
    squares[:] = 0.0
    for i in range(first_row, last_row):
        for j in range(k):
            R[i, j] -= alpha[j] * P[i, j]
            total[i, j] -= alpha[j] * product[i, j]
        for b in range(width[i]):
            c = first[i] + b
            x = H[c, i - first[i]]
            for j in range(k):
                R[i, j] -= alpha[j] * x * product[c, j]
        for j in range(k):
            squares[j] += R[i, j] * R[i, j]


@numba.njit(**_FLAGS)  # type: ignore[untyped-decorator]
def turn(
    first: NDArray[np.int32],
    width: NDArray[np.int32],
    H: NDArray[Any],
    beta: NDArray[Any],
    R: NDArray[Any],
    P: NDArray[Any],
    V: NDArray[Any],
    first_row: int,
    last_row: int,
) -> None:
    """New directions ``P = R + beta P`` and ``V = H P`` over complete levels of a range."""
    k = P.shape[1]
    for i in range(first_row, last_row):
        for j in range(k):
            P[i, j] = R[i, j] + beta[j] * P[i, j]
    for i in range(first_row, last_row):
        for j in range(k):
            V[i, j] = 0.0
        for b in range(width[i]):
            x, c = H[i, b], first[i] + b
            for j in range(k):
                V[i, j] += x * P[c, j]
