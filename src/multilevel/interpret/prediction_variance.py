r"""Variance of the error of a predicted mean, random effects and fixed effects both estimated.

With ``m = x'beta + z'b`` predicted by ``x'beta^ + z'b^``, and ``c = Z Psi z`` the relative
covariance of the data with ``z'b``,

    Var(m^ - m) = sigma2 [ z'Psi z  -  c'V^-1 c  +  (x - X'V^-1 c)' Txx^-1 (x - X'V^-1 c) ].

``c'V^-1 c`` and ``X'V^-1 c`` are ``w'K w`` and ``H_X' w`` with ``w = Psi z`` on the levels that
occur in the data, ``K = Z'V^-1 Z`` and ``H = Z'V^-1 W``: the products every engine offers. A
level that is not in the data has ``w = 0`` but keeps its share of ``z'Psi z``.

Theta and sigma2 are taken as known. Source: Henderson 1975 (Biometrics 31:423), eq. 4;
Harville 1976 (Annals of Statistics 4:384).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from multilevel.likelihood.gaussian.engine import GaussianEngine

Array = NDArray[np.float64]

#: Columns of ``K`` solved for at once; bounds the memory at (all random effects) x this.
COLUMNS_AT_ONCE = 64
#: Rows handled at once in the row-wise products.
ROWS_AT_ONCE = 1 << 15


@dataclass(frozen=True)
class PredictionRows:
    """Rows to predict, in the coordinates of the engine.

    Attributes
    ----------
    X : (n, p).
    codes : per block (n,), -1 for a level that is not in the data.
    columns : per block (n, q_t).
    """

    X: Array
    codes: tuple[NDArray[np.int32], ...]
    columns: tuple[Array, ...]


def relative_variance(engine: GaussianEngine, psis: Sequence[Array], rows: PredictionRows) -> Array:
    """``Var(m^ - m) / sigma2`` for each row: (n,).

    Parameters
    ----------
    engine : factorised at the estimates; its columns and those of ``rows`` have the same scale.
    psis : per block (q_t, q_t) relative covariance ``Psi_t``.
    rows : what to predict.

    Notes
    -----
    Several blocks cost one solve for each distinct level of all blocks but the finest.
    """
    n, p = rows.X.shape
    weights = [
        np.where(codes[:, None] >= 0, Z @ psi, 0.0)
        for codes, Z, psi in zip(rows.codes, rows.columns, psis, strict=True)
    ]
    total = np.zeros(n)
    gap = rows.X.copy()
    n_levels = []
    for t, (psi, w) in enumerate(zip(psis, weights, strict=True)):
        Z, codes = rows.columns[t], rows.codes[t]
        total += np.einsum("ia,ab,ib->i", Z, psi, Z, optimize=True)
        H = engine.cross(t)[:, :, :p]
        n_levels.append(len(H))
        own = engine.information_blocks(t) if engine.exact else None
        for start in range(0, n, ROWS_AT_ONCE):
            part = slice(start, start + ROWS_AT_ONCE)
            gap[part] -= np.einsum("ia,iap->ip", w[part], H[codes[part]])
            if own is not None:
                total[part] -= np.einsum("ia,iab,ib->i", w[part], own[codes[part]], w[part])
    _subtract_cross_levels(engine, weights, rows.codes, n_levels, total)
    if p:
        root = np.linalg.cholesky(engine.T[:p, :p])
        total += np.sum(np.linalg.solve(root, gap.T) ** 2, axis=0)
    # rounding can leave a tiny negative number where the mean is known exactly
    return np.maximum(total, 0.0)


def _subtract_cross_levels(
    engine: GaussianEngine,
    weights: Sequence[Array],
    codes: Sequence[NDArray[np.int32]],
    n_levels: Sequence[int],
    total: Array,
) -> None:
    """Subtract ``2 w_t'K_ts w_s`` over t < s, from columns of K; ``w_t'K_tt w_t`` if inexact."""
    first = 1 if engine.exact else 0
    for s in range(first, len(weights)):
        q = weights[s].shape[1]
        step = max(1, COLUMNS_AT_ONCE // q)
        wanted = np.unique(codes[s][codes[s] >= 0])
        for start in range(0, len(wanted), step):
            levels = wanted[start : start + step]
            products = _columns_of_information(engine, weights, n_levels, s, levels)
            here = np.flatnonzero(np.isin(codes[s], levels))
            position = np.searchsorted(levels, codes[s][here])
            for t in range(s + 1 if not engine.exact else s):
                K = products[t].reshape(*products[t].shape[:2], len(levels), q)
                K_rows = K[codes[t][here], :, position, :]
                part = np.einsum("ia,iab,ib->i", weights[t][here], K_rows, weights[s][here])
                total[here] -= part if t == s else 2.0 * part


def _columns_of_information(
    engine: GaussianEngine,
    weights: Sequence[Array],
    n_levels: Sequence[int],
    block: int,
    levels: NDArray[np.int32],
) -> list[Array]:
    """Columns of ``K`` that belong to ``levels`` of ``block``: per block (J_t, q_t, levels * q)."""
    k, q = len(levels), weights[block].shape[1]
    units = []
    for t, w in enumerate(weights):
        C = np.zeros((n_levels[t], w.shape[1], k * q))
        if t == block:
            for a in range(q):
                C[levels, a, np.arange(k) * q + a] = 1.0
        units.append(C)
    return engine.information_product(units)
