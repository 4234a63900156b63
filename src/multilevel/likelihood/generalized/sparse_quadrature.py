"""Adaptive quadrature of many random effects per cluster on a sparse grid, with exact gradient.

The formulas are those of ``quadrature``; posterior weights of nodes may be negative, as their sum
must not be. Where it is not, or nearly cancels, ``NegativeIntegralError`` is raised: the caller has
to use another approximation, and to say so.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from multilevel.errors import NegativeIntegralError
from multilevel.likelihood.generalized.cluster_plain import spread, sums
from multilevel.likelihood.generalized.clusters import Chunk
from multilevel.likelihood.generalized.problem import GeneralizedProblem
from multilevel.likelihood.generalized.quadrature import NestedQuadrature
from multilevel.likelihood.generalized.sparse_grid import SparseGrid, sparse_grid

Array = NDArray[np.float64]

MOST_CANCELLED = 1000.0  # sum of absolute terms over the integral, from which it is not trusted


class SparseQuadrature(NestedQuadrature):
    """Sparse-grid quadrature of one grouping factor (``GeneralizedObjective``).

    Parameters
    ----------
    problem, points, compiled, threads : as in ``NestedQuadrature``; ``points`` is odd.

    Raises
    ------
    LikelihoodError : an even number of points, or too many nodes.
    """

    grid: SparseGrid

    def __init__(
        self,
        problem: GeneralizedProblem,
        points: int,
        *,
        compiled: bool | None = None,
        threads: int | None = None,
    ) -> None:
        super().__init__(problem, points, compiled=compiled, threads=threads)
        self.plan += f", sparse grid of {self.grid.n:,} nodes"

    def _grid(self, points: int, q: int) -> SparseGrid:
        return sparse_grid(points, q)

    def _evaluate(self, chunk: Chunk) -> None:
        """Modes, integrals and gradient pieces of one chunk."""
        s, rows, grid = self.state, self.rows, self.grid
        found = self._find_modes(chunk)
        design = (rows.Z, rows.ptr, rows.column_part, rows.random, chunk.start, chunk.stop)
        eta = np.empty((self.problem.n_parts, grid.n, chunk.n_rows))
        self.integrals.predict_nodes(s.fixed, *design, s.Lam, s.u, s.Linv, grid.nodes, eta)
        value, first = rows.sorted.likelihood.first(eta, chunk.rows)
        self._sum(chunk, value, first)
        self._adjoint(chunk, found)

    def _sum(self, chunk: Chunk, value: Array, first: Array) -> None:
        """Integrate the clusters of a chunk and collect the adjoints at fixed nodes."""
        s, rows, grid = self.state, self.rows, self.grid
        a, b, here = chunk.start, chunk.stop, slice(chunk.start, chunk.stop)
        U = s.u[here, None, :] + grid.nodes @ s.Linv[here]
        logs = sums(value, rows.ptr, a, b).T + grid.log_weights
        logs -= 0.5 * np.einsum("jnq,jnq->jn", U, U)
        pi, s.log_value[here] = self._weights(a, logs)
        s.log_value[here] -= np.log(np.einsum("jaa->ja", s.L[here])).sum(axis=1)
        weights = spread(pi.T, rows.ptr, a, b)
        first = np.where(weights != 0.0, first, 0.0)
        s.rho[:, chunk.rows] = np.einsum("nm,dnm->dm", weights, first)
        pieces = [
            sums(rows.Z[c, chunk.rows] * first[rows.random[r]], rows.ptr, a, b).T
            for c, r in enumerate(rows.column_part)
        ]
        zl = np.stack(pieces, axis=2)
        weighted = pi[:, :, None] * U
        pull = pi[:, :, None] * (zl @ s.Lam - U)
        s.LamBar[here] = zl.transpose(0, 2, 1) @ weighted
        s.ubar[here] = pull.sum(axis=1)
        s.W[here] = grid.nodes.T @ pull
        self._mean[here] = weighted.sum(axis=1)
        centred = U - s.u[here, None, :]
        self._moment[here] = (pi[:, :, None] * centred).transpose(0, 2, 1) @ centred

    def _weights(self, begin: int, logs: Array) -> tuple[Array, Array]:
        """Posterior weights (J', N) of the nodes, some negative, and log integrals (J',)."""
        top = logs.max(axis=1, keepdims=True)
        top = np.where(np.isfinite(top), top, 0.0)
        size = np.exp(logs - top)
        terms = self.grid.signs * size
        total, whole = terms.sum(axis=1), size.sum(axis=1)
        bad = ~(total * MOST_CANCELLED > whole)
        if bad.any():
            j = int(np.flatnonzero(bad)[0])
            raise NegativeIntegralError(
                "The terms of a sparse grid, some of them negative, must not cancel.",
                f"a sum of {total[j] / whole[j]:.2g} of its absolute terms, cluster "
                f"{int(self.rows.levels[begin + j])} (counted from 0)",
                "use another number of points, or the Laplace approximation, n_quad=1",
            )
        return terms / total[:, None], np.log(total) + top[:, 0]
