"""Plain twins of ``tree_kernels``, for small problems: NumPy only, nothing is compiled."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from multilevel.likelihood.generalized.adjoint_plain import random_sums
from multilevel.likelihood.generalized.cluster_plain import gather, spread, sums

Array = NDArray[np.float64]
Index = NDArray[np.int64]


def predict_at(
    fixed: Array, Z: Array, ptr: Index, part: Index, random: Index, a: int, b: int,
    effects: Array, eta_m: Array,
) -> None:  # fmt: skip
    """``eta_m`` (D, N, m) of units ``a..b`` at ``effects`` (J', N, Q)."""
    rows = slice(int(ptr[a]), int(ptr[b]))
    eta_m[:] = fixed[:, None, rows]
    for c, r in enumerate(part):
        eta_m[random[r]] += Z[c, rows] * spread(effects[:, :, c].T, ptr, a, b)


def gather_units(
    value_m: Array, first_m: Array, second_m: Array, at: Index, Z: Array, ptr: Index,
    part: Index, a: int, b: int, total: Array, score: Array, A: Array,
) -> None:  # fmt: skip
    """``sum l`` (J',), ``Z'l'`` (J', Q) and ``Z'WZ`` (J', Q, Q) of units ``a..b``."""
    total[:], score[:], A[:] = gather(value_m, first_m, second_m, at, Z, ptr, part, a, b)


def unit_sums(
    value_m: Array, first_m: Array, Z: Array, ptr: Index, part: Index, random: Index, a: int,
    b: int, total: Array, zl: Array,
) -> None:  # fmt: skip
    """``sum l`` (J', N) and ``Z'l'`` (J', N, Q) at N nodes."""
    rows = slice(int(ptr[a]), int(ptr[b]))
    total[:] = sums(value_m, ptr, a, b).T
    for c, r in enumerate(part):
        with np.errstate(invalid="ignore"):
            zl[:, :, c] = sums(Z[c, rows] * first_m[random[r]], ptr, a, b).T


def weight_rows(first_m: Array, ptr: Index, a: int, b: int, weights: Array, rho: Array) -> None:
    """``rho`` (D, n) becomes the sum over nodes of ``weights`` (J', N) times ``first_m``."""
    by_row = spread(weights.T, ptr, a, b)
    used = np.where(by_row > 0.0, first_m, 0.0)
    rho[:, ptr[a] : ptr[b]] = np.einsum("nm,dnm->dm", by_row, used)


def curvature_rows(
    third_m: Array, Z: Array, ptr: Index, part: Index, random: Index, a: int, b: int, M: Array,
    rho: Array, t: Array,
) -> None:  # fmt: skip
    """``e_d = -sum_rr' l'''_rr'd z_r'Mz_r'`` added to ``rho`` (D, n); ``t`` (J', Q) = ``Z'e``."""
    rows = slice(int(ptr[a]), int(ptr[b]))
    e = np.zeros((rho.shape[0], rows.stop - rows.start))
    for c in range(Z.shape[0]):
        for k in range(Z.shape[0]):
            leverage = spread(M[:, c, k], ptr, a, b) * Z[c, rows] * Z[k, rows]
            e -= leverage * third_m[part[c], part[k]]
    rho[:, rows] += e
    t[:] = random_sums(e, Z, ptr, part, random, a, b)


def mode_rows(
    second_m: Array, Z: Array, ptr: Index, part: Index, random: Index, a: int, b: int,
    bv: Array, rho: Array, t: Array,
) -> None:  # fmt: skip
    """``x_d = sum_r l''_rd (Z bv)_r`` added to ``rho``; ``t`` (J', Q) gains ``Z'x``."""
    rows = slice(int(ptr[a]), int(ptr[b]))
    shift = Z[:, rows] * spread(bv.T, ptr, a, b)
    x = np.zeros((rho.shape[0], rows.stop - rows.start))
    for c in range(Z.shape[0]):
        x += shift[c] * second_m[part[c]]
    rho[:, rows] += x
    t[:] = t + random_sums(x, Z, ptr, part, random, a, b)
