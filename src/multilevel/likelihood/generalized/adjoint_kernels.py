"""Compiled kernels: the gradient of a cluster's approximation through ``H`` and through its modes.

Plain twin in ``adjoint_plain``. Shapes as in ``cluster_kernels``. Sources: the room's docstring
(implicit function theorem, own derivation); adjoint of the Cholesky factor: Murray 2016.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

from multilevel.likelihood.blocks.vectors import add_product, add_scaled, dot

KERNEL_VERSION = 2

Arr = NDArray[Any]
compiled = numba.njit(cache=True, error_model="numpy", nogil=True)


@compiled  # type: ignore[untyped-decorator]
def _hessian_adjoint(Linv: Arr, W: Arr, out: Arr, work: Arr) -> None:
    """Adjoint of ``H`` (q, q) given the adjoint ``W`` of ``L^-1`` and the term ``-log|L|``.

    ``H_bar = sym(L^-T Phi(Y) L^-1)``, ``Y = -W L^-T - I``, Phi: lower triangle, diagonal halved.
    """
    q = W.shape[0]
    Y, T = work[0], work[1]
    for a in range(q):
        for b in range(q):
            if a < b:
                Y[a, b] = 0.0
                continue
            s = -1.0 if a == b else 0.0
            for c in range(b + 1):
                s -= W[a, c] * Linv[b, c]
            Y[a, b] = 0.5 * s if a == b else s
    for a in range(q):
        for b in range(q):
            s = 0.0
            for c in range(a, q):
                s += Linv[c, a] * Y[c, b]
            T[a, b] = s
    for a in range(q):
        for b in range(q):
            s = 0.0
            for c in range(b, q):
                s += T[a, c] * Linv[c, b]
            Y[a, b] = s
    for a in range(q):
        for b in range(q):
            out[a, b] = 0.5 * (Y[a, b] + Y[b, a])


@compiled  # type: ignore[untyped-decorator]
def _through_hessian(
    third: Arr, Z: Arr, part: Arr, random: Arr, M: Arr, s0: int, m0: int, m1: int, rho: Arr,
    t: Arr, buffer: Arr,
) -> None:  # fmt: skip
    """``e_d = -sum_rr' l'''_rr'd z_r'Mz_r'`` added to ``rho`` (D, n); ``t = Z'e``."""
    q, R, D = Z.shape[0], random.shape[0], rho.shape[0]
    m = m1 - m0
    e = buffer[1:]
    e[:, :m] = 0.0
    leverage = buffer[0]
    for r in range(R):
        for r2 in range(r + 1):
            leverage[:m] = 0.0
            for c in range(q):
                for k in range(q):
                    if part[c] == r and part[k] == r2:
                        w = M[c, k]
                        z = Z[c, s0 + m0 : s0 + m1]
                        add_product(w, z, Z[k, s0 + m0 : s0 + m1], leverage[:m])
            factor = 1.0 if r == r2 else 2.0
            for d in range(D):
                add_product(-factor, leverage[:m], third[r, r2, d, m0:m1], e[d, :m])
    for d in range(D):
        add_scaled(1.0, e[d, :m], rho[d, s0 + m0 : s0 + m1])
    for c in range(q):
        d = random[part[c]]
        t[c] = dot(Z[c, s0 + m0 : s0 + m1], e[d, :m])


@compiled  # type: ignore[untyped-decorator]
def _through_mode(
    second: Arr, Z: Arr, part: Arr, random: Arr, bv: Arr, s0: int, m0: int, m1: int, rho: Arr,
    t: Arr, buffer: Arr,
) -> None:  # fmt: skip
    """``x_d = sum_r l''_rd (Z bv)_r`` added to ``rho`` (D, n); ``t += Z'x``."""
    q, R, D = Z.shape[0], random.shape[0], rho.shape[0]
    m = m1 - m0
    x = buffer[1:]
    x[:, :m] = 0.0
    shift = buffer[0]
    for r in range(R):
        shift[:m] = 0.0
        for c in range(q):
            if part[c] == r:
                add_scaled(bv[c], Z[c, s0 + m0 : s0 + m1], shift[:m])
        for d in range(D):
            add_product(1.0, shift[:m], second[r, d, m0:m1], x[d, :m])
    for d in range(D):
        add_scaled(1.0, x[d, :m], rho[d, s0 + m0 : s0 + m1])
    for c in range(q):
        d = random[part[c]]
        t[c] += dot(Z[c, s0 + m0 : s0 + m1], x[d, :m])


@compiled  # type: ignore[untyped-decorator]
def _sandwich(Lam: Arr, H: Arr, right: Arr, out: Arr) -> None:
    """``right = Lambda H`` and ``out = Lambda H Lambda'``."""
    q = H.shape[0]
    for a in range(q):
        for b in range(q):
            s = 0.0
            for c in range(q):
                s += Lam[a, c] * H[c, b]
            right[a, b] = s
    for a in range(q):
        for b in range(q):
            s = 0.0
            for c in range(q):
                s += right[a, c] * Lam[b, c]
            out[a, b] = s


@compiled  # type: ignore[untyped-decorator]
def _mode_adjoint(Lam: Arr, Linv: Arr, t: Arr, ubar: Arr, v: Arr, bv: Arr) -> None:
    """``v = H^-1 (ubar + Lambda't)`` and ``bv = Lambda v``."""
    q = t.shape[0]
    for a in range(q):
        s = ubar[a]
        for c in range(q):
            s += Lam[c, a] * t[c]
        bv[a] = s
    for a in range(q - 1, -1, -1):
        s = 0.0
        for c in range(a + 1):
            s += Linv[a, c] * bv[c]
        v[a] = s
    for a in range(q):
        s = 0.0
        for c in range(a, q):
            s += Linv[c, a] * v[c]
        bv[a] = s
    for a in range(q):
        v[a] = bv[a]
    for a in range(q):
        s = 0.0
        for c in range(q):
            s += Lam[a, c] * v[c]
        bv[a] = s


@compiled  # type: ignore[untyped-decorator]
def adjoint(
    second_m: Arr, third_m: Arr, Z: Arr, ptr: Arr, part: Arr, random: Arr, a: int, b: int,
    Lam: Arr, u: Arr, score: Arr, A: Arr, Linv: Arr, W: Arr, ubar: Arr, rho: Arr, LamBar: Arr,
    log_value: Arr,
) -> None:  # fmt: skip
    """Complete the gradient through ``H`` and through the modes.

    ``W`` (J, q, q) is the adjoint of ``L^-1`` and ``ubar`` (J, q) that of the modes from the
    nodes (both zero for Laplace). Adds to ``rho`` (D, n), the adjoint of ``eta``, and to
    ``LamBar`` (J, q, q), that of ``Lambda`` by cluster. ``log_value`` (J,) gains ``g'v``, its
    first-order change over what is left of the way to the mode (``g``: gradient of h there).
    """
    q, s0 = Z.shape[0], ptr[a]
    longest = 0
    for j in range(a, b):
        longest = max(longest, ptr[j + 1] - ptr[j])
    buffer = np.empty((rho.shape[0] + 1, longest))
    work = np.empty((2, q, q))
    H = np.empty((q, q))
    right = np.empty((q, q))
    M = np.empty((q, q))
    t, v, bv = np.empty(q), np.empty(q), np.empty(q)
    for j in range(a, b):
        m0, m1 = ptr[j] - s0, ptr[j + 1] - s0
        _hessian_adjoint(Linv[j], W[j], H, work)
        _sandwich(Lam, H, right, M)
        _through_hessian(third_m, Z, part, random, M, s0, m0, m1, rho, t, buffer)
        _mode_adjoint(Lam, Linv[j], t, ubar[j], v, bv)
        _through_mode(second_m, Z, part, random, bv, s0, m0, m1, rho, t, buffer)
        for k in range(q):
            g = -u[j, k]
            for c in range(q):
                g += Lam[c, k] * score[j, c]
            log_value[j] += g * v[k]
        for c in range(q):
            for k in range(q):
                s = score[j, c] * v[k] + t[c] * u[j, k]
                for e in range(q):
                    s += 2.0 * A[j, c, e] * right[e, k]
                LamBar[j, c, k] += s
