"""Plain twin of ``adjoint_kernels``, for small problems: NumPy only, nothing is compiled."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from multilevel.likelihood.generalized.cluster_plain import spread, sums

Array = NDArray[np.float64]
Index = NDArray[np.int64]


def random_sums(e: Array, Z: Array, ptr: Index, part: Index, random: Index,
                a: int, b: int) -> Array:  # fmt: skip
    """``Z'e`` (J', q) of row values ``e`` (D, m) of all parts."""
    return sums(Z[:, ptr[a] : ptr[b]] * e[random[part]], ptr, a, b).T


def hessian_adjoint(Linv: Array, W: Array) -> Array:
    """Adjoint of ``H`` (J', q, q)."""
    q = W.shape[1]
    Y = np.tril(-W @ Linv.transpose(0, 2, 1) - np.eye(q))
    Y[:, np.arange(q), np.arange(q)] *= 0.5
    out = Linv.transpose(0, 2, 1) @ Y @ Linv
    return np.asarray((out + out.transpose(0, 2, 1)) / 2.0)


def adjoint(
    second_m: Array, third_m: Array, Z: Array, ptr: Index, part: Index, random: Index,
    a: int, b: int, Lam: Array, u: Array, score: Array, A: Array, Linv: Array, W: Array,
    ubar: Array, rho: Array, LamBar: Array, log_value: Array,
) -> None:  # fmt: skip
    """Complete the gradient through ``H`` and through the modes."""
    here, rows = slice(a, b), slice(int(ptr[a]), int(ptr[b]))
    H = hessian_adjoint(Linv[here], W[here])
    right = Lam @ H
    M = right @ Lam.T
    e = np.zeros((rho.shape[0], rows.stop - rows.start))
    q = u.shape[1]
    for c in range(q):
        for k in range(q):
            leverage = spread(M[:, c, k], ptr, a, b) * Z[c, rows] * Z[k, rows]
            e -= leverage * third_m[part[c], part[k]]
    t = random_sums(e, Z, ptr, part, random, a, b)
    v = np.einsum("jba,jb->ja", Linv[here], np.einsum(
        "jab,jb->ja", Linv[here], ubar[here] + t @ Lam))  # fmt: skip
    shift = Z[:, rows] * spread((v @ Lam.T).T, ptr, a, b)
    x = np.zeros_like(e)
    for c in range(q):
        x += shift[c] * second_m[part[c]]
    t = t + random_sums(x, Z, ptr, part, random, a, b)
    rho[:, rows] += e + x
    log_value[here] += np.einsum("ja,ja->j", score[here] @ Lam - u[here], v)
    LamBar[here] += 2.0 * A[here] @ right
    LamBar[here] += score[here, :, None] * v[:, None, :] + t[:, :, None] * u[here, None, :]
