"""The small engine: every random effect in one dense matrix, NumPy only.

Serves small designs of any kind (a few hundred random effects), where compiling would cost more
than it saves, and is the plain twin of the direct engines for crossed factors.

``M = I + L'AL`` over all levels; ``N = L M^-1 L'``; ``G = A - ANA``; ``H = S - ANS``.
Source: Bates et al. 2015, JSS 67:1, section 3 (dense here).
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from multilevel.errors import LikelihoodError
from multilevel.likelihood.blocks.cross_products import CrossProducts

Array = NDArray[np.float64]


def dense_gram(cross: CrossProducts) -> tuple[Array, Array]:
    """``Z'Z`` (Q, Q) and ``Z'W`` (Q, m) over all blocks; element ``(t, g, a)`` in that order."""
    starts = np.concatenate([[0], np.cumsum([J * q for J, q in cross.sizes])])
    Q = int(starts[-1])
    A = np.zeros((Q, Q))
    for t, (J, q) in enumerate(cross.sizes):
        at = starts[t] + np.arange(J)[:, None] * q + np.arange(q)
        A[at[:, :, None], at[:, None, :]] = cross.own[t]
        for s in range(t + 1, cross.n_blocks):
            pair, qs = cross.pairs[t, s], cross.sizes[s][1]
            rows = np.repeat(np.arange(J), np.diff(pair.indptr))
            i = at[rows]
            j = starts[s] + pair.indices[:, None] * qs + np.arange(qs)
            A[i[:, :, None], j[:, None, :]] = pair.values
            A[j[:, :, None], i[:, None, :]] = pair.values.transpose(0, 2, 1)
    S = np.concatenate([r.reshape(-1, cross.n_columns) for r in cross.rhs])
    return A, S


class SmallEngine:
    """Dense NumPy engine for any design (``GaussianEngine``); cost ``O(Q^3)``."""

    name = "small"
    exact = True

    def __init__(self, cross: CrossProducts) -> None:
        self.cross_products = cross
        self.A, self.S = dense_gram(cross)
        starts = np.concatenate([[0], np.cumsum([J * q for J, q in cross.sizes])])
        self._slices = [slice(int(a), int(b)) for a, b in pairwise(starts)]
        self.n_evaluations = 0
        self.T: Array = cross.total
        self.logdet = 0.0
        self._G: Array | None = None
        self._H: Array | None = None

    def _times_factor(self, X: Array, factors: Sequence[Array]) -> Array:
        """``X L`` with L block-diagonal over all levels."""
        out = np.empty_like(X)
        for where, (J, q), L in zip(self._slices, self.cross_products.sizes, factors, strict=True):
            out[:, where] = (X[:, where].reshape(-1, J, q) @ L).reshape(X.shape[0], -1)
        return out

    def factorise(self, factors: Sequence[Array]) -> None:
        """Set the relative factors and factorise M."""
        AL = self._times_factor(self.A, factors)
        M = self._times_factor(np.ascontiguousarray(AL.T), factors)
        M.flat[:: M.shape[0] + 1] += 1.0
        try:
            C = np.linalg.cholesky(M)
        except np.linalg.LinAlgError as error:
            raise LikelihoodError(
                "I + L'Z'ZL must be positive definite.",
                "a factorisation that broke down",
                "rescale the predictors with random slopes",
            ) from error
        LS = self._times_factor(np.ascontiguousarray(self.S.T), factors).T
        B = np.linalg.solve(C, LS)
        D = np.linalg.solve(C, AL.T)
        self.T = self.cross_products.total - B.T @ B
        self.logdet = float(2.0 * np.log(np.diag(C)).sum())
        self._G = self.A - D.T @ D
        self._H = self.S - D.T @ B
        self.n_evaluations += 1

    def _ready(self) -> tuple[Array, Array]:
        if self._G is None or self._H is None:
            raise LikelihoodError(
                "The engine must be factorised before its products are read.",
                "no factorisation",
                "call factorise(factors) first",
            )
        return self._G, self._H

    def cross(self, block: int) -> Array:
        """``Z_t'V^-1 W`` by level: (J_t, q_t, m)."""
        J, q = self.cross_products.sizes[block]
        return self._ready()[1][self._slices[block]].reshape(J, q, -1)

    def information_blocks(self, block: int) -> Array:
        """``(Z_t'V^-1 Z_t)_gg`` by level: (J_t, q_t, q_t)."""
        J, q = self.cross_products.sizes[block]
        where = self._slices[block]
        full = self._ready()[0][where, where].reshape(J, q, J, q)
        return full[np.arange(J), :, np.arange(J), :]

    def information_sum(self, block: int) -> Array:
        """``sum_g (Z_t'V^-1 Z_t)_gg``: (q_t, q_t)."""
        return np.asarray(self.information_blocks(block).sum(axis=0))

    def information_product(self, coefficients: Sequence[Array]) -> list[Array]:
        """``Z'V^-1 Z C`` by block; ``C_t`` is (J_t, q_t, k)."""
        stacked = np.concatenate([c.reshape(-1, c.shape[-1]) for c in coefficients])
        product = self._ready()[0] @ stacked
        return [
            product[where].reshape(c.shape)
            for where, c in zip(self._slices, coefficients, strict=True)
        ]
