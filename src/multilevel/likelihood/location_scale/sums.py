"""Sums over the rows of each cluster that the conditional likelihood needs, and back again."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Index = NDArray[np.int64]


@dataclass(frozen=True)
class RowSums:
    """Sums by cluster at one set of fixed effects (see the package).

    Attributes
    ----------
    n : (J,) rows, counted by frequency weights.
    log_variance : (J,) sums of the log residual variances without the scale effect.
    e : (J,) ; g : (J, q) ; A : (J, q, q).
    p : (n,) inverse residual variances, times frequency weights; ``r`` (n,) residuals.
    """

    n: Array
    log_variance: Array
    e: Array
    g: Array
    A: Array
    p: Array
    r: Array


def sum_rows(
    r: Array, log_variance: Array, Z: Array, starts: Index, frequency: Array | None
) -> RowSums:
    """Sum residuals ``r`` (n,), log variances (n,) and columns ``Z`` (q, n) over runs of rows."""
    f = np.ones_like(r) if frequency is None else frequency
    p = f * np.exp(-log_variance)
    q, J = len(Z), len(starts)
    g, A = np.empty((J, q)), np.empty((J, q, q))
    for a in range(q):
        pz = p * Z[a]
        g[:, a] = np.add.reduceat(pz * r, starts)
        for b in range(a + 1):
            A[:, a, b] = A[:, b, a] = np.add.reduceat(pz * Z[b], starts)
    return RowSums(
        np.add.reduceat(f, starts),
        np.add.reduceat(f * log_variance, starts),
        np.add.reduceat(p * r * r, starts),
        g, A, p, r,
    )  # fmt: skip


def row_adjoints(
    sums: RowSums,
    Z: Array,
    cluster: Index,
    e_bar: Array,
    g_bar: Array,
    A_bar: Array,
    frequency: Array | None,
) -> Array:
    """``d log L / d eta`` (2, n) from the adjoints of ``e`` (J,), ``g`` (J, q), ``A`` (J, q, q).

    ``cluster`` (n,) is each row's cluster.
    """
    p, r = sums.p, sums.r
    q = len(Z)
    gz, zAz = np.zeros_like(r), np.zeros_like(r)
    for a in range(q):
        gz += g_bar[cluster, a] * Z[a]
        zAz += A_bar[cluster, a, a] * Z[a] ** 2
        for b in range(a):
            zAz += 2.0 * A_bar[cluster, a, b] * Z[a] * Z[b]
    er = e_bar[cluster] * r
    half = 0.5 if frequency is None else 0.5 * frequency
    return np.stack([-p * (2.0 * er + gz), -p * (er * r + gz * r + zAz) - half])
