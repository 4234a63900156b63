"""The engine of one grouping factor with many columns whose levels look alike.

Levels with the same ``Z'Z`` (the same occasions, the same weights) share ``N = L (I + L'AL)^-1 L'``
and ``G = A - ANA``: a factorisation costs by pattern, products with it are one matrix product per
pattern. Only exactly equal matrices are put together. Plain twin: ``nested``. Source: as there; own
layout.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from multilevel.errors import LikelihoodError
from multilevel.likelihood.blocks.cross_products import CrossProducts
from multilevel.likelihood.gaussian.engine import GaussianEngine

Array = NDArray[np.float64]
WIDE = 8  # columns from which sharing factorisations pays
MOST = 2  # levels per pattern, on average, from which it does


def shared_patterns(cross: CrossProducts) -> NDArray[np.int64] | None:
    """Pattern of each level, or None where levels differ too much or columns are few."""
    if cross.n_blocks != 1 or cross.sizes[0][1] < WIDE:
        return None
    known: dict[bytes, int] = {}
    own, out = cross.own[0], np.empty(cross.sizes[0][0], dtype=np.int64)
    for j, matrix in enumerate(own):
        out[j] = known.setdefault(matrix.tobytes(), len(known))
        if MOST * len(known) > len(out):
            return None
    return out


class SharedEngine(GaussianEngine):
    """Engine for one factor whose levels share patterns (``GaussianEngine``).

    Parameters
    ----------
    pattern : (J,) from ``shared_patterns``.
    """

    name = "nested, shared patterns"
    exact = True

    def __init__(self, cross: CrossProducts, pattern: NDArray[np.int64]) -> None:
        self.cross_products, self.pattern = cross, pattern
        self.J, self.q = cross.sizes[0]
        order = np.argsort(pattern, kind="stable")
        counts = np.bincount(pattern)
        self.counts = counts.astype(np.float64)
        self._members = np.split(order, np.cumsum(counts)[:-1])
        self._A = cross.own[0][[rows[0] for rows in self._members]]
        self._R = [self._flat(cross.rhs[0][rows]) for rows in self._members]
        self.n_evaluations = 0
        self.T: Array = cross.total
        self.logdet = 0.0
        self._N: Array | None = None
        self._G: Array | None = None

    def _flat(self, values: Array) -> Array:
        """(N, q, k) as (q, N k)."""
        return np.ascontiguousarray(values.transpose(1, 0, 2)).reshape(self.q, -1)

    def _times(self, matrices: Array, values: Sequence[Array], k: int) -> Array:
        """Matrices by pattern times flat values by pattern: (J, q, k)."""
        out = np.empty((self.J, self.q, k))
        for rows, M, V in zip(self._members, matrices, values, strict=True):
            out[rows] = (M @ V).reshape(self.q, -1, k).transpose(1, 0, 2)
        return out

    def factorise(self, factors: Sequence[Array]) -> None:
        """Set the relative factor (q, q) and eliminate, pattern by pattern."""
        L, self._G = np.asarray(factors[0], dtype=np.float64), None
        root = np.linalg.cholesky(np.eye(self.q) + L.T @ self._A @ L)
        X = np.linalg.solve(root, np.broadcast_to(L.T, self._A.shape))
        m, T = self.cross_products.n_columns, self.cross_products.total.copy()
        for half, R in zip(X, self._R, strict=True):
            Y = (half @ R).reshape(-1, m)
            T -= Y.T @ Y
        self.T = (T + T.T) / 2.0
        self.logdet = 2.0 * float(self.counts @ np.log(np.einsum("paa->pa", root)).sum(1))
        self._N = X.transpose(0, 2, 1) @ X
        self.n_evaluations += 1
        if not np.isfinite(self.logdet):
            raise LikelihoodError(
                "The relative covariance factors must be finite.",
                "a covariance of one unit that is not positive definite",
                "rescale the predictors with random slopes",
            )

    def _ready(self, block: int = 0) -> Array:
        """``N`` of each pattern; there is one block, number 0."""
        if self._N is None or block != 0:
            raise LikelihoodError(
                "The engine must be factorised before the products of its block are read.",
                "no factorisation" if self._N is None else f"block {block} of one",
                "call factorise(factors) first, and ask for block 0",
            )
        return self._N

    def _shared(self, block: int = 0) -> Array:
        """``Z'V^-1 Z`` of each pattern (P, q, q)."""
        N = self._ready(block)
        if self._G is None:
            self._G = self._A - self._A @ N @ self._A
        return self._G

    def cross(self, block: int) -> Array:
        """``Z'V^-1 W`` by level: (J, q, m)."""
        left = np.eye(self.q) - self._A @ self._ready(block)
        return self._times(left, self._R, self.cross_products.n_columns)

    def information_blocks(self, block: int) -> Array:
        """``(Z'V^-1 Z)_gg`` by level: (J, q, q)."""
        return self._shared(block)[self.pattern]

    def information_sum(self, block: int) -> Array:
        """``sum_g (Z'V^-1 Z)_gg``: (q, q)."""
        return np.tensordot(self.counts, self._shared(block), axes=1)

    def information_product(self, coefficients: Sequence[Array]) -> list[Array]:
        """``Z'V^-1 Z C`` for one block (J, q, k)."""
        C = coefficients[0]
        flat = [self._flat(C[rows]) for rows in self._members]
        return [self._times(self._shared(), flat, C.shape[2])]

    def traces(self, D: Array, g: Array, Y: Array | None) -> tuple[Array, Array, Array]:
        """As ``wide_traces``, by pattern: ``sum_j`` of ``tr(G D_a G D_b)``, ``g'D_a G D_b g``,
        ``tr(Y'D_a G D_b Y)`` (r, r) for D (r, q, q), g (J, q), Y (J, q, p) or None."""
        r, G = len(D), self._shared()
        GD = D[:, None] @ G  # (r, P, q, q): D_a G
        own, squares = (GD * self.counts[:, None, None]).reshape(r, -1), []
        for values in (g[:, :, None], Y):
            if values is None:
                squares.append(np.zeros((r, r)))
                continue
            S = np.empty_like(G)
            for k, rows in enumerate(self._members):
                flat = self._flat(values[rows])
                S[k] = flat @ flat.T
            right = (D[:, None] @ S).transpose(0, 1, 3, 2)
            squares.append(GD.reshape(r, -1) @ right.reshape(r, -1).T)
        GG = own @ GD.transpose(0, 1, 3, 2).reshape(r, -1).T
        return GG, squares[0], squares[1]
