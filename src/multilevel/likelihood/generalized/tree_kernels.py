"""Compiled row kernels of models with two nested factors; the algebra is in ``arrow``.

Plain twins in ``tree_plain``. Units are the levels of the finer factor; their rows are
``ptr[j]..ptr[j + 1]``; Z (Q, n) holds the columns of both factors, finer first. Arrays by unit
hold the units ``a..b`` only, arrays by row that end in ``_m`` their rows only.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

KERNEL_VERSION = 1

Arr = NDArray[Any]
compiled = numba.njit(cache=True, error_model="numpy", nogil=True)


@compiled  # type: ignore[untyped-decorator]
def predict_at(
    fixed: Arr, Z: Arr, ptr: Arr, part: Arr, random: Arr, a: int, b: int, effects: Arr,
    eta_m: Arr,
) -> None:  # fmt: skip
    """``eta_m`` (D, N, m) of units ``a..b`` at ``effects`` (J', N, Q)."""
    s0 = ptr[a]
    for j in range(a, b):
        m0, m1 = ptr[j] - s0, ptr[j + 1] - s0
        for k in range(eta_m.shape[1]):
            for d in range(eta_m.shape[0]):
                for i in range(m0, m1):
                    eta_m[d, k, i] = fixed[d, s0 + i]
            for c in range(Z.shape[0]):
                effect = effects[j - a, k, c]
                d = random[part[c]]
                for i in range(m0, m1):
                    eta_m[d, k, i] += Z[c, s0 + i] * effect


@compiled  # type: ignore[untyped-decorator]
def gather_units(
    value_m: Arr, first_m: Arr, second_m: Arr, at: Arr, Z: Arr, ptr: Arr, part: Arr, a: int,
    b: int, total: Arr, score: Arr, A: Arr,
) -> None:  # fmt: skip
    """``sum l`` (J',), ``Z'l'`` (J', Q) and ``Z'WZ`` (J', Q, Q) of units ``a..b``."""
    s0 = ptr[a]
    for j in range(a, b):
        m0, m1 = ptr[j] - s0, ptr[j + 1] - s0
        s = 0.0
        for i in range(m0, m1):
            s += value_m[i]
        total[j - a] = s
        for c in range(Z.shape[0]):
            r = part[c]
            s = 0.0
            for i in range(m0, m1):
                s += Z[c, s0 + i] * first_m[at[r], i]
            score[j - a, c] = s
            for k in range(c + 1):
                e = at[part[k]]
                s = 0.0
                for i in range(m0, m1):
                    s -= Z[c, s0 + i] * Z[k, s0 + i] * second_m[r, e, i]
                A[j - a, c, k] = s
                A[j - a, k, c] = s


@compiled  # type: ignore[untyped-decorator]
def unit_sums(
    value_m: Arr, first_m: Arr, Z: Arr, ptr: Arr, part: Arr, random: Arr, a: int, b: int,
    total: Arr, zl: Arr,
) -> None:  # fmt: skip
    """``sum l`` (J', N) and ``Z'l'`` (J', N, Q) at N nodes."""
    s0 = ptr[a]
    for j in range(a, b):
        m0, m1 = ptr[j] - s0, ptr[j + 1] - s0
        for k in range(total.shape[1]):
            s = 0.0
            for i in range(m0, m1):
                s += value_m[k, i]
            total[j - a, k] = s
            for c in range(Z.shape[0]):
                d = random[part[c]]
                s = 0.0
                for i in range(m0, m1):
                    s += Z[c, s0 + i] * first_m[d, k, i]
                zl[j - a, k, c] = s


@compiled  # type: ignore[untyped-decorator]
def weight_rows(first_m: Arr, ptr: Arr, a: int, b: int, weights: Arr, rho: Arr) -> None:
    """``rho`` (D, n) becomes the sum over nodes of ``weights`` (J', N) times ``first_m``."""
    s0 = ptr[a]
    for j in range(a, b):
        m0, m1 = ptr[j] - s0, ptr[j + 1] - s0
        for d in range(rho.shape[0]):
            for i in range(m0, m1):
                rho[d, s0 + i] = 0.0
            for k in range(weights.shape[1]):
                w = weights[j - a, k]
                if w > 0.0:
                    for i in range(m0, m1):
                        rho[d, s0 + i] += w * first_m[d, k, i]


@compiled  # type: ignore[untyped-decorator]
def curvature_rows(
    third_m: Arr, Z: Arr, ptr: Arr, part: Arr, random: Arr, a: int, b: int, M: Arr, rho: Arr,
    t: Arr,
) -> None:  # fmt: skip
    """``e_d = -sum_rr' l'''_rr'd z_r'Mz_r'`` added to ``rho`` (D, n); ``t`` (J', Q) = ``Z'e``."""
    s0, Q = ptr[a], Z.shape[0]
    D = rho.shape[0]
    e = np.empty(D)
    for j in range(a, b):
        t[j - a] = 0.0
        for i in range(ptr[j], ptr[j + 1]):
            e[:] = 0.0
            for c in range(Q):
                for k in range(Q):
                    leverage = M[j - a, c, k] * Z[c, i] * Z[k, i]
                    for d in range(D):
                        e[d] -= leverage * third_m[part[c], part[k], d, i - s0]
            for d in range(D):
                rho[d, i] += e[d]
            for c in range(Q):
                t[j - a, c] += Z[c, i] * e[random[part[c]]]


@compiled  # type: ignore[untyped-decorator]
def mode_rows(
    second_m: Arr, Z: Arr, ptr: Arr, part: Arr, random: Arr, a: int, b: int, bv: Arr, rho: Arr,
    t: Arr,
) -> None:  # fmt: skip
    """``x_d = sum_r l''_rd (Z bv)_r`` added to ``rho``; ``t`` (J', Q) gains ``Z'x``."""
    s0, Q = ptr[a], Z.shape[0]
    D = rho.shape[0]
    x = np.empty(D)
    for j in range(a, b):
        for i in range(ptr[j], ptr[j + 1]):
            x[:] = 0.0
            for c in range(Q):
                shift = Z[c, i] * bv[j - a, c]
                for d in range(D):
                    x[d] += shift * second_m[part[c], d, i - s0]
            for d in range(D):
                rho[d, i] += x[d]
            for c in range(Q):
                t[j - a, c] += Z[c, i] * x[random[part[c]]]
