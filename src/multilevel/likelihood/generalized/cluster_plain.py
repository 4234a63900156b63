"""Plain twins of ``cluster_kernels``, for small problems: NumPy only, nothing is compiled.

Same names, arguments and results; see there for shapes and sources.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Index = NDArray[np.int64]

START, MOVED, NEAR, FAILED = 0, 1, 2, 3
NEAR_DECREMENT = 1e-8
FINAL_DECREMENT = 1e-14
LEAST_SCALE = 1e-12


def spread(values: Array, ptr: Index, a: int, b: int) -> Array:
    """Values by cluster on the last axis, repeated for the rows of clusters ``a..b``."""
    return np.repeat(values, np.diff(ptr[a : b + 1]), axis=-1)


def sums(values: Array, ptr: Index, a: int, b: int) -> Array:
    """Sums over the rows (last axis) of each of the clusters ``a..b``."""
    out: Array = np.add.reduceat(values, ptr[a:b] - ptr[a], axis=-1)
    return out


def gather(
    value: Array, first: Array, second: Array, at: Index, Z: Array, ptr: Index, part: Index,
    a: int, b: int,
) -> tuple[Array, Array, Array]:  # fmt: skip
    """``sum l`` (J',), ``Z'l'`` (J', q) and ``Z'WZ`` (J', q, q)."""
    rows = Z[:, ptr[a] : ptr[b]]
    q = rows.shape[0]
    A = np.empty((b - a, q, q))
    for c in range(q):
        for k in range(c + 1):
            products = rows[c] * rows[k] * second[part[c], at[part[k]]]
            A[:, c, k] = -sums(products, ptr, a, b)
            A[:, k, c] = A[:, c, k]
    return sums(value, ptr, a, b), sums(rows * first[at[part]], ptr, a, b).T, A


def predict(
    fixed: Array, Z: Array, ptr: Index, part: Index, random: Index, a: int, b: int, Lam: Array,
    u: Array, eta_m: Array,
) -> None:  # fmt: skip
    """``eta_m`` (D, m) at ``u`` (J, q)."""
    rows = slice(int(ptr[a]), int(ptr[b]))
    eta_m[:] = fixed[:, rows]
    products = Z[:, rows] * spread((u[a:b] @ Lam.T).T, ptr, a, b)
    for c, r in enumerate(part):
        eta_m[random[r]] += products[c]


def shifted_factors(H: Array) -> tuple[Array, NDArray[np.bool_]]:
    """Cholesky factors (J', q, q), shifted where needed, and which were shifted."""
    shifted = np.zeros(len(H), dtype=bool)
    try:
        return np.asarray(np.linalg.cholesky(H)), shifted
    except np.linalg.LinAlgError:
        lowest = np.linalg.eigvalsh(H)[:, 0]
        size = np.maximum(1.0, np.abs(np.einsum("jaa->ja", H)).max(axis=1))
        shifted = np.asarray(lowest <= 1e-14 * size)
        shift = np.where(shifted, 1e-3 * size - np.minimum(lowest, 0.0), 0.0)
        return np.asarray(
            np.linalg.cholesky(H + shift[:, None, None] * np.eye(H.shape[1]))
        ), shifted


def advance(
    value_m: Array, first_m: Array, second_m: Array, fixed: Array, Z: Array, ptr: Index,
    part: Index, random: Index, a: int, b: int, Lam: Array, u: Array, base: Array, step: Array,
    record: Array, status: NDArray[np.int64], eta_m: Array,
) -> int:  # fmt: skip
    """One Newton step for every cluster of ``a..b`` that still moves."""
    here = slice(a, b)
    at = np.arange(len(random))
    h, score, A = gather(value_m, first_m, second_m, at, Z, ptr, part, a, b)
    h = h - 0.5 * np.einsum("jq,jq->j", u[here], u[here])
    active, moved = status[here] != NEAR, status[here] == MOVED
    base_h = record[here, 0]
    slack = 1e-11 * (1.0 + np.abs(base_h))
    fine = (h < np.inf) & np.where(moved, h >= base_h - slack, h > -np.inf)
    failed = active & ~fine & ~moved & ~u[here].any(axis=1)
    for j in np.flatnonzero(active & ~fine & moved) + a:
        record[j, 1] *= 0.5
        u[j] = base[j] + record[j, 1] * step[j]
        failed[j - a] = record[j, 1] < LEAST_SCALE
    for j in np.flatnonzero(active & ~fine & ~moved) + a:
        u[j] = 0.0
    go = np.flatnonzero(active & fine)
    finite = np.isfinite(A[go]).all(axis=(1, 2)) & np.isfinite(score[go]).all(axis=1)
    failed[go[~finite]] = True
    go = go[finite]
    if go.size:
        L, shifted = shifted_factors(np.eye(u.shape[1]) + Lam.T @ A[go] @ Lam)
        g = score[go] @ Lam - u[go + a]
        half = np.linalg.solve(L, g[:, :, None])
        direction = np.linalg.solve(L.transpose(0, 2, 1), half)[:, :, 0]
        decrement = np.einsum("jqk,jqk->j", half, half)
        failed[go] |= shifted & (decrement < FINAL_DECREMENT)
        record[go + a, 0], record[go + a, 1] = h[go], 1.0
        base[go + a] = u[go + a]
        step[go + a] = direction
        u[go + a] += direction
        near = (decrement < NEAR_DECREMENT) & ~shifted
        status[go + a] = np.where(near, NEAR, MOVED)
    if failed.any():
        return -1 - a - int(np.flatnonzero(failed)[0])
    predict(fixed, Z, ptr, part, random, a, b, Lam, u, eta_m)
    return int((status[here] != NEAR).sum())


def settle(
    value_m: Array, first_m: Array, second_m: Array, Z: Array, ptr: Index, part: Index,
    random: Index, a: int, b: int, Lam: Array, u: Array, status: NDArray[np.int64], h: Array,
    score: Array, A: Array, L: Array, Linv: Array,
) -> int:  # fmt: skip
    """Fill ``h``, ``score``, ``A``, ``L``, ``Linv`` at the modes; count those that are none."""
    here = slice(a, b)
    total, score[here], A[here] = gather(
        value_m, first_m, second_m, random, Z, ptr, part, a, b
    )  # fmt: skip
    h[here] = total - 0.5 * np.einsum("jq,jq->j", u[here], u[here])
    H = np.eye(u.shape[1]) + Lam.T @ A[here] @ Lam
    usable = np.isfinite(H).all(axis=(1, 2)) & np.isfinite(h[here])
    H[~usable] = -np.eye(u.shape[1])
    L[here], shifted = shifted_factors(H)
    Linv[here] = np.linalg.inv(L[here])
    g = score[here] @ Lam - u[here]
    half = np.einsum("jab,jb->ja", Linv[here], np.where(usable[:, None], g, 0.0))
    good = ~shifted & (np.einsum("ja,ja->j", half, half) < FINAL_DECREMENT)
    status[here] = np.where(good, status[here], START)
    return int((~good).sum())
