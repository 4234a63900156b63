"""Plain twins of ``quadrature_kernels``, for small problems: NumPy only, nothing is compiled."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from multilevel.likelihood.generalized.cluster_plain import spread, sums

Array = NDArray[np.float64]
Index = NDArray[np.int64]


def _nodes(u: Array, Linv: Array, T: Array) -> Array:
    """``u_k`` (J', N, q)."""
    return np.asarray(u[:, None, :] + T @ Linv)


def predict_nodes(
    fixed: Array, Z: Array, ptr: Index, part: Index, random: Index, a: int, b: int, Lam: Array,
    u: Array, Linv: Array, T: Array, eta_m: Array,
) -> None:  # fmt: skip
    """``eta_m`` (D, N, m) of clusters ``a..b`` at their nodes."""
    rows = slice(int(ptr[a]), int(ptr[b]))
    effects = (_nodes(u[a:b], Linv[a:b], T) @ Lam.T).transpose(2, 1, 0)
    eta_m[:] = fixed[:, None, rows]
    for c, r in enumerate(part):
        eta_m[random[r]] += Z[c, rows] * spread(effects[c], ptr, a, b)


def sum_nodes(
    value_m: Array, first_m: Array, Z: Array, ptr: Index, part: Index, random: Index, a: int,
    b: int, Lam: Array, u: Array, L: Array, Linv: Array, T: Array, log_w: Array,
    log_value: Array, rho: Array, LamBar: Array, W: Array, ubar: Array, mean: Array,
    moment: Array,
) -> None:  # fmt: skip
    """Integrate clusters ``a..b`` and collect the adjoints at fixed nodes."""
    here, rows = slice(a, b), slice(int(ptr[a]), int(ptr[b]))
    U = _nodes(u[here], Linv[here], T)
    s = sums(value_m, ptr, a, b).T + log_w - 0.5 * np.einsum("jnq,jnq->jn", U, U)
    top = s.max(axis=1)
    pi = np.exp(s - np.where(np.isfinite(top), top, 0.0)[:, None])
    total = pi.sum(axis=1)
    log_value[here] = top + np.log(total) - np.log(np.einsum("jaa->ja", L[here])).sum(axis=1)
    pi /= np.where(total > 0.0, total, 1.0)[:, None]
    weights = spread(pi.T, ptr, a, b)
    first = np.where(weights > 0.0, first_m, 0.0)
    rho[:, rows] = np.einsum("nm,dnm->dm", weights, first)
    zl = np.stack([sums(Z[c, rows] * first[random[r]], ptr, a, b).T for c, r in enumerate(part)])
    zl = zl.transpose(1, 2, 0)
    pull = zl @ Lam - U
    weighted = pi[:, :, None] * U
    LamBar[here] = zl.transpose(0, 2, 1) @ weighted
    ubar[here] = np.einsum("jn,jnq->jq", pi, pull)
    W[here] = T.T @ (pi[:, :, None] * pull)
    mean[here] = weighted.sum(axis=1)
    centred = U - u[here, None, :]
    moment[here] = (pi[:, :, None] * centred).transpose(0, 2, 1) @ centred
