"""Compiled kernels of adaptive Gauss-Hermite quadrature by cluster.

Plain twins in ``quadrature_plain``. Shapes as in ``cluster_kernels``; T (N, q) nodes, log_w (N,).
Sources: Liu & Pierce 1994; Pinheiro & Bates 1995; gradient: own derivation, the room's docstring.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

from multilevel.likelihood.blocks.vectors import (
    add_scaled,
    add_scaled_dot,
    copy_to,
    dot,
    set_line,
    total,
)

KERNEL_VERSION = 2

Arr = NDArray[Any]
compiled = numba.njit(cache=True, error_model="numpy", nogil=True)


@compiled  # type: ignore[untyped-decorator]
def first_columns(part: Arr, random: Arr, n_parts: int) -> Arr:
    """The first column of each part (D,), -1 where a part has none."""
    lead = np.full(n_parts, -1)
    for c in range(part.shape[0] - 1, -1, -1):
        lead[random[part[c]]] = c
    return lead


@compiled  # type: ignore[untyped-decorator]
def _nodes_of_cluster(u: Arr, Linv: Arr, T: Arr, U: Arr) -> None:
    """``u_k = u + L^-T t_k`` (N, q)."""
    q = u.shape[0]
    for k in range(T.shape[0]):
        for a in range(q):
            s = u[a]
            for c in range(a, q):
                s += Linv[c, a] * T[k, c]
            U[k, a] = s


@compiled  # type: ignore[untyped-decorator]
def predict_nodes(
    fixed: Arr, Z: Arr, ptr: Arr, part: Arr, random: Arr, a: int, b: int, Lam: Arr, u: Arr,
    Linv: Arr, T: Arr, eta_m: Arr,
) -> None:  # fmt: skip
    """``eta_m`` (D, N, m) of clusters ``a..b`` at their nodes."""
    D, N = eta_m.shape[0], T.shape[0]
    q, s0 = Z.shape[0], ptr[a]
    U = np.empty((N, q))
    lead = first_columns(part, random, D)
    for j in range(a, b):
        _nodes_of_cluster(u[j], Linv[j], T, U)
        m0, m1 = ptr[j] - s0, ptr[j + 1] - s0
        for k in range(N):
            for d in range(D):
                if lead[d] < 0:
                    copy_to(fixed[d, s0 + m0 : s0 + m1], eta_m[d, k, m0:m1])
            for c in range(q):
                effect = 0.0
                for e in range(q):
                    effect += Lam[c, e] * U[k, e]
                d = random[part[c]]
                z = Z[c, s0 + m0 : s0 + m1]
                if lead[d] == c:
                    set_line(fixed[d, s0 + m0 : s0 + m1], effect, z, eta_m[d, k, m0:m1])
                else:
                    add_scaled(effect, z, eta_m[d, k, m0:m1])


@compiled  # type: ignore[untyped-decorator]
def _posterior_weights(value: Arr, log_w: Arr, U: Arr, m0: int, m1: int, pi: Arr) -> float:
    """Posterior weights of the nodes into ``pi`` (N,); returns the log of their sum."""
    N, q = U.shape
    top = -np.inf
    for k in range(N):
        s = log_w[k]
        for a in range(q):
            s -= 0.5 * U[k, a] * U[k, a]
        s += total(value[k, m0:m1])
        pi[k] = s
        if s > top:
            top = s
    if not top > -np.inf:
        return -np.inf
    mass = 0.0
    for k in range(N):
        pi[k] = np.exp(pi[k] - top)
        mass += pi[k]
    for k in range(N):
        pi[k] /= mass
    return float(top + np.log(mass))


@compiled  # type: ignore[untyped-decorator]
def sum_nodes(
    value_m: Arr, first_m: Arr, Z: Arr, ptr: Arr, part: Arr, random: Arr, a: int, b: int,
    Lam: Arr, u: Arr, L: Arr, Linv: Arr, T: Arr, log_w: Arr, log_value: Arr, rho: Arr,
    LamBar: Arr, W: Arr, ubar: Arr, mean: Arr, moment: Arr,
) -> None:  # fmt: skip
    """Integrate clusters ``a..b`` and collect the adjoints at fixed nodes.

    ``value_m`` (N, m), ``first_m`` (D, N, m) at ``predict_nodes``. Sets ``log_value`` (J,),
    ``rho`` (D, n), ``LamBar`` and ``W`` (J, q, q), ``ubar`` (J, q), and the posterior moments of
    ``u``: ``mean`` (J, q) and ``moment`` (J, q, q) (second moment about the mode).
    """
    D, N = first_m.shape[0], T.shape[0]
    q, s0 = Z.shape[0], ptr[a]
    U = np.empty((N, q))
    pi = np.empty(N)
    zl = np.empty(q)
    lead = first_columns(part, random, D)
    for j in range(a, b):
        m0, m1 = ptr[j] - s0, ptr[j + 1] - s0
        _nodes_of_cluster(u[j], Linv[j], T, U)
        log_value[j] = _posterior_weights(value_m, log_w, U, m0, m1, pi)
        for c in range(q):
            log_value[j] -= np.log(L[j, c, c])
        LamBar[j] = 0.0
        W[j] = 0.0
        ubar[j] = 0.0
        mean[j] = 0.0
        moment[j] = 0.0
        for d in range(D):
            for i in range(m0, m1):
                rho[d, s0 + i] = 0.0
        if not log_value[j] > -np.inf:
            continue
        for k in range(N):
            w = pi[k]
            if w == 0.0:
                continue
            for d in range(D):
                if lead[d] < 0:
                    add_scaled(w, first_m[d, k, m0:m1], rho[d, s0 + m0 : s0 + m1])
            for c in range(q):
                d = random[part[c]]
                x, z = first_m[d, k, m0:m1], Z[c, s0 + m0 : s0 + m1]
                if lead[d] == c:
                    zl[c] = add_scaled_dot(w, x, z, rho[d, s0 + m0 : s0 + m1])
                else:
                    zl[c] = dot(z, x)
            for e in range(q):
                pull = -U[k, e]
                for c in range(q):
                    pull += Lam[c, e] * zl[c]
                    LamBar[j, c, e] += w * zl[c] * U[k, e]
                ubar[j, e] += w * pull
                mean[j, e] += w * U[k, e]
                for c in range(q):
                    W[j, c, e] += w * T[k, c] * pull
                    moment[j, c, e] += w * (U[k, c] - u[j, c]) * (U[k, e] - u[j, e])
